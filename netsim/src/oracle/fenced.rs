//! Leases are fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::id::{GrantId, TaskId};
use tally_protocol::message::work::ResultVerdict;
use tally_protocol::unit::Fault;

use super::table::UnitTable;
use super::{Check, Oracle};
use crate::happening::{Gave, Happening, Lease, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::{Reference, TaskReference};

/// A lease begins when it is decided, and is seen when what was decided with it is written, within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// Follows leases. Renewals cannot be seen from outside, but within half of its time a lease that was not reported
/// nor given back is certainly alive.
#[derive(Debug, Default)]
pub(super) struct Fenced {
    grants: BTreeMap<GrantId, Given>,
    units: UnitTable<Held>,
    /// How often each coordinator was started.
    starts: BTreeMap<Peer, u32>,
    /// Groups of records that each coordinator has written.
    groups: BTreeMap<Peer, u64>,
    /// The group in which a coordinator last wrote that a terminal is not registered any more.
    revoked: BTreeMap<(Peer, Peer), u64>,
}

/// A grant as it was given.
#[derive(Debug)]
struct Given {
    by: Peer,
    to: Peer,
    task: TaskId,
    units: Vec<u32>,
    counted: BTreeSet<u32>,
}

/// Who holds a unit.
#[derive(Debug, Clone, Default)]
struct Held {
    start: u32,
    attempt: Option<u32>,
    leases: Vec<(Peer, Moment)>,
    /// Votes with the group in which they became durable.
    votes: Vec<(u64, Gave)>,
    validated: bool,
}

impl Oracle for Fenced {
    fn name(&self) -> &'static str {
        "fenced"
    }

    fn claim(&self) -> &'static str {
        "No lease is given twice: grants and attempts have names of their own, an owner holds a unit once, no more \
         devices hold it than its quorum needs, and only results of one's own leases count."
    }

    fn see(&mut self, reference: &Reference, at: Moment, what: &Happening) -> Check {
        match what {
            Happening::Started { node, start } => {
                self.starts.insert(*node, *start);
                Check::Nothing
            }
            Happening::Leased {
                by,
                to,
                grant,
                task,
                leases,
            } => {
                let given = Given {
                    by: *by,
                    to: *to,
                    task: *task,
                    units: leases.iter().map(|lease| lease.unit).collect(),
                    counted: BTreeSet::new(),
                };
                if self.grants.insert(*grant, given).is_some() {
                    return Check::Breaks(format!("grant {grant} is given a second time"));
                }
                let lent = leases.iter();
                let mut lent =
                    lent.map(|lease| self.lend(reference, at, (*by, *to, *task), *lease));
                lent.find(|check| matches!(check, Check::Breaks(_)))
                    .unwrap_or(Check::Holds)
            }
            Happening::Faulted { at, by, unit, .. } => {
                self.release(reference, *at, *unit, |holder| holder == *by);
                Check::Nothing
            }
            Happening::Registered {
                by,
                device,
                holds: false,
            } => {
                self.revoke(*by, *device);
                Check::Nothing
            }
            Happening::Voted { at, by, unit, gave } => {
                let group = self.groups.get(at).copied().unwrap_or(0);
                let is_voter = |holder| reference.are_of_one_owner(holder, *by);
                self.release(reference, *at, *unit, is_voter);
                if let Some(held) = self.units.get(reference, *at, *unit) {
                    held.votes.push((group, *gave));
                }
                Check::Nothing
            }
            Happening::Validated { by, unit, .. } => {
                if let Some(held) = self.units.get(reference, *by, *unit) {
                    held.validated = true;
                    (held.leases, held.votes) = (Vec::new(), Vec::new());
                }
                Check::Nothing
            }
            Happening::Judged {
                by,
                to,
                grant,
                unit,
                verdict: ResultVerdict::Counted,
            } if reference.is_honest(*by) => self.count((*by, *to), *grant, *unit),
            _ => self.given_back(reference, what),
        }
    }

    fn commits(
        &mut self,
        _: &Reference,
        coordinator: Peer,
        _: &tally_ledger::store::Change,
    ) -> Check {
        *self.groups.entry(coordinator).or_default() += 1;
        Check::Nothing
    }
}

