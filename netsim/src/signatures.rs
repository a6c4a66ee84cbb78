//! Signatures, each computed once.
//!
//! A world checks the same offer at thousands of terminals, and hardly ever a signature that it did not make itself a
//! moment ago. What was signed or checked is remembered by the hash of the whole statement, in which key, payload and
//! signature are: a statement that differs in one byte is another one, and is checked.
//!
//! Invariant: every answer is the one that the check itself would give, whatever is remembered.

use std::collections::HashMap;
use std::mem;

use blake3::Hash;
use ed25519_dalek::SigningKey;
use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::merkle::TreeHead;
use tally_protocol::message::Refusal;
use tally_protocol::message::work::{PullReply, Report, VerifiedReport};
use tally_protocol::signed::{SignatureClaim, Signed, Statement, Verified, VerifyError};
use tally_protocol::terminal::{Answer, Beside};

/// Statements in one generation: more than are under way in a world of 10^4 terminals, in at most 75 MB.
const GENERATION_MAX: usize = 1 << 20;
/// Heads of logs that are remembered: each is heard by all within some seconds, and asked for within a minute or so.
const HEADS_MAX: usize = 1 << 10;

/// Signs, checks, and remembers which signatures hold.
///
/// When the young generation is full it becomes the old one, whose statements are forgotten.
#[derive(Debug, Default)]
pub struct Signatures {
    /// Whether the signature of a statement holds.
    young: HashMap<Hash, bool>,
    old: HashMap<Hash, bool>,
    /// What became of heads that were checked.
    heads: HashMap<Hash, Option<VerifiedCheckpoint>>,
}

impl Signatures {
    /// Signs `value` for `network`.
    #[must_use]
    pub fn sign<T: Statement>(
        &mut self,
        value: T,
        network: &NetworkId,
        key: &SigningKey,
    ) -> Verified<T> {
        let verified = Verified::sign(value, network, key);
        self.remember(blake3::hash(verified.signed().as_bytes()), true);
        verified
    }

    /// Does what [`Signed::verify`] does.
    ///
    /// # Errors
    /// [`VerifyError`], the first thing found wrong.
    pub fn verify<T: Statement>(
        &mut self,
        signed: Signed<T>,
        network: &NetworkId,
    ) -> Result<Verified<T>, VerifyError> {
        signed.verify_with(network, |claim| self.holds(claim))
    }

    /// Does what [`Report::verify`] does.
    ///
    /// # Errors
    /// The [`Refusal`] to send back.
    pub fn verify_report(
        &mut self,
        report: Report,
        network: &NetworkId,
        coordinator: NodeId,
        device: NodeId,
    ) -> Result<VerifiedReport, Refusal> {
        report.verify_with(network, coordinator, device, |claim| self.holds(claim))
    }

    /// Does what [`Answer::check`] does.
    #[must_use]
    pub fn check_answer(
        &mut self,
        reply: PullReply,
        network: &NetworkId,
    ) -> Option<(Answer, Beside)> {
        Answer::check(reply, network, |claim| self.holds(claim))
    }

    /// Signs the head of the log of `key` for `network`.
    #[must_use]
    pub fn sign_head(
        &mut self,
        head: TreeHead,
        network: &NetworkId,
        key: &SigningKey,
    ) -> VerifiedCheckpoint {
        let checkpoint = VerifiedCheckpoint::sign(head, network, key);
        let name = head_name(checkpoint.signed(), network);
        self.remember_head(name, Some(checkpoint.clone()));
        checkpoint
    }

    /// Does what [`SignedCheckpoint::verify`] does; none if that fails.
    #[must_use]
    pub fn verify_head(
        &mut self,
        head: &SignedCheckpoint,
        network: &NetworkId,
    ) -> Option<VerifiedCheckpoint> {
        let name = head_name(head, network);
        if let Some(known) = self.heads.get(&name) {
            return known.clone();
        }
        let checked = head.clone().verify(network).ok();
        self.remember_head(name, checked.clone());
        checked
    }

    fn remember_head(&mut self, name: Hash, checked: Option<VerifiedCheckpoint>) {
        if self.heads.len() == HEADS_MAX {
            self.heads.clear();
        }
        self.heads.insert(name, checked);
    }

