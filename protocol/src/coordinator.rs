//! The coordinator: takes tasks, cuts them into units, leases units, validates results, puts them together.
//!
//! A state machine without I/O. The shell feeds it one [`Input`] after another with the time, and carries out the
//! [`Effect`]s in their order, after everything that is to be recorded is durable. What must survive a crash
//! changes only by [`Fact`]s: [`Coordinator::restore`] folds them again and [`Coordinator::resume`] asks anew for
//! whatever was under way. Leases are not facts: a restarted coordinator knows its grants by its own signature, when
//! their terminals show them.
//!
//! The life of a task: accepted (uploading) -> dividing -> running -> merging -> editing -> ended. A unit is leased to
//! as many different devices as must agree; their votes are facts; the vote that completes a quorum validates
//! the unit, once. A quorum of failures is as good as one of successes: it settles the unit.
//!
//! What a quorum agrees on is owed to the devices that reported it. About a second later they get a receipt, which
//! issues points and takes their price from what is held for the task; once the task has ended and everything has a
//! receipt, the task is settled and the rest of the hold is free. The books are no part of the recorded state: the
//! shell keeps them with the log, and gives them back at the start.
//!
//! Invariants: no effect leaves before the facts it follows from; every task that was accepted ends if terminals
//! come; nothing here grows without a bound.

mod cards;
mod devices;
mod dues;
mod ending;
mod gauges;
mod grants;
mod intake;
mod leasing;
mod owed;
mod parcel;
mod receipts;
mod reports;
mod status;
mod task_run;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a story looks for one effect among many"
)]
mod tests;
mod timers;
mod treasury;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::account::{Holder, Money};
use crate::books::{Books, Posting, PostingFault};
use crate::certificate::DeviceCertificate;
use crate::codec::{self, DecodeError};
use crate::entry::{Ending, Event, Fund, Payee};
use crate::id::{BlobId, GrantId, Hash, NetworkId, NodeId, PostingId, TaskId};
use crate::message::Refusal;
use crate::message::announce::Offer;
use crate::message::blob::BlobGrant;
use crate::message::customer::TaskStatus;
use crate::message::work::{
    Batch, Grant, Leased, Pull, PullReply, ResultVerdict, Unpaid, VerifiedReport,
};
use crate::rate_card::{RateCard, Rates};
use crate::receipt::{Receipt, Validation};
use crate::signed::{Signed, Verified, VerifyError};
use crate::task::split::UnitTable;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::{Fault, Outcome, ProfileId};

pub use gauges::Gauges;
pub use status::News;

use cards::Cards;
use devices::Devices;
use reports::Reported;
use task_run::{Decided, Stage, TaskRecord, TaskRun};
use timers::{Timer, Timers};
use treasury::Lots;
use units::Ballot;

/// Names a question of a peer until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question(pub u64);

/// What a coordinator is told at its start.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Its own id.
    pub me: NodeId,
    /// Its key: receipts and rate cards are signed before they are recorded.
    pub key: SigningKey,
    /// What work is worth from now on.
    pub rates: Rates,
    /// Its network.
    pub network: NetworkId,
    /// The profile under which it compares results.
    pub profile: ProfileId,
    /// Whose tasks it takes.
    pub customers: Customers,
    /// The most tasks that have not ended.
    pub tasks_max: usize,
    /// The largest input it takes, in bytes.
    pub input_bytes_max: u64,
    /// The largest program it takes, in bytes.
    pub program_bytes_max: u64,
    /// How long the result of an ended task is kept.
    pub retention: Duration,
}

