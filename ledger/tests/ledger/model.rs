//! What a store should hold, in memory, and random work that both are given.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tally_ledger::store::{Change, CommitError, Draft, Row, Store};
use tally_netsim::chance::Chance;
use tally_netsim::disk::Disk;
use tally_protocol::entry::{Entry, Event};
use tally_protocol::merkle;
use tally_protocol::time::Timestamp;

use crate::support::{self, ended, signed, store, task, validated};

/// What a store should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    snapshot: Option<(u64, Vec<u8>)>,
    facts: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Something to do with a store.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Commit(Change),
    /// Write a snapshot that leaves so many facts in the journal.
    Snapshot(u64, Vec<u8>),
}

impl Work {
    pub(crate) fn random(chance: &mut Chance) -> Self {
        if chance.below(6) == 0 {
            let length = chance.below(9_000) as usize;
            return Self::Snapshot(chance.below(4), vec![chance.below(256) as u8; length]);
        }
        let mut change = Change::default();
        for _ in 0..chance.below(6) {
            let length = chance.below(700) as usize;
            change.facts.push(vec![chance.below(256) as u8; length]);
        }
        let task = signed(task("random"));
        for _ in 0..chance.below(20) {
            let at = Timestamp::from_millis(chance.below(1_000));
            let first = chance.below(1_000) as u32;
            let event = event(chance, &task, first);
            change.events.push(Draft::of(at, event));
        }
        for _ in 0..chance.below(10) {
            let (key, length) = (random_key(chance), chance.below(300) as usize);
            let value = vec![chance.below(256) as u8; length];
            change.puts.push(Row { key, value });
        }
        if chance.below(3) == 0 {
            change.removals.push(random_key(chance));
        }
        Self::Commit(change)
    }

    pub(crate) fn run(&self, store: &Store) -> Result<(), CommitError> {
        match self {
            Self::Commit(change) => store.commit(change.clone()).map(drop),
            Self::Snapshot(behind, bytes) => {
                let end = store.commit(Change::default())?.journal_end;
                let start = store.load().unwrap().snapshot.map_or(0, |old| old.up_to);
                store.write_snapshot(end.saturating_sub(*behind).max(start), bytes)
            }
        }
    }
}

fn event(
    chance: &mut Chance,
    task: &tally_protocol::signed::Verified<tally_protocol::task::Task>,
    first: u32,
) -> Event {
    if chance.below(5) == 0 {
        ended(task)
    } else {
        validated(task, first..first + 3)
    }
}

/// Returns one of few keys, many of which start with another.
fn random_key(chance: &mut Chance) -> Vec<u8> {
    (0..1 + chance.below(3))
        .map(|_| [0, 1, 0xff][chance.below(3) as usize])
        .collect()
}

impl Model {
    /// Does `work` as the store should.
    pub(crate) fn run(&mut self, work: &Work) {
        match work {
            Work::Commit(change) => self.commit(change),
            Work::Snapshot(behind, bytes) => {
                let start = self.snapshot.as_ref().map_or(0, |(up_to, _)| *up_to);
                let end = start + self.facts.len() as u64;
                let up_to = end.saturating_sub(*behind).max(start);
                self.facts.drain(..(up_to - start) as usize);
                self.snapshot = Some((up_to, bytes.clone()));
            }
        }
    }

    fn commit(&mut self, change: &Change) {
        self.facts.extend(change.facts.iter().cloned());
        for Draft { at, event, posting } in &change.events {
            let before = self
                .entries
                .last()
                .map_or(Timestamp::default(), |last| last.at);
            self.entries.push(Entry {
                sequence: self.entries.len() as u64,
                at: before.max(*at),
                event: event.clone(),
                posting: posting.clone(),
            });
        }
        for prefix in &change.removals {
            self.rows.retain(|key, _| !key.starts_with(prefix));
        }
        for row in &change.puts {
            self.rows.insert(row.key.clone(), row.value.clone());
        }
    }

