//! Points for orders: reserved everywhere, decided, posted; or given back.

use super::model::HeldState;
use super::*;
use crate::certificate::DeviceCertificate;
use crate::message::redeem::RedeemFault;

#[test]
fn points_of_two_coordinators_and_money_buy_a_license() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let both = vec![
        points(&desk, order, BANKS[0], 300),
        points(&desk, order, BANKS[1], 500),
    ];
    let status = desk.redeem(order, both.clone()).unwrap();
    assert_eq!(status.phase, Phase::Reserving);
    desk.deliver();
    let status = desk.redeem(order, both.clone()).unwrap();
    assert_eq!(
        (status.phase, status.discount, status.due),
        (Phase::Posted, 800, 400),
        "asked again: how it is by now"
    );
    assert_eq!(desk.owed_by(node(OWNER)), 400);
    let status = desk.pay(order, "bank 7").unwrap();
    assert_eq!(status.phase, Phase::Fulfilled);
    assert_eq!(desk.pay(order, "bank 7").unwrap(), status, "told again");
    assert_eq!(desk.cents(Account::Sales), 1_200);
    assert_eq!(
        BANKS.map(|bank| desk.owed_by(node(bank))),
        [300, 500],
        "the parts add up to the fee"
    );
    let license = issued_license(&desk, order);
    assert_eq!((license.holder, license.status.index), (node(OWNER), 0));
    assert_eq!(license.basis.redemptions.len(), 2);
    desk.audit();
}

#[test]
fn issuing_again_from_what_is_recorded_gives_the_same_bytes() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    desk.pay(order, "bank 1").unwrap();
    let known = desk.server.order(order).unwrap();
    let (Some(Goods::License { order, license, .. }), Subject::License { terms, .. }) =
        (known.goods(), &known.subject)
    else {
        panic!("{known:?}");
    };
    let again = License::issue(order.clone(), terms.as_ref().clone(), &config().issuer).unwrap();
    assert_eq!(again.signed(), license);
}

#[test]
fn of_two_redemptions_for_one_order_one_wins() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let first = vec![points_with(&desk, order, BANKS[0], (300, 40_000, 1))];
    let second = vec![points_with(&desk, order, BANKS[0], (300, 40_000, 2))];
    desk.redeem(order, first).unwrap();
    assert_eq!(desk.redeem(order, second.clone()), Err(Fault::Taken));
    desk.deliver();
    assert_eq!(desk.redeem(order, second), Err(Fault::Taken));
    assert_eq!(desk.banks[0].spent(node(OWNER)), 300_000);
}

#[test]
fn what_is_not_for_this_order_is_refused_with_its_code() {
    let mut desk = Desk::new();
    let (order, other) = (desk.open_license(), desk.open_license());
    let refused = |desk: &mut Desk, points: SignedPoints| {
        let fault = desk.redeem(order, vec![points]).unwrap_err();
        assert!(!fault.hint().is_empty());
        fault.code()
    };
    let elsewhere = points(&desk, other, BANKS[0], 300);
    assert_eq!(refused(&mut desk, elsewhere), "other_audience");
    let soon = points_with(&desk, order, BANKS[0], (300, 3_600, 1));
    assert_eq!(refused(&mut desk, soon), "stale");
    let much = points(&desk, order, BANKS[0], 1_201);
    assert_eq!(refused(&mut desk, much), "too_many_points");
    let unknown = points(&desk, order, 9, 300);
    assert_eq!(refused(&mut desk, unknown), "no_agreement");
    let (theirs, _) = points(&desk, order, BANKS[0], 300);
    let stolen = sign(*theirs.value(), 55);
    assert_eq!(refused(&mut desk, (stolen.clone(), None)), "other_audience");
    let certificate = |points| {
        let certificate = DeviceCertificate {
            device: node(55),
            not_before: Timestamp::default(),
            not_after: Timestamp::from_millis(1 << 36),
            serial: 1,
            redeem_points: Points::from_micro(points),
        };
        Some(sign(certificate, OWNER))
    };
    let may_not = (stolen.clone(), certificate(0));
    assert_eq!(refused(&mut desk, may_not), "other_audience");
    let may = vec![(stolen, certificate(300_000))];
    assert_eq!(desk.redeem(order, may).unwrap().phase, Phase::Reserving);
}

#[test]
fn a_refusal_frees_what_others_have_set_aside() {
    let mut desk = Desk::new();
    desk.banks[1].points.clear();
    let order = desk.open_license();
    let both = vec![
        points(&desk, order, BANKS[0], 300),
        points(&desk, order, BANKS[1], 500),
    ];
    desk.redeem(order, both).unwrap();
    desk.deliver();
    let known = desk.server.order(order).unwrap().status();
    let fault = RedeemFault::TooFewPoints {
        available: Points::ZERO,
    };
    let coordinator = node(BANKS[1]);
    assert_eq!(known.void, Some(VoidReason::Points { coordinator, fault }));
    assert!(known.settled);
    assert_eq!(desk.banks[0].points[&node(OWNER)], 1_000_000);
    desk.audit();
}

