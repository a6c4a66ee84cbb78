//! The wallet: written, opened again, upgraded, pruned; what is earned and what is not paid; dossiers that are right, and each way in which one can be wrong.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use redb::backends::InMemoryBackend;
use tally_protocol::account::Holder;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::merkle::{TreeHead, leaf_hash, root};
use tally_protocol::message::work::{LeasedUnit, UnpaidReason};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{PixelWeight, Rates};
use tally_protocol::receipt::{BatchShare, Validation};
use tally_protocol::signed::Verified;
use tally_protocol::task::{BlobRef, tiles};
use tally_protocol::terminal::Effort;
use tally_protocol::unit::{Limits, Outcome};

use super::*;

const ROOM: u64 = 1 << 30;

#[test]
fn a_receipt_is_counted_once_and_its_points_stand_in_lots() {
    let (wallet, made) = (wallet(), Made::new(0, 4));
    wallet.write(at(1), &[made.batch()], ROOM).unwrap();
    let unchecked = made.receipt(Standing::Unchecked);
    let checked = made.receipt(Standing::Checked);
    wallet
        .write(at(2), &[unchecked.clone(), unchecked], ROOM)
        .unwrap();
    wallet.write(at(3), &[checked], ROOM).unwrap();
    let page = wallet.receipts(0, 10).unwrap();
    assert_eq!((page.receipts.len(), page.next), (1, None));
    assert_eq!(page.receipts[0].standing, Standing::Checked);
    assert_eq!(page.receipts[0].receipt, *made.receipt.value());
    let holdings = wallet.holdings().unwrap();
    let [holding] = holdings.as_slice() else {
        panic!("{holdings:?}");
    };
    assert_eq!((holding.coordinator, holding.owner), (node(1), node(7)));
    let rates = Rates::free("EUR".parse().unwrap());
    let (since, released) = rates.spendable_since(made.receipt.done_at);
    let lot = |since, micro| Lot {
        since: Some(since),
        points: Points::from_micro(micro),
        expires: None,
    };
    let half = made.receipt.points.as_micro() / 2;
    assert_eq!(holding.lots, [lot(since, half), lot(released, half)]);
    let (_, account) = wallet.accounts().unwrap().remove(0);
    assert_eq!((account.receipts, account.points), (1, made.receipt.points));
}

#[test]
fn totals_and_reasons_are_there_after_a_restart_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let totals = Totals {
        counted: Effort {
            results: 7,
            nanos: 9,
        },
        ..Totals::default()
    };
    let leaf = UnpaidLeaf {
        batch: Hash::from_bytes([1; 32]),
        leaf: 3,
        reason: UnpaidReason::NoQuorum,
    };
    {
        let wallet = Wallet::create_or_open(&path, &identity()).unwrap();
        let writes = [
            Write::Totals(node(1), totals),
            Write::GiveUp(node(1), vec![leaf, leaf]),
        ];
        wallet.write(at(1), &writes, ROOM).unwrap();
        assert!(matches!(Wallet::open(&path), Err(WalletError::Locked(_))));
    }
    let wallet = Wallet::open(&path).unwrap();
    let (coordinator, account) = wallet.accounts().unwrap().remove(0);
    assert_eq!((coordinator, account.totals), (node(1), totals));
    assert_eq!(account.unpaid[&UnpaidReason::NoQuorum], 2);
    drop(wallet);
    let other = Identity {
        node: node(8),
        ..identity()
    };
    let refused = Wallet::create_or_open(&path, &other);
    assert!(matches!(refused, Err(WalletError::Identity { found, .. }) if found == node(9)));
}

