//! `tally ledger statement`: what an owner earned and spent, or what a customer paid, posting by posting.
//!
//! What somebody has is in two parts: what is **free** (an owner's spendable points, a customer's available money) and
//! what is **bound** (points in escrow, money held for tasks). A release or a hold moves an amount from one to the
//! other and changes nothing of the whole.
//!
//! Invariant: for each commodity the opening balance and all changes add up to the closing balance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Account, Commodity, Lot};
use tally_protocol::books::{Posting, Step, Transfer};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::points::Points;
use tally_protocol::time::Timestamp;

use super::amount;
use super::name::NodeName;
use super::table::unit;
use super::text::{Columns, Text, grouped, time};
use super::view::{EntryRow, EventRow};
use crate::store::StoredEntry;

/// The most lines of a statement; more are no help to anybody, and a shorter period has fewer.
pub const STATEMENT_LINES_MAX: usize = 100_000;

/// Whose statement it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// An owner.
    Owner(NodeName),
    /// A customer.
    Customer(NodeName),
}

/// Entries from one moment on, and before another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// The first moment of it; none for the start of the log.
    pub from: Option<Timestamp>,
    /// The first moment after it; none for the end of the log.
    pub to: Option<Timestamp>,
}

impl Period {
    /// Returns whether it has begun at `at`.
    #[must_use]
    pub fn has_begun(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at)
    }

    /// Returns whether it is over at `at`.
    #[must_use]
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.to.is_some_and(|to| to <= at)
    }
}

/// What somebody had, got and gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatement {
    /// Who, as asked for.
    pub party: Party,
    /// Who that is; none if no entry is about anybody of that name.
    pub node: Option<NodeId>,
    /// When.
    pub period: Period,
    /// Each commodity by itself.
    pub sections: Vec<Section>,
    /// An owner's points that are in escrow at the end, in the order of their release.
    pub escrow: Vec<EscrowLot>,
}

/// What somebody had, got and gave of one commodity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// What is counted.
    pub commodity: Commodity,
    /// What stood there before.
    pub opening: Stand,
    /// What happened.
    pub lines: Vec<StatementLine>,
    /// What stands there after.
    pub closing: Stand,
}

/// An amount in two parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// Spendable points, or available money.
    #[serde(with = "amount")]
    pub free: i128,
    /// Points in escrow, or held money.
    #[serde(with = "amount")]
    pub bound: i128,
}

impl Stand {
    /// Returns both parts together.
    #[must_use]
    pub const fn total(&self) -> i128 {
        self.free.saturating_add(self.bound)
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            free: self.free.saturating_add(other.free),
            bound: self.bound.saturating_add(other.bound),
        }
    }
}

/// What one entry changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementLine {
    /// The entry.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub event: EventRow,
    /// What was added, below zero what was taken.
    pub change: Stand,
    /// What stands there after it.
    pub after: Stand,
}

/// Points in escrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowLot {
    /// The lot; its time is that of the release.
    pub lot: Lot,
    /// How many.
    pub points: Points,
}

/// Why there is no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// The name fits more than one.
    #[error("tell whose statement it is: both {one} and {other} are called so")]
    Ambiguous {
        /// One of them.
        one: NodeId,
        /// Another.
        other: NodeId,
    },
    /// Too much happened.
    #[error("make a statement of more than {STATEMENT_LINES_MAX} lines")]
    TooLong,
    /// An entry cannot be read.
    #[error("read entry {sequence}: {reason}")]
    Unreadable {
        /// The entry.
        sequence: u64,
        /// Why not.
        reason: String,
    },
}

impl StatementError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Ambiguous { .. } => "give more of the id, or all of it",
            Self::TooLong => "ask for a shorter period with --from and --to",
            Self::Unreadable { .. } => "`tally ledger verify` names the first bad entry",
        }
    }
}

/// Makes a statement from the entries of a log, from the first on.
///
/// # Errors
/// [`StatementError`], or the first error among the entries.
pub fn statement<E: From<StatementError>>(
    network: &NetworkId,
    (party, period): (&Party, Period),
    entries: impl Iterator<Item = Result<StoredEntry, E>>,
) -> Result<AccountStatement, E> {
    let mut making = Making::new(party, period);
    for stored in entries {
        let stored = stored?;
        if party.name().may_be_in(&stored.bytes) && !making.add(&stored, network)? {
            break;
        }
    }
    Ok(making.finish())
}

