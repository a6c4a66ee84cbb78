//! What the operator asks of the app server through the admin socket, and what is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tally_protocol::account::{Currency, Money};
use tally_protocol::agreement::Agreement;
use tally_protocol::app_server::{
    Agreed, Answer, AppServer, Command, Declined, Device, Leg, LegState, Order, OrderStatus, Phase,
    Standing, Subject,
};
use tally_protocol::id::{Hash, LicenseId, NetworkId, NodeId, OrderId, RedemptionId};
use tally_protocol::license::Status;
use tally_protocol::message::enroll::Issued;
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::purse::PointsAt;
use tally_protocol::time::Timestamp;

use super::{Desk, DeskError};
use crate::admin::AdminError;
use crate::blobs::BlobStore;
use crate::clock;
use crate::delivery::Delivery;
use crate::error::{chain, joined};
use crate::http::tokens::{Bearer, TokenError, Tokens};

/// The most lines of a list.
pub const LINES_MAX: usize = 10_000;

/// What the operator asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "app", rename_all = "snake_case")]
pub enum AppAsk {
    /// Have something done.
    Command {
        /// What.
        command: Box<Command>,
    },
    /// Take a user application into the store; answered with its content address.
    Import {
        /// The file: on this computer, with its whole path.
        path: PathBuf,
    },
    /// Everything in the catalogue.
    Catalogue,
    /// Agreements and proposals.
    Agreements,
    /// Owners with registered computers.
    Users,
    /// One owner.
    User {
        /// Who.
        owner: NodeId,
    },
    /// Orders, the newest first.
    Orders {
        /// Only those that are there.
        phase: Option<Phase>,
        /// Only those of this owner.
        owner: Option<NodeId>,
        /// At most so many.
        limit: usize,
    },
    /// One order.
    Order {
        /// Which.
        order: OrderId,
    },
    /// The user's part of an order was paid.
    Pay {
        /// Which.
        order: OrderId,
        /// How the payment is called outside.
        reference: String,
    },
    /// Settlements with a coordinator, and what is not settled.
    Settlements {
        /// Only with this one.
        coordinator: Option<NodeId>,
    },
    /// About bearer tokens of the HTTP interface.
    Token {
        /// What.
        ask: TokenAsk,
    },
    /// An invitation to work for a product.
    Invite {
        /// The product.
        product: ProductId,
        /// For how many days it holds.
        days: u32,
    },
}

/// What the operator asks about bearer tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "token", rename_all = "snake_case")]
pub enum TokenAsk {
    /// Make one; answered with a [`NewToken`].
    New {
        /// By which it is listed and revoked.
        name: String,
        /// Who may ask with it.
        bearer: Bearer,
    },
    /// All that there are.
    List,
    /// Take one back.
    Revoke {
        /// Which.
        name: String,
    },
}

/// A token that was made. It is shown this once.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewToken {
    /// By which it is listed and revoked.
    pub name: String,
    /// What the bearer shows.
    pub token: String,
}

/// An agreement, or a proposal, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct AgreementView {
    /// What it says.
    pub agreement: Agreement,
    /// How it stands.
    pub state: AgreementState,
}

/// How an agreement stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementState {
    /// The coordinator's operator has not decided.
    Proposed,
    /// It came to nothing.
    Declined(Declined),
    /// It holds.
    InForce,
    /// It was made; another one is in force, or it does not hold now.
    Made,
}

/// An owner, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct UserView {
    /// Who.
    pub owner: NodeId,
    /// Its computers.
    pub devices: Vec<DeviceView>,
    /// What coordinators say that it has.
    pub points: Vec<PointsAt>,
    /// Its orders, by id.
    pub orders: Vec<OrderId>,
}

/// A computer, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its id.
    pub device: NodeId,
    /// How often it was registered.
    pub serial: u64,
    /// Until when it is registered; none if that was revoked.
    pub registered_until: Option<Timestamp>,
    /// When its registration was revoked.
    pub revoked: Option<Timestamp>,
    /// What each coordinator says that it has earned.
    pub earned: Vec<(NodeId, Points)>,
}

/// An order, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderView {
    /// Who ordered.
    pub owner: NodeId,
    /// What.
    pub what: String,
    /// How it is.
    pub status: OrderStatus,
    /// When it was opened.
    pub opened: Timestamp,
    /// What each coordinator is charged for its points.
    pub charges: Vec<ChargeView>,
    /// The user's part, once all points are taken.
    pub invoice: Option<InvoiceView>,
    /// The license that was issued.
    pub license: Option<LicenseId>,
    /// How that license stands.
    pub license_status: Option<Status>,
    /// The text of what was issued.
    pub goods: Option<String>,
}

