//! Points are set aside, taken, or given back, as app servers ask.
//!
//! The coordinator is the only one who counts its points, so two app servers that ask for the same ones at once get them
//! one after the other, and the second gets none. Each step is recorded before it is answered, and asking again has the
//! same answer.
//!
//! Invariants: what is set aside is posted, or becomes free again, once; what is posted stays posted until its app server
//! itself gives it back; no agreement's cap or credit is passed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::timers::Timer;
use super::{Coordinator, Effect, Fact};
use crate::account::{Account, Commodity, Holder, Lot, Money};
use crate::agreement::Agreement;
use crate::certificate::{self, DeviceCertificate};
use crate::entry::Event;
use crate::id::{Hash, NodeId, RedemptionId};
use crate::message::Refusal;
use crate::message::redeem::{RedeemFault, RedeemReply, Reserved};
use crate::points::Points;
use crate::posting;
use crate::rate_card::Rates;
use crate::redemption::{DEVICE_PERIOD, Redeem, Redemption, Reversal};
use crate::registration::is_reason;
use crate::settlement::{Claim, DISPUTED_MAX, Stated};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The most redemptions that are known, some 2 KB each. Of too many those are forgotten that are decided, settled, and
/// cannot be ordered again: they stand in the log.
const REDEMPTIONS_MAX: usize = 100_000;

/// A request of an app server about points, whose statements hold.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a request is moved once, from the shell to the machine"
)]
pub enum Redeeming {
    /// See [`crate::message::redeem::RedeemRequest::Reserve`].
    Reserve {
        /// As their owner, or its device, signed it.
        redeem: Verified<Redeem>,
        /// What allows the device that signed.
        certificate: Option<Verified<DeviceCertificate>>,
    },
    /// See [`crate::message::redeem::RedeemRequest::Post`].
    Post(RedemptionId),
    /// See [`crate::message::redeem::RedeemRequest::Void`].
    Void(RedemptionId),
    /// See [`crate::message::redeem::RedeemRequest::Reverse`].
    Reverse(Verified<Reversal>),
}

/// A redemption as a fact and a snapshot have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// As the owner signed it.
    pub redeem: Signed<Redeem>,
    /// What allows the device that signed; none if the owner did.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// The agreement by which the points are worth something.
    pub agreement: Hash,
    /// The lots that are drawn.
    pub lots: Vec<(Lot, Points)>,
    /// What will be owed for them.
    pub value: Money,
    /// When they were set aside.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// A redemption.
#[derive(Debug, Clone)]
struct Known {
    reservation: Reservation,
    redeem: Redeem,
    /// Who signed for it.
    signer: NodeId,
    /// The period of its agreement in which it was set aside; none if that agreement is forgotten.
    period: Option<u64>,
    state: State,
    settled: Settled,
}

impl Known {
    /// Returns when it may be forgotten once it is decided: nobody can order it again, and no limit counts it.
    fn over(&self) -> Timestamp {
        let counted = self.reservation.at + DEVICE_PERIOD;
        self.redeem.expires.max(counted)
    }

    /// Returns whether no statement will count it any more: then it may be forgotten when it is over. What was given back
    /// without ever being counted comes to nothing.
    const fn is_done(&self) -> bool {
        match self.state {
            State::Reserved => false,
            State::Over => true,
            State::Posted(_) => matches!(self.settled, Settled::Redeemed),
            State::Reversed(..) => !matches!(self.settled, Settled::Redeemed),
        }
    }
}

/// How much of a redemption stands in settlements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Nothing,
    /// That points were taken.
    Redeemed,
    /// That they were given back, too.
    Reversed,
}

/// How far it is.
#[derive(Debug, Clone)]
enum State {
    Reserved,
    /// The points are free again.
    Over,
    Posted(Signed<Redemption>),
    /// The points were given back.
    Reversed(Signed<Redemption>, Signed<Reversal>),
}