impl Party {
    const fn name(&self) -> &NodeName {
        match self {
            Self::Owner(name) | Self::Customer(name) => name,
        }
    }

    /// Returns whose account it is, if such a party has it, and whether amounts on it are bound.
    fn of(&self, account: Account) -> Option<(NodeId, Part)> {
        match (self, account) {
            (Self::Owner(_), Account::Escrow(lot)) => Some((lot.holder.owner, Part::Bound)),
            (Self::Owner(_), Account::Spendable(lot)) => Some((lot.holder.owner, Part::Free)),
            (Self::Owner(_), Account::Credit(owner)) => Some((owner, Part::Free)),
            (Self::Customer(_), Account::Customer(customer)) => Some((customer, Part::Free)),
            _ => None,
        }
    }
}

/// A part of what somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Free,
    Bound,
}

impl Part {
    const fn stand(self, amount: i128) -> Stand {
        let (free, bound) = match self {
            Self::Free => (amount, 0),
            Self::Bound => (0, amount),
        };
        Stand { free, bound }
    }
}

/// A statement under way.
struct Making<'a> {
    party: &'a Party,
    period: Period,
    node: Option<NodeId>,
    sections: BTreeMap<Commodity, Section>,
    lines: usize,
    escrow: BTreeMap<Lot, u64>,
}

impl<'a> Making<'a> {
    const fn new(party: &'a Party, period: Period) -> Self {
        Self {
            party,
            period,
            node: None,
            sections: BTreeMap::new(),
            lines: 0,
            escrow: BTreeMap::new(),
        }
    }

    /// Adds an entry; returns whether the period goes on.
    fn add(&mut self, stored: &StoredEntry, network: &NetworkId) -> Result<bool, StatementError> {
        let entry = stored
            .decode()
            .map_err(|error| StatementError::Unreadable {
                sequence: stored.sequence,
                reason: error.to_string(),
            })?;
        if self.period.is_over(entry.at) {
            return Ok(false);
        }
        let changes = match &entry.posting {
            None => BTreeMap::new(),
            Some(posting) => self.changes(posting)?,
        };
        for (commodity, change) in changes {
            let section = self.sections.entry(commodity).or_insert_with(|| Section {
                commodity,
                opening: Stand::default(),
                lines: Vec::new(),
                closing: Stand::default(),
            });
            section.closing = section.closing.plus(change);
            if !self.period.has_begun(entry.at) {
                section.opening = section.closing;
                continue;
            }
            self.lines = self.lines.saturating_add(1);
            if self.lines > STATEMENT_LINES_MAX {
                return Err(StatementError::TooLong);
            }
            section.lines.push(StatementLine {
                sequence: stored.sequence,
                at: entry.at,
                event: EntryRow::of(stored, network).event,
                change,
                after: section.closing,
            });
        }
        Ok(true)
    }

    /// Returns what a posting changes of the party's accounts.
    fn changes(&mut self, posting: &Posting) -> Result<BTreeMap<Commodity, Stand>, StatementError> {
        let mut changes: BTreeMap<Commodity, Stand> = BTreeMap::new();
        for transfer in &posting.transfers {
            for (account, side) in [(transfer.from, Side::From), (transfer.to, Side::To)] {
                let Some((node, part)) = self.party.of(account) else {
                    continue;
                };
                if !self.party.name().is_of(node) {
                    continue;
                }
                self.know(node)?;
                if let Account::Escrow(lot) = account {
                    self.count_escrow(lot, transfer.amount, side);
                }
                let change = changes.entry(transfer.commodity).or_default();
                *change = change.plus(effect(transfer, part, side));
            }
        }
        // What only passes through, as what an owner is paid, changes nothing.
        changes.retain(|_, change| *change != Stand::default());
        Ok(changes)
    }

    fn know(&mut self, node: NodeId) -> Result<(), StatementError> {
        let one = *self.node.get_or_insert(node);
        if one == node {
            return Ok(());
        }
        Err(StatementError::Ambiguous { one, other: node })
    }

    fn count_escrow(&mut self, lot: Lot, amount: u64, side: Side) {
        let points = self.escrow.entry(lot).or_default();
        *points = match side {
            Side::To => points.saturating_add(amount),
            Side::From => points.saturating_sub(amount),
        };
        if *points == 0 {
            self.escrow.remove(&lot);
        }
    }

