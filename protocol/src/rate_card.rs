//! What work is worth: the constants by which a coordinator counts points and money.
//!
//! The work of a unit in fuel equivalents is `FE = fuel + fuel_per_byte * (bytes in + bytes out)`, or
//! `FE = weight * core pixels` for image programs that the card lists. The points of one run are
//! `upt = ceil(max(FE, fuel_min) / fuel_per_micro_point)`. One point is 10^6 upt: with the usual constants, a gigafuel.
//!
//! A card is signed by its coordinator and numbered; its id stands in the task, in each grant and in each receipt, so
//! everybody can compute the same amounts. Only what a quorum agreed on is counted, never what somebody claims.
//! Integers only; an amount that does not fit is `None`, never a wrap.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::{Currency, Money};
use crate::id::{BlobId, RateCardId};
use crate::points::Points;
use crate::signed::{Signed, Statement, Verified};
use crate::task::Task;
use crate::task::split::UnitTable;
use crate::time::Timestamp;
use crate::unit::Outcome;

/// The most programs that are paid by pixels.
pub const WEIGHTS_MAX: usize = 64;
/// A whole, in thousandths.
const PERMILLE: u16 = 1_000;
/// The longest times in a card: a hundred years.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A numbered rate card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateCard {
    /// Counts the cards of this coordinator, from 1.
    pub version: u32,
    /// When it was published; it holds for tasks submitted from then on, until there is a newer one.
    pub published: Timestamp,
    /// The constants.
    pub rates: Rates,
}

impl Statement for RateCard {
    const TYPE: &'static str = "application/tally-rate-card+cbor";
    const BYTES_MAX: usize = 8 << 10;
}

/// The constants of a rate card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Fuel equivalents of one byte of input or output.
    pub fuel_per_byte: u64,
    /// The least fuel equivalents that a unit counts as: leasing and checking it costs about as much.
    pub fuel_min: u64,
    /// Fuel equivalents of one micro-point.
    pub fuel_per_micro_point: u64,
    /// Of the fuel limit, in thousandths, what a unit that ended with a trap or without fuel is paid at least: fuel is
    /// only counted at calls and at the ends of blocks, and a customer's mistake is not to be the owner's loss.
    pub failure_permille: u16,
    /// Programs that are paid by core pixels, where the input was split into tiles.
    pub pixel_weights: Vec<PixelWeight>,
    /// Of the points, in thousandths, what stays in escrow for a while.
    pub escrow_permille: u16,
    /// How long it stays there, in seconds.
    pub escrow_seconds: u64,
    /// Points that are released within so many seconds are one lot.
    pub lot_seconds: u64,
    /// How long points may be spent, in seconds; 0 for ever.
    pub life_seconds: u64,
    /// The currency of price and reserve.
    pub currency: Currency,
    /// What customers pay for points.
    pub price: Price,
    /// What of it is put aside until the points are spent. At most the price.
    pub reserve: Price,
}

/// The weight of a program that is paid by pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelWeight {
    /// The program.
    pub program: BlobId,
    /// Fuel equivalents of one core pixel.
    pub fuel: u64,
}

/// An amount of money for an amount of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Minor units of the currency.
    pub minor: u64,
    /// For so many micro-points, above zero.
    pub micro_points: u64,
}

impl Price {
    /// The price of what costs nothing.
    pub const FREE: Self = Self {
        minor: 0,
        micro_points: 1,
    };

    /// Returns what `points` cost, in minor units, rounded up.
    #[must_use]
    pub fn of(self, points: Points) -> Option<u64> {
        let product = u128::from(points.as_micro()).checked_mul(u128::from(self.minor))?;
        let per = u128::from(self.micro_points);
        u64::try_from(product.checked_add(per.checked_sub(1)?)?.checked_div(per)?).ok()
    }

    /// Returns the same, rounded down: what may be taken away when so many points go.
    #[must_use]
    pub fn of_floor(self, points: Points) -> Option<u64> {
        let product = u128::from(points.as_micro()).checked_mul(u128::from(self.minor))?;
        u64::try_from(product.checked_div(u128::from(self.micro_points))?).ok()
    }
}

