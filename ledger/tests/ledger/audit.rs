//! What an audit finds. The file is tampered with below the ledger, which would never write such things.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redb::{Database, ReadableTable, WriteTransaction};
use tally_ledger::audit::{Finding, Problem, Report, verify};
use tally_ledger::store::Reader;
use tally_netsim::disk::Disk;
use tally_protocol::codec;
use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::{Hash, NodeId};
use tally_protocol::merkle::{self, Frontier, leaf_hash};
use tally_protocol::signed::Verified;
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use crate::support::{
    CREATED, ENTRIES, HEAD, NODES, accepted, commit, customer_key, ended, raw, signed, store,
    story, task, validated,
};

fn audit(disk: &Disk) -> Report {
    let mut told = Vec::new();
    let reader = Reader::on_backend(disk.clone()).unwrap();
    let report = verify(&reader, &mut |progress| told.push(progress)).unwrap();
    assert!(told.is_sorted_by_key(|progress| progress.done));
    report
}

fn found(disk: &Disk) -> (Option<u64>, Problem) {
    let Finding { sequence, problem } = audit(disk).finding.unwrap();
    (sequence, problem)
}

/// A log of the stories of three tasks: twelve entries.
fn sound() -> Disk {
    let disk = Disk::default();
    let open = store(&disk);
    for name in ["first", "second", "third"] {
        commit(&open, story(name));
    }
    drop(open);
    disk
}

/// A log that the ledger itself wrote, of events that no role would emit.
fn log_of(events: Vec<Event>) -> Disk {
    let disk = Disk::default();
    commit(&store(&disk), events);
    disk
}

fn tamper(disk: &Disk, write: impl FnOnce(&WriteTransaction)) {
    let database: Database = raw(disk);
    let transaction = database.begin_write().unwrap();
    write(&transaction);
    transaction.commit().unwrap();
}

fn entry_bytes(disk: &Disk) -> Vec<Vec<u8>> {
    let reader = Reader::on_backend(disk.clone()).unwrap();
    let entries = reader.entries(0..u64::MAX).unwrap();
    entries.map(|entry| entry.unwrap().bytes).collect()
}

/// Stores an entry in the place of the one that is there, or behind the last.
fn put_entry(disk: &Disk, sequence: u64, bytes: &[u8]) {
    let mut log: BTreeMap<u64, Vec<u8>> = (0..).zip(entry_bytes(disk)).collect();
    log.insert(sequence, bytes.to_vec());
    tamper(disk, |transaction| write_entries(transaction, &log));
}

/// Writes the entries anew, each as a run of its own.
fn write_entries(transaction: &WriteTransaction, log: &BTreeMap<u64, Vec<u8>>) {
    let mut entries = transaction.open_table(ENTRIES).unwrap();
    entries.retain(|_, _| false).unwrap();
    for (sequence, bytes) in log {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let run = [length.as_slice(), bytes].concat();
        entries.insert(sequence, run.as_slice()).unwrap();
    }
}

/// Changes a node of the tree where it is stored.
fn put_node(transaction: &WriteTransaction, index: u64, node: Hash) {
    let mut nodes = transaction.open_table(NODES).unwrap();
    let (start, mut run) = {
        let (start, run) = nodes.range(..=index).unwrap().next_back().unwrap().unwrap();
        (start.value(), run.value().to_vec())
    };
    let place = usize::try_from(index - start).unwrap() * 32;
    run[place..place + 32].copy_from_slice(node.as_bytes());
    nodes.insert(start, run.as_slice()).unwrap();
}

