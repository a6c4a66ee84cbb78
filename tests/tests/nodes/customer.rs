//! Customers that vanish and come back.

use rustix::process::Signal;
use tally_protocol::message::customer::{Phase, TaskStatus, TaskSummary};
use tally_tests::job::Job;
use tally_tests::until;

use crate::net;

#[test]
fn a_customer_that_vanishes_after_the_upload_comes_back_for_the_result() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let job = Job::builtin("wordcount").text("a b\nc d").agree(1);
    let submitted = net.submit("customer", &job);
    let task = until("a task whose input is there", || {
        let summary = coordinator.tasks().first()?.clone();
        (summary.phase == Phase::Running).then_some(summary.task)
    });
    submitted.signal(Signal::KILL);
    assert_eq!(submitted.wait().exit(), -9);
    let _terminal = net.start_terminal("terminal");
    until("the end of the task", || {
        (coordinator.task(task).summary.phase == Phase::Done).then_some(())
    });
    // Its book knows the task by the start of its id.
    let ran = net.run(&[
        "task",
        "result",
        &task.to_string()[..6],
        "--dir",
        net.path("customer").to_str().unwrap(),
        "--network",
        "test",
        "--no-mdns",
    ]);
    assert_eq!(ran.done().stdout, b"4\n");
    let listed: Vec<TaskSummary> = net.run_task("customer", &["list"]).done().json();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].task, &listed[0].phase), (task, &Phase::Done));
}

#[test]
fn an_upload_that_was_cut_off_goes_on_where_it_was() {
    // Large enough that a customer can be killed half way. Zero bytes: no word, and no space on the customer's disk.
    const BYTES: u64 = 256 << 20;
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let file = net.write("input.bin", "");
    let sparse = std::fs::File::options().write(true).open(&file);
    sparse.and_then(|file| file.set_len(BYTES)).unwrap();
    let job = Job::builtin("wordcount")
        .file(&file)
        .split("by = \"bytes\"\nbytes = \"32 MiB\"")
        .agree(1);
    let submitted = net.submit("customer", &job);
    let task = until("a quarter of the upload", || {
        let task = coordinator.tasks().first()?.task;
        let status = coordinator.task(task);
        assert_eq!(
            status.summary.phase,
            Phase::Uploading,
            "the upload is too fast for this test"
        );
        let (arrived, all) = status.uploaded;
        (arrived > all / 4).then_some(task)
    });
    submitted.signal(Signal::KILL);
    assert_eq!(submitted.wait().exit(), -9);
    let args = ["watch", &task.to_string()];
    let _terminal = net.start_terminal("terminal");
    let status: TaskStatus = net.run_task("customer", &args).done().json();
    assert_eq!(status.summary.phase, Phase::Done);
    let received = coordinator.counter("blob.bytes_in");
    // What had arrived was not sent again; a little may have been under way.
    assert!(received < BYTES + BYTES / 8, "{received} bytes for {BYTES}");
    assert_eq!(status.summary.units, 8);
}
