//! A disk in memory that can fill up, lose power, and tear what was not synced.
//!
//! It keeps one image, what a reader sees, and the bytes that each write since the last sync overwrote. A power cut
//! walks these back: of every sector with unsynced writes a prefix of its history survives, one sector having more
//! and another less of it, and of the changes of the file's length a prefix too.
//!
//! Invariants: what was synced survives every power cut; a sector is never torn in itself; bytes beyond a length that
//! was lost are lost with it, and a file that shrank and grew again has zeros there.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::chance::Chance;

/// What a disk writes as a whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// A disk with one file on it; clones are the same disk, so that it outlives the store on it.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// What a disk was asked to do so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Writes, changes of the length among them.
    pub writes: u64,
    /// Bytes of these writes.
    pub bytes_written: u64,
    /// Syncs.
    pub syncs: u64,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// What a reader sees.
    image: Vec<u8>,
    /// How to take back what came after the last sync, in the order in which it came.
    unsynced: Vec<Undo>,
    /// Bytes that can still be written before the disk is full.
    space: Option<u64>,
    /// Writes and syncs before the power goes.
    power: Option<u64>,
    used: DiskUse,
}

/// What was there before a write.
#[derive(Debug, Clone)]
enum Undo {
    /// Other bytes stood from `start` on.
    Bytes { start: usize, old: Box<[u8]> },
    /// The length was another; a file that shrank ended with `cut`.
    Length { old: usize, cut: Box<[u8]> },
}

impl Disk {
    /// Lets the disk be full after so many more bytes; `None` frees space.
    pub fn set_space(&self, space: Option<u64>) {
        self.state().space = space;
    }

    /// Cuts the power after so many writes and syncs: they fail from then on.
    pub fn set_power(&self, steps: u64) {
        self.state().power = Some(steps);
    }

    /// Returns what it was asked to do so far.
    #[must_use]
    pub fn used(&self) -> DiskUse {
        self.state().used
    }

