//! Which entry made a posting, and which have the receipts of a device.
//!
//! Ids of postings are as good as random, and so are devices: written where they belong, the names of one commit would
//! touch as many pages as it has entries. So they are first written as one row of [`RECENT`], and kept in memory. When
//! there are more than [`RECENT_MAX`] of them, each commit moves about as many to [`POSTINGS`] and [`RECEIPTS_OF`] as it
//! brings: the next ones in the order of the table, round and round, so that many go to one page.
//!
//! Invariants: each name is in its table or in a row of [`RECENT`], or for a while in both, and says the same there.

use std::collections::{BTreeMap, BTreeSet};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::{NodeId, PostingId, ReceiptId};
use tally_protocol::posting::posting_id;

use super::{CommitError, ReadError};

/// The names of each of the last commits, by its first sequence: rows of [`NAME_BYTES`].
const RECENT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("recent");
/// The entries of postings, by the ids of the postings.
const POSTINGS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("postings");
/// The entries with receipts of each device, in their order.
const RECEIPTS_OF: TableDefinition<'_, (&[u8; 32], u64), ()> = TableDefinition::new("receipts_of");

/// Names that are kept in memory: 3 MB of them, and after a start up to five times as many. In tables of a million rows,
/// four of them go to one page.
const RECENT_MAX: usize = 1 << 15;
/// How many names a commit moves at most for each that it brings, and with none: after a start there are more of them.
const MOVED_EACH: usize = 2;
/// The id of a posting, its sequence (the most significant byte first), and the device of a receipt or zeros.
const NAME_BYTES: usize = 56;
/// Where there is no receipt: no device has this key.
const NOBODY: NodeId = NodeId::from_bytes([0; 32]);

/// What an entry with a posting is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    /// Its place in the log.
    pub(crate) sequence: u64,
    /// Its posting.
    pub(crate) posting: PostingId,
    /// Whose receipt it is.
    pub(crate) device: Option<NodeId>,
}

impl Name {
    /// Returns the name of an entry; none if it makes no posting.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let posting = entry.posting.as_ref()?;
        let mut credited = posting.transfers.iter().map(|transfer| transfer.to);
        let device = match entry.event {
            Event::Receipted { .. } => {
                credited.find_map(|account| account.holder().map(|holder| holder.device))
            }
            Event::TaskAccepted { .. }
            | Event::BatchValidated { .. }
            | Event::TaskEnded { .. }
            | Event::TaskSettled { .. }
            | Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => None,
        };
        Some(Self {
            sequence: entry.sequence,
            posting: posting.id,
            device,
        })
    }

    fn write(&self, row: &mut Vec<u8>) {
        row.extend_from_slice(self.posting.as_bytes());
        row.extend_from_slice(&self.sequence.to_be_bytes());
        row.extend_from_slice(self.device.unwrap_or(NOBODY).as_bytes());
    }

    fn read(bytes: &[u8; NAME_BYTES]) -> Self {
        let (posting, rest) = bytes.split_first_chunk().expect("a name has 56 bytes");
        let (sequence, rest) = rest.split_first_chunk().expect("a name has 56 bytes");
        let device = rest.first_chunk().expect("a name has 56 bytes");
        let device = NodeId::from_bytes(*device);
        Self {
            posting: PostingId::from_bytes(*posting),
            sequence: u64::from_be_bytes(*sequence),
            device: (device != NOBODY).then_some(device),
        }
    }
}

/// Returns the names of a row of [`RECENT`].
fn read_row(row: &[u8]) -> Result<impl Iterator<Item = Name> + '_, ReadError> {
    let (names, rest) = row.as_chunks();
    if rest.is_empty() {
        return Ok(names.iter().map(Name::read));
    }
    Err(ReadError::Damaged {
        what: "the names of a commit are cut off",
    })
}

/// Returns the id of the posting that a receipt makes.
#[must_use]
pub fn receipt_posting(receipt: ReceiptId) -> PostingId {
    posting_id("receipt", receipt.as_bytes())
}

/// Makes the tables.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECENT)?;
    transaction.open_table(POSTINGS)?;
    transaction.open_table(RECEIPTS_OF)?;
    Ok(())
}

/// Empties the tables.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(RECENT)?;
    transaction.delete_table(POSTINGS)?;
    transaction.delete_table(RECEIPTS_OF)?;
    create(transaction)
}

