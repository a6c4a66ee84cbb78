//! `tally ledger prove` and `verify --proof`: that one entry stands in the log, shown to somebody who has nothing else.

use serde::{Deserialize, Serialize};

use tally_protocol::checkpoint::log_proof::{LogProof, LogProofError};
use tally_protocol::checkpoint::{CheckpointError, Origin};
use tally_protocol::id::{Hash, NetworkId, NodeId};

use super::bytes;
use super::text::{Text, grouped};

/// The proof that an entry stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryProof {
    /// The entry.
    pub sequence: u64,
    /// Its bytes.
    #[serde(with = "bytes")]
    pub entry: Vec<u8>,
    /// The proof, as text (C2SP tlog-proof).
    pub proof: String,
}

/// What a proof has proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// The network of the log.
    pub network: NetworkId,
    /// The coordinator that signed its checkpoint.
    pub coordinator: NodeId,
    /// The place of the entry.
    pub sequence: u64,
    /// The leaf that it is in the tree.
    pub leaf: Hash,
    /// Entries under the checkpoint.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// It is no proof, or of another entry.
    #[error(transparent)]
    Proof(#[from] LogProofError),
    /// Its checkpoint is not that of a log of Tally.
    #[error("read the checkpoint of a log proof")]
    Checkpoint(#[from] CheckpointError),
    /// Another coordinator signed it.
    #[error("accept the checkpoint of {found}, expected that of {expected}")]
    OtherLog {
        /// Who signed.
        found: NodeId,
        /// Who should have.
        expected: NodeId,
    },
}

/// Checks that the log of `coordinator` has `entry` where the text of a proof says.
///
/// # Errors
/// [`ProveError`].
pub fn check_proof(proof: &str, entry: &[u8], coordinator: NodeId) -> Result<Proved, ProveError> {
    let proof: LogProof = proof.parse()?;
    let network = origin_of(proof.checkpoint.as_str())?.network;
    let checkpoint = proof.verify(entry, &network)?;
    if checkpoint.log() != coordinator {
        return Err(ProveError::OtherLog {
            found: checkpoint.log(),
            expected: coordinator,
        });
    }
    let head = checkpoint.head();
    Ok(Proved {
        network,
        coordinator,
        sequence: proof.index,
        leaf: tally_protocol::merkle::leaf_hash(entry),
        size: head.size,
        root: head.root,
    })
}

/// Returns the log that a checkpoint says it is of.
pub(crate) fn origin_of(checkpoint: &str) -> Result<Origin, CheckpointError> {
    let origin = checkpoint.lines().next().unwrap_or_default();
    Ok(origin.parse()?)
}

impl Proved {
    /// Returns what was proved as lines of text of at most [`super::COLUMNS`] columns.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.line("The entry stands in the log.");
        text.field("entry", &self.sequence.to_string());
        text.field("leaf", &self.leaf.to_string());
        text.field("log of", &self.coordinator.to_string());
        text.field("network", self.network.as_str());
        text.field("entries", &grouped(self.size));
        text.field("root", &self.root.to_string());
        text.into_string()
    }
}

pub(super) fn render(proof: &EntryProof) -> String {
    proof.proof.clone()
}