#[test]
fn a_wallet_of_another_format_and_a_file_that_is_none_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    assert!(matches!(Wallet::open(&path), Err(WalletError::Missing(_))));
    drop(Wallet::create_or_open(&path, &identity()).unwrap());
    {
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let row = codec::to_bytes(&FormatRow {
            format: 3,
            network: network(),
            node: node(9),
        });
        let mut table = transaction.open_table(FORMAT_TABLE).unwrap();
        table.insert(KEY, row.as_slice()).unwrap();
        drop(table);
        transaction.commit().unwrap();
    }
    for opened in [
        Wallet::open(&path),
        Wallet::create_or_open(&path, &identity()),
    ] {
        assert!(matches!(opened, Err(WalletError::Format { found: 3, .. })));
    }
    std::fs::write(&path, b"something else, longer than a header of redb is, and then some more of it, for sure: 0123456789").unwrap();
    let opened = Wallet::create_or_open(&path, &identity());
    assert!(
        matches!(opened, Err(WalletError::NotAWallet(_))),
        "{opened:?}"
    );
}

#[test]
fn receipts_are_found_by_the_start_of_their_id_and_listed_in_pages() {
    let wallet = wallet();
    let made: Vec<Made> = (0..5).map(|number| Made::new(number, 1)).collect();
    for made in &made {
        let writes = [made.batch(), made.receipt(Standing::Checked)];
        wallet.write(at(1), &writes, ROOM).unwrap();
    }
    let first = wallet.receipts(0, 3).unwrap();
    assert_eq!((first.receipts.len(), first.next), (3, Some(3)));
    let rest = wallet.receipts(3, 3).unwrap();
    assert_eq!((rest.receipts.len(), rest.next), (2, None));
    for made in &made {
        let id = made.receipt.id();
        assert_eq!(wallet.find(&id.to_string()[..16]).unwrap(), [id]);
    }
    assert_eq!(wallet.find("").unwrap().len(), 2, "more than one");
    assert!(wallet.find("no").unwrap().is_empty());
}

#[test]
fn leaves_go_when_their_points_have_long_been_released_and_grants_with_the_last_of_them() {
    let (wallet, made) = (wallet(), Made::new(0, 4));
    let writes = [made.batch(), made.receipt(Standing::Checked)];
    wallet.write(at(1), &writes, ROOM).unwrap();
    let days = |days: u64| made.receipt.done_at + Duration::from_secs(days * 86_400);
    wallet.write(days(30), &[], ROOM).unwrap();
    assert_eq!(dossier(&wallet, &made).batches.len(), 1);
    wallet.write(days(39), &[], ROOM).unwrap();
    let after = dossier(&wallet, &made);
    assert!(after.batches.is_empty() && after.grants.is_empty());
    let verification = after.verify(None).unwrap();
    assert!(verification.is_sound() && !verification.is_complete());
    assert_eq!(
        wallet.holdings().unwrap().len(),
        1,
        "points are not forgotten"
    );
}

#[test]
fn beyond_its_limit_paid_leaves_go_before_those_that_are_owed() {
    let wallet = wallet();
    let made: Vec<Made> = (0..20).map(|number| Made::new(number, 100)).collect();
    for (number, made) in made.iter().enumerate() {
        let mut writes = vec![made.batch()];
        if number % 2 == 1 {
            writes.push(made.receipt(Standing::Checked));
        }
        wallet.write(at(1), &writes, ROOM).unwrap();
    }
    let has = |made: &Made| {
        let transaction = wallet.begin_read().unwrap();
        let batches = transaction.open_table(BATCHES).unwrap();
        let key = pair(&node(1), made.root().as_bytes());
        batches.get(&key).unwrap().is_some()
    };
    let bytes = || -> u64 {
        let transaction = wallet.begin_read().unwrap();
        let counts = transaction.open_table(COUNTS).unwrap();
        let counts: Counts = decode(counts.get(KEY).unwrap().unwrap().value(), "counts").unwrap();
        counts.bytes
    };
    let all = bytes();
    wallet.write(at(2), &[], all * 3 / 4).unwrap();
    assert!(bytes() <= all * 3 / 4);
    assert!(!has(&made[1]) && has(&made[0]) && has(&made[19]));
    wallet.write(at(3), &[], all / 4).unwrap();
    assert!(bytes() <= all / 4 && !has(&made[0]));
    wallet.write(at(4), &[], 0).unwrap();
    assert_eq!(
        wallet.receipts(0, 100).unwrap().receipts.len(),
        10,
        "receipts stay for half a year"
    );
    wallet.write(at(1_000_000_000_000), &[], 0).unwrap();
    assert_eq!(
        (wallet.receipts(0, 100).unwrap().receipts.len(), bytes()),
        (0, 0)
    );
}

