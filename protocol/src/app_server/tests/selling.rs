//! Orders by key and money, vouchers at shops, renewals and status lists.

use super::*;
use crate::voucher::Split;

impl Desk {
    fn use_voucher(
        &mut self,
        voucher: &Verified<Voucher>,
        fee: u64,
        key: &str,
    ) -> Result<Split, &'static str> {
        let (voucher, key) = (Box::new(voucher.clone()), key.parse().unwrap());
        let answer = self.answer(|question| Input::UseVoucher {
            question,
            voucher,
            fee: euro(fee),
            key,
        });
        match answer.map_err(|fault| fault.code())? {
            Answer::Split(split) => Ok(split),
            other => panic!("{other:?}"),
        }
    }

    /// Buys a license with points alone.
    fn buy(&mut self) -> OrderId {
        let order = self.open_license();
        let all = BANKS.map(|bank| points(self, order, bank, 600)).to_vec();
        self.redeem(order, all).unwrap();
        self.deliver();
        assert_eq!(self.phase(order), Phase::Fulfilled);
        order
    }

    fn buy_voucher(&mut self, fee: u64, cents: u64) -> OrderId {
        let key = format!("voucher {}", self.asked);
        let order = self.open(voucher(fee), &key).unwrap().order;
        let some = vec![points(self, order, BANKS[0], cents)];
        self.redeem(order, some).unwrap();
        self.deliver();
        assert_eq!(self.phase(order), Phase::Fulfilled);
        order
    }
}

#[test]
fn the_same_key_opens_one_order() {
    let mut desk = Desk::new();
    let first = desk.open(license(), "a").unwrap();
    assert_eq!(desk.open(license(), "a"), Ok(first.clone()));
    assert_eq!(desk.open(voucher(900), "a"), Err(Fault::KeyUsed));
    desk.restart(0);
    assert_eq!(desk.open(license(), "a"), Ok(first.clone()));
    assert_ne!(desk.open(license(), "b").unwrap().order, first.order);
    for number in 0..ORDERS_OPEN_MAX - 2 {
        desk.open(license(), &format!("more {number}")).unwrap();
    }
    assert_eq!(desk.open(license(), "too many"), Err(Fault::Full));
    desk.pass(86_400);
    assert_eq!(desk.phase(first.order), Phase::Void, "nobody paid");
    assert!(desk.open(license(), "too many").is_ok());
}

#[test]
fn money_alone_buys_a_license_and_each_payment_counts_once() {
    let mut desk = Desk::new();
    let (one, two) = (desk.open_license(), desk.open_license());
    assert_eq!(desk.pay(one, "bank 1").unwrap().phase, Phase::Fulfilled);
    assert_eq!(desk.pay(two, "bank 1"), Err(Fault::ReferenceUsed));
    assert_eq!(desk.pay(two, "bank 2").unwrap().phase, Phase::Fulfilled);
    assert_eq!(issued_license(&desk, two).status.index, 1, "never twice");
    assert_eq!(desk.cents(Account::Outside), -2_400);
    let unknown = OrderId::from_bytes([1; 16]);
    assert_eq!(desk.pay(unknown, "bank 3"), Err(Fault::UnknownOrder));
}

#[test]
fn what_costs_nothing_is_fulfilled_at_once() {
    let mut desk = Desk::new();
    let mut free = product();
    free.price = euro(0);
    desk.order(Command::Offer(Box::new(free))).unwrap();
    let order = desk.open_license();
    assert_eq!(desk.phase(order), Phase::Fulfilled);
    desk.audit();
}

#[test]
fn what_could_not_be_issued_is_not_offered() {
    let mut desk = Desk::new();
    let mut wrong = product();
    wrong.terms.life_seconds = 0;
    let refused = desk.order(Command::Offer(Box::new(wrong))).unwrap_err();
    assert_eq!(refused.code(), "invalid");
    let mut wrong = offer();
    wrong.percent_max = 101;
    assert!(desk.order(Command::Discount(Box::new(wrong))).is_err());
}

#[test]
fn a_voucher_is_used_once_and_the_same_key_has_the_same_answer() {
    let mut desk = Desk::new();
    assert_eq!(desk.open(voucher(99), "small"), Err(Fault::OtherFee));
    let order = desk.buy_voucher(1_000, 400);
    let voucher = issued_voucher(&desk, order);
    assert_eq!(voucher.value, euro(400), "it is worth what the points are");
    assert_eq!(desk.owed_by(node(BANKS[0])), 400);
    assert_eq!(desk.use_voucher(&voucher, 50, "shop 1"), Err("other_fee"));
    let split = desk.use_voucher(&voucher, 600, "shop 1").unwrap();
    assert_eq!((split.discount, split.due), (300, 300), "half of the fee");
    desk.restart(0);
    assert_eq!(desk.use_voucher(&voucher, 600, "shop 1"), Ok(split));
    assert_eq!(desk.use_voucher(&voucher, 700, "shop 1"), Err("key_used"));
    let again = desk.use_voucher(&voucher, 600, "shop 2");
    assert_eq!(again, Err("voucher_used"));
    let refund = desk.order(Command::Refund(order)).unwrap_err();
    assert_eq!(refund.code(), "voucher_used");
    let mut forged = voucher.value().clone();
    forged.value = euro(100_000);
    let forged = sign(forged, ISSUER);
    let forged = desk.use_voucher(&forged, 600, "shop 3");
    assert_eq!(forged, Err("unknown_voucher"));
    desk.audit();
}

