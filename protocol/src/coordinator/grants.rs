//! The grants that are out: which device holds which units, until when.
//!
//! A live grant goes when all its units are reported. One that is over is remembered for a while, so that its
//! terminal can be told to stop, or can have it back. Forgetting one too early does no harm: its terminal shows
//! it again.
//!
//! Invariants: a device is counted as many leases as its live grants have units; what is over is bounded by
//! [`OVER_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::id::{GrantId, NodeId, TaskId};
use crate::message::work::Grant;
use crate::time::Timestamp;

/// How long a grant that is over is remembered, in case the terminal asks.
const OVER_KEPT: Duration = Duration::from_secs(600);
/// The most grants that are over, and units of them, that are remembered: about 16 MB.
pub(super) const OVER_MAX: usize = 1 << 18;
/// The most grants and units of them that are looked at for one that takes long.
const SLOW_GRANTS_MAX: usize = 8;
/// See [`SLOW_GRANTS_MAX`].
const SLOW_UNITS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Grants {
    held: BTreeMap<GrantId, HeldGrant>,
    /// Live grants of each task, the oldest first.
    live: BTreeMap<TaskId, BTreeSet<(Timestamp, GrantId)>>,
    /// Live leases of each device that has any.
    leases: BTreeMap<NodeId, usize>,
    /// Grants that are over, by when they are forgotten.
    over: BTreeSet<(Timestamp, GrantId)>,
    /// Grants that are over, and units of them.
    over_weight: usize,
}

#[derive(Debug)]
pub(super) struct HeldGrant {
    pub(super) task: TaskId,
    pub(super) device: NodeId,
    /// Units whose result has not come.
    pub(super) units: BTreeSet<u32>,
    lease: Duration,
    pub(super) issued: Timestamp,
    pub(super) state: State,
}

/// How a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its leases end at this time.
    Live(Timestamp),
    /// It was not renewed; forgotten at this time. Late results count.
    Expired(Timestamp),
    /// Nothing of it is wanted any more; forgotten at this time.
    Ended(Timestamp),
}

/// What taking a unit off a grant changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// Nothing: the grant did not hold it.
    Not,
    /// The unit; others are left.
    Unit,
    /// The last unit, and so the grant.
    Grant,
}

