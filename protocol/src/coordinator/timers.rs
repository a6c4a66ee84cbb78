//! What is due when. Each timer is set at most once at a time, so the table is as small as what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{GrantId, TaskId};
use crate::time::Timestamp;

/// What is due at some time. Checked when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The leases of a grant end.
    Expire(GrantId),
    /// Units of a task are to be offered again.
    Announce(TaskId),
    /// A task whose input never came, or whose result was kept long enough, goes.
    Drop(TaskId),
    /// A task has to have ended.
    Deadline(TaskId),
    /// Receipts of a task are to be issued.
    Receipts(TaskId),
    /// Points leave escrow or expire.
    Lots,
    /// App servers are told what their devices have.
    Tell,
    /// Points that were set aside are free again.
    Reservations,
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Timestamp, Timer)>,
    set: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self {
            due: BTreeSet::new(),
            set: BTreeMap::new(),
        }
    }

    /// Sets the timer, instead of any earlier setting.
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.clear(timer);
        self.set.insert(timer, at);
        self.due.insert((at, timer));
    }

    /// Sets the timer unless it is set for an earlier time.
    pub(super) fn set_at_latest(&mut self, timer: Timer, at: Timestamp) {
        if self.set.get(&timer).is_none_or(|set| *set > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.set.remove(&timer) {
            self.due.remove(&(at, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first timer that is due.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Timer> {
        let (_, timer) = self.due.first().filter(|(at, _)| *at <= now).copied()?;
        self.clear(timer);
        Some(timer)
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}
