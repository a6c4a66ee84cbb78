//! The data folder of a node: one folder, one key, one running node.
//!
//! ```text
//! format            what the folder is, and the version of its layout
//! key               the node's secret key
//! owner-key         the secret key of a person, if it is kept here
//! certificate       whose this computer is
//! tally.toml        configuration, written by people
//! preferences.toml  when, how much and what a terminal computes, written by its owner
//! said              what the owner has said last: go on, pause, finish
//! lock              held by the process that uses the folder
//! admin.sock        where the command line reaches the running node
//! peers.json        coordinators seen before
//! traffic.json      bytes of the day that came and went
//! witness           what the logs of others have signed
//! coordinator.redb  journal, log and rows of the coordinator
//! customer.redb     the tasks that this key has submitted
//! app-server.redb   journal, log and rows of the app server
//! issuer-key        the secret key that signs licenses
//! issuer-certificate  the vendor's word that it may
//! webhook-key       the secret key that payment services sign with
//! applications/     what the app server delivers; at a terminal, what was delivered: one folder for each product
//! memberships/ID    where this computer is registered, and what was ordered there
//! licenses/         licenses of the owner, by product
//! vouchers/         discounts that points have paid for
//! downloads/        applications on their way
//! tasks/ID/         contents of one task, at the coordinator
//! wallet.redb       what the terminal has earned: receipts and what proves them
//! blobs/            programs, inputs and outputs, at the terminal and the customer
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use tally_protocol::id::{TaskId, VoucherId};
use tally_protocol::product::ProductId;

/// The layout this program writes and reads.
const FORMAT: u32 = 1;
const FORMAT_TEXT: &str = "tally data folder, format ";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder is of another version of Tally.
    #[error(
        "use the folder {path}: its format is {found}, this program knows {FORMAT}; use the version of Tally that wrote it"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Another process uses it.
    #[error(
        "use the folder {0}: a node is running on it; stop that one first, or choose another --dir"
    )]
    InUse(PathBuf),
    /// The disk says no.
    #[error("use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The data folder of a node.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

