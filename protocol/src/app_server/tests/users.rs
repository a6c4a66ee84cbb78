//! Who is registered, and that coordinators get to know.

use super::*;
use crate::account::Holder;
use crate::id::Hash;

/// The word of a device, which is its own owner, as of now.
fn word(desk: &Desk, device: u8) -> Verified<Enrolment> {
    let enrolment = Enrolment {
        app_server: node(ME),
        product: "photo".parse().unwrap(),
        owner: node(device),
        at: desk.now,
    };
    sign(enrolment, device)
}

fn tell(
    desk: &mut Desk,
    enrolment: Verified<Enrolment>,
) -> Result<Verified<Registration>, &'static str> {
    let answer = desk.answer(|question| Input::Enrolled {
        question,
        enrolment,
        certificate: None,
    });
    match answer.map_err(|fault| fault.code())? {
        Answer::Registered(signed) => Ok(signed.verify(&network()).unwrap()),
        other => panic!("{other:?}"),
    }
}

pub(super) fn enrol(desk: &mut Desk, device: u8) -> Result<Verified<Registration>, &'static str> {
    let enrolment = word(desk, device);
    tell(desk, enrolment)
}

/// What a coordinator says after `size` entries of its log.
pub(super) fn statement(
    device: u8,
    bank: u8,
    (size, earned): (u64, u64),
) -> Verified<PointStatement> {
    let statement = PointStatement {
        app_server: node(ME),
        holder: Holder::alone(node(device)),
        earned: Points::from_micro(earned),
        escrowed: Points::ZERO,
        spendable: Points::from_micro(earned),
        redeemed: Points::ZERO,
        size,
        root: Hash::from_bytes([0; 32]),
        at: Timestamp::default(),
    };
    sign(statement, bank)
}

#[test]
fn what_devices_have_is_asked_for_when_it_may_have_been_missed() {
    let mut desk = Desk::new();
    for device in 1..=70 {
        enrol(&mut desk, device).unwrap();
        let said = statement(device, BANKS[0], (5, 100)).signed().clone();
        desk.banks[0].told.insert(node(device), said);
    }
    desk.deliver();
    let knows = |desk: &Desk, device| {
        let device = desk.server.device(node(device)).unwrap();
        device.points.get(&node(BANKS[0])).map(|of| of.size)
    };
    assert_eq!(knows(&desk, 1), None);
    desk.order(Command::AskPoints(node(1))).unwrap();
    desk.deliver();
    assert_eq!([1, 2].map(|device| knows(&desk, device)), [Some(5), None]);
    desk.banks[0].is_down = true;
    desk.restart(0);
    desk.pass(600);
    desk.banks[0].is_down = false;
    desk.pass(600);
    assert!((1..=70).all(|device| knows(&desk, device) == Some(5)));
    let forged = statement(1, BANKS[1], (9, 900)).signed().clone();
    let newer = statement(2, BANKS[0], (9, 200)).signed().clone();
    desk.banks[0]
        .told
        .extend([(node(1), forged), (node(2), newer)]);
    let opening = Opening {
        owner: node(2),
        wish: license(),
        key: "key".parse().unwrap(),
    };
    desk.answer(|question| Input::Opened { question, opening })
        .unwrap();
    desk.order(Command::AskPoints(node(1))).unwrap();
    desk.deliver();
    assert_eq!(
        [1, 2].map(|device| knows(&desk, device)),
        [Some(5), Some(9)]
    );
    let facts = desk.facts.len();
    desk.restart(0);
    desk.deliver();
    assert_eq!(desk.facts.len(), facts + 1, "only the status list is new");
    assert_eq!(desk.server.errands(), 0);
    desk.audit();
}

#[test]
fn an_agreement_is_asked_for_until_the_operator_has_decided() {
    let mut desk = Desk::empty();
    desk.banks[0].is_undecided = true;
    let bank = node(BANKS[0]);
    let propose = |number| Command::Propose(Box::new(agreement(BANKS[0], number)));
    desk.order(propose(1)).unwrap();
    desk.pass(600);
    desk.restart(0);
    desk.pass(600);
    assert!(desk.server.agreement(bank, desk.now).is_none());
    assert_eq!(desk.order(propose(1)).unwrap_err().code(), "invalid");
    desk.banks[0].is_undecided = false;
    desk.pass(600);
    assert_eq!(
        desk.server
            .agreement(bank, desk.now)
            .unwrap()
            .agreement
            .number,
        1
    );
    desk.order(propose(2)).unwrap();
    desk.deliver();
    assert_eq!(
        desk.server
            .agreement(bank, desk.now)
            .unwrap()
            .agreement
            .number,
        2
    );
    assert_eq!(desk.server.errands(), 0);
    desk.audit();
}

