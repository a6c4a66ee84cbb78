//! Why a terminal does not compute, has no work, or is not paid: puts together what its parts know.
//!
//! Invariants: every reason that holds is there, once for each coordinator it concerns; a terminal that computes and takes
//! work is not told why it does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tally_ledger::wallet::Unpaid;
use tally_protocol::id::NodeId;
use tally_protocol::manners::{Because, Reason, Until};
use tally_protocol::message::Refusal;
use tally_protocol::message::wishes::{Misfit, Unfit};
use tally_protocol::message::work::{ResultVerdict, UnpaidReason};
use tally_protocol::terminal::LinkStanding;
use tally_protocol::time::Timestamp;
use tally_protocol::unit::Fault;

use super::OwnerStatus;
use crate::terminal::TerminalStatus;

/// Questions in a row that may fail before a coordinator is said to be away: one may be lost.
const FAILURES_MAX: u32 = 2;
/// How long after its start a terminal may look for others before that is a reason.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to an owner who asks why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Why {
    /// What it does, in a sentence.
    pub summary: String,
    /// Whether units run.
    pub computing: bool,
    /// Every reason that holds, those that matter most first.
    pub because: Vec<Because>,
}

/// What the parts of a terminal know.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The time.
    pub now: Timestamp,
    /// When the node was started.
    pub started: Timestamp,
    /// What the owner allows.
    pub owner: &'a OwnerStatus,
    /// What the terminal does.
    pub terminal: &'a TerminalStatus,
    /// How many nodes are connected.
    pub peers: usize,
    /// Coordinators whose log contradicts itself, and since when that is known.
    pub forked: &'a [(NodeId, Timestamp)],
    /// What is not paid.
    pub unpaid: &'a Unpaid,
}

impl Why {
    /// Puts the reasons together.
    #[must_use]
    pub fn of(seen: &Seen<'_>) -> Self {
        let (owner, terminal) = (seen.owner, seen.terminal);
        let mut because = owner.because.clone();
        if let Some(since) = terminal.draining {
            because.push(told(Reason::Stopping, since, Until::ItChanges));
        }
        let takes = because.is_empty();
        let runs = terminal.running > 0 && terminal.suspended.is_none();
        because.extend(no_work(seen, takes && !runs && terminal.stored == 0));
        because.extend(not_paid(seen));
        because.extend(no_result(seen));
        Self {
            summary: summary(terminal, because.first().filter(|_| !takes || !runs)),
            computing: runs,
            because,
        }
    }
}

fn told(reason: Reason, since: Timestamp, until: Until) -> Because {
    Because {
        reason,
        since,
        until,
        detail: String::new(),
    }
}

fn about(because: Because, detail: impl Into<String>) -> Because {
    Because {
        detail: detail.into(),
        ..because
    }
}

/// Says what the terminal does.
fn summary(terminal: &TerminalStatus, first: Option<&Because>) -> String {
    let units = |count: usize| match count {
        1 => "1 unit".to_owned(),
        count => format!("{count} units"),
    };
    let doing = match (&terminal.suspended, terminal.running) {
        (Some(suspended), _) => format!("{} suspended", units(suspended.units)),
        (None, 0) => "nothing is computed".to_owned(),
        (None, _) => format!("computing, {} wait", units(terminal.stored)),
    };
    match first {
        Some(because) => format!("{doing}: {}", because.reason.about()),
        None => doing,
    }
}

/// Why no work comes: `waits` says whether there should be some.
fn no_work(seen: &Seen<'_>, waits: bool) -> Vec<Because> {
    let mut because = Vec::new();
    for (log, since) in seen.forked {
        because.push(named(*log, told(Reason::Forked, *since, Until::Over), ""));
    }
    for (coordinator, credit) in &seen.terminal.credits {
        if credit.owing {
            let owed = credit.totals.owed();
            let detail = format!("{} results", owed.results);
            let since = waiting_since(seen, *coordinator);
            let owing = told(Reason::Owing, since, Until::ItChanges);
            because.push(named(*coordinator, owing, &detail));
        }
    }
    for (coordinator, standing) in &seen.terminal.standings {
        because.extend(refusal(*coordinator, standing));
    }
    if !waits {
        return because;
    }
    let standings = &seen.terminal.standings;
    if seen.now.since(seen.started) >= PATIENCE {
        if seen.peers == 0 {
            let since = standings.iter().map(|(_, standing)| standing.since).max();
            let since = since.unwrap_or(seen.started);
            because.push(told(Reason::NoPeers, since, Until::ItChanges));
        } else if standings.is_empty() {
            because.push(told(Reason::NoCoordinator, seen.started, Until::ItChanges));
        }
    }
    for (coordinator, standing) in standings {
        because.extend(nothing_of(*coordinator, standing));
    }
    because
}

/// What a coordinator refuses.
fn refusal(coordinator: NodeId, standing: &LinkStanding) -> Option<Because> {
    let (refusal, since) = standing.refusal.as_ref()?;
    let (reason, detail) = match refusal {
        Refusal::NotRegistered => (Reason::NotRegistered, String::new()),
        Refusal::BadCertificate => (Reason::BadCertificate, String::new()),
        Refusal::WrongProfile => (Reason::WrongProfile, String::new()),
        Refusal::Busy => (Reason::CoordinatorBusy, String::new()),
        Refusal::Malformed
        | Refusal::Unverified
        | Refusal::Stale
        | Refusal::NotAdmitted
        | Refusal::WrongRole
        | Refusal::UnknownTask
        | Refusal::UnknownBlob
        | Refusal::UnknownEntry
        | Refusal::InvalidTask(_)
        | Refusal::InsufficientFunds { .. }
        | Refusal::OtherRateCard
        | Refusal::NoAgreement => (Reason::Refused, refusal.to_string()),
    };
    let because = told(reason, *since, again(standing));
    Some(named(coordinator, because, &detail))
}

