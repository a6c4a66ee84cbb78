//! Proofs over the log: that an entry stands in it, and that it has only ever grown.
//!
//! A proof is made of the stored nodes, whatever the size of the log was that it is for: a look-up for each complete
//! subtree that it needs, at most twice as many as a proof has hashes. It is checked by [`tally_protocol::merkle::proof`].

use tally_protocol::id::Hash;
use tally_protocol::merkle::proof::{Span, Subtree, consistency_spans, inclusion_spans};
use tally_protocol::merkle::{Frontier, TreeHead};

use crate::store::{Log, ReadError, Reader, StoredEntry};
use crate::tree::node_index;

/// An entry with the proof that it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedEntry {
    /// The entry.
    pub entry: StoredEntry,
    /// Hashes from its sibling up to the child of the root.
    pub path: Vec<Hash>,
}

impl Reader {
    /// Returns the entry with this sequence and the proof that it stands in the log of `size` entries; `None` if it does
    /// not, or if the log has not grown to that size yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inclusion(&self, sequence: u64, size: u64) -> Result<Option<ProvedEntry>, ReadError> {
        let log = self.log()?;
        let Some(spans) = inclusion_spans(sequence, size) else {
            return Ok(None);
        };
        if size > log.head()?.size() {
            return Ok(None);
        }
        let entry = log.entry(sequence)?.ok_or(ReadError::Damaged {
            what: "an entry of the log is missing",
        })?;
        let path = hashes(&log, spans)?;
        Ok(Some(ProvedEntry { entry, path }))
    }

    /// Returns the proof that the log of `to` entries begins with that of `from`; `None` if `from` is the larger one,
    /// or if the log has not grown to `to` yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn consistency(&self, from: u64, to: u64) -> Result<Option<Vec<Hash>>, ReadError> {
        let log = self.log()?;
        let Some(spans) = consistency_spans(from, to) else {
            return Ok(None);
        };
        if to > log.head()?.size() {
            return Ok(None);
        }
        hashes(&log, spans).map(Some)
    }
}

impl Log {
    /// Returns the tree over the first `size` entries; `None` if the log has not grown to that size yet.
    pub(crate) fn head_at(&self, size: u64) -> Result<Option<TreeHead>, ReadError> {
        if size > self.head()?.size() {
            return Ok(None);
        }
        let (mut start, mut subtrees) = (0_u64, Vec::new());
        for height in (0..u64::BITS).rev().filter(|bit| size >> bit & 1 == 1) {
            let index = node_index(Subtree { start, height });
            subtrees.push(self.node(index)?.ok_or(ReadError::Damaged {
                what: "a node of the tree is missing",
            })?);
            start |= 1 << height;
        }
        let edge = Frontier::from_parts(size, subtrees);
        Ok(edge.map(|edge| edge.head()))
    }
}

fn hashes(log: &Log, spans: Vec<Span>) -> Result<Vec<Hash>, ReadError> {
    let node = |subtree: Subtree| {
        let index = node_index(subtree);
        log.node(index)?.ok_or(ReadError::Damaged {
            what: "a node of the tree is missing",
        })
    };
    let hash = |span: Span| span.hash(node);
    spans.into_iter().map(hash).collect()
}
