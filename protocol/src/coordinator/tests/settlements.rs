//! What is due to app servers: agreed on once, paid once.

use super::money::{euro, rates};
use super::partners::{OTHER_SHOP, OWNER, SHOP, agreement, redeem, registration, rich_desk};
use super::*;
use crate::account::Account;
use crate::agreement::Agreement;
use crate::countersignature::{Countersigned, VerifiedPair};
use crate::id::RedemptionId;
use crate::message::redeem::RedeemFault;
use crate::redemption::Reversal;
use crate::settlement::{
    Claim, Counted, SETTLED_MAX, SettleFault, SettleReply, SettleRequest, Settlement,
};

impl Desk {
    /// Redeems points for so many cents.
    fn take(&mut self, cents: u64, nonce: u8) -> Claim {
        let word = redeem(SHOP, 4_000 * cents, nonce, OWNER);
        let id = self.reserve(SHOP, &word).unwrap().redemption;
        self.post_redemption(SHOP, id).unwrap();
        (id, cents)
    }

    fn give_back(&mut self, redemption: RedemptionId) {
        let reversal = Reversal {
            redemption,
            reason: "sent back".to_owned(),
            at: Timestamp::default(),
        };
        let reversal = Verified::sign(reversal, &network(), &key(SHOP));
        let reply = self.redeems(SHOP, Redeeming::Reverse(reversal));
        assert_eq!(reply, RedeemReply::Reversed);
    }

    /// Returns the name of an agreement.
    fn agreement(&self, shop: u8, number: u32) -> Hash {
        let mut made = self.coordinator.agreements();
        let is_it = |pair: &&VerifiedPair<Agreement>| {
            (pair.value().app_server, pair.value().number) == (node(shop), number)
        };
        made.find(is_it).unwrap().hash()
    }

    /// A statement of these, which names the first agreement.
    fn statement(&self, number: u32, redeemed: &[Claim], reversed: &[Claim]) -> Settlement {
        let mut settlement = Settlement {
            app_server: node(SHOP),
            coordinator: me(),
            agreement: self.agreement(SHOP, 1),
            number,
            until: self.now,
            redeemed: Counted::of(redeemed).unwrap(),
            reversed: Counted::of(reversed).unwrap(),
            supply_devices: 0,
            supply_fee: 0,
            disputed: Vec::new(),
            currency: "EUR".parse().unwrap(),
            due: 0,
        };
        settlement.due = settlement.sum().unwrap();
        settlement
    }

    fn settle_by(
        &mut self,
        shop: u8,
        statement: Settlement,
        (redeemed, reversed): (&[Claim], &[Claim]),
    ) -> RegistryReply {
        let settlement = Verified::sign(statement, &network(), &key(shop));
        let request = SettleRequest {
            settlement: settlement.signed().clone(),
            redeemed: redeemed.to_vec(),
            reversed: reversed.to_vec(),
        };
        let stated = request.check(&network()).unwrap();
        self.registry(shop, Registering::Settle(Box::new(stated)))
    }

    fn settle(
        &mut self,
        statement: Settlement,
        counts: (&[Claim], &[Claim]),
    ) -> Result<Countersigned<Settlement>, SettleReply> {
        match self.settle_by(SHOP, statement, counts) {
            RegistryReply::Settlement(SettleReply::Agreed(signed)) => Ok(signed),
            RegistryReply::Settlement(reply) => Err(reply),
            other => panic!("{other:?}"),
        }
    }

    fn settle_all(&mut self, number: u32, redeemed: &[Claim], reversed: &[Claim]) -> Settlement {
        let statement = self.statement(number, redeemed, reversed);
        let agreed = self.settle(statement.clone(), (redeemed, reversed));
        let pair = agreed.unwrap().verify(&network()).unwrap();
        assert_eq!(pair.signers(), (node(SHOP), me()));
        assert_eq!(*pair.value(), statement);
        statement
    }

    fn pay(&mut self, number: u32, reference: &str) -> Result<PostingId, OrderFault> {
        self.order(Order::PaySettlement {
            app_server: node(SHOP),
            number,
            reference: reference.to_owned(),
        })
    }

    /// Starts again from a snapshot.
    fn reload(&mut self) {
        let snapshot = self.coordinator.snapshot();
        let config = CoordinatorConfig {
            rates: rates(),
            ..config()
        };
        let state = (Some(&snapshot[..]), self.books.clone());
        let none: [Vec<u8>; 0] = [];
        self.coordinator = Coordinator::restore(config, [9; 32], state, none).unwrap();
        self.coordinator.resume(self.now, &mut self.out);
        assert_eq!(self.coordinator.snapshot(), snapshot);
    }
}

