//! Customer and coordinator: submit, watch, cancel, result.
//!
//! The coordinator reads program and input from the customer as blobs, over the connection that the customer made,
//! from where it stopped last time. A customer may vanish at any moment and ask again later.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Money;
use crate::id::{NodeId, TaskId};
use crate::message::Refusal;
use crate::points::Points;
use crate::rate_card::RateCard;
use crate::signed::Signed;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;

/// The largest message of this conversation: a full list, or a status that names all that it may.
pub const CUSTOMER_BYTES_MAX: usize = 1 << 20;
/// The most tasks in one list.
pub const LIST_MAX: usize = 500;
/// The most devices in one status.
pub const DEVICES_TOLD_MAX: usize = 1_000;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomerRequest {
    /// Do this task. Asking again for a task that is known changes nothing and is answered with its status.
    Submit(Signed<Task>),
    /// How is it? Answered at once if its version is above `seen`, else when it is, or after some seconds.
    Watch {
        /// The task.
        task: TaskId,
        /// The version that the customer has seen; 0 for an answer at once.
        seen: u64,
    },
    /// Which tasks of mine are here?
    List,
    /// Stop it.
    Cancel(TaskId),
    /// What does work cost here, and what funds have I?
    Terms,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomerReply {
    /// To submit, watch and cancel.
    Status(Box<TaskStatus>),
    /// To list, newest first.
    Tasks(Vec<TaskSummary>),
    /// To terms.
    Terms(Box<Terms>),
    /// No.
    Refused(Refusal),
}

/// What work costs, and what the asker has to pay it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The rate card for tasks that are submitted now.
    pub rate_card: Signed<RateCard>,
    /// What the customer can spend, in the currency of the card.
    pub available: Money,
    /// What is held for tasks.
    pub held: Money,
}

/// What a task costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCost {
    /// Points of all results that were paid.
    pub points: Points,
    /// What the customer has paid for them.
    pub paid: Money,
    /// What is still held; nothing once the task is settled.
    pub held: Money,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The task.
    pub task: TaskId,
    /// The customer's name for it.
    pub name: String,
    /// How far it is.
    pub phase: Phase,
    /// Units of the task; 0 before it was divided.
    pub units: u32,
    /// Units that are done.
    pub done: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
}

/// All that a customer is told of its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The line in the list.
    pub summary: TaskSummary,
    /// Grows with every change.
    pub version: u64,
    /// Bytes of program and input that have arrived, and how many there are.
    pub uploaded: (u64, u64),
    /// Units leased at the moment.
    pub leased: u32,
    /// Units given up, with the reason of each; at most 100 are told.
    pub failed: BTreeMap<u32, String>,
    /// How many units were given up.
    pub failed_count: u32,
    /// Fuel of the agreed result of every done unit.
    pub fuel: u64,
    /// What it costs.
    pub cost: TaskCost,
    /// Who did what; of more than [`DEVICES_TOLD_MAX`] devices those that were outvoted, then those that did most.
    pub devices: BTreeMap<NodeId, DeviceTally>,
    /// Why nothing moves, if so.
    pub waiting_for: Option<String>,
    /// The result, once the phase is [`Phase::Done`].
    pub result: Option<BlobRef>,
}

/// What one device did for one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceTally {
    /// Its results that were part of a quorum.
    pub agreed: u32,
    /// Its results that a quorum contradicted.
    pub outvoted: u32,
    /// Leases it let expire or gave back.
    pub lost: u32,
    /// Fuel of the results that were part of a quorum.
    pub fuel: u64,
    /// The first units on which it was outvoted, at most 20.
    pub outvoted_units: Vec<u32>,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Program and input are on their way from the customer.
    Uploading,
    /// The input is being cut.
    Dividing,
    /// Units are being computed.
    Running,
    /// The outputs are being put together.
    Merging,
    /// The merged result is being edited.
    Editing,
    /// The result is there.
    Done,
    /// It cannot be done; the text says why.
    Failed(String),
    /// The customer stopped it.
    Cancelled,
}

impl Phase {
    /// Returns whether nothing will change any more.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Done | Self::Failed(_) | Self::Cancelled)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uploading => "uploading",
            Self::Dividing => "dividing",
            Self::Running => "running",
            Self::Merging => "merging",
            Self::Editing => "editing",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}
