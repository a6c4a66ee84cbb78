//! The units of one running task: which are done, who is at work on which, what was reported.
//!
//! A unit that nobody has touched takes no memory; one that is open has its votes and leases; one that is done is
//! a bit. Votes and faults are durable (they follow from facts), leases are not.
//!
//! Invariants: a device has at most one vote and one lease per unit; a unit is done once, when `agree` devices
//! reported the same (outcome, output, fuel); no unit is leased to more devices than could complete its quorum.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Vote;
use crate::entry::ValidatedUnit;
use crate::id::{GrantId, NodeId};
use crate::message::customer::DeviceTally;
use crate::task::Quorum;
use crate::unit::Fault;

/// The most returned units that one pull looks through.
const RETURNED_SCAN_MAX: usize = 4_096;
/// The most outvoted units that a tally names.
const OUTVOTED_NAMED_MAX: usize = 20;
/// The most failed units whose reason is kept.
pub(super) const FAILED_NAMED_MAX: usize = 100;

/// The units of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Units {
    quorum: Quorum,
    count: u32,
    /// A bit for each unit that is done or failed, 64 to a word.
    settled: Vec<u64>,
    settled_count: u32,
    open: BTreeMap<u32, OpenUnit>,
    failed: BTreeMap<u32, String>,
    failed_count: u32,
    /// The first unit that failed, with the reason.
    first_failure: Option<(u32, String)>,
    fuel: u64,
    devices: BTreeMap<NodeId, DeviceTally>,
    /// Open units that want another lease although cursors may have passed them.
    #[serde(skip)]
    returned: BTreeSet<u32>,
    /// For each device the unit up to which it has taken all that it can.
    #[serde(skip)]
    cursors: BTreeMap<NodeId, u32>,
    #[serde(skip)]
    leased: u32,
    /// Leases that open units still want.
    #[serde(skip)]
    open_wanted: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OpenUnit {
    votes: Vec<(NodeId, Vote)>,
    faults: u8,
    #[serde(skip)]
    leases: Vec<(NodeId, GrantId)>,
    #[serde(skip)]
    attempts: u32,
}

impl OpenUnit {
    /// Returns the votes for the result that most devices reported, the earliest of equals.
    fn best(&self) -> usize {
        let same = |vote: &Vote| {
            self.votes
                .iter()
                .filter(|(_, other)| other.same(vote))
                .count()
        };
        self.votes
            .iter()
            .map(|(_, vote)| same(vote))
            .max()
            .unwrap_or(0)
    }

    /// Returns how many more leases could complete the quorum.
    fn wanted(&self, quorum: Quorum) -> usize {
        let missing = usize::from(quorum.agree).saturating_sub(self.best());
        let allowed = usize::from(quorum.total_max).saturating_sub(self.votes.len());
        missing.min(allowed).saturating_sub(self.leases.len())
    }

    fn involves(&self, device: NodeId) -> bool {
        self.leases.iter().any(|(holder, _)| *holder == device) || self.has_vote(device)
    }

    fn end_lease(&mut self, device: NodeId) {
        self.leases.retain(|(holder, _)| *holder != device);
    }

    fn has_vote(&self, device: NodeId) -> bool {
        self.votes.iter().any(|(voter, _)| *voter == device)
    }
}

/// What a report changed.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Units whose quorum was completed.
    pub(super) validated: Vec<ValidatedUnit>,
}

