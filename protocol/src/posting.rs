//! The posting rules: what each event does to the books. Pure, one function an event.
//!
//! | event | transfers |
//! |---|---|
//! | deposit, subsidy | money: outside -> customer, or subsidy |
//! | withdrawal | money: customer -> outside |
//! | task accepted | money: a hold, customer -> held for the task |
//! | receipt | points: issued -> spendable and escrow; money: a part of the hold, held -> revenue and reserve |
//! | receipt for known answers | the same points; money: subsidy -> reserve |
//! | task settled | money: what is left of the hold is free, or has expired |
//! | release | points: escrow -> spendable |
//! | expiry | points: spendable -> expired; money: reserve -> revenue |
//! | payout | points: spendable -> redeemed; money: reserve -> credit -> outside |
//! | refund | money: revenue -> customer |
//! | points reserved | points: spendable -> reserved |
//! | reservation over | points: reserved -> spendable |
//! | points redeemed | points: reserved -> redeemed; money: reserve -> owed to the app server, and revenue |
//! | redemption reversed | the same backwards: redeemed -> spendable; owed and revenue -> reserve |
//! | settlement made | money: the fee for supplied devices, revenue -> owed to the app server |
//! | settlement paid | money: owed to the app server -> outside, or backwards |
//! | clawback | points: escrow and spendable -> issued; money: reserve and revenue -> customer |
//!
//! Points are funded: with each receipt the reserve gets at least what the points that it issues have behind them, and it
//! loses at most that when they go. So the reserve is never less than all points that can be spent, at their cards'
//! reserve. Amounts are rounded once for a whole task, up, not once for each receipt.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use sha2::{Digest, Sha256};

use crate::account::{Account, Commodity, Holder, Lot, Money};
use crate::books::{Books, Hold, Posting, Step, Transfer};
use crate::id::{NodeId, PostingId, ReceiptId, RedemptionId, TaskId};
use crate::points::Points;
use crate::rate_card::{Price, RateCard, Rates};
use crate::receipt::{Receipt, Validation};
use crate::settlement::Settlement;
use crate::time::Timestamp;

/// Returns the id of a posting that `kind` of event makes of `subject`: the first bytes of SHA-256 over both.
#[must_use]
pub fn posting_id(kind: &str, subject: &[u8]) -> PostingId {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(kind)
        .chain_update([0])
        .chain_update(subject)
        .finalize()
        .into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    PostingId::from_bytes(id)
}

/// Returns the name of the hold for a task, which is the posting that makes it.
#[must_use]
pub fn hold_of(task: TaskId) -> PostingId {
    posting_id("task", task.as_bytes())
}

const fn moved(from: Account, to: Account, commodity: Commodity, amount: u64) -> Transfer {
    let step = Step::Move;
    Transfer {
        from,
        to,
        commodity,
        amount,
        step,
    }
}

/// Keeps the transfers that transfer something; none if there are none.
fn posting(id: PostingId, transfers: impl IntoIterator<Item = Transfer>) -> Option<Posting> {
    let transfers: Vec<Transfer> = transfers
        .into_iter()
        .filter(|transfer| transfer.amount > 0)
        .collect();
    (!transfers.is_empty()).then_some(Posting { id, transfers })
}

/// Money comes in from outside, for a customer or for the subsidy account. The outside reference names it: the same
/// payment is never posted twice.
#[must_use]
pub fn deposit(to: Account, money: Money, reference: &str) -> Option<Posting> {
    let commodity = Commodity::Money(money.currency);
    let id = posting_id("deposit", reference.as_bytes());
    posting(id, [moved(Account::Outside, to, commodity, money.minor)])
}

/// Money goes back to outside, from a customer or from the revenue.
#[must_use]
pub fn withdrawal(from: Account, money: Money, reference: &str) -> Option<Posting> {
    let commodity = Commodity::Money(money.currency);
    let id = posting_id("payout", reference.as_bytes());
    posting(id, [moved(from, Account::Outside, commodity, money.minor)])
}

