//! Building a world from its scenario.

mod shops;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::account::Money;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::{Fund, Payee};
use tally_protocol::id::{BlobId, NetworkId, NodeId, RateCardId, TaskId};
use tally_protocol::points::Points;
use tally_protocol::rate_card::RateCard;
use tally_protocol::signed::Verified;
use tally_protocol::task::{BlobRef, Edit, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Limits;

use super::presence::Attendance;
use super::{Crash, Fate, Options, World};
use crate::chance::Chance;
use crate::conduct::Kind;
use crate::coordinator::{self, CoordinatorNode, Duty, Errand};
use crate::customer::{self, CustomerNode};
use crate::execution::{Execution, FUEL_PER_SECOND, Nature, edited};
use crate::links::{Cut, Line, Links};
use crate::moment::Moment;
use crate::onlookers::Onlookers;
use crate::oracle::Oracles;
use crate::overlay::figures::BUCKETS;
use crate::peer::Peer;
use crate::reference::{self, Reference, TaskReference};
use crate::scenario::{CutTable, OrderTable, Scenario, Tasks, Terminals, Wanted};
use crate::stage::{Clock, Directory, Event, Stage};
use crate::statistics::Statistics;
use crate::terminal::{self, TerminalNode};
use crate::trace::Trace;
use crate::wrap::{Plain, TerminalWrap, Wrap};

/// Bootstrap nodes of each world: servers of the look-ups and hubs of the gossip, nothing else.
pub(super) const BOOTSTRAPS: u32 = 2;
/// How long a customer that leaves stays away, about.
const CUSTOMER_AWAY: Duration = Duration::from_secs(120);
/// How much more fuel than its median a unit may use, as far as a task may ask for so much.
const FUEL_MAX: f64 = 1_000.0;

/// The highest fuel limit of a task (protocol/src/task.rs): 39 hours on a common computer.
const FUEL_LIMIT_MAX: u64 = 1 << 50;

/// When tasks have to have ended: after the end of every world.
const DEADLINE_MILLIS: u64 = 40 * 24 * 3_600 * 1_000;
/// How long certificates hold: longer than every world.
const CERTIFICATE_MILLIS: u64 = 40 * 24 * 3_600 * 1_000;

/// A world while it is built.
struct Builder<'a> {
    scenario: &'a Scenario,
    seed: u64,
    chance: Chance,
    directory: Directory,
    lines: Vec<Line>,
    conducts: Vec<Kind>,
    network: NetworkId,
    /// The rate card of each coordinator.
    cards: Vec<RateCardId>,
    /// Whose each terminal is.
    owners: Vec<NodeId>,
    /// The number of the key of each terminal's owner; none if it is its own.
    owner_numbers: Vec<Option<u32>>,
    first_terminal: u32,
}

pub(super) fn world(scenario: &Scenario, seed: u64, options: &Options) -> World {
    let mut builder = Builder::new(scenario, seed);
    let wrap = options.wrap.unwrap_or(|| Box::new(Plain));
    let mut coordinators = builder.coordinators(wrap, options.crash);
    for number in 0..BOOTSTRAPS {
        let key = key(seed, "bootstrap's key", number);
        builder.node(&key, "server", Kind::Honest);
    }
    let first_customer = count(builder.directory.len());
    let (customers, execution, tasks) = builder.customers(&mut coordinators);
    let first_terminal = count(builder.directory.len());
    builder.first_terminal = first_terminal;
    let wrap = options.terminal_wrap.unwrap_or(|| Box::new(Plain));
    let (terminals, attendances) = builder.terminals(wrap);
    let first_app_server = count(builder.directory.len());
    let wrap = options.app_server_wrap.unwrap_or(|| Box::new(Plain));
    let app_servers = builder.app_servers(wrap, options.crash);
    let first_owner = count(builder.directory.len());
    let owners = builder.owners(&terminals, &app_servers);
    for order in &scenario.orders {
        let errand = builder.errand(order, (first_customer, first_terminal));
        coordinators[order.coordinator as usize].expect_errand(errand);
    }
    let reference = builder.reference(&execution, tasks);
    let cuts = scenario.cuts.iter();
    let cuts = cuts.map(|cut| builder.cut(cut, &terminals)).collect();
    let listened = builder.conducts.iter().any(|kind| kind.listens());
    let onlookers = Onlookers {
        trace: Trace::default(),
        statistics: Statistics::new(&reference),
        oracles: Oracles::new(reference),
        story: None,
    };
    let links = Links::new(builder.lines, Chance::new(seed, "links", 0));
    let mut stage = Stage::new(seed, builder.directory, (links, execution), onlookers);
    if listened {
        stage.wire.tap();
    }
    stage.heads = scenario.heads;
    let (crashes, shop_crashes) = crashes(scenario);
    let mut world = World {
        scenario: scenario.clone(),
        stage,
        coordinators,
        customers,
        terminals,
        attendances,
        app_servers,
        owners,
        crashes,
        shop_crashes,
        cuts,
        first_customer,
        first_terminal,
        first_app_server,
        first_owner,
        steps: 0,
        quiet: None,
        calm: false,
        done: false,
    };
    plan(&mut world);
    world
}

