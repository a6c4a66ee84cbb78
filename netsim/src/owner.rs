//! An owner of terminals with its client: looks what it can spend, orders something at an app server, pays with points
//! and money, uses vouchers at a shop, and now and then wants something undone.
//!
//! Each order is a [`Deal`]: what is asked next follows from how far it is, and is asked again until it is answered. The
//! client remembers its deals for ever, as a person does; all that is new in a request has an idempotency key, so asking
//! again does nothing twice.

mod deal;
mod tricks;

use std::collections::BTreeMap;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::{LicenseId, NodeId};
use tally_protocol::points::Points;
use tally_protocol::signed::Verified;

use crate::chance::Chance;
use crate::conduct::Kind;
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::shop::{ShopReply, ShopRequest};
use crate::stage::{Body, Clock, Envelope, Stage};
use deal::{Deal, Heard, Step};

/// The pause between two questions about one deal.
const PAUSE: Duration = Duration::from_secs(2);
/// The pause while there is nothing to spend.
const SAVING: Duration = Duration::from_secs(15);

/// What an owner is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Whose points these are.
    pub(crate) key: SigningKey,
    /// A device that may redeem for the owner; it signs every other time.
    pub(crate) device: Option<(SigningKey, Verified<DeviceCertificate>)>,
    pub(crate) clock: Clock,
    pub(crate) kind: Kind,
    /// The app servers where it buys, in turn.
    pub(crate) app_servers: Vec<(Peer, NodeId)>,
    /// How often it orders something.
    pub(crate) orders: u32,
    /// The pause between two orders.
    pub(crate) every: Duration,
    /// After this it orders nothing more.
    pub(crate) patience: Duration,
}

/// Something within an owner's client.
#[derive(Debug)]
pub(crate) enum Within {
    /// Time for the next step of a deal.
    Step(usize),
}

/// What a question is for.
#[derive(Debug, Clone)]
enum Asked {
    /// A step of a deal.
    Deal(usize),
    /// Something that no honest owner asks.
    Trick(Peer, &'static str),
}

/// An owner of the world.
#[derive(Debug)]
pub(crate) struct OwnerNode {
    pub(crate) peer: Peer,
    pub(crate) id: NodeId,
    setup: Setup,
    chance: Chance,
    begun: Option<Moment>,
    /// Those under way; an honest one has one at a time.
    deals: Vec<Option<Deal>>,
    /// Orders so far.
    ordered: u32,
    asks: BTreeMap<u64, Asked>,
    /// Licenses that it has bought, with where.
    licenses: Vec<(usize, LicenseId)>,
    satisfied: bool,
}

impl OwnerNode {
    pub(crate) fn new(peer: Peer, setup: Setup, seed: u64) -> Self {
        let clients = if setup.kind == Kind::DoubleRedeeming {
            setup.app_servers.len().max(2)
        } else {
            1
        };
        Self {
            peer,
            id: NodeId::from_bytes(setup.key.verifying_key().to_bytes()),
            setup,
            chance: Chance::new(seed, "owner", u64::from(peer.0)),
            begun: None,
            deals: (0..clients).map(|_| None).collect(),
            ordered: 0,
            asks: BTreeMap::new(),
            licenses: Vec::new(),
            satisfied: false,
        }
    }

    /// Returns whether it wants nothing more.
    pub(crate) const fn is_satisfied(&self) -> bool {
        self.satisfied
    }

    /// Comes.
    pub(crate) fn start(&mut self, stage: &mut Stage) {
        stage.start(self.peer);
        self.begun.get_or_insert(stage.now);
        for client in 0..self.deals.len() {
            self.plan(stage, stage.now, client);
        }
    }

    /// Takes what comes from itself.
    pub(crate) fn within(&mut self, stage: &mut Stage, what: Within) {
        match what {
            Within::Step(client) => self.step(stage, client),
        }
    }

    /// Takes a message.
    pub(crate) fn arrive(&mut self, stage: &mut Stage, envelope: Envelope) {
        let Body::ShopAnswered(reply) = envelope.body else {
            // Nobody else talks to it.
            return;
        };
        match self.asks.remove(&envelope.ask) {
            Some(Asked::Deal(client)) => self.heard(stage, client, *reply),
            Some(Asked::Trick(from, how)) => {
                let (by, with) = (self.peer, reply.says());
                stage.note(&Happening::Met {
                    by,
                    from,
                    how,
                    with,
                });
            }
            // It came twice.
            None => {}
        }
    }

