//! A terminal: the driver of its role machine, as the shell of a real node drives it.
//!
//! It finds coordinators by look-ups and offers, connects and asks each to show its role, carries what the machine
//! wants, and lets units take their time. Nothing of it survives: a terminal that comes back starts anew, but for the
//! programs, which a real one keeps on its disk.

mod deeds;
mod enrolling;
mod link;
mod looks;
mod owner;
mod runs;
mod wallet;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::coordinator::Question;
use tally_protocol::head_gate::HeadGate;
use tally_protocol::id::{BlobId, GrantId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::Offer;
use tally_protocol::message::customer::CustomerReply;
use tally_protocol::message::work::{Pull, PullReply, WorkReply, WorkRequest};
use tally_protocol::offer_gate::OfferGate;
use tally_protocol::registration::Registration;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::terminal::{Effect, Input, Job, PullOut, Run, Terminal, TerminalConfig};
use tally_protocol::witness::Witness;

use crate::chance::Chance;
use crate::conduct::{self, Conduct, Me};
use crate::happening::{Gave, Happening, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Clock, Envelope, Stage};
use crate::wrap::TerminalWrap;
use enrolling::Enrolling;
pub(crate) use enrolling::Enrols;
use link::Tie;
use looks::Look;
pub(crate) use owner::Owner;
use owner::Seat;
use runs::{Computed, Held};
use wallet::{Group, Wallet};

/// Memory that a terminal gives a unit, in bytes.
const MEMORY_BYTES: u64 = 1 << 30;
/// Other terminals that it connects to for the gossip.
const MESH_DIALS_MAX: usize = 8;

/// What a terminal is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) key: SigningKey,
    pub(crate) slots: u8,
    pub(crate) speed: f64,
    pub(crate) faults: f64,
    pub(crate) clock: Clock,
    /// Who sits at it now and then.
    pub(crate) owner: Option<Owner>,
    /// Whose it is; its own if there is none.
    pub(crate) certificate: Option<Verified<DeviceCertificate>>,
    /// Where it enrols.
    pub(crate) enrols: Vec<Enrols>,
}

/// Something within a terminal.
#[derive(Debug)]
pub(crate) enum Within {
    /// A deadline of the machine may have come.
    Wake,
    /// Time to look for coordinators.
    Sweep,
    /// A look-up has named these.
    Found(Vec<Peer>),
    /// Time to dial.
    Dial(Peer),
    /// The other end is there, or is not.
    Dialled(Peer),
    /// The connection is noticed to be gone.
    Lost(Peer),
    /// Program and inputs of a grant are here, or cannot be had.
    Prepared(GrantId, bool),
    /// Units of a job are told; the flag says whether it is over.
    Ran(Job, Vec<Run>, bool),
    /// Units of a job were run, unless they were suspended meanwhile.
    Computed(Computed),
    /// The owner comes or goes.
    Owner,
    /// The owner needs the memory of what is suspended.
    MemoryNeeded,
    /// The computer wakes.
    LidOpens,
    /// Time to look at the log of a coordinator.
    Look(Peer),
    /// The wallet has reached the disk.
    Written,
    /// A deadline of the witness may have come.
    Watch,
    /// Time to act on its own.
    Act,
    /// It may have to enrol at one of its app servers.
    Enrol(usize),
}

/// A terminal of the world.
#[derive(Debug)]
pub(crate) struct TerminalNode {
    pub(crate) peer: Peer,
    pub(crate) id: NodeId,
    pub(crate) setup: Setup,
    conduct: Box<dyn Conduct>,
    wrap: Box<dyn TerminalWrap>,
    chance: Chance,
    /// Programs on its disk.
    programs: BTreeSet<BlobId>,
    wallet: Wallet,
    /// What its witness has on the disk.
    witnessed: Option<Vec<u8>>,
    /// Where it is registered, on its disk.
    registered: BTreeMap<usize, Verified<Registration>>,
    up: Option<Up>,
}

/// What a terminal has while it is there.
#[derive(Debug)]
struct Up {
    machine: Terminal,
    /// When the machine is woken next.
    wake: Option<Moment>,
    ties: BTreeMap<Peer, Tie>,
    asks: BTreeMap<u64, Asked>,
    grants: BTreeMap<GrantId, Held>,
    jobs: BTreeMap<Job, GrantId>,
    meshed: BTreeSet<Peer>,
    offers: OfferGate,
    sweeps: u32,
    looks: BTreeMap<Peer, Look>,
    witness: Witness,
    /// When the witness is woken next.
    watch_wake: Option<Moment>,
    heads: HeadGate,
    /// What is on its way to the wallet.
    unwritten: Group,
    enrolling: BTreeMap<usize, Enrolling>,
    seat: Seat,
}