/// Mean time between crashes, and longest time down, of each node of a kind.
type Crashes = Vec<(Option<Duration>, Duration)>;

/// Returns the crashes of coordinators and of app servers.
fn crashes(scenario: &Scenario) -> (Crashes, Crashes) {
    let groups = scenario.coordinators.iter();
    let coordinators = groups.flat_map(|group| {
        std::iter::repeat_n((group.crash_every, group.down), group.count as usize)
    });
    let groups = scenario.app_servers.iter();
    let app_servers = groups.flat_map(|group| {
        std::iter::repeat_n((group.crash_every, group.down), group.count as usize)
    });
    (coordinators.collect(), app_servers.collect())
}

/// Plans what is known from the beginning.
fn plan(world: &mut World) {
    let scenario = &world.scenario;
    let mut fates: Vec<(Moment, Fate)> = (0..world.first_customer)
        .map(|number| (Moment::START, Fate::Starts(Peer(number))))
        .collect();
    let mut customers = world.customers.iter();
    for group in &scenario.tasks {
        for (number, customer) in (0..group.count).zip(&mut customers) {
            let at = Moment::START + group.at + group.every * number;
            fates.push((at, Fate::Starts(customer.peer)));
        }
    }
    for (attendance, terminal) in world.attendances.iter_mut().zip(&world.terminals) {
        fates.push((attendance.first(), Fate::Starts(terminal.peer)));
    }
    for app_server in &world.app_servers {
        fates.push((Moment::START, Fate::Starts(app_server.peer)));
    }
    let mut owners = world.owners.iter();
    for group in &scenario.owners {
        for owner in owners.by_ref().take(group.count as usize) {
            fates.push((Moment::START + group.at, Fate::Starts(owner.peer)));
        }
    }
    for (number, cut) in scenario.cuts.iter().enumerate() {
        fates.push((Moment::START + cut.at, Fate::CutBegins(number)));
    }
    if let Some(calm) = scenario.calm_after {
        fates.push((Moment::START + calm, Fate::Calm));
    }
    let every = world.stage.onlookers.statistics.sample_every();
    fates.push((Moment::START + every, Fate::Sample));
    for (at, fate) in fates {
        world.stage.plan(at, Event::World(fate));
    }
}

