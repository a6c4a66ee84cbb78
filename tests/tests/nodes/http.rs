//! App servers over HTTP: orders for points, vouchers at shops, deliveries, and the contract of the OpenAPI document.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tally_node::keys::node_id;
use tally_protocol::id::{NodeId, OrderId};
use tally_protocol::points::Points;
use tally_protocol::redemption::Redeem;
use tally_tests::http::{Answer, Client};
use tally_tests::market::{OFFER, PRODUCT};
use tally_tests::net::Net;
use tally_tests::node::Node;
use tally_tests::raw::signed;
use tally_tests::run::Running;
use tokio::runtime::Runtime;

use crate::crash::free_address;
use crate::net;
use crate::redeeming::{UNITS, app_server, coordinator, earn};

/// What an owner of this test has: all that its terminal has earned.
const ALL: Points = Points::from_micro(UNITS * 1_000);
/// Redemptions of one balance, unless `TALLY_REDEMPTIONS` says how many.
const REDEMPTIONS: u32 = 10_000;
/// As many of them at a time.
const IN_FLIGHT: u32 = 256;

fn null() -> Value {
    Value::Null
}

fn euro(minor: u64) -> Value {
    json!({"currency": "EUR", "minor": minor})
}

/// An owner's signature under points for an order, as it goes over HTTP.
fn points(owner: &SigningKey, (coordinator, app_server): (NodeId, NodeId), order: &str) -> Value {
    let order: OrderId = order.parse().unwrap();
    let redeem = Redeem {
        owner: node_id(owner),
        coordinator,
        app_server,
        points: ALL,
        order,
        nonce: rand::random(),
        expires: tally_node::clock::now() + std::time::Duration::from_secs(86_400),
    };
    let redeem = BASE64.encode(signed(redeem, owner).as_bytes());
    json!({"points": [{"redeem": redeem}]})
}

fn id(answer: &Answer) -> String {
    let json = answer.json();
    let id = json["id"].as_str();
    id.unwrap_or_else(|| panic!("{json}")).to_owned()
}

