//! What nodes say to each other, one file a conversation.
//!
//! [`announce`] is gossip and role statements, [`work`] the talk between terminal and coordinator, [`customer`] the
//! talk between customer and coordinator, [`blob`] the transfer of content, [`log`] what a coordinator's log shows,
//! [`registry`] and [`redeem`] the talk between coordinator and app server, [`enroll`] that between app server and
//! terminal, [`reach`] how a node learns whether others reach it. A question and its answer go over one
//! libp2p stream; everything that outlives the connection is a [`crate::signed::Signed`] statement.

pub mod announce;
pub mod blob;
pub mod customer;
pub mod enroll;
pub mod log;
pub mod reach;
pub mod redeem;
pub mod registry;
pub mod wishes;
pub mod work;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Money;

/// The version of all message formats. A node of another version is refused with both numbers.
pub const PROTOCOL_VERSION: u16 = 4;

/// Why a node does not do what another asks. Closed, so that each can be counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The bytes are not a message of this conversation.
    Malformed,
    /// A statement whose signature, network or type is wrong.
    Unverified,
    /// A statement that has expired or that was used before.
    Stale,
    /// The asker does not play this role here.
    NotAdmitted,
    /// The node does not play the role that was asked for.
    WrongRole,
    /// The asker computes under another profile.
    WrongProfile,
    /// Nothing is known of the task.
    UnknownTask,
    /// The content is not here.
    UnknownBlob,
    /// The log does not reach that far.
    UnknownEntry,
    /// The task breaks a bound; the text names it.
    InvalidTask(String),
    /// The customer has not the funds that the task may cost.
    InsufficientFunds {
        /// The highest price of the task.
        needed: Money,
        /// What the customer can spend.
        available: Money,
    },
    /// The device shows a certificate that is for another device, or does not hold now.
    BadCertificate,
    /// The task names a rate card that is not the one in force.
    OtherRateCard,
    /// The device is not registered at an app server that the node has an agreement with.
    NotRegistered,
    /// No agreement between the two nodes is in force.
    NoAgreement,
    /// A bound of this node is reached: ask again later.
    Busy,
}

impl Refusal {
    /// Returns a name for counting, the same for every text inside.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unverified => "unverified",
            Self::Stale => "stale",
            Self::NotAdmitted => "not_admitted",
            Self::WrongRole => "wrong_role",
            Self::WrongProfile => "wrong_profile",
            Self::UnknownTask => "unknown_task",
            Self::UnknownBlob => "unknown_blob",
            Self::UnknownEntry => "unknown_entry",
            Self::InvalidTask(_) => "invalid_task",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::BadCertificate => "bad_certificate",
            Self::OtherRateCard => "other_rate_card",
            Self::NotRegistered => "not_registered",
            Self::NoAgreement => "no_agreement",
            Self::Busy => "busy",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Malformed => "the message was not understood",
            Self::Unverified => "a signature, network or statement type was wrong",
            Self::Stale => "a statement had expired or was used before",
            Self::NotAdmitted => "this key is not on the node's list",
            Self::WrongRole => "the node does not play this role",
            Self::WrongProfile => "the node works with another sandbox profile",
            Self::UnknownTask => "the node does not know this task",
            Self::UnknownBlob => "the node does not have this content",
            Self::UnknownEntry => "the log does not reach that far",
            Self::InvalidTask(reason) => reason,
            Self::InsufficientFunds { needed, available } => {
                let text = format!("up to {needed} are needed, {available} are there to be spent");
                return f.pad(&text);
            }
            Self::BadCertificate => {
                "the device's certificate is for another device or does not hold now"
            }
            Self::OtherRateCard => "the coordinator has another rate card by now",
            Self::NotRegistered => {
                "the device is not registered at an app server that the coordinator has an agreement with"
            }
            Self::NoAgreement => "no agreement between the two is in force",
            Self::Busy => "the node is at a limit, try again later",
        })
    }
}
