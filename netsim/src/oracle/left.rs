//! Nothing is left.

use super::{Check, Oracle};
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
        "When all tasks have ended nobody holds a lease, a grant, a job or an output of them, and nobody waits for \
         an answer."
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
        if let Some((peer, grant)) = world.held_grants().next() {
            return Check::Breaks(format!("{peer} still holds grant {grant}"));
        }
        for (peer, machine) in world.terminals() {
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
        Check::that(questions == 0 && outputs == 0, || {
            format!("{questions} questions have no answer, {outputs} outputs can still be read")
        })
    }
}
