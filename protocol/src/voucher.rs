//! Vouchers: a discount that points have paid for already.
//!
//! When an order for a voucher is fulfilled its points are spent, and the coordinators owe the app server their
//! value. The voucher says so, signed by the issuer, as a text that its owner hands to the shop. The shop takes the
//! discount off a fee: the user pays the rest.
//!
//! Invariants: a voucher never takes off more than its value, so the shop is never left with a part that nobody owes; what
//! the user pays and what is taken off add up to the fee exactly. That a voucher counts **once** is nothing that its text
//! could say: only the app server that issued it knows, so it is used there. Whoever has the text may use it.
//! Issuing the same order again gives the same bytes.

#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Money;
use crate::armour::{ArmourError, Armoured};
use crate::id::{NodeId, OrderId, VoucherId};
use crate::issuer::{
    Certified, FieldError, IssueError, Issued, Issuer, IssuerCertificate, Trust, TrustError, field,
};
use crate::license::{Basis, LIFE_SECONDS_MAX, issued_id};
use crate::product::ProductId;
use crate::signed::{Signed, Statement, Verified};
use crate::time::Timestamp;

/// A discount, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// Names the voucher.
    pub id: VoucherId,
    /// For what; none for whatever the shop sells.
    pub product: Option<ProductId>,
    /// Whose points paid for it: an owner's key.
    pub holder: NodeId,
    /// The most that it takes off: what the coordinators owe for the points.
    pub value: Money,
    /// How much of that.
    pub discount: Discount,
    /// The least fee that it may be used on, in minor units of the value's currency.
    pub fee_min: u64,
    /// When it was issued.
    pub issued: Timestamp,
    /// Until when it may be used, exclusive.
    pub expires: Timestamp,
    /// What paid for it.
    pub basis: Basis,
    /// The certificate of the key that signed it.
    pub issuer: Signed<IssuerCertificate>,
}

/// How much a voucher takes off, never more than its value and never more than the fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discount {
    /// Its value.
    Amount,
    /// So many hundredths of the fee, rounded down.
    Percent(u8),
}

/// Who pays a fee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What the voucher takes off, in minor units: the coordinators owe it.
    pub discount: u64,
    /// What is left for the user to pay.
    pub due: u64,
}

impl Statement for Voucher {
    const TYPE: &'static str = "application/tally-voucher+cbor";
    const BYTES_MAX: usize = 8 << 10;
}

impl Armoured for Voucher {
    const LABEL: &'static str = "VOUCHER";
}

impl Issued for Voucher {
    fn issued(&self) -> Timestamp {
        self.issued
    }

    fn issuer(&self) -> &Signed<IssuerCertificate> {
        &self.issuer
    }

    fn check(&self) -> Result<(), FieldError> {
        field("value", self.value.minor > 0, "above zero")?;
        let part = match self.discount {
            Discount::Amount => true,
            Discount::Percent(percent) => (1..=100).contains(&percent),
        };
        field("discount", part, "1 to 100 percent")?;
        let life = self.expires.since(self.issued);
        let lasts = Duration::ZERO < life && life <= Duration::from_secs(LIFE_SECONDS_MAX);
        field("expires", lasts, "up to a hundred years after issued")?;
        self.basis.check()
    }
}

/// What every voucher of an offer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherTerms {
    /// For what; none for whatever the shop sells.
    pub product: Option<ProductId>,
    /// How much of its value it takes off.
    pub discount: Discount,
    /// The least fee that it may be used on, in minor units.
    pub fee_min: u64,
    /// How long it may be used, in seconds.
    pub life_seconds: u64,
}

/// What is known of an order when it is fulfilled, and never changes afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherOrder {
    /// The order.
    pub order: OrderId,
    /// Whose points were spent.
    pub holder: NodeId,
    /// What the coordinators owe for them together.
    pub value: Money,
    /// When the last condition was met.
    pub issued: Timestamp,
    /// What paid for it.
    pub basis: Basis,
}

impl VoucherId {
    /// Returns the id of the voucher for an order at an app server.
    #[must_use]
    pub fn of(app_server: NodeId, order: OrderId) -> Self {
        Self::from_bytes(issued_id("voucher", app_server, order))
    }
}

impl Voucher {
    /// Issues the voucher for an order. The same order, terms and issuer give the same bytes.
    ///
    /// # Errors
    /// [`IssueError`] if a field would be out of its bounds or the issuer is not certified at that moment.
    pub fn issue(
        order: VoucherOrder,
        terms: VoucherTerms,
        issuer: &Issuer,
    ) -> Result<Verified<Self>, IssueError> {
        let certificate = issuer.certificate();
        let life = Duration::from_secs(terms.life_seconds);
        issuer.sign(Self {
            id: VoucherId::of(certificate.app_server, order.order),
            product: terms.product,
            holder: order.holder,
            value: order.value,
            discount: terms.discount,
            fee_min: terms.fee_min,
            issued: order.issued,
            expires: later(order.issued, life),
            basis: order.basis,
            issuer: certificate.signed().clone(),
        })
    }

