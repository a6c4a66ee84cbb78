//! What coordinators owe this terminal: the results that counted, until a receipt pays for them.
//!
//! Each batch that is reported is remembered with what its units took and by which rates they are paid, so a receipt
//! can be checked against what was done here. Honest coordinators issue receipts about a second after others have
//! reported the same, so waiting for one is normal. One that owes for more work than its [`Credit`] allows is
//! given no more of this terminal's time until it pays: it is still told what was computed, and asked for receipts
//! again and again.
//!
//! Invariants: a leaf is paid at most once; what is owed is what counted, less what was paid and what was declared
//! unpaid, whether its leaves are still known or not; no more than [`LEAVES_MAX`] leaves of a coordinator are
//! remembered, and what is forgotten stays owed; a receipt is acknowledged only when the shell has said that it is
//! kept.

#![warn(clippy::arithmetic_side_effects)]

mod check;
mod sequences;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, Hash, NodeId, RateCardId, ReceiptId, TaskId};
use crate::message::work::{
    Grant, RECEIPTS_MAX, ResultVerdict, UNPAID_MAX, UnitResult, Unpaid, UnpaidReason,
};
use crate::rate_card::{Measured, Rates};
use crate::receipt::Receipt;
use crate::signed::Verified;
use crate::task::tiles;
use crate::time::Timestamp;
use crate::unit::ProfileId;

pub use check::ReceiptFault;

use check::Found;
use sequences::Sequences;

/// The most leaves of one coordinator that are remembered: four times the results that may wait for its verdict.
pub const LEAVES_MAX: usize = 65_536;
/// The most coordinators with whom it is remembered how things stand.
const ACCOUNTS_MAX: usize = 1_024;
/// What a coordinator may owe for each slot before it has paid anything.
const CREDIT_OF_SLOT: Duration = Duration::from_secs(30);
/// What a coordinator may declare unpaid for each slot before it has paid anything. A customer that cancels leaves what
/// no quorum agreed on yet: some units in each slot, which may take minutes. Without this an honest coordinator would
/// lose its terminals for ever when a customer changes its mind.
const UNPAID_OF_SLOT: Duration = Duration::from_secs(600);
/// The part of the work it has paid for that a coordinator may owe beyond that: one in so many.
const CREDIT_OF_PAID: u64 = 10;
/// Results for each slot that any coordinator may owe: a unit may run for hours, and somebody else has to run it too.
const CREDIT_RESULTS: u64 = 2;
/// Bounds of the time between two questions for receipts; it doubles with each answer that brings none.
const COLLECT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The most receipts of one coordinator that are known again when they come twice: many answers full of them.
const SEEN_MAX: usize = 16 * RECEIPTS_MAX;

/// Work as a terminal counts it: results, and the time that they ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effort {
    /// How many results.
    pub results: u64,
    /// How long they ran, in nanoseconds.
    pub nanos: u64,
}

impl Effort {
    /// Returns how long the results ran.
    #[must_use]
    pub const fn time(self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    const fn one(nanos: u64) -> Self {
        Self { results: 1, nanos }
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            results: self.results.saturating_add(other.results),
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    const fn less(self, other: Self) -> Self {
        Self {
            results: self.results.saturating_sub(other.results),
            nanos: self.nanos.saturating_sub(other.nanos),
        }
    }

    /// Returns the share of `results` of all these.
    fn share(self, results: u64) -> Self {
        let results = results.min(self.results);
        let product = u128::from(self.nanos).saturating_mul(u128::from(results));
        let nanos = product
            .checked_div(u128::from(self.results))
            .map_or(0, |nanos| u64::try_from(nanos).unwrap_or(u64::MAX));
        Self { results, nanos }
    }
}

/// What a coordinator took, paid and did not pay, since this terminal knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Results that it counted.
    pub counted: Effort,
    /// Results for which it gave receipts.
    pub paid: Effort,
    /// Results that it counted and will not pay.
    pub unpaid: Effort,
}

impl Totals {
    /// Returns the results for which neither a receipt nor a reason came.
    #[must_use]
    pub const fn owed(&self) -> Effort {
        self.counted.less(self.paid).less(self.unpaid)
    }
}

/// How things stand with a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// All that happened.
    pub totals: Totals,
    /// How much work it may owe: half a minute for each slot, and a tenth of what it has paid. Together with what it
    /// declared unpaid it may be ten minutes for each slot, and that tenth.
    pub limit: Duration,
    /// Whether it owes more than that, and so gets no work done until it pays.
    pub owing: bool,
}

