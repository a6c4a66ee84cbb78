//! What libp2p tells, one function a behaviour.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the event enums of libp2p are open, and most of their variants are for logs"
)]

use std::time::Instant;

use futures::FutureExt;
use libp2p::identify::Info;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, GetProvidersOk, ProviderRecord, QueryId, QueryResult, QueryStats};
use libp2p::swarm::{ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, gossipsub, identify, mdns};

use super::super::behaviour::{NodeEvent, protocol_version};
use super::super::conversation::Conversation;
use super::super::peer::{ip_of, is_plausible, split_peer};
use super::*;

/// Addresses in a provider record.
const PROVIDER_ADDRESSES_MAX: usize = 8;

impl Service {
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<NodeEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.on_connected(peer_id, connection_id, &endpoint),
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                cause,
                ..
            } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                let Some(node) = node_of(&peer_id) else {
                    return;
                };
                let identified = self.peers.disconnected(node, connection_id);
                if !self.peers.is_connected(node) {
                    self.discovery.on_disconnected(node, Instant::now());
                    self.reach_asking.on_disconnected(node);
                }
                if identified {
                    self.tell(NetworkEvent::Disconnected(node));
                } else if !self.peers.is_connected(node) {
                    self.tell(NetworkEvent::Foreign { node, found: None });
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                tracing::debug!(peer = ?peer_id, %error, "dial failed");
                self.discovery.on_dial_failed(connection_id, Instant::now());
                if let Some(dialler) = self.dials.remove(&connection_id) {
                    dialler.failed(&error);
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "incoming connection failed");
                let name = match error {
                    ListenError::Denied { .. } => "denied",
                    _ => "handshake_failed",
                };
                self.counters.count("connection", name);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.swarm.remove_external_address(&address);
                self.reach_asking.on_address_gone(&address);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "listener");
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            NodeEvent::Ping(event) => {
                if let (Some(node), Ok(rtt)) = (node_of(&event.peer), event.result) {
                    self.peers.pinged(node, rtt);
                }
            }
            NodeEvent::Kad(event) => self.on_kad_event(event),
            NodeEvent::Gossip(event) => self.on_gossip_event(event),
            NodeEvent::Mdns(mdns::Event::Discovered(found)) => self.on_mdns(found),
            NodeEvent::Work(event) => self.on_talk::<Work>(event),
            NodeEvent::Customer(event) => self.on_talk::<Customer>(event),
            NodeEvent::Log(event) => self.on_talk::<Log>(event),
            NodeEvent::Registry(event) => self.on_talk::<Registry>(event),
            NodeEvent::Redeem(event) => self.on_talk::<Redeem>(event),
            NodeEvent::Enroll(event) => self.on_talk::<Enroll>(event),
            NodeEvent::Reach(event) => self.on_reach(event),
            _ => {}
        }
    }

    fn on_connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        endpoint: &libp2p::core::ConnectedPoint,
    ) {
        let Some(node) = node_of(&peer) else {
            // Noise was built for ed25519 keys only; should another kind ever pass, it has no name here.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        self.peers.connected(node, id, endpoint, now());
        self.discovery.on_connected(node, id);
        if endpoint.is_listener() {
            self.reach_asking.on_incoming(node);
        }
        if let Some(dialler) = self.dials.remove(&id) {
            dialler.connected(node);
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        let ip = ip_of(&address);
        // Who listens on all addresses is not reached by others at its loopback address.
        if !ip.is_some_and(|ip| ip.is_loopback()) || self.explicit_loopback {
            self.swarm.add_external_address(address.clone());
            self.reach_asking.on_address(&address, Instant::now());
        }
        self.tell(NetworkEvent::Listening(address));
    }

    fn on_identified(&mut self, peer: PeerId, info: Info) {
        let Some(node) = node_of(&peer) else { return };
        let expected = protocol_version(&self.network);
        if info.protocol_version != expected {
            let found: String = info.protocol_version.chars().take(64).collect();
            tracing::info!(%peer, %found, expected, "disconnected a peer of another network or version");
            self.counters.count("connection", "foreign");
            self.discovery.on_foreign(node, Instant::now());
            let _ = self.swarm.disconnect_peer_id(peer);
            let found = Some(found);
            self.tell(NetworkEvent::Foreign { node, found });
            return;
        }
        if self.peers.identified(node, &info) {
            self.tell(NetworkEvent::Connected(node));
        }
        let server = self.peers.speaks(node, &self.kad_protocol);
        if server {
            for address in self.peers.listen_addresses(node).to_vec() {
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        if self.peers.speaks(node, &Reach::PROTOCOL) {
            let observed = &info.observed_addr;
            self.reach_asking.on_tester(node, observed, Instant::now());
        }
        let hello = self.discovery.on_identified(node, server, Instant::now());
        self.act(hello);
    }

    fn on_mdns(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found {
            let Some(node) = node_of(&peer) else { continue };
            let (address, _) = split_peer(&address);
            let dial = self
                .discovery
                .on_candidate(node, vec![address], Instant::now());
            self.act(dial);
        }
    }

    fn on_gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => self.on_message(propagation_source, message_id, message),
            gossipsub::Event::SlowPeer { peer_id, .. } => {
                tracing::debug!(peer = %peer_id, "a peer takes gossip too slowly");
                self.counters.count("gossip", "slow_peer");
            }
            _ => {}
        }
    }

    fn on_message(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        let Some(subject) = Subject::of(&message.topic, &self.network) else {
            self.judge(Subject::Offers, (&id, &source), Some(Fault::UnknownTopic));
            return;
        };
        let overloaded = match subject {
            Subject::Offers => self.offers_in_check >= OFFER_CHECKS_MAX,
            Subject::Heads => self.heads_in_check >= HEAD_CHECKS_MAX,
        };
        if message.data.len() > subject.bytes_max() {
            self.judge(subject, (&id, &source), Some(Fault::TooLong));
        } else if overloaded {
            self.judge(subject, (&id, &source), Some(Fault::Overloaded));
        } else {
            let check = match subject {
                Subject::Offers => self.check_offer(source, id, message.data),
                Subject::Heads => self.check_head(source, id, message.data),
            };
            self.checks.push(check);
        }
    }

    fn check_offer(
        &mut self,
        source: PeerId,
        id: MessageId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'static, Checked> {
        let network = self.network.clone();
        let verify = tokio::task::spawn_blocking(move || gossip::verify(bytes, &network));
        self.offers_in_check += 1;
        let check = verify.map(move |result| Checked::Offer {
            id,
            source,
            result: Box::new(result.unwrap_or(Err(Fault::Overloaded))),
        });
        check.boxed()
    }

    fn check_head(
        &mut self,
        source: PeerId,
        id: MessageId,
        bytes: Vec<u8>,
    ) -> BoxFuture<'static, Checked> {
        let network = self.network.clone();
        let verify = tokio::task::spawn_blocking(move || gossip::verify_head(bytes, &network));
        self.heads_in_check += 1;
        let check = verify.map(move |result| Checked::Head {
            id,
            source,
            result: result.unwrap_or(Err(Fault::Overloaded)),
        });
        check.boxed()
    }

    fn on_kad_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => match request {
                kad::InboundRequest::AddProvider {
                    record: Some(record),
                } => self.on_provider_record(record),
                kad::InboundRequest::PutRecord { .. } => {
                    self.counters.count("kad", "record_refused");
                }
                _ => {}
            },
            kad::Event::OutboundQueryProgressed {
                id,
                result: QueryResult::GetProviders(result),
                stats,
                step,
            } => {
                if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.on_providers(id, &providers.into_iter().collect::<Vec<_>>());
                }
                if step.last {
                    self.on_look_ended(id, &stats);
                }
            }
            _ => {}
        }
    }

    /// Stores what a coordinator says about itself, if it is one of the records that this network has.
    fn on_provider_record(&mut self, mut record: ProviderRecord) {
        if !self.discovery.is_coordinator_key(&record.key) {
            self.counters.count("kad", "provider_refused");
            return;
        }
        let node = node_of(&record.provider);
        let remote = node.and_then(|node| self.peers.remote_address(node));
        let plausible =
            |address: &Multiaddr| remote.is_none_or(|remote| is_plausible(address, remote));
        record.addresses.retain(plausible);
        record.addresses.truncate(PROVIDER_ADDRESSES_MAX);
        let stored = self
            .swarm
            .behaviour_mut()
            .kad
            .store_mut()
            .add_provider(record);
        let name = if stored.is_ok() {
            "provider_stored"
        } else {
            "provider_refused"
        };
        self.counters.count("kad", name);
    }

    /// Dials those that a query names. It is done while the query lives, because its addresses live as long.
    fn on_providers(&mut self, id: QueryId, providers: &[PeerId]) {
        let nodes: Vec<_> = providers.iter().filter_map(node_of).collect();
        for finding in &mut self.findings {
            if finding.open.contains(&id) {
                finding.found.extend(nodes.iter().copied());
            }
        }
        for node in nodes {
            let dial = self
                .discovery
                .on_candidate(node, Vec::new(), Instant::now());
            self.act(dial);
        }
    }

    fn on_look_ended(&mut self, id: QueryId, stats: &QueryStats) {
        let (requests, failures) = (stats.num_requests(), stats.num_failures());
        self.counters.count("kad", "look_ups");
        self.counters
            .add("kad", "look_up_requests", u64::from(requests));
        self.counters
            .add("kad", "look_up_failures", u64::from(failures));
        for finding in &mut self.findings {
            finding.open.remove(&id);
        }
        let ended = |finding: &mut Finding| finding.open.is_empty();
        for finding in self.findings.extract_if(.., ended).collect::<Vec<_>>() {
            let claims = finding.found.into_iter().map(|node| FoundCoordinator {
                node,
                verified: self.discovery.is_coordinator(node),
            });
            let _ = finding.reply.send(claims.collect());
        }
    }
}
