//! Names of things: each id is a newtype over fixed bytes.
//!
//! Invariants: `Display` and `FromStr` are inverse; the text form stands in JSON and in the command
//! line, the raw bytes in CBOR; `Debug` is short, for logs.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}")]
pub struct ParseIdError {
    text: String,
    kind: &'static str,
}

impl ParseIdError {
    pub(crate) fn new(text: &str, kind: &'static str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            kind,
        }
    }
}

/// Defines an id over `$len` bytes whose text is made by `$encode` and read by `$decode`.
macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal, $encode:path, $decode:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Takes the raw bytes of the id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Returns the raw bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&$encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                $decode(text)
                    .and_then(|bytes| <[u8; $len]>::try_from(bytes).ok())
                    .map(Self)
                    .ok_or_else(|| ParseIdError::new(text, $kind))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    serde_bytes::ByteArray::<$len>::deserialize(deserializer)
                        .map(|bytes| Self(bytes.into_array()))
                }
            }
        }
    };
}

define_id!(
    /// A node: its ed25519 public key, which is also its libp2p identity. The text is the libp2p peer id.
    NodeId, 32, "a peer id (12D3KooW...)", peer_text, parse_peer
);
define_id!(
    /// A task: BLAKE3 of its canonical CBOR.
    TaskId, 32, "a task id (64 hex digits)", hex, parse_hex
);
define_id!(
    /// Content of any kind: the BLAKE3 root of its bytes. A program is named by the blob of its module.
    BlobId, 32, "a blob id (64 hex digits)", hex, parse_hex
);
define_id!(
    /// One grant: a batch of leases that one signature covers. Drawn at random by the coordinator.
    GrantId, 16, "a grant id (32 hex digits)", hex, parse_hex
);

define_id!(
    /// A rate card: SHA-256 of the signed statement.
    RateCardId, 32, "a rate card id (64 hex digits)", hex, parse_hex
);
define_id!(
    /// A receipt: SHA-256 of the signed statement.
    ReceiptId, 32, "a receipt id (64 hex digits)", hex, parse_hex
);
define_id!(
    /// A license: derived from the order that it was issued for.
    LicenseId, 16, "a license id (32 hex digits)", hex, parse_hex
);
define_id!(
    /// A voucher: derived from the order that it was issued for.
    VoucherId, 16, "a voucher id (32 hex digits)", hex, parse_hex
);
define_id!(
    /// A posting of the books, and the hold that it may make: derived from what it is posted for.
    PostingId, 16, "a posting id (32 hex digits)", hex, parse_hex
);

define_id!(
    /// An order at an app server. Drawn at random by it.
    OrderId, 16, "an order id (32 hex digits)", hex, parse_hex
);
define_id!(
    /// A redemption: the first bytes of SHA-256 of the signed order for it.
    RedemptionId, 16, "a redemption id (32 hex digits)", hex, parse_hex
);

define_id!(
    /// A SHA-256 hash: in a Merkle tree, or of a statement that another one names.
    Hash, 32, "a hash (64 hex digits)", hex, parse_hex
);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl NodeId {
    /// Returns the last eight characters of the text, enough to tell nodes apart in a table.
    #[must_use]
    pub fn short(&self) -> String {
        let text = peer_text(&self.0);
        text[text.len() - 8..].to_owned()
    }
}

/// Debug and a short form for the ids written in hex.
macro_rules! short_hex {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl $name {
            /// Returns the first eight hex digits, enough to tell ids apart in a table.
            #[must_use]
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..4])
            }
        }
    )*};
}
short_hex!(
    TaskId,
    BlobId,
    GrantId,
    RateCardId,
    ReceiptId,
    PostingId,
    OrderId,
    RedemptionId,
    Hash
);
short_hex!(LicenseId, VoucherId);

impl BlobId {
    /// Returns the id of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

/// What stands before the key in a peer id: an identity multihash of 36 bytes that holds the libp2p
/// protobuf of an ed25519 public key (libp2p specs, peer-ids).
const PEER_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

fn peer_text(key: &[u8; 32]) -> String {
    let mut bytes = PEER_PREFIX.to_vec();
    bytes.extend_from_slice(key);
    bs58::encode(bytes).into_string()
}

fn parse_peer(text: &str) -> Option<Vec<u8>> {
    // base58 takes time quadratic in the length: a peer id has at most 52 characters.
    if text.len() > 60 {
        return None;
    }
    let bytes = bs58::decode(text).into_vec().ok()?;
    bytes.strip_prefix(&PEER_PREFIX).map(<[u8]>::to_vec)
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER.decode(text.as_bytes()).ok()
}

/// Names the network that a statement belongs to, so that a statement of a test network is worth nothing on
/// another: 1 to 32 characters of `a-z`, `0-9` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkId(String);

impl NetworkId {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=32).contains(&text.len()) && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::new(
                text,
                "a network name (1 to 32 of a-z, 0-9, -)",
            ))
        }
    }
}

impl TryFrom<String> for NetworkId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<NetworkId> for String {
    fn from(network: NetworkId) -> Self {
        network.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_of_ids_round_trip() {
        let node = NodeId::from_bytes([7; 32]);
        assert!(node.to_string().starts_with("12D3KooW"));
        assert_eq!(node.to_string().parse(), Ok(node));
        let task = TaskId::from_bytes([0xab; 32]);
        assert_eq!(task.to_string().parse(), Ok(task));
        assert_eq!(task.short(), "abababab");
    }

    #[test]
    fn wrong_texts_are_refused_with_the_value() {
        for text in ["", "zz", "12D3KooW", &"a".repeat(10_000)] {
            assert!(text.parse::<NodeId>().is_err());
            assert!(text.parse::<TaskId>().is_err());
        }
        let error = "Main Net".parse::<NetworkId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"Main Net\" is not a network name (1 to 32 of a-z, 0-9, -)"
        );
    }
}