    /// Nobody answered in time.
    pub(crate) fn unanswered(&mut self, stage: &mut Stage, ask: u64) {
        if let Some(Asked::Deal(client)) = self.asks.remove(&ask) {
            self.step(stage, client);
        }
    }

    fn plan(&self, stage: &mut Stage, at: Moment, client: usize) {
        let step = crate::stage::Within::Owner(Within::Step(client));
        stage.plan_within(at, self.peer, step);
    }

    /// Asks what is next.
    fn step(&mut self, stage: &mut Stage, client: usize) {
        if self.satisfied {
            return;
        }
        if self.deals[client].is_none() && !self.begin(stage, client) {
            return;
        }
        let Some(deal) = &self.deals[client] else {
            return;
        };
        if let Step::Pay(reference) = &deal.step
            && let Some(order) = deal.order
        {
            let reference = reference.clone();
            let (by, to) = (self.peer, deal.at.0);
            stage.note(&Happening::OrderPaid {
                by,
                to,
                order,
                reference,
            });
        }
        let (to, request) = (deal.at.0, deal.request(self.id));
        self.ask(stage, to, (request, Asked::Deal(client)));
    }

    fn ask(&mut self, stage: &mut Stage, to: Peer, (request, asked): (ShopRequest, Asked)) {
        let ask = stage.ask(self.peer, to, Body::ShopAsked(Box::new(request)));
        self.asks.insert(ask, asked);
    }

    /// Begins the next deal. Returns whether there is one.
    fn begin(&mut self, stage: &mut Stage, client: usize) -> bool {
        let begun = self.begun.unwrap_or(stage.now);
        let is_over = self.ordered >= self.setup.orders || stage.now >= begun + self.setup.patience;
        if is_over {
            if self.deals.iter().all(Option::is_none) {
                self.satisfied = true;
                stage.note(&Happening::Contented { by: self.peer });
            }
            return false;
        }
        let turn = self.ordered as usize;
        let place = turn % self.setup.app_servers.len();
        let at = self.setup.app_servers[place];
        let kept = self.licenses.iter().rev();
        let license = kept.clone().find(|(bought, _)| *bought == place);
        let license = license.map(|(_, license)| *license);
        self.deals[client] = Some(Deal::new(
            (place, at),
            (self.ordered, client),
            license,
            &mut self.chance,
        ));
        self.ordered += 1;
        true
    }

    /// Takes the answer to a step of a deal.
    fn heard(&mut self, stage: &mut Stage, client: usize, reply: ShopReply) {
        let now = self.setup.clock.read(stage.now);
        let Some(deal) = &mut self.deals[client] else {
            return;
        };
        let is_used = deal.step == Step::Use;
        let signer = match &self.setup.device {
            Some((key, shown)) if self.ordered.is_multiple_of(2) => (key, Some(shown)),
            _ => (&self.setup.key, None),
        };
        let buyer = deal::Buyer {
            owner: self.id,
            now,
            network: &stage.network,
            signer,
            greedy: self.setup.kind == Kind::DoubleRedeeming,
        };
        let heard = deal.hear(reply, &buyer, &mut self.chance);
        if heard != Heard::GoOn && (is_used || self.setup.kind == Kind::DoubleRedeeming) {
            self.play_tricks(stage, client);
        }
        let gives_up = self
            .begun
            .is_some_and(|begun| stage.now >= begun + self.setup.patience);
        let pause = match heard {
            Heard::GoOn => Duration::ZERO,
            Heard::Wait => PAUSE,
            Heard::Save if gives_up => return self.end(stage, client),
            Heard::Save => SAVING,
            Heard::Over => return self.end(stage, client),
        };
        self.plan(stage, stage.now + pause, client);
    }

    /// Ends a deal, and begins the next one after a pause.
    fn end(&mut self, stage: &mut Stage, client: usize) {
        if let Some(deal) = self.deals[client].take()
            && let Some(license) = deal.license
        {
            self.licenses.push((deal.place, license));
        }
        let pause = self.setup.every.mul_f64(0.5 + self.chance.part());
        self.plan(stage, stage.now + pause, client);
    }
}

/// Returns the sum of some points, in micro-points.
fn sum(points: &[(NodeId, Points)]) -> u64 {
    let points = points.iter().map(|(_, points)| points.as_micro());
    points.fold(0, u64::saturating_add)
}