    /// Returns who pays `fee`; none if the voucher is not for that currency or not for so little.
    #[must_use]
    pub fn split(&self, fee: Money) -> Option<Split> {
        if fee.currency != self.value.currency || fee.minor < self.fee_min {
            return None;
        }
        let part = match self.discount {
            Discount::Amount => fee.minor,
            Discount::Percent(percent) => percent_of(fee.minor, percent)?,
        };
        let discount = part.min(self.value.minor);
        let due = fee.minor.checked_sub(discount)?;
        Some(Split { discount, due })
    }
}

#[expect(
    clippy::arithmetic_side_effects,
    reason = "the sum of a time and a duration never wraps"
)]
fn later(at: Timestamp, by: Duration) -> Timestamp {
    at + by
}

fn percent_of(fee: u64, percent: u8) -> Option<u64> {
    let product = u128::from(fee).checked_mul(u128::from(percent))?;
    u64::try_from(product.checked_div(100)?).ok()
}

/// Why a voucher is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// The text is none of a voucher.
    #[error("read the voucher")]
    Text(#[from] ArmourError),
    /// It is not believed.
    #[error("believe the voucher")]
    Trust(#[from] TrustError),
    /// It could be used until then.
    #[error("take a voucher that expired at {expires}")]
    Expired {
        /// When it expired.
        expires: Timestamp,
    },
}

/// Checks a voucher in the form of its text: that a pinned root has certified its issuer, and that it may still be used.
/// Whether it was used before knows its app server alone.
///
/// # Errors
/// [`VoucherError`], the first thing found wrong.
pub fn verify(
    text: &str,
    trust: &Trust,
    now: Timestamp,
) -> Result<Certified<Voucher>, VoucherError> {
    let voucher = trust.check(Signed::<Voucher>::from_text(text)?)?;
    let expires = voucher.statement().expires;
    if expires <= now {
        return Err(VoucherError::Expired { expires });
    }
    Ok(voucher)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn euro(minor: u64) -> Money {
        let currency = "EUR".parse().unwrap();
        Money { currency, minor }
    }

    fn voucher(value: u64, discount: Discount, fee_min: u64) -> Voucher {
        Voucher {
            id: VoucherId::from_bytes([1; 16]),
            product: None,
            holder: NodeId::from_bytes([2; 32]),
            value: euro(value),
            discount,
            fee_min,
            issued: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(2),
            basis: Basis::of(Vec::new(), Vec::new()),
            issuer: Signed::from_bytes(Vec::new()),
        }
    }

    #[test]
    fn it_takes_off_an_amount_or_a_part_and_never_more_than_its_value() {
        let split = |value, discount, fee| {
            let split = voucher(value, discount, 500).split(euro(fee)).unwrap();
            (split.discount, split.due)
        };
        assert_eq!(split(300, Discount::Amount, 1_000), (300, 700));
        assert_eq!(split(3_000, Discount::Amount, 1_000), (1_000, 0));
        assert_eq!(split(300, Discount::Percent(20), 1_000), (200, 800));
        assert_eq!(split(300, Discount::Percent(20), 999), (199, 800));
        assert_eq!(split(300, Discount::Percent(20), 5_000), (300, 4_700));
        let voucher = voucher(300, Discount::Amount, 500);
        assert_eq!(voucher.split(euro(499)), None);
        let dollars = "9.00 USD".parse().unwrap();
        assert_eq!(voucher.split(dollars), None);
    }

    #[test]
    fn a_voucher_that_makes_no_sense_is_refused() {
        assert_eq!(voucher(1, Discount::Percent(100), 0).check(), Ok(()));
        let mut late = voucher(1, Discount::Amount, 0);
        late.expires = late.issued;
        let wrong = [
            voucher(0, Discount::Amount, 0),
            voucher(1, Discount::Percent(0), 0),
            voucher(1, Discount::Percent(101), 0),
            late,
        ];
        for voucher in wrong {
            assert!(voucher.check().is_err(), "{voucher:?}");
        }
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_fee(value: u64, percent in 1_u8..=100, fee: u64) {
            for discount in [Discount::Amount, Discount::Percent(percent)] {
                let Split { discount, due } = voucher(value, discount, 0).split(euro(fee)).unwrap();
                prop_assert_eq!(discount.checked_add(due), Some(fee));
                prop_assert!(discount <= value);
            }
        }
    }
}
