//! Reads content from other nodes.
//!
//! While a segment is checked and written on a blocking thread, the next one is read from the peer. A transfer that
//! breaks leaves what was right; the next one asks only for what is missing, from the same holder or another.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bao_tree::io::BaoContentItem;
use bao_tree::io::sync::DecodeResponseIter;
use futures::AsyncReadExt;
use libp2p::Stream;
use tally_protocol::id::{BlobId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::{BlobGrant, BlobRange, BlobReply, BlobRequest};
use tally_protocol::signed::Signed;
use tally_protocol::task::BlobRef;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::segment::{BLOB_BYTES_MAX, Segment, segments, tree_of};
use super::serve::{read_header, write_header};
use super::store::{BlobStore, Partial, StoreError};
use crate::network::{AskError, Network};

/// How long the holder may take to answer, and how long it may send nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that count as sending something.
const PIECE_BYTES: usize = 32 << 10;
/// Bytes after which what was written is brought to the disk.
const SAVE_BYTES: u64 = 32 << 20;
/// How often a stream is opened that the holder drops without an answer, and the pause between.
const OPEN_ATTEMPTS: u32 = 4;
/// See [`OPEN_ATTEMPTS`].
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// The topic of the counters.
const TOPIC: &str = "blob";

/// Why content was not read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The holder cannot be asked.
    #[error("ask for blob {blob}")]
    Ask {
        /// The blob.
        blob: BlobId,
        /// Why not.
        source: AskError,
    },
    /// The holder says no.
    #[error("read a blob: {0}")]
    Refused(Refusal),
    /// The holder's blob has another length.
    #[error("read a blob of {expected} bytes: the holder says {found}")]
    Length {
        /// Bytes expected.
        expected: u64,
        /// Bytes of the holder's.
        found: u64,
    },
    /// What the holder sent is not the blob. What came before is kept.
    #[error("verify blob {blob} from {holder}")]
    Corrupt {
        /// The blob.
        blob: BlobId,
        /// Who sent it.
        holder: NodeId,
    },
    /// The stream broke. What came before is kept.
    #[error("read a blob to its end")]
    Broken(#[source] io::Error),
    /// The holder sent nothing for too long. What came before is kept.
    #[error("read a blob: nothing came for {IDLE_TIMEOUT:?}")]
    Idle,
    /// The store does not take it.
    #[error("store a blob")]
    Store(#[from] StoreError),
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the blob that are here and right.
    pub bytes: u64,
    /// Bytes of the blob.
    pub total: u64,
    /// Bytes that this transfer has moved.
    pub transferred: u64,
}

/// Brings `blob` into `store` from `from`, going on where an earlier transfer ended. Done at once if it is there.
///
/// # Errors
/// [`FetchError`]. All but [`FetchError::Store`] may go better with another holder, or later.
#[expect(
    clippy::too_many_arguments,
    reason = "what, from whom, by which right and into where: a struct would live for one call"
)]
pub async fn fetch(
    network: &Network,
    store: &BlobStore,
    from: NodeId,
    blob: BlobRef,
    grant: Option<Signed<BlobGrant>>,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<(), FetchError> {
    let transfer = Transfer {
        network,
        holder: from,
        blob: blob.id,
        grant,
    };
    if blob.bytes == 0 && blob != BlobRef::of(b"") {
        // Nothing would come that could be checked.
        return Err(transfer.corrupt());
    }
    let _turn = store.turn(blob.id).await;
    let opening = store.clone();
    let found = spawn_blocking(move || {
        if opening.has(blob.id) {
            return Ok(None);
        }
        let partial = opening.open_partial(blob)?;
        let missing = partial.missing();
        Ok::<_, StoreError>(Some((Arc::new(partial), missing)))
    });
    let Some((partial, missing)) = found.await.map_err(lost)?? else {
        return Ok(());
    };
    let absent: u64 = missing.iter().map(length).sum();
    let mut now = Progress {
        bytes: blob.bytes - absent,
        total: blob.bytes,
        transferred: 0,
    };
    progress(now);
    let mut saver = Saver::new(&partial);
    for run in runs(&missing) {
        transfer
            .receive(blob, run, &mut saver, |segment, encoded| {
                now.bytes += length(segment);
                now.transferred += encoded;
                progress(now);
            })
            .await?;
    }
    saver.end().await?;
    let committing = store.clone();
    spawn_blocking(move || committing.commit_partial(&partial))
        .await
        .map_err(lost)??;
    network.counters().count(TOPIC, "fetched");
    Ok(())
}

/// Reads a part of a blob into memory; the caller bounds its length. The answer is verified against the root.
///
/// # Errors
/// [`FetchError`], never of the store.
pub async fn read_range(
    network: &Network,
    from: NodeId,
    range: BlobRange,
    grant: Option<Signed<BlobGrant>>,
) -> Result<Vec<u8>, FetchError> {
    let transfer = Transfer {
        network,
        holder: from,
        blob: range.blob,
        grant,
    };
    let _turn = network.throttle().down().stream().await;
    let (mut stream, blob_bytes) = transfer.open(range).await?;
    let wanted = range.start..range.start.saturating_add(range.bytes);
    if wanted.end > blob_bytes || blob_bytes > BLOB_BYTES_MAX {
        return Err(FetchError::Length {
            expected: wanted.end,
            found: blob_bytes,
        });
    }
    let mut content = Vec::new();
    for segment in segments(&wanted, blob_bytes) {
        let mut encoded = Vec::new();
        transfer
            .read_segment(&mut stream, &segment, &mut encoded)
            .await?;
        let id = range.blob;
        let wanted = wanted.clone();
        let decoded = spawn_blocking(move || decode(id, blob_bytes, &segment, &encoded, &wanted));
        let decoded = decoded.await.map_err(lost)?;
        content.extend_from_slice(&decoded.ok_or_else(|| transfer.corrupt())?);
    }
    Ok(content)
}

/// Checks a segment and returns what of it lies in `wanted`.
fn decode(
    blob: BlobId,
    blob_bytes: u64,
    segment: &Segment,
    encoded: &[u8],
    wanted: &Range<u64>,
) -> Option<Vec<u8>> {
    let root = blake3::Hash::from_bytes(*blob.as_bytes());
    let tree = tree_of(blob_bytes);
    let mut content = Vec::with_capacity(encoded.len());
    for item in DecodeResponseIter::new(root, tree, encoded, &segment.chunks) {
        if let BaoContentItem::Leaf(leaf) = item.ok()? {
            let end = leaf.offset + leaf.data.len() as u64;
            let from = wanted.start.clamp(leaf.offset, end) - leaf.offset;
            let to = wanted.end.clamp(leaf.offset, end) - leaf.offset;
            let part = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
            content.extend_from_slice(&leaf.data[part]);
        }
    }
    Some(content)
}

/// Who is asked for what.
struct Transfer<'a> {
    network: &'a Network,
    holder: NodeId,
    blob: BlobId,
    grant: Option<Signed<BlobGrant>>,
}

