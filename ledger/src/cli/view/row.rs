//! Entries in a list.

use serde::{Deserialize, Serialize};

use tally_protocol::account::{Commodity, Money};
use tally_protocol::books::Posting;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::entry::{Ending, Entry, Event, Fund, Part, Payee, ValidatedUnit};
use tally_protocol::id::{
    Hash, NetworkId, NodeId, OrderId, RateCardId, ReceiptId, RedemptionId, TaskId,
};
use tally_protocol::points::Points;
use tally_protocol::receipt::Receipt;
use tally_protocol::redemption::Reversal;
use tally_protocol::signed::Verified;
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use super::partners::{
    AgreementSummary, RedeemSummary, RedemptionSummary, RegistrationSummary, SettlementSummary,
    registered, revoked,
};
use crate::store::StoredEntry;

/// An entry in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRow {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was written; none if the bytes are no entry.
    pub at: Option<Timestamp>,
    /// Length of its bytes.
    pub bytes: u64,
    /// What it says.
    pub event: EventRow,
}

/// What an entry says, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventRow {
    /// A task was accepted.
    TaskAccepted {
        /// The task.
        task: TaskId,
        /// Its name and its customer, if the statement verifies.
        summary: Option<TaskSummary>,
    },
    /// Units were validated.
    BatchValidated {
        /// The task.
        task: TaskId,
        /// The device whose results closed the quorum.
        device: NodeId,
        /// The root that it signed.
        batch: Hash,
        /// How many units.
        units: u64,
        /// How many of them ended with output.
        done: u64,
        /// Fuel of all of them.
        fuel: u64,
    },
    /// A task came to its end.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
    },
    /// Nothing more will be paid for a task.
    TaskSettled {
        /// The task.
        task: TaskId,
        /// What was free again.
        freed: Option<Money>,
    },
    /// A rate card was published.
    RateCardPublished {
        /// Its id.
        card: RateCardId,
        /// Its version, if the statement verifies.
        version: Option<u32>,
    },
    /// A device has shown whose it is.
    DeviceCertified {
        /// Both, if the statement verifies.
        holder: Option<Certified>,
    },
    /// A receipt was issued.
    Receipted {
        /// Its id.
        receipt: ReceiptId,
        /// What it is about, if the statement verifies.
        summary: Option<ReceiptSummary>,
    },
    /// Money came in.
    Deposited {
        /// For whom.
        to: Fund,
        /// How much.
        money: Money,
        /// What the payment is called outside.
        reference: String,
    },
    /// Money went out.
    PaidOut {
        /// To whom.
        to: Payee,
        /// How much.
        money: Money,
        /// What the payment is called outside.
        reference: String,
    },
    /// A customer got money back.
    Refunded {
        /// Who.
        customer: NodeId,
        /// How much.
        money: Money,
        /// What the refund is called.
        reference: String,
    },
    /// A receipt was taken back.
    ClawedBack {
        /// Which.
        receipt: ReceiptId,
        /// Why.
        reason: String,
    },
    /// An agreement with an app server was made.
    AgreementMade {
        /// Which, if both signatures hold.
        summary: Option<AgreementSummary>,
    },
    /// A device is registered at an app server.
    DeviceRegistered {
        /// Which, if the statement verifies.
        summary: Option<RegistrationSummary>,
    },
    /// A device is not registered any more.
    RegistrationRevoked {
        /// Which, if the statement verifies.
        summary: Option<RegistrationSummary>,
    },
    /// Points were set aside for a redemption.
    PointsReserved {
        /// The redemption.
        redemption: RedemptionId,
        /// How many.
        points: Points,
        /// Whose and for whom, if the statement verifies.
        summary: Option<RedeemSummary>,
    },
    /// Points that were set aside are free again.
    ReservationEnded {
        /// The redemption.
        redemption: RedemptionId,
        /// How many.
        points: Points,
    },
    /// Points were redeemed.
    PointsRedeemed {
        /// How many.
        points: Points,
        /// Which, if the statement verifies.
        summary: Option<RedemptionSummary>,
    },
    /// Redeemed points were given back.
    RedemptionReversed {
        /// How many.
        points: Points,
        /// Which and why, if the statement verifies.
        summary: Option<Reversal>,
    },
    /// What is due between coordinator and app server.
    SettlementMade {
        /// What, if both signatures hold.
        summary: Option<SettlementSummary>,
    },
    /// What was due is paid.
    SettlementPaid {
        /// The other side.
        with: NodeId,
        /// The number of the settlement.
        number: u32,
        /// What the payment is called outside.
        reference: String,
    },
    /// An app server charges for an order.
    OrderCharged {
        /// The order.
        order: OrderId,
        /// Who ordered.
        user: NodeId,
        /// What is charged: what the user owes, and all parts.
        fee: Money,
        /// What the user owes.
        due: Money,
        /// What coordinators owe.
        parts: Vec<Part>,
    },
    /// A user has paid for an order.
    OrderPaid {
        /// The order.
        order: OrderId,
        /// Who ordered.
        user: NodeId,
        /// How much.
        money: Money,
        /// What the payment is called outside.
        reference: String,
    },
    /// An order comes to nothing.
    OrderRefunded {
        /// The order.
        order: OrderId,
        /// Who ordered.
        user: NodeId,
        /// What is not owed any more.
        due: Money,
        /// What is given back.
        paid: Money,
    },
    /// Points left escrow.
    Released {
        /// How many.
        points: Points,
    },
    /// Points expired.
    Expired {
        /// Under which version of the card.
        card: u32,
        /// How many.
        points: Points,
    },
    /// The bytes are no entry.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// The customer's name for it.
    pub name: String,
    /// Who asked.
    pub customer: NodeId,
}

