//! What the coordinator's log tells others: its head by gossip when it has grown, and proofs when somebody asks.
//!
//! Only what is committed is signed and told, so a head that anybody holds is one that the log grows out of, however
//! the process ends.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::store::{Committed, ReadError, Store};
use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::id::NetworkId;
use tally_protocol::merkle::TreeHead;
use tally_protocol::message::Refusal;
use tally_protocol::message::log::{LOGGED_RECEIPTS_MAX, LogReply, LogRequest, LoggedEntry};
use tally_protocol::time::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::Shell;
use crate::clock;
use crate::error::chain;
use crate::network::Answer;

/// How often the head is gossiped at most.
const HEAD_EVERY: Duration = Duration::from_secs(5);
/// Questions that are answered at a time: each may take a thread and an entry of 1 MiB. More are told to come again.
const ANSWERS_MAX: usize = 32;

/// The head of the log, as far as others have heard of it.
#[derive(Debug)]
pub(super) struct Head {
    now: TreeHead,
    /// The size that was gossiped last.
    told: u64,
    /// It is not gossiped before this moment.
    tell_at: Timestamp,
    answering: Arc<Semaphore>,
}

impl Head {
    /// Starts with a log of which nobody has heard yet.
    pub(super) fn new(now: TreeHead) -> Self {
        Self {
            now,
            told: 0,
            tell_at: Timestamp::default(),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Notes what was committed.
    pub(super) const fn grown(&mut self, committed: &Committed) {
        self.now = TreeHead {
            size: committed.tree_size,
            root: committed.root,
        };
    }

    /// Returns where the log stands.
    pub(super) const fn current(&self) -> TreeHead {
        self.now
    }

    /// Returns when it is to be gossiped next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        (self.now.size > self.told).then_some(self.tell_at)
    }

    /// Returns the head if it is to be gossiped now.
    fn take_due(&mut self, now: Timestamp) -> Option<TreeHead> {
        self.due().filter(|at| *at <= now)?;
        self.told = self.now.size;
        self.tell_at = now + HEAD_EVERY;
        Some(self.now)
    }
}

impl Shell {
    /// Gossips the head if that is due.
    pub(super) fn tell_head(&mut self) {
        let Some(head) = self.head.take_due(clock::now()) else {
            return;
        };
        let parts = self.parts.clone();
        tokio::spawn(async move {
            let signed = VerifiedCheckpoint::sign(head, parts.network.network(), &parts.key);
            if let Err(error) = parts.network.publish_head(signed.signed().clone()).await {
                tracing::debug!("cannot gossip the head of the log: {error}");
            }
        });
    }

    /// Answers a question about the log on another thread.
    pub(super) fn answer_log(&self, request: LogRequest, answer: Answer<LogReply>) {
        let Ok(permit) = Arc::clone(&self.head.answering).try_acquire_owned() else {
            return answer.send(LogReply::Refused(Refusal::Busy));
        };
        let (store, key) = (Arc::clone(self.records.store()), self.parts.key.clone());
        let network = self.parts.network.network().clone();
        spawn_blocking(move || {
            let reply = reply(&store, request, (&network, &key)).unwrap_or_else(|error| {
                tracing::error!("cannot read the log: {}", chain(&error));
                LogReply::Refused(Refusal::Busy)
            });
            answer.send(reply);
            drop(permit);
        });
    }
}

fn reply(
    store: &Store,
    request: LogRequest,
    (network, key): (&NetworkId, &SigningKey),
) -> Result<LogReply, ReadError> {
    let unknown = LogReply::Refused(Refusal::UnknownEntry);
    Ok(match request {
        LogRequest::Head => LogReply::Head(sign(store, network, key)?),
        LogRequest::Consistency { from, to } => store
            .consistency(from, to)?
            .map_or(unknown, LogReply::Consistency),
        LogRequest::Inclusion { sequence, size } => {
            store.inclusion(sequence, size)?.map_or(unknown, |proved| {
                LogReply::Inclusion(LoggedEntry {
                    entry: proved.entry.bytes,
                    path: proved.path,
                })
            })
        }
        LogRequest::Receipts { device, after } => {
            LogReply::Receipts(store.receipts_of(device, after, LOGGED_RECEIPTS_MAX)?)
        }
    })
}

fn sign(
    store: &Store,
    network: &NetworkId,
    key: &SigningKey,
) -> Result<SignedCheckpoint, ReadError> {
    let head = store.head()?.head();
    let checkpoint = VerifiedCheckpoint::sign(head, network, key);
    Ok(checkpoint.signed().clone())
}

#[cfg(test)]
mod tests {
    use tally_protocol::id::Hash;

    use super::*;

    #[test]
    fn a_head_is_gossiped_when_it_has_grown_and_not_too_often() {
        let at = |millis: u64| Timestamp::from_millis(1_000_000 + millis);
        let committed = |tree_size| Committed {
            first_sequence: 0,
            tree_size,
            root: Hash::from_bytes([7; 32]),
            journal_end: 0,
        };
        let mut head = Head::new(TreeHead {
            size: 0,
            root: Hash::from_bytes([0; 32]),
        });
        assert_eq!(head.due(), None, "nothing to tell of an empty log");
        head.grown(&committed(3));
        assert_eq!(head.take_due(at(0)).unwrap().size, 3);
        assert_eq!(head.due(), None);
        head.grown(&committed(4));
        head.grown(&committed(5));
        assert_eq!(head.due(), Some(at(5_000)));
        assert_eq!(head.take_due(at(4_999)), None);
        assert_eq!(head.take_due(at(5_000)).unwrap().size, 5);
    }
}
