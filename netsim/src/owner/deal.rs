//! One order of an owner, from what there is to spend to the goods.
//!
//! ```text
//! save -> open -> redeem -> watch -> (pay -> watch) -> (use) -> (refund -> watch) -> over
//! ```
//!
//! Invariant: what is asked is a function of the deal, so that asking again is the same question.

use tally_protocol::account::Money;
use tally_protocol::app_server::{Goods, IdempotencyKey, OrderStatus, Phase, Wish};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{LicenseId, NetworkId, NodeId, OrderId};
use tally_protocol::points::Points;
use tally_protocol::redemption::Redeem;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;
use tally_protocol::voucher::Voucher;

use super::sum;
use crate::chance::Chance;
use crate::peer::Peer;
use crate::scenario::{
    LICENSE_CENTS, MICRO_POINTS_PER_CENT, RENEWAL_POINTS, VOUCHER_FEE_CENTS, currency, offer_name,
    product_name,
};
use crate::shop::{ShopReply, ShopRequest, SignedRedeem};

/// For how long points may be set aside, in seconds: an order is decided while an hour of it is left.
const REDEEM_SECONDS: u64 = 3 * 3_600;

/// An order of an owner.
#[derive(Debug, Clone)]
pub(super) struct Deal {
    /// Which of its app servers.
    pub(super) place: usize,
    pub(super) at: (Peer, NodeId),
    wish: Wish,
    /// Which of the owner's orders, by which of its clients.
    number: (u32, usize),
    pub(super) step: Step,
    pub(super) order: Option<OrderId>,
    /// What can be spent at each coordinator.
    pub(super) spendable: Vec<(NodeId, Points)>,
    points: Vec<SignedRedeem>,
    pub(super) voucher: Option<Signed<Voucher>>,
    pub(super) license: Option<LicenseId>,
    /// Part of the price that points are to pay, in hundredths.
    percent: u64,
    /// Whether it will want it undone.
    regrets: bool,
}

/// How far a deal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It looks what there is to spend.
    Save,
    /// It opens the order.
    Open,
    /// It redeems points.
    Redeem,
    /// It looks how the order is.
    Watch,
    /// It pays its part, under this reference.
    Pay(String),
    /// It uses its voucher at a shop.
    Use,
    /// It wants the order undone.
    Refund,
    /// It does not want the order any more.
    Cancel,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The next step can be taken.
    GoOn,
    /// Something has to happen first.
    Wait,
    /// There is too little to spend.
    Save,
    /// Nothing more is to be done.
    Over,
}

/// Who buys.
#[derive(Debug)]
pub(super) struct Buyer<'a> {
    pub(super) owner: NodeId,
    pub(super) now: Timestamp,
    pub(super) network: &'a NetworkId,
    pub(super) signer: (
        &'a ed25519_dalek::SigningKey,
        Option<&'a Verified<DeviceCertificate>>,
    ),
    /// Whether it always takes all that there is.
    pub(super) greedy: bool,
}

impl Deal {
    /// Begins an order of something: a license, a voucher, or a license once more.
    pub(super) fn new(
        (place, at): (usize, (Peer, NodeId)),
        number: (u32, usize),
        license: Option<LicenseId>,
        chance: &mut Chance,
    ) -> Self {
        let wish = match (chance.below(3), license) {
            (0, Some(license)) => Wish::Renewal { license },
            (1, _) => Wish::Voucher {
                offer: offer_name(),
                fee: euro(VOUCHER_FEE_CENTS),
            },
            _ => Wish::License {
                product: product_name(),
                devices: Vec::new(),
            },
        };
        Self {
            place,
            at,
            wish,
            number,
            step: Step::Save,
            order: None,
            spendable: Vec::new(),
            points: Vec::new(),
            voucher: None,
            license: None,
            percent: 20 + chance.below(81),
            regrets: chance.happens(0.2),
        }
    }

    /// Returns what is to be asked.
    pub(super) fn request(&self, owner: NodeId) -> ShopRequest {
        let order = self.order.unwrap_or(OrderId::from_bytes([0; 16]));
        match &self.step {
            Step::Save => ShopRequest::Points(owner),
            Step::Open => ShopRequest::Open {
                owner,
                wish: self.wish.clone(),
                key: self.key("order"),
            },
            Step::Redeem => ShopRequest::Redeem {
                order,
                points: self.points.clone(),
            },
            Step::Watch => ShopRequest::Look(order),
            Step::Pay(reference) => ShopRequest::Pay {
                order,
                reference: reference.clone(),
            },
            Step::Use => ShopRequest::Use {
                voucher: self.voucher.clone().unwrap_or_else(nothing),
                fee: euro(VOUCHER_FEE_CENTS),
                key: self.key("use"),
            },
            Step::Refund => ShopRequest::Refund(order),
            Step::Cancel => ShopRequest::Cancel(order),
        }
    }

    /// Names a request of this deal.
    pub(super) fn key(&self, what: &str) -> IdempotencyKey {
        let (number, client) = self.number;
        let key = format!("{what} {number} of client {client}");
        key.parse().expect("a short line")
    }

