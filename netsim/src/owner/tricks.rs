//! What no honest owner asks: the same points or the same order twice, and a voucher where it was not for.

use std::time::Duration;

use tally_protocol::account::Money;
use tally_protocol::points::Points;

use super::deal::{Buyer, Deal, Step};
use super::{Asked, OwnerNode};
use crate::conduct::Kind;
use crate::happening::Happening;
use crate::peer::Peer;
use crate::scenario::{MICRO_POINTS_PER_CENT, VOUCHER_FEE_CENTS, currency};
use crate::shop::ShopRequest;
use crate::stage::Stage;

/// A trick: what it is called, whom it is played on, and what is asked.
type Trick = (&'static str, Peer, ShopRequest);

impl OwnerNode {
    /// Asks what it must not get, now and then.
    pub(super) fn play_tricks(&mut self, stage: &mut Stage, client: usize) {
        let Some(deal) = self.deals[client].clone() else {
            return;
        };
        let mut tricks = Vec::new();
        if self.setup.kind == Kind::DoubleRedeeming {
            tricks = self.redeem_twice(stage, &deal);
        } else if self.setup.kind == Kind::VoucherReplaying {
            tricks = self.replay_voucher(&deal);
        }
        for (how, to, request) in tricks {
            let by = self.peer;
            stage.note(&Happening::Cheated { by, to, how });
            self.ask(stage, to, (request, Asked::Trick(to, how)));
        }
    }

    /// While it waits for an order, another client redeems other points for it, or such as were not for it or are over.
    fn redeem_twice(&mut self, stage: &Stage, deal: &Deal) -> Vec<Trick> {
        let (Step::Watch, Some(order)) = (&deal.step, deal.order) else {
            return Vec::new();
        };
        let Some((coordinator, _)) = deal.spendable.first().copied() else {
            return Vec::new();
        };
        let others = self.deals.iter().flatten();
        let mut other = others.filter_map(|other| other.order);
        let other = other.rfind(|other| *other != order);
        let mut buyer = Buyer {
            owner: self.id,
            now: self.setup.clock.read(stage.now),
            network: &stage.network,
            signer: (&self.setup.key, None),
            greedy: true,
        };
        let (how, of) = match self.chance.below(4) {
            0 => ("redeems twice for one order", order),
            1 => (
                "redeems for one order what is for another",
                other.unwrap_or(order),
            ),
            2 => {
                buyer.now = buyer.now - Duration::from_secs(7 * 24 * 3_600);
                ("redeems with an old word", order)
            }
            _ => return Vec::new(),
        };
        let points = Points::from_micro(MICRO_POINTS_PER_CENT);
        let redeem = deal.redeem((of, coordinator), points, &buyer, &mut self.chance);
        let points = vec![redeem];
        let request = ShopRequest::Redeem { order, points };
        vec![(how, deal.at.0, request)]
    }

    /// When a voucher was used, it uses it again: by another key, on another fee, and elsewhere.
    fn replay_voucher(&self, deal: &Deal) -> Vec<Trick> {
        let (Step::Use, Some(voucher)) = (&deal.step, &deal.voucher) else {
            return Vec::new();
        };
        let fee = |minor| Money {
            currency: currency(),
            minor,
        };
        let uses = |minor, key| ShopRequest::Use {
            voucher: voucher.clone(),
            fee: fee(minor),
            key: deal.key(key),
        };
        let elsewhere = self.setup.app_servers.iter().map(|(peer, _)| *peer);
        let elsewhere = elsewhere.filter(|peer| *peer != deal.at.0);
        let elsewhere = elsewhere.map(|to| {
            (
                "uses a voucher elsewhere",
                to,
                uses(VOUCHER_FEE_CENTS, "use"),
            )
        });
        let here = [
            ("uses a voucher twice", uses(VOUCHER_FEE_CENTS, "again")),
            (
                "uses a voucher on another fee",
                uses(VOUCHER_FEE_CENTS * 2, "use"),
            ),
        ];
        let here = here.map(|(how, request)| (how, deal.at.0, request));
        here.into_iter().chain(elsewhere).collect()
    }
}
