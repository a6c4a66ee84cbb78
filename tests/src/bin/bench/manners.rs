//! What the person at the computer notices of a terminal's sandboxes: how soon they stop, and whether they keep to their
//! share.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::RngExt as _;
use tally_node::blobs::{BlobStore, StoreLimits};
use tally_node::worker::{self, Inputs, Leave, Order, REST_AFTER, Setup, Workers};
use tally_protocol::id::{GrantId, NodeId, RateCardId, TaskId};
use tally_protocol::message::work::{Grant, LeasedUnit};
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::Job;
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Limits;
use tally_sandbox::{Program, SandboxConfig, UnitMax};

use crate::efficiency::BURN;
use crate::report::Report;
use crate::{Options, cpu, progress};

/// Pauses of each half of `suspend`.
const PAUSES: u32 = 500;
/// Each comes after a time of up to this much at work.
const WORK_MAX: Duration = Duration::from_millis(40);
/// How often it is looked whether a child stands.
const LOOK: Duration = Duration::from_micros(50);
/// For how long it is then watched that it stands.
const WATCH: Duration = Duration::from_millis(5);
/// How long a share is held, and the time over which it must hold.
const SHARE_TIME: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(10);
/// How often it is measured.
const SAMPLE: Duration = Duration::from_millis(100);

const PAUSED: Leave = Leave {
    run: false,
    cpu: 1.0,
    slots: usize::MAX,
    unit: UnitMax::DEFAULT,
};

/// How long it takes from the call to the end of all work.
pub(crate) fn suspend(options: &Options) -> Result<Report> {
    let mut report = Report::new("suspend", "p99 < 100 ms");
    let pauses = options.units.unwrap_or(PAUSES);
    for (name, loops) in [("quiet", 0), ("busy", processors())] {
        let _busy = (0..loops)
            .map(|_| BusyLoop::start())
            .collect::<Result<Vec<_>>>()?;
        let bench = Bench::start(&options.dir)?;
        progress(&format!(
            "suspend: {pauses} times, {loops} busy loops beside"
        ));
        let mut times = Vec::new();
        let (mut calls, mut late, mut broken) = (Vec::new(), Vec::new(), 0_u32);
        for _ in 0..pauses {
            bench.workers.set(Leave::default());
            std::thread::sleep(rand::rng().random_range(Duration::ZERO..WORK_MAX));
            let pause = bench.pause();
            times.push(pause.until_stopped.as_secs_f64() * 1e3);
            calls.push(pause.call.as_secs_f64() * 1e6);
            late.push(pause.used_after.as_secs_f64() * 1e6);
            broken += u32::from(!pause.stands);
        }
        for (what, values) in [
            ("stopped_ms", times),
            ("call_us", calls),
            ("used_after_the_call_us", late),
        ] {
            let name = format!("{name}_{what}");
            report.add_places(&name, values, &[("p50", 0.5), ("p99", 0.99), ("max", 1.0)]);
        }
        report.add(&format!("{name}_worked_after_all"), f64::from(broken));
    }
    Ok(report)
}

/// How far what is used in any ten seconds is from a share.
pub(crate) fn share(options: &Options) -> Result<Report> {
    let mut report = Report::new("share", "any 10 s within 2 % above");
    for share in [0.25, 0.6] {
        let bench = Bench::start(&options.dir)?;
        bench.workers.set(Leave {
            cpu: share,
            ..Leave::default()
        });
        let name = format!("share_{:.0}", share * 100.0);
        progress(&format!("share: {share} for {SHARE_TIME:?}"));
        let own = cpu::time_of(std::process::id());
        let (start, mut samples) = (Instant::now(), Vec::new());
        while start.elapsed() < SHARE_TIME {
            samples.push((start.elapsed(), bench.workers.cpu_time()));
            std::thread::sleep(SAMPLE);
        }
        let own = cpu::time_of(std::process::id()).saturating_sub(own);
        let errors = errors(&samples, share);
        ensure!(!errors.is_empty(), "measure a share: too few samples");
        let above = errors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let below = errors.iter().copied().fold(f64::INFINITY, f64::min);
        report.add(&format!("{name}_most_above_percent"), above);
        report.add(&format!("{name}_most_below_percent"), below);
        let governing = own.as_secs_f64() / SHARE_TIME.as_secs_f64();
        report.add(&format!("{name}_own_time_percent"), governing * 1e2);
    }
    Ok(report)
}

