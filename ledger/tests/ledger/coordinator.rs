//! A plausible coordinator: it takes orders, accepts tasks, and does by the rules what a coordinator does, at random.

mod partners;

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::store::{Draft, Identity, Store};
use tally_netsim::chance::Chance;
use tally_netsim::disk::Disk;
use tally_protocol::account::{Account, Commodity, Holder, Lot, Money};
use tally_protocol::books::{Books, Posting};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::entry::{Ending, Event, Fund, Payee, ValidatedUnit};
use tally_protocol::id::{Hash, NodeId, TaskId};
use tally_protocol::merkle::leaf_hash;
use tally_protocol::message::work::Batch;
use tally_protocol::points::Points;
use tally_protocol::posting::{self, Cost};
use tally_protocol::rate_card::{Measured, Price, RateCard, Rates};
use tally_protocol::receipt::{BatchShare, LeafRun, Receipt, Validation};
use tally_protocol::signed::Verified;
use tally_protocol::task::{BlobRef, Task};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Outcome;

use crate::support::{self, CREATED, customer_key};
use partners::Partners;

/// What a step may be, as often as it stands here.
const STEPS: [fn(&mut Coordinator); 28] = [
    Coordinator::publish,
    Coordinator::certify,
    Coordinator::deposit,
    Coordinator::deposit,
    Coordinator::accept,
    Coordinator::accept,
    Coordinator::validate,
    Coordinator::validate,
    Coordinator::validate,
    Coordinator::validate,
    Coordinator::receipt,
    Coordinator::receipt,
    Coordinator::receipt,
    Coordinator::end,
    Coordinator::wait,
    Coordinator::pay_out,
    Coordinator::refund,
    Coordinator::claw_back,
    Coordinator::clock_back,
    Coordinator::agree_with_shop,
    Coordinator::register,
    Coordinator::revoke,
    Coordinator::set_aside,
    Coordinator::set_aside,
    Coordinator::let_go,
    Coordinator::redeem,
    Coordinator::redeem,
    Coordinator::reverse,
];

/// A coordinator with two owners of two computers each, and a computer of nobody.
#[derive(Debug)]
pub(crate) struct Coordinator {
    chance: Chance,
    now: Timestamp,
    /// The time of the last entry.
    written: Timestamp,
    pub(crate) books: Books,
    /// What was not taken yet.
    drafts: Vec<Draft>,
    cards: Vec<Verified<RateCard>>,
    certified: Vec<(NodeId, NodeId)>,
    tasks: Vec<OpenTask>,
    issued: Vec<(Verified<Receipt>, Posting)>,
    orders: u64,
    partners: Partners,
}

#[derive(Debug)]
struct OpenTask {
    signed: Verified<Task>,
    card: usize,
    ended: bool,
    units: u32,
    cost: Cost,
    /// Points that may still become due, and those that are.
    due: BTreeMap<(Holder, Validation), Vec<(u32, Counted)>>,
    sequences: BTreeMap<Holder, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    fuel: u64,
    bytes: u64,
    points: u64,
    at: Timestamp,
}

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

/// The coordinator's own key.
pub(crate) fn own_key() -> SigningKey {
    key(1)
}

pub(crate) fn identity() -> Identity {
    Identity {
        node: node(&own_key()),
        ..support::identity()
    }
}

pub(crate) fn store(disk: &Disk) -> Store {
    Store::on_backend(disk.clone(), &identity(), CREATED).unwrap()
}

fn sign<T: tally_protocol::signed::Statement>(value: T, key: &SigningKey) -> Verified<T> {
    Verified::sign(value, &identity().network, key)
}

/// The computers: 20 and 21 of owner 30, 22 and 23 of owner 31, 24 of nobody.
fn device(number: u64) -> SigningKey {
    key(20 + number as u8)
}

fn owner_of(number: u64) -> SigningKey {
    key(30 + (number / 2) as u8)
}

fn euro(minor: u64) -> Money {
    let currency = "EUR".parse().unwrap();
    Money { currency, minor }
}

