//! Full disks, power cuts and killed processes: what was confirmed is there, whatever happens.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use tally_ledger::store::{Change, CommitError, Draft, Reader, Store};
use tally_ledger::{audit, rebuild};
use tally_netsim::chance::Chance;
use tally_netsim::disk::Disk;
use tally_protocol::books::Books;
use tally_protocol::entry::Event;
use tally_protocol::time::Timestamp;

use crate::coordinator::{self, Coordinator};
use crate::model::{Model, Work};
use crate::support::{CREATED, commit_drafts, identity, store, story};

/// How many crash points a test tries.
const SEEDS: u64 = 150;
/// What a run does if nothing stops it.
const WORK: usize = 25;

/// Works until the disk, on which `fault` comes up, fails; returns the state after the last success, and after the
/// step that failed.
fn work(
    disk: &Disk,
    chance: &mut Chance,
    fault: impl FnOnce(&Disk, &mut Chance),
) -> (Model, Model, Option<CommitError>) {
    let (open, mut model) = (store(disk), Model::default());
    fault(disk, chance);
    for _ in 0..WORK {
        let work = Work::random(chance);
        let mut next = model.clone();
        next.run(&work);
        if let Err(error) = work.run(&open) {
            let refused = open.commit(Change {
                facts: vec![vec![1]],
                ..Change::default()
            });
            assert!(matches!(refused, Err(CommitError::Stopped)));
            return (model, next, Some(error));
        }
        model = next;
    }
    (model.clone(), model, None)
}

/// Opens the disk again, checks what is there, and works on.
fn recover(disk: &Disk, (before, after): (&Model, &Model), chance: &mut Chance, seed: u64) {
    let open = store(disk);
    let mut found = Model::of(&open);
    assert!(
        found == *before || found == *after,
        "seed {seed}: the state is that of no commit"
    );
    let work = Work::random(chance);
    work.run(&open).unwrap();
    found.run(&work);
    assert_eq!(Model::of(&open), found, "seed {seed}");
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_confirmed() {
    let whole = Disk::default();
    work(&whole, &mut Chance::new(0, "ledger", 0), |_, _| ());
    let used = whole.used();
    let steps = used.writes + used.syncs;
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed, "ledger", 0);
        let disk = Disk::default();
        let fault = |disk: &Disk, chance: &mut Chance| disk.set_power(chance.below(steps));
        let (before, after, _) = work(&disk, &mut chance, fault);
        let image = disk.after_power_cut(&mut chance);
        recover(&image, (&before, &after), &mut chance, seed);
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_confirmed() {
    let mut full = 0;
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed, "ledger", 0);
        let disk = Disk::default();
        let fault = |disk: &Disk, chance: &mut Chance| disk.set_space(Some(chance.below(2 << 20)));
        let (before, after, error) = work(&disk, &mut chance, fault);
        if let Some(error) = error {
            assert!(
                matches!(error, CommitError::DiskFull(_)),
                "seed {seed}: {error:?}"
            );
            full += 1;
        }
        disk.set_space(None);
        recover(&disk, (&before, &after), &mut chance, seed);
    }
    assert!(full > SEEDS / 3, "the disk was full {full} times only");
}

#[test]
fn a_power_cut_leaves_the_books_where_the_log_stands() {
    let steps = {
        let (disk, mut coordinator) = (Disk::default(), Coordinator::new(0));
        commit_all(&disk, &mut coordinator, |_| ());
        disk.used().writes + disk.used().syncs
    };
    for seed in 0..SEEDS / 3 {
        let mut chance = Chance::new(seed, "books", 0);
        let (disk, mut coordinator) = (Disk::default(), Coordinator::new(seed));
        let power = chance.below(steps);
        let worked = commit_all(&disk, &mut coordinator, |disk| disk.set_power(power));
        is_recovered(&disk.after_power_cut(&mut chance), &worked, seed);
    }
}

#[test]
fn a_full_disk_leaves_the_books_where_the_log_stands() {
    let (mut full, mut receipts) = (0, 0);
    for seed in 0..SEEDS / 3 {
        let mut chance = Chance::new(seed, "books", 0);
        let (disk, mut coordinator) = (Disk::default(), Coordinator::new(seed));
        let space = chance.below(3 << 20);
        let worked = commit_all(&disk, &mut coordinator, |disk| disk.set_space(Some(space)));
        if let Some((events, error)) = &worked.failed {
            assert!(
                matches!(error, CommitError::DiskFull(_)),
                "seed {seed}: {error:?}"
            );
            full += 1;
            let is_receipt = |draft: &Draft| matches!(draft.event, Event::Receipted { .. });
            receipts += u64::from(events.iter().any(is_receipt));
        }
        disk.set_space(None);
        is_recovered(&disk, &worked, seed);
    }
    assert!(full > SEEDS / 6, "the disk was full {full} times only");
    assert!(receipts > 0, "no receipt was among what did not fit");
}

