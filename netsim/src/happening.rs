//! What happens in a world, as far as anybody may want to know it: the trace is hashed over it, stories are told from
//! it, numbers are counted from it, oracles judge it.
//!
//! A happening stands at the moment at which it is a fact: what a coordinator records when it is durable, what it says
//! when it leaves.

use std::fmt;
use std::time::Duration;

use tally_protocol::account::Money;
use tally_protocol::coordinator::Compared;
use tally_protocol::entry::Ending;
use tally_protocol::id::{
    GrantId, Hash, NodeId, OrderId, ReceiptId, RedemptionId, TaskId, VoucherId,
};
use tally_protocol::message::work::ResultVerdict;
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{Ran, ReceiptFault, Standing};
use tally_protocol::unit::{Fault, Outcome};

use crate::moment::Moment;
use crate::peer::Peer;

/// What a run gave, as results are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gave {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
}

impl From<&Ran> for Gave {
    fn from(ran: &Ran) -> Self {
        Self {
            outcome: ran.outcome,
            fuel: ran.fuel,
            output: ran.output,
        }
    }
}

impl fmt::Display for Gave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            outcome,
            fuel,
            output: BlobRef { id, bytes },
        } = self;
        write!(f, "{outcome}, {fuel} fuel, {bytes} bytes {}", id.short())
    }
}

/// A unit of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// The task.
    pub task: TaskId,
    /// The unit.
    pub unit: u32,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unit {} of {}", self.unit, self.task.short())
    }
}

/// A lease as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The unit.
    pub unit: u32,
    /// How often it had been leased before.
    pub attempt: u32,
}