fn sorted(mut claims: Vec<Claim>) -> Vec<Claim> {
    claims.sort_unstable();
    claims
}

#[test]
fn what_is_due_is_agreed_on_once_and_paid_once() {
    let mut desk = rich_desk();
    let both = sorted(vec![desk.take(1, 1), desk.take(2, 2)]);
    let statement = desk.statement(1, &both, &[]);
    let agreed = desk.settle(statement.clone(), (&both, &[])).unwrap();
    for restart in [Desk::reload, |desk: &mut Desk| desk.restart_with(rates())] {
        restart(&mut desk);
        let again = desk.settle(statement.clone(), (&both, &[]));
        assert_eq!(again, Ok(agreed.clone()), "the same for ever");
    }
    let again = desk.statement(2, &both[..1], &[]);
    assert_eq!(
        desk.settle(again, (&both[..1], &[])),
        Err(SettleReply::Disputed(vec![both[0].0])),
        "it is counted once"
    );
    desk.pass(86_400);
    let more = redeem(SHOP, 4_000, 3, OWNER);
    let none_left = RedeemFault::OverCredit { left: euro(0) };
    assert_eq!(desk.reserve(SHOP, &more), Err(none_left), "it is not paid");
    assert!(matches!(
        desk.pay(2, "wire 1"),
        Err(OrderFault::NoSettlement { number: 2, .. })
    ));
    desk.pay(1, "wire 1").unwrap();
    assert_eq!(desk.owed(SHOP), 0);
    for restart in [Desk::reload, |desk: &mut Desk| desk.restart_with(rates())] {
        restart(&mut desk);
        let again = desk.pay(1, "wire 2");
        assert!(
            matches!(again, Err(OrderFault::Repeated { .. })),
            "{again:?}"
        );
    }
    assert!(desk.reserve(SHOP, &more).is_ok(), "the credit is free");
    desk.audit();
}

#[test]
fn what_is_given_back_after_its_settlement_is_in_the_next_one() {
    let mut desk = rich_desk();
    let first = desk.take(2, 1);
    desk.settle_all(1, &[first], &[]);
    desk.pay(1, "wire 1").unwrap();
    desk.give_back(first.0);
    assert_eq!(desk.owed(SHOP), -2);
    let early = desk.take(1, 2);
    desk.give_back(early.0);
    let reversed = sorted(vec![first, early]);
    let settled = desk.settle_all(2, &[early], &reversed);
    assert_eq!(settled.due, -2, "the app server owes it");
    desk.reload();
    let again = desk.statement(3, &[], &[first]);
    assert_eq!(
        desk.settle(again, (&[], &[first])),
        Err(SettleReply::Disputed(vec![first.0]))
    );
    desk.pay(2, "wire 2").unwrap();
    assert_eq!(desk.owed(SHOP), 0);
    let nothing = desk.settle_all(3, &[], &[]);
    assert_eq!(nothing.due, 0);
    assert!(matches!(
        desk.pay(3, "wire 3"),
        Err(OrderFault::NoSettlement { .. })
    ));
    assert!(
        desk.coordinator
            .settlements()
            .all(|made| made.unpaid.is_none())
    );
    desk.audit();
}

#[test]
fn what_is_not_as_it_was_posted_is_disputed() {
    let mut desk = rich_desk();
    let posted = desk.take(1, 1);
    let kept = desk.take(1, 4);
    let set_aside = redeem(SHOP, 4_000, 2, OWNER);
    let set_aside = (desk.reserve(SHOP, &set_aside).unwrap().redemption, 1);
    let foreign = redeem(OTHER_SHOP, 4_000, 3, OWNER);
    let foreign = desk.reserve(OTHER_SHOP, &foreign).unwrap().redemption;
    desk.post_redemption(OTHER_SHOP, foreign).unwrap();
    let never = (RedemptionId::from_bytes([9; 16]), 1);
    let wrong = sorted(vec![(posted.0, 2), kept, set_aside, (foreign, 1), never]);
    let statement = desk.statement(1, &wrong, &[]);
    let named = wrong.iter().filter(|claim| **claim != kept);
    let named: Vec<RedemptionId> = named.map(|(id, _)| *id).collect();
    assert_eq!(
        desk.settle(statement, (&wrong, &[])),
        Err(SettleReply::Disputed(named))
    );
    let kept_back = desk.statement(2, &[posted], &[posted]);
    assert_eq!(
        desk.settle(kept_back, (&[posted], &[posted])),
        Err(SettleReply::Disputed(vec![posted.0])),
        "nothing was given back"
    );
    let many: Vec<Claim> = (0..SETTLED_MAX)
        .map(|number| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            (RedemptionId::from_bytes(id), 1)
        })
        .collect();
    let statement = desk.statement(3, &many, &[]);
    let Err(SettleReply::Disputed(named)) = desk.settle(statement, (&many, &[])) else {
        panic!("they are unknown");
    };
    assert_eq!(named.len(), crate::settlement::DISPUTED_MAX);
    let all = sorted(vec![posted, kept]);
    assert_eq!(
        desk.settle_all(4, &all, &[]).due,
        2,
        "a number may be skipped"
    );
    desk.audit();
}

