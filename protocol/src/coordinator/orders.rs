//! What the operator may order.

use serde::{Deserialize, Serialize};

use crate::account::{Currency, Money};
use crate::books::{Posting, PostingFault};
use crate::entry::{Fund, Payee};
use crate::id::NodeId;
use crate::receipt::Receipt;
use crate::signed::Verified;

/// What the operator may have done with money and points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Money is moved.
    Move {
        /// From where to where.
        movement: Movement,
        /// How much.
        money: Money,
        /// What the payment is called in the outside world: each is posted once.
        reference: String,
    },
    /// A receipt is taken back.
    ClawBack {
        /// The receipt.
        receipt: Box<Verified<Receipt>>,
        /// What was posted with it.
        issued: Posting,
        /// Why.
        reason: String,
    },
    /// A settlement is paid, by whoever owes it.
    PaySettlement {
        /// With whom it was made.
        app_server: NodeId,
        /// Its number.
        number: u32,
        /// What the payment is called in the outside world.
        reference: String,
    },
}

/// From where to where money is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    /// It has come in.
    Deposit(Fund),
    /// It goes out. An owner is paid for the oldest points that it can spend, as many as have so much behind them.
    PayOut(Payee),
    /// A customer gets it back from what the coordinator has earned.
    Refund(NodeId),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// The same was ordered before.
    #[error("{reference:?} is posted already")]
    Repeated {
        /// The reference.
        reference: String,
    },
    /// A text that is not one.
    #[error("{reference:?} is no reference: 1 to 140 bytes without control characters")]
    Reference {
        /// The reference.
        reference: String,
    },
    /// An amount of nothing, or one that does not fit.
    #[error("{money} cannot be posted")]
    Amount {
        /// The amount.
        money: Money,
    },
    /// The coordinator counts in another currency.
    #[error("{money} is not in {expected}, the currency of the rate card")]
    Currency {
        /// The amount.
        money: Money,
        /// The currency.
        expected: Currency,
    },
    /// There is too little.
    #[error(transparent)]
    Posting(#[from] PostingFault),
    /// Nothing is left of what was to be taken back.
    #[error("nothing of the receipt can be taken back")]
    NothingLeft,
    /// No such settlement is to be paid.
    #[error("no settlement {number} with {app_server} is to be paid")]
    NoSettlement {
        /// With whom.
        app_server: NodeId,
        /// The number.
        number: u32,
    },
}