/// What a question was for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Hello(Peer),
    Pull(Peer, Question),
    Log(Peer),
    Witness(Peer, Question),
    Enrol(Peer, usize),
    /// Of its own accord: what it does with that.
    Cheat(Peer, &'static str),
}

impl Asked {
    const fn to(self) -> Peer {
        match self {
            Self::Hello(to)
            | Self::Pull(to, _)
            | Self::Log(to)
            | Self::Witness(to, _)
            | Self::Enrol(to, _)
            | Self::Cheat(to, _) => to,
        }
    }
}

impl TerminalNode {
    pub(crate) fn new(
        peer: Peer,
        setup: Setup,
        (conduct, wrap): (Box<dyn Conduct>, Box<dyn TerminalWrap>),
        seed: u64,
    ) -> Self {
        Self {
            peer,
            id: NodeId::from_bytes(setup.key.verifying_key().to_bytes()),
            setup,
            conduct,
            wrap,
            chance: Chance::new(seed, "terminal", u64::from(peer.0)),
            programs: BTreeSet::new(),
            wallet: Wallet::default(),
            witnessed: None,
            registered: BTreeMap::new(),
            up: None,
        }
    }

    /// Returns slots that run a unit.
    pub(crate) fn busy(&self) -> usize {
        self.up.as_ref().map_or(0, |up| up.jobs.len())
    }

    /// Returns the machine, if the terminal is there.
    pub(crate) fn machine(&self) -> Option<&Terminal> {
        self.up.as_ref().map(|up| &up.machine)
    }

    /// Returns the witness, if the terminal is there.
    pub(crate) fn witness(&self) -> Option<&Witness> {
        self.up.as_ref().map(|up| &up.witness)
    }

    /// Returns the grants that the driver keeps for the machine.
    pub(crate) fn grants(&self) -> impl Iterator<Item = GrantId> {
        self.up.iter().flat_map(|up| up.grants.keys().copied())
    }

    /// Comes.
    pub(crate) fn start(&mut self, stage: &mut Stage) {
        stage.start(self.peer);
        let config = TerminalConfig {
            me: self.id,
            profile: stage.profile.clone(),
            slots: usize::from(self.setup.slots),
            allowance: self.allowance(),
            certificate: self.setup.certificate.clone(),
            registrations: self.registered.values().cloned().collect(),
        };
        let mut machine = Terminal::new(config, self.chance.bytes());
        for (coordinator, totals) in self.wallet.totals() {
            machine.remember(coordinator, totals);
        }
        self.up = Some(Up {
            machine,
            wake: None,
            ties: BTreeMap::new(),
            asks: BTreeMap::new(),
            grants: BTreeMap::new(),
            jobs: BTreeMap::new(),
            meshed: BTreeSet::new(),
            offers: OfferGate::default(),
            sweeps: 0,
            looks: BTreeMap::new(),
            witness: self.witness_from_disk(stage),
            watch_wake: None,
            heads: HeadGate::default(),
            unwritten: Group::default(),
            enrolling: BTreeMap::new(),
            seat: Seat::default(),
        });
        self.remember_forks(stage);
        // Half of the owners let other terminals reach theirs, for the gossip.
        if self.chance.happens(0.5) {
            let share = vec![address(self.peer)];
            self.feed(stage, Input::Shared(share));
        }
        self.plan(stage, stage.now, Within::Sweep);
        self.expect_owner(stage);
        for place in 0..self.setup.enrols.len() {
            self.enrol_at(stage, place, stage.now);
        }
        if let Some(every) = self.conduct.acts_every() {
            self.plan(stage, stage.now + every, Within::Act);
        }
    }

    /// Goes, with everything that is not on its disk. What is on its way there has reached it or not.
    pub(crate) fn stop(&mut self) {
        let Some(up) = self.up.take() else {
            return;
        };
        if up.witness.logs().next().is_some() {
            self.witnessed = Some(up.witness.saved());
        }
        if !up.unwritten.is_empty() && self.chance.happens(0.5) {
            self.wallet.take(&up.unwritten);
        }
    }

