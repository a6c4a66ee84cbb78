//! `tally --help`, of every command.

use crate::net;

/// Columns of a usual terminal.
const COLUMNS: usize = 100;

/// Commands whose help shows the commands below them.
const GROUPS: [&str; 12] = [
    "", "key", "task", "program", "account", "net", "ledger", "wallet", "receipt", "redeem",
    "license", "service",
];

#[test]
fn help_of_every_command_fits_and_names_its_options() {
    let net = net();
    let mut commands = vec![
        vec!["demo"],
        vec!["run"],
        vec!["status"],
        vec!["enroll"],
        vec!["start"],
    ];
    for group in GROUPS {
        let path: Vec<&str> = group.split_whitespace().collect();
        let help = net.run(&[&path[..], &["--help"]].concat()).done();
        let listed = help.text().split("Commands:").nth(1).unwrap().to_owned();
        let listed = listed.split("\n\n").next().unwrap().to_owned();
        let mut count = 0;
        // A long description goes on in the next line, further to the right.
        let is_command = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        for line in listed.lines().filter(is_command) {
            let name = line.split_whitespace().next().unwrap();
            count += 1;
            if !path.is_empty() && name != "help" {
                let name: &'static str = name.to_owned().leak();
                commands.push(vec![path[0], name]);
            }
        }
        assert!(count > 1, "{group}: {}", help.text());
        commands.push(path);
    }
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let help = net.run(&[&command[..], &["--help"]].concat()).done();
        for line in help.text().lines() {
            assert!(line.chars().count() <= COLUMNS, "{command:?}: {line}");
        }
        for option in ["Usage: tally", "--json", "--dir"] {
            assert!(help.text().contains(option), "{command:?} has no {option}");
        }
        assert!(help.stderr.is_empty(), "{}", help.stderr);
    }
}

#[test]
fn what_is_no_command_is_wrong_usage() {
    let net = net();
    for args in [
        &["demos"][..],
        &["task", "submit"],
        &["run"],
        &["ledger", "show", "x"],
        &[],
    ] {
        let ran = net.run(args);
        assert_eq!(ran.exit(), 2, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("Usage:") || ran.stderr.contains("For more information"));
        assert!(ran.stdout.is_empty());
    }
    let version = net.run(&["--version"]).done();
    assert_eq!(
        version.text().trim(),
        concat!("tally ", env!("CARGO_PKG_VERSION"))
    );
}