impl Units {
    pub(super) fn new(count: u32, quorum: Quorum) -> Self {
        Self {
            quorum,
            count,
            settled: vec![0; count.div_ceil(64) as usize],
            settled_count: 0,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            failed_count: 0,
            first_failure: None,
            fuel: 0,
            devices: BTreeMap::new(),
            returned: BTreeSet::new(),
            cursors: BTreeMap::new(),
            leased: 0,
            open_wanted: 0,
        }
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    pub(super) const fn done_count(&self) -> u32 {
        self.settled_count - self.failed_count
    }

    pub(super) const fn failed_count(&self) -> u32 {
        self.failed_count
    }

    pub(super) const fn failed(&self) -> &BTreeMap<u32, String> {
        &self.failed
    }

    pub(super) const fn first_failure(&self) -> Option<&(u32, String)> {
        self.first_failure.as_ref()
    }

    pub(super) const fn leased(&self) -> u32 {
        self.leased
    }

    pub(super) const fn fuel(&self) -> u64 {
        self.fuel
    }

    pub(super) const fn devices(&self) -> &BTreeMap<NodeId, DeviceTally> {
        &self.devices
    }

    pub(super) const fn all_settled(&self) -> bool {
        self.settled_count == self.count
    }

    /// Returns whether nothing is left to do for `unit`; so for one beyond the last.
    pub(super) fn is_settled(&self, unit: u32) -> bool {
        let settled = |word: &u64| word & (1 << (unit % 64)) != 0;
        unit >= self.count || self.settled.get((unit / 64) as usize).is_none_or(settled)
    }

    /// Returns whether the device has reported the unit already.
    pub(super) fn has_vote(&self, unit: u32, device: NodeId) -> bool {
        self.open
            .get(&unit)
            .is_some_and(|open| open.has_vote(device))
    }

    /// Returns how many leases are still to be given.
    pub(super) fn wanted(&self) -> u32 {
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let untouched = self.count - self.settled_count - open;
        untouched
            .saturating_mul(u32::from(self.quorum.agree))
            .saturating_add(self.open_wanted)
    }

    /// Counts anew what a snapshot leaves out.
    pub(super) fn recount(&mut self) {
        let wanted: usize = self
            .open
            .values()
            .map(|open| open.wanted(self.quorum))
            .sum();
        self.open_wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    }

    /// Changes an open unit, or opens it. A unit that then wants more leases than before is put where pulls find it
    /// even if their cursors have passed it.
    fn change<R>(&mut self, unit: u32, change: impl FnOnce(&mut OpenUnit) -> R) -> R {
        let before = self.open.get(&unit).map(|open| open.wanted(self.quorum));
        let open = self.open.entry(unit).or_default();
        let leases = open.leases.len();
        let result = change(open);
        self.leased = self.leased + narrow(open.leases.len()) - narrow(leases);
        let after = open.wanted(self.quorum);
        self.open_wanted = self.open_wanted + narrow(after) - narrow(before.unwrap_or(0));
        if after > before.unwrap_or(usize::from(self.quorum.agree)) {
            self.returned.insert(unit);
        } else if after == 0 {
            self.returned.remove(&unit);
        }
        result
    }

    /// Returns whether a lease of `unit` by `device` could complete its quorum.
    fn may_lease(&self, unit: u32, device: NodeId) -> bool {
        !self.is_settled(unit)
            && self
                .open
                .get(&unit)
                .is_none_or(|open| !open.involves(device) && open.wanted(self.quorum) > 0)
    }

    /// Returns up to `want` units that `device` may lease, returned ones first, then from its cursor on; `fits` ends
    /// the choice when the next unit would not fit the grant.
    pub(super) fn choose(
        &mut self,
        device: NodeId,
        want: usize,
        mut fits: impl FnMut(u32) -> bool,
    ) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::new();
        for unit in self.returned.iter().copied().take(RETURNED_SCAN_MAX) {
            if chosen.len() == want {
                return chosen;
            }
            if self.may_lease(unit, device) {
                if !fits(unit) {
                    return chosen;
                }
                chosen.push(unit);
            }
        }
        let mut unit = self.cursors.get(&device).copied().unwrap_or(0);
        while unit < self.count && chosen.len() < want {
            if self.may_lease(unit, device) && !self.returned.contains(&unit) {
                if !fits(unit) {
                    break;
                }
                chosen.push(unit);
            }
            unit += 1;
        }
        self.cursors.insert(device, unit);
        chosen
    }

    /// Leases a chosen unit. Returns how often it had been leased before.
    pub(super) fn lease(&mut self, unit: u32, device: NodeId, grant: GrantId) -> u32 {
        self.change(unit, |open| {
            open.leases.push((device, grant));
            open.attempts += 1;
            open.attempts - 1
        })
    }

    /// Ends the lease of `unit` by `device`, if there is one. Returns whether there was.
    pub(super) fn end_lease(&mut self, unit: u32, device: NodeId) -> bool {
        let leased = |open: &OpenUnit| open.leases.iter().any(|(holder, _)| *holder == device);
        if !self.open.get(&unit).is_some_and(leased) {
            return false;
        }
        self.change(unit, |open| open.end_lease(device));
        true
    }

    /// Counts a lease that came to nothing against `device`.
    pub(super) fn count_lost(&mut self, device: NodeId) {
        self.devices.entry(device).or_default().lost += 1;
    }

