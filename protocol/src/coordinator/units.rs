//! The units of one running task: which are done, who is at work on which, what was reported.
//!
//! A unit that nobody has touched takes no memory; one that is open has its votes and leases; one that is done is
//! a bit. Votes and faults are durable (they follow from facts), leases are not.
//!
//! A pull finds the units for its device without looking at all of them. Units before the frontier want nobody, but
//! for those in `returned`, which wanted nobody and now do again; so a scan starts at the frontier, or
//! where the last scan for the same device ended.
//!
//! Invariants: an owner has at most one vote and one lease per unit, whichever of its devices; a unit is done once, when
//! devices of `agree` owners reported the same (outcome, output, fuel); no unit is leased to more devices than could
//! complete its quorum, not counting leases that take very long; an owner who took a unit back is not leased it again
//! before one lease time is over, or another has had it.

#[cfg(test)]
mod tests;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Vote;
use crate::account::Holder;
use crate::id::{GrantId, Hash, NodeId};
use crate::message::customer::DeviceTally;
use crate::message::wishes::Misfit;
use crate::message::work::{GRANT_UNITS_MAX, UnpaidReason};
use crate::task::Quorum;
use crate::time::Timestamp;
use crate::unit::Fault;

/// The most returned units that one pull looks through; the next one of the device goes on from there.
const RETURNED_SCAN_MAX: usize = 1_024;
/// The most devices for which it is remembered where their scan ended.
const PLACES_MAX: usize = 16_384;
/// The most leases of one unit, slow ones and their backups together.
const UNIT_LEASES_MAX: usize = 32;
/// How much worse than faults of different devices faults of the same few are taken: one broken device should
/// not be able to fail a unit, but a unit that nobody else tries must come to an end.
const SAME_DEVICE_FAULTS: usize = 4;
/// The most units leased to one device at a time: a batch at work and one in wait on each of some cores.
pub(super) const DEVICE_LEASES_MAX: u32 = 8 * GRANT_UNITS_MAX;
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
    /// Units before it want nobody, or are in `returned`.
    #[serde(skip)]
    frontier: u32,
    #[serde(skip)]
    places: BTreeMap<NodeId, Place>,
    /// Open units of which only the last votes are left.
    #[serde(skip)]
    disputed: BTreeSet<u32>,
    /// Leases that were wanted anew since somebody asked.
    #[serde(skip)]
    fresh: u32,
    #[serde(skip)]
    leased: u32,
    /// Leases that open units still want.
    #[serde(skip)]
    open_wanted: u32,
    /// Votes of each device on units that are not settled.
    #[serde(skip)]
    unconfirmed: BTreeMap<NodeId, u32>,
}

/// Where the scan for a device goes on, and whether there is one at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// It has taken all that it can of the units before this one, but for those in `returned`.
    next: u32,
    /// The returned unit to be looked at first.
    returned: u32,
    /// Pulls in a row with units that it could not run, or with results while it was doubted.
    faults: u32,
    /// Its results that others contradicted, since one of its results was agreed on.
    doubts: u32,
    /// Units that its owner took back, since it reported a result.
    withdrawn: u32,
    /// It gets nothing before this.
    rests_until: Timestamp,
}

/// A vote with whose it is and where it stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ballot {
    pub(super) holder: Holder,
    pub(super) vote: Vote,
    /// The root of the batch with it.
    pub(super) batch: Hash,
    /// When it was leased, or something else of the same report.
    pub(super) leased_at: Timestamp,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OpenUnit {
    votes: Vec<Ballot>,
    /// Who could not run it, once for each time.
    faults: Vec<NodeId>,
    #[serde(skip)]
    leases: Vec<(Holder, GrantId)>,
    /// The owners who took it back since it was leased last, each with when they may have it again: no more than it
    /// had leases.
    #[serde(skip)]
    withdrawn: Vec<(NodeId, Timestamp)>,
}

