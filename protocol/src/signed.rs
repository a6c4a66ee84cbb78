//! Signed statements: COSE_Sign1 (RFC 9052) with Ed25519, made and read by one fixed layout.
//!
//! A statement is the CBOR text `18([protected, {}, payload, signature])`. The protected header is always
//! `{1: -8, 4: kid, 16: typ, "net": network}`: algorithm EdDSA, the signer's public key, the type of the payload
//! (RFC 9596) and the network. Any other header, algorithm or order is refused, so there is nothing to
//! negotiate and nothing critical to overlook.
//!
//! Invariants: the signature covers the bytes as received, which are kept and never encoded again;
//! a [`Verified`] exists only of a statement whose signature was checked or made here, or for which the caller of
//! [`Signed::verify_with`] vouches.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{NetworkId, NodeId};

/// A type that nodes sign.
pub trait Statement: Serialize + DeserializeOwned {
    /// The media type in the protected header, at most 64 bytes.
    const TYPE: &'static str;
    /// The most bytes a payload of this type may have.
    const BYTES_MAX: usize;
}

/// A statement as bytes whose signature has not been checked yet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signed<T> {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    #[serde(skip)]
    statement: PhantomData<T>,
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes)", self.bytes.len())
    }
}

/// Why a statement was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The bytes are not a statement in Tally's layout.
    #[error("read the statement: not a COSE_Sign1 with the headers that Tally uses")]
    Layout,
    /// The statement is of another type.
    #[error("accept a statement of type {found:?}, expected {expected:?}")]
    Type {
        /// The type it says.
        found: String,
        /// The type that belongs here.
        expected: &'static str,
    },
    /// The statement belongs to another network.
    #[error("accept a statement of network {found:?}, this is {expected:?}")]
    Network {
        /// The network it says.
        found: String,
        /// This network.
        expected: NetworkId,
    },
    /// The key or the signature is wrong.
    #[error("verify the signature of {signer}")]
    Signature {
        /// Who is said to have signed.
        signer: NodeId,
    },
    /// The payload is not the statement that its type says.
    #[error("read the payload")]
    Payload(#[from] DecodeError),
}

impl<T: Statement> Signed<T> {
    /// Takes bytes that somebody sent or stored.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            statement: PhantomData,
        }
    }

    /// Returns the bytes of the whole statement.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the network that the bytes say they are for: what a newcomer joins, who has no network yet. Nothing is
    /// checked by it.
    ///
    /// # Errors
    /// [`VerifyError::Layout`] if they are no statement.
    pub fn claimed_network(&self) -> Result<NetworkId, VerifyError> {
        let parts = Parts::read(&self.bytes).ok_or(VerifyError::Layout)?;
        parts.network.parse().map_err(|_| VerifyError::Layout)
    }

    /// Checks layout, type, network, signature and payload.
    ///
    /// # Errors
    /// [`VerifyError`], the first thing found wrong.
    pub fn verify(self, network: &NetworkId) -> Result<Verified<T>, VerifyError> {
        self.verify_with(network, |claim| claim.holds())
    }

    /// Checks the same as [`Signed::verify`], but lets `holds` say whether the signature does: somebody who checked
    /// or made it before need not compute it again.
    ///
    /// # Errors
    /// [`VerifyError`], the first thing found wrong.
    pub fn verify_with(
        self,
        network: &NetworkId,
        holds: impl FnOnce(&SignatureClaim<'_>) -> bool,
    ) -> Result<Verified<T>, VerifyError> {
        let parts = Parts::read(&self.bytes).ok_or(VerifyError::Layout)?;
        if parts.kind != T::TYPE {
            return Err(VerifyError::Type {
                found: parts.kind.to_owned(),
                expected: T::TYPE,
            });
        }
        if parts.network != network.as_str() {
            return Err(VerifyError::Network {
                found: parts.network.to_owned(),
                expected: network.clone(),
            });
        }
        let signer = NodeId::from_bytes(parts.key);
        let claim = SignatureClaim {
            statement: &self.bytes,
            parts: &parts,
        };
        if !holds(&claim) {
            return Err(VerifyError::Signature { signer });
        }
        let value = codec::from_bytes(parts.payload, T::BYTES_MAX)?;
        Ok(Verified {
            value,
            signer,
            signed: self,
        })
    }
}

