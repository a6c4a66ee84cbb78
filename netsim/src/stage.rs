//! What all nodes of a world share: time and what is to come, the lines, the overlay, who is who, and those who look on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tally_protocol::checkpoint::SignedCheckpoint;
use tally_protocol::codec;
use tally_protocol::id::{BlobId, NetworkId, NodeId};
use tally_protocol::message::announce::Offer;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::signed::Signed;
use tally_protocol::time::Timestamp;
use tally_protocol::unit::ProfileId;

use crate::app_server;
use crate::chance::Chance;
use crate::coordinator;
use crate::customer;
use crate::execution::Execution;
use crate::happening::{Happening, Stop};
use crate::links::{Arrivals, Links};
use crate::moment::Moment;
use crate::onlookers::Onlookers;
use crate::overlay::gossip::Gossip;
use crate::overlay::kademlia::Kademlia;
use crate::owner;
use crate::peer::Peer;
use crate::queue::Queue;
use crate::shop::{ShopReply, ShopRequest};
use crate::signatures::Signatures;
use crate::terminal;
use crate::wire::Wire;

/// How long a node waits for an answer in a conversation of terminals.
const WORK_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a customer waits for an answer; a question for news may be held for twenty seconds.
const CUSTOMER_ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bytes that every message costs beside its own: frames of yamux, noise, TCP and IP.
pub(crate) const FRAME_BYTES: u64 = 120;
/// What clocks show when a world begins.
const EPOCH_MILLIS: u64 = 1_800_000_000_000;

/// What is to come.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Arrive(Box<Envelope>),
    /// Nobody waits for this answer any longer.
    NoAnswer { by: Peer, ask: u64 },
    /// Something within a node; void if the node was started anew since.
    Within {
        node: Peer,
        start: u32,
        what: Within,
    },
    /// Something that befalls a node from outside, or the world.
    World(crate::world::Fate),
}

/// Something within a node.
#[derive(Debug)]
pub(crate) enum Within {
    Terminal(terminal::Within),
    Coordinator(coordinator::Within),
    Customer(customer::Within),
    AppServer(app_server::Within),
    Owner(owner::Within),
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) from: Peer,
    pub(crate) to: Peer,
    /// Names the question; the answer has the same.
    pub(crate) ask: u64,
    pub(crate) body: Body,
}

/// What is said.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    WorkAsked(WorkRequest),
    WorkAnswered(WorkReply),
    CustomerAsked(CustomerRequest),
    CustomerAnswered(CustomerReply),
    LogAsked(LogRequest),
    LogAnswered(LogReply),
    RegistryAsked(RegistryRequest),
    RegistryAnswered(RegistryReply),
    RedeemAsked(RedeemRequest),
    RedeemAnswered(RedeemReply),
    ShopAsked(Box<ShopRequest>),
    ShopAnswered(Box<ShopReply>),
    Offered(Signed<Offer>),
    Head(SignedCheckpoint),
}

impl Body {
    fn kind(&self) -> &'static str {
        match self {
            Self::WorkAsked(WorkRequest::Hello) => "hello",
            Self::WorkAsked(WorkRequest::Pull(_)) => "pull",
            Self::WorkAsked(WorkRequest::Nudge(_)) => "nudge",
            Self::WorkAnswered(WorkReply::Role(_)) => "role",
            Self::WorkAnswered(WorkReply::Pulled(_)) => "pulled",
            Self::WorkAnswered(WorkReply::Nudged) => "nudged",
            Self::WorkAnswered(WorkReply::Refused(_)) => "refused",
            Self::CustomerAsked(CustomerRequest::Submit(_)) => "submit",
            Self::CustomerAsked(CustomerRequest::Watch { .. }) => "watch",
            Self::CustomerAsked(CustomerRequest::List) => "list",
            Self::CustomerAsked(CustomerRequest::Cancel(_)) => "cancel",
            Self::CustomerAsked(CustomerRequest::Terms)
            | Self::CustomerAnswered(CustomerReply::Terms(_)) => "terms",
            Self::CustomerAnswered(CustomerReply::Status(_)) => "status",
            Self::CustomerAnswered(CustomerReply::Tasks(_)) => "tasks",
            Self::CustomerAnswered(CustomerReply::Refused(_)) => "refused",
            Self::LogAsked(_) => "ask log",
            Self::LogAnswered(_) => "log",
            Self::RegistryAsked(request) => registry_kind(request),
            Self::RegistryAnswered(_) => "registry",
            Self::RedeemAsked(request) => redeem_kind(request),
            Self::RedeemAnswered(_) => "redeemed",
            Self::ShopAsked(request) => request.kind(),
            Self::ShopAnswered(reply) => reply.kind(),
            Self::Offered(_) => "offer",
            Self::Head(_) => "head",
        }
    }

    fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::WorkAsked(message) => codec::length(message),
            Self::WorkAnswered(message) => codec::length(message),
            Self::CustomerAsked(message) => codec::length(message),
            Self::CustomerAnswered(message) => codec::length(message),
            Self::LogAsked(message) => codec::length(message),
            Self::LogAnswered(message) => codec::length(message),
            Self::RegistryAsked(message) => codec::length(message),
            Self::RegistryAnswered(message) => codec::length(message),
            Self::RedeemAsked(message) => codec::length(message),
            Self::RedeemAnswered(message) => codec::length(message),
            Self::ShopAsked(message) => message.bytes(),
            Self::ShopAnswered(message) => message.bytes(),
            Self::Offered(offer) => offer.as_bytes().len() as u64,
            Self::Head(head) => head.as_str().len() as u64,
        };
        bytes + FRAME_BYTES
    }
}

