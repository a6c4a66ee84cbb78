//! The coordinator dies at every named point of its work and comes back.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use tally_node::fault::Point;
use tally_protocol::id::TaskId;
use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::node::Node;
use tally_tests::{ledger, until};

use crate::net;

/// Units of the task that all deaths happen in.
const UNITS: u32 = 500;
/// The variable that replays an order.
const SEED: &str = "TALLY_SEED";
/// Primes below twenty million.
const PRIMES: u64 = 1_270_607;

#[test]
fn a_task_of_500_units_survives_ten_deaths_of_its_coordinator() {
    let seed = std::env::var(SEED).map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let deaths = order(seed);
    eprintln!("replay with {SEED}={seed}: {deaths:?}");
    let mut net = net();
    let bootstrap = net.start_bootstrap();
    let listen = free_address(&net);
    let mut first_terminal = net.start_terminal("terminal-1");
    // Whoever comes first waits for nobody: the customer looks for its coordinator.
    let ranges: String = (0..UNITS).map(|_| "0 20000000\n").collect();
    let job = Job::builtin("prime-count")
        .text(&ranges)
        .table("lease", "seconds = 3");
    let mut coordinator = start(&net, &listen, None);
    let submitted = net.submit("customer", &job);
    let task = until("the task", || Some(coordinator.tasks().first()?.task));
    coordinator.stop();
    let mut second_terminal = None;
    let mut in_the_middle = 0;
    for (number, (point, count)) in deaths.into_iter().enumerate() {
        // Until then no unit can be agreed on: the task is sure to be in the middle.
        if number == 7 {
            second_terminal = Some(net.start_terminal("terminal-2"));
        }
        let status = die_and_come_back(&net, &listen, (number, point, count), task);
        in_the_middle += usize::from(!status.summary.phase.is_final());
        eprintln!(
            "{}:{count}: {}/{UNITS} done",
            point.name(),
            status.summary.done
        );
    }
    let coordinator = start(&net, &listen, None);
    let status: TaskStatus = submitted.wait().done().json();
    assert_eq!(status.summary.done, UNITS);
    assert_eq!(
        net.result("customer"),
        format!("{}\n", u64::from(UNITS) * PRIMES).as_bytes()
    );
    assert_eq!(in_the_middle, 10, "deaths before the end of the task");
    assert!(status.devices.values().all(|device| device.outvoted == 0));
    assert!(first_terminal.is_running() && second_terminal.unwrap().is_running());
    coordinator.stop();
    drop(bootstrap);
    verify(&net, &net.path("coordinator"));
    let validated = ledger::validations(&net.path("coordinator"), task);
    assert_eq!(validated.len(), UNITS as usize);
    for (unit, (times, last)) in validated {
        assert_eq!((times, last.agreed.len()), (1, 2), "unit {unit}");
    }
}

/// Has the coordinator die at a point and starts it again. Returns how the task is then.
///
/// A point that the task has passed for good is passed once more by another, small one, which has to survive too.
fn die_and_come_back(
    net: &Net,
    listen: &str,
    (number, point, count): (usize, Point, u64),
    task: TaskId,
) -> TaskStatus {
    let fault = format!("{}:{count}", point.name());
    let mut coordinator = start(net, listen, Some(&fault));
    let customer = format!("other-{number}");
    let other = net.submit(&customer, &small_job(number));
    let ended = coordinator.ended();
    let log = coordinator.log();
    assert_eq!(ended.signal(), Some(9), "{fault}: {ended}\n{log}");
    assert!(
        log.contains(&format!("point=\"{}\"", point.name())),
        "{log}"
    );
    drop(coordinator);
    let mut coordinator = start(net, listen, None);
    let status: TaskStatus = other.wait().done().json();
    assert_eq!(status.summary.phase, Phase::Done, "{fault}");
    assert_eq!(net.result(&customer), small_result(number));
    let status = coordinator.task(task);
    coordinator.stop();
    status
}