/// Returns until when a coordinator is not asked.
fn again(standing: &LinkStanding) -> Until {
    standing.asked_again_at.map_or(Until::ItChanges, Until::At)
}

/// Why a coordinator that refuses nothing gives nothing.
fn nothing_of(coordinator: NodeId, standing: &LinkStanding) -> Vec<Because> {
    let silent = standing.refusal.is_none() && standing.failures >= FAILURES_MAX;
    if !standing.connected || silent {
        let since = standing.last_answer.filter(|_| standing.connected);
        let since = since.unwrap_or(standing.since);
        let away = told(Reason::CoordinatorAway, since, again(standing));
        return vec![named(coordinator, away, "")];
    }
    let Some(since) = standing.empty_at else {
        return Vec::new();
    };
    let mut because: Vec<Because> = Vec::new();
    for Unfit { why, tasks } in &standing.unfit {
        let reason = reason_of(*why);
        let detail = match tasks {
            1 => "1 task".to_owned(),
            tasks => format!("{tasks} tasks"),
        };
        because.push(named(
            coordinator,
            told(reason, since, again(standing)),
            &detail,
        ));
    }
    if because.is_empty() {
        let nothing = told(Reason::NothingOpen, since, again(standing));
        because.push(named(coordinator, nothing, ""));
    }
    because
}

const fn reason_of(misfit: Misfit) -> Reason {
    match misfit {
        Misfit::Program => Reason::ProgramDenied,
        Misfit::Customer => Reason::CustomerDenied,
        Misfit::Memory | Misfit::Fuel | Misfit::Output => Reason::UnitTooLarge,
        Misfit::Declined => Reason::PaysTooLittle,
        Misfit::OwnOnly => Reason::OwnTasksOnly,
        Misfit::OwnNever => Reason::OwnTask,
        Misfit::Computed => Reason::AlreadyComputed,
        Misfit::Rests => Reason::Contradicted,
        Misfit::Unconfirmed => Reason::Unconfirmed,
        Misfit::Funds => Reason::CustomerFunds,
        Misfit::Taken => Reason::Taken,
    }
}

/// Since when results wait for a receipt of a coordinator.
fn waiting_since(seen: &Seen<'_>, coordinator: NodeId) -> Timestamp {
    let mut all = seen.unpaid.coordinators.iter();
    let found = all.find(|by| by.coordinator == coordinator);
    found
        .and_then(|by| by.waiting_since)
        .unwrap_or(seen.started)
}

fn not_paid(seen: &Seen<'_>) -> Vec<Because> {
    let mut because = Vec::new();
    for by in &seen.unpaid.coordinators {
        let counted = |reason, since, until, count: u64| {
            let because = named(
                by.coordinator,
                told(reason, since, until),
                &format!("{count}"),
            );
            (count > 0).then_some(because)
        };
        let since = by.waiting_since.unwrap_or(seen.started);
        let pending = counted(Reason::ReceiptPending, since, Until::ItChanges, by.waiting);
        because.extend(pending);
        for (unpaid, count) in &by.declared {
            let reason = match unpaid {
                UnpaidReason::Outvoted => Reason::Outvoted,
                UnpaidReason::NoQuorum => Reason::NoQuorum,
                UnpaidReason::TaskEnded | UnpaidReason::Settled => Reason::TaskEnded,
            };
            because.extend(counted(reason, seen.started, Until::Over, *count));
        }
        because.extend(counted(
            Reason::Disputed,
            seen.started,
            Until::Over,
            by.disputed,
        ));
    }
    for part in &seen.unpaid.escrow {
        let escrow = told(Reason::InEscrow, seen.now, Until::At(part.at));
        because.push(about(escrow, format!("{} points", part.points)));
    }
    let late = seen.terminal.verdicts.get(&ResultVerdict::Redundant);
    if let Some(late) = late.filter(|late| **late > 0) {
        let too_late = told(Reason::TooLate, seen.started, Until::Over);
        because.push(about(too_late, format!("{late} results since the start")));
    }
    because
}

fn no_result(seen: &Seen<'_>) -> Vec<Because> {
    let faults = seen.terminal.faults_by.iter();
    let named = faults.map(|(fault, count)| {
        let reason = match fault {
            Fault::StackOverflow => Reason::StackOverflow,
            Fault::TimedOut => Reason::TimedOut,
            Fault::HostMemory => Reason::HostMemory,
            Fault::CompileLimit => Reason::CompileLimit,
            Fault::Killed => Reason::Killed,
            Fault::Unavailable => Reason::Unavailable,
            Fault::Withdrawn => Reason::Withdrawn,
        };
        (reason, *count)
    });
    let withdrawn = (Reason::Withdrawn, seen.terminal.withdrawn);
    let all = named.chain([withdrawn]).filter(|(_, count)| *count > 0);
    let because = all.map(|(reason, count)| {
        let over = told(reason, seen.started, Until::Over);
        about(over, format!("{count} units since the start"))
    });
    because.collect()
}

/// Names the coordinator that a reason concerns.
fn named(coordinator: NodeId, because: Because, more: &str) -> Because {
    let name = format!("..{}", coordinator.short());
    let detail = match more {
        "" => name,
        more => format!("{name}: {more}"),
    };
    about(because, detail)
}
