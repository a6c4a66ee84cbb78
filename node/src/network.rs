//! The overlay: how nodes find each other and talk, over libp2p.
//!
//! One task owns the libp2p swarm (`service`); everybody else holds a [`Network`], a cloneable handle that asks it
//! through a bounded queue. What happens comes to the owner of the node as [`NetworkEvent`]s, through another bounded
//! queue: when it is full, questions of peers are answered with [`tally_protocol::message::Refusal::Busy`] and the swarm goes on.
//!
//! - **Asking** (`conversation`, with one file for each): a question and its answer over one stream, as CBOR within
//!   the bound of the conversation. `Hello` is answered here with the signed roles of the node.
//! - **Finding** (`discovery`): a coordinator tells the Kademlia servers that it is there, the others look for
//!   it; gossip, mDNS and the peers of the last run are further sources. Wherever a candidate comes from, it counts
//!   as a coordinator only once it has shown a valid signed role statement over its own connection.
//! - **Being reached** (`reach`): peers are asked to dial this node, so that its owner knows whether others reach it.
//! - **Gossip** (`gossip`): offers and checkpoints of logs are checked before anybody acts on them or passes them on.
//! - **Manners** (`traffic`): bytes are counted, and content goes no faster than the owner allows.
//! - **Content**: streams of `/tally/blob/1` are handed to [`crate::blobs`].
//!
//! Invariants: nothing here grows without a bound; no signature is checked on the task that drives the swarm; a peer
//! of another network or version is disconnected; whatever a peer sends is understood, or refused and counted.

mod behaviour;
mod conversation;
mod counters;
mod customer;
mod discovery;
mod enroll;
mod gossip;
mod log;
mod peer;
mod reach;
mod redeem;
mod registry;
mod saved;
mod service;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;
mod work;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use libp2p::{Multiaddr, Stream, StreamProtocol};
use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::{Offer, Role};
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::time::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::error::chain;

pub use counters::Counters;
pub use discovery::FoundCoordinator;
pub use gossip::PublishError;
pub use peer::{Direction, PeerInfo};
pub use reach::{Reachability, Tested, TestedAddress};
use service::{Asking, Command, Held, Service};
pub(crate) use traffic::Gate;
pub use traffic::{Moved, RATE_MIN, Throttle, Traffic, TrafficSeen};

/// The protocol over which content is read.
const BLOB_PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/blob/1");
/// Commands that wait for the swarm's task: more make their senders wait.
const COMMANDS_MAX: usize = 256;
/// How long a blob stream may take to open.
const OPEN_STREAM_TIMEOUT: Duration = Duration::from_secs(20);

/// What a node needs to take part.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node's key: its libp2p identity, and what its role statement is signed with.
    pub key: SigningKey,
    /// The network it belongs to.
    pub network: NetworkId,
    /// The roles it plays for others; a customer plays none.
    pub roles: Vec<Role>,
    /// Where it listens. Empty: it only dials.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach it, beyond those it listens on.
    pub external: Vec<Multiaddr>,
    /// Nodes that it connects to first and stays connected to.
    pub bootstrap: Vec<Multiaddr>,
    /// Whether it looks for nodes on the local network.
    pub mdns: bool,
    /// Where it remembers coordinators for the next start.
    pub saved_peers: Option<PathBuf>,
    /// Its bounds.
    pub limits: NetworkLimits,
}

impl std::fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("NetworkConfig")
            .field("network", &self.network)
            .field("roles", &self.roles)
            .field("listen", &self.listen)
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}

/// Bounds of the overlay.
#[derive(Debug, Clone, Copy)]
pub struct NetworkLimits {
    /// Connections in all. One costs about 90 KB at each end.
    pub connections: u32,
    /// Connections with one peer: two nodes that dial each other at once have two.
    pub connections_per_peer: u32,
    /// Incoming connections whose handshake is not over.
    pub pending_incoming: u32,
    /// Dials under way.
    pub pending_outgoing: u32,
    /// Events that wait for the owner of the node.
    pub events: usize,
    /// Questions of peers that wait for an answer, in each conversation.
    pub questions: usize,
    /// Own questions that wait for an answer, in each conversation.
    pub asked: usize,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_peer: 4,
            pending_incoming: 256,
            pending_outgoing: 64,
            events: 1_024,
            questions: 4_096,
            asked: 4_096,
        }
    }
}

