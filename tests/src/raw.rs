//! Peers in the process of the test, which say what the test tells them to say.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use tally_node::network::{Network, NetworkConfig, NetworkEvent, NetworkLimits};
use tally_protocol::codec;
use tally_protocol::id::{GrantId, NetworkId, NodeId};
use tally_protocol::message::announce::Role;
use tally_protocol::message::wishes::Wishes;
use tally_protocol::message::work::{
    Batch, Grant, Pull, PullReply, Report, UnitResult, WorkReply, WorkRequest,
};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::unit::Outcome;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::net::NETWORK;

/// A peer that takes part in the overlay, with a new key.
#[derive(Debug)]
pub struct RawPeer {
    /// Its key.
    pub key: SigningKey,
    /// The overlay.
    pub network: Network,
    /// What happens there.
    pub events: mpsc::Receiver<NetworkEvent>,
}

impl RawPeer {
    /// Starts a peer that listens on loopback.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn start(roles: &[Role]) -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let config = NetworkConfig {
            key: key.clone(),
            network: network(),
            roles: roles.to_vec(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            saved_peers: None,
            limits: NetworkLimits::default(),
        };
        let (network, events) = Network::start(config).unwrap();
        Self {
            key,
            network,
            events,
        }
    }

    /// Starts a peer that is connected to the node at `address`.
    ///
    /// # Panics
    /// If it cannot be reached.
    pub async fn join(address: &str, roles: &[Role]) -> Self {
        let peer = Self::start(roles);
        let address: Multiaddr = address.parse().unwrap();
        peer.network.dial(address).await.unwrap();
        peer
    }

    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.network.me()
    }

    /// Asks for `want` units and reports nothing.
    #[must_use]
    pub fn wanting(want: u32) -> Pull {
        Pull {
            want,
            profile: tally_sandbox::profile().clone(),
            wishes: Wishes::within_memory(1 << 30),
            renew: Vec::new(),
            abandoned: Vec::new(),
            report: None,
            share: Vec::new(),
            certificate: None,
            registration: None,
            kept: Vec::new(),
            owed: Vec::new(),
        }
    }

    /// Asks `to` and returns whatever it answers.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn ask(&self, to: NodeId, pull: Pull) -> WorkReply {
        let asked = self.network.ask_work(to, WorkRequest::Pull(Box::new(pull)));
        timeout(PATIENCE, asked).await.unwrap().unwrap()
    }

    /// Asks `to`, which must not refuse.
    ///
    /// # Panics
    /// If it does.
    pub async fn pull(&self, to: NodeId, pull: Pull) -> PullReply {
        let reply = self.ask(to, pull).await;
        let WorkReply::Pulled(pulled) = reply else {
            panic!("asked for work, got {reply:?}");
        };
        *pulled
    }

    /// Asks `to` for work until it gets a grant.
    pub async fn lease(&self, to: NodeId, want: u32) -> Verified<Grant> {
        let granted = async {
            loop {
                let reply = self.pull(to, Self::wanting(want)).await;
                if let Some(leased) = reply.leased {
                    return leased.grant.verify(&network()).unwrap();
                }
                // The coordinator says how long to wait; a task that comes sooner is not waited for here.
                tokio::time::sleep(Duration::from_millis(reply.retry_millis.min(100))).await;
            }
        };
        timeout(PATIENCE, granted).await.unwrap()
    }

    /// Returns a signed report of these results to `to`.
    #[must_use]
    pub fn report(&self, to: NodeId, results: Vec<UnitResult>) -> Report {
        let batch = Batch::of(&results, to, tally_node::clock::now());
        let batch = Verified::sign(batch, &network(), &self.key);
        Report {
            batch: batch.signed().clone(),
            results,
            grants: Vec::new(),
        }
    }

    /// Reports one batch of results.
    pub async fn tell(&self, to: NodeId, report: Report) -> WorkReply {
        let mut pull = Self::wanting(0);
        pull.report = Some(report);
        self.ask(to, pull).await
    }
}

/// Returns the network of the tests.
///
/// # Panics
/// Never.
#[must_use]
pub fn network() -> NetworkId {
    NETWORK.parse().unwrap()
}

/// Returns what a unit of a grant is said to have given.
#[must_use]
pub fn result_of(grant: GrantId, unit: u32, output: &[u8], fuel: u64) -> UnitResult {
    UnitResult {
        grant,
        unit,
        outcome: Outcome::Done,
        fuel,
        output: BlobRef::of(output),
        inline: Some(output.to_vec()),
    }
}

/// Signs something for the network of the tests.
#[must_use]
pub fn signed<T: Statement + Clone>(value: T, key: &SigningKey) -> Signed<T> {
    Verified::sign(value, &network(), key).signed().clone()
}

/// A peer that opens streams and writes bytes to them: it speaks none of the protocols.
#[derive(Debug)]
pub struct Vandal {
    control: Control,
    victim: PeerId,
    swarm: tokio::task::JoinHandle<()>,
}

struct Control(libp2p_stream::Control);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

impl Vandal {
    /// Connects to the node at `address`.
    ///
    /// # Panics
    /// If that does not work.
    pub async fn join(address: &str) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default().nodelay(true),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        let control = Control(swarm.behaviour().new_control());
        swarm.dial(address.parse::<Multiaddr>().unwrap()).unwrap();
        let connected = async {
            loop {
                if let libp2p::swarm::SwarmEvent::ConnectionEstablished { peer_id, .. } =
                    swarm.select_next_some().await
                {
                    return peer_id;
                }
            }
        };
        let victim = timeout(PATIENCE, connected).await.unwrap();
        let swarm = tokio::spawn(async move {
            loop {
                let _ = swarm.select_next_some().await;
            }
        });
        Self {
            control,
            victim,
            swarm,
        }
    }

    /// Writes bytes to a new stream of `protocol`, ends it and returns what comes back; nothing if it breaks.
    ///
    /// # Panics
    /// If the node does not speak the protocol, or neither answers nor breaks the stream.
    pub async fn write(&self, protocol: &'static str, bytes: &[u8]) -> Vec<u8> {
        let mut control = self.control.0.clone();
        let opened = control.open_stream(self.victim, StreamProtocol::new(protocol));
        let stream = timeout(PATIENCE, opened).await.unwrap().unwrap();
        let (mut reader, mut writer) = stream.split();
        let talk = async {
            let mut answer = Vec::new();
            let write = async {
                writer.write_all(bytes).await?;
                writer.close().await
            };
            let stuck_or_written = async {
                let _: std::io::Result<()> = write.await;
                std::future::pending::<()>().await;
            };
            // A node may answer, and be done with the stream, before it has read all of it.
            tokio::select! {
                _ = reader.read_to_end(&mut answer) => {}
                () = stuck_or_written => {}
            }
            answer
        };
        let ended = timeout(PATIENCE, talk).await;
        ended.unwrap_or_else(|_| {
            let start = &bytes[..bytes.len().min(12)];
            panic!(
                "{protocol} neither answered nor ended {} bytes {start:02x?}",
                bytes.len()
            )
        })
    }
}

impl Drop for Vandal {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

/// Returns a message as the conversations frame it: its length, then its CBOR.
#[must_use]
pub fn framed(message: &impl serde::Serialize) -> Vec<u8> {
    let bytes = codec::to_bytes(message);
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], &bytes].concat()
}
