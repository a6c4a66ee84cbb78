//! Somebody who asks an app server over HTTP.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::net::Net;
use crate::node::Node;

/// Somebody with a token, or without. Each question has a connection of its own: one that was silent for long is closed.
#[derive(Debug, Clone)]
pub struct Client {
    address: SocketAddr,
    token: String,
}

/// What it is answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub bytes: Bytes,
}

impl Client {
    /// Takes an address and a token; an empty one is none.
    #[must_use]
    pub fn new(address: SocketAddr, token: &str) -> Self {
        let token = token.to_owned();
        Self { address, token }
    }

    /// Asks `METHOD /path`, with an idempotency key, and with a body unless it is null.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn ask(&self, route: &str, key: &str, body: &Value) -> Answer {
        let (method, path) = route.split_once(' ').unwrap();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("idempotency-key", key);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request = request.body(Full::from(body)).unwrap();
        let answered = async {
            let mut sender = handshake(self.address).await;
            let response = sender.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            Answer { status, bytes }
        };
        timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| panic!("{route} was not answered"))
    }
}

async fn handshake(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

impl Answer {
    /// Reads the body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.bytes))
    }

    /// Returns the code of a refusal.
    #[must_use]
    pub fn code(&self) -> String {
        let code = &self.json()["error"]["code"];
        code.as_str().unwrap_or_default().to_owned()
    }
}

impl Node {
    /// Returns where an app server answers HTTP.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn http(&mut self) -> SocketAddr {
        self.status().http.unwrap()
    }
}

impl Net {
    /// Makes a bearer token at the app server in the folder `name`.
    #[track_caller]
    pub fn token(&self, name: &str, args: &[&str]) -> String {
        let all = [&["app", "token", "new"], args].concat();
        let made = self.say(name, &all);
        made["token"].as_str().unwrap().to_owned()
    }
}
