//! What an app server offers: products with their license, and discounts at shops.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::account::Money;
use crate::id::{NodeId, OrderId, ParseIdError};
use crate::issuer::{Issuer, is_line};
use crate::license::{Basis, LIFE_SECONDS_MAX, License, LicenseOrder, LicenseTerms};
use crate::product::ProductId;
use crate::task::BlobRef;
use crate::time::Timestamp;
use crate::voucher::{Discount, Voucher, VoucherOrder, VoucherTerms};

/// The most products, and the most offers: a list for people.
pub const CATALOGUE_MAX: usize = 1_000;
/// The longest name of a product and title of an offer, in bytes: one line.
pub const TITLE_BYTES_MAX: usize = 100;
/// The most words of a launch command.
pub const LAUNCH_WORDS_MAX: usize = 32;
/// The longest of them, in bytes.
pub const LAUNCH_WORD_BYTES_MAX: usize = 256;

/// A user application with its license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its short name.
    pub id: ProductId,
    /// Its name for people.
    pub name: String,
    /// What a license costs.
    pub price: Money,
    /// What each license says.
    pub terms: LicenseTerms,
    /// The application as it is delivered.
    pub bundle: BlobRef,
    /// How it is started: the program in the bundle and its arguments.
    pub launch: Vec<String>,
    /// For how long a computer is registered for it, in seconds.
    pub enrolment_seconds: u64,
}

/// Names an offer: written as a product is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(ProductId);

/// A discount at a shop that points pay for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscountOffer {
    /// Its short name.
    pub id: OfferId,
    /// What it is, for people.
    pub title: String,
    /// The most that points may pay of a fee, in hundredths of it: 1 to 100.
    pub percent_max: u8,
    /// The most that points may pay of a fee.
    pub amount_max: Money,
    /// For what; none for whatever the shop sells.
    pub product: Option<ProductId>,
    /// The least fee, in minor units.
    pub fee_min: u64,
    /// How long a voucher may be used, in seconds.
    pub life_seconds: u64,
}

/// Products and offers by name. A newer one of the same name replaces the older; orders keep the terms that they were
/// opened under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Catalogue {
    products: BTreeMap<ProductId, Product>,
    offers: BTreeMap<OfferId, DiscountOffer>,
}

impl FromStr for OfferId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Product {
    /// Checks every bound, down to whether a license with these terms could be issued now.
    pub(super) fn check(&self, now: Timestamp, issuer: &Issuer) -> Result<(), Fault> {
        let word = |word: &String| is_line(word, LAUNCH_WORD_BYTES_MAX);
        let launches = (1..=LAUNCH_WORDS_MAX).contains(&self.launch.len());
        let holds = [
            (is_line(&self.name, TITLE_BYTES_MAX), "name: 1 to 100 bytes"),
            (self.terms.product == self.id, "terms.product: the id"),
            (
                launches && self.launch.iter().all(word),
                "launch: 1 to 32 words of 1 to 256 bytes",
            ),
            (is_life(self.enrolment_seconds), LIFE),
        ];
        all_hold(&holds)?;
        let trial = License::issue(trial_license(now), self.terms.clone(), issuer);
        trial.map(drop).map_err(Fault::of_issue)
    }
}

impl DiscountOffer {
    /// Checks every bound, down to whether a voucher could be issued now.
    pub(super) fn check(&self, now: Timestamp, issuer: &Issuer) -> Result<(), Fault> {
        let title = is_line(&self.title, TITLE_BYTES_MAX);
        all_hold(&[
            (title, "title: 1 to 100 bytes"),
            (self.amount_max.minor > 0, "amount_max: above zero"),
            (is_life(self.life_seconds), LIFE),
        ])?;
        let trial = VoucherOrder {
            order: OrderId::from_bytes([0; 16]),
            holder: NodeId::from_bytes([0; 32]),
            value: self.amount_max,
            issued: now,
            basis: Basis::of(Vec::new(), Vec::new()),
        };
        let trial = Voucher::issue(trial, self.terms(), issuer);
        trial.map(drop).map_err(Fault::of_issue)
    }

    /// Returns what every voucher says. A part of the fee at the order stays a part of whatever fee it is used on.
    pub(super) fn terms(&self) -> VoucherTerms {
        VoucherTerms {
            product: self.product.clone(),
            discount: match self.percent_max {
                100 => Discount::Amount,
                percent => Discount::Percent(percent),
            },
            fee_min: self.fee_min,
            life_seconds: self.life_seconds,
        }
    }

    /// Returns the most that points may pay of a fee in the offer's currency, in minor units, rounded down.
    #[must_use]
    pub fn most(&self, fee: u64) -> u64 {
        let part = u128::from(fee).saturating_mul(u128::from(self.percent_max)) / 100;
        u64::try_from(part)
            .unwrap_or(u64::MAX)
            .min(self.amount_max.minor)
    }
}

impl Catalogue {
    pub(super) fn product(&self, id: &ProductId) -> Result<&Product, Fault> {
        self.products.get(id).ok_or(Fault::UnknownProduct)
    }

    pub(super) fn offer(&self, id: &OfferId) -> Result<&DiscountOffer, Fault> {
        self.offers.get(id).ok_or(Fault::UnknownOffer)
    }

    pub(super) fn products(&self) -> impl Iterator<Item = &Product> {
        self.products.values()
    }

    pub(super) fn offers(&self) -> impl Iterator<Item = &DiscountOffer> {
        self.offers.values()
    }

    /// Refuses one more if there are too many.
    pub(super) fn has_room(&self) -> Result<(), Fault> {
        let most = self.products.len().max(self.offers.len());
        if most < CATALOGUE_MAX {
            Ok(())
        } else {
            Err(Fault::Full)
        }
    }

    pub(super) fn add_product(&mut self, product: Product) {
        self.products.insert(product.id.clone(), product);
    }

    pub(super) fn add_offer(&mut self, offer: DiscountOffer) {
        self.offers.insert(offer.id.clone(), offer);
    }
}

const LIFE: &str = "a life: 1 second to a hundred years";

fn is_life(seconds: u64) -> bool {
    (1..=LIFE_SECONDS_MAX).contains(&seconds)
}

fn all_hold(all: &[(bool, &str)]) -> Result<(), Fault> {
    match all.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, bounds)) => Err(Fault::Invalid {
            what: (*bounds).to_owned(),
        }),
    }
}

fn trial_license(now: Timestamp) -> LicenseOrder {
    LicenseOrder {
        order: OrderId::from_bytes([0; 16]),
        holder: NodeId::from_bytes([0; 32]),
        devices: Vec::new(),
        issued: now,
        not_before: now,
        status_index: 0,
        basis: Basis::of(Vec::new(), Vec::new()),
    }
}
