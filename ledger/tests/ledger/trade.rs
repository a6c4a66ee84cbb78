//! A coordinator and an app server, both real, that talk to each other: whatever is lost or said twice on the way, and
//! whichever of them ends at any moment, in the end both books say the same, and both logs are sound.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tally_ledger::audit::{Report, audit_entries};
use tally_ledger::store::Identity;
use tally_protocol::account::{Account, Commodity, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::app_server::{
    AppServer, AppServerConfig, Command, Effect as ShopEffect, Fault, Input as ShopInput, Opening,
    Phase, Product, Reply, Request, Wish,
};
use tally_protocol::books::Books;
use tally_protocol::codec;
use tally_protocol::coordinator::{
    Admission, Answer, Coordinator, CoordinatorConfig, Customers, Decision, Division,
    Effect as BankEffect, Input as BankInput, Movement, Order, Papers, Pulled, Question, Redeeming,
    Registering,
};
use tally_protocol::entry::{Entry, Event, Fund};
use tally_protocol::id::{NetworkId, NodeId, OrderId};
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::license::LicenseTerms;
use tally_protocol::message::redeem::RedeemRequest;
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::message::wishes::Wishes;
use tally_protocol::message::work::{Batch, Pull, UnitResult, VerifiedReport};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Price, Rates};
use tally_protocol::redemption::Redeem;
use tally_protocol::registration::{self, Enrolment, PointStatement};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::task::split::UnitTable;
use tally_protocol::task::{BlobRef, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Limits, Outcome};

use crate::example::{START, key, node};

pub(crate) const BANK: u8 = 1;
pub(crate) const SHOP: u8 = 60;
const ISSUER: u8 = 61;
const ROOT: u8 = 62;
const CUSTOMER: u8 = 20;
/// Computers that are their own owners.
pub(crate) const DEVICES: [u8; 2] = [70, 71];

fn network() -> NetworkId {
    "example".parse().unwrap()
}

pub(crate) fn id(number: u8) -> NodeId {
    node(&key(number))
}

pub(crate) fn sign<T: Statement + Clone>(value: T, by: u8) -> Verified<T> {
    Verified::sign(value, &network(), &key(by))
}

pub(crate) fn euro(minor: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money { currency, minor }
}

/// What one of the two has written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Written {
    facts: Vec<Vec<u8>>,
    pub(crate) entries: Vec<Entry>,
}

impl Written {
    fn append(
        &mut self,
        at: Timestamp,
        event: &Event,
        posting: Option<&tally_protocol::books::Posting>,
    ) {
        self.entries.push(Entry {
            sequence: self.entries.len() as u64,
            at,
            event: event.clone(),
            posting: posting.cloned(),
        });
    }

    fn books(&self) -> Books {
        let mut books = Books::default();
        for entry in &self.entries {
            if let Some(posting) = &entry.posting {
                books.post(entry.at, posting).unwrap();
            }
        }
        books
    }
}

/// What becomes of a question of the app server.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    RequestLost,
    /// The coordinator ends before it has written what follows, or just after it.
    BankEnds(When),
    /// The app server ends before it has written what follows, or just after it.
    ShopEnds(When),
}

#[derive(Debug, Clone, Copy)]
enum When {
    Before,
    After,
}

/// Both, and what lies between them.
pub(crate) struct Trade {
    bank: Coordinator,
    shop: AppServer,
    pub(crate) bank_log: Written,
    pub(crate) shop_log: Written,
    now: Timestamp,
    bank_out: Vec<BankEffect>,
    shop_out: Vec<ShopEffect>,
    asks: Vec<(Question, Request)>,
    late: Vec<Request>,
    told: Vec<Verified<PointStatement>>,
    asked: u64,
    starts: u8,
    orders: Vec<OrderId>,
}

