//! What an owner can spend at an app server, and how much of it to draw at which coordinator.
//!
//! Pure arithmetic over what coordinators have said: nothing here is binding. Whoever draws too much is refused when the
//! points are reserved, and nothing is lost by it.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::account::{Currency, Money};
use crate::id::NodeId;
use crate::points::Points;
use crate::rate_card::Price;
use crate::time::Timestamp;

/// What an owner has at the coordinators that an app server has agreements with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// By coordinator, each once.
    pub points: Vec<PointsAt>,
}

/// What an owner has at one coordinator: the sum over its registered computers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsAt {
    /// The coordinator.
    pub coordinator: NodeId,
    /// What its points are worth at the app server now; none if no agreement is in force.
    pub value: Option<(Price, Currency)>,
    /// All that was ever earned.
    pub earned: Points,
    /// What cannot be spent yet.
    pub escrowed: Points,
    /// What can be spent.
    pub spendable: Points,
    /// What was spent, or is set aside to be.
    pub redeemed: Points,
    /// When the coordinator said so: the oldest of its statements.
    pub at: Timestamp,
}

impl PointsAt {
    /// Returns what the points that can be spent are worth in a currency, in minor units, rounded down.
    #[must_use]
    pub fn worth(&self, currency: Currency) -> u64 {
        let value = self.value.filter(|(_, of)| *of == currency);
        value.map_or(0, |(price, _)| {
            price.of_floor(self.spendable).unwrap_or(u64::MAX)
        })
    }
}

/// Points to be drawn at a coordinator.
pub type Draw = (NodeId, Points);

impl Purse {
    /// Returns what all points that can be spent are worth in a currency, in minor units.
    #[must_use]
    pub fn worth(&self, currency: Currency) -> u64 {
        let worth = self.points.iter().map(|at| at.worth(currency));
        worth.fold(0, u64::saturating_add)
    }

    /// Returns which points to draw for `most`, or as much of it as there is: first where they are worth most in all, so
    /// that few coordinators are asked. At each the fewest points are drawn that come to their part.
    #[must_use]
    pub fn draw(&self, most: Money) -> Vec<Draw> {
        let mut at: Vec<(u64, &PointsAt)> = self
            .points
            .iter()
            .map(|at| (at.worth(most.currency), at))
            .collect();
        at.sort_by_key(|(worth, at)| (std::cmp::Reverse(*worth), at.coordinator));
        let mut left = most.minor;
        let mut draws = Vec::new();
        for (worth, at) in at {
            let part = worth.min(left);
            let points = at.value.and_then(|(price, _)| fewest(price, part));
            if let Some(points) = points.filter(|_| part > 0) {
                draws.push((at.coordinator, points));
                left = left.saturating_sub(part);
            }
        }
        draws
    }
}

/// Returns the fewest points that are worth `minor`, rounded down as [`Price::of_floor`] does; none if no points are.
fn fewest(price: Price, minor: u64) -> Option<Points> {
    let product = u128::from(minor).checked_mul(u128::from(price.micro_points))?;
    let divisor = u128::from(price.minor);
    if divisor == 0 {
        return None;
    }
    u64::try_from(product.div_ceil(divisor))
        .ok()
        .map(Points::from_micro)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn eur() -> Currency {
        "EUR".parse().unwrap()
    }

    fn at(byte: u8, minor: u64, micro_points: u64, spendable: u64) -> PointsAt {
        PointsAt {
            coordinator: NodeId::from_bytes([byte; 32]),
            value: Some((
                Price {
                    minor,
                    micro_points,
                },
                eur(),
            )),
            earned: Points::ZERO,
            escrowed: Points::ZERO,
            spendable: Points::from_micro(spendable),
            redeemed: Points::ZERO,
            at: Timestamp::default(),
        }
    }

    #[test]
    fn the_richest_coordinator_is_drawn_first_and_the_rest_from_the_next() {
        let points = vec![at(1, 1, 1_000, 5_000), at(2, 1, 1_000, 9_500)];
        let purse = Purse { points };
        let draws = purse.draw(Money {
            currency: eur(),
            minor: 12,
        });
        let (first, second) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([1; 32]));
        assert_eq!(
            draws,
            [
                (first, Points::from_micro(9_000)),
                (second, Points::from_micro(3_000))
            ]
        );
    }

    #[test]
    fn points_without_an_agreement_or_of_another_currency_are_not_drawn() {
        let mut without = at(1, 1, 1_000, 5_000);
        without.value = None;
        let purse = Purse {
            points: vec![without, at(2, 1, 1_000, 5_000)],
        };
        assert_eq!(
            purse.draw(Money {
                currency: "USD".parse().unwrap(),
                minor: 1
            }),
            []
        );
        assert_eq!(purse.worth(eur()), 5);
    }

    proptest! {
        #[test]
        fn a_draw_is_worth_what_is_wanted_or_all_there_is(
            purses in prop::collection::vec((1_u64..50, 1_u64..5_000_000, 0_u64..1_000_000_000), 0..6),
            most in 0_u64..10_000,
        ) {
            let points = purses.iter().zip(1_u8..).map(|((minor, micro, spendable), byte)| at(byte, *minor, *micro, *spendable));
            let purse = Purse { points: points.collect() };
            let draws = purse.draw(Money { currency: eur(), minor: most });
            let mut worth = 0_u64;
            for (coordinator, drawn) in &draws {
                let of = purse.points.iter().find(|at| at.coordinator == *coordinator).unwrap();
                prop_assert!(*drawn <= of.spendable);
                worth = worth.saturating_add(of.value.unwrap().0.of_floor(*drawn).unwrap());
            }
            let wanted = most.min(purse.worth(eur()));
            prop_assert!(worth >= wanted, "{worth} of {wanted}");
            // One point may be worth several cents: then at most a point's worth more than wanted.
            let finest = purses.iter().all(|(minor, micro, _)| minor <= micro);
            prop_assert!(!finest || worth == wanted, "{worth} of {wanted}");
        }
    }
}