const fn registry_kind(request: &RegistryRequest) -> &'static str {
    match request {
        RegistryRequest::Agree(_) => "agree",
        RegistryRequest::Register(_) => "register",
        RegistryRequest::Revoke(_) => "revoke",
        RegistryRequest::Points(_) => "ask points",
        RegistryRequest::Told(_) => "tell points",
        RegistryRequest::Settle(_) => "settle",
    }
}

const fn redeem_kind(request: &RedeemRequest) -> &'static str {
    match request {
        RedeemRequest::Reserve { .. } => "reserve",
        RedeemRequest::Post(_) => "post",
        RedeemRequest::Void(_) => "void",
        RedeemRequest::Reverse(_) => "reverse",
    }
}

/// Who is who, and who is there.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    ids: Vec<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    /// The terminals of each owner.
    owned: BTreeMap<NodeId, Vec<Peer>>,
    /// Who is a coordinator.
    coordinators: Vec<(Peer, NodeId)>,
    starts: Vec<u32>,
    up: Vec<bool>,
}

impl Directory {
    /// Adds a node, which is not there yet.
    pub(crate) fn add(&mut self, id: NodeId) -> Peer {
        let peer =
            Peer(u32::try_from(self.ids.len()).expect("a world has a bounded number of nodes"));
        self.ids.push(id);
        self.peers.insert(id, peer);
        self.starts.push(0);
        self.up.push(false);
        peer
    }

    /// Returns the ids of all nodes.
    #[must_use]
    pub(crate) fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// Returns the id of a node.
    #[must_use]
    pub(crate) fn id(&self, peer: Peer) -> NodeId {
        self.ids[peer.index()]
    }

    /// Returns the node of an id; none if it is of no node of this world.
    #[must_use]
    pub(crate) fn peer(&self, id: &NodeId) -> Option<Peer> {
        self.peers.get(id).copied()
    }

    /// Notes whose a terminal is.
    pub(crate) fn own(&mut self, owner: NodeId, terminal: Peer) {
        self.owned.entry(owner).or_default().push(terminal);
    }

    /// Notes that a node is a coordinator.
    pub(crate) fn coordinate(&mut self, peer: Peer) {
        self.coordinators.push((peer, self.id(peer)));
    }

    /// Returns the coordinators.
    #[must_use]
    pub(crate) fn coordinators(&self) -> Vec<(Peer, NodeId)> {
        self.coordinators.clone()
    }

    /// Returns the owners of terminals.
    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owned.keys().copied()
    }

    /// Returns the terminals of an owner.
    #[must_use]
    pub(crate) fn devices_of(&self, owner: &NodeId) -> &[Peer] {
        self.owned.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a node is there.
    #[must_use]
    pub(crate) fn is_up(&self, peer: Peer) -> bool {
        self.up.get(peer.index()).copied().unwrap_or(false)
    }

    /// Returns how often a node was started.
    #[must_use]
    pub(crate) fn start(&self, peer: Peer) -> u32 {
        self.starts[peer.index()]
    }

    /// Returns the number of nodes.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }
}

/// A clock that may be wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// How far it is ahead, in milliseconds.
    pub(crate) ahead_millis: i64,
}

