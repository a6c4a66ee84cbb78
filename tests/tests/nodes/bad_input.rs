//! Input that makes no sense, or breaks a bound: an error that says what and what to do, and nothing is lost.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::run::{Failure, Running};

use crate::net;

/// Copies its input to its output, and traps when it reads `!`.
const COPY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 65536))
    (loop $again
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.eq (i32.load8_u (i32.const 65536)) (i32.const 33)) (then unreachable))
      (if (i32.load (i32.const 8))
        (then
          (i32.store (i32.const 4) (i32.load (i32.const 8)))
          (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
          (br $again))))))"#;

/// Never ends.
const ENDLESS: &str =
    "(module (memory (export \"memory\") 1) (func (export \"_start\") (loop $again (br $again))))";

/// Wants to open a connection: no preview 1 has that, WASIX does.
const SOCKETS: &str = r#"(module
  (import "wasi_snapshot_preview1" "sock_open" (func (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")))"#;

/// Wants what nobody has.
const UNKNOWN: &str = r#"(module
  (import "env" "launch" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")))"#;

fn module(net: &Net, name: &str, text: &str) -> PathBuf {
    net.write(name, wat::parse_str(text).unwrap())
}

/// Submits a job that never leaves the customer's computer.
#[track_caller]
fn refused_here(net: &Net, job: &str) -> Failure {
    let path = net.write("job.toml", job);
    let args = ["submit", path.to_str().unwrap()];
    net.run_task("customer", &args).failure()
}

#[test]
fn a_job_that_makes_no_sense_is_refused_before_anybody_is_asked() {
    let net = net();
    let words = Job::builtin("wordcount").text("a b");
    let failure = refused_here(&net, &Job::builtin("wordcont").to_string());
    assert_eq!((failure.exit, failure.code.as_str()), (2, "usage"));
    assert!(failure.message.contains("\"wordcont\""), "{failure:?}");
    assert!(
        failure
            .message
            .contains("gaussian-blur, wordcount, prime-count"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("file ="), "{failure:?}");

    let misspelt = words.clone().split("by = \"lines\"\nline = 1").to_string();
    let failure = refused_here(&net, &misspelt);
    assert_eq!(failure.exit, 2);
    assert!(
        failure.message.contains("unknown field `line`"),
        "{failure:?}"
    );
    assert!(failure.message.contains("line 10"), "{failure:?}");
    assert!(failure.hint.contains("job.toml"), "{failure:?}");

    let failure = refused_here(
        &net,
        &words.clone().file(&net.path("nowhere.txt")).to_string(),
    );
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    assert!(
        failure.message.contains("nowhere.txt: no such file"),
        "{failure:?}"
    );

    let failure = refused_here(&net, &words.agree(0).to_string());
    assert_eq!(failure.exit, 2);
    assert!(failure.message.contains("quorum.agree is 0"), "{failure:?}");
}

#[test]
fn a_program_that_no_terminal_would_run_is_refused_before_anybody_is_asked() {
    let net = net();
    let cases = [
        (
            "sockets.wasm",
            wat::parse_str(SOCKETS).unwrap(),
            "sock_open",
        ),
        ("unknown.wasm", wat::parse_str(UNKNOWN).unwrap(), "launch"),
        ("text.wasm", b"not a module".to_vec(), ""),
    ];
    for (name, module, named) in cases {
        let path = net.write(name, module);
        let failure = refused_here(&net, &Job::module(&path).to_string());
        assert_eq!(
            (failure.exit, failure.code.as_str()),
            (2, "usage"),
            "{failure:?}"
        );
        assert!(
            failure.message.contains("use the program: it"),
            "{failure:?}"
        );
        assert!(failure.message.contains(named), "{failure:?}");
        assert!(failure.hint.contains("tally program check"), "{failure:?}");
        let checked = net.run(&["program", "check", name, "--json"]).failure();
        assert_eq!(checked.exit, 6);
        assert!(checked.message.contains(named), "{checked:?}");
    }
}

/// Preview 1 can only use sockets that it was given, and is given none. Language runtimes import these all the same.
#[test]
fn a_program_that_accepts_connections_is_told_that_there_is_no_socket() {
    let net = net();
    let module = wat::parse_str(
        r#"(module
          (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "_start") (call $exit (call $accept (i32.const 0) (i32.const 0) (i32.const 0)))))"#,
    );
    net.write("accept.wasm", module.unwrap());
    let failure = net
        .run(&["program", "run", "accept.wasm", "--json"])
        .failure();
    assert_eq!(failure.exit, 6);
    // 57 is `notsock`.
    assert!(failure.message.contains("exit code 57"), "{failure:?}");
}

#[test]
fn an_empty_input_is_one_unit_and_has_a_result() {
    let mut net = net();
    let _coordinator = net.start_coordinator();
    let _terminal = net.start_terminal("terminal");
    let empty = net.write("empty.txt", "");
    let job = Job::builtin("wordcount").file(&empty).agree(1);
    let status: TaskStatus = net.submit("customer", &job).wait().done().json();
    assert_eq!((status.summary.units, status.summary.done), (1, 1));
    assert_eq!(net.result("customer"), b"0\n");
}

#[test]
fn an_input_over_the_limit_is_refused_with_both_numbers() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let path = net.write("sparse.bin", "");
    std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(2 << 30))
        .unwrap();
    let job = Job::builtin("wordcount")
        .file(&path)
        .split("by = \"bytes\"\nbytes = \"64 MiB\"");
    let failure = net.submit("customer", &job).wait().failure();
    assert_eq!((failure.exit, failure.code.as_str()), (4, "refused"));
    assert!(
        failure
            .message
            .contains("the input has 2147483648 bytes, this coordinator takes at most 1073741824"),
        "{failure:?}"
    );
    assert!(coordinator.tasks().is_empty());
    assert_eq!(coordinator.counter("customer.invalid_task"), 1);
}

#[test]
fn an_output_over_its_limit_fails_the_task_with_unit_and_reason() {
    let mut net = net();
    let _coordinator = net.start_coordinator();
    let _terminals = [
        net.start_terminal("terminal-1"),
        net.start_terminal("terminal-2"),
    ];
    let copy = module(&net, "copy.wasm", COPY);
    let job = Job::module(&copy)
        .text(&format!("short\n{}\n", "long".repeat(300)))
        .merge("concat")
        .table("limits", "output = \"1 KiB\"");
    let failure = net.submit("customer", &job).wait().failure();
    assert_eq!((failure.exit, failure.code.as_str()), (6, "unsuccessful"));
    assert!(
        failure.message.contains("unit 1: output over its limit"),
        "{failure:?}"
    );
}

#[test]
fn units_that_fail_everywhere_fail_the_task_or_are_left_out() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let _terminals = [
        net.start_terminal("terminal-1"),
        net.start_terminal("terminal-2"),
    ];
    let copy = module(&net, "copy.wasm", COPY);
    let traps = Job::module(&copy).text("fine\n!\nwell\n").merge("concat");
    let failure = net.submit("strict", &traps).wait().failure();
    assert_eq!(failure.exit, 6);
    assert!(
        failure.message.contains("unit 1: trap: unreachable"),
        "{failure:?}"
    );

    let skips = traps.table("failure", "units = \"skip\"");
    let status: TaskStatus = net.submit("lenient", &skips).wait().done().json();
    assert_eq!(status.summary.phase, Phase::Done);
    assert_eq!(net.result("lenient"), b"fine\nwell\n");
    assert_eq!((status.failed_count, status.failed.len()), (1, 1));
    assert!(
        status.failed[&1].contains("trap: unreachable"),
        "{status:?}"
    );

    let endless = module(&net, "endless.wasm", ENDLESS);
    let starves = Job::module(&endless)
        .text("x")
        .table("limits", "fuel = 5000000");
    let failure = net.submit("endless", &starves).wait().failure();
    assert_eq!(failure.exit, 6);
    assert!(
        failure.message.contains("unit 0: out of fuel"),
        "{failure:?}"
    );
    assert_eq!(coordinator.tasks().len(), 3);
}

