//! The routes over a real app server with a store of its own; its network is alone.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use ed25519_dalek::SigningKey;
use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tally_ledger::store::{Identity, Store};
use tally_protocol::app_server::{AppServerConfig, Command as Order, Product};
use tally_protocol::issuer::{Issuer, IssuerCertificate};
use tally_protocol::license::{License, LicenseTerms, StatusList};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::ServiceExt;

use super::tokens::{Bearer, Tokens};
use super::*;
use crate::app_server::{self, Message, Shell};
use crate::blobs::{Access, BlobStore, StoreLimits};
use crate::clock;
use crate::delivery::{self, CheckError};
use crate::keys::node_id;
use crate::network::{Network, NetworkConfig, NetworkLimits};
use crate::web::Listener;

const APPLICATION: &[u8] = b"#!/bin/sh\necho photo desk\n";
const WEBHOOK: [u8; 32] = [9; 32];

/// An app server that answers requests of the test.
struct Shop {
    router: Router,
    tokens: Tokens,
    mailbox: mpsc::Sender<Message>,
    shell: JoinHandle<()>,
    _network: Network,
}

/// An answer.
struct Said {
    status: StatusCode,
    bytes: Vec<u8>,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// The status and, of a refusal, the code.
    fn outcome(&self) -> (u16, String) {
        let json: Value = serde_json::from_slice(&self.bytes).unwrap_or_default();
        let code = json["error"]["code"].as_str().unwrap_or_default();
        (self.status.as_u16(), code.to_owned())
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_bytes(&[byte; 32])
}

fn network_id() -> NetworkId {
    "home".parse().unwrap()
}

fn issuer() -> (Issuer, String) {
    let certificate = IssuerCertificate {
        issuer: node_id(&key(2)),
        app_server: node_id(&key(1)),
        vendor: "Photo Works".to_owned(),
        not_before: Timestamp::default(),
        not_after: Timestamp::from_millis(1 << 42),
        serial: 1,
    };
    let certificate = Verified::sign(certificate, &network_id(), &key(3));
    let text = certificate.signed().to_text();
    (
        Issuer::new(key(2), certificate, network_id()).unwrap(),
        text,
    )
}

fn product(bundle: BlobRef) -> Product {
    Product {
        id: "photo".parse().unwrap(),
        name: "Photo desk".to_owned(),
        price: "12.50 EUR".parse().unwrap(),
        terms: LicenseTerms {
            product: "photo".parse().unwrap(),
            entitlements: Vec::new(),
            life_seconds: 86_400,
            grace_seconds: 3_600,
            status_max_age_seconds: 3_600,
            renewal: None,
        },
        bundle,
        launch: vec!["photo-desk".to_owned()],
        enrolment_seconds: 86_400,
    }
}

impl Shop {
    /// Starts on a folder, which may have been used before.
    #[expect(clippy::too_many_lines, reason = "everything that an app server has")]
    async fn start(folder: &Path) -> Self {
        let config = NetworkConfig {
            key: key(1),
            network: network_id(),
            roles: Vec::new(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            external: vec!["/ip4/192.0.2.1/tcp/4810".parse().unwrap()],
            bootstrap: Vec::new(),
            mdns: false,
            saved_peers: None,
            limits: NetworkLimits::default(),
        };
        let (network, mut events) = Network::start(config).unwrap();
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        let me = node_id(&key(1));
        let (issuer, certificate) = issuer();
        let identity = Identity {
            network: network_id(),
            node: me,
        };
        let store = folder.join("app-server.redb");
        let store = Store::create_or_open(&store, &identity, clock::now()).unwrap();
        let blobs = folder.join("applications");
        fs::create_dir_all(&blobs).unwrap();
        let bytes_max = 1 << 30;
        let blobs = BlobStore::open(&blobs, StoreLimits { bytes_max }).unwrap();
        let (mailbox, messages) = mpsc::channel(app_server::MAILBOX_MAX);
        let desk = Desk::new(mailbox.clone());
        let tokens = Tokens::load(&store, desk.clone()).unwrap();
        let shell = Shell::start(app_server::Setup {
            config: AppServerConfig {
                me,
                key: key(1),
                network: network_id(),
                issuer,
                pay_within: Duration::from_secs(3_600),
                status_every: Duration::from_secs(3_600),
            },
            key: key(1),
            store,
            blobs: blobs.clone(),
            access: Access::new(me, network_id()),
            snapshot_every: 1_000,
            network: network.clone(),
            mailbox: mailbox.clone(),
        });
        let shell = shell.unwrap();
        let shell = tokio::spawn(async move { shell.run(messages).await.unwrap() });
        let application = product(blobs.put(APPLICATION).unwrap());
        let offered = desk.command(Order::Offer(Box::new(application)));
        offered.await.unwrap();
        let program = folder.join("program");
        fs::write(&program, "a program").unwrap();
        let setup = Setup {
            listen: "127.0.0.1:0".parse().unwrap(),
            url: None,
            desk,
            tokens: tokens.clone(),
            network: network_id(),
            issuer: certificate,
            webhook: WebhookKey::new(WEBHOOK),
            delivery: Arc::new(Delivery::new(key(1), network.clone(), blobs, program)),
        };
        Self {
            router: router(setup),
            tokens,
            mailbox,
            shell,
            _network: network,
        }
    }

    async fn stop(self) {
        self.mailbox.send(Message::Stop).await.unwrap();
        self.shell.await.unwrap();
    }

    /// Makes a token.
    async fn token(&self, name: &str, bearer: Bearer) -> String {
        let made = self.tokens.create(name, bearer).await.unwrap();
        made.text().to_owned()
    }

    async fn user(&self, byte: u8) -> String {
        let owner = owner(byte);
        self.token(&format!("user {byte}"), Bearer::User { owner })
            .await
    }

    async fn ask(&self, route: &str, headers: &[(&str, &str)], body: &[u8]) -> Said {
        let (method, path) = route.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_vec())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let bytes = bytes.to_vec();
        Said { status, bytes }
    }

