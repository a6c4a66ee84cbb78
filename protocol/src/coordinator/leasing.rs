//! Pulls: what a terminal reports is counted, then it gets new leases. And what follows from time: leases expire,
//! offers are repeated.
//!
//! Everything here but the votes is forgotten in a crash, and nothing of it needs to be kept: a terminal
//! that works on a grant of an earlier start reports it and shows the grant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::task_run::TaskRun;
use super::{Answer, Coordinator, Division, Effect, Fact, NewLeases, Pulled, Row, Timer, Vote};
use crate::entry::Event;
use crate::id::{GrantId, Hash, NodeId, TaskId};
use crate::message::Refusal;
use crate::message::announce::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, Offer};
use crate::message::blob::{BlobGrant, BlobRange, RANGES_MAX};
use crate::message::work::{
    GRANT_UNITS_MAX, Grant, INLINE_BYTES_MAX, INLINE_UNIT_BYTES_MAX, LeasedUnit, Pull,
    RENEWALS_MAX, ResultVerdict, UnitResult, VerifiedReport,
};
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most input bytes of one grant that are read as a blob: about a second of a good line.
const GRANT_BYTES_MAX: u64 = 64 << 20;
/// The most units leased to one device at a time: a batch at work and one in wait on each of some cores.
const DEVICE_LEASES_MAX: usize = 8 * GRANT_UNITS_MAX as usize;
/// The most devices remembered.
const DEVICES_MAX: usize = 10_000;
/// A device that pulled within this counts when units are shared out.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);
/// How often an offer is repeated while units are open.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15);
/// How long an offer means something.
const OFFER_LIFE: Duration = Duration::from_secs(60);
/// How long a terminal waits that got nothing, when there is a task and when there is none, in milliseconds.
const RETRY_MILLIS: (u64, u64) = (500, 5_000);
/// The most addresses of other terminals in an answer.
const PEERS_MAX: usize = 8;
/// A lease is told to be ended for so long after it was, in case the terminal asks.
const ENDED_KEPT: Duration = Duration::from_secs(600);

