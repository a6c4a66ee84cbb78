//! The books: `docs/ledger.md` is what `tally` says, from a file and through an hledger.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "tests and their helpers: what cannot go on says where, and what was left out is told"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use tally_ledger::store::Store;
use tally_tests::run::Running;

#[path = "../../../ledger/tests/ledger/example.rs"]
mod example;

/// The page with the worked example.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ledger.md");

/// Makes the worked example, with the coordinator's key beside it.
fn make_example(folder: &Path) {
    let folder = folder.join("example");
    std::fs::create_dir(&folder).unwrap();
    tally_node::keys::write(&folder.join("key"), &example::coordinator_key()).unwrap();
    let file = folder.join("coordinator.redb");
    let store = Store::create_or_open(&file, &example::identity(), example::START).unwrap();
    example::fill(&store);
}

fn tally(folder: &Path, args: &[&str]) -> tally_tests::run::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tally-under-test"));
    command.args(args).current_dir(folder).env_clear();
    Running::start(&mut command).wait()
}

/// Runs the commands of one block and returns the block as it should be.
fn run_block(folder: &Path, block: &str) -> String {
    let mut found = String::new();
    for story in block.split("$ ").filter(|story| !story.is_empty()) {
        let (command, content) = story.split_once('\n').unwrap_or((story, ""));
        writeln!(found, "$ {command}").unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            ["tally", ref args @ ..] => {
                let ran = tally(folder, args);
                found.push_str(std::str::from_utf8(&ran.stdout).unwrap());
            }
            // A file that the page shows is there from then on.
            ["cat", file] => {
                std::fs::write(folder.join(file), content).unwrap();
                found.push_str(content);
            }
            _ => panic!("{command}"),
        }
    }
    found
}

#[test]
fn ledger_md_is_what_tally_says() {
    let folder = tempfile::tempdir().unwrap();
    make_example(folder.path());
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut found = String::new();
    let mut rest = page.as_str();
    let mut blocks = 0;
    while let Some((before, block)) = rest.split_once("```console\n") {
        let (block, behind) = block.split_once("```\n").unwrap();
        write!(
            found,
            "{before}```console\n{}```\n",
            run_block(folder.path(), block)
        )
        .unwrap();
        (rest, blocks) = (behind, blocks + 1);
    }
    found.push_str(rest);
    assert!(blocks > 8);
    if std::env::var_os("TALLY_SNAPSHOTS").is_some() {
        std::fs::write(PAGE, &found).unwrap();
    }
    for (said, shown) in found.lines().zip(page.lines()) {
        assert_eq!(said, shown);
    }
    assert_eq!(found, page);
}

#[test]
fn what_is_wrong_in_the_books_is_an_exit_code_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    make_example(folder.path());
    let file = "example/coordinator.redb";
    let ask = |args: &[&str]| {
        let args = [&["ledger"], args, &["--json", "--file", file]].concat();
        tally(folder.path(), &args)
    };
    let coordinator = example::identity().node.to_string();
    let other = example::stray().to_string();
    let _ = ask(&["export", "--format", "jsonl", "--out", "books.jsonl"]).done();
    let verify = |file: &str, key: &str| {
        tally(
            folder.path(),
            &["ledger", "verify", "--json", "--export", file, "--key", key],
        )
    };
    let _ = verify("books.jsonl", &coordinator).done();
    assert_eq!(verify("books.jsonl", &other).failure().exit, 6);
    let mut bytes = std::fs::read(folder.path().join("books.jsonl")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join("changed.jsonl"), bytes).unwrap();
    let changed = verify("changed.jsonl", &coordinator);
    assert_eq!(changed.failure().exit, 6);
    let report: serde_json::Value = serde_json::from_slice(&changed.stdout).unwrap();
    assert!(report["finding"]["sequence"].is_u64(), "{report}");

    std::fs::write(
        folder.path().join("bank.csv"),
        "reference,amount,currency\n",
    )
    .unwrap();
    let failure = ask(&["reconcile", "--payments", "bank.csv"]).failure();
    assert_eq!(failure.exit, 1);
    let failure = ask(&["receipt", &"0".repeat(64)]).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    let failure = ask(&["export", "--format", "jsonl", "--from", "2026-01-06"]).failure();
    assert!(failure.hint.contains("--from"), "{failure:?}");
    let _ = ask(&["rebuild", "--write"]).done();
    let _ = ask(&["audit"]).done();
    // Without the key nothing is signed.
    std::fs::remove_file(folder.path().join("example/key")).unwrap();
    let failure = ask(&["prove", "6"]).failure();
    assert!(failure.hint.contains("--key-file"), "{failure:?}");
    let _ = ask(&["export", "--format", "csv", "--out", "books.csv"]).done();
}

/// Runs hledger; `None` where there is none and nobody can expect it.
fn hledger(folder: &Path, args: &[&str]) -> Option<()> {
    let ran = Command::new("hledger")
        .args(args)
        .current_dir(folder)
        .output();
    let Ok(ran) = ran else {
        assert!(
            !rustix::process::getuid().is_root(),
            "hledger is missing: apt-get install hledger"
        );
        println!("not run: hledger is missing (sudo apt-get install hledger)");
        return None;
    };
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "hledger {args:?}: {error}");
    Some(())
}

#[test]
fn hledger_checks_the_journal_strictly() {
    let folder = tempfile::tempdir().unwrap();
    make_example(folder.path());
    for period in [
        &[] as &[&str],
        &["--from", "2026-01-06"],
        &["--to", "2026-01-06"],
    ] {
        let export = [
            "ledger",
            "export",
            "--format",
            "hledger",
            "--out",
            "books.journal",
            "--file",
            "example/coordinator.redb",
        ];
        let _ = tally(folder.path(), &[&export, period].concat()).done();
        for check in [&["check"] as &[&str], &["check", "-s"]] {
            let args = [&["-f", "books.journal"], check].concat();
            if hledger(folder.path(), &args).is_none() {
                return;
            }
        }
    }
}
