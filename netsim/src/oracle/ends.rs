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
        "Every task of an honest coordinator with enough honest terminals comes to its end once faults have stopped, and its \
         customer has what it asked for."
    }

    fn at_end(&mut self, reference: &Reference, world: &World) -> Check {
        let mut tasks = reference.tasks().iter();
        let left = tasks.find(|(_, task)| {
            let are_honest =
                reference.is_honest(task.customer) && reference.is_honest(task.coordinator);
            let may_end = are_honest && reference.has_capacity(task);
            may_end && !world.is_satisfied(task.customer)
        });
        let Some((id, task)) = left else {
            return Check::Holds;
        };
        Check::Breaks(format!(
            "{} ({}, {} units) has not ended for its customer",
            task.name,
            id.short(),
            task.units
        ))
    }
}
