//! How nodes behave: honestly, or in one of many other ways.
//!
//! A dishonest node runs the same driver and the same role machine as an honest one. Its [`Conduct`] changes what
//! passes between them: what a run gave, what a pull says, what is answered; and it may act on its own, with messages
//! that no honest node sends. What it does against the rules it names ([`Cheat::how`], and what the hooks return), so
//! that the numbers show that it was done and what it met with.
//!
//! # A new conduct
//! 1. A name in [`Kind`], in its table of names and in [`Kind::conduct`]; scenarios write it in kebab-case.
//! 2. A struct in the file of its family, or in a new one, with what it remembers. All of that is bounded
//!    ([`Latest`](crate::wire::Latest) is): a world runs for days.
//! 3. `impl Conduct` with the hooks that differ. `answer` for lies about units, `pull` and `reply` for messages of the
//!    machine, `tell_head` and `tell_log` for the log, `hear` to learn, `pose` to play a coordinator, `acts_every` and `act` for messages of its own.
//! 4. It draws from the [`Chance`] that it is handed, never from another, and mixes its deeds with honest work.
//! 5. If it uses what others say, [`Kind::listens`]: then [`Me::wire`] has the latest messages of each kind.
//! 6. A world in `tests/netsim/dishonest.rs` that asserts that each deed was done, what it met with, and that no honest node
//!    suffers.

mod claiming;
mod coordinators;
mod flooding;
mod forging;
mod forking;
mod honest;
mod keeping;
mod lies;
mod misregistering;
mod overreaching;
mod replaying;
mod wavering;

use std::fmt;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use serde::Deserialize;
use tally_ledger::store::Store;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::announce::Offer;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::message::redeem::{RedeemFault, RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest};
use tally_protocol::message::work::{Pull, PullReply, ResultVerdict, WorkReply, WorkRequest};
use tally_protocol::signed::Signed;
use tally_protocol::terminal::Ran;
use tally_protocol::time::Timestamp;
use tally_protocol::unit::ProfileId;

use crate::chance::Chance;
use crate::coordinator::Setup;
use crate::happening::Unit;
use crate::peer::Peer;
use crate::stage::Stage;
use crate::wire::Wire;

