//! The log of an app server: what is shown of it, and what the audit finds when somebody has tampered with it.

use tally_ledger::cli::{
    BalanceOf, BalanceQuery, COLUMNS, EntriesQuery, EntryName, LedgerQuery, Order, answer, render,
};
use tally_ledger::store::{Change, Draft, Store};
use tally_netsim::disk::Disk;
use tally_protocol::app_server::{Command, posting};
use tally_protocol::countersignature::VerifiedPair;
use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::RedemptionId;
use tally_protocol::redemption::Redemption;
use tally_protocol::settlement::{Claim, Counted, Settlement};
use tally_protocol::signed::Verified;

use crate::example::START;
use crate::trade::{BANK, DEVICES, SHOP, Trade, audit, euro, id, shop_identity, sign};

/// Where what stands in the log of [`story`].
const AGREEMENT: usize = 0;
const TAKEN: usize = 1;
const CHARGED: usize = 2;
const PAID: usize = 3;
const SETTLED: usize = 4;
const SETTLEMENT_PAID: usize = 5;
const TAKEN_AGAIN: usize = 6;
const CHARGED_AGAIN: usize = 7;
const UNDONE: usize = 8;
const GIVEN_BACK: usize = 9;
const SETTLED_AGAIN: usize = 10;

/// Somebody buys a license for 20 cents in points and 40 in money, which is settled; somebody else buys one for points
/// alone; the first one is undone, and the rest is settled.
fn story() -> Vec<Entry> {
    let mut trade = Trade::agreed();
    let first = trade.order(DEVICES[0], 20);
    trade.pass(60);
    trade.pay(first);
    trade.pass(60);
    trade.command(Command::Settle(id(BANK))).unwrap();
    trade.pass(60);
    trade.pay_settlements();
    let second = trade.order(DEVICES[1], 60);
    trade.pass(60);
    for order in [first, second] {
        trade.assert_fulfilled(order);
    }
    trade.command(Command::Refund(first)).unwrap();
    trade.pass(60);
    trade.command(Command::Settle(id(BANK))).unwrap();
    trade.pass(60);
    trade.shop_log.entries
}

/// Changes the entry at `place`, and returns what the audit says of it.
fn tampered(place: usize, change: impl FnOnce(&mut Entry)) -> String {
    let mut log = story();
    change(&mut log[place]);
    found(&log, place)
}

fn found(log: &[Entry], place: usize) -> String {
    let finding = audit(SHOP, log)
        .finding
        .expect("somebody has tampered with it");
    assert_eq!(finding.sequence, Some(place as u64), "{finding}");
    finding.problem.to_string()
}

/// Puts an entry in once more, as the last one.
fn repeated(place: usize) -> String {
    let mut log = story();
    let (sequence, at) = (log.len(), log.last().unwrap().at);
    log.push(Entry {
        sequence: sequence as u64,
        at,
        ..log[place].clone()
    });
    found(&log, sequence)
}

/// Takes an entry out, and returns what the audit says of the one that then stands at `then`.
fn without(place: usize, then: usize) -> String {
    let mut log = story();
    log.remove(place);
    for (sequence, entry) in (0..).zip(&mut log) {
        entry.sequence = sequence;
    }
    found(&log, then)
}