#[test]
fn a_whole_dossier_is_right_and_read_back_from_its_text() {
    let (wallet, made) = (wallet(), Made::new(3, 4));
    let writes = [made.batch(), made.receipt(Standing::Checked)];
    wallet.write(at(1), &writes, ROOM).unwrap();
    let before = dossier(&wallet, &made).verify(None).unwrap();
    assert!(before.is_sound() && !before.is_complete(), "no proof yet");
    wallet.write(at(1), &[made.proof(1)], ROOM).unwrap();
    let dossier = dossier(&wallet, &made);
    let text = serde_json::to_string_pretty(&dossier).unwrap();
    let read: Dossier = serde_json::from_str(&text).unwrap();
    assert_eq!(read, dossier);
    let verification = read.verify(Some(node(1))).unwrap();
    assert!(verification.is_complete(), "{verification:?}");
    let work = read.work().unwrap();
    assert_eq!((work.len(), work[0].units.len()), (1, 4));
    assert!(read.verify(Some(node(2))).is_err(), "another key");
}

#[test]
fn whatever_is_changed_in_a_dossier_is_found() {
    type Change = fn(&mut Dossier, &Made);
    let changes: [(Check, Change); 12] = [
        (Check::Batches, |dossier, _| {
            dossier.batches[0].results[1].fuel += 1
        }),
        (Check::Batches, |dossier, made| {
            let batch = made.signed_batch(2, 1);
            dossier.batches[0].batch = batch;
        }),
        (Check::Batches, |dossier, made| {
            dossier.batches[0].batch = made.signed_batch(9, 2);
        }),
        (Check::Grants, |dossier, made| {
            let mut grant = made.grant.value().clone();
            grant.units.pop();
            dossier.grants[0].grant = sign(grant, 1).signed().clone();
        }),
        (Check::Grants, |dossier, made| {
            dossier.grants[0].grant = sign(made.grant.value().clone(), 2).signed().clone();
        }),
        (Check::Card, |dossier, made| {
            let mut card = made.card.value().clone();
            card.version += 1;
            dossier.card = Some(sign(card, 1).signed().clone());
        }),
        (Check::Amounts, |dossier, made| {
            dossier.receipt = made.forged(|receipt| receipt.points = Points::from_micro(9));
        }),
        (Check::Leaves, |dossier, made| {
            dossier.receipt = made.forged(|receipt| receipt.shares[0].runs[0].unit += 1);
        }),
        (Check::Leaves, |dossier, made| {
            dossier.receipt = made.forged(|receipt| {
                receipt.shares.push(receipt.shares[0].clone());
                receipt.units *= 2;
            });
        }),
        (Check::Logged, |dossier, made| {
            dossier.proof = Some(made.proved(2));
        }),
        (Check::Logged, |dossier, _| {
            dossier.proof = Some(Made::new(1, 4).proved(1));
        }),
        (Check::Logged, |dossier, _| {
            let proof = dossier.proof.as_mut().unwrap();
            proof.entry.pop();
        }),
    ];
    let (wallet, made) = (wallet(), Made::new(0, 4));
    let writes = [made.batch(), made.receipt(Standing::Checked), made.proof(1)];
    wallet.write(at(1), &writes, ROOM).unwrap();
    for (place, (check, change)) in changes.into_iter().enumerate() {
        let mut dossier = dossier(&wallet, &made);
        change(&mut dossier, &made);
        let verification = dossier.verify(None).unwrap();
        let wrong = |(_, finding): &&(Check, Finding)| matches!(finding, Finding::Wrong(_));
        let found = verification.checks.iter().find(wrong);
        assert_eq!(
            found.map(|(check, _)| *check),
            Some(check),
            "change {place}: {verification:?}"
        );
        assert!(!verification.is_sound());
    }
    let mut foreign = dossier(&wallet, &made);
    foreign.receipt = sign(made.receipt.value().clone(), 2).signed().clone();
    assert!(foreign.verify(None).is_err());
}

