//! Orders and the points that pay for them: reserve at all coordinators, decide, post at each.
//!
//! All that follows from where an order is, is in [`AppServer::advance`]: it is asked after each change and after a
//! restart, so no step can be forgotten. Points are taken only of an order that is decided, and it is decided only
//! while every reservation lasts at least an hour more; then each is posted until the coordinator has answered. If one
//! of them is lost all the same, the others are given back and the order is void.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errands::{Due, Errand};
use super::order::{
    Leg, LegState, Order, OrderChange, OrderStatus, Payment, Phase, Stage, Subject, VoidReason,
};
use super::posting;
use super::{AppServer, Effect, Fact, Fault, IdempotencyKey, OfferId};
use crate::account::{Holder, Money};
use crate::certificate::{self, DeviceCertificate};
use crate::id::{LicenseId, NodeId, OrderId, PostingId, RedemptionId, VoucherId};
use crate::issuer::is_line;
use crate::license::{DEVICES_MAX, REDEMPTIONS_MAX};
use crate::points::Points;
use crate::product::ProductId;
use crate::redemption::Redeem;
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most orders that are known, some 10 KB each. Of too many the oldest are forgotten that are over for good.
pub const ORDERS_MAX: usize = 100_000;
/// The most orders of one owner that are neither fulfilled nor over.
pub const ORDERS_OPEN_MAX: usize = 512;
/// How long an order waits for points or money.
const OPEN_FOR: Duration = Duration::from_secs(24 * 3_600);
/// What is left of every reservation at least when an order is decided: time to post at each.
pub const DECIDE_BEFORE: Duration = Duration::from_secs(3_600);
/// How long a void order is still shown.
const SHOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long an order that is fulfilled or refunded is known at least, from its opening on: so long it can be refunded,
/// and its idempotency key has its answer. After that only the log may have it, and what its license needs to go on.
pub const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The most orders that are forgotten at once, so that they are not looked through each time.
const FORGOTTEN_AT_ONCE: usize = 1_000;
/// When what could not be issued is tried again: the vendor has to certify the issuer anew.
const ISSUE_AGAIN: Duration = Duration::from_secs(3_600);
/// The longest payment reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 140;

/// What somebody orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Who gets it: the key whose points pay.
    pub owner: NodeId,
    /// What.
    pub wish: Wish,
    /// The same key again has the same answer.
    pub key: IdempotencyKey,
}

/// What can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// A license of a product.
    License {
        /// The product.
        product: ProductId,
        /// For which of the owner's registered computers; none for any.
        devices: Vec<NodeId>,
    },
    /// The same license once more, for the points of its renewal rule.
    Renewal {
        /// The license, or any of its line.
        license: LicenseId,
    },
    /// A voucher for a shop's fee.
    Voucher {
        /// The offer.
        offer: OfferId,
        /// The fee.
        fee: Money,
    },
}

/// Points that are to pay for an order, as their owner signed, with what allows the device that signed.
pub type SignedPoints = (Verified<Redeem>, Option<Verified<DeviceCertificate>>);

/// All orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orders {
    of: BTreeMap<OrderId, Order>,
    keys: BTreeMap<(NodeId, IdempotencyKey), OrderId>,
    /// Payments that were ever taken.
    payments: BTreeMap<PostingId, OrderId>,
}

impl Orders {
    pub(super) fn get(&self, id: OrderId) -> Result<&Order, Fault> {
        self.of.get(&id).ok_or(Fault::UnknownOrder)
    }

    pub(super) fn open(&mut self, order: Order) {
        self.keys.insert((order.owner, order.key.clone()), order.id);
        self.of.insert(order.id, order);
    }

    pub(super) fn change(&mut self, id: OrderId, change: &OrderChange, at: Timestamp) {
        if let OrderChange::Paid(payment) = change
            && payment.minor > 0
        {
            let payment = posting::payment_id(&payment.reference);
            self.payments.insert(payment, id);
        }
        if let Some(order) = self.of.get_mut(&id) {
            order.apply(change, at);
        }
    }

