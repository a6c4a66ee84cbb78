//! The recorded state of an app server, and the facts that change it.
//!
//! All that must survive a crash is in one state, which changes in one place. The books are a part of it, since each
//! posting follows from a fact: reading the facts again gives the same books.

use serde::{Deserialize, Serialize};

use super::agreements::{AgreementFact, Agreements};
use super::catalogue::{Catalogue, DiscountOffer, Product};
use super::goods::{Licenses, VoucherUse, Vouchers};
use super::order::{Order, OrderChange};
use super::orders::Orders;
use super::settlement::{SettlementFact, Settlements};
use super::users::{UserFact, Users};
use super::{AppServer, AppServerConfig, posting};
use crate::account::Money;
use crate::books::{Balance, Books, Line, Posting};
use crate::codec::{self, DecodeError};
use crate::id::{LicenseId, NodeId, OrderId, VoucherId};
use crate::license::Status;
use crate::time::Timestamp;

/// What happened, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A product is offered.
    Product(Box<Product>),
    /// A discount is offered.
    Offer(Box<DiscountOffer>),
    /// About an agreement.
    Agreement(AgreementFact),
    /// About a user.
    User(UserFact),
    /// An order is opened.
    Opened(Box<Order>),
    /// Something happened to it.
    Order {
        /// The order.
        order: OrderId,
        /// What.
        change: OrderChange,
        /// When.
        at: Timestamp,
    },
    /// An order is known no more: it was void, or has been over for long.
    Forgotten(OrderId),
    /// A license has another status.
    Status(LicenseId, Status),
    /// The status list with this sequence was issued.
    Listed(u64),
    /// A voucher was used.
    VoucherUsed(VoucherId, VoucherUse),
    /// About a settlement.
    Settlement(SettlementFact),
}

/// Why an app server's state cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot is damaged.
    #[error("read the snapshot of the app server")]
    Snapshot(#[source] DecodeError),
    /// A fact is damaged.
    #[error("read fact {index} of the app server's journal")]
    Fact {
        /// Place in the journal after the snapshot.
        index: u64,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
}

/// The largest fact or snapshot that is read back, in bytes: 10^5 orders and 2 * 10^5 devices are within it.
const STATE_BYTES_MAX: usize = 3 << 30;

/// All that survives a crash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) catalogue: Catalogue,
    pub(super) agreements: Agreements,
    pub(super) users: Users,
    pub(super) orders: Orders,
    pub(super) licenses: Licenses,
    pub(super) vouchers: Vouchers,
    pub(super) settlements: Settlements,
    #[serde(with = "lines")]
    pub(super) books: Books,
}

/// The books of an app server are lines alone: it holds nothing.
mod lines {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Balance, Books, Line};

    pub(super) fn serialize<S: Serializer>(books: &Books, to: S) -> Result<S::Ok, S::Error> {
        let lines: Vec<(&Line, &Balance)> = books.balances().collect();
        lines.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Books, D::Error> {
        let lines = Vec::<(Line, Balance)>::deserialize(from)?;
        Ok(Books::from_parts(lines, []))
    }
}

impl State {
    /// Changes the state by a fact: the only place where it changes. Returns what that did to the books.
    pub(super) fn apply(&mut self, me: NodeId, fact: &Fact) -> Option<Posting> {
        match fact {
            Fact::Product(product) => self.catalogue.add_product(product.as_ref().clone()),
            Fact::Offer(offer) => self.catalogue.add_offer(offer.as_ref().clone()),
            Fact::Agreement(fact) => {
                self.agreements.apply(fact);
                if let AgreementFact::Made(made) = fact {
                    self.users.enqueue_all(made.agreement.coordinator);
                }
            }
            Fact::User(fact) => {
                let at = match fact {
                    UserFact::Registered { at, .. } | UserFact::Revoked { at, .. } => *at,
                    UserFact::Delivered { .. } | UserFact::Told(..) => Timestamp::default(),
                };
                let partners: Vec<NodeId> = self.agreements.partners(at).collect();
                self.users.apply(fact, &partners);
            }
            Fact::Opened(order) => self.orders.open(order.as_ref().clone()),
            Fact::Order { order, change, at } => return self.order(me, *order, change, *at),
            Fact::Forgotten(id) => {
                if let Ok(order) = self.orders.get(*id) {
                    self.licenses.keep(LicenseId::of(me, *id), order);
                }
                self.orders.forget(*id);
            }
            Fact::Status(license, status) => self.licenses.set(*license, *status),
            Fact::Listed(sequence) => self.licenses.list(*sequence),
            Fact::VoucherUsed(voucher, used) => self.vouchers.use_up(*voucher, used.clone()),
            Fact::Settlement(fact) => return self.settlement(fact),
        }
        None
    }

