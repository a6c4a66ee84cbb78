//! What an owner types and starts: enrols, works for a goal, redeems, starts the application with its license.

use std::path::Path;

use serde_json::Value;
use tally_node::admin::Request;
use tally_node::keys;
use tally_node::member::steward::GoalStatus;
use tally_protocol::account::Money;
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::Fund;
use tally_protocol::id::{NodeId, PostingId};
use tally_protocol::license::Code;
use tally_protocol::message::customer::TaskStatus;
use tally_tests::job::Job;
use tally_tests::market::{OFFER, PRODUCT};
use tally_tests::net::{NETWORK, Net};
use tally_tests::node::Node;
use tally_tests::run::{Ran, Running};
use tally_tests::until;

use crate::net;

/// A point is worth 10 EUR, so that a small unit, 1,000 upt, is worth a cent; no escrow.
const RATES: &str = "[coordinator.rates]\nprice = \"20.00 EUR\"\nreserve = \"10.00 EUR\"\nper_points = 1\n\
                     escrow_percent = 0\nlot_seconds = 1\n";
/// Units of a job: as many cents.
const UNITS: usize = 40;

/// A coordinator, an app server that sells the example application for 20 cents, and the vendor's root key.
struct Shop {
    net: Net,
    coordinator: Node,
    /// Runs as long as this.
    _app_server: Node,
    root: String,
}

impl Shop {
    fn open() -> Self {
        let mut net = net();
        let mut coordinator = net.coordinator("coordinator").config(RATES).start();
        net.bootstrap(&mut coordinator);
        net.certify_app_server("shop");
        let http = "[app_server]\nhttp = \"127.0.0.1:0\"\n";
        let node = net.node("shop", "app-server").loopback().config(http);
        let mut app_server = node.start();
        net.sell(("shop", &mut app_server), "0.20 EUR");
        let application = env!("CARGO_BIN_EXE_licensed-app-under-test");
        let add = ["app", "product", "add", PRODUCT, "--name", "Photo desk"];
        let terms = ["--price", "0.20 EUR", "--file", application];
        let renewal = ["--renew-points", "0.005", "--renew-days", "30"];
        net.say("shop", &[add.as_slice(), &terms, &renewal].concat());
        net.agree(
            ("shop", &mut app_server),
            ("coordinator", &mut coordinator),
            "10.00 EUR",
        );
        let shown = net.say("shop", &["key", "vendor", "show"]);
        let root = find_id(&shown).expect("the id of the vendor's key");
        Self {
            net,
            coordinator,
            _app_server: app_server,
            root,
        }
    }

    /// Returns an invitation, as a file.
    fn invite(&mut self) -> String {
        let path = self.net.path("invite");
        let path = path.to_str().unwrap().to_owned();
        self.net
            .say("shop", &["app", "invite", PRODUCT, "--out", &path]);
        path
    }

    /// Has units done that are worth as many cents.
    fn work(&mut self, name: &str) {
        let customer = self.net.new_key(name);
        let request = Request::Move {
            movement: Movement::Deposit(Fund::Customer(customer)),
            money: Money {
                currency: "EUR".parse().unwrap(),
                minor: 10_000,
            },
            reference: name.to_owned(),
        };
        let _: PostingId = self.coordinator.answer(&request);
        let job = Job::builtin("wordcount")
            .text(&"word\n".repeat(UNITS))
            .split("by = \"lines\"\nlines = 1")
            .agree(1)
            .table("limits", "fuel = 1_000_000\noutput = \"100 B\"");
        let done = self.net.submit(name, &job).wait().done();
        let _: TaskStatus = done.json();
    }

    /// Waits until the app server knows all that a computer has earned.
    fn until_told(&self, terminal: &mut Node) {
        let owner = terminal.id().to_string();
        until("the points to be told", || {
            let user = self.net.say("shop", &["app", "user", "show", &owner]);
            let told = user["points"][0]["spendable"].as_u64();
            (told == u64::try_from(UNITS * 1_000).ok()).then_some(())
        });
    }

    /// Starts the application of the computer `name` over a picture.
    fn start(&self, name: &str) -> Ran {
        let picture = self.net.path("picture.png");
        let pixels = vec![200; 300 * 2 * 4];
        let picture_of = tally_imaging::Picture::new(300, 2, pixels).unwrap();
        let file = std::fs::File::create(&picture).unwrap();
        tally_imaging::encode_png(&picture_of, file).unwrap();
        let folder = self.net.path(name);
        let mut command = self
            .net
            .tally(&["start", "--dir", folder.to_str().unwrap()]);
        command.args([PRODUCT, "--root", &self.root, "--network", NETWORK]);
        command.arg(picture).arg(self.net.path("small.png"));
        Running::start(&mut command).wait()
    }
}

