//! Why a request is not answered as wished: a code that never changes, the HTTP status of that code, a hint.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_protocol::app_server::{Fault, VoidReason};
use tally_protocol::message::redeem::RedeemFault;
use utoipa::ToSchema;

use crate::app_server::DeskError;

/// Every code with its status. `docs/http.md` has the same table.
pub const STATUSES: [(&str, u16); 52] = [
    ("bad_request", 400),
    ("idempotency_key_required", 400),
    ("unauthorized", 401),
    ("forbidden", 403),
    ("not_found", 404),
    ("unknown_device", 404),
    ("unknown_license", 404),
    ("unknown_offer", 404),
    ("unknown_order", 404),
    ("unknown_product", 404),
    ("unknown_settlement", 404),
    ("unknown_user", 404),
    ("unknown_voucher", 404),
    ("method_not_allowed", 405),
    ("cancelled", 409),
    ("device_limit", 409),
    ("expired", 409),
    ("key_used", 409),
    ("no_agreement", 409),
    ("not_allowed", 409),
    ("not_renewable", 409),
    ("order_expired", 409),
    ("other_amount", 409),
    ("other_audience", 409),
    ("other_currency", 409),
    ("other_fee", 409),
    ("other_points", 409),
    ("other_value", 409),
    ("over", 409),
    ("over_cap", 409),
    ("over_credit", 409),
    ("posted", 409),
    ("reference_used", 409),
    ("refused", 409),
    ("stale", 409),
    ("taken", 409),
    ("too_few_points", 409),
    ("too_many_points", 409),
    ("too_short", 409),
    ("unanswered", 409),
    ("unfunded", 409),
    ("unknown", 409),
    ("unpaid", 409),
    ("voucher_over", 409),
    ("voucher_used", 409),
    ("worthless", 409),
    ("wrong_phase", 409),
    ("too_large", 413),
    ("invalid", 422),
    ("unverified", 422),
    ("full", 429),
    ("busy", 503),
];

/// A refusal on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    code: &'static str,
    message: String,
    hint: &'static str,
}

/// The body of every answer that is none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorShown,
}

/// Why not.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorShown {
    /// One of a closed list; each has one HTTP status.
    code: &'static str,
    /// What is wrong, for people.
    message: String,
    /// What to do about it, for people.
    hint: &'static str,
}

impl Refused {
    pub(super) fn new(code: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            hint,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(
            "bad_request",
            message,
            "/openapi.json describes each request",
        )
    }

    pub(super) fn unauthorized() -> Self {
        let hint = "send the header Authorization: Bearer TOKEN; the operator makes tokens";
        Self::new("unauthorized", "no token, or one that does not count", hint)
    }

    pub(super) fn forbidden() -> Self {
        let hint = "ask the operator for a token of the right kind";
        Self::new("forbidden", "this token is not for this", hint)
    }

    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new("busy", message, "ask again in a moment")
    }

    pub(super) fn unknown_user() -> Self {
        let message = "the user is not known";
        Self::new("unknown_user", message, "check the id of the owner")
    }

    /// Says why nothing came of an order.
    pub(super) fn void(reason: &VoidReason) -> Self {
        let (code, message) = void_words(reason);
        Self::new(code, message, "open a new order")
    }

    pub(super) fn status(&self) -> StatusCode {
        let row = STATUSES.iter().find(|(code, _)| *code == self.code);
        let status = row.and_then(|(_, status)| StatusCode::from_u16(*status).ok());
        status.expect("every code has its row")
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::new(fault.code(), fault.to_string(), fault.hint())
    }
}

