//! The trace: a hash over everything that happens, with its time. Two runs with one hash were the same run.

use std::hash::{Hash, Hasher};

use crate::happening::{Happening, Observer};
use crate::moment::Moment;

/// Bytes that are gathered before they are hashed.
const BUFFER_BYTES: usize = 16 << 10;

/// Hashes what happens.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    happenings: u64,
}

impl Trace {
    /// Returns the hash of everything so far, as 64 hex digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.buffer);
        hasher.finalize().to_hex().to_string()
    }

    /// Returns how much has happened.
    #[must_use]
    pub const fn happenings(&self) -> u64 {
        self.happenings
    }
}

impl Observer for Trace {
    fn see(&mut self, at: Moment, what: &Happening) {
        self.happenings += 1;
        at.as_micros().hash(self);
        what.hash(self);
        if self.buffer.len() >= BUFFER_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
        }
    }
}

/// Takes the bytes of what is hashed as they are.
impl Hasher for Trace {
    fn write(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
