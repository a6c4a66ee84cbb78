//! Nothing is sold that is not paid, and whatever was decided comes to an end.

use std::collections::{BTreeMap, BTreeSet};

use tally_ledger::store::Change;
use tally_protocol::account::Money;
use tally_protocol::app_server::{
    Effect, Fact, Goods, LegState, Order, OrderChange, Phase, Subject,
};
use tally_protocol::id::{OrderId, RedemptionId, VoucherId};

use super::paid::content;
use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// Follows orders from what app servers write, and payments from those who pay.
#[derive(Debug, Default)]
pub(super) struct Sold {
    orders: BTreeMap<OrderId, Bill>,
    /// What owners have really paid.
    payments: BTreeSet<(OrderId, String)>,
    /// By voucher, for what it was used.
    used: BTreeMap<VoucherId, (Money, String)>,
    /// Vouchers that were issued, and those whose order was undone.
    issued: BTreeSet<VoucherId>,
    over: BTreeSet<VoucherId>,
}

/// An order as it should be paid.
#[derive(Debug)]
struct Bill {
    order: Order,
    /// What coordinators have said that they owe for each of its redemptions, in minor units.
    taken: BTreeMap<RedemptionId, u64>,
    /// What the user has paid, in minor units.
    paid: u64,
    is_fulfilled: bool,
    voucher: Option<VoucherId>,
}

impl Oracle for Sold {
    fn name(&self) -> &'static str {
        "sold for what was paid"
    }

    fn claim(&self) -> &'static str {
        "No license and no voucher is issued unless all points for it are taken and the user's part is really paid; a \
         voucher is good for one request of one shop; every order that was decided is fulfilled, or everything is given \
         back."
    }

    fn see(&mut self, _: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::OrderPaid {
                order, reference, ..
            } => {
                self.payments.insert((*order, reference.clone()));
                Check::Nothing
            }
            Happening::VoucherTaken {
                by,
                voucher,
                fee,
                key,
            } => {
                let now = (*fee, key.clone());
                let first = self.used.entry(*voucher).or_insert_with(|| now.clone());
                Check::that(*first == now, || {
                    format!("{by} says that voucher {voucher} is good for {now:?} after {first:?}")
                })
            }
            _ => Check::Nothing,
        }
    }

    fn sells(
        &mut self,
        _: &Reference,
        app_server: Peer,
        (effects, _): (&[Effect], &Change),
    ) -> Check {
        let mut check = Check::Nothing;
        for effect in effects {
            let Effect::Record(fact) = effect else {
                continue;
            };
            let read = match fact {
                Fact::Opened(order) => self.open(order),
                Fact::Order { order, change, .. } => self.change(*order, change),
                Fact::VoucherUsed(voucher, _) => self.use_up(*voucher),
                _ => continue,
            };
            match read {
                Ok(()) => check = Check::Holds,
                Err(what) => return Check::Breaks(format!("{app_server} writes {what}")),
            }
        }
        check
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        let mut check = Check::Nothing;
        for (peer, machine, _) in world.app_servers() {
            for order in machine.orders() {
                check = Check::Holds;
                let phase = order.phase();
                let is_over = match phase {
                    Phase::Open | Phase::Fulfilled => true,
                    Phase::Void | Phase::Refunded => {
                        order.legs.iter().all(|leg| leg.state == LegState::Ended)
                    }
                    Phase::Reserving | Phase::Decided | Phase::Posted | Phase::Paid => false,
                };
                if !is_over {
                    let legs: Vec<&LegState> = order.legs.iter().map(|leg| &leg.state).collect();
                    return Check::Breaks(format!(
                        "order {} of {peer} is {phase} in the end: {legs:?}",
                        order.id
                    ));
                }
            }
        }
        check
    }
}

impl Sold {
    fn open(&mut self, order: &Order) -> Result<(), String> {
        let bill = Bill {
            order: order.clone(),
            taken: BTreeMap::new(),
            paid: 0,
            is_fulfilled: false,
            voucher: None,
        };
        match self.orders.insert(order.id, bill) {
            None => Ok(()),
            Some(_) => Err(format!("that order {} is opened again", order.id)),
        }
    }

    fn change(&mut self, id: OrderId, change: &OrderChange) -> Result<(), String> {
        let Some(bill) = self.orders.get_mut(&id) else {
            return Err(format!("of order {id}, which nobody opened"));
        };
        match change {
            OrderChange::Redeemed(legs) => bill.order.legs.clone_from(legs),
            OrderChange::Taken(leg, signed) => {
                let value = content(signed)?.value.minor;
                bill.taken.insert(*leg, value);
            }
            OrderChange::Paid(payment) => {
                let paid = (id, payment.reference.clone());
                if payment.minor > 0 && !self.payments.contains(&paid) {
                    return Err(format!("that order {id} is paid, which nobody has done"));
                }
                bill.paid = payment.minor;
            }
            OrderChange::Fulfilled(goods) => {
                bill.fulfil(goods)?;
                self.issued.extend(bill.voucher);
            }
            OrderChange::Refunded => self.over.extend(bill.voucher),
            OrderChange::Reserved { .. }
            | OrderChange::Decided
            | OrderChange::Posted
            | OrderChange::Voided(_)
            | OrderChange::FoundTaken(_)
            | OrderChange::LegEnded(_) => {}
        }
        Ok(())
    }

    fn use_up(&mut self, voucher: VoucherId) -> Result<(), String> {
        if !self.issued.remove(&voucher) || self.over.contains(&voucher) {
            return Err(format!("that voucher {voucher} is used, which is not good"));
        }
        Ok(())
    }
}

impl Bill {
    fn fulfil(&mut self, goods: &Goods) -> Result<(), String> {
        let id = self.order.id;
        if std::mem::replace(&mut self.is_fulfilled, true) {
            return Err(format!("that order {id} is fulfilled again"));
        }
        let legs = &self.order.legs;
        if let Some(leg) = legs.iter().find(|leg| !self.taken.contains_key(&leg.id)) {
            let leg = leg.id;
            return Err(format!(
                "that order {id} is fulfilled without redemption {leg}"
            ));
        }
        let taken: u64 = self.taken.values().sum();
        let is_paid = match (&self.order.subject, goods) {
            (Subject::License { .. }, Goods::License { .. }) => {
                taken + self.paid == self.order.fee.minor
            }
            (Subject::Renewal { points, .. }, Goods::License { .. }) => {
                let redeemed: u64 = legs.iter().map(|leg| leg.points.as_micro()).sum();
                redeemed == points.as_micro()
            }
            (Subject::Voucher { most, .. }, Goods::Voucher { order, voucher }) => {
                self.voucher = Some(content(voucher)?.id);
                order.value.minor == taken && taken <= most.minor
            }
            _ => false,
        };
        if is_paid {
            return Ok(());
        }
        let (paid, fee) = (self.paid, self.order.fee);
        Err(format!(
            "that order {id} is fulfilled for {taken} in points and {paid} in money, it costs {fee}"
        ))
    }
}