    /// Reads what a store holds, and checks that its tree is the one over its entries.
    pub(crate) fn of(store: &Store) -> Self {
        let loaded = store.load().unwrap();
        let stored: Vec<_> = store
            .entries(0..u64::MAX)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let leaves = stored.iter().map(|entry| merkle::leaf_hash(&entry.bytes));
        let head = store.head().unwrap();
        assert_eq!(head.root(), merkle::root(leaves));
        assert_eq!(head.size(), stored.len() as u64);
        let rows = store.rows(b"").unwrap().map(Result::unwrap);
        Self {
            snapshot: loaded
                .snapshot
                .map(|snapshot| (snapshot.up_to, snapshot.bytes)),
            facts: loaded.facts.map(Result::unwrap).collect(),
            entries: stored.iter().map(|entry| entry.decode().unwrap()).collect(),
            rows: rows.map(|row| (row.key, row.value)).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_store_holds_what_the_model_holds(seed in any::<u32>(), steps in 1..25_usize) {
        let mut chance = Chance::new(u64::from(seed), "ledger", 0);
        let (disk, mut model) = (Disk::default(), Model::default());
        let mut open = store(&disk);
        for _ in 0..steps {
            let work = Work::random(&mut chance);
            work.run(&open).unwrap();
            model.run(&work);
            prop_assert_eq!(&Model::of(&open), &model);
            if chance.below(3) == 0 {
                drop(open);
                open = store(&disk);
                prop_assert_eq!(&Model::of(&open), &model);
            }
        }
    }
}

#[test]
fn a_commit_says_where_it_stands() {
    let open = store(&Disk::default());
    let empty = open.commit(Change::default()).unwrap();
    assert_eq!((empty.tree_size, empty.journal_end), (0, 0));
    support::commit(&open, support::story("first"));
    let committed = open
        .commit(Change {
            facts: vec![b"fact".to_vec(); 7],
            events: vec![Draft::of(
                Timestamp::default(),
                support::story("second").remove(0),
            )],
            ..Change::default()
        })
        .unwrap();
    assert_eq!(committed.first_sequence, 4);
    assert_eq!(committed.tree_size, 5);
    assert_eq!(committed.journal_end, 7);
    assert_eq!(committed.root, open.head().unwrap().root());
    // The second event was dated before the first task: the log's time does not follow.
    let last = open.entry(4).unwrap().unwrap().decode().unwrap();
    assert_eq!(last.at, support::CREATED);
}

#[test]
fn rows_are_read_by_prefix_from_either_end() {
    let open = store(&Disk::default());
    let row = |key: &[u8]| Row {
        key: key.to_vec(),
        value: key.to_vec(),
    };
    let keys: [&[u8]; 5] = [b"\x01", b"\x02a", b"\x02ab", b"\x02b", b"\x03"];
    open.commit(Change {
        puts: keys.iter().map(|key| row(key)).collect(),
        ..Change::default()
    })
    .unwrap();
    let found = |prefix: &[u8]| -> Vec<Vec<u8>> {
        let rows = open.rows(prefix).unwrap();
        rows.map(|row| row.unwrap().key).collect()
    };
    assert_eq!(found(b"\x02"), keys[1..4]);
    assert_eq!(found(b"\x02a"), keys[1..3]);
    assert_eq!(found(b"\x04"), Vec::<Vec<u8>>::new());
    let last = open.rows(b"\x02").unwrap().next_back().unwrap().unwrap();
    assert_eq!(last, row(b"\x02b"));
    let behind = open.rows_in(&(b"\x02ab".to_vec()..)).unwrap();
    assert_eq!(behind.count(), 3);
    assert_eq!(open.row(b"\x02ab").unwrap(), Some(b"\x02ab".to_vec()));
    assert_eq!(open.row(b"\x02abc").unwrap(), None);
}