/// What the bytes of a statement claim: that the owner of the key in them signed the payload in them.
pub struct SignatureClaim<'a> {
    statement: &'a [u8],
    parts: &'a Parts<'a>,
}

impl SignatureClaim<'_> {
    /// Returns the bytes of the whole statement: key, payload and signature are all there, so the claim of equal
    /// bytes is the same claim.
    #[must_use]
    pub const fn statement(&self) -> &[u8] {
        self.statement
    }

    /// Returns whether it is true.
    #[must_use]
    pub fn holds(&self) -> bool {
        let parts = self.parts;
        let message = signature_structure(parts.protected, parts.payload);
        let signature = Signature::from_bytes(&parts.signature);
        VerifyingKey::from_bytes(&parts.key)
            .is_ok_and(|key| key.verify_strict(&message, &signature).is_ok())
    }
}

impl fmt::Debug for SignatureClaim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureClaim({} bytes)", self.statement.len())
    }
}

/// A statement whose signature holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signer: NodeId,
    signed: Signed<T>,
}

impl<T: Statement> Verified<T> {
    /// Signs `value` for `network`.
    #[must_use]
    pub fn sign(value: T, network: &NetworkId, key: &SigningKey) -> Self {
        let signer = NodeId::from_bytes(key.verifying_key().to_bytes());
        let protected = protected_header(&signer, T::TYPE, network);
        let payload = codec::to_bytes(&value);
        debug_assert!(
            payload.len() <= T::BYTES_MAX,
            "a {} within its bound",
            T::TYPE
        );
        let signature = key
            .sign(&signature_structure(&protected, &payload))
            .to_bytes();
        let mut bytes = vec![TAG_SIGN1, ARRAY_OF_4];
        push_bytes(&mut bytes, &protected);
        bytes.push(EMPTY_MAP);
        push_bytes(&mut bytes, &payload);
        push_bytes(&mut bytes, &signature);
        Self {
            value,
            signer,
            signed: Signed::from_bytes(bytes),
        }
    }

    /// Returns the statement as it was received.
    #[must_use]
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// Returns the bytes of the payload, as signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        Parts::read(&self.signed.bytes).map_or(&[], |parts| parts.payload)
    }
}

impl<T> Verified<T> {
    /// Returns who signed.
    #[must_use]
    pub const fn signer(&self) -> NodeId {
        self.signer
    }

    /// Returns what was signed.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.value, self.signer)
    }
}

/// CBOR initial bytes of the fixed layout.
const TAG_SIGN1: u8 = 0xd2;
const ARRAY_OF_4: u8 = 0x84;
const EMPTY_MAP: u8 = 0xa0;
const BYTES: u8 = 0x40;
const TEXT: u8 = 0x60;
/// A map of four pairs, `1: -8`, and the label 4 before the key, a byte string of 32.
const HEADER_START: [u8; 6] = [0xa4, 0x01, 0x27, 0x04, 0x58, 0x20];
/// The label 16 before the type.
const LABEL_TYPE: u8 = 0x10;
/// The label `"net"` before the network.
const LABEL_NETWORK: [u8; 4] = [0x63, b'n', b'e', b't'];

fn protected_header(signer: &NodeId, kind: &str, network: &NetworkId) -> Vec<u8> {
    let mut header = HEADER_START.to_vec();
    header.extend_from_slice(signer.as_bytes());
    header.push(LABEL_TYPE);
    push_item(&mut header, TEXT, kind.as_bytes());
    header.extend_from_slice(&LABEL_NETWORK);
    push_item(&mut header, TEXT, network.as_str().as_bytes());
    header
}

/// Returns what is signed: `["Signature1", protected, h'', payload]` (RFC 9052, section 4.4).
fn signature_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut structure = vec![ARRAY_OF_4];
    push_item(&mut structure, TEXT, b"Signature1");
    push_bytes(&mut structure, protected);
    push_bytes(&mut structure, b"");
    push_bytes(&mut structure, payload);
    structure
}

fn push_bytes(out: &mut Vec<u8>, content: &[u8]) {
    push_item(out, BYTES, content);
}

