//! The whole log as lines of JSON.
//!
//! The first line is the head: the version of this format, whose log it is, and the checkpoint that its coordinator
//! signed. Each further line is an entry: its place, its bytes in base64, and what they say. The readable form is made
//! from the bytes alone, so a line can be made again from them and compared; a reader that only wants to know what
//! happened may still believe it, once the export was verified.

use std::io::Write;

use serde::{Deserialize, Serialize};

use data_encoding::BASE64;
use tally_protocol::checkpoint::SignedCheckpoint;
use tally_protocol::codec::DecodeError;
use tally_protocol::entry::ENTRY_BYTES_MAX;
use tally_protocol::id::{Hash, NetworkId, NodeId};
use tally_protocol::merkle::{Frontier, leaf_hash};

use super::{EntryWriter, ExportError, Told};
use crate::cli::{Checking, EntryDetail, LogHead};
use crate::store::StoredEntry;

/// The version of the format. A change of the readable form is a new one too.
pub const EXPORT_FORMAT: u32 = 2;
/// The longest line in bytes: the readable form has the names of fields, and ids in hex, many times the bytes.
pub const LINE_BYTES_MAX: usize = 16 * ENTRY_BYTES_MAX;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// [`EXPORT_FORMAT`].
    pub(super) tally_ledger_export: u32,
    pub(super) network: NetworkId,
    pub(super) coordinator: NodeId,
    /// How many lines follow.
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) checkpoint: SignedCheckpoint,
}

/// The line of an entry.
#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    bytes: &'a str,
    entry: &'a EntryDetail,
}

/// Returns the line of an entry, without its end.
pub(super) fn line(stored: &StoredEntry, network: &NetworkId) -> Result<Vec<u8>, DecodeError> {
    let leaf = leaf_hash(&stored.bytes);
    let entry = EntryDetail::of(stored, leaf, network, Checking::Nothing)?;
    let line = Line {
        sequence: stored.sequence,
        bytes: &BASE64.encode(&stored.bytes),
        entry: &entry,
    };
    Ok(to_json(&line))
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("all of it can be written as JSON")
}

/// Writes an export.
pub(super) struct Writer {
    network: NetworkId,
    root: Hash,
    tree: Frontier,
}

impl Writer {
    pub(super) fn new(head: &LogHead) -> Self {
        Self {
            network: head.network.clone(),
            root: head.root,
            tree: Frontier::default(),
        }
    }
}

impl EntryWriter for Writer {
    fn begin(&mut self, head: &LogHead, out: &mut dyn Write) -> Result<(), ExportError> {
        let head = Head {
            tally_ledger_export: EXPORT_FORMAT,
            network: head.network.clone(),
            coordinator: head.coordinator,
            size: head.size,
            root: head.root,
            checkpoint: head.checkpoint.clone().ok_or(ExportError::NoCheckpoint)?,
        };
        out.write_all(&to_json(&head))?;
        Ok(out.write_all(b"\n")?)
    }

    fn write(&mut self, told: &Told<'_>, out: &mut dyn Write) -> Result<(), ExportError> {
        self.tree.push(leaf_hash(&told.stored.bytes));
        let line = line(told.stored, &self.network).map_err(|error| ExportError::Unreadable {
            sequence: told.stored.sequence,
            reason: error.to_string(),
        })?;
        out.write_all(&line)?;
        Ok(out.write_all(b"\n")?)
    }

    fn end(&mut self, _out: &mut dyn Write) -> Result<(), ExportError> {
        let (computed, stated) = (self.tree.root(), self.root);
        if computed == stated {
            Ok(())
        } else {
            Err(ExportError::Root { computed, stated })
        }
    }
}
