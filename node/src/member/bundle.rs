//! A user application is unpacked: nothing of it may lie, or point, outside of its folder.
//!
//! A tar or tar.gz is unpacked, any other file is the program itself. All is written into a new folder, which takes the
//! place of the old one when it is whole. Links are made last, so that nothing is ever written through one, and each must
//! lead to something in the folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};
use tempfile::TempDir;

use super::MemberError;

/// The most files, folders and links of an application.
pub const ENTRIES_MAX: usize = 100_000;
/// The most bytes of its files together: a compressed file of a few bytes may say more than any disk holds.
pub const UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Where the mark of a tar file is.
const TAR_MARK: std::ops::Range<usize> = 257..262;
/// A block of a tar file.
const TAR_BLOCK: u64 = 512;

/// Unpacks `bundle` to `target`, in the place of what is there. A single file gets the name `program`.
///
/// # Errors
/// [`MemberError::Bundle`] if it is not as it must be; [`MemberError::Io`] if the disk says no. What was there before is
/// there then.
pub fn unpack(bundle: &Path, target: &Path, program: &str) -> Result<(), MemberError> {
    let program = inside(Path::new(program))?;
    let parent = target.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(MemberError::io(parent))?;
    let new = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(parent)
        .map_err(MemberError::io(parent))?;
    let opened = || File::open(bundle).map_err(MemberError::io(bundle));
    let is_compressed = starts_with(opened()?, &[0x1f, 0x8b]);
    if is_compressed && is_tar(GzDecoder::new(opened()?)) {
        Unpacking::new(&new).run(GzDecoder::new(opened()?))?;
    } else if is_tar(opened()?) {
        Unpacking::new(&new).run(opened()?)?;
    } else {
        let path = new.path().join(&program);
        make_parent(&path)?;
        fs::copy(bundle, &path).map_err(MemberError::io(&path))?;
        set_mode(&path, 0o755)?;
    }
    if !new.path().join(&program).is_file() {
        let program = program.display();
        return Err(bad(format!(
            "it has no file {program}, which would be started"
        )));
    }
    replace(new, target)
}

/// Puts a new folder in the place of an old one.
fn replace(new: TempDir, target: &Path) -> Result<(), MemberError> {
    set_mode(new.path(), 0o755)?;
    let old = target.with_extension("old");
    if old.exists() && !target.exists() {
        // An earlier replacement was broken off between its two steps.
        fs::rename(&old, target).map_err(MemberError::io(target))?;
    }
    let _ = fs::remove_dir_all(&old);
    match fs::rename(target, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(MemberError::io(target)(error));
        }
        _ => {}
    }
    if let Err(error) = fs::rename(new.path(), target) {
        let _ = fs::rename(&old, target);
        return Err(MemberError::io(target)(error));
    }
    // It has another name by now, and is kept.
    let _ = new.keep();
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

fn starts_with(mut file: impl Read, mark: &[u8]) -> bool {
    let mut found = vec![0; mark.len()];
    file.read_exact(&mut found).is_ok() && found == mark
}

fn is_tar(file: impl Read) -> bool {
    let mut block = Vec::new();
    let read = file.take(TAR_BLOCK).read_to_end(&mut block);
    read.is_ok() && block.get(TAR_MARK) == Some(b"ustar")
}

