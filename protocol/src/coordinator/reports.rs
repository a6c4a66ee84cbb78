//! What terminals report: each result is judged, counted as a vote, and answered with a verdict.

use std::collections::{BTreeMap, BTreeSet};

use super::grants::{Released, State};
use super::task_run::TaskRun;
use super::timers::Timer;
use super::{Compared, Coordinator, Effect, Fact, Row, Vote};
use crate::account::Holder;
use crate::entry::{Event, ValidatedUnit};
use crate::id::{GrantId, Hash, NodeId, TaskId};
use crate::message::work::{Grant, ResultVerdict, UnitResult, VerifiedReport};
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most bytes of validated units in one entry of the log, which has room for a little more.
const ENTRY_UNITS_BYTES_MAX: usize = 900 << 10;
/// Bytes of a validated unit in an entry, at most, and of each device that it names.
const UNIT_BYTES: usize = 200;
/// See [`UNIT_BYTES`].
const VOTER_BYTES: usize = 34;

/// What a result counts as.
#[derive(Debug, Clone, Copy)]
enum Counts {
    /// A vote on an open unit of the task.
    Vote(TaskId),
    /// An answer to a unit of the task whose result is known.
    Answer(TaskId, Compared),
}

/// A report with the results whose output could not be had.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) report: VerifiedReport,
    pub(super) missing: BTreeSet<(GrantId, u32)>,
}

impl Reported {
    /// Returns the grants shown with it.
    pub(super) fn grants(&self) -> &[Verified<Grant>] {
        &self.report.grants
    }
}

impl Coordinator {
    /// Counts the results of a report. Returns a verdict on each.
    pub(super) fn count(
        &mut self,
        now: Timestamp,
        holder: Holder,
        reported: Reported,
        out: &mut Vec<Effect>,
    ) -> Vec<ResultVerdict> {
        let Reported { report, missing } = reported;
        let mut votes: BTreeMap<TaskId, (Timestamp, Vec<Vote>)> = BTreeMap::new();
        let mut answers: Vec<(TaskId, Timestamp, Vote, Compared)> = Vec::new();
        let mut counted: BTreeSet<(TaskId, u32)> = BTreeSet::new();
        let mut verdicts = Vec::with_capacity(report.results.len());
        for (leaf, result) in (0..).zip(report.results) {
            let verdict = match self.judge(holder, &result, &report.grants) {
                Ok(Counts::Answer(task, compared)) => {
                    let leased_at = self.leased_at(now, result.grant, &report.grants);
                    self.release(result.grant, result.unit);
                    if let Some((_, running)) =
                        self.tasks.get_mut(&task).and_then(TaskRun::running_mut)
                    {
                        running.known.take(result.grant, result.unit);
                    }
                    answers.push((task, leased_at, Vote::of(leaf, &result), compared));
                    ResultVerdict::Counted
                }
                Ok(Counts::Vote(_)) if missing.contains(&(result.grant, result.unit)) => {
                    ResultVerdict::OutputMissing
                }
                Ok(Counts::Vote(task)) if !counted.insert((task, result.unit)) => {
                    ResultVerdict::NotLeased
                }
                Ok(Counts::Vote(task)) => {
                    let leased_at = self.leased_at(now, result.grant, &report.grants);
                    self.release(result.grant, result.unit);
                    let (first, votes) = votes.entry(task).or_insert((leased_at, Vec::new()));
                    *first = leased_at.min(*first);
                    votes.push(keep(task, (leaf, result), out));
                    ResultVerdict::Counted
                }
                Err(ResultVerdict::Redundant) => {
                    self.release(result.grant, result.unit);
                    ResultVerdict::Redundant
                }
                Err(verdict) => verdict,
            };
            verdicts.push(verdict);
        }
        if !votes.is_empty() || !answers.is_empty() {
            self.certify(now, holder.device, out);
        }
        for (task, (leased_at, votes)) in votes {
            let fact = Fact::Reported {
                task,
                holder,
                batch: report.batch.root,
                signed: report.batch.signed().clone(),
                leased_at,
                at: now,
                votes,
            };
            self.vote(now, (task, holder.device, report.batch.root), fact, out);
        }
        for (task, leased_at, vote, compared) in answers {
            let fact = Fact::Answered {
                task,
                holder,
                batch: report.batch.root,
                signed: report.batch.signed().clone(),
                leased_at,
                at: now,
                vote,
                compared,
            };
            let decided = self.record(fact, out);
            self.after_decision(now, task, &decided);
        }
        verdicts
    }

    /// Returns when the units of a grant were leased.
    fn leased_at(&self, now: Timestamp, grant: GrantId, shown: &[Verified<Grant>]) -> Timestamp {
        let held = self.devices.grants.get(grant).map(|held| held.issued);
        let shown = shown.iter().find(|shown| shown.id == grant);
        held.or_else(|| shown.map(|shown| shown.issued))
            .unwrap_or(now)
            .min(now)
    }

    /// Takes a unit off its grant. Returns whether the grant held it.
    pub(super) fn release(&mut self, grant: GrantId, unit: u32) -> bool {
        let released = self.devices.grants.release(grant, unit);
        if released == Released::Grant {
            self.timers.clear(Timer::Expire(grant));
        }
        released != Released::Not
    }