/// A task is accepted: its highest price is held until its deadline. None if it costs nothing.
#[must_use]
pub fn acceptance(
    task: TaskId,
    customer: NodeId,
    max_price: Money,
    until: Timestamp,
) -> Option<Posting> {
    let hold = Transfer {
        from: Account::Customer(customer),
        to: Account::Held(task),
        commodity: Commodity::Money(max_price.currency),
        amount: max_price.minor,
        step: Step::Hold { until },
    };
    posting(hold_of(task), [hold])
}

/// What a task has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Points of all receipts that the customer pays.
    pub points: Points,
    /// What the customer has paid for them, in minor units.
    pub price: u64,
    /// What of that is in the reserve, in minor units.
    pub reserve: u64,
}

impl Cost {
    /// Returns the cost with `points` more; none if it does not fit.
    #[must_use]
    pub fn with(self, points: Points, rates: &Rates) -> Option<Self> {
        let points = self.points.checked_add(points)?;
        // Rounding up both may make the reserve one unit dearer than the price; the price decides.
        let price = rates.price.of(points)?;
        let reserve = rates.reserve.of(points)?.min(price);
        Some(Self {
            points,
            price,
            reserve,
        })
    }
}

/// A receipt is issued. `cost` is that of its task before and after it, without meaning for known answers. None if the
/// amounts do not fit.
#[must_use]
pub fn receipt(
    (id, receipt): (ReceiptId, &Receipt),
    (customer, card): (NodeId, &RateCard),
    (before, after): (Cost, Cost),
) -> Option<Posting> {
    let rates = &card.rates;
    let escrowed = rates.escrowed(receipt.points).as_micro();
    let free = receipt.points.as_micro().checked_sub(escrowed)?;
    let (since, released) = rates.spendable_since(receipt.done_at);
    let lot = |since| Lot {
        holder: receipt.holder,
        since,
        card: card.version,
    };
    let issue = |to, amount| moved(Account::Issued, to, Commodity::Points, amount);
    let mut transfers = vec![
        issue(Account::Spendable(lot(since)), free),
        issue(Account::Escrow(lot(released)), escrowed),
    ];
    let money = Commodity::Money(rates.currency);
    match receipt.validation {
        Validation::Quorum(_) => {
            let (task, held) = (receipt.task, Account::Held(receipt.task));
            let price = after.price.checked_sub(before.price)?;
            let reserve = after.reserve.checked_sub(before.reserve)?.min(price);
            transfers.push(Transfer {
                from: Account::Customer(customer),
                to: held,
                commodity: money,
                amount: price,
                step: Step::Post(hold_of(task)),
            });
            transfers.push(moved(held, Account::Reserve, money, reserve));
            transfers.push(moved(
                held,
                Account::Revenue,
                money,
                price.checked_sub(reserve)?,
            ));
        }
        Validation::KnownAnswer => {
            let reserve = rates.reserve.of(receipt.points)?;
            transfers.push(moved(Account::Subsidy, Account::Reserve, money, reserve));
        }
    }
    posting(posting_id("receipt", id.as_bytes()), transfers)
}

/// A task is settled: nothing of its hold is needed any more, or its time is over.
#[must_use]
pub fn settlement(task: TaskId, hold: &Hold, now: Timestamp) -> Option<Posting> {
    let id = hold_of(task);
    let step = if hold.until <= now {
        Step::Expire(id)
    } else {
        Step::Void(id)
    };
    let Hold {
        from,
        to,
        commodity,
        left: amount,
        ..
    } = *hold;
    posting(
        posting_id("settled", task.as_bytes()),
        [Transfer {
            from,
            to,
            commodity,
            amount,
            step,
        }],
    )
}

