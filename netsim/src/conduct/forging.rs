//! Forged messages of every type.
//!
//! Each deed is a function that makes one message from what the forger knows: its own grants, and what it has got hold
//! of. None is anything that an honest node may send, so each has to meet with a refusal, or with nothing.

pub(super) mod offers;
mod posing;
mod reports;
pub(super) mod tasks;

use std::time::Duration;

use tally_protocol::id::NodeId;
use tally_protocol::message::work::{Grant, WorkReply, WorkRequest};
use tally_protocol::signed::{Signed, Statement, Verified};

use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;
use crate::peer::Peer;
use crate::wire::Latest;

/// How often something is forged.
const FORGES_EVERY: Duration = Duration::from_millis(300);

/// Does some honest work, and forges messages of every type meanwhile.
#[derive(Debug, Default)]
pub(super) struct Forging {
    /// Its own grants, with who gave them.
    grants: Latest<(Peer, Verified<Grant>)>,
    /// Deeds so far.
    deeds: u64,
}

/// What a deed is made from.
struct Scene<'a> {
    forger: &'a Forging,
    me: &'a Me<'a>,
    /// The coordinator that is cheated.
    to: (Peer, NodeId),
}

/// One way to forge: what it is called, and the message with whom it goes to, if it can be made at the moment.
type Deed = (
    &'static str,
    fn(&Scene<'_>, &mut Chance) -> Option<(Peer, Message)>,
);

impl Conduct for Forging {
    fn hear(&mut self, from: Peer, reply: &WorkReply, me: &Me<'_>) {
        let WorkReply::Pulled(reply) = reply else {
            return;
        };
        let leased = reply.leased.as_ref();
        let grant = leased.and_then(|leased| leased.grant.clone().verify(me.network).ok());
        self.grants.push_all(grant.map(|grant| (from, grant)));
    }

    fn poses(&self) -> bool {
        true
    }

    fn pose(
        &mut self,
        asked: &WorkRequest,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<(&'static str, WorkReply)> {
        posing::answer(asked, me, chance)
    }

    fn acts_every(&self) -> Option<Duration> {
        Some(FORGES_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        self.deeds += 1;
        let Some(to) = chance.choose(me.coordinators).copied() else {
            return Vec::new();
        };
        let scene = Scene {
            forger: self,
            me,
            to,
        };
        let deeds = [&reports::DEEDS[..], &offers::DEEDS, &tasks::DEEDS].concat();
        let Some((how, make)) = chance.choose(&deeds).copied() else {
            return Vec::new();
        };
        let made = make(&scene, chance);
        let cheat = made.map(|(to, message)| Cheat { how, to, message });
        cheat.into_iter().collect()
    }
}

impl Scene<'_> {
    fn to_coordinator(&self, message: Message) -> Option<(Peer, Message)> {
        Some((self.to.0, message))
    }

    /// Returns the newest own grant of the coordinator that is cheated.
    fn grant(&self) -> Option<&Verified<Grant>> {
        let mut own = self.forger.grants.iter().rev();
        own.find(|(from, _)| *from == self.to.0)
            .map(|(_, grant)| grant)
    }
}

/// Returns the statement with one bit of its signature turned.
fn broken<T: Statement>(signed: &Signed<T>) -> Signed<T> {
    let mut bytes = signed.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    Signed::from_bytes(bytes)
}
