//! The ledger as a file: what is written is whole, what was changed is found, and hledger takes it.

use std::process::Command;

use proptest::prelude::*;
use tally_ledger::audit::Finding;
use tally_ledger::cli::{COLUMNS, LedgerAnswer, LedgerQuery, LogHead, Pages, Period, answer};
use tally_ledger::export::{
    ExportError, ExportProblem, ExportReport, Format, check_export, export,
};
use tally_ledger::store::{Change, Store};
use tally_netsim::disk::Disk;
use tally_protocol::account::{Account, Commodity};
use tally_protocol::time::Timestamp;

use crate::books_cli::{Books, Wrong, books, same};
use crate::coordinator;
use crate::example::{self, Example, coordinator_key, identity, stray};

impl Books {
    fn head(&self, before: Option<Timestamp>) -> LogHead {
        match self.ask(&LedgerQuery::Head { before }).unwrap() {
            LedgerAnswer::Head(head) => head,
            other => panic!("{other:?}"),
        }
    }

    fn export(&self, format: Format, period: Period) -> Result<Vec<u8>, Wrong> {
        let head = self.head(period.to);
        let mut out = Vec::new();
        let pages = Pages::new(0..head.size, |query: &LedgerQuery| {
            Ok::<_, Wrong>(self.ask(query)?)
        });
        export((format, period), &head, pages, &mut out)?;
        Ok(out)
    }

    fn text(&self, format: Format, period: Period) -> String {
        String::from_utf8(self.export(format, period).unwrap()).unwrap()
    }
}

const ALL: Period = Period {
    from: None,
    to: None,
};

fn check(bytes: &[u8]) -> ExportReport {
    let mut told = 0;
    let report = check_export(identity().node, || Ok(bytes), &mut |progress| {
        assert!((told..=progress.total).contains(&progress.done));
        told = progress.done;
    });
    let report = report.unwrap();
    let text = report.render();
    assert!(
        text.lines().all(|line| line.chars().count() <= COLUMNS),
        "{text}"
    );
    report
}

fn finding(bytes: &[u8]) -> Finding<ExportProblem> {
    check(bytes).finding.unwrap()
}

/// Returns which entry has the line in which this byte is; none for the head.
fn entry_at(bytes: &[u8], at: usize) -> Option<u64> {
    let lines = bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    lines.checked_sub(1)
}

#[test]
fn an_export_is_verified_with_a_key_alone() {
    let books = books();
    let bytes = books.export(Format::Jsonl, ALL).unwrap();
    let report = check(&bytes);
    assert!(report.is_sound(), "{}", report.render());
    same("export", &report.render());
    let head = books.store.head().unwrap();
    assert_eq!((report.entries, report.root), (head.size(), head.root()));
    assert_eq!(report.network, Some(identity().network));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ExportReport>(&json).unwrap(), report);
    // Of another coordinator it is not the log.
    let other = check_export(stray(), || Ok(bytes.as_slice()), &mut |_| ()).unwrap();
    let problem = other.finding.unwrap().problem;
    assert!(
        matches!(problem, ExportProblem::OtherLog { .. }),
        "{problem}"
    );
}

#[test]
fn an_export_of_the_past_is_whole_too() {
    let books = books();
    for entry in [0, 1, 7, 14, 19] {
        let to = Some(books.example.drafts[entry].at);
        let bytes = books
            .export(Format::Jsonl, Period { from: None, to })
            .unwrap();
        let report = check(&bytes);
        assert!(report.is_sound(), "{}", report.render());
        assert_eq!(report.entries, entry as u64);
    }
    let from = Some(example::START);
    let refused = books.export(Format::Jsonl, Period { from, to: None });
    assert!(format!("{refused:?}").contains("whole log"));
    let keyless = answer(&books.store, None, &LedgerQuery::Head { before: None });
    let LedgerAnswer::Head(head) = keyless.unwrap() else {
        panic!("no head");
    };
    let none = std::iter::empty::<Result<_, ExportError>>();
    let refused = export((Format::Jsonl, ALL), &head, none, &mut Vec::new());
    assert!(matches!(refused, Err(ExportError::NoCheckpoint)));
}

#[test]
fn lines_that_are_missing_swapped_or_too_many_are_found() {
    let books = books();
    let text = books.text(Format::Jsonl, ALL);
    let lines: Vec<&str> = text.lines().collect();
    let without = |gone: usize| {
        let mut lines = lines.clone();
        lines.remove(gone);
        finding((lines.join("\n") + "\n").as_bytes())
    };
    assert_eq!(without(0).sequence, None);
    assert_eq!(without(6).sequence, Some(5));
    assert_eq!(without(6).problem, ExportProblem::Readable);
    assert_eq!(without(20).sequence, Some(19));
    assert_eq!(without(20).problem, ExportProblem::Missing);
    let mut swapped = lines.clone();
    swapped.swap(3, 9);
    let found = finding((swapped.join("\n") + "\n").as_bytes());
    assert_eq!(found.sequence, Some(2));
    let found = finding((text.clone() + lines[1] + "\n").as_bytes());
    assert_eq!(found.problem, ExportProblem::BeyondTheEnd);
    assert_eq!(finding(text.trim_end().as_bytes()).sequence, Some(19));
    let newer = text.replacen("\"tally_ledger_export\":2", "\"tally_ledger_export\":3", 1);
    let problem = finding(newer.as_bytes()).problem;
    assert_eq!(problem, ExportProblem::Format { found: 3 });
    assert_eq!(finding(b"").sequence, None);
}

