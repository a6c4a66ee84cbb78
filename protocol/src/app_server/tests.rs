//! The app server as stories: arrange, step, look at the effects. Coordinators are a small [`model`].

mod chaos;
mod golden;
mod model;
mod redeeming;
mod selling;
mod settling;
mod users;

use std::time::Duration;

use ed25519_dalek::SigningKey;

use self::model::Bank;
use super::*;
use crate::account::{Account, Commodity};
use crate::codec;
use crate::entry::Entry;
use crate::issuer::{IssuerCertificate, Trust};
use crate::license::{License, LicenseTerms, Renewal};
use crate::points::Points;
use crate::rate_card::Price;
use crate::redemption::Redeem;
use crate::task::BlobRef;

/// An app server at its desk, with what it has put out, and two coordinators.
struct Desk {
    server: AppServer,
    now: Timestamp,
    /// Effects of the last step.
    out: Vec<Effect>,
    facts: Vec<Vec<u8>>,
    /// The log, and how long it was before each fact.
    entries: Vec<Entry>,
    lengths: Vec<usize>,
    /// Questions that no coordinator has got.
    asks: Vec<(Question, NodeId, Request)>,
    banks: Vec<Bank>,
    asked: u64,
    starts: u8,
}

const ME: u8 = 200;
const ISSUER: u8 = 201;
const ROOT: u8 = 202;
const OWNER: u8 = 99;
const BANKS: [u8; 2] = [150, 151];

impl Desk {
    /// An app server with a catalogue, without agreements.
    fn empty() -> Self {
        let mut desk = Self {
            server: AppServer::new(config(), [1; 32]),
            now: Timestamp::from_millis(1_000_000),
            out: Vec::new(),
            facts: Vec::new(),
            entries: Vec::new(),
            lengths: Vec::new(),
            asks: Vec::new(),
            banks: BANKS.map(Bank::new).into_iter().collect(),
            asked: 1 << 32,
            starts: 1,
        };
        desk.server.resume(desk.now, &mut desk.out);
        desk.note();
        desk.order(Command::Offer(Box::new(product()))).unwrap();
        desk.order(Command::Discount(Box::new(offer()))).unwrap();
        desk
    }

    /// The same with agreements with both coordinators, and an owner who has 10 EUR in points at each.
    fn new() -> Self {
        let mut desk = Self::empty();
        for bank in BANKS {
            desk.order(Command::Propose(Box::new(agreement(bank, 1))))
                .unwrap();
        }
        for bank in &mut desk.banks {
            bank.points.insert(node(OWNER), 1_000_000);
        }
        desk.deliver();
        desk
    }

    fn step(&mut self, input: Input) {
        self.out.clear();
        self.server.handle(self.now, input, &mut self.out);
        self.note();
    }

    fn note(&mut self) {
        for effect in &self.out {
            match effect {
                Effect::Record(fact) => {
                    self.facts.push(codec::to_bytes(fact));
                    self.lengths.push(self.entries.len());
                }
                Effect::Append { event, posting } => self.entries.push(Entry {
                    sequence: self.entries.len() as u64,
                    at: self.now,
                    event: event.clone(),
                    posting: posting.clone(),
                }),
                Effect::Ask {
                    question,
                    coordinator,
                    request,
                } => self.asks.push((*question, *coordinator, request.clone())),
                _ => {}
            }
        }
    }

    fn answer(&mut self, input: impl FnOnce(Question) -> Input) -> Result<Answer, Fault> {
        self.asked += 1;
        let asked = Question(self.asked);
        self.step(input(asked));
        let mut answers = self.out.iter().filter_map(|effect| match effect {
            Effect::Answer { question, answer } if *question == asked => Some(answer.clone()),
            _ => None,
        });
        answers.next().expect("every question is answered")
    }

    fn order(&mut self, command: Command) -> Result<Answer, Fault> {
        self.answer(|question| Input::Ordered { question, command })
    }

