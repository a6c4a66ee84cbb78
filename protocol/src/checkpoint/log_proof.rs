//! The proof that an entry stands in a log, as one text (C2SP tlog-proof): for whoever was not there.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra base64(anything; it is not authenticated)     this line may be missing
//! index 3
//! base64(hash), a line for each, from the sibling of the leaf upwards
//!
//! the checkpoint
//! ```

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;

use super::note::NOTE_BYTES_MAX;
use super::{CheckpointError, SignedCheckpoint, VerifiedCheckpoint, parse_decimal, parse_hash};
use crate::id::{Hash, NetworkId};
use crate::merkle::leaf_hash;
use crate::merkle::proof::{PATH_MAX, ProofError, verify_inclusion};

/// The longest proof in bytes: a checkpoint, the hashes, and as much again for what else somebody adds.
pub const LOG_PROOF_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";

/// A proof that was not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// What else somebody added; nobody has signed it.
    pub extra: Option<Vec<u8>>,
    /// The sequence of the entry.
    pub index: u64,
    /// Hashes from the sibling of the leaf up to the child of the root.
    pub path: Vec<Hash>,
    /// What the log says of its tree.
    pub checkpoint: SignedCheckpoint,
}

/// Why a proof was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogProofError {
    /// The text is no proof.
    #[error("read a log proof: {0}")]
    Malformed(&'static str),
    /// The checkpoint is wrong.
    #[error("check the checkpoint of a log proof")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not prove that the entry stands there.
    #[error("check the entry of a log proof")]
    Path(#[from] ProofError),
}

impl LogProof {
    /// Checks that a log of `network` has `entry` at the place that the proof says, and returns what the log signed.
    ///
    /// # Errors
    /// [`LogProofError`], the first thing found wrong.
    pub fn verify(
        &self,
        entry: &[u8],
        network: &NetworkId,
    ) -> Result<VerifiedCheckpoint, LogProofError> {
        let checkpoint = self.checkpoint.clone().verify(network)?;
        verify_inclusion(leaf_hash(entry), self.index, &checkpoint.head(), &self.path)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "{EXTRA}{}", BASE64.encode(extra))?;
        }
        writeln!(f, "{INDEX}{}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint.as_str())
    }
}

impl FromStr for LogProof {
    type Err = LogProofError;

    fn from_str(text: &str) -> Result<Self, LogProofError> {
        let malformed = LogProofError::Malformed;
        if text.len() > LOG_PROOF_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let (lines, checkpoint) = text
            .split_once("\n\n")
            .ok_or(malformed("no empty line stands before a checkpoint"))?;
        let mut lines = lines.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("its first line is another"));
        }
        let extra = match lines.next_if(|line| line.starts_with(EXTRA)) {
            None => None,
            Some(line) => {
                let decoded = BASE64.decode(&line.as_bytes()[EXTRA.len()..]);
                Some(decoded.map_err(|_| malformed("what was added is not base64"))?)
            }
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix(INDEX))
            .and_then(parse_decimal)
            .ok_or(malformed("it does not say the index"))?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == PATH_MAX {
                return Err(malformed("it has too many hashes"));
            }
            path.push(parse_hash(line).ok_or(malformed("a line is no hash"))?);
        }
        Ok(Self {
            extra,
            index,
            path,
            checkpoint: SignedCheckpoint::from_note(checkpoint.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::merkle::TreeHead;
    use crate::merkle::node_hash;

    fn network() -> NetworkId {
        "test".parse().unwrap()
    }

    /// The proof that `second` is the second of three entries.
    fn proof() -> LogProof {
        let [first, second, third] = [b"first" as &[u8], b"second", b"third"].map(leaf_hash);
        let head = TreeHead {
            size: 3,
            root: node_hash(&node_hash(&first, &second), &third),
        };
        let key = SigningKey::from_bytes(&[1; 32]);
        LogProof {
            extra: None,
            index: 1,
            path: vec![first, third],
            checkpoint: VerifiedCheckpoint::sign(head, &network(), &key)
                .signed()
                .clone(),
        }
    }

    #[test]
    fn a_proof_is_read_back_from_its_text_and_holds() {
        let with_extra = LogProof {
            extra: Some(b"anything".to_vec()),
            ..proof()
        };
        for made in [proof(), with_extra] {
            let read: LogProof = made.to_string().parse().unwrap();
            assert_eq!(read, made);
            assert_eq!(read.verify(b"second", &network()).unwrap().head().size, 3);
        }
    }

    #[test]
    fn a_proof_is_for_its_entry_place_and_tree_only() {
        let wrong = |change: fn(&mut LogProof)| {
            let mut proof = proof();
            change(&mut proof);
            proof.verify(b"second", &network()).unwrap_err()
        };
        let root = LogProofError::Path(ProofError::Root);
        assert_eq!(proof().verify(b"first", &network()), Err(root.clone()));
        assert_eq!(wrong(|proof| proof.index = 0), root);
        assert_eq!(wrong(|proof| proof.path.swap(0, 1)), root);
        let path = |error| matches!(error, LogProofError::Path(ProofError::Length { .. }));
        assert!(path(wrong(|proof| proof.path.truncate(1))));
        let beyond = wrong(|proof| proof.index = 3);
        assert!(matches!(
            beyond,
            LogProofError::Path(ProofError::Range { .. })
        ));
        let foreign = proof().verify(b"second", &"main".parse().unwrap());
        assert!(matches!(foreign, Err(LogProofError::Checkpoint(_))));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let good = proof().to_string();
        let change = |from: &str, to: &str| good.replacen(from, to, 1);
        let hash = BASE64.encode(proof().path[0].as_bytes());
        let too_many = format!("{hash}\n").repeat(PATH_MAX);
        for text in [
            String::new(),
            change("@v1", "@v2"),
            change("index 1", "index 01"),
            change("index 1", "index -1"),
            change("index 1", "Index 1"),
            change("index 1", "extra !\nindex 1"),
            change("index 1", "extra AA==\nextra AA==\nindex 1"),
            change(&hash, &hash[..40]),
            change("index 1\n", &format!("index 1\n{too_many}")),
            change("\n\n", "\n"),
            format!("{good}{}", " ".repeat(LOG_PROOF_BYTES_MAX)),
        ] {
            let read = text.parse::<LogProof>();
            let refused = read.and_then(|proof| proof.verify(b"second", &network()));
            assert!(refused.is_err(), "{text}");
        }
    }
}
