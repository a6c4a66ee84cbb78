//! Who works for the products of an app server, and what it knows of their points.
//!
//! A device enrols by signing an [`Enrolment`]; the app server answers with a [`Registration`], which it keeps in its user
//! database and sends to every coordinator that it has an agreement with. The device can show it with a pull as well: so
//! nobody needs a list of all terminals. A [`Revocation`] ends it. Coordinators tell the app server with
//! [`PointStatement`]s what its devices have earned.

use serde::{Deserialize, Serialize};

use crate::account::Holder;
use crate::certificate::{self, DeviceCertificate};
use crate::id::{Hash, NetworkId, NodeId};
use crate::points::Points;
use crate::product::ProductId;
use crate::signed::{Signed, Statement, Verified, VerifyError};
use crate::time::Timestamp;

/// The longest reason of a revocation or a reversal, in bytes.
pub const REASON_BYTES_MAX: usize = 140;

/// "This computer shall work for this product": signed by the device, when its owner has agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Whom it is for.
    pub app_server: NodeId,
    /// The product.
    pub product: ProductId,
    /// Who earns: the device itself, if nobody has certified it.
    pub owner: NodeId,
    /// When.
    pub at: Timestamp,
}

impl Statement for Enrolment {
    const TYPE: &'static str = "application/tally-enrolment+cbor";
    const BYTES_MAX: usize = 512;
}

/// "This computer is registered here": signed by the app server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The product.
    pub product: ProductId,
    /// The computer and who earns with it.
    pub holder: Holder,
    /// Whose the computer is, as it showed; none if it is its own owner.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// The computer's own word.
    pub enrolment: Signed<Enrolment>,
    /// When it was made.
    pub issued: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
    /// Rises with each registration of the device at this app server.
    pub serial: u64,
}

impl Statement for Registration {
    const TYPE: &'static str = "application/tally-registration+cbor";
    const BYTES_MAX: usize = 4 << 10;
}

/// Why a registration does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationFault {
    /// A signature in it does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The device's word is for another app server, product or owner, or of another device.
    #[error("match the enrolment: it is not what the registration says")]
    OtherEnrolment,
    /// The certificate does not say that the device is the owner's.
    #[error("match the certificate: it does not say whose the device is")]
    OtherOwner,
}

/// Checks a registration down to the signatures of the device and its owner. Whether it has expired is another
/// question.
///
/// # Errors
/// [`RegistrationFault`].
pub fn check(
    registration: &Verified<Registration>,
    network: &NetworkId,
) -> Result<(), RegistrationFault> {
    let holder = registration.holder;
    let enrolment = registration.enrolment.clone().verify(network)?;
    let is_same = enrolment.signer() == holder.device
        && enrolment.app_server == registration.signer()
        && enrolment.product == registration.product
        && enrolment.owner == holder.owner;
    if !is_same {
        return Err(RegistrationFault::OtherEnrolment);
    }
    let certificate = registration.certificate.clone();
    let certificate = certificate
        .map(|certificate| certificate.verify(network))
        .transpose()?;
    let shown = certificate::holder(holder.device, certificate.as_ref(), registration.issued);
    if shown == Ok(holder) {
        Ok(())
    } else {
        Err(RegistrationFault::OtherOwner)
    }
}

/// "This computer is not registered here any more": signed by the app server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The computer.
    pub device: NodeId,
    /// Ends registrations with this serial or a lower one.
    pub serial: u64,
    /// When.
    pub at: Timestamp,
    /// Why, at most [`REASON_BYTES_MAX`] bytes without control characters.
    pub reason: String,
}

impl Statement for Revocation {
    const TYPE: &'static str = "application/tally-revocation+cbor";
    const BYTES_MAX: usize = 512;
}

/// Returns whether a text may be the reason of a revocation or a reversal.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    text.len() <= REASON_BYTES_MAX && !text.chars().any(char::is_control)
}

/// "So many points has this computer with me": signed by the coordinator, for one app server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointStatement {
    /// Who may rely on it.
    pub app_server: NodeId,
    /// The computer and who earns with it.
    pub holder: Holder,
    /// All that was ever issued and not taken back.
    pub earned: Points,
    /// What cannot be spent yet.
    pub escrowed: Points,
    /// What can be spent.
    pub spendable: Points,
    /// What was spent or is reserved to be.
    pub redeemed: Points,
    /// So stand the books after this many entries of the log.
    pub size: u64,
    /// The root of the log then.
    pub root: Hash,
    /// When.
    pub at: Timestamp,
}

impl Statement for PointStatement {
    const TYPE: &'static str = "application/tally-point-statement+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn key(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes(key(number).verifying_key().to_bytes())
    }

    fn network() -> NetworkId {
        "test".parse().unwrap()
    }

    fn sign<T: Statement + Clone>(value: T, by: u8) -> Signed<T> {
        Verified::sign(value, &network(), &key(by)).signed().clone()
    }

    /// Device 3 of owner 2 at app server 1, as `enrolled` says and `certified` by whom.
    fn registration(enrolled: (u8, u8), certified: Option<u8>) -> Verified<Registration> {
        let at = Timestamp::from_millis(5_000);
        let product: ProductId = "photo".parse().unwrap();
        let (app_server, by) = enrolled;
        let enrolment = Enrolment {
            app_server: node(app_server),
            product: product.clone(),
            owner: node(2),
            at,
        };
        let certificate = DeviceCertificate {
            device: node(3),
            not_before: Timestamp::from_millis(0),
            not_after: Timestamp::from_millis(9_000),
            serial: 1,
            redeem_points: Points::ZERO,
        };
        let (owner, device) = (node(2), node(3));
        let registration = Registration {
            product,
            holder: Holder { owner, device },
            certificate: certified.map(|by| sign(certificate, by)),
            enrolment: sign(enrolment, by),
            issued: at,
            expires: Timestamp::from_millis(8_000),
            serial: 1,
        };
        Verified::sign(registration, &network(), &key(1))
    }

    #[test]
    fn a_registration_bears_the_word_of_the_device_and_of_its_owner() {
        let checked = |enrolled, certified| check(&registration(enrolled, certified), &network());
        assert_eq!(checked((1, 3), Some(2)), Ok(()));
        assert_eq!(
            checked((9, 3), Some(2)),
            Err(RegistrationFault::OtherEnrolment),
            "for another app server"
        );
        assert_eq!(
            checked((1, 4), Some(2)),
            Err(RegistrationFault::OtherEnrolment),
            "by another device"
        );
        assert_eq!(
            checked((1, 3), Some(4)),
            Err(RegistrationFault::OtherOwner),
            "of another owner"
        );
        assert_eq!(checked((1, 3), None), Err(RegistrationFault::OtherOwner));
    }
}
