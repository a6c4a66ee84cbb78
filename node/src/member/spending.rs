//! What pays for an order: which points are drawn at which coordinator, and who may sign for them.

use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::account::{Currency, Money};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{NodeId, OrderId};
use tally_protocol::message::enroll::PointsShown;
use tally_protocol::points::Points;
use tally_protocol::purse::{Draw, Purse};
use tally_protocol::redemption::Redeem;
use tally_protocol::signed::Verified;

use super::{Member, MemberError};
use crate::clock;
use crate::error::chain;
use crate::keys::{self, Kind};

/// How long points may be asked for: shorter than they are set aside, longer than an order may take to be decided.
const REDEEM_LIFE: Duration = Duration::from_secs(23 * 3_600);

/// How points pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// As far as they go, up to so much money and so many points.
    UpTo(Money, Option<Points>),
    /// All of this, or there is no order.
    All(Money),
    /// Exactly so many, as a renewal costs.
    Exactly(Points),
}

/// With what the owner's points are spent.
pub struct Spender {
    key: SigningKey,
    owner: NodeId,
    /// What allows the device; none if the owner signs.
    certificate: Option<Verified<DeviceCertificate>>,
}

impl std::fmt::Debug for Spender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Spender")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Spender {
    /// Returns what this computer may spend with: the owner's key if it is named, the computer's own if it is its own
    /// owner or its certificate allows it, else the owner's key in the data folder.
    ///
    /// # Errors
    /// [`MemberError::MayNot`] if there is nothing of this.
    pub fn of(member: &Member, owner_key: Option<&Path>) -> Result<Self, MemberError> {
        let (holder, certificate) = member.holder()?;
        let owner = holder.owner;
        let may = |shown: &Verified<DeviceCertificate>| shown.redeem_points > Points::ZERO;
        let key = member.key.clone();
        let default = member.folder().owner_key();
        let path = match (owner_key, certificate) {
            (Some(path), _) => path.to_owned(),
            (None, None) => {
                let certificate = None;
                return Ok(Self {
                    key,
                    owner,
                    certificate,
                });
            }
            (None, Some(shown)) if may(&shown) => {
                let certificate = Some(shown);
                return Ok(Self {
                    key,
                    owner,
                    certificate,
                });
            }
            (None, Some(_)) if default.exists() => default,
            (None, Some(_)) => {
                let why = "this computer's certificate does not allow it".to_owned();
                return Err(MemberError::MayNot { owner, why });
            }
        };
        let may_not = |why| MemberError::MayNot { owner, why };
        let key = keys::read_of(Kind::Owner, &path).map_err(|error| may_not(chain(&error)))?;
        if keys::node_id(&key) != owner {
            return Err(may_not(format!("{} is another's key", path.display())));
        }
        Ok(Self {
            key,
            owner,
            certificate: None,
        })
    }

    /// Returns whose points are spent.
    #[must_use]
    pub const fn owner(&self) -> NodeId {
        self.owner
    }

    /// Returns the most points that may be spent at a time.
    fn most(&self) -> Option<Points> {
        self.certificate.as_ref().map(|shown| shown.redeem_points)
    }

    /// Signs for points of a coordinator, to pay for an order at an app server.
    pub(super) fn sign(
        &self,
        member: &Member,
        (order, app_server): (OrderId, NodeId),
        draw: Draw,
    ) -> PointsShown {
        let (coordinator, points) = draw;
        let redeem = Redeem {
            owner: self.owner,
            coordinator,
            app_server,
            points,
            order,
            nonce: rand::random(),
            expires: clock::now() + REDEEM_LIFE,
        };
        let redeem = Verified::sign(redeem, member.network(), &self.key);
        let certificate = self.certificate.as_ref();
        (
            redeem.signed().clone(),
            certificate.map(|shown| shown.signed().clone()),
        )
    }
}

/// Plans which points to draw.
///
/// # Errors
/// [`MemberError::TooFew`] if there are not enough for a plan that needs all; [`MemberError::MayNot`] if the computer may
/// not spend so many.
pub fn draws(
    purse: &Purse,
    (plan, currency): (Plan, Currency),
    spender: &Spender,
) -> Result<Vec<Draw>, MemberError> {
    let draws = match plan {
        Plan::UpTo(most, at_most) => {
            let bounds = [at_most, spender.most()];
            let at_most = bounds.into_iter().flatten().min();
            return Ok(cut(purse.draw(most), at_most));
        }
        Plan::All(price) => {
            let worth = purse.worth(price.currency);
            if worth < price.minor {
                return Err(too_few(purse, price));
            }
            purse.draw(price)
        }
        Plan::Exactly(points) => {
            exactly(purse, points, currency).ok_or_else(|| MemberError::TooFew {
                worth: format!("{} points", spendable(purse, currency)),
                price: format!("{points} points"),
            })?
        }
    };
    let sum = draws.iter().map(|(_, points)| points.as_micro());
    let sum = Points::from_micro(sum.fold(0, u64::saturating_add));
    match spender.most() {
        Some(most) if sum > most => Err(MemberError::MayNot {
            owner: spender.owner,
            why: format!("this computer may redeem {most} points a day, {sum} are needed"),
        }),
        _ => Ok(draws),
    }
}

/// Says that there are not enough points for so much money.
#[must_use]
pub fn too_few(purse: &Purse, price: Money) -> MemberError {
    let minor = purse.worth(price.currency);
    MemberError::TooFew {
        worth: Money { minor, ..price }.to_string(),
        price: price.to_string(),
    }
}

