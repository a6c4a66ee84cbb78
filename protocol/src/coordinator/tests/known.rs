//! Known-answer units: who gets them, who pays for them, and who is found out.

use super::money::{desk_with, euro, priced};
use super::*;
use crate::account::{Account, Commodity};
use crate::message::work::{ResultVerdict, UnpaidReason};

/// A desk that leases every validated unit once more, with so many cents of its own for it.
fn desk(subsidy: u64) -> Desk {
    let mut desk = desk_with(1_000);
    desk.deposit(1_000, "bank 1").unwrap();
    if subsidy > 0 {
        desk.order(Order::Move {
            movement: Movement::Deposit(Fund::Subsidy),
            money: euro(subsidy),
            reference: "own".to_owned(),
        })
        .unwrap();
    }
    desk
}

/// Has the devices 1 and 2 agree on the first of four units.
fn validate_one(desk: &mut Desk) -> TaskId {
    let task = desk.run(priced("known", 2, 600), 4);
    for device in [1, 2] {
        let grant = desk.lease(device, 1);
        assert_eq!(units_of(&grant), [0]);
        desk.report(device, results(&grant, b"right"));
    }
    task
}

fn subsidy(desk: &Desk) -> i128 {
    let euro = Commodity::Money("EUR".parse().unwrap());
    let balance = desk.coordinator.books.balance(Account::Subsidy, euro);
    balance.available()
}

#[test]
fn the_known_answer_is_paid_by_the_coordinator() {
    let mut desk = desk(10);
    let task = validate_one(&mut desk);
    for known in [1, 2] {
        let grant = desk.lease(known, 2);
        assert!(!units_of(&grant).contains(&0), "it knows the unit");
        desk.report(known, results(&grant, b"right"));
    }
    desk.pass(2);
    let paid = desk.status(task).cost;
    let grant = desk.lease(3, 3);
    assert_eq!(units_of(&grant)[0], 0, "the known one comes with others");
    let answers = results(&grant, b"right");
    let verdicts = desk.report(3, answers[..1].to_vec()).verdicts;
    assert_eq!(verdicts, [ResultVerdict::Counted]);
    desk.pass(2);
    let receipts = desk.receipts();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].0.validation, Validation::KnownAnswer);
    assert_eq!(receipts[0].0.holder.device, node(3));
    assert_eq!(desk.points(node(3)), (500, 500));
    assert_eq!(desk.status(task).cost, paid, "the customer pays nothing");
    assert_eq!(subsidy(&desk), 9);
    desk.audit();
}

#[test]
fn who_gives_another_answer_is_not_paid_and_is_named() {
    let mut desk = desk(10);
    let task = validate_one(&mut desk);
    let grant = desk.lease(3, 2);
    assert_eq!(units_of(&grant)[0], 0);
    let answers = results(&grant, b"wrong");
    let told = desk.report(3, answers[..1].to_vec()).unpaid;
    assert_eq!((told[0].unit, told[0].reason), (0, UnpaidReason::Outvoted));
    desk.pass(2);
    assert_eq!(desk.points(node(3)), (0, 0));
    assert_eq!(subsidy(&desk), 10);
    let devices = desk.status(task).devices;
    let found = devices.iter().find(|(device, _)| **device == node(3));
    let (_, tally) = found.unwrap();
    assert_eq!((tally.outvoted, &tally.outvoted_units[..]), (1, &[0][..]));
    desk.audit();
}

#[test]
fn nothing_is_checked_that_the_subsidy_cannot_pay() {
    let mut poor = desk(0);
    validate_one(&mut poor);
    assert_eq!(units_of(&poor.lease(3, 2))[0], 1, "not the known one");
    // One cent pays for 2,000 upt, rounded up: a unit of 1,000 upt each.
    let mut desk = desk(1);
    validate_one(&mut desk);
    for device in [1, 2] {
        let grant = desk.lease(device, 1);
        assert_eq!(units_of(&grant), [1], "now two are known");
        desk.report(device, results(&grant, b"right"));
    }
    let first = desk.lease(3, 1);
    assert_eq!(units_of(&first), [0]);
    let second = desk.lease(4, 1);
    assert_eq!(units_of(&second), [2], "the cent is promised");
    desk.report(3, results(&first, b"right"));
    desk.pass(2);
    assert_eq!(subsidy(&desk), 0);
    desk.audit();
}

#[test]
fn as_much_is_checked_as_the_subsidy_can_pay() {
    let mut desk = desk(2);
    validate_one(&mut desk);
    for device in [1, 2] {
        let grant = desk.lease(device, 1);
        desk.report(device, results(&grant, b"right"));
    }
    for (device, known) in [(3, 0), (4, 1)] {
        let grant = desk.lease(device, 1);
        assert_eq!(units_of(&grant), [known], "a cent for each");
        desk.report(device, results(&grant, b"right"));
    }
    desk.pass(2);
    assert_eq!(subsidy(&desk), 0);
    desk.audit();
}

#[test]
fn an_answer_is_paid_once_whenever_the_coordinator_stops() {
    for crash in 0..4 {
        let mut desk = desk(10);
        validate_one(&mut desk);
        let grant = desk.lease(3, 2);
        let answer = results(&grant, b"right")[..1].to_vec();
        let shown = vec![Verified::sign(grant, &network(), &key(ME))];
        if crash == 0 {
            desk.restart_with(money::rates());
        }
        let say = Say {
            results: answer.clone(),
            shown: shown.clone(),
            ..Say::default()
        };
        desk.pull_with(3, 0, say);
        if crash == 1 {
            desk.restart_with(money::rates());
        }
        desk.pass(2);
        if crash == 2 {
            desk.restart_with(money::rates());
        }
        let say = Say {
            results: answer,
            shown,
            ..Say::default()
        };
        desk.pull_with(3, 0, say);
        desk.pass(2);
        // Which units were known is forgotten in a crash: what was not answered by then is not wanted any more.
        let points = if crash == 0 { (0, 0) } else { (500, 500) };
        assert_eq!(desk.points(node(3)), points, "crash {crash}");
        desk.audit();
    }
}