/// Opens the disk again: entries, postings and balances are those of one commit, and the coordinator goes on.
fn is_recovered(disk: &Disk, worked: &Worked, seed: u64) {
    let open = coordinator::store(disk);
    let found = (open.head().unwrap().size(), open.books().unwrap());
    assert!(
        found == worked.confirmed || found == worked.tried,
        "seed {seed}: books of no commit"
    );
    let rebuilt = rebuild::check(&open, &mut |_| ()).unwrap();
    assert_eq!(rebuilt.differences, 0, "seed {seed}: {:?}", rebuilt.first);
    let report = audit::audit(&open, &mut |_| ()).unwrap().report;
    assert!(report.is_sound(), "seed {seed}: {report:?}");
    let Some((events, _)) = &worked.failed else {
        return;
    };
    if found == worked.confirmed {
        commit_drafts(&open, events.clone()).unwrap();
    }
    assert_eq!(open.books().unwrap(), worked.tried.1, "seed {seed}");
}

/// What a coordinator did until the disk failed: entries and books after the last success, and after what failed.
struct Worked {
    confirmed: (u64, Books),
    tried: (u64, Books),
    failed: Option<(Vec<Draft>, CommitError)>,
}

/// Commits what a coordinator does until the disk fails.
fn commit_all(disk: &Disk, coordinator: &mut Coordinator, fault: impl FnOnce(&Disk)) -> Worked {
    let open = coordinator::store(disk);
    fault(disk);
    let (mut confirmed, mut failed) = ((0, Books::default()), None);
    let mut size = 0;
    for _ in 0..40 {
        let events = coordinator.steps(5);
        size += events.len() as u64;
        if let Err(error) = commit_drafts(&open, events.clone()) {
            failed = Some((events, error));
            break;
        }
        confirmed = (size, coordinator.books.clone());
    }
    Worked {
        confirmed,
        tried: (size, coordinator.books.clone()),
        failed,
    }
}

#[test]
fn an_entry_that_is_too_long_changes_nothing() {
    let open = store(&Disk::default());
    let task = crate::support::signed(crate::support::task("long"));
    let refused = open.commit(Change {
        facts: vec![vec![1]],
        events: vec![Draft::of(
            CREATED,
            crate::support::validated(&task, 0..8_000),
        )],
        ..Change::default()
    });
    assert!(matches!(refused, Err(CommitError::EntryTooLong { .. })));
    assert_eq!(Model::of(&open), Model::default());
    crate::support::commit(&open, story("short"));
    assert_eq!(open.head().unwrap().size(), 4);
}

/// Names the file for the process that [`a_killed_process_loses_nothing_that_it_confirmed`] kills.
const CHILD_FILE: &str = "TALLY_LEDGER_TEST_FILE";

#[test]
fn a_killed_process_loses_nothing_that_it_confirmed() {
    if let Some(path) = std::env::var_os(CHILD_FILE) {
        commit_for_ever(path.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let mut confirmed = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("crash::a_killed_process_loses_nothing_that_it_confirmed")
            .env(CHILD_FILE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sizes = lines.filter_map(|line| line.unwrap().strip_prefix("size ")?.parse().ok());
        confirmed = sizes.take(20 * round).last().unwrap();
        // While it runs, nobody else gets at the file.
        let locked = Store::create_or_open(&path, &identity(), CREATED).unwrap_err();
        assert!(locked.hint().contains("the node is running"), "{locked}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A reader needs no repair, so it can look before the node runs again.
    let report = audit::verify(&Reader::open(&path).unwrap(), &mut |_| ()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(report.entries >= confirmed);
    assert_eq!(report.entries % 4, 0, "half a change was committed");
    let open = Store::create_or_open(&path, &identity(), CREATED).unwrap();
    assert_eq!(open.head().unwrap().root(), report.root);
}

fn commit_for_ever(path: &std::path::Path) -> ! {
    let open = Store::create_or_open(path, &identity(), CREATED).unwrap();
    loop {
        let at = Timestamp::from_millis(open.head().unwrap().size());
        let events = story(&at.as_millis().to_string());
        let change = Change {
            events: events
                .into_iter()
                .map(|event| Draft::of(at, event))
                .collect(),
            ..Change::default()
        };
        println!("size {}", open.commit(change).unwrap().tree_size);
    }
}
