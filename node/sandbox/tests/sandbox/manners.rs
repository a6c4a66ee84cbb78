//! The child steps back: its priority, its pauses, and the time that it does not get.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process};
use tally_protocol::unit::{Fault, Limits, Outcome};
use tally_sandbox::{KillHandle, Priority, Sandbox, SandboxConfig, UnitMax};

use crate::common::{LIMITS, config, guest, run_one, run_with, sandbox};
use crate::hostile::goes_on;

/// Rounds that take some tenths of a second.
const ROUNDS: [u8; 8] = 200_000_000_u64.to_le_bytes();

#[test]
fn the_lowest_priority_is_really_set() {
    let lowest = SandboxConfig {
        priority: Priority::Lowest,
        ..config()
    };
    let sandbox = Sandbox::spawn(lowest).unwrap();
    assert_eq!(sandbox.lockdown().unwrap().priority, Priority::Lowest);
    let child = sandbox.handle().pid().unwrap();
    let (session, nice, policy) = (stat(child, 6), stat(child, 19), stat(child, 41));
    const SCHED_IDLE: i64 = 5;
    assert_eq!(
        (session, nice, policy),
        (i64::from(child), 19, SCHED_IDLE),
        "its session is its own"
    );
    if let Ok(group) = fs::read_to_string(format!("/proc/{child}/autogroup")) {
        assert!(group.trim_end().ends_with("nice 19"), "{group}");
    }
}

#[test]
fn the_normal_priority_is_that_of_the_parent() {
    let sandbox = sandbox();
    let lockdown = sandbox.lockdown().unwrap();
    assert_eq!(lockdown.priority, Priority::Normal);
    assert!(
        lockdown.to_string().ends_with("priority normal"),
        "{lockdown}"
    );
    let child = sandbox.handle().pid().unwrap();
    for field in [6, 19, 41] {
        assert_eq!(stat(child, field), stat(std::process::id(), field));
    }
}

#[test]
fn pauses_change_neither_result_nor_fuel_and_do_not_count() {
    let mut sandbox = sandbox();
    let expected = run_one(&mut sandbox, &guest("burn"), &ROUNDS);
    assert_eq!(expected.result, Ok(Outcome::Done));
    let handle = sandbox.handle();
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let pauser = std::thread::spawn(move || {
        let mut pauses = Vec::new();
        while is_done.recv_timeout(Duration::from_millis(7)).is_err() {
            handle.pause();
            let begin = Instant::now();
            std::thread::park_timeout(Duration::from_millis(7));
            pauses.push(begin.elapsed());
            handle.resume();
        }
        pauses
    });
    let begin = Instant::now();
    let run = run_one(&mut sandbox, &guest("burn"), &ROUNDS);
    let passed = begin.elapsed();
    done.send(()).unwrap();
    let mut pauses = pauser.join().unwrap();
    assert!(pauses.len() > 2, "it was paused");
    // The last one may have ended after the unit.
    pauses.pop();
    let paused: Duration = pauses.into_iter().sum();
    assert!(
        run.run_time + paused / 2 < passed,
        "{:?} of {passed:?} with {paused:?} of pauses",
        run.run_time
    );
    assert_eq!(
        (run.result, run.fuel, run.output),
        (expected.result, expected.fuel, expected.output)
    );
}

#[test]
fn a_unit_that_waits_for_the_processor_is_not_late() {
    let unit_time_max = Duration::from_millis(500);
    let mut sandbox = Sandbox::spawn(SandboxConfig {
        unit_max: UnitMax {
            time: unit_time_max,
            ..UnitMax::default()
        },
        ..config()
    })
    .unwrap();
    // Stopped behind the sandbox's back, as a computer does that has no time for it.
    let child = pid(&sandbox.handle());
    kill_process(child, Signal::STOP).unwrap();
    let starved = std::thread::spawn(move || {
        let begin = Instant::now();
        while begin.elapsed() < 3 * unit_time_max {
            std::thread::park_timeout(unit_time_max);
        }
        kill_process(child, Signal::CONT).unwrap();
    });
    // Without input it ends at once.
    let run = run_one(&mut sandbox, &guest("spin"), b"");
    starved.join().unwrap();
    assert_eq!(run.result, Ok(Outcome::Done));
    // With its time on the processor it does not get away.
    let endless = Limits {
        fuel: u64::MAX,
        ..LIMITS
    };
    let (runs, _) = run_with(&mut sandbox, &guest("spin"), endless, &[], &[("", b"x")]);
    assert_eq!(runs[0].result, Err(Fault::TimedOut));
}

