//! Funds, receipts, and what becomes of points.

use std::collections::BTreeMap;

use super::*;
use crate::account::{Account, Commodity};
use crate::books::{Balance, PostingFault};
use crate::message::work::{OWED_MAX, UnpaidReason};
use crate::points::Points;
use crate::rate_card::Price;
use crate::task::split::UnitTable;

/// One cent for 2,000 upt, half of it in reserve; escrow for 100 seconds, lots of 10.
pub(super) fn rates() -> Rates {
    let mut rates = Rates::free("EUR".parse().unwrap());
    let micro_points = 2_000;
    rates.price = Price {
        minor: 2,
        micro_points,
    };
    rates.reserve = Price {
        minor: 1,
        micro_points,
    };
    (rates.escrow_seconds, rates.lot_seconds) = (100, 10);
    rates
}

/// A task whose units, of 1,000 upt each, cost at most `max_price` cents.
pub(super) fn priced(name: &str, agree: u8, max_price: u64) -> Task {
    Task {
        rate_card: card(rates()).id(),
        max_price,
        ..task(name, agree)
    }
}

fn desk() -> Desk {
    desk_with(0)
}

/// A desk that leases so many of 1,000 validated units once more.
pub(super) fn desk_with(known_per_mille: u16) -> Desk {
    let mut desk = Desk::new();
    desk.coordinator = Coordinator::new(
        CoordinatorConfig {
            rates: rates(),
            known_per_mille,
            ..config()
        },
        [7; 32],
    );
    desk.facts.clear();
    desk.out.clear();
    desk.coordinator.resume(desk.now, &mut desk.out);
    desk.note_facts();
    desk
}