/// What a coordinator is charged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChargeView {
    /// The coordinator.
    pub coordinator: NodeId,
    /// The redemption.
    pub redemption: RedemptionId,
    /// How many points.
    pub points: Points,
    /// What it owes for them.
    pub value: Money,
    /// How far it is.
    pub state: ChargeState,
}

/// How far a charge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeState {
    /// The points are not taken.
    Waiting,
    /// They are.
    Charged,
    /// They are given back, or being given back.
    Returned,
}

/// What a user is charged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InvoiceView {
    /// How much.
    pub amount: Money,
    /// How the payment is called outside; none if it is open.
    pub paid: Option<String>,
    /// When it was paid.
    pub at: Option<Timestamp>,
}

/// What there is to settle with a coordinator.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettlementsView {
    /// The coordinator.
    pub coordinator: NodeId,
    /// What both signed.
    pub agreed: Vec<SettlementView>,
    /// Redemptions that the coordinator does not know.
    pub disputed: Vec<DisputeView>,
}

/// A redemption that a coordinator does not know as it is stated.
#[derive(Debug, Serialize, Deserialize)]
pub struct DisputeView {
    /// The redemption.
    pub redemption: RedemptionId,
    /// The order that it paid for; none if that is forgotten.
    pub order: Option<OrderId>,
    /// SHA-256 of the receipt for it that the coordinator itself has signed, as it stands in the log.
    pub receipt: Option<Hash>,
}

/// A settlement, for people.
#[derive(Debug, Serialize, Deserialize)]
pub struct SettlementView {
    /// Its number.
    pub number: u32,
    /// What was known until then is counted.
    pub until: Timestamp,
    /// Redemptions, and what is owed for them.
    pub redeemed: (u32, Money),
    /// Redemptions that were given back, and what is owed no more.
    pub reversed: (u32, Money),
    /// Devices that were supplied, and what is owed for them.
    pub supplied: (u32, Money),
    /// The currency.
    pub currency: Currency,
    /// What the coordinator owes, in minor units; below zero if the app server does.
    pub due: i64,
    /// How its payment is called outside; none if it is open.
    pub paid: Option<String>,
}

/// What an operator's question needs.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The app server.
    pub desk: Desk,
    /// Who may ask over HTTP.
    pub tokens: Tokens,
    /// The applications.
    pub blobs: BlobStore,
    /// What it delivers, and how it invites.
    pub delivery: Arc<Delivery>,
    /// Its network.
    pub network: NetworkId,
}

impl Counter {
    /// Answers the operator.
    ///
    /// # Errors
    /// [`AdminError`] with the code of the machine's fault.
    pub async fn answer(&self, ask: AppAsk) -> Result<Value, AdminError> {
        match ask {
            AppAsk::Command { command } => {
                let answer = self.desk.command(*command).await.map_err(refused)?;
                self.answered(answer).await
            }
            AppAsk::Import { path } => json(&self.import(path).await?),
            AppAsk::Catalogue => {
                let read = |machine: &AppServer, _| {
                    let products: Vec<_> = machine.products().cloned().collect();
                    let offers: Vec<_> = machine.offers().cloned().collect();
                    (products, offers)
                };
                json(&self.read(read).await?)
            }
            AppAsk::Agreements => json(&self.read(agreements).await?),
            AppAsk::Users => json(&self.read(users).await?),
            AppAsk::User { owner } => {
                let shown = self.read(move |machine, now| user(machine, now, owner));
                let hint = "`tally app user list` shows those who are";
                shown.await?.map_or_else(
                    || {
                        Err(unknown(
                            &format!("no computer of {owner} is registered"),
                            hint,
                        ))
                    },
                    |shown| json(&shown),
                )
            }
            AppAsk::Orders {
                phase,
                owner,
                limit,
            } => {
                let limit = limit.min(LINES_MAX);
                json(
                    &self
                        .read(move |machine, _| orders(machine, (phase, owner), limit))
                        .await?,
                )
            }
            AppAsk::Order { order } => json(&self.order(order).await?),
            AppAsk::Pay { order, reference } => {
                let paid = self.desk.pay(order, reference).await;
                self.answered(paid.map_err(refused)?).await
            }
            AppAsk::Settlements { coordinator } => json(
                &self
                    .read(move |machine, _| settlements(machine, coordinator))
                    .await?,
            ),
            AppAsk::Token { ask } => self.token(ask).await,
            AppAsk::Invite { product, days } => json(&self.invite(product, days).await?),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&AppServer, Timestamp) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        self.desk.read(read).await.map_err(refused)
    }