/// An app server that sells, and that has agreed with a coordinator.
fn start_app_server(net: &Net, price: &str) -> Node {
    net.certify_app_server("shop");
    let mut node = app_server(net, "/ip4/127.0.0.1/tcp/0").start();
    net.sell(("shop", &mut node), price);
    node
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story from work to the shop")]
fn points_become_a_voucher_that_one_shop_takes_once() {
    let mut net = net();
    let mut coordinator = coordinator(&net, &free_address(&net)).start();
    net.bootstrap(&mut coordinator);
    let mut app_server = start_app_server(&net, "1.00 EUR");
    let partners = (("shop", &mut app_server), ("coordinator", &mut coordinator));
    net.agree(partners.0, partners.1, "10.00 EUR");
    let owner = earn(&net, &mut coordinator);
    let me = node_id(&owner).to_string();
    let user = net.token("shop", &["--kind", "user", "--owner", &me]);
    let shops =
        ["corner", "station"].map(|name| net.token("shop", &["--kind", "shop", "--name", name]));
    let nodes = (coordinator.id(), app_server.id());
    let at = app_server.http();
    let runtime = Runtime::new().unwrap();
    let voucher = runtime.block_on(async {
        let client = Client::new(at, &user);
        let wish = json!({"wish": {"voucher": {"offer": OFFER, "fee": euro(150)}}});
        let order = id(&client.ask("POST /v1/orders", "1", &wish).await);
        let body = points(&owner, nodes, &order);
        let route = format!("POST /v1/orders/{order}/redeem");
        let redeemed = client.ask(&route, "", &body).await;
        let shown = redeemed.json();
        assert_eq!(
            (redeemed.status, &shown["phase"]),
            (200, &json!("fulfilled")),
            "{shown}"
        );
        assert_eq!((&shown["discount"], &shown["due"]), (&euro(100), &euro(0)));
        let again = client.ask(&route, "", &body).await;
        assert_eq!(
            (again.status, again.json()),
            (200, shown.clone()),
            "asked again"
        );
        let other = points(&owner, nodes, &order);
        assert_eq!(client.ask(&route, "", &other).await.code(), "taken");
        let user = client
            .ask(&format!("GET /v1/users/{me}"), "", &null())
            .await;
        assert_eq!(user.json()["owner"], me.as_str());
        shown["voucher"].as_str().unwrap().to_owned()
    });
    runtime.block_on(async {
        let corner = Client::new(at, &shops[0]);
        let station = Client::new(at, &shops[1]);
        let route = "POST /v1/vouchers/use";
        let body = json!({"voucher": voucher, "fee": euro(150)});
        for _ in 0..2 {
            let used = corner.ask(route, "invoice 7", &body).await;
            let split = json!({"due": euro(50), "charged": euro(100)});
            assert_eq!((used.status, used.json()), (200, split));
        }
        for (shop, key, code) in [
            (&corner, "invoice 8", "voucher_used"),
            (&station, "invoice 7", "voucher_used"),
        ] {
            assert_eq!(shop.ask(route, key, &body).await.code(), code, "{key}");
        }
        let more = json!({"voucher": voucher, "fee": euro(200)});
        assert_eq!(
            corner.ask(route, "invoice 7", &more).await.code(),
            "key_used"
        );
    });
    net.say("shop", &["app", "token", "revoke", "corner"]);
    let late = async {
        Client::new(at, &shops[0])
            .ask("POST /v1/vouchers/use", "1", &null())
            .await
    };
    assert_eq!(runtime.block_on(late).status, 401);
    let said = net.say("shop", &["status"]);
    assert_eq!(said["http"], at.to_string());
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story from the archive to the program"
)]
fn a_delivery_installs_in_an_empty_home_and_only_as_it_was_signed() {
    let net = net();
    let mut app_server = start_app_server(&net, "1.00 EUR");
    let at = app_server.http();
    let runtime = Runtime::new().unwrap();
    let archive = runtime.block_on(async {
        let client = Client::new(at, "");
        client
            .ask(&format!("GET /get/{PRODUCT}"), "", &null())
            .await
    });
    assert_eq!(archive.status, 200);
    let archive = net.write("photo.tar.gz", &archive.bytes);
    let unpacked = net.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(&archive).arg("-C").arg(&unpacked);
    assert!(tar.status().unwrap().success());
    let (delivery, home) = (unpacked.join(PRODUCT), net.path("home"));
    fs::create_dir(&home).unwrap();
    let install = |args: &[&str]| {
        let mut command = Command::new("/bin/sh");
        command.arg(delivery.join("install.sh")).args(args);
        // Nothing of the test's: no tally, no user.
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.env("HOME", &home).current_dir("/");
        command.stdin(Stdio::null());
        Running::start(&mut command).wait()
    };
    let refused = install(&["--no-enroll"]);
    assert_eq!(refused.exit(), 1, "without consent");
    assert!(
        refused.stderr.contains("nothing was changed"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    // Another application with the hashes put right: only the signature shows it.
    let application = delivery.join("application");
    let signed = fs::read(&application).unwrap();
    fs::write(&application, "#!/bin/sh\necho something else\n").unwrap();
    let refused = install(&["--yes", "--no-enroll"]);
    assert!(
        refused.stderr.contains("not those of the manifest"),
        "{}",
        refused.stderr
    );
    sum(&delivery);
    let refused = install(&["--yes", "--no-enroll"]);
    assert!(
        refused.stderr.contains("not signed by the app server"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    fs::write(&application, signed).unwrap();
    sum(&delivery);
    for _ in 0..2 {
        let installed = install(&["--yes", "--no-enroll"]).done();
        assert!(
            installed.text().contains("run --role terminal"),
            "{}",
            installed.text()
        );
    }
    let tally = home.join(".local/bin/tally");
    let version = Running::start(Command::new(&tally).arg("--version"))
        .wait()
        .done();
    assert!(version.text().starts_with("tally "), "{}", version.text());
    let me = app_server.id().to_string();
    let path = delivery.to_str().unwrap();
    let _ = net
        .run(&["app", "verify", path, "--app-server", &me])
        .done();
    let other = net.new_key("other").to_string();
    assert_eq!(
        net.run(&["app", "verify", path, "--app-server", &other])
            .exit(),
        1
    );
    app_server.stop();
}

/// Writes the hashes of a delivery anew.
fn sum(delivery: &Path) {
    let script = "cut -c 67- sha256sums | xargs sha256sum >new && mv new sha256sums";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(delivery);
    assert!(command.status().unwrap().success());
}

#[test]
fn the_contract_holds_whatever_is_asked() {
    let Some(packages) = std::env::var_os("TALLY_CONTRACT") else {
        eprintln!(
            "not run: TALLY_CONTRACT does not name a folder with the Python packages schemathesis and \
             openapi-spec-validator; tests/all makes one"
        );
        return;
    };
    let net = net();
    let mut app_server = start_app_server(&net, "1.00 EUR");
    let at = app_server.http();
    let owner = net.new_key("owner").to_string();
    let tokens = [
        net.token("shop", &["--kind", "operator", "--name", "web"]),
        net.token("shop", &["--kind", "shop", "--name", "corner"]),
        net.token("shop", &["--kind", "user", "--owner", &owner]),
    ];
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/http/contract.py");
    let mut command = net.command("python3");
    command
        .arg(script)
        .arg(format!("http://{at}"))
        .args(&tokens);
    command.env("PYTHONPATH", packages);
    let ran = Running::start(&mut command).wait();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(ran.exit(), 0, "{said}\n{}", ran.stderr);
    eprintln!("{said}");
    app_server.stop();
}

/// Where redemptions of one balance go, and what comes of them.
struct Race {
    owner: SigningKey,
    coordinator: NodeId,
    shops: Vec<(NodeId, SocketAddr, String)>,
    next: AtomicU32,
    all: u32,
}

impl Race {
    /// Opens orders and redeems all points for each until as many were redeemed as are to be.
    async fn run(self: Arc<Self>) -> BTreeMap<(u16, String), u32> {
        let mut outcomes = BTreeMap::new();
        let mut clients = Vec::new();
        for (_, at, token) in &self.shops {
            clients.push(Client::new(*at, token));
        }
        loop {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            if turn >= self.all {
                return outcomes;
            }
            let place = turn as usize % self.shops.len();
            let (client, app_server) = (&clients[place], self.shops[place].0);
            let wish = json!({"wish": {"license": {"product": PRODUCT}}});
            let opened = client
                .ask("POST /v1/orders", &turn.to_string(), &wish)
                .await;
            let order = id(&opened);
            let body = points(&self.owner, (self.coordinator, app_server), &order);
            let route = format!("POST /v1/orders/{order}/redeem");
            let mut redeemed = client.ask(&route, "", &body).await;
            // It goes on: the same points again have the same answer.
            while redeemed.status == 202 {
                redeemed = client.ask(&route, "", &body).await;
            }
            *outcomes
                .entry((redeemed.status, redeemed.code()))
                .or_default() += 1;
        }
    }
}

#[test]
fn of_many_redemptions_of_one_balance_at_two_app_servers_one_wins() {
    let all = std::env::var("TALLY_REDEMPTIONS").map_or(REDEMPTIONS, |text| text.parse().unwrap());
    let mut net = net();
    let mut coordinator = coordinator(&net, &free_address(&net)).start();
    net.bootstrap(&mut coordinator);
    let mut nodes = Vec::new();
    for name in ["shop", "kiosk"] {
        net.certify_app_server(name);
        let start = net.node(name, "app-server").loopback();
        let mut node = start
            .config("[app_server]\nhttp = \"127.0.0.1:0\"\n")
            .start();
        net.sell((name, &mut node), "1.00 EUR");
        net.agree(
            (name, &mut node),
            ("coordinator", &mut coordinator),
            "10.00 EUR",
        );
        nodes.push((name, node));
    }
    let owner = earn(&net, &mut coordinator);
    let me = node_id(&owner).to_string();
    let shops = nodes.iter_mut().map(|(name, node)| {
        let token = net.token(name, &["--kind", "user", "--owner", &me]);
        (node.id(), node.http(), token)
    });
    let race = Arc::new(Race {
        owner,
        coordinator: coordinator.id(),
        shops: shops.collect(),
        next: AtomicU32::new(0),
        all,
    });
    let start = std::time::Instant::now();
    let outcomes = Runtime::new().unwrap().block_on(async {
        let runs = (0..IN_FLIGHT).map(|_| tokio::spawn(Arc::clone(&race).run()));
        let mut found: BTreeMap<(u16, String), u32> = BTreeMap::new();
        for run in runs.collect::<Vec<_>>() {
            for (outcome, count) in run.await.unwrap() {
                *found.entry(outcome).or_default() += count;
            }
        }
        found
    });
    eprintln!("{all} redemptions in {:?}: {outcomes:?}", start.elapsed());
    let won = (200, String::new());
    let lost = (409, "too_few_points".to_owned());
    let expected = BTreeMap::from([(won, 1), (lost, all - 1)]);
    assert_eq!(outcomes, expected);
    for name in ["coordinator", "shop", "kiosk"] {
        let report = net.say(name, &["ledger", "audit"]);
        assert_eq!(report["finding"], Value::Null, "{name}: {report}");
    }
}
