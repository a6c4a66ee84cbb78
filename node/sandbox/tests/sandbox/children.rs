//! The life of the child: caches, deaths, kills, pauses.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tally_protocol::unit::{Fault, Limits, Outcome};
use tally_sandbox::{Batch, KillHandle, Sandbox, SandboxConfig, TestHooks, UnitMax};

use crate::common::{LIMITS, config, fill, guest, program, run_one, run_with, sandbox};
use crate::hostile::goes_on;
use crate::script::script;

/// Fuel for hours.
const FOREVER: Limits = Limits {
    fuel: u64::MAX,
    ..LIMITS
};

#[test]
fn a_program_is_compiled_once() {
    let mut sandbox = sandbox();
    let (_, first) = run_with(&mut sandbox, &guest("echo"), LIMITS, &[], &[("", b"1")]);
    let (_, second) = run_with(&mut sandbox, &guest("echo"), LIMITS, &[], &[("", b"2")]);
    assert!(first.compile_time.is_some() && second.compile_time.is_none());
    let (runs, third) = run_with(&mut sandbox, &guest("kernel-echo"), LIMITS, &[], &[]);
    assert!(
        runs.is_empty() && third.compile_time.is_some(),
        "a batch without units only compiles"
    );
}

#[test]
fn the_least_recently_used_program_leaves_the_cache() {
    let mut sandbox = Sandbox::spawn(SandboxConfig {
        modules_max: 2,
        ..config()
    })
    .unwrap();
    let programs = ["echo", "kernel-echo", "spin"].map(guest);
    let mut compiled = |position: usize| {
        run_with(&mut sandbox, &programs[position], LIMITS, &[], &[])
            .1
            .compile_time
            .is_some()
    };
    assert_eq!(
        [0, 1, 0, 2, 0, 1].map(&mut compiled),
        [true, true, false, true, false, true]
    );
}

#[test]
fn units_beyond_their_time_are_killed_and_the_others_run() {
    let config = SandboxConfig {
        unit_max: UnitMax {
            time: Duration::from_secs(2),
            ..UnitMax::default()
        },
        ..config()
    };
    let mut sandbox = Sandbox::spawn(config).unwrap();
    // The guest spins for ever on input that is not empty.
    let inputs: [&[u8]; 7] = [b"", b"", b"x", b"", b"x", b"x", b""];
    let (runs, report) = run_with(
        &mut sandbox,
        &guest("spin"),
        FOREVER,
        &[],
        &inputs.map(|input| ("", input)),
    );
    for (index, (run, input)) in (0..).zip(runs.iter().zip(inputs)) {
        let expected = if input.is_empty() {
            Ok(Outcome::Done)
        } else {
            Err(Fault::TimedOut)
        };
        assert_eq!((run.index, run.result), (index, expected), "{runs:?}");
    }
    assert_eq!(report.deaths.len(), 3, "{report:?}");
    assert!(
        report.deaths[0].starts_with("over the time limit"),
        "{report:?}"
    );
    goes_on(&mut sandbox);
}

#[test]
fn memory_that_the_host_lacks_is_a_fault_and_not_an_outcome() {
    let config = SandboxConfig {
        hooks: TestHooks::with_memory(100 << 20),
        ..config()
    };
    let mut sandbox = Sandbox::spawn(config).unwrap();
    let grow = script("(loop (br_if 0 (i32.ne (memory.grow (i32.const 160)) (i32.const -1))))");
    let (runs, report) = run_with(&mut sandbox, &grow, LIMITS, &[], &[("", b"")]);
    assert_eq!(
        (runs[0].result, report.deaths),
        (Err(Fault::HostMemory), vec![])
    );
    goes_on(&mut sandbox);
}

#[test]
fn a_handle_ends_the_batch_and_nothing_later() {
    let mut sandbox = sandbox();
    let handle = sandbox.handle();
    handle.kill();
    goes_on(&mut sandbox);
    let units = fill(&mut sandbox, &[("", b""), ("", b"x"), ("", b"")]);
    let spin = guest("spin");
    let batch = Batch {
        program: &spin,
        args: &[],
        unit_count: 3,
        seed: [0; 32],
        limits: FOREVER,
        units: &units,
    };
    let killer = kill_after_some_work(handle);
    let mut results = Vec::new();
    let report = sandbox.run(&batch, &mut |run| results.push(run.result));
    killer.join().unwrap();
    // The first unit is short, so its report may still have waited for company.
    assert_eq!(results[1..], [Err(Fault::Killed), Err(Fault::Killed)]);
    assert_eq!(report.unwrap().deaths.len(), 1);
    goes_on(&mut sandbox);
}

#[test]
fn a_kill_while_compiling_does_not_condemn_the_program() {
    let functions: String = (0..40_000)
        .map(|i| format!("(func (result i32) (i32.const {i}))"))
        .collect();
    let slow = program(&format!(
        "(module (memory (export \"memory\") 1) {functions} (func (export \"_start\")))"
    ));
    let mut sandbox = sandbox();
    let killer = kill_after_some_work(sandbox.handle());
    let (runs, _) = run_with(&mut sandbox, &slow, LIMITS, &[], &[("", b"")]);
    killer.join().unwrap();
    assert_eq!(runs[0].result, Err(Fault::Killed));
    assert_eq!(run_one(&mut sandbox, &slow, b"").result, Ok(Outcome::Done));
}

/// Ends the batch once the child has been at work for a tenth of a second.
fn kill_after_some_work(handle: KillHandle) -> JoinHandle<()> {
    let before = handle.cpu_time();
    std::thread::spawn(move || {
        while handle.cpu_time() < before + Duration::from_millis(100) {
            std::thread::yield_now();
        }
        handle.kill();
    })
}

#[test]
fn a_pause_stops_the_child_and_its_clock() {
    let mut sandbox = Sandbox::spawn(SandboxConfig {
        unit_max: UnitMax {
            time: Duration::from_secs(2),
            ..UnitMax::default()
        },
        ..config()
    })
    .unwrap();
    let handle = sandbox.handle();
    run_one(&mut sandbox, &guest("spin"), b"");
    handle.pause();
    let resumer = handle.clone();
    let (paused, wait) = mpsc::channel::<Duration>();
    let thread = std::thread::spawn(move || {
        let begin = std::time::Instant::now();
        let before = resumer.cpu_time();
        // Longer than the unit's time limit.
        while begin.elapsed() < Duration::from_millis(2500) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        paused.send(resumer.cpu_time() - before).unwrap();
        resumer.resume();
    });
    let run = run_one(&mut sandbox, &guest("spin"), b"");
    thread.join().unwrap();
    assert_eq!(run.result, Ok(Outcome::Done));
    assert!(
        wait.recv().unwrap() < Duration::from_millis(50),
        "a paused child does not work"
    );
}

#[test]
fn a_rested_sandbox_starts_again() {
    let mut sandbox = sandbox();
    goes_on(&mut sandbox);
    let before = sandbox.handle().cpu_time();
    sandbox.rest();
    goes_on(&mut sandbox);
    assert!(
        sandbox.handle().cpu_time() > before,
        "the time of earlier children counts"
    );
}

#[test]
fn a_sandbox_that_cannot_start_says_why() {
    let config = |executable: &str| SandboxConfig {
        executable: executable.into(),
        ..config()
    };
    let error = Sandbox::spawn(config("/nonexistent/tally")).unwrap_err();
    assert_eq!(error.to_string(), "start /nonexistent/tally");
    let error = Sandbox::spawn(config("/bin/false")).unwrap_err();
    assert!(std::error::Error::source(&error).is_some(), "{error:?}");
}
