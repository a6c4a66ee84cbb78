//! Anybody and the coordinator: what its log says of itself.
//!
//! A witness asks for the head, and for the proof that one head grows out of another. Whoever has to do with an entry
//! asks for it with the proof that it stands in the log. Everything that is answered can be checked against a signed
//! head, so it makes no difference who asks.

use serde::{Deserialize, Serialize};

use crate::checkpoint::SignedCheckpoint;
use crate::entry::ENTRY_BYTES_MAX;
use crate::id::{Hash, NodeId};
use crate::merkle::proof::PATH_MAX;
use crate::message::Refusal;

/// The largest message of this conversation: an entry and its proof, whose hashes take 34 bytes each.
pub const LOG_BYTES_MAX: usize = ENTRY_BYTES_MAX + 40 * PATH_MAX + 1_024;

/// The most receipts that one answer names.
pub const LOGGED_RECEIPTS_MAX: usize = 1_024;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogRequest {
    /// How large are you now, and what is your root?
    Head,
    /// Show that the log of `to` entries begins with that of `from`.
    Consistency {
        /// Size of the smaller tree.
        from: u64,
        /// Size of the larger one.
        to: u64,
    },
    /// Tell an entry, and show that it stands in the log of `size` entries.
    Inclusion {
        /// The entry.
        sequence: u64,
        /// Size of the tree.
        size: u64,
    },
    /// Which entries are receipts for a device? Each can be asked for then.
    Receipts {
        /// The device.
        device: NodeId,
        /// Only entries after this one.
        after: Option<u64>,
    },
}

/// The answers. A path has at most [`PATH_MAX`] hashes; a longer one proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogReply {
    /// To head.
    Head(SignedCheckpoint),
    /// To consistency: hashes from the bottom upwards.
    Consistency(Vec<Hash>),
    /// To inclusion.
    Inclusion(LoggedEntry),
    /// To receipts: the first [`LOGGED_RECEIPTS_MAX`] sequences, rising.
    Receipts(Vec<u64>),
    /// No; [`Refusal::UnknownEntry`] if the log does not reach that far.
    Refused(Refusal),
}

/// An entry with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEntry {
    /// The stored bytes: the leaf of the tree.
    #[serde(with = "serde_bytes")]
    pub entry: Vec<u8>,
    /// Hashes from its sibling up to the child of the root.
    pub path: Vec<Hash>,
}
