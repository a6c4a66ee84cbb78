//! Blobs in a folder.
//!
//! ```text
//! format        "tally blobs 1"
//! data/ID       a whole blob
//! outboard/ID   its inner hashes in pre-order, for blobs above 16 KiB
//! in-place/ID   JSON: the path of a file outside of the folder that is this blob, and what it looked like
//! partial/ID    a blob on its way, as long as it will be; partial/ID.outboard its hashes so far
//! tmp/          files being written; emptied at the start
//! ```
//! A file appears under `data` by a rename after it and its outboard have reached the disk, so what is visible is
//! whole. The functions here do file I/O: call them on a blocking thread.

mod in_place;
mod partial;
mod space;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::CreateOutboard;
use tally_protocol::id::BlobId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::task::BlobRef;
use tempfile::NamedTempFile;

use super::segment::{has_outboard, tree_of};
use in_place::InPlace;
pub(super) use partial::Partial;
use partial::Turns;
pub use space::Usage;
use space::{Reservation, Space};

/// The first line of the file `format`.
const FORMAT: &str = "tally blobs 1\n";
/// Bytes that are copied or hashed between two calls of the system.
const COPY_BYTES: usize = 256 << 10;

/// Bounds of a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Bytes of all blobs, whole or on their way, with their outboards. Files in place do not count.
    pub bytes_max: u64,
}

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such blob here.
    #[error("find blob {0}")]
    Missing(BlobId),
    /// The blob does not fit.
    #[error("store {needed} bytes: {free} of {bytes_max} are free")]
    Full {
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that the store may have.
        bytes_max: u64,
    },
    /// A file that is served where it lies is not what it was.
    #[error("read {path}: the file has changed since it was named as a blob")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A range reaches beyond the end of its blob.
    #[error("read {bytes} bytes at {start} of a blob of {blob_bytes}")]
    Range {
        /// First byte.
        start: u64,
        /// Number of bytes.
        bytes: u64,
        /// Length of the blob.
        blob_bytes: u64,
    },
    /// The folder was written by another version.
    #[error("open {folder}: its format is {found:?}, this program knows {FORMAT:?}")]
    Format {
        /// The folder.
        folder: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// The system did not do it.
    #[error("{what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A folder of blobs. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct BlobStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    space: Arc<Space>,
    /// Held while a blob becomes visible, so that two that bring the same one are counted once.
    commit: Mutex<()>,
    turns: Turns,
}

/// An open blob.
#[derive(Debug)]
pub(super) struct OpenBlob {
    pub(super) file: File,
    pub(super) blob: BlobRef,
    pub(super) outboard: Option<File>,
    pub(super) in_place: Option<InPlace>,
}

