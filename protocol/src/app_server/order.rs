//! An order: what its owner wants, the points that pay for it, and how far it is.
//!
//! ```text
//! open -> reserving -> decided -> posted -> paid -> fulfilled -> refunded
//!   \________\____________\_________\________\-> void
//! ```
//!
//! Each redemption of an order is a [`Leg`] with a state of its own, since each coordinator answers for itself. An order
//! that becomes void, or is refunded, lets all of its legs go: what was only set aside is let go, what was taken is
//! given back.
//!
//! Invariants: phases change only as [`Phase::leads_to`] says; no points are taken before the order is decided, which it
//! is only when all of its legs are reserved; every leg ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::catalogue::OfferId;
use super::key::IdempotencyKey;
use crate::account::Money;
use crate::certificate::DeviceCertificate;
use crate::id::{LicenseId, NodeId, OrderId, RedemptionId};
use crate::license::{License, LicenseOrder, LicenseTerms};
use crate::message::Refusal;
use crate::message::redeem::RedeemFault;
use crate::points::Points;
use crate::redemption::{Redeem, Redemption};
use crate::signed::Signed;
use crate::time::Timestamp;
use crate::voucher::{Voucher, VoucherOrder, VoucherTerms};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Who gets what is ordered, and whose points pay.
    pub owner: NodeId,
    /// What is ordered, with the terms of that moment.
    pub subject: Subject,
    /// What it costs; nothing if it is for points alone.
    pub fee: Money,
    /// By which it was opened.
    pub key: IdempotencyKey,
    /// When.
    pub opened: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// The points that pay for it, each at another coordinator or from another signature.
    pub legs: Vec<Leg>,
    /// What the user was charged when all points were posted, in minor units.
    pub charged: Option<u64>,
    /// What the user has paid.
    pub payment: Option<Payment>,
}

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A license. Points may pay all of its price.
    License {
        /// What it will say.
        terms: Box<LicenseTerms>,
        /// For which computers; none for any.
        devices: Vec<NodeId>,
    },
    /// A license goes on, for exactly the points of its renewal rule.
    Renewal {
        /// The first license of the line.
        line: LicenseId,
        /// What it will say.
        terms: Box<LicenseTerms>,
        /// For which computers; none for any.
        devices: Vec<NodeId>,
        /// How many points.
        points: Points,
    },
    /// A voucher for what points pay; the shop collects the rest of its fee.
    Voucher {
        /// By which offer.
        offer: OfferId,
        /// What it will say.
        terms: Box<VoucherTerms>,
        /// The most that points may pay.
        most: Money,
    },
}

/// How far an order is, with what only that stage has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nobody has paid anything.
    Open,
    /// Points are being set aside. Nothing is taken.
    Reserving,
    /// All are set aside and will be taken.
    Decided,
    /// All are taken; the user's part is open.
    Posted {
        /// Since when.
        at: Timestamp,
    },
    /// Everything is paid.
    Paid {
        /// Since when.
        at: Timestamp,
    },
    /// What was ordered is issued.
    Fulfilled {
        /// What.
        goods: Box<Goods>,
    },
    /// Nothing came of it.
    Void {
        /// Why.
        reason: VoidReason,
        /// When.
        at: Timestamp,
    },
    /// It was fulfilled, and is undone.
    Refunded {
        /// What was issued, and holds no more.
        goods: Box<Goods>,
        /// When.
        at: Timestamp,
    },
}

/// A stage without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "described at Stage")]
pub enum Phase {
    Open,
    Reserving,
    Decided,
    Posted,
    Paid,
    Fulfilled,
    Void,
    Refunded,
}

