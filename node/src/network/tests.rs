//! Nodes on loopback, in one process.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one event among all"
)]

mod discovery;
mod gossip;
mod hostile;
mod reach;
mod talk;

use std::time::Duration;

use super::*;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node of a test.
pub(crate) struct TestNode {
    pub(crate) network: Network,
    pub(crate) events: mpsc::Receiver<NetworkEvent>,
    pub(crate) address: Multiaddr,
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn config(seed: u8, roles: &[Role], bootstrap: &[&TestNode]) -> NetworkConfig {
    NetworkConfig {
        key: key(seed),
        network: "test".parse().unwrap(),
        roles: roles.to_vec(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        external: Vec::new(),
        bootstrap: bootstrap.iter().map(|node| node.address.clone()).collect(),
        mdns: false,
        saved_peers: None,
        limits: NetworkLimits::default(),
    }
}

impl Network {
    /// Opens a stream of any protocol.
    pub(crate) async fn open_stream(&self, to: NodeId, protocol: StreamProtocol) -> Stream {
        let mut control = self.streams.0.clone();
        let opened = control.open_stream(peer::peer_of(to), protocol);
        opened.await.unwrap()
    }
}

impl TestNode {
    pub(crate) async fn start(config: NetworkConfig) -> Self {
        let (network, mut events) = Network::start(config).unwrap();
        let listening = wait(&mut events, |event| match event {
            NetworkEvent::Listening(address) => Some(address),
            _ => None,
        });
        let address = listening.await;
        Self {
            network,
            events,
            address,
        }
    }

    pub(crate) async fn with(seed: u8, roles: &[Role], bootstrap: &[&Self]) -> Self {
        Self::start(config(seed, roles, bootstrap)).await
    }

    pub(crate) fn id(&self) -> NodeId {
        self.network.me()
    }

    /// Connects to another node and waits until both know each other.
    pub(crate) async fn join(&mut self, other: &mut Self) {
        let met = self.network.dial(other.address.clone()).await.unwrap();
        assert_eq!(met, other.id());
        self.sees(other.id()).await;
        other.sees(self.id()).await;
    }

    /// Waits until `node` is connected and identified.
    pub(crate) async fn sees(&mut self, node: NodeId) {
        wait(&mut self.events, |event| {
            matches!(event, NetworkEvent::Connected(peer) if peer == node).then_some(())
        })
        .await;
    }

    /// Waits until a coordinator has shown its role.
    pub(crate) async fn finds_coordinator(&mut self) -> NodeId {
        wait(&mut self.events, |event| match event {
            NetworkEvent::CoordinatorFound(node) => Some(node),
            _ => None,
        })
        .await
    }
}

/// Waits for an event that `pick` takes; others are dropped.
pub(crate) async fn wait<T>(
    events: &mut mpsc::Receiver<NetworkEvent>,
    pick: impl Fn(NetworkEvent) -> Option<T>,
) -> T {
    let picked = async {
        loop {
            let event = events.recv().await.expect("the node runs");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    };
    tokio::time::timeout(PATIENCE, picked)
        .await
        .expect("the event comes")
}

/// Waits until a counter has reached `count`; counters have no events, so it looks again and again.
pub(crate) async fn counted(
    network: &Network,
    topic: &'static str,
    name: &'static str,
    count: u64,
) {
    let reached = async {
        while network.counters().value(topic, name) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(
        reached.is_ok(),
        "{topic} {name} in {:?}",
        network.counters().all()
    );
}
