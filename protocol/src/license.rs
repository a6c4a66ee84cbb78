//! Licenses: what a user application checks before it starts, without asking anyone.
//!
//! A license is a text file (see [`armour`](crate::armour)) that an issuer signed for a holder when an order was
//! fulfilled. It says for which product and until when it holds, on which computers, where in the issuer's
//! [`StatusList`] it may be suspended or revoked, and which redemptions of points paid for it. An application pins the
//! vendor's root key, its own product and the network, and calls [`verify`]: that says what is the case, with a [`Code`]
//! out of a closed list. What the application does about it is its own decision; [`Code::allows_start`] is the usual one.
//!
//! A computer shows that it is one of the license's by a [`DeviceProof`]: its terminal signs a fresh challenge of the
//! application with the device key. A copied license file is therefore of no use elsewhere; a copied device key is only
//! noticed when the license is renewed.
//!
//! Invariants: a license is a function of the order, the terms of the product and the issuer, so that issuing it again
//! after a crash gives the same bytes; its id is a function of the app server and the order alone. Lists in it
//! are sorted and name nothing twice.

mod status;
mod verify;

pub use status::{STATUS_BYTES_MAX, Status, StatusList};
pub use verify::{CLOCK_BACK_MAX, Challenge, Code, Known, Pins, Verdict, verify};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::armour::Armoured;
use crate::id::{Hash, LicenseId, NodeId, OrderId, ReceiptId, RedemptionId};
use crate::issuer::{
    FieldError, IssueError, Issued, Issuer, IssuerCertificate, counted, field, is_line, is_rising,
};
use crate::merkle;
use crate::points::Points;
use crate::product::ProductId;
use crate::signed::{Signed, Statement, Verified};
use crate::time::Timestamp;

/// The most entitlements of a license: an application looks each of its features up in the list.
pub const ENTITLEMENTS_MAX: usize = 64;
/// The longest entitlement, in bytes: the name of a feature.
pub const ENTITLEMENT_BYTES_MAX: usize = 64;
/// The most computers of a license: those of one household or workshop.
pub const DEVICES_MAX: usize = 32;
/// The most redemptions behind one order: all must be reserved at the same time, each at another coordinator.
pub const REDEMPTIONS_MAX: usize = 32;
/// The longest life of a license: a hundred years, for those that are meant to hold for ever.
pub const LIFE_SECONDS_MAX: u64 = 100 * 366 * 86_400;
/// The longest grace, and the longest time for which a status list may stand in for a newer one: a year.
pub const GRACE_SECONDS_MAX: u64 = 366 * 86_400;

/// What a holder may use, where and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    /// Names the license.
    pub id: LicenseId,
    /// The application that it is for.
    pub product: ProductId,
    /// What of the application may be used; the words are the vendor's.
    pub entitlements: Vec<String>,
    /// Whose it is: an owner's key.
    pub holder: NodeId,
    /// The computers that it is for; none for any.
    pub devices: Vec<NodeId>,
    /// When it was issued: the issuer's certificate must have held then, and no clock is right that shows less.
    pub issued: Timestamp,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when, exclusive.
    pub expires: Timestamp,
    /// For how long an application may go on after it expired, or without a fresh status list, in seconds.
    pub grace_seconds: u64,
    /// For what it is renewed; none if it is not.
    pub renewal: Option<Renewal>,
    /// Where it may be suspended or revoked.
    pub status: StatusRef,
    /// What paid for it.
    pub basis: Basis,
    /// The certificate of the key that signed it.
    pub issuer: Signed<IssuerCertificate>,
}

/// So many points renew a license for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Points, above zero.
    pub points: Points,
    /// For how long, in seconds.
    pub period_seconds: u64,
}

/// Where in the status lists of its issuer a license stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRef {
    /// Its place, never given to another license.
    pub index: u32,
    /// For how long a list is as good as a new one, in seconds. A license counts as a list of its own: it says that it
    /// was valid when it was issued.
    pub max_age_seconds: u64,
}

/// What paid for a license or a voucher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The redemptions, rising; none if it was paid with money alone.
    pub redemptions: Vec<RedemptionId>,
    /// The root of the tree (RFC 6962) whose leaves are the ids of the receipts that were shown for them, rising.
    pub receipts_root: Hash,
}

impl Basis {
    /// Returns the basis with these redemptions and receipts, in whatever order.
    #[must_use]
    pub fn of(mut redemptions: Vec<RedemptionId>, mut receipts: Vec<ReceiptId>) -> Self {
        sort(&mut redemptions);
        sort(&mut receipts);
        let leaf = |receipt: ReceiptId| merkle::leaf_hash(receipt.as_bytes());
        Self {
            redemptions,
            receipts_root: merkle::root(receipts.into_iter().map(leaf)),
        }
    }

    pub(crate) fn check(&self) -> Result<(), FieldError> {
        let (few, rising) = (
            self.redemptions.len() <= REDEMPTIONS_MAX,
            is_rising(&self.redemptions),
        );
        let bounds = "at most 32 redemptions, rising";
        field("basis.redemptions", few && rising, bounds)
    }
}

/// Sorts and drops what is there twice.
fn sort<T: Ord>(items: &mut Vec<T>) {
    items.sort_unstable();
    items.dedup();
}

impl Statement for License {
    const TYPE: &'static str = "application/tally-license+cbor";
    const BYTES_MAX: usize = 16 << 10;
}

impl Armoured for License {
    const LABEL: &'static str = "LICENSE";
}

impl Issued for License {
    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn issuer(&self) -> &Signed<IssuerCertificate> {
        &self.issuer
    }

