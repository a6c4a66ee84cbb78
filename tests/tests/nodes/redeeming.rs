//! Points become licenses between real processes, whatever step one of them dies at.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use serde_json::Value;
use tally_ledger::store::Reader;
use tally_node::admin::Request;
use tally_node::fault::Point;
use tally_node::keys::{self, Kind};
use tally_protocol::account::{Account, Commodity, Money};
use tally_protocol::app_server::{Fault, Phase};
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::Fund;
use tally_protocol::id::{NodeId, OrderId, PostingId};
use tally_protocol::message::customer::TaskStatus;
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest, Issued};
use tally_protocol::points::Points;
use tally_tests::job::Job;
use tally_tests::market::{Member, PRODUCT};
use tally_tests::net::{NETWORK, Net, Start};
use tally_tests::node::Node;
use tally_tests::until;

use crate::crash::free_address;
use crate::net;

/// A point costs 1,000 EUR and half of that is put aside, so that a small unit, 1,000 upt, is worth a cent; no escrow.
const RATES: &str = "[coordinator]\nadmission = \"open\"\n[coordinator.rates]\nprice = \"20.00 EUR\"\n\
                     reserve = \"10.00 EUR\"\nper_points = 1\nescrow_percent = 0\nlot_seconds = 1\n";
/// Units that the owner's terminal does: each is worth a cent at the app server.
pub(crate) const UNITS: u64 = 100;
/// What a license costs, in points: a cent.
const PRICE: Points = Points::from_micro(1_000);

/// Steps of the app server.
const APP_SERVER_POINTS: [Point; 16] = [
    Point::BeforeRegister,
    Point::AfterRegister,
    Point::BeforeOpen,
    Point::AfterOpen,
    Point::BeforeLegs,
    Point::AfterLegs,
    Point::BeforeHeld,
    Point::AfterHeld,
    Point::BeforeDecide,
    Point::AfterDecide,
    Point::BeforeTaken,
    Point::AfterTaken,
    Point::BeforeIssue,
    Point::AfterIssue,
    Point::BeforeState,
    Point::AfterState,
];

/// Steps of the coordinator.
const COORDINATOR_POINTS: [Point; 8] = [
    Point::BeforeReserve,
    Point::AfterReserve,
    Point::BeforeRedeem,
    Point::AfterRedeem,
    Point::BeforeReverse,
    Point::AfterReverse,
    Point::BeforeSettlement,
    Point::AfterSettlement,
];

/// A coordinator, an app server, and an owner with points.
struct Market {
    net: Arc<Net>,
    coordinator: Option<Node>,
    app_server: Option<Node>,
    /// Where both listen, however often they are started.
    listen: (String, String),
    buyer: Option<Buyer>,
}

/// An owner's computer, and whom it asks.
struct Buyer {
    member: Member,
    coordinator: NodeId,
    app_server: NodeId,
    address: String,
}

impl Market {
    fn new() -> Self {
        let mut net = net();
        let listen = (free_address(&net), free_address(&net));
        let mut coordinator = coordinator(&net, &listen.0).start();
        net.bootstrap(&mut coordinator);
        net.certify_app_server("shop");
        let mut app_server = app_server(&net, &listen.1).start();
        net.sell(("shop", &mut app_server), "0.01 EUR");
        let partners = (("shop", &mut app_server), ("coordinator", &mut coordinator));
        net.agree(partners.0, partners.1, "10.00 EUR");
        let owner = earn(&net, &mut coordinator);
        let buyer = Buyer {
            member: Member::of(&owner),
            coordinator: coordinator.id(),
            app_server: app_server.id(),
            address: app_server.address(),
        };
        buyer.enrol();
        Self {
            net: Arc::new(net),
            coordinator: Some(coordinator),
            app_server: Some(app_server),
            listen,
            buyer: Some(buyer),
        }
    }

    fn stop(&mut self) {
        for node in [self.app_server.take(), self.coordinator.take()] {
            node.unwrap().stop();
        }
    }

    /// Starts both, one of them to die at a step.
    fn start(&mut self, (dying, point): (Dying, Point)) {
        let fault = format!("{}:1", point.name());
        let fault = ["--fault", &fault];
        let (mut one, mut other) = (
            coordinator(&self.net, &self.listen.0),
            app_server(&self.net, &self.listen.1),
        );
        match dying {
            Dying::Coordinator => one = one.args(&fault),
            Dying::AppServer => other = other.args(&fault),
        }
        self.coordinator = Some(one.start());
        self.app_server = Some(other.start());
    }

    /// Waits until one has died, and starts it again.
    fn restart(&mut self, dying: Dying) {
        let node = match dying {
            Dying::Coordinator => &mut self.coordinator,
            Dying::AppServer => &mut self.app_server,
        };
        let died = node.as_mut().unwrap().ended();
        assert_eq!(died.signal(), Some(9), "{}", node.as_ref().unwrap().log());
        // The lock of the folder goes with the process.
        drop(node.take());
        let again = match dying {
            Dying::Coordinator => coordinator(&self.net, &self.listen.0),
            Dying::AppServer => app_server(&self.net, &self.listen.1),
        };
        *node = Some(again.start());
    }

