//! A terminal's work: program and inputs are fetched, units run one after another in the slots.

use std::ops::Range;
use std::time::Duration;

use tally_protocol::id::{GrantId, NodeId, TaskId};
use tally_protocol::message::work::{Grant, INLINE_BYTES_MAX, INLINE_UNIT_BYTES_MAX, LeasedUnit};
use tally_protocol::signed::Verified;
use tally_protocol::terminal::{Input, Job, Run};
use tally_protocol::unit::Fault;

use super::{TerminalNode, Within};
use crate::conduct::Answer;
use crate::execution::time_of;
use crate::happening::{Gave, Happening, Unit};
use crate::moment::Moment;
use crate::stage::Stage;

/// Runs are told together as long as they end within this.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// What it costs to start a unit in a slot that is warm.
const START_COST: Duration = Duration::from_micros(60);
/// What it costs to compile a program, once on each computer.
const COMPILE_COST: Duration = Duration::from_millis(400);
/// After so long a content that does not come is given up.
const FETCH_MAX: Duration = Duration::from_secs(20);

/// A grant with what is needed to run it.
#[derive(Debug)]
pub(super) struct Held {
    grant: Verified<Grant>,
    state: State,
}

/// Units that were run.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(super) job: Job,
    pub(super) runs: Vec<Run>,
    /// Whether the job is over.
    pub(super) over: bool,
    /// How long the terminal had been suspended in all when the moment was planned.
    pub(super) before: Duration,
}

/// A job that has not begun.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) grant: GrantId,
    /// The coordinator.
    pub(super) at: NodeId,
    pub(super) task: TaskId,
    pub(super) units: Vec<u32>,
}

#[derive(Debug)]
enum State {
    /// The machine has not asked for it yet.
    New,
    /// On its way; these jobs wait for it.
    Preparing(Vec<(Job, Range<usize>)>),
    Ready,
    Failed,
}

impl Held {
    pub(super) const fn new(grant: Verified<Grant>) -> Self {
        Self {
            grant,
            state: State::New,
        }
    }

    pub(super) fn grant(&self) -> &Grant {
        self.grant.value()
    }

    pub(super) const fn is_unused(&self) -> bool {
        matches!(self.state, State::New)
    }
}

impl TerminalNode {
    pub(super) fn prepare(&mut self, stage: &mut Stage, id: GrantId) {
        let Some(held) = self.up.as_mut().and_then(|up| up.grants.get_mut(&id)) else {
            return;
        };
        held.state = State::Preparing(Vec::new());
        let grant = held.grant();
        let (program, inputs) = (grant.program, bytes_to_read(&grant.units));
        let is_new = self.programs.insert(program.id);
        let bytes = inputs + if is_new { program.bytes } else { 0 };
        let from = stage.directory.peer(&held.grant.signer());
        let from = from.filter(|from| stage.directory.is_up(*from));
        let compiled = if is_new { COMPILE_COST } else { Duration::ZERO };
        let arrival = match from {
            _ if bytes == 0 => Some(stage.now),
            Some(from) => stage.links.stream(stage.now, (from, self.peer), bytes),
            None => None,
        };
        if arrival.is_none() && is_new {
            self.programs.remove(&program.id);
        }
        let at = arrival.map_or(stage.now + FETCH_MAX, |at| at + compiled);
        self.plan(stage, at, Within::Prepared(id, arrival.is_some()));
    }

    pub(super) fn prepared(&mut self, stage: &mut Stage, id: GrantId, here: bool) {
        let Some(held) = self.up.as_mut().and_then(|up| up.grants.get_mut(&id)) else {
            return;
        };
        let next = if here { State::Ready } else { State::Failed };
        if let State::Preparing(waiting) = std::mem::replace(&mut held.state, next) {
            for (job, places) in waiting {
                self.execute(stage, job, id, places);
            }
        }
    }

    pub(super) fn execute(
        &mut self,
        stage: &mut Stage,
        job: Job,
        id: GrantId,
        places: Range<usize>,
    ) {
        let Some(up) = &mut self.up else {
            return;
        };
        up.jobs.insert(job, id);
        let Some(held) = up.grants.get_mut(&id) else {
            return self.plan(stage, stage.now, Within::Ran(job, Vec::new(), true));
        };
        match &mut held.state {
            State::Preparing(waiting) => waiting.push((job, places)),
            State::Ready => {
                let units = held.grant.units[places].iter().map(|leased| leased.unit);
                let waiting = Waiting {
                    job,
                    grant: id,
                    at: held.grant.signer(),
                    task: held.grant.task,
                    units: units.collect(),
                };
                if up.seat.since.is_some() {
                    up.seat.waiting.push(waiting);
                } else {
                    self.run(stage, waiting);
                }
            }
            State::Failed | State::New => {
                let lost = held.grant.units[places].iter().map(|leased| Run {
                    unit: leased.unit,
                    result: Err(Fault::Unavailable),
                    took: Duration::ZERO,
                });
                let runs = lost.collect();
                self.plan(stage, stage.now, Within::Ran(job, runs, true));
            }
        }
    }

