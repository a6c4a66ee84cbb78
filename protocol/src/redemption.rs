//! Points are redeemed: an owner orders something at an app server and pays with points of a coordinator.
//!
//! The owner, or a device that its certificate allows it, signs a [`Redeem`]. The coordinator is the only one who counts:
//! it sets the points aside (reserve), and takes them when the app server has decided (post). What is posted is a
//! [`Redemption`], signed by the coordinator, and is never undone but by a [`Reversal`] of the app server, which gives
//! the points back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::Money;
use crate::certificate::DeviceCertificate;
use crate::id::{Hash, NodeId, OrderId, RedemptionId};
use crate::points::Points;
use crate::signed::{Signed, Statement};
use crate::time::Timestamp;

/// How long points are set aside at most while nothing is decided.
pub const RESERVED_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The time over which the redemptions of a device in its owner's name are counted.
pub const DEVICE_PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// "Take these points of mine for this order."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeem {
    /// Whose points.
    pub owner: NodeId,
    /// Of which coordinator.
    pub coordinator: NodeId,
    /// Who may take them, and nobody else.
    pub app_server: NodeId,
    /// How many, above zero.
    pub points: Points,
    /// For what.
    pub order: OrderId,
    /// Drawn at random: two redemptions for one order are two.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 16],
    /// Nothing is reserved after this.
    pub expires: Timestamp,
}

impl Redeem {
    /// Returns until when points are set aside that are from `at` on.
    #[must_use]
    pub fn reserved_until(&self, at: Timestamp) -> Timestamp {
        self.expires.min(at + RESERVED_MAX)
    }
}

impl Statement for Redeem {
    const TYPE: &'static str = "application/tally-redeem+cbor";
    const BYTES_MAX: usize = 512;
}

impl RedemptionId {
    /// Returns the name of the redemption that a signed order for it makes: the first bytes of its SHA-256.
    #[must_use]
    pub fn of(redeem: &Signed<Redeem>) -> Self {
        let hash: [u8; 32] = Sha256::digest(redeem.as_bytes()).into();
        Self::from_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
    }
}

/// "I have taken these points": signed by the coordinator, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// As its owner signed it.
    pub redeem: Signed<Redeem>,
    /// What allows the device that signed; none if the owner did.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// The agreement by which the points are worth something: SHA-256 of its statement.
    pub agreement: Hash,
    /// What the coordinator owes the app server for them.
    pub value: Money,
    /// When.
    pub at: Timestamp,
}

impl Statement for Redemption {
    const TYPE: &'static str = "application/tally-redemption+cbor";
    const BYTES_MAX: usize = 4 << 10;
}

/// "Give the points back": signed by the app server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reversal {
    /// What is undone.
    pub redemption: RedemptionId,
    /// Why, at most [`crate::registration::REASON_BYTES_MAX`] bytes without control characters.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Statement for Reversal {
    const TYPE: &'static str = "application/tally-reversal+cbor";
    const BYTES_MAX: usize = 512;
}