/// Writes names to their tables, when nothing is recent.
pub(super) fn fill(
    transaction: &WriteTransaction,
    names: &mut dyn Iterator<Item = Name>,
) -> Result<(), redb::Error> {
    let mut postings = transaction.open_table(POSTINGS)?;
    let mut receipts = transaction.open_table(RECEIPTS_OF)?;
    for name in names {
        postings.insert(name.posting.as_bytes(), name.sequence)?;
        if let Some(device) = name.device {
            receipts.insert((device.as_bytes(), name.sequence), ())?;
        }
    }
    Ok(())
}

/// The names that may not be in their tables yet.
#[derive(Debug)]
pub(super) struct RecentNames {
    postings: Recent<PostingId, u64>,
    receipts: Recent<(NodeId, u64), ()>,
}

impl RecentNames {
    /// Begins with none; the next entry has sequence `next`.
    pub(super) fn none(next: u64) -> Self {
        Self {
            postings: Recent::new(next),
            receipts: Recent::new(next),
        }
    }

    /// Takes the names that are written as recent; the next entry has sequence `next`.
    pub(super) fn load(tables: &NameTables, next: u64) -> Result<Self, ReadError> {
        let mut names = Self::none(next);
        tables.each_recent(|name| names.add(name))?;
        Ok(names)
    }

    fn add(&mut self, name: Name) {
        self.postings.rows.insert(name.posting, name.sequence);
        if let Some(device) = name.device {
            self.receipts.rows.insert((device, name.sequence), ());
        }
    }

    /// Checks that none of the postings was made before.
    pub(super) fn check(
        &self,
        transaction: &WriteTransaction,
        names: &[Name],
    ) -> Result<(), CommitError> {
        let table = transaction
            .open_table(POSTINGS)
            .map_err(redb::Error::from)?;
        let mut of_change = BTreeMap::new();
        for name in names {
            let (sequence, id) = (name.sequence, name.posting);
            let earlier = match of_change.insert(id, sequence) {
                Some(earlier) => Some(earlier),
                None => self.postings.rows.get(&id).copied(),
            };
            let earlier = match earlier {
                Some(earlier) => Some(earlier),
                None => {
                    let row = table.get(id.as_bytes()).map_err(redb::Error::from)?;
                    row.map(|row| row.value())
                }
            };
            if let Some(earlier) = earlier {
                return Err(CommitError::PostedBefore {
                    sequence,
                    id,
                    earlier,
                });
            }
        }
        Ok(())
    }

    /// Writes the names of a commit that starts at `first`. If the transaction fails, the store has stopped.
    pub(super) fn write(
        &mut self,
        transaction: &WriteTransaction,
        first: u64,
        names: &[Name],
    ) -> Result<(), redb::Error> {
        let mut row = Vec::with_capacity(names.len().saturating_mul(NAME_BYTES));
        for name in names {
            name.write(&mut row);
            self.add(*name);
        }
        let mut recent = transaction.open_table(RECENT)?;
        recent.insert(first, row.as_slice())?;
        let most = names.len().saturating_mul(MOVED_EACH);
        let mut postings = transaction.open_table(POSTINGS)?;
        for (id, sequence) in self.postings.overflow(most, first) {
            postings.insert(id.as_bytes(), sequence)?;
        }
        let mut receipts = transaction.open_table(RECEIPTS_OF)?;
        for ((device, sequence), ()) in self.receipts.overflow(most, first) {
            receipts.insert((device.as_bytes(), sequence), ())?;
        }
        let moved = if self.receipts.rows.is_empty() {
            self.postings.moved
        } else {
            self.postings.moved.min(self.receipts.moved)
        };
        while recent.first()?.is_some_and(|(key, _)| key.value() < moved) {
            recent.pop_first()?;
        }
        Ok(())
    }
}

/// Rows that may not be in their table yet, in its order.
#[derive(Debug)]
struct Recent<K, V> {
    rows: BTreeMap<K, V>,
    /// Where to go on; none at the start.
    cursor: Option<K>,
    /// The first sequence of the commit that last went back to the start.
    round: u64,
    /// What comes from entries before this is in the table.
    moved: u64,
}

impl<K: Ord + Copy, V: Copy> Recent<K, V> {
    fn new(round: u64) -> Self {
        let (rows, cursor, moved) = (BTreeMap::new(), None, 0);
        Self {
            rows,
            cursor,
            round,
            moved,
        }
    }

