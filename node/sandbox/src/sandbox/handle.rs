//! What other threads may do to the child: end it, pause it, see how much it has worked.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::os::cpu_time;

/// A handle on the child of a sandbox, whichever that is at the time.
#[derive(Debug, Clone)]
pub struct KillHandle(Arc<Shared>);

impl KillHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Ends the batch that is running: its open units get `Fault::Killed`. Does nothing between batches.
    pub fn kill(&self) {
        let mut state = self.0.lock();
        if state.running {
            state.kill_requested = true;
            state.signal(Signal::KILL);
        }
    }

    /// Stops the child at once. It keeps its memory and takes no processor time, and its units' clocks stand.
    pub fn pause(&self) {
        let mut state = self.0.lock();
        if state.paused_since.is_none() {
            state.paused_since = Some(Instant::now());
            state.signal(Signal::STOP);
        }
    }

    /// Lets the child go on.
    pub fn resume(&self) {
        let mut state = self.0.lock();
        if let Some(since) = state.paused_since.take() {
            state.paused_before += since.elapsed();
            state.signal(Signal::CONT);
        }
    }

    /// Returns the processor time that the sandbox has used, its earlier children included.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let state = self.0.lock();
        state.cpu_before + state.child_cpu_time()
    }
}

/// What the sandbox and its handles share.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    child: Option<Target>,
    running: bool,
    kill_requested: bool,
    paused_since: Option<Instant>,
    paused_before: Duration,
    cpu_before: Duration,
}

/// A process that can be signalled without the risk that its number was given to another.
#[derive(Debug)]
struct Target {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch begins: earlier requests to end one do not concern it.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.running = true;
        state.kill_requested = false;
    }

    /// A batch has ended.
    pub(super) fn finish(&self) {
        self.lock().running = false;
    }

    /// Returns whether a handle has asked to end the batch.
    pub(super) fn kill_requested(&self) -> bool {
        self.lock().kill_requested
    }

    /// Returns for how long the sandbox has been paused in all.
    pub(super) fn paused(&self) -> Duration {
        let state = self.lock();
        state.paused_before
            + state
                .paused_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A child is ready.
    pub(super) fn attach(&self, pid: Pid) -> std::io::Result<()> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let mut state = self.lock();
        state.child = Some(Target { pid, pidfd });
        if state.kill_requested {
            state.signal(Signal::KILL);
        } else if state.paused_since.is_some() {
            state.signal(Signal::STOP);
        }
        Ok(())
    }

    /// The child is about to be reaped.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        let used = state.child_cpu_time();
        state.cpu_before += used;
        state.child = None;
    }

    /// Returns the processor time of the present child.
    pub(super) fn child_cpu_time(&self) -> Duration {
        self.lock().child_cpu_time()
    }
}

impl State {
    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It fails only if the child is dead, and then nothing is left to do.
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, signal);
        }
    }

    fn child_cpu_time(&self) -> Duration {
        self.child
            .as_ref()
            .and_then(|child| cpu_time(child.pid))
            .unwrap_or_default()
    }
}
