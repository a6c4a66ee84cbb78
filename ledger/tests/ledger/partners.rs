//! App servers in the log: what is shown of them, and what the audit finds when somebody has tampered with it.

use std::convert::Infallible;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::audit::{Problem, Report, audit_entries};
use tally_ledger::cli::{
    AccountStatement, BalanceOf, BalanceQuery, COLUMNS, EntriesQuery, EntryName, LedgerAnswer,
    LedgerQuery, Order, Party, Period, StatementError, answer, render, statement,
};
use tally_ledger::store::{Change, Store, StoredEntry};
use tally_netsim::disk::Disk;
use tally_protocol::account::{Holder, Lot, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::codec;
use tally_protocol::countersignature::{Countersigned, VerifiedPair};
use tally_protocol::entry::{Entry, Event, Fund};
use tally_protocol::id::{NodeId, OrderId, RedemptionId};
use tally_protocol::points::Points;
use tally_protocol::posting;
use tally_protocol::product::ProductId;
use tally_protocol::rate_card::{Price, Rates};
use tally_protocol::redemption::{Redeem, Redemption, Reversal};
use tally_protocol::registration::{Enrolment, Registration, Revocation};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::time::Timestamp;

use crate::example::{
    DAY, Example, START, certificate, coordinator_key, customer, desktop, identity, key, node,
    owner,
};

const SHOP: u8 = 50;
const OWNER: u8 = 30;
const DESKTOP: u8 = 31;
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn sign<T: Statement + Clone>(value: T, by: u8) -> Verified<T> {
    Verified::sign(value, &identity().network, &key(by))
}

fn shop() -> NodeId {
    node(&key(SHOP))
}

/// A point is worth 1.00 EUR, of the 1.50 that stand behind it.
fn agreement(number: u32) -> Agreement {
    Agreement {
        app_server: shop(),
        coordinator: identity().node,
        number,
        currency: "EUR".parse().unwrap(),
        value: Price {
            minor: 100,
            micro_points: 1_000_000,
        },
        period_seconds: 86_400,
        cap: 10_000,
        credit: 5_000,
        supply_fee: 10,
        supply_devices_max: 100,
        not_before: START,
        not_after: START + YEAR,
    }
}

fn pair(agreement: Agreement, by: u8) -> VerifiedPair<Agreement> {
    let made = sign(agreement, by);
    VerifiedPair::agree(made, &identity().network, &coordinator_key())
}

fn registration(serial: u64, enrolled_by: u8, at: Timestamp) -> Signed<Registration> {
    let product: ProductId = "photo-editor".parse().unwrap();
    let enrolment = Enrolment {
        app_server: shop(),
        product: product.clone(),
        owner: owner(),
        at,
    };
    let registration = Registration {
        product,
        holder: Holder {
            owner: owner(),
            device: desktop(),
        },
        certificate: Some(shown()),
        enrolment: sign(enrolment, enrolled_by).signed().clone(),
        issued: at,
        expires: at + YEAR,
        serial,
    };
    sign(registration, SHOP).signed().clone()
}

/// What the owner says of the desktop: it may redeem 0.3 points a day.
fn shown() -> Signed<DeviceCertificate> {
    certificate(START, START + YEAR).signed().clone()
}

fn redeem(points: u64, by: u8, at: Timestamp) -> Verified<Redeem> {
    let redeem = Redeem {
        owner: owner(),
        coordinator: identity().node,
        app_server: shop(),
        points: Points::from_micro(points),
        order: OrderId::from_bytes([4; 16]),
        nonce: [u8::try_from(points / 100_000).unwrap(); 16],
        expires: at + Duration::from_secs(3_600),
    };
    sign(redeem, by)
}

/// Points that were drawn.
struct Drawn {
    redeem: Verified<Redeem>,
    lots: Vec<(Lot, Points)>,
}

impl Drawn {
    fn id(&self) -> RedemptionId {
        RedemptionId::of(self.redeem.signed())
    }

    fn certificate(&self) -> Option<Signed<DeviceCertificate>> {
        (self.redeem.signer() != owner()).then(shown)
    }

    fn value(&self, rates: &Rates) -> Money {
        let minor = posting::value_of(&self.with(rates), agreement(1).value);
        rates.money(minor.unwrap())
    }

    fn with<'a>(&self, rates: &'a Rates) -> Vec<(Lot, Points, &'a Rates)> {
        let lots = self.lots.iter();
        lots.map(|(lot, points)| (*lot, *points, rates)).collect()
    }

    fn redemption(&self, rates: &Rates, at: Timestamp) -> Redemption {
        Redemption {
            redeem: self.redeem.signed().clone(),
            certificate: self.certificate(),
            agreement: pair(agreement(1), SHOP).hash(),
            value: self.value(rates),
            at,
        }
    }
}

