//! The task that owns the swarm.
//!
//! Each arm of its loop takes one thing that happened and handles it to the end without waiting. What takes longer
//! (signatures, files) runs on blocking threads and comes back as a [`Checked`].

mod checks;
mod reaching;
mod swarm_events;
mod talks;

pub(super) use talks::{Asking, Held};

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::gossipsub::{self, MessageId};
use libp2p::kad::{QueryId, RecordKey};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm};
use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::head_gate::HeadGate;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::PROTOCOL_VERSION;
use tally_protocol::message::announce::{Offer, Role, RoleStatement};
use tally_protocol::offer_gate::OfferGate;
use tally_protocol::signed::{Signed, Verified};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use checks::Checked;

use super::behaviour::{self, Node};
use super::conversation::Questions;
use super::counters::Counters;
use super::customer::Customer;
use super::discovery::{Action, Discovery, FoundCoordinator, ShownRoles};
use super::enroll::Enroll;
use super::gossip::{self, Fault, Subject};
use super::log::Log;
use super::peer::{PeerInfo, Peers, node_of, peer_of, split_peer};
use super::reach::asking::Asking as ReachAsking;
use super::reach::testing::Testing;
use super::reach::{Reach, Reachability};
use super::redeem::Redeem;
use super::registry::Registry;
use super::traffic::Traffic;
use super::work::Work;
use super::{DialError, NetworkConfig, NetworkEvent, PublishError, StartError, now, saved};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Offers that are checked at a time; more are ignored.
const OFFER_CHECKS_MAX: usize = 64;
/// Checkpoints that are checked at a time; more are ignored.
const HEAD_CHECKS_MAX: usize = 32;
/// How long a role statement is valid; it is signed anew at half of that.
const ROLE_VALIDITY: Duration = Duration::from_secs(3_600);
/// Places in the event queue that questions of peers leave free, for what the owner must not miss.
const EVENTS_RESERVED: usize = 64;

/// What others ask of the swarm's task.
#[derive(Debug)]
pub(super) enum Command {
    Ask(Asking),
    PublishHead {
        head: SignedCheckpoint,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    PublishOffer {
        offer: Signed<Offer>,
        reply: oneshot::Sender<Result<(), PublishError>>,
    },
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<NodeId, DialError>>,
    },
    Connect {
        node: NodeId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), DialError>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Addresses {
        reply: oneshot::Sender<Vec<Multiaddr>>,
    },
    Reachability {
        reply: oneshot::Sender<Reachability>,
    },
    Find {
        reply: oneshot::Sender<Vec<FoundCoordinator>>,
    },
    ShutDown {
        reply: oneshot::Sender<()>,
    },
}

/// Who waits for a dial.
enum Dialler {
    Address(oneshot::Sender<Result<NodeId, DialError>>),
    Node(oneshot::Sender<Result<(), DialError>>),
}

/// A look-up that somebody waits for.
struct Finding {
    open: HashSet<QueryId>,
    found: BTreeSet<NodeId>,
    reply: oneshot::Sender<Vec<FoundCoordinator>>,
}

/// The state of the task.
pub(super) struct Service {
    swarm: Swarm<Node>,
    key: SigningKey,
    network: NetworkId,
    roles: Vec<Role>,
    kad_protocol: StreamProtocol,
    role: Verified<RoleStatement>,
    saved_path: Option<PathBuf>,
    explicit_loopback: bool,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<NetworkEvent>,
    counters: Counters,
    traffic: Traffic,
    peers: Peers,
    work: Questions<Work>,
    customer: Questions<Customer>,
    log: Questions<Log>,
    registry: Questions<Registry>,
    redeem: Questions<Redeem>,
    enroll: Questions<Enroll>,
    reach: Questions<Reach>,
    reach_asking: ReachAsking,
    reach_testing: Testing,
    discovery: Discovery,
    offers: OfferGate,
    heads: HeadGate,
    checks: FuturesUnordered<BoxFuture<'static, Checked>>,
    offers_in_check: usize,
    heads_in_check: usize,
    dials: HashMap<ConnectionId, Dialler>,
    findings: Vec<Finding>,
}

