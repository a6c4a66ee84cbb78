//! The coordinator as stories: arrange, step, look at the effects.

mod bounds;
mod known;
mod leases;
mod life;
mod money;
mod partners;
mod restart;
mod settlements;
mod wishes;

use std::collections::BTreeSet;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::*;
use crate::account::{Holder, Money};
use crate::codec;
use crate::entry::{Ending, Fund, Payee};
use crate::id::{Hash, ReceiptId};
use crate::message::customer::Phase;
use crate::message::wishes::Wishes;
use crate::message::work::{Abandoned, Batch, Owed, UnitResult};
use crate::receipt::Validation;
use crate::task::{Edit, Merge, OnFailure, Quorum, Split};
use crate::unit::{Limits, Outcome, Trap};

/// A coordinator at its desk, with what it has put out.
struct Desk {
    coordinator: Coordinator,
    now: Timestamp,
    /// Effects of the last step.
    out: Vec<Effect>,
    facts: Vec<Vec<u8>>,
    /// As the log has them: what a shell would keep.
    books: Books,
    asked: u64,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self {
            coordinator: Coordinator::new(config(), [7; 32]),
            now: Timestamp::from_millis(1_000_000),
            out: Vec::new(),
            facts: Vec::new(),
            books: Books::default(),
            asked: 0,
        };
        desk.coordinator.resume(desk.now, &mut desk.out);
        desk.note_facts();
        desk
    }

    fn step(&mut self, input: Input) {
        self.out.clear();
        self.coordinator.handle(self.now, input, &mut self.out);
        self.note_facts();
    }

    fn note_facts(&mut self) {
        let facts = self.out.iter().filter_map(|effect| match effect {
            Effect::Record(fact) => Some(codec::to_bytes(fact)),
            _ => None,
        });
        self.facts.extend(facts);
        for effect in &self.out {
            if let Effect::Append {
                posting: Some(posting),
                ..
            } = effect
            {
                self.books.post(self.now, posting).unwrap();
            }
        }
    }

    /// Lets time pass, with all deadlines in it.
    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut all = Vec::new();
        while let Some(at) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Input::DeadlineReached);
            all.append(&mut self.out);
        }
        (self.now, self.out) = (end, all);
    }

    /// Stops and starts again from the journal.
    fn restart(&mut self) {
        self.asked += 1;
        let mut seed = [8; 32];
        seed[..8].copy_from_slice(&self.asked.to_be_bytes());
        self.coordinator =
            Coordinator::restore(config(), seed, (None, self.books.clone()), &self.facts).unwrap();
        self.out.clear();
        self.coordinator.resume(self.now, &mut self.out);
        self.note_facts();
    }

    fn answer(&mut self, input: impl FnOnce(Question) -> Input) -> Answer {
        self.asked += 1;
        let asked = Question(self.asked);
        self.step(input(asked));
        let mut answers = self.out.iter().filter_map(|effect| match effect {
            Effect::Answer { question, answer } if *question == asked => Some(answer.clone()),
            _ => None,
        });
        answers.next().expect("every question is answered")
    }

    fn submit(&mut self, task: Task) -> Answer {
        self.submit_signed(Verified::sign(task, &network(), &key(CUSTOMER)))
    }

    fn submit_signed(&mut self, task: Verified<Task>) -> Answer {
        self.answer(|question| Input::Submitted { question, task })
    }

    /// Brings a task to where its units are leased.
    fn run(&mut self, task: Task, units: u32) -> TaskId {
        self.run_signed(Verified::sign(task, &network(), &key(CUSTOMER)), units)
    }

    fn run_signed(&mut self, task: Verified<Task>, units: u32) -> TaskId {
        let answer = self.submit_signed(task);
        let Answer::Status(status) = answer else {
            panic!("{answer:?}");
        };
        let task = status.summary.task;
        self.step(Input::Arrived {
            task,
            result: Ok(()),
        });
        let result = Ok(division(units));
        self.step(Input::Divided { task, result });
        task
    }

    fn pull(&mut self, device: u8, want: u32) -> Pulled {
        self.pull_with(device, want, Say::default())
    }

    fn report(&mut self, device: u8, results: Vec<UnitResult>) -> Pulled {
        let say = Say {
            results,
            ..Say::default()
        };
        self.pull_with(device, 0, say)
    }

    fn pull_with(&mut self, device: u8, want: u32, say: Say) -> Pulled {
        match self.ask(device, want, say) {
            Answer::Pulled(pulled) => *pulled,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, device: u8, want: u32, say: Say) -> Answer {
        let reports = !say.results.is_empty() || !say.shown.is_empty();
        let report = reports.then(|| VerifiedReport {
            batch: Verified::sign(
                Batch::of(&say.results, me(), self.now),
                &network(),
                &key(device),
            ),
            results: say.results,
            grants: say.shown,
        });
        let pull = Pull {
            want,
            profile: profile(),
            wishes: say.wishes.unwrap_or_else(|| Wishes::within_memory(1 << 30)),
            renew: say.renew,
            abandoned: say.abandoned,
            report: None,
            share: Vec::new(),
            certificate: None,
            registration: None,
            kept: say.kept,
            owed: say.owed,
        };
        self.answer(|question| Input::Pulled {
            question,
            from: node(device),
            papers: Papers {
                certificate: say.certificate,
                registration: say.registration,
            },
            pull,
            report,
            missing: BTreeSet::new(),
        })
    }

    /// Has a device lease up to `want` units. Returns its grant.
    fn lease(&mut self, device: u8, want: u32) -> Grant {
        let leased = self.pull(device, want).leased;
        leased.expect("units are to be leased").grant
    }

    fn status(&self, task: TaskId) -> TaskStatus {
        self.coordinator.status(self.now, &task, me()).unwrap()
    }

    fn phase(&self, task: TaskId) -> String {
        self.status(task).summary.phase.to_string()
    }

    fn nudged(&self) -> Vec<NodeId> {
        let nudged = self.out.iter().filter_map(|effect| match effect {
            Effect::Nudge { to, .. } => Some(*to),
            _ => None,
        });
        nudged.collect()
    }
}

