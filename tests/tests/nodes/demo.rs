//! `tally demo`, as people see it, and as it ends.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tally_protocol::account::Money;
use tally_tests::net::Net;
use tally_tests::run::Running;
use tally_tests::{until, until_true};

use crate::net;

const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE");

#[test]
fn the_demo_shows_it_all_and_leaves_no_process() {
    let net = net();
    let (out, keep) = (net.path("picture.png"), net.path("nodes"));
    let mut command = demo(&net);
    command.arg("--out").arg(&out).arg("--keep").arg(&keep);
    let mut running = Running::start(&mut command);
    let mut listening = BTreeSet::new();
    while running.is_running() {
        for process in processes_on(net.root()) {
            listening.extend(listens_on(process));
        }
    }
    let ran = running.wait().done();
    let shown: Value = ran.json();
    assert_eq!(shown["identical_to_one_piece"], true);
    assert!(out.is_file());
    let wc = Command::new("wc")
        .env("LC_ALL", "C")
        .args(["-w", TEXT])
        .output()
        .unwrap();
    let words = String::from_utf8(wc.stdout).unwrap();
    let words: u64 = words.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(shown["words"].as_u64(), Some(words));
    assert!(shown["blur"]["summary"]["units"].as_u64().unwrap() >= 16);
    let devices = shown["blur"]["devices"].as_object().unwrap();
    assert_eq!(devices.len(), 3, "three terminals took part");
    assert!(
        devices
            .values()
            .all(|device| device["agreed"].as_u64() > Some(0))
    );
    what_was_earned_was_spent(&shown);
    assert!(keep.join("terminal-1/licenses").is_dir());
    assert!(!listening.is_empty());
    assert!(
        listening
            .iter()
            .all(|address| address.starts_with("127.0.0.1:")),
        "something listens elsewhere: {listening:?}"
    );
    assert_eq!(processes_on(net.root()), Vec::<u32>::new());
    let ledger = keep.join("coordinator");
    let args = ["ledger", "verify", "--dir", ledger.to_str().unwrap()];
    assert!(net.run(&args).done().text().contains("sound"));
    let folders = [
        "app-server",
        "bootstrap",
        "coordinator",
        "customer",
        "terminal-1",
        "terminal-3",
    ];
    assert!(
        folders
            .iter()
            .all(|name| keep.join(name).join("key").is_file())
    );
}

/// The application did not start, then it did; both owners and the shop got what points and money paid for.
fn what_was_earned_was_spent(shown: &Value) {
    assert_eq!(shown["application"], serde_json::json!([3, 0]));
    assert!(Path::new(shown["thumbnail"].as_str().unwrap()).is_file());
    let cents = |of: &str| {
        let money: Money = shown
            .pointer(of)
            .unwrap()
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        money.minor
    };
    assert_eq!(
        (cents("/sale/by_points"), cents("/sale/by_owner")),
        (300, 200)
    );
    assert_eq!(
        cents("/discount/due") + cents("/discount/charged"),
        cents("/discount/fee")
    );
    assert!(cents("/discount/charged") > 0);
    assert_eq!(shown["settled"]["redemptions"], 3);
    let owed = 500 + cents("/sale/by_points") + cents("/discount/charged");
    assert_eq!(
        cents("/settled/paid"),
        owed,
        "a license, a part of one, a discount"
    );
    for audit in ["audit", "app_server_audit"] {
        assert_eq!(shown[audit]["finding"], Value::Null, "{audit}");
    }
}

#[test]
fn a_demo_that_is_interrupted_stops_all_that_it_started() {
    let net = net();
    let running = half_way(&net);
    running.signal(Signal::INT);
    let ran = running.wait();
    assert_eq!(ran.exit(), 130, "{}", ran.stderr);
    // Those that were killed take a moment.
    until_true("the end of all processes", || {
        processes_on(net.root()).is_empty()
    });
}

#[test]
fn the_nodes_of_a_demo_that_is_killed_stop_by_themselves() {
    let net = net();
    let running = half_way(&net);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().exit(), -9);
    until_true("the end of all nodes", || {
        processes_on(net.root()).is_empty()
    });
}

/// Starts the demo and waits until all of its nodes run.
fn half_way(net: &Net) -> Running {
    let mut command = demo(net);
    command.arg("--keep").arg(net.path("nodes"));
    let mut running = Running::start(&mut command);
    until("the nodes of the demo", || {
        assert!(running.is_running(), "the demo was over too early");
        let started = net.path("nodes/terminal-3/admin.sock").exists();
        started.then_some(())
    });
    assert!(processes_on(net.root()).len() >= 5);
    running
}

/// Returns the demo by a copy of `tally` in the folder of the test: so all of its processes are known by their path.
fn demo(net: &Net) -> Command {
    let program = net.path("tally");
    std::fs::copy(net.tally(&[]).get_program(), &program).unwrap();
    let mut command = net.command(&program);
    command.args(["demo", "--json"]).env("TMPDIR", net.root());
    command
}

/// Returns the processes of the demo but itself: nodes, their sandboxes, customers.
fn processes_on(root: &Path) -> Vec<u32> {
    let root = root.to_str().unwrap().as_bytes().to_vec();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(process) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let is_dead = std::fs::read_to_string(entry.path().join("status"))
            .map_or(true, |status| status.contains("State:\tZ"));
        let executable = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let executable = executable.as_os_str().as_encoded_bytes();
        let named =
            executable.starts_with(&root) || line.windows(root.len()).any(|part| part == root);
        let is_demo = line.split(|byte| *byte == 0).nth(1) == Some(b"demo");
        if named && !is_demo && !is_dead {
            found.push(process);
        }
    }
    found
}

/// Returns the TCP addresses that a process listens on.
fn listens_on(process: u32) -> Vec<String> {
    const LISTEN: &str = "0A";
    let folder = format!("/proc/{process}");
    let Ok(entries) = std::fs::read_dir(format!("{folder}/fd")) else {
        return Vec::new();
    };
    let inodes: BTreeSet<String> = entries
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?.to_owned();
            Some(link.trim_end_matches(']').to_owned())
        })
        .collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("{folder}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns[3] == LISTEN && inodes.contains(columns[9]) {
                found.push(readable(columns[1]));
            }
        }
    }
    found
}

/// Turns `0100007F:12CA` into `127.0.0.1:4810`; an IPv6 address stays as it is, for it is not expected.
fn readable(address: &str) -> String {
    let (ip, port) = address.split_once(':').unwrap();
    let (Ok(ip), Ok(port)) = (u32::from_str_radix(ip, 16), u16::from_str_radix(port, 16)) else {
        return address.to_owned();
    };
    let [a, b, c, d] = ip.to_le_bytes();
    format!("{a}.{b}.{c}.{d}:{port}")
}
