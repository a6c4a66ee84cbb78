//! Fault points: places where a test may have the process die as if by `kill -9`.
//!
//! A node started with the hidden option `--fault NAME:COUNT` ends itself, without any cleaning up, when it passes the
//! point NAME for the COUNT-th time. Without the option a point costs one load of memory.

use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tally_protocol::entry::Event;

/// A named place in the coordinator's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// A submission has arrived, nothing of it is stored.
    SubmissionHeard,
    /// The group of facts is about to be committed.
    BeforeCommit,
    /// The group is durable, none of its effects has left.
    AfterCommit,
    /// Program and input have arrived, which is not recorded.
    InputArrived,
    /// The input is cut, which is not recorded.
    InputDivided,
    /// A grant is signed, not sent.
    GrantSigned,
    /// A report is checked, nothing of it is stored.
    ReportVerified,
    /// The answer to a pull was sent.
    PullAnswered,
    /// The outputs are merged, which is not recorded.
    OutputsMerged,
    /// A snapshot was written.
    SnapshotWritten,
    /// A group with an accepted task is about to be committed.
    BeforeAccept,
    /// A group with an accepted task is durable.
    AfterAccept,
    /// A group with validated units is about to be committed.
    BeforeAgree,
    /// A group with validated units is durable.
    AfterAgree,
    /// A group with a receipt is about to be committed.
    BeforeReceipt,
    /// A group with a receipt is durable, the receipt has not left.
    AfterReceipt,
    /// A group with a settled task is about to be committed.
    BeforeSettle,
    /// A group with a settled task is durable.
    AfterSettle,
    /// A group that releases points is about to be committed.
    BeforeRelease,
    /// A group that releases points is durable.
    AfterRelease,
}

impl Point {
    /// All points.
    pub const ALL: [Self; 20] = [
        Self::SubmissionHeard,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::InputArrived,
        Self::InputDivided,
        Self::GrantSigned,
        Self::ReportVerified,
        Self::PullAnswered,
        Self::OutputsMerged,
        Self::SnapshotWritten,
        Self::BeforeAccept,
        Self::AfterAccept,
        Self::BeforeAgree,
        Self::AfterAgree,
        Self::BeforeReceipt,
        Self::AfterReceipt,
        Self::BeforeSettle,
        Self::AfterSettle,
        Self::BeforeRelease,
        Self::AfterRelease,
    ];

    /// Returns the points before and after the commit of an event, if it has some.
    #[must_use]
    pub const fn around(event: &Event) -> Option<(Self, Self)> {
        match event {
            Event::TaskAccepted { .. } => Some((Self::BeforeAccept, Self::AfterAccept)),
            Event::BatchValidated { .. } => Some((Self::BeforeAgree, Self::AfterAgree)),
            Event::Receipted { .. } => Some((Self::BeforeReceipt, Self::AfterReceipt)),
            Event::TaskSettled { .. } => Some((Self::BeforeSettle, Self::AfterSettle)),
            Event::Released { .. } => Some((Self::BeforeRelease, Self::AfterRelease)),
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
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. }
            | Event::Expired { .. } => None,
        }
    }

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubmissionHeard => "submission-heard",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::InputArrived => "input-arrived",
            Self::InputDivided => "input-divided",
            Self::GrantSigned => "grant-signed",
            Self::ReportVerified => "report-verified",
            Self::PullAnswered => "pull-answered",
            Self::OutputsMerged => "outputs-merged",
            Self::SnapshotWritten => "snapshot-written",
            Self::BeforeAccept => "before-accept",
            Self::AfterAccept => "after-accept",
            Self::BeforeAgree => "before-agree",
            Self::AfterAgree => "after-agree",
            Self::BeforeReceipt => "before-receipt",
            Self::AfterReceipt => "after-receipt",
            Self::BeforeSettle => "before-settle",
            Self::AfterSettle => "after-settle",
            Self::BeforeRelease => "before-release",
            Self::AfterRelease => "after-release",
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
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        let point = point.ok_or_else(|| format!("{name:?} is not a fault point"))?;
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
