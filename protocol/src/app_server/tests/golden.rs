//! The bytes of every kind of fact, and of a snapshot, as they were when the format was settled.

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::users::{enrol, statement};
use super::*;
use crate::id::RedemptionId;
use crate::settlement::SettleFault;

/// Returns the name of a fact: its variant, and that of what is in it.
fn name(fact: &Fact) -> String {
    let variant = |value: &Value| match value {
        Value::String(name) => Some((name.clone(), Value::Null)),
        Value::Object(fields) if fields.len() == 1 => {
            let (name, content) = fields.iter().next()?;
            Some((name.clone(), content.clone()))
        }
        _ => None,
    };
    let value = serde_json::to_value(fact).unwrap();
    let (outer, content) = variant(&value).unwrap();
    let inner = match outer.as_str() {
        "order" => variant(&content["change"]),
        "agreement" | "user" | "settlement" => variant(&content),
        _ => None,
    };
    inner.map_or(outer.clone(), |(inner, _)| format!("{outer}.{inner}"))
}

/// A short life in which everything happens.
fn life() -> Desk {
    let mut desk = Desk::new();
    enrol(&mut desk, 1).unwrap();
    let statements = vec![statement(1, BANKS[0], (5, 100))];
    desk.answer(|question| Input::Told {
        question,
        statements,
    })
    .unwrap();
    let order = desk.open_license();
    let some = vec![points(&desk, order, BANKS[0], 300)];
    let id = RedemptionId::of(some[0].0.signed());
    desk.redeem(order, some).unwrap();
    desk.deliver();
    desk.pay(order, "bank 1").unwrap();
    let license = issued_license(&desk, order).id;
    let bank = node(BANKS[0]);
    desk.banks[0].forgot.push(id);
    for command in [
        Command::SetStatus(license, Status::Suspended),
        Command::Settle(bank),
        Command::Resolve(bank, id),
        Command::Settle(bank),
        Command::SettlementPaid {
            coordinator: bank,
            number: 2,
            reference: "wire 1".to_owned(),
        },
        Command::Refund(order),
        Command::Revoke {
            device: node(1),
            reason: "sold".to_owned(),
        },
    ] {
        desk.order(command).unwrap();
        desk.deliver();
    }
    let order = desk.open(voucher(1_000), "voucher").unwrap().order;
    let some = vec![points(&desk, order, BANKS[1], 400)];
    desk.redeem(order, some).unwrap();
    desk.deliver();
    let voucher = Box::new(issued_voucher(&desk, order));
    desk.answer(|question| Input::UseVoucher {
        question,
        voucher,
        fee: euro(900),
        key: "shop 1".parse().unwrap(),
    })
    .unwrap();
    desk.open_license();
    desk.pass(32 * 86_400);
    desk
}

#[test]
fn facts_and_snapshots_are_stored_as_ever() {
    let desk = life();
    let mut samples: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for bytes in &desk.facts {
        let fact: Fact = codec::from_bytes(bytes, 1 << 20).unwrap();
        samples.entry(name(&fact)).or_insert_with(|| bytes.clone());
    }
    // What honest coordinators never make happen.
    let rare = [
        Fact::Agreement(AgreementFact::Declined(node(1), Declined::ByOperator)),
        Fact::Settlement(SettlementFact::Refused(
            node(1),
            SettleFault::Supply { most: 2 },
        )),
        Fact::Order {
            order: OrderId::from_bytes([1; 16]),
            change: OrderChange::FoundTaken(RedemptionId::from_bytes([2; 16])),
            at: Timestamp::from_millis(3),
        },
    ];
    samples.extend(rare.iter().map(|fact| (name(fact), codec::to_bytes(fact))));
    samples.insert("snapshot".to_owned(), desk.server.snapshot());
    assert_eq!(samples.len(), 32, "every kind: {:?}", samples.keys());
    let lines = samples
        .iter()
        .map(|(name, bytes)| format!("{name} {}\n", HEXLOWER.encode(bytes)));
    let found: String = lines.collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/app_server.txt");
    if std::env::var_os("TALLY_GOLDEN").is_some_and(|how| how == "write") {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden, "what is stored already keeps its meaning");
    }
    assert_eq!(found.lines().count(), golden.lines().count());
}

#[test]
fn no_bytes_make_the_restore_panic() {
    let desk = life();
    let fact = &desk.facts[0];
    for cut in 0..fact.len() {
        let cut = &fact[..cut];
        let restored = AppServer::restore(config(), [0; 32], None, [cut]);
        assert!(matches!(restored, Err(RestoreError::Fact { index: 0, .. })));
        let none: [&[u8]; 0] = [];
        let restored = AppServer::restore(config(), [0; 32], Some(cut), none);
        assert!(matches!(restored, Err(RestoreError::Snapshot(_))));
    }
}

#[test]
fn the_code_of_a_fault_is_what_it_is_written_as() {
    for fault in [
        Fault::UnknownProduct,
        Fault::OtherPoints {
            needed: Points::ZERO,
        },
        Fault::WrongPhase { phase: Phase::Void },
        Fault::KeyUsed,
        Fault::Full,
    ] {
        let written = serde_json::to_value(&fault).unwrap();
        assert_eq!(written["code"], fault.code());
    }
}
