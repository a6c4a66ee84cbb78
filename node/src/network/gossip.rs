//! Gossip of offers: everybody subscribes, everybody checks before passing on.
//!
//! Messages carry no author at the level of gossipsub: the offer inside is signed. Its id is the hash of its
//! bytes, so gossipsub drops a copy before anything is checked, and a signature is checked once. A message is first
//! measured, then its signature is checked on another thread, then [`OfferGate::admit`] compares it with the clock
//! and with what its signer said before. What no honest node would have sent or passed on is rejected, which costs
//! the peer that passed it on its standing; what an honest node may have passed on is ignored.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libp2p::gossipsub::{
    self, Behaviour, ConfigBuilder, DataTransform, IdentTopic, Message, MessageAuthenticity,
    MessageId, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams,
    ValidationMode,
};
use tally_protocol::id::{NetworkId, NodeId, TaskId};
use tally_protocol::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Offer};
use tally_protocol::signed::{Signed, Statement, Verified};
use tally_protocol::time::Timestamp;

use super::StartError;
use super::counters::Counters;

/// The largest gossipsub message.
const TRANSMIT_BYTES_MAX: usize = 4 << 10;
/// The largest signed offer: the payload and its envelope (header, key, network, signature).
pub(super) const OFFER_BYTES_MAX: usize = Offer::BYTES_MAX + 256;
/// How far the clock of a signer may be off.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);
/// How long an offer may be valid.
const VALIDITY_MAX: Duration = Duration::from_secs(3_600);
/// Offers that a signer may send at once, and how long it takes to earn another.
const BURST: u32 = 20;
/// See [`BURST`].
const OFFER_INTERVAL: Duration = Duration::from_millis(500);
/// Signers and (signer, task) pairs that are remembered.
const SIGNERS_MAX: usize = 1_024;
/// See [`SIGNERS_MAX`].
const TASKS_MAX: usize = 8_192;
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
    /// It breaks a bound: number or length of addresses, length of validity.
    Bounds,
    /// It has expired.
    Expired,
    /// Its time is too far from this node's clock.
    ClockSkew,
    /// The signer has said something newer about the task.
    OldEpoch,
    /// The signer sends too many.
    TooMany,
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
            Self::Bounds => "rejected_bounds",
            Self::Expired => "ignored_expired",
            Self::ClockSkew => "ignored_clock",
            Self::OldEpoch => "ignored_old_epoch",
            Self::TooMany => "ignored_too_many",
            Self::Overloaded => "ignored_overload",
        }
    }

    /// Returns what gossipsub is told: whether the peer that passed it on is to blame.
    pub(super) const fn acceptance(self) -> gossipsub::MessageAcceptance {
        match self {
            Self::TooLong | Self::UnknownTopic | Self::Unverified | Self::Bounds => {
                gossipsub::MessageAcceptance::Reject
            }
            Self::Expired | Self::ClockSkew | Self::OldEpoch | Self::TooMany | Self::Overloaded => {
                gossipsub::MessageAcceptance::Ignore
            }
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

/// What the signers of offers have said, as far as it bounds what they may say next.
#[derive(Debug, Default)]
pub(super) struct OfferGate {
    signers: BTreeMap<NodeId, Allowance>,
    epochs: BTreeMap<(NodeId, TaskId), Heard>,
}

/// Offers that a signer may still send.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    tokens: u32,
    refilled: Timestamp,
}

/// The newest offer of a task.
#[derive(Debug, Clone, Copy)]
struct Heard {
    epoch: u64,
    at: Timestamp,
}

impl OfferGate {
    /// Decides on an offer whose signature holds.
    pub(super) fn admit(&mut self, offer: &Verified<Offer>, now: Timestamp) -> Result<(), Fault> {
        let addresses_fit = offer.addresses.len() <= ADDRESSES_MAX
            && offer
                .addresses
                .iter()
                .all(|address| address.len() <= ADDRESS_BYTES_MAX);
        if !addresses_fit || offer.expires.since(offer.issued) > VALIDITY_MAX {
            return Err(Fault::Bounds);
        }
        if offer.expires <= now {
            return Err(Fault::Expired);
        }
        let skew = offer.issued.since(now).max(now.since(offer.issued));
        if skew > CLOCK_SKEW_MAX {
            return Err(Fault::ClockSkew);
        }
        let key = (offer.signer(), offer.task);
        if self
            .epochs
            .get(&key)
            .is_some_and(|heard| offer.epoch <= heard.epoch)
        {
            return Err(Fault::OldEpoch);
        }
        self.spend(offer.signer(), now)?;
        let heard = Heard {
            epoch: offer.epoch,
            at: now,
        };
        insert_bounded(&mut self.epochs, key, heard, TASKS_MAX, |heard| heard.at);
        Ok(())
    }

    /// Takes one token of the signer.
    fn spend(&mut self, signer: NodeId, now: Timestamp) -> Result<(), Fault> {
        let mut allowance = self.signers.get(&signer).copied().unwrap_or(Allowance {
            tokens: BURST,
            refilled: now,
        });
        let earned = now.since(allowance.refilled).as_millis() / OFFER_INTERVAL.as_millis();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            allowance.tokens = allowance.tokens.saturating_add(earned).min(BURST);
            allowance.refilled = now;
        }
        let left = allowance.tokens.checked_sub(1).ok_or(Fault::TooMany)?;
        allowance.tokens = left;
        insert_bounded(
            &mut self.signers,
            signer,
            allowance,
            SIGNERS_MAX,
            |allowance| allowance.refilled,
        );
        Ok(())
    }
}