    /// Takes what comes from itself.
    pub(crate) fn within(&mut self, stage: &mut Stage, what: Within) {
        let Some(what) = self.miss_within(what) else {
            return;
        };
        match what {
            Within::Wake => self.wake(stage),
            Within::Sweep => self.sweep(stage),
            Within::Found(peers) => self.found(stage, peers),
            Within::Dial(to) => self.dial(stage, to),
            Within::Dialled(to) => self.dialled(stage, to),
            Within::Lost(from) => self.lost(stage, from),
            Within::Prepared(grant, here) => self.prepared(stage, grant, here),
            Within::Ran(job, runs, over) => self.ran(stage, job, runs, over),
            Within::Computed(computed) => self.computed(stage, computed),
            Within::Owner => self.owner_turns(stage),
            Within::MemoryNeeded => self.memory_needed(stage),
            Within::LidOpens => self.wakes_up(stage),
            Within::Look(at) => self.look(stage, at),
            Within::Written => self.written(stage),
            Within::Watch => self.watch_due(stage),
            Within::Act => self.act(stage),
            Within::Enrol(place) => self.enrol(stage, place),
        }
    }

    /// Takes a message.
    pub(crate) fn arrive(&mut self, stage: &mut Stage, envelope: Envelope) {
        let Some(envelope) = self.miss_envelope(envelope) else {
            return;
        };
        let Envelope {
            from, ask, body, ..
        } = envelope;
        match body {
            Body::WorkAnswered(reply) => self.answered(stage, ask, reply),
            Body::WorkAsked(request) => self.asked(stage, (from, ask), request),
            Body::LogAnswered(reply) => self.heard_log(stage, ask, reply),
            // Only a coordinator has a log, and nobody else is asked for one.
            Body::LogAsked(_) => self.refuse(stage, from, Refusal::WrongRole.name()),
            Body::Offered(offer) => self.offered(stage, from, offer),
            Body::Head(head) => self.head_heard(stage, from, &head),
            // Only what it asked of its own accord is answered so.
            Body::CustomerAnswered(reply) => {
                self.met(stage, ask, conduct::customer_reply_name(&reply));
            }
            Body::ShopAnswered(reply) => self.enrolled(stage, ask, *reply),
            // It is no coordinator and no app server.
            Body::RegistryAsked(_) | Body::RedeemAsked(_) | Body::ShopAsked(_) => {
                self.refuse(stage, from, Refusal::WrongRole.name());
            }
            Body::RegistryAnswered(reply) => {
                self.met(stage, ask, conduct::registry_reply_name(&reply));
            }
            Body::RedeemAnswered(reply) => {
                self.met(stage, ask, conduct::redeem_reply_name(&reply));
            }
            Body::CustomerAsked(_) => {
                let refusal = CustomerReply::Refused(Refusal::WrongRole);
                self.refuse(stage, from, Refusal::WrongRole.name());
                self.send(stage, (from, ask), Body::CustomerAnswered(refusal));
            }
        }
    }

    /// Nobody answered in time.
    pub(crate) fn unanswered(&mut self, stage: &mut Stage, ask: u64) {
        let Some(ask) = self.miss_no_answer(ask) else {
            return;
        };
        let Some(asked) = self.up.as_mut().and_then(|up| up.asks.remove(&ask)) else {
            return;
        };
        let to = asked.to();
        self.failed(stage, asked, None);
        // A connection over which nothing comes is closed after some pings.
        if !stage.can_talk(self.peer, to) {
            self.lost(stage, to);
        }
    }

    fn offered(&mut self, stage: &mut Stage, from: Peer, offer: Signed<Offer>) {
        let Ok(offer) = stage.signatures.verify(offer, &stage.network) else {
            return self.refuse(stage, from, "rejected_unverified");
        };
        let now = self.setup.clock.read(stage.now);
        let admitted = self.up.as_mut().map(|up| up.offers.admit(&offer, now));
        match admitted {
            Some(Ok(())) => self.feed(stage, Input::OfferHeard(Box::new(offer))),
            Some(Err(fault)) => self.refuse(stage, from, fault.name()),
            None => {}
        }
    }

    /// Notes that it does not take what somebody sent.
    fn refuse(&self, stage: &mut Stage, from: Peer, why: &'static str) {
        let by = self.peer;
        stage.note(&Happening::Refused { by, from, why });
    }

    fn send(&self, stage: &mut Stage, (to, ask): (Peer, u64), body: Body) {
        let from = self.peer;
        stage.send(Envelope {
            from,
            to,
            ask,
            body,
        });
    }

