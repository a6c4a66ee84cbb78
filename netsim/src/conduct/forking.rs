//! A coordinator with two logs: one half of the nodes is shown another than the other half.

use std::num::TryFromIntError;

use tally_ledger::store::Store;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::id::Hash;
use tally_protocol::merkle::proof::{Span, consistency_spans, inclusion_spans};
use tally_protocol::merkle::{self, TreeHead, leaf_hash};
use tally_protocol::message::log::{LogReply, LogRequest, LoggedEntry};

use super::{Conduct, Me};
use crate::chance::Chance;
use crate::peer::Peer;

/// The entry that is another one in the other log; those before it are the same.
const FORKED_AT: u64 = 6;

/// Gossips now the head of the one log, now that of the other. What nodes with odd numbers ask is answered by the other
/// log, with proofs that hold there: whoever hears nobody else finds nothing wrong.
#[derive(Debug, Default)]
pub(super) struct Forking {
    /// The leaves of the other log: as many as the true one has, a hash each.
    leaves: Vec<Hash>,
}

impl Forking {
    /// Reads what the true log has got since.
    fn follow(&mut self, store: &Store) {
        let read = "a store that opens can be read";
        let (known, size) = (self.leaves.len() as u64, store.head().expect(read).size());
        let entries = store.entries(known..size).expect(read);
        for (sequence, entry) in (known..).zip(entries) {
            let leaf = leaf_hash(&entry.expect(read).bytes);
            let other = leaf_hash(b"this never happened");
            let is_other = sequence == FORKED_AT;
            self.leaves.push(if is_other { other } else { leaf });
        }
    }

    /// Returns the head of the other log; none as long as there is one log only.
    fn head(&self) -> Option<TreeHead> {
        let size = self.leaves.len() as u64;
        let root = merkle::root(self.leaves.iter().copied());
        (size > FORKED_AT).then_some(TreeHead { size, root })
    }

    fn sign(&self, me: &Me<'_>) -> Option<VerifiedCheckpoint> {
        Some(VerifiedCheckpoint::sign(self.head()?, me.network, me.key))
    }

    /// Returns the hashes of these spans of the other log.
    fn path(&self, spans: Option<Vec<Span>>) -> Option<Vec<Hash>> {
        let of_span = |span: Span| {
            span.hash(|subtree| {
                let first = usize::try_from(subtree.start)?;
                let last = usize::try_from(subtree.last())?;
                // Proofs are only made of the log that there is, which has as many entries.
                let leaves = self.leaves.get(first..=last).unwrap_or_default();
                Ok(merkle::root(leaves.iter().copied()))
            })
        };
        let hashes: Result<Vec<Hash>, TryFromIntError> = spans?.into_iter().map(of_span).collect();
        hashes.ok()
    }
}

impl Conduct for Forking {
    fn tell_head(
        &mut self,
        head: &mut VerifiedCheckpoint,
        (store, me): (&Store, &Me<'_>),
        chance: &mut Chance,
    ) -> Option<&'static str> {
        self.follow(store);
        if chance.happens(0.5) {
            return None;
        }
        *head = self.sign(me)?;
        Some("gossips the head of another log")
    }

    fn tell_log(
        &mut self,
        reply: &mut LogReply,
        (asked, by): (&LogRequest, Peer),
        (store, me): (&Store, &Me<'_>),
    ) -> Option<&'static str> {
        if by.0.is_multiple_of(2) {
            return None;
        }
        self.follow(store);
        let head = self.sign(me)?;
        let (other, how) = match (asked, &*reply) {
            (LogRequest::Head, _) => (
                LogReply::Head(head.signed().clone()),
                "tells the head of another log",
            ),
            (LogRequest::Consistency { from, to }, LogReply::Consistency(_)) => (
                LogReply::Consistency(self.path(consistency_spans(*from, *to))?),
                "proves that another log has grown",
            ),
            (LogRequest::Inclusion { sequence, size }, LogReply::Inclusion(logged)) => (
                LogReply::Inclusion(LoggedEntry {
                    entry: logged.entry.clone(),
                    path: self.path(inclusion_spans(*sequence, *size))?,
                }),
                "proves an entry of another log",
            ),
            _ => return None,
        };
        *reply = other;
        Some(how)
    }
}
