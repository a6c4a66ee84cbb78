//! An app server in a process of its own beside a coordinator, and owners who order from it.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use libp2p::Multiaddr;
use serde_json::Value;
use tally_node::admin::Request;
use tally_node::app_server::operator::{AgreementState, AgreementView, AppAsk};
use tally_node::certificates;
use tally_node::network::{Network, NetworkConfig, NetworkLimits};
use tally_protocol::app_server::{Fault, IdempotencyKey, Phase, Wish};
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{NetworkId, NodeId, OrderId};
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest, OrderShown, PointsShown};
use tally_protocol::points::Points;
use tally_protocol::redemption::Redeem;
use tally_protocol::registration::Enrolment;
use tally_protocol::signed::Verified;
use tokio::runtime::Runtime;

use crate::net::{NETWORK, Net};
use crate::node::Node;
use crate::run::Ran;
use crate::until;

/// The product that [`Net::sell`] sells.
pub const PRODUCT: &str = "photo";
/// The offer that [`Net::sell`] makes.
pub const OFFER: &str = "camera";
/// A day.
const DAY: Duration = Duration::from_secs(86_400);

impl Net {
    /// Makes the keys of an app server in the folder `name`, certified by a vendor of its own.
    #[track_caller]
    pub fn certify_app_server(&self, name: &str) {
        self.say(name, &["key", "vendor", "new"]);
        let init = [
            "app",
            "init",
            "--vendor",
            "Photo Works",
            "--network",
            NETWORK,
        ];
        self.say(name, &init);
    }

    /// Runs `tally ARGS --json` on the folder `name`, which must succeed. Returns what it says.
    #[track_caller]
    pub fn say(&self, name: &str, args: &[&str]) -> Value {
        self.said(name, args).done().json()
    }

    /// Runs `tally ARGS --json` on the folder `name`.
    #[track_caller]
    pub fn said(&self, name: &str, args: &[&str]) -> Ran {
        let folder = self.path(name);
        let mut all = args.to_vec();
        all.extend(["--json", "--dir", folder.to_str().unwrap()]);
        self.run(&all)
    }

    /// Puts [`PRODUCT`] for so much, and [`OFFER`], into the catalogue of an app server.
    #[track_caller]
    pub fn sell(&self, (name, app_server): (&str, &mut Node), price: &str) {
        let _ = app_server.id();
        let file = self.write("photo-desk", "#!/bin/sh\necho photo desk\n");
        let file = file.to_str().unwrap();
        self.say(
            name,
            &[
                "app",
                "product",
                "add",
                PRODUCT,
                "--name",
                "Photo desk",
                "--price",
                price,
                "--file",
                file,
            ],
        );
        self.say(
            name,
            &[
                "app",
                "offer",
                "add",
                OFFER,
                "--title",
                "Off at Camera Corner",
                "--percent",
                "100",
                "--at-most",
                "100.00 EUR",
            ],
        );
    }

    /// Has an app server and a coordinator agree that one point is worth `value`.
    #[track_caller]
    pub fn agree(
        &self,
        app_server: (&str, &mut Node),
        coordinator: (&str, &mut Node),
        value: &str,
    ) {
        let (name, app_server) = app_server;
        let (partner, coordinator) = coordinator;
        let id = coordinator.id().to_string();
        self.say(
            name,
            &[
                "app",
                "agreement",
                "propose",
                &id,
                "--value",
                value,
                "--per-points",
                "1",
                "--cap",
                "1000.00 EUR",
            ],
        );
        let me = app_server.id().to_string();
        until("the proposal", || {
            let accepted = self.said(partner, &["agreement", "accept", &me]);
            (accepted.exit() == 0).then_some(())
        });
        until("the agreement", || {
            let question = AppAsk::Agreements;
            let all: Vec<AgreementView> = app_server.answer(&Request::App { question });
            let is_made = |view: &AgreementView| {
                view.agreement.coordinator.to_string() == id
                    && view.state == AgreementState::InForce
            };
            all.iter().any(is_made).then_some(())
        });
    }
}

/// A computer of an owner, in the process of the test, that orders and redeems.
#[derive(Debug)]
pub struct Member {
    /// Its network.
    pub network: Network,
    /// Its certificate.
    pub certificate: Verified<DeviceCertificate>,
    key: SigningKey,
    runtime: Runtime,
}

