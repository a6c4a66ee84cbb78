//! The owner's page: how the terminal of this computer is, and its switches, for a browser on the same computer.
//!
//! One page, made by the node, without anything from elsewhere; it works without scripts, and one that is part of it fetches
//! what changes every two seconds. `tally open` prints the address with the token that opens it.
//!
//! Invariants: it listens on loopback only; [`guard`] says who may see and change anything; whatever others have written is
//! escaped by the template; requests, bodies and their time are bounded; a change is refused whole, with the reason beside
//! the value, or done and then shown by a page of its own address.

pub mod desk;
pub mod form;
pub mod guard;
mod render;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use data_encoding::BASE64;
use maud::Markup;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::chain;
use crate::web::{self, Bounds};
use desk::{Action, Desk, DeskError, PageView};
use form::{Faults, Values};
use guard::{Foreign, Guard, Session};
use render::{Frame, Note};

/// One person looks, in a few windows.
const BOUNDS: Bounds = Bounds {
    connections_max: 32,
    requests_max: 16,
    request_time_max: Duration::from_secs(10),
};
/// The largest body: a form with some short texts.
const BODY_BYTES_MAX: usize = 8 << 10;
/// How long a snooze is, in minutes.
const SNOOZE_MINUTES: u32 = 60;

/// Where the page is answered: `"127.0.0.1:0"`, or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum PageAddress {
    /// Nowhere.
    Off,
    /// There: loopback; port 0 is any that is free.
    At(SocketAddr),
}

impl Default for PageAddress {
    fn default() -> Self {
        Self::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }
}

impl FromStr for PageAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse::<SocketAddr>().ok();
        let own = address.filter(|address| address.ip().is_loopback());
        own.map(Self::At).ok_or_else(|| {
            format!("page is {text:?}, it must be \"off\" or an address of this computer alone, such as \"127.0.0.1:0\"")
        })
    }
}