impl Coordinator {
    pub(crate) fn new(seed: u64) -> Self {
        let mut coordinator = Self {
            chance: Chance::new(seed, "coordinator", 0),
            now: CREATED,
            written: CREATED,
            books: Books::default(),
            drafts: Vec::new(),
            cards: Vec::new(),
            certified: Vec::new(),
            tasks: Vec::new(),
            issued: Vec::new(),
            orders: 0,
            partners: Partners::default(),
        };
        coordinator.publish();
        coordinator
    }

    /// Does something, and returns the entries that come of it: often one, sometimes none or several.
    pub(crate) fn step(&mut self) -> Vec<Draft> {
        let step = STEPS[self.chance.below(STEPS.len() as u64) as usize];
        self.now = self.now + Duration::from_millis(self.chance.below(3_000));
        step(self);
        std::mem::take(&mut self.drafts)
    }

    /// Does so many steps, and returns all entries.
    pub(crate) fn steps(&mut self, count: usize) -> Vec<Draft> {
        (0..count).flat_map(|_| self.step()).collect()
    }

    fn append(&mut self, event: Event, posting: Option<Posting>) {
        self.written = self.written.max(self.now);
        if let Some(posting) = &posting {
            self.books.post(self.written, posting).unwrap();
        }
        let at = self.now;
        self.drafts.push(Draft { at, event, posting });
    }

    fn below(&mut self, bound: usize) -> usize {
        self.chance.below(bound as u64) as usize
    }

    fn money(&self, account: Account) -> u64 {
        let line = (account, Commodity::Money("EUR".parse().unwrap()));
        let balance = self.books.balance(line.0, line.1);
        u64::try_from(balance.available()).unwrap()
    }

    fn publish(&mut self) {
        let mut rates = Rates::free("EUR".parse().unwrap());
        if self.chance.below(4) > 0 {
            let minor = 1 + self.chance.below(3);
            let micro_points = 1_000 + self.chance.below(2_000);
            rates.price = Price {
                minor,
                micro_points,
            };
            let minor = self.chance.below(minor + 1);
            rates.reserve = Price {
                minor,
                micro_points,
            };
        }
        rates.escrow_permille = [0, 333, 500, 1_000][self.below(4)];
        rates.escrow_seconds = self.chance.below(100);
        rates.lot_seconds = 1 + self.chance.below(30);
        rates.life_seconds = [0, 150][self.below(2)];
        let card = RateCard {
            version: self.cards.len() as u32 + 1,
            published: self.now,
            rates,
        };
        let card = sign(card, &own_key());
        let signed = card.signed().clone();
        self.cards.push(card);
        self.append(Event::RateCardPublished { card: signed }, None);
    }

    fn certify(&mut self) {
        let number = self.chance.below(4);
        let certificate = DeviceCertificate {
            device: node(&device(number)),
            not_before: self.now,
            not_after: self.now + Duration::from_secs(1_000_000),
            serial: self.chance.below(10),
            redeem_points: Points::ZERO,
        };
        let certificate = sign(certificate, &owner_of(number));
        self.certified
            .push((certificate.device, certificate.signer()));
        let certificate = certificate.signed().clone();
        self.append(Event::DeviceCertified { certificate }, None);
    }

    fn reference(&mut self) -> String {
        self.orders += 1;
        format!("order {}", self.orders)
    }

    fn deposit(&mut self) {
        let to = match self.chance.below(4) {
            0 => Fund::Subsidy,
            _ => Fund::Customer(node(&customer_key())),
        };
        let (money, reference) = (euro(1 + self.chance.below(100_000)), self.reference());
        let posting = posting::deposit(to.account(), money, &reference);
        let event = Event::Deposited {
            to,
            money,
            reference,
        };
        self.append(event, posting);
    }

