//! What goes over HTTP, as JSON: money as `{"currency", "minor"}`, ids and points as text, times as RFC 3339.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tally_protocol::account::Money;
use tally_protocol::app_server::{AppServer, Device, OrderStatus, Phase, Product, Standing, Wish};
use tally_protocol::id::{LicenseId, NodeId, ParseIdError};
use tally_protocol::license::{Renewal, Status};
use tally_protocol::message::enroll::{Catalogue, Issued, OrderShown};
use tally_protocol::product::ProductId;
use tally_protocol::purse::PointsAt;
use tally_protocol::rate_card::Price;
use tally_protocol::time::Timestamp;
use tally_protocol::voucher::Split;
use utoipa::ToSchema;

use super::fault::void_words;

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Amount {
    /// ISO 4217.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    pub currency: String,
    /// In the smallest units of the currency.
    #[schema(example = 1250, minimum = 0)]
    pub minor: u64,
}

/// What is offered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CatalogueBody {
    products: Vec<ProductLine>,
    offers: Vec<OfferLine>,
}

/// A product in a list.
#[derive(Debug, Serialize, ToSchema)]
struct ProductLine {
    id: String,
    /// For people.
    name: String,
    /// Of a license.
    price: Amount,
}

/// A discount at a shop that points pay for.
#[derive(Debug, Serialize, ToSchema)]
struct OfferLine {
    id: String,
    /// For people.
    title: String,
    /// The most that points may pay of a fee, in hundredths of it.
    percent_max: u8,
    /// The most that points may pay of a fee.
    amount_max: Amount,
}

/// A product with what its license says.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductBody {
    id: String,
    /// For people.
    name: String,
    /// Of a license.
    price: Amount,
    entitlements: Vec<String>,
    life_seconds: u64,
    grace_seconds: u64,
    renewal: Option<RenewalBody>,
    /// The application by its content: BLAKE3.
    bundle: String,
    bundle_bytes: u64,
    /// How it is started.
    launch: Vec<String>,
    /// For how long a computer is registered for it.
    enrolment_seconds: u64,
}

/// How a license is renewed.
#[derive(Debug, Serialize, ToSchema)]
struct RenewalBody {
    points: String,
    period_seconds: u64,
}

/// What is ordered, and for whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpeningBody {
    /// For whom an operator orders; a user may leave it out.
    pub owner: Option<String>,
    pub wish: WishBody,
}

/// What can be ordered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WishBody {
    /// A license of a product.
    License {
        product: String,
        /// For which of the owner's registered computers; none for any.
        #[serde(default)]
        devices: Vec<String>,
    },
    /// The same license once more, for the points of its renewal rule.
    Renewal { license: String },
    /// A voucher for a shop's fee.
    Voucher { offer: String, fee: Amount },
}

/// How an order is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderBody {
    id: String,
    owner: String,
    phase: PhaseBody,
    /// What it costs.
    fee: Amount,
    /// What points pay of it.
    discount: Amount,
    /// What is left for the user to pay.
    due: Amount,
    /// Why nothing came of it.
    void: Option<VoidBody>,
    /// Whether all points that were not needed are known to be free again.
    settled: bool,
    /// The license that was issued, armoured.
    license: Option<String>,
    /// The voucher that was issued, armoured.
    voucher: Option<String>,
}

/// How far an order is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PhaseBody {
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
#[derive(Debug, Serialize, ToSchema)]
struct VoidBody {
    code: &'static str,
    message: String,
}

/// The points that are to pay for an order, all at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedeemBody {
    /// At most 32.
    #[schema(max_items = 32)]
    pub points: Vec<PointsBody>,
}

/// Points of one coordinator.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PointsBody {
    /// The signed Redeem, base64.
    pub redeem: String,
    /// The device certificate that allows the device that signed, base64; none if the owner did.
    pub certificate: Option<String>,
}

/// The user's part was paid.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentBody {
    /// How the outside names the payment: 1 to 140 bytes. The same again is the same payment.
    pub reference: String,
}

