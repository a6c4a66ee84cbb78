//! The slots of a terminal with real sandboxes: what the owner allows holds at once, and nothing is lost by it.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests, too")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tally_node::blobs::{BlobStore, StoreLimits};
use tally_node::worker::{AtWork, Inputs, Leave, Order, REST_AFTER, Report, Setup, Workers};
use tally_protocol::id::{GrantId, NodeId, RateCardId, TaskId};
use tally_protocol::message::work::{Grant, LeasedUnit};
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{Job, Run};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Fault, Limits, Outcome};
use tally_sandbox::{Priority, Program, SandboxConfig, UnitMax};

/// Computes for so many rounds.
const BURN: &str = include_str!("../../sandbox/tests/guests/burn.wat");

/// Rounds for hours.
const ENDLESS: u64 = u64::MAX;

/// Rounds that take some tenths of a second.
const LONG: u64 = 200_000_000;

const NOTHING: Leave = Leave {
    run: false,
    cpu: 1.0,
    slots: 2,
    unit: UnitMax::DEFAULT,
};

#[test]
fn a_slot_has_a_child_only_while_there_is_work() {
    let bench = Bench::start(2, Duration::from_millis(100));
    assert!(bench.workers.pids().is_empty(), "none before there is work");
    bench.give(1, &[LONG, LONG]);
    until(|| bench.at_work(1).is_some_and(|at| at.done == 1));
    let (pids, memory) = (bench.workers.pids(), bench.workers.memory_bytes());
    assert!(
        pids.len() == 1 && memory > 100 << 10,
        "{pids:?} have {memory} bytes"
    );
    let runs = bench.finished(1);
    assert_eq!(runs.iter().map(|run| run.unit).collect::<Vec<_>>(), [0, 1]);
    let used = bench.workers.cpu_time();
    until(|| bench.workers.pids().is_empty());
    assert_eq!(bench.workers.memory_bytes(), 0);
    assert!(
        bench.workers.cpu_time() >= used,
        "what ended children have used counts"
    );
    bench.give(2, &[1]);
    assert!(bench.finished(2)[0].result.is_ok(), "the next one starts");
}

#[test]
fn a_child_that_is_still_there_gets_the_work() {
    let bench = Bench::start(2, REST_AFTER);
    let mut children = Vec::new();
    for job in 0..10 {
        bench.give(job, &[1]);
        bench.finished(job);
        children.extend(bench.workers.pids());
    }
    children.dedup();
    assert_eq!(children.len(), 1, "{children:?}");
}

#[test]
fn suspended_children_stand_still_and_go_on_where_they_were() {
    let bench = Bench::start(2, REST_AFTER);
    bench.give(1, &[LONG]);
    let expected = bench.finished(1).remove(0).result.unwrap();
    bench.give(2, &[LONG]);
    bench.until_it_works();
    bench.workers.set(NOTHING);
    let begin = Instant::now();
    until(|| bench.workers.pids().into_iter().all(is_stopped));
    let used = bench.workers.cpu_time();
    bench.give(3, &[1]);
    while begin.elapsed() < Duration::from_millis(300) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(bench.workers.cpu_time(), used, "nothing goes on");
    let at_work = bench.workers.at_work();
    assert_eq!((at_work.len(), at_work[0].job), (1, Job(2)), "or begins");
    assert!(at_work[0].paused && at_work[0].done == 0, "{at_work:?}");
    bench.workers.set(Leave::default());
    let run = bench.finished(2).remove(0).result.unwrap();
    assert_eq!(run.outcome, Outcome::Done);
    assert_eq!(
        (run.fuel, run.output, run.inline),
        (expected.fuel, expected.output, expected.inline)
    );
    bench.finished(3);
}

#[test]
fn a_job_can_be_stopped_while_it_is_suspended() {
    let bench = Bench::start(2, REST_AFTER);
    bench.workers.set(Leave {
        slots: 1,
        ..Leave::default()
    });
    bench.give(1, &[1, ENDLESS, ENDLESS]);
    until(|| bench.at_work(1).is_some());
    bench.give(2, &[1]);
    bench.until_it_works();
    bench.workers.set(NOTHING);
    assert!(bench.workers.stop(Job(2)), "one that waits is over at once");
    assert!(!bench.workers.stop(Job(1)));
    let runs = bench.finished(1);
    let killed = runs
        .iter()
        .filter(|run| matches!(run.result, Err(Fault::Killed)));
    // What the first unit gave may have waited for others in the child.
    assert!(runs.len() == 3 && killed.count() >= 2, "{runs:?}");
    bench.workers.set(Leave::default());
    bench.give(4, &[1]);
    assert!(bench.finished(4)[0].result.is_ok());
}

