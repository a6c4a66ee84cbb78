//! The tables of a node and the one way to write them.
//!
//! A [`Change`] is a group commit: facts for the journal, events for the log, rows to put and to remove. It becomes
//! durable as a whole in one transaction, or not at all; [`Store::commit`] returns after the disk has it. More
//! invariants: sequences of the log are dense from 0; its times never go back, even if the clock does; the books are
//! what the postings of the log add up to, and no posting is made twice.
//!
//! A change that may not be is refused, and the store goes on. When a commit fails for another reason the disk is full or broken, and only a new start can tell whether the change reached the disk:
//! the store takes no further change, and the process must stop before it answers anybody. Opened again, the tables
//! are as after the last change that was committed, or as after the one that failed.

mod books;
mod line;
mod names;
mod open;
mod read;
mod runs;

use std::io;
use std::sync::{Mutex, MutexGuard};

use redb::{Durability, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use tally_protocol::books::{Books, Posting, PostingFault};
use tally_protocol::codec;
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry, Event};
use tally_protocol::id::{Hash, NetworkId, NodeId, PostingId};
use tally_protocol::merkle::{Frontier, leaf_hash};
use tally_protocol::time::Timestamp;

pub(crate) use names::{Name, NameIndex};
pub(crate) use read::Log;
pub(crate) use runs::Nodes;

pub use books::Projection;
pub use names::receipt_posting;
pub use open::{CACHE_BYTES, FORMAT, OpenError};
pub use read::{Facts, Loaded, ReadError, Reader, Rows, Snapshot, StoredEntry};
pub use runs::Entries;

use crate::tree::{Tree, node_count};
use books::Posted;
use names::RecentNames;

/// One row, [`FORMAT_KEY`]: the version of these tables and whose they are.
const FORMAT_TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("format");
/// The key of the only row of [`FORMAT_TABLE`].
const FORMAT_KEY: &str = "tally";
/// Facts by their position.
const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
/// At most one row: the snapshot, by the position of the first fact that is not in it.
const SNAPSHOT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshot");
/// One row, [`HEAD_KEY`]: the right edge of the tree.
const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
/// The key of the only row of [`HEAD`].
const HEAD_KEY: &str = "frontier";
/// Rows of the role.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Whose tables these are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The network that the node belongs to.
    pub network: NetworkId,
    /// The node.
    pub node: NodeId,
}

/// What one group commit writes. Removals are done before puts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Facts for the journal, in order.
    pub facts: Vec<Vec<u8>>,
    /// Events for the log, in order.
    pub events: Vec<Draft>,
    /// Rows to write; a key that is there already gets the new value.
    pub puts: Vec<Row>,
    /// Prefixes of the keys of rows to remove; all keys start with the empty one.
    pub removals: Vec<Vec<u8>>,
}

impl Change {
    /// Returns whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.facts.is_empty()
            && self.events.is_empty()
            && self.puts.is_empty()
            && self.removals.is_empty()
    }
}

/// An entry that has no place in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When it happened, by the node's clock.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// What that does to the books.
    pub posting: Option<Posting>,
}

impl Draft {
    /// Makes an entry that does nothing to the books.
    #[must_use]
    pub const fn of(at: Timestamp, event: Event) -> Self {
        let posting = None;
        Self { at, event, posting }
    }
}

/// A row of the role. By convention the first byte of the key tells apart the kinds of rows that a role has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key; rows are in the order of its bytes.
    pub key: Vec<u8>,
    /// What stands there.
    pub value: Vec<u8>,
}

/// Where the store stands after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Sequence of the first entry of the change; that of the next one to come if it had none.
    pub first_sequence: u64,
    /// Entries in the log.
    pub tree_size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Position of the next fact: what a snapshot that holds this change is written up to.
    pub journal_end: u64,
}

