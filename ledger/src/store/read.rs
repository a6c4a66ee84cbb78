//! Reading the tables. Each call sees one state of them, whatever is committed meanwhile.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};

use redb::{
    AccessGuard, Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    StorageError, TableError, TransactionError,
};
use tally_protocol::codec::{self, DecodeError};
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry};
use tally_protocol::id::Hash;
use tally_protocol::merkle::Frontier;
use tally_protocol::time::Timestamp;

use super::{
    Entries, HEAD, HEAD_BYTES_MAX, HEAD_KEY, Identity, JOURNAL, Nodes, Projection, ROWS, Row,
    SNAPSHOT, StoredHead, runs,
};
use crate::tree::node_count;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or the file failed.
    #[error("read the ledger")]
    Storage(#[source] redb::Error),
    /// The tables contradict each other.
    #[error("read the ledger: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// What is stored is not what belongs there.
    #[error("read the ledger: what is stored is not what belongs there")]
    Undecodable(#[from] DecodeError),
}

impl ReadError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Storage(_) => "check the disk and open the ledger again",
            Self::Damaged { .. } | Self::Undecodable(_) => {
                "`tally ledger verify` names the first bad entry; restore the ledger from a backup"
            }
        }
    }
}

impl From<redb::Error> for ReadError {
    fn from(error: redb::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.into())
    }
}

impl From<TableError> for ReadError {
    fn from(error: TableError) -> Self {
        Self::Storage(error.into())
    }
}

impl From<TransactionError> for ReadError {
    fn from(error: TransactionError) -> Self {
        Self::Storage(error.into())
    }
}

/// The tables of a node, to be read.
#[derive(Debug)]
pub struct Reader {
    handle: Handle,
    identity: Identity,
    created: Timestamp,
}

/// How the file is open.
pub(super) enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writable(_) => "Writable",
            Self::ReadOnly(_) => "ReadOnly",
        })
    }
}

impl Handle {
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        match self {
            Self::Writable(database) => database.begin_read(),
            Self::ReadOnly(database) => database.begin_read(),
        }
    }
}

impl Reader {
    pub(super) const fn new(handle: Handle, identity: Identity, created: Timestamp) -> Self {
        Self {
            handle,
            identity,
            created,
        }
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, ReadError> {
        Ok(self.handle.begin_read()?)
    }

    pub(super) fn writable(&self) -> &Database {
        match &self.handle {
            Handle::Writable(database) => database,
            Handle::ReadOnly(_) => unreachable!("a store's own reader is writable"),
        }
    }

    /// Returns whose tables these are.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns when the tables were made.
    #[must_use]
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// Returns what a role is folded from: the snapshot, and the facts behind it one by one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn load(&self) -> Result<Loaded, ReadError> {
        let transaction = self.handle.begin_read()?;
        let snapshot = match transaction.open_table(SNAPSHOT)?.range::<u64>(..)?.next() {
            None => None,
            Some(row) => {
                let (up_to, bytes) = row?;
                Some(Snapshot {
                    up_to: up_to.value(),
                    bytes: bytes.value().to_vec(),
                })
            }
        };
        let journal = transaction.open_table(JOURNAL)?;
        let start = snapshot.as_ref().map_or(0, |snapshot| snapshot.up_to);
        let journal_end = match journal.range::<u64>(..)?.next_back() {
            None => start,
            Some(row) => after(row?.0.value())?,
        };
        Ok(Loaded {
            snapshot,
            facts: Facts {
                rows: Scan(journal.range(start..)?),
                next: start,
            },
            journal_end,
        })
    }

    /// Returns the right edge of the log's tree: its size and, computed, its root.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn head(&self) -> Result<Frontier, ReadError> {
        self.log()?.head()
    }

    /// Returns an entry, `None` beyond the end of the log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, sequence: u64) -> Result<Option<StoredEntry>, ReadError> {
        self.log()?.entry(sequence)
    }

    /// Returns the entries of a range of sequences that there are, from either end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entries(&self, range: Range<u64>) -> Result<Entries, ReadError> {
        self.log()?.entries(range)
    }

    /// Returns a row of the role.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let rows = self.handle.begin_read()?.open_table(ROWS)?;
        Ok(rows.get(key)?.map(|value| value.value().to_vec()))
    }

    /// Returns the rows whose keys start with `prefix`, in the order of their keys, from either end.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn rows(&self, prefix: &[u8]) -> Result<Rows, ReadError> {
        self.rows_in(&prefix_bounds(prefix))
    }

    /// Returns the rows with these keys, in their order, from either end: to go on where a page ended.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn rows_in(&self, keys: &impl RangeBounds<Vec<u8>>) -> Result<Rows, ReadError> {
        let rows = self.handle.begin_read()?.open_table(ROWS)?;
        Ok(Rows(Scan(rows.range::<&[u8]>(as_slices(keys))?)))
    }

    /// Returns one state of the log.
    pub(crate) fn log(&self) -> Result<Log, ReadError> {
        Log::of(&self.begin_read()?)
    }

    /// Returns one state of the log and of the books that belong to it.
    pub(crate) fn log_and_books(&self) -> Result<(Log, Projection), ReadError> {
        let transaction = self.begin_read()?;
        Ok((Log::of(&transaction)?, Projection::of(&transaction)?))
    }
}

/// One state of the log.
pub(crate) struct Log {
    entries: ReadOnlyTable<u64, &'static [u8]>,
    nodes: ReadOnlyTable<u64, &'static [u8]>,
    head: ReadOnlyTable<&'static str, &'static [u8]>,
}

