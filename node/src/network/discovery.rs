//! Who to know: bootstrap nodes stay connected, coordinators are found and told apart from those that claim to be one.
//!
//! A pure machine: the service tells it what happened, it answers with [`Action`]s. Four sources name candidates
//! (Kademlia provider records, gossip, mDNS, the peers of the last run); all are dialled, at most once in a while
//! each, and all go the same way: connected, identified as a Kademlia server of this network, asked `Hello`, and only
//! a valid signed role statement of the peer itself makes a coordinator.
//!
//! A coordinator provides one of 16 keys, because 20 providers of a key is all that a Kademlia query returns; who looks
//! for coordinators asks for all 16 in random order, often while it knows none and seldom when it does.

mod hello;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::kad::RecordKey;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::announce::Role;
use tally_protocol::time::Timestamp;

use hello::Hello;
pub(super) use hello::ShownRoles;
use kept::{Kept, Link, REDIAL_MAX, REDIAL_MIN, Why, jittered};

use super::NetworkConfig;
use super::peer::{ip_of, peer_of};
use super::saved::{SAVED_ADDRESSES_MAX, SAVED_MAX, SavedPeer};

/// Keys that coordinators spread over.
const BUCKETS: u8 = 16;
/// Time between sweeps while no coordinator is known: at first, and after a while.
const SWEEP_HUNGRY: Duration = Duration::from_secs(3);
/// See [`SWEEP_HUNGRY`].
const SWEEP_PATIENT: Duration = Duration::from_secs(10);
/// Sweeps after which a node without coordinators becomes patient.
const HUNGRY_SWEEPS: u32 = 20;
/// Time between sweeps when a coordinator is connected, and the keys that such a sweep asks for.
const SWEEP_CONTENT: Duration = Duration::from_secs(60);
/// See [`SWEEP_CONTENT`].
const CONTENT_BUCKETS: usize = 4;
/// Time between two provider announcements.
const PROVIDE_MIN: Duration = Duration::from_secs(2);
/// Failures after which a coordinator is no longer dialled.
const COORDINATOR_FAILURES_MAX: u32 = 16;
/// Time between two dials of one candidate.
const CANDIDATE_REST: Duration = Duration::from_secs(60);
/// The same while no coordinator is known.
const CANDIDATE_REST_HUNGRY: Duration = Duration::from_secs(10);
/// Candidates that are dialled in [`CANDIDATE_REST`], and those of them that gossip may name.
const CANDIDATES_MAX: usize = 512;
/// See [`CANDIDATES_MAX`].
const OFFERERS_MAX: usize = 64;
/// Coordinators that a node stays connected to.
const COORDINATORS_KEPT_MAX: usize = 8;
/// Time after which an unanswered `Hello` is asked again, and how often.
const HELLO_REST: Duration = Duration::from_secs(5);
/// See [`HELLO_REST`].
const HELLO_FAILURES_MAX: u32 = 5;
/// A role statement is asked for again when less than this is left of it.
pub(super) const ROLE_RENEWAL: Duration = Duration::from_secs(5 * 60);

/// A node that Kademlia names as a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundCoordinator {
    /// Who.
    pub node: NodeId,
    /// Whether it has shown this node its signed role statement.
    pub verified: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// Dial.
    Dial(DialOpts),
    /// Ask Kademlia who provides a key.
    Look(RecordKey),
    /// Tell Kademlia that this node provides a key.
    Provide(RecordKey),
    /// Ask a connected peer for its role statement.
    Hello(NodeId),
    /// Write the saved peers.
    Save(Vec<SavedPeer>),
}

/// Returns the keys that coordinators of a network spread over.
pub(super) fn coordinator_keys(network: &NetworkId) -> Vec<RecordKey> {
    let key = |bucket: u8| {
        let name = format!("/tally/{network}/coordinator/{bucket}");
        RecordKey::new(blake3::hash(name.as_bytes()).as_bytes())
    };
    (0..BUCKETS).map(key).collect()
}