impl Desk {
    pub(super) fn order(&mut self, order: Order) -> Result<PostingId, OrderFault> {
        match self.answer(|question| Input::Ordered { question, order }) {
            Answer::Ordered(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn deposit(&mut self, cents: u64, reference: &str) -> Result<PostingId, OrderFault> {
        self.order(Order::Move {
            movement: Movement::Deposit(Fund::Customer(node(CUSTOMER))),
            money: euro(cents),
            reference: reference.to_owned(),
        })
    }

    pub(super) fn cents(&self, account: Account) -> i128 {
        let commodity = Commodity::Money("EUR".parse().unwrap());
        self.coordinator
            .books
            .balance(account, commodity)
            .available()
    }

    /// Returns the points in escrow and those that can be spent, of one owner.
    pub(super) fn points(&self, owner: NodeId) -> (i128, i128) {
        let (mut escrowed, mut spendable) = (0, 0);
        for ((account, _), balance) in self.coordinator.books.balances() {
            let of_owner = account.holder().is_some_and(|holder| holder.owner == owner);
            match account {
                Account::Escrow(_) if of_owner => escrowed += balance.posted(),
                Account::Spendable(_) if of_owner => spendable += balance.posted(),
                _ => {}
            }
        }
        (escrowed, spendable)
    }

    pub(super) fn receipts(&self) -> Vec<(Verified<Receipt>, Posting)> {
        let receipts = self.out.iter().filter_map(|effect| match effect {
            Effect::Append {
                event: Event::Receipted { receipt, .. },
                posting,
            } => Some((
                receipt.clone().verify(&network()).unwrap(),
                posting.clone().unwrap(),
            )),
            _ => None,
        });
        receipts.collect()
    }

    /// Checks what must hold of the books at any time.
    pub(super) fn audit(&self) {
        assert_eq!(
            self.books, self.coordinator.books,
            "the log gives the same books"
        );
        let mut sums: BTreeMap<Commodity, i128> = BTreeMap::new();
        let mut outstanding = 0;
        for ((account, commodity), balance) in self.books.balances() {
            *sums.entry(*commodity).or_default() += balance.posted();
            if account.holder().is_some() {
                outstanding += balance.posted();
            }
            assert!(account.is_source() || balance.available() >= 0, "{account}");
        }
        assert!(sums.values().all(|sum| *sum == 0), "{sums:?}");
        let reserve = self.cents(Account::Reserve);
        assert!(
            reserve * 2_000 >= outstanding,
            "{reserve} for {outstanding}"
        );
    }
}

pub(super) fn euro(cents: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money {
        currency,
        minor: cents,
    }
}

#[test]
fn a_customer_without_funds_is_refused_before_anything_is_recorded() {
    let mut desk = desk();
    let needed = euro(500);
    let refused = |available| Answer::Refused(Refusal::InsufficientFunds { needed, available });
    assert_eq!(desk.submit(priced("poor", 1, 500)), refused(euro(0)));
    desk.deposit(499, "one").unwrap();
    let facts = desk.facts.len();
    assert_eq!(desk.submit(priced("poor", 1, 500)), refused(euro(499)));
    assert_eq!(desk.facts.len(), facts);
    desk.deposit(1, "two").unwrap();
    assert!(matches!(
        desk.submit(priced("rich", 1, 500)),
        Answer::Status(_)
    ));
    assert_eq!(
        desk.cents(Account::Customer(node(CUSTOMER))),
        0,
        "all of it is held"
    );
    assert_eq!(
        desk.submit(priced("more", 1, 1)),
        Answer::Refused(Refusal::InsufficientFunds {
            needed: euro(1),
            available: euro(0),
        })
    );
    let terms = desk.coordinator.terms(node(CUSTOMER)).unwrap();
    assert_eq!((terms.available, terms.held), (euro(0), euro(500)));
    assert!(matches!(
        desk.submit(priced("free", 1, 0)),
        Answer::Refused(Refusal::InvalidTask(_))
    ));
    assert_eq!(
        desk.submit(task("old card", 1)),
        Answer::Refused(Refusal::OtherRateCard)
    );
    desk.audit();
}

#[test]
fn what_a_quorum_agreed_on_is_receipted_a_second_later_and_the_rest_of_the_hold_is_free() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    let id = desk.run(priced("paid", 2, 600), 3);
    let (one, two) = (desk.lease(1, 9), desk.lease(2, 9));
    desk.report(1, results(&one, b"right"));
    desk.pass(2);
    assert!(desk.receipts().is_empty(), "nobody has confirmed anything");
    desk.report(2, results(&two, b"right"));
    assert!(desk.receipts().is_empty());
    desk.pass(1);
    let receipts = desk.receipts();
    assert_eq!(receipts.len(), 2);
    let units = u64::from(receipts[0].0.units);
    for (receipt, _) in &receipts {
        assert_eq!(receipt.points, Points::from_micro(1_000 * units));
        assert_eq!((receipt.fuel, receipt.sequence), (9 * units, 0));
        assert!(receipt.is_well_formed());
        assert_eq!(receipt.signer(), me());
    }
    let pulled = desk.pull(1, 0);
    assert_eq!(pulled.receipts.len(), 1);
    let kept = vec![pulled.receipts[0].id()];
    let said = Say {
        kept,
        ..Say::default()
    };
    assert!(desk.pull_with(1, 0, said).receipts.is_empty(), "it is kept");
    for device in [1, 2, 1, 2] {
        if let Some(new) = desk.pull(device, 9).leased {
            desk.report(device, results(&new.grant, b"right"));
        }
    }
    desk.step(Input::Merged {
        task: id,
        result: Ok(BlobRef::of(b"result")),
    });
    // Three units, two devices, 1,000 upt each.
    let cost = desk.status(id).cost;
    assert_eq!(
        (cost.points.as_micro(), cost.paid, cost.held),
        (6_000, euro(6), euro(0))
    );
    assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 994);
    assert_eq!(
        (desk.cents(Account::Reserve), desk.cents(Account::Revenue)),
        (3, 3)
    );
    assert_eq!(desk.points(node(1)), (1_500, 1_500));
    desk.audit();
    desk.pass(120);
    assert_eq!(desk.points(node(1)), (0, 3_000), "escrow is over");
    desk.audit();
}

#[test]
fn an_outvoted_device_is_told_why_it_is_not_paid() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    desk.run(priced("liar", 2, 600), 1);
    let (honest, liar) = (desk.lease(1, 1), desk.lease(2, 1));
    desk.report(1, results(&honest, b"right"));
    desk.report(2, results(&liar, b"wrong"));
    let third = desk.lease(3, 1);
    desk.report(3, results(&third, b"right"));
    let told = desk.pull(2, 0).unpaid;
    assert_eq!((told[0].unit, told[0].reason), (0, UnpaidReason::Outvoted));
    assert!(desk.pull(2, 0).unpaid.is_empty(), "once");
    desk.pass(1);
    assert_eq!(desk.points(node(2)), (0, 0));
    assert_eq!(desk.points(node(3)), (500, 500));
    desk.audit();
}

