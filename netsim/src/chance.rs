//! Chance from a seed: the same on every machine and in every build.
//!
//! Each thing that draws owns a stream of its own, named by what it is for, so that one more draw in one place does
//! not change what happens in all others. The generator is ChaCha8, whose output is fixed by its specification; the
//! distributions compute with the pure Rust `libm`, not with that of the system.

use std::fmt;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

/// A stream of random draws.
#[derive(Clone)]
pub struct Chance(ChaCha8Rng);

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

impl Chance {
    /// Starts the stream of `what`, number `number`, in the world of `seed`.
    #[must_use]
    pub fn new(seed: u64, what: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tally netsim 1 chance");
        hasher.update(&seed.to_be_bytes());
        hasher.update(&number.to_be_bytes());
        hasher.update(what.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Returns 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Returns a number below `end`; 0 if `end` is.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            0
        } else {
            self.0.random_range(0..end)
        }
    }

    /// Returns a number from 0 up to, and not including, 1.
    pub fn part(&mut self) -> f64 {
        self.0.random()
    }

    /// Returns true with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.part() < probability
    }

    /// Returns a duration from `least` up to `most`.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.part())
    }

    /// Returns an exponentially distributed duration: the time to the next of things that happen every `mean` on
    /// average and know nothing of each other.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let drawn: f64 = Exp1.sample(&mut self.0);
        mean.mul_f64(drawn)
    }

    /// Returns a log-normally distributed factor whose median is 1; `sigma` is the deviation of its logarithm.
    pub fn log_normal(&mut self, sigma: f64) -> f64 {
        let drawn: f64 = StandardNormal.sample(&mut self.0);
        libm::exp(sigma * drawn)
    }

    /// Returns one of the items.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let place = usize::try_from(self.below(items.len() as u64)).ok()?;
        items.get(place)
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draws_are_fixed_for_ever() {
        let mut chance = Chance::new(7, "test", 0);
        let drawn: Vec<u64> = (0..4).map(|_| chance.below(1_000)).collect();
        let again: Vec<u64> = {
            let mut chance = Chance::new(7, "test", 0);
            (0..4).map(|_| chance.below(1_000)).collect()
        };
        assert_eq!(drawn, again);
        assert_ne!(
            drawn,
            (0..4)
                .map(|_| Chance::new(7, "test", 1).below(1_000))
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_distributions_have_the_mean_they_are_asked_for() {
        let mut chance = Chance::new(1, "test", 0);
        let mean: f64 = (0..20_000)
            .map(|_| chance.exponential(Duration::from_secs(10)).as_secs_f64())
            .sum::<f64>()
            / 20_000.0;
        assert!((9.5..10.5).contains(&mean), "{mean}");
        let mut factors: Vec<f64> = (0..10_001).map(|_| chance.log_normal(1.0)).collect();
        factors.sort_by(f64::total_cmp);
        assert!((0.95..1.05).contains(&factors[5_000]), "{}", factors[5_000]);
    }
}
