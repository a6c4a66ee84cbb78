//! The layers of the workspace.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// Who may link what: each layer builds without what belongs to those above it.
#[test]
fn each_crate_links_only_what_belongs_to_its_layer() {
    let cases: [(&str, &[&str]); 5] = [
        ("tally-protocol", &["tokio", "libp2p", "redb", "wasmtime"]),
        ("tally-ledger", &["tokio", "libp2p", "wasmtime"]),
        (
            "tally-netsim",
            &["tally_node", "libp2p", "wasmtime", "tokio"],
        ),
        ("tally-imaging", &["libp2p", "redb", "wasmtime", "tokio"]),
        (
            "tally-host",
            &["tally_protocol", "libp2p", "redb", "wasmtime"],
        ),
    ];
    for (package, banned) in cases {
        let linked = linked(package, &[]);
        for name in banned {
            assert!(!linked.contains(*name), "{package} links {name}");
        }
    }
}

#[test]
fn only_the_sandbox_links_wasmtime() {
    assert!(linked("tally-sandbox", &[]).contains("wasmtime"));
    for package in [
        "tally-protocol",
        "tally-ledger",
        "tally-imaging",
        "tally-host",
        "tally-netsim",
        "tally-node",
    ] {
        let direct = linked(package, &["--depth", "1"]);
        assert!(
            !direct.contains("wasmtime"),
            "{package} links wasmtime itself"
        );
    }
}

/// A vendor's application that checks its license gets this crate and what it stands on, which has to stay little.
#[test]
fn an_application_that_checks_its_license_links_little() {
    let linked = linked("tally-protocol", &[]);
    assert!(linked.len() <= 50, "{} libraries: {linked:?}", linked.len());
}

/// Returns the names of the libraries that end up in a package.
fn linked(package: &str, more: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{lib}", "--package", package])
        .args(more)
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let names = String::from_utf8(tree.stdout).unwrap();
    let names = names.lines().filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
