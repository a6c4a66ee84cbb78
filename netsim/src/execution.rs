//! The running of units without running them: what a unit gives and costs is a function of its task and its number.
//!
//! So the right result of every unit is known to the oracles, all honest devices report the same, and a hundred
//! thousand units cost no work. Times follow from fuel and the speed of the device.

use std::collections::BTreeMap;
use std::time::Duration;

use tally_protocol::codec;
use tally_protocol::id::TaskId;
use tally_protocol::message::work::INLINE_UNIT_BYTES_MAX;
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::Ran;
use tally_protocol::unit::{Outcome, Trap};

use crate::chance::Chance;

/// Fuel that a device of speed 1 uses in a second: what the sandbox does on one core of a common computer.
pub const FUEL_PER_SECOND: f64 = 8e9;

/// What the units of a task are like.
#[derive(Debug, Clone, PartialEq)]
pub struct Nature {
    /// Median fuel of a unit.
    pub fuel: f64,
    /// Deviation of the logarithm of the fuel.
    pub spread: f64,
    /// Bytes that a unit writes.
    pub output_bytes: u64,
    /// Part of the units whose program aborts, on every device.
    pub failing: f64,
    /// The most fuel that a unit may use.
    pub fuel_max: u64,
}

/// What every unit gives.
#[derive(Debug, Default)]
pub struct Execution {
    natures: BTreeMap<TaskId, Nature>,
}

impl Execution {
    /// Lets the units of a task be of this nature.
    pub fn add(&mut self, task: TaskId, nature: Nature) {
        self.natures.insert(task, nature);
    }

    /// Returns the right result of a unit; none if nobody knows the task.
    #[must_use]
    pub fn right(&self, task: &TaskId, unit: u32) -> Option<Ran> {
        let nature = self.natures.get(task)?;
        let [high, low, ..] = task.as_bytes().as_chunks::<8>().0 else {
            return None;
        };
        let mut chance = Chance::new(
            u64::from_be_bytes(*high) ^ u64::from_be_bytes(*low),
            "unit",
            u64::from(unit),
        );
        let failed = chance.happens(nature.failing);
        let fuel = fuel_of(nature.fuel * chance.log_normal(nature.spread)).min(nature.fuel_max);
        if failed {
            return Some(Ran {
                outcome: Outcome::Trap(Trap::Unreachable),
                fuel,
                output: BlobRef::of(b""),
                inline: Some(Vec::new()),
            });
        }
        let (output, inline) = content(&chance.bytes(), nature.output_bytes);
        Some(Ran {
            outcome: Outcome::Done,
            fuel,
            output,
            inline,
        })
    }
}

/// Returns a content of this length that is a function of `seed`; a large one only by its name.
#[must_use]
pub fn content(seed: &[u8; 32], bytes: u64) -> (BlobRef, Option<Vec<u8>>) {
    if bytes > INLINE_UNIT_BYTES_MAX {
        let id = BlobRef::of(seed).id;
        return (BlobRef { id, bytes }, None);
    }
    let mut written = vec![0; usize::try_from(bytes).unwrap_or_default()];
    blake3::Hasher::new_keyed(seed)
        .finalize_xof()
        .fill(&mut written);
    (BlobRef::of(&written), Some(written))
}

/// Returns how long a device of this speed takes for so much fuel.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a time to within microseconds")]
pub fn time_of(fuel: u64, speed: f64) -> Duration {
    Duration::from_secs_f64(fuel as f64 / (FUEL_PER_SECOND * speed.max(1e-6)))
}

/// Returns the result that the outputs of these units make, in their order.
#[must_use]
pub fn merge(outputs: impl Iterator<Item = (u32, BlobRef)>) -> BlobRef {
    let mut merged = Vec::new();
    for row in outputs {
        merged.extend(codec::to_bytes(&row));
    }
    BlobRef::of(&merged)
}

/// Returns what the editor makes of a merged result.
#[must_use]
pub fn edited(merged: &BlobRef) -> BlobRef {
    BlobRef::of(&codec::to_bytes(&("edited", merged)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive amount far below 2^63, rounded"
)]
const fn fuel_of(amount: f64) -> u64 {
    amount.max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_gives_the_same_to_everybody_and_another_unit_something_else() {
        let task = TaskId::from_bytes([7; 32]);
        let nature = Nature {
            fuel: 1e9,
            spread: 0.5,
            output_bytes: 64,
            failing: 0.2,
            fuel_max: u64::MAX,
        };
        let mut execution = Execution::default();
        assert_eq!(execution.right(&task, 0), None);
        execution.add(task, nature);
        let all: Vec<Ran> = (0..1_000)
            .filter_map(|unit| execution.right(&task, unit))
            .collect();
        assert_eq!(all[3], execution.right(&task, 3).unwrap());
        let failed = all
            .iter()
            .filter(|ran| ran.outcome != Outcome::Done)
            .count();
        assert!((150..250).contains(&failed), "{failed}");
        let done: Vec<&Ran> = all.iter().filter(|ran| ran.outcome.is_done()).collect();
        assert_ne!(done[0].output, done[1].output);
        for ran in done {
            assert_eq!(BlobRef::of(ran.inline.as_ref().unwrap()), ran.output);
            assert_eq!(ran.output.bytes, 64);
        }
    }
}