    /// Asks with a token and an idempotency key.
    async fn asks(&self, token: &str, key: &str, route: &str, body: &Value) -> Said {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        self.ask(route, &headers, body.to_string().as_bytes()).await
    }

    /// Opens an order for a license and returns its id.
    async fn order(&self, token: &str, key: &str) -> String {
        let said = self.asks(token, key, "POST /v1/orders", &wish()).await;
        assert_eq!(said.status, 200, "{}", said.text());
        said.json()["id"].as_str().unwrap().to_owned()
    }
}

fn owner(byte: u8) -> tally_protocol::id::NodeId {
    node_id(&key(byte))
}

fn wish() -> Value {
    json!({"wish": {"license": {"product": "photo"}}})
}

fn euro(minor: u64) -> Value {
    json!({"currency": "EUR", "minor": minor})
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of all routes")]
async fn each_route_shows_only_what_its_bearer_may_see() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let operator = shop.token("web", Bearer::Operator).await;
    let till = shop.token("till", Bearer::Shop).await;
    let (own, other) = (shop.user(20).await, shop.user(21).await);
    let bearers = [
        "",
        "tally-0000000000000000000000000000000000000000000",
        &operator,
        &till,
        &own,
        &other,
    ];
    let order = shop.order(&own, "1").await;
    let paid = shop.order(&own, "2").await;
    let pay = json!({"reference": "bank 1"});
    let route = format!("POST /v1/orders/{paid}/payment");
    let said = shop.asks(&operator, "", &route, &pay).await;
    let text = said.json()["license"].as_str().unwrap().to_owned();
    let license = Signed::<License>::from_text(&text).unwrap();
    let license = license.verify(&network_id()).unwrap().id;
    let owner = owner(20);
    let of = |path: &str| path.replace("ORDER", &order);
    let (unauthorized, forbidden) = ((401, "unauthorized"), (403, "forbidden"));
    let (unknown_order, ok) = ((404, "unknown_order"), (200, ""));
    let points = json!({"points": []});
    let invalid = (422, "invalid");
    let none = [unauthorized, unauthorized];
    let use_it = json!({"voucher": "", "fee": euro(1)});
    // Who asks: nobody, somebody with a wrong token, the operator, a shop, the owner, another user.
    let rows = [
        (
            "POST /v1/orders".to_owned(),
            wish(),
            [(400, "bad_request"), forbidden, ok, ok],
        ),
        (
            of("GET /v1/orders/ORDER"),
            Value::Null,
            [ok, unknown_order, ok, unknown_order],
        ),
        (
            of("POST /v1/orders/ORDER/redeem"),
            points,
            [invalid, unknown_order, invalid, unknown_order],
        ),
        (
            of("POST /v1/orders/ORDER/cancel"),
            Value::Null,
            [ok, unknown_order, ok, unknown_order],
        ),
        (
            of("POST /v1/orders/ORDER/payment"),
            json!({"reference": "bank 2"}),
            [(409, "wrong_phase"), forbidden, forbidden, forbidden],
        ),
        (
            format!("GET /v1/users/{owner}"),
            Value::Null,
            [ok, (404, "unknown_user"), ok, (404, "unknown_user")],
        ),
        (
            format!("GET /v1/licenses/{license}"),
            Value::Null,
            [ok, (404, "unknown_license"), ok, (404, "unknown_license")],
        ),
        (
            "POST /v1/vouchers/use".to_owned(),
            use_it,
            [forbidden, (400, "bad_request"), forbidden, forbidden],
        ),
        (
            "POST /v1/invites".to_owned(),
            json!({"product": "photo"}),
            [ok, forbidden, forbidden, forbidden],
        ),
    ];
    for (route, body, expected) in rows {
        let expected = none.into_iter().chain(expected);
        for (bearer, (status, code)) in bearers.iter().zip(expected) {
            let said = shop.asks(bearer, "9", &route, &body).await;
            let outcome = said.outcome();
            assert_eq!(outcome, (status, code.to_owned()), "{route} {bearer}");
        }
    }
    for route in [
        "/healthz",
        "/openapi.json",
        "/v1/catalogue",
        "/v1/products/photo",
        "/v1/status-list",
        "/v1/issuer",
        "/get/photo",
    ] {
        let said = shop.ask(&format!("GET {route}"), &[], b"").await;
        assert_eq!(said.status, 200, "{route}: everybody may see it");
    }
    shop.stop().await;
}

#[tokio::test]
async fn what_is_unknown_looks_like_what_is_somebody_elses() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let (own, other) = (shop.user(20).await, shop.user(21).await);
    let order = shop.order(&own, "1").await;
    let never = "00".repeat(16);
    for rest in ["", "/redeem", "/cancel"] {
        let method = if rest.is_empty() { "GET" } else { "POST" };
        let body = json!({"points": []});
        let mut answers = Vec::new();
        for id in [order.as_str(), &never, "nonsense", "%2e%2e"] {
            let route = format!("{method} /v1/orders/{id}{rest}");
            answers.push(shop.asks(&other, "", &route, &body).await.bytes);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{rest}");
    }
    shop.stop().await;
}

#[tokio::test]
async fn an_order_that_is_paid_becomes_a_license() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let operator = shop.token("web", Bearer::Operator).await;
    let own = shop.user(20).await;
    let catalogue = shop.ask("GET /v1/catalogue", &[], b"").await.json();
    assert_eq!(catalogue["products"][0]["price"], euro(1_250));
    let opened = shop
        .asks(&own, "a", "POST /v1/orders", &wish())
        .await
        .json();
    assert_eq!(
        (&opened["phase"], &opened["fee"], &opened["due"]),
        (&json!("open"), &euro(1_250), &euro(1_250))
    );
    let again = shop.order(&own, "a").await;
    assert_eq!(opened["id"], again, "the same key is the same order");
    let renewal = json!({"wish": {"renewal": {"license": "00".repeat(16)}}});
    let said = shop.asks(&own, "a", "POST /v1/orders", &renewal).await;
    assert_eq!(said.outcome(), (409, "key_used".to_owned()));
    let wanted = json!({"owner": owner(20), "wish": wish()["wish"]});
    let said = shop.asks(&operator, "a", "POST /v1/orders", &wanted).await;
    assert_eq!(said.json()["id"], again, "keys are those of the owner");
    let route = format!("POST /v1/orders/{again}/payment");
    for _ in 0..2 {
        let payment = json!({"reference": "bank 1"});
        let paid = shop.asks(&operator, "", &route, &payment).await.json();
        assert_eq!(paid["phase"], "fulfilled");
        let text = paid["license"].as_str().unwrap();
        let license = Signed::<License>::from_text(text).unwrap();
        let license = license.verify(&network_id()).unwrap();
        let route = format!("GET /v1/licenses/{}", license.id);
        let shown = shop.asks(&own, "", &route, &Value::Null).await.json();
        assert_eq!(
            (&shown["status"], &shown["license"]),
            (&json!("valid"), &paid["license"])
        );
    }
    let list = shop.ask("GET /v1/status-list", &[], b"").await;
    let list = Signed::<StatusList>::from_text(list.text()).unwrap();
    list.verify(&network_id()).unwrap();
    shop.stop().await;
}

