//! `tally key`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tally_protocol::id::NodeId;

use crate::net;

#[test]
fn key_new_makes_a_key_once() {
    let net = net();
    let folder = net.path("node");
    let new = ["key", "new", "--json", "--dir", folder.to_str().unwrap()];
    let made: Value = net.run(&new).done().json();
    let node: NodeId = made["node"].as_str().unwrap().parse().unwrap();
    let key = folder.join("key");
    assert_eq!(made["file"].as_str(), key.to_str());
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&folder)), (0o600, 0o700));
    let failure = net.run(&new).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (1, "failed"));
    assert!(
        failure.message.contains("a key is never overwritten"),
        "{failure:?}"
    );
    assert!(failure.hint.contains("--dir"), "{failure:?}");
    let shown = net
        .run(&["key", "show", "--dir", folder.to_str().unwrap()])
        .done();
    assert_eq!(shown.text(), format!("{node}\n"));
}

#[test]
fn key_show_says_when_there_is_none() {
    let net = net();
    let folder = net.path("nobody");
    let failure = net
        .run(&["key", "show", "--json", "--dir", folder.to_str().unwrap()])
        .failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    assert!(
        failure.message.contains("make one with `tally key new`"),
        "{failure:?}"
    );
}

#[test]
fn key_backup_copies_the_key_to_a_file_that_only_its_owner_reads() {
    let net = net();
    let node = net.new_key("node");
    let (folder, copy) = (net.path("node"), net.path("backup"));
    let backup = [
        "key",
        "backup",
        copy.to_str().unwrap(),
        "--dir",
        folder.to_str().unwrap(),
    ];
    let ran = net.run(&backup).done();
    assert!(
        ran.stderr.contains("whoever has this file is this node"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        net.run(&backup).exit(),
        1,
        "a backup is not overwritten either"
    );
    // The copy is a key: in another folder it is the same node.
    let other = net.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(&copy, other.join("key")).unwrap();
    let shown = net
        .run(&["key", "show", "--dir", other.to_str().unwrap()])
        .done();
    assert_eq!(shown.text().trim(), node.to_string());
}