/// Writes a whole log with the tree that belongs to it, as somebody would who knows the format.
fn forge(disk: &Disk, log: &[Vec<u8>]) {
    let leaves: Vec<Hash> = log.iter().map(|bytes| leaf_hash(bytes)).collect();
    let mut head = Frontier::default();
    leaves.iter().for_each(|leaf| head.push(*leaf));
    tamper(disk, |transaction| {
        let entries = (0..).zip(log.iter().cloned()).collect();
        write_entries(transaction, &entries);
        let mut nodes = transaction.open_table(NODES).unwrap();
        nodes.retain(|_, _| false).unwrap();
        for (index, node) in (0..).zip(post_order(&leaves)) {
            nodes.insert(index, node.as_bytes().as_slice()).unwrap();
        }
        let stored = StoredHead {
            size: head.size(),
            subtrees: head.subtrees().to_vec(),
        };
        let mut table = transaction.open_table(HEAD).unwrap();
        let bytes = codec::to_bytes(&stored);
        table.insert("frontier", bytes.as_slice()).unwrap();
    });
}

#[derive(serde::Serialize)]
struct StoredHead {
    size: u64,
    subtrees: Vec<Hash>,
}

/// Returns the nodes in the order of the format document: each leaf, then the subtrees that it completes.
fn post_order(leaves: &[Hash]) -> Vec<Hash> {
    let subtrees_ending_at = |end: usize| {
        (0..=end.trailing_zeros())
            .map(move |level| merkle::root(leaves[end - (1 << level)..end].iter().copied()))
    };
    (1..=leaves.len()).flat_map(subtrees_ending_at).collect()
}

#[test]
fn a_log_that_was_never_touched_is_sound() {
    let disk = sound();
    let report = audit(&disk);
    assert!(report.is_sound());
    assert_eq!((report.entries, report.tasks, report.units), (12, 3, 15));
    assert_eq!(report.root, store(&disk).head().unwrap().root());
    assert_eq!(report.last_at, Some(CREATED));
    forge(&disk, &entry_bytes(&disk));
    assert_eq!(audit(&disk), report, "the tests know the format");
    assert!(audit(&log_of(Vec::new())).is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_flipped_bit_names_its_entry(entry in 0..12_usize, place in any::<prop::sample::Index>(), bit in 0..8) {
        let disk = sound();
        let mut bytes = entry_bytes(&disk).swap_remove(entry);
        let at = place.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        put_entry(&disk, entry as u64, &bytes);
        prop_assert_eq!(found(&disk), (Some(entry as u64), Problem::Leaf));
        prop_assert_eq!(audit(&disk).entries, entry as u64);
    }

    #[test]
    fn a_dropped_entry_is_missed(entry in 0..11_u64) {
        let disk = sound();
        let mut log: BTreeMap<u64, Vec<u8>> = (0..).zip(entry_bytes(&disk)).collect();
        log.remove(&entry);
        tamper(&disk, |transaction| write_entries(transaction, &log));
        prop_assert_eq!(found(&disk), (Some(entry), Problem::Missing));
    }

    #[test]
    fn swapped_entries_are_noticed_at_the_first(one in 0..12_usize, other in 0..12_usize) {
        prop_assume!(one != other);
        let disk = sound();
        let mut log = entry_bytes(&disk);
        log.swap(one, other);
        let first = one.min(other) as u64;
        for entry in [one, other] {
            put_entry(&disk, entry as u64, &log[entry]);
        }
        prop_assert_eq!(found(&disk), (Some(first), Problem::Leaf));
        forge(&disk, &log);
        let says = one.max(other) as u64;
        prop_assert_eq!(found(&disk), (Some(first), Problem::Misplaced { says }));
    }

    #[test]
    fn an_entry_that_was_replaced_with_its_leaf_is_noticed(entry in 0..12_u64) {
        let disk = sound();
        let mut bytes = entry_bytes(&disk).swap_remove(entry as usize);
        // The last byte of an entry belongs to an output, a signature or a length: it still decodes.
        *bytes.last_mut().unwrap() ^= 1;
        put_entry(&disk, entry, &bytes);
        let index = 2 * entry - u64::from(entry.count_ones());
        tamper(&disk, |transaction| put_node(transaction, index, leaf_hash(&bytes)));
        prop_assert!(!audit(&disk).is_sound());
    }
}

#[test]
fn a_run_that_is_cut_off_ends_the_log() {
    let disk = sound();
    tamper(&disk, |transaction| {
        let mut entries = transaction.open_table(ENTRIES).unwrap();
        let run = entries.get(4).unwrap().unwrap().value().to_vec();
        entries.insert(4, &run[..run.len() - 1]).unwrap();
    });
    assert_eq!(found(&disk), (Some(7), Problem::Missing));
}

#[test]
fn the_end_of_the_log_is_where_its_head_says() {
    let disk = sound();
    let open_end = entry_bytes(&disk);
    put_entry(&disk, 12, &open_end[3]);
    assert_eq!(found(&disk), (Some(12), Problem::BeyondTheEnd));
    let disk = sound();
    tamper(&disk, |transaction| {
        let mut table = transaction.open_table(HEAD).unwrap();
        table.remove("frontier").unwrap();
    });
    assert_eq!(found(&disk), (None, Problem::Head));
}

#[test]
fn a_head_of_other_entries_is_noticed() {
    let disk = sound();
    let other = StoredHead {
        size: 12,
        subtrees: vec![Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32])],
    };
    tamper(&disk, |transaction| {
        let mut table = transaction.open_table(HEAD).unwrap();
        let bytes = codec::to_bytes(&other);
        table.insert("frontier", bytes.as_slice()).unwrap();
    });
    let (sequence, problem) = found(&disk);
    assert_eq!(sequence, None);
    assert!(matches!(problem, Problem::Root { .. }));
}

