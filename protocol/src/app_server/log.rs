//! What of the facts goes into the permanent log: whatever moves money, with what an auditor needs to compute it again.
//!
//! Invariant: a fact that does something to the books has an event. Agreements, and the words of coordinators that points
//! are taken, have one too: what is charged follows from them.

use super::order::{Order, OrderChange};
use super::settlement::SettlementFact;
use super::{AgreementFact, AppServer, Effect, Fact};
use crate::account::Money;
use crate::entry::{Event, Part};
use crate::id::{OrderId, RedemptionId};

impl AppServer {
    /// Changes the state by a fact that is recorded with it, and appends its event to the log.
    pub(super) fn record(&mut self, fact: Fact, out: &mut Vec<Effect>) {
        let event = self.event(&fact);
        let posting = self.state.apply(self.config.me, &fact);
        out.push(Effect::Record(fact));
        match event {
            Some(event) => out.push(Effect::Append { event, posting }),
            None => assert_eq!(posting, None, "what moves money stands in the log"),
        }
    }

    /// Returns the event of a fact that has not changed the state yet.
    fn event(&self, fact: &Fact) -> Option<Event> {
        match fact {
            Fact::Agreement(AgreementFact::Made(made)) => Some(Event::AgreementMade {
                agreement: made.signed.clone(),
            }),
            Fact::Order { order, change, .. } => {
                self.order_event(self.state.orders.get(*order).ok()?, change)
            }
            Fact::Settlement(fact) => self.settlement_event(fact),
            Fact::Product(_)
            | Fact::Offer(_)
            | Fact::Agreement(AgreementFact::Proposed(..) | AgreementFact::Declined(..))
            | Fact::User(_)
            | Fact::Opened(_)
            | Fact::Forgotten(_)
            | Fact::Status(..)
            | Fact::Listed(_)
            | Fact::VoucherUsed(..) => None,
        }
    }

    fn order_event(&self, order: &Order, change: &OrderChange) -> Option<Event> {
        match change {
            OrderChange::Taken(_, redemption) => Some(Event::PointsRedeemed {
                redemption: redemption.clone(),
            }),
            OrderChange::Posted => charged(order),
            OrderChange::Paid(payment) if payment.minor > 0 => Some(Event::OrderPaid {
                order: order.id,
                user: order.owner,
                money: money(order, payment.minor),
                reference: payment.reference.clone(),
            }),
            OrderChange::Voided(_) | OrderChange::Refunded => refunded(order),
            OrderChange::LegEnded(leg) => self.reversed(order, *leg),
            OrderChange::Paid(_)
            | OrderChange::Redeemed(_)
            | OrderChange::Reserved { .. }
            | OrderChange::Decided
            | OrderChange::Fulfilled(_)
            | OrderChange::FoundTaken(_) => None,
        }
    }

    fn reversed(&self, order: &Order, leg: RedemptionId) -> Option<Event> {
        order.charged_of(leg)?;
        let reversal = self.reversal(order, leg);
        Some(Event::RedemptionReversed { reversal })
    }

    fn settlement_event(&self, fact: &SettlementFact) -> Option<Event> {
        match fact {
            SettlementFact::Agreed(coordinator, signed) => {
                let (redeemed, reversed) = self.state.settlements.counted(*coordinator)?;
                let settlement = signed.clone();
                Some(Event::SettlementMade {
                    settlement,
                    redeemed,
                    reversed,
                })
            }
            SettlementFact::Paid(with, number, reference) => {
                let mut agreed = self.settlements(*with).iter();
                let agreed = agreed.find(|agreed| agreed.value.number == *number)?;
                (agreed.value.due != 0).then(|| Event::SettlementPaid {
                    with: *with,
                    number: *number,
                    reference: reference.clone(),
                })
            }
            SettlementFact::Stated(_)
            | SettlementFact::Disputed(..)
            | SettlementFact::Refused(..)
            | SettlementFact::Resolved(..) => None,
        }
    }
}

const fn money(order: &Order, minor: u64) -> Money {
    let currency = order.fee.currency;
    Money { currency, minor }
}

/// All points of an order are taken; none if it costs nothing.
fn charged(order: &Order) -> Option<Event> {
    let parts = order.legs.iter().map(|leg| Part {
        coordinator: leg.coordinator,
        redemption: leg.id,
        money: money(order, leg.state.value()),
    });
    let fee = order.due().saturating_add(order.discount());
    (fee > 0).then(|| Event::OrderCharged {
        order: order.id,
        user: order.owner,
        fee: money(order, fee),
        due: money(order, order.due()),
        parts: parts.collect(),
    })
}

/// An order comes to nothing; none if nothing was charged for it.
fn refunded(order: &Order) -> Option<Event> {
    let due = order.charged?;
    let paid = order.payment.as_ref().map_or(0, |payment| payment.minor);
    let id: OrderId = order.id;
    (due > 0 || order.discount() > 0).then(|| Event::OrderRefunded {
        order: id,
        user: order.owner,
        due: money(order, due),
        paid: money(order, paid),
    })
}
