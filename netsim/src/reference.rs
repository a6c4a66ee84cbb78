//! The reference: what should come of a world, known before it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tally_protocol::id::TaskId;
use tally_protocol::task::BlobRef;
use tally_protocol::unit::Outcome;

use crate::conduct::Kind;
use crate::execution::{self, Execution};
use crate::happening::{Gave, Unit};
use crate::peer::Peer;

/// What should come of a world.
#[derive(Debug, Default)]
pub struct Reference {
    /// What every unit gives.
    pub execution: Arc<Execution>,
    tasks: BTreeMap<TaskId, TaskReference>,
    conducts: Vec<Kind>,
    first_terminal: Peer,
}

/// What should come of a task.
#[derive(Debug, Clone)]
pub struct TaskReference {
    /// Its number in the scenario, from 0.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Its units.
    pub units: u32,
    /// Devices that must agree.
    pub agree: u8,
    /// Devices that must fail before it is given up.
    pub error_max: u8,
    /// Results after which it is given up.
    pub total_max: u8,
    /// Whether units that fail are left out of the result.
    pub skips: bool,
    /// How long a lease lasts.
    pub lease: Duration,
    /// Who asks for it.
    pub customer: Peer,
    /// Who is asked.
    pub coordinator: Peer,
    /// Units whose program aborts.
    pub failing: BTreeSet<u32>,
    /// The result, if no device lies.
    pub result: BlobRef,
    /// Whether its customer may cancel it.
    pub may_be_cancelled: bool,
}

impl Reference {
    pub(crate) fn new(
        execution: Arc<Execution>,
        tasks: BTreeMap<TaskId, TaskReference>,
        (conducts, first_terminal): (Vec<Kind>, Peer),
    ) -> Self {
        Self {
            execution,
            tasks,
            conducts,
            first_terminal,
        }
    }

    /// Returns the tasks.
    #[must_use]
    pub const fn tasks(&self) -> &BTreeMap<TaskId, TaskReference> {
        &self.tasks
    }

    /// Returns how a node behaves.
    #[must_use]
    pub fn conduct(&self, peer: Peer) -> Kind {
        self.conducts.get(peer.index()).copied().unwrap_or_default()
    }

    /// Returns whether a node behaves as it should.
    #[must_use]
    pub fn is_honest(&self, peer: Peer) -> bool {
        self.conduct(peer) == Kind::Honest
    }

    /// Returns all nodes that do not.
    pub fn dishonest(&self) -> impl Iterator<Item = (Peer, Kind)> {
        let all = (0..).map(Peer).zip(self.conducts.iter().copied());
        all.filter(|(_, kind)| *kind != Kind::Honest)
    }

    /// Returns whether enough honest terminals exist for a task.
    #[must_use]
    pub fn has_capacity(&self, task: &TaskReference) -> bool {
        let terminals = self.conducts.iter().skip(self.first_terminal.index());
        let honest = terminals.filter(|kind| **kind == Kind::Honest).count();
        honest >= usize::from(task.agree)
    }

    /// Returns the right result of a unit.
    #[must_use]
    pub fn right(&self, unit: Unit) -> Option<Gave> {
        let ran = self.execution.right(&unit.task, unit.unit)?;
        Some(Gave::from(&ran))
    }
}

/// Returns which units of a task abort, and what the others make together.
pub(crate) fn outcome(
    execution: &Execution,
    task: &TaskId,
    units: u32,
) -> (BTreeSet<u32>, BlobRef) {
    let all = (0..units).filter_map(|unit| Some((unit, execution.right(task, unit)?)));
    let (done, failed): (Vec<_>, Vec<_>) = all.partition(|(_, ran)| ran.outcome == Outcome::Done);
    let rows = done.into_iter().map(|(unit, ran)| (unit, ran.output));
    let failing = failed.into_iter().map(|(unit, _)| unit).collect();
    (failing, execution::merge(rows))
}
