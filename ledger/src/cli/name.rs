//! How people name things on the command line: short where a table shows it short.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use tally_protocol::id::{NodeId, PostingId, ReceiptId, TaskId};
use tally_protocol::time::Timestamp;

/// A text that names nothing of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct ParseNameError {
    text: String,
    kind: &'static str,
}

impl ParseNameError {
    pub(super) fn new(text: &str, kind: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { text, kind }
    }
}

/// Makes a type go through its text in JSON.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, ParseNameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
as_text!(TaskPrefix, NodeName, EntryName, Moment);

/// The first hex digits of a task id, as tables show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskPrefix {
    digits: String,
    /// The digits that make whole bytes.
    bytes: Vec<u8>,
}

impl TaskPrefix {
    /// Returns whether the bytes of an entry can be about such a task: quick, and never wrongly false.
    pub(super) fn may_be_in(&self, entry: &[u8]) -> bool {
        contains(entry, &self.bytes)
    }

    /// Returns whether the id starts with these digits.
    pub(super) fn is_of(&self, task: TaskId) -> bool {
        task.to_string().starts_with(&self.digits)
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else {
        return true;
    };
    let starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts
        .map(|(at, _)| &bytes[at..])
        .any(|rest| rest.starts_with(wanted))
}

impl FromStr for TaskPrefix {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let digits = text.to_ascii_lowercase();
        let refused = || ParseNameError::new(text, "the start of a task id (1 to 64 hex digits)");
        if !(1..=64).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let whole = digits.len() & !1;
        let bytes = HEXLOWER
            .decode(&digits.as_bytes()[..whole])
            .map_err(|_| refused())?;
        Ok(Self { digits, bytes })
    }
}

impl fmt::Display for TaskPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.digits)
    }
}

/// A peer id, or its last characters as tables show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NodeName {
    /// The id.
    Whole(NodeId),
    /// How its text ends.
    End(String),
}

/// The fewest characters that name a node: fewer would fit too many.
const NODE_CHARS_MIN: usize = 4;
/// The most characters of a peer id.
const NODE_CHARS_MAX: usize = 52;

impl NodeName {
    /// Returns whether it names this node.
    #[must_use]
    pub fn is_of(&self, node: NodeId) -> bool {
        match self {
            Self::Whole(id) => *id == node,
            Self::End(end) => node.to_string().ends_with(end),
        }
    }

    /// Returns whether the bytes of an entry can be about such a node: quick, and never wrongly false.
    pub(super) fn may_be_in(&self, entry: &[u8]) -> bool {
        match self {
            Self::Whole(id) => contains(entry, id.as_bytes()),
            Self::End(_) => true,
        }
    }
}

impl FromStr for NodeName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let end = text.trim_start_matches('.');
        let fits = (NODE_CHARS_MIN..NODE_CHARS_MAX).contains(&end.len());
        if fits && end.bytes().all(|c| c.is_ascii_alphanumeric()) {
            Ok(Self::End(end.to_owned()))
        } else {
            Err(ParseNameError::new(
                text,
                "a peer id (12D3KooW...) or its last 4 characters or more",
            ))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(id) => id.fmt(f),
            Self::End(end) => f.pad(end),
        }
    }
}

/// What an entry is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EntryName {
    /// Its place in the log.
    Sequence(u64),
    /// The receipt that it holds.
    Receipt(ReceiptId),
    /// The posting that it made.
    Posting(PostingId),
}

impl FromStr for EntryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let lower = text.to_ascii_lowercase();
        let id = match lower.len() {
            64 => lower.parse().ok().map(Self::Receipt),
            32 => lower.parse().ok().map(Self::Posting),
            _ => lower.parse().ok().map(Self::Sequence),
        };
        id.ok_or_else(|| {
            let kind = "an entry: a number, a receipt id (64 hex digits) or a posting id (32)";
            ParseNameError::new(text, kind)
        })
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(sequence) => sequence.fmt(f),
            Self::Receipt(receipt) => receipt.fmt(f),
            Self::Posting(posting) => posting.fmt(f),
        }
    }
}

/// A moment as people write it: a day, or a day and a time, always UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

impl FromStr for Moment {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let kind = "a day (2026-01-31) or a time in UTC (2026-01-31T23:59:59Z)";
        parse_moment(text)
            .map(Self)
            .ok_or_else(|| ParseNameError::new(text, kind))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse_moment(text: &str) -> Option<Timestamp> {
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (time, part) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 || !(1..=3).contains(&part.len()) {
        return None;
    }
    let [part] = numbers(&format!("{part:0<3}"), '.', [3])?;
    let days = days_from_civil(year, month, day)?;
    let millis = hour
        .checked_mul(3_600)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?
        .checked_mul(1_000)?
        .checked_add(part)?;
    let millis = days.checked_mul(86_400_000)?.checked_add(millis)?;
    Some(Timestamp::from_millis(millis))
}

/// Reads numbers of so many digits between separators.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// Returns the days since 1970-01-01 of a day of the Gregorian calendar from then on; none if there is no such day.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if !(1..=*lengths.get(before)?).contains(&day) {
        return None;
    }
    // Leap years from year 1 to the one before.
    let past = year.checked_sub(1)?;
    let leaps = (past / 4)
        .checked_sub(past / 100)?
        .checked_add(past / 400)?;
    let days = past.checked_mul(365)?.checked_add(leaps)?;
    let in_year: u64 = lengths[..before].iter().sum::<u64>().checked_add(day)?;
    // 1970-01-01 is day 719,163 of this count, which starts with 0001-01-01 as day 1.
    days.checked_add(in_year)?.checked_sub(719_163)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_moment_is_read_as_it_is_written(millis in 0..253_402_300_800_000_u64) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(at.to_string().parse(), Ok(Moment(at)));
        }
    }

    #[test]
    fn a_day_starts_at_midnight_and_nonsense_is_refused() {
        let day: Moment = "2026-11-20".parse().unwrap();
        assert_eq!(day.to_string(), "2026-11-20T00:00:00.000Z");
        for text in [
            "",
            "2026",
            "2026-2-1",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "1969-12-31",
            "2026-01-01T24:00:00Z",
            "2026-01-01T1:00:00",
            "2026-01-01T00:00:00.1234Z",
            "+026-01-01",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_entry_is_named_by_its_place_its_receipt_or_its_posting() {
        assert_eq!("7".parse(), Ok(EntryName::Sequence(7)));
        assert!(matches!("ab".repeat(32).parse(), Ok(EntryName::Receipt(_))));
        assert!(matches!("AB".repeat(16).parse(), Ok(EntryName::Posting(_))));
        assert!("ab".parse::<EntryName>().is_err());
    }

    #[test]
    fn a_node_is_named_as_tables_show_it() {
        let node = NodeId::from_bytes([7; 32]);
        let other = NodeId::from_bytes([8; 32]);
        for text in [
            node.to_string(),
            node.short(),
            format!("..{}", node.short()),
        ] {
            let name: NodeName = text.parse().unwrap();
            assert!(name.is_of(node) && !name.is_of(other), "{text}");
        }
        for text in ["", "abc", "a b c d", &"a".repeat(60)] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }
}
