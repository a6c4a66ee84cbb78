//! Answers those who read content of this node.
//!
//! Each stream is a task with two buffers of one segment: while one is on its way to the peer, the next is read
//! from disk and encoded on a blocking thread. A peer that takes nothing for some time is dropped.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{encode_ranges, encode_ranges_validated};
use futures::{AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::Stream;
use tally_protocol::codec;
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::{BlobReply, BlobRequest, HEADER_BYTES_MAX};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::access::Access;
use super::segment::{Segment, segments, tree_of};
use super::store::{BlobStore, OpenBlob};
use crate::network::{Counters, Gate, Network, node_of};

/// How long a peer may take to send its question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that count as taking something.
const PIECE_BYTES: usize = 32 << 10;
/// Streams that are told that the node is busy, at a time; beyond them streams are dropped.
const REFUSING_MAX: usize = 64;
/// The topic of the counters.
const TOPIC: &str = "blob";

/// Bounds of what is served at a time.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Streams in all. Each takes 1 MiB.
    pub streams: usize,
    /// Streams of one peer.
    pub streams_per_peer: usize,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            streams: 64,
            streams_per_peer: 8,
        }
    }
}

/// Starts to serve; returns the task, to be aborted or left alone. It ends with the last handle of the network.
///
/// # Panics
/// If it is called twice for one network.
#[must_use = "the task can be aborted through it"]
pub fn serve(
    network: &Network,
    stores: Vec<BlobStore>,
    access: Access,
    limits: ServeLimits,
) -> JoinHandle<()> {
    let mut incoming = network
        .accept_blob_streams()
        .expect("content of a network is served once");
    let counters = network.counters().clone();
    let gate = Arc::clone(network.throttle().up());
    tokio::spawn(async move {
        let holder = Arc::new(Holder {
            stores,
            access,
            counters,
            gate,
        });
        let mut streams = JoinSet::new();
        let mut open: BTreeMap<NodeId, usize> = BTreeMap::new();
        loop {
            tokio::select! {
                stream = incoming.next() => {
                    let Some((peer, stream)) = stream else { break };
                    let Some(reader) = node_of(&peer) else { continue };
                    let of_peer = open.get(&reader).copied().unwrap_or_default();
                    let busy = streams.len() >= limits.streams || of_peer >= limits.streams_per_peer;
                    if busy && streams.len() >= limits.streams + REFUSING_MAX {
                        holder.counters.count(TOPIC, "dropped");
                        continue;
                    }
                    open.insert(reader, of_peer + 1);
                    let holder = Arc::clone(&holder);
                    streams.spawn(async move {
                        holder.answer(reader, stream, busy).await;
                        reader
                    });
                }
                Some(ended) = streams.join_next() => {
                    let Ok(reader) = ended else { continue };
                    if let Some(count) = open.get_mut(&reader) {
                        *count -= 1;
                        if *count == 0 {
                            open.remove(&reader);
                        }
                    }
                }
            }
        }
    })
}

struct Holder {
    /// One for each role of the node.
    stores: Vec<BlobStore>,
    access: Access,
    counters: Counters,
    /// What slows sending down.
    gate: Arc<Gate>,
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("the peer took nothing for {IDLE_TIMEOUT:?}")]
    Idle,
    #[error("the stream broke")]
    Stream(#[from] io::Error),
    #[error("the content cannot be read")]
    Content(String),
}

impl Holder {
    async fn answer(&self, reader: NodeId, mut stream: Stream, busy: bool) {
        self.counters.count(TOPIC, "asked");
        let turn = if busy { None } else { self.gate.try_stream() };
        let accepted = if turn.is_some() {
            self.accept(reader, &mut stream).await
        } else {
            Err(Refusal::Busy)
        };
        let served = match accepted {
            Ok((open, request)) => self.send(&mut stream, open, &request).await,
            Err(refusal) => {
                tracing::debug!(%reader, %refusal, "refused content");
                self.counters.count(TOPIC, refusal.name());
                let header = BlobReply::Refused(refusal);
                write_header(&mut stream, &header)
                    .await
                    .map_err(ServeError::from)
            }
        };
        if let Err(error) = served {
            tracing::debug!(%reader, error = &error as &dyn std::error::Error, "a stream of content ended early");
            self.counters.count(TOPIC, "broken");
        }
        let _ = timeout(IDLE_TIMEOUT, stream.close()).await;
    }