/// The result comes back to who asks later, from the same folder, even if the coordinator died in between.
#[test]
fn a_result_outlives_the_coordinator_and_the_customer() {
    let mut net = net();
    let listen = free_address(&net);
    let mut coordinator = start(&net, &listen, None);
    net.bootstrap(&mut coordinator);
    let job = net.write("job.toml", small_job(0).to_string());
    let args = ["submit", job.to_str().unwrap()];
    let status: TaskStatus = net.run_task("customer", &args).done().json();
    coordinator.kill();
    let _terminal = net.start_terminal("terminal");
    let mut coordinator = start(&net, &listen, None);
    let task = status.summary.task;
    until("the end of the task", || {
        (coordinator.task(task).summary.phase == Phase::Done).then_some(())
    });
    coordinator.kill();
    let _coordinator = start(&net, &listen, None);
    let out = net.path("result.txt");
    let args = [
        "result",
        &task.to_string()[..8],
        "--out",
        out.to_str().unwrap(),
    ];
    let _ = net.run_task("customer", &args).done();
    assert_eq!(std::fs::read(out).unwrap(), small_result(0));
}

/// Starts the coordinator of the folder `coordinator`, to die at a fault point.
fn start(net: &Net, listen: &str, fault: Option<&str>) -> Node {
    let node = net
        .node("coordinator", "coordinator")
        .args(&["--customers", "any", "--listen", listen])
        .config("[coordinator]\nsnapshot_every = 5\n");
    match fault {
        Some(fault) => node.args(&["--fault", fault]).start(),
        None => node.start(),
    }
}

/// Returns an address that is free, for a node that comes back to it.
pub(crate) fn free_address(net: &Net) -> String {
    let mut probe = net
        .node("probe", "bootstrap")
        .loopback()
        .bootstrap(&[])
        .start();
    let address = probe.address();
    probe.stop();
    address.split("/p2p/").next().unwrap().to_owned()
}

/// A task of two units at quorum 1, another one for each number.
fn small_job(number: usize) -> Job {
    let text = format!("{}\nlast line", "word ".repeat(number + 1));
    Job::builtin("wordcount").text(&text).agree(1)
}

fn small_result(number: usize) -> Vec<u8> {
    format!("{}\n", number + 3).into_bytes()
}

/// Draws the order of the points, and at which passing each kills.
fn order(seed: u64) -> Vec<(Point, u64)> {
    let mut random = seed;
    let mut draw = |below: u64| {
        // SplitMix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let mut left: Vec<Point> = Point::ALL.to_vec();
    left.retain(|point| passes(*point).is_some());
    let mut deaths = Vec::new();
    while !left.is_empty() {
        let point = left.remove(usize::try_from(draw(left.len() as u64)).unwrap());
        let count = 1 + draw(passes(point).unwrap_or(1));
        deaths.push((point, count));
    }
    deaths
}

/// Returns how often a task passes a point at least, for those that are no step of money or points.
const fn passes(point: Point) -> Option<u64> {
    match point {
        Point::SubmissionHeard
        | Point::InputArrived
        | Point::InputDivided
        | Point::OutputsMerged
        | Point::SnapshotWritten => Some(1),
        Point::BeforeCommit
        | Point::AfterCommit
        | Point::GrantSigned
        | Point::ReportVerified
        | Point::PullAnswered => Some(5),
        Point::BeforeAccept
        | Point::AfterAccept
        | Point::BeforeAgree
        | Point::AfterAgree
        | Point::BeforeReceipt
        | Point::AfterReceipt
        | Point::BeforeSettle
        | Point::AfterSettle
        | Point::BeforeRelease
        | Point::AfterRelease
        | Point::BeforeSettlement
        | Point::AfterSettlement
        | Point::BeforeState
        | Point::AfterState
        | Point::BeforeReserve
        | Point::AfterReserve
        | Point::BeforeRedeem
        | Point::AfterRedeem
        | Point::BeforeReverse
        | Point::AfterReverse
        | Point::BeforeRegister
        | Point::AfterRegister
        | Point::BeforeOpen
        | Point::AfterOpen
        | Point::BeforeLegs
        | Point::AfterLegs
        | Point::BeforeHeld
        | Point::AfterHeld
        | Point::BeforeDecide
        | Point::AfterDecide
        | Point::BeforeTaken
        | Point::AfterTaken
        | Point::BeforeIssue
        | Point::AfterIssue => None,
    }
}

fn verify(net: &Net, folder: &Path) {
    let args = [
        "ledger",
        "verify",
        "--json",
        "--dir",
        folder.to_str().unwrap(),
    ];
    let report: serde_json::Value = net.run(&args).done().json();
    assert_eq!(report["answer"], "verify", "{report}");
}