impl Clock {
    /// Draws a clock that is off by at most so much, each way.
    pub(crate) fn draw(chance: &mut Chance, off: Duration) -> Self {
        let range = i64::try_from(off.as_millis()).unwrap_or(0);
        let drawn = chance.below(range.unsigned_abs() * 2 + 1);
        Self {
            ahead_millis: i64::try_from(drawn).unwrap_or(0) - range,
        }
    }

    /// Returns what the clock shows.
    #[must_use]
    pub(crate) const fn read(self, now: Moment) -> Timestamp {
        let true_time = EPOCH_MILLIS + now.as_micros() / 1_000;
        Timestamp::from_millis(true_time.saturating_add_signed(self.ahead_millis))
    }

    /// Returns the moment at which the clock shows `time`, the start of the world if it does so before.
    #[must_use]
    pub(crate) const fn when(self, time: Timestamp) -> Moment {
        let true_time = time.as_millis().saturating_add_signed(-self.ahead_millis);
        Moment::from_micros(true_time.saturating_sub(EPOCH_MILLIS).saturating_mul(1_000))
    }
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The moment.
    pub(crate) now: Moment,
    pub(crate) seed: u64,
    pub(crate) network: NetworkId,
    pub(crate) profile: ProfileId,
    pub(crate) directory: Directory,
    pub(crate) links: Links,
    pub(crate) kademlia: Kademlia,
    pub(crate) gossip: Gossip,
    pub(crate) execution: Arc<Execution>,
    pub(crate) signatures: Signatures,
    pub(crate) onlookers: Onlookers,
    pub(crate) wire: Wire,
    /// Who is connected to each coordinator.
    connections: BTreeMap<Peer, BTreeSet<Peer>>,
    /// Large outputs that terminals let coordinators read.
    pub(crate) readable: BTreeSet<(Peer, BlobId)>,
    /// Whether heads of logs are gossiped and witnessed.
    pub(crate) heads: bool,
    /// Settlements between an app server and a coordinator that were paid, in the world outside.
    pub(crate) payments: BTreeSet<(NodeId, NodeId, u32)>,
    /// Whether nobody wants anything any more.
    pub(crate) is_quiet: bool,
    queue: Queue<Event>,
    asked: u64,
    pub(crate) chance: Chance,
}

impl Stage {
    pub(crate) fn new(
        seed: u64,
        directory: Directory,
        (links, execution): (Links, Arc<Execution>),
        onlookers: Onlookers,
    ) -> Self {
        Self {
            now: Moment::START,
            seed,
            network: "netsim".parse().expect("a legal name"),
            profile: "netsim-1".parse().expect("a legal name"),
            directory,
            links,
            kademlia: Kademlia::new(),
            gossip: Gossip::new(),
            execution,
            signatures: Signatures::default(),
            onlookers,
            wire: Wire::default(),
            connections: BTreeMap::new(),
            readable: BTreeSet::new(),
            heads: true,
            payments: BTreeSet::new(),
            is_quiet: false,
            queue: Queue::default(),
            asked: 0,
            chance: Chance::new(seed, "stage", 0),
        }
    }

