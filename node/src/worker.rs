//! Drives the sandboxes: a thread for each slot, each with a locked child process of its own.
//!
//! Orders wait in one bounded queue; a slot takes the next when it is free. What a unit gave goes back as it
//! happens, gathered for some milliseconds so that units of microseconds do not flood the role's loop.
//! Nothing of a unit runs in this process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tally_protocol::id::TaskId;
use tally_protocol::message::work::{Grant, INLINE_UNIT_BYTES_MAX};
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{Job, Ran, Run};
use tally_protocol::unit::{Fault, Limits};
use tally_sandbox::{
    Batch, KillHandle, Program, Sandbox, SandboxConfig, SandboxError, UnitRun, UnitSpec,
};

use crate::blobs::BlobStore;

/// Results are handed over after this time at the latest.
const GATHER: Duration = Duration::from_millis(20);

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

/// The slots of a terminal.
#[derive(Debug)]
pub struct Workers {
    orders: Option<SyncSender<Order>>,
    running: Arc<Mutex<BTreeMap<Job, Option<KillHandle>>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `slots` sandboxes. `report` is called on their threads and may wait.
    ///
    /// # Errors
    /// [`SandboxError`] if a sandbox cannot be started or locked.
    pub fn start(
        slots: usize,
        config: &SandboxConfig,
        store: &BlobStore,
        report: impl Fn(Report) + Clone + Send + 'static,
    ) -> Result<Self, SandboxError> {
        let (orders, queue) = sync_channel(slots);
        let queue = Arc::new(Mutex::new(queue));
        let running = Arc::new(Mutex::new(BTreeMap::new()));
        let mut threads = Vec::new();
        for slot in 0..slots {
            let mut sandbox = Sandbox::spawn(config.clone())?;
            let (queue, running, store, report) = (
                Arc::clone(&queue),
                Arc::clone(&running),
                store.clone(),
                report.clone(),
            );
            let work = move || serve(&mut sandbox, &queue, &running, &store, &report);
            let thread = std::thread::Builder::new()
                .name(format!("slot-{slot}"))
                .spawn(work);
            threads.push(thread.expect("the operating system has room for a thread"));
        }
        Ok(Self {
            orders: Some(orders),
            running,
            threads,
        })
    }

    /// Puts an order in the queue. The terminal gives no more orders than there are slots, so it never waits.
    pub fn give(&self, order: Order) {
        lock(&self.running).insert(order.job, None);
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(order);
        }
    }

    /// Stops a job: its sandbox is killed if it is at it, and it is skipped if it is not.
    pub fn stop(&self, job: Job) {
        if let Some(Some(handle)) = lock(&self.running).remove(&job) {
            handle.kill();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.orders = None;
        for handle in std::mem::take(&mut *lock(&self.running))
            .into_values()
            .flatten()
        {
            handle.kill();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

type RunningJobs = Mutex<BTreeMap<Job, Option<KillHandle>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(
    sandbox: &mut Sandbox,
    queue: &Mutex<Receiver<Order>>,
    running: &RunningJobs,
    store: &BlobStore,
    report: &impl Fn(Report),
) {
    loop {
        let next = lock(queue).recv();
        let Ok(order) = next else {
            return;
        };
        let wanted = match lock(running).get_mut(&order.job) {
            Some(handle) => {
                *handle = Some(sandbox.handle());
                true
            }
            None => false,
        };
        if wanted && let Err(error) = run(sandbox, &order, store, report) {
            report(Report::Broken(crate::error::chain(&error)));
        }
        lock(running).remove(&order.job);
        report(Report::Finished(order.job));
    }
}

/// Runs an order and reports its units.
fn run(
    sandbox: &mut Sandbox,
    order: &Order,
    store: &BlobStore,
    report: &impl Fn(Report),
) -> Result<(), SandboxError> {
    let Order {
        job,
        grant,
        places,
        program,
        inputs,
    } = order;
    let Some((bytes, ranges)) = inputs.of(grant, places) else {
        let lost = grant.units[places.clone()].iter();
        let lost = lost.map(|leased| Run {
            unit: leased.unit,
            result: Err(Fault::Unavailable),
            took: Duration::ZERO,
        });
        report(Report::Ran(*job, lost.collect()));
        return Ok(());
    };
    sandbox.input(bytes.len())?.copy_from_slice(bytes);
    let units: Vec<UnitSpec> = grant.units[places.clone()]
        .iter()
        .zip(ranges)
        .map(|(leased, input)| UnitSpec {
            index: leased.unit,
            params: leased.params.clone(),
            input,
        })
        .collect();
    let batch = batch_of(
        program,
        &grant.args,
        (grant.task, grant.unit_count),
        grant.limits,
        &units,
    );
    let mut gathered = Vec::new();
    let mut since = Instant::now();
    let done = sandbox.run(&batch, &mut |unit| {
        gathered.push(taken(unit, store));
        if since.elapsed() >= GATHER {
            report(Report::Ran(*job, std::mem::take(&mut gathered)));
            since = Instant::now();
        }
    });
    if !gathered.is_empty() {
        report(Report::Ran(*job, gathered));
    }
    let done = done?;
    if let Some(time) = done.compile_time {
        tracing::info!(program = %program.id().short(), ?time, "compiled a program");
    }
    for death in done.deaths {
        tracing::warn!(task = %grant.task.short(), "the sandbox ended: {death}");
    }
    if let Some(reason) = done.refusal {
        tracing::warn!(task = %grant.task.short(), "the program was refused: {reason}");
    }
    Ok(())
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

/// Turns what the sandbox says into a result, with a large output put into the store.
fn taken(unit: UnitRun, store: &BlobStore) -> Run {
    let UnitRun {
        index,
        result,
        fuel,
        output,
        run_time,
        ..
    } = unit;
    let result = result.and_then(|outcome| {
        if output.len() as u64 <= INLINE_UNIT_BYTES_MAX {
            return Ok(Ran {
                outcome,
                fuel,
                output: BlobRef::of(&output),
                inline: Some(output),
            });
        }
        let output = store.put(&output).map_err(|error| {
            tracing::warn!("cannot keep an output: {}", crate::error::chain(&error));
            Fault::Unavailable
        })?;
        Ok(Ran {
            outcome,
            fuel,
            output,
            inline: None,
        })
    });
    Run {
        unit: index,
        result,
        took: run_time,
    }
}
