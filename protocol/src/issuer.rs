//! Who may issue licenses: a key that the vendor's root key has certified.
//!
//! A vendor keeps its **root key** offline and pins the public half in its applications. The root key signs an
//! [`IssuerCertificate`] for the **issuer key** of an app server; the issuer key signs licenses, vouchers and
//! status lists, each with the certificate inside, so that whoever has the pinned root needs nothing else to check them.
//! Neither key is a peer id, and neither is ever taken from what is to be checked.
//!
//! Invariants: a certificate counts for what was issued while it held, whatever the time is now, so licenses outlive it;
//! a [`Certified`] exists only of a statement whose chain to a pinned root was checked; an [`Issuer`] signs only what
//! would pass that check, and signing the same value again gives the same bytes (ed25519 is deterministic).

use std::fmt;
use std::ops::RangeInclusive;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::armour::Armoured;
use crate::id::{NetworkId, NodeId};
use crate::signed::{Signed, Statement, Verified, VerifyError};
use crate::time::Timestamp;

/// The longest name of a vendor, in bytes: one line for people.
pub const VENDOR_BYTES_MAX: usize = 100;

/// Says, signed by a vendor's root key, that an app server may issue for the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerCertificate {
    /// The key that signs licenses.
    pub issuer: NodeId,
    /// The app server that holds it.
    pub app_server: NodeId,
    /// The vendor's name, for people: 1 to [`VENDOR_BYTES_MAX`] bytes.
    pub vendor: String,
    /// From when on it may issue.
    pub not_before: Timestamp,
    /// Until when, exclusive.
    pub not_after: Timestamp,
    /// Tells certificates of one root apart; a higher one is newer.
    pub serial: u64,
}

impl Statement for IssuerCertificate {
    const TYPE: &'static str = "application/tally-issuer-certificate+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

impl Armoured for IssuerCertificate {
    const LABEL: &'static str = "ISSUER CERTIFICATE";
}

impl IssuerCertificate {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`FieldError`], the first field that is out of its bounds.
    pub fn check(&self) -> Result<(), FieldError> {
        let named = is_line(&self.vendor, VENDOR_BYTES_MAX);
        field("vendor", named, "1 to 100 bytes without control characters")?;
        let lasts = self.not_before < self.not_after;
        field("not_after", lasts, "later than not_before")
    }

    /// Returns whether what was issued at `at` was issued while the certificate held.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.not_before <= at && at < self.not_after
    }
}

/// A statement by an issuer, which carries the certificate of its key.
pub trait Issued: Statement {
    /// Returns when it was issued.
    fn issued(&self) -> Timestamp;

    /// Returns the certificate of the key that signed it.
    fn issuer(&self) -> &Signed<IssuerCertificate>;

    /// Checks every bound.
    ///
    /// # Errors
    /// [`FieldError`], the first field that is out of its bounds.
    fn check(&self) -> Result<(), FieldError>;
}

/// A field of something that is issued is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accept the field {field}: it must be {bounds}")]
pub struct FieldError {
    field: &'static str,
    bounds: &'static str,
}

/// Checks one field.
pub(crate) const fn field(
    field: &'static str,
    holds: bool,
    bounds: &'static str,
) -> Result<(), FieldError> {
    if holds {
        Ok(())
    } else {
        Err(FieldError { field, bounds })
    }
}

/// Checks that a number of things is in its bounds.
pub(crate) fn counted(
    name: &'static str,
    count: usize,
    range: RangeInclusive<usize>,
    bounds: &'static str,
) -> Result<(), FieldError> {
    field(name, range.contains(&count), bounds)
}

/// Returns whether `text` has 1 to `bytes_max` bytes and can be shown as one line.
#[must_use]
pub fn is_line(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Returns whether each is above the one before: sorted, and none twice.
pub(crate) fn is_rising<T: Ord>(items: &[T]) -> bool {
    items.is_sorted_by(|one, next| one < next)
}

/// What an application or a shop pins: never taken from a license or from a user's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The vendor's root keys; more than one while a root is replaced.
    pub roots: Vec<NodeId>,
    /// The network for which licenses are issued.
    pub network: NetworkId,
}

/// A statement by an issuer that a pinned root has certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified<T> {
    statement: Verified<T>,
    certificate: Verified<IssuerCertificate>,
}

impl<T> Certified<T> {
    /// Returns the statement.
    #[must_use]
    pub const fn statement(&self) -> &Verified<T> {
        &self.statement
    }

    /// Returns the statement alone.
    #[must_use]
    pub fn into_statement(self) -> Verified<T> {
        self.statement
    }

    /// Returns the certificate of its issuer, which a pinned root has signed.
    #[must_use]
    pub const fn certificate(&self) -> &Verified<IssuerCertificate> {
        &self.certificate
    }
}

