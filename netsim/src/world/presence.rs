//! When a terminal comes and goes.

use std::time::Duration;

use crate::chance::Chance;
use crate::moment::Moment;
use crate::scenario::Presence;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Nodes that are there from the beginning come within this.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The coming and going of one terminal.
#[derive(Debug)]
pub(super) struct Attendance {
    presence: Presence,
    chance: Chance,
}

impl Attendance {
    pub(super) const fn new(presence: Presence, chance: Chance) -> Self {
        Self { presence, chance }
    }

    /// Returns when it comes for the first time.
    pub(super) fn first(&mut self) -> Moment {
        match self.presence {
            Presence::Always => Moment::START + self.chance.between(Duration::ZERO, AT_ONCE),
            Presence::From { at, within } => {
                Moment::START + at + self.chance.between(Duration::ZERO, within)
            }
            Presence::Daily { from, to, .. } => {
                let inside = if from <= to {
                    from.is_zero()
                } else {
                    // Midnight lies within.
                    true
                };
                if inside {
                    Moment::START + self.chance.between(Duration::ZERO, AT_ONCE)
                } else {
                    self.next(Moment::START, from)
                }
            }
            Presence::Exponential { up, down } => {
                let part = up.as_secs_f64() / (up + down).as_secs_f64();
                if self.chance.happens(part) {
                    Moment::START + self.chance.between(Duration::ZERO, AT_ONCE)
                } else {
                    Moment::START + self.chance.exponential(down)
                }
            }
        }
    }

    /// Returns when it goes that has come now; never, if it stays.
    pub(super) fn goes(&mut self, now: Moment) -> Option<Moment> {
        match self.presence {
            Presence::Always | Presence::From { .. } => None,
            Presence::Daily { to, .. } => Some(self.next(now, to)),
            Presence::Exponential { up, .. } => Some(now + self.chance.exponential(up)),
        }
    }

    /// Returns when it comes again that has gone now.
    pub(super) fn comes(&mut self, now: Moment) -> Option<Moment> {
        match self.presence {
            Presence::Always | Presence::From { .. } => None,
            Presence::Daily { from, .. } => Some(self.next(now, from)),
            Presence::Exponential { down, .. } => Some(now + self.chance.exponential(down)),
        }
    }

    /// Returns about when it is this time of day next.
    fn next(&mut self, now: Moment, time: Duration) -> Moment {
        let spread = if let Presence::Daily { spread, .. } = self.presence {
            spread
        } else {
            Duration::ZERO
        };
        let early_or_late = self.chance.between(Duration::ZERO, spread * 2);
        let days = now.as_micros() / Moment::from_secs(DAY.as_secs()).as_micros();
        let mut at = Moment::from_secs(days * DAY.as_secs()) + time;
        // One that came or went early is not to do so again on the same day.
        while at <= now + spread {
            at = at + DAY;
        }
        Moment::from_micros(
            (at + early_or_late)
                .as_micros()
                .saturating_sub(u64::try_from(spread.as_micros()).unwrap_or(0)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn who_works_by_night_is_there_at_midnight_and_comes_back_each_evening() {
        let presence = Presence::Daily {
            from: 18 * HOUR,
            to: 8 * HOUR,
            spread: HOUR / 2,
        };
        let mut attendance = Attendance::new(presence, Chance::new(1, "attendance", 0));
        let mut at = attendance.first();
        assert!(at < Moment::from_secs(10));
        for day in 0..5 {
            let hour = |moment: Moment| moment.as_secs_f64() / 3_600.0 - f64::from(day) * 24.0;
            at = attendance.goes(at).unwrap();
            assert!((7.5..8.5).contains(&hour(at)), "{at}");
            at = attendance.comes(at).unwrap();
            assert!((17.5..18.5).contains(&hour(at)), "{at}");
        }
    }
}
