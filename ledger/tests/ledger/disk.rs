//! A disk in memory that can fill up, and lose power in the middle of its work.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// What a disk writes as a whole or not at all.
const SECTOR: u64 = 512;

/// A disk; clones are the same disk, so that it outlives the store on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a reader sees.
    live: Vec<u8>,
    /// What the last sync left for good.
    durable: Vec<u8>,
    /// What came after it, in order.
    unsynced: Vec<Write>,
    /// Bytes that can still be written before the disk is full.
    space: Option<u64>,
    /// Writes and syncs before the power goes.
    power: Option<u64>,
    /// Writes and syncs so far.
    steps: u64,
}

#[derive(Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

impl Disk {
    /// Lets the disk be full after so many more bytes; `None` frees space.
    pub(crate) fn set_space(&self, space: Option<u64>) {
        self.state().space = space;
    }

    /// Cuts the power after so many writes and syncs.
    pub(crate) fn set_power(&self, steps: u64) {
        self.state().power = Some(steps);
    }

    /// Returns how many writes and syncs there were.
    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Returns the disk after a power cut: what was synced, and any of the sectors that were not yet.
    pub(crate) fn after_power_cut(&self, chance: &mut Chance) -> Self {
        let state = self.state();
        let mut image = state.durable.clone();
        for write in &state.unsynced {
            match write {
                Write::Length(length) if chance.of(2) => resize(&mut image, *length),
                Write::Length(_) => {}
                Write::Bytes(offset, bytes) => {
                    for (at, sector) in sectors(*offset, bytes) {
                        let end = at + sector.len() as u64;
                        // Bytes beyond a length that was lost are lost with it.
                        if chance.of(2) && end <= image.len() as u64 {
                            put(&mut image, at, sector);
                        }
                    }
                }
            }
        }
        let after = State {
            live: image.clone(),
            durable: image,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, start) = (self.state(), offset as usize);
        let Some(bytes) = state.live.get(start..start + out.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        // As with a file, a hole takes no space.
        resize(&mut state.live, length);
        state.unsynced.push(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        for write in std::mem::take(&mut state.unsynced) {
            match write {
                Write::Length(length) => resize(&mut state.durable, length),
                Write::Bytes(offset, bytes) => put(&mut state.durable, offset, &bytes),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if let Some(space) = state.space {
            let left = space.checked_sub(bytes.len() as u64);
            state.space = Some(left.unwrap_or(0));
            left.ok_or(io::ErrorKind::StorageFull)?;
        }
        put(&mut state.live, offset, bytes);
        state.unsynced.push(Write::Bytes(offset, bytes.to_vec()));
        Ok(())
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        if self.power == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        self.power = self.power.map(|steps| steps - 1);
        self.steps += 1;
        Ok(())
    }
}

fn resize(bytes: &mut Vec<u8>, length: u64) {
    bytes.resize(length as usize, 0);
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(written);
}

/// Cuts written bytes where the sectors of the disk end.
fn sectors(offset: u64, bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let (mut at, mut rest, mut all) = (offset, bytes, Vec::new());
    while !rest.is_empty() {
        let length = rest.len().min((SECTOR - at % SECTOR) as usize);
        let (sector, behind) = rest.split_at(length);
        all.push((at, sector));
        (at, rest) = (at + length as u64, behind);
    }
    all
}

/// Chance from a seed (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    /// Returns true one time in `times`.
    pub(crate) fn of(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