    /// Reads the question and decides on it.
    async fn accept(
        &self,
        reader: NodeId,
        stream: &mut Stream,
    ) -> Result<(OpenBlob, BlobRequest), Refusal> {
        let question = timeout(QUESTION_TIMEOUT, read_header::<BlobRequest>(stream));
        let request = question
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(Refusal::Malformed)?;
        let (stores, access) = (self.stores.clone(), self.access.clone());
        let decide = spawn_blocking(move || {
            access.check(reader, &request, crate::network::now())?;
            let open_in = |store: &BlobStore| match store.open_blob(request.range.blob) {
                Ok(open) => Some(open),
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "content not here");
                    None
                }
            };
            let open = stores
                .iter()
                .find_map(open_in)
                .ok_or(Refusal::UnknownBlob)?;
            let end = request.range.start.checked_add(request.range.bytes);
            if end.is_none_or(|end| end > open.blob.bytes) {
                return Err(Refusal::Malformed);
            }
            Ok((open, request))
        });
        decide.await.unwrap_or(Err(Refusal::Busy))
    }

    async fn send(
        &self,
        stream: &mut Stream,
        open: OpenBlob,
        request: &BlobRequest,
    ) -> Result<(), ServeError> {
        let blob_bytes = open.blob.bytes;
        write_header(stream, &BlobReply::Follows(blob_bytes)).await?;
        let open = Arc::new(open);
        let range = request.range.start..request.range.start + request.range.bytes;
        let mut ahead = segments(&range, blob_bytes);
        let mut encoding = ahead
            .next()
            .map(|segment| encode(&open, segment, Vec::new()));
        let mut spare = Vec::new();
        while let Some(encoded) = encoding {
            let encoded = encoded
                .await
                .map_err(|error| ServeError::Content(error.to_string()))??;
            // Runs on its own while this segment is written.
            encoding = ahead.next().map(|segment| encode(&open, segment, spare));
            write_steadily(stream, &self.gate, &encoded).await?;
            self.counters.add(TOPIC, "bytes_out", encoded.len() as u64);
            spare = encoded;
        }
        stream.flush().await?;
        self.counters.count(TOPIC, "served");
        Ok(())
    }
}

/// Reads a segment from disk and encodes it into `encoded`, on a blocking thread.
fn encode(
    open: &Arc<OpenBlob>,
    segment: Segment,
    mut encoded: Vec<u8>,
) -> JoinHandle<Result<Vec<u8>, ServeError>> {
    let open = Arc::clone(open);
    spawn_blocking(move || {
        let fault = |error: &dyn std::fmt::Display| ServeError::Content(error.to_string());
        encoded.clear();
        encoded.reserve(segment.encoded_bytes);
        let result = match (&open.outboard, &open.in_place) {
            // The user's file may change at any moment; the store's own does not.
            (Some(outboard), Some(_)) => encode_ranges_validated(
                &open.file,
                open.hashes(outboard),
                &segment.chunks,
                &mut encoded,
            ),
            (Some(outboard), None) => encode_ranges(
                &open.file,
                open.hashes(outboard),
                &segment.chunks,
                &mut encoded,
            ),
            (None, _) => encode_ranges_validated(
                &open.file,
                open.hashes(Vec::new()),
                &segment.chunks,
                &mut encoded,
            ),
        };
        result.map_err(|error| fault(&error))?;
        open.check().map_err(|error| fault(&error))?;
        Ok(encoded)
    })
}

impl OpenBlob {
    fn hashes<D>(&self, data: D) -> PreOrderOutboard<D> {
        PreOrderOutboard {
            root: blake3::Hash::from_bytes(*self.blob.id.as_bytes()),
            tree: tree_of(self.blob.bytes),
            data,
        }
    }
}

/// Writes as fast as the node may, and as long as the peer takes something now and then.
async fn write_steadily(
    stream: &mut (impl AsyncWrite + Unpin),
    gate: &Gate,
    mut bytes: &[u8],
) -> Result<(), ServeError> {
    while !bytes.is_empty() {
        let passed = gate.pass(bytes.len().min(PIECE_BYTES)).await;
        let (piece, rest) = bytes.split_at(passed);
        timeout(IDLE_TIMEOUT, stream.write_all(piece))
            .await
            .map_err(|_| ServeError::Idle)??;
        bytes = rest;
    }
    Ok(())
}

/// Writes a length and as many bytes of CBOR.
pub(super) async fn write_header(
    stream: &mut Stream,
    header: &impl serde::Serialize,
) -> io::Result<()> {
    let bytes = codec::to_bytes(header);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes()[..], &bytes].concat();
    stream.write_all(&framed).await?;
    stream.flush().await
}

/// Reads a length and as many bytes of CBOR.
pub(super) async fn read_header<T: serde::de::DeserializeOwned>(
    stream: &mut Stream,
) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    codec::from_bytes(&bytes, HEADER_BYTES_MAX)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
