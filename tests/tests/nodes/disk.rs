//! Disks that are full, or that may not be filled further.

use tally_protocol::id::TaskId;
use tally_protocol::message::customer::{Phase, TaskSummary};
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::node::Node;
use tally_tests::run::Running;
use tally_tests::until;

use crate::net;

/// Starts a coordinator none of whose files may grow beyond `kib`: to a program this is a disk that is full.
fn start_on_full_disk(net: &Net, kib: u64) -> Node {
    let tally = net.tally(&[]).get_program().to_str().unwrap().to_owned();
    // The signal would kill; ignored, the write fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
    let mut command = net.command("bash");
    command.args(["-c", &script, &tally]);
    net.coordinator("coordinator").start_with(command)
}

#[test]
fn a_coordinator_whose_disk_is_full_stops_and_has_lost_nothing_that_it_took() {
    let mut net = net();
    let mut coordinator = start_on_full_disk(&net, 2_048);
    net.bootstrap(&mut coordinator);
    // Each task takes a few kilobytes of the database: an argument makes it large.
    let padding = "x".repeat(8 << 10);
    let mut taken: Vec<TaskId> = Vec::new();
    let mut number = 0;
    while coordinator.is_running() {
        number += 1;
        assert!(number < 400, "the disk does not fill");
        let job = Job::builtin("wordcount")
            .text(&number.to_string())
            .args(&[&padding]);
        let path = net.write("job.toml", job.to_string());
        let mut command = net.task(
            "customer",
            &["submit", "--coordinator", net.first_address()],
        );
        let mut submitted = Running::start(command.arg(path));
        until("an answer, or the end of the coordinator", || {
            (!submitted.is_running() || !coordinator.is_running()).then_some(())
        });
        if !coordinator.is_running() {
            break;
        }
        let ran = submitted.wait();
        if ran.exit() == 0 {
            taken.push(
                ran.json::<tally_protocol::message::customer::TaskStatus>()
                    .summary
                    .task,
            );
        }
    }
    let log = coordinator.log();
    assert_eq!(coordinator.ended().code(), Some(1), "{log}");
    let error = log
        .lines()
        .find(|line| line.starts_with("error: failed to"));
    assert!(
        error.is_some_and(|line| line.contains("disk") || line.contains("space")),
        "{log}"
    );
    assert!(!taken.is_empty());
    drop(coordinator);
    // With space again, all that was taken is there.
    let mut coordinator = net.coordinator("coordinator").start();
    let there: Vec<TaskId> = coordinator.tasks().iter().map(|task| task.task).collect();
    for task in &taken {
        assert!(there.contains(task), "lost {task} of {}", taken.len());
    }
    coordinator.stop();
    let folder = net.path("coordinator");
    let _ = net
        .run(&["ledger", "verify", "--dir", folder.to_str().unwrap()])
        .done();
}

#[test]
fn an_input_that_the_disk_has_no_room_for_fails_its_task_and_nothing_else() {
    let mut net = net();
    let mut coordinator = start_on_full_disk(&net, 3_072);
    net.bootstrap(&mut coordinator);
    let _terminal = net.start_terminal("terminal");
    let large = net.write("large.txt", "word\n".repeat(1 << 20));
    let job = Job::builtin("wordcount")
        .file(&large)
        .split("by = \"lines\"\nbytes = \"1 MiB\"")
        .agree(1);
    let failure = net.submit("large", &job).wait().failure();
    assert_eq!(failure.exit, 6);
    assert!(failure.message.contains("store a blob"), "{failure:?}");
    let small = Job::builtin("wordcount").text("a b").agree(1);
    let _ = net.submit("small", &small).wait().done();
    assert_eq!(net.result("small"), b"2\n");
}

#[test]
fn the_space_that_a_coordinator_gives_is_a_bound() {
    let mut net = net();
    let mut coordinator = net
        .coordinator("coordinator")
        .config("[coordinator]\ndisk_max = \"1 MiB\"\n")
        .start();
    net.bootstrap(&mut coordinator);
    let _terminal = net.start_terminal("terminal");
    let large = net.write("large.txt", "word\n".repeat(1 << 19));
    let job = Job::builtin("wordcount")
        .file(&large)
        .split("by = \"lines\"\nbytes = \"1 MiB\"")
        .agree(1);
    let failure = net.submit("large", &job).wait().failure();
    assert_eq!(failure.exit, 6);
    assert!(
        failure.message.contains("disk space for tasks is full"),
        "{failure:?}"
    );
    let small = Job::builtin("wordcount").text("a b").agree(1);
    let _ = net.submit("small", &small).wait().done();
    let tasks: Vec<TaskSummary> = coordinator.tasks();
    assert!(
        matches!(tasks[1].phase, Phase::Failed(_)) && tasks[0].phase == Phase::Done,
        "{tasks:?}"
    );
}
