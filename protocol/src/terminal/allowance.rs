//! What a terminal may do at the moment: how much of the computer its owner leaves it, and for what.

use serde::{Deserialize, Serialize};

use crate::message::wishes::Wishes;

/// What the owner allows now. Changes whenever the owner, the clock or the computer does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Whether units may run. If not, those that run are suspended, and those that wait are given back.
    pub run: bool,
    /// Whether more work is taken.
    pub take: bool,
    /// The most units that run at a time.
    pub slots: usize,
    /// The most memory of all units that run, by their limits, in bytes.
    pub memory_bytes: u64,
    /// What an hour of one processor has to earn, in micro-points: of tasks that bring less no more is taken.
    pub hourly_min: u64,
    /// Which work.
    pub wishes: Wishes,
}

impl Allowance {
    /// Everything at any time: `slots` units at once, each with up to `memory_bytes` of memory.
    #[must_use]
    pub fn all(slots: usize, memory_bytes: u64) -> Self {
        let count = u64::try_from(slots).unwrap_or(u64::MAX);
        Self {
            run: true,
            take: true,
            slots,
            memory_bytes: memory_bytes.saturating_mul(count),
            hourly_min: 0,
            wishes: Wishes::within_memory(memory_bytes),
        }
    }
}
