//! App servers: agreements, who may work, and points that are set aside, taken and given back.

use super::money::{desk_with, euro, priced, rates};
use super::*;
use crate::account::{Account, Commodity};
use crate::id::{OrderId, RedemptionId};
use crate::message::redeem::{RedeemFault, Reserved};
use crate::message::registry::Proposal;
use crate::points::Points;
use crate::rate_card::Price;
use crate::redemption::{Redeem, Redemption, Reversal};
use crate::registration::Enrolment;

pub(super) const SHOP: u8 = 200;
pub(super) const OTHER_SHOP: u8 = 201;
pub(super) const OWNER: u8 = 99;

/// A point is worth a cent for 4,000 upt; up to 4 cents a day, and 3 that are not settled.
pub(super) fn agreement(shop: u8, number: u32) -> Agreement {
    Agreement {
        app_server: node(shop),
        coordinator: me(),
        number,
        currency: "EUR".parse().unwrap(),
        value: Price {
            minor: 1,
            micro_points: 4_000,
        },
        period_seconds: 86_400,
        cap: 4,
        credit: 3,
        supply_fee: 0,
        supply_devices_max: 0,
        not_before: Timestamp::from_millis(0),
        not_after: Timestamp::from_millis(1 << 40),
    }
}

/// A desk at which device 1 of the owner has earned 24,000 upt, all of it spendable, with agreements with both shops.
pub(super) fn rich_desk() -> Desk {
    let mut desk = desk_with(0);
    desk.deposit(1_000, "bank 1").unwrap();
    let task = desk.run(priced("earn", 1, 600), 24);
    let say = |results| Say {
        results,
        certificate: Some(certificate(1, 8_000)),
        ..Say::default()
    };
    while let Some(new) = desk.pull_with(1, 9, say(vec![])).leased {
        desk.pull_with(1, 0, say(results(&new.grant, b"right")));
    }
    desk.step(Input::Merged {
        task,
        result: Ok(BlobRef::of(b"result")),
    });
    desk.pass(300);
    assert_eq!(desk.points(node(OWNER)), (0, 24_000));
    for shop in [SHOP, OTHER_SHOP] {
        desk.agree(agreement(shop, 1));
    }
    desk
}

fn certificate(device: u8, redeem: u64) -> Verified<DeviceCertificate> {
    let certificate = DeviceCertificate {
        device: node(device),
        not_before: Timestamp::default(),
        not_after: Timestamp::from_millis(1 << 36),
        serial: 1,
        redeem_points: Points::from_micro(redeem),
    };
    Verified::sign(certificate, &network(), &key(OWNER))
}

pub(super) fn registration(
    shop: u8,
    device: u8,
    (serial, expires): (u64, Timestamp),
) -> Verified<Registration> {
    let at = Timestamp::from_millis(1_000_000);
    let product: crate::product::ProductId = "photo".parse().unwrap();
    let enrolment = Enrolment {
        app_server: node(shop),
        product: product.clone(),
        owner: node(device),
        at,
    };
    let registration = Registration {
        product,
        holder: Holder::alone(node(device)),
        certificate: None,
        enrolment: Verified::sign(enrolment, &network(), &key(device))
            .signed()
            .clone(),
        issued: at,
        expires,
        serial,
    };
    let registration = Verified::sign(registration, &network(), &key(shop));
    crate::registration::check(&registration, &network()).unwrap();
    registration
}

/// The owner's word that a shop may take so many points.
pub(super) fn redeem(shop: u8, points: u64, nonce: u8, by: u8) -> Verified<Redeem> {
    let redeem = Redeem {
        owner: node(OWNER),
        coordinator: me(),
        app_server: node(shop),
        points: Points::from_micro(points),
        order: OrderId::from_bytes([nonce; 16]),
        nonce: [nonce; 16],
        expires: Timestamp::from_millis(1 << 36),
    };
    Verified::sign(redeem, &network(), &key(by))
}

