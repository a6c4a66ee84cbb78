//! An app server: the driver of its role machine over a real journal and log, on a simulated disk.
//!
//! As with a coordinator, inputs gather while a group of records is written; the group is durable before any effect
//! that follows from it leaves, and before anybody is told how an order is. A crash takes everything but the disk, and of
//! the disk any part of what was not synced.

mod asked;
mod notes;
mod operator;
mod release;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::store::{Change, Draft, Identity, Store};
use tally_protocol::app_server::{
    AppServer, AppServerConfig, DiscountOffer, Effect, Input, Product, Reply,
};
use tally_protocol::codec;
use tally_protocol::coordinator::Question;
use tally_protocol::id::NodeId;
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;

use crate::chance::Chance;
use crate::conduct::Conduct;
use crate::disk::Disk;
use crate::happening::{Happening, Mark};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::shop::ShopRequest;
use crate::stage::{Body, Clock, Envelope, Stage};
use crate::world::{Crash, Loss};
use crate::wrap::AppServerWrap;
pub(crate) use operator::Duty;
use operator::Operator;

/// Inputs of one group commit, as of a coordinator.
const INPUTS_MAX: usize = 256;
/// Time that an input takes of the processor.
const INPUT_COST: Duration = Duration::from_micros(30);
/// After this it is looked again whether a group was written.
const NEXT_LOOK: Duration = Duration::from_millis(1);
/// Writes and syncs of the disk in one commit, about.
const COMMIT_STEPS: u64 = 24;
/// How often a status list is issued.
const STATUS_EVERY: Duration = Duration::from_secs(3_600);

/// What an app server is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) key: SigningKey,
    /// What it issues with, and what certifies that.
    pub(crate) issuer: (SigningKey, Verified<IssuerCertificate>),
    pub(crate) clock: Clock,
    /// Median time of a commit.
    pub(crate) commit: Duration,
    pub(crate) snapshot_every: u64,
    /// How long an order waits for the user's part.
    pub(crate) pay_within: Duration,
    /// When it crashes beside what the world lets happen to it.
    pub(crate) crash: Option<Crash>,
    pub(crate) product: Product,
    pub(crate) discount: DiscountOffer,
    /// How often some computer is not registered any more.
    pub(crate) revoke_every: Option<Duration>,
    /// How often it settles with each coordinator.
    pub(crate) settle_every: Duration,
}

/// Something within an app server.
#[derive(Debug)]
pub(crate) enum Within {
    /// A deadline of the machine may have come.
    Wake,
    /// Inputs wait.
    Turn,
    /// The group of records has reached the disk.
    Committed,
    /// The operator wants this done.
    Duty(usize),
    /// The operator ends the registration of some computer.
    Revoke,
    /// The operator states what coordinators owe.
    Settle,
    /// The operator looks what was paid.
    Pay,
    /// A question that waits for the group that is being written.
    Asked(Peer, u64, Box<ShopRequest>),
    /// Time to act on its own.
    Act,
}

/// An app server of the world.
#[derive(Debug)]
pub(crate) struct AppServerNode {
    pub(crate) peer: Peer,
    pub(crate) id: NodeId,
    setup: Setup,
    conduct: Box<dyn Conduct>,
    wrap: Box<dyn AppServerWrap>,
    chance: Chance,
    disk: Disk,
    operator: Operator,
    up: Option<Up>,
    /// Groups of records that were ready for the disk so far.
    groups: u64,
    /// Whether its power is gone, as was planned, and nobody has noticed it yet.
    failed: bool,
    /// A group that was being written when it crashed, and the facts that were on the disk before.
    torn: Option<(Group, u64)>,
}

