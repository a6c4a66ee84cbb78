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

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
/// How long a device that could not run a unit gets none of this task; doubled with each further time in a row.
const REST_MIN: Duration = Duration::from_millis(250);
/// The first rest of a device that is doubted, as a power of two of [`REST_MIN`]: four seconds, in which others report.
const DOUBTED_REST: u32 = 4;
/// Rests of a device with which nobody agrees, about a minute, after which it may give the last votes of a unit on which
/// others disagree: by then those who are known to be right had their chance, and the unit must come to an end.
const DOUBTED_RESTS: u32 = DOUBTED_REST + 4;
/// The longest such rest.
const REST_MAX: Duration = Duration::from_secs(30);
/// Contradicted results in a row, with none that was agreed on, after which a device rests: one that reports nonsense
/// at once for every unit must not use up the votes of all units before others have computed them.
const DOUBTS_MAX: u32 = 4;
/// The most units leased to one device at a time: a batch at work and one in wait on each of some cores.
pub(super) const DEVICE_LEASES_MAX: u32 = 8 * GRANT_UNITS_MAX;
/// Units that an owner took back, with no result between them, after which the device rests: as many as it may have
/// at a time, so that all of them may be taken back at once and nothing is held against anybody.
const WITHDRAWN_MAX: u32 = DEVICE_LEASES_MAX;
/// Units that a device may report before others have confirmed any, and for each that they have.
const AHEAD_MIN: u64 = 64;
/// See [`AHEAD_MIN`].
const AHEAD_EACH: u64 = 4;
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

    /// Returns how many units a device may be given at a time: who answers at once and wrongly looks very fast, and
    /// would be given most of the task before anybody contradicts it. So nobody may be far ahead of those who
    /// confirm its results; and one that was contradicted gets twice as many as others have agreed with for each
    /// contradiction, and at least one.
    pub(super) fn entrusted(&self, device: NodeId) -> usize {
        let (agreed, outvoted) = self.devices.get(&device).map_or((0, 0), |tally| {
            (u64::from(tally.agreed), u64::from(tally.outvoted))
        });
        let unconfirmed = self.unconfirmed.get(&device).copied().unwrap_or(0);
        let ahead = if self.quorum.agree == 1 {
            // Nobody else confirms anything.
            u64::MAX
        } else {
            (AHEAD_MIN + AHEAD_EACH * agreed).saturating_sub(u64::from(unconfirmed))
        };
        let after_doubt = (2 * agreed).checked_div(outvoted);
        let most = after_doubt.map_or(ahead, |units| ahead.min(units.max(1)));
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Returns whether nobody has agreed with the device lately, and it has not rested for long enough.
    fn is_kept_back(&self, device: NodeId) -> bool {
        let is_new = |tally: &DeviceTally| tally.agreed == 0;
        let is_new = self.devices.get(&device).is_none_or(is_new);
        let rests = self.places.get(&device).map_or(0, |place| place.faults);
        (is_new || self.is_doubted(device)) && rests < DOUBTED_RESTS
    }

    /// Returns whether units are kept from the device that it could lease otherwise.
    pub(super) fn keeps_back(&self, holder: Holder) -> bool {
        let is_kept = |unit: &u32| {
            let open = self.open.get(unit);
            open.is_some_and(|open| !open.involves(holder))
        };
        let mut disputed = self.disputed.iter().take(RETURNED_SCAN_MAX);
        self.is_kept_back(holder.device) && disputed.any(is_kept)
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

    fn place_mut(&mut self, device: NodeId) -> &mut Place {
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&device) {
            self.places.clear();
        }
        self.places.entry(device).or_default()
    }

    /// Lets a device that could not run a unit rest, so that a broken one does not go through all of them.
    pub(super) fn send_to_rest(&mut self, now: Timestamp, device: NodeId) {
        let place = self.place_mut(device);
        let rest = REST_MIN * 2_u32.pow(place.faults.min(16));
        place.rests_until = now + rest.min(REST_MAX);
        place.faults = place.faults.saturating_add(1);
    }

    /// Lets a device rest that reports what others contradict.
    pub(super) fn send_doubted_to_rest(&mut self, now: Timestamp, device: NodeId) {
        let place = self.place_mut(device);
        place.faults = place.faults.max(DOUBTED_REST);
        self.send_to_rest(now, device);
    }

    /// Notes that a device could run a unit.
    pub(super) fn trust(&mut self, device: NodeId) {
        if let Some(place) = self.places.get_mut(&device) {
            (place.faults, place.rests_until) = (0, Timestamp::default());
            place.withdrawn = 0;
        }
    }

    /// Returns whether others contradict whatever the device reports.
    pub(super) fn is_doubted(&self, device: NodeId) -> bool {
        let place = self.places.get(&device);
        place.is_some_and(|place| place.doubts >= DOUBTS_MAX)
    }

    /// Counts a result that others contradict against whoever reported it, whoever may be right.
    fn doubt(&mut self, device: NodeId) {
        let place = self.place_mut(device);
        place.doubts = place.doubts.saturating_add(1);
    }

    /// Doubts all who reported a unit of which the reports differ.
    fn doubt_if_contested(&mut self, unit: u32) {
        let Some(open) = self.open.get(&unit) else {
            return;
        };
        if open.best() < open.votes.len() {
            let voters = open.votes.iter().map(|ballot| ballot.holder.device);
            let voters: Vec<NodeId> = voters.collect();
            for device in voters {
                self.doubt(device);
            }
        }
    }

    /// Returns whether the device gets nothing at the moment.
    pub(super) fn rests(&self, now: Timestamp, device: NodeId) -> bool {
        let place = self.places.get(&device);
        place.is_some_and(|place| place.rests_until > now)
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

    /// Takes back a unit that the owner of its device does not want to have computed; nothing is held against either,
    /// but the owner gets others before this one for a `lease` time.
    pub(super) fn withdraw(
        &mut self,
        now: Timestamp,
        (unit, holder): (u32, Holder),
        lease: Duration,
    ) {
        if self.end_lease(unit, holder.device) {
            let until = (holder.owner, now + lease);
            self.change(unit, |open| open.withdrawn.push(until));
        }
        let place = self.place_mut(holder.device);
        place.withdrawn = place.withdrawn.saturating_add(1);
    }

    /// Lets a device rest from which units are taken back again and again, and that reports nothing.
    pub(super) fn rest_if_withdrawn(&mut self, now: Timestamp, device: NodeId) {
        let place = self.places.get(&device);
        if place.is_some_and(|place| place.withdrawn > WITHDRAWN_MAX) {
            self.send_to_rest(now, device);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::BlobRef;
    use crate::unit::Outcome;

    const START: Timestamp = Timestamp::from_millis(1_000_000);
    const LEASE: Duration = Duration::from_secs(60);

    fn device(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn holder(number: u8) -> Holder {
        Holder::alone(device(number))
    }

    fn vote(unit: u32, output: &[u8]) -> Vote {
        Vote {
            unit,
            outcome: Outcome::Done,
            fuel: 7,
            output: BlobRef::of(output),
            leaf: 0,
        }
    }

    fn report(units: &mut Units, holder: Holder, votes: &[Vote]) -> Settled {
        let ballot = |vote: &Vote| Ballot {
            holder,
            vote: *vote,
            batch: Hash::from_bytes([holder.device.as_bytes()[0]; 32]),
            leased_at: Timestamp::default(),
        };
        units.report(votes.iter().map(ballot))
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
        let chosen = units.choose(START, holder(number), (want, u32::MAX), |_| true);
        for unit in &chosen {
            units.lease(*unit, holder(number), GrantId::from_bytes([number; 16]));
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
            report(&mut units, holder(1), &[vote(0, b"right")])
                .agreed
                .is_empty()
        );
        assert!(
            report(&mut units, holder(2), &[vote(0, b"wrong")])
                .agreed
                .is_empty()
        );
        assert_eq!(lease(&mut units, 1, 1), [0_u32; 0]);
        assert_eq!(lease(&mut units, 3, 1), [0]);
        let settled = report(&mut units, holder(3), &[vote(0, b"right")]);
        let agreed = &settled.agreed[0];
        let by: Vec<Holder> = agreed.votes.iter().map(|ballot| ballot.holder).collect();
        assert_eq!(by, [holder(1), holder(3)]);
        assert_eq!(agreed.outvoted, [device(2)]);
        let (unpaid, reason) = settled.unpaid[0];
        assert_eq!((unpaid.holder, reason), (holder(2), UnpaidReason::Outvoted));
        assert_eq!(units.devices()[&device(2)].outvoted_units, [0]);
        assert!(units.all_settled());
        assert_eq!(units.leased(), 0);
    }

    /// Found by netsim: `lazy` of netsim/tests/netsim/dishonest.rs, seed 0.
    #[test]
    fn who_is_always_contradicted_rests_until_somebody_agrees() {
        let (now, mut units) = (Timestamp::default(), units(9, 2));
        for unit in 0..4 {
            report(&mut units, holder(1), &[vote(unit, b"nonsense")]);
            report(&mut units, holder(2), &[vote(unit, b"right")]);
        }
        assert!(units.is_doubted(device(1)) && units.is_doubted(device(2)));
        for number in [1, 2] {
            units.send_doubted_to_rest(now, device(number));
        }
        report(&mut units, holder(3), &[vote(0, b"right")]);
        assert!(units.rests(now, device(1)) && units.is_doubted(device(1)));
        assert!(!units.rests(now, device(2)) && !units.is_doubted(device(2)));
        assert!(!units.rests(now + REST_MAX, device(1)), "not for ever");
    }

    /// Found by netsim: `lazy` of netsim/tests/netsim/dishonest.rs, seed 2.
    #[test]
    fn the_last_votes_of_a_unit_are_kept_for_the_proven_for_a_while() {
        let (now, mut units) = (Timestamp::default(), units(9, 2));
        for number in 1..=3 {
            report(&mut units, holder(number), &[vote(8, &[number])]);
        }
        for number in [5, 6] {
            report(&mut units, holder(number), &[vote(0, b"right")]);
        }
        assert!(units.may_lease(START, 8, holder(5)), "others agree with it");
        assert!(!units.may_lease(START, 8, holder(7)), "nobody knows it");
        assert!(units.keeps_back(holder(7)) && !units.keeps_back(holder(5)));
        for _ in 0..4 {
            units.send_doubted_to_rest(now, device(7));
        }
        assert!(units.may_lease(START, 8, holder(7)), "nobody else came");
    }

    /// Found by netsim: `liars-10-percent`, seed 0, in which one device that answered at once reported most units.
    #[test]
    fn who_was_contradicted_is_given_few_units_at_a_time() {
        let mut units = units(9, 2);
        assert_eq!(units.entrusted(device(1)), 64);
        report(&mut units, holder(1), &[vote(8, b"right")]);
        assert_eq!(units.entrusted(device(1)), 63, "one is not confirmed");
        for unit in 0..5 {
            report(&mut units, holder(2), &[vote(unit, b"right")]);
            report(&mut units, holder(3), &[vote(unit, b"right")]);
        }
        assert_eq!(units.entrusted(device(2)), 64 + 4 * 5);
        for (unit, output) in [(5, b"nonsense"), (6, b"the same")] {
            report(&mut units, holder(1), &[vote(unit, output)]);
            report(&mut units, holder(2), &[vote(unit, b"the same")]);
            report(&mut units, holder(3), &[vote(unit, b"the same")]);
        }
        assert_eq!(units.entrusted(device(1)), 2, "one each way");
        report(&mut units, holder(1), &[vote(7, b"nonsense")]);
        report(&mut units, holder(2), &[vote(7, b"right")]);
        report(&mut units, holder(3), &[vote(7, b"right")]);
        assert_eq!(units.entrusted(device(1)), 1);
        assert_eq!(units.entrusted(device(2)), 64 + 4 * 8);
    }

    #[test]
    fn two_devices_of_one_owner_never_have_the_same_unit() {
        let mut units = units(2, 2);
        let owner = device(9);
        let of_owner = |number| Holder {
            owner,
            device: device(number),
        };
        units.lease(0, of_owner(1), GrantId::from_bytes([1; 16]));
        assert!(!units.may_lease(START, 0, of_owner(2)) && units.may_lease(START, 0, holder(3)));
        report(&mut units, of_owner(1), &[vote(0, b"x")]);
        let second = report(&mut units, of_owner(2), &[vote(0, b"x")]);
        assert!(second.agreed.is_empty(), "an owner cannot confirm itself");
        assert_eq!(
            report(&mut units, holder(3), &[vote(0, b"x")]).agreed.len(),
            1
        );
    }

    /// Found by netsim: `every_record.rs`, a crash with the ninth group. The result of the second device never counted,
    /// and its lease never ended, so that nobody else was given the unit.
    #[test]
    fn the_vote_of_an_owner_ends_the_lease_of_its_other_device() {
        let mut units = units(1, 2);
        let of_owner = |number| Holder {
            owner: device(9),
            device: device(number),
        };
        // The first reports by a grant of before a restart; the second was leased the unit meanwhile.
        units.lease(0, of_owner(2), GrantId::from_bytes([2; 16]));
        assert_eq!(lease(&mut units, 3, 1), [0]);
        report(&mut units, of_owner(1), &[vote(0, b"x")]);
        assert_eq!(units.leased(), 1);
        assert!(units.end_lease(0, device(3)), "it is gone");
        assert_eq!(lease(&mut units, 4, 1), [0]);
    }

    #[test]
    fn no_more_untouched_units_are_chosen_than_there_is_money_for() {
        let mut units = units(9, 2);
        let chosen = units.choose(START, holder(1), (9, 3), |_| true);
        assert_eq!(chosen, [0, 1, 2]);
        for unit in chosen {
            units.lease(unit, holder(1), GrantId::from_bytes([1; 16]));
        }
        assert_eq!(units.choose(START, holder(1), (9, 0), |_| true), [0_u32; 0]);
        assert_eq!(
            units.choose(START, holder(2), (9, 1), |_| true),
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn equal_output_with_other_fuel_does_not_agree() {
        let mut units = units(1, 2);
        report(&mut units, holder(1), &[vote(0, b"same")]);
        let dearer = Vote {
            fuel: 8,
            ..vote(0, b"same")
        };
        assert!(report(&mut units, holder(2), &[dearer]).agreed.is_empty());
    }

    #[test]
    fn a_second_vote_and_a_vote_on_a_done_unit_change_nothing() {
        let mut units = units(2, 2);
        report(&mut units, holder(1), &[vote(0, b"x"), vote(0, b"x")]);
        assert!(
            report(&mut units, holder(1), &[vote(0, b"x")])
                .agreed
                .is_empty()
        );
        assert_eq!(
            report(&mut units, holder(2), &[vote(0, b"x")]).agreed.len(),
            1
        );
        assert!(
            report(&mut units, holder(3), &[vote(0, b"x")])
                .agreed
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
    }

    #[test]
    fn an_owner_who_took_a_unit_back_gets_it_after_another_or_a_lease_time() {
        let mut units = units(2, 1);
        let of_owner = |number| Holder {
            owner: device(9),
            device: device(number),
        };
        let grant = GrantId::from_bytes([1; 16]);
        let take_back = |units: &mut Units| {
            units.lease(0, of_owner(1), grant);
            units.withdraw(START, (0, of_owner(1)), LEASE);
        };
        take_back(&mut units);
        let almost = START + LEASE.checked_sub(Duration::from_millis(1)).unwrap();
        for number in [1, 2] {
            assert!(!units.may_lease(almost, 0, of_owner(number)));
            assert!(units.may_lease(START + LEASE, 0, of_owner(number)));
            assert!(units.may_lease(START, 1, of_owner(number)), "it may others");
        }
        assert_eq!(units.why_none(almost, of_owner(2), 9), Misfit::Rests);
        assert_eq!(lease(&mut units, 3, 1), [0]);
        units.withdraw(START, (0, holder(3)), LEASE);
        assert!(units.may_lease(START, 0, of_owner(1)), "another had it");
        assert!(!units.may_lease(START, 0, holder(3)));
        take_back(&mut units);
        assert!(units.may_lease(START, 0, holder(3)), "another had it");
        // Nor does it come back as a backup of somebody who is slow.
        units.withdraw(START, (0, holder(3)), LEASE);
        assert!(units.may_lease(START, 0, holder(3)), "it did not have it");
        units.lease(0, holder(4), grant);
        assert!(units.may_back_up(START, (0, of_owner(1)), |_| true));
    }

    #[test]
    fn who_takes_back_a_unit_of_two_does_not_back_up_the_other() {
        let mut units = units(1, 2);
        assert_eq!(lease(&mut units, 1, 1), [0]);
        assert_eq!(lease(&mut units, 2, 1), [0]);
        units.withdraw(START, (0, holder(1)), LEASE);
        assert!(!units.may_back_up(START, (0, holder(1)), |_| true));
        assert!(units.may_back_up(START + LEASE, (0, holder(1)), |_| true));
    }

    #[test]
    fn who_takes_back_more_than_it_could_have_rests_until_it_reports() {
        let mut units = units(3, 1);
        let take_back = |units: &mut Units| {
            units.lease(0, holder(1), GrantId::from_bytes([1; 16]));
            units.withdraw(START, (0, holder(1)), LEASE);
            units.rest_if_withdrawn(START, device(1));
            units.rests(START, device(1))
        };
        for _ in 0..WITHDRAWN_MAX {
            assert!(!take_back(&mut units));
        }
        assert!(take_back(&mut units));
        assert!(!units.rests(START + REST_MIN, device(1)), "not for long");
        assert!(take_back(&mut units));
        assert!(units.rests(START + REST_MIN, device(1)), "for longer");
        units.trust(device(1));
        assert!(!take_back(&mut units));
    }

    #[test]
    fn faults_and_disagreement_have_an_end() {
        let mut units = units(2, 2);
        units.fault(device(1), 0, Fault::StackOverflow);
        units.fault(device(2), 0, Fault::StackOverflow);
        assert_eq!(units.failed()[&0], "stack overflow, after 2 attempts");
        for number in 1..=4 {
            report(&mut units, holder(number), &[vote(1, &[number])]);
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
            report(&mut units, holder(1), &[vote(2, b""), vote(u32::MAX, b"")])
                .agreed
                .is_empty()
        );
        units.fault(device(1), 7, Fault::Killed);
        assert_eq!(units.failed_count(), 0);
    }
}