#[test]
fn a_voucher_that_is_too_old_or_refunded_holds_no_more() {
    let mut desk = Desk::new();
    let (old, back) = (desk.buy_voucher(1_000, 100), desk.buy_voucher(1_000, 100));
    let (old, refunded) = (issued_voucher(&desk, old), issued_voucher(&desk, back));
    desk.order(Command::Refund(back)).unwrap();
    let over = desk.use_voucher(&refunded, 600, "shop 1");
    assert_eq!(over, Err("voucher_over"));
    desk.pass(30 * 86_400);
    assert_eq!(desk.use_voucher(&old, 600, "shop 2"), Err("voucher_over"));
}

#[test]
fn a_license_is_renewed_for_its_points_from_where_it_ends() {
    let mut desk = Desk::new();
    let order = desk.buy();
    let first = issued_license(&desk, order);
    let renewal = Wish::Renewal { license: first.id };
    let next = desk.open(renewal.clone(), "renew 1").unwrap().order;
    let few = vec![points(&desk, next, BANKS[0], 300)];
    let fault = desk.redeem(next, few).unwrap_err();
    assert_eq!(fault.code(), "other_points");
    for bank in &mut desk.banks {
        bank.points.insert(node(OWNER), 1_000_000);
    }
    let both = vec![
        points(&desk, next, BANKS[0], 200),
        points(&desk, next, BANKS[1], 300),
    ];
    desk.redeem(next, both).unwrap();
    desk.deliver();
    let second = issued_license(&desk, next);
    assert_eq!(second.not_before, first.expires);
    let month = Duration::from_secs(30 * 86_400);
    assert_eq!(second.expires, first.expires + month);
    assert_eq!((desk.owed_by(node(OWNER)), second.status.index), (0, 1));
    let third = Wish::Renewal { license: second.id };
    let third = desk.open(third, "renew 2").unwrap().order;
    let some = vec![points(&desk, third, BANKS[1], 500)];
    desk.redeem(third, some).unwrap();
    desk.deliver();
    let third = issued_license(&desk, third);
    assert_eq!(third.not_before, second.expires, "the line goes on");
    let suspend = Command::SetStatus(first.id, Status::Suspended);
    desk.order(suspend).unwrap();
    let refused = desk.open(renewal, "renew 3").unwrap_err();
    assert_eq!(refused.code(), "not_renewable");
    desk.audit();
}

#[test]
fn status_lists_come_in_time_and_count_up() {
    let mut desk = Desk::new();
    let order = desk.buy();
    let license = issued_license(&desk, order).id;
    let sequence = |desk: &Desk| {
        let list = desk.server.status_list().unwrap().clone();
        trust().check(list).unwrap().into_statement().sequence
    };
    let before = sequence(&desk);
    desk.pass(6 * 3_600);
    assert_eq!(
        sequence(&desk),
        before + 1,
        "nothing has changed, but it is fresh"
    );
    for status in [Status::Suspended, Status::Valid, Status::Suspended] {
        desk.order(Command::SetStatus(license, status)).unwrap();
        let list = desk.server.status_list().unwrap().clone();
        let list = list.verify(&network()).unwrap();
        assert_eq!(list.status(0), Some(status));
    }
    desk.restart(0);
    assert_eq!(sequence(&desk), before + 5, "never the same again");
}

#[test]
fn of_too_many_orders_those_are_forgotten_that_are_over_for_long() {
    let mut desk = Desk::new();
    let sold = desk.open(license(), "old").unwrap().order;
    desk.pay(sold, "cash 1").unwrap();
    let refunded = desk.open(license(), "sent back").unwrap().order;
    desk.pay(refunded, "cash 2").unwrap();
    desk.order(Command::Refund(refunded)).unwrap();
    let issued = issued_license(&desk, sold).id;
    let days =
        |desk: &mut Desk, days: u64| desk.now = desk.now + Duration::from_secs(days * 86_400);
    let make_room = |desk: &mut Desk| {
        desk.out.clear();
        desk.server.make_room(desk.now, 3, &mut desk.out);
        desk.note();
        desk.server.orders().count()
    };
    days(&mut desk, 89);
    let young = desk.open(license(), "young").unwrap().order;
    desk.pay(young, "cash 3").unwrap();
    assert_eq!(make_room(&mut desk), 3, "none is old enough");
    assert_eq!(desk.open(license(), "old").unwrap().order, sold);
    days(&mut desk, 1);
    assert_eq!(make_room(&mut desk), 1);
    assert_eq!(desk.phase(young), Phase::Fulfilled);
    desk.restart(0);
    desk.audit();
    let renewal = Wish::Renewal { license: issued };
    let renewed = desk.open(renewal, "renewal").unwrap().order;
    let some = points(&desk, renewed, BANKS[0], 500);
    desk.redeem(renewed, vec![some]).unwrap();
    desk.deliver();
    let old = desk.server.license_status(issued);
    assert_eq!(old, Some(Status::Valid));
    let ends = desk.now + Duration::from_secs(366 * 86_400 - 90 * 86_400);
    assert_eq!(
        issued_license(&desk, renewed).not_before,
        ends,
        "the line goes on"
    );
    assert_eq!(desk.pay(young, "cash 1"), Err(Fault::ReferenceUsed));
    assert_eq!(desk.order(Command::Refund(sold)), Err(Fault::UnknownOrder));
    desk.audit();
}
