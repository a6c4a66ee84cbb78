//! The app server's shell: one task owns the [machine](tally_protocol::app_server), feeds it what happens, commits what
//! it records, and then carries out its other effects in their order.
//!
//! Group commit as the coordinator's: inputs gather while one group of records is written. If the disk does not take a
//! group, the process stops: nothing that follows from it has left.
//!
//! Whoever in this process wants something of the machine holds a [`Desk`]. Questions of other nodes come with signatures
//! that were checked on other threads.

mod desk;
mod enrolling;
pub mod operator;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::cli::{AnswerError, LedgerAnswer, LedgerQuery};
use tally_ledger::store::{Change, Draft, Store};
use tally_protocol::app_server::{
    Answer, AppServer, AppServerConfig, Effect, Fault, Input, Phase, Reply, Request,
};
use tally_protocol::codec;
use tally_protocol::coordinator::Question;
use tally_protocol::id::{NodeId, OrderId};
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest, OrderShown};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::time::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::blobs::{Access, BlobStore};
use crate::clock;
use crate::fault::Point;
use crate::network::{Answer as Reached, Network};
use crate::records::{Records, RecordsError};

pub use desk::{Desk, DeskError};
pub(crate) use enrolling::verified_points;

/// Messages that wait for the app server: more make their senders wait.
pub const MAILBOX_MAX: usize = 1_024;
/// Inputs of one group commit.
const INPUTS_MAX: usize = 256;
/// Questions to one coordinator that are under way: more wait here, since it drops those beyond what a connection takes,
/// which are asked again only after a pause.
const ASKED_MAX: usize = 16;
/// How long a question waits for its turn at a coordinator: less than the machine waits for the answer.
const ROOM_WITHIN: Duration = Duration::from_secs(60);
/// Those who wait until an order is at rest: more are told at once how it is.
const WATCHERS_MAX: usize = 4_096;

/// What the shell is told.
#[derive(Debug)]
pub enum Message {
    /// For the machine.
    Input(Box<Input>),
    /// For the machine, from this process.
    Asked(Box<dyn Asks>, oneshot::Sender<Result<Answer, Fault>>),
    /// A computer asks.
    EnrollAsked(NodeId, Box<EnrollRequest>, Reached<EnrollReply>),
    /// A computer asks, with signatures that hold.
    EnrollChecked(NodeId, Box<dyn Asks>, Reached<EnrollReply>),
    /// A coordinator tells.
    RegistryAsked(NodeId, RegistryRequest, Reached<RegistryReply>),
    /// A coordinator tells, with signatures that hold.
    Told(Box<dyn Asks>, Reached<RegistryReply>),
    /// Somebody in this process looks at the machine.
    Read(Box<dyn Reads>),
    /// Somebody waits until an order is at rest.
    Watch(OrderId, oneshot::Sender<Option<OrderShown>>),
    /// Rows of others in this process, to be written and removed with the next group.
    Keep(Change, oneshot::Sender<()>),
    /// The log.
    Ledger(
        LedgerQuery,
        oneshot::Sender<Result<LedgerAnswer, AnswerError>>,
    ),
    /// End the shell.
    Stop,
}

/// Makes an input of the question by which it will be answered.
pub trait Asks: FnOnce(Question) -> Input + Send {}
impl<T: FnOnce(Question) -> Input + Send> Asks for T {}

impl std::fmt::Debug for dyn Asks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asks")
    }
}

/// Looks at the machine.
pub trait Reads: FnOnce(&AppServer, Timestamp) + Send {}
impl<T: FnOnce(&AppServer, Timestamp) + Send> Reads for T {}

impl std::fmt::Debug for dyn Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reads")
    }
}

/// What an app server needs.
#[derive(Debug)]
pub struct Setup {
    /// What the machine is told.
    pub config: AppServerConfig,
    /// The node's key, for checkpoints of its log.
    pub key: SigningKey,
    /// Journal, log and rows.
    pub store: Store,
    /// User applications.
    pub blobs: BlobStore,
    /// Who may read them: everybody.
    pub access: Access,
    /// Facts after which the journal is replaced by a snapshot.
    pub snapshot_every: u64,
    /// The overlay.
    pub network: Network,
    /// Where the shell's own tasks report to.
    pub mailbox: mpsc::Sender<Message>,
}

/// Where an answer goes.
#[derive(Debug)]
enum Waiting {
    Here(oneshot::Sender<Result<Answer, Fault>>),
    Computer(Reached<EnrollReply>),
    Coordinator(Reached<RegistryReply>),
}

