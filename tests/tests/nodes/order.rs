//! Nodes start in any order and find each other.

use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_tests::job::Job;
use tally_tests::until;

use crate::net;

const WORDS: &str = "one\ntwo three\n\nfour five six\nseven";

fn words() -> Job {
    Job::builtin("wordcount").text(WORDS)
}

#[test]
fn terminals_come_first_the_bootstrap_next_the_coordinator_last() {
    let mut net = net();
    // The address of the bootstrap node must be known before it runs: it takes the same one again.
    let mut bootstrap = net.start_bootstrap();
    let port = bootstrap.address();
    let listen = port.split("/p2p/").next().unwrap().to_owned();
    bootstrap.stop();
    let mut terminals: Vec<_> = ["terminal-1", "terminal-2"]
        .iter()
        .map(|name| net.start_terminal(name))
        .collect();
    for terminal in &mut terminals {
        assert!(terminal.status().terminal.unwrap().coordinators.is_empty());
    }
    let bootstrap = net.node("bootstrap", "bootstrap");
    let _bootstrap = bootstrap
        .args(&["--listen", &listen])
        .bootstrap(&[])
        .start();
    let mut coordinator = net.coordinator("coordinator").start();
    for terminal in &mut terminals {
        terminal.until_found(1);
    }
    let status: TaskStatus = net.submit("customer", &words()).wait().done().json();
    assert_eq!(status.summary.phase, Phase::Done);
    assert_eq!(net.result("customer"), b"7\n");
    assert_eq!(coordinator.tasks().len(), 1);
}

#[test]
fn a_terminal_that_waits_gets_work_when_a_coordinator_appears_with_a_task() {
    let mut net = net();
    let _bootstrap = net.start_bootstrap();
    let mut terminals: Vec<_> = ["terminal-1", "terminal-2"]
        .iter()
        .map(|name| net.start_terminal(name))
        .collect();
    for terminal in &mut terminals {
        until("the bootstrap node", || {
            (terminal.status().peers > 0).then_some(())
        });
    }
    // The customer does not wait for terminals either: it looks for the coordinator that comes now.
    let submitted = net.submit("customer", &words());
    let _coordinator = net.coordinator("coordinator").start();
    let status: TaskStatus = submitted.wait().done().json();
    assert_eq!(net.result("customer"), b"7\n");
    assert_eq!(status.devices.len(), 2, "both terminals had to agree");
}

#[test]
fn a_second_coordinator_that_nobody_was_told_of_is_found_through_kademlia() {
    let mut net = net();
    let _bootstrap = net.start_bootstrap();
    let mut first = net.coordinator("first").start();
    let mut terminals: Vec<_> = ["terminal-1", "terminal-2"]
        .iter()
        .map(|name| net.start_terminal(name))
        .collect();
    for terminal in &mut terminals {
        terminal.until_found(1);
    }
    let mut second = net.coordinator("second").start();
    let (known, found) = (first.id(), second.id());
    for terminal in &mut terminals {
        terminal.until_found(2);
        let mut coordinators = terminal.status().terminal.unwrap().coordinators;
        coordinators.sort_unstable();
        let mut expected = vec![known, found];
        expected.sort_unstable();
        assert_eq!(coordinators, expected);
    }
    let job = net.write("job.toml", words().to_string());
    let address = second.address();
    let args = [
        "submit",
        job.to_str().unwrap(),
        "--watch",
        "--coordinator",
        &address,
    ];
    let status: TaskStatus = net.run_task("customer", &args).done().json();
    assert_eq!(status.summary.phase, Phase::Done);
    assert_eq!(second.tasks().len(), 1);
    assert!(
        first.tasks().is_empty(),
        "the first one has nothing to do with it"
    );
}