/// Returns the draws up to so many points together.
fn cut(draws: Vec<Draw>, at_most: Option<Points>) -> Vec<Draw> {
    let Some(at_most) = at_most else {
        return draws;
    };
    let mut left = at_most.as_micro();
    let mut kept = Vec::new();
    for (coordinator, points) in draws {
        let part = points.as_micro().min(left);
        left -= part;
        if part > 0 {
            kept.push((coordinator, Points::from_micro(part)));
        }
    }
    kept
}

/// Returns the points that count in a currency.
#[must_use]
pub fn spendable(purse: &Purse, currency: Currency) -> Points {
    let counting = purse.points.iter();
    let counting = counting.filter(|at| at.value.is_some_and(|(_, of)| of == currency));
    let sum = counting.map(|at| at.spendable.as_micro());
    Points::from_micro(sum.fold(0, u64::saturating_add))
}

/// Draws exactly so many points, where there are most first.
fn exactly(purse: &Purse, points: Points, currency: Currency) -> Option<Vec<Draw>> {
    if spendable(purse, currency) < points {
        return None;
    }
    let counting = purse.points.iter();
    let counting = counting.filter(|at| at.value.is_some_and(|(_, of)| of == currency));
    let mut all: Vec<Draw> = counting.map(|at| (at.coordinator, at.spendable)).collect();
    all.sort_by_key(|(coordinator, points)| (std::cmp::Reverse(*points), *coordinator));
    Some(cut(all, Some(points)))
}

#[cfg(test)]
mod tests {
    use tally_protocol::purse::PointsAt;
    use tally_protocol::rate_card::Price;
    use tally_protocol::time::Timestamp;

    use super::*;

    fn at(byte: u8, spendable: u64, currency: &str) -> PointsAt {
        let price = Price {
            minor: 1,
            micro_points: 1_000,
        };
        PointsAt {
            coordinator: NodeId::from_bytes([byte; 32]),
            value: Some((price, currency.parse().unwrap())),
            earned: Points::ZERO,
            escrowed: Points::ZERO,
            spendable: Points::from_micro(spendable),
            redeemed: Points::ZERO,
            at: Timestamp::default(),
        }
    }

    fn purse() -> Purse {
        let points = vec![
            at(1, 5_000, "EUR"),
            at(2, 9_000, "EUR"),
            at(3, 90_000, "USD"),
        ];
        Purse { points }
    }

    fn spender(most: Option<u64>) -> Spender {
        let key = SigningKey::from_bytes(&[1; 32]);
        let owner = keys::node_id(&key);
        let certificate = most.map(|most| {
            let certificate = DeviceCertificate {
                device: owner,
                not_before: Timestamp::default(),
                not_after: Timestamp::from_millis(1),
                serial: 1,
                redeem_points: Points::from_micro(most),
            };
            Verified::sign(certificate, &"home".parse().unwrap(), &key)
        });
        Spender {
            key,
            owner,
            certificate,
        }
    }

    fn drawn(plan: Plan, most: Option<u64>) -> Result<Vec<(u8, u64)>, MemberError> {
        let eur = "EUR".parse().unwrap();
        let draws = draws(&purse(), (plan, eur), &spender(most))?;
        let plain = |(of, points): Draw| (of.as_bytes()[0], points.as_micro());
        Ok(draws.into_iter().map(plain).collect())
    }

    fn euro(minor: u64) -> Money {
        let currency = "EUR".parse().unwrap();
        Money { currency, minor }
    }

    #[test]
    fn points_go_as_far_as_they_do() {
        let up_to = |minor, at_most: Option<u64>| {
            let plan = Plan::UpTo(euro(minor), at_most.map(Points::from_micro));
            drawn(plan, None).unwrap()
        };
        assert_eq!(up_to(12, None), [(2, 9_000), (1, 3_000)]);
        assert_eq!(up_to(100, None), [(2, 9_000), (1, 5_000)]);
        assert_eq!(up_to(100, Some(10_000)), [(2, 9_000), (1, 1_000)]);
        assert_eq!(up_to(100, Some(0)), []);
        let plan = Plan::UpTo(euro(12), None);
        assert_eq!(drawn(plan, Some(500)).unwrap(), [(2, 500)]);
    }

    #[test]
    fn a_plan_for_all_needs_all() {
        assert_eq!(drawn(Plan::All(euro(14)), None).unwrap().len(), 2);
        let few = drawn(Plan::All(euro(15)), None);
        assert!(matches!(few, Err(MemberError::TooFew { .. })));
        let capped = drawn(Plan::All(euro(14)), Some(13_999));
        assert!(matches!(capped, Err(MemberError::MayNot { .. })));
        assert!(drawn(Plan::All(euro(14)), Some(14_000)).is_ok());
    }

    #[test]
    fn a_renewal_takes_exactly_its_points_of_one_currency() {
        let exactly = |micro| drawn(Plan::Exactly(Points::from_micro(micro)), None);
        assert_eq!(exactly(9_001).unwrap(), [(2, 9_000), (1, 1)]);
        assert_eq!(exactly(14_000).unwrap(), [(2, 9_000), (1, 5_000)]);
        assert!(matches!(exactly(14_001), Err(MemberError::TooFew { .. })));
    }
}