/// What an app server has while it runs.
#[derive(Debug)]
struct Up {
    machine: AppServer,
    store: Store,
    wake: Option<Moment>,
    inbox: VecDeque<Input>,
    /// Whether a turn is planned, or a group is being written.
    busy: bool,
    writing: Option<Group>,
    asked: u64,
    /// Who waits for an answer.
    questions: BTreeMap<Question, Asker>,
    /// What coordinators were asked.
    asks: BTreeMap<u64, Question>,
    /// What it has asked of its own accord, against the rules.
    cheats: BTreeMap<u64, (Peer, &'static str)>,
    snapshot_at: u64,
    /// Facts on the disk.
    journal_end: u64,
}

/// Records on their way to the disk, and what leaves when they are there.
#[derive(Debug)]
struct Group {
    change: Change,
    effects: Vec<Effect>,
}

/// Who asked.
#[derive(Debug, Clone)]
enum Asker {
    /// A user or a shop, with the name of the question; a shop with what it wants to use.
    Peer(Peer, u64, Option<Box<asked::Using>>),
    /// A coordinator that tells of points.
    Partner(Peer, u64),
    /// The operator, for one of its duties.
    Operator(Option<usize>),
}

impl AppServerNode {
    pub(crate) fn new(
        peer: Peer,
        setup: Setup,
        (conduct, wrap): (Box<dyn Conduct>, Box<dyn AppServerWrap>),
        seed: u64,
    ) -> Self {
        Self {
            peer,
            id: NodeId::from_bytes(setup.key.verifying_key().to_bytes()),
            setup,
            conduct,
            wrap,
            chance: Chance::new(seed, "app server", u64::from(peer.0)),
            disk: Disk::default(),
            operator: Operator::default(),
            up: None,
            groups: 0,
            failed: false,
            torn: None,
        }
    }

    /// Returns how many groups of records were ready for the disk so far.
    pub(crate) const fn groups(&self) -> u64 {
        self.groups
    }

    /// Returns whether its power is gone, as was planned.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Returns the machine, if the app server runs.
    pub(crate) fn machine(&self) -> Option<&AppServer> {
        self.up.as_ref().map(|up| &up.machine)
    }

    /// Returns the store, if the app server runs.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.up.as_ref().map(|up| &up.store)
    }

    /// Returns whether nothing is under way with coordinators.
    pub(crate) fn is_quiet(&self) -> bool {
        self.up
            .as_ref()
            .is_some_and(|up| up.machine.errands() == 0 && !up.busy)
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, stage: &mut Stage) {
        stage.start(self.peer);
        let identity = Identity {
            network: stage.network.clone(),
            node: self.id,
        };
        let now = self.setup.clock.read(stage.now);
        let read = "a store that opens can be read";
        let opened = Store::on_backend(self.disk.clone(), &identity, now);
        let store = opened.expect("a store opens after any crash");
        let loaded = store.load().expect(read);
        let snapshot = loaded.snapshot.as_ref();
        let facts: Result<Vec<Vec<u8>>, _> = loaded.facts.collect();
        let (config, seed) = (self.config(stage), self.chance.bytes());
        let bytes = snapshot.map(|snapshot| snapshot.bytes.as_slice());
        let machine = AppServer::restore(config, seed, bytes, facts.expect(read));
        let mut machine = machine.expect("what was recorded can be restored");
        let snapshot_at = snapshot.map_or(0, |snapshot| snapshot.up_to);
        let journal_end = loaded.journal_end;
        if let Some((group, before)) = self.torn.take()
            && journal_end > before
        {
            // It has reached the disk after all.
            stage
                .onlookers
                .sells(stage.now, self.peer, (&group.effects, &group.change));
            self.note_durable(stage, &group.effects);
        }
        stage
            .onlookers
            .shop_restored(stage.now, self.peer, &machine, &store);
        let mut effects = Vec::new();
        machine.resume(now, &mut effects);
        self.up = Some(Up {
            machine,
            store,
            wake: None,
            inbox: VecDeque::new(),
            busy: true,
            writing: None,
            asked: 0,
            questions: BTreeMap::new(),
            asks: BTreeMap::new(),
            cheats: BTreeMap::new(),
            snapshot_at,
            journal_end,
        });
        self.write(stage, effects, 0);
        self.plan_wake(stage);
        self.run_duties(stage);
        self.plan(stage, stage.now + self.setup.settle_every, Within::Settle);
        self.plan(stage, stage.now, Within::Pay);
        if let Some(every) = self.setup.revoke_every {
            self.plan(stage, stage.now + every, Within::Revoke);
        }
        if let Some(every) = self.conduct.acts_every() {
            self.plan(stage, stage.now + every, Within::Act);
        }
    }