/// Whose a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// The person.
    pub owner: NodeId,
    /// The computer.
    pub device: NodeId,
}

/// A receipt in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptSummary {
    /// The task.
    pub task: TaskId,
    /// Who earned.
    pub owner: NodeId,
    /// With which computer.
    pub device: NodeId,
    /// How many units.
    pub units: u32,
    /// What they are worth.
    pub points: Points,
}

impl EntryRow {
    /// Tells an entry in short. The statements in it are verified.
    #[must_use]
    pub fn of(stored: &StoredEntry, network: &NetworkId) -> Self {
        let (at, event) = match stored.decode() {
            Ok(entry) => (Some(entry.at), EventRow::of(&entry, network)),
            Err(error) => (
                None,
                EventRow::Unreadable {
                    reason: error.to_string(),
                },
            ),
        };
        Self {
            sequence: stored.sequence,
            at,
            bytes: stored.bytes.len() as u64,
            event,
        }
    }

    /// Returns the task that the entry is about.
    #[must_use]
    pub fn task(&self) -> Option<TaskId> {
        match &self.event {
            EventRow::TaskAccepted { task, .. }
            | EventRow::BatchValidated { task, .. }
            | EventRow::TaskEnded { task, .. }
            | EventRow::TaskSettled { task, .. } => Some(*task),
            EventRow::Receipted { summary, .. } => summary.as_ref().map(|receipt| receipt.task),
            EventRow::RateCardPublished { .. }
            | EventRow::DeviceCertified { .. }
            | EventRow::Deposited { .. }
            | EventRow::PaidOut { .. }
            | EventRow::Refunded { .. }
            | EventRow::ClawedBack { .. }
            | EventRow::AgreementMade { .. }
            | EventRow::DeviceRegistered { .. }
            | EventRow::RegistrationRevoked { .. }
            | EventRow::PointsReserved { .. }
            | EventRow::ReservationEnded { .. }
            | EventRow::PointsRedeemed { .. }
            | EventRow::RedemptionReversed { .. }
            | EventRow::SettlementMade { .. }
            | EventRow::SettlementPaid { .. }
            | EventRow::OrderCharged { .. }
            | EventRow::OrderPaid { .. }
            | EventRow::OrderRefunded { .. }
            | EventRow::Released { .. }
            | EventRow::Expired { .. }
            | EventRow::Unreadable { .. } => None,
        }
    }
}