    /// Takes out what is too much, at most `most`, in the order of the table from the cursor on.
    fn overflow(&mut self, most: usize, first: u64) -> Vec<(K, V)> {
        let count = self.rows.len().saturating_sub(RECENT_MAX).min(most);
        let mut out = Vec::with_capacity(count);
        while out.len() < count {
            let next = match self.cursor {
                Some(cursor) => self.rows.range(cursor..).next(),
                None => self.rows.iter().next(),
            };
            let Some((key, value)) = next.map(|(key, value)| (*key, *value)) else {
                // All that was there when the round began has been passed.
                (self.cursor, self.moved, self.round) = (None, self.round, first);
                continue;
            };
            self.rows.remove(&key);
            self.cursor = Some(key);
            out.push((key, value));
        }
        out
    }
}

/// One state of the tables.
pub(super) struct NameTables {
    recent: ReadOnlyTable<u64, &'static [u8]>,
    postings: ReadOnlyTable<&'static [u8; 16], u64>,
    receipts_of: ReadOnlyTable<(&'static [u8; 32], u64), ()>,
}

impl NameTables {
    pub(super) fn of(transaction: &ReadTransaction) -> Result<Self, ReadError> {
        Ok(Self {
            recent: transaction.open_table(RECENT)?,
            postings: transaction.open_table(POSTINGS)?,
            receipts_of: transaction.open_table(RECEIPTS_OF)?,
        })
    }

    pub(super) fn posting_entry(&self, id: PostingId) -> Result<Option<u64>, ReadError> {
        if let Some(sequence) = self.moved_posting(id)? {
            return Ok(Some(sequence));
        }
        let mut found = None;
        self.each_recent(|name| {
            if name.posting == id {
                found = Some(name.sequence);
            }
        })?;
        Ok(found)
    }

    pub(super) fn receipts_of(
        &self,
        device: NodeId,
        first: u64,
        limit: usize,
    ) -> Result<Vec<u64>, ReadError> {
        let mut found = BTreeSet::new();
        self.each_recent(|name| {
            if name.device == Some(device) && name.sequence >= first {
                found.insert(name.sequence);
            }
        })?;
        let device = device.as_bytes();
        let rows = self
            .receipts_of
            .range((device, first)..=(device, u64::MAX))?;
        for row in rows.take(limit) {
            found.insert(row?.0.value().1);
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// Returns the entry of a posting as far as it was moved.
    fn moved_posting(&self, id: PostingId) -> Result<Option<u64>, ReadError> {
        Ok(self.postings.get(id.as_bytes())?.map(|row| row.value()))
    }

    fn each_recent(&self, mut take: impl FnMut(Name)) -> Result<(), ReadError> {
        for row in self.recent.range::<u64>(..)? {
            read_row(row?.1.value())?.for_each(&mut take);
        }
        Ok(())
    }

    /// Reads the recent names into memory, to look for many.
    pub(super) fn index(&self) -> Result<NameIndex<'_>, ReadError> {
        let recent = RecentNames::load(self, 0)?;
        Ok(NameIndex {
            tables: self,
            recent,
        })
    }
}

/// One state of all names.
pub(crate) struct NameIndex<'a> {
    tables: &'a NameTables,
    recent: RecentNames,
}

impl NameIndex<'_> {
    /// Returns the sequence that stands for a posting.
    pub(crate) fn posting_entry(&self, id: PostingId) -> Result<Option<u64>, ReadError> {
        match self.recent.postings.rows.get(&id) {
            Some(sequence) => Ok(Some(*sequence)),
            None => self.tables.moved_posting(id),
        }
    }

    /// Returns whether the entry stands among the receipts of the device.
    pub(crate) fn has_receipt(&self, device: NodeId, sequence: u64) -> Result<bool, ReadError> {
        if self.recent.receipts.rows.contains_key(&(device, sequence)) {
            return Ok(true);
        }
        let row = self.tables.receipts_of.get((device.as_bytes(), sequence))?;
        Ok(row.is_some())
    }

    /// Returns how many names of postings and of receipts there are.
    pub(crate) fn counts(&self) -> Result<(u64, u64), ReadError> {
        let (mut postings, mut receipts) =
            (self.tables.postings.len()?, self.tables.receipts_of.len()?);
        for id in self.recent.postings.rows.keys() {
            let added = self.tables.moved_posting(*id)?.is_none();
            postings = postings.saturating_add(added.into());
        }
        for (device, sequence) in self.recent.receipts.rows.keys() {
            let row = self
                .tables
                .receipts_of
                .get((device.as_bytes(), *sequence))?;
            receipts = receipts.saturating_add(row.is_none().into());
        }
        Ok((postings, receipts))
    }
}
