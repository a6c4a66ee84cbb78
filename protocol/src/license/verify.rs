//! What an application asks of a license: no network, no file, no clock but what it is told.
//!
//! [`verify`] says what is the case and enforces nothing. The code is the first of these that applies:
//!
//! | code | when | start? |
//! |---|---|---|
//! | `malformed` | the text is not a license | no |
//! | `unknown_key` | it is for another network | no |
//! | `bad_signature` | its signature does not hold | no |
//! | `malformed` | what was signed is not a license within its bounds | no |
//! | `unknown_key` | no pinned root has certified the signer for when it was issued | no |
//! | `product_mismatch` | it is for another product | no |
//! | `device_mismatch` | it is for certain computers, and none of them has answered this application's challenge | no |
//! | `revoked`, `suspended` | the status list says so, however old it is | no |
//! | `clock_rollback` | the clock is more than two hours behind the latest time known: when the license was issued, when the status list was, what the application has seen | no |
//! | `not_yet` | it begins later, by more than ten minutes | no |
//! | `expired` | it has expired, and its grace is over | no |
//! | `status_stale` | the status list is too old, and the grace for that is over | no |
//! | `grace` | it has expired, or the list is too old: time to renew the one or fetch the other | yes |
//! | `valid` | none of this | yes |
//!
//! So the order is: is it a license, is it for this application, for this computer, does it still count, is it time.
//!
//! Invariants: content of a license is only ever shown when its chain to a pinned root holds. A status list counts only
//! if a pinned root has certified its issuer for the same app server; another one is as if there were none, which
//! after a bounded time means `status_stale`, so that withholding lists gains nothing for long.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DeviceProof, License, Status, StatusList};
use crate::issuer::{Certified, Trust, TrustError};
use crate::product::ProductId;
use crate::signed::{Signed, Verified, VerifyError};
use crate::time::Timestamp;

/// How far a clock may be behind the latest time known before it counts as set back.
pub const CLOCK_BACK_MAX: Duration = Duration::from_secs(2 * 3_600);
/// How much earlier than the issuer's an honest clock may be, so that a new license holds at once.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(600);

/// What an application has compiled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    /// The vendor's root keys, and the network.
    pub trust: Trust,
    /// The application itself.
    pub product: ProductId,
}

/// What an application knows when it asks.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What its clock says.
    pub now: Timestamp,
    /// What [`Verdict::seen`] said last; zero the first time.
    pub seen: Timestamp,
    /// The newest status list that it has.
    pub status: Option<&'a Signed<StatusList>>,
    /// The answer of the computer's terminal; none if it did not ask, or nobody answered.
    pub challenge: Option<Challenge<'a>>,
}

/// A question to the device, and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Challenge<'a> {
    /// 32 bytes that the application drew at random for this one question.
    pub nonce: [u8; 32],
    /// What came back.
    pub proof: &'a Signed<DeviceProof>,
}