impl Desk {
    pub(super) fn registry(&mut self, from: u8, asked: Registering) -> RegistryReply {
        let from = node(from);
        match self.answer(|question| Input::Registry {
            question,
            from,
            asked,
        }) {
            Answer::Registry(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn decide(&mut self, shop: u8, number: u32, decision: Decision) -> Result<(), DecisionFault> {
        let app_server = node(shop);
        match self.answer(|question| Input::Decided {
            question,
            app_server,
            number,
            decision,
        }) {
            Answer::Decided(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn propose(&mut self, agreement: Agreement) -> Proposal {
        let shop = [SHOP, OTHER_SHOP]
            .into_iter()
            .find(|shop| node(*shop) == agreement.app_server);
        let signed = Verified::sign(agreement, &network(), &key(shop.unwrap()));
        match self.registry(shop.unwrap(), Registering::Agree(signed)) {
            RegistryReply::Agreement(proposal) => proposal,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn agree(&mut self, agreement: Agreement) {
        let shop = [SHOP, OTHER_SHOP]
            .into_iter()
            .find(|shop| node(*shop) == agreement.app_server);
        let number = agreement.number;
        assert_eq!(self.propose(agreement.clone()), Proposal::Waiting);
        self.decide(shop.unwrap(), number, Decision::Accept)
            .unwrap();
        assert!(matches!(self.propose(agreement), Proposal::Made(_)));
    }

    pub(super) fn redeems(&mut self, shop: u8, asked: Redeeming) -> RedeemReply {
        let from = node(shop);
        match self.answer(|question| Input::Redeem {
            question,
            from,
            asked,
        }) {
            Answer::Redeem(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn reserve(
        &mut self,
        shop: u8,
        redeem: &Verified<Redeem>,
    ) -> Result<Reserved, RedeemFault> {
        let asked = Redeeming::Reserve {
            redeem: redeem.clone(),
            certificate: Some(certificate(1, 8_000)),
        };
        match self.redeems(shop, asked) {
            RedeemReply::Reserved(reserved) => Ok(reserved),
            RedeemReply::Not(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn post_redemption(
        &mut self,
        shop: u8,
        id: RedemptionId,
    ) -> Result<Signed<Redemption>, RedeemFault> {
        match self.redeems(shop, Redeeming::Post(id)) {
            RedeemReply::Posted(redemption) => Ok(redemption),
            RedeemReply::Not(fault) => Err(fault),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn owed(&self, shop: u8) -> i128 {
        let euro = Commodity::Money("EUR".parse().unwrap());
        let balance = self
            .coordinator
            .books
            .balance(Account::Payable(node(shop)), euro);
        balance.posted()
    }
}

#[test]
fn an_agreement_is_made_by_the_operator_and_only_as_far_as_the_rate_card_goes() {
    let mut desk = desk_with(0);
    let mut dear = agreement(SHOP, 1);
    dear.value.micro_points = 1_999;
    assert!(matches!(desk.propose(dear), Proposal::Faulty(_)));
    assert_eq!(desk.propose(agreement(SHOP, 1)), Proposal::Waiting);
    desk.restart_with(rates());
    assert_eq!(desk.coordinator.proposals().count(), 1, "it is durable");
    let wrong = desk.decide(SHOP, 2, Decision::Accept).unwrap_err();
    assert!(wrong.to_string().contains("no agreement 2"), "{wrong}");
    desk.decide(SHOP, 1, Decision::Decline).unwrap();
    assert_eq!(desk.propose(agreement(SHOP, 1)), Proposal::Declined);
    assert_eq!(desk.coordinator.proposals().count(), 0);
    desk.agree(agreement(SHOP, 2));
    desk.restart_with(rates());
    let Proposal::Made(pair) = desk.propose(agreement(SHOP, 2)) else {
        panic!("it is made");
    };
    assert_eq!(
        pair.verify(&network()).unwrap().signers(),
        (node(SHOP), me())
    );
    let mut again = agreement(SHOP, 2);
    again.cap = 5;
    let Proposal::Faulty(fault) = desk.propose(again) else {
        panic!("numbers rise");
    };
    assert_eq!(fault.to_string(), "number is 2, it must be above 2");
    let stolen = Verified::sign(agreement(SHOP, 3), &network(), &key(OTHER_SHOP));
    assert_eq!(
        desk.registry(OTHER_SHOP, Registering::Agree(stolen)),
        RegistryReply::Refused(Refusal::Unverified)
    );
}

#[test]
fn once_there_is_an_agreement_only_registered_devices_get_work() {
    let mut desk = desk_with(0);
    desk.deposit(1_000, "bank 1").unwrap();
    desk.run(priced("closed", 1, 600), 9);
    assert!(desk.pull(1, 1).leased.is_some(), "open until then");
    desk.agree(agreement(SHOP, 1));
    let refused = Answer::Refused(Refusal::NotRegistered);
    assert_eq!(desk.ask(2, 1, Say::default()), refused);
    let (soon, late) = (
        desk.now + Duration::from_secs(60),
        desk.now + Duration::from_secs(900),
    );
    let told = vec![registration(SHOP, 2, (1, late))];
    assert_eq!(
        desk.registry(SHOP, Registering::Register(told)),
        RegistryReply::Kept(1)
    );
    let shown = |serial, expires| Say {
        registration: Some(registration(SHOP, 3, (serial, expires))),
        ..Say::default()
    };
    assert!(
        desk.pull_with(3, 1, shown(1, soon)).leased.is_some(),
        "it shows one"
    );
    desk.restart_with(rates());
    assert!(desk.pull(2, 1).leased.is_some(), "the app server told");
    assert!(desk.pull(3, 1).leased.is_some(), "it is known now");
    desk.pass(61);
    assert_eq!(desk.ask(3, 1, Say::default()), refused, "it has expired");
    assert!(desk.pull_with(3, 1, shown(2, late)).leased.is_some());
    let unknown = vec![registration(OTHER_SHOP, 4, (1, late))];
    assert_eq!(
        desk.registry(OTHER_SHOP, Registering::Register(unknown)),
        RegistryReply::Refused(Refusal::NoAgreement)
    );
}

#[test]
fn a_revocation_ends_leases_at_once_and_the_registration_for_ever() {
    let mut desk = desk_with(0);
    desk.deposit(1_000, "bank 1").unwrap();
    let task = desk.run(priced("revoked", 1, 600), 1);
    desk.agree(agreement(SHOP, 1));
    let late = desk.now + Duration::from_secs(900);
    let both = vec![
        registration(SHOP, 2, (1, late)),
        registration(SHOP, 3, (1, late)),
    ];
    desk.registry(SHOP, Registering::Register(both));
    let grant = desk.lease(2, 1);
    assert!(desk.pull(3, 1).leased.is_none(), "somebody has it");
    let revocation = Revocation {
        device: node(2),
        serial: 1,
        at: desk.now,
        reason: "stolen".to_owned(),
    };
    let by = |shop| {
        Registering::Revoke(vec![Verified::sign(
            revocation.clone(),
            &network(),
            &key(shop),
        )])
    };
    assert_eq!(
        desk.registry(OTHER_SHOP, by(SHOP)),
        RegistryReply::Kept(0),
        "not its own"
    );
    let long = Revocation {
        reason: "so ".repeat(50),
        ..revocation.clone()
    };
    let long = vec![Verified::sign(long, &network(), &key(SHOP))];
    assert_eq!(
        desk.registry(SHOP, Registering::Revoke(long)),
        RegistryReply::Kept(0),
        "too long a reason"
    );
    assert_eq!(desk.registry(SHOP, by(SHOP)), RegistryReply::Kept(1));
    desk.restart_with(rates());
    assert_eq!(
        desk.ask(2, 1, Say::default()),
        Answer::Refused(Refusal::NotRegistered)
    );
    let again = Say {
        registration: Some(registration(SHOP, 2, (1, late))),
        ..Say::default()
    };
    assert_eq!(
        desk.ask(2, 1, again),
        Answer::Refused(Refusal::NotRegistered),
        "it is revoked"
    );
    let other = desk.lease(3, 1);
    assert_eq!(units_of(&other), units_of(&grant), "the unit is free");
    desk.report(3, results(&other, b"right"));
    desk.pass(2);
    assert_eq!(desk.status(task).summary.done, 1);
}

#[test]
fn points_are_set_aside_once_and_taken_once() {
    let mut desk = rich_desk();
    let first = redeem(SHOP, 8_000, 1, 1);
    let reserved = desk.reserve(SHOP, &first).unwrap();
    assert_eq!(reserved.value, euro(2), "a cent for 4,000 upt");
    assert_eq!(desk.reserve(SHOP, &first), Ok(reserved), "asked again");
    assert_eq!(desk.points(node(OWNER)), (0, 16_000));
    assert_eq!(
        desk.reserve(OTHER_SHOP, &first),
        Err(RedeemFault::OtherAudience),
        "nobody else is told how it stands"
    );
    let all = redeem(OTHER_SHOP, 24_000, 2, OWNER);
    let available = Points::from_micro(16_000);
    assert_eq!(
        desk.reserve(OTHER_SHOP, &all),
        Err(RedeemFault::TooFewPoints { available })
    );
    let id = reserved.redemption;
    let posted = desk.post_redemption(SHOP, id).unwrap();
    assert_eq!(
        desk.post_redemption(SHOP, id),
        Ok(posted.clone()),
        "the same for ever"
    );
    assert_eq!(
        desk.post_redemption(OTHER_SHOP, id),
        Err(RedeemFault::OtherAudience)
    );
    assert_eq!(
        desk.redeems(SHOP, Redeeming::Void(id)),
        RedeemReply::Not(RedeemFault::Posted)
    );
    let redemption = posted.verify(&network()).unwrap();
    assert_eq!((redemption.signer(), redemption.value), (me(), euro(2)));
    assert_eq!((desk.owed(SHOP), desk.cents(Account::Reserve)), (2, 8));
    let totals = desk.coordinator.totals(Holder {
        owner: node(OWNER),
        device: node(1),
    });
    let points = |micro| Points::from_micro(micro);
    assert_eq!(
        (totals.earned, totals.redeemed),
        (points(24_000), points(8_000))
    );
    assert_eq!(
        (totals.spendable, totals.escrowed),
        (points(16_000), Points::ZERO)
    );
    desk.audit();
}

#[test]
fn what_nobody_decides_is_free_again_and_what_is_void_counts_to_nothing() {
    let mut desk = rich_desk();
    let one = desk.reserve(SHOP, &redeem(SHOP, 8_000, 1, OWNER)).unwrap();
    let two = desk
        .reserve(OTHER_SHOP, &redeem(OTHER_SHOP, 8_000, 2, OWNER))
        .unwrap();
    assert_eq!(
        desk.redeems(SHOP, Redeeming::Void(one.redemption)),
        RedeemReply::Voided
    );
    assert_eq!(
        desk.redeems(SHOP, Redeeming::Void(one.redemption)),
        RedeemReply::Voided
    );
    assert_eq!(desk.points(node(OWNER)), (0, 16_000));
    assert_eq!(
        desk.post_redemption(SHOP, one.redemption),
        Err(RedeemFault::Over)
    );
    desk.pass(25 * 3_600);
    assert_eq!(desk.points(node(OWNER)), (0, 24_000), "a day is over");
    assert_eq!(
        desk.post_redemption(OTHER_SHOP, two.redemption),
        Err(RedeemFault::Over)
    );
    assert_eq!((desk.owed(SHOP), desk.owed(OTHER_SHOP)), (0, 0));
    let never = RedemptionId::from_bytes([9; 16]);
    assert_eq!(
        desk.redeems(SHOP, Redeeming::Void(never)),
        RedeemReply::Voided
    );
    assert_eq!(desk.post_redemption(SHOP, never), Err(RedeemFault::Unknown));
    desk.audit();
}

#[test]
fn a_device_redeems_as_much_a_day_as_its_owner_lets_it() {
    let mut desk = rich_desk();
    let left = |micro| {
        Err(RedeemFault::DeviceLimit {
            left: Points::from_micro(micro),
        })
    };
    assert_eq!(desk.reserve(SHOP, &redeem(SHOP, 8_001, 1, 1)), left(8_000));
    assert!(desk.reserve(SHOP, &redeem(SHOP, 4_000, 2, 1)).is_ok());
    assert_eq!(
        desk.reserve(OTHER_SHOP, &redeem(OTHER_SHOP, 8_000, 3, 1)),
        left(4_000)
    );
    desk.restart_with(rates());
    assert_eq!(
        desk.reserve(OTHER_SHOP, &redeem(OTHER_SHOP, 8_000, 3, 1)),
        left(4_000)
    );
    let stranger = redeem(SHOP, 4_000, 4, 2);
    assert_eq!(desk.reserve(SHOP, &stranger), Err(RedeemFault::NotAllowed));
    desk.pass(25 * 3_600);
    assert!(
        desk.reserve(OTHER_SHOP, &redeem(OTHER_SHOP, 8_000, 3, 1))
            .is_ok(),
        "another day"
    );
    desk.audit();
}

#[test]
fn an_agreement_bounds_what_is_redeemed() {
    let mut desk = rich_desk();
    let reserve = |desk: &mut Desk, cents: u64, nonce| {
        desk.reserve(SHOP, &redeem(SHOP, 4_000 * cents, nonce, OWNER))
    };
    let first = reserve(&mut desk, 3, 1).unwrap();
    let over = reserve(&mut desk, 1, 2).unwrap_err();
    assert_eq!(
        over,
        RedeemFault::OverCredit { left: euro(0) },
        "three are not settled"
    );
    assert_eq!(
        reserve(&mut desk, 2, 3),
        Err(RedeemFault::OverCap { left: euro(1) })
    );
    assert_eq!(
        desk.reserve(SHOP, &redeem(SHOP, 3_999, 4, OWNER)),
        Err(RedeemFault::Worthless)
    );
    let mut late = redeem(SHOP, 4_000, 5, OWNER).value().to_owned();
    late.expires = desk.now;
    let late = Verified::sign(late, &network(), &key(OWNER));
    assert_eq!(desk.reserve(SHOP, &late), Err(RedeemFault::Expired));
    let foreign = redeem(OTHER_SHOP, 4_000, 6, OWNER);
    assert_eq!(
        desk.reserve(SHOP, &foreign),
        Err(RedeemFault::OtherAudience)
    );
    desk.redeems(SHOP, Redeeming::Void(first.redemption));
    assert!(reserve(&mut desk, 2, 7).is_ok());
    let nobody = redeem(CUSTOMER, 4_000, 8, OWNER);
    assert_eq!(
        desk.reserve(CUSTOMER, &nobody),
        Err(RedeemFault::NoAgreement)
    );
    desk.audit();
}

#[test]
fn what_is_let_go_frees_the_cap_of_its_own_period_only() {
    let mut desk = rich_desk();
    desk.agree(Agreement {
        credit: 100,
        ..agreement(SHOP, 2)
    });
    desk.pass(80_000);
    let yesterday = desk.reserve(SHOP, &redeem(SHOP, 4_000, 1, OWNER)).unwrap();
    desk.pass(10_000);
    desk.reserve(SHOP, &redeem(SHOP, 12_000, 2, OWNER)).unwrap();
    desk.redeems(SHOP, Redeeming::Void(yesterday.redemption));
    desk.restart_with(rates());
    assert_eq!(
        desk.reserve(SHOP, &redeem(SHOP, 8_000, 3, OWNER)),
        Err(RedeemFault::OverCap { left: euro(1) })
    );
    desk.audit();
}

#[test]
fn a_reversal_gives_points_and_money_back_once() {
    let mut desk = rich_desk();
    let before = desk.books.clone();
    let reserved = desk.reserve(SHOP, &redeem(SHOP, 12_000, 1, OWNER)).unwrap();
    desk.post_redemption(SHOP, reserved.redemption).unwrap();
    let reversal = |by| {
        let reversal = Reversal {
            redemption: reserved.redemption,
            reason: "sent back".to_owned(),
            at: Timestamp::default(),
        };
        Redeeming::Reverse(Verified::sign(reversal, &network(), &key(by)))
    };
    let senseless = Reversal {
        redemption: reserved.redemption,
        reason: "sent\u{1b}back".to_owned(),
        at: Timestamp::default(),
    };
    let senseless = Verified::sign(senseless, &network(), &key(SHOP));
    assert_eq!(
        desk.redeems(SHOP, Redeeming::Reverse(senseless)),
        RedeemReply::Refused(Refusal::Malformed)
    );
    let fault = RedeemReply::Not(RedeemFault::OtherAudience);
    assert_eq!(desk.redeems(OTHER_SHOP, reversal(OTHER_SHOP)), fault);
    assert_eq!(desk.redeems(SHOP, reversal(SHOP)), RedeemReply::Reversed);
    desk.restart_with(rates());
    assert_eq!(
        desk.redeems(SHOP, reversal(SHOP)),
        RedeemReply::Reversed,
        "again"
    );
    assert_eq!(desk.points(node(OWNER)), (0, 24_000));
    assert_eq!((desk.owed(SHOP), desk.cents(Account::Reserve)), (0, 12));
    let revenue = Commodity::Money("EUR".parse().unwrap());
    let earned = |books: &Books| books.balance(Account::Revenue, revenue).posted();
    assert_eq!(earned(&desk.books), earned(&before));
    assert_eq!(
        desk.post_redemption(SHOP, reserved.redemption),
        Err(RedeemFault::Over)
    );
    desk.audit();
}

/// However often the coordinator stops, from the journal or from a snapshot: each redemption has one outcome.
#[test]
fn a_restart_between_any_two_steps_redeems_once() {
    for crash in 0..5 {
        let mut desk = rich_desk();
        let word = redeem(SHOP, 8_000, 1, OWNER);
        let mut steps = 0;
        let mut step = |desk: &mut Desk| {
            if steps == crash {
                let snapshot = desk.coordinator.snapshot();
                let config = CoordinatorConfig {
                    rates: rates(),
                    ..config()
                };
                let state = (Some(&snapshot[..]), desk.books.clone());
                let none: [Vec<u8>; 0] = [];
                desk.coordinator = Coordinator::restore(config, [9; 32], state, none).unwrap();
                desk.coordinator.resume(desk.now, &mut desk.out);
            }
            steps += 1;
            desk.audit();
        };
        step(&mut desk);
        let reserved = desk.reserve(SHOP, &word).unwrap();
        step(&mut desk);
        assert_eq!(desk.reserve(SHOP, &word), Ok(reserved));
        step(&mut desk);
        let posted = desk.post_redemption(SHOP, reserved.redemption).unwrap();
        step(&mut desk);
        assert_eq!(desk.post_redemption(SHOP, reserved.redemption), Ok(posted));
        step(&mut desk);
        assert_eq!(
            (desk.points(node(OWNER)), desk.owed(SHOP)),
            ((0, 16_000), 2)
        );
    }
}

#[test]
fn app_servers_are_told_of_points_some_seconds_after_they_changed() {
    let mut desk = desk_with(0);
    desk.deposit(1_000, "bank 1").unwrap();
    desk.agree(agreement(SHOP, 1));
    let late = desk.now + Duration::from_secs(9_000);
    let told = vec![registration(SHOP, 2, (1, late))];
    desk.registry(SHOP, Registering::Register(told));
    let tells = |desk: &mut Desk, seconds| -> Vec<Totals> {
        desk.pass(seconds);
        let told = desk.out.iter().filter_map(|effect| match effect {
            Effect::Tell {
                app_server,
                holder,
                totals,
            } => {
                assert_eq!((*app_server, holder.device), (node(SHOP), node(2)));
                Some(*totals)
            }
            _ => None,
        });
        told.collect()
    };
    assert_eq!(
        tells(&mut desk, 10),
        [Totals::default()],
        "it is registered"
    );
    desk.run(priced("told", 1, 600), 2);
    let grant = desk.lease(2, 1);
    desk.report(2, results(&grant, b"right"));
    let told = tells(&mut desk, 30);
    assert_eq!(told.len(), 1, "changes within some seconds are one");
    let half = Points::from_micro(500);
    assert_eq!((told[0].escrowed, told[0].spendable), (half, half));
    assert_eq!(tells(&mut desk, 30), []);
    desk.restart_with(rates());
    assert_eq!(
        tells(&mut desk, 10).len(),
        1,
        "told again, as nobody knows what was heard"
    );
    let asked = Registering::Points(vec![node(2), node(3)]);
    let from = node(SHOP);
    let answer = desk.answer(|question| Input::Registry {
        question,
        from,
        asked,
    });
    let Answer::Points(points) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((points.len(), points[0].1.spendable), (1, half));
}