impl EventRow {
    /// Tells an event in short.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "an arm for each event")]
    pub fn of(entry: &Entry, network: &NetworkId) -> Self {
        let posting = entry.posting.as_ref();
        match entry.event.clone() {
            Event::TaskAccepted { task, signed } => Self::TaskAccepted {
                task,
                summary: signed.verify(network).ok().map(TaskSummary::of),
            },
            Event::BatchValidated {
                task,
                device,
                batch,
                units,
            } => Self::validated(task, (device, batch), &units),
            Event::TaskEnded { task, ending } => Self::TaskEnded { task, ending },
            Event::TaskSettled { task, .. } => Self::TaskSettled {
                task,
                freed: freed(posting),
            },
            Event::RateCardPublished { card } => Self::RateCardPublished {
                card: card.id(),
                version: card.verify(network).ok().map(|card| card.version),
            },
            Event::DeviceCertified { certificate } => Self::DeviceCertified {
                holder: certificate.verify(network).ok().map(Certified::of),
            },
            Event::Receipted { receipt, .. } => Self::Receipted {
                receipt: receipt.id(),
                summary: receipt.verify(network).ok().map(ReceiptSummary::of),
            },
            Event::Deposited {
                to,
                money,
                reference,
            } => Self::Deposited {
                to,
                money,
                reference,
            },
            Event::PaidOut {
                to,
                money,
                reference,
            } => Self::PaidOut {
                to,
                money,
                reference,
            },
            Event::Refunded {
                customer,
                money,
                reference,
            } => Self::Refunded {
                customer,
                money,
                reference,
            },
            Event::ClawedBack { receipt, reason } => Self::ClawedBack { receipt, reason },
            Event::AgreementMade { agreement } => Self::AgreementMade {
                summary: AgreementSummary::of(agreement, network),
            },
            Event::DeviceRegistered { registration } => Self::DeviceRegistered {
                summary: registered(registration, network),
            },
            Event::RegistrationRevoked { revocation } => Self::RegistrationRevoked {
                summary: revoked(revocation, network),
            },
            Event::PointsReserved { redeem, .. } => Self::PointsReserved {
                redemption: RedemptionId::of(&redeem),
                points: points(posting),
                summary: RedeemSummary::of(redeem, network),
            },
            Event::ReservationEnded { redemption } => Self::ReservationEnded {
                redemption,
                points: points(posting),
            },
            Event::PointsRedeemed { redemption } => Self::PointsRedeemed {
                points: points(posting),
                summary: RedemptionSummary::of(redemption, network),
            },
            Event::RedemptionReversed { reversal } => Self::RedemptionReversed {
                points: points(posting),
                summary: reversal.verify(network).ok().map(|of| of.value().clone()),
            },
            Event::SettlementMade { settlement, .. } => Self::SettlementMade {
                summary: SettlementSummary::of(settlement, network),
            },
            Event::SettlementPaid {
                with,
                number,
                reference,
            } => Self::SettlementPaid {
                with,
                number,
                reference,
            },
            Event::OrderCharged {
                order,
                user,
                fee,
                due,
                parts,
            } => Self::OrderCharged {
                order,
                user,
                fee,
                due,
                parts,
            },
            Event::OrderPaid {
                order,
                user,
                money,
                reference,
            } => Self::OrderPaid {
                order,
                user,
                money,
                reference,
            },
            Event::OrderRefunded {
                order,
                user,
                due,
                paid,
            } => Self::OrderRefunded {
                order,
                user,
                due,
                paid,
            },
            Event::Released { .. } => Self::Released {
                points: points(posting),
            },
            Event::Expired { card, .. } => Self::Expired {
                card,
                points: points(posting),
            },
        }
    }

    fn validated(task: TaskId, (device, batch): (NodeId, Hash), units: &[ValidatedUnit]) -> Self {
        let fuel = units.iter().map(|unit| unit.fuel);
        Self::BatchValidated {
            task,
            device,
            batch,
            units: units.len() as u64,
            done: units.iter().filter(|unit| unit.outcome.is_done()).count() as u64,
            fuel: fuel.fold(0, u64::saturating_add),
        }
    }
}

impl TaskSummary {
    fn of(task: Verified<Task>) -> Self {
        Self {
            name: task.name.clone(),
            customer: task.customer,
        }
    }
}

impl Certified {
    fn of(certificate: Verified<DeviceCertificate>) -> Self {
        Self {
            owner: certificate.signer(),
            device: certificate.device,
        }
    }
}

impl ReceiptSummary {
    fn of(receipt: Verified<Receipt>) -> Self {
        Self {
            task: receipt.task,
            owner: receipt.holder.owner,
            device: receipt.holder.device,
            units: receipt.units,
            points: receipt.points,
        }
    }
}

/// Returns the money that a posting sets free.
fn freed(posting: Option<&Posting>) -> Option<Money> {
    let transfer = posting?.transfers.first()?;
    match transfer.commodity {
        Commodity::Money(currency) => Some(Money {
            currency,
            minor: transfer.amount,
        }),
        Commodity::Points => None,
    }
}

/// Returns how many points a posting moves.
fn points(posting: Option<&Posting>) -> Points {
    let transfers = posting.into_iter().flat_map(|posting| &posting.transfers);
    let moved = transfers
        .filter(|transfer| transfer.commodity == Commodity::Points)
        .fold(0, |sum: u64, transfer| sum.saturating_add(transfer.amount));
    Points::from_micro(moved)
}
