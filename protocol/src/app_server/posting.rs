//! The posting rules of an app server: what each event does to its books. Pure, one function an event.
//!
//! | event | transfers |
//! |---|---|
//! | charge | money: receivable from the user, and from each coordinator -> sales |
//! | payment | money: outside -> receivable from the user |
//! | refund | money: sales -> receivable from the user, and from there to outside what was paid |
//! | reversal acknowledged | money: sales -> receivable from the coordinator |
//! | supply fee | money: receivable from the coordinator -> sales |
//! | settlement paid | money: outside -> receivable from the coordinator, or backwards |
//!
//! A charge is the whole fee: the user's part and the coordinators' parts add up to it. What stands on a receivable is
//! minus what is owed; it is zero when everything is paid.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use crate::account::{Account, Commodity, Money};
use crate::books::{Posting, Step, Transfer};
use crate::id::{NodeId, OrderId, PostingId, RedemptionId};
use crate::posting::posting_id;
use crate::settlement::Settlement;

const fn moved(from: Account, to: Account, money: Money) -> Transfer {
    Transfer {
        from,
        to,
        commodity: Commodity::Money(money.currency),
        amount: money.minor,
        step: Step::Move,
    }
}

/// Keeps the transfers that transfer something; none if there are none.
fn posting(id: PostingId, transfers: impl IntoIterator<Item = Transfer>) -> Option<Posting> {
    let transfers = transfers.into_iter();
    let transfers: Vec<Transfer> = transfers.filter(|transfer| transfer.amount > 0).collect();
    (!transfers.is_empty()).then_some(Posting { id, transfers })
}

/// All points of an order are posted, or it needs none: the fee is owed, `due` by the user, the rest by coordinators.
#[must_use]
pub fn charge(
    order: OrderId,
    (user, due): (NodeId, Money),
    parts: &[(NodeId, Money)],
) -> Option<Posting> {
    let owed =
        |(from, money): &(NodeId, Money)| moved(Account::Receivable(*from), Account::Sales, *money);
    let transfers = [(user, due)]
        .iter()
        .chain(parts)
        .map(owed)
        .collect::<Vec<_>>();
    posting(posting_id("charge", order.as_bytes()), transfers)
}

/// The id of a payment by its outside reference: the same payment is never posted twice.
#[must_use]
pub fn payment_id(reference: &str) -> PostingId {
    posting_id("payment", reference.as_bytes())
}

/// A user pays.
#[must_use]
pub fn payment(user: NodeId, money: Money, reference: &str) -> Option<Posting> {
    let paid = moved(Account::Outside, Account::Receivable(user), money);
    posting(payment_id(reference), [paid])
}

/// A user owes nothing for an order any more, and gets back what was paid for it.
#[must_use]
pub fn refund(order: OrderId, (user, due): (NodeId, Money), paid: Money) -> Option<Posting> {
    let receivable = Account::Receivable(user);
    let transfers = [
        moved(Account::Sales, receivable, due),
        moved(receivable, Account::Outside, paid),
    ];
    posting(posting_id("refund", order.as_bytes()), transfers)
}

/// A coordinator has given points back, and owes nothing for them any more.
#[must_use]
pub fn reversal(id: RedemptionId, coordinator: NodeId, value: Money) -> Option<Posting> {
    let back = moved(Account::Sales, Account::Receivable(coordinator), value);
    posting(posting_id("reversed", id.as_bytes()), [back])
}

fn settlement_id(kind: &str, coordinator: NodeId, number: u32) -> PostingId {
    posting_id(kind, &crate::codec::to_bytes(&(coordinator, number)))
}

/// A coordinator owes the fee for the devices of a settlement.
#[must_use]
pub fn supply_fee(coordinator: NodeId, number: u32, fee: Money) -> Option<Posting> {
    let owed = moved(Account::Receivable(coordinator), Account::Sales, fee);
    posting(settlement_id("supply", coordinator, number), [owed])
}

/// A settlement is paid, by whoever owes it.
#[must_use]
pub fn settlement(settled: &Settlement) -> Option<Posting> {
    let receivable = Account::Receivable(settled.coordinator);
    let (currency, minor) = (settled.currency, settled.due.unsigned_abs());
    let (from, to) = if settled.due < 0 {
        (receivable, Account::Outside)
    } else {
        (Account::Outside, receivable)
    };
    let id = settlement_id("settlement", settled.coordinator, settled.number);
    posting(id, [moved(from, to, Money { currency, minor })])
}
