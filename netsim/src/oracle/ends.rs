//! Tasks end.

use super::{Check, Oracle};
use crate::reference::Reference;
use crate::world::World;

/// After faults have stopped every task of an honest coordinator comes to its end, and its customer hears of it.
#[derive(Debug)]
pub(super) struct Ends;

impl Oracle for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }

    fn claim(&self) -> &'static str {
        "Every task of an honest coordinator comes to its end once faults have stopped, and its customer has what it asked for."
    }

    fn at_end(&mut self, reference: &Reference, world: &World) -> Check {
        for (id, task) in reference.tasks() {
            if reference.is_honest(task.coordinator) && !world.is_satisfied(task.customer) {
                return Check::Breaks(format!(
                    "task {} ({}, {} units) has not ended for its customer",
                    task.name,
                    id.short(),
                    task.units
                ));
            }
        }
        Check::Holds
    }
}
