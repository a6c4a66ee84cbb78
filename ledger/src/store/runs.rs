//! The log as rows: each holds a run of neighbours, not one entry or one node.
//!
//! What a commit costs is the number of pages that it changes, and what a store costs to open again grows with the pages
//! that it has. Entries of receipts have about 1.5 KiB: alone, two of them go to a page of 4 KiB and a quarter of it stays
//! empty. So the entries of one commit are written behind each other, cut into runs that fill a page of redb, whose sizes
//! are powers of two; its nodes too. A commit of one entry is a run of one.
//!
//! Invariants: a run is written once and never changed, and lies within one commit; its key is the place of its first
//! element, so element `n` stands in the last run that does not begin behind `n`.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use redb::{ReadOnlyTable, Table, TableDefinition};
use tally_protocol::id::Hash;

use super::{ReadError, StoredEntry};

/// Runs of entries by the sequence of the first: of each entry 4 bytes with its length, the most significant first, and
/// its bytes.
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Runs of complete nodes of the tree over the entries, in post-order, by the place of the first: 32 bytes each.
pub(super) const NODES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("nodes");

/// A run ends before an entry that would make it longer: with what redb adds it has 32 KiB, of which a longer run than
/// one entry wastes little and a proof reads little. An entry that is longer is a run of its own.
const ENTRIES_BYTES_MAX: usize = (32 << 10) - 64;
/// Nodes of a run at most: with what redb adds it has 16 KiB, as a commit of 256 entries needs.
const NODES_MAX: usize = 511;
/// Bytes of a node.
const NODE_BYTES: usize = 32;

/// Appends entries, the first of which has sequence `first`.
pub(super) fn write_entries(
    table: &mut Table<'_, u64, &'static [u8]>,
    first: u64,
    entries: &[Vec<u8>],
) -> Result<(), redb::Error> {
    let (mut start, mut run) = (first, Vec::with_capacity(ENTRIES_BYTES_MAX));
    for (sequence, bytes) in (first..).zip(entries) {
        let length = u32::try_from(bytes.len()).expect("an entry has at most 1 MiB");
        let longer = run.len().saturating_add(4).saturating_add(bytes.len());
        if !run.is_empty() && longer > ENTRIES_BYTES_MAX {
            table.insert(start, run.as_slice())?;
            run.clear();
            start = sequence;
        }
        run.extend_from_slice(&length.to_be_bytes());
        run.extend_from_slice(bytes);
    }
    if !run.is_empty() {
        table.insert(start, run.as_slice())?;
    }
    Ok(())
}

/// Appends nodes, the first of which has place `first` in post-order.
pub(super) fn write_nodes(
    table: &mut Table<'_, u64, &'static [u8]>,
    first: u64,
    nodes: &[Hash],
) -> Result<(), redb::Error> {
    for (start, run) in (first..).step_by(NODES_MAX).zip(nodes.chunks(NODES_MAX)) {
        let run: Vec<u8> = run.iter().flat_map(Hash::as_bytes).copied().collect();
        table.insert(start, run.as_slice())?;
    }
    Ok(())
}

/// Runs of a table.
type Runs = ReadOnlyTable<u64, &'static [u8]>;

/// Returns an entry; none beyond the end of the log.
pub(super) fn entry(table: &Runs, sequence: u64) -> Result<Option<StoredEntry>, ReadError> {
    let Some(run) = table.range(..=sequence)?.next_back() else {
        return Ok(None);
    };
    let (start, run) = run?;
    for (found, bytes) in (start.value()..).zip(EntriesOfRun(run.value())) {
        let bytes = bytes?;
        if found == sequence {
            let bytes = bytes.to_vec();
            return Ok(Some(StoredEntry { sequence, bytes }));
        }
    }
    Ok(None)
}

/// Returns a node; none beyond the end of the tree.
pub(super) fn node(table: &Runs, index: u64) -> Result<Option<Hash>, ReadError> {
    let Some(run) = table.range(..=index)?.next_back() else {
        return Ok(None);
    };
    let (start, run) = run?;
    let nodes = nodes_of(run.value())?;
    let place = index.checked_sub(start.value());
    let place = place.and_then(|place| usize::try_from(place).ok());
    let node = place.and_then(|place| nodes.get(place));
    Ok(node.map(|node| Hash::from_bytes(*node)))
}

/// The entries of a run.
struct EntriesOfRun<'a>(&'a [u8]);

impl<'a> Iterator for EntriesOfRun<'a> {
    type Item = Result<&'a [u8], ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let bytes = rest.split_first_chunk().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        Some(match bytes {
            Some((bytes, rest)) => {
                self.0 = rest;
                Ok(bytes)
            }
            None => Err(ReadError::Damaged {
                what: "a run of entries is cut off",
            }),
        })
    }
}

fn nodes_of(run: &[u8]) -> Result<&[[u8; NODE_BYTES]], ReadError> {
    let (nodes, rest) = run.as_chunks();
    if rest.is_empty() {
        return Ok(nodes);
    }
    Err(ReadError::Damaged {
        what: "a run of nodes is cut off",
    })
}

/// Rows of a table of runs, which keep the state that they were opened on.
type Scan = redb::Range<'static, u64, &'static [u8]>;
/// One of them.
type Row = <Scan as Iterator>::Item;

/// Entries of the log in order, from either end, a run in memory at a time.
pub struct Entries {
    runs: Scan,
    range: Range<u64>,
    front: VecDeque<Result<StoredEntry, ReadError>>,
    back: VecDeque<Result<StoredEntry, ReadError>>,
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entries")
    }
}