impl BlobStore {
    /// Opens the folder, creating it if need be, and clears what an earlier run left half written.
    ///
    /// # Errors
    /// [`StoreError`] if the folder is of another format or cannot be used.
    pub fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let tmp = folder.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(|source| io_error("clear", &tmp, source))?;
        }
        for name in ["data", "outboard", "in-place", "partial", "tmp"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(|source| io_error("create", &path, source))?;
        }
        check_format(folder)?;
        let used = ["data", "outboard", "partial"].map(|name| bytes_in(&folder.join(name)));
        let used = used.into_iter().sum::<Result<u64, StoreError>>()?;
        Ok(Self(Arc::new(Folder {
            path: folder.to_owned(),
            space: Arc::new(Space::new(used, limits.bytes_max)),
            commit: Mutex::default(),
            turns: Turns::default(),
        })))
    }

    /// Stores a copy of the file at `path`; where the file system can, the copy shares its blocks.
    ///
    /// # Errors
    /// [`StoreError`] if it does not fit or cannot be read.
    pub fn import(&self, path: &Path) -> Result<BlobRef, StoreError> {
        let fault = |source| io_error("read", path, source);
        let mut source = File::open(path).map_err(fault)?;
        let bytes = source.metadata().map_err(fault)?.len();
        let mut room = self.reserve(stored_bytes(bytes))?;
        let mut copy = self.temporary()?;
        let copied = io::copy(&mut source, copy.as_file_mut()).map_err(fault)?;
        room.resize(stored_bytes(copied))?;
        self.finish(copy, copied, room)
    }

    /// Stores what `reader` yields.
    ///
    /// # Errors
    /// [`StoreError`] if it does not fit or cannot be read.
    pub fn import_reader(&self, mut reader: impl Read) -> Result<BlobRef, StoreError> {
        let mut copy = self.temporary()?;
        let mut room = self.reserve(0)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut bytes = 0_u64;
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(io_error("read into", copy.path(), source)),
            };
            bytes += read as u64;
            room.resize(stored_bytes(bytes))?;
            copy.write_all(&buffer[..read])
                .map_err(|source| io_error("write", copy.path(), source))?;
        }
        self.finish(copy, bytes, room)
    }

    /// Stores `content`.
    ///
    /// # Errors
    /// [`StoreError`] if it does not fit or cannot be written.
    pub fn put(&self, content: &[u8]) -> Result<BlobRef, StoreError> {
        let blob = BlobRef::of(content);
        if self.has(blob.id) {
            return Ok(blob);
        }
        self.import_reader(content)
    }

    /// Names the file at `path` as a blob without copying it. It is read where it lies; once it is changed, moved
    /// or deleted, reading the blob is an error.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read or its outboard does not fit.
    pub fn import_in_place(&self, path: &Path) -> Result<BlobRef, StoreError> {
        let fault = |source| io_error("read", path, source);
        let in_place = InPlace::of(path)?;
        let file = File::open(&in_place.path).map_err(fault)?;
        let bytes = in_place.bytes();
        let room = self.reserve(stored_bytes(bytes) - bytes)?;
        let (id, outboard) = self.hash(file, bytes)?;
        in_place.check()?;
        let blob = BlobRef { id, bytes };
        let mut record = self.temporary()?;
        record
            .write_all(&in_place.to_json())
            .map_err(|source| io_error("write", record.path(), source))?;
        let _guard = self.0.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.place("data", id).exists() {
            if let Some(outboard) = outboard {
                self.show(outboard, &self.place("outboard", id), room)?;
            }
            self.show(record, &self.place("in-place", id), self.reserve(0)?)?;
        }
        Ok(blob)
    }

    /// Returns whether the whole blob is here.
    #[must_use]
    pub fn has(&self, blob: BlobId) -> bool {
        self.bytes(blob).is_some()
    }

    /// Returns the length of a blob that is here.
    #[must_use]
    pub fn bytes(&self, blob: BlobId) -> Option<u64> {
        if let Ok(found) = fs::metadata(self.place("data", blob)) {
            return Some(found.len());
        }
        let in_place = InPlace::load(&self.place("in-place", blob))?;
        in_place.check().is_ok().then(|| in_place.bytes())
    }

    /// Returns where the blob lies. The file must not be changed.
    #[must_use]
    pub fn path(&self, blob: BlobId) -> Option<PathBuf> {
        let stored = self.place("data", blob);
        if stored.exists() {
            return Some(stored);
        }
        let in_place = InPlace::load(&self.place("in-place", blob))?;
        in_place.check().is_ok().then_some(in_place.path)
    }

    /// Opens the blob for reading.
    ///
    /// # Errors
    /// [`StoreError`] if it is not here, or is a file in place that has changed.
    pub fn open_file(&self, blob: BlobId) -> Result<File, StoreError> {
        self.open_blob(blob).map(|open| open.file)
    }

    /// Reads a part of a blob.
    ///
    /// # Errors
    /// [`StoreError`] if it is not here or the range reaches beyond its end.
    pub fn read(&self, range: BlobRange) -> Result<Vec<u8>, StoreError> {
        let open = self.open_blob(range.blob)?;
        let blob_bytes = open.blob.bytes;
        let outside = StoreError::Range {
            start: range.start,
            bytes: range.bytes,
            blob_bytes,
        };
        let end = range.start.checked_add(range.bytes);
        let length = usize::try_from(range.bytes).ok();
        let (Some(length), true) = (length, end.is_some_and(|end| end <= blob_bytes)) else {
            return Err(outside);
        };
        let mut content = vec![0; length];
        open.file
            .read_exact_at(&mut content, range.start)
            .map_err(|source| io_error("read", &self.place("data", range.blob), source))?;
        open.check()?;
        Ok(content)
    }

    /// Removes a blob and what there is of it; a file in place stays, only its name as a blob goes.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be removed.
    pub fn remove(&self, blob: BlobId) -> Result<(), StoreError> {
        let _guard = self.0.commit.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in ["data", "in-place", "outboard"] {
            let freed = self.delete(&self.place(folder, blob))?;
            if folder != "in-place" {
                self.0.space.free(freed);
            }
        }
        self.discard_partial(blob)
    }

    /// Returns how full the store is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.space.usage()
    }

    /// Opens a blob with all that is needed to prove its parts.
    pub(super) fn open_blob(&self, blob: BlobId) -> Result<OpenBlob, StoreError> {
        let stored = self.place("data", blob);
        let (path, in_place) = if stored.exists() {
            (stored, None)
        } else {
            let in_place =
                InPlace::load(&self.place("in-place", blob)).ok_or(StoreError::Missing(blob))?;
            in_place.check()?;
            (in_place.path.clone(), Some(in_place))
        };
        let open = |path: &Path| File::open(path).map_err(|source| io_error("open", path, source));
        let file = open(&path)?;
        let bytes = file
            .metadata()
            .map_err(|source| io_error("look at", &path, source))?
            .len();
        let outboard = has_outboard(bytes).then(|| open(&self.place("outboard", blob)));
        Ok(OpenBlob {
            file,
            blob: BlobRef { id: blob, bytes },
            outboard: outboard.transpose()?,
            in_place,
        })
    }

    /// Hashes a file that was written completely and makes it visible.
    fn finish(
        &self,
        mut copy: NamedTempFile,
        bytes: u64,
        room: Reservation,
    ) -> Result<BlobRef, StoreError> {
        copy.rewind()
            .map_err(|source| io_error("read", copy.path(), source))?;
        let reader = copy
            .reopen()
            .map_err(|source| io_error("read", copy.path(), source))?;
        let (id, outboard) = self.hash(reader, bytes)?;
        self.commit(BlobRef { id, bytes }, copy, outboard, room)
    }

    /// Returns the root of a file's content, and its outboard if it has one.
    fn hash(&self, file: File, bytes: u64) -> Result<(BlobId, Option<NamedTempFile>), StoreError> {
        let outboard = self.temporary()?;
        let fault = |source| io_error("hash into", outboard.path(), source);
        let mut hashed = PreOrderOutboard {
            root: blake3::hash(b""),
            tree: tree_of(bytes),
            data: outboard.reopen().map_err(fault)?,
        };
        let reader = io::BufReader::with_capacity(COPY_BYTES, file.take(bytes));
        hashed.init_from(reader).map_err(fault)?;
        let id = BlobId::from_bytes(*hashed.root.as_bytes());
        Ok((id, has_outboard(bytes).then_some(outboard)))
    }

    /// Makes a blob visible: its outboard first.
    fn commit(
        &self,
        blob: BlobRef,
        data: NamedTempFile,
        outboard: Option<NamedTempFile>,
        mut room: Reservation,
    ) -> Result<BlobRef, StoreError> {
        let _guard = self.0.commit.lock().unwrap_or_else(PoisonError::into_inner);
        if self.place("data", blob.id).exists() {
            return Ok(blob);
        }
        let hashes = room.split_off(stored_bytes(blob.bytes) - blob.bytes);
        if let Some(outboard) = outboard {
            // A file in place may have brought it before.
            let place = self.place("outboard", blob.id);
            if !place.exists() {
                self.show(outboard, &place, hashes)?;
            }
        }
        self.show(data, &self.place("data", blob.id), room)?;
        Ok(blob)
    }

    /// Moves a file to its place after its content has reached the disk.
    fn show(&self, file: NamedTempFile, place: &Path, room: Reservation) -> Result<(), StoreError> {
        let fault = |source| io_error("store", place, source);
        file.as_file().sync_all().map_err(fault)?;
        file.persist(place).map_err(|error| fault(error.error))?;
        room.keep();
        sync_folder(place).map_err(fault)
    }

    fn reserve(&self, bytes: u64) -> Result<Reservation, StoreError> {
        Reservation::new(&self.0.space, bytes)
    }

    fn temporary(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.0.path.join("tmp");
        NamedTempFile::new_in(&folder)
            .map_err(|source| io_error("create a file in", &folder, source))
    }

    fn place(&self, folder: &str, blob: BlobId) -> PathBuf {
        self.0.path.join(folder).join(blob.to_string())
    }

    /// Deletes a file if it is there; returns its length.
    fn delete(&self, path: &Path) -> Result<u64, StoreError> {
        let Ok(found) = fs::metadata(path) else {
            return Ok(0);
        };
        fs::remove_file(path).map_err(|source| io_error("remove", path, source))?;
        Ok(found.len())
    }
}

