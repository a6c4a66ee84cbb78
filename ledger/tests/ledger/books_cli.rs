//! What people ask of the books, and what they are told: one snapshot a command, over the worked example.

use std::fmt::Write as _;

use tally_ledger::cli::{
    AccountStatement, AnswerError, BalanceOf, BalanceQuery, COLUMNS, EntriesQuery, LedgerAnswer,
    LedgerQuery, NodeName, Order, Pages, Party, Period, ProveError, Reconciliation, StatementError,
    UnexpectedAnswer, answer, check_proof, read_payments, reconcile, render, statement,
};
use tally_ledger::store::{Store, StoredEntry};

use crate::example::{self, coordinator_key, customer, identity, owner, stray};

/// The worked example in a file.
pub(crate) struct Books {
    _folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) example: example::Example,
}

pub(crate) fn books() -> Books {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coordinator.redb");
    let store = Store::create_or_open(&file, &identity(), example::START).unwrap();
    let example = example::fill(&store);
    Books {
        _folder: folder,
        store,
        example,
    }
}

/// What may go wrong in a test.
pub(crate) struct Wrong(String);

impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! wrong {
    ($($error:ty),*) => {$(
        impl From<$error> for Wrong {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}
wrong!(
    AnswerError,
    UnexpectedAnswer,
    StatementError,
    tally_ledger::export::ExportError
);

impl Books {
    pub(crate) fn ask(&self, query: &LedgerQuery) -> Result<LedgerAnswer, AnswerError> {
        answer(&self.store, Some(&coordinator_key()), query)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<StoredEntry, Wrong>> {
        let size = self.store.head().unwrap().size();
        Pages::new(0..size, |query: &LedgerQuery| Ok(self.ask(query)?))
    }

    fn balance(&self, of: BalanceOf) -> String {
        self.shown(&LedgerQuery::Balance(BalanceQuery { of, limit: 1_000 }))
    }

    fn statement(&self, party: Party, period: Period) -> AccountStatement {
        statement(&identity().network, (&party, period), self.entries()).unwrap()
    }

    /// Asks, checks that question and answer survive their way as JSON, and returns the answer as text.
    fn shown(&self, query: &LedgerQuery) -> String {
        let json = serde_json::to_string(query).unwrap();
        let query: LedgerQuery = serde_json::from_str(&json).unwrap();
        let answer = self.ask(&query).unwrap();
        let json = serde_json::to_value(&answer).unwrap();
        let read: LedgerAnswer = serde_json::from_value(json).unwrap();
        assert_eq!(read, answer);
        fits(render(&read))
    }
}

fn fits(text: String) -> String {
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    text
}

/// Compares with the file beside, or writes it if the variable says so.
pub(crate) fn same(name: &str, found: &str) {
    let path = format!("{}/cli/{name}.txt", SNAPSHOTS);
    if std::env::var_os("TALLY_SNAPSHOTS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "{path}");
}

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ledger");

fn named(node: tally_protocol::id::NodeId) -> NodeName {
    node.short().parse().unwrap()
}

#[test]
fn every_kind_of_entry_is_listed_and_shown() {
    let books = books();
    let query = EntriesQuery {
        from: 0,
        to: None,
        task: None,
        owner: None,
        device: None,
        limit: 50,
        order: Order::OldestFirst,
    };
    let mut text = books.shown(&LedgerQuery::Entries(query.clone()));
    let only = |owner, device| {
        let query = EntriesQuery {
            owner,
            device,
            ..query.clone()
        };
        match books.ask(&LedgerQuery::Entries(query)).unwrap() {
            LedgerAnswer::Entries(page) => page.rows.iter().map(|row| row.sequence).collect(),
            other => panic!("{other:?}"),
        }
    };
    let of_owner: Vec<u64> = only(Some(named(owner())), None);
    assert_eq!(of_owner, [3, 6, 14, 15, 19]);
    assert_eq!(only(Some(NodeName::Whole(owner())), None), of_owner);
    let of_stray: Vec<u64> = only(None, Some(named(stray())));
    assert_eq!(of_stray, [7, 8, 12, 13, 14, 17, 19]);
    for sequence in 0..books.example.drafts.len() as u64 {
        let entry = sequence.to_string().parse().unwrap();
        let shown = books.shown(&LedgerQuery::Show { entry });
        write!(text, "\n{shown}").unwrap();
    }
    same("books-entries", &text);
}

#[test]
fn balances_are_told_by_commodity() {
    let books = books();
    let text = [
        books.balance(BalanceOf::Prefix(String::new())),
        books.balance(BalanceOf::Prefix("money:".to_owned())),
        books.balance(BalanceOf::Owner(named(owner()))),
        books.balance(BalanceOf::Customer(named(customer()))),
    ];
    same("balance", &text.join("\n"));
    let query = BalanceQuery {
        of: BalanceOf::Prefix(String::new()),
        limit: 3,
    };
    let LedgerAnswer::Balance(page) = books.ask(&LedgerQuery::Balance(query)).unwrap() else {
        panic!("no balance");
    };
    assert_eq!(page.lines.len(), 3);
    assert!(page.count > 3);
    assert!(page.sums.iter().all(|sum| (sum.posted, sum.held) == (0, 0)));
}

#[test]
fn a_receipt_is_told_with_both_halves_and_what_became_of_it() {
    let books = books();
    let text: Vec<String> = books
        .example
        .receipts
        .iter()
        .map(|receipt| books.shown(&LedgerQuery::Receipt { receipt: *receipt }))
        .collect();
    same("receipt", &text.join("\n"));
    let receipt = tally_protocol::id::ReceiptId::from_bytes([9; 32]);
    let missing = books.ask(&LedgerQuery::Receipt { receipt });
    assert!(matches!(missing, Err(AnswerError::NoSuchReceipt { .. })));
}

#[test]
fn a_proof_convinces_somebody_who_has_only_a_key() {
    let books = books();
    let coordinator = identity().node;
    for name in ["6".to_owned(), books.example.receipts[0].to_string()] {
        let entry = name.parse().unwrap();
        let LedgerAnswer::Proof(proof) = books.ask(&LedgerQuery::Prove { entry }).unwrap() else {
            panic!("no proof");
        };
        same("proof", &proof.proof);
        let proved = check_proof(&proof.proof, &proof.entry, coordinator).unwrap();
        assert_eq!((proved.sequence, proved.size), (6, 20));
        assert_eq!(proved.root, books.store.head().unwrap().root());
        let other = check_proof(&proof.proof, &proof.entry, stray());
        assert!(matches!(other, Err(ProveError::OtherLog { .. })));
        for at in 0..proof.entry.len() {
            let mut entry = proof.entry.clone();
            entry[at] ^= 1;
            assert!(check_proof(&proof.proof, &entry, coordinator).is_err());
        }
    }
    let keyless = answer(
        &books.store,
        None,
        &LedgerQuery::Prove {
            entry: "6".parse().unwrap(),
        },
    );
    assert!(matches!(keyless, Err(AnswerError::NoKey { .. })));
    let foreign = answer(
        &books.store,
        Some(&ed25519_dalek::SigningKey::from_bytes(&[9; 32])),
        &LedgerQuery::Prove {
            entry: "6".parse().unwrap(),
        },
    );
    assert!(matches!(foreign, Err(AnswerError::NoKey { .. })));
}

#[test]
fn a_statement_goes_from_balance_to_balance() {
    let books = books();
    let all = Period::default();
    let released = books.example.drafts[14].at;
    let before = Period {
        from: None,
        to: Some(released),
    };
    let after = Period {
        from: Some(released),
        to: None,
    };
    let (owner, customer) = (
        Party::Owner(named(owner())),
        Party::Customer(NodeName::Whole(customer())),
    );
    let text = [
        fits(books.statement(owner.clone(), all).render()),
        fits(books.statement(owner.clone(), before).render()),
        fits(books.statement(customer.clone(), all).render()),
        fits(books.statement(customer.clone(), after).render()),
        fits(
            books
                .statement(Party::Owner("zzzz".parse().unwrap()), all)
                .render(),
        ),
    ];
    same("statement", &text.join("\n"));
    for party in [owner, customer] {
        let [whole, first, second] =
            [all, before, after].map(|period| books.statement(party.clone(), period));
        for section in &whole.sections {
            let of = |statement: &AccountStatement| {
                let mut sections = statement.sections.iter();
                let found = sections.find(|other| other.commodity == section.commodity);
                found
                    .map(|section| (section.opening, section.closing))
                    .unwrap()
            };
            assert_eq!(of(&first).1, of(&second).0);
            assert_eq!(of(&second).1, section.closing);
        }
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(
            serde_json::from_str::<AccountStatement>(&json).unwrap(),
            whole
        );
    }
    let several = Party::Customer(NodeName::End(customer_end()));
    assert_eq!(
        statement::<Wrong>(&identity().network, (&several, all), books.entries())
            .unwrap()
            .node,
        Some(example::customer())
    );
}

fn customer_end() -> String {
    customer().short()
}

#[test]
fn the_books_are_held_against_a_bank() {
    let books = books();
    let compare = |text: &str, period: Period| -> Reconciliation {
        let payments = read_payments(text.as_bytes()).unwrap();
        reconcile(period, payments, books.entries()).unwrap()
    };
    let good = "date,reference,amount,currency\n\
        2026-01-05,bank-1001,50.00,EUR\n\
        2026-01-05,bank-1002,10,EUR\n\
        2026-01-13,bank-2001,-0.60,EUR\n\
        2026-01-13,bank-2002,-0.50,EUR\n";
    let all = Period::default();
    let clean = compare(good, all);
    assert!(clean.is_clean());
    let bad = "reference,amount,currency\n\
        bank-1001,50.00,EUR\n\
        bank-1002,1.00,EUR\n\
        bank-1003,\"7.00\",EUR\n\
        bank-2001,0.60,EUR\n\
        bank-2002,-0.50,USD\n\
        bank-1001,50.00,EUR\n";
    let found = compare(bad, all);
    assert!(!found.is_clean());
    same(
        "reconcile",
        &[clean, found].map(|found| fits(found.render())).join("\n"),
    );
    let january = Period {
        from: Some(example::START),
        to: Some(books.example.drafts[2].at),
    };
    let first = compare("reference,amount,currency\nbank-1001,50,EUR\n", january);
    assert!(first.is_clean() && first.matched == 1);
}

#[test]
fn everything_is_audited_rule_by_rule_and_the_books_are_what_the_log_gives() {
    let books = books();
    let text = [
        LedgerQuery::Verify,
        LedgerQuery::Audit,
        LedgerQuery::Rebuild,
    ]
    .map(|query| books.shown(&query));
    same("audit", &text.join("\n"));
}
