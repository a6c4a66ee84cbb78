//! Checkpoints: what a log says, signed, of all its entries at once (C2SP tlog-checkpoint).
//!
//! A checkpoint is a [signed note](note) of three lines: the origin, the number of entries and the root of the tree
//! over them. Whoever holds one can check that an entry stands in the log ([`log_proof`]), and whoever holds two that
//! the log has only grown. A log that signs two of which neither grows out of the other has forked, and the two are
//! the evidence, for anybody and for ever. So these are texts that stock tools read, and no statements of Tally.
//!
//! The origin of a coordinator's log is `tally/NETWORK/PEER`. It is also the name of its key, and the peer id is the
//! key itself, so a checkpoint is all that is needed to verify it.
//!
//! Invariants: a note is kept as it was received; a [`VerifiedCheckpoint`] exists only of one whose signature was
//! checked or made here.

pub mod log_proof;
pub mod note;

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::id::{Hash, NetworkId, NodeId, ParseIdError};
use crate::merkle::TreeHead;
use note::{Note, NoteError, NoteKey};

/// The longest checkpoint that nodes pass on to each other, in bytes: with one signature, which is all that a log of
/// Tally gives, a checkpoint has at most 374.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 10;

/// What the name of every origin starts with.
const ORIGIN_START: &str = "tally/";

/// Names a log: that of a coordinator in a network. The text is one line without spaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The network.
    pub network: NetworkId,
    /// The coordinator; its checkpoints are signed with this key.
    pub node: NodeId,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{ORIGIN_START}{}/{}", self.network, self.node))
    }
}

impl FromStr for Origin {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (network, node) = text
            .strip_prefix(ORIGIN_START)
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| ParseIdError::new(text, "an origin (tally/NETWORK/PEER)"))?;
        Ok(Self {
            network: network.parse()?,
            node: node.parse()?,
        })
    }
}

/// Why a checkpoint was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no signed note, or its signature is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not that of a checkpoint.
    #[error("read a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of a log that is not one of Tally.
    #[error("read the origin of a checkpoint")]
    Origin(#[from] ParseIdError),
    /// It is of a log of another network.
    #[error("accept a checkpoint of network {found}, this is {expected}")]
    Network {
        /// The network it says.
        found: NetworkId,
        /// This network.
        expected: NetworkId,
    },
}

/// The text of a checkpoint of any log, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointText<'a> {
    /// The log, as it names itself.
    pub origin: &'a str,
    /// The tree over its entries.
    pub head: TreeHead,
}

impl<'a> CheckpointText<'a> {
    /// Reads the text of a note. Lines behind the root are signed with it and mean nothing here.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, CheckpointError> {
        let malformed = CheckpointError::Malformed;
        let lines = text
            .strip_suffix('\n')
            .ok_or(malformed("its last line does not end"))?;
        if lines.split('\n').any(str::is_empty) {
            return Err(malformed("a line is empty"));
        }
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(malformed("it has less than three lines"));
        };
        let size = parse_decimal(size).ok_or(malformed("its size is not a number"))?;
        let root = parse_hash(root).ok_or(malformed("its root is not a hash"))?;
        let head = TreeHead { size, root };
        Ok(Self { origin, head })
    }
}

impl fmt::Display for CheckpointText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = BASE64.encode(self.head.root.as_bytes());
        writeln!(f, "{}\n{}\n{root}", self.origin, self.head.size)
    }
}

/// A checkpoint as it was received; its signature has not been checked yet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignedCheckpoint(String);

impl SignedCheckpoint {
    /// Takes a note that somebody sent or stored.
    #[must_use]
    pub const fn from_note(note: String) -> Self {
        Self(note)
    }

    /// Returns the note.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that the note is a checkpoint of a log of `network`, signed by the coordinator that its origin names.
    ///
    /// # Errors
    /// [`CheckpointError`], the first thing found wrong.
    pub fn verify(self, network: &NetworkId) -> Result<VerifiedCheckpoint, CheckpointError> {
        let note = Note::parse(&self.0)?;
        let CheckpointText { origin, head } = CheckpointText::parse(note.text())?;
        let named: Origin = origin.parse()?;
        if named.network != *network {
            return Err(CheckpointError::Network {
                found: named.network,
                expected: network.clone(),
            });
        }
        note.verify(&NoteKey::new(origin, named.node.as_bytes()))?;
        Ok(VerifiedCheckpoint {
            log: named.node,
            head,
            signed: self,
        })
    }
}

impl fmt::Debug for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedCheckpoint({} bytes)", self.0.len())
    }
}

/// A checkpoint that the coordinator of the log has signed.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    log: NodeId,
    head: TreeHead,
    signed: SignedCheckpoint,
}

impl VerifiedCheckpoint {
    /// Signs the head of the log of `key` in `network`. A log signs only heads that grow out of each other.
    #[must_use]
    pub fn sign(head: TreeHead, network: &NetworkId, key: &SigningKey) -> Self {
        let log = NodeId::from_bytes(key.verifying_key().to_bytes());
        let origin = Origin {
            network: network.clone(),
            node: log,
        };
        let origin = origin.to_string();
        let text = CheckpointText {
            origin: &origin,
            head,
        };
        let note = note::sign(&text.to_string(), &origin, key);
        Self {
            log,
            head,
            signed: SignedCheckpoint(note),
        }
    }

