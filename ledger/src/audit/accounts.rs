//! What the events of a log do to the books, by the rules.
//!
//! For each entry the posting is computed again from the event and from what came before, and compared with the one
//! that stands there; then it is made on books of its own.

mod partners;
mod sales;
mod settlements;

use std::collections::{BTreeMap, HashMap, HashSet};

use tally_protocol::account::{Account, Commodity, Holder, Lot};
use tally_protocol::books::{Books, Posting, Step};
use tally_protocol::certificate::{DeviceCertificate, LIFE_MAX};
use tally_protocol::entry::{Entry, Event, Payee, REFERENCE_BYTES_MAX, ValidatedUnit};
use tally_protocol::id::{
    BlobId, Hash, NetworkId, NodeId, PostingId, RateCardId, ReceiptId, TaskId,
};
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::posting::{self, Cost};
use tally_protocol::rate_card::{Measured, RateCard, Rates};
use tally_protocol::receipt::{LeafRun, Receipt, Validation};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use super::finding::{Problem, ReceiptProblem};
use super::units::{Counted, Leaves, OpenUnits};
use crate::store::Identity;
use partners::Partners;
use sales::Sales;
use settlements::Settlements;

/// Finds the entry with a receipt that came earlier.
pub(super) type Issued<'a> = &'a mut dyn FnMut(ReceiptId) -> Option<Entry>;

/// The books of a log, as far as they were computed again.
#[derive(Debug)]
pub(super) struct Accounts {
    network: NetworkId,
    /// Whose log it is: a coordinator, or an app server.
    node: NodeId,
    cards: Vec<(RateCardId, RateCard)>,
    /// The certificates of devices for their owners.
    certified: HashMap<(NodeId, NodeId), Vec<DeviceCertificate>>,
    /// The leaves of the batches of devices that receipts cite.
    cited: HashMap<(NodeId, Hash), Leaves>,
    /// Tasks for which something may still be paid.
    tasks: HashMap<TaskId, OpenTask>,
    /// Postings that nothing but their id tells apart: orders of the operator, releases and expiries.
    acts: HashSet<PostingId>,
    partners: Partners,
    settlements: Settlements,
    sales: Sales,
    books: Books,
    totals: Totals,
}

/// What was counted on the way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) receipts: u64,
    /// Points of all receipts.
    pub(super) points: u64,
    /// Postings that issue points.
    pub(super) credits: u64,
}

/// What a task that is not settled owes.
#[derive(Debug)]
struct OpenTask {
    customer: NodeId,
    program: BlobId,
    fuel_limit: u64,
    agree: u8,
    card: usize,
    cost: Cost,
    units: OpenUnits,
    /// The next receipt of each holder.
    sequences: BTreeMap<Holder, u64>,
}