/// The shell.
#[derive(Debug)]
pub struct Shell {
    machine: AppServer,
    key: SigningKey,
    records: Records,
    blobs: BlobStore,
    access: Access,
    network: Network,
    mailbox: mpsc::Sender<Message>,
    asked: u64,
    waiting: BTreeMap<Question, Waiting>,
    watchers: Vec<(OrderId, oneshot::Sender<Option<OrderShown>>)>,
    kept: Vec<(Change, oneshot::Sender<()>)>,
    /// Room for questions that are under way, by coordinator; the machine asks those with an agreement alone.
    lines: BTreeMap<NodeId, Arc<Semaphore>>,
    /// Those who only look, until the inputs that came with them are durable.
    looks: Vec<Message>,
    stopping: bool,
}

impl Shell {
    /// Starts from what the store holds.
    ///
    /// # Errors
    /// [`RecordsError`] if the records cannot be read.
    pub fn start(setup: Setup) -> Result<Self, RecordsError> {
        let (records, recorded) = Records::open(setup.store, setup.snapshot_every)?;
        let snapshot = recorded.snapshot.as_deref();
        let machine = AppServer::restore(setup.config, rand::random(), snapshot, recorded.facts);
        let machine = machine.map_err(RecordsError::restore)?;
        Ok(Self {
            machine,
            key: setup.key,
            records,
            blobs: setup.blobs,
            access: setup.access,
            network: setup.network,
            mailbox: setup.mailbox,
            asked: 0,
            waiting: BTreeMap::new(),
            watchers: Vec::new(),
            kept: Vec::new(),
            lines: BTreeMap::new(),
            looks: Vec::new(),
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
        self.publish_bundles();
        self.carry_out(effects).await?;
        let mut messages = Vec::with_capacity(INPUTS_MAX);
        while !self.stopping {
            tokio::select! {
                count = mailbox.recv_many(&mut messages, INPUTS_MAX) => if count == 0 { break },
                () = clock::sleep_until(self.machine.next_deadline()) => {
                    messages.push(Message::Input(Box::new(Input::DeadlineReached)));
                }
            }
            let mut effects = Vec::new();
            let now = clock::now();
            for message in messages.drain(..) {
                self.take(now, message, &mut effects);
            }
            self.carry_out(effects).await?;
            for message in std::mem::take(&mut self.looks) {
                self.look(now, message);
            }
        }
        Ok(())
    }

    /// Lets somebody look at the machine: only when all that it has taken is durable.
    fn look(&mut self, now: Timestamp, message: Message) {
        match message {
            Message::EnrollAsked(from, request, answer) => {
                self.enroll_asked(now, from, *request, answer);
            }
            Message::Read(reads) => reads(&self.machine, now),
            Message::Watch(order, reply) => self.watch(order, reply),
            Message::Input(_)
            | Message::Asked(..)
            | Message::EnrollChecked(..)
            | Message::RegistryAsked(..)
            | Message::Told(..)
            | Message::Keep(..)
            | Message::Ledger(..)
            | Message::Stop => {}
        }
    }

    fn take(&mut self, now: Timestamp, message: Message, effects: &mut Vec<Effect>) {
        let (asks, waiting) = match message {
            Message::Input(input) => return self.machine.handle(now, *input, effects),
            Message::Asked(asks, reply) => (asks, Waiting::Here(reply)),
            Message::EnrollAsked(..) | Message::Read(_) | Message::Watch(..) => {
                self.looks.push(message);
                return;
            }
            Message::EnrollChecked(from, asks, answer) => {
                tracing::debug!(%from, "a computer asks");
                (asks, Waiting::Computer(answer))
            }
            Message::RegistryAsked(from, request, answer) => {
                return self.registry_asked(from, request, answer);
            }
            Message::Told(asks, answer) => (asks, Waiting::Coordinator(answer)),
            Message::Keep(rows, reply) => return self.kept.push((rows, reply)),
            Message::Ledger(query, reply) => {
                return self.records.answer(self.key.clone(), query, reply);
            }
            Message::Stop => {
                self.stopping = true;
                return;
            }
        };
        self.asked += 1;
        let question = Question(self.asked);
        self.waiting.insert(question, waiting);
        self.machine.handle(now, asks(question), effects);
    }

    /// Commits the records among the effects, then carries out the others in their order.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), RecordsError> {
        let mut change = change_of(clock::now(), &effects);
        let mut written = Vec::new();
        for (rows, reply) in self.kept.drain(..) {
            change.puts.extend(rows.puts);
            change.removals.extend(rows.removals);
            written.push(reply);
        }
        if !change.is_empty() {
            let points: Vec<(Point, Point)> = effects.iter().filter_map(points_around).collect();
            let committed = self.records.commit(change, &points).await?;
            let machine = &self.machine;
            self.records
                .shorten(committed, || machine.snapshot())
                .await?;
        }
        for reply in written {
            let _ = reply.send(());
        }
        for effect in effects {
            self.release(effect);
        }
        Ok(())
    }

    fn release(&mut self, effect: Effect) {
        match effect {
            Effect::Record(tally_protocol::app_server::Fact::Product(product)) => {
                self.access.publish(product.bundle.id);
            }
            Effect::Record(_) | Effect::Append { .. } | Effect::Publish(_) => {}
            Effect::Ask {
                question,
                coordinator,
                request,
            } => self.ask(question, coordinator, request),
            Effect::Answer { question, answer } => self.answer(question, answer),
            Effect::Changed(order) => self.tell_watchers(order),
        }
    }

    /// Lets everybody read the applications of the catalogue.
    fn publish_bundles(&self) {
        for product in self.machine.products() {
            self.access.publish(product.bundle.id);
            if !self.blobs.has(product.bundle.id) {
                tracing::error!(
                    product = %product.id,
                    "the application is not here: offer the product again with its file"
                );
            }
        }
    }

    fn ask(&mut self, question: Question, coordinator: NodeId, request: Request) {
        let (network, mailbox) = (self.network.clone(), self.mailbox.clone());
        let line = self.lines.entry(coordinator);
        let line = Arc::clone(line.or_insert_with(|| Arc::new(Semaphore::new(ASKED_MAX))));
        tokio::spawn(async move {
            let room = tokio::time::timeout(ROOM_WITHIN, line.acquire_owned()).await;
            if room.is_err() {
                // Asked anew after a pause: by then it may be another question.
                let failed = Message::Input(Box::new(Input::Failed(question)));
                let _ = mailbox.send(failed).await;
                return;
            }
            let reply = match request {
                Request::Registry(request) => {
                    let reply = network.ask_registry(coordinator, request).await;
                    reply.map(Reply::Registry)
                }
                Request::Redeem(request) => {
                    let reply = network.ask_redeem(coordinator, request).await;
                    reply.map(Reply::Redeem)
                }
            };
            let input = match reply {
                Ok(reply) => Input::Answered {
                    question,
                    reply: Box::new(reply),
                },
                Err(error) => {
                    tracing::debug!(%coordinator, "a coordinator does not answer: {error}");
                    Input::Failed(question)
                }
            };
            let _ = mailbox.send(Message::Input(Box::new(input))).await;
        });
    }

    fn answer(&mut self, question: Question, answer: Result<Answer, Fault>) {
        match self.waiting.remove(&question) {
            Some(Waiting::Here(reply)) => drop(reply.send(answer)),
            Some(Waiting::Computer(reply)) => reply.send(self.enroll_reply(answer)),
            Some(Waiting::Coordinator(reply)) => reply.send(RegistryReply::Heard),
            None => {}
        }
    }

    fn watch(&mut self, order: OrderId, reply: oneshot::Sender<Option<OrderShown>>) {
        self.watchers.retain(|(_, watcher)| !watcher.is_closed());
        let shown = self.shown(order);
        let rests = shown.as_ref().is_none_or(is_at_rest);
        if rests || self.watchers.len() >= WATCHERS_MAX {
            let _ = reply.send(shown);
        } else {
            self.watchers.push((order, reply));
        }
    }

    fn tell_watchers(&mut self, order: OrderId) {
        let shown = self.shown(order);
        if shown.as_ref().is_some_and(|shown| !is_at_rest(shown)) {
            return;
        }
        for (_, watcher) in self.watchers.extract_if(.., |(of, _)| *of == order) {
            let _ = watcher.send(shown.clone());
        }
    }

    fn shown(&self, order: OrderId) -> Option<OrderShown> {
        self.machine.order(order).map(|order| order.shown())
    }
}

/// Returns whether nothing happens to an order before somebody does something.
fn is_at_rest(order: &OrderShown) -> bool {
    match order.status.phase {
        Phase::Open | Phase::Posted | Phase::Fulfilled | Phase::Void | Phase::Refunded => true,
        Phase::Reserving | Phase::Decided | Phase::Paid => false,
    }
}

/// Returns the fault points around the commit of an effect.
fn points_around(effect: &Effect) -> Option<(Point, Point)> {
    match effect {
        Effect::Record(fact) => Point::around_fact(fact),
        Effect::Append { event, .. } => Point::around(event),
        Effect::Ask { .. } | Effect::Answer { .. } | Effect::Changed(_) | Effect::Publish(_) => {
            None
        }
    }
}

/// Gathers everything durable of the effects into one change.
fn change_of(at: Timestamp, effects: &[Effect]) -> Change {
    let mut change = Change::default();
    for effect in effects {
        match effect {
            Effect::Record(fact) => change.facts.push(codec::to_bytes(fact)),
            Effect::Append { event, posting } => change.events.push(Draft {
                at,
                event: event.clone(),
                posting: posting.clone(),
            }),
            Effect::Ask { .. }
            | Effect::Answer { .. }
            | Effect::Changed(_)
            | Effect::Publish(_) => {}
        }
    }
    change
}