impl Transfer<'_> {
    /// Asks for a range; returns the stream behind the header, and the length of the blob.
    async fn open(&self, range: BlobRange) -> Result<(Stream, u64), FetchError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.try_open(range).await {
                // libp2p drops streams that come faster than the holder accepts them.
                Err(FetchError::Broken(error))
                    if error.kind() == io::ErrorKind::UnexpectedEof && attempt < OPEN_ATTEMPTS =>
                {
                    tokio::time::sleep(OPEN_PAUSE * attempt).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open(&self, range: BlobRange) -> Result<(Stream, u64), FetchError> {
        let ask = |source| FetchError::Ask {
            blob: self.blob,
            source,
        };
        let opened = self.network.open_blob_stream(self.holder).await;
        let mut stream = opened.map_err(ask)?;
        let request = BlobRequest {
            range,
            grant: self.grant.clone(),
        };
        let exchange = async {
            write_header(&mut stream, &request).await?;
            read_header::<BlobReply>(&mut stream).await
        };
        let reply = timeout(IDLE_TIMEOUT, exchange)
            .await
            .map_err(|_| FetchError::Idle)?;
        match reply.map_err(FetchError::Broken)? {
            BlobReply::Follows(blob_bytes) => Ok((stream, blob_bytes)),
            BlobReply::Refused(refusal) => Err(FetchError::Refused(refusal)),
        }
    }

    /// Receives a run of adjacent segments.
    async fn receive(
        &self,
        blob: BlobRef,
        run: &[Segment],
        saver: &mut Saver,
        mut arrived: impl FnMut(&Segment, u64),
    ) -> Result<(), FetchError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let range = BlobRange {
            blob: blob.id,
            start: first.bytes.start,
            bytes: last.bytes.end - first.bytes.start,
        };
        let _turn = self.network.throttle().down().stream().await;
        let (mut stream, blob_bytes) = self.open(range).await?;
        if blob_bytes != blob.bytes {
            return Err(FetchError::Length {
                expected: blob.bytes,
                found: blob_bytes,
            });
        }
        let mut writing = None;
        let mut encoded = Vec::new();
        for segment in run {
            let read = self.read_segment(&mut stream, segment, &mut encoded).await;
            let spare = self.written(writing.take(), &mut arrived).await?;
            saver.wrote(length(segment)).await?;
            read?;
            let (full, part) = (std::mem::replace(&mut encoded, spare), segment.clone());
            let partial = Arc::clone(&saver.partial);
            writing = Some(spawn_blocking(move || {
                let written = partial.write(&part, &full);
                (part, full, written)
            }));
        }
        self.written(writing, &mut arrived).await.map(drop)
    }

    /// Waits for the segment that is being checked and written; returns its buffer.
    async fn written(
        &self,
        writing: Option<Writing>,
        arrived: &mut impl FnMut(&Segment, u64),
    ) -> Result<Vec<u8>, FetchError> {
        let Some(writing) = writing else {
            return Ok(Vec::new());
        };
        let (segment, encoded, written) = writing.await.map_err(lost)?;
        match written {
            Ok(()) => {
                arrived(&segment, encoded.len() as u64);
                Ok(encoded)
            }
            Err(bao_tree::io::DecodeError::Io(source)) => Err(FetchError::Store(StoreError::Io {
                what: "write a segment of",
                path: self.blob.to_string().into(),
                source,
            })),
            Err(error) => {
                tracing::info!(holder = %self.holder, blob = %self.blob, %error, "content is corrupt");
                Err(self.corrupt())
            }
        }
    }

    /// Reads the bytes of one segment, as long as some come now and then.
    async fn read_segment(
        &self,
        stream: &mut Stream,
        segment: &Segment,
        encoded: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        encoded.resize(segment.encoded_bytes, 0);
        let mut rest = encoded.as_mut_slice();
        while !rest.is_empty() {
            let gate = self.network.throttle().down();
            let passed = gate.pass(rest.len().min(PIECE_BYTES)).await;
            let (piece, after) = rest.split_at_mut(passed);
            timeout(IDLE_TIMEOUT, stream.read_exact(piece))
                .await
                .map_err(|_| FetchError::Idle)?
                .map_err(FetchError::Broken)?;
            rest = after;
        }
        self.network
            .counters()
            .add(TOPIC, "bytes_in", encoded.len() as u64);
        Ok(())
    }

    fn corrupt(&self) -> FetchError {
        self.network.counters().count(TOPIC, "corrupt");
        FetchError::Corrupt {
            blob: self.blob,
            holder: self.holder,
        }
    }
}

