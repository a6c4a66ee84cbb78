//! The books: kept, computed again and audited they are the same, and what is not possible is refused.

use std::convert::Infallible;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tally_ledger::audit::{Audited, Problem, ReceiptProblem, Report, Rule, audit, audit_entries};
use tally_ledger::rebuild::{self, Difference};
use tally_ledger::store::{CommitError, Draft, Reader, Store, receipt_posting};
use tally_netsim::chance::Chance;
use tally_netsim::disk::Disk;
use tally_protocol::account::{Account, Commodity, Holder, Lot, Money};
use tally_protocol::books::{Books, Posting, PostingFault, Step, Transfer};
use tally_protocol::codec;
use tally_protocol::entry::{Entry, Event, Fund, Payee};
use tally_protocol::id::{NodeId, PostingId, ReceiptId};
use tally_protocol::points::Points;
use tally_protocol::posting::{self, Cost};
use tally_protocol::receipt::{LeafRun, Receipt};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;

use crate::coordinator::{Coordinator, identity, store};
use crate::example;
use crate::support::{CREATED, commit_drafts, raw};

fn whole(reader: &Reader) -> Audited {
    audit(reader, &mut |_| ()).unwrap()
}

/// Audits an export: the bytes of the entries and nothing else.
fn without_tables(log: &[Vec<u8>]) -> Audited {
    let open = || Ok::<_, Infallible>(log.iter().cloned().map(Ok));
    audit_entries(&identity(), log.len() as u64, open, &mut |_| ()).unwrap()
}

pub(crate) fn entry_bytes(reader: &Reader) -> Vec<Vec<u8>> {
    let entries = reader.entries(0..u64::MAX).unwrap();
    entries.map(|entry| entry.unwrap().bytes).collect()
}

fn is_conserved(books: &Books) -> bool {
    let mut sums = std::collections::BTreeMap::<Commodity, i128>::new();
    for ((_, commodity), balance) in books.balances() {
        *sums.entry(*commodity).or_default() += balance.posted();
    }
    sums.values().all(|sum| *sum == 0)
}

/// Checks that what is stored is what the log gives, in all ways in which it can be computed.
fn check(open: &Store, books: &Books) -> Result<(), TestCaseError> {
    prop_assert_eq!(&open.books().unwrap(), books);
    prop_assert!(is_conserved(books));
    let rebuilt = rebuild::check(open, &mut |_| ()).unwrap();
    prop_assert_eq!(rebuilt.differences, 0, "{:?}", rebuilt.first);
    let audited = whole(open);
    prop_assert!(audited.report.is_sound(), "{:?}", audited.report);
    prop_assert_eq!(&audited.books, books);
    let exported = without_tables(&entry_bytes(open));
    prop_assert!(exported.report.is_sound(), "{:?}", exported.report);
    prop_assert_eq!(&exported.books, books);
    prop_assert_eq!(exported.report.root, audited.report.root);
    for (line, balance) in books.balances() {
        prop_assert_eq!(open.balance(*line).unwrap(), *balance);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn stored_rebuilt_and_audited_books_are_the_same(seed in any::<u32>(), commits in 1..60_usize) {
        let mut chance = Chance::new(u64::from(seed), "commits", 0);
        let (disk, mut coordinator) = (Disk::default(), Coordinator::new(seed.into()));
        let mut open = store(&disk);
        for _ in 0..commits {
            let events = coordinator.steps(1 + chance.below(8) as usize);
            commit_drafts(&open, events).unwrap();
            if chance.below(10) == 0 {
                drop(open);
                open = store(&disk);
            }
        }
        check(&open, &coordinator.books)?;
        for (owner, lines) in lines_of_owners(&coordinator.books) {
            prop_assert_eq!(open.lines_of_owner(owner).unwrap(), lines);
        }
    }
}

type Lines = Vec<((Account, Commodity), tally_protocol::books::Balance)>;

fn lines_of_owners(books: &Books) -> Vec<(NodeId, Lines)> {
    let mut owners: Vec<(NodeId, Lines)> = Vec::new();
    for (line, balance) in books.balances() {
        let Some(holder) = line.0.holder() else {
            continue;
        };
        match owners.iter_mut().find(|(owner, _)| *owner == holder.owner) {
            Some((_, lines)) => lines.push((*line, *balance)),
            None => owners.push((holder.owner, vec![(*line, *balance)])),
        }
    }
    owners
}

#[test]
fn the_generator_reaches_every_event() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..40 {
        for draft in Coordinator::new(seed).steps(300) {
            let json = serde_json::to_value(&draft.event).unwrap();
            kinds.extend(json.as_object().and_then(|map| map.keys().next().cloned()));
        }
    }
    assert_eq!(kinds.len(), 20, "{kinds:?}");
}

