//! The witness: remembers what the logs of others have signed, and notices when one of them tells two stories.
//!
//! A state machine without I/O, driven like the [coordinator](crate::coordinator). It takes the checkpoints that are
//! heard by gossip, asks connected coordinators for theirs, and wants to see a proof that any two of one log grow out
//! of each other. Two roots for one size contradict each other at sight. Two sizes do if the log itself answers the
//! question for their proof with one that does not hold. No answer says nothing: the question is asked again, less
//! and less often, and the checkpoint stays unproven, which can be seen.
//!
//! The first checkpoint of a log is believed. From then on a log cannot take back what it has told this node, nor tell
//! it another story than the nodes it shares gossip with.
//!
//! Invariants: what is remembered comes back from its bytes as it was, the evidence of a fork with it; a fork is
//! never forgiven; one question at a time to each log; at most [`LOGS_MAX`] logs with [`UNPROVEN_MAX`] unproven
//! checkpoints each, and of what anybody may send again, gossip, only so much in a time.

mod log;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{CHECKPOINT_BYTES_MAX, VerifiedCheckpoint};
use crate::coordinator::Question;
use crate::id::{Hash, NetworkId, NodeId};
use crate::message::log::LogRequest;
use crate::time::Timestamp;

pub use saved::{RestoreError, SAVED_BYTES_MAX};

use log::{Acquaintance, Log, News};

/// The most logs that are remembered: more than the coordinators that a terminal keeps in touch with.
pub const LOGS_MAX: usize = 128;
/// The most checkpoints of one log that wait for their proof.
pub const UNPROVEN_MAX: usize = 8;
/// How often a connected coordinator is asked for its head, if gossip does not bring it.
const HEAD_EVERY: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A coordinator is connected and has shown its role.
    Found(NodeId),
    /// Its connection is gone.
    Lost(NodeId),
    /// A checkpoint came by gossip.
    Heard(VerifiedCheckpoint),
    /// A coordinator was asked for its head, and told it.
    Told {
        /// The question.
        question: Question,
        /// The answer.
        checkpoint: VerifiedCheckpoint,
    },
    /// A coordinator was asked for a proof, and gave it.
    Proved {
        /// The question.
        question: Question,
        /// The answer.
        path: Vec<Hash>,
    },
    /// There was no answer, or a refusal.
    Failed(Question),
    /// The time of [`Witness::next_deadline`] has come.
    DeadlineReached,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a coordinator about its log.
    Ask {
        /// Repeated with the answer.
        question: Question,
        /// The coordinator.
        to: NodeId,
        /// What.
        request: LogRequest,
    },
    /// Write down [`Witness::saved`].
    Keep,
    /// The log of this coordinator has forked: nothing it says of its log counts any more.
    Forked(NodeId),
}

/// How two checkpoints of one log contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkKind {
    /// They have different roots for one size. Anybody can see that.
    SameSize,
    /// The log was asked to show that one grows out of the other, and what it showed does not.
    NotGrown,
}

/// The evidence that a log has forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// How they contradict each other.
    pub kind: ForkKind,
    /// The checkpoint that was there.
    pub one: VerifiedCheckpoint,
    /// The checkpoint that contradicts it.
    pub other: VerifiedCheckpoint,
    /// When that was found.
    pub found: Timestamp,
}

/// What is known of one log.
#[derive(Debug, Clone, Copy)]
pub struct Witnessed<'a> {
    /// The largest checkpoint that was found to grow out of all before it.
    pub head: &'a VerifiedCheckpoint,
    /// When the first was heard.
    pub since: Timestamp,
    /// When the last was heard.
    pub heard: Timestamp,
    /// How many checkpoints wait for their proof.
    pub unproven: usize,
    /// The evidence, if the log has forked.
    pub fork: Option<&'a Fork>,
}

/// The state of a witness.
#[derive(Debug)]
pub struct Witness {
    me: NodeId,
    logs: BTreeMap<NodeId, Log>,
    questions: BTreeMap<Question, NodeId>,
    asked: u64,
}

impl Witness {
    /// Starts without memory. The log of `me` is not looked at.
    #[must_use]
    pub const fn new(me: NodeId) -> Self {
        Self {
            me,
            logs: BTreeMap::new(),
            questions: BTreeMap::new(),
            asked: 0,
        }
    }

    /// Starts from what was [saved](Self::saved) before.
    ///
    /// # Errors
    /// [`RestoreError`] if the bytes are not what a witness of this network writes.
    pub fn restore(me: NodeId, network: &NetworkId, saved: &[u8]) -> Result<Self, RestoreError> {
        let logs = saved::read(saved, network)?;
        Ok(Self {
            logs,
            ..Self::new(me)
        })
    }

