//! A computer and its app server: it enrols, orders for its owner, and asks how things stand.
//!
//! What an owner may do here, any of its registered computers may do in its name: the connection shows which computer
//! asks, and the app server knows whose it is. Points are taken only with the signature that allows it.

use serde::{Deserialize, Serialize};

use crate::account::Money;
use crate::app_server::{
    DiscountOffer, Fault, IdempotencyKey, OfferId, OrderStatus, Product, Wish,
};
use crate::certificate::DeviceCertificate;
use crate::id::{NodeId, OrderId};
use crate::license::{License, StatusList};
use crate::message::Refusal;
use crate::product::ProductId;
use crate::purse::Purse;
use crate::redemption::Redeem;
use crate::registration::{Enrolment, Registration};
use crate::signed::{Signed, Statement};
use crate::voucher::Voucher;

/// The largest message of this conversation: the longest status list; a catalogue of a thousand products and as many
/// offers is shorter.
pub const ENROLL_BYTES_MAX: usize = <StatusList as Statement>::BYTES_MAX + (4 << 10);

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrollRequest {
    /// What is offered here?
    Catalogue,
    /// What is this product?
    Product(ProductId),
    /// What is this offer?
    Offer(OfferId),
    /// This computer shall work for a product.
    Enrol {
        /// Its word.
        enrolment: Signed<Enrolment>,
        /// Whose it is; none if it is its own owner.
        certificate: Option<Signed<DeviceCertificate>>,
    },
    /// What has my owner to spend?
    Purse,
    /// My owner wants this.
    Open {
        /// What.
        wish: Wish,
        /// The same key again has the same answer.
        key: IdempotencyKey,
    },
    /// These points are to pay for an order.
    Redeem {
        /// The order.
        order: OrderId,
        /// All of them, at most [`crate::license::REDEMPTIONS_MAX`].
        points: Vec<PointsShown>,
    },
    /// How is this order of my owner?
    Order(OrderId),
    /// The newest status list.
    StatusList,
}

/// Points as their owner, or its device, signed, with what allows the device.
pub type PointsShown = (Signed<Redeem>, Option<Signed<DeviceCertificate>>);

/// The answers, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrollReply {
    /// To catalogue.
    Catalogue(Catalogue),
    /// To product.
    Product(Box<Product>),
    /// To offer.
    Offer(Box<DiscountOffer>),
    /// To enrol.
    Registered(Signed<Registration>),
    /// To purse.
    Purse(Purse),
    /// To open, redeem and order.
    Order(Box<OrderShown>),
    /// To status list.
    StatusList(Signed<StatusList>),
    /// It is not possible, for a reason that has a code.
    Not(Fault),
    /// No.
    Refused(Refusal),
}

/// What an app server offers, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Products.
    pub products: Vec<ProductLine>,
    /// Discounts.
    pub offers: Vec<OfferLine>,
}

/// A product in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductLine {
    /// Its short name.
    pub id: ProductId,
    /// Its name for people.
    pub name: String,
    /// What a license costs.
    pub price: Money,
}

/// An offer in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferLine {
    /// Its short name.
    pub id: OfferId,
    /// What it is, for people.
    pub title: String,
    /// The most that points may pay of a fee, in hundredths of it.
    pub percent_max: u8,
    /// The most that points may pay of a fee.
    pub amount_max: Money,
}

/// An order for its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderShown {
    /// Who ordered.
    pub owner: NodeId,
    /// How it is.
    pub status: OrderStatus,
    /// What was issued, as long as it was not taken back.
    pub goods: Option<Issued>,
}

/// What is issued for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issued {
    /// A license.
    License(Signed<License>),
    /// A voucher.
    Voucher(Signed<Voucher>),
}
