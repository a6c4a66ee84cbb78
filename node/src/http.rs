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
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt;
use tally_protocol::id::NetworkId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    OpenApi as Document, Ref, RefOr, Response as Described, Server as OpenApiServer,
};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app_server::Desk;
use crate::delivery::Delivery;
use fault::{ErrorBody, Refused};
use tokens::Tokens;
use webhook::WebhookKey;

pub use fault::STATUSES;

/// The most connections: more wait until one ends.
const CONNECTIONS_MAX: usize = 1_024;
/// The most requests at a time: more are told that the app server is busy.
const REQUESTS_MAX: usize = 512;
/// The most deliveries at a time: each has a thread that packs.
const DELIVERIES_MAX: usize = 8;
/// The largest body of a request: 32 redemptions with their certificates.
const BODY_BYTES_MAX: usize = 256 << 10;
/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long the head of a request may take, and a connection may be silent.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
/// How long the body and its answer may take: a redemption waits for coordinators, see [`orders`].
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How long whoever reads an answer may not acknowledge a byte of it.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long requests may go on after the app server was told to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// The pause after a connection that could not be accepted: files are short for a moment.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

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

/// The interface, as long as it runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
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
    requests: Semaphore,
    deliveries: Arc<Semaphore>,
}

type Shared = State<Arc<Interface>>;

impl Server {
    /// Starts to listen, within a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(setup.listen)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router(setup), stopped));
        tracing::info!(http = %address, "answering HTTP");
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits a while for those under way.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept an HTTP connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        prepare(&stream);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an HTTP connection broke: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    let _ = timeout(STOP_TIME_MAX, graceful.shutdown()).await;
}

/// Has the kernel end a connection whose reader has gone or stalls.
fn prepare(stream: &TcpStream) {
    let millis = u32::try_from(SILENCE_MAX.as_millis()).expect("a minute");
    let _ = sockopt::set_tcp_user_timeout(stream, millis);
    let _ = stream.set_nodelay(true);
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
        requests: Semaphore::new(REQUESTS_MAX),
        deliveries: Arc::new(Semaphore::new(DELIVERIES_MAX)),
    });
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&interface),
            bounded,
        ))
        .with_state(interface)
}

async fn not_found() -> Refused {
    let hint = "/openapi.json lists all that there is";
    Refused::new("not_found", "there is nothing of that name", hint)
}

async fn not_allowed() -> Refused {
    let hint = "/openapi.json says how each is asked";
    Refused::new("method_not_allowed", "this is not asked like that", hint)
}

/// Takes a request if there is room for it, and answers in time.
async fn bounded(State(interface): Shared, request: Request, next: Next) -> Response {
    let Ok(_room) = interface.requests.try_acquire() else {
        return Refused::busy("too many requests at a time").into_response();
    };
    match timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::busy("the request or its answer took too long").into_response(),
    }
}
