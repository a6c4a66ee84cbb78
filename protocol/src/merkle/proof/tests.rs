//! Proofs against the definitions of RFC 6962 and the vectors of Certificate Transparency.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::merkle::{leaf_hash, root};

/// `MTH(D[n])` of RFC 6962, section 2.1, for `n` > 0.
fn tree_hash(leaves: &[Hash]) -> Hash {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(largest_power_below(leaves.len()));
            node_hash(&tree_hash(left), &tree_hash(right))
        }
    }
}

/// `PATH(m, D[n])` of RFC 6962, section 2.1.1.
fn path(sequence: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(split);
    let (mut found, beside) = if sequence < split {
        (path(sequence, left), right)
    } else {
        (path(sequence - split, right), left)
    };
    found.push(tree_hash(beside));
    found
}

/// `SUBPROOF(m, D[n], b)` of RFC 6962, section 2.1.2.
fn subproof(from: usize, leaves: &[Hash], whole: Whole) -> Vec<Hash> {
    if from == leaves.len() {
        return match whole {
            Whole::Known => Vec::new(),
            Whole::Unknown => vec![tree_hash(leaves)],
        };
    }
    let split = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(split);
    let (mut found, beside) = if from <= split {
        (subproof(from, left, whole), right)
    } else {
        (subproof(from - split, right, Whole::Unknown), left)
    };
    found.push(tree_hash(beside));
    found
}

/// Whether a checker has the hash of the tree at hand.
#[derive(Clone, Copy)]
enum Whole {
    Known,
    Unknown,
}

fn largest_power_below(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn leaves(count: u64) -> Vec<Hash> {
    let leaf = |number: u64| leaf_hash(&number.to_be_bytes());
    (0..count).map(leaf).collect()
}

fn head(leaves: &[Hash]) -> TreeHead {
    TreeHead {
        size: leaves.len() as u64,
        root: root(leaves.iter().copied()),
    }
}

/// Reads spans as a store would: only complete subtrees.
fn hashes(spans: Vec<Span>, leaves: &[Hash]) -> Vec<Hash> {
    let place = |leaf: u64| usize::try_from(leaf).unwrap();
    let hash_of = |subtree: Subtree| {
        let range = place(subtree.start)..=place(subtree.last());
        assert_eq!(subtree.start % (1 << subtree.height), 0, "complete");
        Ok::<_, Infallible>(tree_hash(&leaves[range]))
    };
    let hash = |span: Span| span.hash(hash_of).unwrap();
    spans.into_iter().map(hash).collect()
}

#[test]
fn every_proof_of_small_trees_is_as_the_rfc_defines_it_and_holds() {
    let all = leaves(67);
    for size in 1..=all.len() {
        let (tree, size_u64) = (&all[..size], size as u64);
        for (sequence, leaf) in tree.iter().enumerate() {
            let spans = inclusion_spans(sequence as u64, size_u64).unwrap();
            let proof = hashes(spans, tree);
            assert_eq!(proof, path(sequence, tree), "{sequence} of {size}");
            let checked = verify_inclusion(*leaf, sequence as u64, &head(tree), &proof);
            assert_eq!(checked, Ok(()), "{sequence} of {size}");
        }
        for from in 1..=size {
            let spans = consistency_spans(from as u64, size_u64).unwrap();
            let proof = hashes(spans, tree);
            assert_eq!(
                proof,
                subproof(from, tree, Whole::Known),
                "{from} to {size}"
            );
            let checked = verify_consistency(&head(&all[..from]), &head(tree), &proof);
            assert_eq!(checked, Ok(()), "{from} to {size}");
        }
    }
}

#[test]
fn every_tree_begins_with_the_empty_one() {
    let (empty, some) = (head(&[]), head(&leaves(3)));
    assert_eq!(consistency_spans(0, 3), Some(Vec::new()));
    assert_eq!(verify_consistency(&empty, &some, &[]), Ok(()));
    assert_eq!(verify_consistency(&empty, &empty, &[]), Ok(()));
    let wrong = TreeHead {
        size: 0,
        root: some.root,
    };
    assert_eq!(
        verify_consistency(&wrong, &some, &[]),
        Err(ProofError::Root)
    );
    let more = verify_consistency(&empty, &some, &[some.root]);
    assert_eq!(more, Err(ProofError::Length { hashes: 1 }));
}

#[test]
fn there_is_no_proof_beyond_the_end_or_backwards() {
    for (from, to) in [
        (3, 3),
        (0, 0),
        (9, 3),
        (0, LEAVES_MAX + 1),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(inclusion_spans(from, to), None);
        let tree = TreeHead {
            size: to,
            root: leaf_hash(b""),
        };
        let checked = verify_inclusion(tree.root, from, &tree, &[]);
        assert_eq!(checked, Err(ProofError::Range { from, to }));
    }
    assert_eq!(consistency_spans(4, 3), None);
    assert_eq!(consistency_spans(1, LEAVES_MAX + 1), None);
    let (small, large) = (head(&leaves(3)), head(&leaves(4)));
    let checked = verify_consistency(&large, &small, &[]);
    assert_eq!(checked, Err(ProofError::Range { from: 4, to: 3 }));
}

/// A proof of Certificate Transparency's reference implementation: from, to, hashes.
type Known = (u64, u64, &'static [&'static str]);

