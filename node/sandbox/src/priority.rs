//! How far a child stands behind everything else on its computer.
//!
//! On Linux no single setting does it. Niceness and `SCHED_IDLE` order the processes of one scheduling group, and
//! where autogroups are on, each session is a group of its own: beside a compiler in another window, a group that
//! holds nothing but idle processes gets half of the processor. So the child takes a session of its own and puts
//! the whole group last, too.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::os;

/// How a child is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Behind everything else: `SCHED_IDLE`, nice 19, the idle class of the disk, and a session of its own whose
    /// autogroup has nice 19.
    #[default]
    Lowest,
    /// Like the process that starts it.
    Normal,
}

/// The lowest niceness, of processes and of autogroups.
const NICE_MAX: i32 = 19;

/// Linux changes the niceness of one autogroup in a tenth of a second, of all that users ask for.
const AUTOGROUP_RETRY: Duration = Duration::from_millis(10);

/// Tries of that: a hundred children that start at once come past each other in ten seconds.
const AUTOGROUP_TRIES: u32 = 1_000;

/// Gives this process its priority, and returns what it has: normal, too, where the system denies a part of lowest.
pub(crate) fn take(priority: Priority) -> Priority {
    match priority {
        Priority::Lowest if step_back().is_err() => Priority::Normal,
        Priority::Lowest | Priority::Normal => priority,
    }
}

/// Takes every step, and returns the first that failed.
fn step_back() -> io::Result<()> {
    let session = rustix::process::setsid().map(drop);
    let autogroup = step_back_as_a_group();
    let nice = rustix::process::setpriority_process(None, NICE_MAX);
    let policy = os::take_idle_policy();
    let disk = os::take_idle_disk_class();
    session?;
    autogroup?;
    nice?;
    policy?;
    disk
}

fn step_back_as_a_group() -> io::Result<()> {
    for _ in 0..AUTOGROUP_TRIES {
        match std::fs::write("/proc/self/autogroup", NICE_MAX.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(AUTOGROUP_RETRY);
            }
            // A kernel without autogroups has one group for all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