#[test]
fn a_folder_of_a_newer_format_and_a_key_that_others_may_read_are_left_alone() {
    let net = net();
    let id = net.new_key("node");
    let folder = net.path("node");
    let run = [
        "run",
        "--role",
        "terminal",
        "--json",
        "--dir",
        folder.to_str().unwrap(),
    ];
    let format = net.path("node/format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("format 1", "format 2")).unwrap();
    let failure = net.run(&run).failure();
    assert_eq!(failure.exit, 1);
    assert!(
        failure
            .message
            .contains("its format is 2, this program knows 1"),
        "{failure:?}"
    );
    std::fs::write(&format, text).unwrap();

    let key = net.path("node/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let failure = net.run(&run).failure();
    assert_eq!(failure.exit, 1);
    assert!(
        failure
            .message
            .contains("others may read it (mode 644); run `chmod 600"),
        "{failure:?}"
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shown = net
        .run(&["key", "show", "--dir", folder.to_str().unwrap()])
        .done();
    assert_eq!(shown.text().trim(), id.to_string());
}

#[test]
fn a_name_that_is_no_network_and_a_role_that_does_not_exist_are_wrong_usage() {
    let net = net();
    for (args, said) in [
        (
            ["--role", "terminal", "--network", "Main Net"],
            "1 to 32 of a-z, 0-9, -",
        ),
        (
            ["--role", "landlord", "--network", "main"],
            "possible values: coordinator",
        ),
        (["--role", "terminal", "--listen", "localhost"], "--listen"),
    ] {
        let ran = net.run(&[&["run"], &args[..]].concat());
        assert_eq!(ran.exit(), 2);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let path = net.write("node/tally.toml", "[terminal]\nslot = 2\n");
    let folder = path.parent().unwrap().to_str().unwrap();
    let failure = net
        .run(&["run", "--role", "terminal", "--json", "--dir", folder])
        .failure();
    assert_eq!(failure.exit, 2);
    assert!(
        failure.message.contains("unknown field `slot`"),
        "{failure:?}"
    );
}

#[test]
fn nodes_of_another_network_part_at_once() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let address = coordinator.address();
    let mut command = net.tally(&["task", "submit", "job.toml", "--json", "--no-mdns"]);
    net.write("job.toml", Job::builtin("wordcount").text("a").to_string());
    command
        .args(["--network", "elsewhere", "--dir"])
        .arg(net.path("customer"));
    command.args(["--coordinator", &address]);
    let failure = Running::start(&mut command).wait().failure();
    assert_eq!((failure.exit, failure.code.as_str()), (5, "unreached"));
    assert!(
        failure.message.contains("meet a node of network elsewhere"),
        "{failure:?}"
    );
    assert!(coordinator.tasks().is_empty());
}

#[test]
fn a_coordinator_takes_tasks_of_those_on_its_list_only() {
    let mut net = net();
    let listed = net.new_key("listed");
    let mut coordinator = net
        .node("coordinator", "coordinator")
        .loopback()
        .args(&["--customers", &listed.to_string()])
        .start();
    net.bootstrap(&mut coordinator);
    let _terminal = net.start_terminal("terminal");
    let job = Job::builtin("wordcount").text("a b").agree(1);
    let failure = net.submit("stranger", &job).wait().failure();
    assert_eq!((failure.exit, failure.code.as_str()), (4, "refused"));
    assert!(
        failure.message.contains("not on the node's list"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("tally key show"), "{failure:?}");
    let _ = net.submit("listed", &job).wait().done();
    assert_eq!(net.result("listed"), b"2\n");
    assert_eq!(coordinator.counter("customer.not_admitted"), 1);
}
