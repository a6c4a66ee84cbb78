//! Who is trusted with how much: rests, doubts, how far ahead a device may be, what owners take back.
//!
//! What others agreed with or outvoted is durable; rests, doubts and what owners took back are not, and count anew when the
//! coordinator starts again.

use std::time::Duration;

use super::{DEVICE_LEASES_MAX, DeviceTally, PLACES_MAX, Place, RETURNED_SCAN_MAX, Units};
use crate::account::Holder;
use crate::id::NodeId;
use crate::time::Timestamp;

/// How long a device that could not run a unit gets none of this task; doubled with each further time in a row.
pub(super) const REST_MIN: Duration = Duration::from_millis(250);
/// The first rest of a device that is doubted, as a power of two of [`REST_MIN`]: four seconds, in which others report.
const DOUBTED_REST: u32 = 4;
/// Rests of a device with which nobody agrees, about a minute, after which it may give the last votes of a unit on which
/// others disagree: by then those who are known to be right had their chance, and the unit must come to an end.
const DOUBTED_RESTS: u32 = DOUBTED_REST + 4;
/// The longest such rest.
pub(super) const REST_MAX: Duration = Duration::from_secs(30);
/// Contradicted results in a row, with none that was agreed on, after which a device rests: one that reports nonsense
/// at once for every unit must not use up the votes of all units before others have computed them.
const DOUBTS_MAX: u32 = 4;
/// Units that an owner took back, with no result between them, after which the device rests: as many as it may have
/// at a time, so that all of them may be taken back at once and nothing is held against anybody.
pub(super) const WITHDRAWN_MAX: u32 = DEVICE_LEASES_MAX;
/// Units that a device may report before others have confirmed any, and for each that they have.
const AHEAD_MIN: u64 = 64;
/// See [`AHEAD_MIN`].
const AHEAD_EACH: u64 = 4;

impl Units {
    /// Returns how many units a device may be given at a time: who answers at once and wrongly looks very fast, and
    /// would be given most of the task before anybody contradicts it. So nobody may be far ahead of those who
    /// confirm its results; and one that was contradicted gets twice as many as others have agreed with for each
    /// contradiction, and at least one.
    pub(in super::super) fn entrusted(&self, device: NodeId) -> usize {
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
    pub(super) fn is_kept_back(&self, device: NodeId) -> bool {
        let is_new = |tally: &DeviceTally| tally.agreed == 0;
        let is_new = self.devices.get(&device).is_none_or(is_new);
        let rests = self.places.get(&device).map_or(0, |place| place.faults);
        (is_new || self.is_doubted(device)) && rests < DOUBTED_RESTS
    }

    /// Returns whether units are kept from the device that it could lease otherwise.
    pub(in super::super) fn keeps_back(&self, holder: Holder) -> bool {
        let is_kept = |unit: &u32| {
            let open = self.open.get(unit);
            open.is_some_and(|open| !open.involves(holder))
        };
        let mut disputed = self.disputed.iter().take(RETURNED_SCAN_MAX);
        self.is_kept_back(holder.device) && disputed.any(is_kept)
    }

    pub(super) fn place_mut(&mut self, device: NodeId) -> &mut Place {
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&device) {
            self.places.clear();
        }
        self.places.entry(device).or_default()
    }

    /// Lets a device that could not run a unit rest, so that a broken one does not go through all of them.
    pub(in super::super) fn send_to_rest(&mut self, now: Timestamp, device: NodeId) {
        let place = self.place_mut(device);
        let rest = REST_MIN * 2_u32.pow(place.faults.min(16));
        place.rests_until = now + rest.min(REST_MAX);
        place.faults = place.faults.saturating_add(1);
    }

    /// Lets a device rest that reports what others contradict.
    pub(in super::super) fn send_doubted_to_rest(&mut self, now: Timestamp, device: NodeId) {
        let place = self.place_mut(device);
        place.faults = place.faults.max(DOUBTED_REST);
        self.send_to_rest(now, device);
    }

    /// Notes that a device could run a unit.
    pub(in super::super) fn trust(&mut self, device: NodeId) {
        if let Some(place) = self.places.get_mut(&device) {
            (place.faults, place.rests_until) = (0, Timestamp::default());
            place.withdrawn = 0;
        }
    }

    /// Returns whether others contradict whatever the device reports.
    pub(in super::super) fn is_doubted(&self, device: NodeId) -> bool {
        let place = self.places.get(&device);
        place.is_some_and(|place| place.doubts >= DOUBTS_MAX)
    }

    /// Counts a result that others contradict against whoever reported it, whoever may be right.
    pub(super) fn doubt(&mut self, device: NodeId) {
        let place = self.place_mut(device);
        place.doubts = place.doubts.saturating_add(1);
    }

    /// Doubts all who reported a unit of which the reports differ.
    pub(super) fn doubt_if_contested(&mut self, unit: u32) {
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
    pub(in super::super) fn rests(&self, now: Timestamp, device: NodeId) -> bool {
        let place = self.places.get(&device);
        place.is_some_and(|place| place.rests_until > now)
    }

    /// Takes back a unit that the owner of its device does not want to have computed; nothing is held against either,
    /// but the owner gets others before this one for a `lease` time.
    pub(in super::super) fn withdraw(
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
    pub(in super::super) fn rest_if_withdrawn(&mut self, now: Timestamp, device: NodeId) {
        let place = self.places.get(&device);
        if place.is_some_and(|place| place.withdrawn > WITHDRAWN_MAX) {
            self.send_to_rest(now, device);
        }
    }
}
