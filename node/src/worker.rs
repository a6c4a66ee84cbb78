//! Drives the sandboxes: a thread for each slot, each with a locked child process of its own while there is work.
//!
//! Orders wait in one bounded queue; a slot takes the next when it is free and the owner lets it. What a unit gave goes
//! back as it happens, gathered for some milliseconds so that units of microseconds do not flood the role's loop.
//! Nothing of a unit runs in this process.
//!
//! What the owner allows is a [`Leave`], which holds at once: children that may not go on are stopped where they are and
//! go on from there later. The loop that sets it never waits for a slot (`worker/board.rs`). A share of the processors
//! is held by `worker/governor.rs`.

mod board;
mod governor;
mod slot;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::message::work::Grant;
use tally_protocol::terminal::{Job, Run};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Limits;
use tally_sandbox::{
    Batch, Priority, Program, Sandbox, SandboxConfig, SandboxError, UnitMax, UnitSpec,
};

use crate::blobs::BlobStore;
use board::Board;

/// How long a slot keeps its child without work: starting one takes 10 ms and compiling its program again, keeping it
/// takes memory.
pub const REST_AFTER: Duration = Duration::from_secs(10);

/// Units of a grant to be run.
#[derive(Debug)]
pub struct Order {
    /// Repeated with the results.
    pub job: Job,
    /// The grant.
    pub grant: Arc<Grant>,
    /// The units, as places in the grant.
    pub places: Range<usize>,
    /// The program.
    pub program: Program,
    /// The inputs of all units of the grant, one behind another.
    pub inputs: Arc<Inputs>,
}

/// The inputs of a grant's units, one behind another in the order of the grant.
#[derive(Debug)]
pub struct Inputs {
    bytes: Vec<u8>,
}

impl Inputs {
    /// Takes the bytes of all units.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the bytes of the units at `places`, and where in them each unit lies; `None` if there are fewer bytes.
    fn of(&self, grant: &Grant, places: &Range<usize>) -> Option<(&[u8], Vec<Range<usize>>)> {
        let length = |place: usize| usize::try_from(grant.units.get(place)?.bytes).ok();
        let start =
            (0..places.start).try_fold(0_usize, |sum, place| sum.checked_add(length(place)?))?;
        let mut ranges = Vec::with_capacity(places.len());
        let mut end = 0_usize;
        for place in places.clone() {
            let next = end.checked_add(length(place)?)?;
            ranges.push(end..next);
            end = next;
        }
        Some((self.bytes.get(start..start.checked_add(end)?)?, ranges))
    }
}

/// What a slot reports.
#[derive(Debug)]
pub enum Report {
    /// Units were run.
    Ran(Job, Vec<Run>),
    /// A job is over, its slot free.
    Finished(Job),
    /// The sandbox cannot be started any more: the node cannot work.
    Broken(String),
}

/// What the owner allows now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leave {
    /// Whether anything may go on.
    pub run: bool,
    /// The share of all processors, 0 to 1. It holds over any ten seconds.
    pub cpu: f64,
    /// Slots at work at the same time.
    pub slots: usize,
    /// What a unit may take, of orders that are begun from now on.
    pub unit: UnitMax,
}

impl Default for Leave {
    /// Everything that sandboxes give by default.
    fn default() -> Self {
        Self {
            run: true,
            cpu: 1.0,
            slots: usize::MAX,
            unit: UnitMax::default(),
        }
    }
}

/// What a slot is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtWork {
    /// The slot.
    pub slot: usize,
    /// The job.
    pub job: Job,
    /// The program.
    pub program: BlobId,
    /// The task of its units.
    pub task: TaskId,
    /// The first of its units.
    pub first: u32,
    /// The last of them.
    pub last: u32,
    /// When it was begun.
    pub since: Timestamp,
    /// Units of the job.
    pub units: usize,
    /// Those that were run.
    pub done: usize,
    /// Whether it is stopped, for longer than the share of the processors asks for.
    pub paused: bool,
}

/// How slots are made.
#[derive(Debug)]
pub struct Setup {
    /// How many there are.
    pub slots: usize,
    /// Their sandboxes.
    pub sandbox: SandboxConfig,
    /// Where large outputs go.
    pub store: BlobStore,
    /// How long a slot keeps its child without work, see [`REST_AFTER`].
    pub rest_after: Duration,
}

