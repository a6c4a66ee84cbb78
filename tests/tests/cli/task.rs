//! `tally task`.

use serde_json::Value;
use tally_protocol::message::customer::{Phase, TaskStatus, TaskSummary};
use tally_tests::job::Job;
use tally_tests::until_true;

use crate::net;

#[test]
fn task_estimate_runs_a_sample_here() {
    let net = net();
    let job = Job::builtin("wordcount").text("a b\nc\nd");
    let path = net.write("job.toml", job.to_string());
    let estimate = ["task", "estimate", path.to_str().unwrap()];
    let told: Value = net
        .run(&[&estimate[..], &["--json"]].concat())
        .done()
        .json();
    assert_eq!(told["units"], 3, "{told}");
    assert!(told["fuel"].as_u64().is_some_and(|fuel| fuel > 0), "{told}");
    let text = net.run(&estimate).done();
    assert!(text.text().contains("fuel"), "{}", text.text());
    let failure = net
        .run(&["task", "estimate", "nowhere.toml", "--json"])
        .failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
}

#[test]
fn task_submit_says_who_will_see_the_input_and_ends_after_the_upload() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let job = Job::builtin("wordcount").text("a b").agree(1);
    let path = net.write("job.toml", job.to_string());
    let ran = net
        .run_task("customer", &["submit", path.to_str().unwrap()])
        .done();
    assert!(
        ran.stderr
            .contains("computers of strangers will see this task's program and input")
    );
    let status: TaskStatus = ran.json();
    assert_ne!(status.summary.phase, Phase::Uploading);
    assert_eq!(coordinator.tasks()[0].task, status.summary.task);
}

#[test]
fn task_submit_says_when_nobody_is_found() {
    let net = net();
    let path = net.write("job.toml", Job::builtin("wordcount").text("a").to_string());
    let nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWA9Y7dEx6ZPCDkNY4JxbGLvUHK1XCYxwCPAvN2KFdyYMq";
    let args = ["submit", path.to_str().unwrap(), "--coordinator", nobody];
    let failure = net.run_task("customer", &args).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (5, "unreached"));
    assert!(failure.message.contains("/tcp/1/"), "{failure:?}");
    assert!(failure.hint.contains("--coordinator"), "{failure:?}");
}

#[test]
fn task_list_status_watch_and_result_follow_a_task() {
    let mut net = net();
    let _coordinator = net.start_coordinator();
    let empty: Vec<TaskSummary> = net.run_task("customer", &["list"]).done().json();
    assert!(empty.is_empty());
    let job = Job::builtin("wordcount").text("a b\nc").agree(1);
    let path = net.write("job.toml", job.to_string());
    let args = ["submit", path.to_str().unwrap()];
    let submitted: TaskStatus = net.run_task("customer", &args).done().json();
    let task = submitted.summary.task.to_string();
    let status: TaskStatus = net
        .run_task("customer", &["status", &task[..8]])
        .done()
        .json();
    assert_eq!((status.summary.units, status.summary.done), (2, 0));
    assert!(
        status
            .waiting_for
            .is_some_and(|why| why.contains("terminals: each unit needs 1"))
    );

    let _terminal = net.start_terminal("terminal");
    let watched: TaskStatus = net.run_task("customer", &["watch", &task]).done().json();
    assert_eq!(
        (watched.summary.phase, watched.summary.done),
        (Phase::Done, 2)
    );
    let out = net.path("result");
    let result = ["result", &task, "--out", out.to_str().unwrap()];
    let _ = net.run_task("customer", &result).done();
    assert_eq!(std::fs::read(&out).unwrap(), b"3\n");
    for folder in ["customer", "coordinator"] {
        let listed: Vec<TaskSummary> = net.run_task(folder, &["list"]).done().json();
        assert_eq!(listed.len(), 1, "{folder}");
        assert_eq!((listed[0].done, listed[0].name.as_str()), (2, "a test"));
        let path = net.path(folder);
        let dir = [
            "--dir",
            path.to_str().unwrap(),
            "--network",
            "test",
            "--no-mdns",
        ];
        let table = net.run(&[&["task", "list"], &dir[..]].concat()).done();
        assert!(
            table.text().contains(&task[..8]) && table.text().contains("2/2"),
            "{}",
            table.text()
        );
        let text = net
            .run(&[&["task", "status", &task], &dir[..]].concat())
            .done();
        assert!(text.text().contains("2 of 2 done"), "{}", text.text());
    }
    for command in ["status", "watch", "result", "cancel"] {
        let failure = net.run_task("customer", &[command, "ffff"]).failure();
        assert_eq!(
            (failure.exit, failure.code.as_str()),
            (3, "not_found"),
            "{command}"
        );
        assert!(failure.hint.contains("tally task list"), "{failure:?}");
    }
}

#[test]
fn task_cancel_stops_a_task_of_the_customer_and_of_the_operator() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let path = net.write("job.toml", Job::builtin("wordcount").text("a").to_string());
    for folder in ["customer", "coordinator"] {
        let args = ["submit", path.to_str().unwrap()];
        let submitted: TaskStatus = net.run_task("customer", &args).done().json();
        let task = submitted.summary.task.to_string();
        let cancelled: TaskStatus = net.run_task(folder, &["cancel", &task]).done().json();
        assert_eq!(cancelled.summary.phase, Phase::Cancelled);
        let id = submitted.summary.task;
        until_true("the end", || {
            coordinator.task(id).summary.phase == Phase::Cancelled
        });
        let failure = net.run_task("customer", &["result", &task]).failure();
        assert_eq!((failure.exit, failure.code.as_str()), (6, "unsuccessful"));
        assert!(failure.message.contains("cancelled"), "{failure:?}");
    }
}