impl OpenUnit {
    /// Returns the votes for the result that most devices reported, the earliest of equals.
    fn best(&self) -> usize {
        let same = |vote: &Vote| {
            let votes = self.votes.iter();
            votes.filter(|other| other.vote.same(vote)).count()
        };
        let votes = self.votes.iter();
        votes.map(|ballot| same(&ballot.vote)).max().unwrap_or(0)
    }

    /// Returns how many more leases could complete the quorum.
    fn wanted(&self, quorum: Quorum) -> usize {
        self.missing(quorum).saturating_sub(self.leases.len())
    }

    /// Returns how many more votes could complete the quorum.
    fn missing(&self, quorum: Quorum) -> usize {
        let missing = usize::from(quorum.agree).saturating_sub(self.best());
        let allowed = usize::from(quorum.total_max).saturating_sub(self.votes.len());
        missing.min(allowed)
    }

    /// Returns whether some disagree, and no more votes are left than must agree.
    fn has_last_votes_only(&self, quorum: Quorum) -> bool {
        let open_to_all = quorum.total_max.saturating_sub(quorum.agree);
        let open_to_all = usize::from(open_to_all.max(quorum.agree.saturating_add(1)));
        self.votes.len() >= open_to_all && self.best() < self.votes.len()
    }

    /// Returns whether nobody is likely to be able to run it: too many devices could not, or too often.
    fn is_hopeless(&self, quorum: Quorum) -> bool {
        let error_max = usize::from(quorum.error_max);
        let devices: BTreeSet<&NodeId> = self.faults.iter().collect();
        devices.len() >= error_max || self.faults.len() >= error_max * SAME_DEVICE_FAULTS
    }

    /// Returns whether a device of the same owner is at work on it or has reported it.
    fn involves(&self, holder: Holder) -> bool {
        let mut leases = self.leases.iter();
        leases.any(|(other, _)| other.owner == holder.owner) || self.has_vote(holder)
    }

    /// Returns whether the owner took it back, and may not have it again yet: who gives a unit back before it looks slow
    /// and then has it in a new grant would hold it for ever.
    fn withholds(&self, now: Timestamp, holder: Holder) -> bool {
        let mut withdrawn = self.withdrawn.iter();
        withdrawn.any(|(owner, until)| *owner == holder.owner && *until > now)
    }

    fn end_lease(&mut self, device: NodeId) {
        self.leases.retain(|(holder, _)| holder.device != device);
    }

    /// Ends the lease of an owner, whichever of its devices has it: it has voted, and has no second vote.
    fn end_lease_of_owner(&mut self, owner: NodeId) {
        self.leases.retain(|(holder, _)| holder.owner != owner);
    }

    fn has_vote(&self, holder: Holder) -> bool {
        let mut votes = self.votes.iter();
        votes.any(|ballot| ballot.holder.owner == holder.owner)
    }
}

/// What a report or a fault changed.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Units whose quorum was completed.
    pub(super) agreed: Vec<Agreed>,
    /// Votes on units that are settled, for which nobody is paid.
    pub(super) unpaid: Vec<(Ballot, UnpaidReason)>,
}

/// A unit whose quorum was completed.
#[derive(Debug)]
pub(super) struct Agreed {
    /// What was agreed on.
    pub(super) vote: Vote,
    /// The votes for it, in the order in which they came.
    pub(super) votes: Vec<Ballot>,
    /// Devices that reported something else.
    pub(super) outvoted: Vec<NodeId>,
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
            frontier: 0,
            places: BTreeMap::new(),
            disputed: BTreeSet::new(),
            fresh: 0,
            leased: 0,
            open_wanted: 0,
            unconfirmed: BTreeMap::new(),
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

    /// Returns how many units have votes, faults or leases.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
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

    /// Returns whether the owner of the device has reported the unit already.
    pub(super) fn has_vote(&self, unit: u32, holder: Holder) -> bool {
        self.open
            .get(&unit)
            .is_some_and(|open| open.has_vote(holder))
    }