impl Service {
    pub(super) fn new(
        config: NetworkConfig,
        (commands, events): (mpsc::Receiver<Command>, mpsc::Sender<NetworkEvent>),
        counters: Counters,
        traffic: &Traffic,
    ) -> Result<Self, StartError> {
        let mut swarm = behaviour::swarm(&config, &counters, traffic)?;
        for address in &config.listen {
            swarm
                .listen_on(address.clone())
                .map_err(|source| StartError::Listen {
                    address: address.clone(),
                    source,
                })?;
        }
        let mut reach_asking = ReachAsking::default();
        for address in &config.external {
            let (address, _) = split_peer(address);
            reach_asking.on_address(&address, Instant::now());
            swarm.add_external_address(address);
        }
        let saved = config.saved_peers.as_deref().map(saved::load);
        let limits = config.limits;
        let role = sign_role(&config.roles, &config.network, &config.key);
        let listens_on_loopback = config
            .listen
            .iter()
            .filter_map(super::peer::ip_of)
            .any(|ip| ip.is_loopback());
        Ok(Self {
            swarm,
            discovery: Discovery::new(&config, saved.unwrap_or_default(), Instant::now()),
            kad_protocol: behaviour::kad_protocol(&config.network),
            role,
            explicit_loopback: listens_on_loopback,
            work: Questions::new(&limits, &counters),
            customer: Questions::new(&limits, &counters),
            log: Questions::new(&limits, &counters),
            registry: Questions::new(&limits, &counters),
            redeem: Questions::new(&limits, &counters),
            enroll: Questions::new(&limits, &counters),
            reach: Questions::new(&limits, &counters),
            reach_asking,
            reach_testing: Testing::default(),
            key: config.key,
            network: config.network,
            roles: config.roles,
            saved_path: config.saved_peers,
            commands,
            events,
            counters,
            traffic: traffic.clone(),
            peers: Peers::default(),
            offers: OfferGate::default(),
            heads: HeadGate::default(),
            checks: FuturesUnordered::new(),
            offers_in_check: 0,
            heads_in_check: 0,
            dials: HashMap::new(),
            findings: Vec::new(),
        })
    }

    /// Returns the control that opens and accepts streams.
    pub(super) fn stream_control(&self) -> libp2p_stream::Control {
        self.swarm.behaviour().blobs.new_control()
    }

