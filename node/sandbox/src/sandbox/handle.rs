//! What other threads may do to the child: end it, pause it, see how much it has worked.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::os::cpu_time;

/// The shortest wait for the child, so that a deadline that is put off does not make a busy loop.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// The same while the child is paused, when no deadline comes nearer.
const PAUSED_WAIT_MIN: Duration = Duration::from_secs(1);

/// A handle on the child of a sandbox, whichever that is at the time.
#[derive(Debug, Clone)]
pub struct KillHandle(Arc<Shared>);

impl KillHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Ends the batch that is running, paused or not: its open units get `Fault::Killed`. Does nothing between batches.
    /// Never waits.
    pub fn kill(&self) {
        let mut state = self.0.lock();
        if state.running {
            state.kill_requested = true;
            state.signal(Signal::KILL);
        }
    }

    /// Counts the next batch as running from now on, so that a request to end it that comes before it begins is not lost.
    pub fn announce(&self) {
        self.0.lock().announce();
    }

    /// Stops the child at once, and one that is started later before it does anything. It keeps its memory and takes
    /// no processor time, and its units' clocks stand. Never waits.
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

    /// Returns the process id of the child, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let state = self.0.lock();
        let child = state.child.as_ref()?;
        Some(child.pid.as_raw_nonzero().get().unsigned_abs())
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
        if !state.running {
            state.announce();
        }
    }

    /// A batch has ended, and a request to end it with it.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.running = false;
        state.kill_requested = false;
    }

    /// Returns the shortest time for which waiting for the child makes sense.
    pub(super) fn wait_min(&self) -> Duration {
        match self.lock().paused_since {
            Some(_) => PAUSED_WAIT_MIN,
            None => WAIT_MIN,
        }
    }

    /// Returns whether a handle has asked to end the batch.
    pub(super) fn kill_requested(&self) -> bool {
        self.lock().kill_requested
    }

    /// Returns whether the sandbox is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.lock().paused_since.is_some()
    }

    /// Returns for how long the sandbox has been paused in all.
    pub(super) fn paused(&self) -> Duration {
        let state = self.lock();
        state.paused_before
            + state
                .paused_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A child was started.
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

    /// The child is dead, and about to be reaped.
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
    fn announce(&mut self) {
        self.running = true;
        self.kill_requested = false;
    }

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
