//! The coordinator's shell: one task owns the [machine](tally_protocol::coordinator), feeds it what happens, commits
//! what it records, and then carries out its other effects in their order.
//!
//! Group commit: while one group of records is being written, inputs gather in the mailbox; the next turn takes
//! up to `INPUTS_MAX` of them and commits their records at once. If the disk does not take a group, the process
//! stops: nothing that follows from it has left.

mod contents;
pub(crate) mod division;
mod intake;
mod log;
mod merging;
mod orders;
mod partners;
mod pulls;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tally_ledger::cli::{AnswerError, LedgerAnswer, LedgerQuery};
use tally_ledger::store::{Change, Draft, ReadError, Row as StoredRow, Store};
use tally_protocol::account::{Holder, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::codec;
use tally_protocol::coordinator::{
    Answer as RoleAnswer, Coordinator, CoordinatorConfig, Decision, DecisionFault, Effect, Fact,
    Input, Movement, Order, OrderFault, Papers, Question, Row,
};
use tally_protocol::entry::{Ending, Event};
use tally_protocol::id::{BlobId, GrantId, NodeId, PostingId, ReceiptId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest, TaskStatus, TaskSummary};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::work::{Pull, VerifiedReport, WorkReply, WorkRequest};
use tally_protocol::settlement::Settlement;
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_blocking};

use crate::blobs::{Access, BlobStore};
use crate::clock;
use crate::error::chain;
use crate::fault::{self, Point};
use crate::network::{Answer, Network};
use crate::records::{Records, RecordsError};
use crate::terminal;
use orders::Ordered;
use partners::{PartnerAnswer, Untold};
pub use partners::{PartnerAsked, PartnerChecked};
use watchers::Watchers;

/// Messages that wait for the coordinator: more make their senders wait.
pub const MAILBOX_MAX: usize = 1_024;
/// Inputs of one group commit.
const INPUTS_MAX: usize = 256;
/// What the shell is told.
#[derive(Debug)]
pub enum Message {
    /// For the machine.
    Input(Box<Input>),
    /// A customer asks.
    Asked {
        /// The customer.
        from: NodeId,
        /// What.
        request: CustomerRequest,
        /// Where the answer goes.
        answer: Answer<CustomerReply>,
    },
    /// A task whose signature holds.
    Submitted {
        /// The task.
        task: Box<Verified<tally_protocol::task::Task>>,
        /// Where the answer goes.
        answer: Answer<CustomerReply>,
    },
    /// A terminal pulls; nothing of its report is checked yet.
    Pull {
        /// The terminal.
        from: NodeId,
        /// What it asks.
        pull: Box<Pull>,
        /// Where the answer goes.
        answer: Answer<WorkReply>,
    },
    /// A pull whose report is checked.
    Checked(Box<CheckedPull>),
    /// A pull whose report is checked and whose outputs are here, but for those that are missing.
    Complete(Box<CheckedPull>, BTreeSet<(GrantId, u32)>),
    /// An app server asks; nothing is checked yet.
    PartnerAsked(NodeId, PartnerAsked),
    /// An app server asks with signatures that hold.
    PartnerChecked(NodeId, PartnerChecked),
    /// An app server was told of points, but for these holders.
    Told(NodeId, Vec<Holder>),
    /// Somebody asks about the log.
    LogAsked(LogRequest, Answer<LogReply>),
    /// The operator asks.
    Operator(Operator),
    /// This node is a terminal too, to be nudged here.
    Beside(mpsc::Sender<terminal::Message>),
}

impl Message {
    /// Makes a message for the machine.
    #[must_use]
    pub fn input(input: Input) -> Self {
        Self::Input(Box::new(input))
    }
}

/// A pull on its way to the machine.
#[derive(Debug)]
pub struct CheckedPull {
    from: NodeId,
    pull: Pull,
    papers: Papers,
    report: Option<VerifiedReport>,
    answer: Answer<WorkReply>,
}