#[test]
fn tiles_are_counted_by_their_core_pixels() {
    let made = Made::tiles();
    let wallet = wallet();
    let writes = [made.batch(), made.receipt(Standing::Checked), made.proof(1)];
    wallet.write(at(1), &writes, ROOM).unwrap();
    let verification = dossier(&wallet, &made).verify(None).unwrap();
    assert!(verification.is_complete(), "{verification:?}");
    assert_eq!(verification.receipt.pixels, 2 * 64 * 32);
}

#[test]
fn disputed_receipts_are_kept_as_evidence() {
    let (wallet, made) = (wallet(), Made::new(0, 1));
    let dispute = Dispute {
        from: node(1),
        receipt: made.receipt.clone(),
        fault: tally_protocol::terminal::ReceiptFault::OtherAmounts,
    };
    let writes = [Write::Dispute(Box::new(dispute))];
    for second in 0..3 {
        wallet.write(at(second), &writes, ROOM).unwrap();
    }
    let disputes = wallet.disputes(2).unwrap();
    let times: Vec<Timestamp> = disputes.iter().map(|row| row.at).collect();
    assert_eq!(times, [at(2), at(1)]);
    assert_eq!(disputes[0].receipt, *made.receipt.signed());
}

/// The rows of a small wallet, as they were when the format was settled: a change here is a new format.
#[test]
fn golden_rows() {
    let (wallet, made) = (wallet(), Made::new(1, 2));
    let dispute = Dispute {
        from: node(1),
        receipt: made.receipt.clone(),
        fault: tally_protocol::terminal::ReceiptFault::OtherAmounts,
    };
    let effort = |results| Effort { results, nanos: 9 };
    let totals = Totals {
        counted: effort(5),
        paid: effort(2),
        unpaid: effort(1),
    };
    let leaf = UnpaidLeaf {
        batch: made.root(),
        leaf: 1,
        reason: UnpaidReason::Outvoted,
    };
    let writes = [
        made.batch(),
        made.receipt(Standing::Checked),
        made.proof(1),
        Made::new(2, 3).batch(),
        Write::Dispute(Box::new(dispute)),
        Write::GiveUp(node(1), vec![leaf]),
        Write::Totals(node(1), totals),
        Write::LookedAt(node(1), 3),
    ];
    wallet.write(at(1), &writes, ROOM).unwrap();
    let transaction = wallet.begin_read().unwrap();
    let rows = [
        rows(&transaction, FORMAT_TABLE),
        rows(&transaction, COUNTS),
        rows(&transaction, ACCOUNTS),
        rows(&transaction, CARDS),
        rows(&transaction, GRANTS),
        rows(&transaction, BATCHES),
        rows(&transaction, STATES),
        rows(&transaction, ORDER),
        rows(&transaction, RECEIPTS),
        rows(&transaction, RECEIVED),
        rows(&transaction, LOTS),
        rows(&transaction, DISPUTES),
        rows(&transaction, PROOFS),
        rows(&transaction, EARNED),
        rows(&transaction, WAITING),
    ];
    assert_eq!(transaction.list_tables().unwrap().count(), rows.len());
    let found = rows.concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledger/golden/wallet.txt");
    if std::env::var_os("TALLY_GOLDEN").is_some_and(|how| how == "write") {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(
            found, golden,
            "wallets of the version before cannot be read: raise FORMAT, describe it in docs/formats.md, and run with TALLY_GOLDEN=write"
        );
    }
    assert_eq!(found, golden);
}