/// What is the case with a license, from the best to the first to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// It holds.
    Valid,
    /// It still holds: it has expired or its status list is too old, but not for long.
    Grace,
    /// Its status list has been too old for too long.
    StatusStale,
    /// It has expired.
    Expired,
    /// It begins later.
    NotYet,
    /// The clock was set back.
    ClockRollback,
    /// Its issuer has suspended it.
    Suspended,
    /// Its issuer has revoked it.
    Revoked,
    /// It is for other computers.
    DeviceMismatch,
    /// It is for another product.
    ProductMismatch,
    /// No pinned root has certified its issuer.
    UnknownKey,
    /// Its signature does not hold.
    BadSignature,
    /// It is no license.
    Malformed,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 13] = [
        Self::Valid,
        Self::Grace,
        Self::StatusStale,
        Self::Expired,
        Self::NotYet,
        Self::ClockRollback,
        Self::Suspended,
        Self::Revoked,
        Self::DeviceMismatch,
        Self::ProductMismatch,
        Self::UnknownKey,
        Self::BadSignature,
        Self::Malformed,
    ];

    /// Returns whether an application may start: the usual policy, and the only one here.
    #[must_use]
    pub const fn allows_start(self) -> bool {
        matches!(self, Self::Valid | Self::Grace)
    }

    /// Returns the name, as in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Grace => "grace",
            Self::StatusStale => "status_stale",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::ClockRollback => "clock_rollback",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::DeviceMismatch => "device_mismatch",
            Self::ProductMismatch => "product_mismatch",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer of [`verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// What is the case.
    pub code: Code,
    /// What the license says, with the certificate of its issuer; none if it cannot be believed.
    pub license: Option<Certified<License>>,
    /// Until when the application may start, if nothing new arrives; none if it may not start now.
    pub until: Option<Timestamp>,
    /// The latest time known, for the application to keep and to give back as [`Known::seen`]. A clock that runs so far
    /// ahead that nothing starts any more leaves no trace here.
    pub seen: Timestamp,
}

/// Checks a license in the form of its text.
///
/// ```
/// use tally_protocol::issuer::Trust;
/// use tally_protocol::license::{Code, Known, Pins, verify};
/// use tally_protocol::time::Timestamp;
///
/// let root = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";
/// let pins = Pins {
///     trust: Trust { roots: vec![root.parse()?], network: "main".parse()? },
///     product: "photo-editor".parse()?,
/// };
/// let now = Timestamp::from_millis(1_800_000_000_000);
/// let known = Known { now, seen: Timestamp::default(), status: None, challenge: None };
/// let verdict = verify("my license", &pins, &known);
/// assert_eq!(verdict.code, Code::Malformed);
/// assert!(!verdict.code.allows_start());
/// # Ok::<(), tally_protocol::id::ParseIdError>(())
/// ```
pub fn verify(text: &str, pins: &Pins, known: &Known<'_>) -> Verdict {
    let believed = Signed::from_text(text)
        .map_err(|_| Code::Malformed)
        .and_then(|signed| pins.trust.check(signed).map_err(|error| code_of(&error)));
    match believed {
        Ok(license) => judge(license, pins, known),
        Err(code) => Verdict {
            code,
            license: None,
            until: None,
            seen: known.seen,
        },
    }
}

/// Returns why a license cannot be believed.
const fn code_of(error: &TrustError) -> Code {
    match error {
        TrustError::Statement(VerifyError::Network { .. })
        | TrustError::Certificate(_)
        | TrustError::CertificateContent(_)
        | TrustError::Root { .. }
        | TrustError::OtherIssuer { .. }
        | TrustError::NotThen { .. } => Code::UnknownKey,
        TrustError::Statement(VerifyError::Signature { .. }) => Code::BadSignature,
        TrustError::Statement(
            VerifyError::Layout | VerifyError::Type { .. } | VerifyError::Payload(_),
        )
        | TrustError::Content(_) => Code::Malformed,
    }
}

/// Returns what is the case with a license whose chain holds.
fn judge(certified: Certified<License>, pins: &Pins, known: &Known<'_>) -> Verdict {
    let license = certified.statement().value();
    let list = status_list(&certified, pins, known);
    let status = list
        .as_ref()
        .and_then(|list| list.status(license.status.index));
    let listed = list
        .as_ref()
        .map_or(Timestamp::default(), |list| list.issued);
    let told = if status.is_some() {
        listed
    } else {
        license.issued
    };
    let stale = told.max(license.issued) + Duration::from_secs(license.status.max_age_seconds);
    let grace = Duration::from_secs(license.grace_seconds);
    let latest = license.issued.max(listed).max(known.seen);
    let now = known.now;
    // In the order of the table above.
    let findings = [
        (license.product != pins.product, Code::ProductMismatch),
        (
            !is_on_its_device(license, pins, known),
            Code::DeviceMismatch,
        ),
        (status == Some(Status::Revoked), Code::Revoked),
        (status == Some(Status::Suspended), Code::Suspended),
        (now + CLOCK_BACK_MAX < latest, Code::ClockRollback),
        (now + CLOCKS_APART_MAX < license.not_before, Code::NotYet),
        (now >= license.expires + grace, Code::Expired),
        (now >= stale + grace, Code::StatusStale),
        (now >= license.expires || now >= stale, Code::Grace),
    ];
    let found = findings.into_iter().find(|(applies, _)| *applies);
    let code = found.map_or(Code::Valid, |(_, code)| code);
    let until = license.expires.min(stale) + grace;
    let seen = if code.allows_start() { now } else { known.seen };
    Verdict {
        code,
        until: code.allows_start().then_some(until),
        seen: seen.max(known.seen).max(listed),
        license: Some(certified),
    }
}

/// Returns the status list if it is by an issuer for the app server that issued the license.
fn status_list(
    license: &Certified<License>,
    pins: &Pins,
    known: &Known<'_>,
) -> Option<Verified<StatusList>> {
    let list = pins.trust.check(known.status?.clone()).ok()?;
    let same = list.certificate().app_server == license.certificate().app_server;
    same.then(|| list.into_statement())
}

/// Returns whether the license is for any computer, or one of its computers has just answered.
fn is_on_its_device(license: &License, pins: &Pins, known: &Known<'_>) -> bool {
    if license.devices.is_empty() {
        return true;
    }
    let Some(Challenge { nonce, proof }) = known.challenge else {
        return false;
    };
    let proof = proof.clone().verify(&pins.trust.network);
    proof.is_ok_and(|proof| {
        proof.license == license.id
            && proof.nonce == nonce
            && license.devices.contains(&proof.signer())
    })
}
