//! Amounts of points. Integers only, checked: an amount that does not fit is an error, never a wrap.
//!
//! One point is 10^6 micro-points (upt). How many a unit is worth says the [rate card](crate::rate_card).

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

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

impl FromStr for Points {
    type Err = ParseIdError;

    /// Reads `12.5`; at most six decimals.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse(text).ok_or_else(|| {
            ParseIdError::new(text, "points (a number with at most six decimals: 12.5)")
        })
    }
}

fn parse(text: &str) -> Option<Points> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 6 {
        return None;
    }
    let micro: u64 = format!("{decimals:0<6}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let whole = whole.checked_mul(MICRO_PER_POINT)?;
    whole.checked_add(micro).map(Points)
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

    #[test]
    fn reads_what_it_shows_and_shorter_forms() {
        for (text, micro) in [
            ("1.010000", 1_010_000),
            ("12.5", 12_500_000),
            ("0", 0),
            ("7", 7_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Points::from_micro(micro)), "{text}");
        }
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "1.0000001",
            "+1",
            "1e3",
            "99999999999999",
        ] {
            let error = text.parse::<Points>().unwrap_err().to_string();
            assert!(error.contains("at most six decimals"), "{error}");
        }
    }
}