/// Why a change was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An entry is too long. Nothing was written, and the store goes on.
    #[error("commit an entry of {bytes} bytes, at most {ENTRY_BYTES_MAX} are allowed")]
    EntryTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A posting is not possible. Nothing was written, and the store goes on.
    #[error("commit entry {sequence}: its posting {id}: {fault}")]
    Posting {
        /// The place that the entry would have had.
        sequence: u64,
        /// The posting.
        id: PostingId,
        /// Why it is not possible.
        fault: PostingFault,
    },
    /// A posting has an id that is taken: the same has happened before. Nothing was written, and the store goes on.
    #[error("commit entry {sequence}: its posting {id} was made before, by entry {earlier}")]
    PostedBefore {
        /// The place that the entry would have had.
        sequence: u64,
        /// The posting.
        id: PostingId,
        /// The entry that made it; one of the same change if it is not in the log.
        earlier: u64,
    },
    /// The disk is full. The store has stopped.
    #[error("commit: no space is left on the disk")]
    DiskFull(#[source] redb::Error),
    /// The disk failed in another way. The store has stopped.
    #[error("commit")]
    Storage(#[source] redb::Error),
    /// The store has stopped.
    #[error("commit after a commit that failed")]
    Stopped,
}

impl CommitError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::EntryTooLong { .. } | Self::Posting { .. } | Self::PostedBefore { .. } => {
                "this is a mistake in the program, please report it"
            }
            Self::DiskFull(_) => {
                "free some space and start the node again; nothing that it confirmed is lost"
            }
            Self::Storage(_) | Self::Stopped => {
                "check the disk and start the node again; nothing that it confirmed is lost"
            }
        }
    }
}

impl CommitError {
    /// Returns whether only this change was refused, and the store takes others.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::EntryTooLong { .. } | Self::Posting { .. } | Self::PostedBefore { .. } => true,
            Self::DiskFull(_) | Self::Storage(_) | Self::Stopped => false,
        }
    }
}

impl From<redb::Error> for CommitError {
    fn from(error: redb::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if let redb::Error::Io(io) = &error
            && matches!(io.kind(), StorageFull | QuotaExceeded)
        {
            return Self::DiskFull(error);
        }
        Self::Storage(error)
    }
}

/// The tables of a node, open for writing. There is one in all processes of the computer.
///
/// Everything of [`Reader`] can be called on it too.
#[derive(Debug)]
pub struct Store {
    reader: Reader,
    writer: Mutex<Writer>,
}

/// Whether changes are taken.
#[derive(Debug)]
enum Writer {
    Ready { tip: Tip, names: RecentNames },
    Stopped,
}

/// Where the next change goes.
#[derive(Debug, Clone)]
struct Tip {
    tree: Tree,
    journal_end: u64,
    last_time: Timestamp,
}

