//! Merkle trees as in RFC 6962, section 2.1: SHA-256, leaves and inner nodes told apart by their first byte.

pub mod proof;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::Hash;

/// What stands for a whole tree: two trees with the same head have the same leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Returns the hash of a leaf: `SHA-256(0x00 || bytes)`.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Hash::from_bytes(
        Sha256::new()
            .chain_update([0])
            .chain_update(bytes)
            .finalize()
            .into(),
    )
}

/// Returns the hash of an inner node: `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let both = Sha256::new()
        .chain_update([1])
        .chain_update(left.as_bytes())
        .chain_update(right.as_bytes());
    Hash::from_bytes(both.finalize().into())
}

/// Returns the root of the tree over `leaves`.
pub fn root(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf);
    }
    frontier.root()
}

/// The right edge of a growing tree: the roots of its complete subtrees, from the largest to the smallest. Enough
/// to append and to know the root, with at most 64 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Takes the edge of a tree of `size` leaves; `None` unless there is one subtree for each binary one of `size`.
    #[must_use]
    pub fn from_parts(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// Returns the roots of the complete subtrees, the largest first.
    #[must_use]
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// Returns the number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns what stands for the tree.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self
                .subtrees
                .pop()
                .expect("a subtree for each binary one of the size");
            node = node_hash(&left, &node);
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// Returns the root; the hash of nothing for an empty tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let join = |right: Hash, left: &Hash| node_hash(left, &right);
        match self.subtrees.split_last() {
            None => Hash::from_bytes(Sha256::digest([]).into()),
            Some((last, larger)) => larger.iter().rev().fold(*last, join),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::from_bytes(Sha256::digest([]).into()),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node_hash(&defined(&leaves[..split]), &defined(&leaves[split..]))
            }
        }
    }

    #[test]
    fn roots_are_as_the_rfc_defines_them() {
        let leaves: Vec<Hash> = (0_u8..70).map(|number| leaf_hash(&[number])).collect();
        for count in 0..leaves.len() {
            assert_eq!(
                root(leaves[..count].iter().copied()),
                defined(&leaves[..count]),
                "{count} leaves"
            );
        }
    }

    #[test]
    fn known_roots() {
        // The test vectors of Certificate Transparency's reference implementation.
        let leaves: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        ];
        for (count, expected) in roots.iter().enumerate() {
            let found = root(leaves[..=count].iter().map(|leaf| leaf_hash(leaf)));
            assert_eq!(found.to_string(), *expected);
        }
    }

    #[test]
    fn a_frontier_continues_from_its_parts() {
        let mut whole = Frontier::default();
        for number in 0_u8..11 {
            whole.push(leaf_hash(&[number]));
        }
        let read = Frontier::from_parts(whole.size(), whole.subtrees().to_vec()).unwrap();
        assert_eq!(read, whole);
        assert_eq!(Frontier::from_parts(4, whole.subtrees().to_vec()), None);
    }
}