    /// Returns whether this very device has reported the unit already.
    pub(super) fn has_reported(&self, unit: u32, device: NodeId) -> bool {
        let by_it = |open: &OpenUnit| {
            open.votes
                .iter()
                .any(|ballot| ballot.holder.device == device)
        };
        self.open.get(&unit).is_some_and(by_it)
    }

    /// Returns how many units nobody has touched.
    pub(super) fn untouched(&self) -> u32 {
        let open = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        self.count - self.settled_count - open
    }

    /// Returns how many leases are still to be given.
    pub(super) fn wanted(&self) -> u32 {
        self.untouched()
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
        let disputed = self.open.iter();
        let disputed = disputed.filter(|(_, open)| open.has_last_votes_only(self.quorum));
        self.disputed = disputed.map(|(unit, _)| *unit).collect();
        for ballot in self.open.values().flat_map(|open| &open.votes) {
            let device = ballot.holder.device;
            *self.unconfirmed.entry(device).or_default() += 1;
        }
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
        if open.has_last_votes_only(self.quorum) {
            self.disputed.insert(unit);
        }
        self.open_wanted = self.open_wanted + narrow(after) - narrow(before.unwrap_or(0));
        let wanted = before.unwrap_or(usize::from(self.quorum.agree));
        if after > wanted {
            self.returned.insert(unit);
            self.fresh = self.fresh.saturating_add(narrow(after - wanted));
        } else if after == 0 {
            self.returned.remove(&unit);
        }
        result
    }

    /// Returns whether a lease of `unit` by `device` could complete its quorum.
    ///
    /// The last votes of a unit on which all disagree are kept for devices with which others have agreed before.
    pub(super) fn may_lease(&self, now: Timestamp, unit: u32, holder: Holder) -> bool {
        !self.is_settled(unit)
            && self.open.get(&unit).is_none_or(|open| {
                !open.involves(holder)
                    && !open.withholds(now, holder)
                    && open.wanted(self.quorum) > 0
                    && (!open.has_last_votes_only(self.quorum) || !self.is_kept_back(holder.device))
            })
    }

    /// Returns why a device was given no unit, that neither rests nor is too far ahead.
    pub(super) fn why_none(&self, now: Timestamp, holder: Holder, openable: u32) -> Misfit {
        let is_withheld = |unit: &u32| {
            let open = self.open.get(unit);
            open.is_some_and(|open| open.withholds(now, holder))
        };
        let mut returned = self.returned.iter().take(RETURNED_SCAN_MAX);
        if self.wanted() == 0 {
            Misfit::Taken
        } else if self.keeps_back(holder) || returned.any(is_withheld) {
            Misfit::Rests
        } else if self.untouched() > openable && self.returned.is_empty() {
            Misfit::Funds
        } else {
            Misfit::Computed
        }
    }

    /// Returns whether `device` may lease `unit` besides those who have it, all of them for very long.
    pub(super) fn may_back_up(
        &self,
        now: Timestamp,
        (unit, holder): (u32, Holder),
        is_slow: impl Fn(GrantId) -> bool,
    ) -> bool {
        self.open.get(&unit).is_some_and(|open| {
            let prompt = open.leases.iter().filter(|(_, grant)| !is_slow(*grant));
            !open.involves(holder)
                && !open.withholds(now, holder)
                && prompt.count() < open.missing(self.quorum)
                && open.leases.len() < UNIT_LEASES_MAX
        })
    }