impl Member {
    /// Starts a computer that may redeem all of an owner's points.
    ///
    /// # Panics
    /// If it cannot.
    #[must_use]
    pub fn of(owner: &SigningKey) -> Self {
        let key = SigningKey::from_bytes(&rand::random());
        let runtime = Runtime::new().unwrap();
        let config = NetworkConfig {
            key: key.clone(),
            network: network_id(),
            roles: Vec::new(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            mdns: false,
            saved_peers: None,
            limits: NetworkLimits::default(),
        };
        let network = {
            let _inside = runtime.enter();
            let (network, mut events) = Network::start(config).unwrap();
            runtime.spawn(async move { while events.recv().await.is_some() {} });
            network
        };
        let all = Points::from_micro(u64::MAX);
        let until = (tally_node::clock::now(), DAY);
        let certificate = certificates::certify(owner, (network.me(), all), until, &network_id());
        Self {
            network,
            certificate,
            key,
            runtime,
        }
    }

    /// Connects to an app server; fine if it is.
    pub fn connect(&self, to: NodeId, address: &str) {
        let address: Multiaddr = address.parse().unwrap();
        let connected = self.network.connect(to, vec![address]);
        let _ = self.runtime.block_on(connected);
    }

    /// Asks an app server until it answers.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn ask(&self, (to, address): (NodeId, &str), request: &EnrollRequest) -> EnrollReply {
        until("an answer of the app server", || {
            let asked = self.network.ask_enroll(to, request.clone());
            match self.runtime.block_on(asked) {
                Ok(EnrollReply::Refused(_)) => None,
                Ok(reply) => Some(reply),
                Err(_) => {
                    self.connect(to, address);
                    None
                }
            }
        })
    }

    /// Returns the request by which it enrols.
    #[must_use]
    pub fn enrolment(&self, app_server: NodeId, product: &str) -> EnrollRequest {
        let enrolment = Enrolment {
            app_server,
            product: product.parse().unwrap(),
            owner: self.certificate.signer(),
            at: tally_node::clock::now(),
        };
        let enrolment = Verified::sign(enrolment, &network_id(), &self.key);
        EnrollRequest::Enrol {
            enrolment: enrolment.signed().clone(),
            certificate: Some(self.certificate.signed().clone()),
        }
    }

    /// Opens an order for a license of [`PRODUCT`].
    ///
    /// # Errors
    /// What the app server says.
    #[track_caller]
    pub fn open(&self, at: (NodeId, &str), key: &str) -> Result<OrderShown, Fault> {
        let wish = Wish::License {
            product: PRODUCT.parse().unwrap(),
            devices: Vec::new(),
        };
        let key: IdempotencyKey = key.parse().unwrap();
        self.order_of(self.ask(at, &EnrollRequest::Open { wish, key }))
    }

    /// Signs for points of a coordinator, to pay for an order at an app server.
    #[must_use]
    pub fn sign(
        &self,
        (coordinator, app_server): (NodeId, NodeId),
        order: OrderId,
        points: Points,
    ) -> PointsShown {
        let redeem = Redeem {
            owner: self.certificate.signer(),
            coordinator,
            app_server,
            points,
            order,
            nonce: rand::random(),
            expires: tally_node::clock::now() + DAY,
        };
        let redeem = Verified::sign(redeem, &network_id(), &self.key);
        let certificate = self.certificate.signed().clone();
        (redeem.signed().clone(), Some(certificate))
    }

    /// Redeems points for an order.
    ///
    /// # Errors
    /// What the app server says.
    #[track_caller]
    pub fn redeem(
        &self,
        at: (NodeId, &str),
        order: OrderId,
        points: Vec<PointsShown>,
    ) -> Result<OrderShown, Fault> {
        self.order_of(self.ask(at, &EnrollRequest::Redeem { order, points }))
    }

    /// Waits until an order has come so far.
    #[track_caller]
    pub fn until(&self, at: (NodeId, &str), order: OrderId, phase: Phase) -> OrderShown {
        until(&format!("order {order} to be {phase}"), || {
            let shown = self.order_of(self.ask(at, &EnrollRequest::Order(order)));
            shown.ok().filter(|shown| shown.status.phase == phase)
        })
    }

    fn order_of(&self, reply: EnrollReply) -> Result<OrderShown, Fault> {
        if let EnrollReply::Order(shown) = reply {
            return Ok(*shown);
        }
        let EnrollReply::Not(fault) = reply else {
            panic!("{} asked for an order, got {reply:?}", self.network.me());
        };
        Err(fault)
    }
}

/// Returns the network of the tests.
#[must_use]
pub fn network_id() -> NetworkId {
    NETWORK.parse().unwrap()
}