#[test]
fn nothing_is_decided_while_a_coordinator_is_away_and_all_is_free_in_time() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let both = vec![
        points(&desk, order, BANKS[0], 300),
        points(&desk, order, BANKS[1], 500),
    ];
    desk.banks[1].is_down = true;
    desk.redeem(order, both).unwrap();
    desk.pass(10 * 3_600);
    assert_eq!(desk.phase(order), Phase::Reserving);
    assert_eq!(desk.banks[0].spent(node(OWNER)), 0);
    desk.pass(3_600);
    let known = desk.server.order(order).unwrap().status();
    assert_eq!(known.void, Some(VoidReason::Unanswered(node(BANKS[1]))));
    assert!(!known.settled, "it may have set them aside");
    desk.banks[1].is_down = false;
    desk.pass(600);
    assert!(desk.server.order(order).unwrap().status().settled);
    assert_eq!(desk.server.errands(), 0);
}

#[test]
fn what_is_decided_is_posted_however_long_a_coordinator_is_away() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let both = vec![
        points(&desk, order, BANKS[0], 600),
        points(&desk, order, BANKS[1], 600),
    ];
    desk.redeem(order, both).unwrap();
    desk.deliver_one();
    desk.deliver_one();
    assert_eq!(desk.phase(order), Phase::Decided);
    desk.banks[1].is_down = true;
    desk.pass(3 * 3_600);
    desk.restart(0);
    desk.pass(3 * 3_600);
    assert_eq!(desk.phase(order), Phase::Decided);
    desk.banks[1].is_down = false;
    desk.pass(600);
    assert_eq!(desk.phase(order), Phase::Fulfilled, "the user owes nothing");
    desk.audit();
}

#[test]
fn if_points_are_lost_after_the_decision_the_others_are_given_back() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let both = vec![
        points(&desk, order, BANKS[0], 300),
        points(&desk, order, BANKS[1], 500),
    ];
    desk.redeem(order, both).unwrap();
    desk.deliver_one();
    desk.deliver_one();
    desk.banks[1].is_down = true;
    desk.pass(13 * 3_600);
    assert_eq!(desk.banks[0].spent(node(OWNER)), 300_000, "taken");
    desk.banks[1].is_down = false;
    desk.pass(600);
    assert_eq!(desk.phase(order), Phase::Void);
    assert!(desk.server.order(order).unwrap().status().settled);
    assert_eq!(desk.banks[0].spent(node(OWNER)), 0);
    assert_eq!(desk.banks[0].payable, 0);
    let mut held = desk.banks[0].known.values();
    assert!(held.all(|held| held.state == HeldState::Reversed));
    desk.audit();
}

#[test]
fn an_order_whose_rest_nobody_pays_is_undone() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let some = vec![points(&desk, order, BANKS[0], 300)];
    desk.redeem(order, some).unwrap();
    desk.pass(6 * 86_400);
    assert_eq!(desk.phase(order), Phase::Posted);
    assert_eq!(desk.owed_by(node(OWNER)), 900);
    desk.pass(2 * 86_400);
    let known = desk.server.order(order).unwrap().status();
    assert_eq!(
        (known.void, known.settled),
        (Some(VoidReason::Unpaid), true)
    );
    assert_eq!(desk.banks[0].points[&node(OWNER)], 1_000_000);
    assert_eq!(desk.owed_by(node(OWNER)), 0);
    assert_eq!(desk.owed_by(node(BANKS[0])), 0);
    assert_eq!(desk.pay(order, "late").unwrap_err().code(), "wrong_phase");
    desk.pass(31 * 86_400);
    assert!(desk.server.order(order).is_none(), "it is forgotten");
    desk.audit();
}

#[test]
fn every_state_on_the_way_survives_a_crash() {
    // The same sale, stopped after each fact of it.
    for lost in 0..20 {
        let mut desk = Desk::new();
        let start = desk.facts.len();
        let order = desk.open_license();
        let both = vec![
            points(&desk, order, BANKS[0], 300),
            points(&desk, order, BANKS[1], 500),
        ];
        desk.redeem(order, both.clone()).unwrap();
        desk.deliver();
        desk.pay(order, "bank 1").unwrap();
        let made = desk.facts.len() - start;
        if lost >= made {
            assert!(made > 8, "the sale has many facts: {made}");
            return;
        }
        // Coordinators remember what they did all the same.
        desk.restart(lost);
        desk.pass(600);
        let Some(known) = desk.server.order(order) else {
            assert_eq!(
                lost + 1,
                made,
                "only an order that was never opened is unknown"
            );
            continue;
        };
        if known.phase() == Phase::Open {
            desk.redeem(order, both).unwrap();
            desk.pass(600);
        }
        desk.pay(order, "bank 1").unwrap();
        assert_eq!(desk.phase(order), Phase::Fulfilled, "{lost} facts lost");
        assert_eq!(desk.banks[0].spent(node(OWNER)), 300_000);
        assert_eq!(desk.banks[1].spent(node(OWNER)), 500_000);
        desk.audit();
    }
}

