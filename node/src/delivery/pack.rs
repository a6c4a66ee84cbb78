//! The archive while it is sent: tar, then gzip, then pieces.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, Stream};
use tally_protocol::product::ProductId;
use tar::{Builder, EntryType, Header};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;

use super::PIECE_BYTES;

/// Pieces that wait for whoever reads.
const PIECES_MAX: usize = 4;
/// How long a delivery may take: 100 MB at 250 kbit/s.
const TIME_MAX: Duration = Duration::from_secs(3_600);

/// A delivery that is ready to be sent.
#[derive(Debug)]
pub struct Packed {
    product: ProductId,
    entries: Vec<Entry>,
}

/// A file of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: &'static str,
    pub bytes: u64,
    pub mode: u32,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    File(File),
}

impl Entry {
    pub(super) fn text(name: &'static str, text: String, mode: u32) -> Self {
        Self {
            name,
            bytes: text.len().try_into().expect("a text in memory"),
            mode,
            content: Content::Text(text),
        }
    }

    pub(super) fn file(name: &'static str, file: File, mode: u32) -> io::Result<Self> {
        Ok(Self {
            name,
            bytes: file.metadata()?.len(),
            mode,
            content: Content::File(file),
        })
    }
}

impl Packed {
    pub(super) const fn new(product: ProductId, entries: Vec<Entry>) -> Self {
        Self { product, entries }
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// If a file cannot be read or the archive not be written.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        // The fastest level: programs compress to little more than half at any.
        let mut tar = Builder::new(GzEncoder::new(out, Compression::fast()));
        for entry in self.entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_size(entry.bytes);
            header.set_mode(entry.mode);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            let path = format!("{}/{}", self.product, entry.name);
            match entry.content {
                Content::Text(text) => tar.append_data(&mut header, path, text.as_bytes())?,
                Content::File(file) => tar.append_data(&mut header, path, file)?,
            }
        }
        tar.into_inner()?.finish()?.flush()
    }

    /// Packs on a thread of its own while the pieces are taken. `room` is free again at the end.
    pub fn stream(
        self,
        room: OwnedSemaphorePermit,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        spawn_blocking(move || {
            let _room = room;
            let mut out = Pieces {
                piece: Vec::with_capacity(PIECE_BYTES),
                pieces: pieces.clone(),
                until: Instant::now() + TIME_MAX,
            };
            if let Err(error) = self.write(&mut out) {
                tracing::debug!("a delivery ended early: {error}");
                let _ = pieces.try_send(Err(error));
            }
        });
        stream::unfold(taken, |mut taken| async {
            let piece = taken.recv().await?;
            Some((piece, taken))
        })
    }
}

/// Hands on what is written, in pieces.
struct Pieces {
    piece: Vec<u8>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    until: Instant,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let sent = self.pieces.blocking_send(Ok(piece.into()));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
