//! The libp2p behaviours of a node, and its transport.

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, StoreInserts};
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, Transport, dns, gossipsub, identify, identity, mdns, noise,
    ping, tcp, yamux,
};
use tally_protocol::id::NetworkId;
use tally_protocol::message::PROTOCOL_VERSION;
use tally_protocol::message::announce::Role;

use super::conversation::{Talk, talk, talk_as};
use super::counters::Counters;
use super::customer::Customer;
use super::enroll::Enroll;
use super::log::Log;
use super::reach::Reach;
use super::redeem::Redeem;
use super::registry::Registry;
use super::traffic::{Counted, Traffic};
use super::work::Work;
use super::{NetworkConfig, NetworkLimits, StartError, gossip};

/// How long a connection without streams stays open. Gossip keeps those that matter open.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what was sent may stay without the other computer's word that it came, before the connection counts as lost
/// (`TCP_USER_TIMEOUT`, tcp(7)). Without it a computer that changes its network talks into the void for a quarter of an hour.
/// A ping goes out every [`PING_INTERVAL`], so something is always sent.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long a provider record lives, and how often its provider renews it.
const PROVIDER_TTL: Duration = Duration::from_secs(30 * 60);
/// See [`PROVIDER_TTL`].
const PROVIDER_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// How long a Kademlia query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Keys with provider records: the coordinator buckets, with room for another role.
const PROVIDED_KEYS_MAX: usize = 64;
/// Time between pings.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Everything that a node speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Node {
    // First, so that a connection beyond the limits is refused before any other behaviour sees it.
    pub(super) limits: connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) gossip: gossipsub::Behaviour<gossip::Copies>,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) work: Talk<Work>,
    pub(super) customer: Talk<Customer>,
    pub(super) log: Talk<Log>,
    pub(super) registry: Talk<Registry>,
    pub(super) redeem: Talk<Redeem>,
    pub(super) enroll: Talk<Enroll>,
    pub(super) reach: Talk<Reach>,
    pub(super) blobs: libp2p_stream::Behaviour,
}

/// Returns what a node of this network and version calls its protocol.
pub(super) fn protocol_version(network: &NetworkId) -> String {
    format!("tally/{network}/{PROTOCOL_VERSION}")
}

/// Returns the Kademlia protocol of a network.
pub(super) fn kad_protocol(network: &NetworkId) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/tally/{network}/kad/1"))
        .expect("the name starts with a slash")
}

/// Returns whether nodes with these roles answer Kademlia queries of others.
pub(super) fn serves_kad(roles: &[Role]) -> bool {
    roles
        .iter()
        .any(|role| matches!(role, Role::Coordinator | Role::AppServer | Role::Bootstrap))
}

/// Those who answer for the network try whether others are reached; everybody asks.
fn reach_support(roles: &[Role]) -> ProtocolSupport {
    if serves_kad(roles) {
        ProtocolSupport::Full
    } else {
        ProtocolSupport::Outbound
    }
}

/// Makes the swarm of a node.
pub(super) fn swarm(
    config: &NetworkConfig,
    counters: &Counters,
    traffic: &Traffic,
) -> Result<Swarm<Node>, StartError> {
    let pair = identity::Keypair::ed25519_from_bytes(config.key.to_bytes())
        .expect("32 bytes are an ed25519 secret key");
    let me = pair.public().to_peer_id();
    let behaviour = Node {
        limits: connection_limits::Behaviour::new(connection_limits_of(&config.limits)),
        identify: identify_behaviour(config, &pair),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        kad: kad_behaviour(config, me),
        gossip: gossip::behaviour(&config.network, counters)?,
        mdns: mdns_behaviour(config, me).into(),
        work: talk(counters.clone()),
        customer: talk(counters.clone()),
        log: talk(counters.clone()),
        registry: talk(counters.clone()),
        redeem: talk(counters.clone()),
        enroll: talk(counters.clone()),
        reach: talk_as(reach_support(&config.roles), counters.clone()),
        blobs: libp2p_stream::Behaviour::new(),
    };
    let executor = libp2p::swarm::Config::with_tokio_executor();
    let executor = executor.with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Swarm::new(
        transport(&pair, traffic)?,
        behaviour,
        me,
        executor,
    ))
}

/// Makes the transport: TCP to addresses and, where it can, to names.
fn transport(
    pair: &identity::Keypair,
    traffic: &Traffic,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    // A computer without a DNS configuration can still dial addresses.
    Ok(match dns::tokio::Transport::system(tcp(pair, traffic)?) {
        Ok(named) => TransportTimeout::new(named, CONNECT_TIMEOUT).boxed(),
        Err(error) => {
            tracing::warn!(%error, "no DNS: names in addresses cannot be resolved");
            TransportTimeout::new(tcp(pair, traffic)?, CONNECT_TIMEOUT).boxed()
        }
    })
}

/// Makes counted TCP under noise and yamux.
pub(super) fn tcp(
    pair: &identity::Keypair,
    traffic: &Traffic,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let noise = noise::Config::new(pair).map_err(|error| StartError::SetUp {
        what: "encryption",
        reason: error.to_string(),
    })?;
    let traffic = traffic.clone();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(move |stream, _| {
            let silence_max = u32::try_from(SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
            if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream.0, silence_max) {
                tracing::debug!(%error, "a connection that is cut will be noticed late");
            }
            Counted::new(stream, traffic)
        })
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(tcp.boxed())
}

fn connection_limits_of(limits: &NetworkLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(limits.connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
        .with_max_pending_incoming(Some(limits.pending_incoming))
        .with_max_pending_outgoing(Some(limits.pending_outgoing))
}

fn identify_behaviour(config: &NetworkConfig, pair: &identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new(protocol_version(&config.network), pair.public())
            .with_agent_version(concat!("tally/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_push_listen_addr_updates(true),
    )
}

fn kad_behaviour(config: &NetworkConfig, me: PeerId) -> kad::Behaviour<MemoryStore> {
    let mut kad_config = kad::Config::new(kad_protocol(&config.network));
    kad_config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        .set_provider_publication_interval(Some(PROVIDER_INTERVAL));
    let store = MemoryStoreConfig {
        max_records: 0,
        max_provided_keys: PROVIDED_KEYS_MAX,
        ..MemoryStoreConfig::default()
    };
    let store = MemoryStore::with_config(me, store);
    let mut kad = kad::Behaviour::with_config(me, store, kad_config);
    kad.set_mode(Some(if serves_kad(&config.roles) {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    }));
    kad
}

/// A computer on which mDNS does not work goes on without it.
fn mdns_behaviour(config: &NetworkConfig, me: PeerId) -> Option<mdns::tokio::Behaviour> {
    if !config.mdns {
        return None;
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), me)
        .inspect_err(|error| tracing::warn!(%error, "no mDNS on this computer"))
        .ok()
}