    fn accept(&mut self) {
        let card = self.cards.last().unwrap().clone();
        let customer = node(&customer_key());
        let most = self.money(Account::Customer(customer));
        if !card.rates.is_free() && most < 1_000 {
            return;
        }
        let max_price = most / 2;
        let (name, agree) = (self.reference(), 1 + self.chance.below(2) as u8);
        let mut task = Task {
            rate_card: card.id(),
            max_price,
            deadline_millis: 1_000 + self.chance.below(60_000),
            ..support::task(&name)
        };
        task.quorum.agree = agree;
        let signed = sign(task, &customer_key());
        let (id, until) = (
            signed.task_id(),
            self.now + Duration::from_millis(signed.deadline_millis),
        );
        let posting = (!card.rates.is_free())
            .then(|| posting::acceptance(id, customer, euro(max_price), until))
            .flatten();
        let event = Event::TaskAccepted {
            task: id,
            signed: signed.signed().clone(),
        };
        self.append(event, posting);
        self.tasks.push(OpenTask {
            signed,
            card: self.cards.len() - 1,
            ended: false,
            units: 0,
            cost: Cost::default(),
            due: BTreeMap::new(),
            sequences: BTreeMap::new(),
        });
    }

    /// Returns who earns with a computer: the last one whose certificate was shown.
    fn holder(&self, device: NodeId) -> Holder {
        let owner = self
            .certified
            .iter()
            .rev()
            .find(|(certified, _)| *certified == device);
        let owner = owner.map_or(device, |(_, owner)| *owner);
        Holder { owner, device }
    }

    /// Completes the quorum of some units, if there is money for them.
    fn validate(&mut self) {
        let open: Vec<usize> = (0..self.tasks.len())
            .filter(|place| !self.tasks[*place].ended)
            .collect();
        if open.is_empty() {
            return;
        }
        let place = open[self.below(open.len())];
        let agree = usize::from(self.tasks[place].signed.quorum.agree);
        let first = self.chance.below(5);
        let mut holders: Vec<Holder> = (0..5)
            .map(|number| self.holder(node(&device((first + number) % 5))))
            .collect();
        holders.dedup_by_key(|holder| holder.owner);
        let is_known = self.chance.below(8) == 0;
        let mut units = Vec::new();
        for _ in 0..1 + self.chance.below(6) {
            let fuel = self.chance.below(900_000_000);
            let agreed: Vec<Holder> = holders.iter().take(agree).copied().collect();
            let checked = holders.get(agree).filter(|_| is_known).copied();
            let is_other = |holder: &Holder| agreed.iter().all(|by| by.owner != holder.owner);
            units.extend(self.agree(place, fuel, (&agreed, checked.filter(is_other))));
        }
        let Some(task) = (!units.is_empty()).then(|| self.tasks[place].signed.task_id()) else {
            return;
        };
        let event = Event::BatchValidated {
            task,
            device: holders[0].device,
            batch: Hash::from_bytes([3; 32]),
            units,
        };
        self.append(event, None);
    }

    fn agree(
        &mut self,
        place: usize,
        fuel: u64,
        (agreed, checked): (&[Holder], Option<Holder>),
    ) -> Option<ValidatedUnit> {
        let (task, reserve) = (&mut self.tasks[place], Account::Subsidy);
        let rates = &self.cards[task.card].rates;
        let (input_bytes, output) = (5, BlobRef::of(b"output"));
        let outcome = if fuel.is_multiple_of(5) {
            Outcome::OutOfFuel
        } else {
            Outcome::Done
        };
        let measured = Measured {
            outcome,
            fuel,
            fuel_limit: task.signed.limits.fuel,
            bytes: input_bytes + output.bytes,
            pixels: 0,
        };
        let points = rates.points(task.signed.program.id, &measured)?;
        let due = task.due.values().flatten().map(|(_, due)| due.points);
        let all = due.sum::<u64>() + points.as_micro() * agreed.len() as u64;
        let cost = task.cost.with(Points::from_micro(all), rates)?;
        let euro = Commodity::Money("EUR".parse().unwrap());
        let subsidy = self.books.balance(reserve, euro).available();
        if !rates.is_free() && cost.price > task.signed.max_price {
            return None;
        }
        // Other tasks may draw on the subsidy too.
        let checked = checked.filter(|_| rates.reserve.minor == 0 && subsidy >= 0);
        let unit = task.units;
        task.units += 1;
        let agree = Validation::Quorum(task.signed.quorum.agree);
        let counted = Counted {
            fuel,
            bytes: input_bytes + output.bytes,
            points: points.as_micro(),
            at: self.now,
        };
        let agreed_on = agreed.iter().map(|holder| (*holder, agree));
        let known = checked.map(|holder| (holder, Validation::KnownAnswer));
        for of in agreed_on.chain(known) {
            task.due.entry(of).or_default().push((unit, counted));
        }
        Some(ValidatedUnit {
            unit,
            outcome,
            fuel,
            input_bytes,
            pixels: 0,
            output,
            agreed: agreed.iter().map(|holder| holder.device).collect(),
            outvoted: Vec::new(),
        })
    }

