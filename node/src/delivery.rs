//! Delivery: one archive with all that a computer without Tally needs to work for a product.
//!
//! ```text
//! PRODUCT/manifest      the files below, signed by the app server (armoured)
//! PRODUCT/sha256sums    the same for sha256sum(1)
//! PRODUCT/install.sh    copies the programs and enrols, without any rights
//! PRODUCT/invite        where the app server is (armoured), for a week
//! PRODUCT/application   the user application: .tar.gz, .tar, or a program as one file
//! PRODUCT/tally         this program
//! ```
//!
//! Invariants: neither chance nor time is in an archive but for the day of the invitation, so the same content makes the
//! same bytes; it is packed while it is sent, in pieces, so memory does not depend on its length; what is packed is what
//! was hashed, for both are read from files that do not change.

mod check;
mod pack;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use tally_protocol::app_server::Product;
use tally_protocol::delivery::{DeliveredFile, Manifest};
use tally_protocol::id::{BlobId, Hash, NetworkId, NodeId};
use tally_protocol::invite::Invite;
use tally_protocol::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
use tally_protocol::product::ProductId;
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;
use tokio::task::spawn_blocking;

use crate::blobs::{BlobStore, StoreError};
use crate::clock;
use crate::error::joined;
use crate::keys;
use crate::network::Network;

pub use check::{CheckError, Checked, check};
pub use pack::Packed;
use pack::{Content, Entry};

/// The program that runs, even if another one has taken its place on the disk.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