/// Something that happened. Where two nodes have a part, the one that acts is named first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Happening {
    /// A node starts, for the `start`th time.
    Started {
        /// The node.
        node: Peer,
        /// From 1.
        start: u32,
    },
    /// A node is gone.
    Stopped {
        /// The node.
        node: Peer,
        /// Whether it went as it should.
        how: Stop,
    },
    /// A node is connected to a coordinator that has shown its role.
    Connected {
        /// The node.
        node: Peer,
        /// The coordinator.
        to: Peer,
    },
    /// The connection is gone.
    Disconnected {
        /// The node.
        node: Peer,
        /// The coordinator.
        from: Peer,
    },
    /// A node has looked for coordinators.
    LookedUp {
        /// The node.
        by: Peer,
        /// Requests that it took.
        requests: u32,
        /// Coordinators named.
        found: u32,
    },
    /// An offer was gossiped.
    Offered {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
        /// Terminals that it reaches.
        reached: u32,
    },
    /// A customer asks for a task for the first time.
    Submitted {
        /// The customer.
        by: Peer,
        /// The coordinator.
        to: Peer,
        /// The task.
        task: TaskId,
    },
    /// It is durable that a task was accepted.
    Accepted {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
    },
    /// It is durable how a task was cut.
    Divided {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
        /// Number of units.
        units: u32,
    },
    /// A terminal asks for work, or reports.
    Pulled {
        /// The terminal.
        by: Peer,
        /// The coordinator.
        to: Peer,
        /// Units that it wants.
        want: u32,
        /// Grants whose leases it renews.
        renews: u32,
        /// Results that it reports.
        results: u32,
    },
    /// A coordinator sends leases.
    Leased {
        /// The coordinator.
        by: Peer,
        /// The terminal.
        to: Peer,
        /// The grant.
        grant: GrantId,
        /// The task.
        task: TaskId,
        /// The leases.
        leases: Vec<Lease>,
    },
    /// A lease ends before its result came: it was given back, or not renewed, or its task has ended.
    LeaseEnded {
        /// The coordinator.
        by: Peer,
        /// The terminal.
        of: Peer,
        /// The grant.
        grant: GrantId,
    },
    /// The owner of a terminal interrupts it.
    Interrupted {
        /// The terminal.
        of: Peer,
        /// In which way.
        how: Interruption,
    },
    /// A terminal begins to run units. Noted only of those that somebody interrupts.
    Began {
        /// The terminal.
        by: Peer,
        /// The coordinator that has leased them.
        at: Peer,
        /// The grant.
        grant: GrantId,
        /// The units.
        units: Vec<u32>,
    },
    /// A terminal sends a unit back.
    GivenBack {
        /// The terminal.
        by: Peer,
        /// The coordinator.
        to: Peer,
        /// The grant.
        grant: GrantId,
        /// The unit's number.
        unit: u32,
        /// Why.
        fault: Fault,
    },
    /// A terminal has run a unit.
    Ran {
        /// The terminal.
        by: Peer,
        /// The grant.
        grant: GrantId,
        /// The unit.
        unit: Unit,
        /// What it says that it gave, or why it gave nothing.
        gave: Result<Gave, Fault>,
        /// How long it took.
        took: Duration,
    },
    /// A terminal sends a result.
    Reported {
        /// The terminal.
        by: Peer,
        /// The coordinator.
        to: Peer,
        /// The grant that it names.
        grant: GrantId,
        /// The unit, as far as the world knows the grant.
        unit: Unit,
        /// The result.
        gave: Gave,
    },
    /// It is durable that a result counts as a vote.
    Voted {
        /// The coordinator.
        at: Peer,
        /// The terminal.
        by: Peer,
        /// The unit.
        unit: Unit,
        /// The result.
        gave: Gave,
    },
    /// It is durable what a terminal says of a unit whose result was known.
    Answered {
        /// The coordinator.
        at: Peer,
        /// The terminal.
        by: Peer,
        /// The unit.
        unit: Unit,
        /// The result.
        gave: Gave,
        /// What it is by the coordinator's knowledge.
        compared: Compared,
    },
    /// It is durable that a terminal could not run a unit.
    Faulted {
        /// The coordinator.
        at: Peer,
        /// The terminal.
        by: Peer,
        /// The unit.
        unit: Unit,
        /// Why.
        fault: Fault,
    },
    /// A terminal is told what became of a result.
    Judged {
        /// The coordinator.
        by: Peer,
        /// The terminal.
        to: Peer,
        /// The grant.
        grant: GrantId,
        /// The unit's number.
        unit: u32,
        /// The verdict.
        verdict: ResultVerdict,
    },
    /// It is durable that a unit's result is agreed.
    Validated {
        /// The coordinator.
        by: Peer,
        /// The unit.
        unit: Unit,
        /// The result.
        gave: Gave,
        /// Devices that reported this.
        agreed: Vec<Peer>,
        /// Devices that reported something else.
        outvoted: Vec<Peer>,
    },
    /// The outputs of a task were put together.
    Merged {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
        /// The result.
        result: BlobRef,
    },
    /// It is durable that a task has ended.
    Ended {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
    },
    /// It is durable that a terminal got a receipt.
    Receipted {
        /// The coordinator.
        by: Peer,
        /// The terminal.
        to: Peer,
        /// The task.
        task: TaskId,
        /// Whose the terminal is, as the receipt says.
        owner: NodeId,
        /// The receipt.
        receipt: ReceiptId,
        /// Units whose results it pays.
        units: Vec<u32>,
    },
    /// It is durable that nothing more is paid for a task.
    Settled {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
    },
    /// It is durable that money has come in, or was paid out or back.
    MoneyMoved {
        /// The coordinator.
        by: Peer,
        /// What was done.
        how: Payment,
        /// Whose it was: the customer, or the terminals of the owner; nobody if it was the operator.
        of: Vec<Peer>,
        /// How much.
        money: Money,
    },
    /// It is durable that a receipt was taken back.
    ClawedBack {
        /// The coordinator.
        by: Peer,
        /// The terminal.
        of: Peer,
        /// The receipt.
        receipt: ReceiptId,
    },
    /// It is durable that points have left escrow, or that nobody spent them in time.
    PointsTurned {
        /// The coordinator.
        by: Peer,
        /// Whether they are lost.
        expired: bool,
    },
    /// A terminal takes a receipt.
    ReceiptKept {
        /// The terminal.
        by: Peer,
        /// Who signed it.
        from: Peer,
        /// The receipt.
        receipt: ReceiptId,
        /// Whether it was checked.
        standing: Standing,
    },
    /// A terminal finds a receipt wrong.
    Disputed {
        /// The terminal.
        by: Peer,
        /// Who sent it.
        from: Peer,
        /// What is wrong.
        fault: ReceiptFault,
    },
    /// A terminal is told that results will not be paid.
    GivenUp {
        /// The terminal.
        by: Peer,
        /// The coordinator.
        from: Peer,
        /// How many.
        results: u32,
    },
    /// A coordinator gossips the head of its log, or what it says is that.
    HeadTold {
        /// The coordinator.
        by: Peer,
        /// Entries of the log.
        size: u64,
        /// Nodes that it reaches.
        reached: u32,
    },
    /// The witness of a terminal hears a head of a log, by gossip or as an answer.
    HeadHeard {
        /// The terminal.
        by: Peer,
        /// The coordinator whose log it is.
        of: Peer,
        /// Entries of the log.
        size: u64,
        /// The root over them.
        root: Hash,
    },
    /// The witness of a terminal has the evidence that a log has forked.
    ForkFound {
        /// The terminal.
        by: Peer,
        /// The coordinator whose log it is.
        of: Peer,
    },
    /// It is durable that a coordinator and an app server have an agreement.
    Agreed {
        /// The one that has written it.
        by: Peer,
        /// The other one.
        with: Peer,
    },
    /// It is durable that a terminal is registered at an app server, or not any more.
    Registered {
        /// The coordinator or the app server that has written it.
        by: Peer,
        /// The terminal.
        device: Peer,
        /// Whether it is.
        holds: bool,
    },
    /// It is durable what has become of points at a coordinator.
    Redeemed {
        /// The coordinator.
        by: Peer,
        /// The redemption.
        redemption: RedemptionId,
        /// What.
        how: Redeeming,
    },
    /// It is durable that an order has changed.
    OrderChanged {
        /// The app server.
        by: Peer,
        /// The order.
        order: OrderId,
        /// What has happened to it, in a word or two.
        how: &'static str,
    },
    /// An owner pays its part of an order, in the world outside.
    OrderPaid {
        /// The owner's client.
        by: Peer,
        /// The app server.
        to: Peer,
        /// The order.
        order: OrderId,
        /// How the outside names the payment.
        reference: String,
    },
    /// A shop is told that a voucher is good for a fee.
    VoucherTaken {
        /// The app server.
        by: Peer,
        /// The voucher.
        voucher: VoucherId,
        /// The fee.
        fee: Money,
        /// By which the shop names what it asks for.
        key: String,
    },
    /// It is durable how a settlement stands.
    SettlementStands {
        /// The coordinator or the app server that has written it.
        by: Peer,
        /// Its number.
        number: u32,
        /// How, in a word.
        how: &'static str,
    },
    /// An owner's client has done what it wanted, or has given up.
    Contented {
        /// The client.
        by: Peer,
    },
    /// It is durable that a task is forgotten.
    Forgotten {
        /// The coordinator.
        by: Peer,
        /// The task.
        task: TaskId,
    },
    /// A customer is told how its task is, something new.
    Told {
        /// The coordinator.
        by: Peer,
        /// The customer.
        to: Peer,
        /// The task.
        task: TaskId,
        /// The phase, by its name.
        phase: &'static str,
        /// Units done.
        done: u32,
    },
    /// A customer has what it wanted, or has been refused.
    Satisfied {
        /// The customer.
        by: Peer,
        /// The task.
        task: TaskId,
        /// The result, if there is one.
        result: Option<BlobRef>,
    },
    /// A node refuses a message.
    Refused {
        /// Who refuses.
        by: Peer,
        /// Whose message.
        from: Peer,
        /// Why: the name of the refusal.
        why: &'static str,
    },
    /// A message was sent.
    Sent {
        /// From.
        from: Peer,
        /// To.
        to: Peer,
        /// Its kind.
        kind: &'static str,
        /// Its length in bytes.
        bytes: u64,
        /// Whether it arrives.
        arrives: bool,
    },
    /// A dishonest node does something that no honest one does.
    Cheated {
        /// Who.
        by: Peer,
        /// Towards whom.
        to: Peer,
        /// What, in a word or two.
        how: &'static str,
    },
    /// What a dishonest node did has met with something.
    Met {
        /// Who.
        by: Peer,
        /// From whom.
        from: Peer,
        /// What was done.
        how: &'static str,
        /// What it met with: the name of a refusal, of a verdict, or of an answer.
        with: &'static str,
    },
    /// A node is in a state in which none may be.
    Breached {
        /// The node.
        by: Peer,
        /// What is wrong.
        what: String,
    },
    /// Something befalls the world.
    Marked(Mark),
}