impl Log {
    fn of(transaction: &ReadTransaction) -> Result<Self, ReadError> {
        Ok(Self {
            entries: transaction.open_table(runs::ENTRIES)?,
            nodes: transaction.open_table(runs::NODES)?,
            head: transaction.open_table(HEAD)?,
        })
    }

    pub(crate) fn head(&self) -> Result<Frontier, ReadError> {
        let damaged = ReadError::Damaged {
            what: "the head of the log is missing or not one",
        };
        let Some(row) = self.head.get(HEAD_KEY)? else {
            return Err(damaged);
        };
        let stored: StoredHead = codec::from_bytes(row.value(), HEAD_BYTES_MAX)?;
        Frontier::from_parts(stored.size, stored.subtrees).ok_or(damaged)
    }

    pub(crate) fn entry(&self, sequence: u64) -> Result<Option<StoredEntry>, ReadError> {
        runs::entry(&self.entries, sequence)
    }

    pub(crate) fn entries(&self, range: Range<u64>) -> Result<Entries, ReadError> {
        Entries::of(&self.entries, range)
    }

    /// Returns the stored hash of the leaf of an entry.
    pub(crate) fn leaf(&self, sequence: u64) -> Result<Option<Hash>, ReadError> {
        self.node(node_count(sequence))
    }

    /// Returns the stored node with this place in post-order.
    pub(crate) fn node(&self, index: u64) -> Result<Option<Hash>, ReadError> {
        runs::node(&self.nodes, index)
    }

    /// Returns all stored nodes, in post-order.
    pub(crate) fn nodes(&self) -> Result<Nodes, ReadError> {
        Nodes::of(&self.nodes)
    }
}

/// What a role is folded from.
#[derive(Debug)]
pub struct Loaded {
    /// The latest snapshot, if one was written.
    pub snapshot: Option<Snapshot>,
    /// The facts that came after it.
    pub facts: Facts,
    /// Position of the next fact to come.
    pub journal_end: u64,
}

/// A snapshot of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Position of the first fact that is not in it.
    pub up_to: u64,
    /// What the role wrote.
    pub bytes: Vec<u8>,
}

/// Facts of the journal in order, read as they are asked for.
#[derive(Debug)]
pub struct Facts {
    rows: Scan<u64, &'static [u8]>,
    next: u64,
}

impl Iterator for Facts {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.0.next()?;
        Some(row.map_err(ReadError::from).and_then(|(position, bytes)| {
            if position.value() != self.next {
                return Err(ReadError::Damaged {
                    what: "a fact of the journal is missing",
                });
            }
            self.next = after(self.next)?;
            Ok(bytes.value().to_vec())
        }))
    }
}

/// An entry of the log as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the log.
    pub sequence: u64,
    /// Its bytes, the leaf of the tree.
    pub bytes: Vec<u8>,
}

impl StoredEntry {
    /// Returns what the bytes say.
    ///
    /// # Errors
    /// [`DecodeError`] if they are no entry.
    pub fn decode(&self) -> Result<Entry, DecodeError> {
        codec::from_bytes(&self.bytes, ENTRY_BYTES_MAX)
    }
}

/// Rows of a role in the order of their keys, read as they are asked for.
#[derive(Debug)]
pub struct Rows(Scan<&'static [u8], &'static [u8]>);

impl Iterator for Rows {
    type Item = Result<Row, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.0.next().map(stored_row)
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.0.next_back().map(stored_row)
    }
}

/// A range of a table; it keeps the state that it was opened on.
struct Scan<K: redb::Key + 'static, V: redb::Value + 'static>(redb::Range<'static, K, V>);

impl<K: redb::Key + 'static, V: redb::Value + 'static> fmt::Debug for Scan<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scan")
    }
}

type RangeRow<K, V> = Result<(AccessGuard<'static, K>, AccessGuard<'static, V>), StorageError>;

fn stored_row(row: RangeRow<&'static [u8], &'static [u8]>) -> Result<Row, ReadError> {
    let (key, value) = row?;
    Ok(Row {
        key: key.value().to_vec(),
        value: value.value().to_vec(),
    })
}

fn after(position: u64) -> Result<u64, ReadError> {
    position.checked_add(1).ok_or(ReadError::Damaged {
        what: "a position of the journal is out of range",
    })
}

/// Keys from one bound to another.
pub(super) type KeyBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Returns the bounds of all keys that start with `prefix`.
pub(super) fn prefix_bounds(prefix: &[u8]) -> KeyBounds {
    // The first key behind them: the prefix without its trailing 0xff, its last byte one higher.
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    let end = match end.last_mut() {
        None => Bound::Unbounded,
        Some(last) => {
            *last = last.saturating_add(1);
            Bound::Excluded(end)
        }
    };
    (Bound::Included(prefix.to_vec()), end)
}

pub(super) fn as_slices(keys: &impl RangeBounds<Vec<u8>>) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (
        keys.start_bound().map(Vec::as_slice),
        keys.end_bound().map(Vec::as_slice),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let end = |prefix: &[u8]| prefix_bounds(prefix).1;
        assert_eq!(end(b""), Bound::Unbounded);
        assert_eq!(end(&[1, 2]), Bound::Excluded(vec![1, 3]));
        assert_eq!(end(&[1, 0xff, 0xff]), Bound::Excluded(vec![2]));
        assert_eq!(end(&[0xff, 0xff]), Bound::Unbounded);
    }
}