/// An archive on its way to the disk.
struct Unpacking<'a> {
    root: &'a Path,
    entries: usize,
    bytes: u64,
    /// Where each link is, and what it says.
    links: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Unpacking<'a> {
    fn new(root: &'a TempDir) -> Self {
        Self {
            root: root.path(),
            entries: 0,
            bytes: 0,
            links: Vec::new(),
        }
    }

    fn run(mut self, reader: impl Read) -> Result<(), MemberError> {
        // Headers and padding count too: whatever is read is bounded.
        let mut archive = Archive::new(reader.take(UNPACKED_BYTES_MAX.saturating_mul(2)));
        for entry in archive.entries().map_err(broken)? {
            self.entry(&mut entry.map_err(broken)?)?;
        }
        self.make_links()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the types of entries are open, and all others are refused"
    )]
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), MemberError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(bad(format!("it has more than {ENTRIES_MAX} entries")));
        }
        let named = entry.path().map_err(broken)?.into_owned();
        let path = self.root.join(inside(&named)?);
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&path).map_err(MemberError::io(&path)),
            EntryType::Regular | EntryType::Continuous => self.file(entry, &path),
            EntryType::Symlink => {
                let to = entry.link_name().map_err(broken)?;
                let to = to.ok_or_else(|| bad("a link says nothing"))?.into_owned();
                self.links.push((path, to));
                Ok(())
            }
            EntryType::XGlobalHeader => Ok(()),
            _ => Err(bad(format!(
                "{} is neither a file nor a folder nor a symbolic link",
                named.display()
            ))),
        }
    }

    fn file(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<(), MemberError> {
        let executable = entry.header().mode().map_err(broken)? & 0o111 != 0;
        let left = UNPACKED_BYTES_MAX - self.bytes;
        make_parent(path)?;
        // Named twice, it would be a second file in the place of the first.
        let created = File::options().write(true).create_new(true).open(path);
        let mut file = created.map_err(MemberError::io(path))?;
        let copied = io::copy(&mut entry.take(left.saturating_add(1)), &mut file);
        let copied = copied.map_err(MemberError::io(path))?;
        if copied > left {
            return Err(bad(format!("it has more than {UNPACKED_BYTES_MAX} bytes")));
        }
        self.bytes += copied;
        set_mode(path, if executable { 0o755 } else { 0o644 })
    }

    /// Makes the links, then looks where each leads: one through another may lead elsewhere than it says. None is made
    /// through another one, which might be a way out while it is made.
    fn make_links(self) -> Result<(), MemberError> {
        let named: BTreeSet<&Path> = self.links.iter().map(|(path, _)| path.as_path()).collect();
        for (path, to) in &self.links {
            let is_through = path.ancestors().skip(1).any(|above| named.contains(above));
            if to.is_absolute() || is_through {
                return Err(leads_outside(self.root, path, to));
            }
        }
        for (path, to) in &self.links {
            make_parent(path)?;
            std::os::unix::fs::symlink(to, path).map_err(MemberError::io(path))?;
        }
        let root = self
            .root
            .canonicalize()
            .map_err(MemberError::io(self.root))?;
        for (path, to) in &self.links {
            let leads = path.canonicalize();
            if !leads.is_ok_and(|leads| leads.starts_with(&root)) {
                return Err(leads_outside(self.root, path, to));
            }
        }
        Ok(())
    }
}

fn leads_outside(root: &Path, link: &Path, to: &Path) -> MemberError {
    let link = link.strip_prefix(root).unwrap_or(link);
    bad(format!(
        "the link {} leads outside: {}",
        link.display(),
        to.display()
    ))
}

/// Returns a path of an archive, if it stays inside.
///
/// # Errors
/// [`MemberError::Bundle`].
pub fn inside(path: &Path) -> Result<PathBuf, MemberError> {
    let mut stays = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => stays.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(bad(format!("the path {} leads outside", path.display())));
            }
        }
    }
    Ok(stays)
}

fn make_parent(path: &Path) -> Result<(), MemberError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(MemberError::io(parent))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), MemberError> {
    let set = fs::set_permissions(path, PermissionsExt::from_mode(mode));
    set.map_err(MemberError::io(path))
}

fn bad(why: impl Into<String>) -> MemberError {
    MemberError::Bundle(why.into())
}