/// Inserts into a map that forgets its oldest entries when it is full. They are dropped by the eighth, so that the
/// search for them is paid once in many inserts.
fn insert_bounded<K: Ord + Copy, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: V,
    max: usize,
    age: impl Fn(&V) -> Timestamp,
) {
    if map.len() >= max && !map.contains_key(&key) {
        let mut ages: Vec<Timestamp> = map.values().map(&age).collect();
        let (_, limit, _) = ages.select_nth_unstable(max / 8);
        let limit = *limit;
        map.retain(|_, value| age(value) > limit);
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use tally_protocol::id::BlobId;
    use tally_protocol::unit::Limits;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn network() -> NetworkId {
        "test".parse().unwrap()
    }

    fn offer(task: u8, epoch: u64) -> Offer {
        Offer {
            task: TaskId::from_bytes([task; 32]),
            epoch,
            program: BlobId::of(b"program"),
            program_bytes: 7,
            profile: "0".repeat(64).parse().unwrap(),
            limits: Limits {
                fuel: 1,
                memory_bytes: 1,
                output_bytes: 1,
            },
            open_units: 1,
            spread_millis: 0,
            sortition: u16::MAX,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            issued: NOW,
            expires: NOW + Duration::from_secs(60),
        }
    }

    fn sign(offer: Offer, key: u8) -> Verified<Offer> {
        Verified::sign(offer, &network(), &SigningKey::from_bytes(&[key; 32]))
    }

    #[test]
    fn an_epoch_counts_once_and_never_goes_back() {
        let mut gate = OfferGate::default();
        assert_eq!(gate.admit(&sign(offer(1, 5), 1), NOW), Ok(()));
        for epoch in [5, 4] {
            let again = sign(offer(1, epoch), 1);
            assert_eq!(gate.admit(&again, NOW), Err(Fault::OldEpoch));
        }
        assert_eq!(gate.admit(&sign(offer(1, 6), 1), NOW), Ok(()));
        assert_eq!(
            gate.admit(&sign(offer(1, 5), 2), NOW),
            Ok(()),
            "another signer"
        );
    }

    #[test]
    fn offers_out_of_time_or_bounds_are_refused() {
        let mut gate = OfferGate::default();
        let mut admit = |change: fn(&mut Offer)| {
            let mut offer = offer(1, 1);
            change(&mut offer);
            gate.admit(&sign(offer, 1), NOW)
        };
        assert_eq!(admit(|offer| offer.expires = NOW), Err(Fault::Expired));
        let skewed = admit(|offer| {
            offer.issued = NOW + Duration::from_secs(601);
            offer.expires = NOW + Duration::from_secs(700);
        });
        assert_eq!(skewed, Err(Fault::ClockSkew));
        let eternal = admit(|offer| offer.expires = NOW + Duration::from_secs(3_601));
        assert_eq!(eternal, Err(Fault::Bounds));
        let talkative = admit(|offer| offer.addresses = vec![String::new(); 5]);
        assert_eq!(talkative, Err(Fault::Bounds));
    }

    #[test]
    fn a_signer_that_floods_is_ignored_until_it_slows_down() {
        let mut gate = OfferGate::default();
        for epoch in 0..u64::from(BURST) {
            assert_eq!(gate.admit(&sign(offer(1, epoch), 1), NOW), Ok(()));
        }
        let next = sign(offer(1, 100), 1);
        assert_eq!(gate.admit(&next, NOW), Err(Fault::TooMany));
        assert_eq!(gate.admit(&next, NOW + OFFER_INTERVAL), Ok(()));
        assert_eq!(
            gate.admit(&sign(offer(1, 1), 2), NOW),
            Ok(()),
            "another signer"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut map = BTreeMap::new();
        for n in 0..1_000_u64 {
            insert_bounded(&mut map, n, Timestamp::from_millis(n), 64, |at| *at);
            assert!(map.len() <= 64);
            assert!(map.contains_key(&n));
        }
        assert!(!map.contains_key(&0));
    }

    #[test]
    fn an_offer_of_another_network_or_with_a_flipped_bit_is_not_verified() {
        let bytes = sign(offer(1, 1), 1).signed().as_bytes().to_vec();
        assert!(verify(bytes.clone(), &network()).is_ok());
        let other = "other".parse().unwrap();
        assert_eq!(verify(bytes.clone(), &other), Err(Fault::Unverified));
        let mut forged = bytes;
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(verify(forged, &network()), Err(Fault::Unverified));
    }
}