/// All redemptions that are known.
#[derive(Debug, Default)]
pub(super) struct Redemptions {
    known: BTreeMap<RedemptionId, Known>,
    /// Those that are not decided, by when they are over.
    open: BTreeSet<(Timestamp, RedemptionId)>,
    /// Those that are done, by when they may be forgotten.
    done: BTreeSet<(Timestamp, RedemptionId)>,
    /// What was set aside or taken in the last period of each app server's agreement, in minor units.
    used: BTreeMap<NodeId, (u64, u64)>,
    /// Those that a device signed in its owner's name, with the time: device by device.
    by_device: BTreeSet<(NodeId, Timestamp, RedemptionId)>,
}

impl Redemptions {
    /// Notes that points were set aside. `agreement` is the one that it names, if it is still known.
    pub(super) fn reserve(
        &mut self,
        redeem: &Verified<Redeem>,
        reservation: Reservation,
        agreement: Option<&Agreement>,
    ) {
        self.forget(reservation.at);
        let id = RedemptionId::of(redeem.signed());
        let period = agreement.map(|agreement| agreement.period(reservation.at));
        if let Some(period) = period {
            let used = self.used.entry(redeem.app_server).or_default();
            if used.0 != period {
                *used = (period, 0);
            }
            used.1 = used.1.saturating_add(reservation.value.minor);
        }
        self.open.insert((reservation.until, id));
        if redeem.signer() != redeem.owner {
            self.by_device.insert((redeem.signer(), reservation.at, id));
        }
        let known = Known {
            reservation,
            redeem: *redeem.value(),
            signer: redeem.signer(),
            period,
            state: State::Reserved,
            settled: Settled::Nothing,
        };
        self.known.insert(id, known);
    }

    /// Returns whether one more can be known, or this one is.
    fn has_room(&self, now: Timestamp, redeem: &Signed<Redeem>) -> bool {
        let oldest = self.done.first();
        self.known.len() < REDEMPTIONS_MAX
            || oldest.is_some_and(|(over, _)| *over < now)
            || self.known.contains_key(&RedemptionId::of(redeem))
    }

    /// Forgets what is not needed any more, if there are too many.
    fn forget(&mut self, now: Timestamp) {
        while self.known.len() >= REDEMPTIONS_MAX
            && let Some((over, oldest)) = self.done.first().copied()
            && over < now
        {
            self.done.pop_first();
            if let Some(known) = self.known.remove(&oldest) {
                let of_device = (known.signer, known.reservation.at, oldest);
                self.by_device.remove(&of_device);
            }
        }
    }

    /// Notes what became of points that were set aside.
    fn decide(&mut self, id: RedemptionId, state: State) {
        if let Some(known) = self.known.get_mut(&id) {
            self.open.remove(&(known.reservation.until, id));
            known.state = state;
            self.place(id);
        }
    }

    /// Puts a redemption among those that may be forgotten, or takes it out.
    fn place(&mut self, id: RedemptionId) {
        if let Some(known) = self.known.get(&id) {
            let place = (known.over(), id);
            if known.is_done() {
                self.done.insert(place);
            } else {
                self.done.remove(&place);
            }
        }
    }

    /// Notes what a settlement counts.
    pub(super) fn count(&mut self, redeemed: &[RedemptionId], reversed: &[RedemptionId]) {
        let redeemed = redeemed.iter().map(|id| (id, Settled::Redeemed));
        let reversed = reversed.iter().map(|id| (id, Settled::Reversed));
        for (id, settled) in redeemed.chain(reversed) {
            if let Some(known) = self.known.get_mut(id) {
                known.settled = settled;
                self.place(*id);
            }
        }
    }

    /// Returns the redemptions and the reversals of an app server that settlements count, rising.
    pub(super) fn counted(&self, app_server: NodeId) -> (Vec<RedemptionId>, Vec<RedemptionId>) {
        let of = |settled: &[Settled]| {
            let known = self.known.iter();
            let its = known.filter(|(_, known)| known.redeem.app_server == app_server);
            let its = its.filter(|(_, known)| settled.contains(&known.settled));
            its.map(|(id, _)| *id).collect()
        };
        (
            of(&[Settled::Redeemed, Settled::Reversed]),
            of(&[Settled::Reversed]),
        )
    }