/// The name of a conduct in a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// As it should be.
    #[default]
    Honest,
    /// Some of its outputs are wrong.
    WrongOutput,
    /// Its outputs are right, the fuel is not.
    WrongFuel,
    /// It computes nothing and reports the same for every unit.
    Lazy,
    /// Many devices of one owner that tell the same lies.
    ///
    /// A quorum counts devices, so where only colluders are leased a unit their lie is validated. Nothing but ties of
    /// keys to owners can prevent that; the report counts such units.
    Colluding,
    /// It keeps leases and never reports, or reports outputs that it does not give.
    Withholding,
    /// It takes as many units as it can get, and computes none.
    Hoarding,
    /// It says again what it and others have said before.
    Replaying,
    /// It forges messages of every type.
    Forging,
    /// It asks without end.
    Flooding,
    /// It says that it is another owner's.
    Claiming,
    /// A coordinator that takes results and gives nothing for them.
    Owing,
    /// A coordinator whose answers are not what was asked for.
    Tampering,
    /// A coordinator whose receipts are not what it has written.
    Swindling,
    /// A coordinator that shows two logs.
    Forking,
    /// A coordinator that changes its answers about points.
    Wavering,
    /// It shows registrations that nobody has given it, or that have ended.
    Misregistering,
    /// An app server that asks for points that nobody has redeemed there, and gives back those of others.
    Overreaching,
    /// An owner that redeems the same points at several app servers, and for one order twice.
    DoubleRedeeming,
    /// An owner that uses a voucher again and elsewhere.
    VoucherReplaying,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Honest,
        Self::WrongOutput,
        Self::WrongFuel,
        Self::Lazy,
        Self::Colluding,
        Self::Withholding,
        Self::Hoarding,
        Self::Replaying,
        Self::Forging,
        Self::Flooding,
        Self::Claiming,
        Self::Owing,
        Self::Tampering,
        Self::Swindling,
        Self::Forking,
        Self::Wavering,
        Self::Misregistering,
        Self::Overreaching,
        Self::DoubleRedeeming,
        Self::VoucherReplaying,
    ];

    /// Returns the name, as scenarios write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::WrongOutput => "wrong-output",
            Self::WrongFuel => "wrong-fuel",
            Self::Lazy => "lazy",
            Self::Colluding => "colluding",
            Self::Withholding => "withholding",
            Self::Hoarding => "hoarding",
            Self::Replaying => "replaying",
            Self::Forging => "forging",
            Self::Flooding => "flooding",
            Self::Claiming => "claiming",
            Self::Owing => "owing",
            Self::Tampering => "tampering",
            Self::Swindling => "swindling",
            Self::Forking => "forking",
            Self::Wavering => "wavering",
            Self::Misregistering => "misregistering",
            Self::Overreaching => "overreaching",
            Self::DoubleRedeeming => "double-redeeming",
            Self::VoucherReplaying => "voucher-replaying",
        }
    }

    /// Makes the conduct of one node.
    #[must_use]
    pub fn conduct(self) -> Box<dyn Conduct> {
        match self {
            // What owners do is up to their client.
            Self::Honest | Self::DoubleRedeeming | Self::VoucherReplaying => {
                Box::new(honest::Honest)
            }
            Self::WrongOutput => Box::new(lies::WrongOutput),
            Self::WrongFuel => Box::new(lies::WrongFuel),
            Self::Lazy => Box::new(lies::Lazy::default()),
            Self::Colluding => Box::new(lies::Colluding),
            Self::Withholding => Box::new(keeping::Withholding),
            Self::Hoarding => Box::new(keeping::Hoarding::default()),
            Self::Replaying => Box::new(replaying::Replaying::default()),
            Self::Forging => Box::new(forging::Forging::default()),
            Self::Flooding => Box::new(flooding::Flooding::default()),
            Self::Claiming => Box::new(claiming::Claiming),
            Self::Owing => Box::new(coordinators::Owing),
            Self::Tampering => Box::new(coordinators::Tampering::default()),
            Self::Swindling => Box::new(coordinators::Swindling::default()),
            Self::Forking => Box::new(forking::Forking::default()),
            Self::Wavering => Box::new(wavering::Wavering::default()),
            Self::Misregistering => Box::new(misregistering::Misregistering::default()),
            Self::Overreaching => Box::new(overreaching::Overreaching),
        }
    }

    /// Returns whether a terminal can behave so.
    #[must_use]
    pub const fn is_for_terminals(self) -> bool {
        !matches!(
            self,
            Self::Owing
                | Self::Tampering
                | Self::Swindling
                | Self::Forking
                | Self::Wavering
                | Self::Overreaching
                | Self::DoubleRedeeming
                | Self::VoucherReplaying
        )
    }

    /// Returns whether an app server can behave so.
    #[must_use]
    pub const fn is_for_app_servers(self) -> bool {
        matches!(self, Self::Honest | Self::Overreaching)
    }

    /// Returns whether an owner can behave so.
    #[must_use]
    pub const fn is_for_owners(self) -> bool {
        matches!(
            self,
            Self::Honest | Self::DoubleRedeeming | Self::VoucherReplaying
        )
    }

    /// Returns whether a coordinator can behave so.
    #[must_use]
    pub const fn is_for_coordinators(self) -> bool {
        matches!(
            self,
            Self::Honest
                | Self::Owing
                | Self::Tampering
                | Self::Swindling
                | Self::Forking
                | Self::Wavering
        )
    }

    /// Returns whether it answers terminals as a coordinator, and not as it should.
    #[must_use]
    pub const fn answers_terminals(self) -> bool {
        matches!(
            self,
            Self::Forging | Self::Owing | Self::Tampering | Self::Swindling
        )
    }

    /// Returns whether it uses what others say.
    #[must_use]
    pub const fn listens(self) -> bool {
        match self {
            Self::Replaying
            | Self::Forging
            | Self::Claiming
            | Self::Tampering
            | Self::Misregistering
            | Self::Overreaching => true,
            Self::Honest
            | Self::WrongOutput
            | Self::WrongFuel
            | Self::Lazy
            | Self::Colluding
            | Self::Withholding
            | Self::Hoarding
            | Self::Flooding
            | Self::Owing
            | Self::Swindling
            | Self::Forking
            | Self::Wavering
            | Self::DoubleRedeeming
            | Self::VoucherReplaying => false,
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
    /// What others have said lately; nothing unless its kind [listens](Kind::listens).
    pub wire: &'a Wire,
}

impl<'a> Me<'a> {
    /// Says who a coordinator is.
    pub(crate) fn coordinator(
        (peer, id): (Peer, NodeId),
        setup: &'a Setup,
        stage: &'a Stage,
    ) -> Self {
        Self {
            peer,
            id,
            key: &setup.key,
            network: &stage.network,
            profile: &stage.profile,
            now: setup.clock.read(stage.now),
            coordinators: &[],
            wire: &stage.wire,
        }
    }
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
    /// In that of app servers and coordinators about agreements and registrations.
    Registry(RegistryRequest),
    /// In that about points.
    Redeem(RedeemRequest),
    /// By gossip, to all.
    Offer(Signed<Offer>),
}

/// Returns a name for what an answer says, for counting.
pub(crate) fn work_reply_name(reply: &WorkReply) -> &'static str {
    match reply {
        WorkReply::Role(_) => "role",
        WorkReply::Nudged => "nudged",
        WorkReply::Refused(refusal) => refusal.name(),
        WorkReply::Pulled(reply) if reply.leased.is_some() => "leased",
        // A report that counts in part counts.
        WorkReply::Pulled(reply) => reply
            .verdicts
            .iter()
            .min_by_key(|verdict| **verdict != ResultVerdict::Counted)
            .map_or("nothing", |verdict| verdict_name(*verdict)),
    }
}