#[test]
fn a_paused_child_can_be_ended() {
    let mut sandbox = sandbox();
    let handle = sandbox.handle();
    let killer = std::thread::spawn({
        let handle = handle.clone();
        move || {
            while handle.cpu_time() < Duration::from_millis(100) {
                std::thread::yield_now();
            }
            handle.pause();
            handle.kill();
        }
    });
    let endless = u64::MAX.to_le_bytes();
    let run = run_one(&mut sandbox, &guest("burn"), &endless);
    killer.join().unwrap();
    assert_eq!(run.result, Err(Fault::Killed));
    handle.resume();
    goes_on(&mut sandbox);
}

#[test]
fn what_the_kernel_ends_while_it_is_paused_is_withdrawn() {
    let mut sandbox = sandbox();
    let handle = sandbox.handle();
    let kernel = std::thread::spawn({
        let handle = handle.clone();
        move || {
            while handle.cpu_time() < Duration::from_millis(100) {
                std::thread::yield_now();
            }
            handle.pause();
            kill_process(pid(&handle), Signal::KILL).unwrap();
        }
    });
    let endless = u64::MAX.to_le_bytes();
    let units: [(&str, &[u8]); 2] = [("", &endless), ("", &endless)];
    let endless = Limits {
        fuel: u64::MAX,
        ..LIMITS
    };
    let (runs, _) = run_with(&mut sandbox, &guest("burn"), endless, &[], &units);
    kernel.join().unwrap();
    for run in runs {
        assert_eq!(run.result, Err(Fault::Withdrawn));
    }
    handle.resume();
    goes_on(&mut sandbox);
}

#[test]
fn a_batch_that_is_announced_can_be_ended_before_it_begins() {
    let mut sandbox = Sandbox::resting(config()).unwrap();
    let handle = sandbox.handle();
    handle.announce();
    handle.kill();
    let run = run_one(&mut sandbox, &guest("echo"), b"");
    assert_eq!((run.result, handle.pid()), (Err(Fault::Killed), None));
    goes_on(&mut sandbox);
}

#[test]
fn a_child_of_a_paused_sandbox_does_not_even_start() {
    let mut sandbox = Sandbox::resting(config()).unwrap();
    let handle = sandbox.handle();
    assert_eq!((handle.pid(), sandbox.lockdown()), (None, None));
    handle.pause();
    let killer = std::thread::spawn({
        let handle = handle.clone();
        move || {
            let child = loop {
                if let Some(child) = handle.pid() {
                    break child;
                }
                std::thread::yield_now();
            };
            while state(child) != 'T' {
                std::thread::yield_now();
            }
            handle.kill();
        }
    });
    let run = run_one(&mut sandbox, &guest("echo"), b"");
    killer.join().unwrap();
    assert_eq!(run.result, Err(Fault::Killed));
    handle.resume();
    goes_on(&mut sandbox);
}

/// The variable that makes this test the node that is killed.
const IS_NODE: &str = "TALLY_TEST_IS_NODE";

#[test]
fn a_child_that_is_stopped_at_its_start_ends_with_its_node() {
    if std::env::var_os(IS_NODE).is_some() {
        let mut sandbox = Sandbox::resting(config()).unwrap();
        sandbox.handle().pause();
        run_one(&mut sandbox, &guest("echo"), b"");
        return;
    }
    let mut node = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", std::thread::current().name().unwrap()])
        .env(IS_NODE, "yes")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = loop {
        let child = child_of(node.id()).filter(|child| state(*child) == 'T');
        if let Some(child) = child {
            break child;
        }
        assert_eq!(node.try_wait().unwrap(), None, "the node has ended");
        std::thread::park_timeout(Duration::from_millis(1));
    };
    // The number may be given to another, so the process is held.
    let child = Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
    let child = rustix::process::pidfd_open(child, PidfdFlags::empty()).unwrap();
    node.kill().unwrap();
    node.wait().unwrap();
    let mut ends = [PollFd::new(&child, PollFlags::IN)];
    let minute = Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut ends, Some(&minute)).unwrap();
    let _ = rustix::process::pidfd_send_signal(&child, Signal::KILL);
    assert_eq!(ended, 1, "it stays behind");
}

/// Returns the sandbox that a process has started.
fn child_of(node: u32) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{node}/task")).unwrap();
    tasks.into_iter().find_map(|task| {
        let children = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

fn pid(handle: &KillHandle) -> Pid {
    let id = handle.pid().unwrap();
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// Returns a number of `/proc/PID/stat` by its place in proc(5).
fn stat(process: u32, place: usize) -> i64 {
    fields(process)[place - 3].parse().unwrap()
}

fn state(process: u32) -> char {
    fields(process)[0].chars().next().unwrap()
}

/// Returns the fields behind the name.
fn fields(process: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    fields.split_whitespace().map(str::to_owned).collect()
}