    /// Issues a receipt, if one is due.
    fn receipt(&mut self) {
        let owing = |task: &OpenTask| !task.due.is_empty();
        let Some(place) = self.tasks.iter().position(owing) else {
            return;
        };
        self.issue(place);
        self.settle(place);
    }

    fn issue(&mut self, place: usize) {
        let task = &mut self.tasks[place];
        let ((holder, validation), due) = task.due.pop_first().unwrap();
        let number = (0..5).find(|number| node(&device(*number)) == holder.device);
        let of_task = *task.signed.task_id().as_bytes();
        let first = [of_task.as_slice(), &due[0].0.to_be_bytes()];
        let batch = Batch {
            coordinator: node(&own_key()),
            count: due.len() as u32 + 1,
            root: leaf_hash(&first.concat()),
            at: self.now,
        };
        let batch = sign(batch, &device(number.unwrap()));
        let run = |(leaf, (unit, _)): (usize, &(u32, Counted))| LeafRun {
            leaf: leaf as u32,
            unit: *unit,
            count: 1,
        };
        let sum = |of: fn(&Counted) -> u64| due.iter().map(|(_, counted)| of(counted)).sum();
        let sequence = task.sequences.entry(holder).or_default();
        let card = &self.cards[task.card];
        let receipt = Receipt {
            sequence: *sequence,
            holder,
            task: task.signed.task_id(),
            shares: vec![BatchShare {
                batch: batch.root,
                runs: due.iter().enumerate().map(run).collect(),
            }],
            units: due.len() as u32,
            fuel: sum(|counted| counted.fuel),
            bytes: sum(|counted| counted.bytes),
            pixels: 0,
            points: Points::from_micro(sum(|counted| counted.points)),
            rate_card: card.id(),
            profile: "profile".parse().unwrap(),
            validation,
            leased_at: CREATED,
            done_at: due.iter().map(|(_, counted)| counted.at).max().unwrap(),
        };
        *sequence += 1;
        let receipt = sign(receipt, &own_key());
        let before = task.cost;
        if let Validation::Quorum(_) = validation {
            task.cost = before.with(receipt.points, &card.rates).unwrap();
        }
        let (customer, cost) = (task.signed.customer, (before, task.cost));
        let posting = posting::receipt((receipt.id(), &receipt), (customer, card), cost).unwrap();
        self.issued.push((receipt.clone(), posting.clone()));
        let event = Event::Receipted {
            receipt: receipt.signed().clone(),
            batches: vec![batch.signed().clone()],
        };
        self.append(event, Some(posting));
    }

    fn end(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let place = self.below(self.tasks.len());
        if !std::mem::replace(&mut self.tasks[place].ended, true) {
            let task = self.tasks[place].signed.task_id();
            let ending = Ending::Done(BlobRef::of(b"result"));
            self.append(Event::TaskEnded { task, ending }, None);
        }
        self.settle(place);
    }

    /// Settles a task that has ended and owes nothing.
    fn settle(&mut self, place: usize) {
        if !self.tasks[place].ended || !self.tasks[place].due.is_empty() {
            return;
        }
        let task: TaskId = self.tasks.swap_remove(place).signed.task_id();
        let hold = self.books.hold(posting::hold_of(task));
        let posting = hold.and_then(|hold| posting::settlement(task, hold, self.now));
        let at = self.now;
        self.append(Event::TaskSettled { task, at }, posting);
    }

