//! How nodes behave: honestly, or in one of many other ways.
//!
//! A dishonest node runs the same driver and the same role machine as an honest one. Its [`Conduct`] changes what
//! passes between them: what a run gave, what a pull says, what is answered; and it may act on its own, with messages
//! that no honest node sends. What it does against the rules it announces as [`Cheat`], so that oracles know what is
//! a lie.

mod honest;
mod lies;

use std::fmt;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::Deserialize;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::announce::Offer;
use tally_protocol::message::customer::CustomerRequest;
use tally_protocol::message::work::{Pull, PullReply, WorkReply, WorkRequest};
use tally_protocol::signed::Signed;
use tally_protocol::terminal::Ran;
use tally_protocol::time::Timestamp;
use tally_protocol::unit::ProfileId;

use crate::chance::Chance;
use crate::happening::Unit;
use crate::peer::Peer;

/// The name of a conduct in a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// As it should be.
    #[default]
    Honest,
    /// Some of its outputs are wrong.
    WrongOutput,
}

impl Kind {
    /// Returns the name, as scenarios write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::WrongOutput => "wrong-output",
        }
    }

    /// Makes the conduct of one node.
    #[must_use]
    pub fn conduct(self) -> Box<dyn Conduct> {
        match self {
            Self::Honest => Box::new(honest::Honest),
            Self::WrongOutput => Box::new(lies::WrongOutput),
        }
    }
}

/// What a node does with a unit that it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It reports this when the run would be over.
    Reports(Ran),
    /// It reports this at once, without running anything.
    ReportsAtOnce(Ran),
    /// It never says anything.
    KeepsSilent,
}

/// Who a node is and what it knows, when it acts on its own.
#[derive(Debug)]
pub struct Me<'a> {
    /// Its number.
    pub peer: Peer,
    /// Its id.
    pub id: NodeId,
    /// Its key.
    pub key: &'a SigningKey,
    /// Its network.
    pub network: &'a NetworkId,
    /// Its profile.
    pub profile: &'a ProfileId,
    /// What its clock shows.
    pub now: Timestamp,
    /// The coordinators that it is connected to.
    pub coordinators: &'a [(Peer, NodeId)],
}

/// Something that a node does on its own.
#[derive(Debug)]
pub struct Cheat {
    /// What it is, in a word or two.
    pub how: &'static str,
    /// To whom.
    pub to: Peer,
    /// What is sent.
    pub message: Message,
}

/// A message of any kind.
#[derive(Debug)]
pub enum Message {
    /// In the conversation of terminals and coordinators.
    Work(WorkRequest),
    /// In the conversation of customers and coordinators.
    Customer(CustomerRequest),
    /// By gossip, to all.
    Offer(Signed<Offer>),
}

/// What a node does differently from an honest one. All by default as an honest one.
pub trait Conduct: fmt::Debug {
    /// Decides what is said of a unit, whose right result is `right`.
    fn answer(&mut self, right: Ran, unit: Unit, chance: &mut Chance) -> Answer {
        let _ = (unit, chance);
        Answer::Reports(right)
    }

    /// Changes a pull before it is sent.
    fn pull(&mut self, pull: &mut Pull, me: &Me<'_>, chance: &mut Chance) {
        let _ = (pull, me, chance);
    }

    /// Changes the answer to a pull before it is sent, if this is a coordinator.
    fn reply(&mut self, reply: &mut PullReply, me: &Me<'_>, chance: &mut Chance) {
        let _ = (reply, me, chance);
    }

    /// Hears an answer from a coordinator, to a pull or to what it sent on its own.
    fn hear(&mut self, from: Peer, reply: &WorkReply) {
        let _ = (from, reply);
    }

    /// Returns whether a large output is given to whom it was reported.
    fn serves_outputs(&self) -> bool {
        true
    }

    /// Returns how often it acts on its own.
    fn acts_every(&self) -> Option<Duration> {
        None
    }

    /// Acts on its own.
    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let _ = (me, chance);
        Vec::new()
    }
}
