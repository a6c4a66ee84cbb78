//! What a unit's work is worth. Integers only, checked: an amount that does not fit is an error, never a wrap.
//!
//! `FE = fuel + 10 * (bytes in + bytes out)` is the work of a unit in fuel equivalents;
//! `upt = ceil(max(FE, 10^6) / 1000)` is its price in micro-points. One point is 10^6 upt, a gigafuel.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Fuel equivalents of one byte of input or output.
const FUEL_PER_BYTE: u64 = 10;
/// The least fuel equivalents that a unit counts as: leasing and checking it costs about as much.
const FUEL_EQUIVALENT_MIN: u64 = 1_000_000;
/// Fuel equivalents of one micro-point.
const FUEL_PER_MICRO_POINT: u64 = 1_000;
/// Micro-points of one point.
const MICRO_PER_POINT: u64 = 1_000_000;

/// An amount of points, in micro-points (upt).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Points(u64);

impl Points {
    /// No points.
    pub const ZERO: Self = Self(0);

    /// Takes an amount in micro-points.
    #[must_use]
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// Returns the amount in micro-points.
    #[must_use]
    pub const fn as_micro(self) -> u64 {
        self.0
    }

    /// Returns what one run of a unit is worth: `fuel` used, `bytes` of input and output together.
    /// `None` if the amount does not fit.
    #[must_use]
    pub fn of_unit(fuel: u64, bytes: u64) -> Option<Self> {
        let equivalent = fuel
            .checked_add(bytes.checked_mul(FUEL_PER_BYTE)?)?
            .max(FUEL_EQUIVALENT_MIN);
        Some(Self(equivalent.div_ceil(FUEL_PER_MICRO_POINT)))
    }

    /// Returns the sum, `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Returns `count` times the amount, `None` if it does not fit.
    #[must_use]
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        self.0.checked_mul(count).map(Self)
    }
}

impl fmt::Display for Points {
    /// Writes points with all six decimals: `0.001000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micro) = (self.0 / MICRO_PER_POINT, self.0 % MICRO_PER_POINT);
        f.pad(&format!("{whole}.{micro:06}"))
    }
}

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}upt", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_worth_its_fuel_and_bytes_with_a_floor() {
        let worth = |fuel, bytes| Points::of_unit(fuel, bytes).map(Points::as_micro);
        assert_eq!(worth(0, 0), Some(1_000));
        assert_eq!(worth(1_000_000, 0), Some(1_000));
        assert_eq!(worth(1_000_001, 0), Some(1_001));
        assert_eq!(worth(1_000_000_000, 1_000_000), Some(1_010_000));
        assert_eq!(worth(u64::MAX, 1), None);
        assert_eq!(worth(0, u64::MAX), None);
    }

    #[test]
    fn shows_six_decimals() {
        assert_eq!(Points::from_micro(1_010_000).to_string(), "1.010000");
    }
}
