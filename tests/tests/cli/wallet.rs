//! `tally wallet` and `tally receipt`, from the file of a terminal that does not run.

use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use serde_json::Value;
use tally_ledger::store::Identity;
use tally_ledger::wallet::{KeptBatch, Papers, Wallet, Write};
use tally_protocol::account::Holder;
use tally_protocol::id::{GrantId, NetworkId, NodeId, TaskId};
use tally_protocol::message::blob::BlobGrant;
use tally_protocol::message::work::{Batch, Grant, LeasedUnit, UnitResult};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{RateCard, Rates};
use tally_protocol::receipt::{BatchShare, LeafRun, Receipt, Validation};
use tally_protocol::signed::{Statement, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{KeptReceipt, Standing};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Limits, Outcome};
use tally_tests::net::Net;

use crate::net;

/// What each unit used.
const FUEL: u64 = 7_000_000;
/// When the work was done: 2026-01-05, at eight.
const DONE: Timestamp = Timestamp::from_millis(1_767_600_000_000);

#[test]
fn wallet_says_what_was_earned_from_a_file() {
    let (net, receipts) = earned(3);
    let file = net.path("wallet.redb");
    let ask = |args: &[&str]| wallet(&net, args, &file);
    let balance: Value = ask(&["--json"]).done().json();
    let [coordinator] = balance["coordinators"].as_array().unwrap().as_slice() else {
        panic!("{balance}");
    };
    assert_eq!(coordinator["coordinator"], node(1).to_string());
    assert_eq!(
        (&coordinator["receipts"], &coordinator["owing"]),
        (&3.into(), &false.into())
    );
    assert_eq!(coordinator["owners"][0]["owner"], node(7).to_string());
    let text = ask(&[]).done();
    assert!(
        text.text().contains(&format!("..{}", node(7).short())),
        "{}",
        text.text()
    );

    let page: Value = ask(&["receipts", "--limit", "2", "--json"]).done().json();
    let listed = page["receipts"].as_array().unwrap();
    assert_eq!((listed.len(), &page["next"]), (2, &2.into()));
    assert_eq!(listed[1]["id"], receipts[1]);
    let text = ask(&["receipts", "--from", "2"]).done();
    assert!(text.text().contains(&receipts[2][..8]), "{}", text.text());

    let shown: Value = ask(&["show", &receipts[1][..12], "--json"]).done().json();
    assert_eq!(
        (&shown["id"], &shown["leaves"]),
        (&receipts[1].clone().into(), &2.into())
    );
    let text = ask(&["show", &receipts[1]]).done();
    assert!(
        text.text().contains("2 devices reported the same"),
        "{}",
        text.text()
    );
    for unknown in ["ffffffffffff", ""] {
        let failure = ask(&["show", unknown, "--json"]).failure();
        assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
        assert!(
            failure.hint.contains("tally wallet receipts"),
            "{failure:?}"
        );
    }
}

#[test]
fn wallet_says_when_there_is_none() {
    let net = net();
    let failure = wallet(&net, &["--json"], &net.path("nothing.redb")).failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    assert!(failure.hint.contains("terminal"), "{failure:?}");
    drop(Wallet::create_or_open(&net.path("wallet.redb"), &identity()).unwrap());
    let empty = wallet(&net, &[], &net.path("wallet.redb")).done();
    assert_eq!(empty.text(), "nothing was earned yet\n");
}

#[test]
fn receipt_verify_tells_right_from_changed_and_from_somebody_elses() {
    let (net, receipts) = earned(2);
    let (file, folder) = (net.path("wallet.redb"), net.path("receipts"));
    let folder_name = folder.to_str().unwrap();
    let _ = wallet(&net, &["export", folder_name], &file).done();
    let mut written: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    written.sort();
    assert_eq!(written.len(), 2);
    let verify = |receipt: &str, more: &[&str]| {
        net.run(&[&["receipt", "verify", receipt, "--json"], more].concat())
    };
    let first = written[0].to_str().unwrap();
    let key = node(1).to_string();
    let verified: Value = verify(first, &["--key", &key]).done().json();
    assert_eq!(
        (&verified["sound"], &verified["complete"]),
        (&true.into(), &false.into()),
        "without a proof of the log"
    );
    assert!(
        receipts.iter().any(|id| verified["id"] == *id.as_str()),
        "{verified}"
    );
    let text = net.run(&["receipt", "verify", first]).done();
    assert!(
        text.text().contains("not checked, without"),
        "{}",
        text.text()
    );
    let from_wallet = verify(&receipts[1], &["--file", file.to_str().unwrap()]).done();
    assert_eq!(from_wallet.json::<Value>()["id"], receipts[1]);
    assert_eq!(
        verify(first, &["--key", &node(2).to_string()])
            .failure()
            .exit,
        6
    );

    let mut dossier: Value = serde_json::from_slice(&std::fs::read(first).unwrap()).unwrap();
    dossier["batches"][0]["results"][1]["fuel"] = (FUEL + 1).into();
    let changed = net.path("changed.json");
    std::fs::write(&changed, dossier.to_string()).unwrap();
    let failure = verify(changed.to_str().unwrap(), &[]).failure();
    assert_eq!(failure.exit, 6);
    assert!(failure.hint.contains("no proof"), "{failure:?}");
    std::fs::write(&changed, "something else").unwrap();
    let failure = verify(changed.to_str().unwrap(), &[]).failure();
    assert!(failure.hint.contains("tally wallet export"), "{failure:?}");
}