/// What a payment service tells.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentTold {
    /// The order that was paid.
    pub order: String,
    /// How the service names the payment.
    pub reference: String,
    /// What was paid: exactly what is due.
    pub amount: Amount,
}

/// What a payment service is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentHeard {
    pub order: String,
    pub phase: PhaseBody,
}

/// What is known of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserBody {
    owner: String,
    devices: Vec<DeviceBody>,
    /// By coordinator, summed over the devices.
    points: Vec<PointsShown>,
}

/// A computer of a user.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceBody {
    id: String,
    registered: bool,
    /// Until when it is registered, or since when it is not.
    at: String,
}

/// What a user has at a coordinator.
#[derive(Debug, Serialize, ToSchema)]
struct PointsShown {
    coordinator: String,
    /// What its points are worth; none if no agreement is in force.
    value: Option<ValueBody>,
    earned: String,
    escrowed: String,
    spendable: String,
    redeemed: String,
    /// When the coordinator said so.
    at: String,
}

/// So much money for so many points.
#[derive(Debug, Serialize, ToSchema)]
struct ValueBody {
    amount: Amount,
    points: String,
}

/// A license.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LicenseBody {
    id: String,
    status: StatusBody,
    owner: String,
    /// The order it was issued for.
    order: String,
    /// The license, armoured; none if its order was refunded.
    license: Option<String>,
}

/// What the issuer says about a license.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StatusBody {
    Valid,
    Suspended,
    Revoked,
}

/// A shop uses a voucher.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VoucherUseBody {
    /// The voucher, armoured.
    pub voucher: String,
    /// The shop's fee.
    pub fee: Amount,
}

/// Who pays a shop's fee.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SplitBody {
    /// What the customer pays to the shop.
    due: Amount,
    /// What the coordinators are charged for.
    charged: Amount,
}

/// Whom an operator invites.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteWanted {
    pub product: String,
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InviteBody {
    /// Armoured; `tally enroll` takes it.
    pub invite: String,
    /// Until when it holds.
    pub expires: String,
}

/// How the app server is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    pub ok: bool,
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self {
            currency: money.currency.to_string(),
            minor: money.minor,
        }
    }
}

impl TryFrom<Amount> for Money {
    type Error = ParseIdError;

    fn try_from(amount: Amount) -> Result<Self, ParseIdError> {
        Ok(Self {
            currency: amount.currency.parse()?,
            minor: amount.minor,
        })
    }
}

impl From<Catalogue> for CatalogueBody {
    fn from(catalogue: Catalogue) -> Self {
        let products = catalogue.products.into_iter().map(|line| ProductLine {
            id: line.id.to_string(),
            name: line.name,
            price: line.price.into(),
        });
        let offers = catalogue.offers.into_iter().map(|line| OfferLine {
            id: line.id.to_string(),
            title: line.title,
            percent_max: line.percent_max,
            amount_max: line.amount_max.into(),
        });
        Self {
            products: products.collect(),
            offers: offers.collect(),
        }
    }
}

impl From<Product> for ProductBody {
    fn from(product: Product) -> Self {
        let renewal = product.terms.renewal.map(|renewal: Renewal| RenewalBody {
            points: renewal.points.to_string(),
            period_seconds: renewal.period_seconds,
        });
        Self {
            id: product.id.to_string(),
            name: product.name,
            price: product.price.into(),
            entitlements: product.terms.entitlements,
            life_seconds: product.terms.life_seconds,
            grace_seconds: product.terms.grace_seconds,
            renewal,
            bundle: product.bundle.id.to_string(),
            bundle_bytes: product.bundle.bytes,
            launch: product.launch,
            enrolment_seconds: product.enrolment_seconds,
        }
    }
}

impl TryFrom<WishBody> for Wish {
    type Error = ParseIdError;

    fn try_from(wish: WishBody) -> Result<Self, ParseIdError> {
        Ok(match wish {
            WishBody::License { product, devices } => Self::License {
                product: product.parse::<ProductId>()?,
                devices: all(&devices)?,
            },
            WishBody::Renewal { license } => Self::Renewal {
                license: license.parse::<LicenseId>()?,
            },
            WishBody::Voucher { offer, fee } => Self::Voucher {
                offer: offer.parse()?,
                fee: fee.try_into()?,
            },
        })
    }
}

