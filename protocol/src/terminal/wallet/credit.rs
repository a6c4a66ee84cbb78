//! How much work a coordinator may owe, and the trials of one that owes more.
//!
//! A coordinator gets credit for each slot, and for a tenth of what it has paid. What it owes beyond that may have good
//! reasons: results wait for others, who wait too; a customer has cancelled; a crash took its records of who was
//! told what. So it is not left alone for ever. Now and then it gets one unit on [`Trial`]. As long as it pays for
//! each of them it gets the next at once, so it lives from hand to mouth until it has paid enough; if it does not, the
//! pause doubles. Who never pays gets from a terminal its credit, and from each start of it eleven units on the first
//! day and one on each further day.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a coordinator may owe for each slot before it has paid anything.
const CREDIT_OF_SLOT: Duration = Duration::from_secs(30);
/// What a coordinator may declare unpaid for each slot before it has paid anything. A customer that cancels leaves what
/// no quorum agreed on yet: some units in each slot, which may take minutes. Without this an honest coordinator would
/// lose its terminals for ever when a customer changes its mind.
const UNPAID_OF_SLOT: Duration = Duration::from_secs(600);
/// The part of the work it has paid for that a coordinator may owe beyond that: one in so many.
const CREDIT_OF_PAID: u64 = 10;
/// Results for each slot that any coordinator may owe: a unit may run for hours, and somebody else has to run it too.
const CREDIT_RESULTS: u64 = 2;
/// Bounds of the pause between two units on trial; it doubles with each that is not paid.
const TRIAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3_600));

/// Work as a terminal counts it: results, and the time that they ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// How many results.
    pub results: u64,
    /// How long they ran, in nanoseconds.
    pub nanos: u64,
}

impl Effort {
    /// Returns how long the results ran.
    #[must_use]
    pub const fn time(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    pub(super) const fn one(nanos: u64) -> Self {
        Self { results: 1, nanos }
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        Self {
            results: self.results.saturating_add(other.results),
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    pub(super) const fn less(self, other: Self) -> Self {
        Self {
            results: self.results.saturating_sub(other.results),
            nanos: self.nanos.saturating_sub(other.nanos),
        }
    }

    /// Returns the share of `results` of all these.
    pub(super) fn share(self, results: u64) -> Self {
        let results = results.min(self.results);
        let product = u128::from(self.nanos).saturating_mul(u128::from(results));
        let nanos = product
            .checked_div(u128::from(self.results))
            .map_or(0, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX));
        Self { results, nanos }
    }
}

/// What a coordinator took, paid and did not pay, since this terminal knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Results that it counted.
    pub counted: Effort,
    /// Results for which it gave receipts.
    pub paid: Effort,
    /// Results that it counted and will not pay.
    pub unpaid: Effort,
}

impl Totals {
    /// Returns the results for which neither a receipt nor a reason came.
    #[must_use]
    pub const fn owed(&self) -> Effort {
        self.counted.less(self.paid).less(self.unpaid)
    }

    /// Returns the work that brought nothing so far: what is owed and what was declared unpaid.
    fn risked(&self) -> Effort {
        self.owed().plus(self.unpaid)
    }
}

/// How things stand with a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// All that happened.
    pub totals: Totals,
    /// How much work it may owe: half a minute for each slot, and a tenth of what it has paid. Together with what it
    /// declared unpaid it may be ten minutes for each slot, and that tenth.
    pub limit: Duration,
    /// Whether it owes more than that, and so gets no more work done than a unit on trial now and then, until it pays.
    pub owing: bool,
}

impl Credit {
    /// Returns how things stand after `totals`, for a terminal with so many slots.
    #[must_use]
    pub fn of(totals: Totals, slots: usize) -> Self {
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        let earned = totals.paid.nanos.checked_div(CREDIT_OF_PAID).unwrap_or(0);
        let with = |of_slot: Duration| {
            let free = u64::try_from(of_slot.as_nanos()).unwrap_or(u64::MAX);
            free.saturating_mul(slots).saturating_add(earned)
        };
        let limit = with(CREDIT_OF_SLOT);
        let is_over = |effort: Effort, limit: u64| {
            effort.nanos > limit && effort.results > slots.saturating_mul(CREDIT_RESULTS)
        };
        let owing = is_over(totals.owed(), limit) || is_over(totals.risked(), with(UNPAID_OF_SLOT));
        Self {
            totals,
            limit: Duration::from_nanos(limit),
            owing,
        }
    }
}

/// Units on trial for a coordinator that owes too much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    /// How things stood when the last one was given, or when this began.
    before: Totals,
    /// Units in a row that were not paid before the next one was given.
    failed: u32,
    /// When the next one is given although the last one is not paid.
    again: Timestamp,
}

impl Trial {
    pub(super) fn new(now: Timestamp, totals: Totals) -> Self {
        Self {
            before: totals,
            failed: 0,
            again: later(now, TRIAL.0),
        }
    }

    /// Returns whether the next unit may be asked for.
    pub(super) fn is_due(&self, now: Timestamp, totals: &Totals) -> bool {
        self.is_paid(totals) || self.again <= now
    }

    /// Returns the trials after one more unit was given.
    pub(super) fn given(self, now: Timestamp, totals: Totals) -> Self {
        let failed = if self.is_paid(&totals) {
            0
        } else {
            self.failed.saturating_add(1)
        };
        let pause = TRIAL.0.saturating_mul(1 << failed.min(16));
        Self {
            before: totals,
            failed,
            again: later(now, pause.min(TRIAL.1)),
        }
    }

    /// Returns whether as much as the last unit was paid: something was, and no more is at risk than before it.
    fn is_paid(&self, totals: &Totals) -> bool {
        totals.paid.nanos > self.before.paid.nanos
            && totals.risked().nanos <= self.before.risked().nanos
    }
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the sum of a timestamp and a duration saturates"
)]
fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now + pause
}
