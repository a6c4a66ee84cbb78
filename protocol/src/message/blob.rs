//! Content, by verified streaming: the reader asks for a range of a blob and gets it with the hashes that
//! prove each chunk against the root (BLAKE3 tree, bao encoding).
//!
//! Data is private. A holder serves a range to the node it made the content for (the coordinator of the task, the
//! customer), and to whoever shows a [`BlobGrant`] signed by that node.

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, NodeId};
use crate::signed::{Signed, Statement};
use crate::time::Timestamp;

/// The most ranges that one grant opens.
pub const RANGES_MAX: usize = 16;
/// The longest question or answer header, in bytes.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRange {
    /// The blob.
    pub blob: BlobId,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl BlobRange {
    /// Returns whether `other` lies inside.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let end = |range: &Self| range.start.checked_add(range.bytes);
        self.blob == other.blob
            && other.start >= self.start
            && end(other).is_some()
            && end(other) <= end(self)
    }
}

/// The signer lets `reader` read these ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobGrant {
    /// Who may read.
    pub reader: NodeId,
    /// What, at most [`RANGES_MAX`].
    pub ranges: Vec<BlobRange>,
    /// Until when.
    pub expires: Timestamp,
}

impl Statement for BlobGrant {
    const TYPE: &'static str = "application/tally-blob-grant+cbor";
    const BYTES_MAX: usize = 4 << 10;
}

/// Asks for a part of a blob. `bytes` 0 asks for nothing but the length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRequest {
    /// The part.
    pub range: BlobRange,
    /// Why the asker may have it, if that does not follow from who it is.
    pub grant: Option<Signed<BlobGrant>>,
}

/// The header of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobReply {
    /// The blob has this many bytes in all; the encoded part follows.
    Follows(u64),
    /// It does not.
    Refused(super::Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_covers_what_lies_inside_of_the_same_blob() {
        let range = |start, bytes| BlobRange {
            blob: BlobId::of(b""),
            start,
            bytes,
        };
        assert!(range(10, 10).covers(&range(10, 10)));
        assert!(range(10, 10).covers(&range(20, 0)));
        assert!(!range(10, 10).covers(&range(9, 2)));
        assert!(!range(10, 10).covers(&range(15, 6)));
        assert!(!range(10, 10).covers(&range(15, u64::MAX)));
        assert!(!range(10, 10).covers(&BlobRange {
            blob: BlobId::of(b"x"),
            start: 10,
            bytes: 1
        }));
    }
}
