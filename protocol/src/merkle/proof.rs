//! Proofs over a tree (RFC 6962, section 2.1; RFC 9162, sections 2.1.3 and 2.1.4): that an entry stands in it, and that
//! one tree begins with another.
//!
//! A proof is a list of hashes, each over a [`Span`] of leaves. Which spans those are follows from the numbers alone,
//! so whoever stores the tree looks them up, and whoever checks knows how many there must be. A span that is not a
//! complete subtree, at most one in a proof, is put together from those that it consists of.
//!
//! Invariants: a proof has at most [`PATH_MAX`] hashes, and making one needs at most twice as many look-ups; checking
//! allocates nothing and takes one step for each hash.

use super::{Frontier, TreeHead, node_hash};
use crate::id::Hash;

/// The most leaves of a tree with proofs. No log gets there: it is a billion entries a second for three centuries.
pub const LEAVES_MAX: u64 = 1 << 63;
/// The most hashes of a proof: one for each level below [`LEAVES_MAX`], and the tree that is extended.
pub const PATH_MAX: usize = 64;

/// Why a proof does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is no such proof: an entry beyond the end, a tree that shrinks, or one that is too large.
    #[error("check a proof: no proof goes from {from} to {to}")]
    Range {
        /// The entry, or the size of the smaller tree.
        from: u64,
        /// The size of the tree.
        to: u64,
    },
    /// It has too many hashes or too few.
    #[error("check a proof: it has {hashes} hashes, which are too many or too few")]
    Length {
        /// How many it has.
        hashes: usize,
    },
    /// Its hashes do not give the root.
    #[error("check a proof: its hashes do not give the root")]
    Root,
}

/// A run of leaves whose tree is a node of a larger one: it starts at a multiple of its length rounded up to a power
/// of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u64,
    leaves: u64,
}

/// A complete subtree: a power of two of leaves, starting at a multiple of their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    /// Its first leaf.
    pub start: u64,
    /// Levels below its root: it has 2^height leaves.
    pub height: u32,
}

impl Subtree {
    /// Returns its last leaf.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.start + ((1 << self.height) - 1)
    }
}

impl Span {
    /// Returns the complete subtrees it consists of, the largest first, at most 63.
    pub fn subtrees(self) -> impl Iterator<Item = Subtree> {
        let (mut start, mut leaves) = (self.start, self.leaves);
        std::iter::from_fn(move || {
            let height = leaves.checked_ilog2()?;
            let subtree = Subtree { start, height };
            leaves -= 1 << height;
            start += 1 << height;
            Some(subtree)
        })
    }

    /// Returns its hash, given where the hash of each complete subtree is found.
    ///
    /// # Errors
    /// The first error of `hash_of`.
    pub fn hash<E>(self, hash_of: impl FnMut(Subtree) -> Result<Hash, E>) -> Result<Hash, E> {
        let subtrees = self.subtrees().map(hash_of).collect::<Result<_, E>>()?;
        let edge = Frontier::from_parts(self.leaves, subtrees);
        Ok(edge
            .expect("a subtree for each binary one of its length")
            .root())
    }
}

/// Returns the spans whose hashes prove that the entry `sequence` stands in the tree of `size` leaves, from its sibling
/// upwards; `None` if it cannot.
#[must_use]
pub fn inclusion_spans(sequence: u64, size: u64) -> Option<Vec<Span>> {
    if sequence >= size || size > LEAVES_MAX {
        return None;
    }
    let mut spans = Vec::new();
    let mut tree = Span {
        start: 0,
        leaves: size,
    };
    while let Some((left, right)) = tree.halves() {
        let (within, beside) = if sequence < right.start {
            (left, right)
        } else {
            (right, left)
        };
        spans.push(beside);
        tree = within;
    }
    spans.reverse();
    Some(spans)
}

