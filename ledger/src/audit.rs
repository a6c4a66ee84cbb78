//! Proves that a log is whole and says nothing twice.
//!
//! The audit reads every entry once, in order, and stops at the first that breaks a rule:
//! - entries are dense from 0, each decodes and says its own place, and no time is before the one before it;
//! - each complete node of the tree is stored as it follows from the entries, and so is the head;
//! - a task is accepted once, with the customer's own signature over it, before it is validated or ended; it ends at
//!   most once, and each of its units is validated at most once.
//!
//! It holds one entry at a time, and of the past: about 100 bytes a task and 160 bytes for each 1,024 units of a task
//! of which one was validated.
//!
//! Whoever can write the file can also write another log that is whole. That shows only against a root that somebody
//! else remembers: [`Report::root`] is what to compare.

mod history;

use std::fmt;

use serde::{Deserialize, Serialize};
use tally_protocol::id::{Hash, NetworkId, NodeId, TaskId};
use tally_protocol::merkle::{Frontier, leaf_hash};
use tally_protocol::time::Timestamp;

use crate::store::{Log, Nodes, ReadError, Reader, StoredEntry};
use crate::tree::{Tree, node_count};
use history::History;

/// After how many entries progress is told.
const PROGRESS_ENTRIES: u64 = 1_024;

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Entries read.
    pub done: u64,
    /// Entries of the log.
    pub total: u64,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries that are as they should be, from the first on.
    pub entries: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Tasks that were accepted.
    pub tasks: u64,
    /// Units that were validated.
    pub units: u64,
    /// Time of the last good entry.
    pub last_at: Option<Timestamp>,
    /// The first thing that is wrong.
    pub finding: Option<Finding>,
}

impl Report {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.finding.is_none()
    }
}

/// Something wrong in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The entry, unless it concerns the log as a whole.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "entry {sequence}: {}", self.problem),
            None => self.problem.fmt(f),
        }
    }
}

/// What is wrong with an entry or the whole log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Problem {
    /// The log says that it has more entries.
    #[error("it is missing")]
    Missing,
    /// The head says that the log ends before.
    #[error("it is stored, but the log ends before it")]
    BeyondTheEnd,
    /// The bytes are no entry.
    #[error("its bytes are no entry: {reason}")]
    Undecodable {
        /// Why not.
        reason: String,
    },
    /// It was written for another place.
    #[error("it says that it is entry {says}")]
    Misplaced {
        /// The place.
        says: u64,
    },
    /// It is older than its predecessor.
    #[error("its time is before {before}, the time of the entry before it")]
    TimeWentBack {
        /// The time of the predecessor.
        before: Timestamp,
    },
    /// The stored leaf is not the hash of the entry.
    #[error("it is not the entry that the tree was made of")]
    Leaf,
    /// A stored inner node does not follow from the leaves below it.
    #[error("a node of the tree over it and the entries before it does not follow from them")]
    Node,
    /// The head is missing or not one.
    #[error("the head of the log is missing or not one")]
    Head,
    /// The stored head is not the one of the entries.
    #[error("the root over the entries is {computed}, stored is {stored}")]
    Root {
        /// What the entries give.
        computed: Hash,
        /// What is stored.
        stored: Hash,
    },
    /// The signature of a task does not hold.
    #[error("the statement of its task: failed to {reason}")]
    Statement {
        /// Why not.
        reason: String,
    },
    /// The signed task is another one.
    #[error("its statement is of task {signed}")]
    OtherTask {
        /// The id of the signed task.
        signed: TaskId,
    },
    /// The task was signed by somebody else than its customer.
    #[error("its task is of customer {customer}, but {signer} signed it")]
    OtherSigner {
        /// Whose task it is.
        customer: NodeId,
        /// Who signed.
        signer: NodeId,
    },
    /// The task had been accepted before.
    #[error("task {task} was accepted before")]
    AcceptedTwice {
        /// The task.
        task: TaskId,
    },
    /// The task was never accepted before.
    #[error("task {task} was not accepted before")]
    NotAccepted {
        /// The task.
        task: TaskId,
    },
    /// No task has such a unit.
    #[error("task {task} cannot have a unit {unit}")]
    NoSuchUnit {
        /// The task.
        task: TaskId,
        /// The unit.
        unit: u32,
    },
    /// The unit had been validated before.
    #[error("unit {unit} of task {task} was validated before")]
    ValidatedTwice {
        /// The task.
        task: TaskId,
        /// The unit.
        unit: u32,
    },
    /// The task had ended before.
    #[error("task {task} ended before")]
    EndedTwice {
        /// The task.
        task: TaskId,
    },
}

