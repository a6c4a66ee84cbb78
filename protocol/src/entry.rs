//! Entries of the permanent log: what happened, once, in order, for ever.
//!
//! The stored bytes of an entry are the leaf of an RFC 6962 tree, so they are written once and never encoded again.

use serde::{Deserialize, Serialize};

use crate::id::{Hash, NodeId, TaskId};

use crate::signed::Signed;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::Outcome;

/// The longest entry in bytes: a validated batch of 1,024 units with its voters.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// When it was written, by the clock of the node.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A task was accepted.
    TaskAccepted {
        /// The task.
        task: TaskId,
        /// As the customer signed it.
        signed: Signed<Task>,
    },
    /// A device's batch completed the quorum of these units.
    BatchValidated {
        /// The task.
        task: TaskId,
        /// The device whose results closed the quorum.
        device: NodeId,
        /// The root that it signed.
        batch: Hash,
        /// The units.
        units: Vec<ValidatedUnit>,
    },
    /// A task came to its end.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
    },
}

/// A unit whose result is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatedUnit {
    /// The unit.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// Devices that reported this.
    pub agreed: Vec<NodeId>,
    /// Devices that reported something else.
    pub outvoted: Vec<NodeId>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With this result.
    Done(BlobRef),
    /// Without, for this reason.
    Failed(String),
    /// Stopped by the customer.
    Cancelled,
}
