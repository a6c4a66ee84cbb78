//! The app server: registers users, sells licenses and discounts for points and money, and settles with coordinators.
//!
//! A state machine without I/O, driven like the [coordinator](crate::coordinator): the shell feeds it one [`Input`] after
//! another with the time, and carries out the [`Effect`]s in their order, after everything that is to be recorded is
//! durable. What must survive a crash changes only by [`Fact`]s: [`AppServer::restore`] folds them again and
//! [`AppServer::resume`] goes on with whatever was under way.
//!
//! A product or an offer is put into the **catalogue** by the operator. A device **enrols** for a product and is
//! registered; every coordinator with an agreement is told, however long it is away. An **order** is for a license, its
//! renewal, or a voucher. Points pay for it by redemptions at one or more coordinators, in two phases: all are reserved,
//! the order is decided, each is posted. The user pays the rest. Then the goods are issued, as a function of what is
//! recorded with them. A **voucher** is used once at a shop. From time to time a **settlement** says what each coordinator
//! owes.
//!
//! Invariants: no effect leaves before the facts it follows from; points are taken only for decided orders; every decided
//! order is fulfilled, or everything that was taken for it is given back; asking again has the same answer; nothing here
//! grows without a bound.

mod agreements;
mod catalogue;
mod errands;
mod facts;
mod fault;
mod goods;
mod key;
mod legs;
mod log;
mod order;
mod orders;
mod points;
pub mod posting;
mod settlement;
#[cfg(test)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a story looks for one effect among many"
)]
mod tests;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

use crate::account::Money;
use crate::agreement::Agreement;
use crate::books::{Books, Posting};
use crate::certificate::DeviceCertificate;
use crate::coordinator::Question;
use crate::entry::Event;
use crate::id::{LicenseId, NetworkId, NodeId, OrderId, RedemptionId};
use crate::issuer::Issuer;
use crate::license::{Status, StatusList};
use crate::registration::{Enrolment, PointStatement, Registration};
use crate::settlement::Settlement;
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;
use crate::voucher::{Split, Voucher};

pub use agreements::{AgreementFact, COORDINATORS_MAX, Declined, Made};
pub use catalogue::{
    CATALOGUE_MAX, DiscountOffer, LAUNCH_WORD_BYTES_MAX, LAUNCH_WORDS_MAX, OfferId, Product,
    TITLE_BYTES_MAX,
};
pub use errands::{Reply, Request};
pub use facts::{Fact, RestoreError};
pub use fault::Fault;
pub use goods::VoucherUse;
pub use key::{IdempotencyKey, KEY_BYTES_MAX};
pub use order::{
    Goods, Leg, LegState, Order, OrderChange, OrderStatus, Payment, Phase, Stage, Subject,
    VoidReason,
};
pub use orders::{
    DECIDE_BEFORE, KEPT_FOR, ORDERS_MAX, ORDERS_OPEN_MAX, Opening, SignedPoints, Wish,
};
pub use settlement::{Agreed, Open, SettlementFact};
pub use users::{DEVICES_MAX, Device, Standing, UserFact};

use errands::{Errand, Errands};
use facts::State;
use points::Wanted;