/// Why nothing came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// Its owner, or the operator, does not want it any more.
    Cancelled,
    /// Nobody paid anything in time.
    Expired,
    /// A coordinator did not answer in time.
    Unanswered(NodeId),
    /// A coordinator set the points aside for too short a time.
    TooShort(NodeId),
    /// A coordinator counts the points as worth something else than agreed.
    OtherValue(NodeId),
    /// A coordinator does not set points aside, or could not take them any more.
    Points {
        /// The coordinator.
        coordinator: NodeId,
        /// Why.
        fault: RedeemFault,
    },
    /// A coordinator refuses to hear of it.
    Refused {
        /// The coordinator.
        coordinator: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// The user's part was not paid in time.
    Unpaid,
}

/// The payment of the user's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// How the outside names it.
    pub reference: String,
    /// How much, in minor units.
    pub minor: u64,
    /// When.
    pub at: Timestamp,
}

/// What was issued, and of what it is a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goods {
    /// A license.
    License {
        /// What is known of the order.
        order: LicenseOrder,
        /// The license.
        license: Signed<License>,
        /// Until when it holds.
        expires: Timestamp,
    },
    /// A voucher.
    Voucher {
        /// What is known of the order.
        order: VoucherOrder,
        /// The voucher.
        voucher: Signed<Voucher>,
    },
}

/// Points of one redemption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Its name.
    pub id: RedemptionId,
    /// Who counts the points.
    pub coordinator: NodeId,
    /// How many.
    pub points: Points,
    /// The most that they are worth by the agreement.
    pub value_max: u64,
    /// Until when they may be set aside.
    pub expires: Timestamp,
    /// As it was signed.
    pub redeem: Signed<Redeem>,
    /// What allows the device that signed; none if the owner did.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// How far it is.
    pub state: LegState,
}

/// How far a leg is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    /// To be set aside.
    Wanted,
    /// Set aside.
    Reserved {
        /// What the coordinator will owe, in minor units.
        value: u64,
        /// Until when.
        until: Timestamp,
    },
    /// Taken.
    Posted {
        /// What the coordinator owes, in minor units.
        value: u64,
        /// Its word.
        redemption: Signed<Redemption>,
    },
    /// Not needed: whether it is set aside, or even taken, is not known.
    Releasing,
    /// To be given back.
    Reversing {
        /// What the coordinator owes no more, in minor units; nothing if it was never charged.
        charged: u64,
    },
    /// Nothing is set aside and nothing was taken, or it was given back.
    Ended,
}

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderChange {
    /// Its owner redeems points for it.
    Redeemed(Vec<Leg>),
    /// A leg is set aside.
    Reserved {
        /// Which.
        leg: RedemptionId,
        /// What the coordinator will owe, in minor units.
        value: u64,
        /// Until when.
        until: Timestamp,
    },
    /// All legs are: they will be taken.
    Decided,
    /// A leg is taken.
    Taken(RedemptionId, Signed<Redemption>),
    /// All are, and the fee is charged.
    Posted,
    /// The user has paid.
    Paid(Payment),
    /// What was ordered is issued.
    Fulfilled(Box<Goods>),
    /// Nothing will come of it.
    Voided(VoidReason),
    /// What was issued holds no more, and everything is given back.
    Refunded,
    /// A leg that was to be let go was taken: it is to be given back.
    FoundTaken(RedemptionId),
    /// Nothing is left of a leg.
    LegEnded(RedemptionId),
}

/// An order for whoever asks how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatus {
    /// Its name.
    pub order: OrderId,
    /// How far it is.
    pub phase: Phase,
    /// What it costs.
    pub fee: Money,
    /// What coordinators owe for its points, in minor units.
    pub discount: u64,
    /// What is left for the user to pay, in minor units.
    pub due: u64,
    /// Why nothing came of it.
    pub void: Option<VoidReason>,
    /// Whether all points that were not needed are known to be free again.
    pub settled: bool,
}