    /// Counts what `device` reported. Votes on settled units and second votes change nothing.
    pub(super) fn report(&mut self, device: NodeId, votes: &[Vote]) -> Settled {
        let mut settled = Settled::default();
        for vote in votes {
            if self.is_settled(vote.unit) || self.has_vote(vote.unit, device) {
                continue;
            }
            self.change(vote.unit, |open| {
                open.end_lease(device);
                open.votes.push((device, *vote));
            });
            if let Some(unit) = self.settle(vote.unit) {
                settled.validated.push(unit);
            }
        }
        settled
    }

    /// Counts a fault of `device` on `unit`.
    pub(super) fn fault(&mut self, device: NodeId, unit: u32, fault: Fault) {
        if self.is_settled(unit) {
            return;
        }
        let faults = self.change(unit, |open| {
            open.end_lease(device);
            open.faults = open.faults.saturating_add(1);
            open.faults
        });
        if faults >= self.quorum.error_max {
            self.fail(unit, format!("{fault} (on {faults} terminals or attempts)"));
        }
    }

    /// Settles the unit if its votes decide it. Returns it if a quorum agreed.
    fn settle(&mut self, unit: u32) -> Option<ValidatedUnit> {
        let open = self.open.get(&unit)?;
        let needed = usize::from(self.quorum.agree);
        let agreed_on = |vote: &Vote| {
            open.votes
                .iter()
                .filter(|(_, other)| other.same(vote))
                .count()
                >= needed
        };
        let Some((_, vote)) = open.votes.iter().find(|(_, vote)| agreed_on(vote)) else {
            if open.votes.len() >= usize::from(self.quorum.total_max) {
                let reason = format!(
                    "{} terminals reported, no {needed} of them the same",
                    open.votes.len()
                );
                self.fail(unit, reason);
            }
            return None;
        };
        let vote = *vote;
        let open = self.close(unit)?;
        let of = |same: bool| {
            open.votes
                .iter()
                .filter(move |(_, other)| other.same(&vote) == same)
                .map(|(device, _)| *device)
        };
        let (agreed, outvoted): (Vec<NodeId>, Vec<NodeId>) =
            (of(true).collect(), of(false).collect());
        for device in &agreed {
            let tally = self.devices.entry(*device).or_default();
            tally.agreed += 1;
            tally.fuel = tally.fuel.saturating_add(vote.fuel);
        }
        for device in &outvoted {
            let tally = self.devices.entry(*device).or_default();
            tally.outvoted += 1;
            if tally.outvoted_units.len() < OUTVOTED_NAMED_MAX {
                tally.outvoted_units.push(unit);
            }
        }
        self.fuel = self.fuel.saturating_add(vote.fuel);
        if !vote.outcome.is_done() {
            self.note_failure(
                unit,
                format!(
                    "{} (reported alike by {} terminals)",
                    vote.outcome,
                    agreed.len()
                ),
            );
        }
        let Vote {
            outcome,
            fuel,
            output,
            ..
        } = vote;
        Some(ValidatedUnit {
            unit,
            outcome,
            fuel,
            output,
            agreed,
            outvoted,
        })
    }

    fn fail(&mut self, unit: u32, reason: String) {
        self.close(unit);
        self.note_failure(unit, reason);
    }

    fn note_failure(&mut self, unit: u32, reason: String) {
        self.failed_count += 1;
        if self.first_failure.is_none() {
            self.first_failure = Some((unit, reason.clone()));
        }
        if self.failed.len() < FAILED_NAMED_MAX {
            self.failed.insert(unit, reason);
        }
    }

    /// Marks the unit as settled and takes what is known of it.
    fn close(&mut self, unit: u32) -> Option<OpenUnit> {
        let open = self.open.remove(&unit)?;
        self.open_wanted -= narrow(open.wanted(self.quorum));
        self.returned.remove(&unit);
        self.leased -= narrow(open.leases.len());
        self.settled[(unit / 64) as usize] |= 1 << (unit % 64);
        self.settled_count += 1;
        Some(open)
    }
}

