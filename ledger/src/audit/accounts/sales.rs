//! What an app server's log has: agreements and redemptions that coordinators signed, orders that are charged, paid and
//! undone, and settlements.

use std::collections::{BTreeMap, HashMap, HashSet};

use tally_protocol::account::Money;
use tally_protocol::agreement::Agreement;
use tally_protocol::app_server::posting;
use tally_protocol::books::Posting;
use tally_protocol::countersignature::VerifiedPair;
use tally_protocol::entry::{Event, Part};
use tally_protocol::id::{Hash, NodeId, OrderId, PostingId, RedemptionId};
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::settlement::{Claim, Counted, DISPUTED_MAX, SETTLED_MAX, Settlement};
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;

use super::{Accounts, check_text, check_time, too_large};
use crate::audit::finding::Problem;

/// What an app server has sold, and what it is owed for it.
#[derive(Debug, Default)]
pub(super) struct Sales {
    /// By their names. Of each coordinator the numbers rise.
    agreements: HashMap<Hash, Agreement>,
    newest: HashMap<NodeId, u32>,
    /// Points that coordinators have taken.
    taken: HashMap<RedemptionId, Taken>,
    orders: HashMap<OrderId, Charged>,
    /// Payments of users: each reference once.
    payments: HashSet<PostingId>,
    coordinators: HashMap<NodeId, Account>,
    /// Settlements that are not paid.
    unpaid: HashMap<(NodeId, u32), Settlement>,
}

/// Points that were taken for an order.
#[derive(Debug)]
struct Taken {
    coordinator: NodeId,
    order: OrderId,
    owner: NodeId,
    money: Money,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Taken,
    Charged,
    Reversed,
}

/// An order that was charged.
#[derive(Debug)]
struct Charged {
    user: NodeId,
    due: Money,
    is_paid: bool,
    is_refunded: bool,
}

/// What no settlement with a coordinator counts, by when it was written.
#[derive(Debug, Default)]
struct Account {
    last: u32,
    /// When devices were counted last.
    supplied: Option<Timestamp>,
    charges: BTreeMap<RedemptionId, Timestamp>,
    reversals: BTreeMap<RedemptionId, Timestamp>,
}

impl Account {
    /// Returns what a settlement should count and does not: all that was written before it was stated, but for what its
    /// coordinator does not know. What does not fit comes into the next.
    fn missing(
        &self,
        settled: &Settlement,
        (redeemed, reversed): (usize, usize),
    ) -> Option<RedemptionId> {
        let is_due = |(id, at): &(&RedemptionId, &Timestamp)| {
            **at < settled.until && settled.disputed.binary_search(id).is_err()
        };
        let charge = self.charges.iter().find(is_due);
        let counted = |(id, _): &(&RedemptionId, &Timestamp)| !self.charges.contains_key(id);
        let reversal = self.reversals.iter().filter(counted).find(is_due);
        let charge = charge.filter(|_| redeemed < SETTLED_MAX);
        let reversal = reversal.filter(|_| reversed < SETTLED_MAX);
        let first = charge.or(reversal).map(|(id, _)| *id);
        first.filter(|_| settled.disputed.len() < DISPUTED_MAX)
    }
}

impl Accounts {
    pub(super) fn bought(&mut self, pair: &VerifiedPair<Agreement>) -> Result<(), Problem> {
        let terms = pair.value();
        let newest = self.sales.newest.entry(terms.coordinator).or_default();
        if terms.number <= *newest {
            let (number, newest) = (terms.number, *newest);
            return Err(Problem::Agreement {
                reason: format!("its number is {number}, that of the one before is {newest}"),
            });
        }
        *newest = terms.number;
        self.sales.agreements.insert(pair.hash(), terms.clone());
        Ok(())
    }

    /// A coordinator says that it has taken points for an order here.
    pub(super) fn taken(
        &mut self,
        redemption: &Verified<Redemption>,
        redeem: &Verified<Redeem>,
    ) -> Result<(), Problem> {
        let (id, signer) = (RedemptionId::of(redeem.signed()), redemption.signer());
        if redeem.coordinator != signer {
            let of = redeem.coordinator;
            return Err(redeeming(format!(
                "{signer} signed it, its points are of {of}"
            )));
        }
        let taken = Taken {
            coordinator: signer,
            order: redeem.order,
            owner: redeem.owner,
            money: redemption.value,
            state: State::Taken,
        };
        match self.sales.taken.insert(id, taken) {
            None => Ok(()),
            Some(_) => Err(redeeming(format!("points were taken for {id} before"))),
        }
    }