impl Accounts {
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            network: identity.network.clone(),
            node: identity.node,
            cards: Vec::new(),
            certified: HashMap::new(),
            cited: HashMap::new(),
            tasks: HashMap::new(),
            acts: HashSet::new(),
            partners: Partners::default(),
            settlements: Settlements::default(),
            sales: Sales::default(),
            books: Books::default(),
            totals: Totals::default(),
        }
    }

    pub(super) const fn books(&self) -> &Books {
        &self.books
    }

    pub(super) fn into_books(self) -> Books {
        self.books
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the rate cards, version 1 first.
    pub(super) fn cards(&self) -> impl Iterator<Item = &RateCard> {
        self.cards.iter().map(|(_, card)| card)
    }

    /// Returns whether something may still be paid for the task.
    pub(super) fn is_open(&self, task: TaskId) -> bool {
        self.tasks.contains_key(&task)
    }

    /// Checks the posting of an entry against the rules, and makes it.
    pub(super) fn add(
        &mut self,
        entry: &Entry,
        validated: impl Fn(TaskId, u32) -> bool,
        issued: Issued<'_>,
    ) -> Result<(), Problem> {
        let expected = self.expected(entry, validated, issued)?;
        let found = compare(expected.as_ref(), entry.posting.as_ref())?;
        let acts = match entry.event {
            Event::TaskAccepted { .. }
            | Event::BatchValidated { .. }
            | Event::TaskEnded { .. }
            | Event::TaskSettled { .. }
            | Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::Receipted { .. }
            | Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. } => None,
            Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => Some(&mut self.acts),
        };
        let Some(found) = found else {
            // These mean nothing but their posting.
            return match acts {
                None => Ok(()),
                Some(_) => Err(Problem::OtherPosting {
                    difference: "it has none".to_owned(),
                }),
            };
        };
        if acts.is_some_and(|acts| !acts.insert(found.id)) {
            return Err(Problem::PostedBefore { id: found.id });
        }
        let mut issues = found.transfers.iter();
        let credits = issues.any(|transfer| transfer.from == Account::Issued);
        self.totals.credits = self.totals.credits.saturating_add(credits.into());
        self.books
            .post(entry.at, found)
            .map_err(|fault| Problem::Posting {
                reason: fault.to_string(),
            })
    }

    /// Returns the posting that the rules give to an entry.
    fn expected(
        &mut self,
        entry: &Entry,
        validated: impl Fn(TaskId, u32) -> bool,
        issued: Issued<'_>,
    ) -> Result<Option<Posting>, Problem> {
        match &entry.event {
            Event::TaskAccepted { task, signed } => self.accepted(entry, *task, signed),
            Event::BatchValidated { task, units, .. } => {
                self.validated(*task, units).map(|()| None)
            }
            Event::TaskEnded { .. } => Ok(None),
            Event::TaskSettled { task, at } => self.settled(entry.at, *task, *at),
            Event::RateCardPublished { card } => self.published(card).map(|()| None),
            Event::DeviceCertified { certificate } => self.certified(certificate).map(|()| None),
            Event::Receipted { receipt, batches } => {
                let receipt = self.checked(entry.at, receipt, batches, validated)?;
                let expected = self.receipted(&receipt)?;
                let cited = self.cite(&receipt);
                cited.map_err(|fault| Problem::Receipt { fault })?;
                Ok(expected)
            }
            Event::Deposited {
                to,
                money,
                reference,
            } => {
                check_text(reference)?;
                Ok(posting::deposit(to.account(), *money, reference))
            }
            Event::PaidOut { to, .. } => self.paid_out(*to, entry),
            Event::Refunded {
                customer,
                money,
                reference,
            } => {
                check_text(reference)?;
                Ok(posting::refund(*customer, *money, reference))
            }
            Event::ClawedBack { receipt, reason } => {
                check_text(reason)?;
                self.clawed_back(*receipt, issued)
            }
            Event::AgreementMade { agreement } => self.agreed(agreement),
            Event::DeviceRegistered { registration } => self.registered(entry.at, registration),
            Event::RegistrationRevoked { revocation } => self.revoked(revocation),
            Event::PointsReserved {
                redeem,
                certificate,
                at,
                until,
            } => self.set_aside(entry.at, (redeem, certificate.as_ref()), (*at, *until)),
            Event::ReservationEnded { redemption } => self.let_go(*redemption),
            Event::PointsRedeemed { redemption } => self.redeemed(entry.at, redemption),
            Event::RedemptionReversed { reversal } => self.reversed(entry.at, reversal),
            Event::SettlementMade {
                settlement,
                redeemed,
                reversed,
            } => self.settlement_made(entry.at, settlement, (redeemed, reversed)),
            Event::SettlementPaid {
                with,
                number,
                reference,
            } => {
                check_text(reference)?;
                self.settlement_paid((*with, *number)).map(Some)
            }
            Event::OrderCharged { .. } | Event::OrderPaid { .. } | Event::OrderRefunded { .. } => {
                self.sold(entry.at, &entry.event)
            }
            Event::Released { at } => self.released(entry, *at),
            Event::Expired { card, at } => self.expired(entry, *card, *at),
        }
    }

    fn accepted(
        &mut self,
        entry: &Entry,
        task: TaskId,
        signed: &Signed<Task>,
    ) -> Result<Option<Posting>, Problem> {
        let statement = signed.clone().verify_with(&self.network, |_| true);
        let statement = statement.map_err(|error| Problem::Statement {
            reason: error.to_string(),
        })?;
        let current = self
            .cards
            .last()
            .filter(|(id, _)| *id == statement.rate_card);
        let Some((_, card)) = current else {
            return Err(Problem::OtherCard { task });
        };
        let expected = if card.rates.is_free() {
            None
        } else {
            let price = card.rates.money(statement.max_price);
            let latest = entry
                .at
                .as_millis()
                .saturating_add(statement.deadline_millis);
            let until = held_until(entry).unwrap_or(Timestamp::from_millis(latest));
            // The coordinator's clock may have been behind the last entry of the log, but not before it.
            let until = until.min(Timestamp::from_millis(latest));
            posting::acceptance(task, statement.customer, price, until)
        };
        let open = OpenTask {
            customer: statement.customer,
            program: statement.program.id,
            fuel_limit: statement.limits.fuel,
            agree: statement.quorum.agree,
            card: self.cards.len().saturating_sub(1),
            cost: Cost::default(),
            units: OpenUnits::default(),
            sequences: BTreeMap::new(),
        };
        self.tasks.insert(task, open);
        Ok(expected)
    }

    fn validated(&mut self, task: TaskId, units: &[ValidatedUnit]) -> Result<(), Problem> {
        let open = self.tasks.get_mut(&task).ok_or(Problem::Settled { task })?;
        let rates = &self.cards[open.card].1.rates;
        for unit in units {
            let bytes = unit.input_bytes.checked_add(unit.output.bytes);
            let points = bytes.and_then(|bytes| {
                let measured = Measured {
                    outcome: unit.outcome,
                    fuel: unit.fuel,
                    fuel_limit: open.fuel_limit,
                    bytes,
                    pixels: unit.pixels,
                };
                rates.points(open.program, &measured)
            });
            let (Some(bytes), Some(points)) = (bytes, points) else {
                let unit = unit.unit;
                return Err(Problem::NoSuchUnit { task, unit });
            };
            let counted = Counted {
                fuel: unit.fuel,
                bytes,
                pixels: unit.pixels,
                points: points.as_micro(),
            };
            open.units.add(unit, counted);
        }
        Ok(())
    }

    fn settled(
        &mut self,
        written: Timestamp,
        task: TaskId,
        at: Timestamp,
    ) -> Result<Option<Posting>, Problem> {
        check_time(at, written)?;
        let hold = self.books.hold(posting::hold_of(task));
        let expected = hold.and_then(|hold| posting::settlement(task, hold, at));
        self.tasks.remove(&task).ok_or(Problem::Settled { task })?;
        Ok(expected)
    }

    fn published(&mut self, card: &Signed<RateCard>) -> Result<(), Problem> {
        let refused = |reason: String| Problem::Card { reason };
        let verified = card.clone().verify(&self.network);
        let verified = verified.map_err(|error| refused(format!("failed to {error}")))?;
        if verified.signer() != self.node {
            return Err(refused(format!("{} signed it", verified.signer())));
        }
        let next = u32::try_from(self.cards.len()).ok();
        let next = next.and_then(|count| count.checked_add(1));
        if Some(verified.version) != next {
            return Err(refused(format!(
                "its version is {}, {} were published before",
                verified.version,
                self.cards.len()
            )));
        }
        let rates = verified.rates.check();
        rates.map_err(|error| refused(error.to_string()))?;
        self.cards.push((card.id(), verified.value().clone()));
        Ok(())
    }

    fn certified(&mut self, certificate: &Signed<DeviceCertificate>) -> Result<(), Problem> {
        let refused = |reason: String| Problem::Certificate { reason };
        let verified = certificate.clone().verify(&self.network);
        let verified = verified.map_err(|error| refused(format!("failed to {error}")))?;
        if verified.not_after.since(verified.not_before) > LIFE_MAX {
            return Err(refused("it holds for more than five years".to_owned()));
        }
        let of_owner = (verified.device, verified.signer());
        let known = self.certified.entry(of_owner).or_default();
        known.push(*verified.value());
        Ok(())
    }

    /// Checks a receipt and the batches that it cites, but for its amounts.
    fn checked(
        &self,
        written: Timestamp,
        receipt: &Signed<Receipt>,
        batches: &[Signed<Batch>],
        validated: impl Fn(TaskId, u32) -> bool,
    ) -> Result<Verified<Receipt>, Problem> {
        let problem = |fault| Problem::Receipt { fault };
        let receipt = receipt.clone().verify(&self.network).map_err(|error| {
            problem(ReceiptProblem::Statement {
                reason: error.to_string(),
            })
        })?;
        let signer = receipt.signer();
        if signer != self.node {
            return Err(problem(ReceiptProblem::OtherSigner { signer }));
        }
        if !receipt.is_well_formed() || !is_in_order(&receipt) {
            return Err(problem(ReceiptProblem::Malformed));
        }
        check_time(receipt.done_at, written)?;
        self.check_owner(&receipt).map_err(problem)?;
        let unvalidated = receipt
            .results()
            .map(|(_, _, unit)| unit)
            .find(|unit| !validated(receipt.task, *unit));
        if let Some(unit) = unvalidated {
            return Err(problem(ReceiptProblem::NotValidated { unit }));
        }
        self.check_batches(&receipt, batches).map_err(problem)?;
        Ok(receipt)
    }

    /// Checks that the device was its owner's while it did the work: a coordinator logs a certificate when it counts the
    /// first results under it, which is after they were leased and before they are agreed on.
    fn check_owner(&self, receipt: &Receipt) -> Result<(), ReceiptProblem> {
        let Holder { owner, device } = receipt.holder;
        if owner == device {
            return Ok(());
        }
        let known = self.certified.get(&(device, owner));
        let known = known.ok_or(ReceiptProblem::Uncertified { owner })?;
        let (leased_at, done_at) = (receipt.leased_at, receipt.done_at);
        let held = |certificate: &DeviceCertificate| certificate.held_between(leased_at, done_at);
        if known.iter().any(held) {
            return Ok(());
        }
        Err(ReceiptProblem::CertificateOver {
            owner,
            leased_at,
            done_at,
        })
    }

    /// Notes the leaves that a receipt cites, each for the first time.
    fn cite(&mut self, receipt: &Receipt) -> Result<(), ReceiptProblem> {
        for share in &receipt.shares {
            let batch = share.batch;
            let leaves = self.cited.entry((receipt.holder.device, batch));
            let leaves = leaves.or_default();
            for run in &share.runs {
                leaves
                    .insert(*run)
                    .map_err(|leaf| ReceiptProblem::CitedTwice { batch, leaf })?;
            }
        }
        Ok(())
    }

    fn check_batches(
        &self,
        receipt: &Receipt,
        batches: &[Signed<Batch>],
    ) -> Result<(), ReceiptProblem> {
        if batches.len() != receipt.shares.len() {
            return Err(ReceiptProblem::OtherBatches);
        }
        for (share, batch) in receipt.shares.iter().zip(batches) {
            let refused = |reason: String| ReceiptProblem::Batch {
                batch: share.batch,
                reason,
            };
            let verified = batch.clone().verify(&self.network);
            let batch = verified.map_err(|error| refused(format!("failed to {error}")))?;
            if batch.root != share.batch {
                return Err(ReceiptProblem::OtherBatches);
            }
            if batch.signer() != receipt.holder.device {
                return Err(refused(format!("{} signed it", batch.signer())));
            }
            if batch.coordinator != self.node {
                return Err(refused("it is for another coordinator".to_owned()));
            }
            let within = |run: &LeafRun| run.leaf.saturating_add(run.count) <= batch.count;
            if !share.runs.iter().all(within) {
                return Err(refused(format!("it has only {} leaves", batch.count)));
            }
        }
        Ok(())
    }

    /// Checks the amounts of a receipt, and notes what it pays.
    fn receipted(&mut self, receipt: &Verified<Receipt>) -> Result<Option<Posting>, Problem> {
        let (task, holder) = (receipt.task, receipt.holder);
        let open = self.tasks.get_mut(&task).ok_or(Problem::Settled { task })?;
        let problem = |fault| Problem::Receipt { fault };
        let (id, card) = &self.cards[open.card];
        if receipt.rate_card != *id {
            return Err(problem(ReceiptProblem::OtherCard));
        }
        let next = open.sequences.entry(holder).or_default();
        if receipt.sequence != *next {
            return Err(problem(ReceiptProblem::Sequence {
                expected: *next,
                found: receipt.sequence,
            }));
        }
        *next = next.saturating_add(1);
        let mut sums = Some(Counted::default());
        for (_, _, unit) in receipt.results() {
            let counted = open.units.pay(unit, holder, receipt.validation);
            let counted = counted.map_err(problem)?;
            sums = sums.and_then(|sums| sums.and(counted));
        }
        check_amounts(receipt, sums).map_err(problem)?;
        let before = open.cost;
        match receipt.validation {
            Validation::KnownAnswer => {}
            Validation::Quorum(agree) if agree == open.agree => {
                let after = before.with(receipt.points, &card.rates);
                open.cost = after.ok_or_else(too_large)?;
            }
            Validation::Quorum(_) => return Err(problem(ReceiptProblem::OtherQuorum)),
        }
        self.totals.receipts = self.totals.receipts.saturating_add(1);
        let points = receipt.points.as_micro();
        self.totals.points = self.totals.points.saturating_add(points);
        let (customer, after) = (open.customer, open.cost);
        let posting = posting::receipt((receipt.id(), receipt), (customer, card), (before, after));
        posting.map(Some).ok_or_else(too_large)
    }

    fn paid_out(&self, to: Payee, entry: &Entry) -> Result<Option<Posting>, Problem> {
        let Event::PaidOut {
            money, reference, ..
        } = &entry.event
        else {
            return Ok(None);
        };
        check_text(reference)?;
        let from = match to {
            Payee::Customer(customer) => Account::Customer(customer),
            Payee::Operator => Account::Revenue,
            Payee::Owner(owner) => {
                let drawn = posting::draw(&self.books, owner, *money, |card| self.rates(card));
                let drawn = drawn.map_err(|available| Problem::Posting {
                    reason: format!("the owner has points for {available} minor units only"),
                })?;
                return Ok(posting::payout(owner, &drawn, reference));
            }
        };
        Ok(posting::withdrawal(from, *money, reference))
    }

    /// Returns the rates of a version of the card, if it was published.
    fn rates(&self, version: u32) -> Option<&Rates> {
        let place = usize::try_from(version.checked_sub(1)?).ok()?;
        self.cards.get(place).map(|(_, card)| &card.rates)
    }

    fn clawed_back(
        &self,
        receipt: ReceiptId,
        issued: Issued<'_>,
    ) -> Result<Option<Posting>, Problem> {
        let unknown = || Problem::NoSuchReceipt { receipt };
        let entry = issued(receipt).ok_or_else(unknown)?;
        let Event::Receipted {
            receipt: signed, ..
        } = entry.event
        else {
            return Err(unknown());
        };
        let verified = signed.verify_with(&self.network, |_| true).ok();
        let verified = verified.filter(|verified| verified.id() == receipt);
        let card = verified.and_then(|verified| {
            let mut cards = self.cards.iter();
            cards.find(|(id, _)| *id == verified.rate_card)
        });
        let ((_, card), posting) = card.zip(entry.posting).ok_or_else(unknown)?;
        Ok(posting::clawback(
            receipt,
            &posting,
            (&self.books, &card.rates),
        ))
    }

    fn released(&self, entry: &Entry, at: Timestamp) -> Result<Option<Posting>, Problem> {
        check_time(at, entry.at)?;
        let lots = self.lots(entry, |account| {
            let Account::Escrow(lot) = account else {
                return None;
            };
            (lot.since <= at).then_some(lot)
        })?;
        Ok(posting::release(at, &lots))
    }

    fn expired(&self, entry: &Entry, card: u32, at: Timestamp) -> Result<Option<Posting>, Problem> {
        check_time(at, entry.at)?;
        let rates = self.rates(card).ok_or_else(|| Problem::Card {
            reason: format!("version {card} was not published"),
        })?;
        let lots = self.lots(entry, |account| {
            let Account::Spendable(lot) = account else {
                return None;
            };
            let is_due = |end: &Timestamp| *end <= at && lot.card == card;
            rates.expires(lot.since).filter(is_due).map(|_| lot)
        })?;
        if lots.is_empty() {
            return Ok(None);
        }
        posting::expiry(at, &lots, rates)
            .map(Some)
            .ok_or_else(too_large)
    }

    /// Returns the lots that the posting of an entry moves, each with all that stands there. Only the choice of the lots
    /// is taken from the posting.
    fn lots(
        &self,
        entry: &Entry,
        due: impl Fn(Account) -> Option<Lot>,
    ) -> Result<Vec<(Lot, Points)>, Problem> {
        let transfers = entry.posting.iter().flat_map(|posting| &posting.transfers);
        let points = transfers.filter(|transfer| transfer.commodity == Commodity::Points);
        let lot = |account: Account| {
            let lot = due(account).ok_or_else(|| Problem::Lot {
                lot: account.to_string(),
            })?;
            let there = self.books.balance(account, Commodity::Points).available();
            let there = u64::try_from(there).unwrap_or(0);
            Ok((lot, Points::from_micro(there)))
        };
        points.map(|transfer| lot(transfer.from)).collect()
    }
}