/// Appends a byte or text string with the shortest head.
fn push_item(out: &mut Vec<u8>, major: u8, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("statements are far smaller than 4 GiB");
    let big = length.to_be_bytes();
    match length {
        0..=23 => out.push(major | big[3]),
        24..=0xff => out.extend_from_slice(&[major | 24, big[3]]),
        0x100..=0xffff => out.extend_from_slice(&[major | 25, big[2], big[3]]),
        _ => out.extend_from_slice(&[major | 26, big[0], big[1], big[2], big[3]]),
    }
    out.extend_from_slice(content);
}

/// The parts of a statement, borrowed from its bytes.
struct Parts<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    key: [u8; 32],
    kind: &'a str,
    network: &'a str,
    signature: [u8; 64],
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[TAG_SIGN1, ARRAY_OF_4])?;
        let (protected, rest) = split_item(rest, BYTES)?;
        let (payload, rest) = split_item(rest.strip_prefix(&[EMPTY_MAP])?, BYTES)?;
        let (signature, rest) = split_item(rest, BYTES)?;
        let (key, header) = protected.strip_prefix(&HEADER_START)?.split_first_chunk()?;
        let (kind, header) = split_item(header.strip_prefix(&[LABEL_TYPE])?, TEXT)?;
        let (network, header) = split_item(header.strip_prefix(&LABEL_NETWORK)?, TEXT)?;
        if !rest.is_empty() || !header.is_empty() {
            return None;
        }
        Some(Self {
            protected,
            payload,
            key: *key,
            kind: std::str::from_utf8(kind).ok()?,
            network: std::str::from_utf8(network).ok()?,
            signature: signature.try_into().ok()?,
        })
    }
}

/// Splits a byte or text string of major type `major` off the front, head in shortest form.
fn split_item(bytes: &[u8], major: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let low = head.checked_sub(major)?;
    let (width, least) = match low {
        0..=23 => (0, 0),
        24 => (1, 24),
        25 => (2, 1 << 8),
        26 => (4, 1 << 16),
        _ => return None,
    };
    let (raw, rest) = rest.split_at_checked(width)?;
    let length = if width == 0 {
        usize::from(low)
    } else {
        raw.iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    if length < least {
        return None;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Greeting {
        text: String,
    }

    impl Statement for Greeting {
        const TYPE: &'static str = "application/tally-greeting+cbor";
        const BYTES_MAX: usize = 1_000;
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    struct Farewell {
        text: String,
    }

    impl Statement for Farewell {
        const TYPE: &'static str = "application/tally-farewell+cbor";
        const BYTES_MAX: usize = 1_000;
    }

    fn network(name: &str) -> NetworkId {
        name.parse().unwrap()
    }

    fn signed_greeting() -> Verified<Greeting> {
        let key = SigningKey::from_bytes(&[1; 32]);
        Verified::sign(
            Greeting {
                text: "hello".to_owned(),
            },
            &network("test"),
            &key,
        )
    }

    #[test]
    fn a_signed_statement_verifies_and_keeps_its_bytes() {
        let made = signed_greeting();
        let read = made.signed().clone().verify(&network("test")).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.text, "hello");
        assert_eq!(read.payload(), codec::to_bytes(read.value()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = signed_greeting().signed().as_bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Signed::<Greeting>::from_bytes(forged)
                    .verify(&network("test"))
                    .is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn cut_and_lengthened_statements_are_refused() {
        let bytes = signed_greeting().signed().as_bytes().to_vec();
        for length in 0..bytes.len() {
            assert!(
                Signed::<Greeting>::from_bytes(bytes[..length].to_vec())
                    .verify(&network("test"))
                    .is_err()
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            Signed::<Greeting>::from_bytes(longer).verify(&network("test")),
            Err(VerifyError::Layout)
        );
    }

    #[test]
    fn a_statement_counts_for_its_type_and_network_only() {
        let bytes = signed_greeting().signed().as_bytes().to_vec();
        let other_type = Signed::<Farewell>::from_bytes(bytes.clone()).verify(&network("test"));
        assert!(matches!(other_type, Err(VerifyError::Type { .. })));
        let other_network = Signed::<Greeting>::from_bytes(bytes).verify(&network("main"));
        assert!(matches!(other_network, Err(VerifyError::Network { .. })));
    }
}