fn euro(minor: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money { currency, minor }
}

pub(crate) fn deposit(minor: u64, reference: &str) -> Draft {
    let to = Fund::Customer(NodeId::from_bytes([6; 32]));
    Draft {
        at: CREATED,
        posting: posting::deposit(to.account(), euro(minor), reference),
        event: Event::Deposited {
            to,
            money: euro(minor),
            reference: reference.to_owned(),
        },
    }
}

fn withdrawal(minor: u64) -> Draft {
    let customer = NodeId::from_bytes([6; 32]);
    Draft {
        at: CREATED,
        posting: posting::withdrawal(Account::Customer(customer), euro(minor), "back"),
        event: Event::PaidOut {
            to: Payee::Customer(customer),
            money: euro(minor),
            reference: "back".to_owned(),
        },
    }
}

#[test]
fn a_posting_that_is_not_possible_is_refused_with_its_entry_and_the_store_goes_on() {
    let open = store(&Disk::default());
    commit_drafts(&open, vec![deposit(100, "one")]).unwrap();
    let before = (open.books().unwrap(), open.head().unwrap());
    let error = commit_drafts(&open, vec![deposit(50, "two"), withdrawal(151)]).unwrap_err();
    assert!(error.is_refusal());
    let CommitError::Posting {
        sequence, fault, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*sequence, 2);
    assert!(matches!(
        fault,
        PostingFault::Overdraft { available: 150, .. }
    ));
    assert_eq!((open.books().unwrap(), open.head().unwrap()), before);
    assert_eq!(
        open.posting_entry(deposit(50, "two").posting.unwrap().id)
            .unwrap(),
        None
    );
    commit_drafts(&open, vec![deposit(50, "two"), withdrawal(150)]).unwrap();
}