impl Credit {
    /// Returns how things stand after `totals`, for a terminal with so many slots.
    #[must_use]
    pub fn of(totals: Totals, slots: usize) -> Self {
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        let earned = totals.paid.nanos.checked_div(CREDIT_OF_PAID).unwrap_or(0);
        let with = |of_slot: Duration| {
            let free = u64::try_from(of_slot.as_nanos()).unwrap_or(u64::MAX);
            free.saturating_mul(slots).saturating_add(earned)
        };
        let limit = with(CREDIT_OF_SLOT);
        let is_over = |effort: Effort, limit: u64| {
            effort.nanos > limit && effort.results > slots.saturating_mul(CREDIT_RESULTS)
        };
        let risked = totals.owed().plus(totals.unpaid);
        let owing = is_over(totals.owed(), limit) || is_over(risked, with(UNPAID_OF_SLOT));
        Self {
            totals,
            limit: Duration::from_nanos(limit),
            owing,
        }
    }
}

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

/// What became of what an answer brought.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) kept: Vec<KeptReceipt>,
    pub(super) disputes: Vec<Dispute>,
    pub(super) unpaid: Vec<UnpaidLeaf>,
    /// A receipt is missing between those that came.
    pub(super) gap: bool,
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

/// One of them.
#[derive(Debug, Default)]
struct Account {
    totals: Totals,
    /// The part of what is owed whose leaves are known.
    known: Effort,
    batches: BTreeMap<Hash, OpenBatch>,
    leaves: usize,
    /// Batches in the order in which they were reported, and those of which nothing is owed in the order of that.
    order: VecDeque<Hash>,
    settled: VecDeque<Hash>,
    /// Whether leaves that may be paid were forgotten for want of room.
    forgot: bool,
    sequences: Sequences,
    seen: BTreeMap<ReceiptId, Seen>,
    seen_order: VecDeque<ReceiptId>,
    acknowledge: BTreeSet<ReceiptId>,
    /// Answers in a row that brought no receipt while some were awaited.
    fruitless: u32,
}

#[derive(Debug)]
struct OpenBatch {
    /// For whom its results were computed.
    owner: NodeId,
    leaves: Vec<Leaf>,
    /// Nothing of it was owed once: it is forgotten before others.
    settled: bool,
}