/// What a terminal says with a pull.
#[derive(Default)]
struct Say {
    results: Vec<UnitResult>,
    shown: Vec<Verified<Grant>>,
    renew: Vec<GrantId>,
    abandoned: Vec<Abandoned>,
    wishes: Option<Wishes>,
    certificate: Option<Verified<DeviceCertificate>>,
    registration: Option<Verified<Registration>>,
    kept: Vec<ReceiptId>,
    owed: Vec<Owed>,
}

const CUSTOMER: u8 = 250;
const ME: u8 = 251;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes(key(number).verifying_key().to_bytes())
}

fn me() -> NodeId {
    node(ME)
}

fn network() -> NetworkId {
    "test".parse().unwrap()
}

fn profile() -> ProfileId {
    "test-1".parse().unwrap()
}

fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        me: me(),
        key: key(ME),
        rates: Rates::free("EUR".parse().unwrap()),
        network: network(),
        profile: profile(),
        customers: Customers::Any,
        tasks_max: 3,
        input_bytes_max: 1 << 30,
        program_bytes_max: 1 << 20,
        retention: Duration::from_secs(3_600),
        known_per_mille: 0,
        admission: Admission::ByAgreement,
    }
}

fn division(units: u32) -> Division {
    Division {
        table: UnitTable::even(u64::from(units) * 10, 10).unwrap(),
        packed: BlobRef::of(b"input"),
    }
}

/// A task whose units `agree` terminals have to agree on.
fn task(name: &str, agree: u8) -> Task {
    Task {
        name: name.to_owned(),
        customer: node(CUSTOMER),
        created: Timestamp::from_millis(1_000_000),
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
            agree,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Concat,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card: card(config().rates).id(),
        max_price: 0,
        deadline_millis: 86_400_000 * 7,
    }
}

/// The first card that a coordinator with these rates publishes.
fn card(rates: Rates) -> Verified<RateCard> {
    let (version, published) = (1, Timestamp::from_millis(1_000_000));
    let card = RateCard {
        version,
        published,
        rates,
    };
    Verified::sign(card, &network(), &key(ME))
}

/// The results of all units of a grant, right ones or those of a liar.
fn results(grant: &Grant, output: &[u8]) -> Vec<UnitResult> {
    let result = |unit| UnitResult {
        grant: grant.id,
        unit,
        outcome: Outcome::Done,
        fuel: 9,
        output: BlobRef::of(output),
        inline: Some(output.to_vec()),
    };
    grant
        .units
        .iter()
        .map(|leased| result(leased.unit))
        .collect()
}

fn units_of(grant: &Grant) -> Vec<u32> {
    grant.units.iter().map(|leased| leased.unit).collect()
}