    /// Returns those redemptions of a statement that are not as they stand here, or were counted before: at most
    /// [`DISPUTED_MAX`], rising.
    pub(super) fn unknown(&self, app_server: NodeId, stated: &Stated) -> Vec<RedemptionId> {
        let known = |(id, minor): &Claim| {
            let known = self.known.get(id)?;
            let is_it = known.redeem.app_server == app_server
                && known.reservation.value.minor == *minor
                && matches!(known.state, State::Posted(_) | State::Reversed(..));
            is_it.then_some(known)
        };
        let is_redeemed =
            |claim: &&Claim| known(claim).is_some_and(|known| known.settled == Settled::Nothing);
        let is_reversed = |claim: &&Claim| {
            let redeemed = stated.redeemed();
            let is_listed = || redeemed.binary_search(claim).is_ok();
            known(claim).is_some_and(|known| {
                matches!(known.state, State::Reversed(..))
                    && match known.settled {
                        Settled::Nothing => is_listed(),
                        Settled::Redeemed => true,
                        Settled::Reversed => false,
                    }
            })
        };
        let redeemed = stated.redeemed().iter().filter(|of| !is_redeemed(of));
        let reversed = stated.reversed().iter().filter(|of| !is_reversed(of));
        let unknown: BTreeSet<RedemptionId> = redeemed.chain(reversed).map(|(id, _)| *id).collect();
        unknown.into_iter().take(DISPUTED_MAX).collect()
    }

    pub(super) fn end(&mut self, id: RedemptionId) {
        // What is not taken does not count to the cap, if its period still lasts.
        if let Some(known) = self.known.get(&id)
            && let Some((period, used)) = self.used.get_mut(&known.redeem.app_server)
            && known.period == Some(*period)
        {
            *used = used.saturating_sub(known.reservation.value.minor);
        }
        self.decide(id, State::Over);
    }

    pub(super) fn post(&mut self, redemption: Signed<Redemption>, id: RedemptionId) {
        self.decide(id, State::Posted(redemption));
    }

    pub(super) fn reverse(&mut self, reversal: Signed<Reversal>, id: RedemptionId) {
        let state = self.known.get(&id).map(|known| known.state.clone());
        if let Some(State::Posted(redemption)) = state {
            self.decide(id, State::Reversed(redemption, reversal));
        }
    }

    /// Returns the points of a holder that are set aside, in micro-points.
    pub(super) fn reserved_of(&self, holder: Holder) -> u64 {
        let open = self.open.iter().filter_map(|(_, id)| self.known.get(id));
        let lots = open.flat_map(|known| &known.reservation.lots);
        let its = lots.filter(|(lot, _)| lot.holder == holder);
        its.map(|(_, points)| points.as_micro())
            .fold(0, u64::saturating_add)
    }

    /// Returns everything as facts, for a snapshot.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let mut known: Vec<(&RedemptionId, &Known)> = self.known.iter().collect();
        known.sort_unstable_by_key(|(id, known)| (known.reservation.at, **id));
        known.into_iter().flat_map(|(id, known)| {
            let reserved = Fact::Reserved(Box::new(known.reservation.clone()));
            let (then, last) = match &known.state {
                State::Reserved => (None, None),
                State::Over => (Some(Fact::ReservationEnded(*id)), None),
                State::Posted(redemption) => (Some(Fact::Redeemed(redemption.clone())), None),
                State::Reversed(redemption, reversal) => (
                    Some(Fact::Redeemed(redemption.clone())),
                    Some(Fact::Reversed(reversal.clone())),
                ),
            };
            [Some(reserved), then, last].into_iter().flatten()
        })
    }

    /// Returns what was set aside or taken in the period of an agreement that `now` is in, in minor units.
    fn used(&self, agreement: &Agreement, now: Timestamp) -> u64 {
        let used = self.used.get(&agreement.app_server);
        let used = used.filter(|(period, _)| *period == agreement.period(now));
        used.map_or(0, |(_, minor)| *minor)
    }

    /// Returns what a device has redeemed in its owner's name within a day.
    fn redeemed_by(&self, device: NodeId, now: Timestamp) -> u64 {
        let first = (
            device,
            now - DEVICE_PERIOD,
            RedemptionId::from_bytes([0; 16]),
        );
        let recent = self.by_device.range(first..);
        let recent = recent.take_while(|(signer, ..)| *signer == device);
        let recent = recent.filter_map(|(.., id)| self.known.get(id));
        let recent = recent.filter(|known| !matches!(known.state, State::Over));
        recent
            .map(|known| known.redeem.points.as_micro())
            .fold(0, u64::saturating_add)
    }
}