    /// Runs until it is told to stop or all handles are gone.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let actions = self.discovery.start(Instant::now());
        self.act(actions);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                command = self.commands.recv() => match command {
                    None => break,
                    Some(Command::ShutDown { reply }) => {
                        self.save_before_end().await;
                        drop(self);
                        let _ = reply.send(());
                        return;
                    }
                    Some(command) => self.on_command(command),
                },
                Some(answered) = self.work.next_answer() => self.answer::<Work>(answered),
                Some(answered) = self.customer.next_answer() => self.answer::<Customer>(answered),
                Some(answered) = self.log.next_answer() => self.answer::<Log>(answered),
                Some(answered) = self.registry.next_answer() => self.answer::<Registry>(answered),
                Some(answered) = self.redeem.next_answer() => self.answer::<Redeem>(answered),
                Some(answered) = self.enroll.next_answer() => self.answer::<Enroll>(answered),
                Some((channel, reply)) = self.reach.next_answer() => self.answer_reach(channel, reply),
                Some(checked) = self.checks.next() => self.on_checked(checked),
                _ = ticks.tick() => self.on_tick(),
            }
        }
        self.save_before_end().await;
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ask(asking) => asking.ask(self),
            Command::PublishHead { head, reply } => {
                let published = self.publish(Subject::Heads, head.as_str().as_bytes());
                let _ = reply.send(published);
            }
            Command::PublishOffer { offer, reply } => {
                let _ = reply.send(self.publish(Subject::Offers, offer.as_bytes()));
            }
            Command::Dial { address, reply } => {
                self.dial(DialOpts::from(address), Dialler::Address(reply));
            }
            Command::Connect {
                node,
                addresses,
                reply,
            } => self.connect(node, addresses, reply),
            Command::Peers { reply } => {
                let gossip = &self.swarm.behaviour().gossip;
                let mesh = gossip.all_mesh_peers().filter_map(node_of).collect();
                let _ = reply.send(self.peers.list(&mesh));
            }
            Command::Addresses { reply } => {
                let listening = self.swarm.listeners().cloned();
                let external = self.swarm.external_addresses().cloned();
                let all: BTreeSet<_> = listening.chain(external).collect();
                let _ = reply.send(all.into_iter().collect());
            }
            Command::Reachability { reply } => drop(reply.send(self.reachability())),
            Command::Find { reply } => self.find(reply),
            Command::ShutDown { reply } => drop(reply),
        }
    }

    fn connect(
        &mut self,
        node: NodeId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), DialError>>,
    ) {
        if self.swarm.is_connected(&peer_of(node)) {
            let _ = reply.send(Ok(()));
            return;
        }
        // A dial that is already under way may use other addresses, so this one does not wait for it.
        let options = DialOpts::peer_id(peer_of(node))
            .condition(libp2p::swarm::dial_opts::PeerCondition::Disconnected)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        self.dial(options, Dialler::Node(reply));
    }

    fn dial(&mut self, options: DialOpts, dialler: Dialler) {
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, dialler);
            }
            Err(error) => dialler.failed(&error),
        }
    }

    fn publish(&mut self, subject: Subject, bytes: &[u8]) -> Result<(), PublishError> {
        if bytes.len() > subject.bytes_max() {
            return Err(PublishError::TooLong {
                bytes: bytes.len(),
                bytes_max: subject.bytes_max(),
            });
        }
        let (gossip, counters) = (&mut self.swarm.behaviour_mut().gossip, subject.counters());
        match gossip.publish(subject.topic(&self.network), bytes) {
            Ok(_) => self.counters.count(counters, "published"),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {
                self.counters.count(counters, "published_to_nobody");
            }
            Err(gossipsub::PublishError::Duplicate) => {
                self.counters.count(counters, "published_again");
            }
            Err(error) => {
                self.counters.count(counters, "publish_failed");
                return Err(PublishError::Refused(error.to_string()));
            }
        }
        Ok(())
    }

    fn find(&mut self, reply: oneshot::Sender<Vec<FoundCoordinator>>) {
        let keys = self.discovery.shuffled_keys();
        let open = keys.into_iter().map(|key| self.look(key)).collect();
        self.findings.push(Finding {
            open,
            found: BTreeSet::new(),
            reply,
        });
    }

    fn look(&mut self, key: RecordKey) -> QueryId {
        self.swarm.behaviour_mut().kad.get_providers(key)
    }

    fn act(&mut self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Dial(options) => {
                    let id = options.connection_id();
                    if let Err(error) = self.swarm.dial(options) {
                        tracing::debug!(%error, "did not dial");
                        self.discovery.on_dial_failed(id, Instant::now());
                    }
                }
                Action::Look(key) => drop(self.look(key)),
                Action::Provide(key) => {
                    if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(key) {
                        tracing::warn!(%error, "did not announce this coordinator");
                    }
                }
                Action::Hello(node) => self.ask_roles(node),
                Action::Save(peers) => self.save(peers),
            }
        }
    }

    fn on_tick(&mut self) {
        let clock = now();
        if self.role.expires.since(clock) < ROLE_VALIDITY / 2 {
            self.role = sign_role(&self.roles, &self.network, &self.key);
        }
        let actions = self.discovery.on_tick(Instant::now(), clock);
        self.act(actions);
        self.ask_reach();
    }

    /// Tells the owner; an event that has no place is lost and counted.
    fn tell(&self, event: NetworkEvent) {
        if self.events.try_send(event).is_err() {
            self.counters.count("events", "lost");
        }
    }

    /// Returns whether the owner can take another question.
    fn can_ask_owner(&self) -> bool {
        self.events.capacity() > EVENTS_RESERVED.min(self.events.max_capacity() / 2)
    }

    fn save(&mut self, peers: Vec<saved::SavedPeer>) {
        let Some(path) = self.saved_path.clone() else {
            return;
        };
        let write = tokio::task::spawn_blocking(move || saved::store(&path, peers));
        let check = async move {
            if let Ok(Err(error)) = write.await {
                tracing::warn!(%error, "did not save the known coordinators");
            }
            Checked::Saved
        };
        self.checks.push(check.boxed());
    }

    async fn save_before_end(&mut self) {
        let peers = self.discovery.saved().to_vec();
        if peers.is_empty() || self.saved_path.is_none() {
            // Nothing is on its way to the disk, and what else is being checked may wait for a peer that nobody asks now.
            return;
        }
        self.save(peers);
        while let Some(checked) = self.checks.next().await {
            if matches!(checked, Checked::Saved) {
                return;
            }
        }
    }
}

impl Dialler {
    fn failed(self, error: &libp2p::swarm::DialError) {
        let error = if matches!(error, libp2p::swarm::DialError::NoAddresses) {
            DialError::NoAddress
        } else {
            DialError::Failed(error.to_string())
        };
        match self {
            Self::Address(reply) => drop(reply.send(Err(error))),
            Self::Node(reply) => drop(reply.send(Err(error))),
        }
    }

    fn connected(self, node: NodeId) {
        match self {
            Self::Address(reply) => drop(reply.send(Ok(node))),
            Self::Node(reply) => drop(reply.send(Ok(()))),
        }
    }
}

fn sign_role(roles: &[Role], network: &NetworkId, key: &SigningKey) -> Verified<RoleStatement> {
    let statement = RoleStatement {
        protocol: PROTOCOL_VERSION,
        roles: roles.to_vec(),
        expires: now() + ROLE_VALIDITY,
    };
    Verified::sign(statement, network, key)
}