    /// Returns the posting of an event about an order.
    pub(super) fn sold(
        &mut self,
        written: Timestamp,
        event: &Event,
    ) -> Result<Option<Posting>, Problem> {
        if let Event::OrderCharged {
            order,
            user,
            fee,
            due,
            parts,
        } = event
        {
            return self.charged(written, (*order, *user), (*fee, *due), parts);
        }
        if let Event::OrderPaid {
            order,
            user,
            money,
            reference,
        } = event
        {
            return self.paid((*order, *user), *money, reference);
        }
        if let Event::OrderRefunded {
            order,
            user,
            due,
            paid,
        } = event
        {
            return self.refunded((*order, *user), *due, *paid);
        }
        Ok(None)
    }

    fn charged(
        &mut self,
        written: Timestamp,
        (order, user): (OrderId, NodeId),
        (fee, due): (Money, Money),
        parts: &[Part],
    ) -> Result<Option<Posting>, Problem> {
        let charged = Charged {
            user,
            due,
            is_paid: false,
            is_refunded: false,
        };
        if self.sales.orders.insert(order, charged).is_some() {
            return Err(ordering("it was charged before"));
        }
        let mut sum = due.minor;
        for part in parts {
            let (id, taken) = (part.redemption, self.sales.taken.get_mut(&part.redemption));
            let says = (part.coordinator, order, user, part.money, State::Taken);
            let taken = taken.filter(|taken| {
                let is = (taken.coordinator, taken.order, taken.owner, taken.money);
                (is.0, is.1, is.2, is.3, taken.state) == says
            });
            let taken = taken.ok_or_else(|| {
                let by = part.coordinator;
                ordering(&format!("{by} has not taken points for it as {id}"))
            })?;
            taken.state = State::Charged;
            let account = self.sales.coordinators.entry(part.coordinator).or_default();
            account.charges.insert(id, written);
            sum = sum.checked_add(part.money.minor).ok_or_else(too_large)?;
        }
        let mut moneys = parts.iter().map(|part| part.money).chain([due]);
        if moneys.any(|money| money.currency != fee.currency) || sum != fee.minor {
            return Err(ordering(
                "its fee is not what the user and coordinators owe",
            ));
        }
        let owed = |part: &Part| (part.coordinator, part.money);
        let parts: Vec<(NodeId, Money)> = parts.iter().map(owed).collect();
        Ok(posting::charge(order, (user, due), &parts))
    }

    fn paid(
        &mut self,
        (order, user): (OrderId, NodeId),
        money: Money,
        reference: &str,
    ) -> Result<Option<Posting>, Problem> {
        check_text(reference)?;
        let charged = self.sales.orders.get_mut(&order);
        let is_open = |charged: &&mut Charged| {
            (charged.user, charged.due) == (user, money) && !charged.is_paid && !charged.is_refunded
        };
        let charged = charged.filter(is_open);
        let charged = charged.ok_or_else(|| ordering("so much is not owed for it"))?;
        charged.is_paid = true;
        let id = posting::payment_id(reference);
        if !self.sales.payments.insert(id) {
            return Err(Problem::PostedBefore { id });
        }
        Ok(posting::payment(user, money, reference))
    }

    fn refunded(
        &mut self,
        (order, user): (OrderId, NodeId),
        due: Money,
        paid: Money,
    ) -> Result<Option<Posting>, Problem> {
        let charged = self.sales.orders.get_mut(&order);
        let charged = charged.filter(|charged| {
            let there = if charged.is_paid { due.minor } else { 0 };
            (charged.user, charged.due, charged.is_refunded) == (user, due, false)
                && (paid.currency, paid.minor) == (due.currency, there)
        });
        let charged = charged.ok_or_else(|| ordering("it was not charged and paid like that"))?;
        charged.is_refunded = true;
        Ok(posting::refund(order, (user, due), paid))
    }

