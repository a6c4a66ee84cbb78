//! Which computer belongs to whom.
//!
//! An owner's key may stay offline. It signs once for each computer that this device is its owner's; the
//! device shows the certificate with every pull, and what it computes is counted to the owner. A device without a
//! certificate is its own owner.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Holder;
use crate::id::NodeId;
use crate::points::Points;
use crate::signed::{Statement, Verified};
use crate::time::Timestamp;

/// The longest time for which a certificate holds.
pub const LIFE_MAX: Duration = Duration::from_secs(5 * 366 * 86_400);
/// How far the clocks of honest computers may be apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(600);

/// Says, signed by an owner, that a device is the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCertificate {
    /// The computer.
    pub device: NodeId,
    /// From when on.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Tells certificates of one owner apart; a higher one is newer.
    pub serial: u64,
    /// The most points that the device may redeem in its owner's name in 24 hours; none if zero.
    pub redeem_points: Points,
}

impl DeviceCertificate {
    /// Returns whether it held at some moment from `from` to `to`, by clocks that are not quite those of its owner.
    #[must_use]
    pub fn held_between(&self, from: Timestamp, to: Timestamp) -> bool {
        self.not_before <= to + CLOCKS_APART_MAX && self.not_after + CLOCKS_APART_MAX > from
    }
}

impl Statement for DeviceCertificate {
    const TYPE: &'static str = "application/tally-device-certificate+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

/// Why a certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CertificateFault {
    /// It is for another computer.
    #[error("the certificate is for another device")]
    OtherDevice,
    /// It does not hold yet.
    #[error("the certificate does not hold yet")]
    NotYet,
    /// It has expired.
    #[error("the certificate has expired")]
    Expired,
    /// It holds for longer than any may.
    #[error("the certificate holds for more than five years")]
    TooLong,
}

/// Returns who earns with `device`, which shows this certificate.
///
/// # Errors
/// [`CertificateFault`] if it shows one that does not count.
pub fn holder(
    device: NodeId,
    certificate: Option<&Verified<DeviceCertificate>>,
    now: Timestamp,
) -> Result<Holder, CertificateFault> {
    let Some(certificate) = certificate else {
        return Ok(Holder::alone(device));
    };
    if certificate.device != device {
        Err(CertificateFault::OtherDevice)
    } else if certificate.not_after.since(certificate.not_before) > LIFE_MAX {
        Err(CertificateFault::TooLong)
    } else if certificate.not_before > now + CLOCKS_APART_MAX {
        Err(CertificateFault::NotYet)
    } else if certificate.not_after <= now {
        Err(CertificateFault::Expired)
    } else {
        let owner = certificate.signer();
        Ok(Holder { owner, device })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn certified(device: u8, from: u64, to: u64) -> Verified<DeviceCertificate> {
        let certificate = DeviceCertificate {
            device: NodeId::from_bytes([device; 32]),
            not_before: Timestamp::from_millis(from),
            not_after: Timestamp::from_millis(to),
            serial: 1,
            redeem_points: Points::ZERO,
        };
        let network = "test".parse().unwrap();
        Verified::sign(certificate, &network, &SigningKey::from_bytes(&[9; 32]))
    }

    #[test]
    fn a_certified_device_earns_for_its_owner_while_the_certificate_holds() {
        let (device, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let certificate = certified(1, 1_000_000, 2_000_000);
        let at = |millis| holder(device, Some(&certificate), Timestamp::from_millis(millis));
        let owner = certificate.signer();
        assert_eq!(at(1_000_000), Ok(Holder { owner, device }));
        assert_eq!(at(399_999), Err(CertificateFault::NotYet));
        assert_eq!(at(400_000), Ok(Holder { owner, device }));
        assert_eq!(at(2_000_000), Err(CertificateFault::Expired));
        let now = Timestamp::from_millis(1_000_000);
        assert_eq!(
            holder(other, Some(&certificate), now),
            Err(CertificateFault::OtherDevice)
        );
        assert_eq!(holder(other, None, now), Ok(Holder::alone(other)));
        let between = |from, to| {
            let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
            certificate.held_between(from, to)
        };
        assert!(between(0, 400_000) && between(2_599_999, 9_000_000) && between(0, 9_000_000));
        assert!(!between(0, 399_999) && !between(2_600_000, 9_000_000));
        let long = certified(1, 0, u64::MAX);
        assert_eq!(
            holder(device, Some(&long), now),
            Err(CertificateFault::TooLong)
        );
    }
}