/// A wallet as the program of format 1 wrote it is opened, and says of its receipts and results what it always did.
#[test]
fn a_wallet_of_format_1_is_brought_up_to_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.redb");
    let text = include_str!("../../tests/ledger/golden/wallet-1.txt");
    let write = || {
        let database = builder().create(&path).unwrap();
        let mut transaction = database.begin_write().unwrap();
        transaction.set_quick_repair(true);
        load(&transaction, FORMAT_TABLE, text);
        load(&transaction, COUNTS, text);
        load(&transaction, ACCOUNTS, text);
        load(&transaction, CARDS, text);
        load(&transaction, GRANTS, text);
        load(&transaction, BATCHES, text);
        load(&transaction, STATES, text);
        load(&transaction, ORDER, text);
        load(&transaction, RECEIPTS, text);
        load(&transaction, RECEIVED, text);
        load(&transaction, LOTS, text);
        load(&transaction, DISPUTES, text);
        load(&transaction, PROOFS, text);
        transaction.commit().unwrap();
    };
    let made = Made::new(1, 2);
    let check = |wallet: &Wallet| {
        let earnings = wallet.earnings(at(1), 1, UtcOffset::default()).unwrap();
        let earned = Earned::by(made.receipt.value());
        assert_eq!((earnings.total, earnings.days[0].earned), (earned, earned));
        assert_eq!(wallet.unpaid(at(1)).unwrap().coordinators[0].waiting, 2);
    };
    write();
    check(&Wallet::open(&path).unwrap());
    check(&Wallet::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    write();
    let wallet = Wallet::create_or_open(&path, &identity()).unwrap();
    check(&wallet);
    wallet
        .write(at(2), &[made.receipt(Standing::Checked)], ROOM)
        .unwrap();
    check(&wallet);
}

/// Writes the rows of a table from the lines that [`rows`] makes.
fn load<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &redb::WriteTransaction,
    definition: TableDefinition<'static, K, V>,
    text: &str,
) {
    let name = redb::TableHandle::name(&definition).to_owned();
    let mut table = transaction.open_table(definition).unwrap();
    for line in text.lines() {
        let mut words = line.split(' ');
        if words.next() == Some(&name) {
            let mut bytes = || {
                data_encoding::HEXLOWER
                    .decode(words.next().unwrap().as_bytes())
                    .unwrap()
            };
            let (key, value) = (bytes(), bytes());
            table
                .insert(K::from_bytes(&key), V::from_bytes(&value))
                .unwrap();
        }
    }
}

/// Half an hour after midnight in Nepal.
const NEPAL: i32 = 345;

#[test]
fn days_begin_at_midnight_where_the_owner_is() {
    let wallet = wallet();
    let midnight = 20_000 * 86_400 - 345 * 60;
    for (number, second) in
        (0..).zip([midnight - 1, midnight, midnight + 86_399, midnight + 86_400])
    {
        let made = Made::new(number, u32::from(number) + 1);
        wallet
            .write(at(second), &[made.receipt(Standing::Checked)], ROOM)
            .unwrap();
    }
    let nepal = UtcOffset::try_from(NEPAL).unwrap();
    let earnings = wallet.earnings(at(midnight + 86_400), 4, nepal).unwrap();
    let units: Vec<u64> = earnings.days.iter().map(|day| day.earned.units).collect();
    assert_eq!(units, [0, 1, 5, 4]);
    assert_eq!(earnings.days[2].since, at(midnight));
    assert_eq!(earnings.days[2].date, "2024-10-04");
    assert_eq!((earnings.total.units, earnings.latest(2).units), (10, 9));
    for minutes in [1, 346, -735, 855] {
        assert!(UtcOffset::try_from(minutes).is_err(), "{minutes}");
    }
    assert_eq!(UtcOffset::nearest(-7_000).minutes(), -720);
    let query = r#"{"query":"earnings","now":0,"days":1,"offset":7}"#;
    let error = serde_json::from_str::<WalletQuery>(query)
        .unwrap_err()
        .to_string();
    assert!(error.contains("by quarters of an hour"), "{error}");
}