    fn audit(&self) {
        for name in ["coordinator", "shop"] {
            let report = self.net.say(name, &["ledger", "audit"]);
            assert_eq!(report["finding"], Value::Null, "{name}: {report}");
        }
    }

    /// What the coordinator owes in cents, as its books say, and as those of the app server do.
    fn owed(&self) -> (i128, i128) {
        let commodity = Commodity::Money("EUR".parse().unwrap());
        let read = |file: &str, account| {
            let reader = Reader::open(&self.net.path(file)).unwrap();
            reader.books().unwrap().balance(account, commodity).posted()
        };
        let buyer = self.buyer.as_ref().unwrap();
        let payable = Account::Payable(buyer.app_server);
        let receivable = Account::Receivable(buyer.coordinator);
        (
            read("coordinator/coordinator.redb", payable),
            -read("shop/app-server.redb", receivable),
        )
    }
}

/// Who dies.
#[derive(Debug, Clone, Copy)]
enum Dying {
    Coordinator,
    AppServer,
}

pub(crate) fn coordinator<'a>(net: &'a Net, listen: &str) -> Start<'a> {
    let start = net.node("coordinator", "coordinator").config(RATES);
    start.args(&["--customers", "any", "--listen", listen])
}

pub(crate) fn app_server<'a>(net: &'a Net, listen: &str) -> Start<'a> {
    let start = net.node("shop", "app-server");
    let start = start.config("[app_server]\nhttp = \"127.0.0.1:0\"\n");
    start.args(&["--listen", listen])
}

impl Buyer {
    fn at(&self) -> (NodeId, &str) {
        (self.app_server, &self.address)
    }

    fn enrol(&self) {
        let enrolment = self.member.enrolment(self.app_server, PRODUCT);
        let enrolled = self.member.ask(self.at(), &enrolment);
        assert!(
            matches!(enrolled, EnrollReply::Registered(_)),
            "{enrolled:?}"
        );
    }

    /// Buys a license for [`PRICE`] points, asking again until it is there.
    fn buy(&self, key: &str) -> OrderId {
        let order = self.member.open(self.at(), key).unwrap().status.order;
        let points = self
            .member
            .sign((self.coordinator, self.app_server), order, PRICE);
        // The same points again have the same answer.
        for _ in 0..2 {
            let taken = self.member.redeem(self.at(), order, vec![points.clone()]);
            assert!(taken.is_ok(), "{key}: {taken:?}");
        }
        let shown = self.member.until(self.at(), order, Phase::Fulfilled);
        assert!(matches!(shown.goods, Some(Issued::License(_))), "{key}");
        assert_eq!((shown.status.discount, shown.status.due), (1, 0), "{key}");
        let again = self.member.open(self.at(), key).unwrap();
        assert_eq!(again.status.order, order, "{key}: the key names one order");
        order
    }
}

/// Has a terminal of a new owner do some work. Returns the owner.
pub(crate) fn earn(net: &Net, coordinator: &mut Node) -> SigningKey {
    let customer = net.new_key("customer");
    let request = Request::Move {
        movement: Movement::Deposit(Fund::Customer(customer)),
        money: "100.00 EUR".parse::<Money>().unwrap(),
        reference: "bank 1".to_owned(),
    };
    let _: PostingId = coordinator.answer(&request);
    net.say("terminal", &["key", "owner", "new"]);
    net.new_key("terminal");
    net.say("terminal", &["key", "certify", "--network", NETWORK]);
    let terminal = net.start_terminal("terminal");
    let lines: String = (0..UNITS).map(|unit| format!("line {unit}\n")).collect();
    let job = Job::builtin("wordcount")
        .text(&lines)
        .split("by = \"lines\"\nlines = 1")
        .agree(1)
        .table("limits", "fuel = 1_000_000\noutput = \"100 B\"");
    let status: TaskStatus = net.submit("customer", &job).wait().done().json();
    let points = status.cost.points.as_micro();
    until("the points", || {
        let spendable: Value = net.say("coordinator", &["ledger", "balance", "points:owner"]);
        let all = spendable.to_string();
        all.contains(&points.to_string()).then_some(())
    });
    assert_eq!(points, UNITS * 1_000);
    terminal.stop();
    keys::read_of(Kind::Owner, &net.path("terminal/owner-key")).unwrap()
}

