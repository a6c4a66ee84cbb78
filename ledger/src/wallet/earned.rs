//! What was earned when: the sums of the receipts that came, by quarters of an hour.
//!
//! The clocks of all countries differ from UTC by quarters of an hour, so the day of any place is a whole number of rows,
//! and is read without reading a receipt.
//!
//! Invariants: a row is the sum of the receipts that were kept in its quarter, written in the same transaction as they;
//! the total is the sum of all receipts that ever came, whatever rows there are; there are at most [`ROWS_MAX`] rows.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};
use tally_protocol::codec;
use tally_protocol::points::Points;
use tally_protocol::receipt::Receipt;
use tally_protocol::time::Timestamp;

use super::tables::Tables;
use super::{EARNED, Wallet, WalletError, decode};

/// The most days of one answer: a leap year.
pub const EARNED_DAYS_MAX: u32 = 366;
/// The most quarters that are remembered: those of [`EARNED_DAYS_MAX`] days of a terminal that earns all the time, and of
/// two more, so that the first day is whole everywhere.
const ROWS_MAX: u64 = 368 * 96;
const QUARTER_MILLIS: u64 = 15 * 60 * 1_000;
const DAY_MILLIS: i64 = 24 * 3_600 * 1_000;
/// How far clocks are before and behind UTC, in minutes.
const OFFSETS: std::ops::RangeInclusive<i32> = -12 * 60..=14 * 60;

/// How far the clock of a place is before UTC: a whole number of quarters of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct UtcOffset(i32);

impl UtcOffset {
    /// Takes the minutes of the nearest clock that there is.
    #[must_use]
    pub fn nearest(minutes: i32) -> Self {
        let minutes = minutes.clamp(*OFFSETS.start(), *OFFSETS.end());
        Self(minutes.saturating_sub(minutes % 15))
    }

    /// Returns the minutes.
    #[must_use]
    pub const fn minutes(self) -> i32 {
        self.0
    }

    /// Returns what a clock there shows at this moment, as if it were UTC.
    #[must_use]
    pub fn local(self, at: Timestamp) -> Timestamp {
        let millis = self.local_millis(at);
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    fn local_millis(self, at: Timestamp) -> i64 {
        let utc = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        utc.saturating_add(self.millis())
    }

    fn millis(self) -> i64 {
        i64::from(self.0).saturating_mul(60_000)
    }

    /// Returns the moment at which the day begins there that is so many days after 1970-01-01.
    fn midnight(self, day: i64) -> Timestamp {
        let millis = day.saturating_mul(DAY_MILLIS).saturating_sub(self.millis());
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    fn day(self, at: Timestamp) -> i64 {
        self.local_millis(at).div_euclid(DAY_MILLIS)
    }
}

impl TryFrom<i32> for UtcOffset {
    type Error = String;

    fn try_from(minutes: i32) -> Result<Self, String> {
        let nearest = Self::nearest(minutes);
        if nearest.0 == minutes {
            Ok(nearest)
        } else {
            let (first, last) = (OFFSETS.start(), OFFSETS.end());
            Err(format!(
                "{minutes} minutes before UTC is no clock's time: {first} to {last}, by quarters of an hour"
            ))
        }
    }
}

impl From<UtcOffset> for i32 {
    fn from(offset: UtcOffset) -> Self {
        offset.0
    }
}

/// What receipts bring together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earned {
    /// How many receipts.
    pub receipts: u64,
    /// Units that they pay.
    pub units: u64,
    /// Points that they promise.
    pub points: Points,
}

impl Earned {
    /// Returns what one receipt brings.
    #[must_use]
    pub const fn by(receipt: &Receipt) -> Self {
        Self {
            receipts: 1,
            units: receipt.units as u64,
            points: receipt.points,
        }
    }

    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let points = self.points.checked_add(other.points);
        Self {
            receipts: self.receipts.saturating_add(other.receipts),
            units: self.units.saturating_add(other.units),
            points: points.unwrap_or(Points::from_micro(u64::MAX)),
        }
    }
}

/// What was earned on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarnedDay {
    /// Its date there: `2026-01-31`.
    pub date: String,
    /// When it began.
    pub since: Timestamp,
    /// What came on it.
    #[serde(flatten)]
    pub earned: Earned,
}

/// What was earned on the latest days, and in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earnings {
    /// The days, also those on which nothing came, the oldest first; the last one is today.
    pub days: Vec<EarnedDay>,
    /// Everything that ever came.
    pub total: Earned,
}

impl Earnings {
    /// Returns what came on the latest days, today included.
    #[must_use]
    pub fn latest(&self, days: usize) -> Earned {
        let days = self.days.iter().rev().take(days);
        days.fold(Earned::default(), |sum, day| sum.plus(day.earned))
    }
}

impl Wallet {
    /// Returns what was earned on the latest `days`, 1 to [`EARNED_DAYS_MAX`], up to `now`, as days are counted where the
    /// clock is `offset` before UTC.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn earnings(
        &self,
        now: Timestamp,
        days: u32,
        offset: UtcOffset,
    ) -> Result<Earnings, WalletError> {
        let mut earnings = Earnings::default();
        for (_, account) in self.accounts()? {
            earnings.total = earnings.total.plus(Earned {
                receipts: account.receipts,
                units: account.units,
                points: account.points,
            });
        }
        let count = i64::from(days.clamp(1, EARNED_DAYS_MAX));
        let today = offset.day(now);
        let first = today.saturating_sub(count).saturating_add(1);
        for day in first..=today {
            let since = offset.midnight(day);
            let date = offset.local(since).to_string();
            earnings.days.push(EarnedDay {
                date: date.split('T').next().unwrap_or_default().to_owned(),
                since,
                earned: Earned::default(),
            });
        }
        let ends = offset.midnight(today.saturating_add(1));
        let table = self.begin_read()?.open_table(EARNED)?;
        for row in table.range(quarter(offset.midnight(first))..quarter(ends))? {
            let (number, row) = row?;
            let at = Timestamp::from_millis(number.value().saturating_mul(QUARTER_MILLIS));
            let place = usize::try_from(offset.day(at).saturating_sub(first)).ok();
            if let Some(day) = place.and_then(|place| earnings.days.get_mut(place)) {
                day.earned = day.earned.plus(decode(row.value(), "earned")?);
            }
        }
        Ok(earnings)
    }
}

impl Tables<'_> {
    /// Adds what came in a quarter of an hour.
    pub(super) fn add_earned(&mut self, quarter: u64, earned: Earned) -> Result<(), WalletError> {
        let row = self.earned.get(quarter)?;
        let before: Option<Earned> = row.map(|row| decode(row.value(), "earned")).transpose()?;
        let bytes = codec::to_bytes(&before.unwrap_or_default().plus(earned));
        self.earned.insert(quarter, bytes.as_slice())?;
        while self.earned.len()? > ROWS_MAX {
            self.earned.pop_first()?;
        }
        Ok(())
    }
}

/// Returns the number of the quarter of an hour in which this is.
pub(super) const fn quarter(at: Timestamp) -> u64 {
    at.as_millis() / QUARTER_MILLIS
}
