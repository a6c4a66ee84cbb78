//! App server and coordinator: agreements, registrations, what devices have earned, and settlements.
//!
//! The app server asks; only the coordinator's news of points go the other way, over the same conversation. Everything
//! that is told here is a signed statement, so it may be told again, in any order, by anybody.

use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, AgreementFault};
use crate::countersignature::Countersigned;
use crate::id::NodeId;
use crate::message::Refusal;
use crate::registration::{PointStatement, Registration, Revocation};
use crate::settlement::{SettleReply, SettleRequest};
use crate::signed::Signed;

/// The most statements of one message.
pub const STATEMENTS_MAX: usize = 64;
/// The largest message of this conversation: [`STATEMENTS_MAX`] registrations of 4 KiB. A settlement of
/// [`crate::settlement::SETTLED_MAX`] redemptions and as many reversals has 225 KiB.
pub const REGISTRY_BYTES_MAX: usize = 300 << 10;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryRequest {
    /// To a coordinator: this is what we would agree on. Asked again until its operator has decided.
    Agree(Signed<Agreement>),
    /// To a coordinator: these devices are registered here.
    Register(Vec<Signed<Registration>>),
    /// To a coordinator: these are not any more.
    Revoke(Vec<Signed<Revocation>>),
    /// To a coordinator: what have these devices earned? At most [`STATEMENTS_MAX`].
    Points(Vec<NodeId>),
    /// To an app server: so many points have your devices by now.
    Told(Vec<Signed<PointStatement>>),
    /// To a coordinator: so much is due. Asked again until it has said yes or no.
    Settle(Box<SettleRequest>),
}

/// The answers, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryReply {
    /// To agree: how the proposal stands.
    Agreement(Proposal),
    /// To register and to revoke: how many statements are kept from now on, from the first one on. The next one breaks a
    /// bound; or all are.
    Kept(u32),
    /// To points: one statement for each device that is registered, in the order of the devices.
    Points(Vec<Signed<PointStatement>>),
    /// To told: heard and kept.
    Heard,
    /// To settle.
    Settlement(SettleReply),
    /// No.
    Refused(Refusal),
}

/// How a proposed agreement stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proposal {
    /// The operator has not decided.
    Waiting,
    /// Both signed.
    Made(Countersigned<Agreement>),
    /// The operator has said no.
    Declined,
    /// It cannot be one.
    Faulty(AgreementFault),
}
