//! What a witness remembers over a restart, as bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::{Acquaintance, Log, Seen};
use super::{Fork, ForkKind, LOGS_MAX, UNPROVEN_MAX};
use crate::checkpoint::{CheckpointError, SignedCheckpoint, VerifiedCheckpoint};
use crate::codec::{self, DecodeError};
use crate::id::{NetworkId, NodeId};
use crate::time::Timestamp;

/// The version of the format.
const VERSION: u16 = 1;
/// The most bytes: all logs with all checkpoints of the greatest length.
pub const SAVED_BYTES_MAX: usize = 2 << 20;

/// Why a witness cannot go on from what was saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are no memory of a witness.
    #[error("restore the witness")]
    Decode(#[from] DecodeError),
    /// It was saved by another version.
    #[error("restore the witness: its format is {found}, this program knows {VERSION}")]
    Version {
        /// The version it says.
        found: u16,
    },
    /// A checkpoint in it is wrong.
    #[error("restore the witness")]
    Checkpoint(#[from] CheckpointError),
    /// It contradicts itself.
    #[error("restore the witness: {0}")]
    Malformed(&'static str),
}

#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u16,
    logs: Vec<SavedLog>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedLog {
    head: SignedCheckpoint,
    since: Timestamp,
    heard: Timestamp,
    met: bool,
    unproven: Vec<SignedCheckpoint>,
    fork: Option<SavedFork>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedFork {
    kind: ForkKind,
    one: SignedCheckpoint,
    other: SignedCheckpoint,
    found: Timestamp,
}

pub(super) fn write(logs: &BTreeMap<NodeId, Log>) -> Vec<u8> {
    let log = |log: &Log| {
        let seen = log.seen()?;
        let unproven = seen.unproven.iter();
        Some(SavedLog {
            head: seen.head.signed().clone(),
            since: seen.since,
            heard: log.worth().heard,
            met: log.worth().acquaintance > Acquaintance::Heard,
            unproven: unproven.map(|unproven| unproven.signed().clone()).collect(),
            fork: seen.fork.as_ref().map(|fork| SavedFork {
                kind: fork.kind,
                one: fork.one.signed().clone(),
                other: fork.other.signed().clone(),
                found: fork.found,
            }),
        })
    };
    codec::to_bytes(&Saved {
        version: VERSION,
        logs: logs.values().filter_map(log).collect(),
    })
}

pub(super) fn read(
    bytes: &[u8],
    network: &NetworkId,
) -> Result<BTreeMap<NodeId, Log>, RestoreError> {
    let saved: Saved = codec::from_bytes(bytes, SAVED_BYTES_MAX)?;
    if saved.version != VERSION {
        let found = saved.version;
        return Err(RestoreError::Version { found });
    }
    if saved.logs.len() > LOGS_MAX {
        return Err(RestoreError::Malformed("it has too many logs"));
    }
    let logs = saved.logs.into_iter().map(|log| log.restore(network));
    logs.collect()
}

impl SavedLog {
    fn restore(self, network: &NetworkId) -> Result<(NodeId, Log), RestoreError> {
        let head = self.head.verify(network)?;
        let log = head.log();
        let verify = |signed: SignedCheckpoint| -> Result<VerifiedCheckpoint, RestoreError> {
            let checkpoint = signed.verify(network)?;
            let own = checkpoint.log() == log;
            let foreign = RestoreError::Malformed("a checkpoint is of another log");
            own.then_some(checkpoint).ok_or(foreign)
        };
        if self.unproven.len() > UNPROVEN_MAX {
            return Err(RestoreError::Malformed("it has too many checkpoints"));
        }
        let unproven = self.unproven.into_iter().map(verify);
        let unproven = unproven.collect::<Result<Vec<_>, _>>()?;
        let fork = match self.fork {
            None => None,
            Some(fork) => Some(Fork {
                kind: fork.kind,
                one: verify(fork.one)?,
                other: verify(fork.other)?,
                found: fork.found,
            }),
        };
        let seen = Seen {
            head,
            since: self.since,
            unproven,
            fork,
        };
        let met = if self.met {
            Acquaintance::Met
        } else {
            Acquaintance::Heard
        };
        Ok((log, Log::remembered(seen, self.heard, met)))
    }
}
