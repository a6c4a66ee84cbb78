//! What happened how often, for `/metrics` and for people who wonder.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tally_protocol::message::Refusal;

/// Counts by (topic, name), for example ("work", "malformed"). Both are names from the source code, so there are
/// never many.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<Counts>>);

type Counts = BTreeMap<(&'static str, &'static str), u64>;

impl Counters {
    /// Adds `count` to a counter.
    pub fn add(&self, topic: &'static str, name: &'static str, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = counts.entry((topic, name)).or_default();
        *sum = sum.saturating_add(count);
    }

    /// Adds one to a counter.
    pub fn count(&self, topic: &'static str, name: &'static str) {
        self.add(topic, name, 1);
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, topic: &'static str, refusal: &Refusal) {
        self.count(topic, refusal.name());
    }

    /// Returns one counter.
    #[must_use]
    pub fn value(&self, topic: &'static str, name: &'static str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&(topic, name)).copied().unwrap_or_default()
    }

    /// Returns all counters.
    #[must_use]
    pub fn all(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