/// Why a statement by an issuer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It is no such statement, or its signature does not hold.
    #[error("verify the statement")]
    Statement(#[from] VerifyError),
    /// It says what no issuer says.
    #[error("accept its content")]
    Content(#[from] FieldError),
    /// The certificate in it is none, or its signature does not hold.
    #[error("verify the issuer's certificate")]
    Certificate(#[source] VerifyError),
    /// The certificate says what no vendor says.
    #[error("accept the content of the issuer's certificate")]
    CertificateContent(#[source] FieldError),
    /// The certificate is by a key that is not pinned.
    #[error("find {root}, who certified the issuer, among the pinned roots")]
    Root {
        /// Who signed the certificate.
        root: NodeId,
    },
    /// The certificate is for another key.
    #[error("accept a statement by {signer} with a certificate for {issuer}")]
    OtherIssuer {
        /// Who signed the statement.
        signer: NodeId,
        /// For whom the certificate is.
        issuer: NodeId,
    },
    /// The certificate did not hold when the statement was issued.
    #[error("accept a statement issued at {issued}, when the issuer's certificate did not hold")]
    NotThen {
        /// When it was issued.
        issued: Timestamp,
    },
}

impl Trust {
    /// Checks a statement by an issuer: its signature, its bounds, and that a pinned root had certified the signer when
    /// it was issued.
    ///
    /// # Errors
    /// [`TrustError`], the first thing found wrong.
    pub fn check<T: Issued>(&self, signed: Signed<T>) -> Result<Certified<T>, TrustError> {
        let statement = signed.verify(&self.network)?;
        statement.check()?;
        let certificate = statement.issuer().clone().verify(&self.network);
        let certificate = certificate.map_err(TrustError::Certificate)?;
        let content = certificate.check();
        content.map_err(TrustError::CertificateContent)?;
        let (root, signer, issued) = (certificate.signer(), statement.signer(), statement.issued());
        if !self.roots.contains(&root) {
            Err(TrustError::Root { root })
        } else if certificate.issuer != signer {
            let issuer = certificate.issuer;
            Err(TrustError::OtherIssuer { signer, issuer })
        } else if !certificate.holds(issued) {
            Err(TrustError::NotThen { issued })
        } else {
            Ok(Certified {
                statement,
                certificate,
            })
        }
    }
}

/// Issues for a vendor: the issuer key with its certificate.
pub struct Issuer {
    key: SigningKey,
    certificate: Verified<IssuerCertificate>,
    network: NetworkId,
}

/// Why something cannot be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The certificate is for another key.
    #[error("issue with the key {key}: the certificate is for {certified}")]
    OtherKey {
        /// The key at hand.
        key: NodeId,
        /// The key in the certificate.
        certified: NodeId,
    },
    /// A field is out of its bounds.
    #[error("issue what nobody would accept")]
    Content(#[from] FieldError),
    /// The certificate does not hold at the moment of issue.
    #[error("issue at {issued}: the vendor's certificate holds from {not_before} to {not_after}")]
    NotCertified {
        /// The moment of issue.
        issued: Timestamp,
        /// From when on the certificate holds.
        not_before: Timestamp,
        /// Until when.
        not_after: Timestamp,
    },
}

impl Issuer {
    /// Takes the issuer key and the certificate that the vendor's root key signed for it.
    ///
    /// # Errors
    /// [`IssueError`] if the certificate is for another key or out of its bounds.
    pub fn new(
        key: SigningKey,
        certificate: Verified<IssuerCertificate>,
        network: NetworkId,
    ) -> Result<Self, IssueError> {
        certificate.check()?;
        let own = NodeId::from_bytes(key.verifying_key().to_bytes());
        if certificate.issuer != own {
            let certified = certificate.issuer;
            return Err(IssueError::OtherKey {
                key: own,
                certified,
            });
        }
        Ok(Self {
            key,
            certificate,
            network,
        })
    }

    /// Returns the certificate that goes into everything that is issued.
    #[must_use]
    pub const fn certificate(&self) -> &Verified<IssuerCertificate> {
        &self.certificate
    }

    /// Signs what carries this issuer's certificate, if whoever pins the root will accept it.
    ///
    /// # Errors
    /// [`IssueError`] if a field is out of its bounds or the certificate does not hold at the moment of issue.
    pub fn sign<T: Issued>(&self, statement: T) -> Result<Verified<T>, IssueError> {
        statement.check()?;
        let own = statement.issuer() == self.certificate.signed();
        assert!(own, "what is issued carries the issuer's own certificate");
        let (certificate, issued) = (self.certificate.value(), statement.issued());
        if !certificate.holds(issued) {
            return Err(IssueError::NotCertified {
                issued,
                not_before: certificate.not_before,
                not_after: certificate.not_after,
            });
        }
        Ok(Verified::sign(statement, &self.network, &self.key))
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({:?})", self.certificate.issuer)
    }
}