/// Lots leave escrow because their time has come.
#[must_use]
pub fn release(at: Timestamp, lots: &[(Lot, Points)]) -> Option<Posting> {
    let release = |(lot, points): &(Lot, Points)| {
        moved(
            Account::Escrow(*lot),
            Account::Spendable(*lot),
            Commodity::Points,
            points.as_micro(),
        )
    };
    posting(lots_id("release", at, lots), lots.iter().map(release))
}

/// Lots expire that nobody spent in time. `rates` are those of their card.
#[must_use]
pub fn expiry(at: Timestamp, lots: &[(Lot, Points)], rates: &Rates) -> Option<Posting> {
    let money = Commodity::Money(rates.currency);
    let mut transfers = Vec::with_capacity(lots.len().saturating_mul(2));
    for (lot, points) in lots {
        let freed = rates.reserve.of_floor(*points)?;
        transfers.push(moved(
            Account::Spendable(*lot),
            Account::Expired(lot.holder),
            Commodity::Points,
            points.as_micro(),
        ));
        transfers.push(moved(Account::Reserve, Account::Revenue, money, freed));
    }
    posting(lots_id("expiry", at, lots), transfers)
}

/// At one moment a lot is released, and expires, as a whole; what comes to it later goes at a later one.
fn lots_id(kind: &str, at: Timestamp, lots: &[(Lot, Points)]) -> PostingId {
    posting_id(kind, &crate::codec::to_bytes(&(at, lots)))
}

/// Returns which points of an owner are drawn for `money`: the oldest first, the fewest that have so much behind them.
/// `rates` are those of a version of the card. Points with nothing behind them, or another currency, stay.
///
/// # Errors
/// What all of them have behind them, in minor units, if that is less.
pub fn draw<'a>(
    books: &Books,
    owner: NodeId,
    money: Money,
    rates: impl Fn(u32) -> Option<&'a Rates>,
) -> Result<Vec<(Lot, Points, &'a Rates)>, u64> {
    let (mut drawn, mut left) = (Vec::new(), money.minor);
    for (lot, points) in spendable(books, owner) {
        let backed = |rates: &&Rates| rates.currency == money.currency && rates.reserve.minor > 0;
        let Some(rates) = rates(lot.card).filter(backed) else {
            continue;
        };
        if left == 0 {
            break;
        }
        let needed = u128::from(left).saturating_mul(u128::from(rates.reserve.micro_points));
        let needed = needed.div_ceil(u128::from(rates.reserve.minor));
        let needed = u64::try_from(needed).unwrap_or(u64::MAX);
        let part = Points::from_micro(needed.min(points.as_micro()));
        left = left.saturating_sub(rates.reserve.of_floor(part).unwrap_or(0));
        drawn.push((lot, part, rates));
    }
    if left == 0 {
        Ok(drawn)
    } else {
        Err(money.minor.saturating_sub(left))
    }
}

/// Returns the lots that an owner may spend, the oldest first.
fn spendable(books: &Books, owner: NodeId) -> Vec<(Lot, Points)> {
    let edge = |byte: u8, millis: u64, card: u32| {
        let device = NodeId::from_bytes([byte; 32]);
        let lot = Lot {
            holder: Holder { owner, device },
            since: Timestamp::from_millis(millis),
            card,
        };
        (Account::Spendable(lot), Commodity::Points)
    };
    let lines = books.range(edge(0, 0, 0)..=edge(0xff, u64::MAX, u32::MAX));
    let lots = lines.filter_map(|((account, _), balance)| {
        let Account::Spendable(lot) = account else {
            return None;
        };
        let there = u64::try_from(balance.available()).ok()?;
        (there > 0).then_some((*lot, Points::from_micro(there)))
    });
    let mut lots: Vec<(Lot, Points)> = lots.collect();
    lots.sort_unstable_by_key(|(lot, _)| (lot.since, lot.card, lot.holder));
    lots
}

