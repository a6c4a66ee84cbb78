//! What the witness knows of one log, and what it wants to ask it.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Fork, ForkKind, HEAD_EVERY, UNPROVEN_MAX, Witnessed};
use crate::allowance::Rate;
use crate::checkpoint::VerifiedCheckpoint;
use crate::head_gate::HeadAllowance;
use crate::id::Hash;
use crate::merkle::TreeHead;
use crate::merkle::proof::verify_consistency;
use crate::message::log::LogRequest;
use crate::time::Timestamp;

/// Checkpoints of each kind that are taken from gossip: each costs the log a question of every node, so of a log that
/// grows all the time not every head is looked at.
const HEARD_RATE: Rate = Rate {
    burst: 4,
    interval: Duration::from_secs(10),
};
/// Heads found right before the last one: they are not proved again if they are heard again.
const PROVEN_MAX: usize = 32;
/// The least pause between two questions.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The longest pause after questions without answer; it starts with [`ASK_EVERY`] and doubles.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);

/// One log.
#[derive(Debug)]
pub(super) struct Log {
    acquaintance: Acquaintance,
    seen: Option<Seen>,
    heard: Timestamp,
    allowance: HeadAllowance,
    /// Heads that the last one grows out of, the oldest first.
    proven: VecDeque<TreeHead>,
    /// The size that the coordinator told last over this connection.
    told: u64,
    /// What was asked and has no answer yet.
    asked: Option<Asked>,
    /// Before this moment nothing is asked.
    ask_at: Timestamp,
    /// When the head is asked for again.
    head_at: Timestamp,
    failures: u32,
}

/// A question to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    /// How the head and this unproven checkpoint grow out of each other. Both stay until the answer.
    Proof(TreeHead),
}

/// How the coordinator of a log is known. The better it is, the longer its log is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Acquaintance {
    /// By gossip: anybody can make any number of those.
    Heard,
    /// It was connected once and had shown its role.
    Met,
    /// It is connected.
    Connected,
}

/// What a log has signed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) head: VerifiedCheckpoint,
    pub(super) since: Timestamp,
    /// Neither known to grow out of the head, nor the head out of them.
    pub(super) unproven: Vec<VerifiedCheckpoint>,
    pub(super) fork: Option<Fork>,
}

/// What an input has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// Something that is to be remembered.
    Changed,
    Forked,
}

/// How much it matters to remember a log, what counts most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Worth {
    pub(super) acquaintance: Acquaintance,
    forked: bool,
    pub(super) heard: Timestamp,
}

