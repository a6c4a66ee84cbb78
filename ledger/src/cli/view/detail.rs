//! An entry with all that it says, its statements verified or not.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use tally_protocol::account::Money;
use tally_protocol::agreement::Agreement;
use tally_protocol::books::Posting;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::codec::DecodeError;
use tally_protocol::countersignature::Countersignature;
use tally_protocol::entry::{Ending, Entry, Event, Fund, Part, Payee, ValidatedUnit};
use tally_protocol::id::{
    Hash, NetworkId, NodeId, OrderId, RateCardId, ReceiptId, RedemptionId, TaskId,
};
use tally_protocol::message::work::Batch;
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::redemption::{Redeem, Reversal};
use tally_protocol::registration::Revocation;
use tally_protocol::settlement::Settlement;
use tally_protocol::signed::{self, Signed, Verified};
use tally_protocol::task::Task;
use tally_protocol::time::Timestamp;

use super::parties::unchecked;
use super::partners::{RedemptionDetail, RegistrationDetail};
use crate::store::StoredEntry;

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
    /// An agreement with an app server was made.
    AgreementMade {
        /// What the app server signed.
        statement: Statement<Agreement>,
        /// What the coordinator signed.
        agreed: Statement<Countersignature>,
    },
    /// A device is registered at an app server.
    DeviceRegistered {
        /// What the app server signed.
        statement: Statement<RegistrationDetail>,
    },
    /// A device is not registered any more.
    RegistrationRevoked {
        /// What the app server signed.
        statement: Statement<Revocation>,
    },
    /// Points were set aside for a redemption.
    PointsReserved {
        /// Its name.
        redemption: RedemptionId,
        /// What the owner, or its device, signed.
        statement: Statement<Redeem>,
        /// What allows the device that signed; none if the owner did.
        certificate: Option<Statement<DeviceCertificate>>,
        /// When, by the coordinator's clock.
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
        /// What the coordinator signed.
        statement: Statement<RedemptionDetail>,
    },
    /// Redeemed points were given back.
    RedemptionReversed {
        /// What the app server signed.
        statement: Statement<Reversal>,
    },
    /// What is due between coordinator and app server.
    SettlementMade {
        /// What the app server signed.
        statement: Statement<Settlement>,
        /// What the coordinator signed.
        agreed: Statement<Countersignature>,
        /// The redemptions that it counts.
        redeemed: Vec<RedemptionId>,
        /// The reversals that it counts.
        reversed: Vec<RedemptionId>,
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
    #[expect(clippy::too_many_lines, reason = "an arm for each event")]
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
            Event::AgreementMade { agreement } => Self::AgreementMade {
                statement: Statement::of(agreement.statement, network, checking),
                agreed: Statement::of(agreement.agreed, network, checking),
            },
            Event::DeviceRegistered { registration } => Self::DeviceRegistered {
                statement: RegistrationDetail::of(registration, network, checking),
            },
            Event::RegistrationRevoked { revocation } => Self::RegistrationRevoked {
                statement: Statement::of(revocation, network, checking),
            },
            Event::PointsReserved {
                redeem,
                certificate,
                at,
                until,
            } => Self::PointsReserved {
                redemption: RedemptionId::of(&redeem),
                statement: Statement::of(redeem, network, checking),
                certificate: certificate.map(|shown| Statement::of(shown, network, checking)),
                at,
                until,
            },
            Event::ReservationEnded { redemption } => Self::ReservationEnded { redemption },
            Event::PointsRedeemed { redemption } => Self::PointsRedeemed {
                statement: RedemptionDetail::of(redemption, network, checking),
            },
            Event::RedemptionReversed { reversal } => Self::RedemptionReversed {
                statement: Statement::of(reversal, network, checking),
            },
            Event::SettlementMade {
                settlement,
                redeemed,
                reversed,
            } => Self::SettlementMade {
                statement: Statement::of(settlement.statement, network, checking),
                agreed: Statement::of(settlement.agreed, network, checking),
                redeemed,
                reversed,
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
            Event::Released { at } => Self::Released { at },
            Event::Expired { card, at } => Self::Expired { card, at },
        }
    }
}

impl<T: signed::Statement + Clone> Statement<T> {
    pub(in crate::cli) fn of(signed: Signed<T>, network: &NetworkId, checking: Checking) -> Self {
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
}

impl<T> Statement<T> {
    /// Returns what the statement says if its signature holds.
    pub(in crate::cli) fn verified(&self) -> Option<&Says<T>> {
        match self {
            Self::Verified(says) => Some(says),
            Self::Unchecked(_) | Self::Refused(_) => None,
        }
    }

    /// Tells what the statement says in another way.
    pub(super) fn map<U>(self, tell: impl FnOnce(T) -> U) -> Statement<U> {
        let map = |says: Says<T>| Says {
            signer: says.signer,
            signed: says.signed,
            content: tell(says.content),
        };
        match self {
            Self::Verified(says) => Statement::Verified(Box::new(map(*says))),
            Self::Unchecked(says) => Statement::Unchecked(Box::new(map(*says))),
            Self::Refused(reason) => Statement::Refused(reason),
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