impl TryFrom<String> for PageAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What opens the page: the answer to `tally open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The address with the token.
    pub url: String,
}

/// The page, as long as it runs.
#[derive(Debug)]
pub struct Page {
    server: web::Server,
    opener: Opener,
}

/// Opens the page for browsers.
#[derive(Debug, Clone)]
pub struct Opener(Guard);

impl Opener {
    /// Returns an address that opens the page, once and soon; a secret.
    #[must_use]
    pub fn open(&self) -> Opening {
        Opening { url: self.0.url() }
    }
}

/// What every request finds.
struct Shared {
    guard: Guard,
    desk: Arc<dyn Desk>,
}

type Here = State<Arc<Shared>>;
type Fields = Vec<(String, String)>;
type Sent = Result<Form<Fields>, FormRejection>;

impl Page {
    /// Starts to answer, within a tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn start(address: SocketAddr, desk: Arc<dyn Desk>) -> io::Result<Self> {
        let listener = web::Listener::bind(address)?;
        let guard = Guard::new(listener.address());
        let opener = Opener(guard.clone());
        tracing::info!(page = %listener.address(), "`tally open` shows the owner's page");
        let server = listener.serve(router(guard, desk), BOUNDS);
        Ok(Self { server, opener })
    }

    /// Returns what opens it; a secret.
    #[must_use]
    pub const fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Takes no more requests, and waits a while for those under way.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

fn router(guard: Guard, desk: Arc<dyn Desk>) -> Router {
    let shared = Arc::new(Shared { guard, desk });
    let router = Router::new()
        .route("/", get(page))
        .route("/live", get(live))
        .route("/act", post(act))
        .route("/preferences", post(set))
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "There is nothing of that name.") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let busy = |why| refused(StatusCode::SERVICE_UNAVAILABLE, why);
    web::bounded(router, BOUNDS, busy)
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guarded))
        .with_state(shared)
}

/// Lets in who may come, and tells the browser what the page may do.
async fn guarded(State(shared): Here, mut request: Request, next: Next) -> Response {
    let (method, headers) = (request.method().clone(), request.headers());
    let session = shared.guard.session(headers);
    let opens = method == Method::GET && request.uri().path() == "/";
    let mut response = match (shared.guard.check(&method, headers), session) {
        (Err(Foreign::Host), _) => {
            let why = "This page is asked for by its address, not by a name.";
            refused(StatusCode::MISDIRECTED_REQUEST, why)
        }
        (Err(Foreign::Site), _) => {
            let why = "This came from the page of somebody else.";
            refused(StatusCode::FORBIDDEN, why)
        }
        (Ok(()), None) if !opens => stranger(),
        (Ok(()), session) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
    };
    for (name, value) in &*HEADERS {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

static HEADERS: LazyLock<[(HeaderName, HeaderValue); 7]> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text)));
    let (style, script) = (hash(render::STYLE), hash(render::SCRIPT));
    let policy = format!(
        "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("words and base64");
    let fixed = HeaderValue::from_static;
    [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, fixed("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        // Not `no-referrer`: browsers would say that the forms of this page come from nowhere.
        (header::REFERRER_POLICY, fixed("same-origin")),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            fixed("same-origin"),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            fixed("same-origin"),
        ),
    ]
});

/// What an address may ask for.
#[derive(Debug, Deserialize)]
struct Asked {
    token: Option<String>,
    note: Option<String>,
}

async fn page(
    State(shared): Here,
    Extension(session): Extension<Option<Session>>,
    Query(asked): Query<Asked>,
) -> Response {
    if let Some(token) = asked.token {
        if !shared.guard.admits(&token) {
            return stranger();
        }
        // The token does not stay in the address.
        let cookie = [(header::SET_COOKIE, shared.guard.begin())];
        return (cookie, Redirect::to("/")).into_response();
    }
    let Some(session) = session else {
        return stranger();
    };
    let note = asked.note.as_deref().and_then(Note::named);
    let show = |view: &PageView| {
        render::page(&Frame {
            view,
            form_token: &shared.guard.form_token(session),
            note,
            values: &view.preferences,
            faults: &Faults::new(),
        })
    };
    shown(StatusCode::OK, &*shared.desk, show).await
}

async fn live(State(shared): Here) -> Response {
    shown(StatusCode::OK, &*shared.desk, render::live).await
}

async fn act(
    State(shared): Here,
    Extension(session): Extension<Option<Session>>,
    sent: Sent,
) -> Response {
    let sent = match own_form(&shared, session, sent) {
        Ok((_, sent)) => sent,
        Err(refused) => return *refused,
    };
    let (action, note) = match field(&sent, "do") {
        "pause" => (Action::Pause, Note::Paused),
        "resume" => (Action::Resume, Note::Resumed),
        "snooze" => (Action::Snooze(SNOOZE_MINUTES), Note::Snoozed),
        "finish" => (Action::Finish, Note::Finishing),
        other => match form::preset(other) {
            Some(preset) => (Action::Preset(preset), Note::Saved),
            None => return refused(StatusCode::BAD_REQUEST, "There is no such button."),
        },
    };
    match shared.desk.act(action).await {
        Ok(()) => Redirect::to(note.address()).into_response(),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &failed(&error)),
    }
}

async fn set(
    State(shared): Here,
    Extension(session): Extension<Option<Session>>,
    sent: Sent,
) -> Response {
    let (session, sent) = match own_form(&shared, session, sent) {
        Ok(own) => own,
        Err(refused) => return *refused,
    };
    let view = match shared.desk.view().await {
        Ok(view) => view,
        Err(error) => return refused(StatusCode::SERVICE_UNAVAILABLE, &failed(&error)),
    };
    let values = form::values(&sent);
    let faults = match form::change(&values, &view.preferences) {
        Err(faults) => faults,
        Ok(action) => match shared.desk.act(action).await {
            Ok(()) => return Redirect::to(Note::Saved.address()).into_response(),
            Err(DeskError::Values(faults)) => faults.into_iter().collect(),
            Err(error @ DeskError::Failed(_)) => {
                return refused(StatusCode::SERVICE_UNAVAILABLE, &failed(&error));
            }
        },
    };
    let frame = Frame {
        view: &view,
        form_token: &shared.guard.form_token(session),
        note: None,
        values: &values,
        faults: &faults,
    };
    answer(StatusCode::UNPROCESSABLE_ENTITY, render::page(&frame))
}

/// Returns the fields of a form that this page has made for this session.
fn own_form(
    shared: &Shared,
    session: Option<Session>,
    sent: Sent,
) -> Result<(Session, Fields), Box<Response>> {
    let session = session.ok_or_else(|| Box::new(stranger()))?;
    let Form(sent) = sent.map_err(|error| {
        let why = "This is not a form of this page.";
        Box::new(refused(error.status(), why))
    })?;
    if !shared.guard.takes(session, field(&sent, "form")) {
        let why =
            "This form is not of this page, or the node was started again: load the page again.";
        return Err(Box::new(refused(StatusCode::FORBIDDEN, why)));
    }
    Ok((session, sent))
}

fn field<'a>(sent: &'a [(String, String)], name: &str) -> &'a str {
    let found = sent.iter().find(|(key, _)| key == name);
    found.map_or("", |(_, value)| value)
}

async fn shown(
    status: StatusCode,
    desk: &dyn Desk,
    show: impl FnOnce(&PageView) -> Markup,
) -> Response {
    match desk.view().await {
        Ok(view) => answer(status, show(&view)),
        Err(error) => refused(StatusCode::SERVICE_UNAVAILABLE, &failed(&error)),
    }
}

fn failed(error: &DeskError) -> String {
    let why = match error {
        DeskError::Values(faults) => {
            let faults = faults.iter().map(|(key, fault)| format!("{key}: {fault}"));
            faults.collect::<Vec<_>>().join("; ")
        }
        DeskError::Failed(_) => chain(error),
    };
    format!("The node failed to do this: {why}.")
}

fn answer(status: StatusCode, markup: Markup) -> Response {
    (status, Html(markup.into_string())).into_response()
}

fn refused(status: StatusCode, why: &str) -> Response {
    answer(status, render::refused(why))
}

fn stranger() -> Response {
    let why = "This page is for the owner of this computer: `tally open` in a terminal opens it.";
    refused(StatusCode::FORBIDDEN, why)
}
