//! A coordinator: the driver of its role machine over a real journal and log, on a simulated disk.
//!
//! As in the shell of a real node, inputs gather while a group of records is written; the group is durable before any
//! effect that follows from it leaves. A crash takes everything but the disk, and of the disk any part of what was not
//! synced.

mod customers;
mod inside;
mod log;
mod operator;
mod partners;
mod pulls;
mod release;
mod watchers;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::store::{Change, Draft, Identity, Store};
use tally_protocol::codec;
use tally_protocol::coordinator::{
    Admission, Coordinator, CoordinatorConfig, Customers, Decision, Effect, Input, Question,
};
use tally_protocol::id::{GrantId, NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::rate_card::Rates;
use tally_protocol::time::Timestamp;

use crate::chance::Chance;
use crate::conduct::Conduct;
use crate::disk::Disk;
use crate::happening::{Happening, Mark};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Clock, Envelope, Stage};
use crate::world::{Crash, Loss};
use crate::wrap::Wrap;
use log::Head;
use operator::Operator;
pub(crate) use operator::{Duty, Errand};
use partners::Partners;
use pulls::Brought;
use watchers::Watchers;

/// Inputs of one group commit (node/src/coordinator.rs).
const INPUTS_MAX: usize = 256;
/// Time that an input takes of the processor: 32,000 units a second were measured.
const INPUT_COST: Duration = Duration::from_micros(30);
/// How long the result of an ended task is kept.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// After this it is looked again whether a group was written.
const NEXT_LOOK: Duration = Duration::from_millis(1);
/// After this a deadline or an answer is not late but forgotten.
const LATE_MAX: Duration = Duration::from_secs(5);
/// Writes and syncs of the disk in one commit, about: a crash in the middle comes after any of them.
const COMMIT_STEPS: u64 = 24;

/// What a coordinator is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) key: SigningKey,
    pub(crate) clock: Clock,
    /// Median time of a commit.
    pub(crate) commit: Duration,
    pub(crate) snapshot_every: u64,
    /// What work is worth.
    pub(crate) rates: Rates,
    pub(crate) known_per_mille: u16,
    /// Whose results it takes.
    pub(crate) admission: Admission,
    /// What its operator decides about agreements that app servers propose; none if there are none.
    pub(crate) decision: Option<Decision>,
    /// When it crashes beside what the world lets happen to it.
    pub(crate) crash: Option<Crash>,
    /// The key under which it can be looked up.
    pub(crate) bucket: u8,
}

/// Something within a coordinator.
#[derive(Debug)]
pub(crate) enum Within {
    /// A deadline of the machine may have come.
    Wake,
    /// Inputs wait.
    Turn,
    /// The group of records has reached the disk.
    Committed,
    /// Time to announce itself in the table of providers.
    Provide,
    /// Program and input are to be read from the customer.
    Fetch(TaskId),
    /// They are here, if the customer was started so often.
    Fetched(TaskId, Peer, u32),
    /// The machine's own work is done.
    Worked(Box<Input>),
    /// A customer's question that waits for the group that is being written.
    Asked(Peer, u64, Box<CustomerRequest>),
    /// Outputs that are too large for a report were read, or not.
    Brought(Box<Brought>),
    /// Watchers may have to be answered.
    News(TaskId),
    /// A connection is noticed to be gone.
    Gone(NodeId),
    /// The head of the log may be gossiped again.
    TellHead,
    /// The operator wants this done.
    Errand(usize),
    /// The operator looks for proposals of app servers.
    Decide,
    /// An app server may be told of points again.
    Tell(Peer),
}