#[tokio::test]
async fn a_payment_service_is_believed_if_it_signs_and_only_for_what_is_due() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let own = shop.user(20).await;
    let (order, next) = (shop.order(&own, "1").await, shop.order(&own, "2").await);
    let webhook = WebhookKey::new(WEBHOOK);
    let told = |order: &str, reference: &str, minor: u64| {
        json!({"order": order, "reference": reference, "amount": euro(minor)}).to_string()
    };
    let tell = async |header: String, body: String| {
        let headers = [("tally-signature", header.as_str())];
        let said = shop.ask("POST /v1/webhooks/payment", &headers, body.as_bytes());
        said.await.outcome()
    };
    let signed = |body: &str| webhook.sign(clock::now(), body.as_bytes());
    let paid = told(&order, "card 7", 1_250);
    let too_little = told(&order, "card 7", 1_249);
    let of_other = told(&next, "card 7", 1_250);
    let old = Timestamp::from_millis(clock::now().as_millis() - 301_000);
    let rows = [
        (
            signed(&too_little),
            too_little.clone(),
            (409, "other_amount"),
        ),
        (String::new(), paid.clone(), (401, "unauthorized")),
        (signed(&too_little), paid.clone(), (401, "unauthorized")),
        (
            webhook.sign(old, paid.as_bytes()),
            paid.clone(),
            (401, "unauthorized"),
        ),
        (signed("{}"), "{}".to_owned(), (400, "bad_request")),
        (signed(&paid), paid.clone(), (200, "")),
        (signed(&paid), paid.clone(), (200, "")),
        (signed(&of_other), of_other.clone(), (409, "reference_used")),
    ];
    for (header, body, (status, code)) in rows {
        let outcome = tell(header, body.clone()).await;
        assert_eq!(outcome, (status, code.to_owned()), "{body}");
    }
    let route = format!("GET /v1/orders/{next}");
    let shown = shop.asks(&own, "", &route, &Value::Null).await.json();
    assert_eq!(shown["phase"], "open");
    shop.stop().await;
}

