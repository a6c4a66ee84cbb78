//! What coordinators owe, and that both agree on it.

use super::users::{enrol, statement};
use super::*;
use crate::id::RedemptionId;
use crate::settlement::{SettleFault, Settlement};

impl Desk {
    fn settle(&mut self, bank: u8) -> Settlement {
        let answer = self.order(Command::Settle(node(bank))).unwrap();
        let Answer::Settlement(signed) = answer else {
            panic!("{answer:?}");
        };
        self.deliver();
        signed.verify(&network()).unwrap().value().clone()
    }

    fn sell(&mut self, cents: u64) -> (OrderId, RedemptionId) {
        let order = self.open_license();
        let some = vec![points(self, order, BANKS[0], cents)];
        let id = RedemptionId::of(some[0].0.signed());
        self.redeem(order, some).unwrap();
        self.deliver();
        let reference = format!("bank {}", self.asked);
        self.pay(order, &reference).unwrap();
        (order, id)
    }

    fn settlement_paid(&mut self, number: u32, reference: &str) -> Result<Answer, Fault> {
        self.order(Command::SettlementPaid {
            coordinator: node(BANKS[0]),
            number,
            reference: reference.to_owned(),
        })
    }
}

#[test]
fn a_settlement_has_what_is_owed_since_the_last_one() {
    let mut desk = Desk::new();
    let (first, _) = desk.sell(300);
    desk.sell(200);
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.number, settled.due), (1, 500));
    assert_eq!((settled.redeemed.count, settled.redeemed.minor), (2, 500));
    assert_eq!(i128::from(settled.due), desk.owed_by(node(BANKS[0])));
    assert_eq!(desk.server.settlements(node(BANKS[0])).len(), 1);
    desk.settlement_paid(1, "wire 1").unwrap();
    desk.settlement_paid(1, "wire 1").unwrap();
    assert_eq!(desk.settlement_paid(1, "wire 2"), Err(Fault::ReferenceUsed));
    assert_eq!(desk.owed_by(node(BANKS[0])), 0);
    desk.order(Command::Refund(first)).unwrap();
    desk.deliver();
    desk.sell(100);
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.redeemed.minor, settled.reversed.minor), (100, 300));
    assert_eq!(settled.due, -200, "the app server owes it");
    desk.settlement_paid(2, "wire 3").unwrap();
    assert_eq!(desk.owed_by(node(BANKS[0])), 0);
    desk.restart(0);
    assert_eq!(desk.settle(BANKS[0]).due, 0, "nothing is counted twice");
    desk.audit();
}

#[test]
fn what_a_coordinator_does_not_know_is_left_out_until_it_is_resolved() {
    let mut desk = Desk::new();
    desk.sell(300);
    let (_, unknown) = desk.sell(200);
    desk.banks[0].forgot.push(unknown);
    desk.settle(BANKS[0]);
    let coordinator = node(BANKS[0]);
    assert!(desk.server.settlements(coordinator).is_empty());
    assert_eq!(
        desk.server.disputed(coordinator).collect::<Vec<_>>(),
        [unknown]
    );
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.number, settled.due), (2, 300));
    assert_eq!(settled.disputed, [unknown]);
    desk.order(Command::Resolve(coordinator, unknown)).unwrap();
    assert_eq!(desk.settle(BANKS[0]).due, 200);
    assert!(desk.order(Command::Resolve(coordinator, unknown)).is_err());
    desk.audit();
}

#[test]
fn what_a_coordinator_cannot_agree_on_is_stated_anew_as_it_can() {
    let mut desk = Desk::new();
    desk.sell(300);
    let bank = node(BANKS[0]);
    for device in 1..=2 {
        enrol(&mut desk, device).unwrap();
    }
    desk.deliver();
    let told = (1..=2).map(|device| statement(device, BANKS[0], (5, 100)));
    let statements = told.collect();
    desk.answer(|question| Input::Told {
        question,
        statements,
    })
    .unwrap();
    let number = SettleFault::Number { last: 6 };
    desk.banks[0].refuses = Some(number);
    assert_eq!(desk.settle(BANKS[0]).number, 1);
    assert_eq!(desk.server.settlement_fault(bank), Some(number));
    desk.restart(0);
    desk.banks[0].refuses = Some(SettleFault::Supply { most: 1 });
    assert_eq!(desk.settle(BANKS[0]).supply_devices, 2);
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.number, settled.supply_devices), (8, 1));
    assert_eq!((settled.due, desk.owed_by(bank)), (325, 325));
    assert_eq!(desk.server.settlement_fault(bank), None);
    desk.audit();
}

#[test]
fn what_was_given_back_before_its_settlement_is_in_it_both_ways() {
    let mut desk = Desk::new();
    let (order, _) = desk.sell(300);
    desk.order(Command::Refund(order)).unwrap();
    desk.deliver();
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.redeemed.count, settled.reversed.count), (1, 1));
    assert_eq!((settled.due, desk.owed_by(node(BANKS[0]))), (0, 0));
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.redeemed.count, settled.reversed.count), (0, 0));
    desk.audit();
}

#[test]
fn a_statement_waits_for_its_answer_and_is_not_made_twice() {
    let mut desk = Desk::new();
    desk.sell(300);
    desk.banks[0].is_down = true;
    let first = desk.settle(BANKS[0]);
    desk.sell_with_money();
    assert_eq!(desk.settle(BANKS[0]), first);
    desk.restart(0);
    desk.pass(60);
    desk.banks[0].is_down = false;
    desk.pass(600);
    assert_eq!(desk.server.settlements(node(BANKS[0]))[0].value, first);
}

#[test]
fn devices_that_earned_something_are_counted_once_a_period() {
    let mut desk = Desk::new();
    for device in 1..=3 {
        enrol(&mut desk, device).unwrap();
    }
    desk.deliver();
    let told = vec![
        statement(1, BANKS[0], (5, 100)),
        statement(2, BANKS[0], (5, 100)),
    ];
    desk.answer(|question| Input::Told {
        question,
        statements: told,
    })
    .unwrap();
    let settled = desk.settle(BANKS[0]);
    assert_eq!((settled.supply_devices, settled.due), (2, 50));
    assert_eq!(desk.owed_by(node(BANKS[0])), 50);
    let told = vec![statement(1, BANKS[0], (6, 200))];
    desk.answer(|question| Input::Told {
        question,
        statements: told,
    })
    .unwrap();
    assert_eq!(desk.settle(BANKS[0]).supply_devices, 0, "the same period");
    desk.pass(86_400);
    assert_eq!(desk.settle(BANKS[0]).supply_devices, 1);
    desk.audit();
}

impl Desk {
    fn sell_with_money(&mut self) {
        let order = self.open_license();
        self.pay(order, "cash").unwrap();
    }
}
