//! The certificate file of a device: whose it is, as its owner signed it.
//!
//! The file is text: a line that says what it is, the signed certificate in base64, and a line for people. It is no
//! secret: the terminal shows it to every coordinator.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use tally_protocol::certificate::{CertificateFault, DeviceCertificate, holder};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::points::Points;
use tally_protocol::signed::{Signed, Verified, VerifyError};
use tally_protocol::time::Timestamp;

use crate::folder;

/// The first line of a certificate file.
const HEADER: &str = "tally device certificate, format 1";
/// The longest file in bytes: a certificate has less than 300.
const BYTES_MAX: u64 = 8 << 10;
/// A certificate that ends within this time is to be renewed.
const NEAR_END: Duration = Duration::from_secs(30 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is something else.
    #[error("read the certificate {0}: not a certificate file of format 1")]
    Format(PathBuf),
    /// What it says was not signed so.
    #[error("read the certificate {path}")]
    Unverified {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifyError,
    },
    /// The disk says no.
    #[error("use the certificate {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How it stands with a device's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certified {
    /// It holds for long.
    Holds,
    /// It holds, and should be renewed.
    EndsSoon,
    /// It does not count.
    Not(CertificateFault),
}

/// Certifies for `owner` that `device` is its own from `now` on, for so long, and may redeem so many points a day.
#[must_use]
pub fn certify(
    owner: &SigningKey,
    (device, redeem_points): (NodeId, Points),
    (now, life): (Timestamp, Duration),
    network: &NetworkId,
) -> Verified<DeviceCertificate> {
    let certificate = DeviceCertificate {
        device,
        not_before: now,
        not_after: now + life,
        // Whoever certifies again later makes the newer one.
        serial: now.as_millis(),
        redeem_points,
    };
    Verified::sign(certificate, network, owner)
}

/// Returns how it stands with a certificate for `device`.
#[must_use]
pub fn standing(
    certificate: &Verified<DeviceCertificate>,
    device: NodeId,
    now: Timestamp,
) -> Certified {
    match holder(device, Some(certificate), now) {
        Err(fault) => Certified::Not(fault),
        Ok(_) if certificate.not_after.since(now) < NEAR_END => Certified::EndsSoon,
        Ok(_) => Certified::Holds,
    }
}

/// Writes a certificate to `path`, in the place of an older one.
///
/// # Errors
/// [`CertificateError::Io`].
pub fn write(
    path: &Path,
    certificate: &Verified<DeviceCertificate>,
) -> Result<(), CertificateError> {
    let text = format!(
        "{HEADER}\n{}\ndevice {}, owner {}, until {}\n",
        BASE64.encode(certificate.signed().as_bytes()),
        certificate.device,
        certificate.signer(),
        certificate.not_after
    );
    folder::write_whole(path, text.as_bytes()).map_err(|source| CertificateError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads a certificate; none if there is no file.
///
/// # Errors
/// [`CertificateError`].
pub fn read(
    path: &Path,
    network: &NetworkId,
) -> Result<Option<Verified<DeviceCertificate>>, CertificateError> {
    let failed = |source| CertificateError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(about) if about.len() > BYTES_MAX => {
            return Err(CertificateError::Format(path.to_owned()));
        }
        Ok(_) => {}
    }
    let text = std::fs::read(path).map_err(failed)?;
    let signed = parse(&text).ok_or_else(|| CertificateError::Format(path.to_owned()))?;
    let verified = signed.verify(network);
    let verified = verified.map_err(|source| CertificateError::Unverified {
        path: path.to_owned(),
        source,
    });
    verified.map(Some)
}

fn parse(text: &[u8]) -> Option<Signed<DeviceCertificate>> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    let bytes = BASE64.decode(lines.next()?.as_bytes()).ok()?;
    Some(Signed::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file as it was when the format was settled: one of these stands on the computers of owners.
    #[test]
    fn golden_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate");
        let network: NetworkId = "test".parse().unwrap();
        let (owner, device) = (
            SigningKey::from_bytes(&[1; 32]),
            NodeId::from_bytes([2; 32]),
        );
        let now = Timestamp::from_millis(1_000_000_000);
        let made = certify(
            &owner,
            (device, Points::ZERO),
            (now, Duration::from_secs(86_400)),
            &network,
        );
        write(&path, &made).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/certificates/golden.txt");
        if std::env::var_os("TALLY_GOLDEN").is_some_and(|how| how == "write") {
            std::fs::copy(&path, &golden).unwrap();
        }
        let [found, expected] = [&path, &golden].map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(found, expected);
        assert_eq!(read(&golden, &network).unwrap(), Some(made));
    }

    #[test]
    fn a_certificate_is_read_back_and_told_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certificate");
        let network: NetworkId = "test".parse().unwrap();
        assert!(read(&path, &network).unwrap().is_none());
        let (owner, device) = (
            SigningKey::from_bytes(&[1; 32]),
            NodeId::from_bytes([2; 32]),
        );
        let now = Timestamp::from_millis(1_000_000_000);
        let days = |count: u64| Duration::from_secs(count * 86_400);
        let made = certify(&owner, (device, Points::ZERO), (now, days(365)), &network);
        write(&path, &made).unwrap();
        let found = read(&path, &network).unwrap().unwrap();
        assert_eq!(found, made);
        let at = |day| standing(&found, device, now + days(day));
        assert_eq!((at(0), at(334)), (Certified::Holds, Certified::Holds));
        assert_eq!(at(336), Certified::EndsSoon);
        assert_eq!(at(365), Certified::Not(CertificateFault::Expired));
        let other = NodeId::from_bytes([3; 32]);
        let other = standing(&found, other, now);
        assert_eq!(other, Certified::Not(CertificateFault::OtherDevice));
        let refused = read(&path, &"other".parse().unwrap());
        assert!(matches!(refused, Err(CertificateError::Unverified { .. })));
        std::fs::write(&path, "something").unwrap();
        let refused = read(&path, &network);
        assert!(matches!(refused, Err(CertificateError::Format(_))));
    }
}
