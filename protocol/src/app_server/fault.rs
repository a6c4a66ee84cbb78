//! Why the app server does not do what somebody asks. Each reason has a code that never changes and a hint what to do.

use serde::{Deserialize, Serialize};

use super::order::Phase;
use crate::account::Money;
use crate::issuer::IssueError;
use crate::points::Points;

/// A reason. Closed, so that each can be told and counted; [`Fault::code`] is the same for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Fault {
    /// Something that is to be offered breaks a bound; the text names it.
    #[error("accept the field {what}")]
    Invalid {
        /// The field and its bounds.
        what: String,
    },
    /// There is no such product.
    #[error("the product is not in the catalogue")]
    UnknownProduct,
    /// There is no such offer.
    #[error("the offer is not in the catalogue")]
    UnknownOffer,
    /// There is no such order.
    #[error("the order is not known")]
    UnknownOrder,
    /// There is no such license.
    #[error("the license is not known")]
    UnknownLicense,
    /// The voucher was not issued here, or was changed.
    #[error("the voucher was not issued here")]
    UnknownVoucher,
    /// The computer is not registered, or not for this owner.
    #[error("the device is not registered for this owner")]
    UnknownDevice,
    /// There is no such settlement that waits.
    #[error("there is no such settlement")]
    UnknownSettlement,
    /// No agreement with the coordinator is in force.
    #[error("no agreement with the coordinator is in force")]
    NoAgreement,
    /// A statement is not by whom it should be, or for somebody else.
    #[error("a statement is not for this app server, order or owner")]
    OtherAudience,
    /// A statement has expired, or soon will.
    #[error("a statement has expired or is too old")]
    Stale,
    /// Another currency than that of the order.
    #[error("the currency is not that of the order")]
    OtherCurrency,
    /// More points than may be taken for this.
    #[error("points may pay at most {most}")]
    TooManyPoints {
        /// What they may.
        most: Money,
    },
    /// A renewal takes exactly its points.
    #[error("exactly {needed} points are needed")]
    OtherPoints {
        /// How many.
        needed: Points,
    },
    /// The order is not where this could be done.
    #[error("the order is {phase}")]
    WrongPhase {
        /// Where it is.
        phase: Phase,
    },
    /// Other points are being redeemed for the order.
    #[error("the order is taken by another redemption")]
    Taken,
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used for another request")]
    KeyUsed,
    /// The payment reference was used for something else.
    #[error("the payment reference was used for another payment")]
    ReferenceUsed,
    /// The voucher was used.
    #[error("the voucher was used")]
    VoucherUsed,
    /// The voucher has expired, or its order was refunded.
    #[error("the voucher holds no more")]
    VoucherOver,
    /// The voucher is not for this fee.
    #[error("the voucher is not for this fee")]
    OtherFee,
    /// The license is suspended, revoked, or not renewed.
    #[error("the license cannot be renewed")]
    NotRenewable,
    /// A bound is reached.
    #[error("the app server is at a limit")]
    Full,
}

impl Fault {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.words().0
    }

    /// Returns what whoever asked can do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        self.words().1
    }

    const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Invalid { .. } => ("invalid", "put the field right and ask again"),
            Self::UnknownProduct => ("unknown_product", "look it up in the catalogue"),
            Self::UnknownOffer => ("unknown_offer", "look it up in the catalogue"),
            Self::UnknownOrder => ("unknown_order", "open a new order"),
            Self::UnknownLicense => ("unknown_license", "check the license id"),
            Self::UnknownVoucher => ("unknown_voucher", "ask the customer for the whole text"),
            Self::UnknownDevice => ("unknown_device", "enrol the computer first"),
            Self::UnknownSettlement => ("unknown_settlement", "list the settlements"),
            Self::NoAgreement => ("no_agreement", "propose an agreement to the coordinator"),
            Self::OtherAudience => (
                "other_audience",
                "sign for this app server, order and owner",
            ),
            Self::Stale => ("stale", "sign again, and check the clock"),
            Self::OtherCurrency => ("other_currency", "use the currency of the order"),
            Self::TooManyPoints { .. } => ("too_many_points", "redeem fewer points"),
            Self::OtherPoints { .. } => ("other_points", "redeem exactly so many points"),
            Self::WrongPhase { .. } => ("wrong_phase", "look at the order"),
            Self::Taken => ("taken", "wait until the order is decided"),
            Self::KeyUsed => ("key_used", "use a new idempotency key"),
            Self::ReferenceUsed => ("reference_used", "check which payment it is"),
            Self::VoucherUsed => ("voucher_used", "the fee is to be paid without it"),
            Self::VoucherOver => ("voucher_over", "the fee is to be paid without it"),
            Self::OtherFee => ("other_fee", "check currency and least fee of the voucher"),
            Self::NotRenewable => ("not_renewable", "order a new license"),
            Self::Full => ("full", "ask again later"),
        }
    }

    pub(super) fn of_issue(error: IssueError) -> Self {
        let what = match error {
            IssueError::Content(field) => field.to_string(),
            IssueError::OtherKey { .. } | IssueError::NotCertified { .. } => error.to_string(),
        };
        Self::Invalid { what }
    }
}