impl Coordinator {
    pub(super) fn redeem(
        &mut self,
        now: Timestamp,
        from: NodeId,
        request: Redeeming,
        out: &mut Vec<Effect>,
    ) -> RedeemReply {
        let done = match request {
            Redeeming::Reserve {
                redeem,
                certificate,
            } => {
                if !self.redemptions.has_room(now, redeem.signed()) {
                    return RedeemReply::Refused(Refusal::Busy);
                }
                let reserved = self.reserve(now, from, (&redeem, certificate.as_ref()), out);
                reserved.map(RedeemReply::Reserved)
            }
            Redeeming::Post(id) => self.post(now, (from, id), out).map(RedeemReply::Posted),
            Redeeming::Void(id) => {
                let voided = self.void(now, (from, id), out);
                voided.map(|()| RedeemReply::Voided)
            }
            Redeeming::Reverse(reversal) if !is_reason(&reversal.reason) => {
                return RedeemReply::Refused(Refusal::Malformed);
            }
            Redeeming::Reverse(reversal) => {
                let reversed = self.reverse(now, from, &reversal, out);
                reversed.map(|()| RedeemReply::Reversed)
            }
        };
        done.unwrap_or_else(RedeemReply::Not)
    }

    fn reserve(
        &mut self,
        now: Timestamp,
        from: NodeId,
        (redeem, certificate): (&Verified<Redeem>, Option<&Verified<DeviceCertificate>>),
        out: &mut Vec<Effect>,
    ) -> Result<Reserved, RedeemFault> {
        if (redeem.coordinator, redeem.app_server) != (self.config.me, from) {
            return Err(RedeemFault::OtherAudience);
        }
        let id = RedemptionId::of(redeem.signed());
        if let Some(known) = self.redemptions.known.get(&id) {
            let reserved = Reserved {
                redemption: id,
                value: known.reservation.value,
                until: known.reservation.until,
            };
            return match &known.state {
                State::Reserved | State::Posted(_) => Ok(reserved),
                State::Over | State::Reversed(..) => Err(RedeemFault::Over),
            };
        }
        if redeem.expires <= now {
            return Err(RedeemFault::Expired);
        }
        self.check_signer(now, redeem, certificate)?;
        let pair = self.agreements.in_force(from, now);
        let pair = pair.ok_or(RedeemFault::NoAgreement)?.clone();
        // What was put aside in another currency is for others.
        let counts =
            |lot: &Lot| self.cards.version(lot.card).rates.currency == pair.value().currency;
        let lots = posting::draw_points(&self.books, (redeem.owner, redeem.points), counts)
            .map_err(|available| RedeemFault::TooFewPoints { available })?;
        let value = self.check_value(now, &lots, pair.value())?;
        let posting = posting::reservation(id, &lots);
        let posting = posting.ok_or(RedeemFault::Worthless)?;
        let until = redeem.reserved_until(now);
        let by_device = certificate.filter(|_| redeem.signer() != redeem.owner);
        let reservation = Reservation {
            redeem: redeem.signed().clone(),
            certificate: by_device.map(|shown| shown.signed().clone()),
            agreement: pair.hash(),
            lots,
            value,
            at: now,
            until,
        };
        let fact = Fact::Reserved(Box::new(reservation.clone()));
        out.push(Effect::Record(fact));
        let event = Event::PointsReserved {
            redeem: reservation.redeem.clone(),
            certificate: reservation.certificate.clone(),
            at: now,
            until,
        };
        self.redemptions
            .reserve(redeem, reservation, Some(pair.value()));
        self.append(now, event, Some(posting), out);
        self.set_reservation_timer();
        Ok(Reserved {
            redemption: id,
            value,
            until,
        })
    }