impl Phase {
    /// Returns whether an order may go from one phase to the other.
    #[must_use]
    pub const fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Open => matches!(next, Self::Reserving | Self::Posted | Self::Void),
            Self::Reserving => matches!(next, Self::Decided | Self::Void),
            Self::Decided => matches!(next, Self::Posted | Self::Void),
            Self::Posted => matches!(next, Self::Paid | Self::Void),
            Self::Paid => matches!(next, Self::Fulfilled | Self::Void),
            Self::Fulfilled => matches!(next, Self::Refunded),
            Self::Void | Self::Refunded => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Reserving => "reserving",
            Self::Decided => "decided",
            Self::Posted => "posted",
            Self::Paid => "paid",
            Self::Fulfilled => "fulfilled",
            Self::Void => "void",
            Self::Refunded => "refunded",
        })
    }
}

impl Stage {
    /// Returns the stage without its content.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Open => Phase::Open,
            Self::Reserving => Phase::Reserving,
            Self::Decided => Phase::Decided,
            Self::Posted { .. } => Phase::Posted,
            Self::Paid { .. } => Phase::Paid,
            Self::Fulfilled { .. } => Phase::Fulfilled,
            Self::Void { .. } => Phase::Void,
            Self::Refunded { .. } => Phase::Refunded,
        }
    }
}

impl LegState {
    /// Returns what the coordinator owes or will owe, in minor units.
    #[must_use]
    pub const fn value(&self) -> u64 {
        match self {
            Self::Reserved { value, .. } | Self::Posted { value, .. } => *value,
            Self::Wanted | Self::Releasing | Self::Reversing { .. } | Self::Ended => 0,
        }
    }

    /// Lets the points go. `is_charged` says whether the coordinator is in the books with what it owes.
    fn let_go(&mut self, is_charged: impl Fn() -> bool) {
        *self = match self {
            Self::Wanted | Self::Reserved { .. } | Self::Releasing => Self::Releasing,
            Self::Posted { value, .. } => Self::Reversing {
                charged: if is_charged() { *value } else { 0 },
            },
            Self::Reversing { charged } => Self::Reversing { charged: *charged },
            Self::Ended => Self::Ended,
        };
    }
}

impl Order {
    /// Returns where it is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// Returns what coordinators owe for its points, or will owe, in minor units.
    #[must_use]
    pub fn discount(&self) -> u64 {
        let values = self.legs.iter().map(|leg| leg.state.value());
        values.fold(0, u64::saturating_add)
    }

    /// Returns what the user is to pay, as far as is known, in minor units.
    #[must_use]
    pub fn due(&self) -> u64 {
        match (self.charged, &self.subject) {
            (Some(charged), _) => charged,
            (None, Subject::License { .. }) => self.fee.minor.saturating_sub(self.discount()),
            (None, Subject::Renewal { .. } | Subject::Voucher { .. }) => 0,
        }
    }

    /// Returns the most that points may pay, in minor units.
    #[must_use]
    pub const fn discount_max(&self) -> u64 {
        match &self.subject {
            Subject::License { .. } => self.fee.minor,
            Subject::Renewal { .. } => u64::MAX,
            Subject::Voucher { most, .. } => most.minor,
        }
    }

    /// Returns the goods, if they were issued.
    #[must_use]
    pub const fn goods(&self) -> Option<&Goods> {
        match &self.stage {
            Stage::Fulfilled { goods } | Stage::Refunded { goods, .. } => Some(goods),
            Stage::Open
            | Stage::Reserving
            | Stage::Decided
            | Stage::Posted { .. }
            | Stage::Paid { .. }
            | Stage::Void { .. } => None,
        }
    }