impl Example {
    /// The owner has a point that can be spent, and so has nobody's computer.
    fn earned() -> Self {
        let mut example = Self::new();
        example.publish_card();
        example.deposit(Fund::Customer(customer()), "50.00 EUR", "bank-1001");
        example.certify();
        example.first_task();
        example.at = example.at + DAY * 8;
        example.release();
        example
    }

    fn set_aside(&mut self, points: u64, by: u8) -> Drawn {
        let redeem = redeem(points, by, self.at);
        let lots = posting::draw_points(&self.books, (owner(), redeem.points), |_| true).unwrap();
        let drawn = Drawn { redeem, lots };
        let event = Event::PointsReserved {
            redeem: drawn.redeem.signed().clone(),
            certificate: drawn.certificate(),
            at: self.at,
            until: drawn.redeem.expires,
        };
        self.add(event, posting::reservation(drawn.id(), &drawn.lots));
        drawn
    }

    fn redeem(&mut self, drawn: &Drawn) {
        let rates = self.rates();
        let owed = (shop(), drawn.value(&rates));
        let redemption = drawn.redemption(&rates, self.at);
        let redemption = Verified::sign(redemption, &identity().network, &coordinator_key());
        let event = Event::PointsRedeemed {
            redemption: redemption.signed().clone(),
        };
        let posting = posting::redemption(drawn.id(), &drawn.with(&rates), owed);
        self.add(event, posting);
    }

    fn reverse(&mut self, drawn: &Drawn) {
        let rates = self.rates();
        let owed = (shop(), drawn.value(&rates));
        let reversal = sign(reversal(drawn.id(), self.at), SHOP);
        let event = Event::RedemptionReversed {
            reversal: reversal.signed().clone(),
        };
        let posting = posting::reversal(drawn.id(), &drawn.with(&rates), owed);
        self.add(event, posting);
    }
}

fn reversal(redemption: RedemptionId, at: Timestamp) -> Reversal {
    Reversal {
        redemption,
        reason: "the order was void".to_owned(),
        at,
    }
}

/// Where what stands in the log of [`story`].
const AGREEMENT: usize = 11;
const REGISTERED: usize = 12;
const RESERVED: usize = 13;
const REDEEMED: usize = 14;
const BY_DEVICE: usize = 15;
const LET_GO: usize = 16;
const BY_DEVICE_AGAIN: usize = 17;
const REVERSED: usize = 19;
const REVOKED: usize = 20;

/// An owner has a point. It pays for an order with 0.4 of it; its computer sets aside 0.2, which are let go, and redeems
/// 0.3, which are given back.
fn story() -> Example {
    let mut example = Example::earned();
    assert_eq!(example.drafts.len(), AGREEMENT);
    let agreement = pair(agreement(1), SHOP).signed();
    example.add(Event::AgreementMade { agreement }, None);
    let registration = registration(1, DESKTOP, example.at);
    example.add(Event::DeviceRegistered { registration }, None);
    let drawn = example.set_aside(400_000, OWNER);
    example.redeem(&drawn);
    let drawn = example.set_aside(200_000, DESKTOP);
    let posting = posting::reservation_over(drawn.id(), &drawn.lots);
    let redemption = drawn.id();
    example.add(Event::ReservationEnded { redemption }, posting);
    let drawn = example.set_aside(300_000, DESKTOP);
    example.redeem(&drawn);
    example.reverse(&drawn);
    let revocation = Revocation {
        device: desktop(),
        serial: 1,
        at: example.at,
        reason: "sold".to_owned(),
    };
    let revocation = sign(revocation, SHOP).signed().clone();
    example.add(Event::RegistrationRevoked { revocation }, None);
    example
}

