//! The RFC 6962 tree as it is stored: every complete node once, in post-order.
//!
//! A leaf is followed by the inner nodes that it completes, so a growing tree only ever appends: leaf `n` stands at
//! [`node_count`]`(n)`, and a tree of `n` leaves has [`node_count`]`(n)` nodes. Any complete subtree is one look-up,
//! which is what inclusion and consistency proofs are made of.

use tally_protocol::id::Hash;
use tally_protocol::merkle::proof::Subtree;
use tally_protocol::merkle::{Frontier, node_hash};

/// The right edge of a tree that grows, telling each node that it completes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Tree {
    pub(crate) fn of(frontier: &Frontier) -> Self {
        Self {
            size: frontier.size(),
            subtrees: frontier.subtrees().to_vec(),
        }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf, and to `nodes` every node that this completes: the leaf, then its ancestors upwards.
    pub(crate) fn push(&mut self, leaf: Hash, nodes: &mut Vec<Hash>) {
        let mut node = leaf;
        nodes.push(node);
        for _ in 0..self.size.trailing_ones() {
            let left = self
                .subtrees
                .pop()
                .expect("a subtree for each binary one of the size");
            node = node_hash(&left, &node);
            nodes.push(node);
        }
        self.subtrees.push(node);
        self.size = self
            .size
            .checked_add(1)
            .expect("a log has fewer than 2^64 entries");
    }

    pub(crate) fn frontier(&self) -> Frontier {
        Frontier::from_parts(self.size, self.subtrees.clone())
            .expect("a subtree for each binary one of the size")
    }
}

/// Returns how many complete nodes a tree of `size` leaves has.
pub(crate) fn node_count(size: u64) -> u64 {
    size.checked_mul(2)
        .and_then(|both| both.checked_sub(u64::from(size.count_ones())))
        .expect("a log has fewer than 2^63 entries")
}

/// Returns where the root of a complete subtree stands: behind its last leaf, after the roots of the smaller subtrees
/// that this leaf completes.
pub(crate) fn node_index(subtree: Subtree) -> u64 {
    node_count(subtree.last())
        .checked_add(u64::from(subtree.height))
        .expect("a log has fewer than 2^63 nodes")
}

#[cfg(test)]
mod tests {
    use tally_protocol::merkle::leaf_hash;

    use super::*;

    #[test]
    fn grows_like_the_frontier_and_appends_each_complete_node_once() {
        let (mut tree, mut frontier, mut nodes) =
            (Tree::default(), Frontier::default(), Vec::new());
        for number in 0_u64..200 {
            assert_eq!(nodes.len() as u64, node_count(number));
            let leaf = leaf_hash(&number.to_be_bytes());
            tree.push(leaf, &mut nodes);
            frontier.push(leaf);
            assert_eq!(tree.frontier(), frontier);
            assert_eq!(Tree::of(&frontier), tree);
            // The node stored last closes the smallest complete subtree.
            assert_eq!(nodes.last(), frontier.subtrees().last());
        }
    }

    #[test]
    fn a_complete_subtree_stands_where_its_index_says() {
        let (mut tree, mut nodes) = (Tree::default(), Vec::new());
        let leaf = |number: u64| leaf_hash(&number.to_be_bytes());
        (0..64).for_each(|number| tree.push(leaf(number), &mut nodes));
        for height in 0..=6 {
            for start in (0..64).step_by(1 << height) {
                let subtree = Subtree { start, height };
                let root = tally_protocol::merkle::root((start..=subtree.last()).map(leaf));
                let index = usize::try_from(node_index(subtree)).unwrap();
                assert_eq!(nodes.get(index), Some(&root));
            }
        }
    }
}
