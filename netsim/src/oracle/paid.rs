//! What is agreed on is paid, once, and the books say nothing else.

use std::collections::{BTreeMap, BTreeSet};

use tally_ledger::audit;
use tally_ledger::store::{Change, Draft, Store};
use tally_protocol::account::{Account, Commodity, Holder};
use tally_protocol::books::{Balance, Books};
use tally_protocol::coordinator::Coordinator;
use tally_protocol::entry::{Event, ValidatedUnit};
use tally_protocol::id::{BlobId, NetworkId, NodeId, RateCardId, ReceiptId, TaskId};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Measured, Rates};
use tally_protocol::receipt::{Receipt, Validation};
use tally_protocol::signed::{Signed, Statement};
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// The longest log that is audited as a whole, in entries.
const AUDITED_MAX: u64 = 20_000;

/// Follows what each coordinator writes, and keeps books of its own.
#[derive(Debug, Default)]
pub(super) struct Paid(BTreeMap<Peer, Clerk>);

/// Reads one log from its beginning.
#[derive(Debug, Default)]
struct Clerk {
    books: Books,
    last_time: Timestamp,
    cards: BTreeMap<RateCardId, (u32, Rates)>,
    /// Owners of devices that are not their own.
    owners: BTreeMap<NodeId, NodeId>,
    tasks: BTreeMap<TaskId, Bill>,
    receipts: BTreeSet<ReceiptId>,
}

/// A task that is not settled.
#[derive(Debug)]
struct Bill {
    rates: Rates,
    card: RateCardId,
    program: BlobId,
    fuel_limit: u64,
    agree: usize,
    /// Validated units, with whom each is still to pay.
    due: BTreeMap<u32, Due>,
}

#[derive(Debug)]
struct Due {
    points: Points,
    /// Who agreed and is not paid.
    devices: BTreeSet<NodeId>,
    /// Owners who agreed, or were paid for the known answer.
    owners: BTreeSet<NodeId>,
}

impl Due {
    /// Notes that a result is paid. Returns what it is worth; none if it is not owed.
    fn pay(&mut self, holder: Holder, validation: Validation) -> Option<Points> {
        let is_owed = match validation {
            Validation::Quorum(_) => self.devices.remove(&holder.device),
            Validation::KnownAnswer => self.owners.insert(holder.owner),
        };
        is_owed.then_some(self.points)
    }
}

impl Oracle for Paid {
    fn name(&self) -> &'static str {
        "paid once"
    }

    fn claim(&self) -> &'static str {
        "Each agreed unit is paid to as many owners as must agree, each once, by its measure and the rate card; none \
         to an owner whose the device is not; \
         every credit cites one receipt; books, tables and log say the same, and all points are funded."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        let Happening::Receipted {
            to, owner, receipt, ..
        } = what
        else {
            return Check::Nothing;
        };
        Check::that(reference.owner(*to) == Some(*owner), || {
            let (receipt, owner) = (receipt.short(), owner.short());
            format!("receipt {receipt} for {to} names {owner} as its owner, who is another one")
        })
    }

    fn commits(&mut self, _: &Reference, coordinator: Peer, change: &Change) -> Check {
        let clerk = self.0.entry(coordinator).or_default();
        let mut check = Check::Nothing;
        for draft in &change.events {
            match clerk.read(draft) {
                Ok(()) => check = Check::Holds,
                Err(what) => return Check::Breaks(format!("{coordinator} writes {what}")),
            }
        }
        check
    }

    fn restored(
        &mut self,
        _: &Reference,
        coordinator: Peer,
        (machine, store): (&Coordinator, &Store),
    ) -> Check {
        let clerk = self.0.entry(coordinator).or_default();
        clerk.compare(coordinator, (machine, store))
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        for (peer, machine, store) in world.coordinators() {
            let Some(clerk) = self.0.get(&peer) else {
                continue;
            };
            // A group that is being written is in the machine only.
            if !world.is_writing(peer)
                && let Check::Breaks(what) = clerk.compare(peer, (machine, store))
            {
                return Check::Breaks(what);
            }
            if let Err(what) = audited(store) {
                return Check::Breaks(format!("the audit of {peer} says: {what}"));
            }
        }
        Check::Holds
    }
}

