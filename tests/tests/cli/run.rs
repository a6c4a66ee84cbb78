//! `tally run` and `tally status`.

use rustix::process::Signal;
use serde_json::Value;

use crate::net;

#[test]
fn status_says_who_a_node_is_and_where() {
    let net = net();
    let mut node = net.coordinator("node").start();
    let address = node.address();
    let folder = net.path("node");
    let dir = ["--dir", folder.to_str().unwrap()];
    let status: Value = net
        .run(&[&["status", "--json"], &dir[..]].concat())
        .done()
        .json();
    assert_eq!(status["network"], "test");
    assert_eq!(status["roles"], serde_json::json!(["coordinator"]));
    assert_eq!(status["process"], node.process());
    assert_eq!(status["terminal"], Value::Null);
    assert!(status["node"].as_str().unwrap().starts_with("12D3KooW"));
    let text = net.run(&[&["status"], &dir[..]].concat()).done();
    assert!(text.text().contains(&format!(
        "address   {}",
        address.split("/p2p/").next().unwrap()
    )));
    node.stop();
    let failure = net
        .run(&[&["status", "--json"], &dir[..]].concat())
        .failure();
    assert_eq!((failure.exit, failure.code.as_str()), (5, "unreached"));
    assert!(failure.hint.contains("tally run"), "{failure:?}");
}

#[test]
fn a_node_of_two_roles_computes_its_own_tasks() {
    let mut net = net();
    let both = net
        .coordinator("both")
        .args(&["--role", "terminal", "--slots", "1"]);
    let mut both = both.start();
    net.bootstrap(&mut both);
    let job = tally_tests::job::Job::builtin("wordcount")
        .text("a b c")
        .agree(1);
    let _ = net.submit("customer", &job).wait().done();
    assert_eq!(net.result("customer"), b"3\n");
    assert!(both.stop().success());
}

#[test]
fn run_holds_its_folder_and_stops_in_order_on_each_signal() {
    let net = net();
    for signal in [Signal::INT, Signal::TERM] {
        let mut node = net.coordinator("node").start();
        node.address();
        let folder = net.path("node");
        let second = [
            "run",
            "--role",
            "bootstrap",
            "--json",
            "--dir",
            folder.to_str().unwrap(),
        ];
        let failure = net.run(&second).failure();
        assert_eq!(failure.exit, 1);
        assert!(
            failure.message.contains("a node is running on it"),
            "{failure:?}"
        );
        node.signal(signal);
        assert!(node.ended().success(), "{}", node.log());
        assert!(!folder.join("admin.sock").exists());
    }
}

#[test]
fn run_takes_what_the_configuration_says_and_the_command_line_over_it() {
    let net = net();
    let config = "network = \"elsewhere\"\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n";
    let path = net.write("other.toml", config);
    let mut node = net
        .node("node", "bootstrap")
        .args(&["--config", path.to_str().unwrap()])
        .start();
    let status = node.status();
    assert_eq!(status.network, "test", "the command line comes last");
    assert!(node.address().contains("/ip4/127.0.0.1/"));
    let missing = net.path("missing.toml");
    let failure = net
        .run(&[
            "run",
            "--role",
            "bootstrap",
            "--json",
            "--config",
            missing.to_str().unwrap(),
        ])
        .failure();
    assert_eq!(failure.exit, 2);
    assert!(failure.message.contains("missing.toml"), "{failure:?}");
}