/// Returns the first id in what a command says.
fn find_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.parse::<NodeId>().ok().map(|_| text.clone()),
        Value::Object(fields) => fields.values().find_map(find_id),
        Value::Array(items) => items.iter().find_map(find_id),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn goal(node: &mut Node) -> Option<GoalStatus> {
    let memberships = node.status().memberships;
    memberships.into_iter().find_map(|known| known.goal)
}

fn write_config(net: &Net, name: &str) {
    let table = format!("[terminal]\nslots = 1\ngoal = \"{PRODUCT}\"\n");
    net.write(&format!("{name}/tally.toml"), table);
}

#[test]
fn a_terminal_earns_its_goal_and_the_application_starts_until_the_license_is_revoked() {
    let mut shop = Shop::open();
    let invite = shop.invite();
    write_config(&shop.net, "terminal");
    let refused = shop.net.said("terminal", &["enroll", &invite]);
    assert_eq!(refused.failure().exit, 2, "nobody is there to agree");
    let enrolled = shop.net.say("terminal", &["enroll", &invite, "--yes"]);
    assert_eq!(enrolled["root"], shop.root.as_str());
    let delivered = shop.net.path("terminal/applications/photo/app");
    assert!(delivered.join("licensed-app-under-test").is_file());
    let config = std::fs::read_to_string(shop.net.path("terminal/tally.toml")).unwrap();
    assert!(config.contains("network = \"test\""), "{config}");
    assert_eq!(shop.start("terminal").exit(), 3, "there is no license");

    let mut terminal = shop.net.node("terminal", "terminal").start();
    until("the goal to be shown", || goal(&mut terminal));
    shop.work("customer");
    let reached = until("the license", || {
        goal(&mut terminal).filter(|goal| goal.license.is_some())
    });
    assert_eq!(reached.license, Some(Code::Valid), "{reached:?}");
    assert_eq!(reached.state, "reached");
    let ran = shop.start("terminal").done();
    assert_eq!(ran.stderr, "");
    let small = std::fs::read(shop.net.path("small.png")).unwrap();
    assert!(small.starts_with(b"\x89PNG"));

    // Bought once, also after a restart.
    terminal.stop();
    let mut terminal = shop.net.node("terminal", "terminal").start();
    until("the license to be known", || {
        goal(&mut terminal).filter(|goal| goal.license == Some(Code::Valid))
    });
    let orders = shop.net.say("shop", &["app", "order", "list"]);
    assert_eq!(orders.as_array().map(Vec::len), Some(1), "{orders}");

    shop.refuse_after_revocation("terminal");
    drop(terminal);
}

impl Shop {
    /// A copy on another computer, a clock that was set back, a revocation.
    fn refuse_after_revocation(&self, name: &str) {
        let license = self.net.path(&format!("{name}/licenses/photo.license"));
        let (file, root) = (license.to_str().unwrap(), self.root.as_str());
        let verify = ["license", "verify", file, "--root", root];
        assert_eq!(self.net.say(name, &verify)["code"], "valid");
        keys::create(
            &self
                .net
                .write("elsewhere/format.tmp", "")
                .with_file_name("key"),
        )
        .unwrap();
        let elsewhere = self.net.said("elsewhere", &verify);
        let said: Value = elsewhere.json();
        assert_eq!(
            (said["code"].as_str(), elsewhere.exit()),
            (Some("device_mismatch"), 6)
        );
        let other = NodeId::from_bytes([1; 32]).to_string();
        let pinned = ["license", "verify", file, "--root", &other];
        let said: Value = self.net.said(name, &pinned).json();
        assert_eq!(said["code"], "unknown_key");

        let seen = self.net.path(".photo-seen");
        let before = std::fs::read_to_string(&seen).unwrap();
        let later = before.trim().parse::<u64>().unwrap() + 10 * 3_600_000;
        std::fs::write(&seen, later.to_string()).unwrap();
        self.assert_refused(name, "clock_rollback");
        std::fs::write(&seen, before).unwrap();

        let shown = self.net.say(name, &["license", "show", PRODUCT]);
        let id = shown[0]["license"]["id"].as_str().unwrap().to_owned();
        self.net.say("shop", &["app", "license", "revoke", &id]);
        let said = self.net.say(name, &["license", "apply", PRODUCT]);
        assert_eq!(said[0]["code"], "revoked");
        self.assert_refused(name, "revoked");
    }

    #[track_caller]
    fn assert_refused(&self, name: &str, code: &str) {
        let ran = self.start(name);
        assert_eq!(ran.exit(), 3, "{}", ran.stderr);
        assert!(ran.stderr.contains(code), "{}", ran.stderr);
    }
}