/// What happens in the overlay, for the owner of the node.
#[derive(Debug)]
pub enum NetworkEvent {
    /// The node can be reached here.
    Listening(Multiaddr),
    /// A peer of this network and version is connected.
    Connected(NodeId),
    /// It no longer is.
    Disconnected(NodeId),
    /// A connection ended before the peer was known to be of this network and version.
    Foreign {
        /// Who.
        node: NodeId,
        /// The other network and version that it says; `None` if it went away first.
        found: Option<String>,
    },
    /// A connected peer has shown that it is a coordinator. Comes again after each reconnection.
    CoordinatorFound(NodeId),
    /// A coordinator has offered work by gossip.
    OfferHeard {
        /// The offer.
        offer: Verified<Offer>,
        /// The peer that has passed it on, or published it.
        from: NodeId,
    },
    /// A coordinator has signed this head of its log, and gossiped it.
    HeadHeard(VerifiedCheckpoint),
    /// A peer asks about the log.
    LogAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: LogRequest,
        /// Where the answer goes.
        answer: Answer<LogReply>,
    },
    /// A peer asks about work.
    WorkAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: WorkRequest,
        /// Where the answer goes.
        answer: Answer<WorkReply>,
    },
    /// A customer asks.
    CustomerAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: CustomerRequest,
        /// Where the answer goes.
        answer: Answer<CustomerReply>,
    },
    /// A partner asks about agreements, registrations or points.
    RegistryAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: RegistryRequest,
        /// Where the answer goes.
        answer: Answer<RegistryReply>,
    },
    /// An app server asks about points that are redeemed.
    RedeemAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: RedeemRequest,
        /// Where the answer goes.
        answer: Answer<RedeemReply>,
    },
    /// A computer asks its app server.
    EnrollAsked {
        /// Who asks.
        from: NodeId,
        /// What.
        request: EnrollRequest,
        /// Where the answer goes.
        answer: Answer<EnrollReply>,
    },
}

/// Where the answer to a question goes. Dropped without an answer, the peer is told [`tally_protocol::message::Refusal::Busy`].
#[derive(Debug)]
pub struct Answer<T>(oneshot::Sender<T>);

impl<T> Answer<T> {
    /// Returns a place for an answer and where it comes out, for a question that stays inside this node.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Sends the answer. It is dropped if the asker has gone or has waited too long.
    pub fn send(self, reply: T) {
        let _ = self.0.send(reply);
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The peer is not connected and no address of it works.
    #[error("reach {0}")]
    Unreachable(NodeId),
    /// No answer within the time of the conversation. Whether the question arrived is unknown.
    #[error("get an answer in time")]
    Timeout,
    /// The connection ended first. Whether the question arrived is unknown.
    #[error("get an answer before the connection ended")]
    ConnectionClosed,
    /// The peer does not speak this protocol.
    #[error("ask a peer that does not speak the protocol")]
    Unsupported,
    /// The answer, or the question, breaks the bound of the conversation or is no message of it.
    #[error("exchange messages: {0}")]
    Exchange(String),
    /// Too many own questions wait for answers.
    #[error("ask: too many questions wait for answers")]
    TooMany,
    /// The network was shut down.
    #[error("ask: the network was shut down")]
    ShutDown,
}

/// Why a node could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address of the node is known.
    #[error("dial: no address is known")]
    NoAddress,
    /// All addresses failed; the text says how.
    #[error("dial: {0}")]
    Failed(String),
    /// The network was shut down.
    #[error("dial: the network was shut down")]
    ShutDown,
}

