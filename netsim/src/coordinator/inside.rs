//! What a coordinator does by itself: read from customers, cut, merge, edit, announce itself.

use std::time::Duration;

use tally_ledger::store::{Row as StoredRow, Store};
use tally_protocol::codec;
use tally_protocol::coordinator::{Division, Input, Row};
use tally_protocol::id::TaskId;
use tally_protocol::message::work::INLINE_UNIT_BYTES_MAX;
use tally_protocol::task::split::UnitTable;
use tally_protocol::task::{BlobRef, Split, Task};

use super::{CoordinatorNode, Within};
use crate::execution;
use crate::happening::Happening;
use crate::overlay::figures::PROVIDER_INTERVAL;
use crate::peer::Peer;
use crate::stage::Stage;

/// Pause before a customer that is not there is asked again for program and input.
const FETCH_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that are cut or merged in a second.
const BYTES_PER_SECOND: u64 = 200_000_000;
/// The tables' kinds of rows, behind the task.
const UNIT_ROW: u8 = 0;
/// See [`UNIT_ROW`].
const OUTPUT_ROW: u8 = 1;

impl CoordinatorNode {
    pub(super) fn provide(&self, stage: &mut Stage) {
        stage
            .kademlia
            .provide(stage.now, self.setup.bucket, self.peer);
        self.plan(stage, stage.now + PROVIDER_INTERVAL, Within::Provide);
    }

    fn task(&self, id: &TaskId) -> Option<&Task> {
        Some(self.machine()?.task(id)?.value())
    }

    /// Reads program and input from the customer, if it is there.
    pub(super) fn fetch(&self, stage: &mut Stage, id: TaskId) {
        let Some(task) = self.task(&id) else {
            return;
        };
        let editor = task.edit.as_ref().map_or(0, |edit| edit.program.bytes);
        let bytes = task.program.bytes + task.input.bytes + editor;
        let customer = stage.directory.peer(&task.customer);
        let customer = customer.filter(|customer| stage.can_talk(self.peer, *customer));
        let arrival = customer.and_then(|customer| {
            let at = stage
                .links
                .stream(stage.now, (customer, self.peer), bytes)?;
            Some((at, customer, stage.directory.start(customer)))
        });
        match arrival {
            Some((at, customer, start)) => {
                self.plan(stage, at, Within::Fetched(id, customer, start))
            }
            None => self.plan(stage, stage.now + FETCH_PAUSE, Within::Fetch(id)),
        }
    }

    pub(super) fn fetched(&mut self, stage: &mut Stage, task: TaskId, (from, start): (Peer, u32)) {
        if stage.can_talk(self.peer, from) && stage.directory.start(from) == start {
            let result = Ok(());
            self.push(stage, Input::Arrived { task, result });
        } else {
            self.plan(stage, stage.now + FETCH_PAUSE, Within::Fetch(task));
        }
    }

    pub(super) fn divide(&self, stage: &mut Stage, id: TaskId) {
        let Some(task) = self.task(&id) else {
            return;
        };
        let result = division(task).ok_or_else(|| "the input cannot be cut".to_owned());
        let took = time_of(task.input.bytes);
        let input = Input::Divided { task: id, result };
        self.plan(stage, stage.now + took, Within::Worked(Box::new(input)));
    }

    /// Puts the outputs together that the store holds.
    pub(super) fn merge(&self, stage: &mut Stage, id: TaskId) {
        let Some(up) = &self.up else {
            return;
        };
        let rows = outputs(&up.store, &id);
        let bytes: u64 = rows.iter().map(|(_, output)| output.bytes).sum();
        for (unit, output) in &rows {
            let is_small = output.bytes <= INLINE_UNIT_BYTES_MAX;
            if is_small && !has_content(&up.store, &id, output) {
                let what = format!("the output of unit {unit} is lost");
                stage.breach(self.peer, &what);
            }
        }
        let result = execution::merge(rows.into_iter());
        let by = self.peer;
        stage.note(&Happening::Merged {
            by,
            task: id,
            result,
        });
        self.worked(stage, id, result, bytes);
    }

    pub(super) fn edit(&self, stage: &mut Stage, task: TaskId, merged: BlobRef) {
        self.worked(stage, task, execution::edited(&merged), merged.bytes);
    }

    fn worked(&self, stage: &mut Stage, task: TaskId, result: BlobRef, bytes: u64) {
        let result = Ok(result);
        let input = Input::Merged { task, result };
        let at = stage.now + time_of(bytes);
        self.plan(stage, at, Within::Worked(Box::new(input)));
    }
}

/// Returns how a task's input is cut.
pub(crate) fn division(task: &Task) -> Option<Division> {
    let Split::Bytes(size) = task.split else {
        return None;
    };
    Some(Division {
        table: UnitTable::even(task.input.bytes, size).ok()?,
        packed: task.input,
    })
}

fn time_of(bytes: u64) -> Duration {
    Duration::from_millis(5) + Duration::from_micros(bytes * 1_000_000 / BYTES_PER_SECOND)
}

/// Returns a row as it is stored.
pub(super) fn row(task: &TaskId, row: &Row) -> StoredRow {
    let mut key = task.as_bytes().to_vec();
    match row {
        Row::Unit { unit, output } => {
            key.push(UNIT_ROW);
            key.extend(unit.to_be_bytes());
            let value = codec::to_bytes(output);
            StoredRow { key, value }
        }
        Row::Output { id, content } => {
            key.push(OUTPUT_ROW);
            key.extend(id.as_bytes());
            let value = content.clone();
            StoredRow { key, value }
        }
    }
}

/// Returns the stored outputs of a task, in the order of the units.
pub(crate) fn outputs(store: &Store, task: &TaskId) -> Vec<(u32, BlobRef)> {
    let prefix = [task.as_bytes().as_slice(), &[UNIT_ROW]].concat();
    let rows = store.rows(&prefix).expect("the disk can be read");
    let read = |row: StoredRow| {
        let unit = row.key.last_chunk().copied().map(u32::from_be_bytes)?;
        let output = codec::from_bytes(&row.value, 1 << 10).ok()?;
        Some((unit, output))
    };
    rows.filter_map(|row| read(row.expect("the disk can be read")))
        .collect()
}

fn has_content(store: &Store, task: &TaskId, output: &BlobRef) -> bool {
    let key = [
        task.as_bytes().as_slice(),
        &[OUTPUT_ROW],
        output.id.as_bytes(),
    ]
    .concat();
    let content = store.row(&key).expect("the disk can be read");
    content.is_some_and(|content| BlobRef::of(&content) == *output)
}
