//! The talk with coordinators about the points of orders: what is asked of each follows from where its leg is.
//!
//! Invariant: an answer that does not fit what a leg waits for changes nothing, so late and repeated ones do no harm.

use super::errands::Heard;
use super::order::{Leg, LegState, Order, OrderChange, Phase, Stage, VoidReason};
use super::{AppServer, Effect};
use crate::account::{Currency, Money};
use crate::id::{NodeId, OrderId, RedemptionId};
use crate::message::Refusal;
use crate::message::redeem::{RedeemFault, RedeemReply, RedeemRequest, Reserved};
use crate::redemption::{Redemption, Reversal};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

impl AppServer {
    /// Returns what is next to be asked of a coordinator about points.
    pub(super) fn leg_request(
        &self,
        order: OrderId,
        leg: RedemptionId,
    ) -> Option<(NodeId, RedeemRequest)> {
        let order = self.state.orders.get(order).ok()?;
        let leg = order.leg(leg)?;
        let request = match (&leg.state, order.phase()) {
            (LegState::Wanted, Phase::Reserving) => RedeemRequest::Reserve {
                redeem: leg.redeem.clone(),
                certificate: leg.certificate.clone(),
            },
            (LegState::Reserved { .. }, Phase::Decided) => RedeemRequest::Post(leg.id),
            (LegState::Releasing, _) => RedeemRequest::Void(leg.id),
            (LegState::Reversing { .. }, _) => RedeemRequest::Reverse(self.reversal(order, leg.id)),
            (
                LegState::Wanted
                | LegState::Reserved { .. }
                | LegState::Posted { .. }
                | LegState::Ended,
                _,
            ) => return None,
        };
        Some((leg.coordinator, request))
    }

    /// Signs the reversal of points of an order that is over: the same each time.
    pub(super) fn reversal(&self, order: &Order, redemption: RedemptionId) -> Signed<Reversal> {
        let (reason, at) = match &order.stage {
            Stage::Void { at, .. } => ("void", *at),
            Stage::Refunded { at, .. } => ("refund", *at),
            Stage::Open
            | Stage::Reserving
            | Stage::Decided
            | Stage::Posted { .. }
            | Stage::Paid { .. }
            | Stage::Fulfilled { .. } => unreachable!("points of an order that is not over stay"),
        };
        let reversal = Reversal {
            redemption,
            reason: format!("order {}: {reason}", order.id),
            at,
        };
        let reversal = Verified::sign(reversal, &self.config.network, &self.config.key);
        reversal.signed().clone()
    }

    /// A coordinator has answered about points.
    pub(super) fn leg_answered(
        &mut self,
        now: Timestamp,
        (id, leg): (OrderId, RedemptionId),
        reply: RedeemReply,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let known = self.state.orders.get(id).ok();
        let known =
            known.and_then(|order| Some((order.owner, order.fee.currency, order.leg(leg)?)));
        let Some((owner, currency, leg)) = known else {
            return Heard::Done;
        };
        let coordinator = leg.coordinator;
        let change = match &leg.state {
            LegState::Wanted => answered_wanted((leg, currency), reply),
            LegState::Reserved { value, .. } => {
                let value = Money {
                    currency,
                    minor: *value,
                };
                self.answered_reserved(leg, value, reply)
            }
            LegState::Releasing => answered_releasing(leg, &reply),
            LegState::Reversing { .. } => {
                let is_done = matches!(reply, RedeemReply::Reversed);
                is_done.then_some(OrderChange::LegEnded(leg.id))
            }
            LegState::Posted { .. } | LegState::Ended => return Heard::Done,
        };
        match change {
            Some(change) => {
                let is_on_the_way = matches!(change, OrderChange::Reserved { .. });
                self.change(now, id, change, out);
                if !is_on_the_way {
                    // Whoever spends the rest next should know what is left.
                    self.ask_points_at(now, (owner, coordinator), out);
                }
                Heard::Done
            }
            None => Heard::Wait,
        }
    }

