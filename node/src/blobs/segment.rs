//! How a range of a blob is sent: in segments of 512 KiB, each a verified stream (bao) of its own.
//!
//! A range is rounded out to whole BLAKE3 chunks of 1 KiB and cut at multiples of 512 KiB. For each segment the
//! stream carries the hash pairs from the root down and the content, in the order of the bao format. Both sides
//! know the tree from the length of the blob, hence also how many bytes a segment takes. That each segment starts at
//! the root again costs 0.2 % and makes each of them stand alone: it is read from disk, checked and written in
//! one go on a blocking thread, and a broken transfer resumes at any of them.

use std::ops::Range;

use bao_tree::iter::{BaoChunk, ResponseIterRef};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};

/// Groups of 16 chunks, 16 KiB.
pub(super) const GROUP: BlockSize = BlockSize::from_chunk_log(4);
/// Content of a segment.
pub(super) const SEGMENT_BYTES: u64 = 512 << 10;
/// The longest blob, a pebibyte. Whatever a peer says is held against it before anything is computed from it.
pub(super) const BLOB_BYTES_MAX: u64 = 1 << 50;
/// BLAKE3's chunk.
const CHUNK_BYTES: u64 = 1 << 10;
/// A pair of hashes.
const PAIR_BYTES: usize = 64;

/// A part of a range that is sent, checked and written in one go.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its content, in bytes of the blob.
    pub(super) bytes: Range<u64>,
    /// Its content, in chunks.
    pub(super) chunks: ChunkRanges,
    /// Its length on the wire.
    pub(super) encoded_bytes: usize,
}

/// Returns the hash tree of a blob of this length.
pub(super) fn tree_of(blob_bytes: u64) -> BaoTree {
    BaoTree::new(blob_bytes, GROUP)
}

/// Returns whether a blob of this length has an outboard; a smaller one is a single group.
pub(super) fn has_outboard(blob_bytes: u64) -> bool {
    blob_bytes > GROUP.bytes() as u64
}

/// Cuts `range`, which lies inside a blob of `blob_bytes`, into segments. An empty range has none.
pub(super) fn segments(
    range: &Range<u64>,
    blob_bytes: u64,
) -> impl Iterator<Item = Segment> + use<> {
    let tree = tree_of(blob_bytes);
    let end = range.end.min(blob_bytes);
    let mut at = range.start - range.start % CHUNK_BYTES;
    if range.is_empty() {
        at = end;
    }
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let boundary = (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
        let wanted = boundary.min(end.next_multiple_of(CHUNK_BYTES));
        let bytes = at..wanted.min(blob_bytes);
        at = wanted;
        Some(Segment::new(tree, bytes))
    })
}

impl Segment {
    fn new(tree: BaoTree, bytes: Range<u64>) -> Self {
        let chunks =
            ChunkRanges::from(ChunkNum::full_chunks(bytes.start)..ChunkNum::chunks(bytes.end));
        let truncated = bao_tree::io::sync::truncate_ranges(&chunks, tree.size());
        let encoded_bytes = ResponseIterRef::new(tree, truncated)
            .map(|item| match item {
                BaoChunk::Parent { .. } => PAIR_BYTES,
                BaoChunk::Leaf { size, .. } => size,
            })
            .sum();
        Self {
            bytes,
            chunks,
            encoded_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_a_range_without_gap_and_end_at_multiples() {
        let blob_bytes = 3 * SEGMENT_BYTES + 1_500;
        for range in [0..blob_bytes, 5..6, 1_023..1_025, 700_000..1_500_000, 0..0] {
            let cut: Vec<_> = segments(&range, blob_bytes).collect();
            let mut at = range.start - range.start % CHUNK_BYTES;
            for segment in &cut {
                assert_eq!(segment.bytes.start, at);
                assert!(segment.bytes.end - at <= SEGMENT_BYTES);
                at = segment.bytes.end;
                let content = usize::try_from(segment.bytes.end - segment.bytes.start).unwrap();
                assert!(segment.encoded_bytes >= content);
            }
            if range.is_empty() {
                assert!(cut.is_empty());
            } else {
                assert!(at >= range.end && at - range.end < CHUNK_BYTES);
            }
        }
    }
}
