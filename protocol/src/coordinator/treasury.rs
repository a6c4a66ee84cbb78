//! Money that comes and goes by order of the operator, and points whose time has come.

use std::collections::BTreeSet;

use super::cards::Cards;
use super::timers::Timer;
use super::{Coordinator, Effect, Fact, Movement, Order, OrderFault};
use crate::account::{Account, Commodity, Lot, Money};
use crate::books::{Books, Posting, PostingFault};
use crate::entry::{Event, Payee, REFERENCE_BYTES_MAX};
use crate::id::{NodeId, PostingId};
use crate::message::customer::Terms;
use crate::points::Points;
use crate::posting;
use crate::receipt::Receipt;
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most lots in one posting: two transfers for each are within its bound.
const LOTS_AT_ONCE: usize = 400;

/// Lots by when something is to become of them.
#[derive(Debug, Default)]
pub(super) struct Lots {
    turns: BTreeSet<(Timestamp, Turn)>,
}

/// What becomes of a lot. Those of one card go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Release(Lot),
    Expire { card: u32, lot: Lot },
}

impl Lots {
    /// Finds the lots in the books.
    pub(super) fn of(books: &Books, cards: &Cards) -> Self {
        let mut lots = Self::default();
        for ((account, _), _) in books.balances() {
            lots.add(*account, cards);
        }
        lots
    }

    /// Notes the lots to which a posting gives something.
    pub(super) fn note(&mut self, posting: &Posting, cards: &Cards) {
        for transfer in &posting.transfers {
            self.add(transfer.to, cards);
        }
    }

    fn add(&mut self, account: Account, cards: &Cards) {
        let turn = match account {
            Account::Escrow(lot) => Some((lot.since, Turn::Release(lot))),
            Account::Spendable(lot) => {
                let card = lot.card;
                let expires = cards.version(card).rates.expires(lot.since);
                expires.map(|at| (at, Turn::Expire { card, lot }))
            }
            Account::Issued
            | Account::Redeemed(_)
            | Account::Expired(_)
            | Account::Outside
            | Account::Customer(_)
            | Account::Held(_)
            | Account::Subsidy
            | Account::Revenue
            | Account::Reserve
            | Account::Credit(_)
            | Account::Reserved(_)
            | Account::Payable(_)
            | Account::Receivable(_)
            | Account::Sales => None,
        };
        self.turns.extend(turn);
    }

    fn next(&self) -> Option<Timestamp> {
        self.turns.first().map(|(at, _)| *at)
    }

    /// Takes the next lots whose time has come and of which the same becomes.
    fn take(&mut self, now: Timestamp) -> Vec<Turn> {
        let mut taken: Vec<Turn> = Vec::new();
        while taken.len() < LOTS_AT_ONCE
            && let Some((at, turn)) = self.turns.first().copied()
            && at <= now
            && taken.first().is_none_or(|first| first.goes_with(turn))
        {
            self.turns.pop_first();
            taken.push(turn);
        }
        taken
    }
}

impl Turn {
    const fn goes_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Release(_), Self::Release(_)) => true,
            (Self::Expire { card: first, .. }, Self::Expire { card: second, .. }) => {
                first == second
            }
            (Self::Release(_) | Self::Expire { .. }, _) => false,
        }
    }

    const fn account(self) -> Account {
        match self {
            Self::Release(lot) => Account::Escrow(lot),
            Self::Expire { lot, .. } => Account::Spendable(lot),
        }
    }
}

impl Coordinator {
    /// Returns the books as they are, with all that was appended.
    #[must_use]
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// Returns what a customer is told before it submits; none before the first [`Coordinator::resume`].
    #[must_use]
    pub fn terms(&self, customer: NodeId) -> Option<Terms> {
        let card = self.cards.current()?;
        let line = (
            Account::Customer(customer),
            Commodity::Money(card.rates.currency),
        );
        let balance = self.books.balance(line.0, line.1);
        Some(Terms {
            rate_card: card.signed().clone(),
            available: card
                .rates
                .money(u64::try_from(balance.available()).unwrap_or(0)),
            held: card.rates.money(balance.pending_debits),
        })
    }

    /// Lets the time of the next release or expiry be a deadline.
    pub(super) fn set_lot_timer(&mut self) {
        if let Some(at) = self.lots.next() {
            self.timers.set_at_latest(Timer::Lots, at);
        }
    }

    /// Releases and expires the lots whose time has come.
    pub(super) fn turn_lots(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let turns = self.lots.take(now);
        let there = |turn: &Turn| {
            let balance = self.books.balance(turn.account(), Commodity::Points);
            let amount = u64::try_from(balance.available()).unwrap_or(0);
            let (Turn::Release(lot) | Turn::Expire { lot, .. }) = *turn;
            (amount > 0).then_some((lot, Points::from_micro(amount)))
        };
        let lots: Vec<(Lot, Points)> = turns.iter().filter_map(there).collect();
        match turns.first() {
            Some(Turn::Release(_)) => {
                let posting = posting::release(now, &lots);
                self.append_posted(now, Event::Released { at: now }, posting, out);
            }
            Some(Turn::Expire { card, .. }) => {
                let rates = &self.cards.version(*card).rates;
                let posting = posting::expiry(now, &lots, rates);
                let event = Event::Expired {
                    card: *card,
                    at: now,
                };
                self.append_posted(now, event, posting, out);
            }
            None => {}
        }
        self.set_lot_timer();
    }