/// How the owner of a terminal interrupts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interruption {
    /// It sits down at the computer: nothing runs.
    Suspended,
    /// It is gone: everything goes on.
    Resumed,
    /// It needs the memory of what is suspended.
    MemoryNeeded,
    /// It shuts the lid: the computer sleeps.
    Slept,
    /// It opens the lid.
    Woke,
}

impl Interruption {
    /// Returns what the terminal does, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Suspended => "is suspended: its owner is there",
            Self::Resumed => "goes on: its owner is gone",
            Self::MemoryNeeded => "gives its memory back to its owner",
            Self::Slept => "falls asleep",
            Self::Woke => "wakes",
        }
    }
}

/// What becomes of points that are to be redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Redeeming {
    /// They are set aside.
    Reserved,
    /// They are free again.
    Freed,
    /// They are taken.
    Taken,
    /// They are given back.
    GivenBack,
}

impl fmt::Display for Redeeming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reserved => "set aside",
            Self::Freed => "free again",
            Self::Taken => "taken",
            Self::GivenBack => "given back",
        })
    }
}

/// What an operator has done with money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payment {
    /// It has come in.
    Deposit,
    /// It went out.
    Payout,
    /// A customer got it back.
    Refund,
}

/// How a node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Its owner switched it off.
    Left,
    /// It crashed.
    Crashed,
}