    /// A coordinator has given points back that were charged for an order that came to nothing.
    pub(super) fn given_back(
        &mut self,
        written: Timestamp,
        reversal: &Reversal,
    ) -> Result<Option<Posting>, Problem> {
        let id = reversal.redemption;
        let sales = &mut self.sales;
        let taken = sales.taken.get_mut(&id);
        let taken = taken.filter(|taken| taken.state == State::Charged);
        let taken = taken.ok_or_else(|| redeeming(format!("nothing was charged for {id}")))?;
        let order = sales.orders.get(&taken.order);
        if !order.is_some_and(|order| order.is_refunded) {
            return Err(redeeming(format!("order {} was not undone", taken.order)));
        }
        taken.state = State::Reversed;
        let account = sales.coordinators.entry(taken.coordinator).or_default();
        account.reversals.insert(id, written);
        Ok(posting::reversal(id, taken.coordinator, taken.money))
    }

    /// A settlement that the app server has stated.
    pub(super) fn stated(
        &mut self,
        written: Timestamp,
        settled: &Settlement,
        (redeemed, reversed): (&[RedemptionId], &[RedemptionId]),
    ) -> Result<Option<Posting>, Problem> {
        let coordinator = settled.coordinator;
        check_time(settled.until, written)?;
        self.check_fee(settled)?;
        let sales = &mut self.sales;
        let account = sales.coordinators.entry(coordinator).or_default();
        let last = std::mem::replace(&mut account.last, settled.number);
        if settled.number <= last {
            let number = settled.number;
            return Err(settling(format!(
                "its number is {number}, that of the one before is {last}"
            )));
        }
        let worth = |id: &RedemptionId| sales.taken.get(id).map_or(0, |taken| taken.money.minor);
        let claims = |ids: &[RedemptionId]| -> Vec<Claim> {
            ids.iter().map(|id| (*id, worth(id))).collect()
        };
        let is_counted = Counted::of(&claims(redeemed)) == Some(settled.redeemed)
            && Counted::of(&claims(reversed)) == Some(settled.reversed);
        if !is_counted || settled.sum() != Some(settled.due) {
            return Err(settling("it does not add up".to_owned()));
        }
        let mut counts = redeemed.iter().map(|id| (id, account.charges.remove(id)));
        if let Some((id, _)) = counts.find(|(_, at)| at.is_none()) {
            return Err(settling(format!("nothing is owed for {id}")));
        }
        for id in reversed {
            let is_open = account.charges.contains_key(id);
            if is_open || account.reversals.remove(id).is_none() {
                return Err(settling(format!("nothing is owed back for {id}")));
            }
        }
        if let Some(id) = account.missing(settled, (redeemed.len(), reversed.len())) {
            return Err(settling(format!("it leaves {id} out")));
        }
        let of = (coordinator, settled.number);
        sales.unpaid.insert(of, settled.clone());
        let (currency, minor) = (settled.currency, settled.supply_fee);
        let fee = Money { currency, minor };
        Ok(posting::supply_fee(coordinator, settled.number, fee))
    }

    /// Checks that devices are counted once a period, for the fee of an agreement that held.
    fn check_fee(&mut self, settled: &Settlement) -> Result<(), Problem> {
        let agreement = self.sales.agreements.get(&settled.agreement);
        let agreement = agreement.filter(|agreement| {
            (agreement.coordinator, agreement.currency) == (settled.coordinator, settled.currency)
        });
        let unknown = || "it is by an agreement that does not stand before it".to_owned();
        let agreement = agreement.ok_or_else(|| settling(unknown()))?;
        let (devices, until) = (settled.supply_devices, settled.until);
        let fee = u64::from(devices).checked_mul(agreement.supply_fee);
        if fee != Some(settled.supply_fee) || devices > agreement.supply_devices_max {
            let fee = settled.supply_fee;
            return Err(settling(format!("its fee for {devices} devices is {fee}")));
        }
        if devices == 0 {
            return Ok(());
        }
        let account = self.sales.coordinators.entry(settled.coordinator);
        let last = account.or_default().supplied.replace(until);
        let again = last.is_some_and(|last| agreement.period(last) >= agreement.period(until));
        if again || !agreement.holds(until) {
            return Err(settling("it counts devices out of their period".to_owned()));
        }
        Ok(())
    }

    /// Returns the posting that pays a settlement that the app server has stated, if it is one.
    pub(super) fn stated_paid(&mut self, of: (NodeId, u32)) -> Option<Posting> {
        posting::settlement(&self.sales.unpaid.remove(&of)?)
    }
}

fn ordering(reason: &str) -> Problem {
    let reason = reason.to_owned();
    Problem::Order { reason }
}

const fn redeeming(reason: String) -> Problem {
    Problem::Redemption { reason }
}

const fn settling(reason: String) -> Problem {
    Problem::Settlement { reason }
}