#[test]
fn the_story_is_sound() {
    let log = story();
    assert_eq!(log.len(), SETTLED_AGAIN + 1);
    let report = audit(SHOP, &log);
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn a_charge_that_does_not_follow_from_what_was_taken_is_found() {
    let charged = |change: fn(&mut Event)| tampered(CHARGED, |entry| change(&mut entry.event));
    let fee = charged(|event| {
        if let Event::OrderCharged { fee, .. } = event {
            fee.minor += 1;
        }
    });
    assert!(fee.contains("its fee is not"), "{fee}");
    let due = charged(|event| {
        if let Event::OrderCharged { fee, due, .. } = event {
            (fee.minor, due.minor) = (fee.minor - 1, due.minor - 1);
        }
    });
    assert!(due.contains("not what the rules give"), "{due}");
    let user = charged(|event| {
        if let Event::OrderCharged { user, .. } = event {
            *user = id(DEVICES[1]);
        }
    });
    assert!(user.contains("has not taken points for it"), "{user}");
    let more = charged(|event| {
        if let Event::OrderCharged { fee, parts, .. } = event {
            (fee.minor, parts[0].money.minor) = (fee.minor + 1, parts[0].money.minor + 1);
        }
    });
    assert!(more.contains("has not taken points for it"), "{more}");
    let twice = charged(|event| {
        if let Event::OrderCharged { fee, parts, .. } = event {
            fee.minor += parts[0].money.minor;
            parts.push(parts[0]);
        }
    });
    assert!(twice.contains("has not taken points for it"), "{twice}");
    assert!(repeated(CHARGED).contains("charged before"));
    assert!(without(TAKEN, CHARGED - 1).contains("has not taken points for it"));
    assert!(repeated(TAKEN).contains("before"));
    let mut log = story();
    let Event::PointsRedeemed { redemption } = &log[TAKEN].event else {
        panic!("{:?}", log[TAKEN]);
    };
    let said = redemption.clone().verify(&shop_identity().network).unwrap();
    let forged: Verified<Redemption> = sign(said.value().clone(), SHOP + 1);
    let redemption = forged.signed().clone();
    log[TAKEN].event = Event::PointsRedeemed { redemption };
    assert!(found(&log, TAKEN).contains("its points are of"));
}

#[test]
fn an_order_is_paid_once_and_undone_once() {
    let more = tampered(PAID, |entry| {
        if let Event::OrderPaid { money, .. } = &mut entry.event {
            money.minor += 1;
        }
    });
    assert!(more.contains("so much is not owed"), "{more}");
    assert!(repeated(PAID).contains("so much is not owed"));
    assert!(without(CHARGED, PAID - 1).contains("so much is not owed"));
    let long = tampered(PAID, |entry| {
        if let Event::OrderPaid { reference, .. } = &mut entry.event {
            reference.clear();
        }
    });
    assert!(long.contains("0 bytes"), "{long}");
    let mut log = story();
    if let Event::OrderRefunded { paid, .. } = &mut log[UNDONE].event {
        paid.minor += 1;
    }
    assert!(found(&log, UNDONE).contains("not charged and paid like that"));
    assert!(repeated(UNDONE).contains("not charged and paid like that"));
    let unpaid = without(PAID, UNDONE - 1);
    assert!(
        unpaid.contains("not charged and paid like that"),
        "{unpaid}"
    );
    assert!(without(UNDONE, GIVEN_BACK - 1).contains("was not undone"));
    assert!(repeated(GIVEN_BACK).contains("nothing was charged"));
    assert!(repeated(SETTLEMENT_PAID).contains("nothing is due by number 1"));
}

/// Replaces the second settlement by one that both sign and that counts these.
fn settled(
    (redeemed, reversed): (&[Claim], &[Claim]),
    change: impl FnOnce(&mut Settlement),
) -> String {
    let mut log = story();
    let Event::SettlementMade { settlement, .. } = &log[SETTLED_AGAIN].event else {
        panic!("{:?}", log[SETTLED_AGAIN]);
    };
    let network = shop_identity().network;
    let mut value = settlement.clone().verify(&network).unwrap().value().clone();
    value.redeemed = Counted::of(redeemed).unwrap();
    value.reversed = Counted::of(reversed).unwrap();
    value.due = value.sum().unwrap();
    change(&mut value);
    let pair = VerifiedPair::agree(sign(value, SHOP), &network, &crate::example::key(BANK));
    let ids = |claims: &[Claim]| claims.iter().map(|(id, _)| *id).collect();
    log[SETTLED_AGAIN].event = Event::SettlementMade {
        settlement: pair.signed(),
        redeemed: ids(redeemed),
        reversed: ids(reversed),
    };
    found(&log, SETTLED_AGAIN)
}

#[test]
fn a_settlement_counts_exactly_what_is_owed() {
    let log = story();
    let claim = |place: usize| -> Claim {
        let Event::OrderCharged { parts, .. } = &log[place].event else {
            panic!("{:?}", log[place]);
        };
        (parts[0].redemption, parts[0].money.minor)
    };
    let (first, second) = (claim(CHARGED), claim(CHARGED_AGAIN));
    let right: (&[Claim], &[Claim]) = (&[second], &[first]);
    let out = settled((&[], &[first]), |_| ());
    assert!(out.contains("leaves"), "{out}");
    let out = settled((&[second], &[]), |_| ());
    assert!(out.contains("leaves"), "{out}");
    let mut both = vec![first, second];
    both.sort_unstable();
    let twice = settled((&both, &[first]), |_| ());
    assert!(twice.contains("nothing is owed for"), "{twice}");
    let early = settled((&[second], &[second]), |_| ());
    assert!(early.contains("nothing is owed back"), "{early}");
    let other = (RedemptionId::from_bytes([9; 16]), 0);
    let unknown = settled((&[other], &[first]), |_| ());
    assert!(unknown.contains("nothing is owed for"), "{unknown}");
    let sum = settled(right, |value| value.due += 1);
    assert!(sum.contains("does not add up"), "{sum}");
    let number = settled(right, |value| value.number = 1);
    assert!(number.contains("number is 1"), "{number}");
    let agreement = settled(right, |value| {
        value.agreement = tally_protocol::id::Hash::from_bytes([1; 32])
    });
    assert!(
        agreement.contains("does not stand before it"),
        "{agreement}"
    );
    let devices = settled(right, |value| {
        (value.supply_devices, value.supply_fee) = (1, 5);
        value.due += 5;
    });
    assert!(devices.contains("out of their period"), "{devices}");
    let fee = settled(right, |value| {
        value.supply_fee = 5;
        value.due += 5;
    });
    assert!(fee.contains("its fee for 0 devices"), "{fee}");
    assert!(without(AGREEMENT, SETTLED - 1).contains("does not stand before it"));
}

#[test]
fn each_posting_that_was_changed_is_found() {
    let log = story();
    let posted = (0..log.len()).filter(|place| log[*place].posting.is_some());
    let posted: Vec<usize> = posted.collect();
    let expected = [
        CHARGED,
        PAID,
        SETTLED,
        SETTLEMENT_PAID,
        CHARGED_AGAIN,
        UNDONE,
        GIVEN_BACK,
    ];
    assert_eq!(posted, expected);
    for place in posted {
        let more = tampered(place, |entry| {
            let posting = entry.posting.as_mut().unwrap();
            posting.transfers[0].amount += 1;
        });
        assert!(more.contains("not what the rules give"), "{more}");
        let none = tampered(place, |entry| entry.posting = None);
        assert!(none.contains("not what the rules give"), "{none}");
    }
    let none = tampered(TAKEN_AGAIN, |entry| {
        entry.posting = posting::payment(id(SHOP), euro(1), "nothing");
    });
    assert!(none.contains("there should be none"), "{none}");
}

/// All that is told of the story, as people see it; the tables are audited too.
#[test]
fn what_people_are_told_of_sales() {
    let open = Store::on_backend(Disk::default(), &shop_identity(), START).unwrap();
    for entry in story() {
        let Entry {
            at, event, posting, ..
        } = entry;
        let events = vec![Draft { at, event, posting }];
        let change = Change {
            events,
            ..Change::default()
        };
        open.commit(change).unwrap();
    }
    let told = |query: &LedgerQuery| {
        let answer = answer(&open, Some(&crate::example::key(SHOP)), query).unwrap();
        let text = render(&answer);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
        text
    };
    let mut text = told(&LedgerQuery::Entries(EntriesQuery {
        from: 0,
        to: None,
        task: None,
        owner: None,
        device: None,
        limit: 50,
        order: Order::OldestFirst,
    }));
    for place in [CHARGED, PAID, SETTLED_AGAIN, SETTLEMENT_PAID, UNDONE] {
        let entry = EntryName::Sequence(place as u64);
        text.push('\n');
        text.push_str(&told(&LedgerQuery::Show { entry }));
    }
    text.push('\n');
    text.push_str(&told(&LedgerQuery::Balance(BalanceQuery {
        of: BalanceOf::Prefix(String::new()),
        limit: 100,
    })));
    crate::books_cli::same("sales", &text);
}