    /// Takes the next event, and goes on to its moment.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn note(&mut self, what: &Happening) {
        self.onlookers.see(self.now, what);
    }

    /// Notes that something is wrong that no input may cause.
    pub(crate) fn breach(&mut self, by: Peer, what: &str) {
        let what = what.to_owned();
        self.note(&Happening::Breached { by, what });
    }

    pub(crate) fn plan(&mut self, at: Moment, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// Plans something within a node, void if that is started anew before.
    pub(crate) fn plan_within(&mut self, at: Moment, node: Peer, what: Within) {
        let start = self.directory.start(node);
        self.plan(at, Event::Within { node, start, what });
    }

    /// Lets a node be there. Returns the number of the start.
    pub(crate) fn start(&mut self, node: Peer) -> u32 {
        let place = node.index();
        self.directory.up[place] = true;
        self.directory.starts[place] += 1;
        let start = self.directory.starts[place];
        self.note(&Happening::Started { node, start });
        start
    }

    /// Lets a node be gone.
    pub(crate) fn stop(&mut self, node: Peer, how: Stop) {
        self.gossip.leave(node);
        let (first, last) = (BlobId::from_bytes([0; 32]), BlobId::from_bytes([255; 32]));
        let readable = self.readable.range((node, first)..=(node, last));
        for gone in readable.copied().collect::<Vec<_>>() {
            self.readable.remove(&gone);
        }
        self.directory.up[node.index()] = false;
        self.note(&Happening::Stopped { node, how });
    }

    /// Sends a question. Returns its name.
    pub(crate) fn ask(&mut self, from: Peer, to: Peer, body: Body) -> u64 {
        self.asked += 1;
        let ask = self.asked;
        let within = if matches!(body, Body::CustomerAsked(_)) {
            CUSTOMER_ANSWER_WITHIN
        } else {
            WORK_ANSWER_WITHIN
        };
        self.plan(self.now + within, Event::NoAnswer { by: from, ask });
        self.send(Envelope {
            from,
            to,
            ask,
            body,
        });
        ask
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, envelope: Envelope) {
        self.wire.hear(&envelope);
        let (from, to, bytes) = (envelope.from, envelope.to, envelope.body.bytes());
        let Arrivals { first, second } = self.links.send(self.now, (from, to), bytes);
        self.note(&Happening::Sent {
            from,
            to,
            kind: envelope.body.kind(),
            bytes,
            arrives: first.is_some(),
        });
        if let Some(at) = second {
            self.plan(at, Event::Arrive(Box::new(envelope.clone())));
        }
        if let Some(at) = first {
            self.plan(at, Event::Arrive(Box::new(envelope)));
        }
    }

    /// Gossips an offer. Returns how many nodes it reaches.
    pub(crate) fn publish(&mut self, from: Peer, offer: &Signed<Offer>) -> u32 {
        self.wire.hear_offer(from, offer);
        self.spread(from, &Body::Offered(offer.clone()))
    }

    /// Gossips a head. Returns how many nodes it reaches.
    pub(crate) fn publish_head(&mut self, from: Peer, head: &SignedCheckpoint) -> u32 {
        self.spread(from, &Body::Head(head.clone()))
    }

    fn spread(&mut self, from: Peer, body: &Body) -> u32 {
        let loss = self.links.gossip_loss(from);
        let deliveries = self.gossip.publish(from, loss, &mut self.chance);
        let bytes = body.bytes();
        let mut reached = 0;
        for delivery in deliveries {
            let to = delivery.to;
            if self.links.is_cut(from, to) {
                continue;
            }
            reached += 1;
            self.links.relay(to, bytes * u64::from(delivery.copies));
            let (links, chance) = (&mut self.links, &mut self.chance);
            let delay = delivery.delay(chance, &mut || links.latency(from, to));
            let body = body.clone();
            let envelope = Envelope {
                from,
                to,
                ask: 0,
                body,
            };
            self.plan(self.now + delay, Event::Arrive(Box::new(envelope)));
        }
        reached
    }

    /// Notes that a node is connected to a coordinator.
    pub(crate) fn connect(&mut self, node: Peer, to: Peer) {
        if self.connections.entry(to).or_default().insert(node) {
            self.gossip.connect(node, to);
            self.note(&Happening::Connected { node, to });
        }
    }

    /// Notes that it is not any more. Returns whether it was.
    pub(crate) fn disconnect(&mut self, node: Peer, from: Peer) -> bool {
        let was = self
            .connections
            .get_mut(&from)
            .is_some_and(|nodes| nodes.remove(&node));
        if was {
            self.gossip.disconnect(node, from);
            self.note(&Happening::Disconnected { node, from });
        }
        was
    }

    /// Takes all connections of a coordinator.
    pub(crate) fn disconnect_all(&mut self, from: Peer) -> BTreeSet<Peer> {
        let nodes = self.connections.remove(&from).unwrap_or_default();
        for node in &nodes {
            self.gossip.disconnect(*node, from);
            self.note(&Happening::Disconnected { node: *node, from });
        }
        nodes
    }

    /// Returns whether two nodes can talk to each other at the moment.
    pub(crate) fn can_talk(&self, a: Peer, b: Peer) -> bool {
        self.directory.is_up(a)
            && self.directory.is_up(b)
            && !self.links.is_cut(a, b)
            && !self.links.is_cut(b, a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_reads_wrong_and_rings_at_the_right_moment() {
        for ahead_millis in [-5_000, 0, 5_000] {
            let clock = Clock { ahead_millis };
            let moment = Moment::from_secs(60);
            assert_eq!(clock.when(clock.read(moment)), moment);
        }
        let fast = Clock { ahead_millis: 1 }.read(Moment::START);
        assert_eq!(fast.as_millis(), EPOCH_MILLIS + 1);
    }
}
