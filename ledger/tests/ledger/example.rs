//! A small ledger in which everything happens once: the worked example of `docs/ledger.md`.
//!
//! A customer pays for two tasks, which two computers of one owner and one of nobody compute; points leave escrow, are
//! paid out, are taken back, expire. All keys and times are fixed, so all ids are the same in every run.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::store::{Change, Draft, Identity, Store};
use tally_protocol::account::{Account, Holder, Lot, Money};
use tally_protocol::books::{Books, Posting};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::entry::{Ending, Event, Fund, Payee, ValidatedUnit};
use tally_protocol::id::{GrantId, NodeId, RateCardId, ReceiptId};
use tally_protocol::message::work::{Batch, UnitResult};
use tally_protocol::points::Points;
use tally_protocol::posting::{self, Cost};
use tally_protocol::rate_card::{Measured, Price, RateCard, Rates};
use tally_protocol::receipt::{BatchShare, LeafRun, Receipt, Validation};
use tally_protocol::signed::Verified;
use tally_protocol::task::{BlobRef, LineSplit, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Limits, Outcome, ProfileId};

/// When the ledger begins: 2026-01-05, a Monday, at eight.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_767_600_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn coordinator_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn customer() -> NodeId {
    node(&key(20))
}

pub(crate) fn owner() -> NodeId {
    node(&key(30))
}

/// The owner's computer.
pub(crate) fn desktop() -> NodeId {
    node(&key(31))
}

/// Returns the certificate of the owner's computer.
pub(crate) fn certificate(
    not_before: Timestamp,
    not_after: Timestamp,
) -> Verified<DeviceCertificate> {
    let certificate = DeviceCertificate {
        device: desktop(),
        not_before,
        not_after,
        serial: 1,
        redeem_points: Points::from_micro(300_000),
    };
    Verified::sign(certificate, &identity().network, &key(30))
}

/// A computer that nobody has certified.
pub(crate) fn stray() -> NodeId {
    node(&key(40))
}

pub(crate) fn identity() -> Identity {
    Identity {
        network: "example".parse().unwrap(),
        node: node(&coordinator_key()),
    }
}