fn all<T: FromStr>(texts: &[String]) -> Result<Vec<T>, T::Err> {
    texts.iter().map(|text| text.parse()).collect()
}

impl From<Phase> for PhaseBody {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Open => Self::Open,
            Phase::Reserving => Self::Reserving,
            Phase::Decided => Self::Decided,
            Phase::Posted => Self::Posted,
            Phase::Paid => Self::Paid,
            Phase::Fulfilled => Self::Fulfilled,
            Phase::Void => Self::Void,
            Phase::Refunded => Self::Refunded,
        }
    }
}

impl From<OrderShown> for OrderBody {
    fn from(shown: OrderShown) -> Self {
        let OrderStatus {
            order,
            phase,
            fee,
            discount,
            due,
            void,
            settled,
        } = shown.status;
        let amount = |minor| Amount::from(Money { minor, ..fee });
        let (license, voucher) = match shown.goods {
            Some(Issued::License(license)) => (Some(license.to_text()), None),
            Some(Issued::Voucher(voucher)) => (None, Some(voucher.to_text())),
            None => (None, None),
        };
        Self {
            id: order.to_string(),
            owner: shown.owner.to_string(),
            phase: phase.into(),
            fee: fee.into(),
            discount: amount(discount),
            due: amount(due),
            void: void.map(|reason| {
                let (code, message) = void_words(&reason);
                VoidBody { code, message }
            }),
            settled,
            license,
            voucher,
        }
    }
}

impl UserBody {
    pub(super) fn of(machine: &AppServer, owner: NodeId, now: Timestamp) -> Self {
        let devices = machine.devices_of(owner);
        let purse = machine.purse(owner, now);
        Self {
            owner: owner.to_string(),
            devices: devices.map(|device| device_body(device, now)).collect(),
            points: purse.points.into_iter().map(Into::into).collect(),
        }
    }
}

fn device_body(device: &Device, now: Timestamp) -> DeviceBody {
    let at = match &device.standing {
        Standing::Registered { expires, .. } => expires,
        Standing::Revoked { at, .. } => at,
    };
    DeviceBody {
        id: device.holder.device.to_string(),
        registered: device.is_registered(now),
        at: at.to_string(),
    }
}

impl From<PointsAt> for PointsShown {
    fn from(at: PointsAt) -> Self {
        let value = at.value.map(|(price, currency)| {
            let Price {
                minor,
                micro_points,
            } = price;
            ValueBody {
                amount: Money { currency, minor }.into(),
                points: tally_protocol::points::Points::from_micro(micro_points).to_string(),
            }
        });
        Self {
            coordinator: at.coordinator.to_string(),
            value,
            earned: at.earned.to_string(),
            escrowed: at.escrowed.to_string(),
            spendable: at.spendable.to_string(),
            redeemed: at.redeemed.to_string(),
            at: at.at.to_string(),
        }
    }
}

impl LicenseBody {
    /// Returns what is known of a license, and whose it is.
    pub(super) fn of(machine: &AppServer, id: LicenseId) -> Option<(NodeId, Self)> {
        let status = match machine.license_status(id)? {
            Status::Valid => StatusBody::Valid,
            Status::Suspended => StatusBody::Suspended,
            Status::Revoked => StatusBody::Revoked,
        };
        let order = machine.license_order(id)?;
        let license = match order.shown().goods {
            Some(Issued::License(license)) => Some(license.to_text()),
            Some(Issued::Voucher(_)) | None => None,
        };
        let shown = Self {
            id: id.to_string(),
            status,
            owner: order.owner.to_string(),
            order: order.id.to_string(),
            license,
        };
        Some((order.owner, shown))
    }
}

impl SplitBody {
    pub(super) fn of(split: Split, fee: Money) -> Self {
        let amount = |minor| Amount::from(Money { minor, ..fee });
        Self {
            due: amount(split.due),
            charged: amount(split.discount),
        }
    }
}
