//! Who may read what.
//!
//! Nothing is readable unless the owner of the node says so: it names readers of a blob, nodes whose signed grants
//! count for a blob, or makes a blob public. A grant that this node has signed itself always counts, for what it
//! holds. Whoever has no such right learns the same whether the blob is here or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use tally_protocol::id::{BlobId, NetworkId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::{BlobRange, BlobRequest, RANGES_MAX};
use tally_protocol::time::Timestamp;

/// The rules of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Access {
    me: NodeId,
    network: NetworkId,
    rules: Arc<RwLock<BTreeMap<BlobId, Rule>>>,
}

#[derive(Debug, Default)]
struct Rule {
    public: bool,
    readers: BTreeSet<NodeId>,
    granters: BTreeSet<NodeId>,
}

impl Access {
    /// Returns rules that let nobody read but those to whom `me` grants it.
    #[must_use]
    pub fn new(me: NodeId, network: NetworkId) -> Self {
        Self {
            me,
            network,
            rules: Arc::default(),
        }
    }

    /// Lets `reader` read all of `blob`.
    pub fn allow_reader(&self, blob: BlobId, reader: NodeId) {
        self.change(blob, |rule| rule.readers.extend([reader]));
    }

    /// Lets whoever shows a grant signed by `granter` read what the grant says of `blob`.
    pub fn allow_granter(&self, blob: BlobId, granter: NodeId) {
        self.change(blob, |rule| rule.granters.extend([granter]));
    }

    /// Lets everybody read `blob`.
    pub fn publish(&self, blob: BlobId) {
        self.change(blob, |rule| rule.public = true);
    }

    /// Forgets all rights to `blob` that do not come from an own grant.
    pub fn forget(&self, blob: BlobId) {
        self.rules
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&blob);
    }

    /// Decides whether `reader`, as the connection proves it to be, may have what it asks for. The decision does
    /// not depend on what this node holds.
    pub(super) fn check(
        &self,
        reader: NodeId,
        request: &BlobRequest,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let blob = request.range.blob;
        if self.knows(blob, |rule| rule.public || rule.readers.contains(&reader)) {
            return Ok(());
        }
        let Some(grant) = request.grant.clone() else {
            return Err(Refusal::UnknownBlob);
        };
        let grant = grant
            .verify(&self.network)
            .map_err(|_| Refusal::Unverified)?;
        if grant.ranges.len() > RANGES_MAX {
            return Err(Refusal::Malformed);
        }
        if grant.expires <= now {
            return Err(Refusal::Stale);
        }
        let signer = grant.signer();
        let counts = signer == self.me || self.knows(blob, |rule| rule.granters.contains(&signer));
        let covers = |granted: &BlobRange| granted.covers(&request.range);
        if counts && grant.reader == reader && grant.ranges.iter().any(covers) {
            Ok(())
        } else {
            Err(Refusal::UnknownBlob)
        }
    }

    fn change(&self, blob: BlobId, change: impl FnOnce(&mut Rule)) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        change(rules.entry(blob).or_default());
    }

    fn knows(&self, blob: BlobId, allows: impl FnOnce(&Rule) -> bool) -> bool {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.get(&blob).is_some_and(allows)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::SigningKey;
    use tally_protocol::message::blob::BlobGrant;
    use tally_protocol::signed::{Signed, Verified};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes(key(n).verifying_key().to_bytes())
    }

    fn network() -> NetworkId {
        "test".parse().unwrap()
    }

    fn range(start: u64, bytes: u64) -> BlobRange {
        BlobRange {
            blob: BlobId::of(b"content"),
            start,
            bytes,
        }
    }

    fn grant(signer: u8, reader: u8) -> Signed<BlobGrant> {
        let grant = BlobGrant {
            reader: node(reader),
            ranges: vec![range(0, 10), range(20, 10)],
            expires: NOW + Duration::from_secs(1),
        };
        Verified::sign(grant, &network(), &key(signer))
            .signed()
            .clone()
    }

    fn ask(range: BlobRange, grant: Option<Signed<BlobGrant>>) -> BlobRequest {
        BlobRequest { range, grant }
    }

    #[test]
    fn named_readers_and_own_grants_open_a_blob_and_nothing_else_does() {
        let access = Access::new(node(1), network());
        let check = |reader: u8, request: &BlobRequest| access.check(node(reader), request, NOW);
        let stranger = ask(range(0, 5), None);
        assert_eq!(check(3, &stranger), Err(Refusal::UnknownBlob));
        access.allow_reader(BlobId::of(b"content"), node(3));
        assert_eq!(check(3, &stranger), Ok(()));
        assert_eq!(check(4, &stranger), Err(Refusal::UnknownBlob));
        access.forget(BlobId::of(b"content"));
        assert_eq!(check(3, &stranger), Err(Refusal::UnknownBlob));
        assert_eq!(check(5, &ask(range(22, 5), Some(grant(1, 5)))), Ok(()));
    }

    #[test]
    fn a_grant_opens_its_ranges_to_its_reader_until_it_expires() {
        let access = Access::new(node(1), network());
        let mine = grant(1, 5);
        let check =
            |reader: u8, range, at| access.check(node(reader), &ask(range, Some(mine.clone())), at);
        assert_eq!(check(5, range(0, 10), NOW), Ok(()));
        assert_eq!(check(6, range(0, 10), NOW), Err(Refusal::UnknownBlob));
        assert_eq!(check(5, range(5, 10), NOW), Err(Refusal::UnknownBlob));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(check(5, range(0, 10), later), Err(Refusal::Stale));
    }

    #[test]
    fn a_grant_counts_only_if_its_signer_may_grant_and_did_sign() {
        let access = Access::new(node(1), network());
        let foreign = ask(range(0, 5), Some(grant(2, 5)));
        assert_eq!(
            access.check(node(5), &foreign, NOW),
            Err(Refusal::UnknownBlob)
        );
        access.allow_granter(BlobId::of(b"content"), node(2));
        assert_eq!(access.check(node(5), &foreign, NOW), Ok(()));
        let mut bytes = grant(1, 5).as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let forged = ask(range(0, 5), Some(Signed::from_bytes(bytes)));
        assert_eq!(
            access.check(node(5), &forged, NOW),
            Err(Refusal::Unverified)
        );
    }
}