fn entries(example: &Example) -> Vec<Entry> {
    let entry = |(sequence, draft): (u64, &tally_ledger::store::Draft)| Entry {
        sequence,
        at: draft.at,
        event: draft.event.clone(),
        posting: draft.posting.clone(),
    };
    (0..).zip(&example.drafts).map(entry).collect()
}

fn audit(log: &[Entry]) -> Report {
    let log: Vec<Vec<u8>> = log.iter().map(codec::to_bytes).collect();
    let open = || Ok::<_, Infallible>(log.iter().cloned().map(Ok));
    let (identity, total) = (identity(), log.len() as u64);
    audit_entries(&identity, total, open, &mut |_| ())
        .unwrap()
        .report
}

/// Changes the entry at `place`, and returns what the audit says of it.
fn tampered(place: usize, change: impl FnOnce(&mut Entry)) -> String {
    let mut log = entries(&story());
    change(&mut log[place]);
    let finding = audit(&log).finding.expect("somebody has tampered with it");
    assert_eq!(finding.sequence, Some(place as u64), "{finding}");
    finding.problem.to_string()
}

/// Puts another event in the place of one.
fn replaced(place: usize, event: Event) -> String {
    tampered(place, |entry| entry.event = event)
}

fn agreed(agreement: Countersigned<Agreement>) -> String {
    replaced(AGREEMENT, Event::AgreementMade { agreement })
}

