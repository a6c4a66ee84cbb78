//! A file that is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that is written under another name beside its place, and takes its place when it is finished. Dropped
/// before, it leaves nothing behind.
#[derive(Debug)]
pub struct PartFile {
    place: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    finished: bool,
}

impl PartFile {
    /// Begins the file `place`. What is there stays until the new one is finished.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn create(place: &Path) -> io::Result<Self> {
        let Some(name) = place.file_name() else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let part = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let part = place.with_file_name(part);
        let out = BufWriter::new(File::create(&part)?);
        Ok(Self {
            place: place.to_owned(),
            part,
            out,
            finished: false,
        })
    }

    /// Makes what was written durable and puts it in its place.
    ///
    /// # Errors
    /// If the disk fails; then what was there before still is.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        fs::rename(&self.part, &self.place)?;
        self.finished = true;
        let folder = match self.place.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to be told; a part that stays is only a nuisance.
            drop(fs::remove_file(&self.part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("export");
        let mut dropped = PartFile::create(&place).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for content in [b"one", b"two"] {
            let mut file = PartFile::create(&place).unwrap();
            file.write_all(content).unwrap();
            file.finish().unwrap();
            assert_eq!(fs::read(&place).unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
