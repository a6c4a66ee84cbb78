//! Bytes that are stored for ever. A change here is a new format.

use redb::ReadableDatabase;
use tally_netsim::disk::Disk;
use tally_protocol::codec;
use tally_protocol::entry::{Ending, Entry, Event};

use crate::support::{self, CREATED, commit, raw, signed, store, story, task};

fn entry(event: Event) -> Entry {
    Entry {
        sequence: 1,
        at: CREATED,
        event,
        posting: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn entries() {
    let [accepted, validated, _, done] = story("golden").try_into().unwrap();
    let task = signed(task("golden")).task_id();
    let failed = Event::TaskEnded {
        task,
        ending: Ending::Failed("why".to_owned()),
    };
    let cancelled = Event::TaskEnded {
        task,
        ending: Ending::Cancelled,
    };
    let found = [accepted, validated, done, failed, cancelled]
        .map(|event| hex(&codec::to_bytes(&entry(event))));
    assert_eq!(
        found.join("\n"),
        include_str!("golden/entries.hex").trim_end()
    );
}

#[test]
fn format_and_head() {
    let disk = Disk::default();
    commit(&store(&disk), story("golden"));
    let database = raw(&disk);
    let transaction = database.begin_read().unwrap();
    let format = transaction.open_table(support::FORMAT).unwrap();
    let head = transaction.open_table(support::HEAD).unwrap();
    let found = [
        hex(format.get("tally").unwrap().unwrap().value()),
        hex(head.get("frontier").unwrap().unwrap().value()),
    ];
    assert_eq!(found.join("\n"), include_str!("golden/rows.hex").trim_end());
}
