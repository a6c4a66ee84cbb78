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

mod agreements;
mod cards;
mod devices;
mod dues;
mod ending;
mod facts;
mod gauges;
mod grants;
mod intake;
mod known;
mod leasing;
mod orders;
mod owed;
mod parcel;
mod receipts;
mod redemptions;
mod registrations;
mod reports;
mod settlements;
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

use crate::account::Holder;
use crate::agreement::Agreement;
use crate::books::{Books, Posting};
use crate::certificate::DeviceCertificate;
use crate::entry::Event;
use crate::id::{BlobId, GrantId, NetworkId, NodeId, PostingId, TaskId};
use crate::message::Refusal;
use crate::message::announce::Offer;
use crate::message::blob::BlobGrant;
use crate::message::customer::TaskStatus;
use crate::message::redeem::RedeemReply;
use crate::message::registry::RegistryReply;
use crate::message::wishes::Unfit;
use crate::message::work::{Grant, Leased, Pull, PullReply, ResultVerdict, Unpaid, VerifiedReport};
use crate::rate_card::{RateCard, Rates};
use crate::receipt::Receipt;
use crate::registration::{Registration, Revocation};
use crate::settlement::Stated;
use crate::signed::{Signed, Verified};
use crate::task::split::UnitTable;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::ProfileId;

pub use agreements::{Decision, DecisionFault};
pub use facts::{Compared, Fact, RestoreError, Vote};
pub use gauges::Gauges;
pub use orders::{Movement, Order, OrderFault};
pub use redemptions::{Redeeming, Reservation};
pub use registrations::{Admission, Totals};
pub use settlements::{MadeSettlement, SettlementRecord};
pub use status::News;

use agreements::Agreements;
use cards::Cards;
use devices::Devices;
use redemptions::Redemptions;
use registrations::Registrations;
use reports::Reported;
use settlements::Settlements;
use task_run::{Decided, TaskRun};
use timers::{Timer, Timers};
use treasury::Lots;

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
    /// How many of 1,000 validated units are leased once more to see who tells the truth, as far as the subsidy can pay
    /// for it. 0 to 1,000.
    pub known_per_mille: u16,
    /// Whose results it takes.
    pub admission: Admission,
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
#[expect(
    clippy::large_enum_variant,
    reason = "an input is moved once, from the shell to the machine"
)]
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
        /// What it shows of itself.
        papers: Papers,
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
    /// The operator decides about a proposed agreement.
    Decided {
        /// To be answered with [`Answer::Decided`].
        question: Question,
        /// Who proposed it.
        app_server: NodeId,
        /// Its number.
        number: u32,
        /// What becomes of it.
        decision: Decision,
    },
    /// An app server asks about agreements, registrations, points or settlements.
    Registry {
        /// To be answered with [`Answer::Registry`], or [`Answer::Points`].
        question: Question,
        /// The app server.
        from: NodeId,
        /// What it asks.
        asked: Registering,
    },
    /// An app server asks about a redemption.
    Redeem {
        /// To be answered with [`Answer::Redeem`].
        question: Question,
        /// The app server.
        from: NodeId,
        /// What it asks.
        asked: Redeeming,
    },
    /// A terminal's connection is gone.
    Gone(NodeId),
    /// The time of [`Coordinator::next_deadline`] has come.
    DeadlineReached,
}

/// What a terminal shows of itself with a pull.
#[derive(Debug, Clone, Default)]
pub struct Papers {
    /// Whose it is.
    pub certificate: Option<Verified<DeviceCertificate>>,
    /// Where it is registered, checked by [`crate::registration::check`].
    pub registration: Option<Verified<Registration>>,
}

/// What an app server asks about agreements, registrations, points and settlements, with statements that hold.
#[derive(Debug, Clone)]
pub enum Registering {
    /// See [`crate::message::registry::RegistryRequest::Agree`].
    Agree(Verified<Agreement>),
    /// See [`crate::message::registry::RegistryRequest::Register`]; each checked by [`crate::registration::check`].
    Register(Vec<Verified<Registration>>),
    /// See [`crate::message::registry::RegistryRequest::Revoke`].
    Revoke(Vec<Verified<Revocation>>),
    /// See [`crate::message::registry::RegistryRequest::Points`].
    Points(Vec<NodeId>),
    /// See [`crate::message::registry::RegistryRequest::Settle`]; from [`crate::settlement::SettleRequest::check`].
    Settle(Box<Stated>),
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
    /// Tell an app server what one of its devices has. If it cannot be told now, later: the newest is enough.
    Tell {
        /// The app server.
        app_server: NodeId,
        /// The device, and who earns with it.
        holder: Holder,
        /// What it has, with all that is appended before this effect.
        totals: Totals,
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
    /// To a decision.
    Decided(Result<(), DecisionFault>),
    /// To an app server that asks about agreements, registrations or settlements.
    Registry(RegistryReply),
    /// To an app server that asks what its devices have: the shell signs statements of it.
    Points(Vec<(Holder, Totals)>),
    /// To an app server that asks about a redemption.
    Redeem(RedeemReply),
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
    /// See [`crate::message::work::PullReply::unfit`].
    pub unfit: Vec<Unfit>,
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
            unfit: self.unfit,
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
    agreements: Agreements,
    registrations: Registrations,
    redemptions: Redemptions,
    settlements: Settlements,
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
            agreements: Agreements::default(),
            registrations: Registrations::default(),
            redemptions: Redemptions::default(),
            settlements: Settlements::default(),
        }
    }

    /// Asks again for whatever was under way when the state was recorded. Called once, after restoring.
    pub fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.publish_rates(now, out);
        self.set_lot_timer();
        self.set_tell_timer(now);
        self.set_reservation_timer();
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
                papers,
                report,
                missing,
            } => {
                let report = report.map(|report| Reported { report, missing });
                let answer = self.pulled(now, (from, papers), (&pull, report), out);
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
            Input::Decided {
                question,
                app_server,
                number,
                decision,
            } => {
                let decided = self.decide(now, (app_server, number), decision, out);
                let answer = Answer::Decided(decided);
                out.push(Effect::Answer { question, answer });
            }
            Input::Registry {
                question,
                from,
                asked,
            } => {
                let answer = self.registry(now, from, asked, out);
                out.push(Effect::Answer { question, answer });
            }
            Input::Redeem {
                question,
                from,
                asked,
            } => {
                let answer = Answer::Redeem(self.redeem(now, from, asked, out));
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

    fn registry(
        &mut self,
        now: Timestamp,
        from: NodeId,
        asked: Registering,
        out: &mut Vec<Effect>,
    ) -> Answer {
        match asked {
            Registering::Agree(agreement) => Answer::Registry(self.propose(from, &agreement, out)),
            Registering::Register(told) => Answer::Registry(self.register(now, from, told, out)),
            Registering::Revoke(told) => Answer::Registry(self.revoke(now, from, told, out)),
            Registering::Points(devices) => Answer::Points(self.points_of(now, from, &devices)),
            Registering::Settle(stated) => {
                Answer::Registry(self.settle_with(now, from, &stated, out))
            }
        }
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
                Timer::Tell => self.tell(now, out),
                Timer::Reservations => self.end_reservations(now, out),
            }
        }
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
            self.registrations.note(posting);
            self.set_tell_timer(now);
        }
        out.push(Effect::Append { event, posting });
    }
}