/// Why the overlay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address to listen on does not work.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What libp2p says.
        source: libp2p::TransportError<std::io::Error>,
    },
    /// A transport or behaviour of libp2p could not be set up.
    #[error("set up {what}: {reason}")]
    SetUp {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// The handle to the overlay. Cloning it is cheap; when the last one is dropped, the overlay ends.
#[derive(Debug, Clone)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    streams: StreamControl,
    counters: Counters,
    traffic: Traffic,
    throttle: Throttle,
    me: NodeId,
    network: NetworkId,
}

/// Opens and accepts streams; apart because the type of libp2p has no Debug.
#[derive(Clone)]
struct StreamControl(libp2p_stream::Control);

impl std::fmt::Debug for StreamControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamControl")
    }
}

impl Network {
    /// Starts the overlay on the current tokio runtime and returns its handle and its events.
    ///
    /// # Errors
    /// [`StartError`] if an address to listen on cannot be had.
    pub fn start(
        config: NetworkConfig,
    ) -> Result<(Self, mpsc::Receiver<NetworkEvent>), StartError> {
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (events_out, events) = mpsc::channel(config.limits.events);
        let counters = Counters::default();
        let network = config.network.clone();
        let me = NodeId::from_bytes(config.key.verifying_key().to_bytes());
        let traffic = Traffic::default();
        let queues = (commands_in, events_out);
        let service = Service::new(config, queues, counters.clone(), &traffic)?;
        let handle = Self {
            commands,
            streams: StreamControl(service.stream_control()),
            counters,
            traffic,
            throttle: Throttle::default(),
            me,
            network,
        };
        tokio::spawn(service.run());
        Ok((handle, events))
    }