    /// Checks that who signed may redeem so much in the owner's name.
    fn check_signer(
        &self,
        now: Timestamp,
        redeem: &Verified<Redeem>,
        certificate: Option<&Verified<DeviceCertificate>>,
    ) -> Result<(), RedeemFault> {
        let signer = redeem.signer();
        if signer == redeem.owner {
            return Ok(());
        }
        let shown = certificate.ok_or(RedeemFault::NotAllowed)?;
        let holder = certificate::holder(signer, Some(shown), now);
        if holder.map(|holder| holder.owner) != Ok(redeem.owner) {
            return Err(RedeemFault::NotAllowed);
        }
        let may = shown.redeem_points.as_micro();
        let left = may.saturating_sub(self.redemptions.redeemed_by(signer, now));
        if may == 0 {
            Err(RedeemFault::NotAllowed)
        } else if redeem.points.as_micro() > left {
            let left = Points::from_micro(left);
            Err(RedeemFault::DeviceLimit { left })
        } else {
            Ok(())
        }
    }

    /// Returns what points are worth, if that is within what the agreement allows.
    fn check_value(
        &self,
        now: Timestamp,
        lots: &[(Lot, Points)],
        agreement: &Agreement,
    ) -> Result<Money, RedeemFault> {
        let minor = posting::value_of(&self.with_rates(lots), agreement.value);
        let minor = minor.filter(|minor| *minor > 0);
        let minor = minor.ok_or(RedeemFault::Worthless)?;
        let currency = agreement.currency;
        let money = |minor| Money { currency, minor };
        let left = agreement
            .cap
            .saturating_sub(self.redemptions.used(agreement, now));
        if minor > left {
            return Err(RedeemFault::OverCap { left: money(left) });
        }
        let line = Account::Payable(agreement.app_server);
        let owed = self
            .books
            .balance(line, Commodity::Money(currency))
            .posted();
        // What is owed counts until it is paid, supply fees too; what is set aside will be owed soon.
        let owed = u64::try_from(owed).unwrap_or(0);
        let open = self.redemptions.open.iter();
        let open = open.filter_map(|(_, id)| self.redemptions.known.get(id));
        let open = open.filter(|known| known.redeem.app_server == agreement.app_server);
        let open = open.map(|known| known.reservation.value.minor);
        let owed = open.fold(owed, u64::saturating_add);
        let left = agreement.credit.saturating_sub(owed);
        if minor > left {
            return Err(RedeemFault::OverCredit { left: money(left) });
        }
        Ok(money(minor))
    }

    fn with_rates(&self, lots: &[(Lot, Points)]) -> Vec<(Lot, Points, &Rates)> {
        let rates = |lot: &Lot| &self.cards.version(lot.card).rates;
        let lots = lots.iter();
        lots.map(|(lot, points)| (*lot, *points, rates(lot)))
            .collect()
    }

    /// Returns a redemption of an app server.
    fn redemption_of(&self, (from, id): (NodeId, RedemptionId)) -> Result<&Known, RedeemFault> {
        let known = self.redemptions.known.get(&id);
        let known = known.ok_or(RedeemFault::Unknown)?;
        if known.redeem.app_server == from {
            Ok(known)
        } else {
            Err(RedeemFault::OtherAudience)
        }
    }