/// Returns the spans whose hashes prove that the tree of `to` leaves begins with that of `from`, from the bottom
/// upwards; `None` if no tree does. Nothing needs to be shown of the empty tree, nor of one that did not grow.
#[must_use]
pub fn consistency_spans(from: u64, to: u64) -> Option<Vec<Span>> {
    if from > to || to > LEAVES_MAX {
        return None;
    }
    if from == 0 || from == to {
        return Some(Vec::new());
    }
    let mut spans = Vec::new();
    let mut tree = Span {
        start: 0,
        leaves: to,
    };
    while tree.start + tree.leaves != from {
        let (left, right) = tree
            .halves()
            .expect("a single leaf ends before the old tree, or at its end");
        let (within, beside) = if from <= right.start {
            (left, right)
        } else {
            (right, left)
        };
        spans.push(beside);
        tree = within;
    }
    // A checker has the hash of the whole old tree, not of a part of it.
    if tree.start > 0 {
        spans.push(tree);
    }
    spans.reverse();
    Some(spans)
}

impl Span {
    /// Splits at the largest power of two below its length; `None` for a single leaf.
    fn halves(self) -> Option<(Self, Self)> {
        let left = 1 << self.leaves.checked_sub(1)?.checked_ilog2()?;
        let right = Self {
            start: self.start + left,
            leaves: self.leaves - left,
        };
        let left = Self {
            start: self.start,
            leaves: left,
        };
        Some((left, right))
    }
}

/// Checks that the entry whose leaf hash is `leaf` stands at `sequence` in the tree (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError`], why `path` does not prove it.
pub fn verify_inclusion(
    leaf: Hash,
    sequence: u64,
    tree: &TreeHead,
    path: &[Hash],
) -> Result<(), ProofError> {
    if sequence >= tree.size || tree.size > LEAVES_MAX {
        return Err(ProofError::Range {
            from: sequence,
            to: tree.size,
        });
    }
    let length = ProofError::Length { hashes: path.len() };
    let (mut place, mut last, mut hash) = (sequence, tree.size - 1, leaf);
    for beside in path {
        if last == 0 {
            return Err(length);
        }
        if is_right(place) || place == last {
            hash = node_hash(beside, &hash);
            // A node without a sibling is its own parent.
            let levels = place.trailing_zeros().min(63);
            (place, last) = (place >> levels, last >> levels);
        } else {
            hash = node_hash(&hash, beside);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    (hash == tree.root).then_some(()).ok_or(ProofError::Root)
}

/// Checks that the tree `to` begins with the tree `from` (RFC 9162, section 2.1.4.2). Every tree begins with the empty
/// one, and with itself; of both there is nothing to show.
///
/// # Errors
/// [`ProofError`], why `path` does not prove it.
pub fn verify_consistency(from: &TreeHead, to: &TreeHead, path: &[Hash]) -> Result<(), ProofError> {
    if from.size > to.size || to.size > LEAVES_MAX {
        return Err(ProofError::Range {
            from: from.size,
            to: to.size,
        });
    }
    let length = ProofError::Length { hashes: path.len() };
    if from.size == 0 || from.size == to.size {
        let same = if from.size == 0 {
            from.root == Frontier::default().root()
        } else {
            from.root == to.root
        };
        let shown = path.is_empty().then_some(()).ok_or(length);
        return shown.and(same.then_some(()).ok_or(ProofError::Root));
    }
    // The largest subtree that ends both the old tree and a node of the new one. If it is the whole old tree, its
    // hash is known.
    let levels = from.size.trailing_zeros();
    let (mut place, mut last) = ((from.size - 1) >> levels, (to.size - 1) >> levels);
    let (start, rest) = if place == 0 {
        (&from.root, path)
    } else {
        path.split_first().ok_or(length)?
    };
    let (mut old, mut new) = (*start, *start);
    for beside in rest {
        if last == 0 {
            return Err(length);
        }
        if is_right(place) || place == last {
            old = node_hash(beside, &old);
            new = node_hash(beside, &new);
            let levels = place.trailing_zeros().min(63);
            (place, last) = (place >> levels, last >> levels);
        } else {
            new = node_hash(&new, beside);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    let proved = old == from.root && new == to.root;
    proved.then_some(()).ok_or(ProofError::Root)
}

/// Returns whether the node at this place of its level is the right child of its parent.
const fn is_right(place: u64) -> bool {
    place & 1 == 1
}

#[cfg(test)]
mod tests;