/// Brings what was written to the disk now and then while the transfer goes on, so that a power failure costs little and
/// the end of the transfer does not wait for all of it.
struct Saver {
    partial: Arc<Partial>,
    unsaved: u64,
    saving: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Saver {
    fn new(partial: &Arc<Partial>) -> Self {
        Self {
            partial: Arc::clone(partial),
            unsaved: 0,
            saving: None,
        }
    }

    async fn wrote(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.unsaved += bytes;
        let idle = self.saving.as_ref().is_none_or(JoinHandle::is_finished);
        if self.unsaved >= SAVE_BYTES && idle {
            self.end().await?;
            self.unsaved = 0;
            let partial = Arc::clone(&self.partial);
            self.saving = Some(spawn_blocking(move || partial.save()));
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), FetchError> {
        if let Some(saving) = self.saving.take() {
            saving.await.map_err(lost)??;
        }
        Ok(())
    }
}

/// A segment that is being checked and written.
type Writing = JoinHandle<(Segment, Vec<u8>, Result<(), bao_tree::io::DecodeError>)>;

/// Groups segments that follow each other, so that each group takes one stream.
fn runs(missing: &[Segment]) -> impl Iterator<Item = &[Segment]> {
    missing.chunk_by(|left, right| left.bytes.end == right.bytes.start)
}

const fn length(segment: &Segment) -> u64 {
    segment.bytes.end - segment.bytes.start
}

/// A blocking thread that was lost is an I/O fault of this node.
fn lost(error: tokio::task::JoinError) -> FetchError {
    FetchError::Broken(io::Error::other(error))
}