fn wallet(net: &Net, args: &[&str], file: &Path) -> tally_tests::run::Ran {
    net.run(
        &[
            &["wallet", "--file", file.to_str().expect("a path of text")],
            args,
        ]
        .concat(),
    )
}

/// Makes `wallet.redb` with so many receipts for two units each, and returns their ids.
fn earned(count: u8) -> (Net, Vec<String>) {
    let net = net();
    let wallet = Wallet::create_or_open(&net.path("wallet.redb"), &identity()).expect("a sample");
    let receipts = (0..count).map(|number| {
        let (batch, receipt) = work(number);
        let id = receipt.id().to_string();
        let standing = Standing::Checked;
        let kept = Write::Receipt(Box::new(KeptReceipt { receipt, standing }));
        wallet
            .write(DONE, &[batch, kept], 1 << 30)
            .expect("a sample");
        id
    });
    let receipts = receipts.collect();
    (net, receipts)
}

/// Two units of one grant, as the device reported them, and the receipt for them.
fn work(number: u8) -> (Write, Verified<Receipt>) {
    let rates = Rates::free("EUR".parse().expect("a sample"));
    let (version, published) = (1, DONE);
    let card = sign(
        RateCard {
            version,
            published,
            rates,
        },
        1,
    );
    let grant = grant(number, &card);
    let result = |unit| UnitResult {
        grant: grant.id,
        unit,
        outcome: Outcome::Done,
        fuel: FUEL,
        output: BlobRef::of(b"out"),
        inline: None,
    };
    let results: Vec<UnitResult> = (0..2).map(result).collect();
    let batch = sign(Batch::of(&results, node(1), DONE), 9);
    let (root, receipt) = (batch.root, receipt(&grant, batch.root));
    let read = BlobGrant {
        reader: node(9),
        ranges: vec![],
        expires: DONE,
    };
    let papers = Papers {
        id: grant.id,
        grant: sign(grant, 1).signed().clone(),
        read: sign(read, 1).signed().clone(),
        card: card.signed().clone(),
        card_id: card.id(),
    };
    let kept = KeptBatch {
        coordinator: node(1),
        root,
        batch: batch.signed().clone(),
        results,
        papers: vec![Arc::new(papers)],
    };
    (Write::Batch(Box::new(kept)), sign(receipt, 1))
}

fn grant(number: u8, card: &Verified<RateCard>) -> Grant {
    let leased = |unit: u32| LeasedUnit {
        unit,
        attempt: 0,
        start: u64::from(unit) * 10,
        bytes: 10,
        params: String::new(),
    };
    Grant {
        id: GrantId::from_bytes([number; 16]),
        device: node(9),
        customer: NodeId::from_bytes([8; 32]),
        task: TaskId::from_bytes([number; 32]),
        unit_count: 2,
        program: BlobRef::of(b"program"),
        args: vec![],
        limits: Limits {
            fuel: 1 << 40,
            memory_bytes: 1 << 20,
            output_bytes: 100,
        },
        profile: "test-1".parse().expect("a sample"),
        input: BlobRef::of(b"input"),
        units: (0..2).map(leased).collect(),
        rate_card: card.id(),
        issued: DONE,
        deadline: DONE,
    }
}

fn receipt(grant: &Grant, batch: tally_protocol::id::Hash) -> Receipt {
    let (leaf, unit, count) = (0, 0, 2);
    Receipt {
        sequence: 0,
        holder: Holder {
            owner: node(7),
            device: node(9),
        },
        task: grant.task,
        shares: vec![BatchShare {
            batch,
            runs: vec![LeafRun { leaf, unit, count }],
        }],
        units: 2,
        fuel: 2 * FUEL,
        bytes: 2 * 13,
        pixels: 0,
        points: Points::from_micro(2 * 7_001),
        rate_card: grant.rate_card,
        profile: grant.profile.clone(),
        validation: Validation::Quorum(2),
        leased_at: DONE,
        done_at: DONE,
    }
}

fn identity() -> Identity {
    Identity {
        network: network(),
        node: node(9),
    }
}

fn network() -> NetworkId {
    "test".parse().expect("a sample")
}

fn sign<T: Statement>(value: T, by: u8) -> Verified<T> {
    Verified::sign(value, &network(), &SigningKey::from_bytes(&[by; 32]))
}

fn node(number: u8) -> NodeId {
    let key = SigningKey::from_bytes(&[number; 32]);
    NodeId::from_bytes(key.verifying_key().to_bytes())
}
