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
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::task::BlobRef;

use super::Parts;
use crate::error::chain;

const UNIT: u8 = b'u';
const OUTPUT: u8 = b'o';
const TASK_BLOB: u8 = b'b';
const BLOB_TASK: u8 = b'r';

/// The most bytes of a reference in CBOR.
const REFERENCE_BYTES_MAX: usize = 100;

pub(super) fn unit_row(task: &TaskId, unit: u32, output: &BlobRef) -> Row {
    let key = [&[UNIT], &task.as_bytes()[..], &unit.to_be_bytes()].concat();
    Row {
        key,
        value: codec::to_bytes(output),
    }
}

pub(super) fn output_row(task: &TaskId, id: &BlobId, content: &[u8]) -> Row {
    Row {
        key: output_key(task, id),
        value: content.to_vec(),
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

/// Removes the contents that only this task needs. Returns the prefixes of the rows to be removed.
pub(super) fn forget(
    store: &Store,
    task: &TaskId,
    parts: &Parts,
) -> Result<Vec<Vec<u8>>, ReadError> {
    let of_task = |kind: u8| [&[kind], &task.as_bytes()[..]].concat();
    let mut removals = vec![of_task(UNIT), of_task(OUTPUT), of_task(TASK_BLOB)];
    for row in store.rows(&of_task(TASK_BLOB))? {
        let Some(blob) = row?.key.last_chunk().copied().map(BlobId::from_bytes) else {
            continue;
        };
        let by_blob = [&[BLOB_TASK], &blob.as_bytes()[..]].concat();
        removals.push([&by_blob[..], task.as_bytes()].concat());
        if store.rows(&by_blob)?.count() <= 1 {
            parts.access.forget(blob);
            if let Err(error) = parts.blobs.remove(blob) {
                tracing::warn!(?blob, "cannot remove a content: {}", chain(&error));
            }
        }
    }
    Ok(removals)
}