    /// Says to which task a result counts, or why it does not.
    fn judge(
        &self,
        holder: Holder,
        result: &UnitResult,
        shown: &[Verified<Grant>],
    ) -> Result<Counts, ResultVerdict> {
        let held = self.devices.grants.get(result.grant);
        let shown = shown.iter().find(|grant| grant.id == result.grant);
        let is_over = held.is_some_and(|held| matches!(held.state, State::Ended(_)));
        let (task, device, leased) = match (held, shown) {
            (Some(held), _) => {
                let leased = held.units.contains(&result.unit);
                (held.task, held.device, leased)
            }
            (None, Some(grant)) => {
                let mut units = grant.units.iter();
                let leased = units.any(|leased| leased.unit == result.unit);
                (grant.task, grant.device, leased)
            }
            (None, None) => return Err(ResultVerdict::ShowGrant),
        };
        let Some(run) = self.tasks.get(&task).filter(|run| !run.is_ended()) else {
            return Err(ResultVerdict::TaskEnded);
        };
        let Some(units) = run.units().filter(|_| device == holder.device) else {
            return Err(ResultVerdict::NotLeased);
        };
        let known = run.running().map(|running| &running.known);
        if let Some(answer) = known.and_then(|known| known.answer(result.grant, result.unit)) {
            let compared = if Vote::of(0, result).same(answer) {
                Compared::Same
            } else {
                Compared::Other
            };
            return Ok(Counts::Answer(task, compared));
        }
        // What a grant held is not known any more once it has ended; it was for settled units only.
        if !(leased || is_over && units.is_settled(result.unit)) {
            return Err(ResultVerdict::NotLeased);
        }
        if units.is_settled(result.unit) || units.has_vote(result.unit, holder) {
            return Err(ResultVerdict::Redundant);
        }
        let limits = run.task.limits;
        if result.fuel > limits.fuel || result.output.bytes > limits.output_bytes {
            return Err(ResultVerdict::NotLeased);
        }
        Ok(Counts::Vote(task))
    }

    /// Returns the task for which the shell should read this large output before it hands over the report; none if
    /// the output is not wanted.
    #[must_use]
    pub fn wants_output(
        &self,
        holder: Holder,
        result: &UnitResult,
        shown: &[Verified<Grant>],
    ) -> Option<TaskId> {
        let is_large = result.outcome.is_done() && result.inline.is_none();
        match self
            .judge(holder, result, shown)
            .ok()
            .filter(|_| is_large)?
        {
            Counts::Vote(task) => Some(task),
            Counts::Answer(..) => None,
        }
    }

    pub(super) fn vote(
        &mut self,
        now: Timestamp,
        (task, device, batch): (TaskId, NodeId, Hash),
        fact: Fact,
        out: &mut Vec<Effect>,
    ) {
        let mut decided = self.record(fact, out);
        let units = std::mem::take(&mut decided.validated);
        self.draw_known(task, &units);
        for unit in units.iter().filter(|unit| unit.outcome.is_done()) {
            let (unit, output) = (unit.unit, unit.output);
            let row = Row::Unit { unit, output };
            out.push(Effect::Keep { task, row });
        }
        for units in into_entries(units) {
            let event = Event::BatchValidated {
                task,
                device,
                batch,
                units,
            };
            self.append(now, event, None, out);
        }
        self.after_decision(now, task, &decided);
        if let Some(units) = self.units_mut(&task) {
            if units.is_doubted(device) {
                units.send_doubted_to_rest(now, device);
            } else {
                units.trust(device);
            }
        }
        self.after_units(now, task, out);
        self.nudge_for_fresh(task, out);
    }
}

/// Keeps the output of a counted result, if it is here. Returns the vote.
fn keep(task: TaskId, (leaf, result): (u32, UnitResult), out: &mut Vec<Effect>) -> Vote {
    let vote = Vote::of(leaf, &result);
    if let Some(content) = result.inline.filter(|_| result.outcome.is_done()) {
        let id = result.output.id;
        let row = Row::Output { id, content };
        out.push(Effect::Keep { task, row });
    }
    vote
}

/// Shares validated units out to entries that are not too long.
fn into_entries(units: Vec<ValidatedUnit>) -> Vec<Vec<ValidatedUnit>> {
    let mut entries: Vec<Vec<ValidatedUnit>> = Vec::new();
    let mut bytes = usize::MAX;
    for unit in units {
        let voters = unit.agreed.len() + unit.outvoted.len();
        bytes = bytes.saturating_add(UNIT_BYTES + VOTER_BYTES * voters);
        if bytes > ENTRY_UNITS_BYTES_MAX {
            entries.push(Vec::new());
            bytes = UNIT_BYTES + VOTER_BYTES * voters;
        }
        entries.last_mut().expect("one was pushed").push(unit);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::entry::{ENTRY_BYTES_MAX, Entry};
    use crate::task::BlobRef;
    use crate::unit::{Outcome, Trap};

    #[test]
    fn a_batch_with_very_many_voters_is_more_than_one_entry() {
        let device = NodeId::from_bytes([0xff; 32]);
        let unit = |unit| ValidatedUnit {
            unit,
            outcome: Outcome::Trap(Trap::MemoryOutOfBounds),
            fuel: u64::MAX,
            input_bytes: u64::MAX,
            pixels: u64::MAX,
            output: BlobRef {
                id: BlobRef::of(b"").id,
                bytes: u64::MAX,
            },
            agreed: vec![device; 16],
            outvoted: vec![device; 48],
        };
        let entries = into_entries((0..1_024).map(|number| unit(u32::MAX - number)).collect());
        assert_eq!(entries.iter().map(Vec::len).sum::<usize>(), 1_024);
        for units in entries {
            let event = Event::BatchValidated {
                task: TaskId::from_bytes([1; 32]),
                device,
                batch: Hash::from_bytes([1; 32]),
                units,
            };
            let at = Timestamp::from_millis(u64::MAX);
            let sequence = u64::MAX;
            let bytes = codec::to_bytes(&Entry {
                sequence,
                at,
                event,
                posting: None,
            });
            assert!(bytes.len() <= ENTRY_BYTES_MAX, "{}", bytes.len());
        }
    }
}
