//! What users and shops say to an app server, and what it answers: in the place of its HTTP interface.
//!
//! Whoever asks may ask again: a request names what it is about, and an idempotency key where something new comes of
//! it. Payments are told by whoever pays, in the place of a payment service; refunds are asked for by whom they concern,
//! in the place of the operator.

use tally_protocol::account::Money;
use tally_protocol::app_server::{Goods, IdempotencyKey, OrderStatus, Wish};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{NodeId, OrderId};
use tally_protocol::points::Points;
use tally_protocol::redemption::Redeem;
use tally_protocol::registration::{Enrolment, Registration};
use tally_protocol::signed::{Signed, Statement};
use tally_protocol::voucher::{Split, Voucher};

/// Bytes of the text around what is said, about.
const TEXT_BYTES: u64 = 300;

/// Points that are to pay for an order, with what allows the device that signed.
pub type SignedRedeem = (Signed<Redeem>, Option<Signed<DeviceCertificate>>);

/// What is asked.
#[derive(Debug, Clone)]
pub enum ShopRequest {
    /// A computer wants to work for a product.
    Enrol {
        /// Its word.
        enrolment: Signed<Enrolment>,
        /// Whose it is; none if it is its own owner.
        certificate: Option<Signed<DeviceCertificate>>,
    },
    /// What can this owner spend?
    Points(NodeId),
    /// An owner orders something.
    Open {
        /// Who.
        owner: NodeId,
        /// What.
        wish: Wish,
        /// The same key again has the same answer.
        key: IdempotencyKey,
    },
    /// These points are to pay for an order.
    Redeem {
        /// The order.
        order: OrderId,
        /// The points, all at once.
        points: Vec<SignedRedeem>,
    },
    /// How is this order?
    Look(OrderId),
    /// The user's part of an order is paid.
    Pay {
        /// The order.
        order: OrderId,
        /// How the outside names the payment.
        reference: String,
    },
    /// A shop uses a voucher.
    Use {
        /// The voucher.
        voucher: Signed<Voucher>,
        /// The shop's fee.
        fee: Money,
        /// The same key again has the same answer.
        key: IdempotencyKey,
    },
    /// Nobody wants this order any more.
    Cancel(OrderId),
    /// This order is to be undone.
    Refund(OrderId),
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum ShopReply {
    /// The computer is registered.
    Registered(Signed<Registration>),
    /// What can be spent at each coordinator, as far as the app server has heard.
    Points(Vec<(NodeId, Points)>),
    /// How the order is, and what was issued for it if that was asked.
    Order(Box<OrderStatus>, Option<Box<Goods>>),
    /// Who pays the shop's fee.
    Split(Split),
    /// It is done.
    Done,
    /// No: the code of the fault.
    Refused(&'static str),
}

impl ShopRequest {
    /// Returns a name for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Enrol { .. } => "enrol",
            Self::Points(_) => "ask points",
            Self::Open { .. } => "order",
            Self::Redeem { .. } => "redeem",
            Self::Look(_) => "ask order",
            Self::Pay { .. } => "pay",
            Self::Use { .. } => "use voucher",
            Self::Cancel(_) => "cancel order",
            Self::Refund(_) => "refund",
        }
    }

    /// Returns about how long it is.
    pub(crate) fn bytes(&self) -> u64 {
        let signed = match self {
            Self::Enrol {
                enrolment,
                certificate,
            } => length(enrolment) + certificate.as_ref().map_or(0, length),
            Self::Redeem { points, .. } => points
                .iter()
                .map(|(redeem, shown)| length(redeem) + shown.as_ref().map_or(0, length))
                .sum(),
            Self::Use { voucher, .. } => length(voucher),
            Self::Points(_)
            | Self::Open { .. }
            | Self::Look(_)
            | Self::Pay { .. }
            | Self::Cancel(_)
            | Self::Refund(_) => 0,
        };
        TEXT_BYTES + signed
    }
}

impl ShopReply {
    /// Returns a name for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Registered(_) => "registered",
            Self::Points(_) => "points",
            Self::Order(..) => "order is",
            Self::Split(_) => "split",
            Self::Done => "done",
            Self::Refused(_) => "refused",
        }
    }

    /// Returns what it says to whoever did something on purpose: the fault, or its kind.
    pub(crate) const fn says(&self) -> &'static str {
        match self {
            Self::Refused(code) => code,
            Self::Registered(_)
            | Self::Points(_)
            | Self::Order(..)
            | Self::Split(_)
            | Self::Done => self.kind(),
        }
    }

    /// Returns about how long it is.
    pub(crate) fn bytes(&self) -> u64 {
        let signed = match self {
            Self::Registered(registration) => length(registration),
            Self::Order(_, Some(goods)) => match goods.as_ref() {
                Goods::License { license, .. } => length(license),
                Goods::Voucher { voucher, .. } => length(voucher),
            },
            Self::Points(of) => of.len() as u64 * 100,
            Self::Order(_, None) | Self::Split(_) | Self::Done | Self::Refused(_) => 0,
        };
        TEXT_BYTES + signed
    }
}

fn length<T: Statement>(signed: &Signed<T>) -> u64 {
    signed.as_bytes().len() as u64
}
