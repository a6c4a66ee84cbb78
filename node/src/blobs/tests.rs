//! Content between nodes on loopback.

mod hostile;
mod transfer;

use ed25519_dalek::SigningKey;
use tally_protocol::id::NodeId;
use tally_protocol::message::announce::Role;
use tally_protocol::message::blob::{BlobGrant, BlobRange};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::network::tests::TestNode;

const LIMITS: StoreLimits = StoreLimits { bytes_max: 1 << 30 };

/// A node with a store that it serves.
struct Holder {
    node: TestNode,
    store: BlobStore,
    access: Access,
    folder: TempDir,
    _serving: JoinHandle<()>,
}

impl Holder {
    async fn start(seed: u8, limits: ServeLimits) -> Self {
        let node = TestNode::with(seed, &[Role::Coordinator], &[]).await;
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path(), LIMITS).unwrap();
        let access = Access::new(node.id(), node.network.network().clone());
        let serving = serve(&node.network, vec![store.clone()], access.clone(), limits);
        Self {
            node,
            store,
            access,
            folder,
            _serving: serving,
        }
    }
}

/// A holder and a reader that are connected.
async fn pair(limits: ServeLimits) -> (Holder, Holder) {
    let mut holder = Holder::start(1, limits).await;
    let mut reader = Holder::start(2, limits).await;
    reader.node.join(&mut holder.node).await;
    (holder, reader)
}

/// Bytes that look random and are the same each time.
fn content(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new()
        .update(b"content")
        .finalize_xof()
        .fill(&mut content);
    content
}

fn range(blob: BlobRef, start: u64, bytes: u64) -> BlobRange {
    BlobRange {
        blob: blob.id,
        start,
        bytes,
    }
}

fn grant(signer: u8, reader: NodeId, range: BlobRange, expires: Timestamp) -> Signed<BlobGrant> {
    let grant = BlobGrant {
        reader,
        ranges: vec![range],
        expires,
    };
    let key = SigningKey::from_bytes(&[signer; 32]);
    Verified::sign(grant, &"test".parse().unwrap(), &key)
        .signed()
        .clone()
}