#[test]
fn suspended_children_can_give_their_memory_back() {
    let bench = Bench::start(2, REST_AFTER);
    bench.give(1, &[ENDLESS]);
    bench.give(2, &[ENDLESS]);
    until(|| bench.workers.pids().len() == 2);
    bench.workers.rest_paused();
    assert_eq!(
        bench.workers.at_work().len(),
        2,
        "those that may go on are left alone"
    );
    bench.workers.set(NOTHING);
    bench.workers.rest_paused();
    for job in [1, 2] {
        assert_eq!(bench.finished(job)[0].result, Err(Fault::Withdrawn));
    }
    until(|| bench.workers.pids().is_empty());
}

#[test]
fn an_order_that_no_sandbox_takes_is_given_back() {
    let bench = Bench::start(1, REST_AFTER);
    let too_much: [fn(&mut Grant); 2] = [
        |grant| grant.limits.output_bytes = 512 << 20,
        |grant| grant.limits.memory_bytes = 1 << 40,
    ];
    for (job, change) in (1..).zip(too_much) {
        bench.give_changed(job, &[1, 1], change);
        let runs = bench.finished(job);
        let results: Vec<_> = runs.iter().map(|run| run.result.as_ref().err()).collect();
        assert_eq!(results, [Some(&Fault::HostMemory); 2]);
    }
    bench.give_changed(3, &[1], |grant| grant.args = vec!["a\0b".to_owned()]);
    assert_eq!(bench.finished(3)[0].result, Err(Fault::Unavailable));
    bench.give(4, &[1]);
    assert!(bench.finished(4)[0].result.is_ok(), "others are taken");
}

#[test]
fn what_a_unit_may_take_holds_from_the_next_order() {
    let bench = Bench::start(1, REST_AFTER);
    let allow = |unit| {
        bench.workers.set(Leave {
            unit,
            ..Leave::default()
        });
    };
    let give =
        |job, memory| bench.give_changed(job, &[1], |grant| grant.limits.memory_bytes = memory);
    let may = |memory_bytes| UnitMax {
        memory_bytes,
        ..UnitMax::DEFAULT
    };
    const SOME: u64 = 2 << 30;
    // More than a child has that was locked for less.
    const MUCH: u64 = 6 << 30;
    give(1, SOME);
    assert_eq!(bench.finished(1)[0].result, Err(Fault::HostMemory));
    let mut children = BTreeSet::new();
    for (job, memory, expected) in [(2, 1 << 20, 1), (3, SOME, 1), (4, MUCH, 2)] {
        allow(may(memory));
        give(job, memory);
        assert!(bench.finished(job)[0].result.is_ok());
        children.extend(bench.workers.pids());
        assert_eq!(children.len(), expected, "those for {memory} bytes");
    }
    allow(UnitMax {
        time: Duration::from_millis(50),
        ..UnitMax::DEFAULT
    });
    bench.give(5, &[ENDLESS]);
    assert_eq!(bench.finished(5)[0].result, Err(Fault::TimedOut));
    give(6, SOME);
    assert_eq!(bench.finished(6)[0].result, Err(Fault::HostMemory));
}

#[test]
fn no_more_slots_work_than_are_allowed() {
    let bench = Bench::start(3, REST_AFTER);
    for job in 1..=3 {
        bench.give(job, &[ENDLESS]);
        until(|| bench.at_work(job).is_some());
    }
    bench.workers.set(Leave {
        slots: 1,
        ..Leave::default()
    });
    let paused = |bench: &Bench| {
        let at_work = bench.workers.at_work().into_iter();
        let mut paused: Vec<u64> = at_work.filter(|at| at.paused).map(|at| at.job.0).collect();
        paused.sort_unstable();
        paused
    };
    assert_eq!(paused(&bench), [2, 3], "the first goes on");
    assert!(!bench.workers.stop(Job(1)));
    bench.finished(1);
    assert_eq!(paused(&bench), [3]);
    bench.give(4, &[1]);
    assert!(!bench.workers.stop(Job(2)));
    bench.finished(2);
    assert_eq!(paused(&bench), [] as [u64; 0]);
    assert!(!bench.workers.stop(Job(3)));
    bench.finished(3);
    assert_eq!(bench.finished(4).len(), 1);
}

