//! Gossip: a coordinator tells that it has units. And the statement by which a node shows the roles it plays.
//!
//! An offer is a hint that costs little and may get lost; terminals learn the truth by asking ([`super::work`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, TaskId};
use crate::signed::Statement;
use crate::time::Timestamp;
use crate::unit::{Limits, ProfileId};

/// The most addresses in one statement, and the most bytes of each.
pub const ADDRESSES_MAX: usize = 4;
/// See [`ADDRESSES_MAX`].
pub const ADDRESS_BYTES_MAX: usize = 128;

/// Units of one task are to be had from the signer. For one task, only the highest epoch counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The task.
    pub task: TaskId,
    /// Grows with each offer of the task.
    pub epoch: u64,
    /// The program, so that terminals that have it can come first.
    pub program: BlobId,
    /// Length of the program's module in bytes.
    pub program_bytes: u64,
    /// The profile under which results are compared.
    pub profile: ProfileId,
    /// Bounds of each unit.
    pub limits: Limits,
    /// Units still to be leased, rounded down to a power of two.
    pub open_units: u32,
    /// Terminals wait a random part of this before they ask, in milliseconds.
    pub spread_millis: u32,
    /// Terminals whose draw for (device, task, epoch) is above this stay away: 65535 lets all come.
    pub sortition: u16,
    /// Where the signer listens, as multiaddresses without its peer id.
    pub addresses: Vec<String>,
    /// When the signer made it.
    pub issued: Timestamp,
    /// After this it means nothing.
    pub expires: Timestamp,
}

impl Statement for Offer {
    const TYPE: &'static str = "application/tally-offer+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

/// A role that a node plays for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes tasks and leases units.
    Coordinator,
    /// Runs units.
    Terminal,
    /// Helps others to find each other, nothing else.
    Bootstrap,
    /// Registers computers, and gives licenses and discounts for what they earn.
    AppServer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Coordinator => "coordinator",
            Self::Terminal => "terminal",
            Self::Bootstrap => "bootstrap",
            Self::AppServer => "app-server",
        })
    }
}

/// The roles of the signer. A node found in the DHT counts as a coordinator only once it has shown this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleStatement {
    /// [`super::PROTOCOL_VERSION`] of the signer.
    pub protocol: u16,
    /// What it plays.
    pub roles: Vec<Role>,
    /// After this it must be shown anew.
    pub expires: Timestamp,
}

impl Statement for RoleStatement {
    const TYPE: &'static str = "application/tally-role+cbor";
    const BYTES_MAX: usize = 1 << 10;
}