    fn plan(&self, stage: &mut Stage, at: Moment, what: Within) {
        stage.plan_within(at, self.peer, crate::stage::Within::Terminal(what));
    }

    /// Lets the machine take an input, and carries out what it wants.
    fn feed(&mut self, stage: &mut Stage, input: Input) {
        let Some(up) = &mut self.up else {
            return;
        };
        let mut effects = Vec::new();
        let now = self.setup.clock.read(stage.now);
        self.wrap.handle(&mut up.machine, now, input, &mut effects);
        for effect in effects {
            self.carry_out(stage, effect);
        }
        self.plan_wake(stage);
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
        let now = self.setup.clock.read(stage.now);
        let is_due = |machine: &Terminal| machine.next_deadline().is_some_and(|due| due <= now);
        if is_due(&up.machine) {
            self.feed(stage, Input::DeadlineReached);
            if self.machine().is_some_and(is_due) {
                stage.breach(self.peer, "a deadline of a terminal stays due");
            }
        } else {
            self.plan_wake(stage);
        }
    }

    fn carry_out(&mut self, stage: &mut Stage, effect: Effect) {
        match effect {
            Effect::Pull(pull) => self.pull(stage, *pull),
            Effect::Prepare(grant) => self.prepare(stage, grant),
            Effect::Execute { job, grant, places } => self.execute(stage, job, grant, places),
            Effect::Stop(job) => self.stop_job(stage, job),
            Effect::Release(grant) => {
                if let Some(up) = &mut self.up {
                    up.grants.remove(&grant);
                }
            }
            Effect::Discard(outputs) => {
                for output in outputs {
                    stage.readable.remove(&(self.peer, output));
                }
            }
            Effect::Dial(offer) => {
                if let Some(to) = stage.directory.peer(&offer.signer()) {
                    self.know(stage, to);
                }
            }
            Effect::KeepReceipt(_)
            | Effect::Dispute(_)
            | Effect::GiveUp(..)
            | Effect::Settle(..) => self.enter(stage, effect),
            Effect::CatchUp(from) => {
                if let Some(from) = stage.directory.peer(&from) {
                    self.catch_up(stage, from);
                }
            }
        }
    }

    /// Signs and sends a pull.
    fn pull(&mut self, stage: &mut Stage, out: PullOut) {
        let Some(to) = stage.directory.peer(&out.to) else {
            return;
        };
        if self.conduct.serves_outputs() {
            let large = out.results.iter().filter(|result| result.inline.is_none());
            let readable = large.map(|result| (self.peer, result.output.id));
            stage.readable.extend(readable);
        }
        let question = out.question;
        let profile = stage.profile.clone();
        let mut pull = out.into_pull(profile, |batch| {
            let key = &self.setup.key;
            let batch = stage.signatures.sign(batch, &stage.network, key);
            batch.signed().clone()
        });
        let me = me(&self.setup, (self.peer, self.id), stage, &[]);
        if let Some(how) = self.conduct.pull(&mut pull, &me, &mut self.chance) {
            let by = self.peer;
            stage.note(&Happening::Cheated { by, to, how });
        }
        self.note_pull(stage, to, &pull);
        let body = Body::WorkAsked(WorkRequest::Pull(Box::new(pull)));
        let ask = stage.ask(self.peer, to, body);
        if let Some(up) = &mut self.up {
            up.asks.insert(ask, Asked::Pull(to, question));
        }
    }

    fn note_pull(&self, stage: &mut Stage, to: Peer, pull: &Pull) {
        let results = pull
            .report
            .as_ref()
            .map_or(&[][..], |report| &report.results);
        for back in &pull.abandoned {
            let (by, grant, unit, fault) = (self.peer, back.grant, back.unit, back.fault);
            stage.note(&Happening::GivenBack {
                by,
                to,
                grant,
                unit,
                fault,
            });
        }
        stage.note(&Happening::Pulled {
            by: self.peer,
            to,
            want: pull.want,
            renews: u32::try_from(pull.renew.len()).unwrap_or(u32::MAX),
            results: u32::try_from(results.len()).unwrap_or(u32::MAX),
        });
        for result in results {
            let held = self.up.as_ref().and_then(|up| up.grants.get(&result.grant));
            let Some(task) = held.map(|held| held.grant().task) else {
                continue;
            };
            let gave = Gave {
                outcome: result.outcome,
                fuel: result.fuel,
                output: result.output,
            };
            stage.note(&Happening::Reported {
                by: self.peer,
                to,
                grant: result.grant,
                unit: Unit {
                    task,
                    unit: result.unit,
                },
                gave,
            });
        }
    }