impl Clerk {
    fn read(&mut self, draft: &Draft) -> Result<(), String> {
        self.last_time = self.last_time.max(draft.at);
        if let Some(posting) = &draft.posting {
            let posted = self.books.post(self.last_time, posting);
            posted.map_err(|fault| format!("a posting that is not possible: {fault}"))?;
        }
        let issued = issued(draft);
        if issued > 0 && !matches!(draft.event, Event::Receipted { .. }) {
            return Err(format!("a credit of {issued} upt without a receipt"));
        }
        match &draft.event {
            Event::RateCardPublished { card } => {
                let id = card.id();
                let card = content(card)?;
                self.cards.insert(id, (card.version, card.rates));
            }
            Event::DeviceCertified { certificate } => {
                let signer = certificate
                    .clone()
                    .verify_with(&network(), |_| true)
                    .map_err(|error| error.to_string())?;
                self.owners.insert(signer.device, signer.signer());
            }
            Event::TaskAccepted { task, signed } => self.accept(*task, signed)?,
            Event::BatchValidated { task, units, .. } => self.validate(*task, units)?,
            Event::Receipted { receipt, .. } => self.pay(receipt, issued)?,
            Event::TaskSettled { task, .. } => self.settle(*task)?,
            Event::TaskEnded { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
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
            | Event::OrderRefunded { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => {}
        }
        Ok(())
    }

    fn owner(&self, device: NodeId) -> NodeId {
        self.owners.get(&device).copied().unwrap_or(device)
    }

    fn accept(&mut self, id: TaskId, signed: &Signed<Task>) -> Result<(), String> {
        let task = content(signed)?;
        let (_, rates) = self
            .cards
            .get(&task.rate_card)
            .ok_or_else(|| format!("task {} with a card that was never published", id.short()))?;
        let bill = Bill {
            rates: rates.clone(),
            card: task.rate_card,
            program: task.program.id,
            fuel_limit: task.limits.fuel,
            agree: usize::from(task.quorum.agree),
            due: BTreeMap::new(),
        };
        self.tasks.insert(id, bill);
        Ok(())
    }

    fn validate(&mut self, task: TaskId, units: &[ValidatedUnit]) -> Result<(), String> {
        for validated in units {
            let owners = validated.agreed.iter().map(|device| self.owner(*device));
            let owners: BTreeSet<NodeId> = owners.collect();
            let Some(bill) = self.tasks.get_mut(&task) else {
                return Err(format!("a unit of task {}, which is settled", task.short()));
            };
            let unit = validated.unit;
            let count = owners.len();
            if count != validated.agreed.len() || count < bill.agree {
                return Err(format!("unit {unit} agreed by {count} owners only"));
            }
            let measured = Measured {
                outcome: validated.outcome,
                fuel: validated.fuel,
                fuel_limit: bill.fuel_limit,
                bytes: validated.input_bytes + validated.output.bytes,
                pixels: validated.pixels,
            };
            let points = bill.rates.points(bill.program, &measured);
            let due = Due {
                points: points.ok_or("an amount that cannot be counted")?,
                devices: validated.agreed.iter().copied().collect(),
                owners,
            };
            // One that is validated twice is the matter of another oracle.
            bill.due.entry(unit).or_insert(due);
        }
        Ok(())
    }

    fn pay(&mut self, signed: &Signed<Receipt>, issued: u64) -> Result<(), String> {
        let id = signed.id();
        let receipt = content(signed)?;
        let holder = receipt.holder;
        let name = format!("receipt {} of task {}", id.short(), receipt.task.short());
        if !self.receipts.insert(id) {
            return Err(format!("{name} twice"));
        }
        if self.owner(holder.device) != holder.owner {
            return Err(format!("{name} for another owner"));
        }
        let Some(bill) = self.tasks.get_mut(&receipt.task) else {
            return Err(format!("{name}, which is settled"));
        };
        let mut points = 0;
        for (_, _, unit) in receipt.results() {
            let due = bill.due.get_mut(&unit);
            let owed = due.and_then(|due| due.pay(holder, receipt.validation));
            let Some(owed) = owed else {
                return Err(format!("{name}, which pays unit {unit} that is not owed"));
            };
            points += owed.as_micro();
        }
        if (points, points) != (receipt.points.as_micro(), issued) {
            let said = receipt.points.as_micro();
            return Err(format!(
                "{name} over {said} upt, credited are {issued}, its units are worth {points}"
            ));
        }
        if receipt.rate_card != bill.card {
            return Err(format!("{name} by another rate card"));
        }
        Ok(())
    }

    fn settle(&mut self, task: TaskId) -> Result<(), String> {
        let Some(bill) = self.tasks.remove(&task) else {
            return Err(format!("that task {} is settled twice", task.short()));
        };
        let unpaid = bill.due.iter().find(|(_, due)| !due.devices.is_empty());
        match unpaid {
            Some((unit, _)) => Err(format!(
                "that task {} is settled, unit {unit} is not paid",
                task.short()
            )),
            None => Ok(()),
        }
    }

    /// Holds the books of the machine, of the tables and of the log against each other.
    fn compare(&self, peer: Peer, (machine, store): (&Coordinator, &Store)) -> Check {
        let tables = store.books().expect("a store that opens can be read");
        if *machine.books() != self.books {
            return Check::Breaks(format!("the books of {peer} are not those of its log"));
        }
        if tables != self.books {
            return Check::Breaks(format!("the tables of {peer} are not those of its log"));
        }
        match self.unbalanced() {
            Some(what) => Check::Breaks(format!("of the books of {peer} {what}")),
            None => Check::Holds,
        }
    }

    /// Says what does not add up.
    fn unbalanced(&self) -> Option<String> {
        let mut sums: BTreeMap<Commodity, (u128, u128)> = BTreeMap::new();
        let mut outstanding: BTreeMap<u32, u64> = BTreeMap::new();
        let mut reserve = 0;
        for ((account, commodity), balance) in self.books.balances() {
            let Balance {
                debits, credits, ..
            } = *balance;
            let sum = sums.entry(*commodity).or_default();
            sum.0 += u128::from(debits);
            sum.1 += u128::from(credits);
            if balance.available() < 0 && !account.is_source() {
                return Some(format!("{account} is below zero"));
            }
            match account {
                Account::Escrow(lot) | Account::Spendable(lot) => {
                    *outstanding.entry(lot.card).or_default() += credits - debits;
                }
                Account::Reserve => reserve = balance.posted(),
                _ => {}
            }
        }
        // Transient lines are gone with equal sums, so the rest is equal too.
        if let Some((commodity, (debits, credits))) =
            sums.iter().find(|(_, (debits, credits))| debits != credits)
        {
            return Some(format!("{credits} {commodity} came and {debits} went"));
        }
        let behind = |(version, points): (&u32, &u64)| {
            let rates = self.cards.values().find(|(card, _)| card == version);
            let reserve = rates?.1.reserve.of_floor(Points::from_micro(*points))?;
            Some(i128::from(reserve))
        };
        let needed: i128 = outstanding.iter().filter_map(behind).sum();
        (reserve < needed).then(|| format!("{reserve} are in the reserve, {needed} are needed"))
    }
}

/// Returns the points that a posting issues, in micro-points.
fn issued(draft: &Draft) -> u64 {
    let transfers = draft.posting.iter().flat_map(|posting| &posting.transfers);
    let issued = transfers.filter(|transfer| transfer.from == Account::Issued);
    issued.map(|transfer| transfer.amount).sum()
}

pub(super) fn audited(store: &Store) -> Result<(), String> {
    let head = store.head().map_err(|error| error.to_string())?;
    if head.size() > AUDITED_MAX {
        return Ok(());
    }
    let audited = audit::audit(store, &mut |_| {}).map_err(|error| error.to_string())?;
    let report = audited.report;
    if let Some(finding) = report.finding {
        return Err(finding.to_string());
    }
    match report.invariants.iter().find(|invariant| !invariant.holds) {
        Some(broken) => Err(format!("{broken:?}")),
        None => Ok(()),
    }
}

/// Reads a statement; that it is signed is the matter of who wrote it.
pub(super) fn content<T: Statement + Clone>(signed: &Signed<T>) -> Result<T, String> {
    let read = signed.clone().verify_with(&network(), |_| true);
    read.map(|verified| verified.value().clone())
        .map_err(|error| error.to_string())
}

pub(super) fn network() -> NetworkId {
    "netsim".parse().expect("a legal name")
}