/// What an app server is told at its start.
#[derive(Debug)]
pub struct AppServerConfig {
    /// Its own id.
    pub me: NodeId,
    /// Its key: agreements, registrations, reversals and settlements are signed before they are recorded.
    pub key: SigningKey,
    /// Its network.
    pub network: NetworkId,
    /// What it issues licenses and vouchers with.
    pub issuer: Issuer,
    /// How long an order whose points are taken waits for the user's part.
    pub pay_within: Duration,
    /// How often a status list is issued, whether anything has changed or not.
    pub status_every: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The operator wants something.
    Ordered {
        /// To be answered.
        question: Question,
        /// What.
        command: Command,
    },
    /// A device wants to work for a product.
    Enrolled {
        /// To be answered with [`Answer::Registered`].
        question: Question,
        /// Its word.
        enrolment: Verified<Enrolment>,
        /// Whose it is; none if it is its own owner.
        certificate: Option<Verified<DeviceCertificate>>,
    },
    /// A coordinator tells what devices have.
    Told {
        /// To be answered with [`Answer::Done`].
        question: Question,
        /// At most [`crate::message::registry::STATEMENTS_MAX`].
        statements: Vec<Verified<PointStatement>>,
    },
    /// Somebody orders something.
    Opened {
        /// To be answered with [`Answer::Order`].
        question: Question,
        /// What.
        opening: Opening,
    },
    /// Points are to pay for an order.
    Redeemed {
        /// To be answered with [`Answer::Order`].
        question: Question,
        /// The order.
        order: OrderId,
        /// The points, all at once.
        points: Vec<SignedPoints>,
    },
    /// The user's part was paid, as the operator or the payment service says.
    Paid {
        /// To be answered with [`Answer::Order`].
        question: Question,
        /// The order.
        order: OrderId,
        /// How the outside names the payment.
        reference: String,
    },
    /// A shop uses a voucher.
    UseVoucher {
        /// To be answered with [`Answer::Split`].
        question: Question,
        /// The voucher: its signature holds.
        voucher: Box<Verified<Voucher>>,
        /// The shop's fee.
        fee: Money,
        /// The same key again has the same answer.
        key: IdempotencyKey,
    },
    /// A coordinator has answered.
    Answered {
        /// What.
        question: Question,
        /// How.
        reply: Box<Reply>,
    },
    /// A coordinator did not answer.
    Failed(Question),
    /// The time of [`AppServer::next_deadline`] has come.
    DeadlineReached,
}

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put a product into the catalogue, or replace it.
    Offer(Box<Product>),
    /// Put a discount into the catalogue, or replace it.
    Discount(Box<DiscountOffer>),
    /// Propose an agreement to a coordinator.
    Propose(Box<Agreement>),
    /// End the registrations of a device.
    Revoke {
        /// The computer.
        device: NodeId,
        /// Why.
        reason: String,
    },
    /// Nobody wants this order any more.
    Cancel(OrderId),
    /// Undo this fulfilled order.
    Refund(OrderId),
    /// Suspend, revoke, or restore a license.
    SetStatus(LicenseId, Status),
    /// State what a coordinator owes.
    Settle(NodeId),
    /// A settlement is paid.
    SettlementPaid {
        /// The coordinator.
        coordinator: NodeId,
        /// The number of the settlement.
        number: u32,
        /// How the outside names the payment.
        reference: String,
    },
    /// A redemption that a coordinator did not know counts again.
    Resolve(NodeId, RedemptionId),
    /// Ask coordinators what the devices of this owner have.
    AskPoints(NodeId),
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write to the journal.
    Record(Fact),
    /// Write to the permanent log, and to the books. Follows from the fact before it.
    Append {
        /// What happened.
        event: Event,
        /// What that does to the books.
        posting: Option<Posting>,
    },
    /// Ask a coordinator, and bring the answer.
    Ask {
        /// Repeated with the answer.
        question: Question,
        /// Whom.
        coordinator: NodeId,
        /// What.
        request: Request,
    },
    /// Answer a question.
    Answer {
        /// The question.
        question: Question,
        /// The answer.
        answer: Result<Answer, Fault>,
    },
    /// The status of an order has changed: whoever watches may be told.
    Changed(OrderId),
    /// Show the applications this status list.
    Publish(Signed<StatusList>),
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The device is registered.
    Registered(Signed<Registration>),
    /// How the order is.
    Order(Box<OrderStatus>),
    /// Who pays the shop's fee.
    Split(Split),
    /// The statement that the coordinator is asked to agree with.
    Settlement(Signed<Settlement>),
}

/// The state of an app server.
#[derive(Debug)]
pub struct AppServer {
    config: AppServerConfig,
    state: State,
    errands: Errands,
    wanted: Wanted,
    /// Rows of the outbox that are being told.
    sent: BTreeMap<NodeId, Vec<(NodeId, u64)>>,
    status_list: Option<Signed<StatusList>>,
    seed: [u8; 32],
    drawn: u64,
}