impl Trade {
    /// Both with nothing between them but money of a customer.
    fn new() -> Self {
        let mut trade = Self {
            bank: Coordinator::new(bank_config(), [1; 32]),
            shop: AppServer::new(shop_config(), [1; 32]),
            bank_log: Written::default(),
            shop_log: Written::default(),
            now: START,
            bank_out: Vec::new(),
            shop_out: Vec::new(),
            asks: Vec::new(),
            late: Vec::new(),
            told: Vec::new(),
            asked: 1 << 32,
            starts: 1,
            orders: Vec::new(),
        };
        trade.bank.resume(trade.now, &mut trade.bank_out);
        trade.note_bank();
        trade.shop.resume(trade.now, &mut trade.shop_out);
        trade.note_shop();
        trade.command(Command::Offer(Box::new(product()))).unwrap();
        trade.bank_answer(|question| BankInput::Ordered {
            question,
            order: Order::Move {
                movement: Movement::Deposit(Fund::Customer(id(CUSTOMER))),
                money: euro(100_000),
                reference: "bank-1".to_owned(),
            },
        });
        trade
    }

    /// The same with an agreement, both computers registered, and points.
    pub(crate) fn agreed() -> Self {
        let mut trade = Self::new();
        let agreement = Box::new(agreement(1));
        trade.command(Command::Propose(agreement)).unwrap();
        trade.deliver();
        trade.decide();
        for device in DEVICES {
            trade.enrol(device);
            trade.earn(device, 200);
        }
        trade.pass(600);
        trade
    }

    fn bank_step(&mut self, input: BankInput) {
        self.bank_out.clear();
        self.bank.handle(self.now, input, &mut self.bank_out);
        self.note_bank();
    }

    fn note_bank(&mut self) {
        for effect in &self.bank_out {
            match effect {
                BankEffect::Record(fact) => self.bank_log.facts.push(codec::to_bytes(fact)),
                BankEffect::Append { event, posting } => {
                    self.bank_log.append(self.now, event, posting.as_ref());
                }
                BankEffect::Tell {
                    app_server,
                    holder,
                    totals,
                } => {
                    assert_eq!(*app_server, id(SHOP));
                    let size = self.bank_log.entries.len() as u64;
                    self.told.push(statement(*holder, totals, (size, self.now)));
                }
                _ => {}
            }
        }
    }

    fn shop_step(&mut self, input: ShopInput) {
        self.shop_out.clear();
        self.shop.handle(self.now, input, &mut self.shop_out);
        self.note_shop();
    }

    fn note_shop(&mut self) {
        for effect in &self.shop_out {
            match effect {
                ShopEffect::Record(fact) => self.shop_log.facts.push(codec::to_bytes(fact)),
                ShopEffect::Append { event, posting } => {
                    self.shop_log.append(self.now, event, posting.as_ref());
                }
                ShopEffect::Ask {
                    question,
                    coordinator,
                    request,
                } => {
                    assert_eq!(*coordinator, id(BANK));
                    self.asks.push((*question, request.clone()));
                }
                _ => {}
            }
        }
    }

    fn restart_bank(&mut self) {
        self.starts += 1;
        let state = (None, self.bank_log.books());
        let seed = [self.starts; 32];
        self.bank = Coordinator::restore(bank_config(), seed, state, &self.bank_log.facts).unwrap();
        self.bank_out.clear();
        self.bank.resume(self.now, &mut self.bank_out);
        self.note_bank();
    }

    fn restart_shop(&mut self) {
        self.starts += 1;
        self.asks.clear();
        let seed = [self.starts; 32];
        self.shop = AppServer::restore(shop_config(), seed, None, &self.shop_log.facts).unwrap();
        self.shop_out.clear();
        self.shop.resume(self.now, &mut self.shop_out);
        self.note_shop();
    }

    fn bank_answer(&mut self, input: impl FnOnce(Question) -> BankInput) -> Answer {
        self.asked += 1;
        let asked = Question(self.asked);
        self.bank_step(input(asked));
        let mut answers = self.bank_out.iter().filter_map(|effect| match effect {
            BankEffect::Answer { question, answer } if *question == asked => Some(answer.clone()),
            _ => None,
        });
        answers.next().expect("every question is answered")
    }

    fn shop_answer(
        &mut self,
        input: impl FnOnce(Question) -> ShopInput,
    ) -> Result<tally_protocol::app_server::Answer, Fault> {
        self.asked += 1;
        let asked = Question(self.asked);
        self.shop_step(input(asked));
        let mut answers = self.shop_out.iter().filter_map(|effect| match effect {
            ShopEffect::Answer { question, answer } if *question == asked => Some(answer.clone()),
            _ => None,
        });
        answers.next().expect("every question is answered")
    }

    pub(crate) fn command(
        &mut self,
        command: Command,
    ) -> Result<tally_protocol::app_server::Answer, Fault> {
        self.shop_answer(|question| ShopInput::Ordered { question, command })
    }

