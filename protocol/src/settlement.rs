//! What a coordinator owes an app server at the end of a period: stated by the one, countersigned by the other.
//!
//! The app server signs a [`Settlement`]: which redemptions and reversals it counts since the last one, what the supplied
//! devices come to, and what is due. It sends it with what it counts, one by one, since from a root alone nobody could
//! name what differs: a [`SettleRequest`], which is a [`Stated`] once its signature and its sums hold. The coordinator
//! countersigns it, or names the redemptions that it does not know.
//!
//! Invariant: a [`Stated`] counts what it says, and its parts add up to what is due.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::account::Currency;
use crate::countersignature::Countersigned;
use crate::id::{Hash, NetworkId, NodeId, RedemptionId};
use crate::merkle;
use crate::message::Refusal;
use crate::signed::{Signed, Statement, Verified};
use crate::time::Timestamp;

/// The most disputed redemptions of a statement, and the most that a coordinator names at once.
pub const DISPUTED_MAX: usize = 256;
/// The most redemptions, and the most reversals, of one settlement; what is left comes into the next. So many of both,
/// 27 bytes each, are within a message.
pub const SETTLED_MAX: usize = 4_096;

/// "So much is due between us": signed by the app server, countersigned by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Who states it.
    pub app_server: NodeId,
    /// Who owes, or gets something back.
    pub coordinator: NodeId,
    /// The newest agreement that the app server knows: SHA-256 of its statement.
    pub agreement: Hash,
    /// Counts the statements to this coordinator, from 1.
    pub number: u32,
    /// What was known until then is counted.
    pub until: Timestamp,
    /// Redemptions, and what is owed for them.
    pub redeemed: Counted,
    /// Redemptions that were given back, and what is owed no more.
    pub reversed: Counted,
    /// Devices of this app server that earned something with the coordinator.
    pub supply_devices: u32,
    /// What is owed for them.
    pub supply_fee: u64,
    /// Redemptions that are left out because the coordinator does not know them, rising.
    pub disputed: Vec<RedemptionId>,
    /// The currency of the agreement, in which all of this is.
    pub currency: Currency,
    /// What the coordinator owes, in minor units; below zero if the app server does.
    pub due: i64,
}

impl Settlement {
    /// Returns what its parts add up to; none if that does not fit.
    #[must_use]
    pub fn sum(&self) -> Option<i64> {
        let owed = i128::from(self.redeemed.minor).checked_add(self.supply_fee.into())?;
        let sum = owed.checked_sub(self.reversed.minor.into())?;
        i64::try_from(sum).ok()
    }
}

impl Statement for Settlement {
    const TYPE: &'static str = "application/tally-settlement+cbor";
    const BYTES_MAX: usize = 8 << 10;
}

/// A redemption, or one that was given back, and what it is worth in minor units.
pub type Claim = (RedemptionId, u64);

/// Amounts that are counted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub count: u32,
    /// Their sum, in minor units.
    pub minor: u64,
    /// The root of the tree (RFC 6962) with a leaf for each, rising: the id and the amount as eight bytes, the highest
    /// first.
    pub root: Hash,
}

impl Counted {
    /// Counts claims; none if they do not rise, are more than [`SETTLED_MAX`], or their sum does not fit.
    #[must_use]
    pub fn of(claims: &[Claim]) -> Option<Self> {
        let rises = claims.is_sorted_by(|(one, _), (next, _)| one < next);
        if !rises || claims.len() > SETTLED_MAX {
            return None;
        }
        let leaf = |(id, minor): &Claim| {
            let mut bytes = id.as_bytes().to_vec();
            bytes.extend_from_slice(&minor.to_be_bytes());
            merkle::leaf_hash(&bytes)
        };
        let mut minors = claims.iter().map(|(_, minor)| *minor);
        Some(Self {
            count: u32::try_from(claims.len()).ok()?,
            minor: minors.try_fold(0, u64::checked_add)?,
            root: merkle::root(claims.iter().map(leaf)),
        })
    }
}

/// A statement as it is sent, with what it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleRequest {
    /// The statement.
    pub settlement: Signed<Settlement>,
    /// The redemptions that it counts, rising, at most [`SETTLED_MAX`].
    pub redeemed: Vec<Claim>,
    /// The reversals that it counts, rising, at most [`SETTLED_MAX`].
    pub reversed: Vec<Claim>,
}

impl SettleRequest {
    /// Checks the signature, and that what is counted is what the statement says.
    ///
    /// # Errors
    /// [`Refusal::Unverified`] if the signature does not hold, [`Refusal::Malformed`] if the sums do not.
    pub fn check(self, network: &NetworkId) -> Result<Stated, Refusal> {
        let Self {
            settlement,
            redeemed,
            reversed,
        } = self;
        let statement = settlement.verify(network);
        let statement = statement.map_err(|_| Refusal::Unverified)?;
        let counts = |claims: &[Claim], said| Counted::of(claims) == Some(said);
        let disputed = &statement.disputed;
        let adds_up = counts(&redeemed, statement.redeemed)
            && counts(&reversed, statement.reversed)
            && statement.sum() == Some(statement.due);
        if !adds_up
            || disputed.len() > DISPUTED_MAX
            || !disputed.is_sorted_by(|one, next| one < next)
        {
            return Err(Refusal::Malformed);
        }
        Ok(Stated {
            statement,
            redeemed,
            reversed,
        })
    }
}