    fn holds(&mut self, claim: &SignatureClaim<'_>) -> bool {
        let statement = blake3::hash(claim.statement());
        if let Some(holds) = self.young.get(&statement) {
            return *holds;
        }
        let known = self.old.get(&statement).copied();
        let holds = known.unwrap_or_else(|| claim.holds());
        self.remember(statement, holds);
        holds
    }

    fn remember(&mut self, statement: Hash, holds: bool) {
        if self.young.len() == GENERATION_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(statement, holds);
    }
}

/// Returns what a head is remembered by.
fn head_name(head: &SignedCheckpoint, network: &NetworkId) -> Hash {
    blake3::hash(format!("{network}\n{}", head.as_str()).as_bytes())
}

#[cfg(test)]
mod tests {
    use tally_protocol::message::work::Batch;
    use tally_protocol::time::Timestamp;

    use super::*;

    fn network() -> NetworkId {
        "test".parse().unwrap()
    }

    fn sign(signatures: &mut Signatures, at: u64) -> Vec<u8> {
        let batch = Batch::of(&[], NodeId::from_bytes([1; 32]), Timestamp::from_millis(at));
        let key = SigningKey::from_bytes(&[2; 32]);
        let verified = signatures.sign(batch, &network(), &key);
        verified.signed().as_bytes().to_vec()
    }

    fn signed(bytes: &[u8]) -> Signed<Batch> {
        Signed::from_bytes(bytes.to_vec())
    }

    #[test]
    fn a_forged_copy_of_a_remembered_statement_is_refused_however_often() {
        let mut signatures = Signatures::default();
        let bytes = sign(&mut signatures, 1);
        for place in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[place] ^= 1;
            let truth = signed(&forged).verify(&network());
            assert!(truth.is_err(), "byte {place}");
            for _ in 0..2 {
                let told = signatures.verify(signed(&forged), &network());
                assert_eq!(told, truth, "byte {place}");
            }
        }
        let told = signatures.verify(signed(&bytes), &network());
        assert_eq!(told, signed(&bytes).verify(&network()));
        let foreign = signatures.verify(signed(&bytes), &"main".parse().unwrap());
        assert!(matches!(foreign, Err(VerifyError::Network { .. })));
    }

    #[test]
    fn a_head_is_checked_as_if_nothing_were_remembered() {
        let (mut signatures, key) = (Signatures::default(), SigningKey::from_bytes(&[2; 32]));
        let head = TreeHead {
            size: 7,
            root: tally_protocol::merkle::leaf_hash(b"root"),
        };
        let signed = signatures.sign_head(head, &network(), &key);
        let forged = signed.signed().as_str().replace("\n7\n", "\n8\n");
        let forged = SignedCheckpoint::from_note(forged);
        for _ in 0..2 {
            let told = signatures.verify_head(signed.signed(), &network());
            assert_eq!(told.as_ref(), Some(&signed));
            assert_eq!(signatures.verify_head(&forged, &network()), None);
            let foreign = "main".parse().unwrap();
            assert_eq!(signatures.verify_head(signed.signed(), &foreign), None);
        }
    }

    #[test]
    fn what_was_signed_or_checked_is_not_computed_again() {
        let (mut signer, mut checker) = (Signatures::default(), Signatures::default());
        let bytes = sign(&mut signer, 1);
        checker.verify(signed(&bytes), &network()).unwrap();
        assert_eq!((signer.young.len(), &signer.young), (1, &checker.young));
        // Only memory can say this.
        checker.young.values_mut().for_each(|holds| *holds = false);
        let told = checker.verify(signed(&bytes), &network());
        assert!(matches!(told, Err(VerifyError::Signature { .. })));
    }

    #[test]
    fn what_is_not_used_for_a_generation_is_forgotten() {
        let mut signatures = Signatures::default();
        let (used, unused) = (sign(&mut signatures, 1), sign(&mut signatures, 2));
        let number = |number: usize| blake3::hash(&number.to_be_bytes());
        for generation in 0..2 {
            for statement in 0..GENERATION_MAX {
                signatures.remember(number(generation * GENERATION_MAX + statement), true);
            }
            signatures.verify(signed(&used), &network()).unwrap();
        }
        let remembers = |bytes: &[u8]| {
            let statement = blake3::hash(bytes);
            signatures.young.contains_key(&statement) || signatures.old.contains_key(&statement)
        };
        assert!(remembers(&used));
        assert!(!remembers(&unused));
        assert!(signatures.young.len() + signatures.old.len() <= 2 * GENERATION_MAX);
    }
}