#[test]
fn an_entry_that_was_replaced_with_all_that_follows_from_it_is_not_what_was_signed() {
    let books = books();
    let mut drafts = books.example.drafts.clone();
    drafts[9].at = drafts[9].at + std::time::Duration::from_millis(1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forged.redb");
    let forged = Store::create_or_open(&file, &identity(), example::START).unwrap();
    for draft in drafts {
        let events = vec![draft];
        let change = Change {
            events,
            ..Change::default()
        };
        forged.commit(change).unwrap();
    }
    let head = LogHead {
        root: forged.head().unwrap().root(),
        ..books.head(None)
    };
    let pages = Pages::new(0..head.size, |query: &LedgerQuery| {
        Ok::<_, Wrong>(answer(&forged, Some(&coordinator_key()), query)?)
    });
    let mut out = Vec::new();
    export((Format::Jsonl, ALL), &head, pages, &mut out).unwrap();
    let problem = finding(&out).problem;
    assert!(
        matches!(problem, ExportProblem::OtherLog { .. }),
        "{problem}"
    );
    // With the head of the true log in front of it.
    let text = String::from_utf8(out).unwrap();
    let truth = books.text(Format::Jsonl, ALL);
    let forged = format!(
        "{}\n{}",
        truth.split_once('\n').unwrap().0,
        text.split_once('\n').unwrap().1
    );
    let problem = finding(forged.as_bytes()).problem;
    assert!(matches!(problem, ExportProblem::Root { .. }), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_flipped_byte_is_found_and_its_entry_named(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = JSONL.with(Clone::clone);
        let at = at.index(bytes.len());
        let entry = entry_at(&bytes, at);
        bytes[at] ^= flip;
        prop_assert_eq!(finding(&bytes).sequence, entry);
    }
}

thread_local! {
    static JSONL: Vec<u8> = books().export(Format::Jsonl, ALL).unwrap();
}

#[test]
fn csv_has_a_line_for_each_transfer_that_adds_up_to_the_books() {
    let books = books();
    let text = books.text(Format::Csv, ALL);
    let mut lines = text.split_terminator("\r\n");
    let columns = lines.next().unwrap().split(',').count();
    let mut sums = std::collections::BTreeMap::new();
    for line in lines.clone() {
        // Nothing of the example is quoted.
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), columns, "{line}");
        let amount: i128 = fields[12].parse().unwrap();
        if matches!(fields[7], "move" | "post") {
            *sums
                .entry([fields[8], fields[10]].map(str::to_owned))
                .or_insert(0) -= amount;
            *sums
                .entry([fields[9], fields[10]].map(str::to_owned))
                .or_insert(0) += amount;
        }
    }
    for ((account, commodity), balance) in books.example.books.balances() {
        let found = sums.remove(&[account.to_string(), commodity.to_string()]);
        assert_eq!(found.unwrap_or(0), balance.posted(), "{account}");
    }
    assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
    let postings = books
        .example
        .drafts
        .iter()
        .filter_map(|draft| draft.posting.as_ref());
    let transfers: usize = postings.map(|posting| posting.transfers.len()).sum();
    assert_eq!(lines.count(), transfers);
}

/// Runs hledger over a journal; `None` where there is none and nobody can expect it.
fn hledger(journal: &str, args: &[&str]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("books.journal");
    std::fs::write(&file, journal).unwrap();
    let ran = Command::new("hledger")
        .arg("-f")
        .arg(&file)
        .args(args)
        .output();
    let Ok(ran) = ran else {
        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        assert_ne!(user, b"0\n", "hledger is missing: apt-get install hledger");
        println!("not run: hledger is missing (sudo apt-get install hledger)");
        return None;
    };
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "hledger {args:?}: {error}\n{journal}");
    Some(String::from_utf8(ran.stdout).unwrap())
}

