//! Files outside of the store that are blobs where they lie.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, io_error};

/// A file and what it looked like when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct InPlace {
    pub(super) path: PathBuf,
    look: Look,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    bytes: u64,
    device: u64,
    inode: u64,
    modified_seconds: i64,
    modified_nanos: i64,
}

impl InPlace {
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let fault = |source| io_error("look at", path, source);
        let path = fs::canonicalize(path).map_err(fault)?;
        let look = Look::of(&path).map_err(fault)?;
        Ok(Self { path, look })
    }

    pub(super) fn load(record: &Path) -> Option<Self> {
        let text = fs::read(record).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(%error, record = %record.display(), "ignored"))
            .ok()
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("paths that were canonicalized from UTF-8 are JSON")
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.look.bytes
    }

    /// Returns an error if the file is not what it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match Look::of(&self.path) {
            Ok(look) if look == self.look => Ok(()),
            Ok(_) | Err(_) => Err(StoreError::Changed {
                path: self.path.clone(),
            }),
        }
    }
}

impl Look {
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            bytes: found.len(),
            device: found.dev(),
            inode: found.ino(),
            modified_seconds: found.mtime(),
            modified_nanos: found.mtime_nsec(),
        })
    }
}