    fn order(
        &mut self,
        me: NodeId,
        id: OrderId,
        change: &OrderChange,
        at: Timestamp,
    ) -> Option<Posting> {
        let before = self.orders.get(id).ok()?.clone();
        self.orders.change(id, change, at);
        let order = self.orders.get(id).ok()?;
        let money = |minor| Money { minor, ..order.fee };
        let posting = match change {
            OrderChange::Posted => {
                let part = |minor: u64, to: NodeId| (to, money(minor));
                let parts = order.legs.iter();
                let parts: Vec<_> = parts
                    .map(|leg| part(leg.state.value(), leg.coordinator))
                    .collect();
                for leg in &order.legs {
                    let value = leg.state.value();
                    self.settlements.charge(leg.coordinator, leg.id, value);
                }
                posting::charge(id, part(order.due(), order.owner), &parts)
            }
            OrderChange::Paid(payment) => {
                posting::payment(order.owner, money(payment.minor), &payment.reference)
            }
            OrderChange::Voided(_) | OrderChange::Refunded => {
                self.licenses.refund(LicenseId::of(me, id));
                self.vouchers.refund(VoucherId::of(me, id));
                let paid = before.payment.as_ref().map_or(0, |payment| payment.minor);
                let due = money(before.charged.unwrap_or(0));
                posting::refund(id, (order.owner, due), money(paid))
            }
            OrderChange::Fulfilled(goods) => {
                self.licenses.fulfil(me, order, goods);
                self.vouchers.fulfil(me, id, goods);
                None
            }
            OrderChange::LegEnded(leg) => {
                let (coordinator, charged) = before.charged_of(*leg)?;
                self.settlements.reverse(coordinator, *leg);
                posting::reversal(*leg, coordinator, money(charged))
            }
            OrderChange::Redeemed(_)
            | OrderChange::Reserved { .. }
            | OrderChange::Decided
            | OrderChange::Taken(..)
            | OrderChange::FoundTaken(_) => None,
        };
        self.post(at, posting)
    }

    fn settlement(&mut self, fact: &SettlementFact) -> Option<Posting> {
        let settled = self.settlements.apply(fact)?;
        let (coordinator, number) = (settled.coordinator, settled.number);
        let minor = settled.supply_fee;
        let posting = match fact {
            SettlementFact::Agreed(..) => {
                let currency = settled.currency;
                let fee = Money { currency, minor };
                posting::supply_fee(coordinator, number, fee)
            }
            SettlementFact::Paid(..) => posting::settlement(&settled),
            SettlementFact::Stated(_)
            | SettlementFact::Disputed(..)
            | SettlementFact::Refused(..)
            | SettlementFact::Resolved(..) => None,
        };
        self.post(settled.until, posting)
    }

    fn post(&mut self, at: Timestamp, posting: Option<Posting>) -> Option<Posting> {
        let posting = posting?;
        let posted = self.books.post(at, &posting);
        posted.expect("receivables may be below zero, and sales give back only what they got");
        Some(posting)
    }
}

impl AppServer {
    /// Starts from what was recorded: a snapshot, if there is one, and the facts since.
    ///
    /// # Errors
    /// [`RestoreError`] if something recorded cannot be read.
    pub fn restore<B: AsRef<[u8]>>(
        config: AppServerConfig,
        seed: [u8; 32],
        snapshot: Option<&[u8]>,
        facts: impl IntoIterator<Item = B>,
    ) -> Result<Self, RestoreError> {
        let mut restored = Self::new(config, seed);
        if let Some(bytes) = snapshot {
            let state = codec::from_bytes(bytes, STATE_BYTES_MAX);
            restored.state = state.map_err(RestoreError::Snapshot)?;
        }
        for (index, bytes) in (0..).zip(facts) {
            let fact: Fact = codec::from_bytes(bytes.as_ref(), STATE_BYTES_MAX)
                .map_err(|source| RestoreError::Fact { index, source })?;
            restored.state.apply(restored.config.me, &fact);
        }
        Ok(restored)
    }

    /// Returns what a new [`AppServer`] needs instead of all facts so far.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        codec::to_bytes(&self.state)
    }
}
