//! Nothing is left.

use super::{Check, Oracle};
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// Looks for leaks, a while after the last task has ended.
#[derive(Debug)]
pub(super) struct Left;

impl Oracle for Left {
    fn name(&self) -> &'static str {
        "nothing left"
    }

    fn claim(&self) -> &'static str {
        "When all tasks have ended no honest node holds a lease, a grant, a job or an output of them, and nobody \
         waits for an answer."
    }

    fn at_end(&mut self, reference: &Reference, world: &World) -> Check {
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
            if at_work.iter().any(|left| *left > 0) || gauges.timers > gauges.tasks + 2 {
                return Check::Breaks(format!("{peer} still has {gauges:?}"));
            }
        }
        let is_honest = |peer: Peer| reference.is_honest(peer);
        let mut held = world.held_grants();
        if let Some((peer, grant)) = held.find(|(peer, _)| is_honest(*peer)) {
            return Check::Breaks(format!("{peer} still holds grant {grant}"));
        }
        // What is for a coordinator that gives no honest answers is kept until its connection is gone.
        let mut dishonest = reference.dishonest();
        let is_deceived = dishonest.any(|(_, kind)| kind.answers_terminals());
        for (peer, machine) in world.terminals().filter(|(peer, _)| is_honest(*peer)) {
            let gauges = machine.gauges();
            let unanswered = gauges.results + gauges.given_back;
            let at_work = [
                gauges.grants,
                gauges.stored,
                gauges.jobs,
                if is_deceived { 0 } else { unanswered },
            ];
            if at_work.iter().any(|left| *left > 0) {
                return Check::Breaks(format!("{peer} still has {gauges:?}"));
            }
        }
        let (questions, outputs) = world.left_over();
        Check::that(questions == 0 && outputs == 0, || {
            format!("{questions} questions have no answer, {outputs} outputs can still be read")
        })
    }
}