    fn finish(self) -> AccountStatement {
        let mut escrow: Vec<EscrowLot> = self
            .escrow
            .into_iter()
            .map(|(lot, points)| EscrowLot {
                lot,
                points: Points::from_micro(points),
            })
            .collect();
        escrow.sort_by_key(|of| of.lot.since);
        AccountStatement {
            party: self.party.clone(),
            node: self.node,
            period: self.period,
            sections: self.sections.into_values().collect(),
            escrow,
        }
    }
}

/// Which account of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// Returns what a transfer changes of an account.
fn effect(transfer: &Transfer, part: Part, side: Side) -> Stand {
    let amount = i128::from(transfer.amount);
    let less = amount.saturating_neg();
    match (side, transfer.step) {
        (Side::From, Step::Move) => part.stand(less),
        (Side::From, Step::Hold { .. }) => part.stand(less).plus(Part::Bound.stand(amount)),
        (Side::From, Step::Post(_)) => Part::Bound.stand(less),
        (Side::From, Step::Void(_) | Step::Expire(_)) => {
            part.stand(amount).plus(Part::Bound.stand(less))
        }
        (Side::To, Step::Move | Step::Post(_)) => part.stand(amount),
        (Side::To, Step::Hold { .. } | Step::Void(_) | Step::Expire(_)) => Stand::default(),
    }
}

impl AccountStatement {
    /// Returns the statement as lines of text of at most [`super::COLUMNS`] columns.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        let (who, name, heads) = match &self.party {
            Party::Owner(name) => ("owner", name, ["SPENDABLE", "ESCROW", "BALANCE"]),
            Party::Customer(name) => ("customer", name, ["AVAILABLE", "HELD", "BALANCE"]),
        };
        let id = self
            .node
            .map_or_else(|| name.to_string(), |node| node.to_string());
        text.field(who, &id);
        let moment = |at: Option<Timestamp>, open: &str| at.map_or(open.to_owned(), time);
        let (from, to) = (self.period.from, self.period.to);
        let period = format!(
            "{} until {}",
            moment(from, "the beginning"),
            moment(to, "now")
        );
        text.field("from", &period);
        if self.sections.is_empty() {
            text.line("");
            text.line("Nothing was ever posted there.");
        }
        for section in &self.sections {
            text.line("");
            section.render(&mut text, heads);
        }
        if !self.escrow.is_empty() {
            text.line("");
            text.line("IN ESCROW UNTIL        CARD  DEVICE              POINTS");
            for EscrowLot { lot, points } in &self.escrow {
                let (since, device) = (time(lot.since), lot.holder.device.short());
                text.line(&format!(
                    "{since}  {:>6}  {device:<8}  {points:>16}",
                    lot.card
                ));
            }
        }
        text.into_string()
    }
}

impl Section {
    fn render(&self, text: &mut Text, heads: [&str; 3]) {
        let commodity = self.commodity;
        let plain = |stand: &Stand| {
            [stand.free, stand.bound, stand.total()].map(|amount| commodity.show(amount))
        };
        let change = |line: &StatementLine| {
            let signed = |amount: i128| match amount {
                0 => String::new(),
                1.. => format!("+{}", commodity.show(amount)),
                _ => commodity.show(amount),
            };
            let Stand { free, bound } = line.change;
            [
                signed(free),
                signed(bound),
                commodity.show(line.after.total()),
            ]
        };
        let (opening, closing) = (plain(&self.opening), plain(&self.closing));
        let amounts: Vec<[String; 3]> = self.lines.iter().map(change).collect();
        let columns = Columns::of(heads, amounts.iter().chain([&opening, &closing]));
        let head = unit(commodity).to_uppercase();
        columns.line(text, &head, &heads.map(str::to_owned));
        columns.line(text, "opening balance", &opening);
        for (line, amounts) in self.lines.iter().zip(&amounts) {
            let (sequence, at) = (grouped(line.sequence), time(line.at));
            let name = format!("{sequence:>6}  {at}  {}", line.event.what());
            columns.line(text, &name, amounts);
            text.line(&format!("        {}", line.event.about()));
        }
        columns.line(text, "closing balance", &closing);
    }
}
