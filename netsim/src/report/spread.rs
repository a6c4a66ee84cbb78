//! Records how a quantity is spread, in little memory however many values there are.
//!
//! Values are whole numbers of a small unit, microseconds or bytes, and are kept to three significant digits; their
//! number, mean, smallest and largest are exact.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{Bar, Spread};

/// The largest value that is told from larger ones: 203 days of microseconds, 16 TiB.
const LARGEST: u64 = 1 << 44;

/// At most as many bars has a spread, about.
const BARS: f64 = 28.0;

/// Bars to a doubling, from the finest.
const BARS_PER_DOUBLING: [f64; 6] = [16.0, 8.0, 4.0, 2.0, 1.0, 0.5];

/// Values recorded so far.
#[derive(Debug, Clone)]
pub struct Recorder {
    histogram: Histogram<u64>,
    sum: u128,
    smallest: u64,
    largest: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Starts with no values.
    #[must_use]
    pub fn new() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, LARGEST, 3)
                .expect("the bounds are in order, three digits are allowed"),
            sum: 0,
            smallest: u64::MAX,
            largest: 0,
        }
    }

    /// Records a value.
    pub fn record(&mut self, value: u64) {
        self.histogram.saturating_record(value);
        self.sum += u128::from(value);
        self.smallest = self.smallest.min(value);
        self.largest = self.largest.max(value);
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        self.histogram
            .add(&other.histogram)
            .expect("all recorders have the same bounds");
        self.sum += other.sum;
        self.smallest = self.smallest.min(other.smallest);
        self.largest = self.largest.max(other.largest);
    }

    /// Returns the spread of the values, each multiplied by `scale`: `1e-6` makes seconds of microseconds.
    #[must_use]
    pub fn spread(&self, scale: f64) -> Spread {
        let count = self.histogram.len();
        if count == 0 {
            return Spread::default();
        }
        let quantile = |q| self.histogram.value_at_quantile(q).min(self.largest) as f64 * scale;
        Spread {
            count,
            mean: self.sum as f64 / count as f64 * scale,
            min: self.smallest as f64 * scale,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.largest as f64 * scale,
            bars: self.bars(scale),
        }
    }

    /// Counts the values in bars whose ends are powers of two and equal parts between.
    fn bars(&self, scale: f64) -> Vec<Bar> {
        let logarithm = |value: u64| libm::log2(value.clamp(1, LARGEST) as f64);
        let doublings = logarithm(self.largest) - logarithm(self.smallest);
        let per_doubling = BARS_PER_DOUBLING
            .into_iter()
            .find(|n| n * doublings <= BARS)
            .unwrap_or(BARS_PER_DOUBLING[5]);
        let bar_of = |value: u64| bar_number(logarithm(value) * per_doubling);
        let mut counts: BTreeMap<i32, u64> = (bar_of(self.smallest)..=bar_of(self.largest))
            .map(|bar| (bar, 0))
            .collect();
        for step in self.histogram.iter_recorded() {
            let value = step.value_iterated_to().clamp(self.smallest, self.largest);
            *counts.entry(bar_of(value)).or_default() += step.count_at_value();
        }
        let end = |bar: i32| libm::exp2(f64::from(bar) / per_doubling) * scale;
        counts
            .into_iter()
            .map(|(bar, count)| Bar {
                from: end(bar),
                to: end(bar + 1),
                count,
            })
            .collect()
    }
}

/// Returns the bar that ends at or next above `position`, counted in bars: ends belong to the bar below.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a logarithm of a u64 times 16 is at most 1024"
)]
fn bar_number(position: f64) -> i32 {
    position.ceil() as i32 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(values: impl IntoIterator<Item = u64>) -> Recorder {
        let mut recorder = Recorder::new();
        values.into_iter().for_each(|value| recorder.record(value));
        recorder
    }

    #[test]
    fn nothing_recorded_is_the_empty_spread() {
        assert_eq!(Recorder::new().spread(1.0), Spread::default());
    }

    #[test]
    fn quantiles_are_within_three_digits_and_the_rest_is_exact() {
        let spread = recorded((1..=100_000).map(|n| n * 1000)).spread(1e-6);
        assert_eq!(
            (spread.count, spread.min, spread.max),
            (100_000, 0.001, 100.0)
        );
        assert!((spread.mean - 50.0005).abs() < 1e-9);
        for (found, expected) in [(spread.p50, 50.0), (spread.p90, 90.0), (spread.p99, 99.0)] {
            assert!(
                (found / expected - 1.0).abs() < 0.001,
                "{found} for {expected}"
            );
        }
    }

    #[test]
    fn bars_hold_every_value_once_and_follow_each_other() {
        for largest in [1, 2, 900, 1 << 20, 1 << 43, u64::MAX] {
            let spread = recorded([0, 1, 1, 2, 7, largest / 3, largest]).spread(1.0);
            assert_eq!(
                spread.bars.iter().map(|bar| bar.count).sum::<u64>(),
                spread.count,
                "up to {largest}"
            );
            assert!(
                spread.bars.len() <= 30,
                "{} bars up to {largest}",
                spread.bars.len()
            );
            assert!(
                spread
                    .bars
                    .windows(2)
                    .all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to)
            );
        }
    }

    #[test]
    fn a_value_at_the_end_of_a_bar_belongs_to_it() {
        let bars = recorded([64, 1 << 20]).spread(1.0).bars;
        assert_eq!((bars[0].to, bars[0].count), (64.0, 1));
        assert_eq!(
            bars.last().map(|bar| (bar.to, bar.count)),
            Some((1_048_576.0, 1))
        );
    }

    #[test]
    fn a_narrow_spread_has_narrow_bars() {
        let bars = recorded(1000..1200).spread(1.0).bars;
        assert!((4..=6).contains(&bars.len()), "{}", bars.len());
    }

    #[test]
    fn merged_recorders_equal_one_that_heard_all() {
        let mut left = recorded([3, 5_000, 70]);
        left.merge(&recorded([11, 2]));
        left.merge(&Recorder::new());
        assert_eq!(
            left.spread(1.0),
            recorded([3, 5_000, 70, 11, 2]).spread(1.0)
        );
    }
}