#[test]
fn hledger_accepts_the_journal_and_comes_to_the_same_balances() {
    let books = books();
    let middle = books.example.drafts[12].at;
    let periods = [
        ALL,
        Period {
            from: Some(middle),
            to: None,
        },
        Period {
            from: None,
            to: Some(middle),
        },
        Period {
            from: Some(Timestamp::from_millis(4_000_000_000_000)),
            to: None,
        },
    ];
    for period in periods {
        let journal = books.text(Format::Hledger, period);
        for args in [
            &["check"] as &[&str],
            &["check", "-s"],
            &["check", "ordereddates"],
        ] {
            if hledger(&journal, args).is_none() {
                return;
            }
        }
        let mut expected = Example::tell().books_at(period.to);
        for (args, value) in [
            (
                &["bal", "--flat", "-N", "-R", "-O", "csv"] as &[&str],
                posted as Value,
            ),
            (&["bal", "--flat", "-N", "-O", "csv"], available),
        ] {
            let told = hledger(&journal, args).unwrap();
            assert_eq!(
                told_by(&told),
                wanted(&mut expected, value),
                "{told}\n{journal}"
            );
        }
    }
}

type Value = fn(&tally_protocol::books::Balance) -> i128;

fn posted(balance: &tally_protocol::books::Balance) -> i128 {
    balance.posted()
}

/// What hledger shows with its virtual postings: what is to come is there already.
fn available(balance: &tally_protocol::books::Balance) -> i128 {
    balance.available() + i128::from(balance.pending_credits)
}

/// Reads `"account","amount commodity"`, an amount for each commodity.
fn told_by(csv: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in csv.lines().skip(1) {
        let (account, amounts) = line.trim_matches('"').split_once("\",\"").unwrap();
        for amount in amounts.split(", ") {
            found.push((account.to_owned(), amount.to_owned()));
        }
    }
    found.sort();
    found
}

fn wanted(books: &mut tally_protocol::books::Books, value: Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for ((account, commodity), balance) in books.balances() {
        let amount = -value(balance);
        if amount != 0 {
            let amount = match commodity {
                Commodity::Points => amount.to_string(),
                Commodity::Money(_) => commodity.show(amount),
            };
            found.push((account.to_string(), format!("{amount} {commodity}")));
        }
    }
    found.sort();
    found
}

impl Example {
    /// Returns the books as they were before a moment.
    fn books_at(&self, to: Option<Timestamp>) -> tally_protocol::books::Books {
        let mut books = tally_protocol::books::Books::default();
        let before = |at| to.is_none_or(|to| at < to);
        for draft in self.drafts.iter().filter(|draft| before(draft.at)) {
            if let Some(posting) = &draft.posting {
                books.post(draft.at, posting).unwrap();
            }
        }
        books
    }
}

#[test]
fn the_journal_says_what_it_is_about() {
    let books = books();
    let journal = books.text(Format::Hledger, ALL);
    assert!(
        journal.contains("(6) receipted  ; entry:6, receipt:"),
        "{journal}"
    );
    assert!(journal.contains("(1) deposited: bank-1001  ; entry:1, posting:"));
    let held = format!(
        "    [{}]  10.00 EUR\n",
        Account::Customer(example::customer())
    );
    assert!(journal.contains(&held), "{journal}");
    assert!(journal.contains("commodity 1000. upt\ncommodity 1000.00 EUR\n"));
    assert!(journal.contains("account money:outside  ; type:C\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever a coordinator does, its export is sound; whatever byte is changed on the way, it is not, and the entry
    /// is named.
    #[test]
    fn an_export_of_any_ledger_is_sound_and_any_other_is_not(
        seed in any::<u64>(),
        steps in 0..60_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 8),
    ) {
        let disk = Disk::default();
        let open = coordinator::store(&disk);
        let events = coordinator::Coordinator::new(seed).steps(steps);
        open.commit(Change { events, ..Change::default() }).unwrap();
        let key = coordinator::own_key();
        let ask = |query: &LedgerQuery| Ok::<_, Wrong>(answer(&open, Some(&key), query)?);
        let LedgerAnswer::Head(head) = ask(&LedgerQuery::Head { before: None }).unwrap() else {
            panic!("no head");
        };
        let (mut bytes, node) = (Vec::new(), head.coordinator);
        let count = export((Format::Jsonl, ALL), &head, Pages::new(0..head.size, ask), &mut bytes);
        prop_assert_eq!(count.unwrap(), head.size);
        let check = |bytes: &[u8]| check_export(node, || Ok(bytes), &mut |_| ()).unwrap();
        let report = check(&bytes);
        prop_assert!(report.is_sound(), "{}", report.render());
        prop_assert_eq!((report.entries, report.root), (head.size, head.root));
        for (at, flip) in flips {
            let (at, mut changed) = (at.index(bytes.len()), bytes.clone());
            changed[at] ^= flip;
            prop_assert_eq!(check(&changed).finding.unwrap().sequence, entry_at(&bytes, at));
        }
        // hledger and csv take it too.
        for format in [Format::Csv, Format::Hledger] {
            let entries = Pages::new(0..head.size, ask);
            export((format, ALL), &head, entries, &mut Vec::new()).unwrap();
        }
    }
}
