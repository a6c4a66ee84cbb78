//! Fault points: places where a test may have the process die as if by `kill -9`.
//!
//! A node started with the hidden option `--fault NAME:COUNT` ends itself, without any cleaning up, when it passes the
//! point NAME for the COUNT-th time. Without the option a point costs one load of memory.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tally_protocol::app_server::{Fact, OrderChange, SettlementFact, UserFact};
use tally_protocol::entry::Event;

/// Makes the points with their names on the command line.
macro_rules! points {
    ($($(#[$doc:meta])+ $point:ident = $name:literal,)+) => {
        /// A named place in the work of a coordinator or an app server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[$doc])+ $point,)+
        }

        impl Point {
            /// All points.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Returns the name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A submission has arrived, nothing of it is stored.
    SubmissionHeard = "submission-heard",
    /// The group of facts is about to be committed.
    BeforeCommit = "before-commit",
    /// The group is durable, none of its effects has left.
    AfterCommit = "after-commit",
    /// Program and input have arrived, which is not recorded.
    InputArrived = "input-arrived",
    /// The input is cut, which is not recorded.
    InputDivided = "input-divided",
    /// A grant is signed, not sent.
    GrantSigned = "grant-signed",
    /// A report is checked, nothing of it is stored.
    ReportVerified = "report-verified",
    /// The answer to a pull was sent.
    PullAnswered = "pull-answered",
    /// The outputs are merged, which is not recorded.
    OutputsMerged = "outputs-merged",
    /// A snapshot was written.
    SnapshotWritten = "snapshot-written",
    /// A group with an accepted task is about to be committed.
    BeforeAccept = "before-accept",
    /// A group with an accepted task is durable.
    AfterAccept = "after-accept",
    /// A group with validated units is about to be committed.
    BeforeAgree = "before-agree",
    /// A group with validated units is durable.
    AfterAgree = "after-agree",
    /// A group with a receipt is about to be committed.
    BeforeReceipt = "before-receipt",
    /// A group with a receipt is durable, the receipt has not left.
    AfterReceipt = "after-receipt",
    /// A group with a settled task is about to be committed.
    BeforeSettle = "before-settle",
    /// A group with a settled task is durable.
    AfterSettle = "after-settle",
    /// A group that releases points is about to be committed.
    BeforeRelease = "before-release",
    /// A group that releases points is durable.
    AfterRelease = "after-release",
    /// The coordinator is about to set points aside.
    BeforeReserve = "before-reserve",
    /// Points are set aside, which nobody has heard.
    AfterReserve = "after-reserve",
    /// The coordinator is about to take points that are set aside.
    BeforeRedeem = "before-redeem",
    /// Points are taken, which nobody has heard.
    AfterRedeem = "after-redeem",
    /// The coordinator is about to give points back.
    BeforeReverse = "before-reverse",
    /// Points are given back, which nobody has heard.
    AfterReverse = "after-reverse",
    /// A settlement that both signed is about to be committed.
    BeforeSettlement = "before-settlement",
    /// It is durable, the other side has not heard.
    AfterSettlement = "after-settlement",
    /// The app server is about to state what a coordinator owes.
    BeforeState = "before-state",
    /// That is recorded, the coordinator was not asked.
    AfterState = "after-state",
    /// The app server is about to record that a device is registered.
    BeforeRegister = "before-register",
    /// A device is registered, which nobody has heard.
    AfterRegister = "after-register",
    /// The app server is about to record an order.
    BeforeOpen = "before-open",
    /// An order is recorded, nobody has its name.
    AfterOpen = "after-open",
    /// The app server is about to record which points pay for an order.
    BeforeLegs = "before-legs",
    /// They are recorded, no coordinator was asked.
    AfterLegs = "after-legs",
    /// The app server is about to record that points are set aside.
    BeforeHeld = "before-held",
    /// That is recorded.
    AfterHeld = "after-held",
    /// The app server is about to decide that points are taken.
    BeforeDecide = "before-decide",
    /// That is decided, no coordinator was asked.
    AfterDecide = "after-decide",
    /// The app server is about to record a coordinator's word that points are taken.
    BeforeTaken = "before-taken",
    /// That is recorded.
    AfterTaken = "after-taken",
    /// The app server is about to issue what was ordered.
    BeforeIssue = "before-issue",
    /// It is issued, nobody has it.
    AfterIssue = "after-issue",
}

impl Point {
    /// Returns the points before and after the commit of an event of a coordinator, if it has some.
    #[must_use]
    pub const fn around(event: &Event) -> Option<(Self, Self)> {
        match event {
            Event::TaskAccepted { .. } => Some((Self::BeforeAccept, Self::AfterAccept)),
            Event::BatchValidated { .. } => Some((Self::BeforeAgree, Self::AfterAgree)),
            Event::Receipted { .. } => Some((Self::BeforeReceipt, Self::AfterReceipt)),
            Event::TaskSettled { .. } => Some((Self::BeforeSettle, Self::AfterSettle)),
            Event::Released { .. } => Some((Self::BeforeRelease, Self::AfterRelease)),
            Event::PointsReserved { .. } => Some((Self::BeforeReserve, Self::AfterReserve)),
            Event::PointsRedeemed { .. } => Some((Self::BeforeRedeem, Self::AfterRedeem)),
            Event::RedemptionReversed { .. } => Some((Self::BeforeReverse, Self::AfterReverse)),
            Event::SettlementMade { .. } => Some((Self::BeforeSettlement, Self::AfterSettlement)),
            Event::TaskEnded { .. }
            | Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::ReservationEnded { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. }
            | Event::Expired { .. } => None,
        }
    }

    /// Returns the points before and after the commit of a fact of an app server, if it has some.
    #[must_use]
    pub const fn around_fact(fact: &Fact) -> Option<(Self, Self)> {
        match fact {
            Fact::User(UserFact::Registered { .. }) => {
                Some((Self::BeforeRegister, Self::AfterRegister))
            }
            Fact::Opened(_) => Some((Self::BeforeOpen, Self::AfterOpen)),
            Fact::Order { change, .. } => match change {
                OrderChange::Redeemed(_) => Some((Self::BeforeLegs, Self::AfterLegs)),
                OrderChange::Reserved { .. } => Some((Self::BeforeHeld, Self::AfterHeld)),
                OrderChange::Decided => Some((Self::BeforeDecide, Self::AfterDecide)),
                OrderChange::Taken(..) => Some((Self::BeforeTaken, Self::AfterTaken)),
                OrderChange::Fulfilled(_) => Some((Self::BeforeIssue, Self::AfterIssue)),
                OrderChange::Posted
                | OrderChange::Paid(_)
                | OrderChange::Voided(_)
                | OrderChange::Refunded
                | OrderChange::FoundTaken(_)
                | OrderChange::LegEnded(_) => None,
            },
            Fact::Settlement(SettlementFact::Stated(_)) => {
                Some((Self::BeforeState, Self::AfterState))
            }
            Fact::Product(_)
            | Fact::Offer(_)
            | Fact::Agreement(_)
            | Fact::User(_)
            | Fact::Forgotten(_)
            | Fact::Status(..)
            | Fact::Listed(_)
            | Fact::VoucherUsed(..)
            | Fact::Settlement(_) => None,
        }
    }
}

/// Where and when to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    point: Point,
    count: u32,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let point = Point::ALL.iter().find(|point| point.name() == name);
        let point = *point.ok_or_else(|| format!("{name:?} is not a fault point"))?;
        let count = count
            .parse()
            .map_err(|_| format!("{count:?} is not a count"))?;
        Ok(Self { point, count })
    }
}

static ARMED: OnceLock<(Fault, AtomicU32)> = OnceLock::new();

/// Arms one fault for the life of the process.
pub fn arm(fault: Fault) {
    let _ = ARMED.set((fault, AtomicU32::new(0)));
}

/// Passes a point: dies here if it is armed and its time has come.
pub fn pass(point: Point) {
    let Some((fault, passed)) = ARMED.get() else {
        return;
    };
    if fault.point == point && passed.fetch_add(1, Ordering::Relaxed) + 1 == fault.count {
        tracing::error!(
            point = point.name(),
            "fault point reached, the process ends"
        );
        let me = rustix::process::getpid();
        // Killed, not aborted: no handler runs, as after a power cut.
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        std::process::abort();
    }
}
