//! Tasks, entries and stores to test with.

use std::ops::Range;

use ed25519_dalek::SigningKey;
use redb::{Database, TableDefinition};
use tally_ledger::store::{Change, CommitError, Committed, Draft, Identity, Store};
use tally_netsim::disk::Disk;
use tally_protocol::entry::{Ending, Event, ValidatedUnit};
use tally_protocol::id::{BlobId, Hash, NodeId};
use tally_protocol::signed::Verified;
use tally_protocol::task::{BlobRef, Quorum, Task};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Outcome;

use crate::example;

pub(crate) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(crate) const NODES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("nodes");
pub(crate) const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
pub(crate) const FORMAT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("format");

pub(crate) const CREATED: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) fn identity() -> Identity {
    Identity {
        network: "test".parse().unwrap(),
        node: NodeId::from_bytes([1; 32]),
    }
}

pub(crate) fn store(disk: &Disk) -> Store {
    Store::on_backend(disk.clone(), &identity(), CREATED).unwrap()
}

/// Opens the file below the ledger, to look at it or to tamper with it.
pub(crate) fn raw(disk: &Disk) -> Database {
    Database::builder()
        .create_with_backend(disk.clone())
        .unwrap()
}

pub(crate) fn commit(store: &Store, events: Vec<Event>) {
    let draft = |event| Draft::of(CREATED, event);
    commit_drafts(store, events.into_iter().map(draft).collect()).unwrap();
}

pub(crate) fn commit_drafts(store: &Store, events: Vec<Draft>) -> Result<Committed, CommitError> {
    store.commit(Change {
        events,
        ..Change::default()
    })
}

pub(crate) fn task(name: &str) -> Task {
    let key = customer_key();
    let two = Quorum {
        agree: 2,
        error_max: 3,
        total_max: 8,
    };
    Task {
        customer: NodeId::from_bytes(key.verifying_key().to_bytes()),
        created: CREATED,
        quorum: two,
        ..example::task(name)
    }
}

pub(crate) fn signed(task: Task) -> Verified<Task> {
    Verified::sign(task, &identity().network, &customer_key())
}

pub(crate) fn accepted(task: &Verified<Task>) -> Event {
    Event::TaskAccepted {
        task: task.task_id(),
        signed: task.signed().clone(),
    }
}

pub(crate) fn validated(task: &Verified<Task>, units: Range<u32>) -> Event {
    Event::BatchValidated {
        task: task.task_id(),
        device: NodeId::from_bytes([2; 32]),
        batch: Hash::from_bytes([3; 32]),
        units: units.map(unit).collect(),
    }
}

pub(crate) fn ended(task: &Verified<Task>) -> Event {
    Event::TaskEnded {
        task: task.task_id(),
        ending: Ending::Done(BlobRef::of(b"result")),
    }
}

/// A task from acceptance to its end: four entries.
pub(crate) fn story(name: &str) -> Vec<Event> {
    let task = signed(task(name));
    vec![
        accepted(&task),
        validated(&task, 0..3),
        validated(&task, 3..5),
        ended(&task),
    ]
}

fn unit(unit: u32) -> ValidatedUnit {
    ValidatedUnit {
        unit,
        outcome: if unit == 1 {
            Outcome::Exit(3)
        } else {
            Outcome::Done
        },
        fuel: 123_456_789,
        input_bytes: 5,
        pixels: 0,
        output: BlobRef {
            id: BlobId::of(b"output"),
            bytes: 6,
        },
        agreed: vec![NodeId::from_bytes([2; 32]), NodeId::from_bytes([4; 32])],
        outvoted: vec![NodeId::from_bytes([5; 32])],
    }
}

pub(crate) fn customer_key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}