    fn config(&self, stage: &Stage) -> AppServerConfig {
        let (key, certificate) = self.setup.issuer.clone();
        let issuer = Issuer::new(key, certificate, stage.network.clone());
        AppServerConfig {
            me: self.id,
            key: self.setup.key.clone(),
            network: stage.network.clone(),
            issuer: issuer.expect("the certificate is for the issuer's key"),
            pay_within: self.setup.pay_within,
            status_every: STATUS_EVERY,
        }
    }

    /// Crashes: the power of its disk is gone at once, in the middle of a commit if there is one.
    pub(crate) fn crash(&mut self, stage: &mut Stage) {
        let Some(mut up) = self.up.take() else {
            return;
        };
        let group = up.writing.take();
        stage.note(&Happening::Marked(Mark::ShopCrash(
            self.peer,
            group.is_some(),
        )));
        if let Some(group) = group {
            let steps = if self.failed {
                0
            } else {
                self.chance.below(COMMIT_STEPS)
            };
            self.disk.set_power(steps);
            // It may fail or not: nobody is left to hear of it.
            drop(up.store.commit(group.change.clone()));
            self.torn = Some((group, up.journal_end));
        }
        self.failed = false;
        self.disk.set_power(0);
        drop(up);
        self.disk = self.disk.after_power_cut(&mut self.chance);
    }

    /// Takes what comes from itself.
    pub(crate) fn within(&mut self, stage: &mut Stage, what: Within) {
        match what {
            Within::Wake => self.wake(stage),
            Within::Turn => self.turn(stage),
            Within::Committed => self.committed(stage),
            Within::Duty(number) => self.run_duty(stage, number),
            Within::Revoke => self.revoke(stage),
            Within::Settle => self.settle(stage),
            Within::Pay => self.pay(stage),
            Within::Asked(from, ask, request) => self.asked(stage, (from, ask), *request),
            Within::Act => self.act(stage),
        }
    }

    /// Takes a message.
    pub(crate) fn arrive(&mut self, stage: &mut Stage, envelope: Envelope) {
        let Envelope {
            from, ask, body, ..
        } = envelope;
        match body {
            Body::ShopAsked(request) => self.asked(stage, (from, ask), *request),
            Body::RegistryAsked(request) => self.told(stage, (from, ask), request),
            Body::RegistryAnswered(reply) => self.answered(stage, ask, Reply::Registry(reply)),
            Body::RedeemAnswered(reply) => self.answered(stage, ask, Reply::Redeem(reply)),
            Body::WorkAsked(_)
            | Body::WorkAnswered(_)
            | Body::CustomerAsked(_)
            | Body::CustomerAnswered(_)
            | Body::LogAsked(_)
            | Body::LogAnswered(_)
            | Body::RedeemAsked(_)
            | Body::ShopAnswered(_)
            | Body::Offered(_)
            | Body::Head(_) => {}
        }
    }

    /// A coordinator did not answer in time.
    pub(crate) fn unanswered(&mut self, stage: &mut Stage, ask: u64) {
        let Some(up) = &mut self.up else {
            return;
        };
        up.cheats.remove(&ask);
        if let Some(question) = up.asks.remove(&ask) {
            self.push(stage, Input::Failed(question));
        }
    }

    fn answered(&mut self, stage: &mut Stage, ask: u64, reply: Reply) {
        let Some(up) = &mut self.up else {
            return;
        };
        if let Some((from, how)) = up.cheats.remove(&ask) {
            return self.met(stage, (from, how), &reply);
        }
        if let Some(question) = up.asks.remove(&ask) {
            let reply = Box::new(reply);
            self.push(stage, Input::Answered { question, reply });
        }
    }

    fn plan(&self, stage: &mut Stage, at: Moment, what: Within) {
        stage.plan_within(at, self.peer, crate::stage::Within::AppServer(what));
    }

    /// Names a question of somebody who waits for the answer.
    fn question(&mut self, asker: Asker) -> Option<Question> {
        let up = self.up.as_mut()?;
        up.asked += 1;
        let question = Question(up.asked);
        up.questions.insert(question, asker);
        Some(question)
    }

    fn push(&mut self, stage: &mut Stage, input: Input) {
        let Some(up) = &mut self.up else {
            return;
        };
        up.inbox.push_back(input);
        if !up.busy {
            up.busy = true;
            self.plan(stage, stage.now, Within::Turn);
        }
    }