/// Audits the whole log of `reader`, as it is now.
///
/// # Errors
/// [`ReadError`] if the file cannot be read; what is wrong with its content stands in the report.
pub fn verify(reader: &Reader, progress: &mut dyn FnMut(Progress)) -> Result<Report, ReadError> {
    let log = reader.log()?;
    let mut verifier = Verifier::new(reader.identity().network.clone());
    let finding = match log.head() {
        Ok(head) => verifier.read(&log, &head, progress)?,
        Err(ReadError::Damaged { .. } | ReadError::Undecodable(_)) => Some(Finding {
            sequence: None,
            problem: Problem::Head,
        }),
        Err(error @ ReadError::Storage(_)) => return Err(error),
    };
    Ok(verifier.report(finding))
}

/// An audit under way: what the good entries so far come to.
struct Verifier {
    network: NetworkId,
    tree: Tree,
    last_at: Option<Timestamp>,
    history: History,
}

impl Verifier {
    fn new(network: NetworkId) -> Self {
        Self {
            network,
            tree: Tree::default(),
            last_at: None,
            history: History::default(),
        }
    }

    /// Reads the log up to its end or the first thing that is wrong.
    fn read(
        &mut self,
        log: &Log,
        head: &Frontier,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Finding>, ReadError> {
        let total = head.size();
        let mut entries = log.entries(0..u64::MAX)?;
        let mut nodes = log.nodes()?;
        for sequence in 0..total {
            if sequence.is_multiple_of(PROGRESS_ENTRIES) {
                let done = sequence;
                progress(Progress { done, total });
            }
            let checked = match entries.next().transpose()? {
                Some(entry) if entry.sequence == sequence => self.check(&entry, &mut nodes)?,
                _ => Err(Problem::Missing),
            };
            if let Err(problem) = checked {
                return Ok(Some(Finding {
                    sequence: Some(sequence),
                    problem,
                }));
            }
        }
        progress(Progress { done: total, total });
        if entries.next().is_some() || nodes.next().is_some() {
            return Ok(Some(Finding {
                sequence: Some(total),
                problem: Problem::BeyondTheEnd,
            }));
        }
        let (computed, stored) = (self.tree.frontier(), head);
        Ok((computed != *stored).then(|| Finding {
            sequence: None,
            problem: Problem::Root {
                computed: computed.root(),
                stored: stored.root(),
            },
        }))
    }

    /// Checks the next entry, and the nodes of the tree that it completes.
    fn check(
        &mut self,
        entry: &StoredEntry,
        nodes: &mut Nodes,
    ) -> Result<Result<(), Problem>, ReadError> {
        let (mut tree, mut completed) = (self.tree.clone(), Vec::new());
        tree.push(leaf_hash(&entry.bytes), &mut completed);
        let mut problem = Problem::Leaf;
        for expected in (node_count(entry.sequence)..).zip(completed) {
            if nodes.next().transpose()? != Some(expected) {
                return Ok(Err(problem));
            }
            problem = Problem::Node;
        }
        Ok(self.check_content(entry).map(|()| self.tree = tree))
    }

    fn check_content(&mut self, stored: &StoredEntry) -> Result<(), Problem> {
        let entry = stored.decode().map_err(|error| Problem::Undecodable {
            reason: error.to_string(),
        })?;
        if entry.sequence != stored.sequence {
            return Err(Problem::Misplaced {
                says: entry.sequence,
            });
        }
        if let Some(before) = self.last_at
            && entry.at < before
        {
            return Err(Problem::TimeWentBack { before });
        }
        self.history.add(entry.event, &self.network)?;
        self.last_at = Some(entry.at);
        Ok(())
    }

    fn report(&self, finding: Option<Finding>) -> Report {
        Report {
            entries: self.tree.size(),
            root: self.tree.frontier().root(),
            tasks: self.history.tasks(),
            units: self.history.units(),
            last_at: self.last_at,
            finding,
        }
    }
}