    pub(super) fn forget(&mut self, id: OrderId) {
        if let Some(order) = self.of.remove(&id) {
            self.keys.remove(&(order.owner, order.key));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Order> {
        self.of.values()
    }

    /// Refuses one more order of an owner who has too many open ones.
    fn has_room(&self, owner: NodeId) -> Result<(), Fault> {
        let of_owner = self.keys.range((owner, IdempotencyKey::least())..);
        let of_owner = of_owner.take_while(|((of, _), _)| *of == owner);
        let of_owner = of_owner.filter_map(|(_, id)| self.of.get(id));
        let open = of_owner.filter(|order| {
            !matches!(
                order.phase(),
                Phase::Fulfilled | Phase::Void | Phase::Refunded
            )
        });
        if open.count() < ORDERS_OPEN_MAX && self.of.len() < ORDERS_MAX {
            Ok(())
        } else {
            Err(Fault::Full)
        }
    }
}

impl AppServer {
    /// Returns an order.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.state.orders.of.get(&id)
    }

    /// Returns all orders.
    pub fn orders(&self) -> impl Iterator<Item = &Order> {
        self.state.orders.iter()
    }

    /// Opens an order, or finds the one that was opened with the same key.
    pub(super) fn open(
        &mut self,
        now: Timestamp,
        opening: Opening,
        out: &mut Vec<Effect>,
    ) -> Result<OrderStatus, Fault> {
        let Opening { owner, wish, key } = opening;
        if let Some(id) = self.state.orders.keys.get(&(owner, key.clone())) {
            let known = self.state.orders.get(*id)?;
            return if self.is_wish(known, &wish) {
                Ok(known.status())
            } else {
                Err(Fault::KeyUsed)
            };
        }
        self.make_room(now, ORDERS_MAX, out);
        self.state.orders.has_room(owner)?;
        let (subject, fee) = self.subject(now, owner, &wish)?;
        let id = self.draw_order();
        let order = Order {
            id,
            owner,
            subject,
            fee,
            key,
            opened: now,
            stage: Stage::Open,
            legs: Vec::new(),
            charged: None,
            payment: None,
        };
        self.record(Fact::Opened(Box::new(order)), out);
        self.ask_points(now, owner, out);
        self.advance(now, id, out);
        Ok(self.state.orders.get(id)?.status())
    }

    /// Forgets the oldest orders that are over for good, if there are as many as `most`.
    pub(super) fn make_room(&mut self, now: Timestamp, most: usize, out: &mut Vec<Effect>) {
        if self.state.orders.of.len() < most {
            return;
        }
        let over = self.orders().filter(|order| is_over(order, now));
        let mut over: Vec<(Timestamp, OrderId)> =
            over.map(|order| (order.opened, order.id)).collect();
        over.sort_unstable();
        for (_, order) in over.into_iter().take(FORGOTTEN_AT_ONCE) {
            self.record(Fact::Forgotten(order), out);
            self.errands.clear(Due::Order(order));
        }
    }

    /// Returns whether an order is what somebody wishes.
    fn is_wish(&self, order: &Order, wish: &Wish) -> bool {
        match (wish, &order.subject) {
            (Wish::License { product, devices }, Subject::License { terms, devices: of }) => {
                terms.product == *product && devices == of
            }
            (Wish::Renewal { license }, Subject::Renewal { line, .. }) => {
                self.state.licenses.line(*license) == Some(*line)
            }
            (Wish::Voucher { offer, fee }, Subject::Voucher { offer: of, .. }) => {
                (offer, *fee) == (of, order.fee)
            }
            (
                Wish::License { .. } | Wish::Renewal { .. } | Wish::Voucher { .. },
                Subject::License { .. } | Subject::Renewal { .. } | Subject::Voucher { .. },
            ) => false,
        }
    }

    fn subject(
        &self,
        now: Timestamp,
        owner: NodeId,
        wish: &Wish,
    ) -> Result<(Subject, Money), Fault> {
        match wish {
            Wish::License { product, devices } => {
                let product = self.state.catalogue.product(product)?;
                let own = |device: &NodeId| {
                    let device = *device;
                    let holder = Holder { owner, device };
                    self.state.users.is_registered(holder, now)
                };
                if devices.len() > DEVICES_MAX || !devices.iter().all(own) {
                    return Err(Fault::UnknownDevice);
                }
                let (terms, devices) = (Box::new(product.terms.clone()), devices.clone());
                Ok((Subject::License { terms, devices }, product.price))
            }
            Wish::Renewal { license } => self.renewal(owner, *license),
            Wish::Voucher { offer, fee } => {
                let offer = self.state.catalogue.offer(offer)?;
                if fee.currency != offer.amount_max.currency {
                    return Err(Fault::OtherCurrency);
                }
                let minor = offer.most(fee.minor);
                if fee.minor < offer.fee_min || minor == 0 {
                    return Err(Fault::OtherFee);
                }
                let subject = Subject::Voucher {
                    offer: offer.id.clone(),
                    terms: Box::new(offer.terms()),
                    most: Money { minor, ..*fee },
                };
                Ok((subject, *fee))
            }
        }
    }

    /// Takes points for an order. The same ones again have the same answer; others are refused from then on.
    pub(super) fn redeem(
        &mut self,
        now: Timestamp,
        id: OrderId,
        points: &[SignedPoints],
        out: &mut Vec<Effect>,
    ) -> Result<OrderStatus, Fault> {
        let order = self.state.orders.get(id)?;
        let asked = points
            .iter()
            .map(|(redeem, _)| RedemptionId::of(redeem.signed()));
        let asked: BTreeSet<RedemptionId> = asked.collect();
        if !order.legs.is_empty() {
            let taken: BTreeSet<RedemptionId> = order.legs.iter().map(|leg| leg.id).collect();
            return if taken == asked {
                Ok(order.status())
            } else {
                Err(Fault::Taken)
            };
        }
        if order.phase() != Phase::Open {
            let phase = order.phase();
            return Err(Fault::WrongPhase { phase });
        }
        if asked.len() != points.len() || !(1..=REDEMPTIONS_MAX).contains(&points.len()) {
            let what = "redeems: 1 to 32, none twice".to_owned();
            return Err(Fault::Invalid { what });
        }
        let legs = points.iter().map(|points| self.leg(now, order, points));
        let legs = legs.collect::<Result<Vec<Leg>, Fault>>()?;
        check_points(order, &legs)?;
        self.change(now, id, OrderChange::Redeemed(legs), out);
        self.advance(now, id, out);
        Ok(self.state.orders.get(id)?.status())
    }

    /// Checks points that are to pay for an order.
    fn leg(
        &self,
        now: Timestamp,
        order: &Order,
        (redeem, certificate): &SignedPoints,
    ) -> Result<Leg, Fault> {
        let is_for_this = (redeem.app_server, redeem.order, redeem.owner)
            == (self.config.me, order.id, order.owner);
        let signer = redeem.signer();
        let is_owner = signer == order.owner;
        let may = |shown: &Verified<DeviceCertificate>| {
            let holder = certificate::holder(signer, Some(shown), now);
            let owner = holder.map(|holder| holder.owner);
            owner == Ok(order.owner) && shown.redeem_points > Points::ZERO
        };
        if !is_for_this || !is_owner && !certificate.as_ref().is_some_and(may) {
            return Err(Fault::OtherAudience);
        }
        if redeem.expires <= now + DECIDE_BEFORE {
            return Err(Fault::Stale);
        }
        let made = self.state.agreements.in_force(redeem.coordinator, now);
        let made = made.ok_or(Fault::NoAgreement)?;
        if made.agreement.currency != order.fee.currency {
            return Err(Fault::OtherCurrency);
        }
        Ok(Leg {
            id: RedemptionId::of(redeem.signed()),
            coordinator: redeem.coordinator,
            points: redeem.points,
            value_max: made
                .agreement
                .value
                .of_floor(redeem.points)
                .unwrap_or(u64::MAX),
            expires: redeem.expires,
            redeem: redeem.signed().clone(),
            certificate: certificate.as_ref().map(|shown| shown.signed().clone()),
            state: LegState::Wanted,
        })
    }

    /// The user's part is paid.
    pub(super) fn pay(
        &mut self,
        now: Timestamp,
        (id, reference): (OrderId, String),
        out: &mut Vec<Effect>,
    ) -> Result<OrderStatus, Fault> {
        if !is_line(&reference, REFERENCE_BYTES_MAX) {
            let what = "reference: 1 to 140 bytes".to_owned();
            return Err(Fault::Invalid { what });
        }
        let order = self.state.orders.get(id)?;
        let known = self
            .state
            .orders
            .payments
            .get(&posting::payment_id(&reference));
        match known {
            Some(of) if *of == id => return Ok(order.status()),
            Some(_) => return Err(Fault::ReferenceUsed),
            None => {}
        }
        let phase = order.phase();
        let is_license = matches!(order.subject, Subject::License { .. });
        match phase {
            // With money alone.
            Phase::Open if is_license => self.change(now, id, OrderChange::Posted, out),
            Phase::Posted => {}
            Phase::Open
            | Phase::Reserving
            | Phase::Decided
            | Phase::Paid
            | Phase::Fulfilled
            | Phase::Void
            | Phase::Refunded => return Err(Fault::WrongPhase { phase }),
        }
        let minor = self.state.orders.get(id)?.due();
        let at = now;
        let payment = Payment {
            reference,
            minor,
            at,
        };
        self.change(now, id, OrderChange::Paid(payment), out);
        self.advance(now, id, out);
        Ok(self.state.orders.get(id)?.status())
    }

    /// Nobody wants an order any more on which nothing was decided, that nobody pays, or for which nothing can be
    /// issued.
    pub(super) fn cancel(
        &mut self,
        now: Timestamp,
        id: OrderId,
        out: &mut Vec<Effect>,
    ) -> Result<OrderStatus, Fault> {
        let phase = self.state.orders.get(id)?.phase();
        match phase {
            Phase::Open | Phase::Reserving | Phase::Posted | Phase::Paid => {
                let change = OrderChange::Voided(VoidReason::Cancelled);
                self.change(now, id, change, out);
                self.advance(now, id, out);
            }
            Phase::Void => {}
            Phase::Decided | Phase::Fulfilled | Phase::Refunded => {
                return Err(Fault::WrongPhase { phase });
            }
        }
        Ok(self.state.orders.get(id)?.status())
    }

    /// Undoes a fulfilled order: its goods hold no more, points and money are given back.
    pub(super) fn refund(
        &mut self,
        now: Timestamp,
        id: OrderId,
        out: &mut Vec<Effect>,
    ) -> Result<OrderStatus, Fault> {
        let order = self.state.orders.get(id)?;
        match order.phase() {
            Phase::Refunded => return Ok(order.status()),
            Phase::Fulfilled => {}
            phase @ (Phase::Open
            | Phase::Reserving
            | Phase::Decided
            | Phase::Posted
            | Phase::Paid
            | Phase::Void) => return Err(Fault::WrongPhase { phase }),
        }
        let voucher = VoucherId::of(self.config.me, id);
        if self.state.vouchers.is_used(voucher) {
            return Err(Fault::VoucherUsed);
        }
        self.change(now, id, OrderChange::Refunded, out);
        self.publish(now, out);
        self.advance(now, id, out);
        Ok(self.state.orders.get(id)?.status())
    }

    pub(super) fn change(
        &mut self,
        at: Timestamp,
        order: OrderId,
        change: OrderChange,
        out: &mut Vec<Effect>,
    ) {
        self.record(Fact::Order { order, change, at }, out);
        out.push(Effect::Changed(order));
    }

    /// Does all that follows from where an order is.
    pub(super) fn advance(&mut self, now: Timestamp, id: OrderId, out: &mut Vec<Effect>) {
        while let Some(change) = self.next_change(now, id) {
            self.change(now, id, change, out);
        }
        let Ok(order) = self.state.orders.get(id) else {
            return;
        };
        if is_forgettable(order, now) {
            self.record(Fact::Forgotten(id), out);
            self.errands.clear(Due::Order(id));
            return;
        }
        let (legs, deadline) = (order.legs.clone(), self.deadline(order, now));
        for leg in legs {
            self.run_errand(now, Errand::Leg(id, leg.id), out);
        }
        match deadline {
            Some(at) => self.errands.set(Due::Order(id), at),
            None => self.errands.clear(Due::Order(id)),
        }
    }

    /// Returns the change that follows from where an order is; none if it waits for something.
    fn next_change(&self, now: Timestamp, id: OrderId) -> Option<OrderChange> {
        let order = self.state.orders.get(id).ok()?;
        let void = |reason| Some(OrderChange::Voided(reason));
        match &order.stage {
            Stage::Open if is_free(order) => Some(OrderChange::Posted),
            Stage::Open if order.opened + OPEN_FOR <= now => void(VoidReason::Expired),
            Stage::Reserving => decision(order, now),
            Stage::Decided => {
                let posted = |leg: &Leg| matches!(leg.state, LegState::Posted { .. });
                order.legs.iter().all(posted).then_some(OrderChange::Posted)
            }
            Stage::Posted { .. } if order.due() == 0 => Some(OrderChange::Paid(Payment {
                reference: String::new(),
                minor: 0,
                at: now,
            })),
            Stage::Posted { at } if *at + self.config.pay_within <= now => void(VoidReason::Unpaid),
            Stage::Paid { .. } => self.goods(now, order).map(OrderChange::Fulfilled),
            Stage::Open
            | Stage::Posted { .. }
            | Stage::Fulfilled { .. }
            | Stage::Void { .. }
            | Stage::Refunded { .. } => None,
        }
    }

    /// Returns when the next change of an order is due at the latest.
    fn deadline(&self, order: &Order, now: Timestamp) -> Option<Timestamp> {
        match &order.stage {
            Stage::Open => Some(order.opened + OPEN_FOR),
            Stage::Reserving => Some(decide_until(order)),
            Stage::Posted { at } => Some(*at + self.config.pay_within),
            Stage::Paid { .. } => Some(now + ISSUE_AGAIN),
            Stage::Void { at, .. } => Some(*at + SHOWN_FOR).filter(|at| *at > now),
            Stage::Decided | Stage::Fulfilled { .. } | Stage::Refunded { .. } => None,
        }
    }
}

fn is_free(order: &Order) -> bool {
    order.fee.minor == 0 && matches!(order.subject, Subject::License { .. })
}

/// Returns until when an order must be decided, so that an hour is left of each reservation.
fn decide_until(order: &Order) -> Timestamp {
    let expires = order.legs.iter().map(|leg| leg.expires).min();
    expires.unwrap_or(order.opened) - DECIDE_BEFORE
}

/// Returns whether all points are reserved for long enough, or why they never will be; none if some are still asked for.
fn decision(order: &Order, now: Timestamp) -> Option<OrderChange> {
    let mut wanted = None;
    for leg in &order.legs {
        match leg.state {
            LegState::Reserved { until, .. } if until < now + DECIDE_BEFORE => {
                let reason = VoidReason::TooShort(leg.coordinator);
                return Some(OrderChange::Voided(reason));
            }
            LegState::Wanted => wanted = Some(leg.coordinator),
            LegState::Reserved { .. }
            | LegState::Posted { .. }
            | LegState::Releasing
            | LegState::Reversing { .. }
            | LegState::Ended => {}
        }
    }
    match wanted {
        None => Some(OrderChange::Decided),
        Some(coordinator) if decide_until(order) <= now => {
            Some(OrderChange::Voided(VoidReason::Unanswered(coordinator)))
        }
        Some(_) => None,
    }
}

/// Checks what the points of an order come to.
fn check_points(order: &Order, legs: &[Leg]) -> Result<(), Fault> {
    let values = legs.iter().map(|leg| leg.value_max);
    let most = order.discount_max();
    if values.fold(0, u64::saturating_add) > most {
        let most = Money {
            minor: most,
            ..order.fee
        };
        return Err(Fault::TooManyPoints { most });
    }
    if let Subject::Renewal { points: needed, .. } = &order.subject {
        let all = legs.iter().map(|leg| leg.points.as_micro());
        if all.fold(0, u64::saturating_add) != needed.as_micro() {
            return Err(Fault::OtherPoints { needed: *needed });
        }
    }
    Ok(())
}

/// Returns whether an order may be forgotten if there are too many: nothing happens to it any more, unless somebody has it
/// refunded late.
fn is_over(order: &Order, now: Timestamp) -> bool {
    let is_still = |leg: &Leg| matches!(leg.state, LegState::Posted { .. } | LegState::Ended);
    let is_old = match order.phase() {
        Phase::Fulfilled | Phase::Refunded => order.opened + KEPT_FOR <= now,
        // Otherwise whoever opens and cancels orders again and again would leave no room for others.
        Phase::Void => true,
        Phase::Open | Phase::Reserving | Phase::Decided | Phase::Posted | Phase::Paid => false,
    };
    is_old && order.legs.iter().all(is_still)
}

/// Returns whether nothing is left of a void order that anybody could ask for.
fn is_forgettable(order: &Order, now: Timestamp) -> bool {
    let ended = order.legs.iter().all(|leg| leg.state == LegState::Ended);
    matches!(order.stage, Stage::Void { at, .. } if at + SHOWN_FOR <= now) && ended
}