impl Grants {
    pub(super) const fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            live: BTreeMap::new(),
            leases: BTreeMap::new(),
            over: BTreeSet::new(),
            over_weight: 0,
        }
    }

    pub(super) fn get(&self, id: GrantId) -> Option<&HeldGrant> {
        self.held.get(&id)
    }

    /// Returns how many grants are live, and how many are over.
    pub(super) fn count(&self) -> (usize, usize) {
        let over = self.over.len();
        (self.held.len() - over, over)
    }

    /// Returns how many live leases the device has.
    pub(super) fn leases(&self, device: NodeId) -> usize {
        self.leases.get(&device).copied().unwrap_or(0)
    }

    pub(super) fn hold(&mut self, grant: &Grant, lease: Duration) {
        let held = HeldGrant {
            task: grant.task,
            device: grant.device,
            units: grant.units.iter().map(|leased| leased.unit).collect(),
            lease,
            issued: grant.issued,
            state: State::Live(grant.deadline),
        };
        *self.leases.entry(grant.device).or_default() += held.units.len();
        let live = self.live.entry(grant.task).or_default();
        live.insert((held.issued, grant.id));
        self.held.insert(grant.id, held);
    }

    /// Holds a grant of before a restart, as one that was not renewed, for those of its units that are not over.
    pub(super) fn adopt(
        &mut self,
        now: Timestamp,
        grant: &Grant,
        (units, lease): (BTreeSet<u32>, Duration),
    ) {
        let state = State::Expired(now + OVER_KEPT);
        let held = HeldGrant {
            task: grant.task,
            device: grant.device,
            units,
            lease,
            issued: grant.issued,
            state,
        };
        self.held.insert(grant.id, held);
        self.make_over(now, grant.id, state);
    }

    /// Lets a live grant end one lease time from now. Returns whether it was live.
    pub(super) fn renew(&mut self, now: Timestamp, id: GrantId) -> bool {
        match self.held.get_mut(&id) {
            Some(held) if matches!(held.state, State::Live(_)) => {
                held.state = State::Live(now + held.lease);
                true
            }
            _ => false,
        }
    }

    /// Makes an expired grant live again. Returns when it now ends.
    pub(super) fn revive(&mut self, now: Timestamp, id: GrantId) -> Option<Timestamp> {
        let held = self.held.get_mut(&id)?;
        let State::Expired(forgotten) = held.state else {
            return None;
        };
        let deadline = now + held.lease;
        held.state = State::Live(deadline);
        self.over.remove(&(forgotten, id));
        self.over_weight -= 1 + held.units.len();
        *self.leases.entry(held.device).or_default() += held.units.len();
        let live = self.live.entry(held.task).or_default();
        live.insert((held.issued, id));
        Some(deadline)
    }

    /// Takes a unit off its grant.
    pub(super) fn release(&mut self, id: GrantId, unit: u32) -> Released {
        let Some(held) = self.held.get_mut(&id) else {
            return Released::Not;
        };
        if !held.units.remove(&unit) {
            return Released::Not;
        }
        let (device, empty) = (held.device, held.units.is_empty());
        if let State::Live(_) = held.state {
            self.uncount(device, 1);
        } else {
            self.over_weight -= 1;
        }
        if !empty {
            return Released::Unit;
        }
        self.remove(id);
        Released::Grant
    }

    /// Notes that a live grant was not renewed. Returns task, device and units.
    pub(super) fn expire(
        &mut self,
        now: Timestamp,
        id: GrantId,
    ) -> Option<(TaskId, NodeId, BTreeSet<u32>)> {
        let held = self.held.get(&id)?;
        let expired = (held.task, held.device, held.units.clone());
        self.leave_live(id);
        self.make_over(now, id, State::Expired(now + OVER_KEPT));
        Some(expired)
    }

    /// Returns the live grants of a device.
    pub(super) fn live_of(&self, device: NodeId) -> Vec<GrantId> {
        let live = self.live.values().flatten().map(|(_, id)| *id);
        live.filter(|id| self.held[id].device == device).collect()
    }

    /// Ends the grants of a task. Returns those that were live.
    pub(super) fn end_task(&mut self, now: Timestamp, task: &TaskId) -> Vec<GrantId> {
        let live = self.live.get(task).into_iter().flatten();
        let ended: Vec<GrantId> = live.map(|(_, id)| *id).collect();
        for id in &ended {
            self.leave_live(*id);
            if let Some(held) = self.held.get_mut(id) {
                held.units.clear();
            }
            self.make_over(now, *id, State::Ended(now + OVER_KEPT));
        }
        ended
    }

    /// Ends live grants of the task that were made before `before` and whose units are all settled, as far as they
    /// are among the oldest: whoever holds them may stop, and they do not hide younger ones that take long as well.
    /// Returns them.
    pub(super) fn end_spent(
        &mut self,
        now: Timestamp,
        (task, before): (&TaskId, Timestamp),
        is_settled: impl Fn(u32) -> bool,
    ) -> Vec<GrantId> {
        let is_spent = |id: &GrantId| self.held[id].units.iter().all(|unit| is_settled(*unit));
        let spent: Vec<GrantId> = self.slow(task, before).filter(is_spent).collect();
        for id in &spent {
            self.leave_live(*id);
            self.make_over(now, *id, State::Ended(now + OVER_KEPT));
        }
        spent
    }

    /// Returns some live grants of the task that were made before `before`, the oldest first.
    fn slow(&self, task: &TaskId, before: Timestamp) -> impl Iterator<Item = GrantId> {
        let live = self.live.get(task).into_iter().flatten();
        let slow = live.take_while(move |(issued, _)| *issued < before);
        slow.take(SLOW_GRANTS_MAX).map(|(_, id)| *id)
    }

    /// Returns some units of live grants of the task that were made before `before`, the oldest grants first.
    /// `turn` decides at which of them it starts.
    pub(super) fn slow_units(
        &self,
        (task, before): (&TaskId, Timestamp),
        is_settled: impl Fn(u32) -> bool,
        turn: usize,
    ) -> Vec<u32> {
        let grants = self.slow(task, before).map(|id| &self.held[&id]);
        let units = grants.flat_map(|held| held.units.iter().copied());
        let units: Vec<u32> = units.filter(|unit| !is_settled(*unit)).collect();
        let start = turn.checked_rem(units.len()).unwrap_or(0);
        let ring = units[start..].iter().chain(&units[..start]);
        ring.copied().take(SLOW_UNITS_MAX).collect()
    }

    /// Returns whether the grant is live and was made before `before`.
    pub(super) fn is_slow(&self, id: GrantId, before: Timestamp) -> bool {
        self.held.get(&id).is_some_and(|held| held.issued < before)
    }

    fn leave_live(&mut self, id: GrantId) {
        let Some(held) = self.held.get(&id) else {
            return;
        };
        let (task, issued, device, units) = (held.task, held.issued, held.device, held.units.len());
        if let Some(live) = self.live.get_mut(&task) {
            live.remove(&(issued, id));
            if live.is_empty() {
                self.live.remove(&task);
            }
        }
        self.uncount(device, units);
    }

    fn make_over(&mut self, now: Timestamp, id: GrantId, state: State) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        held.state = state;
        self.over_weight += 1 + held.units.len();
        self.over.insert((now + OVER_KEPT, id));
        while let Some((until, oldest)) = self.over.first().copied()
            && (until <= now || self.over_weight > OVER_MAX)
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: GrantId) {
        if let Some(held) = self.held.get(&id)
            && matches!(held.state, State::Live(_))
        {
            self.leave_live(id);
        }
        let Some(held) = self.held.remove(&id) else {
            return;
        };
        if let State::Expired(until) | State::Ended(until) = held.state {
            self.over.remove(&(until, id));
            self.over_weight -= 1 + held.units.len();
        }
    }

    fn uncount(&mut self, device: NodeId, units: usize) {
        if let Some(leases) = self.leases.get_mut(&device) {
            *leases -= units;
            if *leases == 0 {
                self.leases.remove(&device);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    #[cfg(test)]
    pub(super) const fn weight(&self) -> usize {
        self.over_weight
    }
}