#[test]
fn the_share_of_the_processors_is_held() {
    const SHARE: f64 = 0.25;
    let processors = std::thread::available_parallelism().unwrap().get();
    let bench = Bench::start(processors, REST_AFTER);
    for job in 0..u64::try_from(processors).unwrap() {
        bench.give(job, &[ENDLESS]);
    }
    bench.workers.set(Leave {
        cpu: SHARE,
        ..Leave::default()
    });
    bench.until_it_works();
    let (begin, before) = (Instant::now(), bench.workers.cpu_time());
    while begin.elapsed() < Duration::from_secs(3) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let used = (bench.workers.cpu_time() - before).as_secs_f64();
    let processors = f64::from(u32::try_from(processors).unwrap());
    let share = used / (processors * begin.elapsed().as_secs_f64());
    // Much less if others want the processors, too; the tenth more is a turn that comes late.
    assert!(share > 0.0 && share < SHARE * 1.1, "{share}");
}

/// Slots with a program, and what they have reported.
struct Bench {
    workers: Workers,
    reports: Receiver<Report>,
    /// Units of jobs, and whether that is all.
    heard: RefCell<BTreeMap<u64, (Vec<Run>, bool)>>,
    program: Program,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn start(slots: usize, rest_after: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = StoreLimits { bytes_max: 1 << 20 };
        let store = BlobStore::open(folder.path(), limits).unwrap();
        let sandbox = SandboxConfig {
            executable: PathBuf::from(env!("CARGO_BIN_EXE_tally")),
            priority: Priority::Normal,
            ..SandboxConfig::default()
        };
        let (report, reports) = channel();
        let setup = Setup {
            slots,
            sandbox,
            store,
            rest_after,
        };
        let report = move |what| drop(report.send(what));
        Self {
            workers: Workers::start(setup, report).unwrap(),
            reports,
            heard: RefCell::default(),
            program: Program::new(wat::parse_str(BURN).unwrap().into()),
            _folder: folder,
        }
    }

    /// Gives a job whose units compute for so many rounds.
    fn give(&self, job: u64, rounds: &[u64]) {
        self.give_changed(job, rounds, |_| {});
    }

    /// The same with something else in the grant.
    fn give_changed(&self, job: u64, rounds: &[u64], change: impl FnOnce(&mut Grant)) {
        let leased = |unit| LeasedUnit {
            unit,
            attempt: 0,
            start: 0,
            bytes: 8,
            params: String::new(),
        };
        let count = u32::try_from(rounds.len()).unwrap();
        let mut grant = Grant {
            id: GrantId::from_bytes([1; 16]),
            device: NodeId::from_bytes([1; 32]),
            customer: NodeId::from_bytes([2; 32]),
            task: TaskId::from_bytes([1; 32]),
            unit_count: count,
            program: BlobRef::of(self.program.module()),
            args: vec![],
            limits: Limits {
                fuel: u64::MAX,
                memory_bytes: 1 << 20,
                output_bytes: 100,
            },
            profile: tally_sandbox::profile().clone(),
            input: BlobRef::of(b""),
            units: (0..count).map(leased).collect(),
            rate_card: RateCardId::from_bytes([1; 32]),
            issued: Timestamp::default(),
            deadline: Timestamp::default(),
        };
        change(&mut grant);
        let bytes = rounds.iter().flat_map(|rounds| rounds.to_le_bytes());
        let order = Order {
            job: Job(job),
            grant: Arc::new(grant),
            places: 0..rounds.len(),
            program: self.program.clone(),
            inputs: Arc::new(Inputs::new(bytes.collect())),
        };
        assert!(self.workers.give(order));
    }

    /// Waits for the end of a job, and returns its units. Those of others are kept for their turn.
    fn finished(&self, wanted: u64) -> Vec<Run> {
        let mut heard = self.heard.borrow_mut();
        loop {
            if let Some((runs, true)) = heard.get(&wanted) {
                let runs = runs.clone();
                heard.remove(&wanted);
                return runs;
            }
            match self.reports.recv().unwrap() {
                Report::Ran(job, runs) => heard.entry(job.0).or_default().0.extend(runs),
                Report::Finished(job) => heard.entry(job.0).or_default().1 = true,
                Report::Broken(reason) => panic!("{reason}"),
            }
        }
    }

    fn at_work(&self, job: u64) -> Option<AtWork> {
        let mut at_work = self.workers.at_work().into_iter();
        at_work.find(|at| at.job == Job(job))
    }

    /// Waits until a child has used some processor time for its unit.
    fn until_it_works(&self) {
        let before = self.workers.cpu_time();
        until(|| self.workers.cpu_time() > before + Duration::from_millis(50));
    }
}

fn until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::yield_now();
    }
}

fn is_stopped(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(')')
        .unwrap()
        .1
        .trim_start()
        .starts_with('T')
}