    /// Returns the name of this node.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// Returns the network this node belongs to.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        &self.network
    }

    /// Asks `to` about work, at most 20 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_work(&self, to: NodeId, request: WorkRequest) -> Result<WorkReply, AskError> {
        self.ask::<work::Work>(to, request).await
    }

    /// Asks `to` as a customer, at most 40 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_customer(
        &self,
        to: NodeId,
        request: CustomerRequest,
    ) -> Result<CustomerReply, AskError> {
        self.ask::<customer::Customer>(to, request).await
    }

    /// Asks `to` about its log, at most 20 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_log(&self, to: NodeId, request: LogRequest) -> Result<LogReply, AskError> {
        self.ask::<log::Log>(to, request).await
    }

    /// Asks `to` about agreements, registrations and points, at most 20 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_registry(
        &self,
        to: NodeId,
        request: RegistryRequest,
    ) -> Result<RegistryReply, AskError> {
        self.ask::<registry::Registry>(to, request).await
    }

    /// Asks `to` about points that are redeemed, at most 20 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_redeem(
        &self,
        to: NodeId,
        request: RedeemRequest,
    ) -> Result<RedeemReply, AskError> {
        self.ask::<redeem::Redeem>(to, request).await
    }

    /// Asks `to` as a computer asks its app server, at most 20 s.
    ///
    /// # Errors
    /// [`AskError`] if there is no answer. A refusal is an answer.
    pub async fn ask_enroll(
        &self,
        to: NodeId,
        request: EnrollRequest,
    ) -> Result<EnrollReply, AskError> {
        self.ask::<enroll::Enroll>(to, request).await
    }

    async fn ask<C: Held>(&self, to: NodeId, request: C::Request) -> Result<C::Reply, AskError> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Ask(Asking::new::<C>(to, request, reply)))
            .await;
        answered.await.unwrap_or(Err(AskError::ShutDown))
    }

    /// Gossips a head of this node's log. That nobody listens at the moment is no error: it is counted.
    ///
    /// # Errors
    /// [`PublishError`] if it is too large or gossipsub does not take it.
    pub async fn publish_head(&self, head: SignedCheckpoint) -> Result<(), PublishError> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::PublishHead { head, reply }).await;
        answered.await.unwrap_or(Err(PublishError::ShutDown))
    }

    /// Gossips an offer. That nobody listens at the moment is no error: it is counted.
    ///
    /// # Errors
    /// [`PublishError`] if the offer is too large or gossipsub does not take it.
    pub async fn publish_offer(&self, offer: Signed<Offer>) -> Result<(), PublishError> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::PublishOffer { offer, reply }).await;
        answered.await.unwrap_or(Err(PublishError::ShutDown))
    }

    /// Dials an address and returns who answers there.
    ///
    /// # Errors
    /// [`DialError`] if nobody does, or somebody else than the address says.
    pub async fn dial(&self, address: Multiaddr) -> Result<NodeId, DialError> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Dial { address, reply }).await;
        answered.await.unwrap_or(Err(DialError::ShutDown))
    }

    /// Connects to `node`, at `addresses` and those already known of it. Done at once if it is connected.
    ///
    /// # Errors
    /// [`DialError`] if no address works.
    pub async fn connect(&self, node: NodeId, addresses: Vec<Multiaddr>) -> Result<(), DialError> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Connect {
            node,
            addresses,
            reply,
        })
        .await;
        answered.await.unwrap_or(Err(DialError::ShutDown))
    }

    /// Returns the connected peers.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Peers { reply }).await;
        answered.await.unwrap_or_default()
    }

    /// Returns the addresses on which this node listens, and those it was told that others reach it at.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Addresses { reply }).await;
        answered.await.unwrap_or_default()
    }

    /// Returns whether others reach this node, as far as peers have tried.
    pub async fn reachability(&self) -> Reachability {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Reachability { reply }).await;
        answered.await.unwrap_or_default()
    }

    /// Looks for coordinators in Kademlia and returns all that claim to be one, after the look-up has ended.
    /// Those found are also dialled and asked for their role statement, which comes as
    /// [`NetworkEvent::CoordinatorFound`].
    pub async fn find_coordinators(&self) -> Vec<FoundCoordinator> {
        let (reply, answered) = oneshot::channel();
        self.send(Command::Find { reply }).await;
        answered.await.unwrap_or_default()
    }

    /// Returns the counters of this node's overlay.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the bytes that have come and gone.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Returns what limits the transfer of content.
    #[must_use]
    pub const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// Remembers the coordinators, closes all connections and ends the overlay.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        self.send(Command::ShutDown { reply }).await;
        let _ = done.await;
    }

    /// Opens a stream to read content of `holder`, connecting first if need be.
    pub(crate) async fn open_blob_stream(&self, holder: NodeId) -> Result<Stream, AskError> {
        self.connect(holder, Vec::new())
            .await
            .map_err(|_| AskError::Unreachable(holder))?;
        let mut control = self.streams.0.clone();
        let opened = control.open_stream(peer::peer_of(holder), BLOB_PROTOCOL);
        match tokio::time::timeout(OPEN_STREAM_TIMEOUT, opened).await {
            Err(_) => Err(AskError::Timeout),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_))) => {
                Err(AskError::Unsupported)
            }
            Ok(Err(error)) => Err(AskError::Exchange(error.to_string())),
        }
    }

    /// Takes the streams on which peers ask for content; `None` if they were taken before.
    pub(crate) fn accept_blob_streams(&self) -> Option<libp2p_stream::IncomingStreams> {
        self.streams.0.clone().accept(BLOB_PROTOCOL).ok()
    }

    /// If the service has ended, the reply channel inside the command closes, which the caller sees.
    async fn send(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }
}

/// Returns the node behind a libp2p peer, if its key is an ed25519 key.
pub(crate) fn node_of(peer: &libp2p::PeerId) -> Option<NodeId> {
    peer::node_of(peer)
}

/// Checks a statement that a peer has sent. That it does not hold is said to people here, and to the peer by the refusal.
///
/// # Errors
/// [`Refusal::Unverified`].
pub(crate) fn verified<T: Statement>(
    signed: Signed<T>,
    network: &NetworkId,
) -> Result<Verified<T>, Refusal> {
    signed.verify(network).map_err(|error| {
        tracing::info!("a statement is refused: {}", chain(&error));
        Refusal::Unverified
    })
}

/// Returns the time of this computer's clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since_epoch.map_or(0, |since| since.as_millis());
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}