    /// Returns the coordinator whose log it is.
    #[must_use]
    pub const fn log(&self) -> NodeId {
        self.log
    }

    /// Returns the tree over the entries.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// Returns the note as it was received.
    #[must_use]
    pub const fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }
}

impl fmt::Debug for VerifiedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.head, self.log)
    }
}

/// Reads an ASCII decimal without leading zeros.
fn parse_decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = text == "0" || !text.starts_with('0');
    if digits && shortest {
        text.parse().ok()
    } else {
        None
    }
}

fn parse_hash(text: &str) -> Option<Hash> {
    let bytes = BASE64.decode(text.as_bytes()).ok()?;
    Some(Hash::from_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::merkle::leaf_hash;

    fn network(name: &str) -> NetworkId {
        name.parse().unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn head(size: u64) -> TreeHead {
        TreeHead {
            size,
            root: leaf_hash(&size.to_be_bytes()),
        }
    }

    fn origin(name: &str) -> String {
        let node = NodeId::from_bytes(key().verifying_key().to_bytes());
        format!("tally/{name}/{node}")
    }

    /// Signs any text as the log does.
    fn signed(text: &str) -> SignedCheckpoint {
        SignedCheckpoint::from_note(note::sign(text, &origin("test"), &key()))
    }

    #[test]
    fn a_signed_head_is_read_back_from_its_note() {
        let made = VerifiedCheckpoint::sign(head(1_000), &network("test"), &key());
        let note = made.signed().as_str();
        assert!(
            note.starts_with(&format!("{}\n1000\n", origin("test"))),
            "{note}"
        );
        let read = SignedCheckpoint::from_note(note.to_owned()).verify(&network("test"));
        assert_eq!(read.as_ref(), Ok(&made));
        assert_eq!(
            (made.head(), made.log().to_string()),
            (head(1_000), origin("test")[11..].to_owned())
        );
        let longest = VerifiedCheckpoint::sign(head(u64::MAX), &network(&"n".repeat(32)), &key());
        assert!(longest.signed().as_str().len() <= 374);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let note = VerifiedCheckpoint::sign(head(7), &network("test"), &key());
        let note = note.signed().as_str().as_bytes();
        for bit in 0..note.len() * 8 {
            let mut bytes = note.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = String::from_utf8(bytes) {
                let checked = SignedCheckpoint::from_note(changed).verify(&network("test"));
                assert!(checked.is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn lines_behind_the_root_are_signed_and_change_nothing() {
        let root = BASE64.encode(head(3).root.as_bytes());
        let note = signed(&format!(
            "{}\n3\n{root}\nmore\nstill more\n",
            origin("test")
        ));
        assert_eq!(note.verify(&network("test")).unwrap().head(), head(3));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = BASE64.encode(head(3).root.as_bytes());
        let origin = origin("test");
        for text in [
            format!("{origin}\n3\n"),
            format!("{origin}\n03\n{root}\n"),
            format!("{origin}\n+3\n{root}\n"),
            format!("{origin}\n3 \n{root}\n"),
            format!("{origin}\n-3\n{root}\n"),
            format!("{origin}\n18446744073709551616\n{root}\n"),
            format!("{origin}\n3\n{}\n", &root[..40]),
            format!("{origin}\n3\n{}B=\n", &root[..42]),
            format!("{origin}\n3\n{root}\n\nmore\n"),
            format!("{origin}\n\n3\n{root}\n"),
            format!("\n3\n{root}\n"),
        ] {
            let refused = signed(&text).verify(&network("test"));
            assert!(
                matches!(refused, Err(CheckpointError::Malformed(_))),
                "{text:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_checkpoint_counts_for_its_network_and_its_log_only() {
        let root = BASE64.encode(head(3).root.as_bytes());
        let foreign = VerifiedCheckpoint::sign(head(3), &network("main"), &key());
        let refused = foreign.signed().clone().verify(&network("test"));
        assert!(matches!(refused, Err(CheckpointError::Network { .. })));
        let other = NodeId::from_bytes(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes());
        let posing = signed(&format!("tally/test/{other}\n3\n{root}\n"));
        let refused = posing.verify(&network("test"));
        assert!(matches!(
            refused,
            Err(CheckpointError::Note(NoteError::Unsigned(_)))
        ));
        for origin in [
            "example.com/log",
            "tally/test",
            "tally/test/peer",
            "tally//x",
            "TALLY/test/x",
        ] {
            let refused = signed(&format!("{origin}\n3\n{root}\n")).verify(&network("test"));
            assert!(
                matches!(refused, Err(CheckpointError::Origin(_))),
                "{origin}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_head_is_read_back(size in any::<u64>(), root in any::<[u8; 32]>()) {
            let head = TreeHead { size, root: Hash::from_bytes(root) };
            let made = VerifiedCheckpoint::sign(head, &network("test"), &key());
            let read = made.signed().clone().verify(&network("test"));
            prop_assert_eq!(read, Ok(made));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "[\\n \u{2014}a0/+=]{0,60}") {
            drop(SignedCheckpoint::from_note(text.clone()).verify(&network("test")));
            drop(text.parse::<log_proof::LogProof>());
        }
    }
}
