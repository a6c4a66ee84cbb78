//! A world: built from a scenario and a seed, run event by event until nothing is left to be done.

mod build;
mod presence;

use std::time::Duration;

use tally_ledger::store::Store;
use tally_protocol::account::Account;
use tally_protocol::app_server::AppServer;
use tally_protocol::coordinator::Coordinator;
use tally_protocol::id::{GrantId, NodeId};
use tally_protocol::terminal::Terminal;
use tally_protocol::witness::Witness;

use crate::app_server::AppServerNode;
use crate::coordinator::CoordinatorNode;
use crate::customer::CustomerNode;
use crate::happening::{Happening, Mark, Stop};
use crate::links::Cut;
use crate::moment::Moment;
use crate::onlookers::Onlookers;
use crate::oracle::{Finding, Oracles};
use crate::owner::OwnerNode;
use crate::peer::Peer;
use crate::report::{Accounts, RunReport};
use crate::scenario::Scenario;
use crate::stage::{Event, Stage, Within};
use crate::statistics::Sample;
use crate::story::{Cast, Story, Subject};
use crate::terminal::TerminalNode;
use crate::wrap::{AppServerWrap, TerminalWrap, Wrap};
pub(crate) use build::task;
use presence::Attendance;

/// How long it takes until somebody whose connection broke without a word is noticed: some pings.
const SILENCE: Duration = Duration::from_secs(35);
/// Steps between two looks of whoever watches a run: some tens of milliseconds.
const STEPS_UNWATCHED: u64 = 8_192;

/// Within less than this what a task has left behind is not yet gone: terminals renew their leases that seldom.
const SETTLE_MIN: Duration = Duration::from_secs(60);

/// Something that befalls a node from outside, or the world.
#[derive(Debug)]
pub(crate) enum Fate {
    /// A node comes.
    Starts(Peer),
    /// A terminal goes.
    Leaves(Peer),
    /// A coordinator or an app server crashes.
    Crashes(Peer),
    CutBegins(usize),
    CutEnds(usize, usize),
    Calm,
    Sample,
}

/// A world.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    stage: Stage,
    coordinators: Vec<CoordinatorNode>,
    customers: Vec<CustomerNode>,
    terminals: Vec<TerminalNode>,
    attendances: Vec<Attendance>,
    app_servers: Vec<AppServerNode>,
    owners: Vec<OwnerNode>,
    /// Mean time between crashes, and longest time down, of each coordinator.
    crashes: Vec<(Option<Duration>, Duration)>,
    /// The same of each app server.
    shop_crashes: Vec<(Option<Duration>, Duration)>,
    cuts: Vec<Cut>,
    first_customer: u32,
    first_terminal: u32,
    first_app_server: u32,
    first_owner: u32,
    steps: u64,
    /// When the last task had ended for its customer, and faults had stopped if they do.
    quiet: Option<Moment>,
    calm: bool,
    done: bool,
}

/// What is to be different from an ordinary run.
#[derive(Debug, Default)]
pub struct Options {
    /// What stands between each coordinator's driver and its machine.
    pub wrap: Option<fn() -> Box<dyn Wrap>>,
    /// What stands between each terminal's driver and its machines.
    pub terminal_wrap: Option<fn() -> Box<dyn TerminalWrap>>,
    /// What stands between each app server's driver and its machine.
    pub app_server_wrap: Option<fn() -> Box<dyn AppServerWrap>>,
    /// A crash at a moment that no chance would find.
    pub crash: Option<Crash>,
}

/// A crash of a coordinator or an app server with a group of records. What it loses is not lost by half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The coordinator or the app server.
    pub node: Peer,
    /// The group, from 1: they are counted over all starts.
    pub group: u64,
    /// What is lost.
    pub loss: Loss,
}

/// What a planned crash takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The group: it comes before anything of it is on the disk.
    Group,
    /// What should have followed from the group: it comes when that is durable and nobody knows yet.
    Effects,
}