#[test]
fn a_forged_log_must_still_make_sense() {
    let disk = sound();
    let mut log = entry_bytes(&disk);
    let mut entry: Entry = codec::from_bytes(&log[5], 1 << 20).unwrap();
    entry.at = Timestamp::from_millis(1);
    log[5] = codec::to_bytes(&entry);
    forge(&disk, &log);
    assert_eq!(
        found(&disk),
        (Some(5), Problem::TimeWentBack { before: CREATED })
    );
    log[5] = b"nonsense".to_vec();
    forge(&disk, &log);
    assert!(matches!(
        found(&disk),
        (Some(5), Problem::Undecodable { .. })
    ));
}

#[test]
fn nothing_is_said_twice() {
    let signed = signed(task("twice"));
    let task = signed.task_id();
    let [begin, end] = [accepted(&signed), ended(&signed)];
    let units = |range| validated(&signed, range);
    let cases = [
        (
            vec![begin.clone(), begin.clone()],
            Problem::AcceptedTwice { task },
        ),
        (
            vec![begin.clone(), units(0..5), units(4..6)],
            Problem::ValidatedTwice { task, unit: 4 },
        ),
        (
            vec![begin.clone(), units(999_999..1_000_001)],
            Problem::NoSuchUnit {
                task,
                unit: 1_000_000,
            },
        ),
        (
            vec![begin, end.clone(), end.clone()],
            Problem::EndedTwice { task },
        ),
        (vec![end], Problem::NotAccepted { task }),
        (vec![units(0..1)], Problem::NotAccepted { task }),
    ];
    for (events, problem) in cases {
        let last = events.len() as u64 - 1;
        assert_eq!(found(&log_of(events)), (Some(last), problem));
    }
}

#[test]
fn a_task_is_what_its_customer_signed() {
    let (one, other) = (signed(task("one")), signed(task("other")));
    let mixed = Event::TaskAccepted {
        task: one.task_id(),
        signed: other.signed().clone(),
    };
    let other_task = Problem::OtherTask {
        signed: other.task_id(),
    };
    assert_eq!(found(&log_of(vec![mixed])), (Some(0), other_task));

    let foreign = Verified::sign(task("one"), &"main".parse().unwrap(), &customer_key());
    let (_, problem) = found(&log_of(vec![accepted(&foreign)]));
    assert!(matches!(problem, Problem::Statement { .. }));

    let stolen = signed(Task {
        customer: NodeId::from_bytes([6; 32]),
        ..task("one")
    });
    let (_, problem) = found(&log_of(vec![accepted(&stolen)]));
    assert!(matches!(problem, Problem::OtherSigner { .. }));
}
