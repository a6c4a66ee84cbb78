//! What everybody may see, and what the operator hands out: catalogue, status list, deliveries, invitations.

use std::sync::Arc;

use axum::Json;
use axum::body::Body as Answer;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tally_protocol::app_server::{Fault, Product};
use tally_protocol::product::ProductId;

use super::Interface;
use super::Shared;
use super::ask::{Body, Named};
use super::fault::Refused;
use super::shown::{CatalogueBody, Health, InviteBody, InviteWanted, ProductBody};
use super::tokens::Asker;
use crate::clock;
use crate::delivery::{DeliveryError, INVITE_DAYS};
use crate::error::chain;

type Text = ([(header::HeaderName, &'static str); 1], String);

const fn text(text: String) -> Text {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}

/// Whether the app server answers.
#[utoipa::path(get, path = "/healthz", tag = "public", responses((status = 200, body = Health)))]
pub(super) async fn healthz(State(interface): Shared) -> Result<Json<Health>, Refused> {
    interface.desk.read(|_, _| ()).await?;
    Ok(Json(Health { ok: true }))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "public",
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
pub(super) async fn openapi(State(interface): Shared) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, interface.document.clone()).into_response()
}

/// Products and discounts.
#[utoipa::path(get, path = "/v1/catalogue", tag = "public",
    responses((status = 200, body = CatalogueBody)))]
pub(super) async fn catalogue(State(interface): Shared) -> Result<Json<CatalogueBody>, Refused> {
    let catalogue = interface
        .desk
        .read(|machine, _| machine.catalogue())
        .await?;
    Ok(Json(catalogue.into()))
}

/// One product, with what its license says.
#[utoipa::path(get, path = "/v1/products/{id}", tag = "public",
    params(("id" = String, Path, description = "the short name")),
    responses((status = 200, body = ProductBody)))]
pub(super) async fn product(
    State(interface): Shared,
    Named(id): Named,
) -> Result<Json<ProductBody>, Refused> {
    Ok(Json(find(&interface, &id).await?.into()))
}

/// The newest status list of the licenses, armoured.
#[utoipa::path(get, path = "/v1/status-list", tag = "public",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn status_list(State(interface): Shared) -> Result<Text, Refused> {
    let newest = interface
        .desk
        .read(|machine, _| machine.status_list().cloned());
    let newest = newest.await?;
    let newest = newest.ok_or_else(|| Refused::busy("no status list was issued yet"))?;
    Ok(text(newest.to_text()))
}

/// The vendor's certificate of the key that signs licenses, armoured.
#[utoipa::path(get, path = "/v1/issuer", tag = "public",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn issuer(State(interface): Shared) -> Text {
    text(interface.issuer.clone())
}

/// All that a computer without Tally needs to work for a product, as one archive.
#[utoipa::path(get, path = "/get/{product}", tag = "public",
    params(("product" = String, Path, description = "the short name")),
    responses((status = 200, body = String, content_type = "application/gzip")))]
pub(super) async fn get(
    State(interface): Shared,
    Named(product): Named,
) -> Result<Response, Refused> {
    let product = find(&interface, &product).await?;
    let name = format!("attachment; filename=\"{}.tar.gz\"", product.id);
    let room = Arc::clone(&interface.deliveries).try_acquire_owned();
    let room = room.map_err(|_| Refused::busy("too many deliveries at a time"))?;
    let packed = interface.delivery.pack(product).await.map_err(not_packed)?;
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Answer::from_stream(packed.stream(room))).into_response())
}

/// Invites to work for a product.
#[utoipa::path(post, path = "/v1/invites", tag = "operator", request_body = InviteWanted,
    security(("token" = [])), responses((status = 200, body = InviteBody)))]
pub(super) async fn invite(
    State(interface): Shared,
    asker: Asker,
    Body(wanted): Body<InviteWanted>,
) -> Result<Json<InviteBody>, Refused> {
    asker.is_operator()?;
    let product = find(&interface, &wanted.product).await?;
    let invite = interface
        .delivery
        .invite(product.id, (clock::now(), INVITE_DAYS))
        .await;
    let expires = invite.expires.to_string();
    let invite = invite.signed().to_text();
    Ok(Json(InviteBody { invite, expires }))
}

async fn find(interface: &Interface, id: &str) -> Result<Product, Refused> {
    let id: ProductId = id.parse().map_err(|_| Fault::UnknownProduct)?;
    let found = interface.desk.read(move |machine, _| {
        let mut products = machine.products();
        products.find(|product| product.id == id).cloned()
    });
    Ok(found.await?.ok_or(Fault::UnknownProduct)?)
}

fn not_packed(error: DeliveryError) -> Refused {
    tracing::error!("cannot deliver: {}", chain(&error));
    Refused::busy("the application cannot be delivered now")
}