/// Spendable points of an owner are paid out at what is behind them. `lots` are what is drawn, the oldest first, each
/// with the rates of its card.
#[must_use]
pub fn payout(owner: NodeId, lots: &[(Lot, Points, &Rates)], reference: &str) -> Option<Posting> {
    let mut transfers = Vec::new();
    for (lot, points, rates) in lots {
        let money = Commodity::Money(rates.currency);
        let paid = rates.reserve.of_floor(*points)?;
        let credit = Account::Credit(owner);
        transfers.push(moved(
            Account::Spendable(*lot),
            Account::Redeemed(lot.holder),
            Commodity::Points,
            points.as_micro(),
        ));
        transfers.push(moved(Account::Reserve, credit, money, paid));
        transfers.push(moved(credit, Account::Outside, money, paid));
    }
    posting(posting_id("payout", reference.as_bytes()), transfers)
}

/// The most lots that one redemption draws: each is a transfer, and two more are within the bound of a posting.
const LOTS_MAX: usize = 1_000;

/// Returns which points of an owner are drawn for a redemption, of the lots that `counts` says yes to (those whose card is
/// in the currency of the agreement): the oldest first.
///
/// # Errors
/// What can be drawn at once, if that is less: all that the owner can spend, of the oldest 1,000 lots.
pub fn draw_points(
    books: &Books,
    (owner, points): (NodeId, Points),
    counts: impl Fn(&Lot) -> bool,
) -> Result<Vec<(Lot, Points)>, Points> {
    let (mut drawn, mut left) = (Vec::new(), points.as_micro());
    let lots = spendable(books, owner).into_iter();
    let lots = lots.filter(|(lot, _)| counts(lot));
    for (lot, there) in lots.take(LOTS_MAX) {
        if left == 0 {
            break;
        }
        let part = left.min(there.as_micro());
        left = left.saturating_sub(part);
        drawn.push((lot, Points::from_micro(part)));
    }
    if left == 0 {
        Ok(drawn)
    } else {
        Err(Points::from_micro(points.as_micro().saturating_sub(left)))
    }
}

/// Returns what drawn points are worth at an app server: by the agreement, but never more than what their card had put
/// aside for them. Rounded down once for each price, not for each lot. None if it does not fit.
#[must_use]
pub fn value_of(lots: &[(Lot, Points, &Rates)], agreed: Price) -> Option<u64> {
    let lesser = |reserve: Price| {
        let across = |one: Price, other: Price| {
            u128::from(one.minor).saturating_mul(u128::from(other.micro_points))
        };
        if across(reserve, agreed) < across(agreed, reserve) {
            reserve
        } else {
            agreed
        }
    };
    let lots_at = lots.iter();
    let worth = worth(lots_at.map(|(_, points, rates)| (lesser(rates.reserve), *points)))?;
    Some(worth.min(behind(lots)?))
}

/// Points are set aside for a redemption.
#[must_use]
pub fn reservation(id: RedemptionId, lots: &[(Lot, Points)]) -> Option<Posting> {
    let reserved = Account::Reserved(id);
    let set_aside = |(lot, points): &(Lot, Points)| {
        let from = Account::Spendable(*lot);
        moved(from, reserved, Commodity::Points, points.as_micro())
    };
    posting(
        posting_id("reserve", id.as_bytes()),
        lots.iter().map(set_aside),
    )
}

/// Points that were set aside are free again.
#[must_use]
pub fn reservation_over(id: RedemptionId, lots: &[(Lot, Points)]) -> Option<Posting> {
    let reserved = Account::Reserved(id);
    let give_back = |(lot, points): &(Lot, Points)| {
        let to = Account::Spendable(*lot);
        moved(reserved, to, Commodity::Points, points.as_micro())
    };
    posting(
        posting_id("void", id.as_bytes()),
        lots.iter().map(give_back),
    )
}