/// A request with its headers and body, and the status and code of its answer.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], (u16, &'a str));

#[tokio::test]
async fn requests_that_are_none_are_refused_with_a_code() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let own = shop.user(20).await;
    let bearer = format!("Bearer {own}");
    let own = [("authorization", bearer.as_str())];
    let keyed = [own[0], ("idempotency-key", "1")];
    let long_key = "k".repeat(65);
    let long_keyed = [own[0], ("idempotency-key", long_key.as_str())];
    let body = wish().to_string();
    let large = format!("{body}{}", " ".repeat(BODY_BYTES_MAX));
    let unknown_field = br#"{"wish": {"license": {"product": "photo", "gift": 1}}}"#;
    let unknown_product = br#"{"wish": {"license": {"product": "other"}}}"#;
    let rows: [Row<'_>; 11] = [
        ("GET /v2", &[], b"", (404, "not_found")),
        ("POST /v1/catalogue", &[], b"", (405, "method_not_allowed")),
        ("GET /v1/products/..%2f", &[], b"", (404, "unknown_product")),
        ("GET /v1/products/%ff", &[], b"", (400, "bad_request")),
        ("GET /get/other", &[], b"", (404, "unknown_product")),
        (
            "POST /v1/orders",
            &own,
            body.as_bytes(),
            (400, "idempotency_key_required"),
        ),
        (
            "POST /v1/orders",
            &long_keyed,
            body.as_bytes(),
            (400, "bad_request"),
        ),
        ("POST /v1/orders", &keyed, b"[1", (400, "bad_request")),
        (
            "POST /v1/orders",
            &keyed,
            unknown_field,
            (400, "bad_request"),
        ),
        (
            "POST /v1/orders",
            &keyed,
            unknown_product,
            (404, "unknown_product"),
        ),
        (
            "POST /v1/orders",
            &keyed,
            large.as_bytes(),
            (413, "too_large"),
        ),
    ];
    for (route, headers, body, (status, code)) in rows {
        let said = shop.ask(route, headers, body).await;
        assert_eq!(said.outcome(), (status, code.to_owned()), "{route}");
    }
    shop.stop().await;
}

