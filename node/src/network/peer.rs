//! The connected peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use serde::{Deserialize, Serialize};
use tally_protocol::id::NodeId;
use tally_protocol::message::announce::Role;
use tally_protocol::time::Timestamp;

/// What stands before the key in the bytes of an ed25519 peer id.
const PEER_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// Addresses and protocols that are remembered of one peer.
const REMEMBERED_MAX: usize = 16;

/// Returns the libp2p name of a node.
pub(super) fn peer_of(node: NodeId) -> PeerId {
    let bytes = [&PEER_PREFIX[..], node.as_bytes()].concat();
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
}

/// Returns the node behind a libp2p peer, if its key is an ed25519 key.
pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PEER_PREFIX)?;
    Some(NodeId::from_bytes(key.try_into().ok()?))
}

/// Returns the address without a peer id at its end, and the node that this names.
pub(super) fn split_peer(address: &Multiaddr) -> (Multiaddr, Option<NodeId>) {
    let mut address = address.clone();
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, node_of(&peer))
        }
        _ => (address, None),
    }
}

/// Returns the IP address that a multiaddress starts with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    let first = address.iter().next()?;
    if let Protocol::Ip4(ip) = first {
        Some(IpAddr::V4(ip))
    } else if let Protocol::Ip6(ip) = first {
        Some(IpAddr::V6(ip))
    } else {
        None
    }
}

/// Returns whether `address`, told by a peer that is connected at `remote`, may be an address of that peer: a
/// loopback address is only for who is on the same computer, an unspecified one for nobody.
pub(super) fn is_plausible(address: &Multiaddr, remote: &Multiaddr) -> bool {
    let loopback = |address: &Multiaddr| ip_of(address).is_some_and(|ip| ip.is_loopback());
    let unspecified = ip_of(address).is_some_and(|ip| ip.is_unspecified());
    !unspecified && (!loopback(address) || loopback(remote))
}

/// Who made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer.
    Incoming,
    /// This node.
    Outgoing,
}

/// One connected peer, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// Where it is connected, then where it says that it listens.
    pub addresses: Vec<Multiaddr>,
    /// The roles it has shown a signed statement for; `None` if it was not asked.
    pub roles: Option<Vec<Role>>,
    /// Since when it is connected.
    pub connected_since: Timestamp,
    /// Who made the oldest connection.
    pub direction: Direction,
    /// The last round trip, in microseconds.
    pub rtt_micros: Option<u64>,
    /// Its program and version.
    pub agent: String,
    /// The protocols it speaks.
    pub protocols: Vec<String>,
    /// Whether the two pass offers on to each other as soon as they hear of them.
    pub mesh: bool,
}

/// The table of connected peers.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeId, Peer>);

#[derive(Debug)]
struct Peer {
    connections: BTreeMap<ConnectionId, Connection>,
    since: Timestamp,
    identity: Option<Identity>,
    roles: Option<Vec<Role>>,
    rtt: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    address: Multiaddr,
    direction: Direction,
}

#[derive(Debug)]
struct Identity {
    agent: String,
    listen: Vec<Multiaddr>,
    protocols: BTreeSet<String>,
}

impl Peers {
    /// Adds a connection.
    pub(super) fn connected(
        &mut self,
        node: NodeId,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Timestamp,
    ) {
        let direction = if endpoint.is_dialer() {
            Direction::Outgoing
        } else {
            Direction::Incoming
        };
        let (address, _) = split_peer(endpoint.get_remote_address());
        let peer = self.0.entry(node).or_insert_with(|| Peer {
            connections: BTreeMap::new(),
            since: now,
            identity: None,
            roles: None,
            rtt: None,
        });
        peer.connections
            .insert(id, Connection { address, direction });
    }

    /// Removes a connection; returns whether the peer was identified and this was its last.
    pub(super) fn disconnected(&mut self, node: NodeId, id: ConnectionId) -> bool {
        let Some(peer) = self.0.get_mut(&node) else {
            return false;
        };
        peer.connections.remove(&id);
        if !peer.connections.is_empty() {
            return false;
        }
        self.0
            .remove(&node)
            .is_some_and(|peer| peer.identity.is_some())
    }

