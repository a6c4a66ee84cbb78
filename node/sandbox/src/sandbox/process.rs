//! One child: its start, its socket, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::handle::Shared;
use super::{SandboxConfig, SandboxError, spawner};
use crate::child::CHILD_ARGUMENT;
use crate::engine::{MEMORY_GUARD, MEMORY_RESERVATION};
use crate::lockdown::{ChildLimits, Lockdown};
use crate::os::SharedMemory;
use crate::wire::{Channel, FromChild, Layout, Setup, ToChild, send_files};

/// How long a child may take to lock itself, without the time for which it is paused: it builds the engine, which takes
/// 10 ms, but at the lowest priority it may have to wait for its turn.
const START_TIME_MAX: Duration = Duration::from_secs(600);

/// What is kept of the child's standard error.
const STDERR_BYTES: usize = 4096;

/// Memory that the child needs beside what programs and the compiler take.
const BASE_BYTES: u64 = 256 << 20;

/// A clock that stands while the sandbox is paused.
pub(super) struct Watch {
    since: Instant,
    paused_before: Duration,
}

impl Watch {
    pub(super) fn start(shared: &Shared) -> Self {
        Self {
            since: Instant::now(),
            paused_before: shared.paused(),
        }
    }

    pub(super) fn elapsed(&self, shared: &Shared) -> Duration {
        let paused = shared.paused().saturating_sub(self.paused_before);
        self.since.elapsed().saturating_sub(paused)
    }
}

/// A running child.
pub(super) struct Process {
    child: Child,
    channel: Channel<OwnedFd>,
    stderr: OwnedFd,
    shared: Arc<Shared>,
}

/// What came from the child.
pub(super) enum Received {
    Frame(FromChild),
    /// The time is up.
    Nothing,
    /// The child is dead, or says what no child says.
    Closed,
}

impl Process {
    /// Starts a child, gives it the memories, and waits until it is locked.
    pub(super) fn spawn(
        config: &SandboxConfig,
        layout: Layout,
        memories: [&SharedMemory; 2],
        shared: &Arc<Shared>,
    ) -> Result<(Self, Lockdown), SandboxError> {
        let failed = |stderr: String, source: io::Error| SandboxError::Start {
            executable: config.executable.clone(),
            stderr,
            source,
        };
        let mut process =
            Self::start(config, shared).map_err(|error| failed(String::new(), error))?;
        match process.set_up(config, layout, memories) {
            Ok(lockdown) => Ok((process, lockdown)),
            Err(error) => {
                let death = process.end();
                Err(failed(death.message, error))
            }
        }
    }

    fn start(config: &SandboxConfig, shared: &Arc<Shared>) -> io::Result<Self> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let stderr = stderr_file()?;
        let mut command = Command::new(&config.executable);
        command
            .arg0("tally-sandbox")
            .arg(CHILD_ARGUMENT)
            .env_clear()
            .current_dir("/");
        command
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(stderr.try_clone()?);
        let child = spawner::spawn(command)?;
        let process = Self {
            child,
            channel: Channel::new(ours),
            stderr,
            shared: Arc::clone(shared),
        };
        // From its first moment, so that a sandbox that is paused has no child that works.
        process.shared.attach(process.pid())?;
        Ok(process)
    }

    fn set_up(
        &mut self,
        config: &SandboxConfig,
        layout: Layout,
        memories: [&SharedMemory; 2],
    ) -> io::Result<Lockdown> {
        let setup = Setup {
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            layout,
            limits: child_limits(config, layout),
            modules_max: config.modules_max,
            check: config.hooks.check,
        };
        send_files(
            self.channel.socket(),
            &ToChild::Setup(setup),
            memories.map(SharedMemory::file),
        )?;
        let watch = Watch::start(&self.shared);
        loop {
            let left = START_TIME_MAX.checked_sub(watch.elapsed(&self.shared));
            let left = left.ok_or(io::ErrorKind::TimedOut)?;
            match self.receive(left.max(self.shared.wait_min()))? {
                Received::Frame(FromChild::Ready(lockdown)) => return Ok(lockdown),
                Received::Frame(_) | Received::Closed => {
                    return Err(io::Error::other("it ended before it was locked"));
                }
                Received::Nothing => {}
            }
        }
    }

    pub(super) fn send(&mut self, frame: &ToChild) -> io::Result<()> {
        self.channel.send(frame)
    }

    /// Waits for a frame.
    pub(super) fn receive(&mut self, time_max: Duration) -> io::Result<Received> {
        let mut sockets = [PollFd::from_borrowed_fd(
            self.channel.socket(),
            PollFlags::IN,
        )];
        let timeout = Timespec::try_from(time_max).map_err(io::Error::other)?;
        match rustix::event::poll(&mut sockets, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Received::Nothing),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self
            .channel
            .receive()?
            .map_or(Received::Closed, Received::Frame))
    }

    /// Returns whether the child still holds its end of the socket and has said nothing unasked.
    pub(super) fn is_alive(&self) -> bool {
        let mut sockets = [PollFd::from_borrowed_fd(
            self.channel.socket(),
            PollFlags::IN,
        )];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut sockets, Some(&now)), Ok(0))
    }

    /// Kills the child if it lives, paused or not, and returns how it ended.
    pub(super) fn end(&mut self) -> Death {
        // A child that died by itself keeps its own status.
        let _ = self.child.kill();
        // Once it is dead it has used all that it will use; its number stays its own until it is reaped.
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(WaitId::Pid(self.pid()), dead)
        {}
        self.shared.detach();
        let status = self
            .child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(libc::SIGKILL));
        Death {
            status,
            message: self.message(),
        }
    }

    fn message(&self) -> String {
        let mut bytes = [0; STDERR_BYTES];
        let len = rustix::io::pread(&self.stderr, &mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..len]);
        text.trim_end_matches('\0')
            .trim()
            .chars()
            .filter(|c| !c.is_control() || *c == '\n')
            .collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Death {
    status: ExitStatus,
    message: String,
}

impl Death {
    /// Returns whether the process aborted, which is what an allocation that fails does.
    pub(super) fn aborted(&self) -> bool {
        self.status.signal() == Some(libc::SIGABRT)
    }

    /// Returns whether somebody else killed the process, for example because memory was short.
    pub(super) fn killed_from_outside(&self) -> bool {
        matches!(
            self.status.signal(),
            Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT)
        )
    }

    /// Returns a line for the log.
    pub(super) fn describe(&self, why: &str) -> String {
        let said = if self.message.is_empty() {
            String::new()
        } else {
            format!("; it said: {}", self.message)
        };
        format!("{why}: {}{said}", self.status)
    }
}

/// A file of fixed size for what the child has to say when it dies.
fn stderr_file() -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(
        "tally-stderr",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    rustix::fs::ftruncate(&file, STDERR_BYTES as u64)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Returns what a child is locked for.
pub(super) fn child_limits(config: &SandboxConfig, layout: Layout) -> ChildLimits {
    let memory_bytes = config.hooks.memory_bytes.unwrap_or(
        BASE_BYTES
            + config
                .compile_memory_bytes_max
                .max(config.unit_max.memory_bytes),
    );
    let shared = (layout.input_memory_len() + layout.output_memory_len()) as u64;
    let address_bytes = memory_bytes + shared + MEMORY_RESERVATION + 2 * MEMORY_GUARD + BASE_BYTES;
    ChildLimits {
        memory_bytes,
        address_bytes,
        priority: config.priority,
    }
}
