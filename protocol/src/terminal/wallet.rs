//! What coordinators owe this terminal: the results that counted, until a receipt pays for them.
//!
//! Each batch that is reported is remembered with what its units took and by which rates they are paid, so a receipt
//! can be checked against what was done here. Honest coordinators issue receipts about a second after others have
//! reported the same, so waiting for one is normal. One that is asked for receipts in vain is asked which of the
//! results that it owes it knows nothing of any more: so its books and these come to agree after any loss.
//! One that owes for more work than its [`Credit`] allows is given no more of this terminal's time than a unit on trial
//! now and then, until it pays: it is still told what was computed, and asked for receipts again and again.
//!
//! Invariants: a leaf is paid at most once; what is owed is what counted, less what was paid and what was declared
//! unpaid, whether its leaves are still known or not; no more than [`LEAVES_MAX`] leaves of a coordinator are
//! remembered, and what is forgotten stays owed; a receipt is acknowledged only when the shell has said that it is
//! kept.

#![warn(clippy::arithmetic_side_effects)]

mod account;
mod check;
mod credit;
mod sequences;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, Hash, NodeId, RateCardId, ReceiptId, TaskId};
use crate::message::work::{
    Grant, Owed, RECEIPTS_MAX, ResultVerdict, UNPAID_MAX, UnitResult, Unpaid, UnpaidReason,
};
use crate::points::Points;
use crate::rate_card::{Measured, Rates};
use crate::receipt::Receipt;
use crate::signed::Verified;
use crate::task::tiles;
use crate::time::Timestamp;
use crate::unit::ProfileId;

pub use check::ReceiptFault;
pub use credit::{Credit, Effort, Totals};

use account::{Account, OpenBatch, Seen};
use credit::Trial;

/// The most leaves of one coordinator that are remembered: four times the results that may wait for its verdict.
pub const LEAVES_MAX: usize = 65_536;
/// The most coordinators with whom it is remembered how things stand.
const ACCOUNTS_MAX: usize = 1_024;
/// Bounds of the time between two questions for receipts; it doubles with each answer that brings none.
const COLLECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Answers in a row without a receipt after which it is asked for the results themselves: seven seconds, in which honest
/// coordinators have paid what was agreed on.
const ASK_AFTER: u32 = 3;
/// The most receipts of one coordinator that are known again when they come twice: many answers full of them.
const SEEN_MAX: usize = 16 * RECEIPTS_MAX;

/// How a receipt compares with what was done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It pays what was done here, as it should.
    Checked,
    /// Some of its results are no longer known here; it is well signed and in the owner's favour.
    Unchecked,
}

/// A receipt to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    /// The receipt; who signed it owes it.
    pub receipt: Verified<Receipt>,
    /// How far it was checked.
    pub standing: Standing,
}

/// A receipt that is wrong, with what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// Who sent it.
    pub from: NodeId,
    /// The receipt, evidence of the fault.
    pub receipt: Verified<Receipt>,
    /// What is wrong.
    pub fault: ReceiptFault,
}

/// A result for which no receipt will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpaidLeaf {
    /// The root of its batch.
    pub batch: Hash,
    /// Its leaf.
    pub leaf: u32,
    /// Why.
    pub reason: UnpaidReason,
}

/// What an answer says about results.
#[derive(Debug, Default)]
pub(super) struct Told<'a> {
    /// The batch that was reported.
    pub(super) root: Option<Hash>,
    pub(super) verdicts: &'a [ResultVerdict],
    pub(super) receipts: Vec<Verified<Receipt>>,
    pub(super) unpaid: &'a [Unpaid],
}

/// What a pull says of receipts.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Those that are durable here.
    pub(super) kept: Vec<ReceiptId>,
    /// Results that still have none.
    pub(super) owed: Vec<Owed>,
}

/// What became of what an answer brought.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) kept: Vec<KeptReceipt>,
    pub(super) disputes: Vec<Dispute>,
    pub(super) unpaid: Vec<UnpaidLeaf>,
    /// The log may have receipts that did not come: one between others is missing, or a result is settled that none of
    /// them pays.
    pub(super) missing: bool,
    /// How things stand, if that has changed.
    pub(super) totals: Option<Totals>,
}

/// By what the results of one grant are paid.
#[derive(Debug)]
pub(super) struct Terms {
    task: TaskId,
    program: BlobId,
    fuel_limit: u64,
    card: RateCardId,
    rates: Arc<Rates>,
    issued: Timestamp,
    /// Input bytes and core pixels of each unit.
    sizes: BTreeMap<u32, (u64, u64)>,
}