impl std::ops::Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Writes `change`; when this returns, all of it is durable.
    ///
    /// # Errors
    /// [`CommitError`]; unless it [is a refusal](CommitError::is_refusal), the process must stop, see the module.
    pub fn commit(&self, change: Change) -> Result<Committed, CommitError> {
        let mut writer = self.lock();
        let Writer::Ready { tip, names } = &mut *writer else {
            return Err(CommitError::Stopped);
        };
        let first_sequence = tip.tree.size();
        if change.is_empty() {
            return Ok(tip.committed(first_sequence));
        }
        let mut next = tip.clone();
        let growth = next.grow(change.events)?;
        next.journal_end = position_after(tip.journal_end, change.facts.len());
        let written = self.transact(|transaction| {
            write_facts(transaction, tip.journal_end, &change.facts)?;
            write_rows(transaction, &change.removals, &change.puts)?;
            if growth.entries.is_empty() {
                return Ok(());
            }
            if !growth.names.is_empty() {
                names.check(transaction, &growth.names)?;
                books::post(transaction, &growth.posted)?;
                names.write(transaction, first_sequence, &growth.names)?;
            }
            write_growth(transaction, first_sequence, &growth)?;
            Ok(write_head(transaction, &next.tree.frontier())?)
        });
        if let Err(error) = written {
            if !error.is_refusal() {
                *writer = Writer::Stopped;
            }
            return Err(error);
        }
        let committed = next.committed(first_sequence);
        *tip = next;
        Ok(committed)
    }

    /// Replaces the snapshot and drops the facts before `up_to`, which it stands for.
    ///
    /// # Errors
    /// [`CommitError`]; the process must stop, see the module.
    ///
    /// # Panics
    /// If `up_to` is beyond the journal, or before the snapshot that is there.
    pub fn write_snapshot(&self, up_to: u64, bytes: &[u8]) -> Result<(), CommitError> {
        let mut writer = self.lock();
        let Writer::Ready { tip, .. } = &*writer else {
            return Err(CommitError::Stopped);
        };
        assert!(
            up_to <= tip.journal_end,
            "a snapshot holds only facts that are in the journal"
        );
        let written = self.transact(|transaction| Ok(replace_snapshot(transaction, up_to, bytes)?));
        written.inspect_err(|_| *writer = Writer::Stopped)
    }

    /// Replaces the books and the names of all postings in one transaction. The log is not touched.
    ///
    /// # Errors
    /// [`CommitError`]; the process must stop, see the module.
    pub(crate) fn replace_projection(
        &self,
        books: &Books,
        entries: &mut dyn Iterator<Item = Name>,
    ) -> Result<(), CommitError> {
        let mut writer = self.lock();
        let Writer::Ready { tip, names } = &mut *writer else {
            return Err(CommitError::Stopped);
        };
        let written = self.transact(|transaction| {
            books::clear(transaction)?;
            names::clear(transaction)?;
            books::fill(transaction, books)?;
            Ok(names::fill(transaction, entries)?)
        });
        match written {
            Ok(()) => *names = RecentNames::none(tip.tree.size()),
            Err(_) => *writer = Writer::Stopped,
        }
        written
    }

    /// Runs `write` in one durable transaction; if it fails, nothing is written.
    fn transact(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let begun = self.reader.writable().begin_write();
        let mut transaction = begun.map_err(redb::Error::from)?;
        durable(&mut transaction);
        match write(&transaction) {
            Ok(()) => Ok(transaction.commit().map_err(redb::Error::from)?),
            Err(refused) => {
                transaction.abort().map_err(redb::Error::from)?;
                Err(refused)
            }
        }
    }

    /// Returns the writer; a thread that panicked while it held it leaves it stopped.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            let mut writer = poisoned.into_inner();
            *writer = Writer::Stopped;
            writer
        })
    }
}

impl Tip {
    /// Appends the events, and returns what that adds to the tables.
    fn grow(&mut self, events: Vec<Draft>) -> Result<Growth, CommitError> {
        let mut growth = Growth {
            entries: Vec::with_capacity(events.len()),
            nodes: Vec::with_capacity(events.len().saturating_mul(2)),
            names: Vec::with_capacity(events.len()),
            posted: Vec::with_capacity(events.len()),
        };
        for Draft { at, event, posting } in events {
            self.last_time = self.last_time.max(at);
            let entry = Entry {
                sequence: self.tree.size(),
                at: self.last_time,
                event,
                posting,
            };
            let bytes = codec::to_bytes(&entry);
            if bytes.len() > ENTRY_BYTES_MAX {
                return Err(CommitError::EntryTooLong { bytes: bytes.len() });
            }
            self.tree.push(leaf_hash(&bytes), &mut growth.nodes);
            growth.entries.push(bytes);
            growth.names.extend(Name::of(&entry));
            let (sequence, at) = (entry.sequence, entry.at);
            growth.posted.extend(entry.posting.map(|posting| Posted {
                sequence,
                at,
                posting,
            }));
        }
        Ok(growth)
    }

    fn committed(&self, first_sequence: u64) -> Committed {
        Committed {
            first_sequence,
            tree_size: self.tree.size(),
            root: self.tree.frontier().root(),
            journal_end: self.journal_end,
        }
    }
}

