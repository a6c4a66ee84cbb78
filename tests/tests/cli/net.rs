//! `tally net`.

use serde_json::Value;
use tally_tests::{until, until_true};

use crate::net;

#[test]
fn net_peers_find_witness_and_counters_show_the_overlay_as_a_node_sees_it() {
    let mut net = net();
    // Kademlia needs a node beside the coordinator that keeps its record.
    let _bootstrap = net.start_bootstrap();
    let mut coordinator = net.coordinator("coordinator").start();
    let mut terminal = net.start_terminal("terminal");
    terminal.until_found(1);
    let folder = net.path("terminal");
    let ask = |what: &str, json: &[&str]| {
        let args = [&["net", what, "--dir", folder.to_str().unwrap()], json].concat();
        net.run(&args)
    };
    let id = coordinator.id().to_string();
    let peers: Value = ask("peers", &["--json"]).done().json();
    let mut peers = peers.as_array().unwrap().iter();
    let peer = peers.find(|peer| peer["node"] == id.as_str()).unwrap();
    assert_eq!(peer["roles"], serde_json::json!(["coordinator"]));
    assert_eq!(peer["direction"], "outgoing");
    let table = ask("peers", &[]).done();
    assert!(table.text().starts_with("peer") && table.text().contains("coordinator"));
    until_true("the coordinator in Kademlia", || {
        let found: Value = ask("find", &["--json"]).done().json();
        let mut found = found.as_array().unwrap().iter();
        found.any(|found| found["node"] == id.as_str() && found["verified"] == true)
    });
    assert!(ask("find", &[]).done().text().contains("has shown it"));
    let seen = until("the head of the coordinator's log", || {
        let logs: Value = ask("witness", &["--json"]).done().json();
        logs.as_array().unwrap().first().cloned()
    });
    assert_eq!(seen["origin"], format!("tally/test/{id}").as_str());
    assert_eq!(
        (&seen["size"], &seen["state"]),
        (&1.into(), &"consistent".into())
    );
    assert!(ask("witness", &[]).done().text().starts_with("log"));
    let nothing = ask("witness", &["--json", "--export", "nowhere"]).failure();
    assert_eq!((nothing.exit, nothing.code.as_str()), (3, "not_found"));
    let counters: Value = ask("counters", &["--json"]).done().json();
    assert_eq!(counters["role.coordinator_found"], 1);
    assert!(ask("counters", &[]).done().text().starts_with("counter"));
    terminal.stop();
    for what in ["peers", "find", "witness", "counters"] {
        let failure = ask(what, &["--json"]).failure();
        assert_eq!((failure.exit, failure.code.as_str()), (5, "unreached"));
    }
}

#[test]
fn net_reach_tells_which_addresses_peers_have_reached_and_who_tried() {
    let mut net = net();
    let mut bootstrap = net.start_bootstrap();
    let tester = bootstrap.id().to_string();
    let of_bootstrap = bootstrap.address();
    let wrong = of_bootstrap.split("/p2p/").next().unwrap();
    let mut coordinator = net
        .coordinator("coordinator")
        .args(&["--external", wrong])
        .start();
    let mut terminal = net.start_terminal("terminal");
    let right = &until("an address", || {
        let mut addresses = coordinator.status().addresses.into_iter();
        addresses.find(|address| address != wrong)
    });
    let ask = |name: &str, what: &[&str]| {
        let folder = net.path(name);
        let args = [what, &["--dir", folder.to_str().unwrap()]].concat();
        net.run(&args).done()
    };
    let reach = until("both addresses to be tried", || {
        let reach: Value = ask("coordinator", &["net", "reach", "--json"]).json();
        let all = reach["addresses"].as_array().unwrap();
        let tried = all.iter().filter(|of| of["tested"] != "untested").count();
        (tried == 2).then_some(reach)
    });
    let tested = |address: &str| {
        let mut all = reach["addresses"].as_array().unwrap().iter();
        all.find(|of| of["address"] == address).unwrap()["tested"].clone()
    };
    assert_eq!(tested(right)["reached"]["by"], tester.as_str());
    let not = &tested(wrong)["not_reached"];
    assert_eq!(not["by"], tester.as_str());
    assert_eq!(not["why"], "other_node");
    let text = ask("coordinator", &["net", "reach"]);
    assert!(text.text().contains("no: another node answers there"));
    let status = ask("coordinator", &["status"]);
    let line = format!("reach     reachable at {right}, tried by ..");
    assert!(status.text().contains(&line), "{}", status.text());
    terminal.until_found(1);
    let status = ask("terminal", &["status"]);
    let line = "reach     listens on nothing: dials out only (that is fine for a terminal)";
    assert!(status.text().contains(line), "{}", status.text());
}