    /// The operator of the coordinator accepts what is proposed.
    fn decide(&mut self) {
        let waiting = self.bank.proposals().map(|proposed| proposed.number);
        let waiting: Vec<u32> = waiting.collect();
        for number in waiting {
            self.bank_answer(|question| BankInput::Decided {
                question,
                app_server: id(SHOP),
                number,
                decision: Decision::Accept,
            });
        }
        self.pass(600);
    }

    fn enrol(&mut self, device: u8) {
        let enrolment = Enrolment {
            app_server: id(SHOP),
            product: product().id,
            owner: id(device),
            at: self.now,
        };
        let enrolment = sign(enrolment, device);
        let enrolled = self.shop_answer(|question| ShopInput::Enrolled {
            question,
            enrolment,
            certificate: None,
        });
        enrolled.unwrap();
    }

    /// A computer runs a task of so many units, of a cent each at the app server.
    fn earn(&mut self, device: u8, units: u32) {
        let rate_card = self.bank.terms(id(CUSTOMER)).unwrap().rate_card.id();
        let task = sign(task((self.asked, self.now), rate_card, units), CUSTOMER);
        let Answer::Status(status) =
            self.bank_answer(|question| BankInput::Submitted { question, task })
        else {
            panic!("the task is accepted");
        };
        let task = status.summary.task;
        let result = Ok(());
        self.bank_step(BankInput::Arrived { task, result });
        let result = Ok(Division {
            table: UnitTable::even(u64::from(units) * 10, 10).unwrap(),
            packed: BlobRef::of(b"input"),
        });
        self.bank_step(BankInput::Divided { task, result });
        let mut results = Vec::new();
        while let Some(new) = self.pull(device, std::mem::take(&mut results)).leased {
            let result = |unit| UnitResult {
                grant: new.grant.id,
                unit,
                outcome: Outcome::Done,
                fuel: 9,
                output: BlobRef::of(b"right"),
                inline: Some(b"right".to_vec()),
            };
            results = new
                .grant
                .units
                .iter()
                .map(|leased| result(leased.unit))
                .collect();
        }
        let result = Ok(BlobRef::of(b"result"));
        self.bank_step(BankInput::Merged { task, result });
    }

    fn pull(&mut self, device: u8, results: Vec<UnitResult>) -> Pulled {
        let batch = || sign(Batch::of(&results, id(BANK), self.now), device);
        let report = (!results.is_empty()).then(|| VerifiedReport {
            batch: batch(),
            results: results.clone(),
            grants: Vec::new(),
        });
        let pull = Pull {
            want: 64,
            profile: "test-1".parse().unwrap(),
            wishes: Wishes::within_memory(1 << 30),
            renew: Vec::new(),
            abandoned: Vec::new(),
            report: None,
            share: Vec::new(),
            certificate: None,
            registration: None,
            kept: Vec::new(),
            owed: Vec::new(),
        };
        match self.bank_answer(|question| BankInput::Pulled {
            question,
            from: id(device),
            papers: Papers::default(),
            pull,
            report,
            missing: BTreeSet::new(),
        }) {
            Answer::Pulled(pulled) => *pulled,
            other => panic!("{other:?}"),
        }
    }

    /// Orders a license, and redeems so many cents for it.
    pub(crate) fn order(&mut self, device: u8, cents: u64) -> OrderId {
        let key = format!("key {}", self.asked).parse().unwrap();
        let opening = Opening {
            owner: id(device),
            wish: Wish::License {
                product: product().id,
                devices: Vec::new(),
            },
            key,
        };
        let answer = self.shop_answer(|question| ShopInput::Opened { question, opening });
        let Ok(tally_protocol::app_server::Answer::Order(status)) = answer else {
            // Somebody has too many open orders.
            assert_eq!(answer, Err(Fault::Full));
            return OrderId::from_bytes([0; 16]);
        };
        let order = status.order;
        self.orders.push(order);
        let redeem = Redeem {
            owner: id(device),
            coordinator: id(BANK),
            app_server: id(SHOP),
            points: Points::from_micro(cents * 1_000),
            order,
            nonce: [7; 16],
            expires: self.now + Duration::from_secs(12 * 3_600),
        };
        if cents > 0 {
            let points = vec![(sign(redeem, device), None)];
            let redeemed = self.shop_answer(|question| ShopInput::Redeemed {
                question,
                order,
                points,
            });
            redeemed.unwrap();
        }
        order
    }

