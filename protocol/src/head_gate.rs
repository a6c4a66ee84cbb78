//! Checkpoints as every node takes them by gossip: which it passes on, and which it drops.
//!
//! A checkpoint does not expire, so anybody can send old ones of any log again. They must not use up what the log may
//! send of its newest: a log has one allowance for checkpoints that are larger than all before, and one for the rest.
//! The rest is passed on too, because a fork shows in them. What is remembered is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::allowance::{Allowance, Rate, insert_bounded};
use crate::checkpoint::VerifiedCheckpoint;
use crate::id::NodeId;
use crate::time::Timestamp;

/// Checkpoints of each kind that a log may send: a coordinator sends one in five seconds at most.
const RATE: Rate = Rate {
    burst: 10,
    interval: Duration::from_millis(2_500),
};
/// Logs that are remembered.
const LOGS_MAX: usize = 1_024;

/// What logs have sent, as far as it bounds what they may send next.
#[derive(Debug, Default)]
pub struct HeadGate(BTreeMap<NodeId, HeadAllowance>);

impl HeadGate {
    /// Decides whether a checkpoint is heard and passed on.
    pub fn admit(&mut self, checkpoint: &VerifiedCheckpoint, now: Timestamp) -> bool {
        let log = checkpoint.log();
        let known = self.0.get(&log).copied();
        let mut allowance = known.unwrap_or_else(|| HeadAllowance::full(&RATE, now));
        let admitted = allowance.spend(&RATE, now, checkpoint.head().size);
        if admitted {
            insert_bounded(&mut self.0, log, allowance, LOGS_MAX, |known| known.heard);
        }
        admitted
    }
}

/// What one log may still send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadAllowance {
    /// The next checkpoint that has grown has at least this size.
    grown: u64,
    growing: Allowance,
    other: Allowance,
    heard: Timestamp,
}

impl HeadAllowance {
    /// Starts with nothing sent.
    pub(crate) const fn full(rate: &Rate, now: Timestamp) -> Self {
        Self {
            grown: 0,
            growing: Allowance::full(rate, now),
            other: Allowance::full(rate, now),
            heard: now,
        }
    }

    /// Takes one checkpoint of this size; returns whether there was one left.
    pub(crate) fn spend(&mut self, rate: &Rate, now: Timestamp, size: u64) -> bool {
        self.heard = now;
        if size < self.grown {
            return self.other.spend(rate, now);
        }
        let spent = self.growing.spend(rate, now);
        if spent {
            self.grown = size.saturating_add(1);
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::merkle::{TreeHead, leaf_hash};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn checkpoint(key: u8, size: u64) -> VerifiedCheckpoint {
        let head = TreeHead {
            size,
            root: leaf_hash(b"root"),
        };
        let key = SigningKey::from_bytes(&[key; 32]);
        VerifiedCheckpoint::sign(head, &"test".parse().unwrap(), &key)
    }

    #[test]
    fn old_checkpoints_do_not_use_up_what_a_log_may_send_of_its_newest() {
        let mut gate = HeadGate::default();
        assert!(gate.admit(&checkpoint(1, 1_000), NOW));
        let admitted = (0..100).filter(|size| gate.admit(&checkpoint(1, *size), NOW));
        assert_eq!(admitted.count(), RATE.burst as usize);
        for size in 1_001..1_000 + u64::from(RATE.burst) {
            assert!(gate.admit(&checkpoint(1, size), NOW), "{size}");
        }
        assert!(!gate.admit(&checkpoint(1, 2_000), NOW), "too many");
        assert!(gate.admit(&checkpoint(2, 1), NOW), "another log");
        assert!(gate.admit(&checkpoint(1, 2_000), NOW + RATE.interval));
        assert!(gate.admit(&checkpoint(1, 5), NOW + RATE.interval));
        assert!(!gate.admit(&checkpoint(1, 6), NOW + RATE.interval));
    }
}
