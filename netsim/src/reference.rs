//! The reference: what should come of a world, known before it begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::task::BlobRef;
use tally_protocol::unit::Outcome;

use crate::conduct::Kind;
use crate::execution::{self, Execution};
use crate::happening::{Gave, Unit};
use crate::peer::Peer;
use crate::scenario::Admits;

/// What should come of a world.
#[derive(Debug, Default)]
pub struct Reference {
    /// What every unit gives.
    pub execution: Arc<Execution>,
    tasks: BTreeMap<TaskId, TaskReference>,
    conducts: Vec<Kind>,
    first_terminal: Peer,
    /// Whose each terminal is.
    owners: Vec<NodeId>,
    /// The ids of all nodes.
    ids: Vec<NodeId>,
    /// Whose results each coordinator takes.
    admits: Vec<Admits>,
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
        conducts: Vec<Kind>,
        (first_terminal, owners): (Peer, Vec<NodeId>),
    ) -> Self {
        Self {
            execution,
            tasks,
            conducts,
            first_terminal,
            owners,
            ids: Vec::new(),
            admits: Vec::new(),
        }
    }

    /// Says who is who, and whose results each coordinator takes.
    #[must_use]
    pub(crate) fn with(self, ids: Vec<NodeId>, admits: Vec<Admits>) -> Self {
        Self {
            ids,
            admits,
            ..self
        }
    }

    /// Returns the id of a node.
    #[must_use]
    pub fn id(&self, node: Peer) -> Option<NodeId> {
        self.ids.get(node.index()).copied()
    }

    /// Returns whose results a coordinator takes.
    #[must_use]
    pub fn admits(&self, coordinator: Peer) -> Admits {
        let admits = self.admits.get(coordinator.index());
        admits.copied().unwrap_or_default()
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

    /// Returns whether terminals of enough owners are honest for a task.
    #[must_use]
    pub fn has_capacity(&self, task: &TaskReference) -> bool {
        let terminals = (self.first_terminal.0..).map(Peer).zip(&self.owners);
        let honest = terminals.filter(|(peer, _)| self.is_honest(*peer));
        let owners: BTreeSet<&NodeId> = honest.map(|(_, owner)| owner).collect();
        owners.len() >= usize::from(task.agree)
    }

    /// Returns whose a terminal is; none of any other node.
    #[must_use]
    pub fn owner(&self, terminal: Peer) -> Option<NodeId> {
        let number = terminal.0.checked_sub(self.first_terminal.0)?;
        self.owners.get(number as usize).copied()
    }

    /// Returns whether two terminals are of one owner.
    #[must_use]
    pub fn are_of_one_owner(&self, one: Peer, other: Peer) -> bool {
        one == other || self.owner(one).is_some() && self.owner(one) == self.owner(other)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_terminals_counts_once_and_liars_do_not() {
        let owner = |number| NodeId::from_bytes([number; 32]);
        let (honest, liar) = (Kind::Honest, Kind::Lazy);
        let reference = |conducts: &[Kind], owners: &[u8]| {
            // A coordinator is node 0.
            let conducts = [&[honest], conducts].concat();
            let owners = owners.iter().map(|number| owner(*number)).collect();
            let execution = Arc::new(Execution::default());
            Reference::new(execution, BTreeMap::new(), conducts, (Peer(1), owners))
        };
        let task = TaskReference {
            number: 0,
            name: String::new(),
            units: 1,
            agree: 2,
            error_max: 1,
            total_max: 4,
            skips: false,
            lease: Duration::ZERO,
            customer: Peer(0),
            coordinator: Peer(0),
            failing: BTreeSet::new(),
            result: BlobRef::of(b""),
            may_be_cancelled: false,
        };
        assert!(!reference(&[honest; 3], &[7, 7, 7]).has_capacity(&task));
        assert!(!reference(&[honest, liar], &[7, 8]).has_capacity(&task));
        let two = reference(&[honest; 3], &[7, 8, 7]);
        assert!(two.has_capacity(&task));
        assert_eq!(
            (two.owner(Peer(0)), two.owner(Peer(2))),
            (None, Some(owner(8)))
        );
        assert!(two.are_of_one_owner(Peer(1), Peer(3)) && !two.are_of_one_owner(Peer(1), Peer(2)));
    }
}