    /// Lets the units of a job take their time, unless it was stopped before it began.
    pub(super) fn run(&mut self, stage: &mut Stage, waiting: Waiting) {
        let up = self.up.as_ref();
        let Some(up) = up.filter(|up| up.jobs.contains_key(&waiting.job)) else {
            return;
        };
        let before = up.seat.before;
        self.note_begun(stage, &waiting);
        let Waiting {
            job, task, units, ..
        } = waiting;
        let (mut at, mut told) = (stage.now, stage.now);
        let (mut runs, mut silent) = (Vec::new(), false);
        let computed = |runs, over| {
            Within::Computed(Computed {
                job,
                runs,
                over,
                before,
            })
        };
        for unit in units {
            let Some((result, took)) = self.outcome(stage, Unit { task, unit }) else {
                silent = true;
                break;
            };
            at = at + took + START_COST;
            runs.push(Run { unit, result, took });
            if at.since(told) >= TOLD_EVERY {
                told = at;
                let runs = std::mem::take(&mut runs);
                self.plan(stage, at, computed(runs, false));
            }
        }
        if !silent {
            self.plan(stage, at, computed(runs, true));
        }
    }

    /// Only of terminals that somebody interrupts anybody wants to know when they begin.
    fn note_begun(&self, stage: &mut Stage, waiting: &Waiting) {
        let coordinator = stage.directory.peer(&waiting.at);
        if let Some(at) = coordinator.filter(|_| self.setup.owner.is_some()) {
            stage.note(&Happening::Began {
                by: self.peer,
                at,
                grant: waiting.grant,
                units: waiting.units.clone(),
            });
        }
    }

    /// Tells what was run, when it had the time for it that it was not suspended.
    pub(super) fn computed(&mut self, stage: &mut Stage, computed: Computed) {
        let Some(up) = &mut self.up else {
            return;
        };
        let owed = up.seat.before.saturating_sub(computed.before);
        if let Some(since) = up.seat.since {
            let left = stage.now.since(since) + owed;
            up.seat.halted.push((computed, left));
        } else if owed.is_zero() {
            self.ran(stage, computed.job, computed.runs, computed.over);
        } else {
            let before = up.seat.before;
            let computed = Computed { before, ..computed };
            self.plan(stage, stage.now + owed, Within::Computed(computed));
        }
    }

    /// Returns what is said of a unit and how long that takes; none if nothing ever is.
    fn outcome(
        &mut self,
        stage: &Stage,
        unit: Unit,
    ) -> Option<(Result<tally_protocol::terminal::Ran, Fault>, Duration)> {
        let Some(right) = stage.execution.right(&unit.task, unit.unit) else {
            return Some((Err(Fault::Unavailable), Duration::ZERO));
        };
        let took = time_of(right.fuel, self.setup.speed);
        if self.chance.happens(self.setup.faults) {
            return Some((Err(Fault::Killed), took));
        }
        match self.conduct.answer(right, unit, &mut self.chance) {
            Answer::Reports(ran) => Some((Ok(ran), took)),
            Answer::ReportsAtOnce(ran) => Some((Ok(ran), Duration::from_millis(1))),
            Answer::KeepsSilent => None,
        }
    }

    pub(super) fn ran(&mut self, stage: &mut Stage, job: Job, runs: Vec<Run>, over: bool) {
        let Some(up) = &mut self.up else {
            return;
        };
        // A job that was stopped says nothing any more.
        let Some(grant) = up.jobs.get(&job).copied() else {
            return;
        };
        if let Some(task) = up.grants.get(&grant).map(|held| held.grant().task) {
            for run in &runs {
                let gave = run.result.as_ref().map(Gave::from).map_err(|fault| *fault);
                let unit = Unit {
                    task,
                    unit: run.unit,
                };
                let by = self.peer;
                stage.note(&Happening::Ran {
                    by,
                    grant,
                    unit,
                    gave,
                    took: run.took,
                });
            }
        }
        if over {
            up.jobs.remove(&job);
        }
        if !runs.is_empty() {
            self.feed(stage, Input::Ran { job, runs });
        }
        if over {
            self.feed(stage, Input::Finished(job));
        }
    }

    pub(super) fn stop_job(&mut self, stage: &mut Stage, job: Job) {
        if let Some(up) = &mut self.up
            && up.jobs.contains_key(&job)
        {
            let at = stage.now + Duration::from_millis(1);
            self.plan_end(stage, at, job);
        }
    }

    fn plan_end(&self, stage: &mut Stage, at: Moment, job: Job) {
        self.plan(stage, at, Within::Ran(job, Vec::new(), true));
    }
}

/// Returns the input bytes that do not travel with the grant.
fn bytes_to_read(units: &[LeasedUnit]) -> u64 {
    let largest = units.iter().map(|leased| leased.bytes).max().unwrap_or(0);
    let bytes: u64 = units.iter().map(|leased| leased.bytes).sum();
    if largest <= INLINE_UNIT_BYTES_MAX && bytes <= INLINE_BYTES_MAX as u64 {
        0
    } else {
        bytes
    }
}