/// Whose tasks a coordinator takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Customers {
    /// Everybody's.
    Any,
    /// Those of these keys.
    Listed(BTreeSet<NodeId>),
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A customer submits a task.
    Submitted {
        /// To be answered with the status.
        question: Question,
        /// The task, by its signer.
        task: Verified<Task>,
    },
    /// So many bytes of program and input are here.
    Arriving {
        /// The task.
        task: TaskId,
        /// Bytes so far.
        bytes: u64,
    },
    /// Program and input are all here, or cannot be had.
    Arrived {
        /// The task.
        task: TaskId,
        /// The reason if not.
        result: Result<(), String>,
    },
    /// The input was cut, or cannot be.
    Divided {
        /// The task.
        task: TaskId,
        /// The units and the packed blob, or the reason.
        result: Result<Division, String>,
    },
    /// A terminal pulls.
    Pulled {
        /// To be answered with [`Answer::Pulled`].
        question: Question,
        /// The terminal.
        from: NodeId,
        /// What it asks; its certificate and its report are taken out and checked.
        pull: Pull,
        /// Whose it is.
        certificate: Option<Verified<DeviceCertificate>>,
        /// What it reports.
        report: Option<VerifiedReport>,
        /// Results of the report whose output could not be had.
        missing: BTreeSet<(GrantId, u32)>,
    },
    /// The merged (or edited) result is there, or cannot be had.
    Merged {
        /// The task.
        task: TaskId,
        /// The result, or the reason.
        result: Result<BlobRef, String>,
    },
    /// A customer, or the operator (`by` is the coordinator itself), stops a task.
    Cancelled {
        /// To be answered with the status.
        question: Question,
        /// The task.
        task: TaskId,
        /// Who.
        by: NodeId,
    },
    /// The operator has money moved.
    Ordered {
        /// To be answered with the posting.
        question: Question,
        /// What.
        order: Order,
    },
    /// A terminal's connection is gone.
    Gone(NodeId),
    /// The time of [`Coordinator::next_deadline`] has come.
    DeadlineReached,
}

/// What the operator may have done with money and points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Money is moved.
    Move {
        /// From where to where.
        movement: Movement,
        /// How much.
        money: Money,
        /// What the payment is called in the outside world: each is posted once.
        reference: String,
    },
    /// A receipt is taken back.
    ClawBack {
        /// The receipt.
        receipt: Box<Verified<Receipt>>,
        /// What was posted with it.
        issued: Posting,
        /// Why.
        reason: String,
    },
}

/// From where to where money is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    /// It has come in.
    Deposit(Fund),
    /// It goes out. An owner is paid for the oldest points that it can spend, as many as have so much behind them.
    PayOut(Payee),
    /// A customer gets it back from what the coordinator has earned.
    Refund(NodeId),
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// The same was ordered before.
    #[error("{reference:?} is posted already")]
    Repeated {
        /// The reference.
        reference: String,
    },
    /// A text that is not one.
    #[error("{reference:?} is no reference: 1 to 140 bytes without control characters")]
    Reference {
        /// The reference.
        reference: String,
    },
    /// An amount of nothing, or one that does not fit.
    #[error("{money} cannot be posted")]
    Amount {
        /// The amount.
        money: Money,
    },
    /// The coordinator counts in another currency.
    #[error("{money} is not in {expected}, the currency of the rate card")]
    Currency {
        /// The amount.
        money: Money,
        /// The currency.
        expected: crate::account::Currency,
    },
    /// There is too little.
    #[error(transparent)]
    Posting(#[from] PostingFault),
    /// Nothing is left of what was to be taken back.
    #[error("nothing of the receipt can be taken back")]
    NothingLeft,
}

/// How an input was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// Where the units lie.
    pub table: UnitTable,
    /// The packed blob.
    pub packed: BlobRef,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write to the journal.
    Record(Fact),
    /// Write to the permanent log, and to the books.
    Append {
        /// What happened.
        event: Event,
        /// What that does to the books.
        posting: Option<Posting>,
    },
    /// Write a row that is read again when the task is merged.
    Keep {
        /// The task.
        task: TaskId,
        /// The row.
        row: Row,
    },
    /// Answer a question.
    Answer {
        /// The question.
        question: Question,
        /// The answer.
        answer: Answer,
    },
    /// Wake a waiting terminal.
    Nudge {
        /// The terminal.
        to: NodeId,
        /// What there is.
        task: TaskId,
    },
    /// Sign, give addresses to and gossip an offer.
    Announce(Offer),
    /// Read program, input and the editor's program from the customer.
    Fetch(TaskId),
    /// Cut the input.
    Divide(TaskId),
    /// Merge the outputs.
    Merge(TaskId),
    /// Run the editor over the merged result.
    Edit {
        /// The task.
        task: TaskId,
        /// The merged result.
        merged: BlobRef,
    },
    /// The status of the task has changed: whoever watches may be told.
    Changed(TaskId),
    /// Remove everything of the task.
    Forget(TaskId),
}

