//! Holds the share of the processors: a bucket that fills with the share and is emptied by what the children really use.
//!
//! The thread wakes some fifty times a second, and only while more children work than the share has processors for.
//! What is used in any time exceeds the share of that time by no more than the bucket and one turn, which together are
//! less than a fiftieth of ten seconds' share from an eighth of one processor on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::Board;

/// How long children go on at most before it is looked what they have used.
const TURN: Duration = Duration::from_millis(20);

/// The shortest turn, which a very small share needs: stopping and waking children costs some microseconds.
const TURN_MIN: Duration = Duration::from_millis(2);

/// What a turn may use, in seconds of the share: a hundredth of ten seconds.
const TURN_SHARE: f64 = 0.1;

/// What the bucket keeps of time that was not used, for example while children slept: so many seconds of the share.
const KEPT: f64 = 0.05;

/// The longest wait, after which the clocks are looked at again.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What is to be held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Demand {
    /// Seconds of processor time a second.
    pub(super) rate: f64,
    /// Children that would go on without it, of which each uses one processor at most.
    pub(super) going: f64,
}

/// Processor time that may be used now, in seconds; less than none is a debt.
#[derive(Debug, Default)]
struct Bucket {
    level: f64,
}

impl Bucket {
    /// Takes what was used in a time. Returns whether the children must wait.
    fn turn(&mut self, demand: Demand, passed: Duration, used: Duration) -> bool {
        let level = self.level + demand.rate * passed.as_secs_f64() - used.as_secs_f64();
        self.level = level.min(demand.rate * KEPT);
        self.level < 0.0
    }

    /// Returns when to look again.
    fn wait(&self, demand: Demand) -> Duration {
        if self.level < 0.0 {
            let until_full = Duration::try_from_secs_f64(-self.level / demand.rate);
            return until_full.unwrap_or(WAIT_MAX).clamp(TURN_MIN, WAIT_MAX);
        }
        let turn = Duration::try_from_secs_f64(demand.rate * TURN_SHARE / demand.going);
        turn.unwrap_or(TURN).clamp(TURN_MIN, TURN)
    }
}

/// Holds the share until the board is closed.
pub(super) fn govern(board: &Arc<Board>) {
    let mut bucket = Bucket::default();
    let mut last: Option<(Instant, Duration)> = None;
    loop {
        let (now, used) = (Instant::now(), board.cpu_time());
        let Some(demand) = board.demand() else {
            // What is used until it is needed again does not count.
            last = None;
            if !board.await_demand() {
                return;
            }
            continue;
        };
        if let Some((then, before)) = last.replace((now, used)) {
            let must_wait = bucket.turn(demand, now - then, used.saturating_sub(before));
            board.throttle(must_wait);
        }
        board.pass(bucket.wait(demand));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has children work whenever they may for a minute of a made-up clock, and returns the largest error of ten
    /// seconds as a part of the share. Each turn is late by as much as `delays` says, one after the other.
    fn largest_error(demand: Demand, delays: &[Duration]) -> f64 {
        let mut bucket = Bucket::default();
        let (mut now, mut used, mut waits) = (0.0, 0.0, false);
        let mut points = vec![(0.0, 0.0)];
        for delay in delays.iter().cycle() {
            let passed = bucket.wait(demand) + *delay;
            let work = if waits {
                0.0
            } else {
                demand.going * passed.as_secs_f64()
            };
            (now, used) = (now + passed.as_secs_f64(), used + work);
            points.push((now, used));
            waits = bucket.turn(demand, passed, Duration::from_secs_f64(work));
            if now > 60.0 {
                break;
            }
        }
        let mut largest = 0.0_f64;
        for (index, (start, before)) in points.iter().enumerate() {
            let window = points[index..].iter().find(|(end, _)| end - start >= 10.0);
            if let Some((end, after)) = window {
                let share = demand.rate * (end - start);
                largest = largest.max(((after - before) / share - 1.0).abs());
            }
        }
        largest
    }

    #[test]
    fn the_share_of_any_ten_seconds_is_held() {
        for (processors, share) in [
            (2.0, 0.25),
            (2.0, 0.6),
            (4.0, 0.05),
            (64.0, 0.1),
            (1.0, 0.9),
        ] {
            let demand = Demand {
                rate: processors * share,
                going: processors,
            };
            let error = largest_error(demand, &[Duration::ZERO]);
            assert!(error < 0.02, "{demand:?}: {error}");
        }
    }

    #[test]
    fn turns_that_come_late_are_made_good() {
        let demand = Demand {
            rate: 0.5,
            going: 2.0,
        };
        let delays = [0, 15, 0, 0, 40, 3].map(Duration::from_millis);
        let error = largest_error(demand, &delays);
        assert!(error < 0.05, "{error}");
    }

    #[test]
    fn time_that_was_not_used_is_not_saved_up() {
        let demand = Demand {
            rate: 0.5,
            going: 2.0,
        };
        let mut bucket = Bucket::default();
        assert!(!bucket.turn(demand, Duration::from_secs(3_600), Duration::ZERO));
        assert!(bucket.turn(demand, Duration::ZERO, Duration::from_millis(30)));
        let wait = bucket.wait(demand);
        assert!((9..=11).contains(&wait.as_millis()), "{wait:?}");
    }
}