/// Points that were set aside are taken. `lots` come with the rates of their cards; `value` is owed to the app server, and
/// what else stood behind the points is earned.
#[must_use]
pub fn redemption(
    id: RedemptionId,
    lots: &[(Lot, Points, &Rates)],
    (app_server, value): (NodeId, Money),
) -> Option<Posting> {
    let (reserved, money) = (Account::Reserved(id), Commodity::Money(value.currency));
    let mut transfers = Vec::with_capacity(lots.len().saturating_add(2));
    for (lot, points, _) in lots {
        let to = Account::Redeemed(lot.holder);
        transfers.push(moved(reserved, to, Commodity::Points, points.as_micro()));
    }
    let rest = behind(lots)?.checked_sub(value.minor)?;
    let payable = Account::Payable(app_server);
    transfers.push(moved(Account::Reserve, payable, money, value.minor));
    transfers.push(moved(Account::Reserve, Account::Revenue, money, rest));
    posting(posting_id("redeem", id.as_bytes()), transfers)
}

/// Redeemed points are given back, into the lots that they came from.
#[must_use]
pub fn reversal(
    id: RedemptionId,
    lots: &[(Lot, Points, &Rates)],
    (app_server, value): (NodeId, Money),
) -> Option<Posting> {
    let money = Commodity::Money(value.currency);
    let rest = behind(lots)?.checked_sub(value.minor)?;
    let payable = Account::Payable(app_server);
    let mut transfers = vec![
        moved(payable, Account::Reserve, money, value.minor),
        moved(Account::Revenue, Account::Reserve, money, rest),
    ];
    for (lot, points, _) in lots {
        let (from, to) = (Account::Redeemed(lot.holder), Account::Spendable(*lot));
        transfers.push(moved(from, to, Commodity::Points, points.as_micro()));
    }
    posting(posting_id("reverse", id.as_bytes()), transfers)
}

/// An app server is owed the fee for the devices of a settlement.
#[must_use]
pub fn supply_fee(settled: &Settlement) -> Option<Posting> {
    let payable = Account::Payable(settled.app_server);
    let money = Commodity::Money(settled.currency);
    let owed = moved(Account::Revenue, payable, money, settled.supply_fee);
    posting(settlement_id("supply", settled), [owed])
}

/// A settlement is paid, by whoever owes it. None if nothing is due.
#[must_use]
pub fn settlement_paid(settled: &Settlement) -> Option<Posting> {
    let payable = Account::Payable(settled.app_server);
    let (from, to) = if settled.due < 0 {
        (Account::Outside, payable)
    } else {
        (payable, Account::Outside)
    };
    let money = Commodity::Money(settled.currency);
    let paid = moved(from, to, money, settled.due.unsigned_abs());
    posting(settlement_id("settlement", settled), [paid])
}

fn settlement_id(kind: &str, settled: &Settlement) -> PostingId {
    let subject = (settled.app_server, settled.number);
    posting_id(kind, &crate::codec::to_bytes(&subject))
}

/// Returns what stands behind points, in minor units.
fn behind(lots: &[(Lot, Points, &Rates)]) -> Option<u64> {
    worth(
        lots.iter()
            .map(|(_, points, rates)| (rates.reserve, *points)),
    )
}

/// Returns what points are worth at their prices, rounded down once for each price.
fn worth(points: impl Iterator<Item = (Price, Points)>) -> Option<u64> {
    let mut sums: Vec<(Price, Points)> = Vec::new();
    for (price, points) in points {
        match sums.iter_mut().find(|(of, _)| *of == price) {
            Some((_, sum)) => *sum = sum.checked_add(points)?,
            None => sums.push((price, points)),
        }
    }
    let mut sums = sums.into_iter();
    sums.try_fold(0_u64, |sum, (price, points)| {
        sum.checked_add(price.of_floor(points)?)
    })
}

/// A customer gets money back that the coordinator had earned.
#[must_use]
pub fn refund(customer: NodeId, money: Money, reference: &str) -> Option<Posting> {
    let commodity = Commodity::Money(money.currency);
    let id = posting_id("refund", reference.as_bytes());
    posting(
        id,
        [moved(
            Account::Revenue,
            Account::Customer(customer),
            commodity,
            money.minor,
        )],
    )
}

