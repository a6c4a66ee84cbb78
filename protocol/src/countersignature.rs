//! Statements that two sides sign: one makes it, the other says that it agrees.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Hash, NetworkId, NodeId};
use crate::signed::{Signed, Statement, Verified, VerifyError};

/// "I agree with this statement."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersignature {
    /// SHA-256 of the other statement, as it was signed.
    pub of: Hash,
}

impl Statement for Countersignature {
    const TYPE: &'static str = "application/tally-countersignature+cbor";
    const BYTES_MAX: usize = 128;
}

/// A statement with the countersignature of the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersigned<T> {
    /// The statement, as one side signed it.
    pub statement: Signed<T>,
    /// The other side's agreement.
    pub agreed: Signed<Countersignature>,
}

/// A statement that both sides signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPair<T> {
    statement: Verified<T>,
    agreed: Verified<Countersignature>,
}

/// Why a statement is not one of two sides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// One of the signatures does not hold.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The countersignature is of another statement.
    #[error("match the countersignature: it is of {found}, the statement is {expected}")]
    OtherStatement {
        /// What it is of.
        found: Hash,
        /// The statement.
        expected: Hash,
    },
}

/// Returns SHA-256 of a statement as it was signed.
#[must_use]
pub fn hash_of<T: Statement>(statement: &Signed<T>) -> Hash {
    Hash::from_bytes(Sha256::digest(statement.as_bytes()).into())
}

impl<T: Statement + Clone> Countersigned<T> {
    /// Checks both signatures.
    ///
    /// # Errors
    /// [`PairError`].
    pub fn verify(self, network: &NetworkId) -> Result<VerifiedPair<T>, PairError> {
        let expected = hash_of(&self.statement);
        let statement = self.statement.verify(network)?;
        let agreed = self.agreed.verify(network)?;
        let found = agreed.of;
        if found != expected {
            return Err(PairError::OtherStatement { found, expected });
        }
        Ok(VerifiedPair { statement, agreed })
    }
}

impl<T: Statement + Clone> VerifiedPair<T> {
    /// Agrees with a statement.
    #[must_use]
    pub fn agree(statement: Verified<T>, network: &NetworkId, key: &SigningKey) -> Self {
        let of = hash_of(statement.signed());
        let agreed = Verified::sign(Countersignature { of }, network, key);
        Self { statement, agreed }
    }

    /// Returns both statements as they were signed.
    #[must_use]
    pub fn signed(&self) -> Countersigned<T> {
        Countersigned {
            statement: self.statement.signed().clone(),
            agreed: self.agreed.signed().clone(),
        }
    }

    /// Returns SHA-256 of the statement, by which others name it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.agreed.of
    }
}

impl<T> VerifiedPair<T> {
    /// Returns what both agree on.
    #[must_use]
    pub const fn value(&self) -> &T {
        self.statement.value()
    }

    /// Returns who made it, and who agreed.
    #[must_use]
    pub const fn signers(&self) -> (NodeId, NodeId) {
        (self.statement.signer(), self.agreed.signer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Agreement;
    use crate::agreement::tests::agreement;

    #[test]
    fn both_sign_the_same_statement() {
        let network: NetworkId = "test".parse().unwrap();
        let [one, other] = [1, 2].map(|byte| SigningKey::from_bytes(&[byte; 32]));
        let made = Verified::sign(agreement(), &network, &one);
        let pair = VerifiedPair::agree(made, &network, &other);
        assert_eq!(pair.signed().verify(&network), Ok(pair.clone()));
        let changed = Agreement {
            number: 9,
            ..agreement()
        };
        let forged = Countersigned {
            statement: Verified::sign(changed, &network, &one).signed().clone(),
            agreed: pair.signed().agreed,
        };
        let refused = forged.verify(&network);
        assert!(matches!(refused, Err(PairError::OtherStatement { .. })));
    }
}
