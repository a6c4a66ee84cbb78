//! What the tables do not tell directly, read from the entries.

use tally_protocol::books::Books;
use tally_protocol::entry::Event;
use tally_protocol::id::{PostingId, ReceiptId};

use crate::store::{ReadError, Reader};

pub(super) fn books(reader: &Reader) -> Result<(Books, u64), ReadError> {
    let log = reader.log()?;
    let size = log.head()?.size();
    let mut books = Books::default();
    for entry in log.entries(0..size)? {
        let entry = entry?.decode()?;
        if let Some(posting) = &entry.posting {
            books
                .post(entry.at, posting)
                .map_err(|_| ReadError::Damaged {
                    what: "a posting is not possible",
                })?;
        }
    }
    Ok((books, size))
}

pub(super) fn receipt_entry(reader: &Reader, id: ReceiptId) -> Result<Option<u64>, ReadError> {
    for entry in reader.entries(0..u64::MAX)? {
        let entry = entry?.decode()?;
        if let Event::Receipted { receipt, .. } = &entry.event
            && receipt.id() == id
        {
            return Ok(Some(entry.sequence));
        }
    }
    Ok(None)
}

pub(super) fn posting_entry(reader: &Reader, id: PostingId) -> Result<Option<u64>, ReadError> {
    for entry in reader.entries(0..u64::MAX)? {
        let entry = entry?.decode()?;
        if entry.posting.is_some_and(|posting| posting.id == id) {
            return Ok(Some(entry.sequence));
        }
    }
    Ok(None)
}
