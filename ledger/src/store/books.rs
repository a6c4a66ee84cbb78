//! The books as tables: what all postings of the log add up to, kept beside it.
//!
//! The tables are projections: each row follows from the entries, and `rebuild` makes them anew. They change in the
//! transaction that appends the entries, so they always stand where the log does. A posting is made by
//! [`Books::post`] on the few lines that it touches, which are read once for a commit and written once.
//!
//! The id of a posting stands for the event that made it, so an event that comes twice is refused by its id. The
//! posting of a receipt is named after the receipt ([`receipt_posting`](super::receipt_posting)): receipts are found by
//! the same names.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use tally_protocol::account::Holder;
use tally_protocol::books::{Balance, Books, Hold, Line, Posting};
use tally_protocol::codec;
use tally_protocol::id::{NodeId, PostingId, ReceiptId};
use tally_protocol::time::Timestamp;

use super::names::{NameIndex, NameTables, receipt_posting};
use super::read::{as_slices, prefix_bounds};
use super::{CommitError, ReadError, Reader, line};

/// What stands on the lines of the books, by [`line::key_of`].
pub(super) const BALANCES: TableDefinition<'_, &[u8], &[u8; BALANCE_BYTES]> =
    TableDefinition::new("balances");
/// Holds of which something is left, by their ids.
pub(super) const HOLDS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("holds");
/// Debits, credits, pending debits and pending credits, 8 bytes each, the most significant first.
const BALANCE_BYTES: usize = 32;
/// The most bytes of a hold: it has about 200.
const HOLD_BYTES_MAX: usize = 1 << 10;

/// Writes whole books, when the tables are empty.
pub(super) fn fill(transaction: &WriteTransaction, books: &Books) -> Result<(), redb::Error> {
    let mut balances = transaction.open_table(BALANCES)?;
    let mut holds = transaction.open_table(HOLDS)?;
    let lines: Vec<Line> = books.balances().map(|(line, _)| *line).collect();
    let ids: Vec<PostingId> = books.holds().map(|(id, _)| *id).collect();
    write_back(&mut balances, &mut holds, (&lines, &ids), books)
}

/// A posting that an entry makes.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) posting: Posting,
}

/// Makes the tables.
pub(super) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(BALANCES)?;
    transaction.open_table(HOLDS)?;
    Ok(())
}

/// Empties the tables.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(BALANCES)?;
    transaction.delete_table(HOLDS)?;
    create(transaction)
}

/// Makes the postings of a commit, in order.
pub(super) fn post(transaction: &WriteTransaction, posted: &[Posted]) -> Result<(), CommitError> {
    if posted.is_empty() {
        return Ok(());
    }
    let mut balances = transaction
        .open_table(BALANCES)
        .map_err(redb::Error::from)?;
    let mut holds = transaction.open_table(HOLDS).map_err(redb::Error::from)?;
    let (mut lines, mut ids) = (Vec::new(), Vec::new());
    for Posted { posting, .. } in posted {
        let touched = posting.touched();
        lines.extend(touched.0);
        ids.extend(touched.1);
    }
    lines.sort_unstable();
    lines.dedup();
    ids.sort_unstable();
    ids.dedup();
    let mut books = load(&balances, &holds, (&lines, &ids))?;
    for Posted {
        sequence,
        at,
        posting,
        ..
    } in posted
    {
        books
            .post(*at, posting)
            .map_err(|fault| CommitError::Posting {
                sequence: *sequence,
                id: posting.id,
                fault,
            })?;
    }
    let written = write_back(&mut balances, &mut holds, (&lines, &ids), &books);
    Ok(written?)
}

/// Lines and holds that a commit may change, each once and in order.
type Touched<'a> = (&'a [Line], &'a [PostingId]);

type Balances<'a> = Table<'a, &'static [u8], &'static [u8; BALANCE_BYTES]>;
type Holds<'a> = Table<'a, &'static [u8; 16], &'static [u8]>;

