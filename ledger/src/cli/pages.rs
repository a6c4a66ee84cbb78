//! The entries of a log one after another, asked for page by page.

use std::ops::Range;

use super::{EntryBytes, LedgerAnswer, LedgerQuery};
use crate::store::StoredEntry;

/// An answer that does not belong to its question, or that lacks entries which must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read entry {sequence}: the answer does not have it")]
pub struct UnexpectedAnswer {
    /// The entry that was asked for.
    pub sequence: u64,
}

/// Entries in order, from whoever answers a [`LedgerQuery::Bytes`]. It ends after the first error.
#[derive(Debug)]
pub struct Pages<A> {
    ask: A,
    range: Range<u64>,
    page: std::vec::IntoIter<EntryBytes>,
}

impl<A> Pages<A> {
    /// Asks for the entries of a range that are all there.
    pub fn new(range: Range<u64>, ask: A) -> Self {
        Self {
            ask,
            range,
            page: Vec::new().into_iter(),
        }
    }
}

impl<A, E> Iterator for Pages<A>
where
    A: FnMut(&LedgerQuery) -> Result<LedgerAnswer, E>,
    E: From<UnexpectedAnswer>,
{
    type Item = Result<StoredEntry, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.range.is_empty() {
            return None;
        }
        if self.page.len() == 0 {
            let Range {
                start: from,
                end: to,
            } = self.range;
            match (self.ask)(&LedgerQuery::Bytes { from, to }) {
                Ok(LedgerAnswer::Bytes(page)) if page.from == from => {
                    self.page = page.entries.into_iter();
                }
                Ok(_) => {}
                Err(error) => {
                    self.range = to..to;
                    return Some(Err(error));
                }
            }
        }
        let sequence = self.range.next()?;
        let Some(EntryBytes(bytes)) = self.page.next() else {
            self.range = 0..0;
            return Some(Err(UnexpectedAnswer { sequence }.into()));
        };
        Some(Ok(StoredEntry { sequence, bytes }))
    }
}