/// A row kept until a task is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// The agreed output of a unit.
    Unit {
        /// The unit.
        unit: u32,
        /// Its output.
        output: BlobRef,
    },
    /// The content of a small output.
    Output {
        /// Its name.
        id: BlobId,
        /// The content.
        content: Vec<u8>,
    },
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// How the task is.
    Status(Box<TaskStatus>),
    /// To a pull.
    Pulled(Box<Pulled>),
    /// To an order.
    Ordered(Result<PostingId, OrderFault>),
    /// No.
    Refused(Refusal),
}

/// The answer to a pull, before the shell signs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulled {
    /// The new leases, if any.
    pub leased: Option<NewLeases>,
    /// See [`crate::message::work::PullReply::verdicts`].
    pub verdicts: Vec<ResultVerdict>,
    /// See [`crate::message::work::PullReply::ended`].
    pub ended: Vec<GrantId>,
    /// See [`crate::message::work::PullReply::unknown`].
    pub unknown: Vec<GrantId>,
    /// See [`crate::message::work::PullReply::retry_millis`].
    pub retry_millis: u64,
    /// See [`crate::message::work::PullReply::peers`].
    pub peers: Vec<String>,
    /// See [`crate::message::work::PullReply::receipts`].
    pub receipts: Vec<Signed<Receipt>>,
    /// See [`crate::message::work::PullReply::unpaid`].
    pub unpaid: Vec<Unpaid>,
}

impl Pulled {
    /// Makes the message. `sign` signs the new leases, or fails to, and then there are none.
    #[must_use]
    pub fn into_reply(self, sign: impl FnOnce(NewLeases) -> Option<Leased>) -> PullReply {
        PullReply {
            leased: self.leased.and_then(sign),
            verdicts: self.verdicts,
            ended: self.ended,
            unknown: self.unknown,
            retry_millis: self.retry_millis,
            peers: self.peers,
            receipts: self.receipts,
            unpaid: self.unpaid,
        }
    }
}

/// New leases to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLeases {
    /// The leases.
    pub grant: Grant,
    /// Whether the units' inputs are sent with it.
    pub inline: bool,
    /// What the terminal may read.
    pub read: BlobGrant,
    /// The rate card that the grant names.
    pub rate_card: Signed<RateCard>,
}

/// What happened, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A task was accepted.
    Accepted {
        /// As signed.
        signed: Signed<Task>,
        /// When.
        at: Timestamp,
    },
    /// Program and input are here.
    Arrived(TaskId),
    /// The input was cut.
    Divided {
        /// The task.
        task: TaskId,
        /// How.
        division: Division,
    },
    /// A device reported units.
    Reported {
        /// The task.
        task: TaskId,
        /// The device, and whose it is.
        holder: Holder,
        /// The root of the batch it signed.
        batch: Hash,
        /// The batch.
        signed: Signed<Batch>,
        /// When the first of the units was leased.
        leased_at: Timestamp,
        /// When.
        at: Timestamp,
        /// What it reported.
        votes: Vec<Vote>,
    },
    /// A device could not run a unit.
    Faulted {
        /// The task.
        task: TaskId,
        /// The device.
        device: NodeId,
        /// The unit.
        unit: u32,
        /// Why.
        fault: Fault,
        /// When.
        at: Timestamp,
    },
    /// The outputs were merged and an editor comes next.
    Merged {
        /// The task.
        task: TaskId,
        /// The merged result.
        merged: BlobRef,
    },
    /// The task ended.
    Ended {
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
        /// When.
        at: Timestamp,
    },
    /// A device got its next receipt for a task.
    Receipted {
        /// The task.
        task: TaskId,
        /// The device, and whose it is.
        holder: Holder,
        /// What kind of results it pays.
        validation: Validation,
    },
    /// Nothing more will be paid for a task.
    Settled(TaskId),
    /// The task was forgotten.
    Forgotten(TaskId),
    /// A rate card was published.
    Published(Signed<RateCard>),
    /// A device has shown whose it is.
    Certified(Signed<DeviceCertificate>),
    /// An order was carried out.
    Ordered(PostingId),
}