impl From<DeskError> for Refused {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Fault(fault) => fault.into(),
            DeskError::Stopping => Self::busy("the app server is stopping"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status();
        let error = ErrorShown {
            code: self.code,
            message: self.message,
            hint: self.hint,
        };
        let mut response = (status, Json(ErrorBody { error })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

/// Returns the code of why nothing came of an order, and the reason for people.
pub(super) fn void_words(reason: &VoidReason) -> (&'static str, String) {
    match reason {
        VoidReason::Cancelled => ("cancelled", "the order was cancelled".to_owned()),
        VoidReason::Expired => (
            "order_expired",
            "nobody paid anything for the order in time".to_owned(),
        ),
        VoidReason::Unanswered(coordinator) => (
            "unanswered",
            format!("the coordinator {coordinator} did not answer in time"),
        ),
        VoidReason::TooShort(coordinator) => (
            "too_short",
            format!("the coordinator {coordinator} sets points aside for too short a time"),
        ),
        VoidReason::OtherValue(coordinator) => (
            "other_value",
            format!("the coordinator {coordinator} counts points as worth something else"),
        ),
        VoidReason::Points { fault, .. } => (points_code(*fault), fault.to_string()),
        VoidReason::Refused {
            coordinator,
            refusal,
        } => (
            "refused",
            format!("the coordinator {coordinator} refuses: {refusal}"),
        ),
        VoidReason::Unpaid => ("unpaid", "the user's part was not paid in time".to_owned()),
    }
}

/// Returns the code of why points are not redeemed: the same as in CBOR.
const fn points_code(fault: RedeemFault) -> &'static str {
    match fault {
        RedeemFault::OtherAudience => "other_audience",
        RedeemFault::Expired => "expired",
        RedeemFault::NotAllowed => "not_allowed",
        RedeemFault::DeviceLimit { .. } => "device_limit",
        RedeemFault::NoAgreement => "no_agreement",
        RedeemFault::TooFewPoints { .. } => "too_few_points",
        RedeemFault::Worthless => "worthless",
        RedeemFault::OverCap { .. } => "over_cap",
        RedeemFault::OverCredit { .. } => "over_credit",
        RedeemFault::Unknown => "unknown",
        RedeemFault::Over => "over",
        RedeemFault::Posted => "posted",
        RedeemFault::Unfunded => "unfunded",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tally_protocol::account::Money;
    use tally_protocol::app_server::Phase;
    use tally_protocol::id::NodeId;
    use tally_protocol::message::Refusal;
    use tally_protocol::points::Points;

    use super::*;

    fn money() -> Money {
        "1.00 EUR".parse().unwrap()
    }

    fn points_faults() -> Vec<RedeemFault> {
        use RedeemFault::{
            DeviceLimit, Expired, NoAgreement, NotAllowed, OtherAudience, Over, OverCap,
            OverCredit, Posted, TooFewPoints, Unfunded, Unknown, Worthless,
        };
        let left = Points::ZERO;
        vec![
            OtherAudience,
            Expired,
            NotAllowed,
            DeviceLimit { left },
            NoAgreement,
            TooFewPoints { available: left },
            Worthless,
            OverCap { left: money() },
            OverCredit { left: money() },
            Unknown,
            Over,
            Posted,
            Unfunded,
        ]
    }

    fn faults() -> Vec<Fault> {
        let phase = Phase::Void;
        vec![
            Fault::Invalid {
                what: String::new(),
            },
            Fault::UnknownProduct,
            Fault::UnknownOffer,
            Fault::UnknownOrder,
            Fault::UnknownLicense,
            Fault::UnknownVoucher,
            Fault::UnknownDevice,
            Fault::UnknownSettlement,
            Fault::NoAgreement,
            Fault::OtherAudience,
            Fault::Stale,
            Fault::OtherCurrency,
            Fault::TooManyPoints { most: money() },
            Fault::OtherPoints {
                needed: Points::ZERO,
            },
            Fault::WrongPhase { phase },
            Fault::Taken,
            Fault::KeyUsed,
            Fault::ReferenceUsed,
            Fault::VoucherUsed,
            Fault::VoucherOver,
            Fault::OtherFee,
            Fault::NotRenewable,
            Fault::Full,
        ]
    }

    #[test]
    fn every_reason_has_a_code_with_a_status() {
        let node = NodeId::from_bytes([1; 32]);
        let mut reasons = vec![
            VoidReason::Cancelled,
            VoidReason::Expired,
            VoidReason::Unanswered(node),
            VoidReason::TooShort(node),
            VoidReason::OtherValue(node),
            VoidReason::Refused {
                coordinator: node,
                refusal: Refusal::Busy,
            },
            VoidReason::Unpaid,
        ];
        reasons.extend(points_faults().into_iter().map(|fault| VoidReason::Points {
            coordinator: node,
            fault,
        }));
        for reason in reasons {
            assert!(
                Refused::void(&reason).status().is_client_error(),
                "{reason:?}"
            );
        }
        for fault in faults() {
            let status = Refused::from(fault.clone()).status();
            assert!(status.is_client_error(), "{fault:?}");
        }
    }

    #[test]
    fn codes_of_points_are_those_of_the_protocol() {
        for fault in points_faults() {
            let value = serde_json::to_value(fault).unwrap();
            assert_eq!(value["code"], points_code(fault));
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../../docs/http.md");
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let code = cells.next()?.trim().trim_end_matches('`').to_owned();
            Some((code, cells.next()?.trim().parse::<u16>().ok()?))
        });
        let written: BTreeSet<(String, u16)> = rows.collect();
        let here = STATUSES
            .iter()
            .map(|(code, status)| ((*code).to_owned(), *status));
        assert_eq!(written, here.collect());
    }
}
