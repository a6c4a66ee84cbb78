//! What stands in the ledger of a coordinator that does not run.

use std::collections::BTreeMap;
use std::path::Path;

use tally_ledger::store::Reader;
use tally_protocol::entry::{Event, ValidatedUnit};
use tally_protocol::id::TaskId;

/// Returns how often each unit of a task was validated, with its last validation.
///
/// # Panics
/// If the database cannot be read.
#[must_use]
pub fn validations(folder: &Path, of: TaskId) -> BTreeMap<u32, (u32, ValidatedUnit)> {
    let mut found: BTreeMap<u32, (u32, ValidatedUnit)> = BTreeMap::new();
    for event in events(folder) {
        if let Event::BatchValidated { task, units, .. } = event
            && task == of
        {
            for unit in units {
                let (count, last) = found.entry(unit.unit).or_insert((0, unit.clone()));
                (*count, *last) = (*count + 1, unit);
            }
        }
    }
    found
}

/// Returns all that stands in the ledger.
///
/// # Panics
/// If the database cannot be read.
#[must_use]
pub fn events(folder: &Path) -> Vec<Event> {
    let reader = Reader::open(&folder.join("coordinator.redb")).unwrap();
    let entries = reader.entries(0..u64::MAX).unwrap();
    entries
        .map(|entry| entry.unwrap().decode().unwrap().event)
        .collect()
}
