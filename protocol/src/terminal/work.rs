//! The terminal's store of work: grants, the units of them that wait, and the jobs that run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::wallet::Terms;
use super::{Effect, Job, Run, STORE_UNITS_MAX};
use crate::id::{GrantId, NodeId, TaskId};
use crate::message::work::{GRANT_UNITS_MAX, Grant};
use crate::rate_card::Rates;
use crate::signed::Verified;

/// How much work is kept in store for each slot.
const STORE: Duration = Duration::from_millis(1_500);
/// The store is filled up when less than this is in it for each slot.
const STORE_LOW: Duration = Duration::from_millis(700);
/// How long a job should run: long enough to cost nothing, short enough to share units among slots.
const JOB: Duration = Duration::from_millis(200);
/// A grant is renewed when a third of its lease has passed, within these bounds: not more often than
/// the network carries, and often enough to hear soon that it is over.
const RENEW_EVERY: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(20));
/// The most tasks whose speed is remembered.
const PACES_MAX: usize = 64;

/// In which bounds units run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The most at a time.
    pub(super) slots: usize,
    /// The most memory of all of them, by their limits.
    pub(super) memory_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Work {
    room: Room,
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
    /// By what its results are paid.
    terms: Arc<Terms>,
    /// Units before this place were given to jobs.
    next: usize,
    /// Units without a verdict.
    unreported: usize,
    /// Told to be over: nothing of it is wanted.
    over: bool,
}

#[derive(Debug)]
struct Running {
    grant: GrantId,
    /// Units that were not run yet.
    left: BTreeSet<u32>,
    pace: Pace,
}

/// How a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Without a break: its times say how fast the computer is.
    Steady,
    /// It was suspended.
    Broken,
}

/// A job with units that were not run.
#[derive(Debug)]
pub(super) struct AtWork<'a> {
    pub(super) job: Job,
    pub(super) grant: &'a Verified<Grant>,
    pub(super) units: usize,
}

/// A unit that was run, and for whom.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) coordinator: NodeId,
    pub(super) grant: GrantId,
    pub(super) task: TaskId,
    pub(super) pace: Pace,
    /// How soon it should be reported.
    pub(super) within: Duration,
}

impl Work {
    pub(super) const fn new(room: &Room) -> Self {
        Self {
            room: *room,
            grants: BTreeMap::new(),
            queue: VecDeque::new(),
            jobs: BTreeMap::new(),
            jobs_made: 0,
            paces: BTreeMap::new(),
        }
    }

    /// Lets units run in other bounds; what runs already goes on.
    pub(super) const fn allow(&mut self, room: &Room) {
        self.room = *room;
    }

    /// Notes that the jobs at work are suspended.
    pub(super) fn suspend(&mut self) {
        for running in self.jobs.values_mut() {
            running.pace = Pace::Broken;
        }
    }

