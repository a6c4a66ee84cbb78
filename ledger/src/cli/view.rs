//! Entries as they are told: short in a list, whole when shown.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use tally_protocol::account::{Account, Commodity, Money};
use tally_protocol::books::Posting;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::codec::DecodeError;
use tally_protocol::entry::{Ending, Entry, Event, Fund, Payee, ValidatedUnit};
use tally_protocol::id::{Hash, NetworkId, NodeId, RateCardId, ReceiptId, TaskId};
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{self, Signed, Verified};
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

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
            | EventRow::Released { .. }
            | EventRow::Expired { .. }
            | EventRow::Unreadable { .. } => None,
        }
    }
}

impl EventRow {
    /// Tells an event in short.
    #[must_use]
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

/// Returns how many points a posting moves from lots.
fn points(posting: Option<&Posting>) -> Points {
    let transfers = posting.into_iter().flat_map(|posting| &posting.transfers);
    let moved = transfers
        .filter(|transfer| transfer.from.holder().is_some())
        .fold(0, |sum: u64, transfer| sum.saturating_add(transfer.amount));
    Points::from_micro(moved)
}

/// An entry with all that it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDetail {
    /// Its place in the log.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// Length of its bytes.
    pub bytes: u64,
    /// Its leaf in the tree.
    pub leaf: Hash,
    /// What it says.
    pub event: EventDetail,
    /// What that did to the books.
    pub posting: Option<Posting>,
}

/// All that an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventDetail {
    /// A task was accepted.
    TaskAccepted {
        /// The task.
        task: TaskId,
        /// What the customer signed.
        statement: Statement<Task>,
    },
    /// Units were validated.
    BatchValidated {
        /// The task.
        task: TaskId,
        /// The device whose results closed the quorum.
        device: NodeId,
        /// The root that it signed.
        batch: Hash,
        /// The units.
        units: Vec<ValidatedUnit>,
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
        /// When, by the coordinator's clock.
        at: Timestamp,
    },
    /// A rate card was published.
    RateCardPublished {
        /// Its id.
        card: RateCardId,
        /// What the coordinator signed.
        statement: Statement<RateCard>,
    },
    /// A device has shown whose it is.
    DeviceCertified {
        /// What the owner signed.
        statement: Statement<DeviceCertificate>,
    },
    /// A receipt was issued.
    Receipted {
        /// Its id.
        receipt: ReceiptId,
        /// What the coordinator signed.
        statement: Statement<Receipt>,
        /// What the device signed.
        batches: Vec<Statement<Batch>>,
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
    /// Points left escrow.
    Released {
        /// When, by the coordinator's clock.
        at: Timestamp,
    },
    /// Points expired.
    Expired {
        /// Under which version of the card.
        card: u32,
        /// When, by the coordinator's clock.
        at: Timestamp,
    },
}

/// A signed statement in an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement<T> {
    /// Its signature holds.
    Verified(Box<Says<T>>),
    /// Its signature was not checked.
    Unchecked(Box<Says<T>>),
    /// It is no such statement or its signature does not hold, for this reason.
    Refused(String),
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Says<T> {
    /// Who signed.
    pub signer: NodeId,
    /// The whole signed statement in hex; left out where the bytes of the entry stand beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// What was signed.
    #[serde(flatten)]
    pub content: T,
}

/// Whether the signatures of statements are checked when an entry is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checking {
    /// They are.
    Signatures,
    /// They are not, and the bytes of the entry stand beside.
    Nothing,
}

impl EntryDetail {
    /// Tells an entry whole.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no entry.
    pub fn of(
        stored: &StoredEntry,
        leaf: Hash,
        network: &NetworkId,
        checking: Checking,
    ) -> Result<Self, DecodeError> {
        let Entry {
            at, event, posting, ..
        } = stored.decode()?;
        Ok(Self {
            sequence: stored.sequence,
            at,
            bytes: stored.bytes.len() as u64,
            leaf,
            event: EventDetail::of(event, network, checking),
            posting,
        })
    }
}