#[test]
fn every_coordinator_hears_of_a_registration_however_long_it_is_away() {
    let mut desk = Desk::new();
    desk.banks[1].is_down = true;
    let registered = enrol(&mut desk, 1).unwrap();
    assert_eq!(registered.serial, 1);
    desk.pass(86_400);
    assert_eq!(desk.banks[0].registered[&node(1)], 1);
    desk.restart(0);
    desk.order(Command::Revoke {
        device: node(1),
        reason: "stolen".to_owned(),
    })
    .unwrap();
    desk.pass(86_400);
    assert_eq!(desk.banks[0].revoked[&node(1)], 1);
    assert_eq!(desk.server.untold(node(BANKS[1])), 1);
    desk.banks[1].is_down = false;
    desk.pass(600);
    assert_eq!(
        desk.banks[1].revoked[&node(1)],
        1,
        "only the last word counts"
    );
    assert!(desk.banks[1].registered.is_empty());
    assert_eq!(desk.server.untold(node(BANKS[1])), 0);
    assert_eq!(desk.server.errands(), 0);
    desk.audit();
}

#[test]
fn what_is_said_while_the_word_before_is_on_its_way_is_told_as_well() {
    let mut desk = Desk::new();
    enrol(&mut desk, 1).unwrap();
    assert_eq!(desk.asks.len(), 2, "both are being told");
    desk.order(Command::Revoke {
        device: node(1),
        reason: "sold".to_owned(),
    })
    .unwrap();
    desk.deliver();
    for bank in &desk.banks {
        assert_eq!((bank.registered[&node(1)], bank.revoked[&node(1)]), (1, 1));
    }
}

#[test]
fn a_row_that_a_coordinator_has_no_room_for_does_not_hold_up_the_others() {
    let mut desk = Desk::new();
    desk.banks[0].keeps = 0;
    for device in 1..=5 {
        enrol(&mut desk, device).unwrap();
    }
    desk.pass(100);
    assert_eq!(desk.server.untold(node(BANKS[0])), 5);
    desk.banks[0].keeps = 2;
    desk.pass(3_600);
    assert_eq!(desk.banks[0].registered.len(), 5);
    assert_eq!(desk.server.untold(node(BANKS[0])), 0);
}

#[test]
fn a_new_coordinator_is_told_of_all_who_are_registered() {
    let mut desk = Desk::empty();
    for device in 1..=100 {
        enrol(&mut desk, device).unwrap();
    }
    desk.order(Command::Propose(Box::new(agreement(BANKS[0], 1))))
        .unwrap();
    desk.deliver();
    assert_eq!(desk.banks[0].registered.len(), 100, "in two messages");
}

#[test]
fn the_same_word_is_one_registration_and_an_old_one_does_not_undo_a_revocation() {
    let mut desk = Desk::new();
    let old = word(&desk, 1);
    let first = tell(&mut desk, old.clone()).unwrap();
    assert_eq!(tell(&mut desk, old.clone()), Ok(first));
    let revoke = Command::Revoke {
        device: node(1),
        reason: "sold".to_owned(),
    };
    desk.order(revoke.clone()).unwrap();
    desk.order(revoke).unwrap();
    assert_eq!(tell(&mut desk, old), Err("stale"));
    desk.pass(1);
    assert_eq!(enrol(&mut desk, 1).unwrap().serial, 2);
    let future = word(&desk, 2);
    desk.now = desk.now + Duration::from_secs(2 * 86_400);
    assert_eq!(tell(&mut desk, future), Err("stale"));
    let mut other = word(&desk, 2).value().clone();
    other.owner = node(3);
    assert_eq!(tell(&mut desk, sign(other, 2)), Err("other_audience"));
    assert_eq!(desk.server.devices_of(node(1)).count(), 1);
    desk.audit();
}

#[test]
fn of_what_coordinators_tell_the_longest_log_counts() {
    let mut desk = Desk::new();
    enrol(&mut desk, 1).unwrap();
    let mut forged = *statement(1, BANKS[0], (9, 900)).value();
    forged.app_server = node(1);
    for told in [
        statement(1, BANKS[0], (7, 500)),
        statement(1, BANKS[0], (6, 400)),
        statement(1, BANKS[1], (2, 30)),
        statement(2, BANKS[0], (8, 600)),
        statement(1, 77, (8, 700)),
        sign(forged, BANKS[0]),
    ] {
        let statements = vec![told];
        desk.answer(|question| Input::Told {
            question,
            statements,
        })
        .unwrap();
    }
    desk.restart(0);
    let known = &desk.server.device(node(1)).unwrap().points;
    let earned = known.values().map(|told| told.earned.as_micro());
    let mut earned: Vec<u64> = earned.collect();
    earned.sort_unstable();
    assert_eq!(earned, [30, 500], "one of each coordinator");
}
