//! A coordinator whose log tells two stories, and the terminal that notices.

use std::path::Path;

use serde_json::Value;
use tally_node::admin::Request;
use tally_node::witness::{LogState, WitnessedLog};
use tally_protocol::checkpoint::SignedCheckpoint;
use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::node::Node;
use tally_tests::until;

use crate::crash::free_address;
use crate::net;

/// The database is set back to a copy of before its last task, as when somebody restores a backup, or wants some work
/// not to have been done. What it signed in between cannot be taken back.
#[test]
fn a_coordinator_that_goes_on_from_an_old_copy_gets_no_more_work_from_who_has_seen_its_log() {
    let mut net = net();
    let _bootstrap = net.start_bootstrap();
    let listen = free_address(&net);
    let mut terminal = net.start_terminal("terminal");
    let (database, copy) = (
        net.path("coordinator/coordinator.redb"),
        net.path("copy.redb"),
    );

    let coordinator = start(&net, &listen);
    done(&net, "first", &["one"]);
    coordinator.stop();
    std::fs::copy(&database, &copy).unwrap();
    let mut coordinator = start(&net, &listen);
    let id = coordinator.id();
    done(&net, "second", &["two", "words"]);
    let size = entries(&net);
    let seen = until("the terminal to see the log with the second task", || {
        let all_of_it =
            |seen: &WitnessedLog| seen.size == size && seen.state == LogState::Consistent;
        witnessed(&mut terminal).filter(all_of_it)
    });
    assert_eq!(seen.log, id);
    coordinator.stop();

    std::fs::copy(&copy, &database).unwrap();
    let _coordinator = start(&net, &listen);
    // Another story, longer than the first.
    let others = ["third", "fourth"].map(|name| net.submit(name, &job(&["more", "words"])));
    let caught = until("the terminal to see the fork", || {
        witnessed(&mut terminal).filter(|seen| seen.state == LogState::Forked)
    });
    let fork = caught.fork.unwrap();
    assert_eq!(fork.heads[0].root, seen.root, "what it was shown before");
    assert_ne!(fork.heads[1].root, seen.root);
    assert!(
        fork.heads[1].size >= seen.size,
        "which did not grow into this"
    );
    assert!(terminal.status().terminal.unwrap().coordinators.is_empty());
    drop(others);

    // Neither does it come back after a restart of both, for whatever task.
    terminal.stop();
    let mut terminal = net.start_terminal("terminal");
    let before = witnessed(&mut terminal).unwrap();
    assert_eq!(before.state, LogState::Forked);
    let id_text = id.to_string();
    until("the terminal to be connected again", || {
        let peers: Value = terminal.answer(&Request::Peers);
        let has_role = |peer: &Value| {
            peer["node"] == id_text.as_str() && peer["roles"] == serde_json::json!(["coordinator"])
        };
        peers.as_array()?.iter().any(has_role).then_some(())
    });
    // Who has never seen the other story does the work, while the one that has sits idle beside it.
    let _newcomer = net.start_terminal("newcomer");
    done(&net, "last", &["somebody", "comes", "for", "this"]);
    let idle = terminal.status().terminal.unwrap();
    assert!(idle.coordinators.is_empty());
    assert_eq!(idle.units, 0);
    shown_to_people(&net, &seen);
}

/// Shows what the operator sees, and that the exported notes are the evidence.
fn shown_to_people(net: &Net, seen: &WitnessedLog) {
    let folder = net.path("terminal");
    let ask = |args: &[&str]| {
        let args = [&["net", "witness", "--dir", folder.to_str().unwrap()], args].concat();
        net.run(&args)
    };
    let file = net.path("fork.txt");
    let logs: Value = ask(&["--json", "--export", file.to_str().unwrap()])
        .done()
        .json();
    let log = &logs.as_array().unwrap()[0];
    assert_eq!(log["state"], "forked");
    assert_eq!(log["origin"], seen.origin.as_str());
    let heads = log["fork"]["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 2);
    assert_eq!(heads[0]["root"], seen.root.to_string().as_str());
    let table = ask(&[]).done();
    assert!(table.text().contains("FORKED"), "{}", table.text());
    let exported = notes(&file);
    for (note, head) in exported.iter().zip(heads) {
        assert_eq!(head["note"], note.as_str());
        let note = SignedCheckpoint::from_note(note.clone());
        let checked = note
            .verify(&tally_tests::net::NETWORK.parse().unwrap())
            .unwrap();
        assert_eq!(checked.log(), seen.log);
        assert_eq!(checked.head().size, head["size"]);
    }
    assert_eq!(exported.len(), 2);
    let stranger = net.new_key("stranger").to_string();
    let failure = ask(&[&stranger, "--json", "--export", file.to_str().unwrap()]).failure();
    assert_eq!(failure.code, "not_found");
}

/// Returns how many entries the log has.
fn entries(net: &Net) -> u64 {
    let folder = net.path("coordinator");
    let args = [
        "ledger",
        "entries",
        "--json",
        "--dir",
        folder.to_str().unwrap(),
    ];
    let answer: Value = net.run(&args).done().json();
    answer["size"].as_u64().unwrap()
}

/// Splits what was exported: each note has one empty line, and one stands between the two.
fn notes(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let parts: Vec<&str> = text.split("\n\n").collect();
    let [one, signed_one, other, signed_other] = parts[..] else {
        panic!("{text}");
    };
    vec![
        format!("{one}\n\n{signed_one}\n"),
        format!("{other}\n\n{signed_other}"),
    ]
}

fn witnessed(terminal: &mut Node) -> Option<WitnessedLog> {
    let logs: Vec<WitnessedLog> = terminal.answer(&Request::Witness);
    logs.into_iter().next()
}

fn start(net: &Net, listen: &str) -> Node {
    net.node("coordinator", "coordinator")
        .args(&["--customers", "any", "--listen", listen])
        .start()
}

/// A task of one unit for each line.
fn job(lines: &[&str]) -> Job {
    Job::builtin("wordcount").text(&lines.join("\n")).agree(1)
}

/// Has a task done.
fn done(net: &Net, customer: &str, lines: &[&str]) {
    let status: TaskStatus = net.submit(customer, &job(lines)).wait().done().json();
    assert_eq!(status.summary.phase, Phase::Done);
}
