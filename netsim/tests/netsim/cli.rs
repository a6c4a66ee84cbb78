//! The `netsim` program as its users see it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn netsim(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command
        .args(args)
        .output()
        .expect("the program can be started")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the program writes text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("the program writes text")
}

/// Runs what must succeed, and returns its standard output.
fn done(args: &[&str]) -> String {
    let output = netsim(args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// Runs what must be refused as wrong usage, and returns its standard error.
fn refused(args: &[&str]) -> String {
    let output = netsim(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    stderr(&output)
}

fn runs(json: &str) -> Vec<Value> {
    json.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

#[test]
fn list_shows_every_scenario_with_its_size() {
    let text = done(&["list"]);
    for name in ["hello", "office", "flash-crowd", "everything", "scale"] {
        assert!(text.lines().any(|line| line == name), "{name}");
    }
    assert!(text.contains("1 coordinator, 10 terminals, 1 task, 200 units; at most 30 min"));
    let json = runs(&done(&["list", "--json"]));
    assert_eq!(json[0]["name"], "hello");
    assert_eq!(json[0]["units"], 200);
}

#[test]
fn a_run_says_what_it_was_for_people_and_for_programs() {
    let text = done(&["run", "hello", "--seed", "7"]);
    assert!(text.starts_with("hello, seed 7\n"), "{text}");
    let run = &runs(&done(&["run", "hello", "--seed", "7", "--json"]))[0];
    assert_eq!(
        (&run["scenario"], &run["seed"]),
        (&"hello".into(), &7.into())
    );
    let hash = run["trace_hash"].as_str().unwrap();
    assert!(hash.len() == 64 && text.contains(hash));
    assert!(run["virtual_seconds"].as_f64().unwrap() > 20.0);
    assert!(run["wall_seconds"].as_f64().unwrap() > 0.0);
    let oracles = run["oracles"].as_array().unwrap();
    assert!(oracles.iter().all(|oracle| oracle["finding"].is_null()));
    assert!(oracles.iter().any(|oracle| oracle["name"] == "right"));
}

#[test]
fn a_run_is_a_function_of_scenario_and_seed() {
    for scenario in ["hello", "everything"] {
        let hashes = |seeds: &str| -> Vec<Value> {
            let json = done(&["run", scenario, "--seeds", seeds, "--json"]);
            let hash = |run: &Value| run["trace_hash"].clone();
            runs(&json).iter().map(hash).collect()
        };
        let (first, again) = (hashes("3..6"), hashes("3..6"));
        assert_eq!(first, again, "{scenario}");
        assert!(first[0] != first[1] && first[1] != first[2], "{scenario}");
    }
}

#[test]
fn many_seeds_come_in_their_order_and_on_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("hello.html");
    let page = page.to_str().unwrap();
    let output = netsim(&["run", "hello", "--seeds", "5..9", "--report", page]);
    assert_eq!(output.status.code(), Some(0));
    let seeds: Vec<String> = stdout(&output)
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(seeds, ["5", "6", "7", "8"]);
    assert!(stderr(&output).contains("4 runs, 0 failed"));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") || html.starts_with("<!doctype html>"));
    assert!(html.contains("hello") && html.contains("seed 8"));
}

#[test]
fn a_file_is_run_like_a_scenario_of_the_program() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/hello.toml");
    let hash = |scenario: &str| runs(&done(&["run", scenario, "--json"]))[0]["trace_hash"].clone();
    assert_eq!(hash(file.to_str().unwrap()), hash("hello"));
}

#[test]
fn a_finding_names_the_run_and_the_story() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late.toml");
    // Who could compute it is there, but the world ends before.
    let late = "about = \"x\"\nuntil = \"1 min\"\nsettle = \"1 s\"\n[[coordinators]]\n\
        [[terminals]]\ncount = 3\n[[tasks]]\nunits = 1\nunit_time = \"1 h\"";
    std::fs::write(&file, late).unwrap();
    let file = file.to_str().unwrap();
    let output = netsim(&["run", file, "--seeds", "1..3"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("FAILED"));
    let text = stderr(&output);
    assert!(text.contains("seed 2: ends at "), "{text}");
    assert!(text.contains("2 runs, 2 failed"), "{text}");
    assert!(
        text.contains(&format!("netsim run {file} --seed 2")),
        "{text}"
    );
}

#[test]
fn the_story_of_a_unit_leads_from_the_customer_to_the_result() {
    let story = done(&["explain", "hello", "--seed", "1", "--unit", "0/3"]);
    let told = [
        "submits task",
        "has cut its input into 200 units",
        "leases it to terminal",
        "has run it: done",
        "has the vote of terminal",
        "has validated it: done",
        "outvoted: nobody",
        "has put all outputs together",
        "customer 3 has the result",
    ];
    let mut rest = story.split_whitespace().collect::<Vec<_>>().join(" ");
    for what in told {
        let (_, after) = rest
            .split_once(what)
            .unwrap_or_else(|| panic!("{what}: {story}"));
        rest = after.to_owned();
    }
    assert!(
        story.lines().all(|line| line.chars().count() <= 80),
        "{story}"
    );
}

#[test]
fn the_story_of_a_device_tells_its_coming_its_work_and_its_lies() {
    let story = done(&["explain", "hello", "--device", "5"]);
    for what in [
        "terminal 5 starts",
        "is connected to coordinator 0",
        "is leased unit",
        "more pulls",
    ] {
        assert!(story.contains(what), "{what}: {story}");
    }
    let story = done(&["explain", "everything", "--device", "27"]);
    assert!(story.contains("is outvoted on unit"), "{story}");
}

#[test]
fn stories_tell_of_receipts_of_money_and_of_forks() {
    let told = |args: &[&str], expected: &[&str]| {
        let story = done(&[&["explain"], args].concat());
        let words = story.split_whitespace().collect::<Vec<_>>().join(" ");
        for what in expected {
            assert!(words.contains(what), "{what}: {story}");
        }
    };
    told(
        &["hello", "--unit", "0/3"],
        &[
            "coordinator 0 has paid terminal",
            "keeps receipt",
            "the task is settled, durably",
        ],
    );
    // Node 0 is the coordinator; two bootstrap nodes and three customers follow, then the terminals.
    told(
        &["receipts", "--device", "6"],
        &[
            "is paid for unit",
            "keeps receipt",
            "which is right",
            "1.00 EUR are paid out for terminal 6, durably",
        ],
    );
    told(
        &["receipts", "--device", "7"],
        &["of terminal 7 is taken back, durably"],
    );
    told(
        &["receipts", "--device", "0"],
        &[
            "0.20 EUR are given back to customer 3, durably",
            "points leave escrow",
            "gossips the head of its log",
        ],
    );
    let fork = "has the evidence that the log of coordinator 1 has forked, and leaves it";
    told(
        &["forked-log", "--device", "7"],
        &["hears a head of the log of coordinator 1", fork],
    );
}

#[test]
fn bad_values_are_named_and_say_what_to_do() {
    let text = refused(&["run", "helo"]);
    assert!(
        text.contains("\"helo\"") && text.contains("there is hello"),
        "{text}"
    );
    let text = refused(&["run", "no/such.toml"]);
    assert!(text.contains("read no/such.toml"), "{text}");
    for seeds in ["4", "9..3", "a..b"] {
        let text = refused(&["run", "hello", "--seeds", seeds]);
        assert!(text.contains("--seeds") && text.contains(seeds), "{text}");
    }
    let text = refused(&["run", "hello", "--report", "/no/such/folder/x.html"]);
    assert!(
        text.contains("/no/such/folder/x.html") && text.contains("hint:"),
        "{text}"
    );
    let text = refused(&["explain", "hello"]);
    assert!(
        text.contains("--unit") && text.contains("--device"),
        "{text}"
    );
    let text = refused(&["explain", "hello", "--unit", "0/200"]);
    assert!(text.contains("200 units"), "{text}");
    let text = refused(&["explain", "hello", "--unit", "9999/0"]);
    assert!(text.contains("find the task \"9999\""), "{text}");
    let text = refused(&["explain", "hello", "--device", "14"]);
    assert!(text.contains("14 nodes"), "{text}");
    let text = refused(&["run", "helo", "--json"]);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["error"]["code"], "usage");
}

#[test]
fn a_bad_scenario_shows_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(
        &file,
        "about = \"x\"\nuntil = \"1 h\"\n[[coordinators]]\ncuont = 2\n",
    )
    .unwrap();
    let text = refused(&["run", file.to_str().unwrap()]);
    assert!(text.contains("line 4") && text.contains("cuont"), "{text}");
}
