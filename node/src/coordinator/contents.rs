//! Rows of the coordinator's database: agreed outputs, and which contents belong to which task.
//!
//! | key | value |
//! |---|---|
//! | `u`, task, unit (4 bytes, big-endian) | CBOR of the output's reference, with its content if that came with the vote that agreed |
//! | `o`, task, blob | the content of a small output whose unit was not agreed on at the same time |
//! | `b`, task, blob | empty: the task needs the blob |
//! | `r`, blob, task | the same, to be found by the blob |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tally_ledger::store::{ReadError, Row, Store};
use tally_protocol::codec;
use tally_protocol::coordinator::Fact;
use tally_protocol::entry::Ending;
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::message::work::INLINE_UNIT_BYTES_MAX;
use tally_protocol::task::{BlobRef, Task};

const UNIT: u8 = b'u';
const OUTPUT: u8 = b'o';
const TASK_BLOB: u8 = b'b';
const BLOB_TASK: u8 = b'r';

/// The most bytes of a unit's row in CBOR: a reference and a small output.
const UNIT_ROW_BYTES_MAX: usize = 8 << 10;
const _: () = assert!(INLINE_UNIT_BYTES_MAX + 200 < UNIT_ROW_BYTES_MAX as u64);

/// The agreed output of a unit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnitOutput {
    /// Its reference.
    pub(super) output: BlobRef,
    /// Its content, if it is here and not in a row of its own.
    #[serde(with = "serde_bytes")]
    pub(super) content: Option<Vec<u8>>,
}

/// The outputs of one group of records.
///
/// A small output whose unit is agreed on in the same group goes into the unit's row. Rows of units are written and
/// read in their order, those of outputs are spread by their hashes over the whole table: with a kibibyte each,
/// writing them is most of what a coordinator does.
#[derive(Debug, Default)]
pub(super) struct Outputs<'a> {
    small: BTreeMap<(TaskId, BlobId), Small<'a>>,
    units: Vec<Row>,
}

#[derive(Debug)]
struct Small<'a> {
    content: &'a [u8],
    /// Votes for it whose unit is not agreed on.
    open: u32,
}

impl<'a> Outputs<'a> {
    /// Adds the content that came with a vote.
    pub(super) fn vote(&mut self, task: &TaskId, id: &BlobId, content: &'a [u8]) {
        let small = self.small.entry((*task, *id));
        small.or_insert(Small { content, open: 0 }).open += 1;
    }

    /// Adds a unit on whose output was agreed.
    pub(super) fn agree(&mut self, task: &TaskId, unit: u32, output: &BlobRef) {
        let small = self.small.get_mut(&(*task, output.id));
        let content = small.map(|small| {
            small.open = small.open.saturating_sub(1);
            small.content.to_vec()
        });
        let key = [&[UNIT], &task.as_bytes()[..], &unit.to_be_bytes()].concat();
        let value = codec::to_bytes(&UnitOutput {
            output: *output,
            content,
        });
        self.units.push(Row { key, value });
    }

    /// Returns the rows to write.
    pub(super) fn into_rows(self) -> impl Iterator<Item = Row> {
        let open = self.small.into_iter().filter(|(_, small)| small.open > 0);
        let rows = open.map(|((task, id), small)| Row {
            key: output_key(&task, &id),
            value: small.content.to_vec(),
        });
        rows.chain(self.units)
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
        | Fact::Answered { .. }
        | Fact::Faulted { .. }
        | Fact::Ended { .. }
        | Fact::Receipted { .. }
        | Fact::Settled(_)
        | Fact::Forgotten(_)
        | Fact::Published(_)
        | Fact::Certified(_)
        | Fact::Ordered(_)
        | Fact::Proposed(_)
        | Fact::Declined(_)
        | Fact::Agreed(_)
        | Fact::Registered(_)
        | Fact::Revoked(_)
        | Fact::Reserved(_)
        | Fact::ReservationEnded(_)
        | Fact::Redeemed(_)
        | Fact::Reversed(_)
        | Fact::SettlementMade(_) => Vec::new(),
    }
}

/// Returns the agreed outputs of a task in the order of its units.
pub(super) fn outputs(
    store: &Store,
    task: &TaskId,
) -> Result<impl Iterator<Item = Result<(u32, UnitOutput), ReadError>> + use<>, ReadError> {
    let rows = store.rows(&[&[UNIT], &task.as_bytes()[..]].concat())?;
    Ok(rows.map(|row| {
        let row = row?;
        let unit = row
            .key
            .last_chunk()
            .map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
        Ok((unit, codec::from_bytes(&row.value, UNIT_ROW_BYTES_MAX)?))
    }))
}

/// Returns the content of a small output that has a row of its own.
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

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::from_bytes([7; 32]);

    #[test]
    fn an_output_that_is_agreed_on_at_once_is_only_in_the_row_of_its_unit() {
        let output = BlobRef::of(b"prime");
        let mut outputs = Outputs::default();
        outputs.vote(&TASK, &output.id, b"prime");
        outputs.agree(&TASK, 3, &output);
        let rows: Vec<Row> = outputs.into_rows().collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].key[..1], [UNIT]);
        let unit: UnitOutput = codec::from_bytes(&rows[0].value, UNIT_ROW_BYTES_MAX).unwrap();
        assert_eq!(unit.content.as_deref(), Some(&b"prime"[..]));
    }

    #[test]
    fn an_output_keeps_its_own_row_while_a_vote_for_it_waits_for_others() {
        let output = BlobRef::of(b"prime");
        let mut outputs = Outputs::default();
        // One unit is agreed on, another with the same output is not.
        outputs.vote(&TASK, &output.id, b"prime");
        outputs.vote(&TASK, &output.id, b"prime");
        outputs.agree(&TASK, 3, &output);
        let rows: Vec<Row> = outputs.into_rows().collect();
        let own = rows.iter().find(|row| row.key[0] == OUTPUT).unwrap();
        assert_eq!(own.key, output_key(&TASK, &output.id));
        assert_eq!(own.value, b"prime");
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn the_largest_small_output_fits_the_row_of_its_unit() {
        let content = vec![255; usize::try_from(INLINE_UNIT_BYTES_MAX).unwrap()];
        let mut outputs = Outputs::default();
        let output = BlobRef::of(&content);
        outputs.vote(&TASK, &output.id, &content);
        outputs.agree(&TASK, u32::MAX, &output);
        let row = outputs.into_rows().next().unwrap();
        let unit: UnitOutput = codec::from_bytes(&row.value, UNIT_ROW_BYTES_MAX).unwrap();
        assert_eq!(unit.content, Some(content));
    }
}