#[tokio::test]
async fn tokens_are_kept_as_hashes_and_counted_until_they_are_revoked() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    let web = shop.token("web", Bearer::Operator).await;
    // One name is the start of the other.
    let website = shop.token("website", Bearer::Operator).await;
    let twice = shop.tokens.create("web", Bearer::Shop).await.unwrap_err();
    assert_eq!(twice, tokens::TokenError::Exists("web".to_owned()));
    shop.tokens.revoke("web").await.unwrap();
    let unknown = shop.tokens.revoke("web").await.unwrap_err();
    assert_eq!(unknown, tokens::TokenError::Unknown("web".to_owned()));
    shop.stop().await;
    let stored = fs::read(folder.path().join("app-server.redb")).unwrap();
    for secret in [&web, &website] {
        let found = stored
            .windows(secret.len())
            .any(|bytes| bytes == secret.as_bytes());
        assert!(!found, "no token is on the disk");
    }
    let shop = Shop::start(folder.path()).await;
    assert_eq!(shop.tokens.asker(&web), None);
    assert_eq!(shop.tokens.asker(&website).unwrap().name, "website");
    let listed: Vec<String> = shop.tokens.list().into_iter().map(|of| of.name).collect();
    assert_eq!(listed, ["website"]);
    shop.stop().await;
}

#[tokio::test]
async fn a_delivery_is_the_same_each_time_and_shows_any_change() {
    let folder = TempDir::new().unwrap();
    let shop = Shop::start(folder.path()).await;
    // The invitation changes at midnight.
    let day = || clock::now().as_millis() / 86_400_000;
    let (archive, again) = loop {
        let before = day();
        let one = shop.ask("GET /get/photo", &[], b"").await.bytes;
        let other = shop.ask("GET /get/photo", &[], b"").await.bytes;
        if day() == before {
            break (one, other);
        }
    };
    assert_eq!(archive, again);
    shop.stop().await;
    let unpacked = TempDir::new().unwrap();
    tar::Archive::new(GzDecoder::new(archive.as_slice()))
        .unpack(unpacked.path())
        .unwrap();
    let root = unpacked.path().join("photo");
    let checked = delivery::check(&root).unwrap();
    assert_eq!(checked.app_server, node_id(&key(1)));
    assert_eq!(
        checked.files,
        ["install.sh", "invite", "application", "tally"]
    );
    assert_eq!(fs::read(root.join("application")).unwrap(), APPLICATION);
    let summed = Command::new("sha256sum")
        .args(["-c", "--quiet", "sha256sums"])
        .current_dir(&root)
        .status();
    assert!(summed.unwrap().success());
    let mut head = Vec::new();
    let read = fs::File::open(root.join("install.sh")).unwrap();
    read.take(9).read_to_end(&mut head).unwrap();
    assert_eq!(head, b"#!/bin/sh");
    for name in ["tally", "install.sh", "invite", "application", "manifest"] {
        let path = root.join(name);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[40.min(whole.len() - 1)] ^= 1;
        for bytes in [
            changed,
            whole[..whole.len() - 2].to_vec(),
            [&whole[..], b"x"].concat(),
        ] {
            fs::write(&path, bytes).unwrap();
            assert!(delivery::check(&root).is_err(), "{name}");
        }
        fs::remove_file(&path).unwrap();
        let gone = delivery::check(&root);
        assert!(matches!(gone, Err(CheckError::Io { .. })), "{name}");
        fs::write(&path, whole).unwrap();
    }
    delivery::check(&root).unwrap();
}

#[tokio::test]
async fn the_documented_routes_are_those_of_the_code() {
    let (_, document) = routes();
    let mut here = Vec::new();
    for (path, item) in &document.paths.paths {
        here.extend(item.get.iter().map(|_| format!("GET {path}")));
        here.extend(item.post.iter().map(|_| format!("POST {path}")));
    }
    let page = include_str!("../../../docs/http.md");
    let written = page.lines().filter_map(|line| {
        let route = line.strip_prefix("| `")?.split('`').next()?;
        route.contains(" /").then(|| route.to_owned())
    });
    let mut written: Vec<String> = written.collect();
    here.sort();
    written.sort();
    assert_eq!(written, here);
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_has_begun_and_takes_no_more() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    let (begun, mut began) = mpsc::channel::<()>(1);
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let slow = Router::new().fallback(async move || {
        begun.send(()).await.unwrap();
        drop(open.acquire().await.unwrap());
        "late"
    });
    let bounds = Bounds {
        connections_max: 4,
        requests_max: 4,
        request_time_max: Duration::from_secs(10),
    };
    let server = listener.serve(slow, bounds);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    stream.write_all(request).await.unwrap();
    began.recv().await.unwrap();
    let stopping = tokio::spawn(server.stop());
    gate.add_permits(1);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("late"),
        "{answer}"
    );
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