impl<'a> Builder<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        Self {
            scenario,
            seed,
            chance: Chance::new(seed, "world", 0),
            directory: Directory::default(),
            lines: Vec::new(),
            conducts: Vec::new(),
            network: "netsim".parse().expect("a legal name"),
            cards: Vec::new(),
            owners: Vec::new(),
            owner_numbers: Vec::new(),
            first_terminal: 0,
        }
    }

    /// Says what should come of the world, when all nodes are there.
    fn reference(
        &self,
        execution: &Arc<Execution>,
        tasks: BTreeMap<TaskId, TaskReference>,
    ) -> Reference {
        let owned = (Peer(self.first_terminal), self.owners.clone());
        let conducts = self.conducts.clone();
        let reference = Reference::new(Arc::clone(execution), tasks, conducts, owned);
        let groups = self.scenario.coordinators.iter();
        let admits =
            groups.flat_map(|group| std::iter::repeat_n(group.admission, group.count as usize));
        reference.with(self.directory.ids().to_vec(), admits.collect())
    }

    fn node(&mut self, key: &SigningKey, line: &str, conduct: Kind) -> Peer {
        let line = self.scenario.line(line);
        self.lines
            .push(line.expect("a scenario names lines that are there"));
        self.conducts.push(conduct);
        self.directory.add(id(key))
    }

    fn coordinators(
        &mut self,
        wrap: fn() -> Box<dyn Wrap>,
        crash: Option<Crash>,
    ) -> Vec<CoordinatorNode> {
        let mut coordinators = Vec::new();
        let has_app_servers = !self.scenario.app_servers.is_empty();
        for group in &self.scenario.coordinators {
            for _ in 0..group.count {
                let number = count(coordinators.len());
                let key = key(self.seed, "coordinator's key", number);
                let peer = self.node(&key, &group.line, group.conduct);
                self.directory.coordinate(peer);
                let clock = Clock::draw(&mut self.chance, group.clock_off);
                let rates = group.rates.rates();
                // What it publishes when the world begins, for its customers to name.
                let card = RateCard {
                    version: 1,
                    published: clock.read(Moment::START),
                    rates: rates.clone(),
                };
                self.cards
                    .push(Verified::sign(card, &self.network, &key).id());
                let setup = coordinator::Setup {
                    key,
                    clock,
                    commit: group.commit,
                    snapshot_every: group.snapshot_every,
                    rates,
                    known_per_mille: group.known_per_mille,
                    admission: group.admission.admission(),
                    decision: has_app_servers.then_some(group.agreements.decision()),
                    crash: crash.filter(|crash| crash.node == peer),
                    bucket: u8::try_from(number % u32::from(BUCKETS)).unwrap_or(0),
                };
                let parts = (group.conduct.conduct(), wrap());
                coordinators.push(CoordinatorNode::new(peer, setup, parts, self.seed));
            }
        }
        coordinators
    }

    fn customers(
        &mut self,
        coordinators: &mut [CoordinatorNode],
    ) -> (
        Vec<CustomerNode>,
        Arc<Execution>,
        BTreeMap<TaskId, TaskReference>,
    ) {
        let (mut customers, mut tasks) = (Vec::new(), BTreeMap::new());
        let mut execution = Execution::default();
        for group in &self.scenario.tasks {
            for within in 0..group.count {
                let number = count(customers.len());
                let key = key(self.seed, "customer's key", number);
                let peer = self.node(&key, "home", Kind::Honest);
                let turn = number % count(coordinators.len());
                let coordinator = Peer(group.coordinator.unwrap_or(turn));
                if let Some(money) = group.max_price {
                    let deposit = Movement::Deposit(Fund::Customer(id(&key)));
                    coordinators[coordinator.index()].expect_errand(Errand {
                        at: Moment::START,
                        what: Duty::Move(deposit, money),
                    });
                }
                let at = Moment::START + group.at + group.every * within;
                let created = Clock::default().read(at);
                let card = self.cards[coordinator.index()];
                let task = task(group, number, id(&key), (created, card));
                let signed = Verified::sign(task, &self.network, &key);
                let task_id = signed.task_id();
                execution.add(task_id, nature(group));
                let (failing, merged) = reference::outcome(&execution, &task_id, group.units);
                let result = if group.edited {
                    edited(&merged)
                } else {
                    merged
                };
                let expected = TaskReference {
                    number,
                    name: signed.name.clone(),
                    units: group.units,
                    agree: group.agree,
                    error_max: signed.quorum.error_max,
                    total_max: signed.quorum.total_max,
                    skips: signed.on_failure == OnFailure::Skip,
                    lease: group.lease,
                    customer: peer,
                    coordinator,
                    failing,
                    result,
                    may_be_cancelled: group.cancelled_after.is_some(),
                };
                tasks.insert(task_id, expected);
                let setup = customer::Setup {
                    clock: Clock::default(),
                    coordinator,
                    task: task_id,
                    signed: signed.signed().clone(),
                    leaves: group.customer_leaves.then_some(CUSTOMER_AWAY),
                    cancels_after: group.cancelled_after,
                };
                customers.push(CustomerNode::new(peer, setup, self.seed));
            }
        }
        (customers, Arc::new(execution), tasks)
    }

    fn terminals(
        &mut self,
        wrap: fn() -> Box<dyn TerminalWrap>,
    ) -> (Vec<TerminalNode>, Vec<Attendance>) {
        let (mut terminals, mut attendances) = (Vec::new(), Vec::new());
        for group in &self.scenario.terminals {
            let first = count(terminals.len());
            for within in 0..group.count {
                let number = count(terminals.len());
                let key = key(self.seed, "terminal's key", number);
                let peer = self.node(&key, &group.line, group.conduct);
                let owner = group.owners.map(|owners| first + within % owners);
                self.owner_numbers.push(owner);
                let setup = self.terminal(group, key, owner);
                let certificate = setup.certificate.as_ref();
                let owner = certificate.map_or(self.directory.id(peer), Verified::signer);
                self.owners.push(owner);
                self.directory.own(owner, peer);
                let parts = (group.conduct.conduct(), wrap());
                terminals.push(TerminalNode::new(peer, setup, parts, self.seed));
                let chance = Chance::new(self.seed, "attendance", u64::from(number));
                attendances.push(Attendance::new(group.presence.clone(), chance));
            }
        }
        (terminals, attendances)
    }

    fn terminal(
        &mut self,
        group: &Terminals,
        key: SigningKey,
        owner: Option<u32>,
    ) -> terminal::Setup {
        let (least, most) = group.slots;
        let more = self.chance.below(u64::from(most - least) + 1);
        let (slowest, fastest) = group.speed;
        let may_redeem = Points::from_micro(group.redeem_points.saturating_mul(1_000_000));
        let certificate = owner.map(|owner| self.certify((id(&key), may_redeem), owner));
        terminal::Setup {
            certificate,
            enrols: self.enrols(group),
            key,
            slots: least + u8::try_from(more).unwrap_or(0),
            speed: slowest * libm::pow(fastest / slowest, self.chance.part()),
            faults: group.faults,
            clock: Clock::draw(&mut self.chance, group.clock_off),
            owner: group.interrupted.map(|interrupted| terminal::Owner {
                interrupted,
                calm: self.scenario.calm_after.map(|calm| Moment::START + calm),
            }),
        }
    }

    /// Has an owner certify that a device is its own.
    fn certify(
        &self,
        (device, redeem_points): (NodeId, Points),
        owner: u32,
    ) -> Verified<DeviceCertificate> {
        let begins = Clock::default().read(Moment::START).as_millis();
        let certificate = DeviceCertificate {
            device,
            not_before: Timestamp::from_millis(begins),
            not_after: Timestamp::from_millis(begins + CERTIFICATE_MILLIS),
            serial: 1,
            redeem_points,
        };
        let owner = key(self.seed, "owner's key", owner);
        Verified::sign(certificate, &self.network, &owner)
    }

    /// Makes of an order what the operator has to do, where these are the first customer and the first terminal.
    fn errand(&self, order: &OrderTable, (customers, terminals): (u32, u32)) -> Errand {
        let node = |first: u32, number: u32| self.directory.id(Peer(first + number));
        let customer = |task| node(customers, task);
        let what = match order.what {
            Wanted::Deposit { task, money } => {
                Duty::Move(Movement::Deposit(Fund::Customer(customer(task))), money)
            }
            Wanted::Withdrawal { task, money } => {
                Duty::Move(Movement::PayOut(Payee::Customer(customer(task))), money)
            }
            Wanted::PayOut { terminal, money } => {
                let owner = self.owners[terminal as usize];
                Duty::Move(Movement::PayOut(Payee::Owner(owner)), money)
            }
            Wanted::Earnings { money } => Duty::Move(Movement::PayOut(Payee::Operator), money),
            Wanted::Refund { task, money } => Duty::Move(Movement::Refund(customer(task)), money),
            Wanted::ClawBack { terminal } => Duty::ClawBack(node(terminals, terminal)),
        };
        let at = Moment::START + order.at;
        Errand { at, what }
    }

    fn cut(&mut self, table: &CutTable, terminals: &[TerminalNode]) -> Cut {
        let mut inside: BTreeSet<Peer> = table.coordinators.iter().map(|at| Peer(*at)).collect();
        for terminal in terminals {
            if self.chance.happens(table.terminals) {
                inside.insert(terminal.peer);
            }
        }
        let one_way = table.one_way;
        Cut { inside, one_way }
    }
}