fn broken(error: io::Error) -> MemberError {
    bad(format!("the archive is broken: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, Header};

    use super::*;

    /// Writes an entry as somebody who means harm would: the builder itself refuses such paths.
    fn entry(kind: EntryType, path: &str, (link, content): (&str, &[u8])) -> (Header, Vec<u8>) {
        let mut header = Header::new_gnu();
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        (header, content.to_vec())
    }

    fn file(path: &str) -> (Header, Vec<u8>) {
        entry(EntryType::Regular, path, ("", b"content"))
    }

    fn link(path: &str, to: &str) -> (Header, Vec<u8>) {
        entry(EntryType::Symlink, path, (to, b""))
    }

    fn archive(entries: Vec<(Header, Vec<u8>)>) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (header, content) in entries {
            builder.append(&header, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Unpacks with the program `run`; returns the folder, where the application is `app`.
    fn unpacked(bundle: &[u8]) -> (TempDir, Result<(), MemberError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle");
        fs::write(&path, bundle).unwrap();
        let result = unpack(&path, &dir.path().join("app"), "run");
        (dir, result)
    }

    #[test]
    fn archives_and_single_files_are_unpacked() {
        let entries = || {
            vec![
                file("./run"),
                entry(EntryType::Directory, "lib/", ("", b"")),
                file("lib/a"),
                link("lib/b", "a"),
                link("top", "lib"),
            ]
        };
        for bundle in [archive(entries()), gz(&archive(entries()))] {
            let (dir, result) = unpacked(&bundle);
            result.unwrap();
            let read = |name| fs::read(dir.path().join("app").join(name)).unwrap();
            assert_eq!(read("run"), b"content");
            assert_eq!(read("top/b"), b"content");
        }
        let (dir, result) = unpacked(b"#!/bin/sh\n");
        result.unwrap();
        let path = dir.path().join("app/run");
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o755
        );
    }

    #[test]
    fn nothing_lies_or_leads_outside() {
        let bad: [Vec<(Header, Vec<u8>)>; 11] = [
            vec![file("run"), file("../out")],
            vec![file("run"), file("/tmp/out")],
            vec![file("run"), file("a/../../out")],
            vec![file("run"), link("a", "/etc/passwd")],
            vec![file("run"), link("a", "../bundle")],
            vec![file("run"), link("a", "missing")],
            // `x/y/z` is `top`, so that `x/y/z/../..` is not `x` but outside.
            vec![
                file("run"),
                file("top/f"),
                file("x/y/f"),
                link("x/y/z", "../../top"),
                link("w", "x/y/z/../../bundle"),
            ],
            vec![file("run"), link("d", ".."), file("d/out")],
            // The second one would be made outside before anybody looks where the first one leads.
            vec![file("run"), link("d", ".."), link("d/out", "bundle")],
            vec![file("run"), entry(EntryType::Link, "a", ("run", b""))],
            vec![file("run"), entry(EntryType::Char, "a", ("", b""))],
        ];
        for (place, entries) in bad.into_iter().enumerate() {
            let (dir, result) = unpacked(&archive(entries));
            assert!(result.is_err(), "{place}");
            let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "{place}: only the bundle: {left:?}");
        }
    }

    #[test]
    fn a_bundle_without_its_program_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let (bundle, app) = (dir.path().join("bundle"), dir.path().join("app"));
        fs::write(&bundle, "one").unwrap();
        unpack(&bundle, &app, "bin/run").unwrap();
        fs::write(&bundle, archive(vec![file("other")])).unwrap();
        unpack(&bundle, &app, "bin/run").unwrap_err();
        assert_eq!(fs::read(app.join("bin/run")).unwrap(), b"one");
        fs::write(&bundle, "two").unwrap();
        unpack(&bundle, &app, "bin/run").unwrap();
        assert_eq!(fs::read(app.join("bin/run")).unwrap(), b"two");
        assert!(unpack(&bundle, &app, "../run").is_err());
    }

    #[test]
    fn a_broken_archive_is_refused() {
        let mut bundle = archive(vec![file("run"), file("b")]);
        bundle.truncate(1_100);
        assert!(unpacked(&bundle).1.is_err());
        let mut bundle = gz(&archive(vec![file("run"), file("b")]));
        bundle.truncate(bundle.len() - 20);
        assert!(unpacked(&bundle).1.is_err());
    }
}
