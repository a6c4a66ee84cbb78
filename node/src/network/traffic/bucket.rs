//! A token bucket that holds its limit over any ten seconds. A pure machine: the time is an argument.
//!
//! It fills at 39/40 of the limit and holds what comes in a quarter of a second at the limit, so in ten seconds it gives
//! at most 9.75 + 0.25 times the limit.

use std::time::{Duration, Instant};

/// The bucket: it holds a quarter of the limit.
const DEPTH_DIVISOR: u64 = 4;
const NANOS: u128 = 1_000_000_000;

/// The bucket of one direction; without a rate it has no bottom.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Bytes a second, at least 4.
    rate: Option<u64>,
    /// When it will be full.
    full_at: Option<Instant>,
}

impl Bucket {
    pub(super) const fn rate(&self) -> Option<u64> {
        self.rate
    }

    pub(super) fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// Takes between one and `most` bytes, or says how long to wait for them: less than a third of a second.
    pub(super) fn pass(&mut self, most: usize, now: Instant) -> Result<usize, Duration> {
        let Some(rate) = self.rate else {
            return Ok(most);
        };
        let depth = (rate / DEPTH_DIVISOR).max(1);
        let bytes = u64::try_from(most).unwrap_or(u64::MAX).min(depth);
        let (fill, whole) = (filling(bytes, rate), filling(depth, rate));
        // What another limit has left there is at most a full bucket of this one.
        let full_at = self.full_at.map_or(now, |at| at.clamp(now, now + whole));
        let after = full_at + fill;
        if after > now + whole {
            return Err(after - (now + whole));
        }
        self.full_at = Some(after);
        Ok(usize::try_from(bytes).unwrap_or(most))
    }
}

/// Returns how long the bucket takes to fill by so many bytes.
fn filling(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * NANOS * 40 / (u128::from(rate) * 39);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// Lets somebody take pieces of `most` as fast as it may for `time`; returns when how much passed.
    fn run(
        bucket: &mut Bucket,
        most: usize,
        (start, time): (Instant, Duration),
    ) -> Vec<(Instant, u64)> {
        let (mut now, mut passed) = (start, Vec::new());
        while now < start + time {
            match bucket.pass(most, now) {
                Ok(bytes) => passed.push((now, bytes as u64)),
                Err(wait) => {
                    assert!(wait < Duration::from_millis(334), "{wait:?}");
                    now += wait;
                }
            }
        }
        passed
    }

    /// Returns the most that passed in any ten seconds.
    fn busiest(passed: &[(Instant, u64)]) -> u64 {
        let sum = |(from, _): &(Instant, u64)| {
            let within = |(at, _): &&(Instant, u64)| at >= from && *at < *from + WINDOW;
            passed.iter().filter(within).map(|(_, bytes)| bytes).sum()
        };
        passed.iter().map(sum).max().unwrap_or_default()
    }

    #[test]
    fn no_ten_seconds_have_more_than_the_limit_and_few_have_much_less() {
        for rate in [4_096, 10_000, 100_000, 3_000_000] {
            for most in [1_000, 32 << 10, 1 << 20] {
                let mut bucket = Bucket::default();
                bucket.set_rate(Some(rate));
                let start = Instant::now();
                // A pause fills it to the brim in between, which is when most passes.
                let mut passed = run(&mut bucket, most, (start, Duration::from_secs(8)));
                let again = start + Duration::from_secs(12);
                passed.extend(run(&mut bucket, most, (again, Duration::from_secs(13))));
                let busiest = busiest(&passed);
                let limit = rate * 10;
                assert!(busiest <= limit, "{busiest} at {rate} and {most}");
                assert!(
                    busiest >= limit * 96 / 100,
                    "{busiest} at {rate} and {most}"
                );
            }
        }
    }

    #[test]
    fn a_new_limit_holds_at_once() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.pass(usize::MAX, start), Ok(usize::MAX));
        bucket.set_rate(Some(1_000_000));
        let second = Duration::from_secs(1);
        run(&mut bucket, 32 << 10, (start, second));
        bucket.set_rate(Some(10_000));
        let slow = run(&mut bucket, 32 << 10, (start + second, WINDOW));
        assert!(busiest(&slow) <= 100_000);
        assert!(busiest(&slow) >= 90_000);
        bucket.set_rate(None);
        assert_eq!(bucket.pass(usize::MAX, start), Ok(usize::MAX));
    }
}
