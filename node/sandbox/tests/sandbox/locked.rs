//! The lock: what a program that has broken out of the engine would find.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use tally_sandbox::LandlockLevel;

use crate::common::sandbox;

/// What the probe tries after it has locked itself as a child does. All of these work in an unlocked process.
const ATTEMPTS: [&str; 9] = [
    "open",
    "write",
    "list",
    "socket",
    "fork",
    "exec",
    "kill",
    "thread",
    "directory",
];

fn probe(arguments: &[&str]) -> std::process::ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_tally-sandbox-child"))
        .arg("probe")
        .args(arguments)
        .status()
        .unwrap()
}

#[test]
fn a_locked_process_dies_of_what_it_must_not_do() {
    const SIGSYS: i32 = 31;
    for attempt in ATTEMPTS {
        let status = probe(&["locked", attempt]);
        assert_eq!(status.signal(), Some(SIGSYS), "{attempt}: {status}");
    }
    assert!(probe(&["locked", "compute"]).success());
}

#[test]
fn landlock_alone_forbids_files_and_signals() {
    for attempt in ["open", "write", "list", "exec", "kill"] {
        let status = probe(&["landlock", attempt]);
        assert_eq!(status.code(), Some(2), "{attempt}: {status}");
    }
}

#[test]
fn an_unlocked_probe_succeeds() {
    for attempt in ["open", "list", "socket", "fork", "kill", "compute"] {
        assert!(probe(&["open", attempt]).success(), "{attempt}");
    }
}

#[test]
fn the_level_is_reported() {
    let lockdown = sandbox().lockdown().unwrap();
    assert!(lockdown.seccomp);
    assert_ne!(
        lockdown.landlock,
        LandlockLevel::None,
        "this kernel has Landlock"
    );
    assert!(lockdown.to_string().starts_with("seccomp on, landlock "));
}
