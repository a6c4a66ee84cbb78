//! What a coordinator and an app server agree on: what points are worth at the app server, and until which amount the
//! coordinator stands for them.
//!
//! The app server signs an [`Agreement`], the coordinator countersigns it. Agreements between the two are numbered; the
//! highest number that both signed and that holds at the moment is in force.
//!
//! Invariant: points are worth at the app server at most what the coordinator's rate card puts aside for them.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::account::{Currency, Money};
use crate::id::NodeId;
use crate::points::Points;
use crate::rate_card::{Price, Rates};
use crate::signed::Statement;
use crate::time::Timestamp;

/// The longest period, in seconds: about three years.
pub const PERIOD_SECONDS_MAX: u32 = 100_000_000;

/// What both sides sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Who gives something for points.
    pub app_server: NodeId,
    /// Whose points they are.
    pub coordinator: NodeId,
    /// Above that of the agreement before, from 1 on. Of those that hold, the one with the highest number is in force.
    pub number: u32,
    /// The currency of all amounts.
    pub currency: Currency,
    /// What points are worth, rounded down.
    pub value: Price,
    /// The time over which `cap` and `supply_fee` are counted, in seconds. Periods start at the Unix epoch.
    pub period_seconds: u32,
    /// The most that may be redeemed in a period, in minor units.
    pub cap: u64,
    /// The most that may be owed and not paid, in minor units: redemptions that are set aside or taken, and supply fees.
    pub credit: u64,
    /// What the coordinator owes for each device that the app server supplied it with and that earned something in a
    /// period, in minor units.
    pub supply_fee: u64,
    /// The most such devices that are counted in a period.
    pub supply_devices_max: u32,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

impl Statement for Agreement {
    const TYPE: &'static str = "application/tally-agreement+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

/// Why an agreement cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum AgreementFault {
    /// A constant is out of its bounds.
    #[error("{name} is {value}, it must be {bounds}")]
    Bounds {
        /// The constant.
        name: String,
        /// What it is.
        value: String,
        /// What it may be.
        bounds: String,
    },
    /// The coordinator counts in another currency.
    #[error("the agreement is in {found}, the coordinator's rate card in {expected}")]
    Currency {
        /// That of the agreement.
        found: Currency,
        /// That of the rate card.
        expected: Currency,
    },
    /// A point would be worth more than what is put aside for it.
    #[error(
        "1000 points would be worth {value}, only {reserve} of the rate card stand behind them"
    )]
    Unfunded {
        /// What the agreement says, for 1,000 points.
        value: Money,
        /// What the rate card puts aside, for 1,000 points.
        reserve: Money,
    },
}

impl Agreement {
    /// Checks the constants against each other and against the coordinator's rates.
    ///
    /// # Errors
    /// [`AgreementFault`], the first thing found wrong.
    pub fn check(&self, rates: &Rates) -> Result<(), AgreementFault> {
        let bounds = |name: &str, value: String, bounds: &str| {
            let (name, bounds) = (name.to_owned(), bounds.to_owned());
            Err(AgreementFault::Bounds {
                name,
                value,
                bounds,
            })
        };
        if self.value.micro_points == 0 {
            return bounds("value.micro_points", "0".to_owned(), "above zero");
        }
        if !(1..=PERIOD_SECONDS_MAX).contains(&self.period_seconds) {
            let value = self.period_seconds.to_string();
            return bounds("period_seconds", value, "1 to 100000000");
        }
        if self.not_after <= self.not_before {
            let value = self.not_after.to_string();
            return bounds("not_after", value, "later than not_before");
        }
        if self.currency != rates.currency {
            return Err(AgreementFault::Currency {
                found: self.currency,
                expected: rates.currency,
            });
        }
        if self.is_funded_by(rates) {
            return Ok(());
        }
        let thousand = Points::from_micro(1_000_000_000);
        let money = |price: Price| Money {
            currency: self.currency,
            minor: price.of_floor(thousand).unwrap_or(u64::MAX),
        };
        Err(AgreementFault::Unfunded {
            value: money(self.value),
            reserve: money(rates.reserve),
        })
    }

    /// Returns whether as much stands behind points as they are worth.
    fn is_funded_by(&self, rates: &Rates) -> bool {
        let product = |price: Price, per: Price| {
            u128::from(price.minor).checked_mul(u128::from(per.micro_points))
        };
        let (value, reserve) = (self.value, rates.reserve);
        match (product(value, reserve), product(reserve, value)) {
            (Some(value), Some(reserve)) => value <= reserve,
            _ => false,
        }
    }

    /// Returns whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// Returns the number of the period that `at` is in.
    #[must_use]
    pub fn period(&self, at: Timestamp) -> u64 {
        let millis = u64::from(self.period_seconds).saturating_mul(1_000);
        at.as_millis().checked_div(millis).unwrap_or(0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn agreement() -> Agreement {
        Agreement {
            app_server: NodeId::from_bytes([1; 32]),
            coordinator: NodeId::from_bytes([2; 32]),
            number: 1,
            currency: "EUR".parse().unwrap(),
            value: Price {
                minor: 50,
                micro_points: 1_000_000,
            },
            period_seconds: 86_400,
            cap: 100_000,
            credit: 50_000,
            supply_fee: 10,
            supply_devices_max: 100,
            not_before: Timestamp::from_millis(1_000),
            not_after: Timestamp::from_millis(9_000),
        }
    }

    fn rates(minor: u64, micro_points: u64) -> Rates {
        let mut rates = Rates::free("EUR".parse().unwrap());
        rates.reserve = Price {
            minor,
            micro_points,
        };
        rates
    }

    #[test]
    fn points_are_worth_at_most_what_stands_behind_them() {
        assert_eq!(agreement().check(&rates(50, 1_000_000)), Ok(()));
        assert_eq!(agreement().check(&rates(100, 2_000_000)), Ok(()));
        let fault = agreement().check(&rates(49, 1_000_000)).unwrap_err();
        let text = "1000 points would be worth 500.00 EUR, only 490.00 EUR of the rate card stand behind them";
        assert_eq!(fault.to_string(), text);
        let huge = Agreement {
            value: Price {
                minor: u64::MAX,
                micro_points: 1,
            },
            ..agreement()
        };
        assert!(huge.check(&rates(1, u64::MAX)).is_err());
    }

    #[test]
    fn senseless_constants_are_named_with_their_value() {
        let rates = rates(50, 1_000_000);
        let mut wrong = agreement();
        wrong.period_seconds = 0;
        let fault = wrong.check(&rates).unwrap_err().to_string();
        assert_eq!(fault, "period_seconds is 0, it must be 1 to 100000000");
        let mut wrong = agreement();
        wrong.not_after = wrong.not_before;
        assert!(wrong.check(&rates).is_err());
        let mut wrong = agreement();
        wrong.currency = "USD".parse().unwrap();
        let fault = wrong.check(&rates).unwrap_err();
        assert!(matches!(fault, AgreementFault::Currency { .. }));
    }

    #[test]
    fn it_holds_from_its_first_moment_to_before_its_last() {
        let holds = |millis| agreement().holds(Timestamp::from_millis(millis));
        assert_eq!(
            [999, 1_000, 8_999, 9_000].map(holds),
            [false, true, true, false]
        );
        let period = |millis| agreement().period(Timestamp::from_millis(millis));
        assert_eq!((period(86_399_999), period(86_400_000)), (0, 1));
    }
}
