//! Offers as every node takes them: which a node hears and passes on by gossip, and which it drops.
//!
//! A signature says who made an offer, not that it is of any use. The gate compares it with the clock and with what
//! its signer said before, and gives each signer a bounded number, so that nobody floods the network with statements
//! that are in order. What it remembers is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::allowance::{Allowance, Rate, insert_bounded};
use crate::id::{NodeId, TaskId};
use crate::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Offer};
use crate::signed::Verified;
use crate::time::Timestamp;

/// How far the clock of a signer may be off.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);
/// How long an offer may be valid.
const VALIDITY_MAX: Duration = Duration::from_secs(3_600);
/// Offers that a signer may send.
const RATE: Rate = Rate {
    burst: 20,
    interval: Duration::from_millis(500),
};
/// Signers and (signer, task) pairs that are remembered.
const SIGNERS_MAX: usize = 1_024;
/// See [`SIGNERS_MAX`].
const TASKS_MAX: usize = 8_192;

/// Why an offer whose signature holds is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferFault {
    /// It breaks a bound: number or length of addresses, length of validity. No honest node would have sent it.
    Bounds,
    /// It has expired.
    Expired,
    /// Its time is too far from this node's clock.
    ClockSkew,
    /// The signer has said something newer about the task.
    OldEpoch,
    /// The signer sends too many.
    TooMany,
}

impl OfferFault {
    /// Returns the name of its counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bounds => "rejected_bounds",
            Self::Expired => "ignored_expired",
            Self::ClockSkew => "ignored_clock",
            Self::OldEpoch => "ignored_old_epoch",
            Self::TooMany => "ignored_too_many",
        }
    }
}

/// What the signers of offers have said, as far as it bounds what they may say next.
#[derive(Debug, Default)]
pub struct OfferGate {
    signers: BTreeMap<NodeId, Allowance>,
    epochs: BTreeMap<(NodeId, TaskId), Heard>,
}

/// The newest offer of a task.
#[derive(Debug, Clone, Copy)]
struct Heard {
    epoch: u64,
    at: Timestamp,
}

impl OfferGate {
    /// Decides on an offer whose signature holds.
    ///
    /// # Errors
    /// The [`OfferFault`] for which it is not passed on.
    pub fn admit(&mut self, offer: &Verified<Offer>, now: Timestamp) -> Result<(), OfferFault> {
        let addresses_fit = offer.addresses.len() <= ADDRESSES_MAX
            && offer
                .addresses
                .iter()
                .all(|address| address.len() <= ADDRESS_BYTES_MAX);
        if !addresses_fit || offer.expires.since(offer.issued) > VALIDITY_MAX {
            return Err(OfferFault::Bounds);
        }
        if offer.expires <= now {
            return Err(OfferFault::Expired);
        }
        let skew = offer.issued.since(now).max(now.since(offer.issued));
        if skew > CLOCK_SKEW_MAX {
            return Err(OfferFault::ClockSkew);
        }
        let key = (offer.signer(), offer.task);
        if self
            .epochs
            .get(&key)
            .is_some_and(|heard| offer.epoch <= heard.epoch)
        {
            return Err(OfferFault::OldEpoch);
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
    fn spend(&mut self, signer: NodeId, now: Timestamp) -> Result<(), OfferFault> {
        let known = self.signers.get(&signer).copied();
        let mut allowance = known.unwrap_or_else(|| Allowance::full(&RATE, now));
        if !allowance.spend(&RATE, now) {
            return Err(OfferFault::TooMany);
        }
        insert_bounded(
            &mut self.signers,
            signer,
            allowance,
            SIGNERS_MAX,
            Allowance::refilled,
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::id::{BlobId, NetworkId};
    use crate::unit::Limits;
    use ed25519_dalek::SigningKey;

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
            assert_eq!(gate.admit(&again, NOW), Err(OfferFault::OldEpoch));
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
        assert_eq!(admit(|offer| offer.expires = NOW), Err(OfferFault::Expired));
        let skewed = admit(|offer| {
            offer.issued = NOW + Duration::from_secs(601);
            offer.expires = NOW + Duration::from_secs(700);
        });
        assert_eq!(skewed, Err(OfferFault::ClockSkew));
        let eternal = admit(|offer| offer.expires = NOW + Duration::from_secs(3_601));
        assert_eq!(eternal, Err(OfferFault::Bounds));
        let talkative = admit(|offer| offer.addresses = vec![String::new(); 5]);
        assert_eq!(talkative, Err(OfferFault::Bounds));
    }

    #[test]
    fn a_signer_that_floods_is_ignored_until_it_slows_down() {
        let mut gate = OfferGate::default();
        for epoch in 0..u64::from(RATE.burst) {
            assert_eq!(gate.admit(&sign(offer(1, epoch), 1), NOW), Ok(()));
        }
        let next = sign(offer(1, 100), 1);
        assert_eq!(gate.admit(&next, NOW), Err(OfferFault::TooMany));
        assert_eq!(gate.admit(&next, NOW + RATE.interval), Ok(()));
        assert_eq!(
            gate.admit(&sign(offer(1, 1), 2), NOW),
            Ok(()),
            "another signer"
        );
    }
}