    /// Returns up to `want` units that `holder` may lease, at most `untouched_max` of them units that nobody has
    /// touched; returned ones first, then from the frontier on. `fits` ends the choice when the next unit would not fit
    /// the grant.
    pub(super) fn choose(
        &mut self,
        now: Timestamp,
        holder: Holder,
        (want, untouched_max): (usize, u32),
        mut fits: impl FnMut(u32) -> bool,
    ) -> Vec<u32> {
        self.advance_frontier();
        let (device, mut untouched_left) = (holder.device, untouched_max);
        let mut place = self.places.get(&device).copied().unwrap_or_default();
        let mut chosen: Vec<u32> = Vec::new();
        let mut full = false;
        let behind = self.returned.range(place.returned..);
        let ring = behind.chain(self.returned.range(..place.returned));
        for unit in ring.copied().take(RETURNED_SCAN_MAX) {
            full = chosen.len() == want;
            if !full && self.may_lease(now, unit, holder) {
                full = !fits(unit);
                if !full {
                    chosen.push(unit);
                }
            }
            if full {
                break;
            }
            place.returned = unit + 1;
        }
        place.next = place.next.max(self.frontier);
        while !full && place.next < self.count && chosen.len() < want {
            let unit = place.next;
            if self.may_lease(now, unit, holder) && !self.returned.contains(&unit) {
                let opens = u32::from(!self.open.contains_key(&unit));
                if opens > untouched_left || !fits(unit) {
                    break;
                }
                untouched_left -= opens;
                chosen.push(unit);
            }
            place.next += 1;
        }
        *self.place_mut(device) = place;
        chosen
    }

    /// Steps over units that want nobody. It never has to go back: a unit that wants somebody again is in `returned`.
    fn advance_frontier(&mut self) {
        let wants = |unit: &u32| {
            self.open
                .get(unit)
                .is_none_or(|open| open.wanted(self.quorum) > 0)
        };
        let mut unit = self.frontier;
        while unit < self.count
            && (self.is_settled(unit) || !wants(&unit) || self.returned.contains(&unit))
        {
            unit += 1;
        }
        self.frontier = unit;
    }

    /// Returns how many leases were wanted anew since the last call.
    pub(super) const fn take_fresh(&mut self) -> u32 {
        std::mem::replace(&mut self.fresh, 0)
    }

    /// Returns the votes on units that are not settled.
    pub(super) fn undecided(&self) -> impl Iterator<Item = &Ballot> {
        self.open.values().flat_map(|open| &open.votes)
    }

    /// Drops what nobody asks for once the task has ended: only the counts stay.
    pub(super) fn seal(self) -> Self {
        Self {
            settled: Vec::new(),
            open: BTreeMap::new(),
            returned: BTreeSet::new(),
            places: BTreeMap::new(),
            disputed: BTreeSet::new(),
            leased: 0,
            open_wanted: 0,
            unconfirmed: BTreeMap::new(),
            fresh: 0,
            ..self
        }
    }

    /// Leases a chosen unit.
    pub(super) fn lease(&mut self, unit: u32, holder: Holder, grant: GrantId) {
        self.change(unit, |open| {
            open.leases.push((holder, grant));
            open.withdrawn.clear();
        });
    }

