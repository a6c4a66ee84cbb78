//! A payment service tells that a user's part was paid.
//!
//! It has no token: it signs. The header `Tally-Signature: t=SECONDS,v1=HEX` has the HMAC-SHA256 of `SECONDS.BODY` with the
//! key in the app server's folder. Told again, even with another time, it is the same payment, by its reference.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tally_protocol::account::Money;
use tally_protocol::app_server::{Answer, Fault};
use tally_protocol::id::OrderId;
use tally_protocol::time::Timestamp;
use zeroize::Zeroizing;

use super::Shared;
use super::ask::{Raw, json};
use super::fault::Refused;
use super::orders::find;
use super::shown::{PaymentHeard, PaymentTold};
use crate::clock;

/// The header with the signature.
const HEADER: &str = "tally-signature";
/// By how much the clocks may differ, and how old what is told may be.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What payment services sign with.
pub struct WebhookKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey")
    }
}

impl WebhookKey {
    /// Takes a key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Reads the key at `path`, 64 hex digits, after making one if there is none.
    ///
    /// # Errors
    /// If the disk says no, or the file is something else.
    pub fn open(path: &Path) -> io::Result<Self> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(mut file) => {
                let key: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
                let text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(&*key) + "\n");
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let text = Zeroizing::new(std::fs::read_to_string(path)?);
        let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
        let bytes = Zeroizing::new(bytes.unwrap_or_default());
        let key = <[u8; 32]>::try_from(bytes.as_slice());
        let other = || io::Error::new(io::ErrorKind::InvalidData, "not a key of 64 hex digits");
        key.map(Self::new).map_err(|_| other())
    }

    /// Returns the header that signs `body` at a time.
    #[must_use]
    pub fn sign(&self, at: Timestamp, body: &[u8]) -> String {
        let seconds = at.as_millis() / 1_000;
        let code = self.code(seconds, body).finalize().into_bytes();
        format!("t={seconds},v1={}", HEXLOWER_PERMISSIVE.encode(&code))
    }

    /// Returns whether a header signs `body`, about now.
    #[must_use]
    pub fn holds(&self, header: &str, now: Timestamp, body: &[u8]) -> bool {
        let part = |name: &str| {
            let mut parts = header.split(',');
            parts.find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let seconds: Option<u64> = part("t").and_then(|text| text.parse().ok());
        let code = part("v1").and_then(|text| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok());
        let (Some(seconds), Some(code)) = (seconds, code) else {
            return false;
        };
        let apart = (now.as_millis() / 1_000).abs_diff(seconds);
        // In constant time.
        apart <= TOLERANCE.as_secs() && self.code(seconds, body).verify_slice(&code).is_ok()
    }

    fn code(&self, seconds: u64, body: &[u8]) -> Hmac<Sha256> {
        let code = Hmac::<Sha256>::new_from_slice(&*self.0).expect("a key may have any length");
        code.chain_update(seconds.to_string())
            .chain_update(".")
            .chain_update(body)
    }
}

/// A payment service tells that a user's part was paid.
#[utoipa::path(post, path = "/v1/webhooks/payment", tag = "operator", request_body = PaymentTold,
    params(("Tally-Signature" = String, Header, description = "t=SECONDS,v1=HEX")),
    responses((status = 200, body = PaymentHeard)))]
pub(super) async fn paid(
    State(interface): Shared,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Result<Json<PaymentHeard>, Refused> {
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
    if !interface
        .webhook
        .holds(header.unwrap_or_default(), clock::now(), &body)
    {
        let hint = "sign SECONDS.BODY with the key in the file webhook-key, and check the clock";
        let message = "the signature does not hold";
        return Err(Refused::new("unauthorized", message, hint));
    }
    let told: PaymentTold = json(&body)?;
    let id: OrderId = told.order.parse().map_err(|_| Fault::UnknownOrder)?;
    let amount = Money::try_from(told.amount);
    let amount = amount.map_err(|error| Refused::bad_request(error.to_string()))?;
    let status = find(&interface, id).await?.status;
    let due = Money {
        minor: status.due,
        ..status.fee
    };
    if amount != due {
        let message = format!("{amount} was paid, {due} is due");
        let hint = "give the money back, or settle it with the customer";
        return Err(Refused::new("other_amount", message, hint));
    }
    match interface.desk.pay(id, told.reference).await? {
        Answer::Order(status) => Ok(Json(PaymentHeard {
            order: status.order.to_string(),
            phase: status.phase.into(),
        })),
        Answer::Done | Answer::Registered(_) | Answer::Split(_) | Answer::Settlement(_) => {
            Err(Fault::UnknownOrder.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_body_and_five_minutes() {
        let key = WebhookKey::new([7; 32]);
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let header = key.sign(at(1_000), b"{}");
        for (now, body, holds) in [
            (1_000, &b"{}"[..], true),
            (1_300, b"{}", true),
            (700, b"{}", true),
            (1_301, b"{}", false),
            (699, b"{}", false),
            (1_000, b"{ }", false),
        ] {
            assert_eq!(key.holds(&header, at(now), body), holds, "{now} {body:?}");
        }
        let later = header.replace("t=1000", "t=1001");
        assert!(!key.holds(&later, at(1_000), b"{}"));
        assert!(!WebhookKey::new([8; 32]).holds(&header, at(1_000), b"{}"));
        for header in ["", "t=1000", "v1=00", "t=1000,v1=", "t=x,v1=00"] {
            assert!(!key.holds(header, at(1_000), b"{}"), "{header}");
        }
        // As computed by Python's hmac.
        assert_eq!(
            header,
            "t=1000,v1=5fbde31d17d1eaea6dc95f1677eb644dc70616ddfb4540d06a2ba4b6f2c1ca63"
        );
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webhook-key");
        let (made, read) = (
            WebhookKey::open(&path).unwrap(),
            WebhookKey::open(&path).unwrap(),
        );
        assert_eq!(*made.0, *read.0);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, "no key").unwrap();
        assert!(WebhookKey::open(&path).is_err());
    }
}