#[test]
fn a_statement_that_cannot_be_agreed_on_says_why() {
    let mut desk = rich_desk();
    let claim = desk.take(1, 1);
    let counts: (&[Claim], &[Claim]) = (&[claim], &[]);
    let statement = desk.statement(5, &[claim], &[]);
    let refused = RegistryReply::Refused(Refusal::Unverified);
    assert_eq!(
        desk.settle_by(OTHER_SHOP, statement.clone(), counts),
        refused
    );
    let mut other = statement.clone();
    other.coordinator = node(OTHER_SHOP);
    assert_eq!(desk.settle_by(SHOP, other, counts), refused);
    let fault = Err(SettleReply::Not(SettleFault::Agreement));
    let mut other = statement.clone();
    other.agreement = desk.agreement(OTHER_SHOP, 1);
    assert_eq!(desk.settle(other, counts), fault, "that of another");
    let mut other = statement.clone();
    other.currency = "USD".parse().unwrap();
    assert_eq!(desk.settle(other, counts), fault);
    let mut early = statement.clone();
    early.until = desk.now + Duration::from_secs(1);
    assert_eq!(desk.settle(early.clone(), counts), Err(SettleReply::Later));
    desk.pass(1);
    desk.settle(early, counts).unwrap();
    let last = Err(SettleReply::Not(SettleFault::Number { last: 5 }));
    assert_eq!(desk.settle(statement, counts), last, "it is another one");
    let old = desk.statement(4, &[], &[]);
    assert_eq!(desk.settle(old, (&[], &[])), last);
}

#[test]
fn devices_are_paid_for_once_a_period_out_of_what_is_earned() {
    let mut desk = rich_desk();
    desk.agree(Agreement {
        supply_fee: 3,
        supply_devices_max: 2,
        credit: 100,
        ..agreement(SHOP, 2)
    });
    let newest = desk.agreement(SHOP, 2);
    let supply = |desk: &Desk, number, devices: u32| {
        let mut statement = desk.statement(number, &[], &[]);
        statement.agreement = newest;
        (statement.supply_devices, statement.supply_fee) = (devices, u64::from(devices) * 3);
        statement.due = statement.sum().unwrap();
        statement
    };
    let none: (&[Claim], &[Claim]) = (&[], &[]);
    let most = |most| Err(SettleReply::Not(SettleFault::Supply { most }));
    let one = supply(&desk, 1, 1);
    assert_eq!(desk.settle(one, none), most(0), "nobody is registered");
    let late = desk.now + Duration::from_secs(900);
    let told = (1..=3).map(|device| registration(SHOP, device, (1, late)));
    desk.registry(SHOP, Registering::Register(told.collect()));
    let three = supply(&desk, 2, 3);
    assert_eq!(
        desk.settle(three, none),
        most(2),
        "the agreement allows two"
    );
    let mut dear = supply(&desk, 3, 1);
    (dear.supply_fee, dear.due) = (4, 4);
    assert_eq!(desk.settle(dear, none), most(2), "for another fee");
    let revenue = desk.cents(Account::Revenue);
    let all = euro(u64::try_from(revenue).unwrap());
    desk.order(Order::Move {
        movement: Movement::PayOut(Payee::Operator),
        money: all,
        reference: "profit".to_owned(),
    })
    .unwrap();
    let two = supply(&desk, 4, 2);
    let later = desk.settle(two.clone(), none);
    assert_eq!(later, Err(SettleReply::Later), "nothing is earned");
    // What points are worth less than what stands behind them is earned.
    for nonce in 1..3 {
        desk.take(3, nonce);
        desk.pass(86_400);
    }
    desk.settle(two.clone(), none).unwrap();
    assert_eq!((desk.cents(Account::Revenue), desk.owed(SHOP)), (0, 12));
    let mut again = supply(&desk, 5, 1);
    again.until = two.until;
    for restart in [Desk::reload, |desk: &mut Desk| desk.restart_with(rates())] {
        restart(&mut desk);
        let twice = desk.settle(again.clone(), none);
        assert_eq!(twice, most(0), "in the same period");
    }
    desk.pay(4, "wire 1").unwrap();
    assert_eq!(desk.owed(SHOP), 6, "the rest is in no settlement");
    desk.audit();
}