    /// Checks that what was ordered is issued.
    pub(crate) fn assert_fulfilled(&self, order: OrderId) {
        let order = self.shop.order(order).unwrap();
        assert_eq!(order.phase(), Phase::Fulfilled, "{:?}", order.status());
    }

    pub(crate) fn pay(&mut self, order: OrderId) {
        let reference = format!("bank {order}");
        let paid = self.shop_answer(|question| ShopInput::Paid {
            question,
            order,
            reference,
        });
        drop(paid);
    }

    /// Pays what is agreed on and not paid, at both.
    pub(crate) fn pay_settlements(&mut self) {
        let open = self.shop.settlements(id(BANK)).iter();
        let open: Vec<u32> = open
            .filter(|agreed| agreed.paid.is_none())
            .map(|agreed| agreed.value.number)
            .collect();
        for number in open {
            let reference = format!("wire {number}");
            let paid = self.command(Command::SettlementPaid {
                coordinator: id(BANK),
                number,
                reference: reference.clone(),
            });
            paid.unwrap();
            let app_server = id(SHOP);
            let order = Order::PaySettlement {
                app_server,
                number,
                reference,
            };
            self.bank_answer(|question| BankInput::Ordered { question, order });
        }
    }

    fn deliver_one(&mut self, which: usize, fate: Fate) {
        if which >= self.asks.len() {
            return;
        }
        let (question, request) = self.asks.remove(which);
        let written = (self.bank_log.clone(), self.shop_log.clone());
        let reply = match fate {
            Fate::RequestLost => None,
            _ => Some(self.asked_of_bank(request)),
        };
        let reply = match fate {
            Fate::BankEnds(when) => {
                if let When::Before = when {
                    self.bank_log = written.0;
                }
                self.restart_bank();
                None
            }
            Fate::Answered | Fate::RequestLost | Fate::ShopEnds(_) => reply,
        };
        self.shop_step(match reply.map(Box::new) {
            Some(reply) => ShopInput::Answered { question, reply },
            None => ShopInput::Failed(question),
        });
        if let Fate::ShopEnds(when) = fate {
            if let When::Before = when {
                self.shop_log = written.1;
            }
            self.restart_shop();
        }
    }