    /// Returns what is to be remembered over a restart.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        saved::write(&self.logs)
    }

    /// Takes one input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Found(node) => self.found(now, node),
            Input::Lost(node) => self.lost(node),
            Input::Heard(checkpoint) => self.heard(now, checkpoint, out),
            Input::Told {
                question,
                checkpoint,
            } => {
                let told = |node, log: &mut Log| {
                    if checkpoint.log() == node && fits(&checkpoint) {
                        log.told(now, checkpoint)
                    } else {
                        log.failed(now)
                    }
                };
                self.answered(question, told, out);
            }
            Input::Proved { question, path } => {
                let proved = |_, log: &mut Log| log.proved(now, &path);
                self.answered(question, proved, out);
            }
            Input::Failed(question) => {
                let failed = |_, log: &mut Log| log.failed(now);
                self.answered(question, failed, out);
            }
            Input::DeadlineReached => {}
        }
        self.ask_where_due(now, out);
    }

    /// Returns when [`Input::DeadlineReached`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.logs.values().filter_map(Log::due).min()
    }

    /// Returns what is known of each log, in the order of their coordinators.
    pub fn logs(&self) -> impl Iterator<Item = Witnessed<'_>> {
        self.logs.values().filter_map(Log::witnessed)
    }

    /// Returns the coordinators whose log has forked.
    pub fn forked(&self) -> impl Iterator<Item = NodeId> + '_ {
        let forked = self.logs().filter(|log| log.fork.is_some());
        forked.map(|log| log.head.log())
    }

    fn found(&mut self, now: Timestamp, node: NodeId) {
        self.questions.retain(|_, asked| *asked != node);
        if let Some(log) = self.admit(now, node, Acquaintance::Connected) {
            log.connect(now);
        }
    }

    fn lost(&mut self, node: NodeId) {
        self.questions.retain(|_, asked| *asked != node);
        if let Some(log) = self.logs.get_mut(&node) {
            log.lose();
        }
    }

    fn heard(&mut self, now: Timestamp, checkpoint: VerifiedCheckpoint, out: &mut Vec<Effect>) {
        let node = checkpoint.log();
        if !fits(&checkpoint) {
            return;
        }
        let Some(log) = self.admit(now, node, Acquaintance::Heard) else {
            return;
        };
        let news = log.heard(now, checkpoint);
        tell(node, news, out);
    }

    /// Returns the place of a log, and makes one if there is room or a log that matters less.
    fn admit(
        &mut self,
        now: Timestamp,
        node: NodeId,
        acquaintance: Acquaintance,
    ) -> Option<&mut Log> {
        if node == self.me {
            return None;
        }
        if self.logs.len() >= LOGS_MAX && !self.logs.contains_key(&node) {
            let least = self.logs.iter().min_by_key(|(_, log)| log.worth());
            let (least, worth) = least.map(|(node, log)| (*node, log.worth()))?;
            if worth.acquaintance >= acquaintance {
                return None;
            }
            self.logs.remove(&least);
            self.questions.retain(|_, asked| *asked != least);
        }
        Some(self.logs.entry(node).or_insert_with(|| Log::new(now)))
    }

    fn answered(
        &mut self,
        question: Question,
        take: impl FnOnce(NodeId, &mut Log) -> News,
        out: &mut Vec<Effect>,
    ) {
        let Some(node) = self.questions.remove(&question) else {
            return;
        };
        let Some(log) = self.logs.get_mut(&node) else {
            return;
        };
        let news = take(node, log);
        tell(node, news, out);
    }

    fn ask_where_due(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let due = |log: &Log| log.due().is_some_and(|at| at <= now);
        for (node, log) in self.logs.iter_mut().filter(|(_, log)| due(log)) {
            self.asked += 1;
            let (question, to) = (Question(self.asked), *node);
            let request = log.ask(now);
            self.questions.insert(question, to);
            out.push(Effect::Ask {
                question,
                to,
                request,
            });
        }
    }
}

/// Returns whether a checkpoint is small enough to be remembered.
fn fits(checkpoint: &VerifiedCheckpoint) -> bool {
    checkpoint.signed().as_str().len() <= CHECKPOINT_BYTES_MAX
}

/// Tells the shell what has changed: first that it is to be written down.
fn tell(node: NodeId, news: News, out: &mut Vec<Effect>) {
    match news {
        News::None => {}
        News::Changed => out.push(Effect::Keep),
        News::Forked => out.extend([Effect::Keep, Effect::Forked(node)]),
    }
}