fn too_large() -> Problem {
    Problem::Posting {
        reason: "the amounts are too large".to_owned(),
    }
}

/// Returns until when the posting of an entry holds something.
fn held_until(entry: &Entry) -> Option<Timestamp> {
    let transfer = entry.posting.as_ref()?.transfers.first()?;
    match transfer.step {
        Step::Hold { until } => Some(until),
        Step::Move | Step::Post(_) | Step::Void(_) | Step::Expire(_) => None,
    }
}

fn check_time(says: Timestamp, written: Timestamp) -> Result<(), Problem> {
    if says <= written {
        Ok(())
    } else {
        Err(Problem::FromTheFuture { says })
    }
}

fn check_text(text: &str) -> Result<(), Problem> {
    if (1..=REFERENCE_BYTES_MAX).contains(&text.len()) {
        return Ok(());
    }
    let reason = format!("its reference has {} bytes", text.len());
    Err(Problem::Posting { reason })
}

/// Returns whether the results stand in the order of the batches and their leaves, none twice.
fn is_in_order(receipt: &Receipt) -> bool {
    let places = || receipt.results().map(|(batch, leaf, _)| (batch, leaf));
    places().zip(places().skip(1)).all(|(one, next)| one < next)
}

fn check_amounts(receipt: &Receipt, sums: Option<Counted>) -> Result<(), ReceiptProblem> {
    let sums = sums.unwrap_or_default();
    let amounts = [
        ("the fuel", sums.fuel, receipt.fuel),
        ("the number of bytes", sums.bytes, receipt.bytes),
        ("the number of pixels", sums.pixels, receipt.pixels),
        (
            "the number of micro-points",
            sums.points,
            receipt.points.as_micro(),
        ),
    ];
    match amounts.into_iter().find(|(_, sum, says)| sum != says) {
        None => Ok(()),
        Some((what, expected, found)) => Err(ReceiptProblem::Amount {
            what: what.to_owned(),
            expected,
            found,
        }),
    }
}

/// Compares the posting of an entry with the one that the rules give.
fn compare<'a>(
    expected: Option<&Posting>,
    found: Option<&'a Posting>,
) -> Result<Option<&'a Posting>, Problem> {
    if expected == found {
        return Ok(found);
    }
    let difference = match (expected, found) {
        (Some(_), None) => "it has none".to_owned(),
        (None, _) => "there should be none".to_owned(),
        (Some(expected), Some(found)) if expected.id != found.id => {
            format!("its id is {}, not {}", found.id, expected.id)
        }
        (Some(expected), Some(found)) => {
            let count = expected.transfers.len().max(found.transfers.len());
            let differs =
                |place: &usize| expected.transfers.get(*place) != found.transfers.get(*place);
            let place = (0..count).find(differs).unwrap_or(0);
            let say = |posting: &Posting| match posting.transfers.get(place) {
                Some(transfer) => transfer.to_string(),
                None => "nothing".to_owned(),
            };
            format!("it has {:?} instead of {:?}", say(found), say(expected))
        }
    };
    Err(Problem::OtherPosting { difference })
}
