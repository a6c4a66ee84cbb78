//! The books again, from the entries: to compare what is stored with what the log gives, and to replace it.
//!
//! Here the postings of the log are taken as they stand; whether they are the right ones says the [audit](crate::audit).
//! All balances are held in memory, names are looked up one by one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tally_protocol::account::{Account, Commodity};
use tally_protocol::books::{Balance, Books, Hold, PostingFault};
use tally_protocol::codec::DecodeError;
use tally_protocol::entry::Entry;
use tally_protocol::id::{NodeId, PostingId};

use crate::audit::Progress;
use crate::store::{
    CommitError, Log, Name, NameIndex, Projection, ReadError, Reader, Store, StoredEntry,
};

/// The most differences that are told one by one.
pub const DIFFERENCES_MAX: usize = 20;
/// After how many entries progress is told.
const PROGRESS_ENTRIES: u64 = 1_024;

/// What came of computing the books again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Entries of the log.
    pub entries: u64,
    /// Lines of the books.
    pub lines: u64,
    /// Holds of which something is left.
    pub holds: u64,
    /// Postings.
    pub postings: u64,
    /// Receipts.
    pub receipts: u64,
    /// How much was stored otherwise.
    pub differences: u64,
    /// The first [`DIFFERENCES_MAX`] of it, in the order of the accounts.
    pub first: Vec<Difference>,
}

/// Something that is stored otherwise than the log gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// What stands on a line.
    Balance {
        /// The account.
        account: Box<Account>,
        /// What is counted.
        commodity: Commodity,
        /// What is stored.
        stored: Option<Balance>,
        /// What the log gives.
        computed: Option<Balance>,
    },
    /// A hold.
    Hold {
        /// Its name.
        id: PostingId,
        /// What is stored.
        stored: Option<Box<Hold>>,
        /// What the log gives.
        computed: Option<Box<Hold>>,
    },
    /// The entry of a posting.
    Posting {
        /// Its id.
        id: PostingId,
        /// The sequence that is stored.
        stored: Option<u64>,
        /// Its sequence in the log.
        computed: u64,
    },
    /// A receipt that does not stand among those of its device.
    Receipt {
        /// The device.
        device: NodeId,
        /// Its sequence in the log.
        sequence: u64,
    },
    /// There are names of nothing.
    Count {
        /// How many postings and receipts are named.
        stored: (u64, u64),
        /// How many there are in the log.
        computed: (u64, u64),
    },
    /// The tables cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Balance {
                account,
                commodity,
                stored,
                computed,
            } => {
                let show = |balance: &Option<Balance>| match balance {
                    None => "nothing".to_owned(),
                    Some(balance) => {
                        let held = i128::from(balance.pending_debits);
                        let (posted, held) =
                            (commodity.show(balance.posted()), commodity.show(held));
                        format!("{posted} (held {held}) {commodity}")
                    }
                };
                write!(
                    f,
                    "{account}: stored {}, should be {}",
                    show(stored),
                    show(computed)
                )
            }
            Self::Hold {
                id,
                stored,
                computed,
            } => {
                let show = |hold: &Option<Box<Hold>>| match hold {
                    None => "nothing".to_owned(),
                    Some(hold) => {
                        let left = hold.commodity.show(hold.left.into());
                        format!("{left} {} of {}", hold.commodity, hold.from)
                    }
                };
                write!(
                    f,
                    "hold {id}: stored {}, should be {}",
                    show(stored),
                    show(computed)
                )
            }
            Self::Posting {
                id,
                stored,
                computed,
            } => match stored {
                None => write!(f, "posting {id} of entry {computed} is not found"),
                Some(stored) => write!(
                    f,
                    "posting {id} of entry {computed} is said to be of entry {stored}"
                ),
            },
            Self::Receipt { device, sequence } => {
                write!(
                    f,
                    "the receipt of entry {sequence} is not among those of {device}"
                )
            }
            Self::Count { stored, computed } => write!(
                f,
                "{} postings and {} receipts are named, there are {} and {}",
                stored.0, stored.1, computed.0, computed.1
            ),
            Self::Unreadable { reason } => f.write_str(reason),
        }
    }
}

/// Why the books could not be computed again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The tables could not be read.
    #[error("rebuild the books")]
    Read(#[from] ReadError),
    /// An entry is none.
    #[error("rebuild the books: entry {sequence} is none")]
    Undecodable {
        /// Its place.
        sequence: u64,
        /// Why not.
        source: DecodeError,
    },
    /// A posting of the log is not possible.
    #[error("rebuild the books: the posting of entry {sequence}: {fault}")]
    Posting {
        /// The entry.
        sequence: u64,
        /// Why not.
        fault: PostingFault,
    },
    /// The books could not be written.
    #[error("rebuild the books")]
    Commit(#[from] CommitError),
}

impl RebuildError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Read(error) => error.hint(),
            Self::Commit(error) => error.hint(),
            Self::Undecodable { .. } | Self::Posting { .. } => {
                "the log itself is damaged: `tally ledger audit` names the first bad entry; restore the ledger from a backup"
            }
        }
    }
}

/// Computes the books again and compares.
///
/// # Errors
/// [`RebuildError`]; what is stored otherwise stands in the result.
pub fn check(reader: &Reader, progress: &mut dyn FnMut(Progress)) -> Result<Rebuilt, RebuildError> {
    let (log, stored) = reader.log_and_books()?;
    Ok(compute(&log, &stored, progress)?.1)
}

