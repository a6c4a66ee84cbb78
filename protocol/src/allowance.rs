//! How much somebody may send: so many at once, and another after each interval.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Timestamp;

/// What may be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// So many at once.
    pub(crate) burst: u32,
    /// How long it takes to earn another.
    pub(crate) interval: Duration,
}

/// What one sender has left of its rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    tokens: u32,
    refilled: Timestamp,
}

impl Allowance {
    /// Starts with the whole burst.
    pub(crate) const fn full(rate: &Rate, now: Timestamp) -> Self {
        Self {
            tokens: rate.burst,
            refilled: now,
        }
    }

    /// Takes one; returns whether there was one.
    pub(crate) fn spend(&mut self, rate: &Rate, now: Timestamp) -> bool {
        let earned = now.since(self.refilled).as_millis() / rate.interval.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(rate.burst);
            self.tokens = self.tokens.saturating_add(earned).min(rate.burst);
            self.refilled = now;
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    /// Returns when it was filled last, which is how long ago its sender was heard.
    pub(crate) const fn refilled(&self) -> Timestamp {
        self.refilled
    }
}

/// Inserts into a map that forgets its oldest entries when it is full. They are dropped by the eighth, so that the
/// search for them is paid once in many inserts.
pub(crate) fn insert_bounded<K: Ord + Copy, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    max: usize,
    age: impl Fn(&V) -> Timestamp,
) {
    if map.len() >= max && !map.contains_key(&key) {
        let mut ages: Vec<Timestamp> = map.values().map(&age).collect();
        let (_, limit, _) = ages.select_nth_unstable(max / 8);
        let limit = *limit;
        map.retain(|_, value| age(value) > limit);
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut map = BTreeMap::new();
        for n in 0..1_000_u64 {
            insert_bounded(&mut map, n, Timestamp::from_millis(n), 64, |at| *at);
            assert!(map.len() <= 64);
            assert!(map.contains_key(&n));
        }
        assert!(!map.contains_key(&0));
    }
}