    /// An order is decided, and a coordinator was asked to take its points.
    fn answered_reserved(
        &self,
        leg: &Leg,
        value: Money,
        reply: RedeemReply,
    ) -> Option<OrderChange> {
        let coordinator = leg.coordinator;
        match reply {
            RedeemReply::Posted(signed) => Some(match self.taken_for(leg, &signed)? {
                taken if taken == value => OrderChange::Taken(leg.id, signed),
                _ => OrderChange::Voided(VoidReason::OtherValue(coordinator)),
            }),
            RedeemReply::Not(fault) if is_lost(fault) => {
                Some(OrderChange::Voided(VoidReason::Points {
                    coordinator,
                    fault,
                }))
            }
            RedeemReply::Reserved(_)
            | RedeemReply::Voided
            | RedeemReply::Reversed
            | RedeemReply::Not(_)
            | RedeemReply::Refused(_) => None,
        }
    }

    /// Returns for what the points of a leg are taken, as the coordinator itself says; none if it does not say that.
    fn taken_for(&self, leg: &Leg, signed: &Signed<Redemption>) -> Option<Money> {
        let redemption = signed.clone().verify(&self.config.network).ok()?;
        let is_its = redemption.signer() == leg.coordinator
            && RedemptionId::of(&redemption.redeem) == leg.id;
        is_its.then_some(redemption.value)
    }
}

/// A coordinator was asked to set points aside.
fn answered_wanted((leg, currency): (&Leg, Currency), reply: RedeemReply) -> Option<OrderChange> {
    let coordinator = leg.coordinator;
    let reason = match reply {
        RedeemReply::Reserved(reserved) if reserved.redemption == leg.id => {
            let Reserved { value, until, .. } = reserved;
            if value.currency == currency && (1..=leg.value_max).contains(&value.minor) {
                let (leg, value) = (leg.id, value.minor);
                return Some(OrderChange::Reserved { leg, value, until });
            }
            VoidReason::OtherValue(coordinator)
        }
        RedeemReply::Not(fault) => VoidReason::Points { coordinator, fault },
        RedeemReply::Refused(refusal) if refusal != Refusal::Busy => VoidReason::Refused {
            coordinator,
            refusal,
        },
        RedeemReply::Reserved(_)
        | RedeemReply::Posted(_)
        | RedeemReply::Voided
        | RedeemReply::Reversed
        | RedeemReply::Refused(_) => return None,
    };
    Some(OrderChange::Voided(reason))
}

/// A coordinator was asked to let points go, or had been asked to take them just before.
fn answered_releasing(leg: &Leg, reply: &RedeemReply) -> Option<OrderChange> {
    match reply {
        RedeemReply::Voided | RedeemReply::Not(RedeemFault::Over | RedeemFault::Unknown) => {
            Some(OrderChange::LegEnded(leg.id))
        }
        RedeemReply::Posted(_) | RedeemReply::Not(RedeemFault::Posted) => {
            Some(OrderChange::FoundTaken(leg.id))
        }
        RedeemReply::Reserved(_)
        | RedeemReply::Reversed
        | RedeemReply::Not(_)
        | RedeemReply::Refused(_) => None,
    }
}

/// Returns whether points that were set aside cannot be taken any more.
const fn is_lost(fault: RedeemFault) -> bool {
    match fault {
        RedeemFault::Over
        | RedeemFault::Unknown
        | RedeemFault::OtherAudience
        | RedeemFault::Expired
        | RedeemFault::TooFewPoints { .. } => true,
        RedeemFault::NotAllowed
        | RedeemFault::DeviceLimit { .. }
        | RedeemFault::NoAgreement
        | RedeemFault::Worthless
        | RedeemFault::OverCap { .. }
        | RedeemFault::OverCredit { .. }
        | RedeemFault::Posted
        | RedeemFault::Unfunded => false,
    }
}