impl Fenced {
    /// What an owner takes back is recorded nowhere. It may be on its way to the coordinator for a while yet.
    fn given_back(&mut self, reference: &Reference, what: &Happening) -> Check {
        if let Happening::GivenBack {
            by,
            to,
            grant,
            unit,
            fault: Fault::Withdrawn,
        } = what
            && let Some(task) = self.grants.get(grant).map(|given| given.task)
        {
            let unit = Unit { task, unit: *unit };
            self.release(reference, *to, unit, |holder| holder == *by);
        }
        Check::Nothing
    }

    fn lend(
        &mut self,
        reference: &Reference,
        now: Moment,
        (by, to, task): (Peer, Peer, TaskId),
        Lease { unit, attempt }: Lease,
    ) -> Check {
        let start = self.starts.get(&by).copied().unwrap_or(0);
        let group = self.groups.get(&by).copied().unwrap_or(0);
        let unit = Unit { task, unit };
        let known = reference.tasks().get(&task);
        let Some((known, held)) = known.zip(self.units.get(reference, by, unit)) else {
            return Check::Nothing;
        };
        if held.start != start {
            // Leases of an earlier start are forgotten by the coordinator.
            (held.start, held.attempt) = (start, None);
            held.leases.clear();
        }
        if held.attempt.is_some_and(|before| before >= attempt) {
            return Check::Breaks(format!(
                "attempt {attempt} of {unit} is leased a second time"
            ));
        }
        held.attempt = Some(attempt);
        // In the group in which it was validated it may have been leased just before.
        if held.validated {
            return Check::Holds;
        }
        held.leases.retain(|(_, until)| *until > now);
        let same = |(holder, _): &&(Peer, Moment)| reference.are_of_one_owner(*holder, to);
        if let Some((holder, _)) = held.leases.iter().find(same) {
            return Check::Breaks(format!(
                "{unit} is leased to {to}, whose owner holds it already with {holder}"
            ));
        }
        let missing = held.missing(known, group);
        if held.leases.len() >= missing {
            return Check::Breaks(format!(
                "{unit} is leased to {to}, but {} hold it and {missing} could complete its quorum",
                held.leases.len()
            ));
        }
        // In the group in which its registration ended it may have been leased just before.
        if self.revoked.get(&(by, to)) == Some(&group) {
            return Check::Holds;
        }
        let certain = (known.lease / 2).saturating_sub(WRITTEN_WITHIN);
        held.leases.push((to, now + certain));
        Check::Holds
    }

    /// All leases of a terminal end that is not registered any more.
    fn revoke(&mut self, coordinator: Peer, device: Peer) {
        let group = self.groups.get(&coordinator).copied().unwrap_or(0);
        self.revoked.insert((coordinator, device), group);
        for held in self.units.all_at(coordinator) {
            held.leases.retain(|(holder, _)| *holder != device);
        }
    }

    fn release(
        &mut self,
        reference: &Reference,
        at: Peer,
        unit: Unit,
        is_over: impl Fn(Peer) -> bool,
    ) {
        if let Some(held) = self.units.get(reference, at, unit) {
            held.leases.retain(|(holder, _)| !is_over(*holder));
        }
    }

    fn count(&mut self, (by, to): (Peer, Peer), id: GrantId, unit: u32) -> Check {
        let given = self.grants.get_mut(&id);
        let given = given.filter(|given| (given.by, given.to) == (by, to));
        let Some(given) = given.filter(|given| given.units.contains(&unit)) else {
            return Check::Breaks(format!(
                "a result of {to} counts for unit {unit} of grant {id}, which it was not given"
            ));
        };
        let task = given.task;
        Check::that(given.counted.insert(unit), || {
            format!(
                "unit {unit} of {} counts twice for grant {id}",
                task.short()
            )
        })
    }
}

impl Held {
    /// Returns how many more votes could complete the quorum, as it was before `group`.
    fn missing(&self, known: &TaskReference, group: u64) -> usize {
        let votes = self.votes.iter().filter(|(within, _)| *within < group);
        let votes: Vec<&Gave> = votes.map(|(_, gave)| gave).collect();
        let same = |gave: &&Gave| votes.iter().filter(|other| *other == gave).count();
        let best = votes.iter().map(same).max().unwrap_or(0);
        let agree = usize::from(known.agree).saturating_sub(best);
        agree.min(usize::from(known.total_max).saturating_sub(votes.len()))
    }
}
