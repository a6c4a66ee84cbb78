//! What an app server issues licenses and vouchers with: its issuer key, and the vendor's word that it may.
//!
//! The vendor's root key may stay offline: it signs once, [`certify`], and the certificate is carried to the app server's
//! folder. The file is the armoured statement, as `-----BEGIN TALLY ISSUER CERTIFICATE-----`.

use std::io;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use tally_protocol::armour::ArmourError;
use tally_protocol::id::NetworkId;
use tally_protocol::issuer::{IssueError, Issuer, IssuerCertificate};
use tally_protocol::signed::{Signed, Verified, VerifyError};

use crate::folder::{self, Folder};
use crate::keys::{self, KeyError, Kind};

/// Why an app server cannot issue anything.
#[derive(Debug, thiserror::Error)]
pub enum IssuingError {
    /// There is no issuer key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no certificate.
    #[error("read the issuer certificate {0}: there is none; make one with `tally app certify`")]
    Missing(PathBuf),
    /// The file is something else.
    #[error("read the issuer certificate {path}")]
    Armour {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ArmourError,
    },
    /// Its signature does not hold, or it is for another network.
    #[error("read the issuer certificate {path}")]
    Unverified {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifyError,
    },
    /// It is for another key, or out of its bounds.
    #[error("use the issuer certificate")]
    Issue(#[from] IssueError),
    /// The disk says no.
    #[error("use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Returns what the app server of a folder issues with.
///
/// # Errors
/// [`IssuingError`].
pub fn issuer(folder: &Folder, network: &NetworkId) -> Result<Issuer, IssuingError> {
    let key = keys::read_of(Kind::Issuer, &folder.issuer_key())?;
    let certificate = read(folder, network)?;
    Ok(Issuer::new(key, certificate, network.clone())?)
}

/// Reads the issuer certificate of a folder.
///
/// # Errors
/// [`IssuingError`].
pub fn read(
    folder: &Folder,
    network: &NetworkId,
) -> Result<Verified<IssuerCertificate>, IssuingError> {
    let path = folder.issuer_certificate();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IssuingError::Missing(path));
        }
        Err(source) => return Err(IssuingError::Io { path, source }),
    };
    let signed = Signed::<IssuerCertificate>::from_text(&text).map_err(|source| {
        let path = path.clone();
        IssuingError::Armour { path, source }
    })?;
    let verified = signed.verify(network);
    verified.map_err(|source| IssuingError::Unverified { path, source })
}

/// Certifies an issuer key with the vendor's root key.
///
/// # Errors
/// [`IssueError`] if a field is out of its bounds.
pub fn certify(
    certificate: IssuerCertificate,
    network: &NetworkId,
    root: &SigningKey,
) -> Result<Verified<IssuerCertificate>, IssueError> {
    certificate.check()?;
    Ok(Verified::sign(certificate, network, root))
}

/// Installs an issuer certificate in a folder.
///
/// # Errors
/// [`IssuingError::Io`].
pub fn write(
    folder: &Folder,
    certificate: &Verified<IssuerCertificate>,
) -> Result<(), IssuingError> {
    let path = folder.issuer_certificate();
    let text = certificate.signed().to_text();
    folder::write_whole(&path, text.as_bytes()).map_err(|source| IssuingError::Io { path, source })
}