/// What a change adds to the log.
struct Growth {
    entries: Vec<Vec<u8>>,
    nodes: Vec<Hash>,
    names: Vec<Name>,
    posted: Vec<Posted>,
}

/// The row of [`HEAD`].
#[derive(Debug, Serialize, Deserialize)]
struct StoredHead {
    size: u64,
    subtrees: Vec<Hash>,
}

/// The most bytes of a [`StoredHead`]: 64 subtrees of 34 bytes.
const HEAD_BYTES_MAX: usize = 4 << 10;

/// Makes the transaction durable on commit, and the next start quick after a crash.
///
/// Without quick repair a commit is one flush of the disk, but after a crash redb reads the whole file before it
/// opens it, and a reader cannot open it at all. With it a commit is two flushes and a start takes milliseconds,
/// whatever the size. Measured at 10^6 entries of 300 bytes in batches of 256: a quarter fewer entries a second, and
/// 7 ms instead of 720 ms to open the file after a kill.
fn durable(transaction: &mut WriteTransaction) {
    transaction
        .set_durability(Durability::Immediate)
        .expect("no savepoint is used, and immediate is the strongest durability");
    transaction.set_quick_repair(true);
}

fn write_facts(
    transaction: &WriteTransaction,
    first: u64,
    facts: &[Vec<u8>],
) -> Result<(), redb::Error> {
    if facts.is_empty() {
        return Ok(());
    }
    let mut journal = transaction.open_table(JOURNAL)?;
    for (position, fact) in (first..).zip(facts) {
        journal.insert(position, fact.as_slice())?;
    }
    Ok(())
}

fn replace_snapshot(
    transaction: &WriteTransaction,
    up_to: u64,
    bytes: &[u8],
) -> Result<(), redb::Error> {
    let mut snapshot = transaction.open_table(SNAPSHOT)?;
    while let Some((older, _)) = snapshot.pop_first()? {
        assert!(older.value() <= up_to, "a snapshot never goes back");
    }
    snapshot.insert(up_to, bytes)?;
    let mut journal = transaction.open_table(JOURNAL)?;
    journal.retain_in(..up_to, |_, _| false)?;
    Ok(())
}

fn write_rows(
    transaction: &WriteTransaction,
    removals: &[Vec<u8>],
    puts: &[Row],
) -> Result<(), redb::Error> {
    if removals.is_empty() && puts.is_empty() {
        return Ok(());
    }
    let mut rows = transaction.open_table(ROWS)?;
    for prefix in removals {
        let bounds = read::prefix_bounds(prefix);
        rows.retain_in::<&[u8], _>(read::as_slices(&bounds), |_, _| false)?;
    }
    for row in puts {
        rows.insert(row.key.as_slice(), row.value.as_slice())?;
    }
    Ok(())
}

fn write_growth(
    transaction: &WriteTransaction,
    first_sequence: u64,
    growth: &Growth,
) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(runs::ENTRIES)?;
    runs::write_entries(&mut entries, first_sequence, &growth.entries)?;
    let mut nodes = transaction.open_table(runs::NODES)?;
    runs::write_nodes(&mut nodes, node_count(first_sequence), &growth.nodes)
}

fn write_head(transaction: &WriteTransaction, head: &Frontier) -> Result<(), redb::Error> {
    let stored = StoredHead {
        size: head.size(),
        subtrees: head.subtrees().to_vec(),
    };
    let bytes = codec::to_bytes(&stored);
    transaction
        .open_table(HEAD)?
        .insert(HEAD_KEY, bytes.as_slice())?;
    Ok(())
}

/// Returns the position after `count` more facts.
fn position_after(position: u64, count: usize) -> u64 {
    u64::try_from(count)
        .ok()
        .and_then(|count| position.checked_add(count))
        .expect("a journal has fewer than 2^64 facts")
}
