//! The bytes of a store: reserved before they are written, given back if they are not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::StoreError;

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes that blobs take or are about to take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct Space {
    used: Mutex<u64>,
    bytes_max: u64,
}

impl Space {
    pub(super) fn new(used: u64, bytes_max: u64) -> Self {
        Self {
            used: Mutex::new(used),
            bytes_max,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            bytes: *self.used(),
            bytes_max: self.bytes_max,
        }
    }

    pub(super) fn free(&self, bytes: u64) {
        let mut used = self.used();
        *used = used.saturating_sub(bytes);
    }

    fn take(&self, bytes: u64) -> Result<(), StoreError> {
        let mut used = self.used();
        if bytes > self.bytes_max.saturating_sub(*used) {
            drop(used);
            return Err(self.too_full(bytes));
        }
        *used += bytes;
        Ok(())
    }

    /// Returns the error that `needed` bytes do not fit.
    pub(super) fn too_full(&self, needed: u64) -> StoreError {
        StoreError::Full {
            needed,
            free: self.bytes_max.saturating_sub(*self.used()),
            bytes_max: self.bytes_max,
        }
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that are set aside for a file. They are free again when it is dropped, unless [`Self::keep`] was called.
#[derive(Debug)]
pub(super) struct Reservation {
    space: Arc<Space>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn new(space: &Arc<Space>, bytes: u64) -> Result<Self, StoreError> {
        space.take(bytes)?;
        Ok(Self {
            space: Arc::clone(space),
            bytes,
        })
    }

    pub(super) fn resize(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes > self.bytes {
            self.space.take(bytes - self.bytes)?;
        } else {
            self.space.free(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Moves some of the bytes to a reservation of their own.
    pub(super) fn split_off(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            space: Arc::clone(&self.space),
            bytes,
        }
    }

    /// The bytes were written: they stay in use.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.free(self.bytes);
    }
}
