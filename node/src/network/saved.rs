//! Coordinators of the last run, in a small JSON file, so that a node finds back without its bootstrap nodes.
//!
//! The file is a hint: one that is missing, damaged or of another format is ignored, and what it names is
//! believed no more than any other candidate.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use tally_protocol::id::NodeId;
use tally_protocol::time::Timestamp;

use crate::folder::read_json;

/// Peers in the file.
pub(super) const SAVED_MAX: usize = 64;
/// Addresses of each.
pub(super) const SAVED_ADDRESSES_MAX: usize = 8;
/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// The format of the file.
const FORMAT: u32 = 1;

/// A coordinator that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedPeer {
    pub(super) node: NodeId,
    pub(super) addresses: Vec<Multiaddr>,
    /// When it last showed its role, in milliseconds since the Unix epoch.
    pub(super) seen: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    peers: Vec<SavedPeer>,
}

/// Reads the file.
pub(super) fn load(path: &Path) -> Vec<SavedPeer> {
    match read_json::<Saved>(path, FILE_BYTES_MAX) {
        Ok(Saved { format, mut peers }) if format == FORMAT => {
            peers.truncate(SAVED_MAX);
            peers
                .iter_mut()
                .for_each(|peer| peer.addresses.truncate(SAVED_ADDRESSES_MAX));
            peers
        }
        Ok(Saved { format, .. }) => {
            tracing::warn!(format, path = %path.display(), "ignored saved peers of another format");
            Vec::new()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "ignored saved peers");
            Vec::new()
        }
    }
}

/// Writes the file: the new one is complete before it takes the place of the old one.
pub(super) fn store(path: &Path, peers: Vec<SavedPeer>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let saved = Saved {
        format: FORMAT,
        peers,
    };
    file.write_all(&serde_json::to_vec_pretty(&saved)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_damage_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/peers.json");
        assert_eq!(load(&path), []);
        let peers = vec![SavedPeer {
            node: NodeId::from_bytes([7; 32]),
            addresses: vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()],
            seen: Timestamp::from_millis(5),
        }];
        store(&path, peers.clone()).unwrap();
        assert_eq!(load(&path), peers);
        fs::write(&path, "{\"format\":2,\"peers\":[]}").unwrap();
        assert_eq!(load(&path), []);
        fs::write(&path, "no JSON").unwrap();
        assert_eq!(load(&path), []);
    }
}
