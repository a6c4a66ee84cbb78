//! What an app server delivers to a computer without Tally: a list of files, signed.
//!
//! The files travel as one archive, see `docs/http.md`. Whoever has unpacked it, or has one of its files from elsewhere,
//! can show that each is what the app server of that network delivers for that product.

use serde::{Deserialize, Serialize};

use crate::armour::Armoured;
use crate::id::{Hash, NetworkId, NodeId};
use crate::product::ProductId;
use crate::signed::{Signed, Statement, Verified, VerifyError};

/// The most files of a delivery: it has four, and room for a few more.
pub const FILES_MAX: usize = 16;
/// The longest name of a file, in bytes.
pub const FILE_NAME_BYTES_MAX: usize = 64;

/// "These are the files that I deliver for this product": signed by the app server. Neither time nor chance is in it, so
/// the same files have the same manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Who delivers.
    pub app_server: NodeId,
    /// The product.
    pub product: ProductId,
    /// The files, at most [`FILES_MAX`], none twice.
    pub files: Vec<DeliveredFile>,
}

/// A file of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredFile {
    /// Its name, in one folder with the others: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, the first no dot and
    /// no dash.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its content, which every system has a program for.
    pub sha256: Hash,
}

impl Statement for Manifest {
    const TYPE: &'static str = "application/tally-manifest+cbor";
    const BYTES_MAX: usize = 4 << 10;
}

impl Armoured for Manifest {
    const LABEL: &'static str = "MANIFEST";
}

/// Why a manifest is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// Its signature does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Who signed is not who delivers, or a name of a file is none.
    #[error("read the manifest: it was not made by the app server that it names")]
    Content,
}

impl Manifest {
    /// Checks a manifest, whatever network it is for. Returns that network.
    ///
    /// # Errors
    /// [`ManifestFault`].
    pub fn check(signed: Signed<Self>) -> Result<(NetworkId, Verified<Self>), ManifestFault> {
        let network = signed.claimed_network()?;
        let manifest = signed.verify(&network)?;
        let files = &manifest.files;
        let twice = |(place, file): (usize, &DeliveredFile)| {
            files.iter().take(place).any(|of| of.name == file.name)
        };
        let fits = files.len() <= FILES_MAX
            && files.iter().all(|file| is_file_name(&file.name))
            && !files.iter().enumerate().any(twice);
        if manifest.signer() == manifest.app_server && fits {
            Ok((network, manifest))
        } else {
            Err(ManifestFault::Content)
        }
    }
}

/// Returns whether a text is the name of a file that leads nowhere else.
#[must_use]
pub fn is_file_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    (1..=FILE_NAME_BYTES_MAX).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    fn manifest(by: u8, names: &[&str]) -> Signed<Manifest> {
        let key = SigningKey::from_bytes(&[1; 32]);
        let file = |name: &&str| DeliveredFile {
            name: (*name).to_owned(),
            bytes: 3,
            sha256: Hash::from_bytes([7; 32]),
        };
        let manifest = Manifest {
            app_server: NodeId::from_bytes(key.verifying_key().to_bytes()),
            product: "photo".parse().unwrap(),
            files: names.iter().map(file).collect(),
        };
        let signer = SigningKey::from_bytes(&[by; 32]);
        Verified::sign(manifest, &"home".parse().unwrap(), &signer)
            .signed()
            .clone()
    }

    #[test]
    fn a_manifest_says_its_network_and_files() {
        let text = manifest(1, &["tally", "install.sh"]).to_text();
        let read = Signed::<Manifest>::from_text(&text).unwrap();
        let (network, taken) = Manifest::check(read).unwrap();
        assert_eq!(network.as_str(), "home");
        assert_eq!(taken.files[1].name, "install.sh");
    }

    #[test]
    fn names_that_lead_elsewhere_files_that_are_there_twice_and_other_signers_are_refused() {
        for names in [
            &["../tally"][..],
            &["a/b"],
            &[".profile"],
            &["-rf"],
            &[""],
            &["tally", "tally"],
            &["a\nb"],
        ] {
            let checked = Manifest::check(manifest(1, names));
            assert_eq!(checked, Err(ManifestFault::Content), "{names:?}");
        }
        let other = Manifest::check(manifest(2, &["tally"]));
        assert_eq!(other, Err(ManifestFault::Content));
        let many: Vec<String> = (0..=FILES_MAX).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let many = Manifest::check(manifest(1, &many));
        assert_eq!(many, Err(ManifestFault::Content));
    }
}