/// Returns how far each window is from the share, in percent of it.
fn errors(samples: &[(Duration, Duration)], share: f64) -> Vec<f64> {
    let window = |index: usize| {
        let (start, before) = samples[index];
        let end = samples[index..].iter();
        let mut end = end.filter(|(end, _)| end.saturating_sub(start) >= WINDOW);
        let (end, after) = *end.next()?;
        let may = share * f64::from(processors()) * end.saturating_sub(start).as_secs_f64();
        Some((after.saturating_sub(before).as_secs_f64() / may - 1.0) * 1e2)
    };
    (0..samples.len()).filter_map(window).collect()
}

/// A process that computes at normal priority until it is dropped.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> Result<Self> {
        // It ends with this process, too, however that ends.
        let own = std::process::id();
        let text = format!("while kill -0 {own}; do for i in $(seq 10000); do :; done; done");
        let child = in_a_session(&text).spawn();
        child.map(Self).context("start a busy loop")
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a command of the shell in a session of its own, as each window has one.
pub(crate) fn in_a_session(text: &str) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--wait", "sh", "-c", text]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

pub(crate) fn processors() -> u32 {
    let count = std::thread::available_parallelism();
    count.map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

/// Slots at units without end, as many as there are processors.
struct Bench {
    workers: Workers,
    _folder: tempfile::TempDir,
}

/// What a pause was like.
struct Pause {
    call: Duration,
    until_stopped: Duration,
    used_after: Duration,
    stands: bool,
}

impl Bench {
    fn start(dir: &Path) -> Result<Self> {
        let folder = tempfile::tempdir_in(dir)?;
        let setup = Setup {
            slots: usize::try_from(processors())?,
            sandbox: SandboxConfig::default(),
            store: BlobStore::open(folder.path(), StoreLimits { bytes_max: 1 << 20 })?,
            rest_after: REST_AFTER,
        };
        let workers = Workers::start(setup, |report| {
            if let worker::Report::Broken(reason) = report {
                progress(&reason);
            }
        })?;
        let bench = Self {
            workers,
            _folder: folder,
        };
        let program = Program::new(wat::parse_str(BURN)?.into());
        for slot in 0..processors() {
            ensure!(
                bench.workers.give(endless(u64::from(slot), &program)),
                "give work to each slot"
            );
        }
        // Compiled, and at work.
        let each = Duration::from_millis(50);
        while bench.workers.cpu_time() < each * processors() {
            std::thread::sleep(LOOK);
        }
        Ok(bench)
    }

    fn pause(&self) -> Pause {
        let children = self.workers.pids();
        let used = || children.iter().copied().map(cpu::exact_time_of).sum();
        let before: Duration = used();
        let start = Instant::now();
        self.workers.set(PAUSED);
        let call = start.elapsed();
        while !children.iter().copied().all(cpu::is_stopped) {
            std::thread::sleep(LOOK);
        }
        let until_stopped = start.elapsed();
        let after = used();
        std::thread::sleep(WATCH);
        Pause {
            call,
            until_stopped,
            used_after: after.saturating_sub(before),
            stands: used() == after && self.workers.pids() == children,
        }
    }
}

/// Returns an order of one unit that ends after centuries.
fn endless(job: u64, program: &Program) -> Order {
    let rounds = u64::MAX.to_le_bytes().to_vec();
    let grant = Grant {
        id: GrantId::from_bytes([1; 16]),
        device: NodeId::from_bytes([1; 32]),
        customer: NodeId::from_bytes([2; 32]),
        task: TaskId::from_bytes([1; 32]),
        unit_count: 1,
        program: BlobRef::of(program.module()),
        args: vec![],
        limits: Limits {
            fuel: u64::MAX,
            memory_bytes: 1 << 20,
            output_bytes: 1 << 10,
        },
        profile: tally_sandbox::profile().clone(),
        input: BlobRef::of(&rounds),
        units: vec![LeasedUnit {
            unit: 0,
            attempt: 0,
            start: 0,
            bytes: 8,
            params: String::new(),
        }],
        rate_card: RateCardId::from_bytes([1; 32]),
        issued: Timestamp::default(),
        deadline: Timestamp::default(),
    };
    Order {
        job: Job(job),
        grant: Arc::new(grant),
        places: 0..1,
        program: program.clone(),
        inputs: Arc::new(Inputs::new(rounds)),
    }
}
