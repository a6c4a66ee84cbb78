//! What must hold of the books as a whole: one query each, with the figures that it compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tally_protocol::account::{Account, Commodity};
use tally_protocol::books::Balance;

use super::accounts::Accounts;
use crate::rebuild::Differences;

/// A rule of the books as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Of each commodity, all accounts together come to zero.
    ZeroSum,
    /// Points issued, less those redeemed and expired, are what the owners have, those set aside too.
    OwnersBalance,
    /// The reserve is worth at least the points that the owners have, those of each card at its reserve.
    Reserve,
    /// Every credit of points cites one receipt, every receipt makes one credit, and they come to the same.
    Credits,
    /// Money is held only for tasks that are not settled.
    Holds,
    /// The tables of the books are what the entries give.
    Projection,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ZeroSum => "all accounts together come to zero",
            Self::OwnersBalance => "issued - redeemed - expired = what owners have",
            Self::Reserve => "the reserve covers what owners have",
            Self::Credits => "every credit cites one receipt, and each makes one",
            Self::Holds => "money is held only for tasks that are not settled",
            Self::Projection => "the tables are what the entries give",
        })
    }
}

/// Whether a rule holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// The rule.
    pub rule: Rule,
    /// Whether it holds.
    pub holds: bool,
    /// What was compared.
    pub figures: Vec<Figure>,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The number, an amount with the decimals and the name of its commodity.
    pub value: String,
}

impl Figure {
    fn amount(name: &str, commodity: Commodity, amount: i128) -> Self {
        Self {
            name: name.to_owned(),
            value: format!("{} {commodity}", commodity.show(amount)),
        }
    }

    fn count(name: &str, count: u64) -> Self {
        Self {
            name: name.to_owned(),
            value: count.to_string(),
        }
    }
}

/// Returns what holds of the books after the entries so far.
pub(super) fn of(accounts: &Accounts) -> Vec<Invariant> {
    vec![
        zero_sum(accounts),
        owners_balance(accounts),
        reserve(accounts),
        credits(accounts),
        holds(accounts),
    ]
}

/// Returns whether the tables are what the entries give.
pub(super) fn projection(differences: &Differences) -> Invariant {
    let mut figures = vec![Figure::count("differences", differences.count())];
    let first = differences.first().iter().map(|difference| Figure {
        name: "first".to_owned(),
        value: difference.to_string(),
    });
    figures.extend(first);
    Invariant {
        rule: Rule::Projection,
        holds: differences.count() == 0,
        figures,
    }
}

fn zero_sum(accounts: &Accounts) -> Invariant {
    let mut sums: BTreeMap<Commodity, (i128, i128)> = BTreeMap::new();
    for ((_, commodity), balance) in accounts.books().balances() {
        let sum = sums.entry(*commodity).or_default();
        let pending =
            i128::from(balance.pending_credits).saturating_sub(i128::from(balance.pending_debits));
        *sum = (
            sum.0.saturating_add(balance.posted()),
            sum.1.saturating_add(pending),
        );
    }
    let sums_of = sums.iter().flat_map(|(commodity, (posted, pending))| {
        [
            Figure::amount("posted", *commodity, *posted),
            Figure::amount("pending", *commodity, *pending),
        ]
    });
    Invariant {
        rule: Rule::ZeroSum,
        holds: sums.values().all(|sum| *sum == (0, 0)),
        figures: sums_of.collect(),
    }
}

/// Returns the points that owners have, those that are set aside too, by the version of the card.
fn outstanding(accounts: &Accounts) -> BTreeMap<u32, u128> {
    let mut by_card = accounts.reserved();
    for ((account, _), balance) in accounts.books().balances() {
        if let Account::Escrow(lot) | Account::Spendable(lot) = account {
            let there = u128::try_from(balance.posted()).unwrap_or(0);
            let sum = by_card.entry(lot.card).or_default();
            *sum = sum.saturating_add(there);
        }
    }
    by_card
}

fn owners_balance(accounts: &Accounts) -> Invariant {
    let of = |is_it: fn(&Account) -> bool| {
        let lines = accounts.books().balances();
        let lines = lines.filter(|((account, _), _)| is_it(account));
        lines.fold(0_i128, |sum, (_, balance)| {
            sum.saturating_add(balance.posted())
        })
    };
    let issued = 0_i128.saturating_sub(of(|account| *account == Account::Issued));
    let redeemed = of(|account| matches!(account, Account::Redeemed(_)));
    let expired = of(|account| matches!(account, Account::Expired(_)));
    let reserved = of(|account| matches!(account, Account::Reserved(_)));
    let owners = of(|account| account.holder().is_some());
    let figure = |name, amount| Figure::amount(name, Commodity::Points, amount);
    Invariant {
        rule: Rule::OwnersBalance,
        holds: issued.saturating_sub(redeemed).saturating_sub(expired)
            == owners.saturating_add(reserved),
        figures: vec![
            figure("issued", issued),
            figure("redeemed", redeemed),
            figure("expired", expired),
            figure("set aside", reserved),
            figure("owners", owners),
        ],
    }
}

/// What a receipt brings to the reserve is rounded up once for a task, what a posting takes is rounded down, so the sum
/// of the cards is compared rounded down.
fn reserve(accounts: &Accounts) -> Invariant {
    let outstanding = outstanding(accounts);
    let mut needed: BTreeMap<Commodity, u128> = BTreeMap::new();
    for card in accounts.cards() {
        let (points, reserve) = (outstanding.get(&card.version), card.rates.reserve);
        let value = points
            .copied()
            .unwrap_or(0)
            .saturating_mul(reserve.minor.into());
        let value = value.checked_div(reserve.micro_points.into()).unwrap_or(0);
        let sum = needed
            .entry(Commodity::Money(card.rates.currency))
            .or_default();
        *sum = sum.saturating_add(value);
    }
    let there = |commodity| -> Balance { accounts.books().balance(Account::Reserve, commodity) };
    let (mut holds, mut figures) = (true, Vec::new());
    for (commodity, needed) in needed {
        let needed = i128::try_from(needed).unwrap_or(i128::MAX);
        let there = there(commodity).posted();
        holds &= there >= needed;
        figures.push(Figure::amount("reserve", commodity, there));
        figures.push(Figure::amount("needed", commodity, needed));
    }
    Invariant {
        rule: Rule::Reserve,
        holds,
        figures,
    }
}

fn credits(accounts: &Accounts) -> Invariant {
    let totals = accounts.totals();
    let issued = accounts.books().balance(Account::Issued, Commodity::Points);
    let points = |name, amount: u64| Figure::amount(name, Commodity::Points, amount.into());
    Invariant {
        rule: Rule::Credits,
        holds: totals.receipts == totals.credits && totals.points == issued.debits,
        figures: vec![
            Figure::count("receipts", totals.receipts),
            Figure::count("credits", totals.credits),
            points("on receipts", totals.points),
            points("issued", issued.debits),
            points("taken back", issued.credits),
        ],
    }
}

fn holds(accounts: &Accounts) -> Invariant {
    let (mut all, mut of_settled) = (0_u64, 0_u64);
    for (_, hold) in accounts.books().holds() {
        let is_open = matches!(hold.to, Account::Held(task) if accounts.is_open(task));
        all = all.saturating_add(1);
        of_settled = of_settled.saturating_add((!is_open).into());
    }
    Invariant {
        rule: Rule::Holds,
        holds: of_settled == 0,
        figures: vec![
            Figure::count("holds", all),
            Figure::count("of tasks that are settled", of_settled),
        ],
    }
}
