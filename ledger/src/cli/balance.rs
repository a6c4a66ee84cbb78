//! `tally ledger balance`: what stands on the accounts.
//!
//! Points and money are counted apart and never added together. Of each commodity the sum over all accounts is zero,
//! posted and held alike, because every transfer gives what it takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Account, Commodity};
use tally_protocol::books::{Balance, Line};

use super::amount;
use super::name::NodeName;
use super::show;
use super::table::unit;
use super::text::{Columns, Text, grouped};
use crate::store::{ReadError, Reader};

/// The most accounts of one answer: about 40 MB of JSON.
pub const LINES_MAX: u32 = 100_000;

/// Which accounts to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceQuery {
    /// Whose, or with which names.
    pub of: BalanceOf,
    /// The most accounts wanted.
    pub limit: u32,
}

/// A choice of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BalanceOf {
    /// Those whose names start with this; all start with nothing.
    Prefix(String),
    /// Those of an owner.
    Owner(NodeName),
    /// Those of a customer.
    Customer(NodeName),
}

impl BalanceOf {
    fn takes(&self, account: Account) -> bool {
        match self {
            Self::Prefix(prefix) => {
                prefix.is_empty() || account.to_string().starts_with(prefix.as_str())
            }
            Self::Owner(owner) => {
                let of = match (account, account.holder()) {
                    (Account::Credit(of), _) => Some(of),
                    (_, holder) => holder.map(|holder| holder.owner),
                };
                of.is_some_and(|of| owner.is_of(of))
            }
            Self::Customer(customer) => {
                matches!(account, Account::Customer(of) if customer.is_of(of))
            }
        }
    }
}

/// What stands on some accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancePage {
    /// Entries in the log.
    pub size: u64,
    /// The accounts, in their order: at most as many as were wanted.
    pub lines: Vec<AccountLine>,
    /// How many there are.
    pub count: u64,
    /// What stands on all of them, for each commodity.
    pub sums: Vec<CommoditySum>,
}

/// An account and what stands on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLine {
    /// The account.
    pub account: Account,
    /// Its name, as prefixes are matched.
    pub name: String,
    /// What is counted.
    pub commodity: Commodity,
    /// What was given less what was taken, in micro-points or minor units.
    #[serde(with = "amount")]
    pub posted: i128,
    /// What is held to be taken (below zero) or given (above zero).
    #[serde(with = "amount")]
    pub held: i128,
    /// What can be taken.
    #[serde(with = "amount")]
    pub available: i128,
}

/// What stands on several accounts, of one commodity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommoditySum {
    /// What is counted.
    pub commodity: Commodity,
    /// Posted on all of them.
    #[serde(with = "amount")]
    pub posted: i128,
    /// Held on all of them.
    #[serde(with = "amount")]
    pub held: i128,
}

/// Returns what is held: above zero what is to come, below zero what is to go.
fn held(balance: &Balance) -> i128 {
    i128::from(balance.pending_credits).saturating_sub(i128::from(balance.pending_debits))
}

pub(super) fn page(reader: &Reader, query: &BalanceQuery) -> Result<BalancePage, ReadError> {
    let (log, books) = reader.log_and_books()?;
    let size = log.head()?.size();
    let lines = match &query.of {
        BalanceOf::Owner(NodeName::Whole(owner)) => books.lines_of_owner(*owner)?,
        BalanceOf::Customer(NodeName::Whole(customer)) => books.lines_of_customer(*customer)?,
        BalanceOf::Prefix(_) | BalanceOf::Owner(_) | BalanceOf::Customer(_) => books
            .books()?
            .balances()
            .map(|(line, balance)| (*line, *balance))
            .collect(),
    };
    Ok(page_of(size, lines, query))
}

fn page_of(size: u64, lines: Vec<(Line, Balance)>, query: &BalanceQuery) -> BalancePage {
    let limit = query.limit.min(LINES_MAX) as usize;
    let mut page = BalancePage {
        size,
        lines: Vec::new(),
        count: 0,
        sums: Vec::new(),
    };
    let mut sums: BTreeMap<Commodity, (i128, i128)> = BTreeMap::new();
    for ((account, commodity), balance) in lines {
        if !query.of.takes(account) {
            continue;
        }
        let (posted, held) = (balance.posted(), held(&balance));
        let sum = sums.entry(commodity).or_default();
        *sum = (sum.0.saturating_add(posted), sum.1.saturating_add(held));
        page.count = page.count.saturating_add(1);
        if page.lines.len() < limit {
            page.lines.push(AccountLine {
                account,
                name: account.to_string(),
                commodity,
                posted,
                held,
                available: balance.available(),
            });
        }
    }
    let sum = |(commodity, (posted, held))| CommoditySum {
        commodity,
        posted,
        held,
    };
    page.sums = sums.into_iter().map(sum).collect();
    page
}

pub(super) fn render(page: &BalancePage) -> String {
    let mut text = Text::default();
    for sum in &page.sums {
        section(&mut text, page, sum);
        text.line("");
    }
    let (shown, all) = (grouped(page.lines.len() as u64), grouped(page.count));
    let size = grouped(page.size);
    text.line(&format!("{shown} of {all} accounts, after {size} entries"));
    text.into_string()
}

/// The accounts of one commodity: a tree of names beside three columns of amounts.
fn section(text: &mut Text, page: &BalancePage, sum: &CommoditySum) {
    let commodity = sum.commodity;
    let of_this = page.lines.iter().filter(|line| line.commodity == commodity);
    let mut lines: Vec<(Vec<String>, &AccountLine)> = of_this
        .map(|line| (show::path(line.account), line))
        .collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    let row = |posted, held, available| {
        let shown = |amount| match amount {
            0 => "-".to_owned(),
            _ => commodity.show(amount),
        };
        [shown(posted), shown(held), shown(available)]
    };
    let total = row(sum.posted, sum.held, 0);
    let amounts: Vec<[String; 3]> = lines
        .iter()
        .map(|(_, line)| row(line.posted, line.held, line.available))
        .collect();
    let heads = ["POSTED", "HELD", "AVAILABLE"];
    let columns = Columns::of(heads, amounts.iter().chain([&total]));
    columns.line(
        text,
        &unit(commodity).to_uppercase(),
        &heads.map(str::to_owned),
    );
    let mut above: &[String] = &[];
    for ((path, _), amounts) in lines.iter().zip(&amounts) {
        let common = path.iter().zip(above).take_while(|(a, b)| a == b).count();
        let last = path.len().saturating_sub(1);
        for (depth, part) in path.iter().enumerate().skip(common.min(last)) {
            let name = format!("{:width$}{part}", "", width = depth.saturating_mul(2));
            if depth == last {
                columns.line(text, &name, amounts);
            } else {
                text.line(&name);
            }
        }
        above = path;
    }
    let [posted, held, _] = total;
    columns.line(text, "sum", &[posted, held, String::new()]);
}