    /// Lets time pass, and releases and expires what is due.
    fn wait(&mut self) {
        self.now = self.now + Duration::from_secs(self.chance.below(100));
        let at = self.now;
        let released = self.lots(|account| match account {
            Account::Escrow(lot) if lot.since <= at => Some(*lot),
            _ => None,
        });
        if let Some(posting) = posting::release(at, &released) {
            self.append(Event::Released { at }, Some(posting));
        }
        for card in self.cards.clone() {
            let due = |lot: &Lot| card.rates.expires(lot.since).is_some_and(|end| end <= at);
            let expired = self.lots(|account| match account {
                Account::Spendable(lot) if lot.card == card.version && due(lot) => Some(*lot),
                _ => None,
            });
            if let Some(posting) = posting::expiry(at, &expired, &card.rates) {
                let card = card.version;
                self.append(Event::Expired { card, at }, Some(posting));
            }
        }
    }

    fn lots(&self, wanted: impl Fn(&Account) -> Option<Lot>) -> Vec<(Lot, Points)> {
        let lot = |account, amount: i128| {
            let lot = wanted(account)?;
            Some((lot, Points::from_micro(amount as u64)))
        };
        let balances = self.books.balances();
        let lots = balances.filter_map(|((account, _), balance)| lot(account, balance.available()));
        lots.take(100).collect()
    }

    fn pay_out(&mut self) {
        let (to, from) = match self.chance.below(4) {
            0 => (Payee::Operator, Account::Revenue),
            1 => {
                let customer = node(&customer_key());
                (Payee::Customer(customer), Account::Customer(customer))
            }
            _ => return self.pay_owner(),
        };
        let money = euro(self.money(from) / 3);
        let reference = self.reference();
        let posting = posting::withdrawal(from, money, &reference);
        let event = Event::PaidOut {
            to,
            money,
            reference,
        };
        if posting.is_some() {
            self.append(event, posting);
        }
    }

    fn pay_owner(&mut self) {
        let number = self.chance.below(4);
        let owner = self.holder(node(&device(number))).owner;
        let reference = self.reference();
        let rates = |card: u32| Some(&self.cards[card as usize - 1].rates);
        let all = posting::draw(&self.books, owner, euro(u64::MAX), rates).unwrap_err();
        let money = euro(all / 2);
        let drawn = posting::draw(&self.books, owner, money, rates).unwrap();
        let posting = posting::payout(owner, &drawn, &reference);
        let event = Event::PaidOut {
            to: Payee::Owner(owner),
            money,
            reference,
        };
        if posting.is_some() {
            self.append(event, posting);
        }
    }

    fn refund(&mut self) {
        let (customer, reference) = (node(&customer_key()), self.reference());
        let money = euro(self.money(Account::Revenue) / 4);
        if let Some(posting) = posting::refund(customer, money, &reference) {
            let event = Event::Refunded {
                customer,
                money,
                reference,
            };
            self.append(event, Some(posting));
        }
    }

    fn claw_back(&mut self) {
        if self.issued.is_empty() {
            return;
        }
        let place = self.below(self.issued.len());
        let (receipt, issued) = self.issued.swap_remove(place);
        let card = self
            .cards
            .iter()
            .find(|card| card.id() == receipt.rate_card);
        let rates = &card.unwrap().rates;
        let posting = posting::clawback(receipt.id(), &issued, (&self.books, rates));
        let event = Event::ClawedBack {
            receipt: receipt.id(),
            reason: "contradicted".to_owned(),
        };
        // What was paid to owners or withdrawn may be missing; then it is not possible.
        let possible = posting.filter(|posting| {
            let mut books = self.books.excerpt(posting);
            books.post(self.now, posting).is_ok()
        });
        if let Some(posting) = possible {
            self.append(event, Some(posting));
        }
    }

    /// Sets the clock back; the time of the log does not follow.
    fn clock_back(&mut self) {
        self.now = self.now - Duration::from_secs(self.chance.below(20));
    }
}