    /// Lets the machine take what waits, and writes what follows.
    fn turn(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let now = self.setup.clock.read(stage.now);
        let mut effects = Vec::new();
        let taken = up.inbox.len().min(INPUTS_MAX);
        for input in up.inbox.drain(..taken) {
            let is_deadline = matches!(input, Input::DeadlineReached);
            self.wrap.handle(&mut up.machine, now, input, &mut effects);
            if is_deadline && up.machine.next_deadline().is_some_and(|due| due <= now) {
                stage.breach(self.peer, "a deadline of an app server stays due");
            }
        }
        self.write(stage, effects, u32::try_from(taken).unwrap_or(u32::MAX));
        self.plan_wake(stage);
    }

    /// Writes the records among the effects; the others leave when they are on the disk.
    fn write(&mut self, stage: &mut Stage, effects: Vec<Effect>, inputs: u32) {
        let change = change_of(&effects, self.setup.clock.read(stage.now));
        let Some(up) = &mut self.up else {
            return;
        };
        let busy = INPUT_COST * inputs;
        if change.is_empty() {
            self.release(stage, effects);
            return self.go_on(stage, busy);
        }
        up.writing = Some(Group { change, effects });
        let took = self.setup.commit.mul_f64(self.chance.log_normal(0.3));
        self.plan(stage, stage.now + busy + took, Within::Committed);
    }

    fn committed(&mut self, stage: &mut Stage) {
        self.groups += 1;
        self.failed = self.crashes_with(Loss::Group);
        let Some(up) = self.up.as_mut().filter(|_| !self.failed) else {
            return;
        };
        let Some(Group { change, effects }) = up.writing.take() else {
            return;
        };
        stage
            .onlookers
            .sells(stage.now, self.peer, (&effects, &change));
        let committed = match up.store.commit(change) {
            Err(error) if error.is_refusal() => return stage.breach(self.peer, &error.to_string()),
            committed => committed.expect("the disk has power and space"),
        };
        up.journal_end = committed.journal_end;
        if self.crashes_with(Loss::Effects) {
            self.failed = true;
            return self.note_durable(stage, &effects);
        }
        let Some(up) = &mut self.up else {
            return;
        };
        if committed.journal_end - up.snapshot_at >= self.setup.snapshot_every {
            let snapshot = up.machine.snapshot();
            let written = up.store.write_snapshot(committed.journal_end, &snapshot);
            written.expect("the disk has power and space");
            up.snapshot_at = committed.journal_end;
        }
        self.note_durable(stage, &effects);
        self.release(stage, effects);
        self.go_on(stage, Duration::ZERO);
    }

    /// Returns whether it is to crash with this group of records, and lose that.
    fn crashes_with(&self, loss: Loss) -> bool {
        let crash = self.setup.crash;
        crash.is_some_and(|crash| (crash.group, crash.loss) == (self.groups, loss))
    }

    /// Takes the next group, when the processor is free.
    fn go_on(&mut self, stage: &mut Stage, busy: Duration) {
        let Some(up) = &mut self.up else {
            return;
        };
        up.busy = !up.inbox.is_empty() || !busy.is_zero();
        if up.busy {
            self.plan(stage, stage.now + busy, Within::Turn);
        }
    }

    fn plan_wake(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let Some(due) = up.machine.next_deadline() else {
            return;
        };
        let at = self.setup.clock.when(due).max(stage.now);
        if up.wake.is_none_or(|planned| planned > at) {
            up.wake = Some(at);
            self.plan(stage, at, Within::Wake);
        }
    }

    fn wake(&mut self, stage: &mut Stage) {
        let Some(up) = self.up.as_mut().filter(|up| up.wake == Some(stage.now)) else {
            return;
        };
        up.wake = None;
        let now: Timestamp = self.setup.clock.read(stage.now);
        let due = up.machine.next_deadline();
        if due.is_some_and(|due| due <= now) {
            self.push(stage, Input::DeadlineReached);
        } else {
            self.plan_wake(stage);
        }
    }
}

/// Gathers what is durable of the effects.
fn change_of(effects: &[Effect], at: Timestamp) -> Change {
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
