//! Who may see the page and press its buttons: the browser that was opened with the token of `tally open`.
//!
//! The token in the address is exchanged for a cookie at once: it is good for one exchange within [`TOKEN_LIFE`], because
//! other users of the computer may read the command line of a browser. A cookie is a random number and its keyed hash, so
//! nothing is kept of a session; each has a form token of its own, the keyed hash of the same number for another purpose.
//! Keys are drawn when the node starts, and end with it.
//!
//! Invariants: without the cookie nothing is told; nothing is changed without cookie and form token; requests that name
//! another host, or come from another site, are refused whatever they show; secrets are compared in constant time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, Method, header};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

/// Bytes of a token, of keys and of the number of a session.
const SECRET_BYTES: usize = 32;
/// How long a token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// The most tokens that are good at a time; the oldest goes.
const TOKENS_MAX: usize = 8;

/// Knows the secrets of one start of the node.
#[derive(Clone)]
pub struct Guard {
    address: SocketAddr,
    tokens: Arc<Mutex<VecDeque<Token>>>,
    session_key: [u8; SECRET_BYTES],
    form_key: [u8; SECRET_BYTES],
}

impl std::fmt::Debug for Guard {
    /// Tells no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What opens the page once.
struct Token {
    text: String,
    drawn: Instant,
}

/// A browser that has the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session([u8; SECRET_BYTES]);

/// Why a request is refused before anything else is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It names another host: a name that somebody has pointed at this computer.
    Host,
    /// It comes from the page of somebody else.
    Site,
}

impl Guard {
    /// Draws the secrets of a page at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tokens: Arc::default(),
            session_key: rand::random(),
            form_key: rand::random(),
        }
    }

    /// Draws a token. Returns the address that opens the page with it.
    #[must_use]
    pub fn url(&self) -> String {
        let token = HEXLOWER.encode(&rand::random::<[u8; SECRET_BYTES]>());
        let url = format!("http://{}/?token={token}", self.address);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_MAX {
            tokens.pop_front();
        }
        tokens.push_back(Token {
            text: token,
            drawn: Instant::now(),
        });
        url
    }

    /// Returns whether this is a token that is good, which ends it.
    #[must_use]
    pub fn admits(&self, token: &str) -> bool {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|known| known.drawn.elapsed() < TOKEN_LIFE);
        let found = tokens.iter().position(|known| same(token, &known.text));
        found.and_then(|place| tokens.remove(place)).is_some()
    }

    /// Begins a session. Returns the header that sets its cookie.
    ///
    /// # Panics
    /// Never: the cookie is hex digits.
    #[must_use]
    pub fn begin(&self) -> HeaderValue {
        let session = Session(rand::random());
        let (name, cookie) = (self.cookie_name(), self.cookie(session));
        let text = format!("{name}={cookie}; HttpOnly; SameSite=Strict; Path=/");
        HeaderValue::from_str(&text).expect("hex digits and plain words")
    }

    /// Returns the session whose cookie these headers have.
    #[must_use]
    pub fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = headers.get_all(header::COOKIE).iter();
        let cookies = cookies.filter_map(|line| line.to_str().ok());
        let pairs = cookies.flat_map(|line| line.split(';'));
        let name = self.cookie_name();
        let mut own = pairs.filter_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        });
        own.find_map(|cookie| self.session_of(cookie))
    }

    /// Returns what a form of this session must show.
    #[must_use]
    pub fn form_token(&self, session: Session) -> String {
        blake3::keyed_hash(&self.form_key, &session.0)
            .to_hex()
            .to_string()
    }

    /// Returns whether this is what a form of this session must show.
    #[must_use]
    pub fn takes(&self, session: Session, form_token: &str) -> bool {
        same(form_token, &self.form_token(session))
    }

    /// Checks where a request comes from, as far as browsers say.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Foreign> {
        let address = self.address.to_string();
        let mut hosts = headers.get_all(header::HOST).iter();
        let is_own = hosts
            .next()
            .is_some_and(|host| host.as_bytes() == address.as_bytes());
        if !is_own || hosts.next().is_some() {
            return Err(Foreign::Host);
        }
        if method == Method::GET || method == Method::HEAD {
            return Ok(());
        }
        let own = format!("http://{address}");
        let from_here = |origin: &HeaderValue| origin.as_bytes() == own.as_bytes();
        if !headers.get_all(header::ORIGIN).iter().all(from_here) {
            return Err(Foreign::Site);
        }
        let sites = headers.get_all("sec-fetch-site").iter();
        let mut sites = sites.map(HeaderValue::as_bytes);
        if sites.any(|site| site != b"same-origin") {
            return Err(Foreign::Site);
        }
        Ok(())
    }

    /// Browsers send cookies of all ports of a host: two nodes of one computer have names of their own.
    fn cookie_name(&self) -> String {
        format!("tally-{}", self.address.port())
    }

    fn cookie(&self, session: Session) -> String {
        let hash = blake3::keyed_hash(&self.session_key, &session.0);
        format!("{}{}", HEXLOWER.encode(&session.0), hash.to_hex())
    }

    fn session_of(&self, cookie: &str) -> Option<Session> {
        let number = cookie.get(..2 * SECRET_BYTES)?;
        let number = HEXLOWER.decode(number.as_bytes()).ok()?;
        let session = Session(number.try_into().ok()?);
        same(cookie, &self.cookie(session)).then_some(session)
    }
}

/// Compares without telling by the time it takes how much of it is right.
fn same(shown: &str, right: &str) -> bool {
    shown.as_bytes().ct_eq(right.as_bytes()).into()
}