    fn status(&mut self, answer: Result<Answer, Fault>) -> Result<OrderStatus, Fault> {
        match answer? {
            Answer::Order(status) => Ok(*status),
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, wish: Wish, key: &str) -> Result<OrderStatus, Fault> {
        let opening = Opening {
            owner: node(OWNER),
            wish,
            key: key.parse().unwrap(),
        };
        let answer = self.answer(|question| Input::Opened { question, opening });
        self.status(answer)
    }

    /// Opens an order of a license, by a new key.
    fn open_license(&mut self) -> OrderId {
        let key = format!("license {}", self.asked);
        self.open(license(), &key).unwrap().order
    }

    fn redeem(&mut self, order: OrderId, points: Vec<SignedPoints>) -> Result<OrderStatus, Fault> {
        let answer = self.answer(|question| Input::Redeemed {
            question,
            order,
            points,
        });
        self.status(answer)
    }

    fn pay(&mut self, order: OrderId, reference: &str) -> Result<OrderStatus, Fault> {
        let reference = reference.to_owned();
        let answer = self.answer(|question| Input::Paid {
            question,
            order,
            reference,
        });
        self.status(answer)
    }

    /// Brings the first question to its coordinator, and the answer back.
    fn deliver_one(&mut self) -> bool {
        if self.asks.is_empty() {
            return false;
        }
        let (question, to, request) = self.asks.remove(0);
        let now = self.now;
        let bank = self.banks.iter_mut().find(|bank| bank.id() == to).unwrap();
        let reply = bank.answer(now, request).map(Box::new);
        self.step(match reply {
            Some(reply) => Input::Answered { question, reply },
            None => Input::Failed(question),
        });
        true
    }

    fn deliver(&mut self) {
        while self.deliver_one() {}
    }

    /// Lets time pass, with all deadlines and questions in it.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.deliver();
        while let Some(at) = self.server.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Input::DeadlineReached);
            self.deliver();
        }
        self.now = end;
    }

    /// Stops and starts again from the journal, of which the last `lost` facts were not written.
    fn restart(&mut self, lost: usize) {
        self.facts.truncate(self.facts.len() - lost);
        if let Some(length) = self.lengths.split_off(self.facts.len()).first() {
            self.entries.truncate(*length);
        }
        self.starts += 1;
        self.asks.clear();
        let seed = [self.starts; 32];
        self.server = AppServer::restore(config(), seed, None, &self.facts).unwrap();
        self.out.clear();
        self.server.resume(self.now, &mut self.out);
        self.note();
    }

    fn phase(&self, order: OrderId) -> Phase {
        self.server.order(order).unwrap().phase()
    }

    fn cents(&self, account: Account) -> i128 {
        let money = Commodity::Money("EUR".parse().unwrap());
        self.server.books().balance(account, money).posted()
    }

    fn owed_by(&self, node: NodeId) -> i128 {
        -self.cents(Account::Receivable(node))
    }

    /// Checks that everything recorded makes the same state again, and that no cent is lost.
    fn audit(&self) {
        let folded = AppServer::restore(config(), [0; 32], None, &self.facts).unwrap();
        assert_eq!(folded.state, self.server.state, "the facts say it all");
        let snapshot = self.server.snapshot();
        let none: [&[u8]; 0] = [];
        let loaded = AppServer::restore(config(), [0; 32], Some(&snapshot), none).unwrap();
        assert_eq!(loaded.state, self.server.state, "so does the snapshot");
        let mut books = Books::default();
        for entry in &self.entries {
            let posting = entry.posting.as_ref();
            posting
                .map_or(Ok(()), |posting| books.post(entry.at, posting))
                .unwrap();
        }
        assert_eq!(books, *self.server.books(), "the log gives the same books");
        let lines = self.server.books().balances();
        assert_eq!(lines.map(|(_, line)| line.posted()).sum::<i128>(), 0);
    }
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes(key(number).verifying_key().to_bytes())
}

fn network() -> NetworkId {
    "test".parse().unwrap()
}

fn sign<T: crate::signed::Statement>(value: T, by: u8) -> Verified<T> {
    Verified::sign(value, &network(), &key(by))
}

