//! `tally ledger`, through the node while it runs and from its file when it does not.

use serde_json::Value;
use tally_protocol::message::customer::TaskStatus;
use tally_tests::job::Job;

use crate::net;

#[test]
fn ledger_entries_show_and_verify_say_the_same_with_and_without_the_node() {
    let mut net = net();
    let coordinator = net.start_coordinator();
    let _terminal = net.start_terminal("terminal");
    let job = Job::builtin("wordcount").text("a b\nc").agree(1);
    let status: TaskStatus = net.submit("customer", &job).wait().done().json();
    let folder = net.path("coordinator");
    let ask = |args: &[&str]| {
        net.run(&[&["ledger"], args, &["--dir", folder.to_str().unwrap()]].concat())
    };
    let prefix = status.summary.task.to_string()[..8].to_owned();
    let questions: [&[&str]; 5] = [
        &["entries", "--json"],
        &["entries", "--task", &prefix, "--newest", "--limit", "2"],
        &["show", "0", "--json"],
        &["show", "1"],
        &["verify", "--json"],
    ];
    let answers: Vec<Vec<u8>> = questions
        .iter()
        .map(|args| ask(args).done().stdout)
        .collect();
    let failure = ask(&["show", "99", "--json"]).failure();
    assert!(failure.message.contains("show entry 99"), "{failure:?}");
    coordinator.stop();
    for (args, through_node) in questions.iter().zip(&answers) {
        assert_eq!(&ask(args).done().stdout, through_node, "{args:?}");
    }
    let failure = ask(&["show", "99", "--json"]).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    assert!(failure.hint.contains("tally ledger entries"), "{failure:?}");

    let entries: Value = serde_json::from_slice(&answers[0]).unwrap();
    let kinds: Vec<&str> = entries["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["event"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        (kinds[0], *kinds.last().unwrap()),
        ("rate_card_published", "task_settled")
    );
    assert!(kinds.contains(&"batch_validated"), "{kinds:?}");
    let newest = String::from_utf8(answers[1].clone()).unwrap();
    assert!(
        newest.lines().all(|line| line.chars().count() <= 100),
        "{newest}"
    );
}

#[test]
fn ledger_says_when_there_is_none_and_when_it_was_changed() {
    let mut net = net();
    let coordinator = net.start_coordinator();
    let _terminal = net.start_terminal("terminal");
    let job = Job::builtin("wordcount").text("a b\nc").agree(1);
    let _ = net.submit("customer", &job).wait().done();
    coordinator.stop();
    let file = net.path("coordinator/coordinator.redb");
    let verify = |file: &std::path::Path| {
        net.run(&[
            "ledger",
            "verify",
            "--json",
            "--file",
            file.to_str().unwrap(),
        ])
    };
    let _ = verify(&file).done();
    let failure = verify(&net.path("nothing.redb")).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    // The name of the task stands in the first entry; changing a letter breaks the signature and the tree.
    let mut bytes = std::fs::read(&file).unwrap();
    let name = b"a test";
    let mut changed = 0;
    for at in 0..bytes.len() - name.len() {
        if &bytes[at..at + name.len()] == name {
            bytes[at] = b'b';
            changed += 1;
        }
    }
    assert!(changed > 0);
    let copy = net.write("changed.redb", bytes);
    let ran = verify(&copy);
    assert!(ran.exit() == 6 || ran.exit() == 1, "{}", ran.stderr);
    assert!(!ran.failure().hint.is_empty());
}