/// Narrows a number of leases of one unit.
fn narrow(leases: usize) -> u32 {
    u32::try_from(leases).expect("a quorum is a byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::BlobRef;
    use crate::unit::Outcome;

    fn device(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn vote(unit: u32, output: &[u8]) -> Vote {
        Vote {
            unit,
            outcome: Outcome::Done,
            fuel: 7,
            output: BlobRef::of(output),
        }
    }

    fn units(count: u32, agree: u8) -> Units {
        Units::new(
            count,
            Quorum {
                agree,
                error_max: 2,
                total_max: 4,
            },
        )
    }

    fn lease(units: &mut Units, number: u8, want: usize) -> Vec<u32> {
        let chosen = units.choose(device(number), want, |_| true);
        for unit in &chosen {
            units.lease(*unit, device(number), GrantId::from_bytes([number; 16]));
        }
        chosen
    }

    #[test]
    fn each_unit_goes_to_as_many_devices_as_must_agree() {
        let mut units = units(4, 2);
        assert_eq!(lease(&mut units, 1, 3), [0, 1, 2]);
        assert_eq!(lease(&mut units, 2, 9), [0, 1, 2, 3]);
        assert_eq!(lease(&mut units, 3, 9), [3]);
        assert_eq!(lease(&mut units, 4, 9), [0_u32; 0]);
        assert_eq!(lease(&mut units, 1, 9), [0_u32; 0]);
        assert_eq!(units.leased(), 8);
    }

    #[test]
    fn a_mismatch_asks_a_third_device_and_outvotes_the_liar() {
        let mut units = units(1, 2);
        lease(&mut units, 1, 1);
        lease(&mut units, 2, 1);
        assert!(
            units
                .report(device(1), &[vote(0, b"right")])
                .validated
                .is_empty()
        );
        assert!(
            units
                .report(device(2), &[vote(0, b"wrong")])
                .validated
                .is_empty()
        );
        assert_eq!(lease(&mut units, 1, 1), [0_u32; 0]);
        assert_eq!(lease(&mut units, 3, 1), [0]);
        let validated = units.report(device(3), &[vote(0, b"right")]).validated;
        assert_eq!(validated[0].agreed, [device(1), device(3)]);
        assert_eq!(validated[0].outvoted, [device(2)]);
        assert_eq!(units.devices()[&device(2)].outvoted_units, [0]);
        assert!(units.all_settled());
        assert_eq!(units.leased(), 0);
    }

    #[test]
    fn equal_output_with_other_fuel_does_not_agree() {
        let mut units = units(1, 2);
        units.report(device(1), &[vote(0, b"same")]);
        let dearer = Vote {
            fuel: 8,
            ..vote(0, b"same")
        };
        assert!(units.report(device(2), &[dearer]).validated.is_empty());
    }

    #[test]
    fn a_second_vote_and_a_vote_on_a_done_unit_change_nothing() {
        let mut units = units(2, 2);
        units.report(device(1), &[vote(0, b"x"), vote(0, b"x")]);
        assert!(
            units
                .report(device(1), &[vote(0, b"x")])
                .validated
                .is_empty()
        );
        assert_eq!(units.report(device(2), &[vote(0, b"x")]).validated.len(), 1);
        assert!(
            units
                .report(device(3), &[vote(0, b"x")])
                .validated
                .is_empty()
        );
        assert_eq!((units.done_count(), units.fuel()), (1, 7));
    }

    #[test]
    fn a_lost_lease_goes_to_the_next_who_asks() {
        let mut units = units(3, 1);
        assert_eq!(lease(&mut units, 1, 3), [0, 1, 2]);
        assert_eq!(lease(&mut units, 2, 3), [0_u32; 0]);
        assert!(units.end_lease(1, device(1)));
        assert!(!units.end_lease(1, device(1)));
        assert_eq!(lease(&mut units, 2, 3), [1]);
        assert_eq!(units.open[&1].attempts, 2);
    }

    #[test]
    fn faults_and_disagreement_have_an_end() {
        let mut units = units(2, 2);
        units.fault(device(1), 0, Fault::StackOverflow);
        units.fault(device(2), 0, Fault::StackOverflow);
        assert_eq!(
            units.failed()[&0],
            "stack overflow (on 2 terminals or attempts)"
        );
        for number in 1..=4 {
            units.report(device(number), &[vote(1, &[number])]);
        }
        assert_eq!(
            units.failed()[&1],
            "4 terminals reported, no 2 of them the same"
        );
        assert!(units.all_settled());
        assert_eq!((units.done_count(), units.failed_count()), (0, 2));
    }

    #[test]
    fn votes_beyond_the_units_are_ignored() {
        let mut units = units(2, 1);
        assert!(
            units
                .report(device(1), &[vote(2, b""), vote(u32::MAX, b"")])
                .validated
                .is_empty()
        );
        units.fault(device(1), 7, Fault::Killed);
        assert_eq!(units.failed_count(), 0);
    }
}
