//! Which files are opened, and what is said of the others.

use std::path::Path;

use redb::{Database, TableDefinition};
use tally_ledger::store::{FORMAT, Identity, OpenError, Reader, Store};
use tally_netsim::disk::Disk;
use tally_protocol::codec;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::time::Timestamp;

use crate::support::{self, CREATED, commit, identity, raw, store, story};

fn open(path: &Path, identity: &Identity) -> Result<Store, OpenError> {
    Store::create_or_open(path, identity, CREATED)
}

#[test]
fn a_file_is_for_one_network_and_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let made = open(&path, &identity()).unwrap();
    assert_eq!((made.identity(), made.created()), (&identity(), CREATED));
    drop(made);
    let other_network = Identity {
        network: "main".parse().unwrap(),
        ..identity()
    };
    let error = open(&path, &other_network).unwrap_err();
    assert!(matches!(error, OpenError::Network { .. }));
    let said = "it is of network test, this node is of main";
    assert!(error.to_string().ends_with(said), "{error}");
    let other_node = Identity {
        node: NodeId::from_bytes([7; 32]),
        ..identity()
    };
    let error = open(&path, &other_node).unwrap_err();
    assert!(matches!(error, OpenError::Node { .. }));
    open(&path, &identity()).unwrap();
}

#[test]
fn one_process_writes_or_some_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let missing = Reader::open(&path).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }));
    assert!(!path.exists());
    let writer = open(&path, &identity()).unwrap();
    commit(&writer, story("one"));
    let locked = |error: OpenError| matches!(error, OpenError::Locked { .. });
    assert!(locked(open(&path, &identity()).unwrap_err()));
    assert!(locked(Reader::open(&path).unwrap_err()));
    drop(writer);
    let readers = [Reader::open(&path).unwrap(), Reader::open(&path).unwrap()];
    assert_eq!(readers[1].head().unwrap().size(), 4);
    assert_eq!(readers[0].identity(), &identity());
    assert!(locked(open(&path, &identity()).unwrap_err()));
}

#[test]
fn what_is_no_ledger_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a ledger at all, but long enough ".repeat(500)).unwrap();
    let other = folder.path().join("other.redb");
    let table: TableDefinition<'_, u64, u64> = TableDefinition::new("format");
    let database = Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    for path in [&text, &other, &folder.path().to_owned()] {
        let before = std::fs::read(path).ok();
        for error in [
            open(path, &identity()).unwrap_err(),
            Reader::open(path).unwrap_err(),
        ] {
            assert!(matches!(error, OpenError::NotALedger { .. }), "{error:?}");
        }
        if path == &text {
            assert_eq!(std::fs::read(path).ok(), before);
        }
    }
}

/// A format row as another version may write it.
#[derive(serde::Serialize)]
struct OtherRow {
    format: u32,
    network: NetworkId,
    colour: &'static str,
}

#[test]
fn another_version_is_refused_by_its_number() {
    for (found, said) in [(FORMAT + 1, "newer"), (FORMAT - 1, "older")] {
        let disk = Disk::default();
        drop(store(&disk));
        let row = codec::to_bytes(&OtherRow {
            format: found,
            network: identity().network,
            colour: "blue",
        });
        let database = raw(&disk);
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(support::FORMAT).unwrap();
        table.insert("tally", row.as_slice()).unwrap();
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        let error = Store::on_backend(disk, &identity(), CREATED).unwrap_err();
        assert!(matches!(error, OpenError::Format { found: version, .. } if version == found));
        assert!(error.hint().contains(said));
    }
}

#[test]
fn a_file_whose_tables_were_never_made_is_new() {
    let disk = Disk::default();
    drop(raw(&disk));
    assert_eq!(store(&disk).created(), CREATED);
    let later = Timestamp::from_millis(1);
    let again = Store::on_backend(disk, &identity(), later).unwrap();
    assert_eq!(again.created(), CREATED);
}

#[test]
fn what_a_crash_left_of_a_new_file_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let new = folder.path().join("ledger.redb.new");
    std::fs::write(&new, [0; 8_192]).unwrap();
    drop(open(&path, &identity()).unwrap());
    assert!(path.exists() && !new.exists());
    std::fs::rename(&path, &new).unwrap();
    open(&path, &identity()).unwrap();
    assert!(path.exists() && !new.exists());
}
