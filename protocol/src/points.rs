//! Amounts of points. Integers only, checked: an amount that does not fit is an error, never a wrap.
//!
//! One point is 10^6 micro-points (upt). How many a unit is worth says the [rate card](crate::rate_card).

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

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
    fn shows_six_decimals() {
        assert_eq!(Points::from_micro(1_010_000).to_string(), "1.010000");
    }
}