#[test]
fn each_redemption_has_one_outcome_whatever_step_a_node_dies_at() {
    let mut market = Market::new();
    let steps = APP_SERVER_POINTS.map(|point| (Dying::AppServer, point));
    let others = COORDINATOR_POINTS.map(|point| (Dying::Coordinator, point));
    let mut bought = 0;
    for (dying, point) in steps.into_iter().chain(others) {
        // What is given back has to be there.
        let given_back = (Deed::of(point) == Deed::Refund).then(|| {
            market
                .buyer
                .as_ref()
                .unwrap()
                .buy(&format!("for {}", point.name()))
        });
        market.stop();
        market.start((dying, point));
        let buyer = market.buyer.take().unwrap();
        let net = Arc::clone(&market.net);
        let doing = std::thread::spawn(move || {
            // Everybody only asks again.
            match Deed::of(point) {
                Deed::Buy => drop(buyer.buy(point.name())),
                Deed::Enrol => buyer.enrol(),
                Deed::Refund => refund(&net, given_back.unwrap()),
                Deed::Settle => settle(&net, buyer.coordinator),
            }
            buyer
        });
        market.restart(dying);
        market.buyer = Some(doing.join().unwrap());
        bought += i128::from(Deed::of(point) == Deed::Buy);
        market.audit();
    }
    market.stop();
    market.audit();
    assert_eq!(
        market.owed(),
        (bought, bought),
        "each license was paid once, in both books"
    );
}

/// What is done while somebody dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Enrol,
    Buy,
    Refund,
    Settle,
}

impl Deed {
    /// Returns the deed that passes a point.
    fn of(point: Point) -> Self {
        match point.name().split_once('-').unwrap().1 {
            "register" => Self::Enrol,
            "reverse" => Self::Refund,
            "settlement" | "state" => Self::Settle,
            _ => Self::Buy,
        }
    }
}

/// Has an order undone, until the points are known to be given back.
fn refund(net: &Net, order: OrderId) {
    let order = order.to_string();
    until("the refund", || {
        let said = net.said("shop", &["app", "order", "refund", &order]);
        if said.exit() != 0 {
            return None;
        }
        let shown: Value = said.json();
        (shown["status"]["phase"] == "refunded" && shown["status"]["settled"] == true).then_some(())
    });
}

/// Has the app server state what is owed, until the coordinator has countersigned all of it.
fn settle(net: &Net, coordinator: NodeId) {
    let coordinator = coordinator.to_string();
    let agreed = |net: &Net| {
        let said = net.said("shop", &["app", "settle", "list", &coordinator]);
        let all: Value = if said.exit() == 0 {
            said.json()
        } else {
            Value::Null
        };
        all[0]["agreed"].as_array().map_or(0, Vec::len)
    };
    let before = until("the settlements", || {
        let said = net.said("shop", &["app", "settle", "list", &coordinator]);
        (said.exit() == 0).then(|| agreed(net))
    });
    until("the settlement", || {
        let _ = net.said("shop", &["app", "settle", "with", &coordinator]);
        (agreed(net) > before).then_some(())
    });
}

#[test]
fn points_are_spent_once_however_many_orders_want_them() {
    let market = Market::new();
    let (buyer, all) = (
        market.buyer.as_ref().unwrap(),
        Points::from_micro(UNITS * 1_000),
    );
    let open = |key: &str| buyer.member.open(buyer.at(), key).unwrap().status.order;
    let (first, second) = (open("first"), open("second"));
    let sign = |order, points| {
        buyer
            .member
            .sign((buyer.coordinator, buyer.app_server), order, points)
    };
    // More than the license costs is refused before anything is set aside.
    let refused = buyer
        .member
        .redeem(buyer.at(), first, vec![sign(first, all)]);
    assert!(
        matches!(refused, Err(Fault::TooManyPoints { .. })),
        "{refused:?}"
    );
    let paid = buyer
        .member
        .redeem(buyer.at(), first, vec![sign(first, PRICE)]);
    assert!(paid.is_ok(), "{paid:?}");
    buyer.member.until(buyer.at(), first, Phase::Fulfilled);
    // Points that were signed for one order do not pay for another.
    let other = buyer
        .member
        .redeem(buyer.at(), second, vec![sign(first, PRICE)]);
    assert_eq!(other, Err(Fault::OtherAudience));
    // A stranger's computer neither sees nor pays it.
    let stranger = Member::of(&SigningKey::from_bytes(&rand::random()));
    let asked = stranger.ask(buyer.at(), &EnrollRequest::Order(first));
    assert_eq!(asked, EnrollReply::Not(Fault::UnknownOrder));
    let asked = stranger.ask(buyer.at(), &EnrollRequest::Purse);
    assert_eq!(asked, EnrollReply::Not(Fault::UnknownDevice));
    let enrolled = stranger.ask(buyer.at(), &stranger.enrolment(buyer.app_server, PRODUCT));
    assert!(
        matches!(enrolled, EnrollReply::Registered(_)),
        "{enrolled:?}"
    );
    let asked = stranger.ask(buyer.at(), &EnrollRequest::Order(first));
    assert_eq!(asked, EnrollReply::Not(Fault::UnknownOrder));
    let redeemed = stranger.redeem(buyer.at(), second, vec![sign(second, PRICE)]);
    assert_eq!(redeemed, Err(Fault::UnknownOrder));
}
