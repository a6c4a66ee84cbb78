//! The command line's answers, as people and programs see them.

use std::cell::Cell;

use tally_ledger::cli::{
    AnswerError, COLUMNS, EntriesQuery, EntryName, LedgerAnswer, LedgerQuery, Order, answer,
    ask_for_all, render,
};
use tally_ledger::store::Store;
use tally_netsim::disk::Disk;
use tally_protocol::entry::{Ending, Event};
use tally_protocol::signed::Verified;

use crate::support::{accepted, commit, customer_key, signed, store, story, task};

/// Two tasks: one as it should be, one with a name that is trouble for a terminal.
fn ledger() -> Store {
    let open = store(&Disk::default());
    commit(&open, story("count words"));
    let task = signed(task("\x1b[2J and a name that goes on and on"));
    let ending = Ending::Failed("no computer had enough memory for unit 17 of it".to_owned());
    let failed = Event::TaskEnded {
        task: task.task_id(),
        ending,
    };
    commit(&open, vec![accepted(&task), failed]);
    open
}

fn entries(order: Order) -> EntriesQuery {
    EntriesQuery {
        from: 0,
        to: None,
        task: None,
        owner: None,
        device: None,
        limit: 50,
        order,
    }
}

/// Asks, checks that the answer survives its way as JSON, and returns it as text of at most 80 columns.
fn shown(open: &Store, query: &LedgerQuery) -> String {
    let query: LedgerQuery = serde_json::from_str(&serde_json::to_string(query).unwrap()).unwrap();
    let answer = answer(open, None, &query).unwrap();
    let json = serde_json::to_string(&answer).unwrap();
    let read: LedgerAnswer = serde_json::from_str(&json).unwrap();
    assert_eq!(read, answer);
    let text = render(&read);
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
        assert!(!line.contains('\x1b'));
    }
    text
}

fn show(sequence: u64) -> LedgerQuery {
    let entry = EntryName::Sequence(sequence);
    LedgerQuery::Show { entry }
}

fn sequences(answer: &LedgerAnswer) -> Vec<u64> {
    let LedgerAnswer::Entries(page) = answer else {
        panic!("{answer:?} lists no entries");
    };
    page.rows.iter().map(|row| row.sequence).collect()
}

#[test]
fn entries_are_a_table() {
    let text = shown(
        &ledger(),
        &LedgerQuery::Entries(entries(Order::OldestFirst)),
    );
    assert_eq!(text, include_str!("cli/entries.txt"));
}

#[test]
fn every_kind_of_entry_is_shown() {
    let open = ledger();
    let all: String = [0, 1, 3, 5]
        .map(|sequence| shown(&open, &show(sequence)))
        .join("\n");
    assert_eq!(all, include_str!("cli/show.txt"));
    let missing = answer(&open, None, &show(6));
    assert!(matches!(
        missing,
        Err(AnswerError::NoSuchEntry {
            sequence: 6,
            size: 6
        })
    ));
}

#[test]
fn a_verdict_is_clear() {
    let good = shown(&ledger(), &LedgerQuery::Verify);
    let open = ledger();
    let foreign = Verified::sign(task("one"), &"main".parse().unwrap(), &customer_key());
    commit(&open, vec![accepted(&foreign)]);
    let bad = shown(&open, &LedgerQuery::Verify);
    assert_eq!(format!("{good}\n{bad}"), include_str!("cli/verify.txt"));
    // What does not verify is still listed and shown.
    let query = LedgerQuery::Entries(entries(Order::NewestFirst));
    assert!(shown(&open, &query).contains("its signature does not hold"));
    let whole = shown(&open, &show(6));
    assert!(whole.contains("does not hold"), "{whole}");
}

#[test]
fn entries_are_found_by_range_order_and_task() {
    let open = ledger();
    let found = |query| sequences(&answer(&open, None, &LedgerQuery::Entries(query)).unwrap());
    let (oldest, newest) = (entries(Order::OldestFirst), entries(Order::NewestFirst));
    assert_eq!(found(newest.clone()), [5, 4, 3, 2, 1, 0]);
    let middle = EntriesQuery {
        from: 2,
        to: Some(4),
        ..newest
    };
    assert_eq!(found(middle.clone()), [3, 2]);
    let backwards = EntriesQuery {
        from: 4,
        to: Some(2),
        ..middle
    };
    assert!(found(backwards).is_empty());
    let id = signed(task("count words")).task_id();
    for digits in [3, 8, 9, 64] {
        let task = id.to_string()[..digits].to_uppercase().parse().unwrap();
        let query = EntriesQuery {
            task: Some(task),
            ..oldest.clone()
        };
        assert_eq!(found(query), [0, 1, 2, 3], "{digits} digits");
    }
}

#[test]
fn a_long_answer_comes_in_pages() {
    let open = store(&Disk::default());
    for number in 0..600 {
        commit(&open, story(&number.to_string()));
    }
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let asked = Cell::new(0);
        let query = LedgerQuery::Entries(EntriesQuery {
            from: 100,
            limit: 2_150,
            ..entries(order)
        });
        let all = ask_for_all(query, |query| {
            asked.set(asked.get() + 1);
            commit(&open, story(&format!("meanwhile {}", asked.get())));
            answer(&open, None, query)
        });
        assert_eq!(asked.get(), 3);
        let mut found = sequences(&all.unwrap());
        assert_eq!(found.len(), 2_150);
        if order == Order::NewestFirst {
            found.reverse();
        }
        assert!(found.windows(2).all(|two| two[0] + 1 == two[1]));
    }
}