    fn post(
        &mut self,
        now: Timestamp,
        (from, id): (NodeId, RedemptionId),
        out: &mut Vec<Effect>,
    ) -> Result<Signed<Redemption>, RedeemFault> {
        let known = self.redemption_of((from, id))?;
        match &known.state {
            State::Reserved => {}
            State::Posted(redemption) => return Ok(redemption.clone()),
            State::Over | State::Reversed(..) => return Err(RedeemFault::Over),
        }
        let Reservation {
            redeem,
            certificate,
            agreement,
            lots,
            value,
            ..
        } = known.reservation.clone();
        let posting = posting::redemption(id, &self.with_rates(&lots), (from, value));
        let posting = posting.expect("it was worth no more than what stands behind it");
        let redemption = Redemption {
            redeem,
            certificate,
            agreement,
            value,
            at: now,
        };
        let redemption = Verified::sign(redemption, &self.config.network, &self.config.key);
        let redemption = redemption.signed().clone();
        self.redemptions.post(redemption.clone(), id);
        out.push(Effect::Record(Fact::Redeemed(redemption.clone())));
        let event = Event::PointsRedeemed {
            redemption: redemption.clone(),
        };
        self.append(now, event, Some(posting), out);
        self.set_reservation_timer();
        Ok(redemption)
    }

    fn void(
        &mut self,
        now: Timestamp,
        (from, id): (NodeId, RedemptionId),
        out: &mut Vec<Effect>,
    ) -> Result<(), RedeemFault> {
        let known = match self.redemption_of((from, id)) {
            // What never came is not set aside.
            Err(RedeemFault::Unknown) => return Ok(()),
            known => known?,
        };
        match known.state {
            State::Reserved => self.free(now, id, out),
            State::Over | State::Reversed(..) => {}
            State::Posted(_) => return Err(RedeemFault::Posted),
        }
        Ok(())
    }

    /// Gives points that were set aside back to where they were.
    fn free(&mut self, now: Timestamp, id: RedemptionId, out: &mut Vec<Effect>) {
        let Some(known) = self.redemptions.known.get(&id) else {
            return;
        };
        let posting = posting::reservation_over(id, &known.reservation.lots);
        self.redemptions.end(id);
        out.push(Effect::Record(Fact::ReservationEnded(id)));
        let event = Event::ReservationEnded { redemption: id };
        self.append(now, event, posting, out);
        self.set_reservation_timer();
    }

    fn reverse(
        &mut self,
        now: Timestamp,
        from: NodeId,
        reversal: &Verified<Reversal>,
        out: &mut Vec<Effect>,
    ) -> Result<(), RedeemFault> {
        let id = reversal.redemption;
        if reversal.signer() != from {
            return Err(RedeemFault::OtherAudience);
        }
        let known = self.redemption_of((from, id))?;
        match &known.state {
            State::Posted(_) => {}
            State::Reversed(..) => return Ok(()),
            State::Reserved | State::Over => return Err(RedeemFault::Unknown),
        }
        let (lots, value) = (&known.reservation.lots, known.reservation.value);
        let posting = posting::reversal(id, &self.with_rates(lots), (from, value));
        let posting = posting.ok_or(RedeemFault::Unfunded)?;
        let possible = self.books.excerpt(&posting).post(now, &posting);
        possible.map_err(|_| RedeemFault::Unfunded)?;
        let signed = reversal.signed().clone();
        self.redemptions.reverse(signed.clone(), id);
        out.push(Effect::Record(Fact::Reversed(signed.clone())));
        let event = Event::RedemptionReversed { reversal: signed };
        self.append(now, event, Some(posting), out);
        Ok(())
    }

    /// Frees the points on which nothing was decided in time.
    pub(super) fn end_reservations(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some((until, id)) = self.redemptions.open.first().copied()
            && until <= now
        {
            self.free(now, id, out);
        }
        self.set_reservation_timer();
    }

    pub(super) fn set_reservation_timer(&mut self) {
        match self.redemptions.open.first() {
            Some((until, _)) => self.timers.set(Timer::Reservations, *until),
            None => self.timers.clear(Timer::Reservations),
        }
    }
}