impl Terms {
    pub(super) fn of(grant: &Grant, rates: Arc<Rates>) -> Self {
        let size = |unit: &crate::message::work::LeasedUnit| {
            (unit.unit, (unit.bytes, tiles::core_pixels(&unit.params)))
        };
        Self {
            task: grant.task,
            program: grant.program.id,
            fuel_limit: grant.limits.fuel,
            card: grant.rate_card,
            rates,
            issued: grant.issued,
            sizes: grant.units.iter().map(size).collect(),
        }
    }

    /// Returns what a result earns if it counts; none if the amount does not fit.
    pub(super) fn points(&self, result: &UnitResult) -> Option<Points> {
        self.rates.points(self.program, &self.measured(result))
    }

    fn measured(&self, result: &UnitResult) -> Measured {
        let (input, pixels) = self.sizes.get(&result.unit).copied().unwrap_or((0, 0));
        Measured {
            outcome: result.outcome,
            fuel: result.fuel,
            fuel_limit: self.fuel_limit,
            bytes: input.saturating_add(result.output.bytes),
            pixels,
        }
    }
}

/// A result that goes into a batch.
#[derive(Debug)]
pub(super) struct Reported {
    terms: Arc<Terms>,
    unit: u32,
    measured: Measured,
    nanos: u64,
}

impl Reported {
    pub(super) fn new(terms: Arc<Terms>, result: &UnitResult, took: Duration) -> Self {
        Self {
            unit: result.unit,
            measured: terms.measured(result),
            nanos: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            terms,
        }
    }
}

/// All coordinators that this terminal has worked for.
#[derive(Debug)]
pub(super) struct Wallet {
    me: NodeId,
    profile: ProfileId,
    slots: usize,
    /// The first moment that was told: what was leased long after it cannot have been lost in a crash.
    started: Option<Timestamp>,
    accounts: BTreeMap<NodeId, Account>,
}

impl Wallet {
    pub(super) const fn new(me: NodeId, profile: ProfileId, slots: usize) -> Self {
        Self {
            me,
            profile,
            slots,
            started: None,
            accounts: BTreeMap::new(),
        }
    }

    /// Takes what the last run of this terminal has written down.
    pub(super) fn remember(&mut self, coordinator: NodeId, totals: Totals) {
        if let Some(account) = self.account(coordinator) {
            account.totals = totals;
        }
    }

    pub(super) fn note_time(&mut self, now: Timestamp) {
        self.started.get_or_insert(now);
    }

    /// Returns whether a coordinator owes too much to be given more work; or whether there is no room to remember it.
    pub(super) fn is_owing(&self, coordinator: NodeId) -> bool {
        match self.accounts.get(&coordinator) {
            Some(account) => Credit::of(account.totals, self.slots).owing,
            None => self.accounts.len() >= ACCOUNTS_MAX && self.forgettable().is_none(),
        }
    }