/// The slots of a terminal.
#[derive(Debug)]
pub struct Workers {
    board: Arc<Board>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Checks that a sandbox can be started and locked, and starts the slots, which have no child before they have work.
    /// `report` is called on their threads and may wait.
    ///
    /// # Errors
    /// [`SandboxError`] if a sandbox cannot be started or locked.
    pub fn start(
        setup: Setup,
        report: impl Fn(Report) + Clone + Send + 'static,
    ) -> Result<Self, SandboxError> {
        let Setup {
            slots,
            sandbox: config,
            store,
            rest_after,
        } = setup;
        if let Some(lockdown) = Sandbox::spawn(config.clone())?.lockdown() {
            tracing::info!("sandboxes can be locked: {lockdown}");
            if lockdown.priority != config.priority {
                let asked = Priority::Lowest;
                tracing::warn!(?asked, "the system does not give sandboxes their priority");
            }
        }
        let sandboxes = (0..slots).map(|_| Sandbox::resting(config.clone()));
        let sandboxes = sandboxes.collect::<Result<Vec<_>, _>>()?;
        let board = Arc::new(Board::new(sandboxes.iter().map(Sandbox::handle).collect()));
        let mut threads = vec![thread("governor".to_owned(), {
            let board = Arc::clone(&board);
            move || governor::govern(&board)
        })];
        for (number, sandbox) in sandboxes.into_iter().enumerate() {
            let mut slot = slot::Slot {
                number,
                sandbox,
                rest_after,
                board: Arc::clone(&board),
                store: store.clone(),
                report: report.clone(),
            };
            threads.push(thread(format!("slot-{number}"), move || slot.serve()));
        }
        Ok(Self { board, threads })
    }

    /// Puts an order in the queue. Returns whether there was room: there is for as many as there are slots.
    #[must_use]
    pub fn give(&self, order: Order) -> bool {
        self.board.give(order)
    }

    /// Stops a job, suspended or not: the sandbox that is at it is killed, and reports that. Returns whether none was, so
    /// that the job is over already and nothing is reported.
    #[must_use]
    pub fn stop(&self, job: Job) -> bool {
        self.board.stop(job)
    }

    /// Sets what is allowed from now on. Children that may not go on are stopped before this returns, some microseconds
    /// later; they keep what they have done, and go on with it once they may.
    pub fn set(&self, leave: Leave) {
        self.board.set(leave);
    }

    /// Gives the memory of children back that are not allowed to go on: they are ended, and their open units reported as
    /// [withdrawn](tally_protocol::unit::Fault::Withdrawn). Children without work are ended, too.
    pub fn rest_paused(&self) {
        self.board.rest_paused();
    }

    /// Returns what each slot at work is at.
    #[must_use]
    pub fn at_work(&self) -> Vec<AtWork> {
        self.board.at_work()
    }

    /// Returns the processor time that all children have used, those included that have ended.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.board.cpu_time()
    }

    /// Returns the process ids of the children.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.board.pids()
    }

    /// Returns the bytes of memory that the children have: their own, and their inputs and outputs, which this process
    /// may have in its memory, too. It reads a file for each.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.pids().into_iter().filter_map(memory_bytes_of).sum()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.board.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn thread(name: String, work: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    let thread = std::thread::Builder::new().name(name).spawn(work);
    thread.expect("the operating system has room for a thread")
}

/// Returns what would be free if a process ended: all but the pages of the program, which others have, too.
fn memory_bytes_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = kibibytes("RssAnon:")?.checked_add(kibibytes("RssShmem:")?)?;
    total.checked_mul(1 << 10)
}

/// Returns the batch of `units` of a task. The seed of the units' random numbers is the task's id.
#[must_use]
pub fn batch_of<'a>(
    program: &'a Program,
    args: &'a [String],
    (task, unit_count): (TaskId, u32),
    limits: Limits,
    units: &'a [UnitSpec],
) -> Batch<'a> {
    Batch {
        program,
        args,
        unit_count,
        seed: *task.as_bytes(),
        limits,
        units,
    }
}