#[test]
fn a_device_that_asks_what_it_is_owed_hears_after_a_crash_what_nothing_will_come_for() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    let id = desk.run(priced("owed", 2, 600), 4);
    for (device, output) in [(1, b"right"), (2, b"wrong"), (3, b"right")] {
        let grant = desk.lease(device, 1);
        assert_eq!(units_of(&grant), [0]);
        desk.report(device, results(&grant, output));
    }
    let open = desk.lease(2, 1);
    assert_eq!(units_of(&open), [1]);
    desk.report(2, results(&open, b"right"));
    let owed = |units: &[u32]| Say {
        owed: vec![Owed {
            task: id,
            units: units.to_vec(),
        }],
        ..Say::default()
    };
    let asked = |desk: &mut Desk, device, units: &[u32]| {
        let unpaid = desk.pull_with(device, 0, owed(units)).unpaid;
        let told = unpaid.iter().map(|unpaid| (unpaid.unit, unpaid.reason));
        told.collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut desk, 3, &[0]), [], "its receipt is due");
    desk.restart();
    assert_eq!(asked(&mut desk, 3, &[0]), [], "and still is");
    let settled = |unit| (unit, UnpaidReason::Settled);
    assert_eq!(
        asked(&mut desk, 2, &[0, 1]),
        [settled(0)],
        "it was outvoted; the other is undecided"
    );
    desk.pass(2);
    assert_eq!(
        asked(&mut desk, 3, &[0, 3]),
        [settled(0), settled(3)],
        "its receipt stands in the log; what it never had is not due"
    );
    desk.answer(|question| {
        let (task, by) = (id, node(CUSTOMER));
        Input::Cancelled { question, task, by }
    });
    desk.restart();
    assert_eq!(asked(&mut desk, 2, &[1]), [settled(1)]);
    let other = Owed {
        task: TaskId::from_bytes([9; 32]),
        units: (0..2_000).collect(),
    };
    let say = Say {
        owed: vec![other],
        ..Say::default()
    };
    assert_eq!(desk.pull_with(2, 0, say).unpaid.len(), OWED_MAX);
    desk.audit();
}

#[test]
fn no_unit_is_leased_that_could_not_be_paid() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    // A unit may be worth 1,000 upt to each of two: two cents. Five cents are enough for two of them.
    let id = desk.run(priced("tight", 2, 5), 4);
    let leased = |desk: &mut Desk, device| {
        let mut units = Vec::new();
        while let Some(new) = desk.pull(device, 9).leased {
            units.extend(units_of(&new.grant));
            desk.report(device, results(&new.grant, b"right"));
        }
        units
    };
    assert_eq!(leased(&mut desk, 1), [0, 1]);
    assert_eq!(leased(&mut desk, 2), [0, 1]);
    let status = desk.status(id);
    let Phase::Failed(reason) = status.summary.phase else {
        panic!("{status:?}");
    };
    assert_eq!(
        reason,
        "its highest price of 0.05 EUR is enough for 2 of 4 units: a unit may cost up to 0.02 EUR with its limits"
    );
    assert_eq!((status.cost.paid, status.cost.held), (euro(4), euro(0)));
    desk.audit();
}

#[test]
fn a_task_ends_at_its_deadline_and_its_hold_expires() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    let mut late = priced("late", 2, 600);
    late.deadline_millis = 5_000;
    let id = desk.run(late, 1);
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"right"));
    desk.pass(6);
    assert_eq!(desk.phase(id), "failed");
    assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 1_000);
    let told = desk.pull(1, 0).unpaid;
    assert_eq!(told[0].reason, UnpaidReason::TaskEnded);
    desk.audit();
}

#[test]
fn two_devices_of_one_owner_earn_into_one_balance_and_never_for_the_same_unit() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    desk.run(priced("owned", 2, 600), 1);
    let certify = |device| {
        let certificate = DeviceCertificate {
            device: node(device),
            not_before: Timestamp::default(),
            not_after: Timestamp::from_millis(1 << 36),
            serial: 1,
            redeem_points: Points::ZERO,
        };
        Some(Verified::sign(certificate, &network(), &key(99)))
    };
    let ask = |desk: &mut Desk, device, want, results: Vec<UnitResult>| {
        let say = Say {
            results,
            certificate: certify(device),
            ..Say::default()
        };
        desk.pull_with(device, want, say)
    };
    let first = ask(&mut desk, 1, 1, vec![]).leased.unwrap().grant;
    assert!(
        ask(&mut desk, 2, 1, vec![]).leased.is_none(),
        "its owner has the unit"
    );
    ask(&mut desk, 1, 0, results(&first, b"right"));
    assert!(ask(&mut desk, 2, 1, vec![]).leased.is_none());
    let other = desk.lease(3, 1);
    desk.report(3, results(&other, b"right"));
    desk.pass(1);
    assert_eq!(desk.points(node(99)), (500, 500));
    assert_eq!(desk.points(node(1)), (0, 0), "the device has an owner");
    let shown = Say {
        certificate: certify(2),
        ..Say::default()
    };
    assert_eq!(
        desk.ask(1, 1, shown),
        Answer::Refused(Refusal::BadCertificate)
    );
    desk.audit();
}