const INCLUSION: [Known; 4] = [
    (0, 8, &[LEAF_1, NODE_2_3, NODE_4_7]),
    (5, 8, &[LEAF_4, NODE_6_7, NODE_0_3]),
    (2, 3, &[NODE_0_1]),
    (1, 5, &[LEAF_0, NODE_2_3, LEAF_4]),
];
const CONSISTENCY: [Known; 4] = [
    (1, 1, &[]),
    (1, 8, &[LEAF_1, NODE_2_3, NODE_4_7]),
    (6, 8, &[NODE_4_5, NODE_6_7, NODE_0_3]),
    (2, 5, &[NODE_2_3, LEAF_4]),
];
const LEAF_0: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const NODE_0_1: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
const NODE_2_3: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const NODE_4_5: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const NODE_6_7: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const NODE_0_3: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
const NODE_4_7: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
const ROOT_8: &str = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";

#[test]
fn known_proofs() {
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let all: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    assert_eq!(head(&all).root.to_string(), ROOT_8);
    let texts = |spans: Option<Vec<Span>>| -> Vec<String> {
        let found = hashes(spans.unwrap(), &all);
        found.iter().map(Hash::to_string).collect()
    };
    for (sequence, size, expected) in INCLUSION {
        assert_eq!(
            texts(inclusion_spans(sequence, size)),
            expected,
            "{sequence} of {size}"
        );
    }
    for (from, to, expected) in CONSISTENCY {
        assert_eq!(
            texts(consistency_spans(from, to)),
            expected,
            "{from} to {to}"
        );
    }
}

proptest! {
    #[test]
    fn proofs_and_look_ups_are_bounded_in_trees_of_any_size(
        size in 1..=LEAVES_MAX, at in any::<prop::sample::Index>(),
    ) {
        let half = usize::MAX >> 1;
        let below = u64::try_from(at.index(half)).unwrap() % size;
        for spans in [inclusion_spans(below, size), consistency_spans(below, size)] {
            let spans = spans.unwrap();
            prop_assert!(spans.len() <= PATH_MAX);
            let look_ups: usize = spans.iter().map(|span| span.subtrees().count()).sum();
            prop_assert!(look_ups <= 2 * PATH_MAX);
            for subtree in spans.iter().flat_map(|span| span.subtrees()) {
                prop_assert_eq!(subtree.start % (1 << subtree.height), 0);
                prop_assert!(subtree.last() < size);
            }
        }
    }

    #[test]
    fn a_proof_proves_nothing_else(
        size in 2..200_u64, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let tree = head(&all);
        let (sequence, elsewhere) = (one.index(all.len()), other.index(all.len()));
        let proof = path(sequence, &all);
        let check = |at: usize, path: &[Hash]| {
            verify_inclusion(all[sequence], at as u64, &tree, path)
        };
        prop_assert_eq!(check(elsewhere, &proof).is_ok(), elsewhere == sequence);
        prop_assert!(check(sequence, &proof[1..]).is_err());
        let longer = [&proof[..], &[tree.root]].concat();
        prop_assert!(check(sequence, &longer).is_err());
        let mut changed = proof.clone();
        changed[place.index(proof.len())] = tree.root;
        prop_assert!(check(sequence, &changed).is_err());
        let wrong = TreeHead { root: all[0], ..tree };
        prop_assert!(verify_inclusion(all[sequence], sequence as u64, &wrong, &proof).is_err());
    }

    #[test]
    fn a_tree_does_not_begin_with_another(
        size in 2..200_u64, one in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let from = 1 + one.index(all.len() - 1);
        let (old, new) = (head(&all[..from]), head(&all));
        let proof = subproof(from, &all, Whole::Known);
        prop_assert_eq!(verify_consistency(&old, &new, &proof), Ok(()));
        prop_assert!(verify_consistency(&old, &new, &proof[1..]).is_err());
        let longer = [&proof[..], &[new.root]].concat();
        prop_assert!(verify_consistency(&old, &new, &longer).is_err());
        let mut changed = proof.clone();
        changed[place.index(proof.len())] = leaf_hash(b"changed");
        prop_assert!(verify_consistency(&old, &new, &changed).is_err());
        // A history in which one entry is another one.
        let mut rewritten = all.clone();
        rewritten[one.index(from)] = leaf_hash(b"rewritten");
        let (forked, forked_proof) = (head(&rewritten), subproof(from, &rewritten, Whole::Known));
        prop_assert_eq!(verify_consistency(&old, &forked, &forked_proof), Err(ProofError::Root));
        prop_assert_eq!(verify_consistency(&old, &forked, &proof), Err(ProofError::Root));
    }
}