/// Reads the touched part of the books.
fn load(
    balances: &Balances<'_>,
    holds: &Holds<'_>,
    (lines, ids): Touched<'_>,
) -> Result<Books, redb::Error> {
    let (mut there, mut held) = (Vec::new(), Vec::new());
    for line in lines {
        if let Some(row) = balances.get(line::key_of(line).as_slice())? {
            there.push((*line, read_balance(row.value())));
        }
    }
    for id in ids {
        if let Some(row) = holds.get(id.as_bytes())? {
            let hold = read_hold(row.value())
                .map_err(|_| redb::Error::Corrupted("a hold is not one".to_owned()))?;
            held.push((*id, hold));
        }
    }
    Ok(Books::from_parts(there, held))
}

/// Writes the touched part of the books; what is not there any more is removed.
fn write_back(
    balances: &mut Balances<'_>,
    holds: &mut Holds<'_>,
    (lines, ids): Touched<'_>,
    books: &Books,
) -> Result<(), redb::Error> {
    let mut there = books.balances().peekable();
    for line in lines {
        let key = line::key_of(line);
        match there.next_if(|(found, _)| *found == line) {
            Some((_, balance)) => balances.insert(key.as_slice(), &balance_bytes(balance))?,
            None => balances.remove(key.as_slice())?,
        };
    }
    let mut there = books.holds().peekable();
    for id in ids {
        match there.next_if(|(found, _)| *found == id) {
            Some((_, hold)) => holds.insert(id.as_bytes(), codec::to_bytes(hold).as_slice())?,
            None => holds.remove(id.as_bytes())?,
        };
    }
    Ok(())
}

fn balance_bytes(balance: &Balance) -> [u8; BALANCE_BYTES] {
    let Balance {
        debits,
        credits,
        pending_debits,
        pending_credits,
    } = *balance;
    let mut bytes = [0; BALANCE_BYTES];
    let sums = [debits, credits, pending_debits, pending_credits];
    for (place, sum) in bytes.chunks_exact_mut(8).zip(sums) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn read_balance(bytes: &[u8; BALANCE_BYTES]) -> Balance {
    let sums: [u64; 4] = std::array::from_fn(|place| {
        let (chunks, _) = bytes.as_chunks::<8>();
        u64::from_be_bytes(chunks[place])
    });
    let [debits, credits, pending_debits, pending_credits] = sums;
    Balance {
        debits,
        credits,
        pending_debits,
        pending_credits,
    }
}

fn read_hold(bytes: &[u8]) -> Result<Hold, codec::DecodeError> {
    codec::from_bytes(bytes, HOLD_BYTES_MAX)
}

/// One state of the books, as the log was at one moment.
pub struct Projection {
    balances: ReadOnlyTable<&'static [u8], &'static [u8; BALANCE_BYTES]>,
    holds: ReadOnlyTable<&'static [u8; 16], &'static [u8]>,
    names: NameTables,
}

impl std::fmt::Debug for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Projection")
    }
}

impl Projection {
    pub(super) fn of(transaction: &ReadTransaction) -> Result<Self, ReadError> {
        Ok(Self {
            balances: transaction.open_table(BALANCES)?,
            holds: transaction.open_table(HOLDS)?,
            names: NameTables::of(transaction)?,
        })
    }

