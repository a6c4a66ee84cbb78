//! Gossip of offers: everybody subscribes, everybody checks before passing on.
//!
//! Messages carry no author at the level of gossipsub: the offer inside is signed. Its id is the hash of its
//! bytes, so gossipsub drops a copy before anything is checked, and a signature is checked once. A message is first
//! measured, then its signature is checked on another thread, then the [gate](tally_protocol::offer_gate) compares it with the clock
//! and with what its signer said before. What no honest node would have sent or passed on is rejected, which costs
//! the peer that passed it on its standing; what an honest node may have passed on is ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAuthenticity,
    MessageId, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams,
    ValidationMode,
};
use tally_protocol::id::NetworkId;
use tally_protocol::message::announce::Offer;
use tally_protocol::offer_gate::OfferFault;
use tally_protocol::signed::{Signed, Statement, Verified};

use super::StartError;
use super::counters::Counters;

/// The largest gossipsub message.
const TRANSMIT_BYTES_MAX: usize = 4 << 10;
/// The largest signed offer: the payload and its envelope (header, key, network, signature).
pub(super) const OFFER_BYTES_MAX: usize = Offer::BYTES_MAX + 256;
/// Messages that wait to be sent to one peer.
const PEER_QUEUE_MAX: usize = 256;

/// Why an offer was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The signed offer has too many bytes.
    #[error("publish an offer of {0} bytes, at most {OFFER_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// gossipsub did not take it.
    #[error("publish the offer: {0}")]
    Refused(String),
    /// The network was shut down.
    #[error("publish: the network was shut down")]
    ShutDown,
}

/// Returns the topic of offers.
pub(super) fn offers_topic(network: &NetworkId) -> IdentTopic {
    IdentTopic::new(format!("/tally/{network}/offers/1"))
}

/// Returns the gossipsub behaviour, subscribed to the offers.
pub(super) fn behaviour(
    network: &NetworkId,
    counters: &Counters,
) -> Result<Behaviour<Copies>, StartError> {
    let fault = |reason: String| StartError::SetUp {
        what: "gossipsub",
        reason,
    };
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .max_transmit_size(TRANSMIT_BYTES_MAX)
        .message_id_fn(message_id)
        .connection_handler_queue_len(PEER_QUEUE_MAX)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .build()
        .map_err(|error| fault(error.to_string()))?;
    let copies = Copies(counters.clone());
    let mut behaviour =
        Behaviour::new_with_transform(MessageAuthenticity::Anonymous, config, copies)
            .map_err(|error| fault(error.to_owned()))?;
    let topic = offers_topic(network);
    behaviour
        .with_peer_score(score_params(&topic), PeerScoreThresholds::default())
        .map_err(fault)?;
    behaviour
        .subscribe(&topic)
        .map_err(|error| fault(format!("{error:?}")))?;
    Ok(behaviour)
}

/// Counts the copies that come in, before gossipsub drops those it has; changes nothing.
pub(super) struct Copies(Counters);

impl DataTransform for Copies {
    fn inbound_transform(&self, raw: RawMessage) -> std::io::Result<Message> {
        self.0.count("gossip", "copies");
        gossipsub::IdentityTransform.inbound_transform(raw)
    }

    fn outbound_transform(&self, _: &TopicHash, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        Ok(bytes)
    }
}

fn message_id(message: &Message) -> MessageId {
    MessageId::new(&blake3::hash(&message.data).as_bytes()[..20])
}

/// Scores peers by what they pass on. Offers are rare, so the penalties for a quiet mesh (P3, P3b) are off; computers
/// on one loopback address are not suspicious.
fn score_params(topic: &IdentTopic) -> PeerScoreParams {
    let offers = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 1.0,
        first_message_deliveries_decay: 0.5,
        first_message_deliveries_cap: 10.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -5.0,
        invalid_message_deliveries_decay: 0.9,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: [(topic.hash(), offers)].into(),
        topic_score_cap: 20.0,
        ip_colocation_factor_whitelist: [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]
        .into(),
        ..PeerScoreParams::default()
    }
}

/// Why an offer is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// More bytes than an offer has.
    TooLong,
    /// The topic has no such messages.
    UnknownTopic,
    /// The signature, network, type or payload is wrong.
    Unverified,
    /// The gate keeps it out.
    Kept(OfferFault),
    /// This node has too many to check.
    Overloaded,
}

impl Fault {
    /// Returns the name of its counter.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "rejected_too_long",
            Self::UnknownTopic => "rejected_topic",
            Self::Unverified => "rejected_unverified",
            Self::Kept(fault) => fault.name(),
            Self::Overloaded => "ignored_overload",
        }
    }

    /// Returns what gossipsub is told: whether the peer that passed it on is to blame.
    pub(super) const fn acceptance(self) -> gossipsub::MessageAcceptance {
        match self {
            Self::TooLong
            | Self::UnknownTopic
            | Self::Unverified
            | Self::Kept(OfferFault::Bounds) => gossipsub::MessageAcceptance::Reject,
            Self::Kept(
                OfferFault::Expired
                | OfferFault::ClockSkew
                | OfferFault::OldEpoch
                | OfferFault::TooMany,
            )
            | Self::Overloaded => gossipsub::MessageAcceptance::Ignore,
        }
    }
}

/// Checks the signature of an offer; slow, so not on the swarm's task.
pub(super) fn verify(bytes: Vec<u8>, network: &NetworkId) -> Result<Verified<Offer>, Fault> {
    Signed::<Offer>::from_bytes(bytes)
        .verify(network)
        .map_err(|error| {
            tracing::debug!(%error, "rejected an offer");
            Fault::Unverified
        })
}
