//! Whether an unpacked delivery is what its app server has signed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use tally_protocol::armour::ArmourError;
use tally_protocol::delivery::{Manifest, ManifestFault};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::product::ProductId;
use tally_protocol::signed::Signed;

use super::hash;

/// More than the longest text of a manifest.
const MANIFEST_BYTES_MAX: u64 = 16 << 10;

/// What was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// By whom: whoever knows the id of the app server compares it.
    pub app_server: NodeId,
    /// In which network.
    pub network: NetworkId,
    /// For which product.
    pub product: ProductId,
    /// The files, all as they were signed.
    pub files: Vec<String>,
}

/// Why a delivery is not what was signed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file is not there, or cannot be read.
    #[error("read {name}")]
    Io {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The manifest is no text of one.
    #[error("read the manifest")]
    Armour(#[from] ArmourError),
    /// The manifest is not believed.
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
    /// A file is another one.
    #[error("find {name} as it was signed: it was changed")]
    Changed {
        /// The file.
        name: String,
    },
}

/// Checks that the files in a folder are those of the manifest there.
///
/// # Errors
/// [`CheckError`], the first thing found wrong.
pub fn check(folder: &Path) -> Result<Checked, CheckError> {
    let open = |name: &str| {
        let failed = |source| CheckError::Io {
            name: name.to_owned(),
            source,
        };
        File::open(folder.join(name)).map_err(failed)
    };
    let failed = |name: &str, source| CheckError::Io {
        name: name.to_owned(),
        source,
    };
    let mut text = String::new();
    let read = open("manifest")?
        .take(MANIFEST_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|source| failed("manifest", source))?;
    let (network, manifest) = Manifest::check(Signed::from_text(&text)?)?;
    let mut files = Vec::new();
    for file in &manifest.files {
        let name = &file.name;
        // No more is read than was signed, and one byte that shows that there is more.
        let content = open(name)?.take(file.bytes.saturating_add(1));
        let sum = hash(content).map_err(|source| failed(name, source))?;
        if sum != file.sha256 {
            return Err(CheckError::Changed { name: name.clone() });
        }
        files.push(name.clone());
    }
    Ok(Checked {
        app_server: manifest.app_server,
        network,
        product: manifest.product.clone(),
        files,
    })
}