/// A task that costs nothing and that any device may settle alone.
pub(crate) fn task(name: &str) -> Task {
    Task {
        name: name.to_owned(),
        customer: customer(),
        created: START,
        program: BlobRef::of(b"program"),
        args: vec!["-l".to_owned()],
        input: BlobRef::of(b"input"),
        split: Split::Lines(LineSplit {
            lines: 100,
            bytes: 65_536,
        }),
        limits: Limits {
            fuel: 1_000_000_000,
            memory_bytes: 64 << 20,
            output_bytes: 1 << 20,
        },
        lease_millis: 60_000,
        quorum: Quorum {
            agree: 1,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Sum,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card: RateCardId::from_bytes([8; 32]),
        max_price: 0,
        deadline_millis: 86_400_000,
    }
}

/// What is written, and what the books then say.
pub(crate) struct Example {
    pub(crate) at: Timestamp,
    pub(crate) drafts: Vec<Draft>,
    pub(crate) books: Books,
    pub(crate) receipts: Vec<ReceiptId>,
    card: Option<Verified<RateCard>>,
}

/// Writes the example into a store.
pub(crate) fn fill(store: &Store) -> Example {
    let example = Example::tell();
    for draft in &example.drafts {
        store
            .commit(Change {
                events: vec![draft.clone()],
                ..Change::default()
            })
            .unwrap();
    }
    example
}

impl Example {
    pub(crate) fn new() -> Self {
        Self {
            at: START,
            drafts: Vec::new(),
            books: Books::default(),
            receipts: Vec::new(),
            card: None,
        }
    }

    pub(crate) fn tell() -> Self {
        let mut example = Self::new();
        example.publish_card();
        example.deposit(Fund::Customer(customer()), "50.00 EUR", "bank-1001");
        example.deposit(Fund::Subsidy, "10.00 EUR", "bank-1002");
        example.certify();
        example.first_task();
        example.second_task();
        example.at = example.at + DAY * 8;
        example.release();
        example.pay_out();
        example.refund();
        example.claw_back(2);
        example.withdraw();
        // The life of the first lots is over, that of those released later is not.
        example.at = START + DAY * 92;
        example.expire();
        example
    }

    pub(crate) fn add(&mut self, event: Event, posting: Option<Posting>) {
        if let Some(posting) = &posting {
            self.books.post(self.at, posting).unwrap();
        }
        self.drafts.push(Draft {
            at: self.at,
            event,
            posting,
        });
        self.at = self.at + Duration::from_secs(60);
    }

    pub(crate) fn card(&self) -> Verified<RateCard> {
        self.card.clone().unwrap()
    }

    pub(crate) fn rates(&self) -> Rates {
        self.card().rates.clone()
    }

    pub(crate) fn publish_card(&mut self) {
        let card = RateCard {
            version: 1,
            published: self.at,
            rates: Rates {
                life_seconds: 90 * 86_400,
                price: Price {
                    minor: 200,
                    micro_points: 1_000_000,
                },
                reserve: Price {
                    minor: 150,
                    micro_points: 1_000_000,
                },
                ..Rates::free("EUR".parse().unwrap())
            },
        };
        card.rates.check().unwrap();
        let card = Verified::sign(card, &identity().network, &coordinator_key());
        let event = Event::RateCardPublished {
            card: card.signed().clone(),
        };
        self.card = Some(card);
        self.add(event, None);
    }

    pub(crate) fn deposit(&mut self, to: Fund, money: &str, reference: &str) {
        let money: Money = money.parse().unwrap();
        let account = match to {
            Fund::Customer(customer) => Account::Customer(customer),
            Fund::Subsidy => Account::Subsidy,
        };
        let posting = posting::deposit(account, money, reference);
        let reference = reference.to_owned();
        self.add(
            Event::Deposited {
                to,
                money,
                reference,
            },
            posting,
        );
    }

    pub(crate) fn certify(&mut self) {
        let certificate = certificate(START, START + DAY * 365).signed().clone();
        self.add(Event::DeviceCertified { certificate }, None);
    }

    /// Four units, two of them paid to the owner and all to the stray computer, and 6.00 EUR of 10.00 left over.
    pub(crate) fn first_task(&mut self) {
        let task = self.accept("count words", 1_000);
        let pays = Holder {
            owner: owner(),
            device: desktop(),
        };
        self.work(&task, &[(key(31), pays), (key(40), Holder::alone(stray()))]);
        self.end(&task);
        let id = task.task_id();
        let hold = *self.books.hold(posting::hold_of(id)).unwrap();
        let posting = posting::settlement(id, &hold, self.at);
        let at = self.at;
        self.add(Event::TaskSettled { task: id, at }, posting);
    }

    /// A task that still runs, of which a receipt is taken back later.
    fn second_task(&mut self) {
        let task = self.accept("blur a photo", 500);
        self.work(&task, &[(key(40), Holder::alone(stray()))]);
    }

    fn accept(&mut self, name: &str, max_price: u64) -> Verified<Task> {
        let task = Task {
            created: self.at,
            rate_card: self.card().id(),
            max_price,
            deadline_millis: 30 * 86_400_000,
            ..task(name)
        };
        let task = Verified::sign(task, &identity().network, &key(20));
        let event = Event::TaskAccepted {
            task: task.task_id(),
            signed: task.signed().clone(),
        };
        let until = self.at + Duration::from_millis(task.deadline_millis);
        let price = self.rates().money(max_price);
        let posting = posting::acceptance(task.task_id(), customer(), price, until);
        self.add(event, posting);
        task
    }

    /// Each device computes two units of its own, and gets a receipt for them.
    fn work(&mut self, task: &Verified<Task>, by: &[(SigningKey, Holder)]) {
        let mut cost = Cost::default();
        for (number, (device, holder)) in (0_u32..).zip(by) {
            let (batch, results) = self.compute(number * 2, device);
            self.validate(task, &batch, &results, holder.device);
            cost = self.receipt(task, &batch, &results, (*holder, cost));
        }
    }

    fn compute(&self, first: u32, device: &SigningKey) -> (Verified<Batch>, Vec<UnitResult>) {
        let result = |unit| UnitResult {
            grant: GrantId::from_bytes([7; 16]),
            unit,
            outcome: Outcome::Done,
            fuel: 499_000_000,
            output: BlobRef::of(b"42\n"),
            inline: Some(b"42\n".to_vec()),
        };
        let results: Vec<UnitResult> = (first..first + 2).map(result).collect();
        let batch = Batch::of(&results, identity().node, self.at);
        (Verified::sign(batch, &identity().network, device), results)
    }

    fn validate(
        &mut self,
        task: &Verified<Task>,
        batch: &Verified<Batch>,
        results: &[UnitResult],
        device: NodeId,
    ) {
        let unit = |result: &UnitResult| ValidatedUnit {
            unit: result.unit,
            outcome: result.outcome,
            fuel: result.fuel,
            input_bytes: INPUT_BYTES,
            pixels: 0,
            output: result.output,
            agreed: vec![device],
            outvoted: Vec::new(),
        };
        let event = Event::BatchValidated {
            task: task.task_id(),
            device,
            batch: batch.root,
            units: results.iter().map(unit).collect(),
        };
        self.add(event, None);
    }

    fn receipt(
        &mut self,
        task: &Verified<Task>,
        batch: &Verified<Batch>,
        results: &[UnitResult],
        (holder, before): (Holder, Cost),
    ) -> Cost {
        let card = self.card();
        let points = results.iter().map(|result| {
            let measured = Measured {
                outcome: result.outcome,
                fuel: result.fuel,
                fuel_limit: task.limits.fuel,
                bytes: INPUT_BYTES + result.output.bytes,
                pixels: 0,
            };
            card.rates.points(task.program.id, &measured).unwrap()
        });
        let points = points
            .reduce(|sum, points| sum.checked_add(points).unwrap())
            .unwrap();
        let count = u32::try_from(results.len()).unwrap();
        let receipt = Receipt {
            sequence: 0,
            holder,
            task: task.task_id(),
            shares: vec![BatchShare {
                batch: batch.root,
                runs: vec![LeafRun {
                    leaf: 0,
                    unit: results[0].unit,
                    count,
                }],
            }],
            units: count,
            fuel: results.iter().map(|result| result.fuel).sum(),
            bytes: results
                .iter()
                .map(|result| INPUT_BYTES + result.output.bytes)
                .sum(),
            pixels: 0,
            points,
            rate_card: card.id(),
            profile: "05".repeat(32).parse::<ProfileId>().unwrap(),
            validation: Validation::Quorum(1),
            leased_at: self.at - Duration::from_secs(60),
            done_at: self.at,
        };
        let after = before.with(points, &card.rates).unwrap();
        let receipt = Verified::sign(receipt, &identity().network, &coordinator_key());
        let posting = posting::receipt(
            (receipt.id(), &receipt),
            (customer(), &card),
            (before, after),
        );
        self.receipts.push(receipt.id());
        let event = Event::Receipted {
            receipt: receipt.signed().clone(),
            batches: vec![batch.signed().clone()],
        };
        self.add(event, posting);
        after
    }

    fn end(&mut self, task: &Verified<Task>) {
        let event = Event::TaskEnded {
            task: task.task_id(),
            ending: Ending::Done(BlobRef::of(b"result")),
        };
        self.add(event, None);
    }

    fn lots(&self, state: fn(&Account) -> Option<Lot>) -> Vec<(Lot, Points)> {
        let points = |posted: i128| Points::from_micro(u64::try_from(posted).unwrap());
        let lines = self.books.balances();
        lines
            .filter_map(|((account, _), balance)| Some((state(account)?, points(balance.posted()))))
            .collect()
    }

    pub(crate) fn release(&mut self) {
        let lots = self.lots(|account| match account {
            Account::Escrow(lot) => Some(*lot),
            _ => None,
        });
        let at = self.at;
        let posting = posting::release(at, &lots);
        self.add(Event::Released { at }, posting);
    }

    fn pay_out(&mut self) {
        let rates = self.rates();
        let lots = self.lots(|account| match account {
            Account::Spendable(lot) if lot.holder.owner == owner() => Some(*lot),
            _ => None,
        });
        let (lot, _) = lots[0];
        let drawn = [(lot, Points::from_micro(400_000), &rates)];
        let posting = posting::payout(owner(), &drawn, "bank-2001");
        let event = Event::PaidOut {
            to: Payee::Owner(owner()),
            money: "0.60 EUR".parse().unwrap(),
            reference: "bank-2001".to_owned(),
        };
        self.add(event, posting);
    }

    fn refund(&mut self) {
        let money: Money = "0.25 EUR".parse().unwrap();
        let posting = posting::refund(customer(), money, "complaint 7");
        let reference = "complaint 7".to_owned();
        self.add(
            Event::Refunded {
                customer: customer(),
                money,
                reference,
            },
            posting,
        );
    }

    fn claw_back(&mut self, number: usize) {
        let receipt = self.receipts[number];
        let id = posting::posting_id("receipt", receipt.as_bytes());
        let mut postings = self.drafts.iter().filter_map(|draft| draft.posting.clone());
        let issued = postings.find(|posting| posting.id == id).unwrap();
        let posting = posting::clawback(receipt, &issued, (&self.books, &self.rates()));
        let reason = "a second look found another result".to_owned();
        self.add(Event::ClawedBack { receipt, reason }, posting);
    }

    fn withdraw(&mut self) {
        let money: Money = "0.50 EUR".parse().unwrap();
        let posting = posting::withdrawal(Account::Revenue, money, "bank-2002");
        let event = Event::PaidOut {
            to: Payee::Operator,
            money,
            reference: "bank-2002".to_owned(),
        };
        self.add(event, posting);
    }

    fn expire(&mut self) {
        let lots = self.lots(|account| match account {
            Account::Spendable(lot) if lot.since < START + DAY => Some(*lot),
            _ => None,
        });
        let at = self.at;
        let posting = posting::expiry(at, &lots, &self.rates());
        self.add(Event::Expired { card: 1, at }, posting);
        let mut lines = self.books.balances();
        assert!(lines.any(|((account, _), _)| matches!(account, Account::Expired(_))));
    }
}

/// Length of the input of each unit.
const INPUT_BYTES: u64 = 99_997;