const INSTALL: &str = include_str!("delivery/install.sh");
const DAY_MILLIS: u64 = 24 * 3_600 * 1_000;
/// For how many days an invitation holds, if nobody says otherwise.
pub const INVITE_DAYS: u32 = 7;
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Hashes of applications that are remembered: more than a catalogue has.
const SUMS_MAX: usize = 2_000;
/// Where a tar archive says that it is one, and how.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Why nothing is delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The application is not among the blobs.
    #[error("open the application")]
    Application(#[from] StoreError),
    /// A file cannot be read.
    #[error("read the {what}")]
    Io {
        /// Which.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Packs what an app server delivers, and invites.
#[derive(Debug)]
pub struct Delivery {
    key: SigningKey,
    network: Network,
    blobs: BlobStore,
    program: PathBuf,
    /// Of the program and of applications; what they are named by does not change.
    sums: Mutex<BTreeMap<Option<BlobId>, Hash>>,
}

impl Delivery {
    /// Makes a delivery of applications that are in `blobs`, and of the program at `program`.
    #[must_use]
    pub fn new(key: SigningKey, network: Network, blobs: BlobStore, program: PathBuf) -> Self {
        let sums = Mutex::new(BTreeMap::new());
        Self {
            key,
            network,
            blobs,
            program,
            sums,
        }
    }

    /// Invites to work for a product, for so many days and the rest of this one. Invitations of one day are the same.
    pub async fn invite(
        &self,
        product: ProductId,
        (now, days): (Timestamp, u32),
    ) -> Verified<Invite> {
        let addresses = self.network.addresses().await;
        let addresses = addresses.iter().map(ToString::to_string);
        let fitting = addresses.filter(|address| address.len() <= ADDRESS_BYTES_MAX);
        let mut fitting: Vec<String> = fitting.collect();
        // Those that only this computer reaches come last.
        fitting.sort_by_key(|address| {
            ["/ip4/127.", "/ip6/::1/"]
                .iter()
                .any(|of| address.starts_with(of))
        });
        fitting.truncate(ADDRESSES_MAX);
        let issued = Timestamp::from_millis(now.as_millis() / DAY_MILLIS * DAY_MILLIS);
        let invite = Invite {
            app_server: self.me(),
            addresses: fitting,
            product,
            issued,
            expires: issued + Duration::from_millis((u64::from(days) + 1) * DAY_MILLIS),
        };
        Verified::sign(invite, self.network(), &self.key)
    }

    /// Gets a delivery ready to be sent.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub async fn pack(self: &Arc<Self>, product: Product) -> Result<Packed, DeliveryError> {
        let until = (clock::now(), INVITE_DAYS);
        let invite = self.invite(product.id.clone(), until).await;
        let delivery = Arc::clone(self);
        let packed = spawn_blocking(move || delivery.entries(&product, &invite)).await;
        joined(packed)
    }

    fn entries(
        &self,
        product: &Product,
        invite: &Verified<Invite>,
    ) -> Result<Packed, DeliveryError> {
        let blob = product.bundle.id;
        let application = self.blobs.open_file(blob)?;
        let (name, application) =
            kind(application).map_err(|source| failed("application", source))?;
        let program = File::open(&self.program).map_err(|source| failed("program", source))?;
        let install = INSTALL
            .replace("@PRODUCT@", product.id.as_str())
            .replace("@APPLICATION@", name)
            .replace("@APP_SERVER@", &self.me().to_string());
        let mut entries = vec![
            Entry::text("install.sh", install, 0o755),
            Entry::text("invite", invite.signed().to_text(), 0o644),
            Entry::file(name, application, 0o755)
                .map_err(|source| failed("application", source))?,
            Entry::file("tally", program, 0o755).map_err(|source| failed("program", source))?,
        ];
        let mut files = Vec::new();
        for entry in &mut entries {
            let remembered = match entry.name {
                "tally" => Some(None),
                of if of == name => Some(Some(blob)),
                _ => None,
            };
            files.push(DeliveredFile {
                name: entry.name.to_owned(),
                bytes: entry.bytes,
                sha256: self
                    .sum(entry, remembered)
                    .map_err(|source| failed("files", source))?,
            });
        }
        let manifest = Manifest {
            app_server: self.me(),
            product: product.id.clone(),
            files,
        };
        let manifest = Verified::sign(manifest, self.network(), &self.key);
        let text = manifest.signed().to_text();
        let sums = sums(&manifest, &text);
        entries.insert(0, Entry::text("sha256sums", sums, 0o644));
        entries.insert(0, Entry::text("manifest", text, 0o644));
        Ok(Packed::new(product.id.clone(), entries))
    }

    fn sum(&self, entry: &mut Entry, remembered: Option<Option<BlobId>>) -> io::Result<Hash> {
        let lock = || self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = remembered.and_then(|of| lock().get(&of).copied()) {
            return Ok(known);
        }
        let sum = match &mut entry.content {
            Content::Text(text) => hash(text.as_bytes())?,
            Content::File(file) => {
                let sum = hash(&mut *file)?;
                file.rewind()?;
                sum
            }
        };
        if let Some(of) = remembered
            && lock().len() < SUMS_MAX
        {
            lock().insert(of, sum);
        }
        Ok(sum)
    }

    fn me(&self) -> NodeId {
        keys::node_id(&self.key)
    }

    fn network(&self) -> &NetworkId {
        self.network.network()
    }
}

const fn failed(what: &'static str, source: io::Error) -> DeliveryError {
    DeliveryError::Io { what, source }
}

/// Returns how an application is named in the archive, by what it is.
fn kind(mut application: File) -> io::Result<(&'static str, File)> {
    let (place, magic) = TAR_MAGIC;
    let mut head = Vec::new();
    let most = u64::try_from(place + magic.len()).expect("small");
    application.by_ref().take(most).read_to_end(&mut head)?;
    application.rewind()?;
    let name = if head.starts_with(GZIP_MAGIC) {
        "application.tar.gz"
    } else if head.get(place..) == Some(magic) {
        "application.tar"
    } else {
        "application"
    };
    Ok((name, application))
}

fn sums(manifest: &Manifest, text: &str) -> String {
    let of_manifest = Hash::from_bytes(Sha256::digest(text.as_bytes()).into());
    let files = manifest.files.iter();
    let lines = files
        .map(|file| (file.sha256, file.name.as_str()))
        .chain([(of_manifest, "manifest")])
        .map(|(sum, name)| format!("{sum}  {name}\n"));
    lines.collect()
}

/// Returns the SHA-256 of all that can be read.
fn hash(mut from: impl Read) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(Hash::from_bytes(hasher.finalize().into())),
            count => hasher.update(&piece[..count]),
        }
    }
}