#[test]
fn what_waits_is_as_old_as_its_oldest_batch() {
    let (wallet, made) = (
        wallet(),
        [Made::new(0, 4), Made::new(1, 3), Made::new(2, 5)],
    );
    for (second, made) in (1..).zip(&made) {
        wallet.write(at(second), &[made.batch()], ROOM).unwrap();
    }
    let counted = |results, paid, unpaid| {
        let of = |results| Effort { results, nanos: 1 };
        let (counted, paid, unpaid) = (of(results), of(paid), of(unpaid));
        Write::Totals(
            node(1),
            Totals {
                counted,
                paid,
                unpaid,
            },
        )
    };
    let waiting = || {
        let unpaid = wallet.unpaid(at(9)).unwrap();
        let by = unpaid.coordinators.first()?.clone();
        Some((by.waiting, by.waiting_since))
    };
    wallet.write(at(4), &[counted(12, 0, 0)], ROOM).unwrap();
    assert_eq!(waiting(), Some((12, Some(at(1)))));
    let leaf = |leaf| UnpaidLeaf {
        batch: made[0].root(),
        leaf,
        reason: UnpaidReason::Outvoted,
    };
    let writes = [
        made[1].receipt(Standing::Checked),
        Write::GiveUp(node(1), vec![leaf(0), leaf(3)]),
        counted(12, 3, 2),
    ];
    wallet.write(at(5), &writes, ROOM).unwrap();
    assert_eq!(
        waiting(),
        Some((7, Some(at(1)))),
        "two of the first batch wait"
    );
    let writes = [
        Write::GiveUp(node(1), vec![leaf(1), leaf(2)]),
        counted(12, 3, 4),
    ];
    wallet.write(at(6), &writes, ROOM).unwrap();
    assert_eq!(waiting(), Some((5, Some(at(3)))));
    let writes = [made[2].receipt(Standing::Checked), counted(12, 8, 4)];
    wallet.write(at(7), &writes, ROOM).unwrap();
    assert_eq!(waiting(), Some((0, None)), "declared unpaid it stays");
    let unpaid = wallet.unpaid(at(9)).unwrap();
    assert_eq!(unpaid.coordinators[0].declared[&UnpaidReason::Outvoted], 4);
}

#[test]
fn points_are_told_by_the_day_of_their_release_and_of_their_end() {
    let wallet = wallet();
    let mut rates = Rates::free("EUR".parse().unwrap());
    rates.life_seconds = 40 * 86_400;
    let made = Made::of(0, 4, rates.clone(), "");
    let unknown = Made::new(1, 1);
    let dispute = Write::Dispute(Box::new(Dispute {
        from: node(2),
        receipt: made.receipt.clone(),
        fault: tally_protocol::terminal::ReceiptFault::OtherAmounts,
    }));
    let writes = [
        made.batch(),
        made.receipt(Standing::Checked),
        unknown.receipt(Standing::Unchecked),
        dispute,
    ];
    wallet.write(at(1), &writes, ROOM).unwrap();
    let (since, released) = rates.spendable_since(made.receipt.done_at);
    let half = Points::from_micro(made.receipt.points.as_micro() / 2);
    let dated = |at| vec![PointsAt { at, points: half }];
    let before = wallet.unpaid(since).unwrap();
    assert_eq!((before.spendable, &before.escrow), (half, &dated(released)));
    assert_eq!(
        (before.undated, before.expiring),
        (unknown.receipt.points, vec![])
    );
    assert_eq!(
        (
            before.coordinators[0].coordinator,
            before.coordinators[0].disputed
        ),
        (node(2), 1)
    );
    let expires = rates.expires(since).unwrap();
    let soon = wallet.unpaid(expires - SOON).unwrap();
    assert_eq!(
        (soon.spendable.as_micro(), soon.expiring),
        (half.as_micro() * 2, dated(expires))
    );
    let gone = wallet.unpaid(rates.expires(released).unwrap()).unwrap();
    assert_eq!(
        (gone.spendable, gone.escrowed()),
        (Points::ZERO, unknown.receipt.points)
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..proptest::prelude::ProptestConfig::with_cases(64) })]

    /// Whatever comes when, twice or once: each day is the sum of its receipts, and all of them are the total.
    #[test]
    fn earnings_are_the_sums_of_the_receipts(
        came in proptest::collection::vec((0_u64..5 * 86_400, 1_u32..9, proptest::bool::ANY), 1..20),
        quarters in -48_i32..=56,
    ) {
        let (wallet, first) = (wallet(), 20_000 * 86_400);
        for (number, (second, units, twice)) in (0..).zip(&came) {
            let made = Made::new(number, *units);
            let mut writes = vec![made.receipt(Standing::Unchecked)];
            if *twice {
                writes.push(made.receipt(Standing::Checked));
            }
            wallet.write(at(first + second), &writes, ROOM).unwrap();
        }
        let offset = UtcOffset::try_from(quarters * 15).unwrap();
        let earnings = wallet.earnings(at(first + 5 * 86_400), 9, offset).unwrap();
        let receipts = wallet.receipts(0, 100).unwrap().receipts;
        let sum = |from: Timestamp, to: Timestamp| {
            let within = receipts.iter().filter(|view| view.kept >= from && view.kept < to);
            within.fold(Earned::default(), |sum, view| sum.plus(Earned::by(&view.receipt)))
        };
        for day in &earnings.days {
            let next = day.since + Duration::from_secs(86_400);
            proptest::prop_assert_eq!(day.earned, sum(day.since, next));
        }
        proptest::prop_assert_eq!(earnings.total, sum(at(0), at(u64::MAX / 1_000)));
        proptest::prop_assert_eq!(earnings.latest(9), earnings.total);
    }
}