impl Entries {
    pub(super) fn of(table: &Runs, range: Range<u64>) -> Result<Self, ReadError> {
        // The first entry may stand within a run. redb refuses a range that ends before it starts.
        let run = table.range(..=range.start)?.next_back().transpose()?;
        let start = run.map_or(range.start, |(start, _)| start.value());
        Ok(Self {
            runs: table.range(start.min(range.end)..range.end)?,
            range,
            front: VecDeque::new(),
            back: VecDeque::new(),
        })
    }

    /// Returns the entries of a run that are in the range.
    fn split(&self, row: Row) -> VecDeque<Result<StoredEntry, ReadError>> {
        let (start, run) = match row {
            Ok(row) => row,
            Err(error) => return VecDeque::from([Err(error.into())]),
        };
        let entries = (start.value()..).zip(EntriesOfRun(run.value()));
        let entries = entries.filter(|(sequence, _)| self.range.contains(sequence));
        let stored = entries.map(|(sequence, bytes)| {
            let bytes = bytes?.to_vec();
            Ok(StoredEntry { sequence, bytes })
        });
        stored.collect()
    }
}

impl Iterator for Entries {
    type Item = Result<StoredEntry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.front.is_empty() {
            let Some(row) = self.runs.next() else {
                return self.back.pop_front();
            };
            self.front = self.split(row);
        }
        self.front.pop_front()
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.back.is_empty() {
            let Some(row) = self.runs.next_back() else {
                return self.front.pop_back();
            };
            self.back = self.split(row);
        }
        self.back.pop_back()
    }
}

/// All nodes of the tree in post-order, with their places.
pub(crate) struct Nodes {
    runs: Scan,
    front: VecDeque<(u64, Hash)>,
}

impl Nodes {
    pub(super) fn of(table: &Runs) -> Result<Self, ReadError> {
        Ok(Self {
            runs: table.range::<u64>(..)?,
            front: VecDeque::new(),
        })
    }
}

impl Iterator for Nodes {
    type Item = Result<(u64, Hash), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.front.is_empty() {
            let (start, run) = match self.runs.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error.into())),
            };
            match nodes_of(run.value()) {
                Ok(nodes) => {
                    let hashes = nodes.iter().map(|node| Hash::from_bytes(*node));
                    self.front = (start.value()..).zip(hashes).collect();
                }
                Err(error) => return Some(Err(error)),
            }
        }
        self.front.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};

    use super::*;

    fn database(commits: &[Vec<usize>]) -> (Database, Vec<Vec<u8>>, Vec<Hash>) {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.unwrap();
        let (mut log, mut tree) = (Vec::new(), Vec::new());
        for lengths in commits {
            let byte = |place: usize| u8::try_from(place % 251).unwrap();
            let (first, start) = (log.len(), tree.len());
            for length in lengths {
                log.push(vec![byte(log.len()); *length]);
                tree.extend([Hash::from_bytes([byte(tree.len()); 32]); 2]);
            }
            let write = database.begin_write().unwrap();
            let mut entries = write.open_table(ENTRIES).unwrap();
            write_entries(&mut entries, first as u64, &log[first..]).unwrap();
            let mut nodes = write.open_table(NODES).unwrap();
            write_nodes(&mut nodes, start as u64, &tree[start..]).unwrap();
            drop((entries, nodes));
            write.commit().unwrap();
        }
        (database, log, tree)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_in_runs_is_read_one_by_one(
            commits in prop::collection::vec(prop::collection::vec(0..20_000_usize, 1..300), 1..4),
            (from, to) in (0..700_u64, 0..700_u64),
        ) {
            let (database, log, tree) = database(&commits);
            let read = database.begin_read().unwrap();
            let (entries, nodes) = (read.open_table(ENTRIES).unwrap(), read.open_table(NODES).unwrap());
            for (sequence, bytes) in (0..).zip(&log) {
                prop_assert_eq!(&entry(&entries, sequence).unwrap().unwrap().bytes, bytes);
            }
            prop_assert!(entry(&entries, log.len() as u64).unwrap().is_none());
            for (index, hash) in (0..).zip(&tree) {
                prop_assert_eq!(node(&nodes, index).unwrap(), Some(*hash));
            }
            prop_assert!(node(&nodes, tree.len() as u64).unwrap().is_none());
            let all: Vec<(u64, Hash)> = Nodes::of(&nodes).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(all, (0..).zip(tree).collect::<Vec<_>>());

            let sequences = |from: u64| -> Vec<u64> { (from..to.min(log.len() as u64)).collect() };
            let found = Entries::of(&entries, from..to).unwrap();
            let found: Vec<u64> = found.map(|entry| entry.unwrap().sequence).collect();
            prop_assert_eq!(found, sequences(from));
            let back = Entries::of(&entries, from..to).unwrap().rev();
            let back: Vec<u64> = back.map(|entry| entry.unwrap().sequence).collect();
            prop_assert_eq!(back, sequences(from).into_iter().rev().collect::<Vec<_>>());
            let mut both = Entries::of(&entries, from..to).unwrap();
            let mut left = sequences(from).into_iter();
            while let Some(expected) = left.next() {
                prop_assert_eq!(both.next().unwrap().unwrap().sequence, expected);
                let last = both.next_back().map(|entry| entry.unwrap().sequence);
                prop_assert_eq!(last, left.next_back());
            }
            prop_assert!(both.next().is_none());
        }
    }

    #[test]
    fn a_run_that_is_cut_off_is_damaged() {
        let mut entries = EntriesOfRun(&[0, 0, 0, 1, 7, 0, 0, 0, 2, 7]);
        assert_eq!(entries.next().unwrap().unwrap(), [7]);
        assert!(entries.next().unwrap().is_err());
        assert!(entries.next().is_none());
        assert!(nodes_of(&[0; 33]).is_err());
    }
}