/// The machine.
#[derive(Debug)]
pub(super) struct Discovery {
    me: NodeId,
    seeks: bool,
    loopback: bool,
    keys: Vec<RecordKey>,
    provided: Option<RecordKey>,
    provide_at: Option<Instant>,
    provided_at: Option<Instant>,
    kept: Vec<Kept>,
    tried: BTreeMap<NodeId, Instant>,
    servers: BTreeSet<NodeId>,
    shown: BTreeMap<NodeId, Hello>,
    sweep_at: Instant,
    sweeps: u32,
    saved: Vec<SavedPeer>,
    unsaved: bool,
}

impl Discovery {
    pub(super) fn new(config: &NetworkConfig, saved: Vec<SavedPeer>, now: Instant) -> Self {
        let me = NodeId::from_bytes(config.key.verifying_key().to_bytes());
        let keys = coordinator_keys(&config.network);
        let coordinates = config.roles.contains(&Role::Coordinator);
        let bucket = usize::from(me.as_bytes()[0] % BUCKETS);
        let known = config.listen.iter().chain(&config.bootstrap);
        let loopback = known
            .filter_map(ip_of)
            .any(|ip| ip.is_loopback() || ip.is_unspecified());
        Self {
            me,
            seeks: config.roles.is_empty() || config.roles.contains(&Role::Terminal),
            loopback,
            provided: coordinates.then(|| keys[bucket].clone()),
            keys,
            provide_at: None,
            provided_at: None,
            kept: config
                .bootstrap
                .iter()
                .map(|to| Kept::bootstrap(to, now))
                .collect(),
            tried: BTreeMap::new(),
            servers: BTreeSet::new(),
            shown: BTreeMap::new(),
            sweep_at: now,
            sweeps: 0,
            saved,
            unsaved: false,
        }
    }

