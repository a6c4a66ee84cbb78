//! Key files: the ed25519 key of a node, or of the person who owns nodes; readable by one user only.
//!
//! The file is text: a line that says what it is, a line with the 32 secret bytes in hex, a line with the id
//! for people. Losing it is losing the name and whatever is owed to it. The two kinds are never taken for each other.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use tally_protocol::id::NodeId;
use zeroize::Zeroizing;

/// Whose key a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A computer's: its name in the overlay.
    Node,
    /// A person's: what computers earn is theirs. It is needed to certify them, and may be kept elsewhere.
    Owner,
    /// A vendor's root key: it certifies issuers, and applications have its public half. Best kept offline.
    Vendor,
    /// An app server's: it signs licenses and vouchers.
    Issuer,
}

impl Kind {
    /// Returns the first line of a key file.
    const fn header(self) -> &'static str {
        match self {
            Self::Node => "tally secret key, format 1: keep this file to yourself",
            Self::Owner => "tally owner key, format 1: keep this file to yourself",
            Self::Vendor => "tally vendor key, format 1: keep this file to yourself",
            Self::Issuer => "tally issuer key, format 1: keep this file to yourself",
        }
    }

    const fn command(self) -> &'static str {
        match self {
            Self::Node => "tally key new",
            Self::Owner => "tally key owner new",
            Self::Vendor => "tally key vendor new",
            Self::Issuer => "tally app init",
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there.
    #[error("read the key {path}: there is none; make one with `{}`", kind.command())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Whose it should be.
        kind: Kind,
    },
    /// There is a file already.
    #[error("write the key {0}: the file exists, and a key is never overwritten")]
    Exists(PathBuf),
    /// Others may read the file.
    #[error("use the key {path}: others may read it (mode {mode:o}); run `chmod 600 {path}`")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is something else.
    #[error("read the key {0}: not a Tally key file of this kind and format 1")]
    Format(PathBuf),
    /// The disk says no.
    #[error("use the key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Returns the node id of a key.
#[must_use]
pub fn node_id(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

/// Makes a new key and writes it to `path`, which must not exist.
///
/// # Errors
/// [`KeyError`].
pub fn create(path: &Path) -> Result<SigningKey, KeyError> {
    create_of(Kind::Node, path)
}

/// Makes a new key of a kind and writes it to `path`, which must not exist.
///
/// # Errors
/// [`KeyError`].
pub fn create_of(kind: Kind, path: &Path) -> Result<SigningKey, KeyError> {
    let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let key = SigningKey::from_bytes(&secret);
    write_of(kind, path, &key)?;
    Ok(key)
}

/// Writes a key to `path`, which must not exist.
///
/// # Errors
/// [`KeyError`].
pub fn write(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_of(Kind::Node, path, key)
}

fn write_of(kind: Kind, path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            return KeyError::Exists(path);
        }
        KeyError::Io { path, source }
    };
    let secret = Zeroizing::new(HEXLOWER.encode(key.as_bytes()));
    let (header, id) = (kind.header(), node_id(key));
    let text = Zeroizing::new(format!("{header}\n{}\n{id}\n", *secret));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Reads a node's key.
///
/// # Errors
/// [`KeyError`].
pub fn read(path: &Path) -> Result<SigningKey, KeyError> {
    read_of(Kind::Node, path)
}

/// Reads a key of a kind.
///
/// # Errors
/// [`KeyError`].
pub fn read_of(kind: Kind, path: &Path) -> Result<SigningKey, KeyError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            return KeyError::Missing { path, kind };
        }
        KeyError::Io { path, source }
    };
    let mode = std::fs::metadata(path)
        .map_err(failed)?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    parse(kind, &text).ok_or_else(|| KeyError::Format(path.to_owned()))
}

fn parse(kind: Kind, text: &str) -> Option<SigningKey> {
    let mut lines = text.lines();
    if lines.next() != Some(kind.header()) {
        return None;
    }
    let secret = Zeroizing::new(HEXLOWER.decode(lines.next()?.as_bytes()).ok()?);
    let key = SigningKey::from_bytes(secret.as_slice().try_into().ok()?);
    (lines.next()?.parse() == Ok(node_id(&key))).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().to_bytes(), key.to_bytes());
        assert!(matches!(create(&path), Err(KeyError::Exists(_))));
        assert_eq!(read(&path).unwrap().to_bytes(), key.to_bytes());
    }

    #[test]
    fn keys_of_nodes_and_of_owners_are_not_taken_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (node, owner) = (folder.path().join("key"), folder.path().join("owner-key"));
        create(&node).unwrap();
        let key = create_of(Kind::Owner, &owner).unwrap();
        let found = read_of(Kind::Owner, &owner).unwrap();
        assert_eq!(found.to_bytes(), key.to_bytes());
        assert!(matches!(read(&owner), Err(KeyError::Format(_))));
        let refused = read_of(Kind::Owner, &node);
        assert!(matches!(refused, Err(KeyError::Format(_))));
    }

    #[test]
    fn a_readable_or_damaged_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(matches!(read(&path), Err(KeyError::Missing { .. })));
        create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            read(&path),
            Err(KeyError::Readable { mode: 0o644, .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(Kind::Node.header(), "", 1)).unwrap();
        assert!(matches!(read(&path), Err(KeyError::Format(_))));
    }
}