/// A coordinator of the world.
#[derive(Debug)]
pub(crate) struct CoordinatorNode {
    pub(crate) peer: Peer,
    pub(crate) id: NodeId,
    setup: Setup,
    conduct: Box<dyn Conduct>,
    wrap: Box<dyn Wrap>,
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

/// What a coordinator has while it runs.
#[derive(Debug)]
struct Up {
    machine: Coordinator,
    store: Store,
    /// When it was started, by its clock.
    since: Timestamp,
    /// The next deadline of the machine, and since when it is that.
    due: (Option<Timestamp>, Timestamp),
    wake: Option<Moment>,
    inbox: VecDeque<Input>,
    /// Whether a turn is planned, or a group is being written.
    busy: bool,
    writing: Option<Group>,
    asked: u64,
    questions: BTreeMap<Question, Asker>,
    watchers: Watchers,
    partners: Partners,
    head: Head,
    snapshot_at: u64,
    /// Facts on the disk.
    journal_end: u64,
}

/// Records on their way to the disk, and what leaves when they are there.
#[derive(Debug)]
struct Group {
    change: Change,
    effects: Vec<Effect>,
    /// Whether its effects have left before it was written, which is a mistake.
    released: bool,
}

/// Who asked, and what.
#[derive(Debug, Clone)]
struct Asker {
    peer: Peer,
    ask: u64,
    since: Moment,
    /// What a terminal reported; none of a customer.
    results: Option<Vec<(GrantId, u32)>>,
}

impl CoordinatorNode {
    pub(crate) fn new(
        peer: Peer,
        setup: Setup,
        (conduct, wrap): (Box<dyn Conduct>, Box<dyn Wrap>),
        seed: u64,
    ) -> Self {
        Self {
            peer,
            id: NodeId::from_bytes(setup.key.verifying_key().to_bytes()),
            setup,
            conduct,
            wrap,
            chance: Chance::new(seed, "coordinator", u64::from(peer.0)),
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

    /// Returns the machine, if the coordinator runs.
    pub(crate) fn machine(&self) -> Option<&Coordinator> {
        self.up.as_ref().map(|up| &up.machine)
    }

    /// Returns the store, if the coordinator runs.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.up.as_ref().map(|up| &up.store)
    }

    /// Returns how many questions should long have been answered, watchers not counted.
    pub(crate) fn questions(&self, now: Moment) -> usize {
        let is_late = |asker: &&Asker| now.since(asker.since) > LATE_MAX;
        let questions = self.up.iter().flat_map(|up| up.questions.values());
        questions.filter(is_late).count()
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, stage: &mut Stage) {
        stage.start(self.peer);
        let identity = Identity {
            network: stage.network.clone(),
            node: self.id,
        };
        let now = self.setup.clock.read(stage.now);
        let opened = Store::on_backend(self.disk.clone(), &identity, now);
        let store = opened.expect("a store opens after any crash");
        let loaded = store.load().expect("a store that opens can be read");
        let snapshot = loaded.snapshot.as_ref();
        let facts: Result<Vec<Vec<u8>>, _> = loaded.facts.collect();
        let machine = Coordinator::restore(
            self.config(stage),
            self.chance.bytes(),
            (
                snapshot.map(|snapshot| snapshot.bytes.as_slice()),
                store.books().expect("a store that opens can be read"),
            ),
            facts.expect("a store that opens can be read"),
        );
        let mut machine = machine.expect("what was recorded can be restored");
        let snapshot_at = snapshot.map_or(0, |snapshot| snapshot.up_to);
        let journal_end = loaded.journal_end;
        if let Some((group, before)) = self.torn.take()
            && journal_end > before
        {
            // It has reached the disk after all.
            stage.onlookers.commits(stage.now, self.peer, &group.change);
            self.note_durable(stage, &group.effects);
        }
        stage
            .onlookers
            .restored(stage.now, self.peer, &machine, &store);
        let head = store.head().expect("a store that opens can be read");
        let head = head.head();
        let mut effects = Vec::new();
        machine.resume(self.setup.clock.read(stage.now), &mut effects);
        self.up = Some(Up {
            machine,
            store,
            since: now,
            due: (None, now),
            wake: None,
            inbox: VecDeque::new(),
            busy: true,
            writing: None,
            asked: 0,
            questions: BTreeMap::new(),
            watchers: Watchers::default(),
            partners: Partners::default(),
            head: Head::new(head),
            snapshot_at,
            journal_end,
        });
        self.write(stage, effects, 0);
        self.plan_wake(stage);
        self.run_errands(stage);
        self.tell_head(stage);
        stage.kademlia.server_up(self.peer);
        self.plan(stage, stage.now, Within::Provide);
        if self.setup.decision.is_some() {
            self.plan(stage, stage.now, Within::Decide);
        }
    }

    fn config(&self, stage: &Stage) -> CoordinatorConfig {
        CoordinatorConfig {
            me: self.id,
            key: self.setup.key.clone(),
            rates: self.setup.rates.clone(),
            network: stage.network.clone(),
            profile: stage.profile.clone(),
            customers: Customers::Any,
            tasks_max: 10_000,
            input_bytes_max: 1 << 40,
            program_bytes_max: 1 << 30,
            retention: RETENTION,
            known_per_mille: self.setup.known_per_mille,
            admission: self.setup.admission,
        }
    }

    /// Crashes: the power of its disk is gone at once, in the middle of a commit if there is one.
    pub(crate) fn crash(&mut self, stage: &mut Stage) {
        let Some(mut up) = self.up.take() else {
            return;
        };
        let group = up.writing.take();
        stage.note(&Happening::Marked(Mark::Crash(self.peer, group.is_some())));
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
        stage.kademlia.server_down(self.peer);
    }

    /// Takes what comes from itself.
    pub(crate) fn within(&mut self, stage: &mut Stage, what: Within) {
        match what {
            Within::Wake => self.wake(stage),
            Within::Turn => self.turn(stage),
            Within::Committed => self.committed(stage),
            Within::Provide => self.provide(stage),
            Within::Fetch(task) => self.fetch(stage, task),
            Within::Fetched(task, from, start) => self.fetched(stage, task, (from, start)),
            Within::Worked(input) => self.push(stage, *input),
            Within::Asked(from, ask, request) => self.asked(stage, (from, ask), *request),
            Within::Brought(brought) => self.brought(stage, *brought),
            Within::News(task) => self.news(stage, task),
            Within::Gone(node) => self.push(stage, Input::Gone(node)),
            Within::TellHead => self.tell_head(stage),
            Within::Errand(number) => self.run_errand(stage, number),
            Within::Decide => self.decide(stage),
            Within::Tell(app_server) => self.tell_partner(stage, app_server),
        }
    }

    /// Takes a message.
    pub(crate) fn arrive(&mut self, stage: &mut Stage, envelope: Envelope) {
        let Envelope {
            from, ask, body, ..
        } = envelope;
        match body {
            Body::WorkAsked(WorkRequest::Hello) => self.show_role(stage, from, ask),
            Body::WorkAsked(WorkRequest::Pull(pull)) => self.check_pull(stage, from, ask, *pull),
            Body::CustomerAsked(request) => self.asked(stage, (from, ask), request),
            Body::LogAsked(request) => self.tell_log(stage, (from, ask), &request),
            Body::RegistryAsked(request) => self.registry_asked(stage, (from, ask), request),
            Body::RedeemAsked(request) => self.redeem_asked(stage, (from, ask), request),
            Body::RegistryAnswered(_) => self.partner_told(stage, ask),
            Body::WorkAsked(WorkRequest::Nudge(_)) => {
                let refusal = WorkReply::Refused(Refusal::WrongRole);
                self.reply(stage, (from, ask), Body::WorkAnswered(refusal));
            }
            // Offers of others are of no use to it, and it asks nobody.
            Body::Offered(_)
            | Body::WorkAnswered(_)
            | Body::CustomerAnswered(_)
            | Body::LogAnswered(_)
            | Body::RedeemAnswered(_)
            | Body::ShopAsked(_)
            | Body::ShopAnswered(_)
            | Body::Head(_) => {}
        }
    }

    fn plan(&self, stage: &mut Stage, at: Moment, what: Within) {
        stage.plan_within(at, self.peer, crate::stage::Within::Coordinator(what));
    }

    fn reply(&self, stage: &mut Stage, (to, ask): (Peer, u64), body: Body) {
        if let Body::WorkAnswered(WorkReply::Refused(refusal))
        | Body::CustomerAnswered(CustomerReply::Refused(refusal)) = &body
        {
            stage.note(&Happening::Refused {
                by: self.peer,
                from: to,
                why: refusal.name(),
            });
        }
        let from = self.peer;
        stage.send(Envelope {
            from,
            to,
            ask,
            body,
        });
    }

    fn question(&mut self, asker: Asker) -> Option<Question> {
        let up = self.up.as_mut()?;
        up.asked += 1;
        let question = Question(up.asked);
        up.questions.insert(question, asker);
        Some(question)
    }

    /// Returns whether a group is on its way to the disk.
    pub(crate) fn is_writing(&self) -> bool {
        self.up.as_ref().is_some_and(|up| up.writing.is_some())
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
        // What was due while it was down is due since its start; what goes back to a lot that has expired meanwhile is due
        // since then.
        let is_late = |due: Timestamp| now.since(due.max(up.since).max(up.due.1)) > LATE_MAX;
        if up.machine.next_deadline().is_some_and(is_late) {
            stage.breach(self.peer, "a deadline of a coordinator has passed long ago");
        }
        let mut effects = Vec::new();
        let taken = up.inbox.len().min(INPUTS_MAX);
        for input in up.inbox.drain(..taken) {
            let is_deadline = matches!(input, Input::DeadlineReached);
            self.wrap.handle(&mut up.machine, now, input, &mut effects);
            if is_deadline && up.machine.next_deadline().is_some_and(|due| due <= now) {
                stage.breach(self.peer, "a deadline of a coordinator stays due");
            }
        }
        self.write(stage, effects, u32::try_from(taken).unwrap_or(u32::MAX));
        self.plan_wake(stage);
    }

    /// Writes the records among the effects; the others leave when they are on the disk.
    fn write(&mut self, stage: &mut Stage, effects: Vec<Effect>, inputs: u32) {
        let change = self.change_of(stage, &effects);
        let Some(up) = &mut self.up else {
            return;
        };
        let busy = INPUT_COST * inputs;
        if change.is_empty() {
            self.release(stage, effects);
            return self.go_on(stage, busy);
        }
        let released = !self.wrap.records_first();
        let early = released.then(|| effects.clone());
        up.writing = Some(Group {
            change,
            effects,
            released,
        });
        let took = self.setup.commit.mul_f64(self.chance.log_normal(0.3));
        self.plan(stage, stage.now + busy + took, Within::Committed);
        self.release(stage, early.unwrap_or_default());
    }

    /// Gathers what is durable of the effects.
    fn change_of(&self, stage: &Stage, effects: &[Effect]) -> Change {
        let now = self.setup.clock.read(stage.now);
        let mut change = Change::default();
        for effect in effects {
            match effect {
                Effect::Record(fact) => change.facts.push(codec::to_bytes(fact)),
                Effect::Append { event, posting } => change.events.push(Draft {
                    at: now,
                    event: event.clone(),
                    posting: posting.clone(),
                }),
                Effect::Keep { task, row } => change.puts.push(inside::row(task, row)),
                Effect::Forget(task) => change.removals.push(task.as_bytes().to_vec()),
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
        change
    }

    fn committed(&mut self, stage: &mut Stage) {
        self.groups += 1;
        self.failed = self.crashes_with(Loss::Group);
        let Some(up) = self.up.as_mut().filter(|_| !self.failed) else {
            return;
        };
        let Some(group) = up.writing.take() else {
            return;
        };
        let Group {
            change,
            effects,
            released,
        } = group;
        stage.onlookers.commits(stage.now, self.peer, &change);
        let committed = match up.store.commit(change) {
            Err(error) if error.is_refusal() => return stage.breach(self.peer, &error.to_string()),
            committed => committed.expect("the disk has power and space"),
        };
        up.journal_end = committed.journal_end;
        up.head.grown(&committed);
        if self.crashes_with(Loss::Effects) {
            self.failed = true;
            return self.note_durable(stage, &effects);
        }
        let Some(up) = &mut self.up else {
            return;
        };
        if committed.journal_end - up.snapshot_at >= self.setup.snapshot_every {
            let snapshot = self.wrap.snapshot(&up.machine);
            let written = up.store.write_snapshot(committed.journal_end, &snapshot);
            written.expect("the disk has power and space");
            up.snapshot_at = committed.journal_end;
        }
        self.note_durable(stage, &effects);
        self.tell_head(stage);
        if !released {
            self.release(stage, effects);
        }
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
        let due = up.machine.next_deadline();
        if up.due.0 != due {
            up.due = (due, self.setup.clock.read(stage.now));
        }
        let Some(due) = self.wrap.next_deadline(&up.machine) else {
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
        let now = self.setup.clock.read(stage.now);
        let due = self.wrap.next_deadline(&up.machine);
        if due.is_some_and(|due| due <= now) {
            self.push(stage, Input::DeadlineReached);
        } else {
            self.plan_wake(stage);
        }
    }
}