    fn check(&self) -> Result<(), FieldError> {
        check_entitlements(&self.entitlements)?;
        let few = self.devices.len() <= DEVICES_MAX && is_rising(&self.devices);
        field("devices", few, "at most 32 devices, rising")?;
        let starts = self.issued <= self.not_before && self.not_before < self.expires;
        field(
            "expires",
            starts,
            "later than not_before, and that not before issued",
        )?;
        let life_millis = self.expires.as_millis() - self.not_before.as_millis();
        check_life(life_millis.div_ceil(1_000))?;
        check_grace(self.grace_seconds)?;
        check_max_age(self.status.max_age_seconds)?;
        check_renewal(self.renewal)?;
        self.basis.check()
    }
}

fn check_entitlements(entitlements: &[String]) -> Result<(), FieldError> {
    let name = "entitlements";
    counted(name, entitlements.len(), 0..=ENTITLEMENTS_MAX, "at most 64")?;
    let line = |entitlement: &String| is_line(entitlement, ENTITLEMENT_BYTES_MAX);
    let lines = entitlements.iter().all(line) && is_rising(entitlements);
    field(
        name,
        lines,
        "1 to 64 bytes each without control characters, rising",
    )
}

fn check_life(seconds: u64) -> Result<(), FieldError> {
    let fits = (1..=LIFE_SECONDS_MAX).contains(&seconds);
    field(
        "expires",
        fits,
        "1 second to a hundred years after not_before",
    )
}

fn check_grace(seconds: u64) -> Result<(), FieldError> {
    field(
        "grace_seconds",
        seconds <= GRACE_SECONDS_MAX,
        "at most a year",
    )
}

fn check_max_age(seconds: u64) -> Result<(), FieldError> {
    let fits = (1..=GRACE_SECONDS_MAX).contains(&seconds);
    field("status.max_age_seconds", fits, "1 second to a year")
}

fn check_renewal(renewal: Option<Renewal>) -> Result<(), FieldError> {
    let fits = renewal.is_none_or(|renewal| {
        renewal.points > Points::ZERO && (1..=LIFE_SECONDS_MAX).contains(&renewal.period_seconds)
    });
    field(
        "renewal",
        fits,
        "some points for 1 second to a hundred years",
    )
}

/// What every license of a product says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseTerms {
    /// The application.
    pub product: ProductId,
    /// What of it may be used.
    pub entitlements: Vec<String>,
    /// For how long, in seconds.
    pub life_seconds: u64,
    /// For how long an application may go on afterwards, or without a fresh status list, in seconds.
    pub grace_seconds: u64,
    /// For how long a status list is as good as a new one, in seconds.
    pub status_max_age_seconds: u64,
    /// For what a license is renewed; none if it is not.
    pub renewal: Option<Renewal>,
}

/// What is known of an order when it is fulfilled, and never changes afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseOrder {
    /// The order.
    pub order: OrderId,
    /// Whose license it is.
    pub holder: NodeId,
    /// For which computers; none for any.
    pub devices: Vec<NodeId>,
    /// When the last condition was met: the points posted, the user's part paid.
    pub issued: Timestamp,
    /// From when on the license holds; `issued`, or where the one before ends if this renews it.
    pub not_before: Timestamp,
    /// A place in the status lists that no other license has.
    pub status_index: u32,
    /// What paid for it.
    pub basis: Basis,
}

impl LicenseId {
    /// Returns the id of the license for an order at an app server.
    #[must_use]
    pub fn of(app_server: NodeId, order: OrderId) -> Self {
        Self::from_bytes(issued_id("license", app_server, order))
    }
}

/// Returns an id for what is issued for an order: the first half of SHA-256 over kind, a zero, app server and order.
pub(crate) fn issued_id(kind: &str, app_server: NodeId, order: OrderId) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(kind)
        .chain_update([0])
        .chain_update(app_server.as_bytes())
        .chain_update(order.as_bytes())
        .finalize()
        .into();
    let (id, _) = hash.split_first_chunk().expect("16 of 32 bytes");
    *id
}

impl License {
    /// Issues the license for an order. The same order, terms and issuer give the same bytes.
    ///
    /// # Errors
    /// [`IssueError`] if a field would be out of its bounds or the issuer is not certified at that moment.
    pub fn issue(
        order: LicenseOrder,
        terms: LicenseTerms,
        issuer: &Issuer,
    ) -> Result<Verified<Self>, IssueError> {
        let certificate = issuer.certificate();
        let (mut devices, mut entitlements) = (order.devices, terms.entitlements);
        sort(&mut devices);
        sort(&mut entitlements);
        check_life(terms.life_seconds)?;
        issuer.sign(Self {
            id: LicenseId::of(certificate.app_server, order.order),
            product: terms.product,
            entitlements,
            holder: order.holder,
            devices,
            issued: order.issued,
            not_before: order.not_before,
            expires: order.not_before + Duration::from_secs(terms.life_seconds),
            grace_seconds: terms.grace_seconds,
            renewal: terms.renewal,
            status: StatusRef {
                index: order.status_index,
                max_age_seconds: terms.status_max_age_seconds,
            },
            basis: order.basis,
            issuer: certificate.signed().clone(),
        })
    }

    /// Returns whether something of the application may be used.
    #[must_use]
    pub fn entitles(&self, to: &str) -> bool {
        self.entitlements
            .iter()
            .any(|entitlement| entitlement == to)
    }
}

/// Says, signed by a device, that it has the device key at this moment: the answer to a challenge of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProof {
    /// The license that is to be used.
    pub license: LicenseId,
    /// What the application drew at random for this answer.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
    /// When, by the device's clock. The nonce shows that the answer is fresh; this is for the log only.
    pub at: Timestamp,
}

impl Statement for DeviceProof {
    const TYPE: &'static str = "application/tally-device-proof+cbor";
    const BYTES_MAX: usize = 1 << 10;
}
