//! Programs by others, as they are, through a whole task.
//!
//! `node/sandbox/tests/fetch-programs FOLDER` gets them; `TALLY_WASI_PROGRAMS` names the folder. Without it these tests
//! say that they do nothing.

use std::path::PathBuf;

use tally_protocol::message::customer::TaskStatus;
use tally_tests::job::Job;
use tally_tests::ledger;

use crate::net;

/// Names the folder that `fetch-programs` has filled.
const FOLDER: &str = "TALLY_WASI_PROGRAMS";

const SVG: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40"><circle cx="30" cy="20" r="15" fill="#d22" opacity="0.8"/></svg>"##;

fn program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER);
    let path = folder.map(|folder| PathBuf::from(folder).join(name));
    let found = path.filter(|path| path.is_file());
    if found.is_none() {
        eprintln!("not run: {name} is not in the folder that {FOLDER} names");
    }
    found
}

/// Runs a task on two terminals that must agree, and shows that each compiled the program once for all units.
fn on_two_terminals(job: &Job) -> Vec<u8> {
    let mut net = net();
    let coordinator = net.start_coordinator();
    let terminals = [
        net.start_terminal("terminal-1"),
        net.start_terminal("terminal-2"),
    ];
    let status: TaskStatus = net.submit("customer", job).wait().done().json();
    assert_eq!(status.devices.len(), 2);
    for terminal in terminals {
        assert_eq!(
            terminal.log().matches("compiled a program").count(),
            1,
            "{}",
            terminal.log()
        );
        terminal.stop();
    }
    coordinator.stop();
    let validated = ledger::validations(&net.path("coordinator"), status.summary.task);
    assert_eq!(validated.len(), status.summary.units as usize);
    for (unit, (_, agreed)) in validated {
        // Agreeing is agreeing on bytes and fuel.
        assert_eq!(
            (agreed.agreed.len(), agreed.outvoted.len()),
            (2, 0),
            "unit {unit}"
        );
        assert!(agreed.fuel > 0);
    }
    net.result("customer")
}

#[test]
fn resvg_draws_the_same_picture_on_every_terminal() {
    let Some(resvg) = program("resvg.wasm") else {
        return;
    };
    let pictures = 6;
    let job = Job::module(&resvg)
        .args(&["--quiet", "--resources-dir", "/", "-", "-c"])
        .text(&format!("{SVG}\n").repeat(pictures))
        .merge("concat");
    let drawn = on_two_terminals(&job);
    let starts = drawn
        .windows(8)
        .filter(|bytes| bytes == b"\x89PNG\r\n\x1a\n");
    assert_eq!(starts.count(), pictures);
}

#[test]
fn python_computes_the_same_on_every_terminal() {
    let Some(python) = program("python-3.12.0.wasm") else {
        return;
    };
    let code = "import sys, random, hashlib; text = sys.stdin.read(); \
                print(text.strip(), hashlib.sha256(text.encode()).hexdigest()[:8], random.random() < 1)";
    let job = Job::module(&python)
        .args(&["-c", code])
        .text("alpha\nbeta\ngamma\n")
        .table("limits", "fuel = 100000000000\nmemory = \"512 MiB\"")
        .table("lease", "seconds = 120")
        .merge("concat");
    let computed = String::from_utf8(on_two_terminals(&job)).unwrap();
    let lines: Vec<&str> = computed.lines().collect();
    assert_eq!(lines.len(), 3, "{computed}");
    assert!(
        lines.iter().all(|line| line.ends_with("True")),
        "{computed}"
    );
    assert!(lines[0].starts_with("alpha "), "{computed}");
}