/// The terminals that pull, and what they hold. None of it is durable.
#[derive(Debug)]
pub(super) struct Devices {
    seed: [u8; 32],
    grants_made: u64,
    devices: BTreeMap<NodeId, Device>,
    grants: BTreeMap<GrantId, HeldGrant>,
    /// Terminals that got nothing and are connected.
    waiting: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Device {
    seen: Timestamp,
    leases: usize,
    share: Vec<String>,
    /// The task of its last grant.
    task: Option<TaskId>,
}

#[derive(Debug)]
struct HeldGrant {
    task: TaskId,
    device: NodeId,
    /// Units whose result has not come.
    units: BTreeSet<u32>,
    lease: Duration,
    deadline: Timestamp,
    /// Over: expired, or the task has ended.
    over: bool,
}

impl Devices {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            grants_made: 0,
            devices: BTreeMap::new(),
            grants: BTreeMap::new(),
            waiting: BTreeSet::new(),
        }
    }

    pub(super) fn gone(&mut self, node: NodeId) {
        self.waiting.remove(&node);
    }

    /// Returns how many devices pulled lately.
    pub(super) fn active(&self, now: Timestamp) -> usize {
        self.devices
            .values()
            .filter(|device| now.since(device.seen) <= ACTIVE_WITHIN)
            .count()
    }

    /// Marks the grants of a task as over.
    pub(super) fn end_task(&mut self, task: &TaskId) {
        for held in self
            .grants
            .values_mut()
            .filter(|held| held.task == *task && !held.over)
        {
            held.over = true;
            if let Some(device) = self.devices.get_mut(&held.device) {
                device.leases = device.leases.saturating_sub(held.units.len());
            }
        }
    }

    /// Takes a unit off its grant. Returns whether the grant held it.
    fn release(&mut self, grant: GrantId, unit: u32) -> bool {
        let Some(held) = self.grants.get_mut(&grant) else {
            return false;
        };
        let released = held.units.remove(&unit);
        if released && !held.over {
            if let Some(device) = self.devices.get_mut(&held.device) {
                device.leases = device.leases.saturating_sub(1);
            }
        }
        if held.units.is_empty() {
            self.grants.remove(&grant);
        }
        released
    }

    fn note(&mut self, now: Timestamp, from: NodeId, share: &[String]) {
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(&from) {
            let idle = self.devices.iter().filter(|(_, device)| device.leases == 0);
            if let Some(oldest) = idle
                .min_by_key(|(_, device)| device.seen)
                .map(|(node, _)| *node)
            {
                self.devices.remove(&oldest);
            }
        }
        let fits = |address: &&String| address.len() <= ADDRESS_BYTES_MAX;
        let share = share
            .iter()
            .filter(fits)
            .take(ADDRESSES_MAX)
            .cloned()
            .collect();
        let new = Device {
            seen: now,
            leases: 0,
            share: Vec::new(),
            task: None,
        };
        let device = self.devices.entry(from).or_insert(new);
        (device.seen, device.share) = (now, share);
    }

    /// Returns addresses of other terminals on the task that let themselves be reached.
    fn peers(&self, task: TaskId, but: NodeId) -> Vec<String> {
        let on_task =
            |(node, device): &(&NodeId, &Device)| **node != but && device.task == Some(task);
        let addresses = self
            .devices
            .iter()
            .filter(on_task)
            .filter_map(|(_, device)| device.share.first());
        addresses.take(PEERS_MAX).cloned().collect()
    }

    fn next_grant_id(&mut self) -> GrantId {
        self.grants_made += 1;
        let hash = blake3::keyed_hash(&self.seed, &self.grants_made.to_be_bytes());
        GrantId::from_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

impl Coordinator {
    pub(super) fn pulled(
        &mut self,
        now: Timestamp,
        from: NodeId,
        pull: &Pull,
        report: Option<VerifiedReport>,
        missing: &BTreeSet<(GrantId, u32)>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if pull.profile != self.config.profile {
            return Answer::Refused(Refusal::WrongProfile);
        }
        self.devices.note(now, from, &pull.share);
        let ended = self.renew(now, from, &pull.renew);
        self.take_back(now, from, pull, out);
        let verdicts = report.map_or_else(Vec::new, |report| {
            self.count(now, from, report, missing, out)
        });
        let leased = self.lease(now, from, pull);
        let peers = leased
            .as_ref()
            .map_or_else(Vec::new, |new| self.devices.peers(new.grant.task, from));
        let retry_millis = match (&leased, self.turns.is_empty()) {
            (Some(_), _) => 0,
            (None, false) => RETRY_MILLIS.0,
            (None, true) => RETRY_MILLIS.1,
        };
        if leased.is_none() && pull.want > 0 {
            self.devices.waiting.insert(from);
        } else {
            self.devices.waiting.remove(&from);
        }
        Answer::Pulled(Box::new(Pulled {
            leased,
            verdicts,
            ended,
            retry_millis,
            peers,
        }))
    }

    /// Renews the grants that the terminal still works on. Returns those that are over.
    fn renew(&mut self, now: Timestamp, from: NodeId, grants: &[GrantId]) -> Vec<GrantId> {
        let mut ended = Vec::new();
        for id in grants.iter().take(RENEWALS_MAX) {
            match self.devices.grants.get_mut(id) {
                Some(held) if held.device == from && held.over => ended.push(*id),
                Some(held) if held.device == from => held.deadline = now + held.lease,
                // Of an earlier start, or of somebody else: nothing to renew, and no reason to stop it.
                _ => {}
            }
        }
        ended
    }

    /// Takes back the units that the terminal cannot finish.
    fn take_back(&mut self, now: Timestamp, from: NodeId, pull: &Pull, out: &mut Vec<Effect>) {
        let mut changed = BTreeSet::new();
        for given in pull.abandoned.iter().take(GRANT_UNITS_MAX as usize) {
            let held = self
                .devices
                .grants
                .get(&given.grant)
                .filter(|held| held.device == from && !held.over);
            let Some(task) = held.map(|held| held.task) else {
                continue;
            };
            if self.devices.release(given.grant, given.unit) {
                self.record(
                    Fact::Faulted {
                        task,
                        device: from,
                        unit: given.unit,
                        fault: given.fault,
                    },
                    out,
                );
                if let Some(units) = self.tasks.get_mut(&task).and_then(TaskRun::units_mut) {
                    units.count_lost(from);
                }
                changed.insert(task);
            }
        }
        for task in changed {
            self.after_units(now, task, out);
            self.nudge(task, out);
        }
    }

    /// Counts the results of a report. Returns a verdict on each.
    fn count(
        &mut self,
        now: Timestamp,
        from: NodeId,
        report: VerifiedReport,
        missing: &BTreeSet<(GrantId, u32)>,
        out: &mut Vec<Effect>,
    ) -> Vec<ResultVerdict> {
        let mut votes: BTreeMap<TaskId, Vec<Vote>> = BTreeMap::new();
        let mut counted: BTreeSet<(TaskId, u32)> = BTreeSet::new();
        let mut verdicts = Vec::with_capacity(report.results.len());
        for result in report.results {
            let verdict = match self.judge(from, &result, &report.grants) {
                Ok(task) if missing.contains(&(result.grant, result.unit)) => {
                    debug_assert!(
                        self.tasks.contains_key(&task),
                        "only results of known tasks are looked for"
                    );
                    ResultVerdict::OutputMissing
                }
                Ok(task) if !counted.insert((task, result.unit)) => ResultVerdict::NotLeased,
                Ok(task) => {
                    let UnitResult {
                        unit,
                        outcome,
                        fuel,
                        output,
                        inline,
                        grant,
                    } = result;
                    self.devices.release(grant, unit);
                    if let Some(content) = inline.filter(|_| outcome.is_done()) {
                        out.push(Effect::Keep {
                            task,
                            row: Row::Output {
                                id: output.id,
                                content,
                            },
                        });
                    }
                    votes.entry(task).or_default().push(Vote {
                        unit,
                        outcome,
                        fuel,
                        output,
                    });
                    ResultVerdict::Counted
                }
                Err(ResultVerdict::Redundant) => {
                    self.devices.release(result.grant, result.unit);
                    ResultVerdict::Redundant
                }
                Err(verdict) => verdict,
            };
            verdicts.push(verdict);
        }
        let batch = report.batch.root;
        for (task, votes) in votes {
            self.vote(now, (task, from, batch), votes, out);
        }
        verdicts
    }

    /// Says to which task a result counts, or why it does not.
    fn judge(
        &self,
        from: NodeId,
        result: &UnitResult,
        shown: &[Verified<Grant>],
    ) -> Result<TaskId, ResultVerdict> {
        let held = self.devices.grants.get(&result.grant);
        let shown = shown.iter().find(|grant| grant.id == result.grant);
        let (task, leased) = match (held, shown) {
            (Some(held), _) => (
                held.task,
                held.device == from && held.units.contains(&result.unit),
            ),
            (None, Some(grant)) => (
                grant.task,
                grant.units.iter().any(|leased| leased.unit == result.unit),
            ),
            (None, None) => return Err(ResultVerdict::ShowGrant),
        };
        let Some(run) = self.tasks.get(&task).filter(|run| !run.is_ended()) else {
            return Err(ResultVerdict::TaskEnded);
        };
        let Some(units) = run.units().filter(|_| leased) else {
            return Err(ResultVerdict::NotLeased);
        };
        if units.is_settled(result.unit) || units.has_vote(result.unit, from) {
            return Err(ResultVerdict::Redundant);
        }
        if result.fuel > run.task.limits.fuel || result.output.bytes > run.task.limits.output_bytes
        {
            return Err(ResultVerdict::NotLeased);
        }
        Ok(task)
    }

    /// Returns whether the shell should read this large output before it hands over the report.
    #[must_use]
    pub fn wants_output(
        &self,
        from: NodeId,
        result: &UnitResult,
        shown: &[Verified<Grant>],
    ) -> bool {
        result.outcome.is_done()
            && result.inline.is_none()
            && self.judge(from, result, shown).is_ok()
    }

    /// Returns the task of a result that [`Coordinator::wants_output`] approved.
    #[must_use]
    pub fn task_of(
        &self,
        from: NodeId,
        result: &UnitResult,
        shown: &[Verified<Grant>],
    ) -> Option<TaskId> {
        self.judge(from, result, shown).ok()
    }

    fn vote(
        &mut self,
        now: Timestamp,
        (task, device, batch): (TaskId, NodeId, Hash),
        votes: Vec<Vote>,
        out: &mut Vec<Effect>,
    ) {
        let units = self
            .record(
                Fact::Reported {
                    task,
                    device,
                    batch,
                    votes,
                },
                out,
            )
            .validated;
        for unit in units.iter().filter(|unit| unit.outcome.is_done()) {
            out.push(Effect::Keep {
                task,
                row: Row::Unit {
                    unit: unit.unit,
                    output: unit.output,
                },
            });
        }
        if !units.is_empty() {
            out.push(Effect::Append(Event::BatchValidated {
                task,
                device,
                batch,
                units,
            }));
        }
        self.after_units(now, task, out);
        self.nudge(task, out);
    }

    /// Leases units of the first task in turn that has some for this terminal.
    fn lease(&mut self, now: Timestamp, from: NodeId, pull: &Pull) -> Option<NewLeases> {
        let held = self
            .devices
            .devices
            .get(&from)
            .map_or(0, |device| device.leases);
        let room = DEVICE_LEASES_MAX.saturating_sub(held);
        let want = room.min(pull.want as usize).min(GRANT_UNITS_MAX as usize);
        if want == 0 {
            return None;
        }
        for place in 0..self.turns.len() {
            let task = self.turns[place];
            if let Some(leases) = self.lease_of(now, task, from, (want, pull.memory_bytes)) {
                // The next pull looks at the other tasks first.
                self.turns.rotate_left(place + 1);
                return Some(leases);
            }
        }
        None
    }

    fn lease_of(
        &mut self,
        now: Timestamp,
        id: TaskId,
        device: NodeId,
        (want, memory_bytes): (usize, u64),
    ) -> Option<NewLeases> {
        let active = self.devices.active(now).max(1);
        let (task, running) = self.tasks.get_mut(&id)?.running_mut()?;
        if task.customer == device || task.limits.memory_bytes > memory_bytes {
            return None;
        }
        let (units, Division { table, packed }) = (&mut running.units, &running.division);
        // Guided self-scheduling: half of a fair share, so that the last grants are small.
        let share = (units.wanted() as usize).div_ceil(2 * active).max(1);
        let mut parcel = Parcel::default();
        let place = |unit: u32| table.range(unit).unwrap_or_default();
        let chosen = units.choose(device, want.min(share), |unit| parcel.add(place(unit)));
        if chosen.is_empty() {
            return None;
        }
        let grant_id = self.devices.next_grant_id();
        let lease = Duration::from_millis(task.lease_millis);
        let leased = chosen.iter().map(|unit| {
            let ((start, bytes), attempt) = (place(*unit), units.lease(*unit, device, grant_id));
            LeasedUnit {
                unit: *unit,
                attempt,
                start,
                bytes,
                params: table.params(*unit),
            }
        });
        let grant = Grant {
            id: grant_id,
            device,
            task: id,
            unit_count: table.count(),
            program: task.program,
            args: task.args.clone(),
            limits: task.limits,
            profile: self.config.profile.clone(),
            input: *packed,
            units: leased.collect(),
            issued: now,
            deadline: now + lease,
        };
        let read = parcel.read(&grant, now + lease * 2);
        self.hold(&grant, lease);
        Some(NewLeases {
            inline: parcel.inline(),
            read,
            grant,
        })
    }

    /// Notes whom the units of a grant are leased to.
    fn hold(&mut self, grant: &Grant, lease: Duration) {
        let units: BTreeSet<u32> = grant.units.iter().map(|leased| leased.unit).collect();
        if let Some(device) = self.devices.devices.get_mut(&grant.device) {
            device.leases += units.len();
            device.task = Some(grant.task);
        }
        let (task, device, deadline) = (grant.task, grant.device, grant.deadline);
        let held = HeldGrant {
            task,
            device,
            units,
            lease,
            deadline,
            over: false,
        };
        self.devices.grants.insert(grant.id, held);
        self.set_timer(deadline, Timer::Expire(grant.id));
    }

    /// Ends the leases of a grant that was not renewed, and later forgets it.
    pub(super) fn expire(&mut self, now: Timestamp, id: GrantId, out: &mut Vec<Effect>) {
        let Some(held) = self.devices.grants.get_mut(&id) else {
            return;
        };
        if held.over && held.deadline + ENDED_KEPT <= now {
            self.devices.grants.remove(&id);
            return;
        }
        if held.over || held.deadline > now {
            let at = if held.over {
                held.deadline + ENDED_KEPT
            } else {
                held.deadline
            };
            self.set_timer(at, Timer::Expire(id));
            return;
        }
        held.over = true;
        let (task, device, lost) = (held.task, held.device, held.units.clone());
        let at = held.deadline + ENDED_KEPT;
        if let Some(device) = self.devices.devices.get_mut(&device) {
            device.leases = device.leases.saturating_sub(lost.len());
        }
        self.set_timer(at, Timer::Expire(id));
        if let Some(units) = self.tasks.get_mut(&task).and_then(TaskRun::units_mut) {
            for unit in lost {
                if units.end_lease(unit, device) {
                    units.count_lost(device);
                }
            }
            out.push(Effect::Changed(task));
            self.nudge(task, out);
        }
    }

    /// Wakes as many waiting terminals as there are leases to give.
    pub(super) fn nudge(&mut self, task: TaskId, out: &mut Vec<Effect>) {
        let wanted = self
            .tasks
            .get_mut(&task)
            .and_then(TaskRun::units_mut)
            .map_or(0, |units| units.wanted());
        let woken: Vec<NodeId> = self
            .devices
            .waiting
            .iter()
            .copied()
            .take(wanted as usize)
            .collect();
        for to in woken {
            self.devices.waiting.remove(&to);
            out.push(Effect::Nudge { to, task });
        }
    }

    /// Offers the open units of a task, now and again while there are any.
    pub(super) fn announce(&mut self, now: Timestamp, id: TaskId, out: &mut Vec<Effect>) {
        let known = u32::try_from(self.devices.devices.len()).unwrap_or(u32::MAX);
        let Some((task, running)) = self.tasks.get_mut(&id).and_then(TaskRun::running_mut) else {
            return;
        };
        let wanted = running.units.wanted();
        if wanted > 0 {
            out.push(Effect::Announce(Offer {
                task: id,
                epoch: now.as_millis(),
                program: task.program.id,
                program_bytes: task.program.bytes,
                profile: self.config.profile.clone(),
                limits: task.limits,
                open_units: 1 << wanted.ilog2(),
                // Half a millisecond for each known terminal keeps dials below 2,000 a second.
                spread_millis: (known / 2).min(10_000),
                sortition: u16::MAX,
                addresses: Vec::new(),
                issued: now,
                expires: now + OFFER_LIFE,
            }));
            self.nudge(id, out);
        }
        self.set_timer(now + ANNOUNCE_EVERY, Timer::Announce(id));
    }
}

/// What goes into one grant: small inputs that travel with it, or ranges to be read.
#[derive(Debug, Default)]
struct Parcel {
    bytes: u64,
    largest: u64,
    /// Start and end of each contiguous run.
    runs: Vec<(u64, u64)>,
}

impl Parcel {
    /// Adds a unit's range. Returns whether it fits.
    fn add(&mut self, (start, length): (u64, u64)) -> bool {
        let small = self.largest.max(length) <= INLINE_UNIT_BYTES_MAX;
        let bytes_max = if small {
            INLINE_BYTES_MAX as u64
        } else {
            GRANT_BYTES_MAX
        };
        let extends = self.runs.last().is_some_and(|(_, end)| *end == start);
        let runs_fit = small || extends || self.runs.len() + 1 < RANGES_MAX;
        if !self.runs.is_empty() && (self.bytes + length > bytes_max || !runs_fit) {
            return false;
        }
        match self.runs.last_mut() {
            Some((_, end)) if *end == start => *end += length,
            _ => self.runs.push((start, start + length)),
        }
        (self.bytes, self.largest) = (self.bytes + length, self.largest.max(length));
        true
    }

    fn inline(&self) -> bool {
        self.largest <= INLINE_UNIT_BYTES_MAX && self.bytes <= INLINE_BYTES_MAX as u64
    }

    /// Returns the right to read the program and what does not travel with the grant.
    fn read(&self, grant: &Grant, expires: Timestamp) -> BlobGrant {
        let program = BlobRange {
            blob: grant.program.id,
            start: 0,
            bytes: grant.program.bytes,
        };
        let inputs = self.runs.iter().filter(|_| !self.inline());
        let inputs = inputs.map(|(start, end)| BlobRange {
            blob: grant.input.id,
            start: *start,
            bytes: end - start,
        });
        BlobGrant {
            reader: grant.device,
            ranges: std::iter::once(program).chain(inputs).collect(),
            expires,
        }
    }
}