    /// Takes an answer.
    pub(super) fn hear(
        &mut self,
        reply: ShopReply,
        buyer: &Buyer<'_>,
        chance: &mut Chance,
    ) -> Heard {
        match (&self.step, reply) {
            (Step::Save, ShopReply::Points(points)) => {
                self.spendable = points;
                if sum(&self.spendable) < self.wanted(buyer).max(MICRO_POINTS_PER_CENT) {
                    return Heard::Save;
                }
                self.step = Step::Open;
                Heard::GoOn
            }
            (Step::Open, ShopReply::Order(status, _)) => {
                self.order = Some(status.order);
                self.points = self.signed(status.order, buyer, chance);
                self.step = Step::Redeem;
                Heard::GoOn
            }
            // What was ordered cannot be had, or not yet.
            (Step::Open, ShopReply::Refused("unknown_product" | "unknown_offer" | "full")) => {
                Heard::Save
            }
            (Step::Open, ShopReply::Refused(_)) => Heard::Over,
            (Step::Redeem, ShopReply::Order(..)) => {
                self.step = Step::Watch;
                Heard::Wait
            }
            (Step::Redeem, ShopReply::Refused("taken" | "wrong_phase")) => {
                self.step = Step::Watch;
                Heard::Wait
            }
            (Step::Redeem, ShopReply::Refused(_)) => {
                self.step = Step::Cancel;
                Heard::GoOn
            }
            (Step::Use, ShopReply::Split(_) | ShopReply::Refused(_)) => Heard::Over,
            (_, ShopReply::Order(status, goods)) => self.look(&status, goods.as_deref()),
            (Step::Watch, ShopReply::Refused(_)) => Heard::Over,
            (_, ShopReply::Refused(_)) => {
                self.step = Step::Watch;
                Heard::Wait
            }
            (
                _,
                ShopReply::Registered(_)
                | ShopReply::Points(_)
                | ShopReply::Split(_)
                | ShopReply::Done,
            ) => Heard::Wait,
        }
    }

    /// Sees how the order is.
    fn look(&mut self, status: &OrderStatus, goods: Option<&Goods>) -> Heard {
        match (status.phase, goods) {
            (Phase::Posted, _) if status.due > 0 => {
                self.step = Step::Pay(format!("payment of order {}", status.order));
                return Heard::GoOn;
            }
            (Phase::Fulfilled, Some(_)) if self.regrets => {
                self.regrets = false;
                self.step = Step::Refund;
                return Heard::GoOn;
            }
            (Phase::Fulfilled, Some(Goods::Voucher { voucher, .. })) => {
                self.voucher = Some(voucher.clone());
                self.step = Step::Use;
                return Heard::GoOn;
            }
            (Phase::Fulfilled, Some(Goods::License { order, .. })) => {
                self.license = Some(LicenseId::of(self.at.1, order.order));
                return Heard::Over;
            }
            (Phase::Void | Phase::Refunded, _) if status.settled => return Heard::Over,
            (
                Phase::Open
                | Phase::Reserving
                | Phase::Decided
                | Phase::Posted
                | Phase::Paid
                | Phase::Fulfilled
                | Phase::Void
                | Phase::Refunded,
                _,
            ) => {}
        }
        self.step = Step::Watch;
        Heard::Wait
    }

    /// Returns how many points are to be redeemed, in micro-points.
    fn wanted(&self, buyer: &Buyer<'_>) -> u64 {
        let most = match &self.wish {
            Wish::License { .. } => LICENSE_CENTS,
            Wish::Renewal { .. } => return RENEWAL_POINTS.as_micro(),
            Wish::Voucher { .. } => VOUCHER_FEE_CENTS / 2,
        };
        if buyer.greedy {
            let all = sum(&self.spendable) / MICRO_POINTS_PER_CENT;
            return all.clamp(1, most) * MICRO_POINTS_PER_CENT;
        }
        (most * self.percent / 100).max(1) * MICRO_POINTS_PER_CENT
    }

    /// Signs for so many points of each coordinator that they are enough together.
    fn signed(&self, order: OrderId, buyer: &Buyer<'_>, chance: &mut Chance) -> Vec<SignedRedeem> {
        let mut left = self.wanted(buyer);
        let mut signed = Vec::new();
        // From two of them if both have enough, so that two have to agree.
        let share = left.div_ceil(self.spendable.len().max(1) as u64);
        let share = share.next_multiple_of(MICRO_POINTS_PER_CENT);
        for (place, (coordinator, there)) in self.spendable.iter().enumerate() {
            let is_last = place + 1 == self.spendable.len();
            let most = if is_last { left } else { share };
            let points = there.as_micro().min(most).min(left);
            if points > 0 {
                left -= points;
                let points = Points::from_micro(points);
                signed.push(self.redeem((order, *coordinator), points, buyer, chance));
            }
        }
        signed
    }

    pub(super) fn redeem(
        &self,
        (order, coordinator): (OrderId, NodeId),
        points: Points,
        buyer: &Buyer<'_>,
        chance: &mut Chance,
    ) -> SignedRedeem {
        let (key, shown) = buyer.signer;
        let nonce = chance.bytes();
        let redeem = Redeem {
            owner: buyer.owner,
            coordinator,
            app_server: self.at.1,
            points,
            order,
            nonce: *nonce.first_chunk().expect("32 bytes have 16"),
            expires: buyer.now + std::time::Duration::from_secs(REDEEM_SECONDS),
        };
        let redeem = Verified::sign(redeem, buyer.network, key);
        let shown = shown.map(|shown| shown.signed().clone());
        (redeem.signed().clone(), shown)
    }
}

fn euro(minor: u64) -> Money {
    let currency = currency();
    Money { currency, minor }
}

fn nothing() -> Signed<Voucher> {
    Signed::from_bytes(Vec::new())
}