    /// Shows what came of a command; an order is shown when it is at rest.
    async fn answered(&self, answer: Answer) -> Result<Value, AdminError> {
        match answer {
            Answer::Order(status) => {
                let order = status.order;
                let rest = self.desk.at_rest(order, Duration::from_secs(20)).await;
                rest.map_err(refused)?;
                json(&self.order(order).await?)
            }
            Answer::Done | Answer::Registered(_) => Ok(Value::Null),
            Answer::Split(split) => json(&split),
            Answer::Settlement(settlement) => {
                let settlement = settlement.verify(&self.network).map_err(|error| {
                    AdminError::new("internal", chain(&error), "please report this")
                })?;
                json(settlement.value())
            }
        }
    }

    async fn order(&self, order: OrderId) -> Result<OrderView, AdminError> {
        let shown =
            self.read(move |machine, _| machine.order(order).map(|order| view(machine, order)));
        let hint = "`tally app order list` shows those that are";
        let message = format!("no order {order} is here");
        shown.await?.ok_or_else(|| unknown(&message, hint))
    }

    async fn import(&self, path: PathBuf) -> Result<tally_protocol::task::BlobRef, AdminError> {
        let (blobs, shown) = (self.blobs.clone(), path.display().to_string());
        let imported = tokio::task::spawn_blocking(move || blobs.import(&path)).await;
        let imported = joined(imported);
        imported.map_err(|error| {
            let message = format!("read {shown}: {}", chain(&error));
            AdminError::new(
                "import",
                message,
                "name a file that the app server's node can read",
            )
        })
    }

    async fn token(&self, ask: TokenAsk) -> Result<Value, AdminError> {
        let refused = |error: TokenError| {
            let (code, hint) = error.words();
            AdminError::new(code, chain(&error), hint)
        };
        match ask {
            TokenAsk::New { name, bearer } => {
                let secret = self.tokens.create(&name, bearer).await.map_err(refused)?;
                let token = secret.text().to_owned();
                json(&NewToken { name, token })
            }
            TokenAsk::List => json(&self.tokens.list()),
            TokenAsk::Revoke { name } => {
                self.tokens.revoke(&name).await.map_err(refused)?;
                Ok(Value::Null)
            }
        }
    }

    /// Signs an invitation with the addresses under which this node is reached.
    async fn invite(&self, product: ProductId, days: u32) -> Result<String, AdminError> {
        let wanted = product.clone();
        let offered = self.read(move |machine, _| machine.products().any(|of| of.id == wanted));
        if !offered.await? {
            let message = format!("there is no product {product}");
            return Err(unknown(
                &message,
                "`tally app product list` shows those that are",
            ));
        }
        let invite = self.delivery.invite(product, (clock::now(), days)).await;
        Ok(invite.signed().to_text())
    }
}

fn agreements(machine: &AppServer, now: Timestamp) -> Vec<AgreementView> {
    let mut all = Vec::new();
    for coordinator in machine.coordinators() {
        let in_force = machine.agreement(coordinator, now).map(|made| made.hash);
        let made = machine
            .agreements_with(coordinator)
            .map(|made| AgreementView {
                agreement: made.agreement.clone(),
                state: if Some(made.hash) == in_force {
                    AgreementState::InForce
                } else {
                    AgreementState::Made
                },
            });
        all.extend(made);
        all.extend(machine.proposal(coordinator).map(|(agreement, declined)| {
            let state = declined.map_or(AgreementState::Proposed, AgreementState::Declined);
            AgreementView { agreement, state }
        }));
    }
    all
}

fn users(machine: &AppServer, now: Timestamp) -> Vec<UserView> {
    let owners: BTreeSet<NodeId> = machine
        .devices()
        .map(|device| device.holder.owner)
        .collect();
    let mut orders: BTreeMap<NodeId, Vec<OrderId>> = BTreeMap::new();
    for order in machine.orders() {
        orders.entry(order.owner).or_default().push(order.id);
    }
    let owners = owners.into_iter().take(LINES_MAX);
    let shown = owners.map(|owner| {
        let orders = orders.remove(&owner).unwrap_or_default();
        user_with(machine, (owner, now), orders)
    });
    shown.collect()
}

fn user(machine: &AppServer, now: Timestamp, owner: NodeId) -> Option<UserView> {
    let orders = machine.orders().filter(|order| order.owner == owner);
    let shown = user_with(
        machine,
        (owner, now),
        orders.map(|order| order.id).collect(),
    );
    (!shown.devices.is_empty() || !shown.orders.is_empty()).then_some(shown)
}

fn user_with(
    machine: &AppServer,
    (owner, now): (NodeId, Timestamp),
    mut orders: Vec<OrderId>,
) -> UserView {
    orders.truncate(LINES_MAX);
    UserView {
        owner,
        devices: machine.devices_of(owner).map(device).collect(),
        points: machine.purse(owner, now).points,
        orders,
    }
}

