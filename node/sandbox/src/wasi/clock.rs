//! Virtual time. It stands still while a program computes, moves a microsecond at each look, so that a loop
//! that waits for time to pass ends, and jumps to the end of a sleep at once.

use super::abi::Errno;

/// 2026-01-01T00:00:00Z, when every unit starts.
const EPOCH_NANOS: u64 = 1_767_225_600_000_000_000;

/// The monotonic clock starts at one second: some programs take zero for "never".
const MONOTONIC_NANOS: u64 = 1_000_000_000;

/// How far a look moves the clock, and what the program is told the resolution is.
const TICK_NANOS: u64 = 1_000;

/// The clock of one unit.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    elapsed_nanos: u64,
}

impl Clock {
    /// Returns the resolution of a clock of WASI.
    pub(super) fn resolution(clock: i32) -> Result<u64, Errno> {
        start(clock).map(|_| TICK_NANOS)
    }

    /// Returns the time of a clock of WASI, and moves all clocks by a tick.
    pub(super) fn read(&mut self, clock: i32) -> Result<u64, Errno> {
        let time = start(clock)?.saturating_add(self.elapsed_nanos);
        self.elapsed_nanos = self.elapsed_nanos.saturating_add(TICK_NANOS);
        Ok(time)
    }

    /// Returns how long it is until a clock reaches a time.
    pub(super) fn until(&self, clock: i32, time: u64) -> Result<u64, Errno> {
        Ok(time.saturating_sub(start(clock)?.saturating_add(self.elapsed_nanos)))
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, nanos: u64) {
        self.elapsed_nanos = self.elapsed_nanos.saturating_add(nanos);
    }
}

/// Returns where a clock starts: realtime, monotonic, processor time of the process and of the thread.
fn start(clock: i32) -> Result<u64, Errno> {
    match clock {
        0 => Ok(EPOCH_NANOS),
        1 => Ok(MONOTONIC_NANOS),
        2 | 3 => Ok(0),
        _ => Err(Errno::Inval),
    }
}