/// Makes the task that its customer signs.
pub(crate) fn task(
    group: &Tasks,
    number: u32,
    customer: NodeId,
    (created, rate_card): (Timestamp, RateCardId),
) -> Task {
    let blob = |what: &str, bytes| BlobRef {
        id: BlobId::of(format!("{what} {number}").as_bytes()),
        bytes,
    };
    let limits = Limits {
        fuel: nature(group).fuel_max,
        memory_bytes: 64 << 20,
        output_bytes: group.output.0.max(64),
    };
    let program = blob("program", group.program.0);
    let edit = Edit {
        program: blob("editor", group.program.0),
        args: Vec::new(),
        limits,
    };
    let agree = group.agree;
    Task {
        name: format!("task {number}"),
        customer,
        created,
        program,
        args: Vec::new(),
        input: blob("input", group.input.0 * u64::from(group.units)),
        split: Split::Bytes(group.input.0),
        limits,
        lease_millis: u64::try_from(group.lease.as_millis()).unwrap_or(u64::MAX),
        quorum: Quorum {
            agree,
            error_max: 8,
            total_max: agree.saturating_mul(4).max(agree + 6),
        },
        merge: Merge::Concat,
        edit: group.edited.then_some(edit),
        on_failure: if group.failing > 0.0 {
            OnFailure::Skip
        } else {
            OnFailure::Fail
        },
        rate_card,
        max_price: group.max_price.map_or(0, |money: Money| money.minor),
        deadline_millis: DEADLINE_MILLIS,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive amount below 2^63, rounded"
)]
fn nature(group: &Tasks) -> Nature {
    let fuel = group.unit_time.as_secs_f64() * FUEL_PER_SECOND;
    Nature {
        fuel,
        spread: group.spread,
        output_bytes: group.output.0,
        failing: group.failing,
        fuel_max: ((fuel * FUEL_MAX) as u64).min(FUEL_LIMIT_MAX),
    }
}

/// Returns a key of its own for each node.
fn key(seed: u64, role: &str, number: u32) -> SigningKey {
    SigningKey::from_bytes(&Chance::new(seed, role, u64::from(number)).bytes())
}

fn id(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("a world has a bounded number of nodes")
}