/// One device's result of one unit, as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VoteParts", into = "VoteParts")]
pub struct Vote {
    /// The unit.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// Its leaf in the batch, from 0.
    pub leaf: u32,
}

/// A vote as it is recorded.
type VoteParts = (u32, Outcome, u64, BlobRef, u32);

impl Vote {
    /// Returns whether both say the same: outcome with exit code, output and fuel, bit for bit.
    fn same(&self, other: &Self) -> bool {
        (self.outcome, self.output, self.fuel) == (other.outcome, other.output, other.fuel)
    }
}

impl From<VoteParts> for Vote {
    fn from((unit, outcome, fuel, output, leaf): VoteParts) -> Self {
        Self {
            unit,
            outcome,
            fuel,
            output,
            leaf,
        }
    }
}

impl From<Vote> for VoteParts {
    fn from(vote: Vote) -> Self {
        (vote.unit, vote.outcome, vote.fuel, vote.output, vote.leaf)
    }
}

/// Why a coordinator's state cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot is damaged.
    #[error("read the snapshot of the coordinator")]
    Snapshot(#[source] DecodeError),
    /// A fact is damaged.
    #[error("read fact {index} of the coordinator's journal")]
    Fact {
        /// Place in the journal after the snapshot.
        index: u64,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// A recorded signature does not hold.
    #[error("verify a recorded statement")]
    Statement(#[source] VerifyError),
    /// A task names a rate card that was never published.
    #[error("find the rate card of task {0}")]
    Card(TaskId),
}

/// The largest fact or snapshot that is read back, in bytes: a division into 10^6 units has 9 MB.
const STATE_BYTES_MAX: usize = 1 << 30;

/// What a snapshot holds.
#[derive(Debug, Serialize, Deserialize)]
struct StateRecord {
    cards: Vec<Signed<RateCard>>,
    certificates: Vec<Signed<DeviceCertificate>>,
    orders: BTreeSet<PostingId>,
    tasks: Vec<TaskRecord>,
}

/// The state of a coordinator.
#[derive(Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    tasks: BTreeMap<TaskId, TaskRun>,
    /// Tasks with units to be leased, in the order in which the next pull looks at them.
    turns: Vec<TaskId>,
    /// Tasks that have ended and are still known, the oldest first.
    ended: BTreeSet<(Timestamp, TaskId)>,
    devices: Devices,
    timers: Timers,
    books: Books,
    /// Lots that will be released or expire.
    lots: Lots,
    cards: Cards,
    /// What devices that earned for an owner have shown, the newest of each.
    certificates: BTreeMap<NodeId, Verified<DeviceCertificate>>,
    /// Postings of the orders that were carried out.
    orders: BTreeSet<PostingId>,
}

impl Coordinator {
    /// Starts without any task. `seed` must be new at each start: grants are named from it.
    #[must_use]
    pub fn new(config: CoordinatorConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            tasks: BTreeMap::new(),
            turns: Vec::new(),
            ended: BTreeSet::new(),
            devices: Devices::new(seed),
            timers: Timers::new(),
            books: Books::default(),
            lots: Lots::default(),
            cards: Cards::default(),
            certificates: BTreeMap::new(),
            orders: BTreeSet::new(),
        }
    }

    /// Starts from what was recorded: a snapshot, if there is one, the facts since, and the books.
    ///
    /// # Errors
    /// [`RestoreError`] if something recorded cannot be read.
    pub fn restore<B: AsRef<[u8]>>(
        config: CoordinatorConfig,
        seed: [u8; 32],
        (snapshot, books): (Option<&[u8]>, Books),
        facts: impl IntoIterator<Item = B>,
    ) -> Result<Self, RestoreError> {
        let mut restored = Self::new(config, seed);
        restored.books = books;
        if let Some(bytes) = snapshot {
            let record =
                codec::from_bytes(bytes, STATE_BYTES_MAX).map_err(RestoreError::Snapshot)?;
            restored.load(record)?;
        }
        for (index, bytes) in (0..).zip(facts) {
            let fact = codec::from_bytes(bytes.as_ref(), STATE_BYTES_MAX)
                .map_err(|source| RestoreError::Fact { index, source })?;
            restored.replay(fact)?;
        }
        restored.lots = Lots::of(&restored.books, &restored.cards);
        Ok(restored)
    }

    fn load(&mut self, record: StateRecord) -> Result<(), RestoreError> {
        for card in record.cards {
            self.replay(Fact::Published(card))?;
        }
        for certificate in record.certificates {
            self.replay(Fact::Certified(certificate))?;
        }
        self.orders = record.orders;
        for task in record.tasks {
            let run = task.restore(&self.config.network);
            let run = run.map_err(RestoreError::Statement)?;
            self.tasks.insert(run.id(), run);
        }
        Ok(())
    }

    fn replay(&mut self, fact: Fact) -> Result<(), RestoreError> {
        let network = &self.config.network;
        match fact {
            Fact::Accepted { signed, at } => {
                let task = signed.verify(network).map_err(RestoreError::Statement)?;
                let card = self.cards.find(task.rate_card);
                let card = card
                    .ok_or_else(|| RestoreError::Card(task.task_id()))?
                    .version;
                let run = TaskRun::new(task, at, card);
                self.tasks.insert(run.id(), run);
            }
            Fact::Published(card) => {
                let card = card.verify(network).map_err(RestoreError::Statement)?;
                self.cards.add(card);
            }
            Fact::Certified(certificate) => {
                let certificate = certificate
                    .verify(network)
                    .map_err(RestoreError::Statement)?;
                self.certificates.insert(certificate.device, certificate);
            }
            fact @ (Fact::Arrived(_)
            | Fact::Divided { .. }
            | Fact::Reported { .. }
            | Fact::Faulted { .. }
            | Fact::Merged { .. }
            | Fact::Ended { .. }
            | Fact::Receipted { .. }
            | Fact::Settled(_)
            | Fact::Forgotten(_)
            | Fact::Ordered(_)) => drop(self.apply(&fact)),
        }
        Ok(())
    }

    /// Returns what a new [`Coordinator`] needs instead of all facts so far.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let certificates = self.certificates.values();
        codec::to_bytes(&StateRecord {
            cards: self.cards.signed().cloned().collect(),
            certificates: certificates.map(|shown| shown.signed().clone()).collect(),
            orders: self.orders.clone(),
            tasks: self.tasks.values().map(TaskRun::record).collect(),
        })
    }

    /// Asks again for whatever was under way when the state was recorded. Called once, after restoring.
    pub fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.publish_rates(now, out);
        self.set_lot_timer();
        let order = |run: &TaskRun| (run.accepted, run.id());
        let mut tasks: Vec<(Timestamp, TaskId)> = self.tasks.values().map(order).collect();
        tasks.sort_unstable();
        for (_, task) in tasks {
            self.enter_stage(task, now, out);
            // The units may all be settled, or one have failed, and the crash was before what follows from it.
            self.after_units(now, task, out);
            self.set_receipt_timer(now, task);
        }
    }

    /// Takes one input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Submitted { question, task } => self.submit(now, question, task, out),
            Input::Arriving { task, bytes } => self.arriving(task, bytes, out),
            Input::Arrived { task, result } => self.arrived(now, task, result, out),
            Input::Divided { task, result } => self.divided(now, task, result, out),
            Input::Pulled {
                question,
                from,
                pull,
                certificate,
                report,
                missing,
            } => {
                let report = report.map(|report| Reported { report, missing });
                let answer = self.pulled(now, (from, certificate), (&pull, report), out);
                out.push(Effect::Answer { question, answer });
            }
            Input::Merged { task, result } => self.merged(now, task, result, out),
            Input::Cancelled { question, task, by } => {
                let answer = self.cancel(now, task, by, out);
                out.push(Effect::Answer { question, answer });
            }
            Input::Ordered { question, order } => {
                let answer = Answer::Ordered(self.carry_out(now, order, out));
                out.push(Effect::Answer { question, answer });
            }
            Input::Gone(node) => self.devices.gone(node),
            Input::DeadlineReached => self.fire_timers(now, out),
        }
    }

    /// Returns when [`Input::DeadlineReached`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Returns the accepted task `id`, for the shell's work on it.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<&Verified<Task>> {
        self.tasks.get(id).map(|run| &run.task)
    }

    /// Returns how the input of task `id` was cut.
    #[must_use]
    pub fn division(&self, id: &TaskId) -> Option<&Division> {
        self.tasks.get(id)?.division()
    }

    /// Returns the units of task `id` that have no output: they were given up, or ended without success.
    #[must_use]
    pub fn skipped(&self, id: &TaskId) -> u32 {
        self.tasks
            .get(id)
            .and_then(TaskRun::units)
            .map_or(0, units::Units::failed_count)
    }

    fn fire_timers(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Expire(grant) => self.expire(now, grant, out),
                Timer::Announce(task) => self.announce(now, task, out),
                Timer::Drop(task) => self.drop_task(now, task, out),
                Timer::Deadline(task) => self.miss_deadline(now, task, out),
                Timer::Receipts(task) => self.pay(now, task, out),
                Timer::Lots => self.turn_lots(now, out),
            }
        }
    }

    /// Changes the state by a fact that is recorded with it.
    fn record(&mut self, fact: Fact, out: &mut Vec<Effect>) -> Decided {
        let decided = self.apply(&fact);
        out.push(Effect::Record(fact));
        decided
    }

    /// Writes an event to the log, and its posting to the books.
    fn append(
        &mut self,
        now: Timestamp,
        event: Event,
        posting: Option<Posting>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(posting) = &posting {
            let posted = self.books.post(now, posting);
            posted.expect("a coordinator posts only what it has looked up in its books");
            self.lots.note(posting, &self.cards);
            self.set_lot_timer();
        }
        out.push(Effect::Append { event, posting });
    }

    /// Changes the state by a fact: the only place where durable state changes, but for what [`Self::replay`] verifies.
    fn apply(&mut self, fact: &Fact) -> Decided {
        let nothing = Decided::default();
        if let Fact::Forgotten(task) = fact {
            self.tasks.remove(task);
        } else if let Fact::Ordered(posting) = fact {
            self.orders.insert(*posting);
        }
        let Some(run) = fact.task().and_then(|task| self.tasks.get_mut(&task)) else {
            return nothing;
        };
        run.version += 1;
        let card = self.cards.version(run.dues.card);
        match fact {
            Fact::Accepted { .. }
            | Fact::Forgotten(_)
            | Fact::Published(_)
            | Fact::Certified(_)
            | Fact::Ordered(_) => {}
            Fact::Arrived(_) => run.stage = Stage::Dividing,
            Fact::Divided { division, .. } => run.start(division.clone(), card),
            Fact::Reported {
                holder,
                batch,
                signed,
                leased_at,
                at,
                votes,
                ..
            } => {
                let ballot = |vote: &Vote| Ballot {
                    holder: *holder,
                    vote: *vote,
                    batch: *batch,
                    leased_at: *leased_at,
                };
                let ballots = votes.iter().map(ballot).collect();
                return run.report((*batch, signed), ballots, (*at, card));
            }
            Fact::Faulted {
                device,
                unit,
                fault,
                at,
                ..
            } => {
                return run.fault((*device, *unit), *fault, (*at, card));
            }
            Fact::Merged { merged, .. } => run.edit(*merged),
            Fact::Ended { ending, at, .. } => {
                let unpaid = run.end(ending.clone(), *at);
                return Decided { unpaid, ..nothing };
            }
            Fact::Receipted {
                holder, validation, ..
            } => {
                run.dues.receipted(*holder, *validation, card);
            }
            Fact::Settled(_) => run.dues.settled = true,
        }
        nothing
    }
}

impl Fact {
    /// Returns the task that the fact changes; none for an acceptance, which makes one.
    const fn task(&self) -> Option<TaskId> {
        match self {
            Self::Accepted { .. } | Self::Published(_) | Self::Certified(_) | Self::Ordered(_) => {
                None
            }
            Self::Arrived(task)
            | Self::Divided { task, .. }
            | Self::Reported { task, .. }
            | Self::Faulted { task, .. }
            | Self::Merged { task, .. }
            | Self::Ended { task, .. }
            | Self::Receipted { task, .. }
            | Self::Settled(task)
            | Self::Forgotten(task) => Some(*task),
        }
    }
}