/// Returns the rows of a table, of which there must be some, as lines of its name, key and value in hex.
fn rows<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'static, K, V>,
) -> String {
    use data_encoding::HEXLOWER;
    let table = transaction.open_table(definition).unwrap();
    let line = |row: Result<(redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>), _>| {
        let (key, value): (_, _) = row.map_err(|error: redb::StorageError| error).unwrap();
        let key = HEXLOWER.encode(K::as_bytes(&key.value()).as_ref());
        let value = HEXLOWER.encode(V::as_bytes(&value.value()).as_ref());
        format!("{} {key} {value}\n", redb::TableHandle::name(&definition))
    };
    let lines: Vec<String> = table.iter().unwrap().map(line).collect();
    assert!(!lines.is_empty(), "{definition}");
    lines.concat()
}

/// One grant, one batch of all its results, one receipt for them.
struct Made {
    grant: Verified<Grant>,
    card: Verified<RateCard>,
    results: Vec<UnitResult>,
    receipt: Verified<Receipt>,
}

impl Made {
    fn new(number: u8, units: u32) -> Self {
        Self::of(number, units, Rates::free("EUR".parse().unwrap()), "")
    }

    fn tiles() -> Self {
        let mut rates = Rates::free("EUR".parse().unwrap());
        let program = BlobId::of(b"program");
        rates.pixel_weights = vec![PixelWeight {
            program,
            fuel: 1_000,
        }];
        Self::of(0, 2, rates, "70 40 3 4 64 32")
    }

    fn of(number: u8, units: u32, rates: Rates, params: &str) -> Self {
        let card = RateCard {
            version: 1,
            published: at(0),
            rates,
        };
        let card = sign(card, 1);
        let leased = |unit| LeasedUnit {
            unit,
            attempt: 0,
            start: u64::from(unit) * 10,
            bytes: 10,
            params: params.to_owned(),
        };
        let grant = Grant {
            id: GrantId::from_bytes([number; 16]),
            device: node(9),
            customer: NodeId::from_bytes([8; 32]),
            task: TaskId::from_bytes([number; 32]),
            unit_count: units,
            program: BlobRef::of(b"program"),
            args: vec![],
            limits: Limits {
                fuel: 1 << 40,
                memory_bytes: 1 << 20,
                output_bytes: 100,
            },
            profile: "test-1".parse().unwrap(),
            input: BlobRef::of(b"input"),
            units: (0..units).map(leased).collect(),
            rate_card: card.id(),
            issued: at(1_000),
            deadline: at(2_000),
        };
        let result = |unit| UnitResult {
            grant: grant.id,
            unit,
            outcome: Outcome::Done,
            fuel: 7_000_000,
            output: BlobRef::of(b"out"),
            inline: Some(b"out".to_vec()),
        };
        let results: Vec<UnitResult> = (0..units).map(result).collect();
        let receipt = receipt_for(&grant, &results);
        Self {
            grant: sign(grant, 1),
            card,
            results,
            receipt: sign(receipt, 1),
        }
    }

    fn root(&self) -> Hash {
        root_of(&self.results)
    }