    pub(super) fn credits(&self) -> impl Iterator<Item = (NodeId, Credit)> + '_ {
        let credit =
            |(node, account): (&NodeId, &Account)| (*node, Credit::of(account.totals, self.slots));
        self.accounts.iter().map(credit)
    }

    pub(super) fn leaves(&self) -> usize {
        self.accounts.values().map(|account| account.leaves).sum()
    }

    /// Returns how long after its last answer a coordinator is to be asked for receipts, if any are awaited or to be
    /// acknowledged, which has time.
    pub(super) fn collect_every(&self, coordinator: NodeId) -> Option<Duration> {
        let account = self.accounts.get(&coordinator)?;
        let owing = || Credit::of(account.totals, self.slots).owing;
        if account.known.results > 0 || owing() {
            let doubled = COLLECT.0.saturating_mul(1 << account.fruitless.min(6));
            return Some(doubled.min(COLLECT.1));
        }
        (!account.acknowledge.is_empty()).then_some(COLLECT.1)
    }

    /// Returns whether a coordinator that owes too much may be asked for a unit on trial.
    pub(super) fn may_try(&mut self, now: Timestamp, coordinator: NodeId) -> bool {
        let Some(account) = self.accounts.get_mut(&coordinator) else {
            return false;
        };
        let totals = account.totals;
        let trial = account.trial.get_or_insert_with(|| Trial::new(now, totals));
        trial.is_due(now, &totals)
    }

    /// Notes that a coordinator has leased units: if it owes too much, the one on trial.
    pub(super) fn leased(&mut self, now: Timestamp, coordinator: NodeId) {
        if self.is_owing(coordinator)
            && let Some(account) = self.accounts.get_mut(&coordinator)
        {
            let given = |trial: Trial| trial.given(now, account.totals);
            account.trial = account.trial.map(given);
        }
    }

    /// Remembers what is reported in a batch, and returns what is asked with it.
    pub(super) fn ask(
        &mut self,
        coordinator: NodeId,
        (root, owner): (Hash, NodeId),
        results: Vec<Reported>,
    ) -> Claims {
        let owing = self.is_owing(coordinator);
        let Some(account) = self.account(coordinator) else {
            return Claims::default();
        };
        if !results.is_empty() {
            account.add(root, OpenBatch::new(owner, results));
        }
        let mut acknowledged = Vec::new();
        while acknowledged.len() < RECEIPTS_MAX
            && let Some(receipt) = account.acknowledge.pop_first()
        {
            acknowledged.push(receipt);
        }
        let in_vain = owing || account.fruitless >= ASK_AFTER;
        Claims {
            kept: acknowledged,
            owed: if in_vain { account.owed() } else { Vec::new() },
        }
    }

    /// Takes back the acknowledgements of a pull that was not answered.
    pub(super) fn unanswered(&mut self, coordinator: NodeId, acknowledged: Vec<ReceiptId>) {
        if let Some(account) = self.accounts.get_mut(&coordinator) {
            account.acknowledge.extend(acknowledged);
        }
    }

    /// Takes an answer: notes which results count, checks the receipts and takes those that are right, notes what is
    /// not paid.
    pub(super) fn collect(&mut self, now: Timestamp, from: NodeId, told: Told<'_>) -> Collected {
        let mut collected = Collected::default();
        let slots = self.slots;
        let Some(account) = self.account(from) else {
            return collected;
        };
        let before = account.totals;
        if let Some(root) = told.root {
            account.judged(root, told.verdicts);
        }
        for receipt in told.receipts.into_iter().take(RECEIPTS_MAX) {
            self.take(now, from, receipt, &mut collected);
        }
        let Some(account) = self.accounts.get_mut(&from) else {
            return collected;
        };
        let count = told.unpaid.len().min(UNPAID_MAX);
        collected.unpaid = account.give_up(&told.unpaid[..count]);
        let is_settled = |leaf: &UnpaidLeaf| leaf.reason == UnpaidReason::Settled;
        collected.missing |= collected.unpaid.iter().any(is_settled);
        if !Credit::of(account.totals, slots).owing {
            account.trial = None;
        }
        let fruitful = account.totals != before;
        collected.totals = fruitful.then_some(account.totals);
        account.fruitless = if fruitful {
            0
        } else {
            account.fruitless.saturating_add(1)
        };
        collected
    }

    /// Notes that receipts are durable: they may be acknowledged.
    pub(super) fn kept(&mut self, coordinator: NodeId, receipts: &[ReceiptId]) {
        let Some(account) = self.account(coordinator) else {
            return;
        };
        for receipt in receipts {
            match account.seen.get_mut(receipt) {
                Some(seen) => *seen = Seen::Kept,
                // It came before this terminal was started.
                None => account.note_seen(*receipt, Seen::Kept),
            }
            if account.acknowledge.len() < SEEN_MAX {
                account.acknowledge.insert(*receipt);
            }
        }
    }

    fn take(
        &mut self,
        now: Timestamp,
        from: NodeId,
        receipt: Verified<Receipt>,
        collected: &mut Collected,
    ) {
        let id = receipt.id();
        let Some(mut account) = self.account(from).map(std::mem::take) else {
            return;
        };
        match account.seen.get(&id) {
            // The acknowledgement was lost.
            Some(Seen::Kept) => {
                account.acknowledge.insert(id);
            }
            Some(Seen::Keeping | Seen::Refused) => {}
            None => {
                let seen = match self.check(&account, (now, from), &receipt) {
                    Ok(found) => {
                        collected.missing |= account.sequences.note(&receipt);
                        account.pay(&found);
                        let standing = found.standing();
                        collected.kept.push(KeptReceipt { receipt, standing });
                        Seen::Keeping
                    }
                    Err(fault) => {
                        collected.disputes.push(Dispute {
                            from,
                            receipt,
                            fault,
                        });
                        Seen::Refused
                    }
                };
                account.note_seen(id, seen);
            }
        }
        self.accounts.insert(from, account);
    }

    /// Returns the account of a coordinator, a new one if there is room.
    fn account(&mut self, coordinator: NodeId) -> Option<&mut Account> {
        if !self.accounts.contains_key(&coordinator) && self.accounts.len() >= ACCOUNTS_MAX {
            let gone = self.forgettable()?;
            self.accounts.remove(&gone);
        }
        Some(self.accounts.entry(coordinator).or_default())
    }

    /// Returns a coordinator with whom everything is settled.
    fn forgettable(&self) -> Option<NodeId> {
        let settled = |account: &Account| {
            account.totals.owed().results == 0 && account.totals.unpaid.results == 0
        };
        let mut accounts = self.accounts.iter();
        let settled = accounts.find(|(_, account)| settled(account));
        settled.map(|(node, _)| *node)
    }
}