    /// What the shell of a coordinator does with a question.
    fn asked_of_bank(&mut self, request: Request) -> Reply {
        let from = id(SHOP);
        let answer = match request {
            Request::Registry(request) => {
                let asked = match request {
                    RegistryRequest::Agree(signed) => Registering::Agree(verify(signed)),
                    RegistryRequest::Register(told) => {
                        let told: Vec<_> = told.into_iter().map(verify).collect();
                        for registration in &told {
                            registration::check(registration, &network()).unwrap();
                        }
                        Registering::Register(told)
                    }
                    RegistryRequest::Revoke(told) => {
                        Registering::Revoke(told.into_iter().map(verify).collect())
                    }
                    RegistryRequest::Points(devices) => Registering::Points(devices),
                    RegistryRequest::Settle(request) => {
                        Registering::Settle(Box::new(request.check(&network()).unwrap()))
                    }
                    RegistryRequest::Told(_) => panic!("app servers do not tell"),
                };
                self.bank_answer(|question| BankInput::Registry {
                    question,
                    from,
                    asked,
                })
            }
            Request::Redeem(request) => {
                let asked = match request {
                    RedeemRequest::Reserve {
                        redeem,
                        certificate,
                    } => Redeeming::Reserve {
                        redeem: verify(redeem),
                        certificate: certificate.map(verify),
                    },
                    RedeemRequest::Post(id) => Redeeming::Post(id),
                    RedeemRequest::Void(id) => Redeeming::Void(id),
                    RedeemRequest::Reverse(reversal) => Redeeming::Reverse(verify(reversal)),
                };
                self.bank_answer(|question| BankInput::Redeem {
                    question,
                    from,
                    asked,
                })
            }
        };
        let size = self.bank_log.entries.len() as u64;
        match answer {
            Answer::Registry(reply) => Reply::Registry(reply),
            Answer::Redeem(reply) => Reply::Redeem(reply),
            Answer::Points(all) => {
                let said = all.iter().map(|(holder, totals)| {
                    statement(*holder, totals, (size, self.now))
                        .signed()
                        .clone()
                });
                Reply::Registry(RegistryReply::Points(said.collect()))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Brings everything to where it is to go.
    pub(crate) fn deliver(&mut self) {
        loop {
            self.tell();
            if self.asks.is_empty() {
                return;
            }
            self.deliver_one(0, Fate::Answered);
        }
    }

    fn tell(&mut self) {
        let statements = std::mem::take(&mut self.told);
        for statements in statements.chunks(64) {
            let statements = statements.to_vec();
            let told = self.shop_answer(|question| ShopInput::Told {
                question,
                statements,
            });
            told.unwrap();
        }
    }

    /// Lets time pass at both, and what is on the way arrive.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            self.deliver();
            if !self.wake(end) {
                break;
            }
        }
        self.now = end;
    }

    /// Goes to the next deadline of either, if it is not after `end`.
    fn wake(&mut self, end: Timestamp) -> bool {
        let (bank, shop) = (self.bank.next_deadline(), self.shop.next_deadline());
        let Some(at) = bank.into_iter().chain(shop).min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(at);
        if bank == Some(at) {
            self.bank_step(BankInput::DeadlineReached);
        } else {
            self.shop_step(ShopInput::DeadlineReached);
        }
        true
    }

    /// Returns what the app server has to get, as it and the coordinator have it in their books.
    fn owed(&self) -> (i128, i128) {
        let money = Commodity::Money("EUR".parse().unwrap());
        let shop = self
            .shop
            .books()
            .balance(Account::Receivable(id(BANK)), money);
        let bank = self.bank.books().balance(Account::Payable(id(SHOP)), money);
        (-shop.posted(), bank.posted())
    }

    /// Everything comes to its end, is settled and paid.
    fn end(&mut self) {
        self.restart_bank();
        self.restart_shop();
        self.pass(600);
        self.decide();
        for _ in 0..10 {
            self.pass(86_400);
        }
        for request in std::mem::take(&mut self.late) {
            self.asked_of_bank(request);
        }
        self.pass(2 * 86_400);
        for _ in 0..3 {
            self.command(Command::Settle(id(BANK))).unwrap();
            self.pass(600);
            self.pay_settlements();
        }
    }

    fn check(&self) {
        for order in self.shop.orders() {
            let phase = order.phase();
            let is_over = matches!(phase, Phase::Fulfilled | Phase::Void | Phase::Refunded);
            assert!(is_over, "an order stays {phase}: {order:?}");
        }
        assert_eq!(self.owed(), (0, 0), "all is settled and paid");
        assert_eq!(self.shop.disputed(id(BANK)).count(), 0);
        assert_eq!(self.shop.settlement_fault(id(BANK)), None);
        assert_eq!(self.shop.errands(), 0);
        assert_eq!(self.bank_log.books(), *self.bank.books());
        assert_eq!(self.shop_log.books(), *self.shop.books());
        for (number, log) in [(BANK, &self.bank_log), (SHOP, &self.shop_log)] {
            let report = audit(number, &log.entries);
            assert!(report.is_sound(), "{number}: {report:?}");
        }
    }
}

pub(crate) fn shop_identity() -> Identity {
    Identity {
        network: network(),
        node: id(SHOP),
    }
}

pub(crate) fn audit(number: u8, log: &[Entry]) -> Report {
    let log: Vec<Vec<u8>> = log.iter().map(codec::to_bytes).collect();
    let open = || Ok::<_, Infallible>(log.iter().cloned().map(Ok));
    let identity = Identity {
        node: id(number),
        ..shop_identity()
    };
    let audited = audit_entries(&identity, log.len() as u64, open, &mut |_| ());
    audited.unwrap().report
}

fn verify<T: Statement + Clone>(signed: Signed<T>) -> Verified<T> {
    signed.verify(&network()).unwrap()
}

fn statement(
    holder: tally_protocol::account::Holder,
    totals: &tally_protocol::coordinator::Totals,
    (size, at): (u64, Timestamp),
) -> Verified<PointStatement> {
    let statement = PointStatement {
        app_server: id(SHOP),
        holder,
        earned: totals.earned,
        escrowed: totals.escrowed,
        spendable: totals.spendable,
        redeemed: totals.redeemed,
        size,
        root: tally_protocol::id::Hash::from_bytes([0; 32]),
        at,
    };
    sign(statement, BANK)
}

/// Three cents for 1,000 upt, of which two stand behind them.
fn rates() -> Rates {
    let mut rates = Rates::free("EUR".parse().unwrap());
    let price = |minor| Price {
        minor,
        micro_points: 1_000,
    };
    (rates.price, rates.reserve) = (price(3), price(2));
    (rates.escrow_seconds, rates.lot_seconds) = (100, 10);
    rates
}

fn bank_config() -> CoordinatorConfig {
    CoordinatorConfig {
        me: id(BANK),
        key: key(BANK),
        rates: rates(),
        network: network(),
        profile: "test-1".parse().unwrap(),
        customers: Customers::Any,
        tasks_max: 100,
        input_bytes_max: 1 << 30,
        program_bytes_max: 1 << 20,
        retention: Duration::from_secs(3_600),
        known_per_mille: 0,
        admission: Admission::Open,
    }
}

fn shop_config() -> AppServerConfig {
    let certificate = IssuerCertificate {
        issuer: id(ISSUER),
        app_server: id(SHOP),
        vendor: "Vendor".to_owned(),
        not_before: Timestamp::default(),
        not_after: Timestamp::from_millis(1 << 50),
        serial: 1,
    };
    let issuing: SigningKey = key(ISSUER);
    AppServerConfig {
        me: id(SHOP),
        key: key(SHOP),
        network: network(),
        issuer: Issuer::new(issuing, sign(certificate, ROOT), network()).unwrap(),
        pay_within: Duration::from_secs(3 * 86_400),
        status_every: Duration::from_secs(24 * 3_600),
    }
}

/// A license costs 60 cents.
fn product() -> Product {
    Product {
        id: "photo".parse().unwrap(),
        name: "Photo Editor".to_owned(),
        price: euro(60),
        terms: LicenseTerms {
            product: "photo".parse().unwrap(),
            entitlements: vec!["export".to_owned()],
            life_seconds: 366 * 86_400,
            grace_seconds: 86_400,
            status_max_age_seconds: 86_400,
            renewal: None,
        },
        bundle: BlobRef::of(b"bundle"),
        launch: vec!["photo".to_owned()],
        enrolment_seconds: 30 * 86_400,
    }
}

/// A cent for 1,000 upt; a euro and a half a day, and as much that is not paid.
fn agreement(number: u32) -> Agreement {
    Agreement {
        app_server: id(SHOP),
        coordinator: id(BANK),
        number,
        currency: "EUR".parse().unwrap(),
        value: Price {
            minor: 1,
            micro_points: 1_000,
        },
        period_seconds: 86_400,
        cap: 150,
        credit: 150,
        supply_fee: 5,
        supply_devices_max: 10,
        not_before: START,
        not_after: START + Duration::from_secs(365 * 86_400),
    }
}

fn task(
    (number, created): (u64, Timestamp),
    rate_card: tally_protocol::id::RateCardId,
    units: u32,
) -> Task {
    Task {
        name: format!("earn {number}"),
        customer: id(CUSTOMER),
        created,
        program: BlobRef::of(b"program"),
        args: Vec::new(),
        input: BlobRef::of(b"input"),
        split: Split::Bytes(10),
        limits: Limits {
            fuel: 1_000,
            memory_bytes: 1 << 20,
            output_bytes: 100,
        },
        lease_millis: 60_000,
        quorum: Quorum {
            agree: 1,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Concat,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card,
        max_price: u64::from(units) * 3,
        deadline_millis: 86_400_000 * 7,
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    Order(usize, u64),
    Ask(usize, Fate),
    Duplicate(usize),
    Late(usize),
    All,
    Pass(u64),
    Pay(usize),
    Cancel(usize),
    Refund(usize),
    Settle,
    PaySettlements,
    Earn(usize),
    Revoke(usize),
    Agree,
}

fn happening() -> impl Strategy<Value = Happening> {
    let fate = prop_oneof![
        4 => Just(Fate::Answered),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::BankEnds(When::Before)),
        1 => Just(Fate::BankEnds(When::After)),
        1 => Just(Fate::ShopEnds(When::Before)),
        1 => Just(Fate::ShopEnds(When::After)),
    ];
    let cents = prop_oneof![Just(0), 1_u64..60, Just(60)];
    prop_oneof![
        4 => (0_usize..2, cents).prop_map(|(device, cents)| Happening::Order(device, cents)),
        9 => (0_usize..3, fate).prop_map(|(which, fate)| Happening::Ask(which, fate)),
        2 => (0_usize..3).prop_map(Happening::Duplicate),
        2 => (0_usize..4).prop_map(Happening::Late),
        3 => Just(Happening::All),
        3 => prop_oneof![0_u64..10, 0_u64..600, 0_u64..90_000].prop_map(Happening::Pass),
        3 => (0_usize..8).prop_map(Happening::Pay),
        1 => (0_usize..8).prop_map(Happening::Cancel),
        2 => (0_usize..8).prop_map(Happening::Refund),
        2 => Just(Happening::Settle),
        1 => Just(Happening::PaySettlements),
        1 => (0_usize..2).prop_map(Happening::Earn),
        1 => (0_usize..2).prop_map(Happening::Revoke),
        1 => Just(Happening::Agree),
    ]
}

impl Trade {
    fn happen(&mut self, happening: Happening, number: &mut u32) {
        let picked = |of: usize, all: &[OrderId]| all.get(of % all.len().max(1)).copied();
        match happening {
            Happening::Order(device, cents) => drop(self.order(DEVICES[device], cents)),
            Happening::Ask(which, fate) => self.deliver_one(which, fate),
            Happening::Duplicate(which) => {
                if let Some((_, request)) = self.asks.get(which) {
                    self.late.push(request.clone());
                }
                self.deliver_one(which, Fate::Answered);
            }
            Happening::Late(which) => {
                if which < self.late.len() {
                    let request = self.late.remove(which);
                    self.asked_of_bank(request);
                }
            }
            Happening::All => self.deliver(),
            Happening::Pass(seconds) => {
                let end = self.now + Duration::from_secs(seconds);
                while self.wake(end) {}
                self.now = end;
            }
            Happening::Pay(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    self.pay(order);
                }
            }
            Happening::Cancel(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    self.command(Command::Cancel(order)).ok();
                }
            }
            Happening::Refund(which) => {
                if let Some(order) = picked(which, &self.orders) {
                    self.command(Command::Refund(order)).ok();
                }
            }
            Happening::Settle => drop(self.command(Command::Settle(id(BANK))).unwrap()),
            Happening::PaySettlements => self.pay_settlements(),
            Happening::Earn(device) => self.earn(DEVICES[device], 40),
            Happening::Revoke(device) => {
                let device = DEVICES[device];
                let reason = "sold".to_owned();
                let device_id = id(device);
                self.command(Command::Revoke {
                    device: device_id,
                    reason,
                })
                .unwrap();
                // What a device said before it was revoked does not count.
                self.now = self.now + Duration::from_secs(1);
                self.enrol(device);
            }
            Happening::Agree => {
                *number += 1;
                let agreement = Box::new(agreement(*number));
                self.command(Command::Propose(agreement)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_books_say_the_same_whatever_happens(
        all in prop::collection::vec(happening(), 0..60),
    ) {
        let (mut trade, mut number) = (Trade::agreed(), 1);
        for happening in all {
            trade.happen(happening, &mut number);
        }
        trade.end();
        trade.check();
    }
}

#[test]
fn each_step_of_a_trade_may_be_the_last_one_before_an_end() {
    for which in 0..12 {
        for fate in [
            Fate::BankEnds(When::Before),
            Fate::BankEnds(When::After),
            Fate::ShopEnds(When::Before),
            Fate::ShopEnds(When::After),
        ] {
            let mut trade = Trade::agreed();
            trade.order(DEVICES[0], 60);
            let mut steps = 0;
            let mut go = |trade: &mut Trade| {
                while !trade.asks.is_empty() {
                    trade.deliver_one(0, if steps == which { fate } else { Fate::Answered });
                    steps += 1;
                }
            };
            go(&mut trade);
            trade.command(Command::Settle(id(BANK))).unwrap();
            go(&mut trade);
            let order = *trade.orders.last().unwrap();
            trade.command(Command::Refund(order)).ok();
            go(&mut trade);
            trade.end();
            trade.check();
        }
    }
}