    /// Notes what a peer says of itself; returns whether this is the first time.
    pub(super) fn identified(&mut self, node: NodeId, info: &libp2p::identify::Info) -> bool {
        let Some(peer) = self.0.get_mut(&node) else {
            return false;
        };
        let remote = peer.connections.values().next();
        let told = info.listen_addrs.iter().map(|told| split_peer(told).0);
        let listen = told
            .filter(|told| remote.is_none_or(|remote| is_plausible(told, &remote.address)))
            .take(REMEMBERED_MAX)
            .collect();
        let protocols = info.protocols.iter().take(REMEMBERED_MAX * 2);
        let identity = Identity {
            agent: info.agent_version.chars().take(64).collect(),
            listen,
            protocols: protocols.map(ToString::to_string).collect(),
        };
        peer.identity.replace(identity).is_none()
    }

    /// Notes the roles that a peer has shown.
    pub(super) fn shown_roles(&mut self, node: NodeId, roles: Vec<Role>) {
        if let Some(peer) = self.0.get_mut(&node) {
            peer.roles = Some(roles);
        }
    }

    /// Notes a round trip.
    pub(super) fn pinged(&mut self, node: NodeId, rtt: Duration) {
        if let Some(peer) = self.0.get_mut(&node) {
            peer.rtt = Some(rtt);
        }
    }

    /// Returns whether the peer has said that it speaks `protocol`.
    pub(super) fn speaks(&self, node: NodeId, protocol: &StreamProtocol) -> bool {
        self.identity(node)
            .is_some_and(|identity| identity.protocols.contains(protocol.as_ref()))
    }

    /// Returns whether the peer is connected.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Returns where the peer says that it listens.
    pub(super) fn listen_addresses(&self, node: NodeId) -> &[Multiaddr] {
        self.identity(node)
            .map_or(&[], |identity| identity.listen.as_slice())
    }

    /// Returns where a peer is connected, by its oldest connection.
    pub(super) fn remote_address(&self, node: NodeId) -> Option<&Multiaddr> {
        self.remote_addresses(node).next()
    }

    /// Returns where a peer is connected, the oldest connection first.
    pub(super) fn remote_addresses(&self, node: NodeId) -> impl Iterator<Item = &Multiaddr> {
        let connections = self.0.get(&node).map(|peer| peer.connections.values());
        connections.into_iter().flatten().map(|made| &made.address)
    }

    /// Returns where a peer can be dialled: where it was, and where it says that it listens.
    pub(super) fn known_addresses(&self, node: NodeId) -> Vec<Multiaddr> {
        let Some(peer) = self.0.get(&node) else {
            return Vec::new();
        };
        let dialled = peer.connections.values();
        let dialled = dialled.filter(|made| made.direction == Direction::Outgoing);
        let mut addresses: Vec<_> = dialled.map(|made| made.address.clone()).collect();
        for address in self.listen_addresses(node) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    /// Returns all peers; those in `mesh` are mesh peers.
    pub(super) fn list(&self, mesh: &BTreeSet<NodeId>) -> Vec<PeerInfo> {
        self.0
            .iter()
            .map(|(node, peer)| peer.describe(*node, mesh.contains(node)))
            .collect()
    }

    fn identity(&self, node: NodeId) -> Option<&Identity> {
        self.0.get(&node)?.identity.as_ref()
    }
}

impl Peer {
    fn describe(&self, node: NodeId, mesh: bool) -> PeerInfo {
        let mut addresses = Vec::new();
        let connected = self.connections.values().map(|made| &made.address);
        let listen = self.identity.iter().flat_map(|identity| &identity.listen);
        for address in connected.chain(listen) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let direction = self.connections.values().next();
        let identity = self.identity.as_ref();
        PeerInfo {
            node,
            addresses,
            roles: self.roles.clone(),
            connected_since: self.since,
            direction: direction.map_or(Direction::Incoming, |first| first.direction),
            rtt_micros: self
                .rtt
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            agent: identity.map_or_else(String::new, |identity| identity.agent.clone()),
            protocols: identity.map_or_else(Vec::new, |identity| {
                identity.protocols.iter().cloned().collect()
            }),
            mesh,
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn nodes_and_libp2p_peers_are_the_same_names() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        let pair = libp2p::identity::Keypair::ed25519_from_bytes(key.to_bytes()).unwrap();
        assert_eq!(peer_of(node), pair.public().to_peer_id());
        assert_eq!(node_of(&peer_of(node)), Some(node));
        assert_eq!(peer_of(node).to_string(), node.to_string());
    }

    #[test]
    fn loopback_addresses_count_on_the_same_computer_only() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let local = address("/ip4/127.0.0.1/tcp/1");
        let far = address("/ip4/192.0.2.1/tcp/1");
        assert!(is_plausible(&local, &local));
        assert!(is_plausible(&far, &local));
        assert!(!is_plausible(&local, &far));
        assert!(!is_plausible(&address("/ip4/0.0.0.0/tcp/1"), &local));
    }
}