    fn answered(&mut self, stage: &mut Stage, ask: u64, reply: WorkReply) {
        let Some(asked) = self.up.as_ref().and_then(|up| up.asks.get(&ask)).copied() else {
            return;
        };
        let me = me(&self.setup, (self.peer, self.id), stage, &[]);
        self.conduct.hear(asked.to(), &reply, &me);
        if let Asked::Cheat(..) = asked {
            return self.met(stage, ask, conduct::work_reply_name(&reply));
        }
        if let Some(up) = &mut self.up {
            up.asks.remove(&ask);
        }
        match (asked, reply) {
            (Asked::Hello(to), WorkReply::Role(role)) => self.shown(stage, to, role),
            (Asked::Pull(from, question), WorkReply::Pulled(reply)) => {
                self.pulled(stage, (from, question), *reply);
            }
            (_, WorkReply::Refused(refusal)) => self.failed(stage, asked, Some(refusal)),
            (_, WorkReply::Role(_) | WorkReply::Pulled(_) | WorkReply::Nudged) => {
                self.failed(stage, asked, Some(Refusal::Malformed));
            }
        }
    }

    fn failed(&mut self, stage: &mut Stage, asked: Asked, refusal: Option<Refusal>) {
        match asked {
            Asked::Pull(_, question) => {
                if refusal == Some(Refusal::NotRegistered) {
                    self.enrol_anew(stage);
                }
                self.feed(stage, Input::Failed { question, refusal });
            }
            Asked::Hello(to) => self.fail_tie(stage, to),
            Asked::Log(at) => self.looked(stage, at),
            Asked::Witness(_, question) => {
                self.watch(stage, tally_protocol::witness::Input::Failed(question));
            }
            Asked::Enrol(..) | Asked::Cheat(..) => {}
        }
    }

    fn pulled(&mut self, stage: &mut Stage, (from, question): (Peer, Question), reply: PullReply) {
        let checked = stage.signatures.check_answer(reply, &stage.network);
        let Some((mut answer, beside)) = checked else {
            self.refuse(stage, from, "answer_unverified");
            let refusal = None;
            return self.feed(stage, Input::Failed { question, refusal });
        };
        self.mesh(stage, &beside.peers);
        let by = stage.directory.id(from);
        let receipts = std::mem::take(&mut answer.receipts);
        answer.receipts = self.take_known(stage, by, receipts);
        if let (Some(grant), Some(up)) = (&answer.grant, &mut self.up) {
            // One that is sent again must not undo what was prepared for it.
            let held = up.grants.entry(grant.id);
            held.or_insert_with(|| Held::new(grant.clone()));
        }
        self.feed(stage, Input::Answered { question, answer });
        if self.forget_unused_grants() > 0 {
            self.refuse(stage, from, "grant_unusable");
        }
    }

    /// Drops what came with grants that the machine did not take. Returns how many there were.
    fn forget_unused_grants(&mut self) -> usize {
        let unused = |_: &GrantId, held: &mut Held| held.is_unused();
        let up = self.up.as_mut();
        up.map_or(0, |up| up.grants.extract_if(.., unused).count())
    }

    /// Connects to other terminals, so that gossip has more than one way.
    fn mesh(&mut self, stage: &mut Stage, peers: &[String]) {
        let Some(up) = &mut self.up else {
            return;
        };
        for other in peers.iter().filter_map(|text| peer_of(text)) {
            if up.meshed.len() >= MESH_DIALS_MAX || !up.meshed.insert(other) {
                continue;
            }
            if stage.can_talk(self.peer, other) {
                stage.gossip.connect(self.peer, other);
            }
        }
    }
}

fn me<'a>(
    setup: &'a Setup,
    (peer, id): (Peer, NodeId),
    stage: &'a Stage,
    coordinators: &'a [(Peer, NodeId)],
) -> Me<'a> {
    Me {
        peer,
        id,
        key: &setup.key,
        network: &stage.network,
        profile: &stage.profile,
        now: setup.clock.read(stage.now),
        coordinators,
        wire: &stage.wire,
    }
}

/// Returns the address under which other terminals reach this one.
fn address(peer: Peer) -> String {
    format!("/netsim/{}", peer.0)
}

fn peer_of(address: &str) -> Option<Peer> {
    address.strip_prefix("/netsim/")?.parse().ok().map(Peer)
}