impl OpenBlob {
    /// Returns an error if the blob is a file in place that has changed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.in_place.as_ref().map_or(Ok(()), InPlace::check)
    }
}

/// Returns the bytes that a blob takes with its outboard.
fn stored_bytes(blob_bytes: u64) -> u64 {
    let outboard = if has_outboard(blob_bytes) {
        tree_of(blob_bytes).outboard_size()
    } else {
        0
    };
    blob_bytes.saturating_add(outboard)
}

fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes a rename durable.
fn sync_folder(place: &Path) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn check_format(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join("format");
    match fs::read_to_string(&path) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(StoreError::Format {
            folder: folder.to_owned(),
            found: found.chars().take(80).collect(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let written = crate::folder::write_whole(&path, FORMAT.as_bytes());
            written.map_err(|source| io_error("write", &path, source))
        }
        Err(source) => Err(io_error("read", &path, source)),
    }
}

/// Returns the bytes of the files in a folder.
fn bytes_in(folder: &Path) -> Result<u64, StoreError> {
    let fault = |source| io_error("look into", folder, source);
    let mut sum = 0_u64;
    for entry in fs::read_dir(folder).map_err(fault)? {
        let found = entry.and_then(|entry| entry.metadata()).map_err(fault)?;
        sum = sum.saturating_add(found.len());
    }
    Ok(sum)
}