    /// Returns the whole books: all lines and all holds.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn books(&self) -> Result<Books, ReadError> {
        let balances = self.lines(&[])?;
        let holds = self.holds()?.collect::<Result<Vec<_>, _>>()?;
        Ok(Books::from_parts(balances, holds))
    }

    /// Returns what stands on a line; nothing if it is not there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn balance(&self, line: Line) -> Result<Balance, ReadError> {
        let row = self.balances.get(line::key_of(&line).as_slice())?;
        Ok(row.map_or_else(Balance::default, |row| read_balance(row.value())))
    }

    /// Returns the lots of an owner: first those in escrow, then those that may be spent, the oldest of each device
    /// first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lines_of_owner(&self, owner: NodeId) -> Result<Vec<(Line, Balance)>, ReadError> {
        let [escrow, spendable] = line::lots_of_owner(owner).map(|prefix| self.lines(&prefix));
        Ok([escrow?, spendable?].concat())
    }

    /// Returns the lots of a computer of an owner, in the same order.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lines_of_holder(&self, holder: Holder) -> Result<Vec<(Line, Balance)>, ReadError> {
        let [escrow, spendable] = line::lots_of_holder(holder).map(|prefix| self.lines(&prefix));
        Ok([escrow?, spendable?].concat())
    }

    /// Returns the lines of a customer, one for each currency.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lines_of_customer(&self, customer: NodeId) -> Result<Vec<(Line, Balance)>, ReadError> {
        self.lines(&line::of_customer(customer))
    }

    /// Returns the hold of this name, if something of it is left.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn hold(&self, id: PostingId) -> Result<Option<Hold>, ReadError> {
        let row = self.holds.get(id.as_bytes())?;
        let hold = row.map(|row| read_hold(row.value()));
        Ok(hold.transpose()?)
    }

    /// Returns the sequence of the entry that made a posting.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn posting_entry(&self, id: PostingId) -> Result<Option<u64>, ReadError> {
        self.names.posting_entry(id)
    }

    /// Returns the sequence of the entry with a receipt.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipt_entry(&self, id: ReceiptId) -> Result<Option<u64>, ReadError> {
        self.posting_entry(receipt_posting(id))
    }

    /// Returns the sequences of the first `limit` entries with receipts of a device that come after entry `after`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipts_of(
        &self,
        device: NodeId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, ReadError> {
        let first = match after {
            None => 0,
            Some(u64::MAX) => return Ok(Vec::new()),
            Some(after) => after.saturating_add(1),
        };
        self.names.receipts_of(device, first, limit)
    }

    /// Reads what is needed to look for many names.
    pub(crate) fn names(&self) -> Result<NameIndex<'_>, ReadError> {
        self.names.index()
    }

    /// Returns the lines whose keys start with `prefix`, in order.
    fn lines(&self, prefix: &[u8]) -> Result<Vec<(Line, Balance)>, ReadError> {
        let bounds = prefix_bounds(prefix);
        let rows = self.balances.range::<&[u8]>(as_slices(&bounds))?;
        let lines = rows.map(|row| {
            let (key, value) = row?;
            let line = line::line_of(key.value()).ok_or(ReadError::Damaged {
                what: "an account of the books is not one",
            })?;
            Ok((line, read_balance(value.value())))
        });
        lines.collect()
    }

    fn holds(
        &self,
    ) -> Result<impl Iterator<Item = Result<(PostingId, Hold), ReadError>>, ReadError> {
        let rows = self.holds.range::<&[u8; 16]>(..)?;
        Ok(rows.map(|row| {
            let (id, hold) = row?;
            let id = PostingId::from_bytes(*id.value());
            Ok((id, read_hold(hold.value())?))
        }))
    }
}

impl Reader {
    /// Returns one state of the books, for several questions that belong together.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn projection(&self) -> Result<Projection, ReadError> {
        Projection::of(&self.begin_read()?)
    }

    /// Returns [`Projection::books`] as they are now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn books(&self) -> Result<Books, ReadError> {
        self.projection()?.books()
    }

    /// Returns [`Projection::balance`] as it is now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn balance(&self, line: Line) -> Result<Balance, ReadError> {
        self.projection()?.balance(line)
    }

    /// Returns [`Projection::lines_of_owner`] as they are now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lines_of_owner(&self, owner: NodeId) -> Result<Vec<(Line, Balance)>, ReadError> {
        self.projection()?.lines_of_owner(owner)
    }

    /// Returns [`Projection::lines_of_holder`] as they are now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lines_of_holder(&self, holder: Holder) -> Result<Vec<(Line, Balance)>, ReadError> {
        self.projection()?.lines_of_holder(holder)
    }

    /// Returns [`Projection::posting_entry`] as it is now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn posting_entry(&self, id: PostingId) -> Result<Option<u64>, ReadError> {
        self.projection()?.posting_entry(id)
    }

    /// Returns [`Projection::receipt_entry`] as it is now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipt_entry(&self, id: ReceiptId) -> Result<Option<u64>, ReadError> {
        self.projection()?.receipt_entry(id)
    }

    /// Returns [`Projection::receipts_of`] as they are now.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn receipts_of(
        &self,
        device: NodeId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, ReadError> {
        self.projection()?.receipts_of(device, after, limit)
    }
}