#[derive(Debug)]
struct Leaf {
    reported: Reported,
    state: LeafState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeafState {
    /// Reported: whether it counts is not known, or it does not.
    Open,
    /// It counts and is owed.
    Counted,
    /// Paid by a receipt.
    Paid,
    /// Declared unpaid.
    Unpaid,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Told to the shell, which has not said yet that it is durable.
    Keeping,
    Kept,
    Refused,
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
    /// acknowledged.
    pub(super) fn collect_every(&self, coordinator: NodeId) -> Option<Duration> {
        let account = self.accounts.get(&coordinator)?;
        let awaited = account.known.results > 0 || !account.acknowledge.is_empty();
        let owing = || Credit::of(account.totals, self.slots).owing;
        let doubled = COLLECT.0.saturating_mul(1 << account.fruitless.min(6));
        (awaited || owing()).then(|| doubled.min(COLLECT.1))
    }

    /// Remembers what is reported in a batch, and returns the receipts to acknowledge with it.
    pub(super) fn ask(
        &mut self,
        coordinator: NodeId,
        (root, owner): (Hash, NodeId),
        results: Vec<Reported>,
    ) -> Vec<ReceiptId> {
        let Some(account) = self.account(coordinator) else {
            return Vec::new();
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
        acknowledged
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
                        collected.gap |= account.sequences.note(&receipt);
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

impl OpenBatch {
    fn new(owner: NodeId, results: Vec<Reported>) -> Self {
        let open = |reported| Leaf {
            reported,
            state: LeafState::Open,
        };
        Self {
            owner,
            leaves: results.into_iter().map(open).collect(),
            settled: false,
        }
    }

    /// Returns whether it is settled from now on.
    fn settles(&mut self) -> bool {
        let settles = !self.settled && !self.owes();
        self.settled |= settles;
        settles
    }

    fn owes(&self) -> bool {
        let counted = |leaf: &Leaf| leaf.state == LeafState::Counted;
        self.leaves.iter().any(counted)
    }
}

impl Account {
    /// Adds a batch. One that is reported again, because no answer came, is there already.
    fn add(&mut self, root: Hash, batch: OpenBatch) {
        if self.batches.contains_key(&root) {
            return;
        }
        self.leaves = self.leaves.saturating_add(batch.leaves.len());
        self.order.push_back(root);
        self.batches.insert(root, batch);
        while self.leaves > LEAVES_MAX {
            let oldest = self.settled.pop_front().or_else(|| self.order.pop_front());
            let Some(oldest) = oldest else {
                return;
            };
            self.forget(oldest);
        }
        if self.order.len() > self.batches.len().saturating_mul(2) {
            self.order.retain(|root| self.batches.contains_key(root));
        }
    }

    fn forget(&mut self, root: Hash) {
        let Some(batch) = self.batches.remove(&root) else {
            return;
        };
        self.leaves = self.leaves.saturating_sub(batch.leaves.len());
        for leaf in &batch.leaves {
            match leaf.state {
                LeafState::Open => self.forgot = true,
                LeafState::Counted => {
                    self.forgot = true;
                    self.known = self.known.less(Effort::one(leaf.reported.nanos));
                }
                LeafState::Paid | LeafState::Unpaid => {}
            }
        }
    }

    fn judged(&mut self, root: Hash, verdicts: &[ResultVerdict]) {
        let Some(batch) = self.batches.get_mut(&root) else {
            return;
        };
        for (leaf, verdict) in batch.leaves.iter_mut().zip(verdicts) {
            if *verdict == ResultVerdict::Counted && leaf.state == LeafState::Open {
                leaf.state = LeafState::Counted;
                let effort = Effort::one(leaf.reported.nanos);
                self.totals.counted = self.totals.counted.plus(effort);
                self.known = self.known.plus(effort);
            }
        }
        if batch.settles() {
            self.settled.push_back(root);
        }
    }

    /// Takes what a receipt pays off what is owed.
    fn pay(&mut self, found: &Found) {
        let totals = &mut self.totals;
        for (root, place) in &found.known {
            let Some(batch) = self.batches.get_mut(root) else {
                continue;
            };
            let Some(leaf) = batch.leaves.get_mut(*place) else {
                continue;
            };
            let effort = Effort::one(leaf.reported.nanos);
            match leaf.state {
                LeafState::Open => totals.counted = totals.counted.plus(effort),
                LeafState::Counted => self.known = self.known.less(effort),
                // It pays what it had said it would not.
                LeafState::Unpaid => totals.unpaid = totals.unpaid.less(effort),
                LeafState::Paid => continue,
            }
            leaf.state = LeafState::Paid;
            totals.paid = totals.paid.plus(effort);
            if batch.settles() {
                self.settled.push_back(*root);
            }
        }
        let forgotten = totals.owed().less(self.known);
        totals.paid = totals.paid.plus(forgotten.share(found.unknown));
    }

    /// Takes results off what is owed for which no receipt will come.
    fn give_up(&mut self, unpaid: &[Unpaid]) -> Vec<UnpaidLeaf> {
        let mut given_up = Vec::new();
        if unpaid.is_empty() {
            return given_up;
        }
        let unpaid: BTreeMap<(TaskId, u32), UnpaidReason> = unpaid
            .iter()
            .map(|unpaid| ((unpaid.task, unpaid.unit), unpaid.reason))
            .collect();
        for (root, batch) in &mut self.batches {
            let before = given_up.len();
            for (place, leaf) in (0_u32..).zip(&mut batch.leaves) {
                let unit = (leaf.reported.terms.task, leaf.reported.unit);
                let Some(reason) = unpaid.get(&unit).copied() else {
                    continue;
                };
                if leaf.state == LeafState::Counted {
                    leaf.state = LeafState::Unpaid;
                    let effort = Effort::one(leaf.reported.nanos);
                    self.known = self.known.less(effort);
                    self.totals.unpaid = self.totals.unpaid.plus(effort);
                    given_up.push(UnpaidLeaf {
                        batch: *root,
                        leaf: place,
                        reason,
                    });
                }
            }
            if given_up.len() > before && batch.settles() {
                self.settled.push_back(*root);
            }
        }
        given_up
    }

    fn note_seen(&mut self, id: ReceiptId, seen: Seen) {
        self.seen.insert(id, seen);
        self.seen_order.push_back(id);
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }
}
