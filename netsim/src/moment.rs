//! Virtual time: microseconds since the world began.
//!
//! Machines never see it: each node has a clock of its own, in the protocol's milliseconds, that may be wrong.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::Serialize;

/// A moment of virtual time, in microseconds since the world began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// The beginning.
    pub const START: Self = Self(0);

    /// Makes a moment from microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Makes a moment from whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// Returns the microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the seconds, with their fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_micros(self.0).as_secs_f64()
    }

    /// Returns how long after `earlier` it is, zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Hours, minutes, seconds and milliseconds, for people.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000;
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        f.pad(&format!("{hours}:{minutes:02}:{seconds:02}.{millis:03}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_people_write_it() {
        let moment = Moment::from_secs(3_723) + Duration::from_micros(45_678);
        assert_eq!(moment.to_string(), "1:02:03.045");
        assert_eq!(
            moment.since(Moment::from_secs(3_723)),
            Duration::from_micros(45_678)
        );
    }
}