fn config() -> AppServerConfig {
    let certificate = IssuerCertificate {
        issuer: node(ISSUER),
        app_server: node(ME),
        vendor: "Vendor".to_owned(),
        not_before: Timestamp::default(),
        not_after: Timestamp::from_millis(1 << 50),
        serial: 1,
    };
    let certificate = sign(certificate, ROOT);
    AppServerConfig {
        me: node(ME),
        key: key(ME),
        network: network(),
        issuer: Issuer::new(key(ISSUER), certificate, network()).unwrap(),
        pay_within: Duration::from_secs(7 * 86_400),
        status_every: Duration::from_secs(6 * 3_600),
    }
}

fn trust() -> Trust {
    Trust {
        roots: vec![node(ROOT)],
        network: network(),
    }
}

fn euro(minor: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money { currency, minor }
}

/// A license for a year costs 12 EUR; 500,000 upt renew it for a month.
fn product() -> Product {
    Product {
        id: "photo".parse().unwrap(),
        name: "Photo Editor".to_owned(),
        price: euro(1_200),
        terms: LicenseTerms {
            product: "photo".parse().unwrap(),
            entitlements: vec!["export".to_owned()],
            life_seconds: 366 * 86_400,
            grace_seconds: 86_400,
            status_max_age_seconds: 86_400,
            renewal: Some(Renewal {
                points: Points::from_micro(500_000),
                period_seconds: 30 * 86_400,
            }),
        },
        bundle: BlobRef::of(b"bundle"),
        launch: vec!["photo".to_owned()],
        enrolment_seconds: 30 * 86_400,
    }
}

/// Points pay half of a fee, at most 5 EUR.
fn offer() -> DiscountOffer {
    DiscountOffer {
        id: "half".parse().unwrap(),
        title: "Half price".to_owned(),
        percent_max: 50,
        amount_max: euro(500),
        product: None,
        fee_min: 100,
        life_seconds: 30 * 86_400,
    }
}

/// A cent for 1,000 upt.
fn agreement(bank: u8, number: u32) -> Agreement {
    Agreement {
        app_server: node(ME),
        coordinator: node(bank),
        number,
        currency: "EUR".parse().unwrap(),
        value: Price {
            minor: 1,
            micro_points: 1_000,
        },
        period_seconds: 86_400,
        cap: 100_000,
        credit: 100_000,
        supply_fee: 25,
        supply_devices_max: 10,
        not_before: Timestamp::default(),
        not_after: Timestamp::from_millis(1 << 45),
    }
}

fn license() -> Wish {
    Wish::License {
        product: "photo".parse().unwrap(),
        devices: Vec::new(),
    }
}

fn voucher(fee: u64) -> Wish {
    Wish::Voucher {
        offer: "half".parse().unwrap(),
        fee: euro(fee),
    }
}

/// Points of the owner for so many cents at a coordinator, good for 12 hours.
fn points(desk: &Desk, order: OrderId, bank: u8, cents: u64) -> SignedPoints {
    points_with(desk, order, bank, (cents, 12 * 3_600, 1))
}

fn points_with(
    desk: &Desk,
    order: OrderId,
    bank: u8,
    (cents, seconds, nonce): (u64, u64, u8),
) -> SignedPoints {
    let redeem = Redeem {
        owner: node(OWNER),
        coordinator: node(bank),
        app_server: node(ME),
        points: Points::from_micro(cents * 1_000),
        order,
        nonce: [nonce; 16],
        expires: desk.now + Duration::from_secs(seconds),
    };
    (sign(redeem, OWNER), None)
}

fn issued_license(desk: &Desk, order: OrderId) -> Verified<License> {
    let Some(Goods::License { license, .. }) = desk.server.order(order).unwrap().goods() else {
        panic!("no license");
    };
    trust().check(license.clone()).unwrap().into_statement()
}

fn issued_voucher(desk: &Desk, order: OrderId) -> Verified<Voucher> {
    let Some(Goods::Voucher { voucher, .. }) = desk.server.order(order).unwrap().goods() else {
        panic!("no voucher");
    };
    trust().check(voucher.clone()).unwrap().into_statement()
}