impl Log {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            acquaintance: Acquaintance::Heard,
            seen: None,
            heard: now,
            allowance: HeadAllowance::full(&HEARD_RATE, now),
            proven: VecDeque::new(),
            told: 0,
            asked: None,
            ask_at: now,
            head_at: now,
            failures: 0,
        }
    }

    /// Takes what was remembered over a restart.
    pub(super) fn remembered(seen: Seen, heard: Timestamp, met: Acquaintance) -> Self {
        Self {
            acquaintance: met,
            seen: Some(seen),
            ..Self::new(heard)
        }
    }

    pub(super) const fn seen(&self) -> Option<&Seen> {
        self.seen.as_ref()
    }

    pub(super) fn witnessed(&self) -> Option<Witnessed<'_>> {
        let seen = self.seen.as_ref()?;
        Some(Witnessed {
            head: &seen.head,
            since: seen.since,
            heard: self.heard,
            unproven: seen.unproven.len(),
            fork: seen.fork.as_ref(),
        })
    }

    pub(super) fn worth(&self) -> Worth {
        Worth {
            acquaintance: self.acquaintance,
            forked: self.is_forked(),
            heard: self.heard,
        }
    }

    fn is_forked(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.fork.is_some())
    }

    /// Notes that its coordinator is connected: it is asked for its head at once.
    pub(super) fn connect(&mut self, now: Timestamp) {
        self.acquaintance = Acquaintance::Connected;
        self.asked = None;
        (self.told, self.failures) = (0, 0);
        (self.ask_at, self.head_at) = (now, now);
    }

    pub(super) fn lose(&mut self) {
        self.asked = None;
        if self.acquaintance == Acquaintance::Connected {
            self.acquaintance = Acquaintance::Met;
        }
    }

    /// Returns when it is to be asked next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let answers = self.acquaintance == Acquaintance::Connected && !self.is_forked();
        let waits = self
            .seen
            .as_ref()
            .is_some_and(|seen| !seen.unproven.is_empty());
        let at = if waits {
            self.ask_at
        } else {
            self.ask_at.max(self.head_at)
        };
        (answers && self.asked.is_none()).then_some(at)
    }

    /// Says what to ask now: for a proof, if one is wanted and can be had.
    pub(super) fn ask(&mut self, now: Timestamp) -> LogRequest {
        if let Some(seen) = &self.seen
            && let Some(unproven) = seen.next_to_prove(self.told)
        {
            self.asked = Some(Asked::Proof(unproven.head()));
            let (from, to) = in_order(&seen.head, unproven);
            return LogRequest::Consistency {
                from: from.head().size,
                to: to.head().size,
            };
        }
        self.asked = Some(Asked::Head);
        self.head_at = now + HEAD_EVERY;
        LogRequest::Head
    }

    /// Takes a checkpoint from gossip.
    pub(super) fn heard(&mut self, now: Timestamp, checkpoint: VerifiedCheckpoint) -> News {
        let size = checkpoint.head().size;
        let held = self.seen.as_ref().is_some_and(|seen| seen.holds(size));
        // What can be compared at sight costs nothing.
        if held || self.allowance.spend(&HEARD_RATE, now, size) {
            self.take(now, checkpoint)
        } else {
            News::None
        }
    }

    /// Takes the answer to the question for the head.
    pub(super) fn told(&mut self, now: Timestamp, checkpoint: VerifiedCheckpoint) -> News {
        if self.asked != Some(Asked::Head) {
            return self.failed(now);
        }
        self.told = checkpoint.head().size;
        let head = self.seen.as_ref().map_or(0, |seen| seen.head.head().size);
        if self.told < head {
            // It cannot prove anything yet. Whether it ever does is looked at less and less often.
            self.asked = None;
            self.back_off(now);
        } else {
            self.answered(now);
        }
        self.take(now, checkpoint)
    }

    /// Takes the answer to the question for a proof.
    pub(super) fn proved(&mut self, now: Timestamp, path: &[Hash]) -> News {
        let Some(Asked::Proof(asked)) = self.asked else {
            return self.failed(now);
        };
        self.answered(now);
        let seen = self.seen.as_mut();
        let seen = seen.expect("what waits for its proof was seen");
        let place = seen.unproven.iter().position(|one| one.head() == asked);
        let place = place.expect("what was asked for its proof waits until the answer");
        let unproven = seen.unproven.remove(place);
        let (from, to) = in_order(&seen.head, &unproven);
        if verify_consistency(&from.head(), &to.head(), path).is_err() {
            return seen.fork(now, ForkKind::NotGrown, (seen.head.clone(), unproven));
        }
        self.proven.push_back(from.head());
        if self.proven.len() > PROVEN_MAX {
            self.proven.pop_front();
        }
        if unproven.head().size > seen.head.head().size {
            seen.head = unproven;
        }
        News::Changed
    }

    /// Takes that a question has no answer.
    pub(super) fn failed(&mut self, now: Timestamp) -> News {
        if self.asked.take() == Some(Asked::Head) {
            self.head_at = now;
        }
        self.back_off(now);
        News::None
    }

    fn back_off(&mut self, now: Timestamp) {
        let pause = ASK_EVERY * 2_u32.pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.ask_at = now + pause.min(BACK_OFF_MAX);
    }

    fn answered(&mut self, now: Timestamp) {
        self.asked = None;
        self.failures = 0;
        self.ask_at = now + ASK_EVERY;
    }

    fn take(&mut self, now: Timestamp, checkpoint: VerifiedCheckpoint) -> News {
        self.heard = now;
        let head = checkpoint.head();
        let Some(seen) = &mut self.seen else {
            self.seen = Some(Seen {
                head: checkpoint,
                since: now,
                unproven: Vec::new(),
                fork: None,
            });
            return News::Changed;
        };
        if seen.fork.is_some() || self.proven.contains(&head) {
            return News::None;
        }
        let same_size = seen.held().find(|held| held.head().size == head.size);
        match same_size.cloned() {
            Some(held) if held.head() == head => News::None,
            Some(held) => {
                self.asked = None;
                seen.fork(now, ForkKind::SameSize, (held, checkpoint))
            }
            None if seen.unproven.len() >= UNPROVEN_MAX => News::None,
            None => {
                seen.unproven.push(checkpoint);
                News::Changed
            }
        }
    }
}

impl Seen {
    /// Returns all checkpoints at hand.
    fn held(&self) -> impl Iterator<Item = &VerifiedCheckpoint> {
        std::iter::once(&self.head).chain(&self.unproven)
    }

    /// Returns the checkpoint whose proof is wanted next, of a log that says that it has `told` entries.
    ///
    /// The largest comes first, and of a smaller one than the head nothing is asked before the log has reached the head
    /// again: so a log that went on from an old copy contradicts itself with what it says now.
    fn next_to_prove(&self, told: u64) -> Option<&VerifiedCheckpoint> {
        let largest = self.unproven.iter().max_by_key(|one| one.head().size)?;
        let head = self.head.head().size;
        (largest.head().size > head || told >= head).then_some(largest)
    }

    fn holds(&self, size: u64) -> bool {
        self.held().any(|held| held.head().size == size)
    }

    /// Keeps the evidence; nothing else of the log matters any more.
    fn fork(
        &mut self,
        now: Timestamp,
        kind: ForkKind,
        (one, other): (VerifiedCheckpoint, VerifiedCheckpoint),
    ) -> News {
        self.unproven.clear();
        self.fork = Some(Fork {
            kind,
            one,
            other,
            found: now,
        });
        News::Forked
    }
}

/// Returns the smaller checkpoint first.
fn in_order<'a>(
    one: &'a VerifiedCheckpoint,
    other: &'a VerifiedCheckpoint,
) -> (&'a VerifiedCheckpoint, &'a VerifiedCheckpoint) {
    if one.head().size <= other.head().size {
        (one, other)
    } else {
        (other, one)
    }
}
