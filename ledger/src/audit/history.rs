//! What a log has said so far, as far as it must not be said again.

use std::collections::{BTreeMap, HashMap};

use tally_protocol::entry::{Event, ValidatedUnit};
use tally_protocol::id::{NetworkId, TaskId};
use tally_protocol::signed::Signed;
use tally_protocol::task::{Task, UNITS_MAX};

use super::Problem;

/// The tasks of a log.
#[derive(Debug, Default)]
pub(super) struct History {
    tasks: HashMap<TaskId, TaskHistory>,
    units: u64,
}

/// What was said about a task.
#[derive(Debug, Default)]
struct TaskHistory {
    ended: bool,
    validated: UnitSet,
}

impl History {
    /// Adds an event if it may come now.
    pub(super) fn add(&mut self, event: Event, network: &NetworkId) -> Result<(), Problem> {
        match event {
            Event::TaskAccepted { task, signed } => {
                check_statement(task, signed, network)?;
                match self.tasks.insert(task, TaskHistory::default()) {
                    None => Ok(()),
                    Some(_) => Err(Problem::AcceptedTwice { task }),
                }
            }
            Event::BatchValidated { task, units, .. } => self.add_units(task, &units),
            Event::TaskEnded { task, .. } => {
                let known = self.task(task)?;
                if std::mem::replace(&mut known.ended, true) {
                    return Err(Problem::EndedTwice { task });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of tasks that were accepted.
    pub(super) fn tasks(&self) -> u64 {
        self.tasks.len() as u64
    }

    /// Returns the number of units that were validated.
    pub(super) const fn units(&self) -> u64 {
        self.units
    }

    fn add_units(&mut self, task: TaskId, units: &[ValidatedUnit]) -> Result<(), Problem> {
        let known = self.task(task)?;
        for ValidatedUnit { unit, .. } in units {
            let unit = *unit;
            if unit >= UNITS_MAX {
                return Err(Problem::NoSuchUnit { task, unit });
            }
            if !known.validated.insert(unit) {
                return Err(Problem::ValidatedTwice { task, unit });
            }
        }
        self.units = self.units.saturating_add(units.len() as u64);
        Ok(())
    }

    fn task(&mut self, task: TaskId) -> Result<&mut TaskHistory, Problem> {
        self.tasks
            .get_mut(&task)
            .ok_or(Problem::NotAccepted { task })
    }
}

/// Checks that the customer of `task` signed it.
fn check_statement(task: TaskId, signed: Signed<Task>, network: &NetworkId) -> Result<(), Problem> {
    let verified = signed.verify(network).map_err(|error| Problem::Statement {
        reason: error.to_string(),
    })?;
    let found = verified.task_id();
    if found != task {
        return Err(Problem::OtherTask { signed: found });
    }
    let (customer, signer) = (verified.customer, verified.signer());
    if customer == signer {
        Ok(())
    } else {
        Err(Problem::OtherSigner { customer, signer })
    }
}

/// Units of one task: a bit each, in blocks of 1,024.
#[derive(Debug, Default)]
struct UnitSet(BTreeMap<u32, [u64; 16]>);

impl UnitSet {
    /// Adds `unit`, returns whether it was not there before.
    fn insert(&mut self, unit: u32) -> bool {
        let block = self.0.entry(unit >> 10).or_default();
        let word = &mut block[(unit >> 6) as usize & 15];
        let bit = 1 << (unit & 63);
        let added = *word & bit == 0;
        *word |= bit;
        added
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_unit_set_is_a_set(units in prop::collection::vec(0..5_000_u32, 0..500)) {
            let (mut set, mut model) = (UnitSet::default(), BTreeSet::new());
            for unit in units {
                prop_assert_eq!(set.insert(unit), model.insert(unit));
            }
        }
    }
}
