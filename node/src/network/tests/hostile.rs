//! Peers that do not keep to the rules.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::kad::RecordKey;
use libp2p::request_response::{Event, Message};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, Swarm, gossipsub};
use tally_protocol::message::PROTOCOL_VERSION;
use tally_protocol::message::announce::RoleStatement;
use tally_protocol::message::customer::CUSTOMER_BYTES_MAX;
use tally_protocol::message::log::LOG_BYTES_MAX;
use tally_protocol::message::work::WORK_BYTES_MAX;

use super::super::behaviour::{self, Node, NodeEvent};
use super::super::discovery::coordinator_keys;
use super::super::gossip::Subject;
use super::super::peer::{node_of, peer_of};
use super::*;

/// The behaviours of a node without its service: says what the test tells it to say.
pub(super) struct RawNode {
    swarm: Swarm<Node>,
    network: NetworkId,
    role: Option<Signed<RoleStatement>>,
}

impl RawNode {
    pub(super) fn start(seed: u8, roles: &[Role]) -> Self {
        let config = config(seed, roles, &[]);
        let mut swarm =
            behaviour::swarm(&config, &Counters::default(), &Traffic::default()).unwrap();
        swarm.listen_on(config.listen[0].clone()).unwrap();
        Self {
            swarm,
            network: config.network,
            role: None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        node_of(self.swarm.local_peer_id()).unwrap()
    }

    pub(super) async fn join(&mut self, other: &TestNode) {
        self.swarm.dial(other.address.clone()).unwrap();
        let other = peer_of(other.id());
        self.until(|event| {
            matches!(event, SwarmEvent::ConnectionEstablished { peer_id, .. } if *peer_id == other)
        })
        .await;
    }

    /// Publishes as soon as a peer has subscribed.
    pub(super) async fn publish_when_heard(&mut self, bytes: Vec<u8>) {
        self.until(|event| {
            matches!(
                event,
                SwarmEvent::Behaviour(NodeEvent::Gossip(gossipsub::Event::Subscribed { .. }))
            )
        })
        .await;
        self.publish(bytes);
    }

    pub(super) fn publish(&mut self, bytes: Vec<u8>) {
        self.publish_about(Subject::Offers, bytes);
    }

    pub(super) fn publish_about(&mut self, subject: Subject, bytes: Vec<u8>) {
        let topic = subject.topic(&self.network);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.publish(topic, bytes).unwrap();
    }

    /// Runs the swarm until `end`.
    pub(super) async fn drive_until<T>(&mut self, end: impl Future<Output = T>) -> T {
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                event = self.swarm.select_next_some() => self.answer_hello(event),
            }
        }
    }

    /// Runs the swarm until an event comes.
    async fn until(&mut self, is_it: impl Fn(&SwarmEvent<NodeEvent>) -> bool) {
        let run = async {
            loop {
                let event = self.swarm.select_next_some().await;
                let done = is_it(&event);
                self.answer_hello(event);
                if done {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, run)
            .await
            .expect("the event comes");
    }

    fn answer_hello(&mut self, event: SwarmEvent<NodeEvent>) {
        if let SwarmEvent::NewListenAddr { address, .. } = &event {
            self.swarm.add_external_address(address.clone());
        }
        if let SwarmEvent::Behaviour(NodeEvent::Work(Event::Message { message, .. })) = event
            && let Message::Request { channel, .. } = message
            && let Some(role) = self.role.clone()
        {
            let work = &mut self.swarm.behaviour_mut().work;
            let _ = work.send_response(channel, WorkReply::Role(role));
        }
    }

    /// Waits until a Kademlia server is in the routing table.
    async fn knows_a_server(&mut self) {
        self.until(|event| {
            matches!(
                event,
                SwarmEvent::Behaviour(NodeEvent::Kad(libp2p::kad::Event::RoutingUpdated { .. }))
            )
        })
        .await;
    }

    /// Claims to be a coordinator, in all buckets.
    fn provide(&mut self) {
        for key in coordinator_keys(&self.network) {
            let kad = &mut self.swarm.behaviour_mut().kad;
            kad.start_providing(key).unwrap();
        }
    }
}

fn role(roles: &[Role], network: &str, signer: u8, version: u16) -> Signed<RoleStatement> {
    let statement = RoleStatement {
        protocol: version,
        roles: roles.to_vec(),
        expires: now() + Duration::from_secs(600),
    };
    let network = network.parse().unwrap();
    Verified::sign(statement, &network, &key(signer))
        .signed()
        .clone()
}

#[tokio::test]
async fn who_claims_a_provider_record_without_its_own_role_statement_is_no_coordinator() {
    let coordinator = [Role::Coordinator];
    let lies = [
        (
            role(&coordinator, "test", 50, PROTOCOL_VERSION),
            "other_signer",
        ),
        (
            role(&coordinator, "other", 7, PROTOCOL_VERSION),
            "unverified",
        ),
        (
            role(&coordinator, "test", 7, PROTOCOL_VERSION + 1),
            "other_version",
        ),
        (Signed::from_bytes(b"no statement".to_vec()), "unverified"),
    ];
    for (lie, reason) in lies {
        let bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
        let mut liar = RawNode::start(7, &[Role::Bootstrap]);
        liar.role = Some(lie);
        liar.join(&bootstrap).await;
        let seen = counted(&bootstrap.network, "kad", "provider_stored", 16);
        liar.knows_a_server().await;
        liar.provide();
        liar.drive_until(seen).await;
        let mut terminal = TestNode::with(3, &[Role::Terminal], &[&bootstrap]).await;
        liar.drive_until(counted(&terminal.network, "role", reason, 1))
            .await;
        let network = terminal.network.clone();
        let found = liar.drive_until(network.find_coordinators()).await;
        let claim = FoundCoordinator {
            node: liar.id(),
            verified: false,
        };
        assert_eq!(found, [claim]);
        while let Ok(event) = terminal.events.try_recv() {
            assert!(!matches!(event, NetworkEvent::CoordinatorFound(_)));
        }
    }
}

#[tokio::test]
async fn provider_records_of_other_keys_are_refused() {
    let bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let mut raw = RawNode::start(7, &[Role::Bootstrap]);
    raw.join(&bootstrap).await;
    raw.knows_a_server().await;
    let kad = &mut raw.swarm.behaviour_mut().kad;
    kad.start_providing(RecordKey::new(b"anything")).unwrap();
    raw.drive_until(counted(&bootstrap.network, "kad", "provider_refused", 1))
        .await;
}

/// Writes raw bytes to a protocol of `to` and returns what comes back.
async fn say(from: &Network, to: PeerId, protocol: &'static str, bytes: &[u8]) -> Vec<u8> {
    let mut control = from.streams.0.clone();
    let protocol = StreamProtocol::new(protocol);
    let mut stream = control.open_stream(to, protocol).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.close().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn garbage_is_refused_counted_and_survived() {
    let mut coordinator = TestNode::with(1, &[Role::Coordinator], &[]).await;
    let mut attacker = TestNode::with(2, &[Role::Terminal], &[]).await;
    attacker.join(&mut coordinator).await;
    let to = peer_of(coordinator.id());
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    for (protocol, topic, max) in [
        ("/tally/work/1", "work", WORK_BYTES_MAX),
        ("/tally/log/1", "log", LOG_BYTES_MAX),
        ("/tally/customer/1", "customer", CUSTOMER_BYTES_MAX),
    ] {
        let garbage = [&length(5)[..], b"\xff\xff\xff\xff\xff"].concat();
        let unknown = [&length(6)[..], b"\x65helix"].concat();
        let early_end = [&length(100)[..], b"\x65hel"].concat();
        let oversized = [&length(max + 1)[..], &[0; 1_000]].concat();
        let endless = [0xff; 64];
        let cases = [&garbage[..], &unknown, &early_end, &oversized, &endless];
        for (n, bytes) in cases.iter().enumerate() {
            let answer = say(&attacker.network, to, protocol, bytes).await;
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("malformed"), "{protocol} {n}: {text:?}");
        }
        let count = coordinator.network.counters().value(topic, "malformed");
        assert_eq!(count, cases.len() as u64);
        assert_eq!(say(&attacker.network, to, protocol, b"").await, b"");
        assert_eq!(say(&attacker.network, to, protocol, b"\0\0").await, b"");
    }
    let hello = attacker
        .network
        .ask_work(coordinator.id(), WorkRequest::Hello);
    assert!(matches!(hello.await, Ok(WorkReply::Role(_))));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_counted() {
    let mut small = config(1, &[Role::Bootstrap], &[]);
    small.limits.connections = 2;
    let mut bootstrap = TestNode::start(small).await;
    let mut first = TestNode::with(2, &[Role::Terminal], &[]).await;
    let mut second = TestNode::with(3, &[Role::Terminal], &[]).await;
    first.join(&mut bootstrap).await;
    second.join(&mut bootstrap).await;
    let third = TestNode::with(4, &[Role::Terminal], &[]).await;
    let _ = third.network.dial(bootstrap.address.clone()).await;
    counted(&bootstrap.network, "connection", "denied", 1).await;
    assert_eq!(bootstrap.network.peers().await.len(), 2);
}