#[test]
fn a_refund_gives_points_and_money_back_and_revokes_the_license() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let some = vec![points(&desk, order, BANKS[0], 300)];
    desk.redeem(order, some).unwrap();
    desk.deliver();
    desk.pay(order, "bank 1").unwrap();
    let license = issued_license(&desk, order).id;
    desk.order(Command::Refund(order)).unwrap();
    let list = desk.server.status_list().unwrap().clone();
    let list = list.verify(&network()).unwrap();
    assert_eq!(list.status(0), Some(Status::Revoked));
    assert_eq!(desk.server.license_status(license), Some(Status::Revoked));
    desk.deliver();
    assert_eq!(desk.phase(order), Phase::Refunded);
    assert_eq!(desk.banks[0].payable, 0);
    for account in [Account::Sales, Account::Outside] {
        assert_eq!(desk.cents(account), 0);
    }
    let again = Command::SetStatus(license, Status::Valid);
    assert!(desk.order(again).is_err(), "revoked is for ever");
    desk.audit();
}

#[test]
fn a_coordinator_that_does_not_keep_to_the_agreement_gets_no_order_decided() {
    let void = |prepare: fn(&mut Bank)| {
        let mut desk = Desk::new();
        prepare(&mut desk.banks[0]);
        let order = desk.open_license();
        let some = vec![points(&desk, order, BANKS[0], 300)];
        desk.redeem(order, some).unwrap();
        desk.deliver();
        assert_eq!(desk.banks[0].points[&node(OWNER)], 1_000_000, "free again");
        desk.audit();
        desk.server.order(order).unwrap().status().void
    };
    let bank = node(BANKS[0]);
    let short = void(|bank| bank.hold_seconds = 3_599);
    assert_eq!(short, Some(VoidReason::TooShort(bank)));
    let dear = void(|bank| bank.bonus = 1);
    assert_eq!(dear, Some(VoidReason::OtherValue(bank)));
}

#[test]
fn a_coordinator_that_takes_points_for_less_than_it_reserved_gives_them_back() {
    let mut desk = Desk::new();
    desk.banks[0].withholds = 1;
    let order = desk.open_license();
    let all = BANKS.map(|bank| points(&desk, order, bank, 600)).to_vec();
    desk.redeem(order, all).unwrap();
    desk.pass(600);
    let status = desk.server.order(order).unwrap().status();
    assert_eq!(status.void, Some(VoidReason::OtherValue(node(BANKS[0]))));
    assert!(status.settled, "nothing is taken any more");
    for bank in &desk.banks {
        assert_eq!(bank.points[&node(OWNER)], 1_000_000, "given back");
    }
    desk.audit();
}

#[test]
fn only_the_coordinator_itself_says_that_points_are_taken() {
    let mut desk = Desk::new();
    desk.banks[0].is_forging = true;
    let order = desk.open_license();
    let all = BANKS.map(|bank| points(&desk, order, bank, 600)).to_vec();
    desk.redeem(order, all).unwrap();
    desk.pass(600);
    assert_eq!(desk.phase(order), Phase::Decided);
    desk.banks[0].is_forging = false;
    desk.pass(600);
    assert_eq!(desk.phase(order), Phase::Fulfilled);
}

#[test]
fn what_was_taken_just_before_the_order_became_void_is_found_and_given_back() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let both = vec![
        points_with(&desk, order, BANKS[0], (300, 40_000, 1)),
        points_with(&desk, order, BANKS[1], (500, 40_000, 2)),
    ];
    desk.redeem(order, both).unwrap();
    desk.deliver_one();
    desk.deliver_one();
    // The first takes its points, but the answer is lost; the second has lost them.
    let (question, _, request) = desk.asks.remove(0);
    let now = desk.now;
    desk.banks[0].answer(now, request).unwrap();
    desk.step(Input::Failed(question));
    desk.banks[1].known.clear();
    desk.banks[0].is_broke = true;
    desk.deliver();
    assert_eq!(desk.phase(order), Phase::Void);
    desk.pass(86_400);
    assert_eq!(desk.banks[0].spent(node(OWNER)), 300_000);
    desk.restart(0);
    desk.banks[0].is_broke = false;
    desk.pass(600);
    assert_eq!(desk.banks[0].spent(node(OWNER)), 0);
    assert!(desk.server.order(order).unwrap().status().settled);
    desk.audit();
}

#[test]
fn what_nobody_can_issue_is_cancelled_and_paid_back() {
    let mut desk = Desk::new();
    let order = desk.open_license();
    let some = vec![points(&desk, order, BANKS[0], 300)];
    desk.redeem(order, some).unwrap();
    desk.deliver();
    // The certificate of the issuer has expired.
    let (now, end) = (desk.now, Timestamp::from_millis(1 << 50));
    desk.now = end;
    desk.pay(order, "bank 1").unwrap();
    assert_eq!(desk.phase(order), Phase::Paid);
    let mut again = Desk { now, ..desk };
    again.order(Command::Cancel(order)).unwrap();
    again.deliver();
    assert_eq!(again.phase(order), Phase::Void);
    assert_eq!(
        again.cents(Account::Outside),
        0,
        "what was paid is paid back"
    );
    assert_eq!(again.banks[0].spent(node(OWNER)), 0);
    again.audit();
}