impl AppServer {
    /// Starts with nothing. `seed` must be new and secret at each start: orders are named from it.
    #[must_use]
    pub fn new(config: AppServerConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            state: State::default(),
            errands: Errands::default(),
            wanted: Wanted::default(),
            sent: BTreeMap::new(),
            status_list: None,
            seed,
            drawn: 0,
        }
    }

    /// Goes on with whatever was under way when the state was recorded. Called once, after restoring.
    pub fn resume(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.publish(now, out);
        let coordinators: Vec<NodeId> = self.state.agreements.coordinators().collect();
        for coordinator in coordinators {
            self.run_errand(now, Errand::Agree(coordinator), out);
            self.run_errand(now, Errand::Outbox(coordinator), out);
            self.run_errand(now, Errand::Settle(coordinator), out);
            self.ask_all_points(now, coordinator, out);
        }
        let orders: Vec<OrderId> = self.state.orders.iter().map(|order| order.id).collect();
        for order in orders {
            self.advance(now, order, out);
        }
    }

    /// Takes one input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        let status = |status| Answer::Order(Box::new(status));
        let (question, answer) = match input {
            Input::Ordered { question, command } => (question, self.carry_out(now, command, out)),
            Input::Enrolled {
                question,
                enrolment,
                certificate,
            } => {
                let registered = self.enrol(now, &enrolment, certificate.as_ref(), out);
                (question, registered.map(Answer::Registered))
            }
            Input::Told {
                question,
                statements,
            } => {
                self.told(now, statements, out);
                (question, Ok(Answer::Done))
            }
            Input::Opened { question, opening } => {
                (question, self.open(now, opening, out).map(status))
            }
            Input::Redeemed {
                question,
                order,
                points,
            } => (question, self.redeem(now, order, &points, out).map(status)),
            Input::Paid {
                question,
                order,
                reference,
            } => (question, self.pay(now, (order, reference), out).map(status)),
            Input::UseVoucher {
                question,
                voucher,
                fee,
                key,
            } => {
                let split = self.use_voucher(now, &voucher, (fee, key), out);
                (question, split.map(Answer::Split))
            }
            Input::Answered { question, reply } => {
                return self.answered(now, question, *reply, out);
            }
            Input::Failed(question) => return self.failed(now, question),
            Input::DeadlineReached => return self.fire_timers(now, out),
        };
        out.push(Effect::Answer { question, answer });
    }

    /// Returns when [`Input::DeadlineReached`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.errands.next()
    }

    /// Returns how many things are being asked of coordinators, or will be again.
    #[must_use]
    pub fn errands(&self) -> usize {
        self.errands.len()
    }

    /// Returns the books.
    #[must_use]
    pub const fn books(&self) -> &Books {
        &self.state.books
    }

    /// Returns the products of the catalogue.
    pub fn products(&self) -> impl Iterator<Item = &Product> {
        self.state.catalogue.products()
    }

    /// Returns the discounts of the catalogue.
    pub fn offers(&self) -> impl Iterator<Item = &DiscountOffer> {
        self.state.catalogue.offers()
    }

    fn carry_out(
        &mut self,
        now: Timestamp,
        command: Command,
        out: &mut Vec<Effect>,
    ) -> Result<Answer, Fault> {
        let status = |status| Answer::Order(Box::new(status));
        match command {
            Command::Offer(product) => {
                product.check(now, &self.config.issuer)?;
                self.state.catalogue.has_room()?;
                self.record(Fact::Product(product), out);
            }
            Command::Discount(offer) => {
                offer.check(now, &self.config.issuer)?;
                self.state.catalogue.has_room()?;
                self.record(Fact::Offer(offer), out);
            }
            Command::Propose(agreement) => self.propose(now, *agreement, out)?,
            Command::Revoke { device, reason } => self.revoke(now, (device, reason), out)?,
            Command::Cancel(order) => return self.cancel(now, order, out).map(status),
            Command::Refund(order) => return self.refund(now, order, out).map(status),
            Command::SetStatus(license, status) => self.set_status(now, (license, status), out)?,
            Command::Settle(coordinator) => {
                let stated = self.settle(now, coordinator, out);
                return stated.map(Answer::Settlement);
            }
            Command::SettlementPaid {
                coordinator,
                number,
                reference,
            } => self.settlement_paid((coordinator, number), reference, out)?,
            Command::Resolve(coordinator, id) => self.resolve((coordinator, id), out)?,
            Command::AskPoints(owner) => self.ask_points(now, owner, out),
        }
        Ok(Answer::Done)
    }

    /// Draws the name of a new order.
    fn draw_order(&mut self) -> OrderId {
        self.drawn += 1;
        let hash: [u8; 32] = Sha256::new()
            .chain_update("order")
            .chain_update(self.seed)
            .chain_update(self.drawn.to_be_bytes())
            .finalize()
            .into();
        OrderId::from_bytes(*hash.first_chunk().expect("a hash has 32 bytes"))
    }
}