/// What one run of a unit took, as a quorum agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel used.
    pub fuel: u64,
    /// The fuel limit.
    pub fuel_limit: u64,
    /// Bytes of input and output together.
    pub bytes: u64,
    /// Pixels of the core of a tile; 0 if it is no tile.
    pub pixels: u64,
}

/// Checks that a constant is in its bounds.
fn bounded(
    field: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
    bounds: &'static str,
) -> Result<(), RatesError> {
    if range.contains(&value) {
        return Ok(());
    }
    let value = value.to_string();
    Err(RatesError {
        field,
        value,
        bounds,
    })
}

/// Why a rate card makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, it must be {bounds}")]
pub struct RatesError {
    field: &'static str,
    value: String,
    bounds: &'static str,
}

impl Rates {
    /// Returns the usual constants, with points that cost nothing and have nothing behind them.
    #[must_use]
    pub const fn free(currency: Currency) -> Self {
        Self {
            fuel_per_byte: 10,
            fuel_min: 1_000_000,
            fuel_per_micro_point: 1_000,
            failure_permille: 10,
            pixel_weights: Vec::new(),
            escrow_permille: 500,
            escrow_seconds: 7 * 86_400,
            lot_seconds: 86_400,
            life_seconds: 0,
            currency,
            price: Price::FREE,
            reserve: Price::FREE,
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`RatesError`], the first constant that is out of its bounds.
    pub fn check(&self) -> Result<(), RatesError> {
        bounded(
            "fuel_per_byte",
            self.fuel_per_byte,
            0..=1_000_000,
            "at most 1000000",
        )?;
        bounded("fuel_min", self.fuel_min, 1..=1 << 50, "1 to 2^50")?;
        bounded(
            "fuel_per_micro_point",
            self.fuel_per_micro_point,
            1..=1 << 50,
            "1 to 2^50",
        )?;
        let whole = 0..=u64::from(PERMILLE);
        bounded(
            "failure_permille",
            self.failure_permille.into(),
            whole.clone(),
            "0 to 1000",
        )?;
        bounded(
            "escrow_permille",
            self.escrow_permille.into(),
            whole,
            "0 to 1000",
        )?;
        let (century, name) = (0..=SECONDS_MAX, "at most a hundred years");
        bounded("escrow_seconds", self.escrow_seconds, century.clone(), name)?;
        bounded("life_seconds", self.life_seconds, century, name)?;
        bounded(
            "lot_seconds",
            self.lot_seconds,
            1..=366 * 86_400,
            "1 second to 1 year",
        )?;
        let count = self.pixel_weights.len() as u64;
        bounded(
            "pixel_weights",
            count,
            0..=WEIGHTS_MAX as u64,
            "at most 64 programs",
        )?;
        for weight in &self.pixel_weights {
            bounded("pixel_weights.fuel", weight.fuel, 1..=1 << 30, "1 to 2^30")?;
        }
        self.check_prices()
    }

    fn check_prices(&self) -> Result<(), RatesError> {
        for (field, price) in [("price", self.price), ("reserve", self.reserve)] {
            bounded(field, price.micro_points, 1..=1 << 60, "for 1 to 2^60 upt")?;
            let dearest = 0..=price.micro_points;
            bounded(
                field,
                price.minor,
                dearest,
                "at most one minor unit for one upt",
            )?;
        }
        let product = |a: u64, b: u64| u128::from(a).saturating_mul(u128::from(b));
        let paid = product(self.price.minor, self.reserve.micro_points);
        if product(self.reserve.minor, self.price.micro_points) > paid {
            return Err(RatesError {
                field: "reserve",
                value: format!(
                    "{} for {} upt",
                    self.reserve.minor, self.reserve.micro_points
                ),
                bounds: "at most the price",
            });
        }
        Ok(())
    }

    /// Returns what one run of a unit of `program` is worth; none if the amount does not fit.
    #[must_use]
    pub fn points(&self, program: BlobId, measured: &Measured) -> Option<Points> {
        let weight = self
            .pixel_weights
            .iter()
            .find(|weight| weight.program == program);
        let equivalent = match weight {
            Some(weight) if measured.pixels > 0 => weight.fuel.checked_mul(measured.pixels)?,
            _ => {
                let bytes = measured.bytes.checked_mul(self.fuel_per_byte)?;
                self.paid_fuel(measured)?.checked_add(bytes)?
            }
        };
        let equivalent = equivalent.max(self.fuel_min);
        Some(Points::from_micro(
            equivalent.div_ceil(self.fuel_per_micro_point),
        ))
    }

    /// Returns the most that one run of one unit of a task may be worth, that was cut like this; none if the amount does
    /// not fit.
    #[must_use]
    pub fn points_max(&self, task: &Task, table: &UnitTable) -> Option<Points> {
        let limits = task.limits;
        let points = |unit| {
            let (_, input) = table.range(unit)?;
            let largest = Measured {
                outcome: Outcome::Done,
                fuel: limits.fuel,
                fuel_limit: limits.fuel,
                bytes: input.checked_add(limits.output_bytes)?,
                pixels: table.core_pixels(unit),
            };
            self.points(task.program.id, &largest)
        };
        let mut units = 0..table.count();
        units.try_fold(Points::ZERO, |most, unit| Some(most.max(points(unit)?)))
    }

    fn paid_fuel(&self, measured: &Measured) -> Option<u64> {
        match measured.outcome {
            Outcome::Trap(_) | Outcome::OutOfFuel => {
                let share = u128::from(measured.fuel_limit)
                    .checked_mul(u128::from(self.failure_permille))?
                    .checked_div(u128::from(PERMILLE))?;
                Some(measured.fuel.max(u64::try_from(share).ok()?))
            }
            Outcome::Done | Outcome::Exit(_) | Outcome::OutputLimit | Outcome::Refused => {
                Some(measured.fuel)
            }
        }
    }

    /// Returns which part of `points` goes into escrow, rounded down.
    #[must_use]
    pub fn escrowed(&self, points: Points) -> Points {
        let part = u128::from(points.as_micro())
            .saturating_mul(u128::from(self.escrow_permille))
            .checked_div(u128::from(PERMILLE))
            .and_then(|part| u64::try_from(part).ok());
        Points::from_micro(part.unwrap_or(0))
    }

    /// Returns from when on points earned at `at` may be spent: those that are not in escrow, and those that are.
    /// The first is the start of a lot, the other the end of one, so nothing is released early.
    #[must_use]
    pub fn spendable_since(&self, at: Timestamp) -> (Timestamp, Timestamp) {
        let lot = self.lot_seconds.max(1).saturating_mul(1_000);
        let start = |millis: u64| millis.saturating_sub(millis.checked_rem(lot).unwrap_or(0));
        let released = later(at, self.escrow_seconds).as_millis();
        let end = start(released.saturating_add(lot.saturating_sub(1)));
        (
            Timestamp::from_millis(start(at.as_millis())),
            Timestamp::from_millis(end),
        )
    }

    /// Returns when points that may be spent since `since` expire; none if they never do.
    #[must_use]
    pub fn expires(&self, since: Timestamp) -> Option<Timestamp> {
        (self.life_seconds > 0).then(|| later(since, self.life_seconds))
    }

    /// Returns whether tasks cost nothing, so that customers need no funds.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.price.minor == 0
    }

