//! The app server's HTTP interface: for shops, payment services, web sites of the vendor, and people with a browser.
//!
//! HTTP/1.1 without TLS, for loopback or behind a proxy that speaks it. `docs/http.md` describes the routes; their OpenAPI
//! document is made from the code and answered at `/openapi.json`.
//!
//! Invariants: whoever shows no token, or one for somebody else, learns nothing of anybody's orders, licenses or points;
//! connections, requests, the bytes and the time of each are bounded; nothing here is done in the app server's loop but
//! what its [`Desk`] does for everybody; signatures are checked on other threads.

mod ask;
mod fault;
mod orders;
mod public;
mod shown;
#[cfg(test)]
mod tests;
pub mod tokens;
mod users;
pub mod webhook;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::IntoResponse;
use tally_protocol::id::NetworkId;
use tokio::sync::Semaphore;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    OpenApi as Document, Ref, RefOr, Response as Described, Server as OpenApiServer,
};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_server::Desk;
use crate::delivery::Delivery;
use crate::web::{self, Bounds};
use fault::{ErrorBody, Refused};
use tokens::Tokens;
use webhook::WebhookKey;

pub use fault::STATUSES;

/// How much is taken. The time is as long as it is because a redemption waits for coordinators, see [`orders`].
const BOUNDS: Bounds = Bounds {
    connections_max: 1_024,
    requests_max: 512,
    request_time_max: Duration::from_secs(30),
};
/// The most deliveries at a time: each has a thread that packs.
const DELIVERIES_MAX: usize = 8;
/// The largest body of a request: 32 redemptions with their certificates.
const BODY_BYTES_MAX: usize = 256 << 10;

/// What the interface needs.
#[derive(Debug)]
pub struct Setup {
    /// Where to listen; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Under which address others reach it, if it is another one.
    pub url: Option<String>,
    /// Asks the app server.
    pub desk: Desk,
    /// Who may ask.
    pub tokens: Tokens,
    /// The network of all statements.
    pub network: NetworkId,
    /// The certificate of the issuer, armoured.
    pub issuer: String,
    /// What payment services sign with.
    pub webhook: WebhookKey,
    /// Packs what is delivered, and invites.
    pub delivery: Arc<Delivery>,
}

/// What every request finds.
#[derive(Debug)]
struct Interface {
    desk: Desk,
    tokens: Tokens,
    network: NetworkId,
    issuer: String,
    webhook: WebhookKey,
    delivery: Arc<Delivery>,
    document: String,
    deliveries: Arc<Semaphore>,
}

type Shared = State<Arc<Interface>>;

/// Starts to answer, within a tokio runtime.
///
/// # Errors
/// If the address cannot be used.
pub fn start(setup: Setup) -> io::Result<web::Server> {
    let listener = web::Listener::bind(setup.listen)?;
    tracing::info!(http = %listener.address(), "answering HTTP");
    Ok(listener.serve(router(setup), BOUNDS))
}

/// What stands in the OpenAPI document beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tally app server",
        description = "Products, orders paid with points, vouchers at shops. Money is {currency, minor}, ids and points are text.",
    ),
    components(schemas(ErrorBody)),
    modifiers(&Bearer)
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn routes() -> (Router<Arc<Interface>>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(public::healthz))
        .routes(routes!(public::openapi))
        .routes(routes!(public::catalogue))
        .routes(routes!(public::product))
        .routes(routes!(public::status_list))
        .routes(routes!(public::issuer))
        .routes(routes!(public::get))
        .routes(routes!(public::invite))
        .routes(routes!(orders::open))
        .routes(routes!(orders::show))
        .routes(routes!(orders::redeem))
        .routes(routes!(orders::pay))
        .routes(routes!(orders::cancel))
        .routes(routes!(webhook::paid))
        .routes(routes!(users::user))
        .routes(routes!(users::license))
        .routes(routes!(users::use_voucher))
        .split_for_parts();
    refuse_everywhere(&mut document);
    (router, document)
}

/// Every route may refuse.
fn refuse_everywhere(document: &mut Document) {
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            let schema = RefOr::Ref(Ref::from_schema_name("ErrorBody"));
            let content = utoipa::openapi::ContentBuilder::new()
                .schema(Some(schema))
                .build();
            let mut refused = Described::new("Refused, for a reason that has a code.");
            refused
                .content
                .insert("application/json".to_owned(), RefOr::T(content));
            let all = &mut operation.responses.responses;
            // The type of a body says what it is; a description must be there all the same.
            for response in all.values_mut() {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = "Done.".to_owned();
                }
            }
            all.insert("default".to_owned(), RefOr::T(refused));
        }
    }
}

fn router(setup: Setup) -> Router {
    let (router, mut document) = routes();
    document.servers = setup.url.map(|url| vec![OpenApiServer::new(url)]);
    let document = document.to_json().expect("a document is JSON");
    let interface = Arc::new(Interface {
        desk: setup.desk,
        tokens: setup.tokens,
        network: setup.network,
        issuer: setup.issuer,
        webhook: setup.webhook,
        delivery: setup.delivery,
        document,
        deliveries: Arc::new(Semaphore::new(DELIVERIES_MAX)),
    });
    let router = router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let busy = |why: &'static str| Refused::busy(why).into_response();
    web::bounded(router, BOUNDS, busy).with_state(interface)
}

async fn not_found() -> Refused {
    let hint = "/openapi.json lists all that there is";
    Refused::new("not_found", "there is nothing of that name", hint)
}

async fn not_allowed() -> Refused {
    let hint = "/openapi.json says how each is asked";
    Refused::new("method_not_allowed", "this is not asked like that", hint)
}
