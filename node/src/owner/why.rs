//! Why a terminal does not compute, has no work, or is not paid: puts together what its parts know.
//!
//! Invariants: every reason that holds is there, once for each coordinator it concerns; a terminal that computes and takes
//! work is not told why it does not.

use serde::{Deserialize, Serialize};
use tally_ledger::wallet::Unpaid;
use tally_protocol::id::NodeId;
use tally_protocol::manners::{Because, Question, Reason, Until};
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
        let explains = |found: &&Because| match found.reason.question() {
            Question::Paused => true,
            Question::NoWork => !takes || !runs,
            Question::NotPaid | Question::NoResult => false,
        };
        Self {
            summary: summary(terminal, because.iter().find(explains)),
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
        (None, _) if terminal.stored == 0 => "computing".to_owned(),
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
    if seen.peers == 0 {
        let since = standings.iter().map(|(_, standing)| standing.since).max();
        let since = since.unwrap_or(seen.started);
        because.push(told(Reason::NoPeers, since, Until::ItChanges));
    } else if standings.is_empty() {
        because.push(told(Reason::NoCoordinator, seen.started, Until::ItChanges));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tally_ledger::wallet::{PointsAt, UnpaidBy};
    use tally_protocol::manners::{
        AtHand, Facts, Machine, Manners, MinuteOfWeek, Power, Preset, Said, Space, When,
    };
    use tally_protocol::points::Points;
    use tally_protocol::terminal::{Credit, Suspended, Totals};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
    }

    fn coordinator(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn owner(because: Vec<Because>) -> OwnerStatus {
        OwnerStatus {
            because,
            in_use: false,
            cpu: 100,
            slots: 2,
            memory_bytes: 1 << 30,
            said: Said::Resume,
            said_at: at(0),
            preset: Preset::Medium,
            run: When::Always,
            preferences_fault: None,
            computer: Vec::new(),
            memory_total: None,
        }
    }

    /// A terminal in touch with a coordinator that has nothing, at the second 100.
    fn waiting() -> TerminalStatus {
        let mut terminal = TerminalStatus::empty(coordinator(9));
        terminal.standings = vec![(coordinator(1), standing())];
        terminal
    }

    fn standing() -> LinkStanding {
        LinkStanding {
            connected: true,
            since: at(10),
            asked_again_at: Some(at(105)),
            refusal: None,
            failures: 0,
            unfit: Vec::new(),
            empty_at: Some(at(99)),
            last_answer: Some(at(100)),
            last_grant: None,
        }
    }

    fn with(change: impl FnOnce(&mut LinkStanding)) -> TerminalStatus {
        let mut terminal = waiting();
        change(&mut terminal.standings[0].1);
        terminal
    }

    fn why(terminal: &TerminalStatus) -> Why {
        why_of(&owner(Vec::new()), terminal, (1, &[]), &Unpaid::default())
    }

    fn why_of(
        owner: &OwnerStatus,
        terminal: &TerminalStatus,
        (peers, forked): (usize, &[(NodeId, Timestamp)]),
        unpaid: &Unpaid,
    ) -> Why {
        Why::of(&Seen {
            now: at(100),
            started: at(0),
            owner,
            terminal,
            peers,
            forked,
            unpaid,
        })
    }

    fn reasons(why: &Why) -> Vec<Reason> {
        why.because.iter().map(|because| because.reason).collect()
    }

    #[test]
    fn who_computes_is_not_told_why_not() {
        let mut terminal = waiting();
        terminal.running = 2;
        terminal.stored = 7;
        let told = why(&terminal);
        assert_eq!((reasons(&told), told.computing), (Vec::new(), true));
        assert_eq!(told.summary, "computing, 7 units wait");
        terminal.suspended = Some(Suspended {
            since: at(90),
            units: 1,
        });
        let paused = Because {
            reason: Reason::Paused,
            since: at(90),
            until: Until::YouAct,
            detail: String::new(),
        };
        let unpaid = Unpaid::default();
        let told = why_of(&owner(vec![paused]), &terminal, (1, &[]), &unpaid);
        assert_eq!(
            (reasons(&told), told.computing),
            (vec![Reason::Paused], false)
        );
        assert_eq!(told.summary, "1 unit suspended: paused by you");
    }

    #[test]
    fn every_misfit_and_refusal_has_its_reason_and_its_end() {
        let told = why(&waiting());
        assert_eq!(reasons(&told), [Reason::NothingOpen]);
        assert_eq!(
            (told.because[0].since, told.because[0].until),
            (at(99), Until::At(at(105)))
        );
        let unfit = |why| with(|standing| standing.unfit = vec![Unfit { why, tasks: 3 }]);
        let told = why(&unfit(Misfit::Program));
        assert!(told.because[0].detail.ends_with(": 3 tasks"), "{told:?}");
        let told = why(&with(|standing| {
            standing.refusal = Some((Refusal::NotAdmitted, at(40)));
            standing.asked_again_at = None;
        }));
        assert_eq!(reasons(&told), [Reason::Refused, Reason::NothingOpen]);
        assert_eq!(
            (told.because[0].since, told.because[0].until),
            (at(40), Until::ItChanges)
        );
        assert!(told.because[0].detail.contains("not on the node's list"));
    }

    #[test]
    fn points_in_escrow_say_when_they_come() {
        let unpaid = Unpaid {
            escrow: vec![PointsAt {
                at: at(500),
                points: Points::from_micro(2_500_000),
            }],
            ..Unpaid::default()
        };
        let told = why_of(&owner(Vec::new()), &waiting(), (1, &[]), &unpaid);
        let escrow = told
            .because
            .iter()
            .find(|found| found.reason == Reason::InEscrow)
            .unwrap();
        assert_eq!(
            (escrow.until, escrow.detail.as_str()),
            (Until::At(at(500)), "2.500000 points")
        );
        assert!(!told.summary.contains("escrow"), "{}", told.summary);
    }

    /// What the manners themselves say, in every situation.
    fn of_manners() -> BTreeSet<Reason> {
        let space = |free| Some(Space { total: 100, free });
        let facts = Facts {
            idle: Some(Duration::ZERO),
            power: Some(Power::Battery { percent: 10 }),
            others_cpu: Some(90),
            memory: space(1),
            disk: space(1),
            metered: Some(true),
            local: Some(MinuteOfWeek::new(0, 0)),
            running: Some(vec!["vlc".to_owned()]),
            traffic_today: u64::MAX,
        };
        let all = "hours = [\"sun\"]\npause_for = [\"vlc\"]\n[network]\ndaily = \"1 GiB\"\n";
        let mut found = BTreeSet::new();
        for (run, said, at_hand) in [
            ("run = \"never\"\n", Said::Pause, AtHand::Work),
            ("run = \"idle\"\n", Said::Finish, AtHand::Work),
            ("on_battery = true\n", Said::Finish, AtHand::Nothing),
            ("", Said::Snooze { until: at(10) }, AtHand::Work),
        ] {
            let machine = Machine {
                processors: 2,
                slots: 2,
                output_bytes: 1 << 20,
            };
            let preferences = format!("{run}{all}").parse().unwrap();
            let mut manners = Manners::new(preferences, (said, at(0)), machine);
            let decision = manners.decide(at(1), &facts, at_hand);
            found.extend(decision.because.iter().map(|because| because.reason));
        }
        found
    }

    /// What the parts of a terminal say, in every situation.
    fn of_parts() -> BTreeSet<Reason> {
        let mut seen = Vec::new();
        for why in Misfit::ALL {
            seen.push(with(|standing| {
                standing.unfit = vec![Unfit { why, tasks: 1 }]
            }));
        }
        let refusals = [
            Refusal::NotRegistered,
            Refusal::BadCertificate,
            Refusal::WrongProfile,
            Refusal::Busy,
            Refusal::NotAdmitted,
        ];
        for refusal in refusals {
            seen.push(with(|standing| standing.refusal = Some((refusal, at(1)))));
        }
        seen.push(with(|standing| standing.connected = false));
        seen.push(with(|standing| standing.failures = FAILURES_MAX));
        seen.push(waiting());
        let mut stopping = waiting();
        stopping.draining = Some(at(50));
        stopping.verdicts.insert(ResultVerdict::Redundant, 2);
        stopping.withdrawn = 3;
        let faults = [
            Fault::StackOverflow,
            Fault::TimedOut,
            Fault::HostMemory,
            Fault::CompileLimit,
            Fault::Killed,
            Fault::Unavailable,
        ];
        stopping.faults_by.extend(faults.map(|fault| (fault, 1)));
        let owing = Credit {
            owing: true,
            ..Credit::of(Totals::default(), 1)
        };
        stopping.credits = vec![(coordinator(1), owing)];
        seen.push(stopping);
        seen.iter().flat_map(|seen| reasons(&why(seen))).collect()
    }

    /// What wallet, witness and network say.
    fn of_others() -> BTreeSet<Reason> {
        let mut found = BTreeSet::new();
        let unpaid = Unpaid {
            coordinators: vec![UnpaidBy {
                coordinator: coordinator(1),
                waiting: 4,
                waiting_since: Some(at(3)),
                declared: [
                    (UnpaidReason::Outvoted, 1),
                    (UnpaidReason::NoQuorum, 1),
                    (UnpaidReason::TaskEnded, 1),
                ]
                .into(),
                disputed: 1,
            }],
            escrow: vec![PointsAt {
                at: at(200),
                points: Points::from_micro(1),
            }],
            ..Unpaid::default()
        };
        let alone = TerminalStatus::empty(coordinator(9));
        let free = owner(Vec::new());
        for (terminal, peers) in [(&alone, 0), (&alone, 1), (&waiting(), 1)] {
            let told = why_of(
                &free,
                terminal,
                (peers, &[(coordinator(2), at(1))]),
                &unpaid,
            );
            found.extend(reasons(&told));
        }
        found
    }

    #[test]
    fn every_reason_is_reached() {
        let parts = [of_manners(), of_parts(), of_others()];
        let found: BTreeSet<Reason> = parts.into_iter().flatten().collect();
        let missing: Vec<Reason> = Reason::all()
            .filter(|reason| !found.contains(reason))
            .collect();
        assert_eq!(missing, []);
    }
}