/// Computes the books again, compares, and replaces what is stored in one transaction if there is a difference. Returns
/// what was there before.
///
/// # Errors
/// [`RebuildError`]; unless it is [`RebuildError::Commit`] nothing was written.
pub fn write(store: &Store, progress: &mut dyn FnMut(Progress)) -> Result<Rebuilt, RebuildError> {
    let (log, stored) = store.log_and_books()?;
    let (books, rebuilt) = compute(&log, &stored, progress)?;
    drop(stored);
    if rebuilt.differences == 0 {
        return Ok(rebuilt);
    }
    // All of them were read and decoded a moment ago.
    let entries = log.entries(0..u64::MAX)?;
    let mut names = entries.filter_map(|entry| Name::of(&entry.ok()?.decode().ok()?));
    store.replace_projection(&books, &mut names)?;
    Ok(rebuilt)
}

fn compute(
    log: &Log,
    stored: &Projection,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Books, Rebuilt), RebuildError> {
    let total = log.head()?.size();
    let names = stored.names()?;
    let (mut books, mut differences) = (Books::default(), Differences::default());
    let mut named = (0, 0);
    for stored in log.entries(0..u64::MAX)? {
        let stored = stored?;
        if stored.sequence.is_multiple_of(PROGRESS_ENTRIES) {
            let done = stored.sequence;
            progress(Progress { done, total });
        }
        let entry = decode(&stored)?;
        if let Some(posting) = &entry.posting {
            books
                .post(entry.at, posting)
                .map_err(|fault| RebuildError::Posting {
                    sequence: entry.sequence,
                    fault,
                })?;
        }
        if let Some(name) = Name::of(&entry) {
            differences.check_name(&names, &name, &mut named)?;
        }
    }
    differences.check_counts(&names, named)?;
    differences.check_books(stored, &books)?;
    progress(Progress { done: total, total });
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let rebuilt = Rebuilt {
        entries: total,
        lines: count(books.balances().count()),
        holds: count(books.holds().count()),
        postings: named.0,
        receipts: named.1,
        differences: differences.count,
        first: differences.first,
    };
    Ok((books, rebuilt))
}

fn decode(stored: &StoredEntry) -> Result<Entry, RebuildError> {
    stored.decode().map_err(|source| RebuildError::Undecodable {
        sequence: stored.sequence,
        source,
    })
}

/// What is stored otherwise than computed.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    count: u64,
    first: Vec<Difference>,
}

impl Differences {
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the first of them, in the order of the accounts, then of the entries.
    pub(crate) fn first(&self) -> &[Difference] {
        &self.first
    }

    fn add(&mut self, difference: Difference) {
        self.count = self.count.saturating_add(1);
        if self.first.len() < DIFFERENCES_MAX {
            self.first.push(difference);
        }
    }

    /// Looks for the name of an entry, and counts it.
    pub(crate) fn check_name(
        &mut self,
        names: &NameIndex<'_>,
        name: &Name,
        (postings, receipts): &mut (u64, u64),
    ) -> Result<(), ReadError> {
        *postings = postings.saturating_add(1);
        let (id, computed) = (name.posting, name.sequence);
        let stored = names.posting_entry(id)?;
        if stored != Some(computed) {
            self.add(Difference::Posting {
                id,
                stored,
                computed,
            });
        }
        if let Some(device) = name.device {
            *receipts = receipts.saturating_add(1);
            if !names.has_receipt(device, computed)? {
                let sequence = computed;
                self.add(Difference::Receipt { device, sequence });
            }
        }
        Ok(())
    }

    /// Checks that there are no other names than those that were counted.
    pub(crate) fn check_counts(
        &mut self,
        names: &NameIndex<'_>,
        computed: (u64, u64),
    ) -> Result<(), ReadError> {
        let stored = names.counts()?;
        if stored != computed {
            self.add(Difference::Count { stored, computed });
        }
        Ok(())
    }

    /// Compares all lines and holds, before what was found already.
    pub(crate) fn check_books(
        &mut self,
        stored: &Projection,
        computed: &Books,
    ) -> Result<(), ReadError> {
        let stored = match stored.books() {
            Ok(stored) => stored,
            Err(ReadError::Storage(error)) => return Err(ReadError::Storage(error)),
            Err(error @ (ReadError::Damaged { .. } | ReadError::Undecodable(_))) => {
                let reason = error.to_string();
                self.add(Difference::Unreadable { reason });
                return Ok(());
            }
        };
        let mut found = Self::default();
        for (&(account, commodity), (stored, computed)) in
            both(stored.balances(), computed.balances())
        {
            found.add(Difference::Balance {
                account: Box::new(account),
                commodity,
                stored,
                computed,
            });
        }
        for (&id, (stored, computed)) in both(stored.holds(), computed.holds()) {
            found.add(Difference::Hold {
                id,
                stored: stored.map(Box::new),
                computed: computed.map(Box::new),
            });
        }
        found.count = found.count.saturating_add(self.count);
        found.first.append(&mut self.first);
        found.first.truncate(DIFFERENCES_MAX);
        *self = found;
        Ok(())
    }
}

/// What is stored and what was computed under one key.
type Both<V> = (Option<V>, Option<V>);

/// Returns what differs under the keys of both.
fn both<'a, K: Ord, V: PartialEq + Copy + 'a>(
    stored: impl Iterator<Item = (&'a K, &'a V)>,
    computed: impl Iterator<Item = (&'a K, &'a V)>,
) -> BTreeMap<&'a K, Both<V>> {
    let mut rows: BTreeMap<&K, Both<V>> = BTreeMap::new();
    for (key, value) in stored {
        rows.entry(key).or_default().0 = Some(*value);
    }
    for (key, value) in computed {
        rows.entry(key).or_default().1 = Some(*value);
    }
    rows.retain(|_, (stored, computed)| stored != computed);
    rows
}