    /// Returns the dials of the peers of the last run.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Action> {
        let saved: Vec<_> = self
            .saved
            .iter()
            .take(COORDINATORS_KEPT_MAX)
            .map(|peer| (peer.node, peer.addresses.clone()))
            .collect();
        saved
            .into_iter()
            .filter_map(|(node, addresses)| self.on_candidate(node, addresses, now))
            .collect()
    }

    /// Returns whether the node has shown that it is a coordinator, and is connected.
    pub(super) fn is_coordinator(&self, node: NodeId) -> bool {
        self.shown
            .get(&node)
            .is_some_and(|hello| hello.roles().contains(&Role::Coordinator))
    }

    /// Returns whether `key` is one of those that coordinators provide.
    pub(super) fn is_coordinator_key(&self, key: &RecordKey) -> bool {
        self.keys.contains(key)
    }

    /// Returns all keys in random order.
    pub(super) fn shuffled_keys(&self) -> Vec<RecordKey> {
        let mut keys = self.keys.clone();
        keys.shuffle(&mut rand::rng());
        keys
    }

    /// Takes a node that somebody says is a coordinator.
    pub(super) fn on_candidate(
        &mut self,
        node: NodeId,
        addresses: Vec<Multiaddr>,
        now: Instant,
    ) -> Option<Action> {
        self.try_candidate(node, addresses, CANDIDATES_MAX, now)
    }

    /// Takes a node that has offered work by gossip. Names there cost nothing, so they get a part of the dials only.
    pub(super) fn on_offerer(
        &mut self,
        node: NodeId,
        addresses: Vec<Multiaddr>,
        now: Instant,
    ) -> Option<Action> {
        self.try_candidate(node, addresses, OFFERERS_MAX, now)
    }

    fn try_candidate(
        &mut self,
        node: NodeId,
        addresses: Vec<Multiaddr>,
        tried_max: usize,
        now: Instant,
    ) -> Option<Action> {
        if !self.seeks || node == self.me || self.shown.contains_key(&node) {
            return None;
        }
        let rest = if self.knows_coordinator() {
            CANDIDATE_REST
        } else {
            CANDIDATE_REST_HUNGRY
        };
        self.tried
            .retain(|_, at| now.duration_since(*at) < CANDIDATE_REST);
        let lately = |at: &Instant| now.duration_since(*at) < rest;
        if self.tried.get(&node).is_some_and(lately) || self.tried.len() >= tried_max {
            return None;
        }
        self.tried.insert(node, now);
        let usable = |address: &Multiaddr| {
            self.loopback || !ip_of(address).is_some_and(|ip| ip.is_loopback())
        };
        let addresses = addresses.into_iter().filter(usable).collect();
        Some(Action::Dial(dial_options(node, addresses)))
    }

    pub(super) fn on_connected(&mut self, node: NodeId, id: ConnectionId) {
        for kept in &mut self.kept {
            let dialled = matches!(kept.link, Link::Dialing(dialling) if dialling == id);
            if dialled {
                kept.node = Some(node);
            }
            if dialled || kept.node == Some(node) {
                kept.link = Link::Connected;
            }
        }
    }

    /// The last connection with `node` has ended.
    pub(super) fn on_disconnected(&mut self, node: NodeId, now: Instant) {
        self.servers.remove(&node);
        // It was there: it may be dialled again as soon as somebody names it.
        self.tried.remove(&node);
        let was_coordinator = self.is_coordinator(node);
        self.shown.remove(&node);
        if was_coordinator && !self.knows_coordinator() {
            self.sweeps = 0;
            self.sweep_at = now + REDIAL_MIN;
        }
        for kept in &mut self.kept {
            if kept.node == Some(node) && matches!(kept.link, Link::Connected) {
                kept.fail(now);
            }
        }
        self.drop_lost();
    }

    pub(super) fn on_dial_failed(&mut self, id: ConnectionId, now: Instant) {
        for kept in &mut self.kept {
            if matches!(kept.link, Link::Dialing(dialling) if dialling == id) {
                kept.fail(now);
            }
        }
        self.drop_lost();
    }

    /// A peer has turned out to be of another network or version.
    pub(super) fn on_foreign(&mut self, node: NodeId, now: Instant) {
        for kept in &mut self.kept {
            if kept.node == Some(node) {
                kept.failures = u32::MAX;
                kept.link = Link::Waiting(now + REDIAL_MAX);
            }
        }
    }

    /// A peer of this network has told what it speaks; `server` says that it answers Kademlia queries.
    pub(super) fn on_identified(
        &mut self,
        node: NodeId,
        server: bool,
        now: Instant,
    ) -> Option<Action> {
        for kept in &mut self.kept {
            if kept.node == Some(node) {
                kept.failures = 0;
            }
        }
        if !server {
            return None;
        }
        let new = self.servers.insert(node);
        if new {
            self.provide_at.get_or_insert(now);
            if !self.knows_coordinator() {
                self.sweep_at = self.sweep_at.min(now);
            }
        }
        if !self.seeks || self.shown.contains_key(&node) {
            return None;
        }
        self.shown.insert(node, Hello::Asked { failures: 0 });
        Some(Action::Hello(node))
    }

    /// A `Hello` was not answered, or the statement is not valid.
    pub(super) fn on_hello_failed(&mut self, node: NodeId, now: Instant) {
        if let Some(hello) = self.shown.get_mut(&node) {
            let failures = match hello {
                Hello::Asked { failures } | Hello::Failed { failures, .. } => *failures + 1,
                Hello::Shown(_) | Hello::Renewing(_) => 1,
            };
            let again = now + HELLO_REST * failures;
            *hello = Hello::Failed { failures, again };
        }
    }

    /// A peer has shown its roles; returns whether it is a coordinator that counts as found now.
    pub(super) fn on_roles(
        &mut self,
        node: NodeId,
        shown: ShownRoles,
        addresses: Vec<Multiaddr>,
        now: Timestamp,
    ) -> bool {
        let Some(hello) = self.shown.get_mut(&node) else {
            return false;
        };
        let renewed = hello.roles().contains(&Role::Coordinator);
        let coordinates = shown.roles.contains(&Role::Coordinator);
        *hello = Hello::Shown(shown);
        if !coordinates {
            return false;
        }
        self.keep(node, addresses.clone());
        self.remember(node, addresses, now);
        !renewed
    }

    /// Returns what is due.
    pub(super) fn on_tick(&mut self, now: Instant, clock: Timestamp) -> Vec<Action> {
        let mut actions: Vec<_> = self.redials(now);
        actions.extend(self.hellos(now, clock));
        if self.provide_at.is_some_and(|at| at <= now)
            && self
                .provided_at
                .is_none_or(|at| now.duration_since(at) >= PROVIDE_MIN)
        {
            self.provide_at = None;
            self.provided_at = Some(now);
            actions.extend(self.provided.clone().map(Action::Provide));
        }
        if self.seeks && !self.servers.is_empty() && self.sweep_at <= now {
            actions.extend(self.sweep(now).into_iter().map(Action::Look));
        }
        if std::mem::take(&mut self.unsaved) {
            actions.push(Action::Save(self.saved.clone()));
        }
        actions
    }

    /// Returns the coordinators to remember for the next run.
    pub(super) fn saved(&self) -> &[SavedPeer] {
        &self.saved
    }

    fn knows_coordinator(&self) -> bool {
        let coordinates = |hello: &Hello| hello.roles().contains(&Role::Coordinator);
        self.shown.values().any(coordinates)
    }

    fn redials(&mut self, now: Instant) -> Vec<Action> {
        let mut dials = Vec::new();
        for kept in &mut self.kept {
            if matches!(kept.link, Link::Waiting(at) if at <= now) {
                let options = match (kept.node, kept.addresses.first()) {
                    (None, Some(address)) => {
                        DialOpts::unknown_peer_id().address(address.clone()).build()
                    }
                    (Some(node), _) => dial_options(node, kept.addresses.clone()),
                    (None, None) => continue,
                };
                kept.link = Link::Dialing(options.connection_id());
                dials.push(Action::Dial(options));
            }
        }
        dials
    }

    fn hellos(&mut self, now: Instant, clock: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        for (node, hello) in &mut self.shown {
            match hello {
                Hello::Failed { failures, again }
                    if *again <= now && *failures <= HELLO_FAILURES_MAX =>
                {
                    let failures = *failures;
                    *hello = Hello::Asked { failures };
                    actions.push(Action::Hello(*node));
                }
                Hello::Shown(shown) if shown.expires <= clock + ROLE_RENEWAL => {
                    *hello = Hello::Renewing(shown.clone());
                    actions.push(Action::Hello(*node));
                }
                Hello::Asked { .. }
                | Hello::Failed { .. }
                | Hello::Shown(_)
                | Hello::Renewing(_) => {}
            }
        }
        actions
    }

    fn sweep(&mut self, now: Instant) -> Vec<RecordKey> {
        let mut keys = self.shuffled_keys();
        let pause = if self.knows_coordinator() {
            self.sweeps = 0;
            keys.truncate(CONTENT_BUCKETS);
            SWEEP_CONTENT
        } else {
            self.sweeps = self.sweeps.saturating_add(1);
            if self.sweeps <= HUNGRY_SWEEPS {
                SWEEP_HUNGRY
            } else {
                SWEEP_PATIENT
            }
        };
        self.sweep_at = now + jittered(pause);
        keys
    }

    /// Stays connected to a coordinator.
    fn keep(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.node == Some(node)) {
            if kept.why == Why::Coordinator {
                kept.addresses = addresses;
            }
            return;
        }
        let is_coordinator = |kept: &&Kept| kept.why == Why::Coordinator;
        if self.kept.iter().filter(is_coordinator).count() < COORDINATORS_KEPT_MAX {
            self.kept.push(Kept {
                node: Some(node),
                addresses,
                why: Why::Coordinator,
                failures: 0,
                link: Link::Connected,
            });
        }
    }

    /// Gives up coordinators that cannot be reached for long.
    fn drop_lost(&mut self) {
        self.kept
            .retain(|kept| kept.why == Why::Bootstrap || kept.failures <= COORDINATOR_FAILURES_MAX);
    }

    fn remember(&mut self, node: NodeId, mut addresses: Vec<Multiaddr>, seen: Timestamp) {
        addresses.truncate(SAVED_ADDRESSES_MAX);
        self.saved.retain(|peer| peer.node != node);
        let peer = SavedPeer {
            node,
            addresses,
            seen,
        };
        self.saved.insert(0, peer);
        self.saved.truncate(SAVED_MAX);
        self.unsaved = true;
    }
}

/// Dials a node that is neither connected nor being dialled, at these addresses and at those the behaviours know.
pub(super) fn dial_options(node: NodeId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer_of(node))
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .addresses(addresses)
        .extend_addresses_through_behaviour()
        .build()
}