#[test]
fn a_posting_is_made_once() {
    let open = store(&Disk::default());
    commit_drafts(&open, vec![deposit(100, "one"), deposit(1, "two")]).unwrap();
    for events in [
        vec![deposit(100, "one")],
        vec![deposit(7, "three"), deposit(1, "two")],
        vec![deposit(7, "three"), deposit(7, "three")],
    ] {
        let count = events.len() as u64;
        let error = commit_drafts(&open, events).unwrap_err();
        let CommitError::PostedBefore {
            sequence, earlier, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(sequence, 1 + count);
        assert!(earlier < sequence);
        assert_eq!(open.head().unwrap().size(), 2);
    }
    let id = deposit(1, "two").posting.unwrap().id;
    assert_eq!(open.posting_entry(id).unwrap(), Some(1));
}

/// A receipt as the store sees it: nothing is signed.
fn receipt(number: u64) -> (ReceiptId, NodeId, Draft) {
    let receipt = Signed::<Receipt>::from_bytes(number.to_be_bytes().to_vec());
    let id = receipt.id();
    let device = NodeId::from_bytes([1 + (number % 7) as u8; 32]);
    let lot = Lot {
        holder: Holder::alone(device),
        since: CREATED,
        card: 1,
    };
    let issue = Transfer {
        from: Account::Issued,
        to: Account::Spendable(lot),
        commodity: Commodity::Points,
        amount: 1,
        step: Step::Move,
    };
    let batches = Vec::new();
    let draft = Draft {
        at: CREATED,
        event: Event::Receipted { receipt, batches },
        posting: Some(Posting {
            id: receipt_posting(id),
            transfers: vec![issue],
        }),
    };
    (id, device, draft)
}

/// More than what is kept in memory, so that most names are moved to their tables.
#[test]
fn every_receipt_is_found_by_its_id_and_its_device() {
    const COUNT: u64 = 160_000;
    let disk = Disk::default();
    let mut open = store(&disk);
    for first in (0..COUNT).step_by(2_000) {
        let receipts = (first..first + 2_000).map(|number| receipt(number).2);
        commit_drafts(&open, receipts.collect()).unwrap();
        if first == 20_000 || first == 130_000 {
            drop(open);
            open = store(&disk);
        }
    }
    for number in (0..COUNT).step_by(9_973).chain([COUNT - 1]) {
        let (id, device, draft) = receipt(number);
        assert_eq!(open.receipt_entry(id).unwrap(), Some(number));
        let after = number.checked_sub(1);
        let expected: Vec<u64> = (number..COUNT).step_by(7).take(5).collect();
        assert_eq!(open.receipts_of(device, after, 5).unwrap(), expected);
        let again = commit_drafts(&open, vec![draft]).unwrap_err();
        assert!(matches!(again, CommitError::PostedBefore { earlier, .. } if earlier == number));
    }
    let rebuilt = rebuild::check(&open, &mut |_| ()).unwrap();
    assert_eq!((rebuilt.postings, rebuilt.receipts), (COUNT, COUNT));
    assert_eq!(rebuilt.differences, 0, "{:?}", rebuilt.first);
    drop(open);
    let database = raw(&disk);
    let transaction = database.begin_read().unwrap();
    let recent = transaction.open_table(RECENT).unwrap();
    let rows = recent.iter().unwrap().count() as u64;
    assert!(
        rows * 2_000 < COUNT,
        "rows of recent names are dropped: {rows}"
    );
}

const BALANCES: TableDefinition<'_, &[u8], &[u8; 32]> = TableDefinition::new("balances");
const HOLDS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("holds");
const RECENT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("recent");
const POSTINGS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("postings");
const RECEIPTS_OF: TableDefinition<'_, (&[u8; 32], u64), ()> = TableDefinition::new("receipts_of");

fn tamper(disk: &Disk, write: impl FnOnce(&WriteTransaction)) {
    let database = raw(disk);
    let transaction = database.begin_write().unwrap();
    write(&transaction);
    transaction.commit().unwrap();
}

/// Checks that the audit and the rebuilding see that the tables were tampered with, and that it is put right.
fn is_noticed_and_repaired(disk: &Disk) {
    let projection = |report: &Report| {
        let mut rules = report.invariants.iter();
        rules
            .find(|invariant| invariant.rule == Rule::Projection)
            .unwrap()
            .holds
    };
    let report = whole(&Reader::on_backend(disk.clone()).unwrap()).report;
    assert!(!projection(&report) && !report.is_sound(), "{report:?}");
    assert_eq!(report.finding, None, "the log itself is sound");
    let open = store(disk);
    let found = rebuild::write(&open, &mut |_| ()).unwrap();
    assert!(found.differences > 0);
    assert!(!found.first[0].to_string().is_empty());
    let again = rebuild::check(&open, &mut |_| ()).unwrap();
    assert_eq!(again.differences, 0, "{:?}", again.first);
    let audited = whole(&open);
    assert!(audited.report.is_sound(), "{:?}", audited.report);
    // It goes on where it was.
    commit_drafts(&open, vec![deposit(1, "after the repair")]).unwrap();
    assert_eq!(rebuild::check(&open, &mut |_| ()).unwrap().differences, 0);
}

fn worked(seed: u64) -> Disk {
    let (disk, mut coordinator) = (Disk::default(), Coordinator::new(seed));
    let open = store(&disk);
    while coordinator.books.holds().count() < 2 {
        commit_drafts(&open, coordinator.steps(20)).unwrap();
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_flipped_bit_in_a_table_is_noticed_and_repaired(seed in 0..50_u64, table in 0..3, place in any::<prop::sample::Index>(), bit in 0..8) {
        let disk = worked(seed);
        tamper(&disk, |transaction| match table {
            0 => {
                let mut rows = transaction.open_table(BALANCES).unwrap();
                let keys: Vec<Vec<u8>> = rows.iter().unwrap().map(|row| row.unwrap().0.value().to_vec()).collect();
                let key = &keys[place.index(keys.len())];
                let mut value = *rows.get(key.as_slice()).unwrap().unwrap().value();
                value[place.index(32)] ^= 1_u8 << bit;
                rows.insert(key.as_slice(), &value).unwrap();
            }
            1 => {
                let mut rows = transaction.open_table(HOLDS).unwrap();
                let (key, mut value) = rows.first().unwrap().map(|(key, value)| (*key.value(), value.value().to_vec())).unwrap();
                // The last bytes are the amount and the time: it stays a hold.
                *value.last_mut().unwrap() ^= 1_u8 << bit;
                rows.insert(&key, value.as_slice()).unwrap();
            }
            _ => {
                let mut rows = transaction.open_table(RECENT).unwrap();
                let keys: Vec<u64> = rows.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
                let key = keys[place.index(keys.len())];
                let mut value = rows.get(key).unwrap().unwrap().value().to_vec();
                let at = place.index(value.len());
                value[at] ^= 1_u8 << bit;
                rows.insert(key, value.as_slice()).unwrap();
            }
        });
        is_noticed_and_repaired(&disk);
    }
}

#[test]
fn rows_that_are_missing_or_too_many_are_noticed_and_repaired() {
    let cases: [fn(&WriteTransaction); 6] = [
        |transaction| {
            let mut rows = transaction.open_table(BALANCES).unwrap();
            rows.pop_last().unwrap();
        },
        |transaction| {
            let mut rows = transaction.open_table(BALANCES).unwrap();
            rows.insert([200].as_slice(), &[0; 32]).unwrap();
        },
        |transaction| {
            transaction.open_table(HOLDS).unwrap().pop_first().unwrap();
        },
        |transaction| {
            transaction.open_table(RECENT).unwrap().pop_first().unwrap();
        },
        |transaction| {
            let mut rows = transaction.open_table(POSTINGS).unwrap();
            rows.insert(&[7; 16], 3).unwrap();
        },
        |transaction| {
            let mut rows = transaction.open_table(RECEIPTS_OF).unwrap();
            rows.insert((&[7; 32], 3), ()).unwrap();
        },
    ];
    for case in cases {
        let disk = worked(3);
        tamper(&disk, case);
        is_noticed_and_repaired(&disk);
    }
}

#[test]
fn a_difference_names_the_account_and_both_amounts() {
    let disk = Disk::default();
    commit_drafts(&store(&disk), vec![deposit(1_250, "one")]).unwrap();
    tamper(&disk, |transaction| {
        let mut rows = transaction.open_table(BALANCES).unwrap();
        let (key, mut value) = rows
            .last()
            .unwrap()
            .map(|(key, value)| (key.value().to_vec(), *value.value()))
            .unwrap();
        value[15] = value[15].wrapping_add(1);
        rows.insert(key.as_slice(), &value).unwrap();
    });
    let found = rebuild::check(&store(&disk), &mut |_| ()).unwrap();
    assert_eq!((found.differences, found.entries, found.lines), (1, 1, 2));
    assert!(matches!(found.first[0], Difference::Balance { .. }));
    let said = found.first[0].to_string();
    assert!(said.starts_with("money:customer:"), "{said}");
    assert!(
        said.ends_with("stored 12.51 (held 0.00) EUR, should be 12.50 (held 0.00) EUR"),
        "{said}"
    );
}

/// The worked example as an export.
fn example() -> Vec<Entry> {
    let disk = Disk::default();
    let open = Store::on_backend(disk, &example::identity(), CREATED).unwrap();
    example::fill(&open);
    let entries = open.entries(0..u64::MAX).unwrap();
    entries
        .map(|entry| entry.unwrap().decode().unwrap())
        .collect()
}

/// Audits entries as somebody wrote them who can write whole logs.
fn forged(entries: &[Entry]) -> Report {
    let log: Vec<Vec<u8>> = entries.iter().map(codec::to_bytes).collect();
    let open = || Ok::<_, Infallible>(log.iter().cloned().map(Ok));
    let (identity, total) = (example::identity(), log.len() as u64);
    audit_entries(&identity, total, open, &mut |_| ())
        .unwrap()
        .report
}

fn problem(entries: &[Entry]) -> (Option<u64>, Problem) {
    let finding = forged(entries).finding.unwrap();
    (finding.sequence, finding.problem)
}

/// Returns the place of the first receipt, and what it says.
fn first_receipt(entries: &[Entry]) -> (usize, Receipt) {
    let found = entries.iter().enumerate().find_map(|(place, entry)| {
        let Event::Receipted { receipt, .. } = &entry.event else {
            return None;
        };
        let receipt = receipt.clone().verify(&example::identity().network);
        Some((place, receipt.unwrap().value().clone()))
    });
    found.unwrap()
}

/// Puts another receipt in the place of one, with the posting that it had.
fn replace_receipt(entry: &mut Entry, receipt: Receipt, key: &SigningKey) {
    let network = example::identity().network;
    let Event::Receipted {
        receipt: signed, ..
    } = &mut entry.event
    else {
        panic!("{entry:?} is no receipt");
    };
    *signed = Verified::sign(receipt, &network, key).signed().clone();
    let id = receipt_posting(signed.id());
    entry.posting.as_mut().unwrap().id = id;
}

#[test]
fn a_receipt_that_was_signed_by_another_key_is_found() {
    let mut log = example();
    assert!(forged(&log).is_sound(), "{:?}", forged(&log));
    let (place, receipt) = first_receipt(&log);
    let key = SigningKey::from_bytes(&[77; 32]);
    replace_receipt(&mut log[place], receipt, &key);
    let (sequence, found) = problem(&log);
    assert_eq!(sequence, Some(place as u64));
    let Problem::Receipt { fault } = found else {
        panic!("{found}");
    };
    assert!(matches!(fault, ReceiptProblem::OtherSigner { .. }));
}

#[test]
fn a_receipt_with_one_point_more_is_found() {
    let mut log = example();
    let (place, mut receipt) = first_receipt(&log);
    let (expected, found) = (receipt.points.as_micro(), receipt.points.as_micro() + 1);
    receipt.points = Points::from_micro(found);
    replace_receipt(&mut log[place], receipt, &example::coordinator_key());
    let what = "the number of micro-points".to_owned();
    let fault = ReceiptProblem::Amount {
        what,
        expected,
        found,
    };
    let found = (Some(place as u64), Problem::Receipt { fault });
    assert_eq!(problem(&log), found);
}

#[test]
fn a_unit_that_is_credited_twice_is_found() {
    let mut log = example();
    let (place, mut receipt) = first_receipt(&log);
    let unit = receipt.results().next().unwrap().2;
    receipt.sequence += 1;
    let mut again = log[place].clone();
    replace_receipt(&mut again, receipt, &example::coordinator_key());
    log.insert(place + 1, again);
    for (sequence, entry) in (0..).zip(&mut log) {
        entry.sequence = sequence;
    }
    let fault = ReceiptProblem::PaidTwice { unit };
    let found = (Some(place as u64 + 1), Problem::Receipt { fault });
    assert_eq!(problem(&log), found);
}

/// The first receipt pays two units with the two leaves of a batch; here it pays one of them, and a second receipt the
/// other unit with the same leaf.
#[test]
fn a_leaf_that_is_cited_twice_is_found() {
    let log = example();
    let (place, whole) = first_receipt(&log);
    let unit: Vec<u32> = whole.results().map(|(_, _, unit)| unit).collect();
    let half = |sequence: u64, leaf: u32, unit: u32| {
        let mut receipt = whole.clone();
        receipt.sequence = sequence;
        receipt.units = 1;
        receipt.shares[0].runs = vec![LeafRun {
            leaf,
            unit,
            count: 1,
        }];
        receipt.fuel /= 2;
        receipt.bytes /= 2;
        receipt.points = Points::from_micro(receipt.points.as_micro() / 2);
        receipt
    };
    for (leaf, finding) in [
        (1, None),
        (
            0,
            Some(ReceiptProblem::CitedTwice {
                batch: whole.shares[0].batch,
                leaf: 0,
            }),
        ),
    ] {
        let receipts = [half(0, 0, unit[0]), half(1, leaf, unit[1])];
        let mut changed = log[..=place].to_vec();
        changed.push(log[place].clone());
        post_receipts(&mut changed[place..], receipts);
        let expected = finding.map(|fault| (Some(place as u64 + 1), Problem::Receipt { fault }));
        let found = forged(&changed).finding;
        let found = found.map(|found| (found.sequence, found.problem));
        assert_eq!(found, expected);
    }
}

/// Puts receipts in the place of others, with the postings that they make.
fn post_receipts(entries: &mut [Entry], receipts: [Receipt; 2]) {
    let card = example::Example::tell().card();
    let mut before = Cost::default();
    for (entry, receipt) in entries.iter_mut().zip(receipts) {
        let after = before.with(receipt.points, &card.rates).unwrap();
        let costs = (before, after);
        let network = example::identity().network;
        let signed = Verified::sign(receipt, &network, &example::coordinator_key());
        let payer = (example::customer(), card.value());
        entry.posting = posting::receipt((signed.id(), &signed), payer, costs);
        let Event::Receipted { receipt, .. } = &mut entry.event else {
            panic!("{entry:?} is no receipt");
        };
        *receipt = signed.signed().clone();
        before = after;
    }
    for (sequence, entry) in (entries[0].sequence..).zip(entries) {
        entry.sequence = sequence;
    }
}

#[test]
fn a_receipt_for_work_that_no_certificate_covers_is_found() {
    let log = example();
    let (place, receipt) = first_receipt(&log);
    let (day, apart) = (Duration::from_secs(86_400), Duration::from_secs(600));
    let cases = [
        (example::START, receipt.leased_at - apart, true),
        (
            example::START,
            receipt.leased_at - apart + Duration::from_millis(1),
            false,
        ),
        (receipt.done_at + apart, receipt.done_at + day, false),
        (
            receipt.done_at + apart + Duration::from_millis(1),
            receipt.done_at + day,
            true,
        ),
    ];
    for (not_before, not_after, is_found) in cases {
        let mut changed = log.clone();
        for entry in &mut changed {
            if let Event::DeviceCertified { certificate } = &mut entry.event {
                *certificate = example::certificate(not_before, not_after).signed().clone();
            }
        }
        let fault = ReceiptProblem::CertificateOver {
            owner: example::owner(),
            leased_at: receipt.leased_at,
            done_at: receipt.done_at,
        };
        let expected = is_found.then_some((Some(place as u64), Problem::Receipt { fault }));
        let found = forged(&changed).finding;
        let found = found.map(|found| (found.sequence, found.problem));
        assert_eq!(found, expected);
    }
}

#[test]
fn each_posting_that_was_changed_is_found() {
    let log = example();
    for place in 0..log.len() {
        let mut changed = log.clone();
        let Some(posting) = &mut changed[place].posting else {
            continue;
        };
        posting.transfers.last_mut().unwrap().amount += 1;
        let (sequence, found) = problem(&changed);
        assert_eq!(sequence, Some(place as u64));
        assert!(matches!(found, Problem::OtherPosting { .. }), "{found}");
        changed[place].posting = None;
        let (sequence, found) = problem(&changed);
        assert_eq!(sequence, Some(place as u64));
        assert!(matches!(found, Problem::OtherPosting { .. }), "{found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn dropped_and_swapped_entries_are_found(one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let log = example();
        let (one, other) = (one.index(log.len()), other.index(log.len()));
        let mut dropped = log.clone();
        dropped.remove(one);
        if one + 1 < log.len() {
            let says = one as u64 + 1;
            prop_assert_eq!(problem(&dropped), (Some(one as u64), Problem::Misplaced { says }));
        }
        prop_assume!(one != other);
        let (first, says) = (one.min(other) as u64, one.max(other) as u64);
        let mut swapped = log;
        swapped.swap(one, other);
        prop_assert_eq!(problem(&swapped), (Some(first), Problem::Misplaced { says }));
    }

    #[test]
    fn a_flipped_bit_is_found_or_changes_the_root(entry in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0..8) {
        let sound = example();
        let root = forged(&sound).root;
        let mut log: Vec<Vec<u8>> = sound.iter().map(codec::to_bytes).collect();
        let entry = entry.index(log.len());
        let at = place.index(log[entry].len());
        log[entry][at] ^= 1_u8 << bit;
        let open = || Ok::<_, Infallible>(log.iter().cloned().map(Ok));
        let total = log.len() as u64;
        let report = audit_entries(&example::identity(), total, open, &mut |_| ()).unwrap().report;
        match report.finding {
            // What is wrong may show first at an entry that builds on it.
            Some(finding) => prop_assert!(finding.sequence >= Some(entry as u64)),
            None => prop_assert_ne!(report.root, root),
        }
    }
}

/// The rows of the books of a small log, as they were when the format was settled.
#[test]
fn golden_rows_of_the_books() {
    let disk = Disk::default();
    let open = store(&disk);
    let hold = Draft {
        at: Timestamp::from_millis(1),
        event: Event::Released { at: CREATED },
        posting: Some(Posting {
            id: PostingId::from_bytes([5; 16]),
            transfers: vec![Transfer {
                from: Account::Customer(NodeId::from_bytes([6; 32])),
                to: Account::Held(tally_protocol::id::TaskId::from_bytes([7; 32])),
                commodity: Commodity::Money("EUR".parse().unwrap()),
                amount: 30,
                step: Step::Hold { until: CREATED },
            }],
        }),
    };
    let events = vec![deposit(100, "one"), hold, receipt(0).2];
    commit_drafts(&open, events).unwrap();
    drop(open);
    let database = raw(&disk);
    let transaction = database.begin_read().unwrap();
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut found = Vec::new();
    let mut row = |table, key: &[u8], value: &[u8]| {
        found.push(format!("{table} {} {}", hex(key), hex(value)));
    };
    for rows in transaction.open_table(BALANCES).unwrap().iter().unwrap() {
        let (key, value) = rows.unwrap();
        row("balances", key.value(), value.value());
    }
    for rows in transaction.open_table(HOLDS).unwrap().iter().unwrap() {
        let (key, value) = rows.unwrap();
        row("holds", key.value(), value.value());
    }
    for rows in transaction.open_table(RECENT).unwrap().iter().unwrap() {
        let (key, value) = rows.unwrap();
        row("recent", &key.value().to_be_bytes(), value.value());
    }
    assert_eq!(
        found.join("\n"),
        include_str!("golden/books.txt").trim_end()
    );
}
