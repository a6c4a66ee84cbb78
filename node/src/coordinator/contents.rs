//! Rows of the coordinator's database: agreed outputs, and which contents belong to which task.
//!
//! | key | value |
//! |---|---|
//! | `u`, task, unit (4 bytes, big-endian) | CBOR of the output's reference |
//! | `o`, task, blob | the content of a small output |
//! | `b`, task, blob | empty: the task needs the blob |
//! | `r`, blob, task | the same, to be found by the blob |

use tally_ledger::store::{ReadError, Row, Store};
use tally_protocol::codec;
use tally_protocol::coordinator::{Fact, Row as MachineRow};
use tally_protocol::entry::Ending;
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::task::{BlobRef, Task};

const UNIT: u8 = b'u';
const OUTPUT: u8 = b'o';
const TASK_BLOB: u8 = b'b';
const BLOB_TASK: u8 = b'r';

/// The most bytes of a reference in CBOR.
const REFERENCE_BYTES_MAX: usize = 100;

/// Returns a row that the machine wants to be kept.
pub(super) fn row(task: &TaskId, row: &MachineRow) -> Row {
    match row {
        MachineRow::Unit { unit, output } => {
            let key = [&[UNIT], &task.as_bytes()[..], &unit.to_be_bytes()].concat();
            Row {
                key,
                value: codec::to_bytes(output),
            }
        }
        MachineRow::Output { id, content } => Row {
            key: output_key(task, id),
            value: content.clone(),
        },
    }
}

fn output_key(task: &TaskId, id: &BlobId) -> Vec<u8> {
    [&[OUTPUT], &task.as_bytes()[..], id.as_bytes()].concat()
}

/// Returns the rows by which a task keeps a blob.
pub(super) fn pins(task: &TaskId, blob: &BlobId) -> [Row; 2] {
    let by_task = [&[TASK_BLOB], &task.as_bytes()[..], blob.as_bytes()].concat();
    let by_blob = [&[BLOB_TASK], &blob.as_bytes()[..], task.as_bytes()].concat();
    [by_task, by_blob].map(|key| Row {
        key,
        value: Vec::new(),
    })
}

/// Returns the rows that keep program, input and editor of a task.
pub(super) fn pins_of_task(id: &TaskId, task: &Task) -> Vec<Row> {
    let editor = task.edit.as_ref().map(|edit| edit.program.id);
    let all = [task.program.id, task.input.id].into_iter().chain(editor);
    all.flat_map(|blob| pins(id, &blob)).collect()
}

/// Returns the rows that keep the contents which a fact brings.
pub(super) fn pins_of(fact: &Fact) -> Vec<Row> {
    match fact {
        Fact::Divided { task, division } => pins(task, &division.packed.id).to_vec(),
        Fact::Merged { task, merged } => pins(task, &merged.id).to_vec(),
        Fact::Ended {
            task,
            ending: Ending::Done(result),
            ..
        } => pins(task, &result.id).to_vec(),
        Fact::Accepted { .. }
        | Fact::Arrived(_)
        | Fact::Reported { .. }
        | Fact::Faulted { .. }
        | Fact::Ended { .. }
        | Fact::Forgotten(_) => Vec::new(),
    }
}

/// Returns the agreed outputs of a task in the order of its units.
pub(super) fn outputs(
    store: &Store,
    task: &TaskId,
) -> Result<impl Iterator<Item = Result<(u32, BlobRef), ReadError>> + use<>, ReadError> {
    let rows = store.rows(&[&[UNIT], &task.as_bytes()[..]].concat())?;
    Ok(rows.map(|row| {
        let row = row?;
        let unit = row
            .key
            .last_chunk()
            .map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
        Ok((unit, codec::from_bytes(&row.value, REFERENCE_BYTES_MAX)?))
    }))
}

/// Returns the content of a small output.
pub(super) fn small_output(
    store: &Store,
    task: &TaskId,
    id: &BlobId,
) -> Result<Option<Vec<u8>>, ReadError> {
    store.row(&output_key(task, id))
}

/// What goes with a task.
#[derive(Debug)]
pub(super) struct Forgotten {
    /// Prefixes of the keys of its rows.
    pub(super) rows: Vec<Vec<u8>>,
    /// Contents that no other task needs.
    pub(super) blobs: Vec<BlobId>,
}

/// Finds what goes with a task.
pub(super) fn forget(store: &Store, task: &TaskId) -> Result<Forgotten, ReadError> {
    let of_task = |kind: u8| [&[kind], &task.as_bytes()[..]].concat();
    let mut rows = vec![of_task(UNIT), of_task(OUTPUT), of_task(TASK_BLOB)];
    let mut blobs = Vec::new();
    for row in store.rows(&of_task(TASK_BLOB))? {
        let Some(blob) = row?.key.last_chunk().copied().map(BlobId::from_bytes) else {
            continue;
        };
        let by_blob = [&[BLOB_TASK], &blob.as_bytes()[..]].concat();
        rows.push([&by_blob[..], task.as_bytes()].concat());
        if store.rows(&by_blob)?.count() <= 1 {
            blobs.push(blob);
        }
    }
    Ok(Forgotten { rows, blobs })
}