    /// Appends an event that means nothing without a posting.
    fn append_posted(
        &mut self,
        now: Timestamp,
        event: Event,
        posting: Option<Posting>,
        out: &mut Vec<Effect>,
    ) {
        if posting.is_some() {
            self.append(now, event, posting, out);
        }
    }

    /// Carries out an order, if it is possible and was not carried out before.
    pub(super) fn carry_out(
        &mut self,
        now: Timestamp,
        order: Order,
        out: &mut Vec<Effect>,
    ) -> Result<PostingId, OrderFault> {
        let (event, posting, reference) = match order {
            Order::Move {
                movement,
                money,
                reference,
            } => {
                let (event, posting) = self.move_money(movement, money, reference.clone())?;
                (event, posting, reference)
            }
            Order::ClawBack {
                receipt,
                issued,
                reason,
            } => {
                let (event, posting) = self.claw_back(&receipt, &issued, reason)?;
                (event, posting, receipt.id().to_string())
            }
            Order::PaySettlement {
                app_server,
                number,
                reference,
            } => {
                check_text(&reference)?;
                let of = (app_server, number);
                let (event, posting) = self.pay_settlement(of, reference.clone())?;
                (event, posting, reference)
            }
        };
        let id = posting.id;
        if self.orders.contains(&id) {
            return Err(OrderFault::Repeated { reference });
        }
        // Tried first: what is not possible is refused, and nothing has changed.
        self.books.excerpt(&posting).post(now, &posting)?;
        self.record(Fact::Ordered(id), out);
        self.append(now, event, Some(posting), out);
        Ok(id)
    }

    fn move_money(
        &self,
        movement: Movement,
        money: Money,
        reference: String,
    ) -> Result<(Event, Posting), OrderFault> {
        self.check(money, &reference)?;
        let posting = match movement {
            Movement::Deposit(to) => posting::deposit(to.account(), money, &reference),
            Movement::PayOut(Payee::Customer(customer)) => {
                posting::withdrawal(Account::Customer(customer), money, &reference)
            }
            Movement::PayOut(Payee::Operator) => {
                posting::withdrawal(Account::Revenue, money, &reference)
            }
            Movement::PayOut(Payee::Owner(owner)) => self.payout(owner, money, &reference)?,
            Movement::Refund(customer) => posting::refund(customer, money, &reference),
        };
        let event = match movement {
            Movement::Deposit(to) => Event::Deposited {
                to,
                money,
                reference,
            },
            Movement::PayOut(to) => Event::PaidOut {
                to,
                money,
                reference,
            },
            Movement::Refund(customer) => Event::Refunded {
                customer,
                money,
                reference,
            },
        };
        Ok((event, posting.ok_or(OrderFault::Amount { money })?))
    }

    fn claw_back(
        &self,
        receipt: &Verified<Receipt>,
        issued: &Posting,
        reason: String,
    ) -> Result<(Event, Posting), OrderFault> {
        check_text(&reason)?;
        let card = self.cards.find(receipt.rate_card);
        let rates = &card.ok_or(OrderFault::NothingLeft)?.rates;
        let receipt = receipt.id();
        let posting = posting::clawback(receipt, issued, (&self.books, rates));
        let event = Event::ClawedBack { receipt, reason };
        Ok((event, posting.ok_or(OrderFault::NothingLeft)?))
    }

    fn check(&self, money: Money, reference: &str) -> Result<(), OrderFault> {
        check_text(reference)?;
        let expected = self.config.rates.currency;
        if money.currency != expected {
            return Err(OrderFault::Currency { money, expected });
        }
        if money.minor == 0 {
            Err(OrderFault::Amount { money })
        } else {
            Ok(())
        }
    }

    /// Draws the oldest points of an owner that have exactly `money` behind them, or a little more.
    fn payout(
        &self,
        owner: NodeId,
        money: Money,
        reference: &str,
    ) -> Result<Option<Posting>, OrderFault> {
        let rates = |card| Some(&self.cards.version(card).rates);
        let drawn = posting::draw(&self.books, owner, money, rates).map_err(|available| {
            OrderFault::Posting(PostingFault::Overdraft {
                account: Box::new(Account::Credit(owner)),
                commodity: Commodity::Money(money.currency),
                available: i128::from(available),
                needed: money.minor,
            })
        })?;
        Ok(posting::payout(owner, &drawn, reference))
    }
}

fn check_text(reference: &str) -> Result<(), OrderFault> {
    let fits = (1..=REFERENCE_BYTES_MAX).contains(&reference.len());
    if fits && !reference.chars().any(char::is_control) {
        return Ok(());
    }
    let reference = reference.chars().take(REFERENCE_BYTES_MAX).collect();
    Err(OrderFault::Reference { reference })
}