#[test]
fn the_log_has_a_certificate_that_holds_whenever_work_is_counted() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    desk.run(priced("owned", 1, 1_000), 3);
    let minute = Duration::from_secs(60);
    let certificate = |from: Timestamp| {
        let certificate = DeviceCertificate {
            device: node(1),
            not_before: from,
            not_after: from + minute * 2,
            serial: from.as_millis(),
            redeem_points: Points::ZERO,
        };
        Some(Verified::sign(certificate, &network(), &key(99)))
    };
    let mut logged = Vec::new();
    // The second minute it shows a newer one, though the first still holds; the third only that holds.
    for (minutes, is_logged) in [(0, true), (1, false), (1, true)] {
        desk.pass(60 * minutes);
        let shown = certificate(desk.now);
        let say = |results| Say {
            results,
            certificate: shown.clone(),
            ..Say::default()
        };
        let leased = desk.pull_with(1, 1, say(vec![])).leased.unwrap().grant;
        desk.pull_with(1, 0, say(results(&leased, b"right")));
        logged.extend(desk.out.iter().filter_map(|effect| match effect {
            Effect::Append {
                event: Event::DeviceCertified { certificate },
                ..
            } => Some(certificate.clone()),
            _ => None,
        }));
        let newest = logged.last() == Some(shown.unwrap().signed());
        assert_eq!(newest, is_logged);
    }
    assert_eq!(logged.len(), 2);
}

#[test]
fn a_payment_is_posted_once_and_nobody_gets_more_than_there_is() {
    let mut desk = desk();
    desk.deposit(700, "bank 1").unwrap();
    let repeated = desk.deposit(700, "bank 1").unwrap_err();
    assert_eq!(repeated.to_string(), "\"bank 1\" is posted already");
    desk.restart_with(rates());
    assert!(
        desk.deposit(700, "bank 1").is_err(),
        "after a restart as well"
    );
    let pay = |desk: &mut Desk, to, cents, reference: &str| {
        desk.order(Order::Move {
            movement: Movement::PayOut(to),
            money: euro(cents),
            reference: reference.to_owned(),
        })
    };
    let customer = Payee::Customer(node(CUSTOMER));
    assert!(matches!(
        pay(&mut desk, customer, 701, "out 1"),
        Err(OrderFault::Posting(PostingFault::Overdraft { .. }))
    ));
    pay(&mut desk, customer, 200, "out 1").unwrap();
    assert!(matches!(
        desk.deposit(1, "bank 1\n"),
        Err(OrderFault::Reference { .. })
    ));
    let yen = Order::Move {
        movement: Movement::Deposit(Fund::Subsidy),
        money: "7 JPY".parse().unwrap(),
        reference: "yen".to_owned(),
    };
    assert!(matches!(desk.order(yen), Err(OrderFault::Currency { .. })));
    assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 500);
    desk.audit();
}

#[test]
fn an_owner_is_paid_for_its_oldest_points_at_what_is_behind_them() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    earn(&mut desk, "first", 8);
    desk.pass(50);
    earn(&mut desk, "second", 8);
    desk.pass(200);
    assert_eq!(desk.points(node(1)), (0, 16_000));
    let pay = |desk: &mut Desk, cents, reference: &str| {
        desk.order(Order::Move {
            movement: Movement::PayOut(Payee::Owner(node(1))),
            money: euro(cents),
            reference: reference.to_owned(),
        })
    };
    assert!(matches!(
        pay(&mut desk, 9, "out"),
        Err(OrderFault::Posting(_))
    ));
    pay(&mut desk, 3, "out").unwrap();
    assert_eq!(desk.points(node(1)), (0, 10_000));
    assert_eq!(desk.cents(Account::Reserve), 5);
    let lots = desk.coordinator.books.balances();
    let spendable = lots.filter_map(|((account, _), balance)| match account {
        Account::Spendable(lot) => Some((lot.since, balance.posted())),
        _ => None,
    });
    let oldest = spendable.min().unwrap();
    assert_eq!(
        oldest.1, 2_000,
        "the oldest lot of 4,000 has gone, and half of the next"
    );
    desk.audit();
}