    /// Returns the disk as the next process finds it when this one is killed: everything written is there.
    ///
    /// What this process still does, such as closing its store, does not reach the new disk.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let after = State {
            power: None,
            ..self.state().clone()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    /// Returns the disk after a power cut: what was synced, and what `chance` lets survive of the rest.
    #[must_use]
    pub fn after_power_cut(&self, chance: &mut Chance) -> Self {
        let after = self.after_kill();
        after.state().tear(chance);
        after
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics halfway through a change of the state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().image.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let bytes = extent(offset, out.len()).and_then(|extent| state.image.get(extent));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut state = self.state();
        state.step()?;
        state.used.writes += 1;
        // As with a file, a hole takes no space.
        state.resize(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.used.syncs += 1;
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let start = extent(offset, bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?
            .start;
        let fits = state.take_space(bytes.len());
        state.used.writes += 1;
        state.used.bytes_written += fits as u64;
        state.put(start, &bytes[..fits]);
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.power == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        self.power = self.power.map(|steps| steps - 1);
        Ok(())
    }

    /// Returns how many of `bytes` there is space for, and takes it.
    fn take_space(&mut self, bytes: usize) -> usize {
        let Some(space) = &mut self.space else {
            return bytes;
        };
        let fits = usize::try_from(*space).map_or(bytes, |space| bytes.min(space));
        *space -= fits as u64;
        fits
    }

    fn put(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.image.len() < end {
            self.resize(end);
        }
        let place = &mut self.image[start..end];
        let old = Box::from(&*place);
        place.copy_from_slice(bytes);
        self.unsynced.push(Undo::Bytes { start, old });
    }

    fn resize(&mut self, length: usize) {
        let old = self.image.len();
        let cut = Box::from(self.image.get(length..).unwrap_or(&[]));
        self.image.resize(length, 0);
        self.unsynced.push(Undo::Length { old, cut });
    }

    /// Takes back what `chance` does not let survive.
    fn tear(&mut self, chance: &mut Chance) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut lost = Losses::draw(&unsynced, chance);
        // Where a change of the length that survives cut what is older.
        let mut end = usize::MAX;
        for undo in unsynced.iter().rev() {
            match undo {
                Undo::Length { old, cut } => {
                    let common = old - cut.len();
                    if !take_one(&mut lost.lengths) {
                        end = end.min(common);
                        continue;
                    }
                    self.image.truncate(common);
                    self.image.extend_from_slice(cut);
                }
                Undo::Bytes { start, old } => {
                    for (at, old) in sectors(*start, old) {
                        let stop = end.min(at + old.len());
                        if take_one(lost.writes.entry(at / SECTOR_BYTES).or_default()) && at < stop
                        {
                            self.image[at..stop].copy_from_slice(&old[..stop - at]);
                        }
                    }
                }
            }
        }
    }
}

/// How many of the last unsynced writes a power cut takes back.
struct Losses {
    /// Of each sector, by its number.
    writes: BTreeMap<usize, u64>,
    /// Of the file's length.
    lengths: u64,
}

impl Losses {
    fn draw(unsynced: &[Undo], chance: &mut Chance) -> Self {
        let (mut writes, mut lengths) = (BTreeMap::new(), 0);
        for undo in unsynced {
            match undo {
                Undo::Length { .. } => lengths += 1,
                Undo::Bytes { start, old } => {
                    for (at, _) in sectors(*start, old) {
                        *writes.entry(at / SECTOR_BYTES).or_default() += 1;
                    }
                }
            }
        }
        for count in writes.values_mut() {
            *count = chance.below(*count + 1);
        }
        let lengths = chance.below(lengths + 1);
        Self { writes, lengths }
    }
}

/// Takes one from `count` if there is one to take.
const fn take_one(count: &mut u64) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

/// Returns the places of so many bytes, if a file can have them.
fn extent(offset: u64, bytes: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    Some(start..start.checked_add(bytes)?)
}

/// Cuts bytes where the sectors of the disk end, each piece with its place.
fn sectors(start: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = bytes.len().min(SECTOR_BYTES - start % SECTOR_BYTES);
    let (head, tail) = bytes.split_at(first);
    let places = (start + first..).step_by(SECTOR_BYTES);
    let head = Some((start, head)).filter(|(_, head)| !head.is_empty());
    head.into_iter()
        .chain(places.zip(tail.chunks(SECTOR_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sectors of the file at most.
    const SECTORS: u64 = 6;

    fn chance(number: u64) -> Chance {
        Chance::new(1, "test", number)
    }

    fn image(disk: &Disk) -> Vec<u8> {
        disk.state().image.clone()
    }

    /// Writes somewhere in the file, or changes its length by whole sectors.
    fn work(disk: &Disk, chance: &mut Chance) {
        if chance.happens(0.3) {
            let length = chance.below(SECTORS + 1) * SECTOR_BYTES as u64;
            return disk.set_len(length).unwrap();
        }
        let length = disk.len().unwrap();
        let start = chance.below(length);
        let bytes = usize::try_from(chance.below(length - start + 1)).unwrap();
        let written = chance.bytes()[0];
        disk.write(start, &vec![written; bytes]).unwrap();
    }

    fn sector(image: &[u8], number: usize) -> Vec<u8> {
        let start = image.len().min(number * SECTOR_BYTES);
        let mut sector = image[start..image.len().min(start + SECTOR_BYTES)].to_vec();
        sector.resize(SECTOR_BYTES, 0);
        sector
    }

    #[test]
    fn after_a_power_cut_each_sector_is_as_it_once_was_since_the_last_sync() {
        let (mut as_synced, mut as_written, mut torn) = (0, 0, 0);
        for seed in 0..2_000 {
            let (disk, mut chance) = (Disk::default(), chance(seed));
            for _ in 0..chance.below(10) {
                work(&disk, &mut chance);
            }
            disk.sync_data().unwrap();
            let mut history = vec![image(&disk)];
            for _ in 0..chance.below(10) {
                work(&disk, &mut chance);
                history.push(image(&disk));
            }
            let found = image(&disk.after_power_cut(&mut chance));
            let once = |length| history.iter().any(|image| image.len() == length);
            assert!(once(found.len()), "seed {seed}");
            for number in 0..found.len() / SECTOR_BYTES {
                let found = sector(&found, number);
                let once = history.iter().any(|image| sector(image, number) == found);
                assert!(once, "seed {seed}, sector {number}");
            }
            as_synced += u32::from(found == history[0]);
            as_written += u32::from(found == history[history.len() - 1]);
            torn += u32::from(!history.contains(&found));
            assert_eq!(image(&disk), history[history.len() - 1], "seed {seed}");
        }
        assert!(as_synced.min(as_written) > 100, "{as_synced} {as_written}");
        assert!(torn > 500, "{torn}");
    }

    #[test]
    fn several_writes_to_one_sector_survive_in_their_order() {
        let disk = Disk::default();
        disk.set_len(512).unwrap();
        disk.sync_data().unwrap();
        disk.write(0, b"first").unwrap();
        disk.write(3, b"second").unwrap();
        let mut found: Vec<Vec<u8>> = (0..100)
            .map(|number| image(&disk.after_power_cut(&mut chance(number)))[..9].to_vec())
            .collect();
        found.sort();
        found.dedup();
        assert_eq!(found, [&[0; 9], b"firsecond", b"first\0\0\0\0"]);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = Disk::default();
        disk.set_space(Some(5));
        disk.write(0, b"abc").unwrap();
        let full = disk.write(3, b"def").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(image(&disk), b"abcde");
        disk.set_space(None);
        disk.write(5, b"f").unwrap();
        let used = DiskUse {
            writes: 3,
            bytes_written: 6,
            syncs: 0,
        };
        assert_eq!((image(&disk), disk.used()), (b"abcdef".to_vec(), used));
    }

    #[test]
    fn a_killed_process_leaves_what_it_wrote_and_no_more() {
        let disk = Disk::default();
        disk.write(0, b"written").unwrap();
        disk.set_power(1);
        let after = disk.after_kill();
        disk.sync_data().unwrap();
        assert!(disk.write(0, b"too late").is_err());
        assert!(disk.sync_data().is_err());
        assert_eq!(image(&after), b"written");
        assert!(image(&after.after_power_cut(&mut chance(0))).len() <= 7);
        after.write(0, b"W").unwrap();
        assert_eq!(
            (image(&after), image(&disk)),
            (b"Written".to_vec(), b"written".to_vec())
        );
    }
}
