//! Entries as they are told: short in a list, whole when shown.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use tally_protocol::entry::{Ending, Event, ValidatedUnit};
use tally_protocol::id::{Hash, NetworkId, NodeId, TaskId};
use tally_protocol::signed::Signed;
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use crate::store::{ReadError, StoredEntry};

/// An entry in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    /// Its place in the log.
    pub sequence: u64,
    /// Length of its bytes.
    pub bytes: u64,
    /// What it says.
    pub event: EventRow,
}

/// What an entry says, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventRow {
    /// A task was accepted.
    TaskAccepted {
        /// When.
        at: Timestamp,
        /// The task.
        task: TaskId,
        /// Its name and its customer, if the statement verifies.
        summary: Option<TaskSummary>,
    },
    /// Units were validated.
    BatchValidated {
        /// When.
        at: Timestamp,
        /// The task.
        task: TaskId,
        /// The device whose results closed the quorum.
        device: NodeId,
        /// The root that it signed.
        batch: Hash,
        /// How many units.
        units: u64,
        /// How many of them ended with output.
        done: u64,
        /// Fuel of all of them.
        fuel: u64,
    },
    /// A task came to its end.
    TaskEnded {
        /// When.
        at: Timestamp,
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
    },
    /// Something else happened.
    Other {
        /// When.
        at: Timestamp,
    },
    /// The bytes are no entry.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The customer's name for it.
    pub name: String,
    /// Who asked.
    pub customer: NodeId,
}

impl EntryRow {
    pub(super) fn of(stored: &StoredEntry, network: &NetworkId) -> Self {
        let event = match stored.decode() {
            Ok(entry) => EventRow::of(entry.at, entry.event, network),
            Err(error) => EventRow::Unreadable {
                reason: error.to_string(),
            },
        };
        Self {
            sequence: stored.sequence,
            bytes: stored.bytes.len() as u64,
            event,
        }
    }

    /// Returns the task that the entry is about.
    #[must_use]
    pub const fn task(&self) -> Option<TaskId> {
        match self.event {
            EventRow::TaskAccepted { task, .. }
            | EventRow::BatchValidated { task, .. }
            | EventRow::TaskEnded { task, .. } => Some(task),
            EventRow::Other { .. } | EventRow::Unreadable { .. } => None,
        }
    }
}

impl EventRow {
    fn of(at: Timestamp, event: Event, network: &NetworkId) -> Self {
        match event {
            Event::TaskAccepted { task, signed } => Self::TaskAccepted {
                at,
                task,
                summary: signed.verify(network).ok().map(|verified| TaskSummary {
                    name: verified.name.clone(),
                    customer: verified.customer,
                }),
            },
            Event::BatchValidated {
                task,
                device,
                batch,
                units,
            } => Self::BatchValidated {
                at,
                task,
                device,
                batch,
                units: units.len() as u64,
                done: units.iter().filter(|unit| unit.outcome.is_done()).count() as u64,
                fuel: units
                    .iter()
                    .fold(0, |sum: u64, unit| sum.saturating_add(unit.fuel)),
            },
            Event::TaskEnded { task, ending } => Self::TaskEnded { at, task, ending },
            Event::TaskSettled { .. }
            | Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::Receipted { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => Self::Other { at },
        }
    }
}

/// An entry with all that it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDetail {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Length of its bytes.
    pub bytes: u64,
    /// Its leaf in the tree.
    pub leaf: Hash,
    /// What it says.
    pub event: EventDetail,
}

/// All that an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventDetail {
    /// A task was accepted.
    TaskAccepted {
        /// The task.
        task: TaskId,
        /// What the customer signed.
        statement: Statement,
        /// The signed statement in hex.
        signed: String,
    },
    /// Units were validated.
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
    /// Something else happened.
    Other,
}

/// A signed task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Its signature holds.
    Verified(Box<Task>),
    /// It does not, for this reason.
    Refused(String),
}

impl EntryDetail {
    pub(super) fn of(
        stored: &StoredEntry,
        leaf: Hash,
        network: &NetworkId,
    ) -> Result<Self, ReadError> {
        let entry = stored.decode()?;
        Ok(Self {
            sequence: stored.sequence,
            at: entry.at,
            bytes: stored.bytes.len() as u64,
            leaf,
            event: match entry.event {
                Event::TaskAccepted { task, signed } => EventDetail::TaskAccepted {
                    task,
                    signed: HEXLOWER.encode(signed.as_bytes()),
                    statement: Statement::of(signed, network),
                },
                Event::BatchValidated {
                    task,
                    device,
                    batch,
                    units,
                } => EventDetail::BatchValidated {
                    task,
                    device,
                    batch,
                    units,
                },
                Event::TaskEnded { task, ending } => EventDetail::TaskEnded { task, ending },
                Event::TaskSettled { .. }
                | Event::RateCardPublished { .. }
                | Event::DeviceCertified { .. }
                | Event::Receipted { .. }
                | Event::Deposited { .. }
                | Event::PaidOut { .. }
                | Event::Refunded { .. }
                | Event::ClawedBack { .. }
                | Event::Released { .. }
                | Event::Expired { .. } => EventDetail::Other,
            },
        })
    }
}

impl Statement {
    fn of(signed: Signed<Task>, network: &NetworkId) -> Self {
        match signed.verify(network) {
            Ok(verified) => Self::Verified(Box::new(verified.value().clone())),
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// The first hex digits of a task id, as tables show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskPrefix {
    digits: String,
    /// The digits that make whole bytes.
    bytes: Vec<u8>,
}

/// A text that no task id starts with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the start of a task id (1 to 64 hex digits)")]
pub struct ParsePrefixError(String);

impl TaskPrefix {
    /// Returns whether the bytes of an entry can be about such a task: quick, and never wrongly false.
    pub(super) fn may_be_in(&self, entry: &[u8]) -> bool {
        let Some(first) = self.bytes.first() else {
            return true;
        };
        let starts = entry.iter().enumerate().filter(|(_, byte)| *byte == first);
        starts
            .map(|(at, _)| &entry[at..])
            .any(|rest| rest.starts_with(&self.bytes))
    }

    /// Returns whether the id starts with these digits.
    pub(super) fn is_of(&self, task: TaskId) -> bool {
        task.to_string().starts_with(&self.digits)
    }
}

impl FromStr for TaskPrefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let digits = text.to_ascii_lowercase();
        let refused = || ParsePrefixError(text.chars().take(80).collect());
        if !(1..=64).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let whole = digits.len() & !1;
        let bytes = HEXLOWER
            .decode(&digits.as_bytes()[..whole])
            .map_err(|_| refused())?;
        Ok(Self { digits, bytes })
    }
}

impl fmt::Display for TaskPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.digits)
    }
}

impl TryFrom<String> for TaskPrefix {
    type Error = ParsePrefixError;

    fn try_from(text: String) -> Result<Self, ParsePrefixError> {
        text.parse()
    }
}

impl From<TaskPrefix> for String {
    fn from(prefix: TaskPrefix) -> Self {
        prefix.digits
    }
}
