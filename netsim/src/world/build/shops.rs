//! App servers and owners of a world.

use tally_protocol::id::NodeId;
use tally_protocol::issuer::IssuerCertificate;
use tally_protocol::signed::Verified;
use tally_protocol::time::Timestamp;

use super::{Builder, CERTIFICATE_MILLIS, count, id, key};
use crate::app_server::{self, AppServerNode, Duty};
use crate::moment::Moment;
use crate::owner::{self, OwnerNode};
use crate::peer::Peer;
use crate::scenario::{self, AppServers, Terminals};
use crate::stage::Clock;
use crate::terminal::{Enrols, TerminalNode};
use crate::world::Crash;
use crate::wrap::AppServerWrap;

impl Builder<'_> {
    /// Returns where terminals enrol. The app servers, which come after the terminals, are not there yet.
    pub(super) fn enrols(&self, group: &Terminals) -> Vec<Enrols> {
        let groups = self.scenario.terminals.iter();
        let terminals = groups.map(|group| group.count).sum::<u32>();
        let at = group.app_servers.iter();
        let enrols = at.map(|number| Enrols {
            at: Peer(self.first_terminal + terminals + number),
            app_server: id(&self.app_server_key(*number)),
            product: scenario::product_name(),
        });
        enrols.collect()
    }

    fn app_server_key(&self, number: u32) -> ed25519_dalek::SigningKey {
        key(self.seed, "app server's key", number)
    }

    pub(super) fn app_servers(
        &mut self,
        wrap: fn() -> Box<dyn AppServerWrap>,
        crash: Option<Crash>,
    ) -> Vec<AppServerNode> {
        let mut app_servers = Vec::new();
        for group in &self.scenario.app_servers {
            for _ in 0..group.count {
                let number = count(app_servers.len());
                let key = self.app_server_key(number);
                let peer = self.node(&key, &group.line, group.conduct);
                let setup = app_server::Setup {
                    issuer: self.issuer(number),
                    key,
                    clock: Clock::draw(&mut self.chance, group.clock_off),
                    commit: group.commit,
                    snapshot_every: group.snapshot_every,
                    pay_within: group.pay_within,
                    crash: crash.filter(|crash| crash.node == peer),
                    product: scenario::product(group),
                    discount: scenario::discount(),
                    revoke_every: group.revoke_every,
                    settle_every: group.settle_every,
                };
                let parts = (group.conduct.conduct(), wrap());
                let mut node = AppServerNode::new(peer, setup, parts, self.seed);
                for duty in self.duties(group, node.id) {
                    node.expect_duty(duty);
                }
                app_servers.push(node);
            }
        }
        app_servers
    }

    /// Certifies the key with which an app server issues.
    fn issuer(&self, number: u32) -> (ed25519_dalek::SigningKey, Verified<IssuerCertificate>) {
        let issuer = key(self.seed, "issuer's key", number);
        let root = key(self.seed, "vendor's key", number);
        let begins = Clock::default().read(Moment::START).as_millis();
        let certificate = IssuerCertificate {
            issuer: id(&issuer),
            app_server: id(&self.app_server_key(number)),
            vendor: "Vendor".to_owned(),
            not_before: Timestamp::from_millis(begins - CERTIFICATE_MILLIS),
            not_after: Timestamp::from_millis(begins + CERTIFICATE_MILLIS),
            serial: 1,
        };
        let certificate = Verified::sign(certificate, &self.network, &root);
        (issuer, certificate)
    }

    /// Returns what the operator of an app server has to do: propose an agreement to each coordinator.
    fn duties(&self, group: &AppServers, app_server: NodeId) -> Vec<Duty> {
        let coordinators = self.scenario.coordinators.iter();
        let rates =
            coordinators.flat_map(|group| std::iter::repeat_n(group.rates, group.count as usize));
        let at = Moment::START + group.agree_at;
        let now = Clock::default().read(Moment::START);
        let duty = |(number, rate)| {
            let coordinator = self.directory.id(Peer(number));
            let between = (app_server, coordinator);
            let agreement = scenario::agreement(group, between, rate, now);
            Duty { at, agreement }
        };
        (0..).zip(rates).map(duty).collect()
    }

    pub(super) fn owners(
        &mut self,
        terminals: &[TerminalNode],
        app_servers: &[AppServerNode],
    ) -> Vec<OwnerNode> {
        let all: Vec<(Peer, NodeId)> = app_servers
            .iter()
            .map(|node| (node.peer, node.id))
            .collect();
        let mut owners = Vec::new();
        for group in &self.scenario.owners {
            for within in 0..group.count {
                // The client's own key; the owner's is another one, which may be that of a terminal.
                let number = count(owners.len());
                let client = key(self.seed, "client's key", number);
                let peer = self.node(&client, &group.line, group.conduct);
                let place = (group.terminal + within) as usize;
                let terminal = &terminals[place].setup;
                let may_redeem = |shown: &&Verified<_>| is_allowed(shown);
                let shown = terminal.certificate.as_ref().filter(may_redeem);
                let chosen = group.app_servers.iter().map(|at| all[*at as usize]);
                let setup = owner::Setup {
                    key: match self.owner_numbers[place] {
                        Some(number) => key(self.seed, "owner's key", number),
                        None => terminal.key.clone(),
                    },
                    device: shown.map(|shown| (terminal.key.clone(), shown.clone())),
                    clock: Clock::default(),
                    kind: group.conduct,
                    app_servers: if group.app_servers.is_empty() {
                        all.clone()
                    } else {
                        chosen.collect()
                    },
                    orders: group.orders,
                    every: group.every,
                    patience: group.patience,
                };
                owners.push(OwnerNode::new(peer, setup, self.seed));
            }
        }
        owners
    }
}

fn is_allowed(shown: &Verified<tally_protocol::certificate::DeviceCertificate>) -> bool {
    shown.redeem_points > tally_protocol::points::Points::ZERO
}
