//! What an app server shows to those who may see it.

use std::collections::BTreeMap;

use super::{AppServer, Declined, Device, Goods, LegState, Made, Order, Stage};
use crate::agreement::Agreement;
use crate::countersignature::hash_of;
use crate::id::{Hash, NodeId, OrderId, RedemptionId};
use crate::message::enroll::{Catalogue, Issued, OfferLine, OrderShown, ProductLine};
use crate::points::Points;
use crate::purse::{PointsAt, Purse};
use crate::time::Timestamp;

impl AppServer {
    /// Returns its own id.
    #[must_use]
    pub const fn me(&self) -> NodeId {
        self.config.me
    }

    /// Returns the coordinators with whom there are agreements or proposals.
    #[must_use]
    pub fn coordinators(&self) -> Vec<NodeId> {
        self.state.agreements.coordinators().collect()
    }

    /// Returns the agreements that were made with a coordinator and are remembered, the oldest first.
    pub fn agreements_with(&self, coordinator: NodeId) -> impl Iterator<Item = &Made> {
        self.state.agreements.made(coordinator)
    }

    /// Returns the last proposal to a coordinator that was not accepted, and why it came to nothing if it did.
    #[must_use]
    pub fn proposal(&self, coordinator: NodeId) -> Option<(Agreement, Option<Declined>)> {
        let (signed, declined) = self.state.agreements.proposed(coordinator)?;
        // Signed here.
        let agreement = signed.clone().verify(&self.config.network).ok()?;
        Some((agreement.value().clone(), declined.cloned()))
    }

    /// Returns what a coordinator itself has signed about a redemption: the order that it paid for, and SHA-256 of the
    /// statement, as it stands in the log. None if the order is forgotten, or the points were never taken.
    #[must_use]
    pub fn evidence(&self, coordinator: NodeId, id: RedemptionId) -> Option<(OrderId, Hash)> {
        self.orders().find_map(|order| {
            let leg = order.leg(id).filter(|leg| leg.coordinator == coordinator)?;
            match &leg.state {
                LegState::Posted { redemption, .. } => Some((order.id, hash_of(redemption))),
                LegState::Wanted
                | LegState::Reserved { .. }
                | LegState::Releasing
                | LegState::Reversing { .. }
                | LegState::Ended => None,
            }
        })
    }

    /// Returns all computers that are known.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.state.users.devices()
    }

    /// Returns what is offered.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        let products = self.products().map(|product| ProductLine {
            id: product.id.clone(),
            name: product.name.clone(),
            price: product.price,
        });
        let offers = self.offers().map(|offer| OfferLine {
            id: offer.id.clone(),
            title: offer.title.clone(),
            percent_max: offer.percent_max,
            amount_max: offer.amount_max,
        });
        Catalogue {
            products: products.collect(),
            offers: offers.collect(),
        }
    }

    /// Returns for whom a computer may order: its owner, if it is registered.
    #[must_use]
    pub fn owner_of(&self, device: NodeId, now: Timestamp) -> Option<NodeId> {
        let known = self.device(device);
        let known = known.filter(|known| known.is_registered(now));
        known.map(|known| known.holder.owner)
    }

    /// Returns what coordinators say that an owner has, summed over its computers.
    #[must_use]
    pub fn purse(&self, owner: NodeId, now: Timestamp) -> Purse {
        let mut at: BTreeMap<NodeId, PointsAt> = BTreeMap::new();
        for (coordinator, statement) in self.devices_of(owner).flat_map(Device::statements) {
            let sum = at.entry(coordinator).or_insert_with(|| PointsAt {
                coordinator,
                value: self.agreement(coordinator, now).map(|made| {
                    let agreement = &made.agreement;
                    (agreement.value, agreement.currency)
                }),
                earned: Points::ZERO,
                escrowed: Points::ZERO,
                spendable: Points::ZERO,
                redeemed: Points::ZERO,
                at: statement.at,
            });
            let add = |sum: &mut Points, more: Points| {
                *sum = Points::from_micro(sum.as_micro().saturating_add(more.as_micro()));
            };
            add(&mut sum.earned, statement.earned);
            add(&mut sum.escrowed, statement.escrowed);
            add(&mut sum.spendable, statement.spendable);
            add(&mut sum.redeemed, statement.redeemed);
            sum.at = sum.at.min(statement.at);
        }
        Purse {
            points: at.into_values().collect(),
        }
    }
}

impl Order {
    /// Returns the order as its owner sees it.
    #[must_use]
    pub fn shown(&self) -> OrderShown {
        let goods = match &self.stage {
            Stage::Fulfilled { goods } => Some(match &**goods {
                Goods::License { license, .. } => Issued::License(license.clone()),
                Goods::Voucher { voucher, .. } => Issued::Voucher(voucher.clone()),
            }),
            Stage::Open
            | Stage::Reserving
            | Stage::Decided
            | Stage::Posted { .. }
            | Stage::Paid { .. }
            | Stage::Void { .. }
            | Stage::Refunded { .. } => None,
        };
        OrderShown {
            owner: self.owner,
            status: self.status(),
            goods,
        }
    }
}