#[test]
fn an_owner_redeems_by_hand_and_pays_the_rest_while_the_node_runs_or_not() {
    let mut shop = Shop::open();
    let invite = shop.invite();
    // The node runs already: the command goes through it.
    shop.net
        .write("terminal/tally.toml", "[terminal]\nslots = 1\n");
    let mut terminal = shop.net.node("terminal", "terminal").start();
    let _ = terminal.status();
    shop.net.say("terminal", &["enroll", &invite, "--yes"]);
    until("the registration to be shown", || {
        (!terminal.status().memberships.is_empty()).then_some(())
    });
    shop.work("customer");
    shop.until_told(&mut terminal);
    let part = ["redeem", "license", PRODUCT, "--at-most", "0.005"];
    let posted = shop.net.say("terminal", &part);
    assert_eq!(posted["phase"], "posted");
    assert_eq!(
        (&posted["discount"], &posted["due"]),
        (&"0.05 EUR".into(), &"0.15 EUR".into())
    );
    let order = posted["order"].as_str().unwrap().to_owned();
    let pay = ["app", "invoice", "pay", &order, "--reference", "bank 1"];
    shop.net.say("shop", &pay);
    terminal.stop();
    // Now over a network of its own: the same order.
    let fulfilled = shop.net.say("terminal", &part);
    assert_eq!(fulfilled["order"], order.as_str());
    assert_eq!(fulfilled["phase"], "fulfilled");
    let again = shop.net.said("terminal", &part).failure();
    assert_eq!(again.exit, 2, "{again:?}");

    let renewed = shop.net.say("terminal", &["license", "renew", PRODUCT]);
    assert_eq!(renewed["phase"], "fulfilled");
    let following = Path::new(renewed["file"].as_str().unwrap()).to_owned();
    assert!(following.ends_with("photo.license.next"), "{following:?}");
    let shown = shop.net.say("terminal", &["license", "show", PRODUCT]);
    assert_eq!(shown[0]["code"], "valid");
    assert_eq!(shown[1]["code"], "not_yet");
    assert!(
        shop.net
            .path("terminal/applications/photo/license.next")
            .is_file()
    );

    let off = ["redeem", "discount", OFFER, "--fee", "0.10 EUR"];
    let first = shop.net.say("terminal", &off);
    assert_eq!(
        (&first["phase"], &first["discount"]),
        (&"fulfilled".into(), &"0.10 EUR".into())
    );
    let text = std::fs::read_to_string(first["file"].as_str().unwrap()).unwrap();
    assert!(text.starts_with("-----BEGIN TALLY VOUCHER-----"));
    let second = shop.net.say("terminal", &off);
    assert_ne!(first["order"], second["order"], "another voucher");
    let all = [
        "redeem",
        "license",
        PRODUCT,
        "--again",
        "--any-computer",
        "--points-only",
    ];
    let failure = shop.net.said("terminal", &all).failure();
    assert_eq!(failure.exit, 6, "only ten cents are left: {failure:?}");
    shop.forget_computer("terminal", &off);
}

impl Shop {
    /// The operator ends the registration: nothing is bought for it any more.
    fn forget_computer(self, name: &str, order: &[&str]) {
        let device = self.net.say(name, &["key", "show"]);
        let device = find_id(&device).unwrap();
        let revoke = ["app", "user", "revoke", &device, "--reason", "test"];
        self.net.say("shop", &revoke);
        let unknown = self.net.said(name, order).failure();
        assert_eq!(unknown.exit, 3, "{unknown:?}");
        let mut terminal = self.net.node(name, "terminal").start();
        until("the revocation to be noticed", || {
            let memberships = terminal.status().memberships;
            memberships.first()?.ended
        });
    }
}

#[test]
fn an_invitation_of_another_network_or_vendor_changes_nothing() {
    let mut shop = Shop::open();
    let invite = shop.invite();
    shop.net.write("other/tally.toml", "network = \"other\"\n");
    let failure = shop
        .net
        .said("other", &["enroll", &invite, "--yes"])
        .failure();
    assert_eq!(failure.exit, 2);
    assert!(failure.message.contains("other"), "{failure:?}");
    let root = NodeId::from_bytes([1; 32]).to_string();
    let pinned = ["enroll", &invite, "--yes", "--root", &root];
    let failure = shop.net.said("pinned", &pinned).failure();
    assert_eq!(failure.exit, 1, "{failure:?}");
    assert!(!shop.net.path("pinned/memberships").exists());
    let text = std::fs::read_to_string(&invite).unwrap();
    let changed = shop.net.write("changed", text.replace("INVITE", "LICENSE"));
    let args = ["enroll", changed.to_str().unwrap(), "--yes"];
    assert_eq!(shop.net.said("changed", &args).failure().exit, 2);
    let said = shop
        .net
        .say("plain", &["enroll", &text, "--yes", "--no-application"]);
    assert_eq!(said["product"], PRODUCT);
}