#[test]
fn a_receipt_that_is_taken_back_gives_the_customer_its_money() {
    let mut desk = desk();
    desk.deposit(1_000, "bank 1").unwrap();
    let (receipt, issued) = earn(&mut desk, "wrong", 8).remove(0);
    assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 992);
    let order = Order::ClawBack {
        receipt: Box::new(receipt),
        issued,
        reason: "found wrong".to_owned(),
    };
    desk.order(order.clone()).unwrap();
    assert_eq!(desk.points(node(1)), (0, 0));
    assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 1_000);
    assert_eq!(
        (desk.cents(Account::Reserve), desk.cents(Account::Revenue)),
        (0, 0)
    );
    assert!(matches!(
        desk.order(order),
        Err(OrderFault::Repeated { .. })
    ));
    desk.audit();
}

#[test]
fn points_that_nobody_spends_expire_and_what_was_behind_them_is_earned() {
    let mut desk = desk();
    let mut short = rates();
    short.life_seconds = 1_000;
    desk.restart_with(short);
    desk.deposit(1_000, "bank 1").unwrap();
    let mut task = priced("expiring", 1, 600);
    task.rate_card = desk.coordinator.rate_card().unwrap().id();
    earn_task(&mut desk, task, 8);
    desk.pass(500);
    assert_eq!(desk.points(node(1)), (0, 8_000));
    desk.pass(700);
    assert_eq!(desk.points(node(1)), (0, 0));
    assert_eq!(
        (desk.cents(Account::Reserve), desk.cents(Account::Revenue)),
        (0, 8)
    );
    desk.audit();
}

#[test]
fn tiles_of_a_listed_program_are_paid_by_their_core_pixels() {
    let table = UnitTable::Tiles(
        crate::task::tiles::TileGrid::new(300, 200, crate::task::TileSplit { core: 128, halo: 9 })
            .unwrap()
            .into(),
    );
    let pixels: u64 = (0..table.count()).map(|unit| table.core_pixels(unit)).sum();
    assert_eq!(pixels, 300 * 200, "each pixel once");
}

/// Has device 1 do a task of `units` units at quorum 1, and get its receipts.
fn earn(desk: &mut Desk, name: &str, units: u32) -> Vec<(Verified<Receipt>, Posting)> {
    earn_task(desk, priced(name, 1, 600), units)
}

fn earn_task(desk: &mut Desk, task: Task, units: u32) -> Vec<(Verified<Receipt>, Posting)> {
    let id = desk.run(task, units);
    while let Some(new) = desk.pull(1, 9).leased {
        desk.report(1, results(&new.grant, b"right"));
    }
    desk.step(Input::Merged {
        task: id,
        result: Ok(BlobRef::of(b"result")),
    });
    assert_eq!(
        desk.status(id).cost.points.as_micro(),
        u64::from(units) * 1_000
    );
    desk.receipts()
}

impl Desk {
    pub(super) fn restart_with(&mut self, rates: Rates) {
        let config = CoordinatorConfig { rates, ..config() };
        let state = (None, self.books.clone());
        self.coordinator = Coordinator::restore(config, [9; 32], state, &self.facts).unwrap();
        self.out.clear();
        self.coordinator.resume(self.now, &mut self.out);
        self.note_facts();
    }
}

/// A crash after any record, and the books are those of before and nothing is paid twice.
#[test]
fn a_restart_between_any_two_steps_pays_each_unit_once() {
    for crash in 0..14 {
        let mut desk = desk();
        desk.deposit(1_000, "bank 1").unwrap();
        let mut steps = 0;
        let step = |desk: &mut Desk, steps: &mut i32| {
            if *steps == crash {
                desk.restart_with(rates());
            }
            *steps += 1;
            desk.audit();
        };
        let id = desk.run(priced("crashing", 1, 600), 5);
        step(&mut desk, &mut steps);
        for _ in 0..20 {
            let Some(new) = desk.pull(1, 1).leased else {
                break;
            };
            step(&mut desk, &mut steps);
            let shown = vec![Verified::sign(new.grant.clone(), &network(), &key(ME))];
            let results = results(&new.grant, b"right");
            desk.pull_with(
                1,
                0,
                Say {
                    results,
                    shown,
                    ..Say::default()
                },
            );
            step(&mut desk, &mut steps);
        }
        desk.pass(2);
        step(&mut desk, &mut steps);
        desk.step(Input::Merged {
            task: id,
            result: Ok(BlobRef::of(b"result")),
        });
        step(&mut desk, &mut steps);
        desk.pass(2);
        assert_eq!(desk.points(node(1)), (2_500, 2_500), "crash {crash}");
        assert_eq!(desk.cents(Account::Customer(node(CUSTOMER))), 995);
        desk.audit();
        let held = Balance::default();
        let commodity = Commodity::Money("EUR".parse().unwrap());
        assert_eq!(desk.books.balance(Account::Held(id), commodity), held);
    }
}