/// What befalls the world as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mark {
    /// A cut begins.
    CutBegins(usize),
    /// A cut ends.
    CutEnds(usize),
    /// Faults stop.
    Calm,
    /// A coordinator crashes; the flag says whether in the middle of a commit.
    Crash(Peer, bool),
    /// A coordinator starts again.
    Restart(Peer),
    /// An app server crashes; the flag says whether in the middle of a commit.
    ShopCrash(Peer, bool),
    /// An app server starts again.
    ShopRestart(Peer),
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutBegins(number) => write!(f, "cut {number} begins"),
            Self::CutEnds(number) => write!(f, "cut {number} ends"),
            Self::Calm => f.pad("faults stop"),
            Self::Crash(peer, false) => write!(f, "coordinator {} crashes", peer.0),
            Self::Crash(peer, true) => {
                write!(
                    f,
                    "coordinator {} crashes in the middle of a commit",
                    peer.0
                )
            }
            Self::Restart(peer) => write!(f, "coordinator {} is back", peer.0),
            Self::ShopCrash(peer, false) => write!(f, "app server {} crashes", peer.0),
            Self::ShopCrash(peer, true) => {
                write!(f, "app server {} crashes in the middle of a commit", peer.0)
            }
            Self::ShopRestart(peer) => write!(f, "app server {} is back", peer.0),
        }
    }
}

/// Somebody who looks on.
pub trait Observer: fmt::Debug {
    /// Notes a happening.
    fn see(&mut self, at: Moment, what: &Happening);
}