/// What the operator asks.
#[derive(Debug)]
pub enum Operator {
    /// All tasks.
    List(oneshot::Sender<Vec<TaskSummary>>),
    /// One task.
    Status(TaskId, oneshot::Sender<Option<TaskStatus>>),
    /// Stop a task.
    Cancel(TaskId, oneshot::Sender<Option<TaskStatus>>),
    /// Move money.
    Move(
        Movement,
        Money,
        String,
        oneshot::Sender<Result<PostingId, OrderFault>>,
    ),
    /// All proposed agreements that wait, and all that were made.
    Agreements(oneshot::Sender<Partners>),
    /// Decide about a proposed agreement.
    Decide(
        NodeId,
        u32,
        Decision,
        oneshot::Sender<Result<(), DecisionFault>>,
    ),
    /// A settlement with an app server was paid.
    PaySettlement(
        NodeId,
        u32,
        String,
        oneshot::Sender<Result<PostingId, OrderFault>>,
    ),
    /// Take a receipt back, for this reason.
    ClawBack(
        ReceiptId,
        String,
        oneshot::Sender<Result<PostingId, ClawBackError>>,
    ),
    /// The log.
    Ledger(
        LedgerQuery,
        oneshot::Sender<Result<LedgerAnswer, AnswerError>>,
    ),
    /// End the shell.
    Stop,
}

/// Agreements with app servers, for the operator.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Partners {
    /// Proposed, and not decided.
    pub proposed: Vec<Agreement>,
    /// Made; the one with the highest number that holds now is in force.
    pub made: Vec<Agreement>,
    /// Registrations that are kept.
    pub registrations: usize,
    /// Settlements that are not paid, and of each app server the newest; with whether it is still to be paid.
    pub settlements: Vec<(Settlement, bool)>,
}