#[test]
fn the_story_is_sound() {
    let report = audit(&entries(&story()));
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn an_agreement_that_one_side_has_not_signed_or_that_nothing_stands_behind_is_found() {
    let forged = pair(agreement(1), SHOP + 1).signed();
    assert!(agreed(forged).contains("signed it"));
    let other = Countersigned {
        agreed: pair(agreement(2), SHOP).signed().agreed,
        ..pair(agreement(1), SHOP).signed()
    };
    assert!(agreed(other).contains("match the countersignature"));
    let zero = pair(agreement(0), SHOP).signed();
    assert!(agreed(zero).contains("number is 0"));
    let mut dear = agreement(1);
    dear.value.minor = 151;
    assert!(agreed(pair(dear, SHOP).signed()).contains("only 1500.00 EUR"));
}

#[test]
fn a_registration_that_nobody_agreed_to_is_found() {
    let registered = |registration| {
        let event = Event::DeviceRegistered { registration };
        replaced(REGISTERED, event)
    };
    let at = story().at;
    let forged = registered(registration(1, OWNER, at));
    assert!(forged.contains("match the enrolment"), "{forged}");
    let stranger = registration(1, DESKTOP, at).verify(&identity().network);
    let stranger = sign(stranger.unwrap().value().clone(), SHOP + 1);
    let stranger = registered(stranger.signed().clone());
    assert!(stranger.contains("match the enrolment"), "{stranger}");
    let mut log = entries(&story());
    log.swap(AGREEMENT, REGISTERED);
    for (sequence, entry) in (0..).zip(&mut log) {
        (entry.sequence, entry.at) = (sequence, log_time(sequence));
    }
    let early = audit(&log).finding.unwrap();
    assert_eq!(early.sequence, Some(AGREEMENT as u64));
    assert!(early.to_string().contains("no agreement"), "{early}");
}

/// Times that rise, all of them after what the statements say.
fn log_time(sequence: u64) -> Timestamp {
    START + YEAR + Duration::from_secs(sequence)
}

#[test]
fn a_registration_with_an_old_serial_and_a_revocation_of_nothing_are_found() {
    let mut log = entries(&story());
    let mut again = log[REGISTERED].clone();
    (again.sequence, again.at) = (log.len() as u64, log.last().unwrap().at);
    log.push(again);
    let finding = audit(&log).finding.unwrap();
    assert_eq!(finding.sequence, Some(log.len() as u64 - 1));
    assert!(finding.to_string().contains("its serial is 1"), "{finding}");
    let revocation = Revocation {
        device: owner(),
        serial: 1,
        at: START,
        reason: "sold".to_owned(),
    };
    let revoked = |revocation: Revocation, by: u8| Event::RegistrationRevoked {
        revocation: sign(revocation, by).signed().clone(),
    };
    let unknown = replaced(REVOKED, revoked(revocation.clone(), SHOP));
    assert!(unknown.contains("not registered"), "{unknown}");
    let other = Revocation {
        device: desktop(),
        ..revocation
    };
    let foreign = replaced(REVOKED, revoked(other, SHOP + 1));
    assert!(foreign.contains("not registered"), "{foreign}");
}

#[test]
fn points_that_nobody_might_set_aside_are_found() {
    let at = entries(&story())[RESERVED].at;
    let reserved = |redeem: &Verified<Redeem>, certificate, until| Event::PointsReserved {
        redeem: redeem.signed().clone(),
        certificate,
        at,
        until,
    };
    let hour = at + Duration::from_secs(3_600);
    let by_device = redeem(400_000, DESKTOP, at);
    let unshown = replaced(RESERVED, reserved(&by_device, None, hour));
    assert!(unshown.contains("not the owner"), "{unshown}");
    let beyond = replaced(RESERVED, reserved(&by_device, Some(shown()), hour));
    assert!(beyond.contains("may redeem 0.300000 points"), "{beyond}");
    let own = redeem(400_000, OWNER, at);
    let long = replaced(RESERVED, reserved(&own, None, hour + YEAR));
    assert!(long.contains("it is until"), "{long}");
    let mut other = *own.value();
    other.app_server = owner();
    let elsewhere = replaced(RESERVED, reserved(&sign(other, OWNER), None, hour));
    assert!(elsewhere.contains("no agreement"), "{elsewhere}");
    let mut other = *own.value();
    other.coordinator = owner();
    let elsewhere = replaced(RESERVED, reserved(&sign(other, OWNER), None, hour));
    assert!(elsewhere.contains("another coordinator"), "{elsewhere}");
    let much = redeem(1_100_000, OWNER, at);
    let much = replaced(RESERVED, reserved(&much, None, hour));
    assert!(much.contains("1.000000 points only"), "{much}");
    let another = redeem(500_000, OWNER, at);
    let another = replaced(RESERVED, reserved(&another, None, hour));
    assert!(another.contains("not what the rules give"), "{another}");
}

/// The first order of the device is let go, so the second may have all that the device may redeem; if it was not, that
/// is too much.
#[test]
fn what_a_device_redeems_in_a_day_is_counted() {
    let mut log = entries(&story());
    log.remove(LET_GO);
    for (sequence, entry) in (0..).zip(&mut log) {
        entry.sequence = sequence;
    }
    let finding = audit(&log).finding.unwrap();
    assert_eq!(finding.sequence, Some(BY_DEVICE_AGAIN as u64 - 1));
    assert!(finding.to_string().contains("in a day"), "{finding}");
}

#[test]
fn an_order_that_is_carried_out_twice_is_found() {
    for (place, what) in [
        (RESERVED, "set aside for"),
        (REDEEMED, "no points are set aside"),
        (LET_GO, "no points are set aside"),
        (REVERSED, "no points were taken"),
    ] {
        let mut log = entries(&story());
        log.insert(place + 1, log[place].clone());
        for (sequence, entry) in (0..).zip(&mut log) {
            entry.sequence = sequence;
        }
        let finding = audit(&log).finding.unwrap();
        assert_eq!(finding.sequence, Some(place as u64 + 1), "{finding}");
        assert!(finding.to_string().contains(what), "{finding}");
    }
}

#[test]
fn a_redemption_that_the_coordinator_has_not_signed_so_is_found() {
    let (example, mut log) = (story(), entries(&story()));
    let entry = log.swap_remove(REDEEMED);
    let Event::PointsRedeemed { redemption } = entry.event else {
        panic!("{entry:?}");
    };
    let redemption = redemption.verify(&identity().network).unwrap();
    let redemption = redemption.value();
    let coordinator = coordinator_key();
    let redeemed = |redemption: Redemption, key: &SigningKey| {
        let signed = Verified::sign(redemption, &identity().network, key);
        let redemption = signed.signed().clone();
        replaced(REDEEMED, Event::PointsRedeemed { redemption })
    };
    let forger = key(SHOP);
    let forged = redeemed(redemption.clone(), &forger);
    assert!(forged.contains("not the coordinator"), "{forged}");
    let mut dear = redemption.clone();
    dear.value.minor += 1;
    let dear = redeemed(dear, &coordinator);
    assert!(dear.contains("worth 0.40 EUR, not 0.41 EUR"), "{dear}");
    let mut other = redemption.clone();
    other.agreement = pair(agreement(2), SHOP).hash();
    let other = redeemed(other, &coordinator);
    assert!(other.contains("it is by agreement"), "{other}");
    let mut other = redemption.clone();
    other.certificate = Some(shown());
    let other = redeemed(other, &coordinator);
    assert!(other.contains("another certificate"), "{other}");
    let mut late = redemption.clone();
    late.at = example.at;
    let late = redeemed(late, &coordinator);
    assert!(late.contains("after it was written"), "{late}");
}

#[test]
fn a_reversal_by_somebody_else_is_found() {
    let log = entries(&story());
    let Event::PointsReserved { redeem, .. } = &log[BY_DEVICE_AGAIN].event else {
        panic!("{:?}", log[BY_DEVICE_AGAIN]);
    };
    let id = RedemptionId::of(redeem);
    let reversed = |reversal: Reversal, by: u8| Event::RedemptionReversed {
        reversal: sign(reversal, by).signed().clone(),
    };
    let stranger = replaced(REVERSED, reversed(reversal(id, START), OWNER));
    assert!(stranger.contains("not the app server"), "{stranger}");
    let long = Reversal {
        reason: "so ".repeat(50),
        ..reversal(id, START)
    };
    let long = replaced(REVERSED, reversed(long, SHOP));
    assert!(long.contains("not well formed"), "{long}");
}

#[test]
fn each_posting_of_a_redemption_that_was_changed_is_found() {
    for place in RESERVED..=REVERSED {
        let more = tampered(place, |entry| {
            let posting = entry.posting.as_mut().unwrap();
            posting.transfers.last_mut().unwrap().amount += 1;
        });
        assert!(more.contains("not what the rules give"), "{more}");
        let none = tampered(place, |entry| entry.posting = None);
        assert!(none.contains("not what the rules give"), "{none}");
    }
    let mut log = entries(&story());
    log[RESERVED].event = Event::Released { at: START };
    let problem = audit(&log).finding.unwrap().problem;
    assert!(matches!(problem, Problem::Lot { .. }), "{problem}");
}

fn store() -> Store {
    let open = Store::on_backend(Disk::default(), &identity(), START).unwrap();
    for draft in story().drafts {
        let events = vec![draft];
        let change = Change {
            events,
            ..Change::default()
        };
        open.commit(change).unwrap();
    }
    open
}

/// Asks, checks that the answer survives its way as JSON, and returns it as text of at most 80 columns.
fn told(open: &Store, query: &LedgerQuery) -> String {
    let answer = answer(open, Some(&coordinator_key()), query).unwrap();
    let json = serde_json::to_string(&answer).unwrap();
    let read: LedgerAnswer = serde_json::from_str(&json).unwrap();
    assert_eq!(read, answer);
    let text = render(&read);
    assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    text
}

/// All that is told of the story, as people see it.
#[test]
fn what_people_are_told_of_redemptions() {
    let open = store();
    let mut text = told(
        &open,
        &LedgerQuery::Entries(EntriesQuery {
            from: AGREEMENT as u64,
            to: None,
            task: None,
            owner: None,
            device: None,
            limit: 50,
            order: Order::OldestFirst,
        }),
    );
    for place in [
        AGREEMENT, REGISTERED, BY_DEVICE, LET_GO, REDEEMED, REVERSED, REVOKED,
    ] {
        let entry = EntryName::Sequence(place as u64);
        text.push('\n');
        text.push_str(&told(&open, &LedgerQuery::Show { entry }));
    }
    text.push('\n');
    text.push_str(&told(
        &open,
        &LedgerQuery::Balance(BalanceQuery {
            of: BalanceOf::Prefix(String::new()),
            limit: 100,
        }),
    ));
    let whose = Party::Owner(owner().to_string().parse().unwrap());
    let all = open.entries(0..u64::MAX).unwrap();
    let all = all.map(|entry| Ok::<StoredEntry, StatementError>(entry.unwrap()));
    let statement: AccountStatement =
        statement(&identity().network, (&whose, Period::default()), all).unwrap();
    text.push('\n');
    text.push_str(&statement.render());
    crate::books_cli::same("partners", &text);
}