/// A receipt is taken back: its points as far as they are still there, its whole price to the customer, as far as
/// possible out of the reserve that the points had. `issued` is the posting of the receipt.
#[must_use]
pub fn clawback(
    id: ReceiptId,
    issued: &Posting,
    (books, rates): (&Books, &Rates),
) -> Option<Posting> {
    let mut transfers = Vec::new();
    let (mut taken, mut price, mut customer) = (0_u64, 0_u64, None);
    for transfer in &issued.transfers {
        match (transfer.to, transfer.step) {
            (Account::Spendable(lot), _) => {
                taken = taken.checked_add(take_back(
                    books,
                    &[Account::Spendable(lot)],
                    transfer.amount,
                    &mut transfers,
                )?)?;
            }
            (Account::Escrow(lot), _) => {
                let from = [Account::Escrow(lot), Account::Spendable(lot)];
                taken =
                    taken.checked_add(take_back(books, &from, transfer.amount, &mut transfers)?)?;
            }
            (Account::Held(_), Step::Post(_)) => {
                (price, customer) = (transfer.amount, Some(transfer.from));
            }
            _ => {}
        }
    }
    let freed = rates.reserve.of_floor(Points::from_micro(taken))?;
    let money = Commodity::Money(rates.currency);
    // What nobody paid for was paid by the subsidy account.
    let to = customer.unwrap_or(Account::Subsidy);
    let from_reserve = if customer.is_some() {
        freed.min(price)
    } else {
        freed
    };
    transfers.push(moved(Account::Reserve, to, money, from_reserve));
    transfers.push(moved(
        Account::Revenue,
        to,
        money,
        price.saturating_sub(from_reserve),
    ));
    posting(posting_id("clawback", id.as_bytes()), transfers)
}

/// Takes up to `amount` points from these accounts, one after another. Returns how many there were.
fn take_back(
    books: &Books,
    from: &[Account],
    amount: u64,
    transfers: &mut Vec<Transfer>,
) -> Option<u64> {
    let mut left = amount;
    for account in from {
        // What an earlier transfer of the same posting takes is not there any more.
        let earlier = transfers
            .iter()
            .filter(|transfer| transfer.from == *account)
            .map(|transfer| transfer.amount);
        let there =
            u64::try_from(books.balance(*account, Commodity::Points).available()).unwrap_or(0);
        let there = there.saturating_sub(earlier.sum());
        let part = there.min(left);
        if part > 0 {
            transfers.push(moved(*account, Account::Issued, Commodity::Points, part));
        }
        left = left.checked_sub(part)?;
    }
    amount.checked_sub(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Holder;
    use crate::time::Timestamp;

    fn lot(since: u64) -> Lot {
        let node = NodeId::from_bytes([1; 32]);
        Lot {
            holder: Holder {
                owner: node,
                device: node,
            },
            since: Timestamp::from_millis(since),
            card: 1,
        }
    }

    fn rates(minor: u64) -> Rates {
        Rates {
            reserve: Price {
                minor,
                micro_points: 1_000,
            },
            ..Rates::free("EUR".parse().unwrap())
        }
    }

    #[test]
    fn many_small_lots_are_worth_as_much_as_one() {
        let (rates, agreed) = (rates(12), rates(10).reserve);
        let lots: Vec<_> = (0..100)
            .map(|since| (lot(since), Points::from_micro(55), &rates))
            .collect();
        assert_eq!(value_of(&lots, agreed), Some(55), "55 and not 100 times 0");
        assert_eq!(behind(&lots), Some(66));
    }

    #[test]
    fn points_are_never_worth_more_than_what_their_card_put_aside() {
        let (poor, rich, agreed) = (rates(1), rates(12), rates(10).reserve);
        let lots = [
            (lot(1), Points::from_micro(1_500), &poor),
            (lot(2), Points::from_micro(1_500), &rich),
        ];
        assert_eq!(value_of(&lots, agreed), Some(1 + 15));
    }
}
