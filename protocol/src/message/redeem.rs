//! App server and coordinator: points are set aside, taken, or given back.
//!
//! Each question may be asked again: it has the same answer, and nothing happens twice.

use serde::{Deserialize, Serialize};

use crate::account::Money;
use crate::certificate::DeviceCertificate;
use crate::id::RedemptionId;
use crate::message::Refusal;
use crate::points::Points;
use crate::redemption::{Redeem, Redemption, Reversal};
use crate::signed::Signed;
use crate::time::Timestamp;

/// The largest message of this conversation.
pub const REDEEM_BYTES_MAX: usize = 16 << 10;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedeemRequest {
    /// Set these points aside.
    Reserve {
        /// As their owner, or its device, signed it.
        redeem: Signed<Redeem>,
        /// What allows the device that signed; none if the owner did.
        certificate: Option<Signed<DeviceCertificate>>,
    },
    /// Take them: it is decided.
    Post(RedemptionId),
    /// Let them go: it is decided that they are not needed.
    Void(RedemptionId),
    /// Give back what was taken.
    Reverse(Signed<Reversal>),
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedeemReply {
    /// To reserve.
    Reserved(Reserved),
    /// To post; the same for ever.
    Posted(Signed<Redemption>),
    /// To void: nothing is set aside any more.
    Voided,
    /// To reverse: the points are given back.
    Reversed,
    /// It is not possible, for a reason that concerns the points.
    Not(RedeemFault),
    /// No.
    Refused(Refusal),
}

/// Points that are set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The name of the redemption.
    pub redemption: RedemptionId,
    /// What the coordinator will owe for them.
    pub value: Money,
    /// Until when they are set aside if nothing is decided.
    pub until: Timestamp,
}

/// Why points are not redeemed. Closed, so that each can be told and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum RedeemFault {
    /// The order for the redemption is for another coordinator or app server.
    #[error("it is for another coordinator or app server")]
    OtherAudience,
    /// It has expired.
    #[error("the order for the redemption has expired")]
    Expired,
    /// Who signed is neither the owner nor a device that may.
    #[error("whoever signed may not redeem in the owner's name")]
    NotAllowed,
    /// The device has redeemed as much as it may within 24 hours.
    #[error("the device may redeem {left} more points today")]
    DeviceLimit {
        /// How many it still may.
        left: Points,
    },
    /// No agreement is in force between coordinator and app server.
    #[error("no agreement between the coordinator and the app server is in force")]
    NoAgreement,
    /// There are not enough points to be spent, or they are in too many lots to be drawn at once.
    #[error("{available} points can be drawn at once")]
    TooFewPoints {
        /// How many can be.
        available: Points,
    },
    /// Points are worth nothing.
    #[error("the points are worth nothing")]
    Worthless,
    /// More would be redeemed in this period than the agreement allows.
    #[error("only {left} more can be redeemed in this period")]
    OverCap {
        /// What still can be.
        left: Money,
    },
    /// More would be redeemed and not settled than the agreement allows.
    #[error("only {left} more can be redeemed before the next settlement")]
    OverCredit {
        /// What still can be.
        left: Money,
    },
    /// Nothing is known of the redemption.
    #[error("nothing is known of the redemption")]
    Unknown,
    /// It was let go, or nothing was decided in time.
    #[error("the points are not set aside any more")]
    Over,
    /// It is decided already.
    #[error("the points are taken already")]
    Posted,
    /// What stood behind the points cannot be given back now.
    #[error("the coordinator has not the funds to undo it now")]
    Unfunded,
}