const fn verdict_name(verdict: ResultVerdict) -> &'static str {
    match verdict {
        ResultVerdict::Counted => "counted",
        ResultVerdict::Redundant => "redundant",
        ResultVerdict::NotLeased => "not_leased",
        ResultVerdict::ShowGrant => "show_grant",
        ResultVerdict::OutputMissing => "output_missing",
        ResultVerdict::TaskEnded => "task_ended",
    }
}

/// Returns a name for what an answer to a customer says, for counting.
pub(crate) const fn customer_reply_name(reply: &CustomerReply) -> &'static str {
    match reply {
        CustomerReply::Status(_) => "status",
        CustomerReply::Tasks(_) => "tasks",
        CustomerReply::Terms(_) => "terms",
        CustomerReply::Refused(refusal) => refusal.name(),
    }
}

/// Returns a name for what a coordinator answers about agreements and registrations, for counting.
pub(crate) const fn registry_reply_name(reply: &RegistryReply) -> &'static str {
    match reply {
        RegistryReply::Refused(refusal) => refusal.name(),
        RegistryReply::Kept(0) => "kept none",
        RegistryReply::Kept(_) => "kept",
        RegistryReply::Agreement(_) => "agreement",
        RegistryReply::Points(_) => "points",
        RegistryReply::Heard => "heard",
        RegistryReply::Settlement(_) => "settlement",
    }
}

/// Returns a name for what a coordinator answers about points, for counting.
pub(crate) const fn redeem_reply_name(reply: &RedeemReply) -> &'static str {
    match reply {
        RedeemReply::Refused(refusal) => refusal.name(),
        RedeemReply::Not(fault) => redeem_fault_name(*fault),
        RedeemReply::Reserved(_) => "reserved",
        RedeemReply::Posted(_) => "posted",
        RedeemReply::Voided => "voided",
        RedeemReply::Reversed => "reversed",
    }
}

const fn redeem_fault_name(fault: RedeemFault) -> &'static str {
    match fault {
        RedeemFault::OtherAudience => "other_audience",
        RedeemFault::Expired => "expired",
        RedeemFault::NotAllowed => "not_allowed",
        RedeemFault::DeviceLimit { .. } => "device_limit",
        RedeemFault::NoAgreement => "no_agreement",
        RedeemFault::TooFewPoints { .. } => "too_few_points",
        RedeemFault::Worthless => "worthless",
        RedeemFault::OverCap { .. } => "over_cap",
        RedeemFault::OverCredit { .. } => "over_credit",
        RedeemFault::Unknown => "unknown",
        RedeemFault::Over => "over",
        RedeemFault::Posted => "already_posted",
        RedeemFault::Unfunded => "unfunded",
    }
}

/// What a node does differently from an honest one. All by default as an honest one.
pub trait Conduct: fmt::Debug {
    /// Decides what is said of a unit, whose right result is `right`.
    fn answer(&mut self, right: Ran, unit: Unit, chance: &mut Chance) -> Answer {
        let _ = (unit, chance);
        Answer::Reports(right)
    }

    /// Changes a pull before it is sent. Returns what is wrong with it, if anything is.
    fn pull(&mut self, pull: &mut Pull, me: &Me<'_>, chance: &mut Chance) -> Option<&'static str> {
        let _ = (pull, me, chance);
        None
    }

    /// Changes the answer to a pull before it is sent, if this is a coordinator. Returns what is wrong with it, if
    /// anything is.
    fn reply(
        &mut self,
        reply: &mut PullReply,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let _ = (reply, me, chance);
        None
    }

    /// Changes the answer to an app server that asks about points, if this is a coordinator. Returns what is wrong with
    /// it, if anything is.
    fn redeem_reply(
        &mut self,
        reply: &mut RedeemReply,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let _ = (reply, me, chance);
        None
    }

    /// Hears an answer from a coordinator, to a pull or to what it sent on its own.
    fn hear(&mut self, from: Peer, reply: &WorkReply, me: &Me<'_>) {
        let _ = (from, reply, me);
    }

    /// Returns whether a large output is given to whom it was reported.
    fn serves_outputs(&self) -> bool {
        true
    }

    /// Changes the head of its log before it is gossiped, if this is a coordinator. Returns what is wrong with it, if
    /// anything is.
    fn tell_head(
        &mut self,
        head: &mut VerifiedCheckpoint,
        (store, me): (&Store, &Me<'_>),
        chance: &mut Chance,
    ) -> Option<&'static str> {
        let _ = (head, store, me, chance);
        None
    }

    /// Changes what somebody is answered who asks about its log, if this is a coordinator. Returns what is wrong with
    /// it, if anything is.
    fn tell_log(
        &mut self,
        reply: &mut LogReply,
        (asked, by): (&LogRequest, Peer),
        (store, me): (&Store, &Me<'_>),
    ) -> Option<&'static str> {
        let _ = (reply, asked, by, store, me);
        None
    }

    /// Returns whether it lets itself be found as a coordinator, though it is a terminal.
    fn poses(&self) -> bool {
        false
    }

    /// Answers as if it were a coordinator, and says what is wrong with that. None if it does not play one.
    fn pose(
        &mut self,
        asked: &WorkRequest,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<(&'static str, WorkReply)> {
        let _ = (asked, me, chance);
        None
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
