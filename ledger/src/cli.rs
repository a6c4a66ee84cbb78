//! `tally ledger entries | show | verify`: the questions, the answers and how they look.
//!
//! A [`LedgerQuery`] is put to the tables by [`answer`], be it by the command line with a [`Reader`] of a file, or by
//! a running node that got it over its admin interface. The [`LedgerAnswer`] is the same either way: as JSON it has
//! full ids, and [`render`] makes text of at most [`COLUMNS`] columns of it for people.
//!
//! An answer is bounded: at most [`LIMIT_MAX`] entries, found among at most [`SCAN_MAX`]; [`ask_for_all`] goes on
//! where an answer stopped.

mod table;
mod view;

use serde::{Deserialize, Serialize};
use tally_protocol::id::{Hash, NetworkId};

use crate::audit::{self, Report};
use crate::store::{ReadError, Reader, StoredEntry};

pub use table::{COLUMNS, render};
pub use view::{
    EntryDetail, EntryRow, EventDetail, EventRow, ParsePrefixError, Statement, TaskPrefix,
    TaskSummary,
};

/// The most entries of one answer.
pub const LIMIT_MAX: u32 = 1_000;
/// The most entries that are read for one answer, so that a question about a rare task keeps nobody waiting.
pub const SCAN_MAX: u64 = 100_000;

/// A question about the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case", deny_unknown_fields)]
pub enum LedgerQuery {
    /// Which entries are there?
    Entries(EntriesQuery),
    /// What does this entry say?
    Show {
        /// Its place in the log.
        sequence: u64,
    },
    /// Is the log whole?
    Verify,
}

/// Which entries to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    /// The first sequence.
    pub from: u64,
    /// The sequence after the last; `None` for the end of the log.
    pub to: Option<u64>,
    /// Only entries of the task whose id starts with these hex digits.
    pub task: Option<TaskPrefix>,
    /// The most entries wanted.
    pub limit: u32,
    /// From which end of the range.
    pub order: Order,
}

/// From which end entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As in the log.
    OldestFirst,
    /// The latest first.
    NewestFirst,
}

/// An answer about the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LedgerAnswer {
    /// To [`LedgerQuery::Entries`].
    Entries(EntriesPage),
    /// To [`LedgerQuery::Show`].
    Entry(EntryDetail),
    /// To [`LedgerQuery::Verify`].
    Verify(Report),
}

/// Entries of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesPage {
    /// Entries in the log.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// What was found, in the order that was asked for.
    pub rows: Vec<EntryRow>,
    /// Where to go on, as `from` or, newest first, as `to`; `None` at the end of the range.
    pub next: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The log is shorter.
    #[error("show entry {sequence}: the log has {size} entries")]
    NoSuchEntry {
        /// Its place.
        sequence: u64,
        /// Entries in the log.
        size: u64,
    },
    /// The tables could not be read.
    #[error("answer a question about the ledger")]
    Read(#[from] ReadError),
}

impl AnswerError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSuchEntry { .. } => "`tally ledger entries` lists what there is",
            Self::Read(error) => error.hint(),
        }
    }
}

/// Answers a question from the tables.
///
/// # Errors
/// [`AnswerError`].
pub fn answer(reader: &Reader, query: &LedgerQuery) -> Result<LedgerAnswer, AnswerError> {
    Ok(match query {
        LedgerQuery::Entries(query) => LedgerAnswer::Entries(list(reader, query)?),
        LedgerQuery::Show { sequence } => LedgerAnswer::Entry(show(reader, *sequence)?),
        LedgerQuery::Verify => LedgerAnswer::Verify(audit::verify(reader, &mut |_| ())?),
    })
}

/// Puts a question, and for entries goes on page by page until there are as many as its limit says, or no more.
///
/// # Errors
/// The first error of `ask`.
pub fn ask_for_all<E>(
    query: LedgerQuery,
    mut ask: impl FnMut(&LedgerQuery) -> Result<LedgerAnswer, E>,
) -> Result<LedgerAnswer, E> {
    let mut answer = ask(&query)?;
    let LedgerQuery::Entries(mut rest) = query else {
        return Ok(answer);
    };
    while let LedgerAnswer::Entries(all) = &mut answer
        && let Some(next) = all.next
    {
        let found = u32::try_from(all.rows.len()).unwrap_or(u32::MAX);
        let wanted = rest.limit.saturating_sub(found);
        if wanted == 0 {
            break;
        }
        // What is appended meanwhile is not part of the answer.
        let to = *rest.to.get_or_insert(all.size);
        let (from, to) = match rest.order {
            Order::OldestFirst => (next, to),
            Order::NewestFirst => (rest.from, next),
        };
        let page = LedgerQuery::Entries(EntriesQuery {
            from,
            to: Some(to),
            limit: wanted,
            ..rest.clone()
        });
        let LedgerAnswer::Entries(page) = ask(&page)? else {
            break;
        };
        all.rows.extend(page.rows);
        all.next = page.next;
    }
    Ok(answer)
}

fn list(reader: &Reader, query: &EntriesQuery) -> Result<EntriesPage, ReadError> {
    let log = reader.log()?;
    let head = log.head()?;
    let to = query.to.unwrap_or(u64::MAX).min(head.size());
    let from = query.from.min(to);
    // What is read for this answer; the rest of the range is for the next.
    let (scanned, rest) = match query.order {
        Order::OldestFirst => {
            let end = from.saturating_add(SCAN_MAX).min(to);
            (from..end, (end < to).then_some(end))
        }
        Order::NewestFirst => {
            let start = to.saturating_sub(SCAN_MAX).max(from);
            (start..to, (start > from).then_some(start))
        }
    };
    let mut page = EntriesPage {
        size: head.size(),
        root: head.root(),
        rows: Vec::new(),
        next: rest,
    };
    let entries = log.entries(scanned)?;
    let entries: Box<dyn Iterator<Item = _>> = match query.order {
        Order::OldestFirst => Box::new(entries),
        Order::NewestFirst => Box::new(entries.rev()),
    };
    for entry in entries {
        let entry = entry?;
        if page.rows.len() as u64 >= u64::from(query.limit.min(LIMIT_MAX)) {
            page.next = Some(match query.order {
                Order::OldestFirst => entry.sequence,
                Order::NewestFirst => entry.sequence.saturating_add(1),
            });
            break;
        }
        page.rows
            .extend(row(&entry, query, &reader.identity().network));
    }
    Ok(page)
}

/// Returns the row of an entry, if it is asked for.
fn row(entry: &StoredEntry, query: &EntriesQuery, network: &NetworkId) -> Option<EntryRow> {
    let Some(wanted) = &query.task else {
        return Some(EntryRow::of(entry, network));
    };
    if !wanted.may_be_in(&entry.bytes) {
        return None;
    }
    let row = EntryRow::of(entry, network);
    row.task()
        .is_some_and(|task| wanted.is_of(task))
        .then_some(row)
}

fn show(reader: &Reader, sequence: u64) -> Result<EntryDetail, AnswerError> {
    let log = reader.log()?;
    let Some(entry) = log.entry(sequence)? else {
        let size = log.head()?.size();
        return Err(AnswerError::NoSuchEntry { sequence, size });
    };
    let leaf = log.leaf(sequence)?.ok_or(ReadError::Damaged {
        what: "a leaf of the tree is missing",
    })?;
    Ok(EntryDetail::of(&entry, leaf, &reader.identity().network)?)
}
