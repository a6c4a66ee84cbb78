//! Proofs from the stored nodes, checked by the rules of the RFC alone.

use proptest::prelude::*;
use tally_ledger::store::{Change, Draft, Store};
use tally_netsim::disk::Disk;
use tally_protocol::merkle::proof::{verify_consistency, verify_inclusion};
use tally_protocol::merkle::{Frontier, TreeHead, leaf_hash};

use crate::support::{CREATED, ended, signed, store, task};

/// A log of `size` entries, and its head at every size.
fn grown(size: usize) -> (Store, Vec<TreeHead>) {
    let open = store(&Disk::default());
    let task = signed(task("proved"));
    let event = || Draft::of(CREATED, ended(&task));
    let change = Change {
        events: std::iter::repeat_with(event).take(size).collect(),
        ..Change::default()
    };
    open.commit(change).unwrap();
    let mut edge = Frontier::default();
    let mut heads = vec![edge.head()];
    for entry in open.entries(0..u64::MAX).unwrap() {
        edge.push(leaf_hash(&entry.unwrap().bytes));
        heads.push(edge.head());
    }
    (open, heads)
}

#[test]
fn every_entry_and_every_growth_of_a_small_log_is_proved() {
    let (open, heads) = grown(40);
    for (size, tree) in (0_u64..).zip(&heads) {
        for sequence in 0..size {
            let proved = open.inclusion(sequence, size).unwrap().unwrap();
            assert_eq!(proved.entry, open.entry(sequence).unwrap().unwrap());
            let leaf = leaf_hash(&proved.entry.bytes);
            assert_eq!(verify_inclusion(leaf, sequence, tree, &proved.path), Ok(()));
        }
        for (from, smaller) in (0_u64..).zip(&heads[..=size as usize]) {
            let path = open.consistency(from, size).unwrap().unwrap();
            assert_eq!(verify_consistency(smaller, tree, &path), Ok(()));
        }
    }
}

#[test]
fn nothing_is_proved_beyond_the_end_of_the_log() {
    let (open, _) = grown(5);
    assert_eq!(open.inclusion(5, 5).unwrap(), None);
    assert_eq!(open.inclusion(0, 6).unwrap(), None);
    assert_eq!(open.inclusion(u64::MAX, u64::MAX).unwrap(), None);
    assert_eq!(open.consistency(3, 6).unwrap(), None);
    assert_eq!(open.consistency(4, 3).unwrap(), None);
    assert_eq!(open.consistency(0, u64::MAX).unwrap(), None);
    assert_eq!(open.consistency(5, 5).unwrap(), Some(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn a_proof_for_any_two_sizes_of_a_log_holds_for_them_alone(
        size in 2..600_usize, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
        entry in any::<prop::sample::Index>(),
    ) {
        let (open, heads) = grown(size);
        let (from, to) = (1 + one.index(size), 1 + other.index(size));
        let (from, to) = (from.min(to), from.max(to));
        let path = open.consistency(from as u64, to as u64).unwrap().unwrap();
        for (smaller, tree) in heads.iter().enumerate().skip(1).take(to) {
            let holds = verify_consistency(tree, &heads[to], &path).is_ok();
            prop_assert_eq!(holds, smaller == from, "{} to {}, shown for {}", from, to, smaller);
        }
        let sequence = entry.index(to) as u64;
        let proved = open.inclusion(sequence, to as u64).unwrap().unwrap();
        for other in 0..to as u64 {
            let leaf = leaf_hash(&open.entry(other).unwrap().unwrap().bytes);
            let holds = verify_inclusion(leaf, sequence, &heads[to], &proved.path).is_ok();
            prop_assert_eq!(holds, other == sequence);
        }
    }
}