/// Holds the folder for this process as long as it lives.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl Folder {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// [`FolderError`] if it cannot be made or is of another format.
    pub fn open(root: &Path) -> Result<Self, FolderError> {
        let folder = Self {
            root: root.to_owned(),
        };
        let mut builder = fs::DirBuilder::new();
        // Keys and other people's inputs lie here.
        builder.recursive(true).mode(0o700);
        builder.create(root).map_err(|source| FolderError::Io {
            path: root.to_owned(),
            source,
        })?;
        let path = folder.root.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found = text
                    .trim()
                    .strip_prefix(FORMAT_TEXT)
                    .unwrap_or("unknown")
                    .to_owned();
                if found != FORMAT.to_string() {
                    return Err(FolderError::Format {
                        path: root.to_owned(),
                        found,
                    });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = format!("{FORMAT_TEXT}{FORMAT}\n");
                write_whole(&path, text.as_bytes())
                    .map_err(|source| FolderError::Io { path, source })?;
            }
            Err(source) => return Err(FolderError::Io { path, source }),
        }
        Ok(folder)
    }

    /// Takes the folder for this process.
    ///
    /// # Errors
    /// [`FolderError::InUse`] if another process has it.
    pub fn lock(&self) -> Result<FolderLock, FolderError> {
        let path = self.root.join("lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = opened.map_err(|source| FolderError::Io { path, source })?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| FolderError::InUse(self.root.clone()))?;
        Ok(FolderLock(file))
    }

    /// Returns the folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the place of the key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// Returns the place of the configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("tally.toml")
    }

    /// Returns the place of the owner's preferences.
    #[must_use]
    pub fn preferences(&self) -> PathBuf {
        self.root.join("preferences.toml")
    }

    /// Returns the place of what the owner has said last.
    #[must_use]
    pub fn said(&self) -> PathBuf {
        self.root.join("said")
    }

    /// Returns the place of the admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    /// Returns the place of the saved peers.
    #[must_use]
    pub fn peers(&self) -> PathBuf {
        self.root.join("peers.json")
    }

    /// Returns the place of the bytes of the day.
    #[must_use]
    pub fn traffic(&self) -> PathBuf {
        self.root.join("traffic.json")
    }

    /// Returns the place of what the witness remembers.
    #[must_use]
    pub fn witness(&self) -> PathBuf {
        self.root.join("witness")
    }

    /// Returns the place of the coordinator's database.
    #[must_use]
    pub fn coordinator_store(&self) -> PathBuf {
        self.root.join("coordinator.redb")
    }

    /// Returns the place of the app server's database.
    #[must_use]
    pub fn app_server_store(&self) -> PathBuf {
        self.root.join("app-server.redb")
    }

    /// Returns the place of a vendor's key, if it is kept here.
    #[must_use]
    pub fn vendor_key(&self) -> PathBuf {
        self.root.join("vendor-key")
    }

    /// Returns the place of the key that signs licenses.
    #[must_use]
    pub fn issuer_key(&self) -> PathBuf {
        self.root.join("issuer-key")
    }

    /// Returns the place of the certificate of that key.
    #[must_use]
    pub fn issuer_certificate(&self) -> PathBuf {
        self.root.join("issuer-certificate")
    }

    /// Returns the place of the key that payment services sign with.
    #[must_use]
    pub fn webhook_key(&self) -> PathBuf {
        self.root.join("webhook-key")
    }

    /// Returns the place of what the app server delivers.
    #[must_use]
    pub fn applications(&self) -> PathBuf {
        self.root.join("applications")
    }

    /// Returns the place of what was delivered for a product, with its license.
    #[must_use]
    pub fn application(&self, product: &ProductId) -> PathBuf {
        self.applications().join(product.as_str())
    }

    /// Returns the place of the registrations.
    #[must_use]
    pub fn memberships(&self) -> PathBuf {
        self.root.join("memberships")
    }

    /// Returns the place of the newest license of a product.
    #[must_use]
    pub fn license(&self, product: &ProductId) -> PathBuf {
        self.root
            .join("licenses")
            .join(format!("{product}.license"))
    }

    /// Returns the place of a voucher.
    #[must_use]
    pub fn voucher(&self, voucher: &VoucherId) -> PathBuf {
        self.root
            .join("vouchers")
            .join(format!("{voucher}.voucher"))
    }

    /// Returns the place of applications that are on their way.
    #[must_use]
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Returns the place of the customer's database.
    #[must_use]
    pub fn customer_store(&self) -> PathBuf {
        self.root.join("customer.redb")
    }

    /// Returns the place of an owner's key, if it is kept here.
    #[must_use]
    pub fn owner_key(&self) -> PathBuf {
        self.root.join("owner-key")
    }

    /// Returns the place of the device's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.root.join("certificate")
    }

    /// Returns the place of the terminal's wallet.
    #[must_use]
    pub fn wallet(&self) -> PathBuf {
        self.root.join("wallet.redb")
    }

    /// Returns the place of a terminal's or customer's contents.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Returns the place of the contents of all tasks of a coordinator.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// Returns the place of the contents of one task of a coordinator.
    #[must_use]
    pub fn task(&self, task: &TaskId) -> PathBuf {
        self.tasks().join(task.to_string())
    }
}

/// Reads a small JSON file, and no more than `bytes_max` of it.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes a small file as a whole: another process may look for it at the same moment, and this one may be killed.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_format_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Folder::open(dir.path()).unwrap();
        Folder::open(dir.path()).unwrap();
        fs::write(dir.path().join("format"), "tally data folder, format 2\n").unwrap();
        let error = Folder::open(dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("its format is 2, this program knows 1"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_is_being_made_can_be_opened() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("node");
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| Folder::open(&root).unwrap());
                }
            });
        }
    }

    #[test]
    fn a_folder_is_used_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let held = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(FolderError::InUse(_))));
        drop(held);
        folder.lock().unwrap();
    }
}