/// A statement that adds up, with what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    statement: Verified<Settlement>,
    redeemed: Vec<Claim>,
    reversed: Vec<Claim>,
}

impl Stated {
    /// Returns the statement.
    #[must_use]
    pub const fn statement(&self) -> &Verified<Settlement> {
        &self.statement
    }

    /// Returns the redemptions that it counts, rising.
    #[must_use]
    pub fn redeemed(&self) -> &[Claim] {
        &self.redeemed
    }

    /// Returns the reversals that it counts, rising.
    #[must_use]
    pub fn reversed(&self) -> &[Claim] {
        &self.reversed
    }
}

/// What a coordinator says to a statement. All but [`SettleReply::Later`] is final: another statement may follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleReply {
    /// It agrees; the same for ever.
    Agreed(Countersigned<Settlement>),
    /// It does not know these as they are stated, at most [`DISPUTED_MAX`].
    Disputed(Vec<RedemptionId>),
    /// It cannot agree, whatever the redemptions are.
    Not(SettleFault),
    /// Not now: its clock is behind, it has not the funds for the supply fee, or too much is agreed on and not paid.
    Later,
}

/// Why a coordinator cannot agree with a statement. Closed, so that each can be told and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum SettleFault {
    /// It knows no such agreement between the two, or one in another currency.
    #[error("the coordinator knows no such agreement")]
    Agreement,
    /// A settlement with this number or a higher one is made already.
    #[error("the number must be above {last}")]
    Number {
        /// The highest number so far.
        last: u32,
    },
    /// More devices are counted than the agreement and the registrations allow in this period, or with another fee.
    #[error("the coordinator counts at most {most} devices in this period")]
    Supply {
        /// The most that can be counted.
        most: u32,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn claims(of: &[(u8, u64)]) -> Vec<Claim> {
        let claim = |(id, minor): &(u8, u64)| (RedemptionId::from_bytes([*id; 16]), *minor);
        of.iter().map(claim).collect()
    }

    fn request() -> (Settlement, Vec<Claim>, Vec<Claim>) {
        let (redeemed, reversed) = (claims(&[(1, 300), (2, 200)]), claims(&[(2, 200)]));
        let value = Settlement {
            app_server: NodeId::from_bytes([1; 32]),
            coordinator: NodeId::from_bytes([2; 32]),
            agreement: Hash::from_bytes([3; 32]),
            number: 1,
            until: Timestamp::from_millis(5),
            redeemed: Counted::of(&redeemed).unwrap(),
            reversed: Counted::of(&reversed).unwrap(),
            supply_devices: 2,
            supply_fee: 50,
            disputed: Vec::new(),
            currency: "EUR".parse().unwrap(),
            due: 350,
        };
        (value, redeemed, reversed)
    }

    fn check(
        change: impl FnOnce(&mut Settlement, &mut Vec<Claim>, &mut Vec<Claim>),
    ) -> Result<Stated, Refusal> {
        let network: NetworkId = "test".parse().unwrap();
        let (mut value, mut redeemed, mut reversed) = request();
        change(&mut value, &mut redeemed, &mut reversed);
        let key = SigningKey::from_bytes(&[1; 32]);
        let settlement = Verified::sign(value, &network, &key).signed().clone();
        let request = SettleRequest {
            settlement,
            redeemed,
            reversed,
        };
        request.check(&network)
    }

    #[test]
    fn a_statement_counts_what_comes_with_it() {
        let stated = check(|_, _, _| ()).unwrap();
        assert_eq!((stated.redeemed().len(), stated.reversed().len()), (2, 1));
        let malformed = Err(Refusal::Malformed);
        assert_eq!(check(|value, _, _| value.due += 1), malformed);
        assert_eq!(check(|value, _, _| value.supply_fee += 1), malformed);
        assert_eq!(check(|value, _, _| value.redeemed.count += 1), malformed);
        assert_eq!(check(|value, _, _| value.reversed.minor += 1), malformed);
        assert_eq!(check(|_, redeemed, _| redeemed[0].1 += 1), malformed);
        assert_eq!(check(|_, redeemed, _| redeemed.swap(0, 1)), malformed);
        assert_eq!(check(|_, _, reversed| reversed.clear()), malformed);
        let twice = |value: &mut Settlement, _: &mut Vec<Claim>, _: &mut Vec<Claim>| {
            value.disputed = vec![RedemptionId::from_bytes([7; 16]); 2];
        };
        assert_eq!(check(twice), malformed);
    }

    #[test]
    fn what_cannot_be_counted_is_not() {
        assert_eq!(Counted::of(&claims(&[(1, u64::MAX), (2, 1)])), None);
        let id = |number: usize| {
            let mut id = [0; 16];
            id[8..].copy_from_slice(&(number as u64).to_be_bytes());
            (RedemptionId::from_bytes(id), 1)
        };
        let many: Vec<Claim> = (0..=SETTLED_MAX).map(id).collect();
        assert_eq!(Counted::of(&many), None);
        assert_eq!(Counted::of(&many[1..]).unwrap().minor, SETTLED_MAX as u64);
        let (mut value, ..) = request();
        value.redeemed.minor = u64::MAX;
        assert_eq!(value.sum(), None);
    }
}