    /// Returns the jobs of which units are left.
    pub(super) fn at_work(&self) -> impl Iterator<Item = AtWork<'_>> {
        let jobs = self.jobs.iter();
        let jobs = jobs.filter(|(_, running)| !running.left.is_empty());
        jobs.filter_map(|(job, running)| {
            let held = self.grants.get(&running.grant).filter(|held| !held.over)?;
            Some(AtWork {
                job: *job,
                grant: &held.grant,
                units: running.left.len(),
            })
        })
    }

    /// Returns the grants of which units wait.
    pub(super) fn queued(&self) -> Vec<GrantId> {
        self.queue.iter().copied().collect()
    }

    /// Takes the units of a grant that wait.
    pub(super) fn take_waiting(&mut self, grant: GrantId) -> Vec<u32> {
        self.queue.retain(|other| *other != grant);
        let Some(held) = self.grants.get_mut(&grant) else {
            return Vec::new();
        };
        let waiting = &held.grant.units[held.next..];
        let units = waiting.iter().map(|leased| leased.unit).collect();
        held.next = held.grant.units.len();
        units
    }

    /// Takes the units of a job that were not run; its slot is not free before it has finished. Returns its coordinator, its
    /// grant and the units.
    pub(super) fn withdraw(&mut self, job: Job) -> Option<(NodeId, GrantId, BTreeSet<u32>)> {
        let running = self.jobs.get_mut(&job)?;
        let held = self.grants.get(&running.grant)?;
        let units = std::mem::take(&mut running.left);
        Some((held.grant.signer(), running.grant, units))
    }

    /// Returns the memory of all jobs, by their limits.
    fn memory_bytes(&self) -> u64 {
        let grants = self
            .jobs
            .values()
            .filter_map(|running| self.grants.get(&running.grant));
        let memory = grants.map(|held| held.grant.limits.memory_bytes);
        memory.fold(0, u64::saturating_add)
    }

    pub(super) fn grant(&self, id: &GrantId) -> Option<&Verified<Grant>> {
        self.grants.get(id).map(|held| &held.grant)
    }

    pub(super) fn terms(&self, id: &GrantId) -> Option<&Arc<Terms>> {
        self.grants.get(id).map(|held| &held.terms)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.jobs.is_empty()
    }

    /// Returns the number of grants of which something is to be run or reported.
    pub(super) fn held(&self) -> usize {
        self.grants.len()
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

    /// Returns the grants of the coordinator that are not fully reported.
    pub(super) fn of(&self, coordinator: NodeId) -> Vec<GrantId> {
        let grants = self.grants_of(coordinator);
        grants.map(|held| held.grant.id).collect()
    }

    /// Returns how many grants of the coordinator are not fully reported.
    pub(super) fn count_of(&self, coordinator: NodeId) -> usize {
        self.grants_of(coordinator).count()
    }

    /// Returns how often the leases of the coordinator are to be renewed, if there are any.
    pub(super) fn renew_every(&self, coordinator: NodeId) -> Option<Duration> {
        self.grants_of(coordinator).map(Held::renew_every).min()
    }

    fn grants_of(&self, coordinator: NodeId) -> impl Iterator<Item = &Held> {
        let at_work = move |held: &&Held| {
            held.grant.signer() == coordinator && held.unreported > 0 && !held.over
        };
        self.grants.values().filter(at_work)
    }

    /// Returns how many more units the store takes.
    pub(super) fn wants(&self) -> u32 {
        let stored = self.stored();
        let room = STORE_UNITS_MAX.saturating_sub(stored);
        let last = self.queue.back().map(|id| &self.grants[id]);
        let last = last.or_else(|| self.running_grant());
        let slots = last.map_or(self.room.slots, |held| self.slots_for(held));
        // A free slot always takes a unit, however long that may run; so does one that is free in a moment.
        let runs = |running: &&Running| !running.left.is_empty();
        let busy = self.jobs.values().filter(runs).count();
        let idle = slots.saturating_sub(busy + stored) as u128;
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let pace = last.and_then(|held| self.paces.get(&held.grant.task));
        let pace = pace.copied();
        let want = match pace {
            Some(pace) if !self.holds_unknown() => {
                let waiting: Duration = self
                    .queue
                    .iter()
                    .map(|id| self.time_of(&self.grants[id]))
                    .sum();
                let missing = if waiting < STORE_LOW * slots {
                    (STORE * slots).saturating_sub(waiting)
                } else {
                    Duration::ZERO
                };
                idle.max(missing.as_nanos() / pace.as_nanos().max(1))
            }
            // Of a task that was never run nothing is known but that it should not be taken in bulk.
            _ => idle,
        };
        u32::try_from(want.min(room as u128))
            .unwrap_or(u32::MAX)
            .min(GRANT_UNITS_MAX)
    }

    /// Returns whether units wait whose speed is not known.
    fn holds_unknown(&self) -> bool {
        let mut tasks = self.queue.iter().map(|id| self.grants[id].grant.task);
        tasks.any(|task| !self.paces.contains_key(&task))
    }

    fn running_grant(&self) -> Option<&Held> {
        let last = self.jobs.values().next_back()?;
        self.grants.get(&last.grant)
    }

    /// Returns how many units like those of this grant may run at a time.
    fn slots_for(&self, held: &Held) -> usize {
        let each = held.grant.limits.memory_bytes;
        let fitting = self.room.memory_bytes.checked_div(each);
        let fitting = fitting.and_then(|count| usize::try_from(count).ok());
        self.room.slots.min(fitting.unwrap_or(usize::MAX))
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

    pub(super) fn add(&mut self, grant: Verified<Grant>, rates: &Rates, out: &mut Vec<Effect>) {
        let units = grant.units.len();
        if units == 0 || units > GRANT_UNITS_MAX as usize || self.grants.contains_key(&grant.id) {
            return;
        }
        let id = grant.id;
        self.grants.insert(
            id,
            Held {
                terms: Arc::new(Terms::of(&grant, Arc::new(rates.clone()))),
                grant,
                next: 0,
                unreported: units,
                over: false,
            },
        );
        self.queue.push_back(id);
        out.push(Effect::Prepare(id));
    }

    /// Gives free slots units of the oldest grants whose coordinator `takes` results. One for whose memory there is no room
    /// now waits for it, and nothing overtakes it.
    pub(super) fn start_jobs(&mut self, takes: impl Fn(NodeId) -> bool, out: &mut Vec<Effect>) {
        while self.jobs.len() < self.room.slots {
            let free = |id: &&GrantId| takes(self.grants[*id].grant.signer());
            let Some(grant) = self.queue.iter().find(free).copied() else {
                return;
            };
            let used = self.memory_bytes();
            let held = self.grants.get_mut(&grant).expect("queued grants are held");
            let needed = used.saturating_add(held.grant.limits.memory_bytes);
            if needed > self.room.memory_bytes {
                return;
            }
            let left = held.grant.units.len() - held.next;
            let fitting = match self.paces.get(&held.grant.task) {
                Some(pace) => {
                    usize::try_from(JOB.as_nanos() / pace.as_nanos().max(1)).unwrap_or(usize::MAX)
                }
                None => 1,
            };
            let count = fitting
                .clamp(1, left.div_ceil(self.room.slots).max(1))
                .min(left);
            let places = held.next..held.next + count;
            held.next += count;
            if held.next == held.grant.units.len() {
                self.queue.retain(|other| *other != grant);
            }
            self.jobs_made += 1;
            let job = Job(self.jobs_made);
            let units = held.grant.units[places.clone()].iter();
            let left = units.map(|leased| leased.unit).collect();
            let pace = Pace::Steady;
            self.jobs.insert(job, Running { grant, left, pace });
            out.push(Effect::Execute { job, grant, places });
        }
    }

    /// Notes that a unit was run. Returns whose it is, unless nobody wants it any more.
    pub(super) fn ran(&mut self, job: Job, run: &Run) -> Option<Ours> {
        let running = self.jobs.get_mut(&job)?;
        let held = self.grants.get(&running.grant)?;
        if !running.left.remove(&run.unit) || held.over {
            return None;
        }
        let task = held.grant.task;
        let ours = Ours {
            coordinator: held.grant.signer(),
            grant: running.grant,
            task: held.grant.task,
            pace: running.pace,
            within: held.renew_every(),
        };
        if ours.pace == Pace::Broken {
            return Some(ours);
        }
        if self.paces.len() >= PACES_MAX && !self.paces.contains_key(&task) {
            self.paces.pop_first();
        }
        let pace = self.paces.entry(task).or_insert(run.took);
        *pace = (*pace * 7 + run.took) / 8;
        Some(ours)
    }

    /// Frees the slot of a job. Returns its grant and the units that it should have run and did not.
    pub(super) fn finished(&mut self, job: Job) -> Option<(Ours, BTreeSet<u32>)> {
        let running = self.jobs.remove(&job)?;
        let held = self.grants.get(&running.grant)?;
        let ours = Ours {
            coordinator: held.grant.signer(),
            grant: running.grant,
            task: held.grant.task,
            pace: running.pace,
            within: held.renew_every(),
        };
        let left = if held.over {
            BTreeSet::new()
        } else {
            running.left
        };
        Some((ours, left))
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
        (held.over, held.unreported) = (true, 0);
        self.queue.retain(|other| *other != grant);
        let jobs = self
            .jobs
            .iter()
            .filter(|(_, running)| running.grant == grant);
        out.extend(jobs.map(|(job, _)| Effect::Stop(*job)));
        self.drop_if_done(grant, out);
    }

    /// Lets go of a grant of which nothing is to be run or reported.
    pub(super) fn drop_if_done(&mut self, grant: GrantId, out: &mut Vec<Effect>) {
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

impl Held {
    fn renew_every(&self) -> Duration {
        let (least, most) = RENEW_EVERY;
        let lease = self.grant.deadline.since(self.grant.issued);
        (lease / 3).clamp(least, most)
    }
}