    /// Returns how it is.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        let phase = self.phase();
        let is_over = matches!(phase, Phase::Void | Phase::Refunded);
        OrderStatus {
            order: self.id,
            phase,
            fee: self.fee,
            discount: self.discount(),
            due: if is_over { 0 } else { self.due() },
            void: match &self.stage {
                Stage::Void { reason, .. } => Some(reason.clone()),
                Stage::Open
                | Stage::Reserving
                | Stage::Decided
                | Stage::Posted { .. }
                | Stage::Paid { .. }
                | Stage::Fulfilled { .. }
                | Stage::Refunded { .. } => None,
            },
            settled: self.legs.iter().all(|leg| leg.state == LegState::Ended),
        }
    }

    /// Returns a leg.
    #[must_use]
    pub fn leg(&self, id: RedemptionId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.id == id)
    }

    /// Returns what a coordinator was charged for points that are to be given back.
    pub(super) fn charged_of(&self, leg: RedemptionId) -> Option<(NodeId, u64)> {
        let leg = self.leg(leg)?;
        match leg.state {
            LegState::Reversing { charged } if charged > 0 => Some((leg.coordinator, charged)),
            LegState::Wanted
            | LegState::Reserved { .. }
            | LegState::Posted { .. }
            | LegState::Releasing
            | LegState::Reversing { .. }
            | LegState::Ended => None,
        }
    }

    /// Changes the order: the only place where one changes.
    pub(super) fn apply(&mut self, change: &OrderChange, at: Timestamp) {
        match change {
            OrderChange::Redeemed(legs) => {
                self.legs.clone_from(legs);
                self.enter(Stage::Reserving);
            }
            OrderChange::Reserved { leg, value, until } => {
                let (value, until) = (*value, *until);
                self.set_leg(*leg, LegState::Reserved { value, until });
            }
            OrderChange::Decided => self.enter(Stage::Decided),
            OrderChange::Taken(leg, redemption) => {
                let value = self.leg(*leg).map_or(0, |leg| leg.state.value());
                let redemption = redemption.clone();
                self.set_leg(*leg, LegState::Posted { value, redemption });
            }
            OrderChange::Posted => {
                self.charged = Some(self.due());
                self.enter(Stage::Posted { at });
            }
            OrderChange::Paid(payment) => {
                self.payment = (payment.minor > 0).then(|| payment.clone());
                self.enter(Stage::Paid { at });
            }
            OrderChange::Fulfilled(goods) => self.enter(Stage::Fulfilled {
                goods: goods.clone(),
            }),
            OrderChange::Voided(reason) => {
                let reason = reason.clone();
                self.let_go(Stage::Void { reason, at });
            }
            OrderChange::Refunded => {
                if let Stage::Fulfilled { goods } = &self.stage {
                    let goods = goods.clone();
                    self.let_go(Stage::Refunded { goods, at });
                }
            }
            OrderChange::FoundTaken(leg) => {
                self.set_leg(*leg, LegState::Reversing { charged: 0 });
            }
            OrderChange::LegEnded(leg) => self.set_leg(*leg, LegState::Ended),
        }
    }

    fn enter(&mut self, stage: Stage) {
        let (from, to) = (self.phase(), stage.phase());
        assert!(from.leads_to(to), "no order goes from {from} to {to}");
        self.stage = stage;
    }

    fn let_go(&mut self, stage: Stage) {
        self.enter(stage);
        let charged = self.charged;
        for leg in &mut self.legs {
            leg.state.let_go(|| charged.is_some());
        }
    }

    fn set_leg(&mut self, id: RedemptionId, state: LegState) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) {
            leg.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_forward_or_ends() {
        use Phase::{Decided, Fulfilled, Open, Paid, Posted, Refunded, Reserving, Void};
        let all = [
            Open, Reserving, Decided, Posted, Paid, Fulfilled, Void, Refunded,
        ];
        let after = |from: Phase| -> Vec<Phase> {
            let next = all.into_iter().filter(|next| from.leads_to(*next));
            next.collect()
        };
        let expected = [
            (Open, vec![Reserving, Posted, Void]),
            (Reserving, vec![Decided, Void]),
            (Decided, vec![Posted, Void]),
            (Posted, vec![Paid, Void]),
            (Paid, vec![Fulfilled, Void]),
            (Fulfilled, vec![Refunded]),
            (Void, vec![]),
            (Refunded, vec![]),
        ];
        for (from, next) in expected {
            assert_eq!(after(from), next, "from {from}");
        }
    }
}