fn device(device: &Device) -> DeviceView {
    let (registered_until, revoked) = match &device.standing {
        Standing::Registered { expires, .. } => (Some(*expires), None),
        Standing::Revoked { at, .. } => (None, Some(*at)),
    };
    let statements = device.statements();
    DeviceView {
        device: device.holder.device,
        serial: device.serial,
        registered_until,
        revoked,
        earned: statements
            .map(|(coordinator, of)| (coordinator, of.earned))
            .collect(),
    }
}

fn orders(
    machine: &AppServer,
    (phase, owner): (Option<Phase>, Option<NodeId>),
    limit: usize,
) -> Vec<OrderView> {
    let wanted = |order: &&Order| {
        phase.is_none_or(|phase| order.phase() == phase)
            && owner.is_none_or(|owner| order.owner == owner)
    };
    let mut found: Vec<&Order> = machine.orders().filter(wanted).collect();
    found.sort_by_key(|order| std::cmp::Reverse((order.opened, order.id)));
    let found = found.into_iter().take(limit);
    found.map(|order| view(machine, order)).collect()
}

fn view(machine: &AppServer, order: &Order) -> OrderView {
    let money = |minor| Money { minor, ..order.fee };
    let what = match &order.subject {
        Subject::License { terms, .. } => format!("license {}", terms.product),
        Subject::Renewal { terms, .. } => format!("renewal {}", terms.product),
        Subject::Voucher { offer, .. } => format!("voucher {offer}"),
    };
    let shown = order.shown();
    let license = LicenseId::of(machine.me(), order.id);
    let license_status = machine.license_status(license);
    OrderView {
        owner: order.owner,
        what,
        opened: order.opened,
        charges: order.legs.iter().map(|leg| charge(leg, money)).collect(),
        invoice: order.charged.map(|minor| InvoiceView {
            amount: money(minor),
            paid: order.payment.as_ref().map(|paid| paid.reference.clone()),
            at: order.payment.as_ref().map(|paid| paid.at),
        }),
        license: license_status.map(|_| license),
        license_status,
        goods: shown.goods.map(|goods| match goods {
            Issued::License(license) => license.to_text(),
            Issued::Voucher(voucher) => voucher.to_text(),
        }),
        status: shown.status,
    }
}

fn charge(leg: &Leg, money: impl Fn(u64) -> Money) -> ChargeView {
    let (state, value) = match &leg.state {
        LegState::Wanted => (ChargeState::Waiting, leg.value_max),
        LegState::Reserved { value, .. } => (ChargeState::Waiting, *value),
        LegState::Posted { value, .. } => (ChargeState::Charged, *value),
        LegState::Reversing { charged } => (ChargeState::Returned, *charged),
        LegState::Releasing | LegState::Ended => (ChargeState::Returned, 0),
    };
    ChargeView {
        coordinator: leg.coordinator,
        redemption: leg.id,
        points: leg.points,
        value: money(value),
        state,
    }
}

fn settlements(machine: &AppServer, of: Option<NodeId>) -> Vec<SettlementsView> {
    let coordinators = machine.coordinators().into_iter();
    let coordinators = coordinators.filter(|coordinator| of.is_none_or(|of| of == *coordinator));
    let shown = coordinators.map(|coordinator| SettlementsView {
        coordinator,
        agreed: machine
            .settlements(coordinator)
            .iter()
            .map(settlement)
            .collect(),
        disputed: disputes(machine, coordinator),
    });
    shown.collect()
}

fn disputes(machine: &AppServer, coordinator: NodeId) -> Vec<DisputeView> {
    let disputed = machine.disputed(coordinator);
    let shown = disputed.map(|redemption| {
        let evidence = machine.evidence(coordinator, redemption);
        DisputeView {
            redemption,
            order: evidence.map(|(order, _)| order),
            receipt: evidence.map(|(_, receipt)| receipt),
        }
    });
    shown.collect()
}

fn settlement(agreed: &Agreed) -> SettlementView {
    let value = &agreed.value;
    let currency = value.currency;
    let money = |minor| Money { currency, minor };
    SettlementView {
        number: value.number,
        until: value.until,
        redeemed: (value.redeemed.count, money(value.redeemed.minor)),
        reversed: (value.reversed.count, money(value.reversed.minor)),
        supplied: (value.supply_devices, money(value.supply_fee)),
        currency,
        due: value.due,
        paid: agreed.paid.clone(),
    }
}

fn refused(error: DeskError) -> AdminError {
    match error {
        DeskError::Fault(fault) => AdminError::new(fault.code(), fault.to_string(), fault.hint()),
        DeskError::Stopping => {
            AdminError::new("stopping", error.to_string(), "start the node again")
        }
    }
}

fn unknown(message: &str, hint: &str) -> AdminError {
    AdminError::new("unknown", message, hint)
}

fn json(value: &impl Serialize) -> Result<Value, AdminError> {
    serde_json::to_value(value)
        .map_err(|error| AdminError::new("internal", error.to_string(), "please report this"))
}
