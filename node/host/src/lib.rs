//! What a terminal sees of its owner and of its computer: the port to the operating system.
//!
//! [`Host`] is the port. [`Computer`] is Linux behind it, [`Fake`] is whatever a test says. One look gives one
//! [`Observed`]: each value, or [`Unknown`], which says why this computer cannot tell. Nothing is guessed; what an unknown
//! value means for work is decided by who asks.
//!
//! What always holds:
//! - A look never waits. It reads a few small files of the kernel; what may be slow (D-Bus, displays, batteries, disks) is
//!   asked by threads and tasks beside it, which keep the newest answer.
//! - Nothing of the computer is changed, except by [`cgroup`], and there only what was delegated to this process.
//! - What comes from outside is bounded: sizes of files, sessions, terminals, processes, names.

#![forbid(unsafe_code)]

mod bus;
pub mod cgroup;
mod clock;
mod computer;
mod fake;
mod files;
mod gauges;
mod idle;
mod memory;
mod observed;
mod power;
mod processors;
mod programs;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

pub use computer::{Computer, Settings};
pub use fake::Fake;
pub use observed::{Disk, Idle, LocalTime, Memory, Observed, Power, Source, Unknown};
pub use programs::PROGRAMS_MAX;

/// Returns all memory of this computer, in bytes, where it can tell.
#[must_use]
pub fn memory_total() -> Option<u64> {
    let memory = memory::memory(std::path::Path::new("/proc"));
    memory.ok().map(|memory| memory.total)
}

/// Looks at the owner and at the computer.
pub trait Host: Send {
    /// Looks once; cheap enough for once a second.
    ///
    /// `own_processor_time` is the processor time that this process and the sandbox have used so far. What the other
    /// programs use is what remains between two looks.
    fn observe(&mut self, own_processor_time: Duration) -> Observed;

    /// Has the next looks say which of these programs run, by the names the kernel knows them by; the first
    /// [`PROGRAMS_MAX`] of them.
    fn look_for(&mut self, programs: &[String]);

    /// Returns what is notified as soon as a display sees that the owner is back, so that nobody needs to look more often.
    fn owner_returned(&self) -> Arc<Notify>;
}
