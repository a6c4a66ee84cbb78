//! Entries of the permanent log: what happened, once, in order, for ever.
//!
//! The stored bytes of an entry are the leaf of an RFC 6962 tree, so they are written once and never encoded again.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Money};
use crate::agreement::Agreement;
use crate::books::Posting;
use crate::certificate::DeviceCertificate;
use crate::countersignature::Countersigned;
use crate::id::{Hash, NodeId, OrderId, ReceiptId, RedemptionId, TaskId};
use crate::message::work::Batch;
use crate::rate_card::RateCard;
use crate::receipt::Receipt;
use crate::redemption::{Redeem, Redemption, Reversal};
use crate::registration::{Registration, Revocation};
use crate::settlement::Settlement;
use crate::signed::Signed;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::Outcome;

/// The longest entry in bytes: a validated batch of 1,024 units with its voters.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// When it was written, by the clock of the node.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// What that did to the books, by the rules of [`crate::posting`], or of [`crate::app_server::posting`].
    pub posting: Option<Posting>,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A task was accepted.
    TaskAccepted {
        /// The task.
        task: TaskId,
        /// As the customer signed it.
        signed: Signed<Task>,
    },
    /// A device's batch completed the quorum of these units.
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
    /// Nothing more will be paid for a task: what is left of its hold is free.
    TaskSettled {
        /// The task.
        task: TaskId,
        /// When, by the coordinator's clock: the hold has expired if its time was over.
        at: Timestamp,
    },
    /// The coordinator published a rate card.
    RateCardPublished {
        /// The card.
        card: Signed<RateCard>,
    },
    /// A device has shown that it belongs to an owner; from here on it earns for it.
    DeviceCertified {
        /// As the owner signed it.
        certificate: Signed<DeviceCertificate>,
    },
    /// A receipt was issued.
    Receipted {
        /// As the coordinator signed it.
        receipt: Signed<Receipt>,
        /// The batches of which it pays results, as the device signed them.
        batches: Vec<Signed<Batch>>,
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
        /// As both signed it.
        agreement: Countersigned<Agreement>,
    },
    /// A device is registered at an app server.
    DeviceRegistered {
        /// As the app server signed it.
        registration: Signed<Registration>,
    },
    /// A device is not registered any more.
    RegistrationRevoked {
        /// As the app server signed it.
        revocation: Signed<Revocation>,
    },
    /// Points were set aside for a redemption.
    PointsReserved {
        /// As the owner signed it.
        redeem: Signed<Redeem>,
        /// What allows the device that signed; none if the owner did.
        certificate: Option<Signed<DeviceCertificate>>,
        /// When, by the coordinator's clock: the agreement that is in force then says what they are worth.
        at: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// Points that were set aside are free again.
    ReservationEnded {
        /// The redemption.
        redemption: RedemptionId,
    },
    /// Points were redeemed.
    PointsRedeemed {
        /// As the coordinator signed it.
        redemption: Signed<Redemption>,
    },
    /// Redeemed points were given back.
    RedemptionReversed {
        /// As the app server signed it.
        reversal: Signed<Reversal>,
    },
    /// Points left escrow.
    Released {
        /// When, by the coordinator's clock.
        at: Timestamp,
    },
    /// Points expired under the rates of this version of the card.
    Expired {
        /// The version.
        card: u32,
        /// When, by the coordinator's clock.
        at: Timestamp,
    },
    /// A coordinator and an app server agree on what is due between them.
    SettlementMade {
        /// As both signed it.
        settlement: Countersigned<Settlement>,
        /// The redemptions that it counts, rising.
        redeemed: Vec<RedemptionId>,
        /// The reversals that it counts, rising.
        reversed: Vec<RedemptionId>,
    },
    /// What was due is paid, by whoever owed it.
    SettlementPaid {
        /// The other side: the app server in the log of a coordinator, and the other way round.
        with: NodeId,
        /// The number of the settlement.
        number: u32,
        /// What the payment is called outside.
        reference: String,
    },
    /// An app server charges for an order: all points that pay for it are taken.
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
    /// An order comes to nothing: its user owes nothing for it any more, and gets back what was paid. What coordinators
    /// owe for it is owed until they have given the points back.
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
}

/// What a coordinator owes for points that pay for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Who owes it.
    pub coordinator: NodeId,
    /// For what.
    pub redemption: RedemptionId,
    /// How much.
    pub money: Money,
}

/// The longest outside reference, and the longest reason, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 140;

/// What a deposit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fund {
    /// For the tasks of a customer.
    Customer(NodeId),
    /// For points that no customer pays.
    Subsidy,
}

impl Fund {
    /// Returns the account that the money comes to.
    #[must_use]
    pub const fn account(self) -> Account {
        match self {
            Self::Customer(customer) => Account::Customer(customer),
            Self::Subsidy => Account::Subsidy,
        }
    }
}

/// Who is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payee {
    /// A customer gets back what is not used.
    Customer(NodeId),
    /// An owner gets money for points.
    Owner(NodeId),
    /// The coordinator takes what it has earned.
    Operator,
}

/// A unit whose result is agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatedUnit {
    /// The unit.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// Length of its input in bytes.
    pub input_bytes: u64,
    /// Core pixels of its tile; 0 if it is none.
    pub pixels: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// Devices that reported this.
    pub agreed: Vec<NodeId>,
    /// Devices that reported something else.
    pub outvoted: Vec<NodeId>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With this result.
    Done(BlobRef),
    /// Without, for this reason.
    Failed(String),
    /// Stopped by the customer.
    Cancelled,
}
