//! What is read out of a request: who asks, for what, with which key.

use std::sync::Arc;

use axum::RequestPartsExt;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use tally_protocol::app_server::IdempotencyKey;
use tally_protocol::id::NodeId;

use super::Interface;
use super::fault::Refused;
use super::tokens::{Asker, Bearer};

/// The header with the key by which a request that is repeated has the same answer.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl FromRequestParts<Arc<Interface>> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        interface: &Arc<Interface>,
    ) -> Result<Self, Refused> {
        let header = parts.headers.get(header::AUTHORIZATION);
        let text = header.and_then(|value| value.to_str().ok());
        let (scheme, token) = text
            .and_then(|text| text.split_once(' '))
            .unwrap_or_default();
        let asker = scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| interface.tokens.asker(token));
        asker.flatten().ok_or_else(Refused::unauthorized)
    }
}

impl Asker {
    /// Lets only the operator go on.
    pub(super) fn is_operator(&self) -> Result<(), Refused> {
        match self.bearer {
            Bearer::Operator => Ok(()),
            Bearer::Shop | Bearer::User { .. } => Err(Refused::forbidden()),
        }
    }

    /// Lets only a shop go on.
    pub(super) fn is_shop(&self) -> Result<(), Refused> {
        match self.bearer {
            Bearer::Shop => Ok(()),
            Bearer::Operator | Bearer::User { .. } => Err(Refused::forbidden()),
        }
    }

    /// Returns for whom it orders: a user for itself, an operator for whom it names.
    pub(super) fn orders_for(&self, named: Option<NodeId>) -> Result<NodeId, Refused> {
        match (&self.bearer, named) {
            (Bearer::Operator, Some(owner)) => Ok(owner),
            (Bearer::Operator, None) => Err(Refused::bad_request("owner: for whom is it?")),
            (Bearer::User { owner }, None) => Ok(*owner),
            (Bearer::User { owner }, Some(named)) if *owner == named => Ok(*owner),
            (Bearer::User { .. } | Bearer::Shop, _) => Err(Refused::forbidden()),
        }
    }
}

/// The last part of the path.
#[derive(Debug)]
pub(super) struct Named(pub String);

impl FromRequestParts<Arc<Interface>> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Interface>) -> Result<Self, Refused> {
        let path = parts.extract::<Path<String>>().await;
        path.map(|Path(name)| Self(name))
            .map_err(|_| Refused::bad_request("the path is not UTF-8"))
    }
}

/// The idempotency key, which must be there.
#[derive(Debug)]
pub(super) struct Keyed(pub IdempotencyKey);

impl FromRequestParts<Arc<Interface>> for Keyed {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Interface>) -> Result<Self, Refused> {
        let header = parts.headers.get(IDEMPOTENCY_KEY).ok_or_else(|| {
            let hint = "send the header Idempotency-Key: a new one for each new request";
            Refused::new("idempotency_key_required", "no idempotency key", hint)
        })?;
        let text = header.to_str().unwrap_or_default();
        text.parse()
            .map(Self)
            .map_err(|error| Refused::bad_request(format!("Idempotency-Key: {error}")))
    }
}

/// The body as it came.
#[derive(Debug)]
pub(super) struct Raw(pub Bytes);

impl FromRequest<Arc<Interface>> for Raw {
    type Rejection = Refused;

    async fn from_request(request: Request, interface: &Arc<Interface>) -> Result<Self, Refused> {
        Bytes::from_request(request, interface)
            .await
            .map(Self)
            .map_err(|rejection| {
                if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
                    let hint = "a request has at most 256 KiB";
                    return Refused::new("too_large", "the request is too long", hint);
                }
                Refused::bad_request("the body ended early")
            })
    }
}

/// The body, JSON.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Interface>> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, interface: &Arc<Interface>) -> Result<Self, Refused> {
        let Raw(bytes) = Raw::from_request(request, interface).await?;
        json(&bytes).map(Self)
    }
}

/// Reads JSON.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| Refused::bad_request(error.to_string()))
}
