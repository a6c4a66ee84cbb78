//! Nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use tally_protocol::id::GrantId;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// Looks for leaks, a while after the last task has ended.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// How often each node was started.
    starts: BTreeMap<Peer, u32>,
    /// Who gave each grant, in which of its starts.
    grants: BTreeMap<GrantId, (Peer, u32)>,
}

impl Oracle for Left {
    fn name(&self) -> &'static str {
        "nothing left"
    }

    fn claim(&self) -> &'static str {
        "When all tasks have ended nobody holds a lease, a grant, a job or an output of them, and nobody waits for \
         an answer; but a terminal may finish what a coordinator granted before it crashed."
    }

    fn see(&mut self, _: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Started { node, start } => drop(self.starts.insert(*node, *start)),
            Happening::Leased { by, grant, .. } => {
                let start = self.starts.get(by).copied().unwrap_or(0);
                self.grants.insert(*grant, (*by, start));
            }
            _ => {}
        }
        Check::Nothing
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        if !world.has_settled() {
            return Check::Nothing;
        }
        for (peer, machine, _) in world.coordinators() {
            let gauges = machine.gauges();
            let at_work = [
                gauges.running,
                gauges.live_grants,
                gauges.live_leases,
                gauges.open_units,
            ];
            if at_work.iter().any(|left| *left > 0) || gauges.timers > gauges.tasks {
                return Check::Breaks(format!("{peer} still has {gauges:?}"));
            }
        }
        let mut busy = BTreeSet::new();
        for (peer, grant) in world.held_grants() {
            if !self.is_of_earlier_start(grant) {
                return Check::Breaks(format!("{peer} still holds grant {grant}"));
            }
            busy.insert(peer);
        }
        for (peer, machine) in world.terminals().filter(|(peer, _)| !busy.contains(peer)) {
            let gauges = machine.gauges();
            let at_work = [
                gauges.grants,
                gauges.stored,
                gauges.jobs,
                gauges.results,
                gauges.given_back,
            ];
            if at_work.iter().any(|left| *left > 0) {
                return Check::Breaks(format!("{peer} still has {gauges:?}"));
            }
        }
        let (questions, outputs) = world.left_over();
        Check::that(questions == 0 && (outputs == 0 || !busy.is_empty()), || {
            format!("{questions} questions have no answer, {outputs} outputs can still be read")
        })
    }
}

impl Left {
    /// Returns whether a grant is of before a crash: its coordinator does not know it any more, so that it cannot say
    /// that nothing of it is wanted.
    fn is_of_earlier_start(&self, grant: GrantId) -> bool {
        let given = self.grants.get(&grant);
        given.is_some_and(|(by, start)| self.starts.get(by).is_some_and(|now| start < now))
    }
}
