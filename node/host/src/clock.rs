//! The time of the week at this computer, and how long it slept.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::LocalTime;

/// Returns the time by the clock on the wall. A changed time zone is noticed within minutes.
pub(crate) fn local_time() -> LocalTime {
    at(Timestamp::now(), TimeZone::system())
}

fn at(now: Timestamp, zone: TimeZone) -> LocalTime {
    let now = Zoned::new(now, zone);
    let second = u32::from(now.hour().unsigned_abs()) * 3600
        + u32::from(now.minute().unsigned_abs()) * 60
        + u32::from(now.second().unsigned_abs());
    LocalTime {
        weekday: now.weekday().to_monday_zero_offset().unsigned_abs(),
        second,
    }
}

/// Returns the time since start, without the time that the computer slept.
pub(crate) fn awake() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Measures sleep: one of two clocks of the kernel stands still meanwhile.
#[derive(Debug)]
pub(crate) struct Sleep {
    until_now: Duration,
}

impl Sleep {
    /// What was slept before is forgotten.
    pub(crate) fn new() -> Self {
        Self {
            until_now: slept_since_start(),
        }
    }

    /// Returns how long the computer slept since the last call.
    pub(crate) fn since_last(&mut self) -> Duration {
        self.step(slept_since_start())
    }

    fn step(&mut self, now: Duration) -> Duration {
        /// The two clocks are read one after the other; less than this is the time between.
        const NOTICED: Duration = Duration::from_secs(1);
        let slept = now.saturating_sub(self.until_now);
        if slept < NOTICED {
            return Duration::ZERO;
        }
        self.until_now = now;
        slept
    }
}

fn slept_since_start() -> Duration {
    duration(clock_gettime(ClockId::Boottime)).saturating_sub(awake())
}

/// Clocks that start with the computer are never negative.
fn duration(time: Timespec) -> Duration {
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_starts_on_monday_and_daylight_saving_counts() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let local = |text: &str| at(text.parse().unwrap(), zone.clone());
        let monday = LocalTime {
            weekday: 0,
            second: 0,
        };
        assert_eq!(
            local("2026-11-22T22:59:59Z"),
            LocalTime {
                weekday: 6,
                second: 86_399
            }
        );
        assert_eq!(local("2026-11-22T23:00:00Z"), monday);
        // Two hours ahead of UTC in summer.
        assert_eq!(local("2026-07-05T22:00:00Z"), monday);
    }

    #[test]
    fn sleep_is_told_once() {
        let mut sleep = Sleep {
            until_now: Duration::from_secs(100),
        };
        assert_eq!(sleep.step(Duration::from_millis(100_004)), Duration::ZERO);
        assert_eq!(
            sleep.step(Duration::from_secs(700)),
            Duration::from_secs(600)
        );
        assert_eq!(sleep.step(Duration::from_secs(700)), Duration::ZERO);
        assert_eq!(Sleep::new().since_last(), Duration::ZERO);
    }
}