impl EventDetail {
    fn of(event: Event, network: &NetworkId, checking: Checking) -> Self {
        match event {
            Event::TaskAccepted { task, signed } => Self::TaskAccepted {
                task,
                statement: Statement::of(signed, network, checking),
            },
            Event::BatchValidated {
                task,
                device,
                batch,
                units,
            } => Self::BatchValidated {
                task,
                device,
                batch,
                units,
            },
            Event::TaskEnded { task, ending } => Self::TaskEnded { task, ending },
            Event::TaskSettled { task, at } => Self::TaskSettled { task, at },
            Event::RateCardPublished { card } => Self::RateCardPublished {
                card: card.id(),
                statement: Statement::of(card, network, checking),
            },
            Event::DeviceCertified { certificate } => Self::DeviceCertified {
                statement: Statement::of(certificate, network, checking),
            },
            Event::Receipted { receipt, batches } => Self::Receipted {
                receipt: receipt.id(),
                statement: Statement::of(receipt, network, checking),
                batches: batches
                    .into_iter()
                    .map(|batch| Statement::of(batch, network, checking))
                    .collect(),
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
            Event::Released { at } => Self::Released { at },
            Event::Expired { card, at } => Self::Expired { card, at },
        }
    }
}

impl<T: signed::Statement + Clone> Statement<T> {
    pub(super) fn of(signed: Signed<T>, network: &NetworkId, checking: Checking) -> Self {
        match checking {
            Checking::Signatures => match signed.verify(network) {
                Ok(verified) => {
                    let hex = HEXLOWER.encode(verified.signed().as_bytes());
                    Self::Verified(Box::new(Says::of(&verified, Some(hex))))
                }
                Err(error) => Self::Refused(error.to_string()),
            },
            Checking::Nothing => match unchecked(signed, network) {
                Some(statement) => Self::Unchecked(Box::new(Says::of(&statement, None))),
                None => Self::Refused("read the statement".to_owned()),
            },
        }
    }

    /// Returns what the statement says if its signature holds.
    pub(super) fn verified(&self) -> Option<&Says<T>> {
        match self {
            Self::Verified(says) => Some(says),
            Self::Unchecked(_) | Self::Refused(_) => None,
        }
    }
}

impl<T: Clone> Says<T> {
    fn of(verified: &Verified<T>, signed: Option<String>) -> Self {
        Self {
            signer: verified.signer(),
            signed,
            content: verified.value().clone(),
        }
    }
}

/// Reads a statement without looking at its signature: to find entries, never to believe them.
fn unchecked<T: signed::Statement>(signed: Signed<T>, network: &NetworkId) -> Option<Verified<T>> {
    signed.verify_with(network, |_| true).ok()
}

/// Whom and what an entry is about, by what it says; signatures are not checked.
#[derive(Debug, Default)]
pub(crate) struct Parties {
    pub(crate) task: Option<TaskId>,
    pub(crate) receipt: Option<ReceiptId>,
    pub(crate) owners: Vec<NodeId>,
    pub(crate) devices: Vec<NodeId>,
}

impl Parties {
    pub(crate) fn of(entry: &Entry, network: &NetworkId) -> Self {
        let mut parties = Self::default();
        parties.add_event(&entry.event, network);
        let transfers = entry.posting.iter().flat_map(|posting| &posting.transfers);
        for account in transfers.flat_map(|transfer| [transfer.from, transfer.to]) {
            if let Some(holder) = account.holder() {
                parties.owners.push(holder.owner);
                parties.devices.push(holder.device);
            }
            match account {
                Account::Credit(owner) => parties.owners.push(owner),
                Account::Held(task) => parties.task = Some(task),
                Account::Issued
                | Account::Escrow(_)
                | Account::Spendable(_)
                | Account::Redeemed
                | Account::Expired
                | Account::Outside
                | Account::Customer(_)
                | Account::Subsidy
                | Account::Revenue
                | Account::Reserve => {}
            }
        }
        parties
    }

    fn add_event(&mut self, event: &Event, network: &NetworkId) {
        match event {
            Event::TaskAccepted { task, .. }
            | Event::TaskEnded { task, .. }
            | Event::TaskSettled { task, .. } => self.task = Some(*task),
            Event::BatchValidated {
                task,
                device,
                units,
                ..
            } => {
                self.task = Some(*task);
                self.devices.push(*device);
                let reported = |unit: &ValidatedUnit| [unit.agreed.clone(), unit.outvoted.clone()];
                self.devices
                    .extend(units.iter().flat_map(reported).flatten());
                self.devices.sort_unstable();
                self.devices.dedup();
            }
            Event::DeviceCertified { certificate } => {
                if let Some(certificate) = unchecked(certificate.clone(), network) {
                    self.owners.push(certificate.signer());
                    self.devices.push(certificate.device);
                }
            }
            Event::Receipted { receipt, .. } => {
                self.receipt = Some(receipt.id());
                if let Some(receipt) = unchecked(receipt.clone(), network) {
                    self.task = Some(receipt.task);
                    self.owners.push(receipt.holder.owner);
                    self.devices.push(receipt.holder.device);
                }
            }
            Event::PaidOut {
                to: Payee::Owner(owner),
                ..
            } => self.owners.push(*owner),
            Event::ClawedBack { receipt, .. } => self.receipt = Some(*receipt),
            Event::RateCardPublished { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => {}
        }
    }
}