/// Why a receipt was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum ClawBackError {
    /// There is none with this id.
    #[error("find receipt {0}: the log has none")]
    Unknown(ReceiptId),
    /// The log could not be read.
    #[error("read the receipt")]
    Read(#[from] ReadError),
    /// It is not possible.
    #[error(transparent)]
    Order(#[from] OrderFault),
}

/// What a coordinator needs.
#[derive(Debug)]
pub struct Setup {
    /// What the machine is told.
    pub config: CoordinatorConfig,
    /// The node's key.
    pub key: SigningKey,
    /// Journal, log and rows.
    pub store: Store,
    /// Contents.
    pub blobs: BlobStore,
    /// Who may read them.
    pub access: Access,
    /// A folder for files on their way.
    pub scratch: PathBuf,
    /// Facts after which the journal is replaced by a snapshot.
    pub snapshot_every: u64,
    /// The overlay.
    pub network: Network,
    /// Where the shell's own tasks report to.
    pub mailbox: mpsc::Sender<Message>,
}

/// The shell.
#[derive(Debug)]
pub struct Shell {
    parts: Parts,
    machine: Coordinator,
    records: Records,
    asked: u64,
    customers: BTreeMap<Question, Answer<CustomerReply>>,
    operators: BTreeMap<Question, oneshot::Sender<Option<TaskStatus>>>,
    orders: BTreeMap<Question, Ordered>,
    pulls: BTreeMap<Question, Answer<WorkReply>>,
    partners: BTreeMap<Question, PartnerAnswer>,
    decisions: BTreeMap<Question, oneshot::Sender<Result<(), DecisionFault>>>,
    untold: Untold,
    watchers: Watchers,
    fetching: BTreeMap<TaskId, AbortHandle>,
    head: log::Head,
    /// Rows to be written with the next group beside those that the machine asks for.
    rows: Vec<StoredRow>,
    /// Contents to be removed once it is durable that their task is forgotten.
    forgotten: Vec<BlobId>,
    /// The terminal of this node.
    beside: Option<mpsc::Sender<terminal::Message>>,
    stopping: bool,
}

/// What the shell's own tasks share with it.
#[derive(Debug, Clone)]
struct Parts {
    me: NodeId,
    key: SigningKey,
    network: Network,
    blobs: BlobStore,
    access: Access,
    scratch: PathBuf,
    mailbox: mpsc::Sender<Message>,
}

impl Shell {
    /// Starts from what the store holds.
    ///
    /// # Errors
    /// [`RecordsError`] if the records cannot be read.
    pub fn start(setup: Setup) -> Result<Self, RecordsError> {
        let Setup {
            config,
            key,
            store,
            blobs,
            access,
            scratch,
            snapshot_every,
            network,
            mailbox,
        } = setup;
        let me = config.me;
        let (books, head) = (store.books()?, log::Head::new(store.head()?.head()));
        let (records, recorded) = Records::open(store, snapshot_every)?;
        let state = (recorded.snapshot.as_deref(), books);
        let machine = Coordinator::restore(config, rand::random(), state, recorded.facts);
        let machine = machine.map_err(RecordsError::restore)?;
        Ok(Self {
            parts: Parts {
                me,
                key,
                network,
                blobs,
                access,
                scratch,
                mailbox,
            },
            machine,
            records,
            asked: 0,
            customers: BTreeMap::new(),
            operators: BTreeMap::new(),
            orders: BTreeMap::new(),
            pulls: BTreeMap::new(),
            partners: BTreeMap::new(),
            decisions: BTreeMap::new(),
            untold: Untold::default(),
            watchers: Watchers::default(),
            fetching: BTreeMap::new(),
            head,
            rows: Vec::new(),
            forgotten: Vec::new(),
            beside: None,
            stopping: false,
        })
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// [`RecordsError::Commit`] if a group was not written: the process must stop.
    pub async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) -> Result<(), RecordsError> {
        let mut effects = Vec::new();
        self.machine.resume(clock::now(), &mut effects);
        self.allow_results();
        self.carry_out(effects).await?;
        let mut messages = Vec::with_capacity(INPUTS_MAX);
        while !self.stopping {
            tokio::select! {
                count = mailbox.recv_many(&mut messages, INPUTS_MAX) => if count == 0 { break },
                () = clock::sleep_until(self.machine.next_deadline()) => {
                    messages.push(Message::input(Input::DeadlineReached));
                }
                () = self.watchers.due() => {}
                () = clock::sleep_until(self.head.due()) => {}
                () = clock::sleep_until(self.untold.due()) => {}
            }
            let mut effects = Vec::new();
            let now = clock::now();
            for message in messages.drain(..) {
                self.take(now, message, &mut effects);
            }
            self.carry_out(effects).await?;
            self.watchers.answer_due(clock::now(), &self.machine);
            self.tell_head();
            self.tell_points();
        }
        Ok(())
    }

    /// Lets customers read the results that are here.
    fn allow_results(&self) {
        for summary in self.machine.list(self.parts.me) {
            let status = self
                .machine
                .status(clock::now(), &summary.task, self.parts.me);
            let result = status.and_then(|status| status.result);
            if let (Some(result), Some(task)) = (result, self.machine.task(&summary.task)) {
                self.parts.access.allow_reader(result.id, task.customer);
            }
        }
    }

    fn question(&mut self) -> Question {
        self.asked += 1;
        Question(self.asked)
    }

    fn take(&mut self, now: Timestamp, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Input(input) => {
                if let Input::Arrived { task, .. } = &*input {
                    self.fetching.remove(task);
                }
                self.pass_points(&input);
                self.machine.handle(now, *input, effects);
            }
            Message::Asked {
                from,
                request,
                answer,
            } => self.asked(now, (from, request), answer, effects),
            Message::Submitted { task, answer } => {
                fault::pass(Point::SubmissionHeard);
                let question = self.question();
                self.customers.insert(question, answer);
                self.machine.handle(
                    now,
                    Input::Submitted {
                        question,
                        task: *task,
                    },
                    effects,
                );
            }
            Message::Pull { from, pull, answer } => self.check_pull(from, *pull, answer),
            Message::Checked(pull) => self.complete_pull(now, pull, effects),
            Message::Complete(pull, missing) => self.pulled(now, *pull, missing, effects),
            Message::PartnerAsked(from, asked) => self.check_partner(from, asked),
            Message::PartnerChecked(from, checked) => {
                let input = self.partner_input(from, checked);
                self.machine.handle(now, input, effects);
            }
            Message::Told(app_server, missed) => self.told(now, app_server, missed),
            Message::LogAsked(request, answer) => self.answer_log(request, answer),
            Message::Operator(operator) => self.operator(now, operator, effects),
            Message::Beside(terminal) => self.beside = Some(terminal),
        }
    }

    fn pass_points(&self, input: &Input) {
        match input {
            Input::Arrived { .. } => fault::pass(Point::InputArrived),
            Input::Divided { .. } => fault::pass(Point::InputDivided),
            Input::Merged { .. } => fault::pass(Point::OutputsMerged),
            Input::Submitted { .. }
            | Input::Arriving { .. }
            | Input::Pulled { .. }
            | Input::Cancelled { .. }
            | Input::Ordered { .. }
            | Input::Decided { .. }
            | Input::Registry { .. }
            | Input::Redeem { .. }
            | Input::Gone(_)
            | Input::DeadlineReached => {}
        }
    }

    fn operator(&mut self, now: Timestamp, operator: Operator, effects: &mut Vec<Effect>) {
        match operator {
            Operator::List(reply) => drop(reply.send(self.machine.list(self.parts.me))),
            Operator::Status(task, reply) => {
                drop(reply.send(self.machine.status(now, &task, self.parts.me)))
            }
            Operator::Cancel(task, reply) => {
                let question = self.question();
                self.operators.insert(question, reply);
                let by = self.parts.me;
                self.machine
                    .handle(now, Input::Cancelled { question, task, by }, effects);
            }
            Operator::Move(movement, money, reference, reply) => {
                let order = Order::Move {
                    movement,
                    money,
                    reference,
                };
                let reply = Ordered::Moved(reply);
                self.order(now, order, reply, effects);
            }
            Operator::Agreements(reply) => drop(reply.send(self.agreements())),
            Operator::Decide(app_server, number, decision, reply) => {
                let question = self.question();
                self.decisions.insert(question, reply);
                let input = Input::Decided {
                    question,
                    app_server,
                    number,
                    decision,
                };
                self.machine.handle(now, input, effects);
            }
            Operator::PaySettlement(app_server, number, reference, reply) => {
                let order = Order::PaySettlement {
                    app_server,
                    number,
                    reference,
                };
                self.order(now, order, Ordered::Moved(reply), effects);
            }
            Operator::ClawBack(receipt, reason, reply) => {
                match self.find_receipt(receipt, reason) {
                    Ok(order) => self.order(now, order, Ordered::ClawedBack(reply), effects),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Operator::Ledger(query, reply) => {
                self.records.answer(self.parts.key.clone(), query, reply);
            }
            Operator::Stop => self.stopping = true,
        }
    }

    fn agreements(&self) -> Partners {
        let proposed = self.machine.proposals().map(|of| of.value().clone());
        let made = self.machine.agreements().map(|pair| pair.value().clone());
        let settlements = self.machine.settlements();
        let settlements =
            settlements.map(|made| (made.pair.value().clone(), made.unpaid.is_some()));
        Partners {
            settlements: settlements.collect(),
            proposed: proposed.collect(),
            made: made.collect(),
            registrations: self.machine.registered(),
        }
    }

    /// Commits the records among the effects, then carries out the others in their order.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RecordsError> {
        let change = self.change_of(&effects)?;
        if !change.is_empty() {
            let events = change.events.iter().map(|draft| &draft.event);
            let points: Vec<(Point, Point)> = events.filter_map(Point::around).collect();
            let committed = self.records.commit(change, &points).await?;
            self.head.grown(&committed);
            let machine = &self.machine;
            self.records
                .shorten(committed, || machine.snapshot())
                .await?;
        }
        for effect in effects {
            self.release(effect);
        }
        Ok(())
    }

    /// Gathers everything durable of the effects into one change.
    fn change_of(&mut self, effects: &[Effect]) -> Result<Change, RecordsError> {
        let mut change = Change {
            puts: std::mem::take(&mut self.rows),
            ..Change::default()
        };
        let now = clock::now();
        let mut outputs = contents::Outputs::default();
        for effect in effects {
            match effect {
                Effect::Record(fact) => {
                    change.facts.push(codec::to_bytes(fact));
                    change.puts.extend(contents::pins_of(fact));
                }
                Effect::Append { event, posting } => {
                    if let Event::TaskAccepted { task, .. } = event {
                        let signed = self.machine.task(task);
                        change.puts.extend(
                            signed
                                .into_iter()
                                .flat_map(|signed| contents::pins_of_task(task, signed)),
                        );
                    }
                    change.events.push(Draft {
                        at: now,
                        event: event.clone(),
                        posting: posting.clone(),
                    });
                }
                Effect::Keep {
                    task,
                    row: Row::Unit { unit, output },
                } => outputs.agree(task, *unit, output),
                Effect::Keep {
                    task,
                    row: Row::Output { id, content },
                } => outputs.vote(task, id, content),
                Effect::Forget(task) => {
                    let forgotten = contents::forget(self.records.store(), task)?;
                    change.removals.extend(forgotten.rows);
                    self.forgotten.extend(forgotten.blobs);
                }
                Effect::Answer { .. }
                | Effect::Nudge { .. }
                | Effect::Tell { .. }
                | Effect::Announce(_)
                | Effect::Fetch(_)
                | Effect::Divide(_)
                | Effect::Merge(_)
                | Effect::Edit { .. }
                | Effect::Changed(_) => {}
            }
        }
        change.puts.extend(outputs.into_rows());
        Ok(change)
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Record(fact) => self.recorded(&fact),
            Effect::Append { .. } | Effect::Keep { .. } => {}
            Effect::Forget(_) => self.remove_forgotten(),
            Effect::Answer { question, answer } => self.answer(question, answer),
            Effect::Nudge { to, task } => self.nudge(to, task),
            Effect::Tell {
                app_server, holder, ..
            } => self.untold.note(app_server, holder),
            Effect::Announce(offer) => self.announce(offer),
            Effect::Fetch(task) => self.fetch(task),
            Effect::Divide(task) => self.divide(task),
            Effect::Merge(task) => self.merge(task),
            Effect::Edit { task, merged } => self.edit(task, merged),
            Effect::Changed(task) => self.watchers.changed(clock::now(), task, &self.machine),
        }
    }

    /// Removes the contents that no task needs any more.
    fn remove_forgotten(&mut self) {
        let (blobs, parts) = (std::mem::take(&mut self.forgotten), self.parts.clone());
        spawn_blocking(move || {
            for blob in blobs {
                parts.access.forget(blob);
                if let Err(error) = parts.blobs.remove(blob) {
                    tracing::warn!(?blob, "cannot remove a content: {}", chain(&error));
                }
            }
        });
    }

    fn recorded(&mut self, fact: &Fact) {
        let Fact::Ended { task, ending, .. } = fact else {
            return;
        };
        if let Some(fetching) = self.fetching.remove(task) {
            fetching.abort();
        }
        if let (Ending::Done(result), Some(signed)) = (ending, self.machine.task(task)) {
            self.parts.access.allow_reader(result.id, signed.customer);
        }
        tracing::info!(task = %task.short(), ?ending, "task ended");
    }

    fn answer(&mut self, question: Question, answer: RoleAnswer) {
        if let Some(reply) = self.customers.remove(&question) {
            match answer {
                RoleAnswer::Status(status) => reply.send(CustomerReply::Status(status)),
                RoleAnswer::Refused(refusal) => reply.send(CustomerReply::Refused(refusal)),
                RoleAnswer::Pulled(_)
                | RoleAnswer::Ordered(_)
                | RoleAnswer::Decided(_)
                | RoleAnswer::Registry(_)
                | RoleAnswer::Points(_)
                | RoleAnswer::Redeem(_) => reply.send(CustomerReply::Refused(Refusal::Malformed)),
            }
        } else if let Some(reply) = self.operators.remove(&question) {
            let status = if let RoleAnswer::Status(status) = answer {
                Some(*status)
            } else {
                None
            };
            let _ = reply.send(status);
        } else if let Some(reply) = self.orders.remove(&question) {
            if let RoleAnswer::Ordered(result) = answer {
                reply.send(result);
            }
        } else if let Some(reply) = self.pulls.remove(&question) {
            self.answer_pull(answer, reply);
        } else if let Some(reply) = self.partners.remove(&question) {
            self.answer_partner(answer, reply);
        } else if let Some(reply) = self.decisions.remove(&question)
            && let RoleAnswer::Decided(decided) = answer
        {
            let _ = reply.send(decided);
        }
    }

    fn nudge(&self, to: NodeId, task: TaskId) {
        let parts = self.parts.clone();
        if to == parts.me {
            if let Some(terminal) = &self.beside {
                // A terminal whose mailbox is full has work.
                let _ = terminal.try_send(terminal::nudge(to, task));
            }
            return;
        }
        tokio::spawn(async move {
            if let Err(error) = parts.network.ask_work(to, WorkRequest::Nudge(task)).await {
                tracing::debug!(terminal = ?to, "cannot nudge: {error}");
            }
        });
    }

    fn announce(&self, mut offer: tally_protocol::message::announce::Offer) {
        use tally_protocol::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX};
        let parts = self.parts.clone();
        tokio::spawn(async move {
            let addresses = parts
                .network
                .addresses()
                .await
                .into_iter()
                .map(|address| address.to_string());
            let fitting = addresses.filter(|address| address.len() <= ADDRESS_BYTES_MAX);
            offer.addresses = fitting.take(ADDRESSES_MAX).collect();
            let offer = Verified::sign(offer, parts.network.network(), &parts.key);
            if let Err(error) = parts.network.publish_offer(offer.signed().clone()).await {
                tracing::debug!("cannot gossip an offer: {error}");
            }
        });
    }
}

/// How long an input's progress is not told again.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
