//! The terminal's store of work: grants, the units of them that wait, and the jobs that run.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::{Effect, Job, Run, STORE_UNITS_MAX};
use crate::id::{GrantId, NodeId, TaskId};
use crate::message::work::{GRANT_UNITS_MAX, Grant};
use crate::signed::Verified;

/// How much work is kept in store for each slot.
const STORE: Duration = Duration::from_millis(1_500);
/// The store is filled up when less than this is in it for each slot.
const STORE_LOW: Duration = Duration::from_millis(700);
/// How long a job should run: long enough to cost nothing, short enough to share units among slots.
const JOB: Duration = Duration::from_millis(200);
/// The most tasks whose speed is remembered.
const PACES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Work {
    slots: usize,
    grants: BTreeMap<GrantId, Held>,
    /// Grants with units that wait, the oldest first.
    queue: VecDeque<GrantId>,
    jobs: BTreeMap<Job, Running>,
    jobs_made: u64,
    /// Mean time of a unit of each task.
    paces: BTreeMap<TaskId, Duration>,
}

#[derive(Debug)]
struct Held {
    grant: Verified<Grant>,
    /// Units before this place were given to jobs.
    next: usize,
    /// Units without a result.
    unfinished: usize,
    /// Units without a verdict.
    unreported: usize,
    /// Told to be over: nothing of it is wanted.
    over: bool,
}

#[derive(Debug)]
struct Running {
    grant: GrantId,
    places: Range<usize>,
}

impl Work {
    pub(super) const fn new(slots: usize) -> Self {
        Self {
            slots,
            grants: BTreeMap::new(),
            queue: VecDeque::new(),
            jobs: BTreeMap::new(),
            jobs_made: 0,
            paces: BTreeMap::new(),
        }
    }

    pub(super) fn grant(&self, id: &GrantId) -> Option<&Verified<Grant>> {
        self.grants.get(id).map(|held| &held.grant)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.jobs.is_empty()
    }

    /// Returns the number of units that wait.
    pub(super) fn stored(&self) -> usize {
        self.queue
            .iter()
            .map(|id| self.grants[id].grant.units.len() - self.grants[id].next)
            .sum()
    }

    pub(super) fn running(&self) -> usize {
        self.jobs.len()
    }

    /// Returns whether grants of the coordinator are at work.
    pub(super) fn holds(&self, coordinator: NodeId) -> bool {
        self.grants
            .values()
            .any(|held| held.grant.signer() == coordinator && held.unfinished > 0)
    }

    /// Returns the grants of the coordinator that are at work.
    pub(super) fn unfinished(&self, coordinator: NodeId) -> Vec<GrantId> {
        let at_work =
            |held: &&Held| held.grant.signer() == coordinator && held.unfinished > 0 && !held.over;
        self.grants
            .values()
            .filter(at_work)
            .map(|held| held.grant.id)
            .collect()
    }

    /// Returns how many more units the store takes.
    pub(super) fn wants(&self) -> u32 {
        let room = STORE_UNITS_MAX.saturating_sub(self.stored());
        let slots = u32::try_from(self.slots).unwrap_or(u32::MAX);
        let waiting: Duration = self
            .queue
            .iter()
            .map(|id| self.time_of(&self.grants[id]))
            .sum();
        // Of a task that was never run nothing is known but that it should not be taken in bulk.
        let unknown = self
            .queue
            .iter()
            .any(|id| !self.paces.contains_key(&self.grants[id].grant.task));
        if unknown || waiting >= STORE_LOW * slots {
            return 0;
        }
        let pace = self
            .queue
            .back()
            .map(|id| self.grants[id].grant.task)
            .or_else(|| self.running_task());
        let pace = pace.and_then(|task| self.paces.get(&task)).copied();
        let want = match pace {
            Some(pace) => (STORE * slots - waiting).as_nanos() / pace.as_nanos().max(1),
            None if self.jobs.is_empty() => u128::from(slots),
            None => 0,
        };
        u32::try_from(want.min(room as u128))
            .unwrap_or(u32::MAX)
            .min(GRANT_UNITS_MAX)
    }

    fn running_task(&self) -> Option<TaskId> {
        self.jobs
            .values()
            .next_back()
            .and_then(|job| self.grants.get(&job.grant))
            .map(|held| held.grant.task)
    }