    /// Ends the lease of `unit` by `device`, if there is one. Returns whether there was.
    pub(super) fn end_lease(&mut self, unit: u32, device: NodeId) -> bool {
        let leased = |open: &OpenUnit| {
            let mut leases = open.leases.iter();
            leases.any(|(holder, _)| holder.device == device)
        };
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

    /// Counts ballots of one device. Votes on settled units and second votes of an owner change nothing.
    pub(super) fn report(&mut self, ballots: impl IntoIterator<Item = Ballot>) -> Settled {
        let mut settled = Settled::default();
        for ballot in ballots {
            let (unit, device) = (ballot.vote.unit, ballot.holder.device);
            if self.is_settled(unit) || self.has_vote(unit, ballot.holder) {
                continue;
            }
            self.change(unit, |open| {
                open.end_lease_of_owner(ballot.holder.owner);
                open.votes.push(ballot);
            });
            *self.unconfirmed.entry(device).or_default() += 1;
            self.settle(unit, &mut settled);
            self.doubt_if_contested(unit);
        }
        settled
    }

    /// Counts a fault of `device` on `unit`.
    pub(super) fn fault(&mut self, device: NodeId, unit: u32, fault: Fault) -> Settled {
        let mut settled = Settled::default();
        if self.is_settled(unit) {
            return settled;
        }
        let quorum = self.quorum;
        let (hopeless, faults) = self.change(unit, |open| {
            open.end_lease(device);
            open.faults.push(device);
            (open.is_hopeless(quorum), open.faults.len())
        });
        self.count_lost(device);
        if hopeless {
            let reason = format!("{fault}, after {faults} attempts");
            self.fail(unit, reason, &mut settled);
        }
        settled
    }

    /// Settles the unit if its votes decide it.
    fn settle(&mut self, unit: u32, settled: &mut Settled) {
        let Some(open) = self.open.get(&unit) else {
            return;
        };
        let needed = usize::from(self.quorum.agree);
        let agreed_on = |vote: &Vote| {
            let votes = open.votes.iter();
            votes.filter(|other| other.vote.same(vote)).count() >= needed
        };
        let decided = open.votes.iter().find(|ballot| agreed_on(&ballot.vote));
        let Some(vote) = decided.map(|ballot| ballot.vote) else {
            let count = open.votes.len();
            if count >= usize::from(self.quorum.total_max) {
                let reason = format!("{count} terminals reported, no {needed} of them the same");
                self.fail(unit, reason, settled);
            }
            return;
        };
        let Some(open) = self.close(unit) else {
            return;
        };
        let is_same = |ballot: &Ballot| ballot.vote.same(&vote);
        let (votes, others): (Vec<Ballot>, Vec<Ballot>) = open.votes.into_iter().partition(is_same);
        for ballot in &votes {
            self.count_agreed(ballot.holder.device, vote.fuel);
        }
        for ballot in &others {
            self.count_outvoted(ballot.holder.device, unit);
        }
        self.fuel = self.fuel.saturating_add(vote.fuel);
        if !vote.outcome.is_done() {
            let (outcome, count) = (vote.outcome, votes.len());
            let reason = format!("{outcome} (reported alike by {count} terminals)");
            self.note_failure(unit, reason);
        }
        let outvoted = others.iter().map(|ballot| ballot.holder.device).collect();
        let agreed = Agreed {
            vote,
            votes,
            outvoted,
        };
        settled.agreed.push(agreed);
        let unpaid = others
            .into_iter()
            .map(|ballot| (ballot, UnpaidReason::Outvoted));
        settled.unpaid.extend(unpaid);
    }

    /// Counts a result that others agreed with for `device`, which may then have what it could not before.
    pub(super) fn count_agreed(&mut self, device: NodeId, fuel: u64) {
        let tally = self.devices.entry(device).or_default();
        tally.agreed += 1;
        tally.fuel = tally.fuel.saturating_add(fuel);
        if let Some(place) = self.places.get_mut(&device) {
            (place.doubts, place.faults) = (0, 0);
            place.rests_until = Timestamp::default();
        }
    }

    /// Counts a result that a quorum contradicts against `device`.
    pub(super) fn count_outvoted(&mut self, device: NodeId, unit: u32) {
        let tally = self.devices.entry(device).or_default();
        tally.outvoted += 1;
        if tally.outvoted_units.len() < OUTVOTED_NAMED_MAX {
            tally.outvoted_units.push(unit);
        }
        self.doubt(device);
    }

    fn fail(&mut self, unit: u32, reason: String, settled: &mut Settled) {
        if let Some(open) = self.close(unit) {
            let unpaid = open
                .votes
                .into_iter()
                .map(|ballot| (ballot, UnpaidReason::NoQuorum));
            settled.unpaid.extend(unpaid);
        }
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
        self.disputed.remove(&unit);
        self.leased -= narrow(open.leases.len());
        self.settled[(unit / 64) as usize] |= 1 << (unit % 64);
        self.settled_count += 1;
        for Ballot { holder, .. } in &open.votes {
            if let Some(count) = self.unconfirmed.get_mut(&holder.device) {
                *count -= 1;
                if *count == 0 {
                    self.unconfirmed.remove(&holder.device);
                }
            }
        }
        Some(open)
    }
}

/// Narrows a number of leases of one unit.
fn narrow(leases: usize) -> u32 {
    u32::try_from(leases).expect("a quorum is a byte")
}
