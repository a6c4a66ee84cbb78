//! What tasks earn on this computer, and which of them earn too little for its owner.
//!
//! A task is judged when [`JUDGED_UNITS`] of its units, or [`JUDGED_TIME`], were run here: by what they earn if they
//! count, by the rate card of their grants. One that earns too little is declined for [`DECLINED_FOR`], and then tried
//! again: the computer may be faster by then, or less busy.
//!
//! Invariants: at most [`MEASURED_MAX`] tasks are measured and [`DECLINED_MAX`] declined; of more the oldest go.

#![warn(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::TaskId;
use crate::message::wishes::DECLINED_MAX;
use crate::points::Points;
use crate::time::Timestamp;

/// How long a task is declined.
pub const DECLINED_FOR: Duration = Duration::from_secs(3_600);
/// Units after which a task is judged: the first ones are slower, as caches are cold.
const JUDGED_UNITS: u64 = 16;
/// The time of its units after which it is judged, however few they are.
const JUDGED_TIME: Duration = Duration::from_secs(60);
/// The most tasks that are measured: more hardly run by turns.
const MEASURED_MAX: usize = 64;
/// An hour, in nanoseconds.
const HOUR_NANOS: u128 = 3_600_000_000_000;

/// A task of which no more is taken for a while, because it earns too little here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// What an hour of a slot earned, in micro-points.
    pub hourly: u64,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Earnings {
    measured: BTreeMap<TaskId, Measured>,
    declined: BTreeMap<TaskId, Declined>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    units: u64,
    nanos: u128,
    micro_points: u128,
    /// When the first unit of it was run.
    since: Timestamp,
}

impl Measured {
    const fn is_enough(&self) -> bool {
        self.units >= JUDGED_UNITS || self.nanos >= JUDGED_TIME.as_nanos()
    }

    /// Returns what an hour of a slot earns, in micro-points.
    fn hourly(&self) -> u64 {
        let hour = self.micro_points.saturating_mul(HOUR_NANOS);
        let hourly = hour.checked_div(self.nanos.max(1)).unwrap_or(0);
        u64::try_from(hourly).unwrap_or(u64::MAX)
    }

    /// Lets what was measured long ago count less.
    fn fade(&mut self) {
        self.units /= 2;
        self.nanos /= 2;
        self.micro_points /= 2;
    }
}

impl Earnings {
    /// Notes what a unit earns if it counts, and how long it ran.
    pub(super) fn note(
        &mut self,
        now: Timestamp,
        task: TaskId,
        (points, took): (Points, Duration),
    ) {
        if self.measured.len() >= MEASURED_MAX && !self.measured.contains_key(&task) {
            let oldest = self.measured.iter().min_by_key(|(_, of)| of.since);
            let oldest = oldest.map(|(task, _)| *task);
            oldest.and_then(|task| self.measured.remove(&task));
        }
        let of = self.measured.entry(task).or_insert(Measured {
            since: now,
            ..Measured::default()
        });
        of.units = of.units.saturating_add(1);
        of.nanos = of.nanos.saturating_add(took.as_nanos());
        of.micro_points = of.micro_points.saturating_add(points.as_micro().into());
    }

    /// Declines a task that earns less than `hourly_min`. Returns whether it does.
    pub(super) fn judge(&mut self, now: Timestamp, task: TaskId, hourly_min: u64) -> bool {
        let Some(of) = self.measured.get_mut(&task).filter(|of| of.is_enough()) else {
            return false;
        };
        let hourly = of.hourly();
        if hourly >= hourly_min {
            of.fade();
            return false;
        }
        self.measured.remove(&task);
        if self.declined.len() >= DECLINED_MAX && !self.declined.contains_key(&task) {
            let oldest = self.declined.iter().min_by_key(|(_, of)| of.since);
            let oldest = oldest.map(|(task, _)| *task);
            oldest.and_then(|task| self.declined.remove(&task));
        }
        let since = now;
        self.declined.insert(task, Declined { hourly, since });
        true
    }

    /// Forgets what was declined for long enough, or earns enough for an owner who is content with `hourly_min`.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "the sum of a timestamp and a duration saturates"
    )]
    pub(super) fn forget(&mut self, now: Timestamp, hourly_min: u64) {
        let holds = |of: &Declined| of.since + DECLINED_FOR > now && of.hourly < hourly_min;
        self.declined.retain(|_, of| holds(of));
    }

    /// Returns the tasks of which no more is taken.
    pub(super) fn declined(&self) -> impl Iterator<Item = (TaskId, Declined)> + '_ {
        self.declined.iter().map(|(task, of)| (*task, *of))
    }
}