impl World {
    /// Builds the world of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64, options: &Options) -> Self {
        build::world(scenario, seed, options)
    }

    /// Runs to the end, or until an oracle finds something.
    pub fn run(&mut self) {
        self.run_watched(|_| {});
    }

    /// Runs to the end, or until an oracle finds something; now and then `watch` is shown how far the world is.
    pub fn run_watched(&mut self, mut watch: impl FnMut(&Self)) {
        while self.step() {
            if self.steps.is_multiple_of(STEPS_UNWATCHED) {
                watch(self);
            }
        }
        self.finish();
    }

    /// Lets a story be told from now on.
    pub fn tell(&mut self, subject: Subject) {
        let cast = Cast {
            coordinators: u32::try_from(self.coordinators.len()).unwrap_or(u32::MAX),
            first_customer: self.first_customer,
            first_terminal: self.first_terminal,
            first_app_server: self.first_app_server,
            first_owner: self.first_owner,
        };
        self.stage.onlookers.story = Some(Story::new(subject, cast));
    }

    /// Returns the number of nodes.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.stage.directory.len()
    }

    /// Takes the next event. Returns whether there is one more to take.
    pub fn step(&mut self) -> bool {
        if self.done {
            return false;
        }
        let Some(event) = self.stage.next() else {
            self.done = true;
            return false;
        };
        self.steps += 1;
        self.take(event);
        let until = Moment::START + self.scenario.until;
        let settled = self
            .quiet
            .is_some_and(|at| self.stage.now >= at + self.scenario.settle);
        self.done = self.stage.now >= until || settled || self.finding().is_some();
        !self.done
    }

    /// Returns what an oracle found first.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        self.stage.onlookers.finding()
    }

    /// Returns the moment.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.stage.now
    }

    /// Returns how long the world runs at most.
    #[must_use]
    pub const fn until(&self) -> Duration {
        self.scenario.until
    }

    /// Returns all who look on.
    #[must_use]
    pub const fn onlookers(&self) -> &Onlookers {
        &self.stage.onlookers
    }

    /// Returns whether a customer has what it wanted, or knows that it never will.
    #[must_use]
    pub fn is_satisfied(&self, customer: Peer) -> bool {
        self.customers
            .iter()
            .any(|node| node.peer == customer && node.is_satisfied())
    }

    /// Returns the node of an id.
    #[must_use]
    pub fn peer(&self, id: &NodeId) -> Option<Peer> {
        self.stage.directory.peer(id)
    }

    /// Returns the machines of the coordinators that run.
    pub fn coordinators(&self) -> impl Iterator<Item = (Peer, &Coordinator, &Store)> {
        self.coordinators
            .iter()
            .filter_map(|node| Some((node.peer, node.machine()?, node.store()?)))
    }

    /// Returns whether a coordinator has decided what is not on its disk yet.
    #[must_use]
    pub fn is_writing(&self, coordinator: Peer) -> bool {
        let mut nodes = self.coordinators.iter();
        nodes.any(|node| node.peer == coordinator && node.is_writing())
    }

    /// Returns the machines of the app servers that run.
    pub fn app_servers(&self) -> impl Iterator<Item = (Peer, &AppServer, &Store)> {
        self.app_servers
            .iter()
            .filter_map(|node| Some((node.peer, node.machine()?, node.store()?)))
    }

    /// Returns how many groups of records a coordinator or an app server had ready for its disk so far.
    #[must_use]
    pub fn groups(&self, node: Peer) -> u64 {
        match self.place(node) {
            Place::Coordinator(at) => self.coordinators[at].groups(),
            Place::AppServer(at) => self.app_servers[at].groups(),
            Place::Customer(_) | Place::Terminal(_) | Place::Owner(_) | Place::Bootstrap => 0,
        }
    }

    /// Returns the machines of the terminals that are there.
    pub fn terminals(&self) -> impl Iterator<Item = (Peer, &Terminal)> {
        self.terminals
            .iter()
            .filter_map(|node| Some((node.peer, node.machine()?)))
    }

    /// Returns the witnesses of the terminals that are there.
    pub fn witnesses(&self) -> impl Iterator<Item = (Peer, &Witness)> {
        let nodes = self.terminals.iter();
        nodes.filter_map(|node| Some((node.peer, node.witness()?)))
    }

    /// Returns the id of a node.
    #[must_use]
    pub fn id(&self, peer: Peer) -> NodeId {
        self.stage.directory.id(peer)
    }

    /// Returns how many units a terminal runs at a time; none for other nodes.
    #[must_use]
    pub fn slots(&self, terminal: Peer) -> u32 {
        let place = terminal.0.checked_sub(self.first_terminal);
        let node = place.and_then(|place| self.terminals.get(place as usize));
        node.map_or(0, |node| u32::from(node.setup.slots))
    }

    /// Returns the grants that terminals hold.
    pub fn held_grants(&self) -> impl Iterator<Item = (Peer, GrantId)> {
        let grants = |node: &TerminalNode| {
            let peer = node.peer;
            node.grants()
                .map(move |grant| (peer, grant))
                .collect::<Vec<_>>()
        };
        self.terminals.iter().flat_map(grants)
    }

    /// Returns what should be nothing when all is done: questions without an answer at the coordinators, and
    /// outputs that may be read.
    #[must_use]
    pub fn left_over(&self) -> (usize, usize) {
        let now = self.stage.now;
        let questions = self.coordinators.iter().map(|node| node.questions(now));
        (questions.sum(), self.stage.readable.len())
    }

    /// Returns whether everything has had the time to settle after the last task had ended and faults had stopped.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        let settled = |at| self.stage.now >= at + self.scenario.settle;
        self.scenario.settle >= SETTLE_MIN && self.quiet.is_some_and(settled)
    }

    /// Returns what the run was, `wall` being what it took.
    #[must_use]
    pub fn report(&self, wall: Duration) -> RunReport {
        let onlookers = &self.stage.onlookers;
        let traffic = self
            .terminals
            .iter()
            .map(|node| self.stage.links.traffic(node.peer));
        let mut report = onlookers.statistics.report(
            onlookers.oracles.reference(),
            (
                self.terminals.len().try_into().unwrap_or(u32::MAX),
                self.coordinators.len().try_into().unwrap_or(u32::MAX),
            ),
            traffic.collect(),
        );
        report.scenario = self.scenario.name.clone();
        report.about = self.scenario.about.clone();
        report.seed = self.stage.seed;
        report.trace_hash = onlookers.trace.hash();
        report.virtual_seconds = self.stage.now.as_secs_f64();
        report.wall_seconds = wall.as_secs_f64();
        report.steps = self.steps;
        report.oracles = onlookers.oracles.reports();
        self.sum_accounts(&mut report.accounts);
        report
    }

    /// Adds what stands in the books of coordinators, and what terminals think of these.
    fn sum_accounts(&self, sums: &mut Accounts) {
        for (_, machine, _) in self.coordinators() {
            for ((account, _), balance) in machine.books().balances() {
                let there = u64::try_from(balance.posted()).unwrap_or(0);
                match account {
                    Account::Escrow(_) => sums.escrowed += there,
                    Account::Spendable(_) => sums.spendable += there,
                    Account::Customer(_) => {
                        sums.held += balance.pending_debits;
                        sums.paid += balance.debits;
                    }
                    Account::Reserve => sums.reserve += there,
                    Account::Issued
                    | Account::Redeemed(_)
                    | Account::Expired(_)
                    | Account::Outside
                    | Account::Held(_)
                    | Account::Subsidy
                    | Account::Revenue
                    | Account::Credit(_)
                    | Account::Reserved(_)
                    | Account::Payable(_)
                    | Account::Receivable(_)
                    | Account::Sales => {}
                }
            }
        }
        let owing = |(_, machine): (Peer, &Terminal)| machine.gauges().owing as u64;
        sums.owing = self.terminals().map(owing).sum();
    }

    fn finish(&mut self) {
        if self.finding().is_some() {
            return;
        }
        let oracles = self.take_oracles();
        self.stage.onlookers.oracles = oracles.judge_end(self.stage.now, self);
    }

    /// Takes the oracles out, so that they can look at the whole world.
    fn take_oracles(&mut self) -> Oracles {
        std::mem::replace(&mut self.stage.onlookers.oracles, Oracles::nobody())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Arrive(envelope) => {
                let to = envelope.to;
                if !self.stage.directory.is_up(to) {
                    return;
                }
                match self.place(to) {
                    Place::Coordinator(at) => {
                        self.coordinators[at].arrive(&mut self.stage, *envelope)
                    }
                    Place::Customer(at) => self.customers[at].arrive(&mut self.stage, *envelope),
                    Place::Terminal(at) => self.terminals[at].arrive(&mut self.stage, *envelope),
                    Place::AppServer(at) => self.app_servers[at].arrive(&mut self.stage, *envelope),
                    Place::Owner(at) => self.owners[at].arrive(&mut self.stage, *envelope),
                    Place::Bootstrap => {}
                }
            }
            Event::NoAnswer { by, ask } => match self.place(by) {
                Place::Customer(at) => self.customers[at].unanswered(&mut self.stage, ask),
                Place::Terminal(at) => self.terminals[at].unanswered(&mut self.stage, ask),
                Place::AppServer(at) => self.app_servers[at].unanswered(&mut self.stage, ask),
                Place::Owner(at) => self.owners[at].unanswered(&mut self.stage, ask),
                Place::Coordinator(at) => {
                    self.coordinators[at].unanswered(&mut self.stage, ask);
                }
                Place::Bootstrap => {}
            },
            Event::Within { node, start, what } => {
                let current = self.stage.directory.start(node) == start;
                if current && self.stage.directory.is_up(node) {
                    self.within(node, what);
                }
            }
            Event::World(fate) => self.befall(fate),
        }
        self.look_for_quiet();
    }

    fn within(&mut self, node: Peer, what: Within) {
        match (self.place(node), what) {
            (Place::Terminal(at), Within::Terminal(what)) => {
                self.terminals[at].within(&mut self.stage, what)
            }
            (Place::Coordinator(at), Within::Coordinator(what)) => {
                self.coordinators[at].within(&mut self.stage, what);
                if self.coordinators[at].has_failed() {
                    self.crashes(node);
                }
            }
            (Place::Customer(at), Within::Customer(what)) => {
                self.customers[at].within(&mut self.stage, what)
            }
            (Place::AppServer(at), Within::AppServer(what)) => {
                self.app_servers[at].within(&mut self.stage, what);
                if self.app_servers[at].has_failed() {
                    self.crashes(node);
                }
            }
            (Place::Owner(at), Within::Owner(what)) => {
                self.owners[at].within(&mut self.stage, what);
            }
            (
                Place::Terminal(_)
                | Place::Coordinator(_)
                | Place::Customer(_)
                | Place::AppServer(_)
                | Place::Owner(_)
                | Place::Bootstrap,
                _,
            ) => {
                unreachable!("what is within a node was planned by a node of its role")
            }
        }
    }

    fn befall(&mut self, fate: Fate) {
        match fate {
            Fate::Starts(node) => self.starts(node),
            Fate::Leaves(node) => self.leaves(node),
            Fate::Crashes(node) => self.crashes(node),
            Fate::CutBegins(number) => {
                let cut = self.stage.links.cut(self.cuts[number].clone());
                self.mark(Mark::CutBegins(number));
                let ends = self.stage.now + self.scenario.cuts[number].lasts;
                self.stage
                    .plan(ends, Event::World(Fate::CutEnds(number, cut)));
            }
            Fate::CutEnds(number, cut) => {
                self.stage.links.heal(cut);
                if !self.calm {
                    self.mark(Mark::CutEnds(number));
                }
            }
            Fate::Calm => {
                self.calm = true;
                self.stage.links.calm_down();
                self.mark(Mark::Calm);
            }
            Fate::Sample => self.sample(),
        }
    }

    fn mark(&mut self, mark: Mark) {
        self.stage.note(&Happening::Marked(mark));
    }

    fn starts(&mut self, node: Peer) {
        match self.place(node) {
            Place::Terminal(at) => {
                self.terminals[at].start(&mut self.stage);
                self.bootstrap(node);
                if let Some(goes) = self.attendances[at].goes(self.stage.now) {
                    self.stage.plan(goes, Event::World(Fate::Leaves(node)));
                }
            }
            Place::Coordinator(at) => {
                if self.stage.directory.start(node) > 0 {
                    self.mark(Mark::Restart(node));
                }
                self.bootstrap(node);
                self.coordinators[at].start(&mut self.stage);
                self.plan_crash(node, self.crashes[at].0);
            }
            Place::AppServer(at) => {
                if self.stage.directory.start(node) > 0 {
                    self.mark(Mark::ShopRestart(node));
                }
                self.app_servers[at].start(&mut self.stage);
                self.plan_crash(node, self.shop_crashes[at].0);
            }
            Place::Owner(at) => self.owners[at].start(&mut self.stage),
            Place::Customer(at) => self.customers[at].start(&mut self.stage),
            Place::Bootstrap => {
                self.stage.start(node);
                self.stage.kademlia.server_up(node);
            }
        }
    }

    /// Connects a node to those that everybody connects to first.
    fn bootstrap(&mut self, node: Peer) {
        for number in 1..=build::BOOTSTRAPS {
            let bootstrap = Peer(self.first_customer - number);
            self.stage.gossip.connect(node, bootstrap);
        }
    }

    /// Plans the next crash of a coordinator or an app server, if it has any before faults stop.
    fn plan_crash(&mut self, node: Peer, every: Option<Duration>) {
        let Some(every) = every else {
            return;
        };
        let when = self.stage.now + self.stage.chance.exponential(every);
        let calm = self.scenario.calm_after.map(|calm| Moment::START + calm);
        if calm.is_none_or(|calm| when < calm) {
            self.stage.plan(when, Event::World(Fate::Crashes(node)));
        }
    }

    fn leaves(&mut self, node: Peer) {
        let Place::Terminal(at) = self.place(node) else {
            return;
        };
        // One in two says nothing: its computer is asleep.
        let is_silent = self.stage.chance.happens(0.5);
        self.terminals[at].stop();
        let how = if is_silent { Stop::Crashed } else { Stop::Left };
        self.stage.stop(node, how);
        let noticed = self.stage.now + if is_silent { SILENCE } else { Duration::ZERO };
        let id = self.stage.directory.id(node);
        for coordinator in &self.coordinators {
            if self.stage.disconnect(node, coordinator.peer) {
                let gone = crate::coordinator::Within::Gone(id);
                let gone = Within::Coordinator(gone);
                self.stage.plan_within(noticed, coordinator.peer, gone);
            }
        }
        if let Some(comes) = self.attendances[at].comes(self.stage.now) {
            self.stage.plan(comes, Event::World(Fate::Starts(node)));
        }
    }

    fn crashes(&mut self, node: Peer) {
        if !self.stage.directory.is_up(node) {
            return;
        }
        let down = match self.place(node) {
            Place::Coordinator(at) => {
                self.coordinators[at].crash(&mut self.stage);
                self.crashes[at].1
            }
            Place::AppServer(at) => {
                self.app_servers[at].crash(&mut self.stage);
                self.shop_crashes[at].1
            }
            Place::Customer(_) | Place::Terminal(_) | Place::Owner(_) | Place::Bootstrap => return,
        };
        self.stage.stop(node, Stop::Crashed);
        for other in self.stage.disconnect_all(node) {
            let noticed = self.stage.now + self.stage.links.latency(node, other);
            if let Place::Terminal(_) = self.place(other) {
                let lost = Within::Terminal(crate::terminal::Within::Lost(node));
                self.stage.plan_within(noticed, other, lost);
            }
        }
        let back = self.stage.now + self.stage.chance.between(down / 10, down);
        self.stage.plan(back, Event::World(Fate::Starts(node)));
    }

    fn look_for_quiet(&mut self) {
        let faults_go_on = self.scenario.calm_after.is_some() && !self.calm;
        let is_quiet = || {
            !faults_go_on
                && self.customers.iter().all(CustomerNode::is_satisfied)
                && self.owners.iter().all(OwnerNode::is_satisfied)
                && self.app_servers.iter().all(AppServerNode::is_quiet)
        };
        if self.quiet.is_none() && is_quiet() {
            self.quiet = Some(self.stage.now);
            self.stage.is_quiet = true;
        }
    }

    fn sample(&mut self) {
        let online = |node: &&TerminalNode| node.machine().is_some();
        let up = self.terminals.iter().filter(online);
        let mut sample = Sample {
            bytes: self.stage.links.sent(),
            ..Sample::default()
        };
        for node in up {
            sample.online += 1;
            sample.slots += u64::from(node.setup.slots);
            sample.busy += node.busy() as u64;
        }
        self.stage.onlookers.statistics.sample(sample);
        let oracles = self.take_oracles();
        self.stage.onlookers.oracles = oracles.judge_sample(self.stage.now, self);
        let every = self.stage.onlookers.statistics.sample_every();
        self.stage
            .plan(self.stage.now + every, Event::World(Fate::Sample));
    }

    fn place(&self, peer: Peer) -> Place {
        let coordinators = self.coordinators.len();
        if peer.index() < coordinators {
            Place::Coordinator(peer.index())
        } else if peer.0 < self.first_customer {
            Place::Bootstrap
        } else if peer.0 < self.first_terminal {
            Place::Customer((peer.0 - self.first_customer) as usize)
        } else if peer.0 < self.first_app_server {
            Place::Terminal((peer.0 - self.first_terminal) as usize)
        } else if peer.0 < self.first_owner {
            Place::AppServer((peer.0 - self.first_app_server) as usize)
        } else {
            Place::Owner((peer.0 - self.first_owner) as usize)
        }
    }
}

/// Where a node stands in its list.
enum Place {
    Coordinator(usize),
    Bootstrap,
    Customer(usize),
    Terminal(usize),
    AppServer(usize),
    Owner(usize),
}
