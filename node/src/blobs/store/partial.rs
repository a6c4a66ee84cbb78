//! Blobs on their way: a sparse file as long as the blob, and the hashes that have come.
//!
//! There is no list of what has arrived. A segment counts if its content and hashes lead to the root, so a file that
//! was cut by a crash or by a power failure is worth exactly what of it is right.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bao_tree::io::BaoContentItem;
use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::{DecodeResponseIter, encode_ranges_validated};
use tally_protocol::id::BlobId;
use tally_protocol::task::BlobRef;

use super::super::segment::{BLOB_BYTES_MAX, Segment, has_outboard, segments, tree_of};
use super::{BlobStore, Reservation, StoreError, io_error, stored_bytes, sync_folder};

/// A pair of hashes in an outboard.
const PAIR_BYTES: u64 = 64;

/// Who fetches which blob: one at a time, the others wait and then find it.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<BlobId, Arc<tokio::sync::Mutex<()>>>>);

/// A blob on its way.
#[derive(Debug)]
pub(in super::super) struct Partial {
    blob: BlobRef,
    data: File,
    outboard: Option<File>,
}

impl BlobStore {
    /// Waits until nobody else fetches `blob`.
    pub(in super::super) async fn turn(&self, blob: BlobId) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self
                .0
                .turns
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(blob).or_default())
        };
        turn.lock_owned().await
    }

    /// Opens what there is of a blob on its way, or makes room for it.
    pub(in super::super) fn open_partial(&self, blob: BlobRef) -> Result<Partial, StoreError> {
        if blob.bytes > BLOB_BYTES_MAX {
            return Err(self.0.space.too_full(blob.bytes));
        }
        let place = self.place("partial", blob.id);
        let hashes = place.with_extension("outboard");
        let length = |path: &Path| path.metadata().map_or(0, |found| found.len());
        let known = length(&place) + length(&hashes);
        if length(&place) != blob.bytes {
            self.discard_partial(blob.id)?;
        }
        let known = if length(&place) == blob.bytes {
            known
        } else {
            0
        };
        let room = Reservation::new(
            &self.0.space,
            stored_bytes(blob.bytes).saturating_sub(known),
        )?;
        let data = open_sized(&place, blob.bytes)?;
        let outboard = if has_outboard(blob.bytes) {
            Some(open_sized(&hashes, stored_bytes(blob.bytes) - blob.bytes)?)
        } else {
            None
        };
        room.keep();
        Ok(Partial {
            blob,
            data,
            outboard,
        })
    }

    /// Makes a blob that has arrived completely visible.
    pub(in super::super) fn commit_partial(&self, partial: &Partial) -> Result<(), StoreError> {
        let id = partial.blob.id;
        let place = self.place("partial", id);
        let fault = |source| io_error("store", &place, source);
        partial.data.sync_all().map_err(fault)?;
        let _guard = self.0.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if self.place("data", id).exists() {
            return self.discard_partial(id);
        }
        if let Some(outboard) = &partial.outboard {
            outboard.sync_all().map_err(fault)?;
            let target = self.place("outboard", id);
            // The outboard of a file in place is replaced by the same bytes.
            let replaced = target.metadata().map_or(0, |found| found.len());
            std::fs::rename(place.with_extension("outboard"), &target).map_err(fault)?;
            sync_folder(&target).map_err(fault)?;
            self.0.space.free(replaced);
        }
        let target = self.place("data", id);
        std::fs::rename(&place, &target).map_err(fault)?;
        sync_folder(&target).map_err(fault)
    }

    /// Returns how much of a blob on its way has arrived and is right: bytes there, bytes in all. It reads and
    /// hashes them.
    #[must_use]
    pub fn partial_progress(&self, blob: BlobRef) -> Option<(u64, u64)> {
        if !self.place("partial", blob.id).exists() {
            return None;
        }
        let partial = self.open_partial(blob).ok()?;
        let missing = partial.missing();
        let missing: u64 = missing
            .iter()
            .map(|segment| segment.bytes.end - segment.bytes.start)
            .sum();
        Some((blob.bytes - missing, blob.bytes))
    }

    pub(super) fn discard_partial(&self, blob: BlobId) -> Result<(), StoreError> {
        let place = self.place("partial", blob);
        let freed = self.delete(&place)? + self.delete(&place.with_extension("outboard"))?;
        self.0.space.free(freed);
        Ok(())
    }
}

impl Partial {
    /// Returns the segments that have not arrived, or not right.
    pub(in super::super) fn missing(&self) -> Vec<Segment> {
        segments(&(0..self.blob.bytes), self.blob.bytes)
            .filter(|segment| !self.is_right(segment))
            .collect()
    }

    /// Checks a segment as it came over the wire and writes its content and hashes, group by group.
    pub(in super::super) fn write(
        &self,
        segment: &Segment,
        encoded: &[u8],
    ) -> Result<(), bao_tree::io::DecodeError> {
        let tree = tree_of(self.blob.bytes);
        let root = blake3::Hash::from_bytes(*self.blob.id.as_bytes());
        for item in DecodeResponseIter::new(root, tree, encoded, &segment.chunks) {
            match item? {
                BaoContentItem::Leaf(leaf) => self.data.write_all_at(&leaf.data, leaf.offset)?,
                BaoContentItem::Parent(parent) => {
                    let place = tree.pre_order_offset(parent.node);
                    if let (Some(file), Some(place)) = (&self.outboard, place) {
                        let (left, right) = parent.pair;
                        let pair = [*left.as_bytes(), *right.as_bytes()].concat();
                        file.write_all_at(&pair, place * PAIR_BYTES)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Brings what was written to the disk.
    pub(in super::super) fn save(&self) -> Result<(), StoreError> {
        let name = self.blob.id.to_string();
        let files = [Some(&self.data), self.outboard.as_ref()];
        for file in files.into_iter().flatten() {
            let fault = |source| io_error("save a part of", Path::new(&name), source);
            file.sync_data().map_err(fault)?;
        }
        Ok(())
    }

    fn is_right(&self, segment: &Segment) -> bool {
        let sent = match &self.outboard {
            Some(file) => {
                encode_ranges_validated(&self.data, self.hashes(file), &segment.chunks, io::sink())
            }
            None => encode_ranges_validated(
                &self.data,
                self.hashes(Vec::new()),
                &segment.chunks,
                io::sink(),
            ),
        };
        sent.is_ok()
    }

    fn hashes<D>(&self, data: D) -> PreOrderOutboard<D> {
        PreOrderOutboard {
            root: blake3::Hash::from_bytes(*self.blob.id.as_bytes()),
            tree: tree_of(self.blob.bytes),
            data,
        }
    }
}

fn open_sized(path: &Path, bytes: u64) -> Result<File, StoreError> {
    let fault = |source| io_error("open", path, source);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(fault)?;
    file.set_len(bytes).map_err(fault)?;
    Ok(file)
}