    fn batch(&self) -> Write {
        let read = BlobGrant {
            reader: node(9),
            ranges: vec![],
            expires: at(2_000),
        };
        let papers = Papers {
            id: self.grant.id,
            grant: self.grant.signed().clone(),
            read: sign(read, 1).signed().clone(),
            card: self.card.signed().clone(),
            card_id: self.card.id(),
        };
        Write::Batch(Box::new(KeptBatch {
            coordinator: node(1),
            root: self.root(),
            batch: self.signed_batch(9, 1),
            results: self.results.clone(),
            papers: vec![Arc::new(papers)],
        }))
    }

    fn signed_batch(&self, by: u8, coordinator: u8) -> Signed<Batch> {
        let batch = Batch::of(&self.results, node(coordinator), at(1_400));
        sign(batch, by).signed().clone()
    }

    fn receipt(&self, standing: Standing) -> Write {
        let receipt = self.receipt.clone();
        Write::Receipt(Box::new(KeptReceipt { receipt, standing }))
    }

    fn proof(&self, log: u8) -> Write {
        Write::Proof(self.receipt.id(), Box::new(self.proved(log)))
    }

    /// The proof that the receipt is the second of three entries in the log of this node.
    fn proved(&self, log: u8) -> DossierProof {
        let receipted = Event::Receipted {
            receipt: self.receipt.signed().clone(),
            batches: vec![],
        };
        let entry = codec::to_bytes(&Entry {
            sequence: 1,
            at: at(1_500),
            event: receipted,
            posting: None,
        });
        let leaves = [leaf_hash(b"first"), leaf_hash(&entry), leaf_hash(b"third")];
        let head = TreeHead {
            size: 3,
            root: root(leaves),
        };
        let key = SigningKey::from_bytes(&[log; 32]);
        let checkpoint = VerifiedCheckpoint::sign(head, &network(), &key);
        let proof = LogProof {
            extra: None,
            index: 1,
            path: vec![leaves[0], leaves[2]],
            checkpoint: checkpoint.signed().clone(),
        };
        let proof = proof.to_string();
        DossierProof { entry, proof }
    }

    fn forged(&self, forge: impl FnOnce(&mut Receipt)) -> Signed<Receipt> {
        let mut receipt = self.receipt.value().clone();
        forge(&mut receipt);
        sign(receipt, 1).signed().clone()
    }
}

/// The receipt that an honest coordinator gives for all of these.
fn receipt_for(grant: &Grant, results: &[UnitResult]) -> Receipt {
    let units = u32::try_from(results.len()).unwrap();
    let mut share = BatchShare {
        batch: root_of(results),
        runs: vec![],
    };
    (0..units).for_each(|unit| share.push(unit, unit));
    let (count, pixels) = (u64::from(units), tiles::core_pixels(&grant.units[0].params));
    let each = if pixels > 0 { pixels } else { 7_000 + 1 };
    Receipt {
        sequence: 0,
        holder: Holder {
            owner: node(7),
            device: node(9),
        },
        task: grant.task,
        shares: vec![share],
        units,
        fuel: 7_000_000 * count,
        bytes: 13 * count,
        pixels: pixels * count,
        points: Points::from_micro(each * count),
        rate_card: grant.rate_card,
        profile: grant.profile.clone(),
        validation: Validation::Quorum(2),
        leased_at: grant.issued,
        done_at: at(1_500),
    }
}

fn root_of(results: &[UnitResult]) -> Hash {
    Batch::of(results, node(1), at(0)).root
}

fn dossier(wallet: &Wallet, made: &Made) -> Dossier {
    let id = made.receipt.id();
    wallet.dossier(id).unwrap().expect("the receipt is there")
}

fn wallet() -> Wallet {
    Wallet::on_backend(InMemoryBackend::new(), &identity()).unwrap()
}

fn identity() -> Identity {
    Identity {
        network: network(),
        node: node(9),
    }
}

fn sign<T: tally_protocol::signed::Statement>(value: T, by: u8) -> Verified<T> {
    Verified::sign(value, &network(), &SigningKey::from_bytes(&[by; 32]))
}

fn node(number: u8) -> NodeId {
    let key = SigningKey::from_bytes(&[number; 32]);
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

fn network() -> NetworkId {
    "test".parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}