    /// Returns an amount in the currency of the card.
    #[must_use]
    pub const fn money(&self, minor: u64) -> Money {
        Money {
            currency: self.currency,
            minor,
        }
    }
}

/// Returns the moment `seconds` after `at`.
const fn later(at: Timestamp, seconds: u64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(seconds.saturating_mul(1_000)))
}

impl Signed<RateCard> {
    /// Returns the id of the card: SHA-256 of the whole signed statement.
    #[must_use]
    pub fn id(&self) -> RateCardId {
        RateCardId::from_bytes(Sha256::digest(self.as_bytes()).into())
    }
}

impl Verified<RateCard> {
    /// Returns the id of the card.
    #[must_use]
    pub fn id(&self) -> RateCardId {
        self.signed().id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::Trap;

    fn rates() -> Rates {
        Rates::free("EUR".parse().unwrap())
    }

    fn measured(fuel: u64, bytes: u64) -> Measured {
        let (outcome, fuel_limit, pixels) = (Outcome::Done, 1 << 40, 0);
        Measured {
            outcome,
            fuel,
            fuel_limit,
            bytes,
            pixels,
        }
    }

    const PROGRAM: BlobId = BlobId::from_bytes([1; 32]);

    #[test]
    fn a_unit_is_worth_its_fuel_and_bytes_with_a_floor() {
        let worth = |fuel, bytes| {
            rates()
                .points(PROGRAM, &measured(fuel, bytes))
                .map(Points::as_micro)
        };
        assert_eq!(worth(0, 0), Some(1_000));
        assert_eq!(worth(1_000_000, 0), Some(1_000));
        assert_eq!(worth(1_000_001, 0), Some(1_001));
        assert_eq!(worth(1_000_000_000, 1_000_000), Some(1_010_000));
        assert_eq!(worth(u64::MAX, 1), None);
        assert_eq!(worth(0, u64::MAX), None);
    }

    #[test]
    fn a_listed_program_is_paid_by_pixels_and_only_for_tiles() {
        let mut rates = rates();
        rates.pixel_weights = vec![PixelWeight {
            program: PROGRAM,
            fuel: 48,
        }];
        let tile = Measured {
            pixels: 512 * 512,
            ..measured(7, 9)
        };
        let micro = |points: Option<Points>| points.map(Points::as_micro);
        assert_eq!(
            micro(rates.points(PROGRAM, &tile)),
            Some((48_u64 * 512 * 512).div_ceil(1_000))
        );
        assert_eq!(micro(rates.points(PROGRAM, &measured(7, 9))), Some(1_000));
        assert_eq!(
            micro(rates.points(BlobId::from_bytes([2; 32]), &tile)),
            Some(1_000)
        );
    }

    #[test]
    fn a_trap_is_paid_a_share_of_the_fuel_limit() {
        let trapped = |fuel| Measured {
            outcome: Outcome::Trap(Trap::Unreachable),
            fuel_limit: 10_000_000_000,
            ..measured(fuel, 0)
        };
        let worth = |fuel| {
            rates()
                .points(PROGRAM, &trapped(fuel))
                .map(Points::as_micro)
        };
        assert_eq!(worth(5), Some(100_000));
        assert_eq!(worth(900_000_000), Some(900_000));
    }

    #[test]
    fn prices_are_rounded_up_and_reserves_taken_away_rounded_down() {
        let price = Price {
            minor: 3,
            micro_points: 1_000,
        };
        let points = Points::from_micro;
        assert_eq!(price.of(points(0)), Some(0));
        assert_eq!(price.of(points(1)), Some(1));
        assert_eq!(price.of(points(1_000)), Some(3));
        assert_eq!(price.of(points(1_001)), Some(4));
        assert_eq!(price.of_floor(points(1_001)), Some(3));
        assert_eq!(
            Price {
                minor: u64::MAX,
                micro_points: 1
            }
            .of(points(2)),
            None
        );
        assert_eq!(Price::FREE.of(points(u64::MAX)), Some(0));
    }

    #[test]
    fn escrow_is_released_at_the_end_of_a_lot_and_never_early() {
        let (now, later) = rates().spendable_since(Timestamp::from_millis(86_400_000 * 3 + 5));
        assert_eq!(now.as_millis(), 86_400_000 * 3);
        assert_eq!(later.as_millis(), 86_400_000 * 11);
        assert_eq!(rates().escrowed(Points::from_micro(1_001)).as_micro(), 500);
    }

    #[test]
    fn a_reserve_above_the_price_is_refused() {
        let mut rates = rates();
        rates.check().unwrap();
        rates.price = Price {
            minor: 2,
            micro_points: 1_000_000,
        };
        rates.reserve = Price {
            minor: 1,
            micro_points: 500_000,
        };
        rates.check().unwrap();
        rates.reserve = Price {
            minor: 1,
            micro_points: 499_999,
        };
        let error = rates.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "reserve is 1 for 499999 upt, it must be at most the price"
        );
    }
}
