//! Gossip of offers and of the heads of logs: everybody subscribes, everybody checks before passing on.
//!
//! Messages carry no author at the level of gossipsub: the offer or checkpoint inside is signed. Its id is the hash of its
//! bytes, so gossipsub drops a copy before anything is checked, and a signature is checked once. A message is first
//! measured, then its signature is checked on another thread, then the [gate](tally_protocol::offer_gate) compares it with the clock
//! and with what its signer said before; checkpoints have a [gate of their own](tally_protocol::head_gate). What no honest node would have sent or passed on is rejected, which costs
//! the peer that passed it on its standing; what an honest node may have passed on is ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAuthenticity,
    MessageId, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams,
    ValidationMode,
};
use tally_protocol::checkpoint::{CHECKPOINT_BYTES_MAX, SignedCheckpoint, VerifiedCheckpoint};
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

/// Why an offer or a checkpoint was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It has too many bytes.
    #[error("publish {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many are allowed.
        bytes_max: usize,
    },
    /// gossipsub did not take it.
    #[error("publish: {0}")]
    Refused(String),
    /// The network was shut down.
    #[error("publish: the network was shut down")]
    ShutDown,
}

/// What is gossiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Offers,
    Heads,
}

impl Subject {
    const ALL: [Self; 2] = [Self::Offers, Self::Heads];

    /// Returns the subject of a topic.
    pub(super) fn of(topic: &TopicHash, network: &NetworkId) -> Option<Self> {
        let is = |subject: &Self| subject.topic(network).hash() == *topic;
        Self::ALL.into_iter().find(is)
    }

    pub(super) fn topic(self, network: &NetworkId) -> IdentTopic {
        let name = match self {
            Self::Offers => "offers",
            Self::Heads => "heads",
        };
        IdentTopic::new(format!("/tally/{network}/{name}/1"))
    }

    /// Returns the topic of its counters.
    pub(super) const fn counters(self) -> &'static str {
        match self {
            Self::Offers => "gossip",
            Self::Heads => "heads",
        }
    }

    /// Returns the longest message.
    pub(super) const fn bytes_max(self) -> usize {
        match self {
            Self::Offers => OFFER_BYTES_MAX,
            Self::Heads => CHECKPOINT_BYTES_MAX,
        }
    }
}

/// Returns the gossipsub behaviour, subscribed to everything.
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
    let topics = Subject::ALL.map(|subject| subject.topic(network));
    behaviour
        .with_peer_score(score_params(&topics), PeerScoreThresholds::default())
        .map_err(fault)?;
    for topic in &topics {
        behaviour
            .subscribe(topic)
            .map_err(|error| fault(format!("{error:?}")))?;
    }
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

/// Scores peers by what they pass on. Messages are rare, so the penalties for a quiet mesh (P3, P3b) are off; computers
/// on one loopback address are not suspicious.
fn score_params(topics: &[IdentTopic]) -> PeerScoreParams {
    let params = TopicScoreParams {
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
        topics: topics
            .iter()
            .map(|topic| (topic.hash(), params.clone()))
            .collect(),
        topic_score_cap: 20.0,
        ip_colocation_factor_whitelist: [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]
        .into(),
        ..PeerScoreParams::default()
    }
}

/// Why a message is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// More bytes than such a message has.
    TooLong,
    /// The topic has no such messages.
    UnknownTopic,
    /// The signature, network, type or payload is wrong.
    Unverified,
    /// The gate keeps it out.
    Kept(OfferFault),
    /// The log sends too many checkpoints, or somebody in its name.
    TooManyHeads,
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
            Self::TooManyHeads => "ignored_too_many",
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
            | Self::TooManyHeads
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

/// Checks the signature of a checkpoint; slow, so not on the swarm's task.
pub(super) fn verify_head(
    bytes: Vec<u8>,
    network: &NetworkId,
) -> Result<VerifiedCheckpoint, Fault> {
    let note = String::from_utf8(bytes).map_err(|_| Fault::Unverified)?;
    let checked = SignedCheckpoint::from_note(note).verify(network);
    checked.map_err(|error| {
        tracing::debug!(%error, "rejected a checkpoint");
        Fault::Unverified
    })
}