    /// Returns how long the waiting units of a grant will take.
    fn time_of(&self, held: &Held) -> Duration {
        let pace = self
            .paces
            .get(&held.grant.task)
            .copied()
            .unwrap_or(STORE_LOW);
        let units = u32::try_from(held.grant.units.len() - held.next).unwrap_or(u32::MAX);
        pace.saturating_mul(units)
    }

    pub(super) fn add(&mut self, grant: Verified<Grant>, out: &mut Vec<Effect>) {
        let units = grant.units.len();
        if units == 0 || units > GRANT_UNITS_MAX as usize || self.grants.contains_key(&grant.id) {
            return;
        }
        let id = grant.id;
        self.grants.insert(
            id,
            Held {
                grant,
                next: 0,
                unfinished: units,
                unreported: units,
                over: false,
            },
        );
        self.queue.push_back(id);
        out.push(Effect::Prepare(id));
    }

    /// Gives free slots units of the oldest grants whose coordinator `takes` results.
    pub(super) fn start_jobs(&mut self, takes: impl Fn(NodeId) -> bool, out: &mut Vec<Effect>) {
        while self.jobs.len() < self.slots {
            let free = |id: &&GrantId| takes(self.grants[*id].grant.signer());
            let Some(grant) = self.queue.iter().find(free).copied() else {
                return;
            };
            let held = self.grants.get_mut(&grant).expect("queued grants are held");
            let left = held.grant.units.len() - held.next;
            let fitting = match self.paces.get(&held.grant.task) {
                Some(pace) => {
                    usize::try_from(JOB.as_nanos() / pace.as_nanos().max(1)).unwrap_or(usize::MAX)
                }
                None => 1,
            };
            let count = fitting.clamp(1, left.div_ceil(self.slots).max(1)).min(left);
            let places = held.next..held.next + count;
            held.next += count;
            if held.next == held.grant.units.len() {
                self.queue.retain(|other| *other != grant);
            }
            self.jobs_made += 1;
            let job = Job(self.jobs_made);
            self.jobs.insert(
                job,
                Running {
                    grant,
                    places: places.clone(),
                },
            );
            out.push(Effect::Execute { job, grant, places });
        }
    }

    /// Notes that a unit was run. Returns whose it is, unless nobody wants it any more.
    pub(super) fn ran(&mut self, job: Job, run: &Run) -> Option<(NodeId, GrantId)> {
        let running = self.jobs.get(&job)?;
        let held = self.grants.get_mut(&running.grant)?;
        let in_job = held.grant.units[running.places.clone()]
            .iter()
            .any(|leased| leased.unit == run.unit);
        if !in_job || held.over {
            return None;
        }
        held.unfinished = held.unfinished.saturating_sub(1);
        let (coordinator, task) = (held.grant.signer(), held.grant.task);
        if self.paces.len() >= PACES_MAX && !self.paces.contains_key(&task) {
            self.paces.pop_first();
        }
        let pace = self.paces.entry(task).or_insert(run.took);
        *pace = (*pace * 7 + run.took) / 8;
        Some((coordinator, running.grant))
    }

    /// Frees the slot of a job.
    pub(super) fn finished(&mut self, job: Job, out: &mut Vec<Effect>) {
        if let Some(running) = self.jobs.remove(&job) {
            self.drop_if_done(running.grant, out);
        }
    }

    /// Notes that one result or given-back unit of the grant needs nothing more.
    pub(super) fn reported(&mut self, grant: GrantId, out: &mut Vec<Effect>) {
        if let Some(held) = self.grants.get_mut(&grant) {
            held.unreported = held.unreported.saturating_sub(1);
        }
        self.drop_if_done(grant, out);
    }

    /// Ends a grant that is over: its units are not run, its jobs are stopped.
    pub(super) fn end(&mut self, grant: GrantId, out: &mut Vec<Effect>) {
        let Some(held) = self.grants.get_mut(&grant) else {
            return;
        };
        (held.over, held.unfinished, held.unreported) = (true, 0, 0);
        self.queue.retain(|other| *other != grant);
        let jobs = self
            .jobs
            .iter()
            .filter(|(_, running)| running.grant == grant);
        out.extend(jobs.map(|(job, _)| Effect::Stop(*job)));
        self.drop_if_done(grant, out);
    }

    fn drop_if_done(&mut self, grant: GrantId, out: &mut Vec<Effect>) {
        let done = self
            .grants
            .get(&grant)
            .is_some_and(|held| held.unreported == 0);
        if done && !self.jobs.values().any(|running| running.grant == grant) {
            self.grants.remove(&grant);
            out.push(Effect::Release(grant));
        }
    }
}
