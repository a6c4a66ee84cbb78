//! Pulls: what a terminal reports is counted, then it gets new leases. And what follows from time: leases expire,
//! offers are repeated.
//!
//! Everything here but the votes is forgotten in a crash, and nothing of it needs to be kept: a terminal
//! that works on a grant of an earlier start reports it and shows the grant.

use std::collections::BTreeSet;
use std::time::Duration;

use super::devices::{Devices, Waits};
use super::grants::State;
use super::parcel::Parcel;
use super::reports::Reported;
use super::task_run::TaskRun;
use super::timers::{Timer, Timers};
use super::units::{DEVICE_LEASES_MAX, Units};
use super::{Answer, Coordinator, Effect, Fact, NewLeases, Papers, Pulled};
use crate::account::Holder;
use crate::certificate;
use crate::id::{GrantId, NodeId, TaskId};
use crate::message::Refusal;
use crate::message::announce::Offer;
use crate::message::wishes::{Misfit, OwnTasks, Unfit, Wishes, WorkKind, count_unfit};
use crate::message::work::{Abandoned, GRANT_UNITS_MAX, Grant, LeasedUnit, Pull, RENEWALS_MAX};
use crate::signed::Verified;
use crate::task::split::UnitTable;
use crate::time::Timestamp;
use crate::unit::Fault;

/// How often an offer is repeated while units are open.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15);
/// How long an offer means something.
const OFFER_LIFE: Duration = Duration::from_secs(60);
/// How long at least a terminal may read what a grant needs: slow lines take longer than short leases.
const READ_LIFE_MIN: Duration = Duration::from_secs(600);
/// How long a terminal waits that got nothing, when there are units and when there are none, in milliseconds.
const RETRY_MILLIS: (u64, u64) = (500, 5_000);
/// How much longer for each other terminal that waits, so that all of them ask less than 500 times a second.
const RETRY_MILLIS_EACH: u64 = 2;
/// The longest such wait, in milliseconds.
const RETRY_MILLIS_MAX: u64 = 60_000;

impl Coordinator {
    pub(super) fn pulled(
        &mut self,
        now: Timestamp,
        (from, papers): (NodeId, Papers),
        (pull, reported): (&Pull, Option<Reported>),
        out: &mut Vec<Effect>,
    ) -> Answer {
        if pull.profile != self.config.profile {
            return Answer::Refused(Refusal::WrongProfile);
        }
        if !pull.wishes.is_bounded() {
            return Answer::Refused(Refusal::Malformed);
        }
        let Papers {
            certificate,
            registration,
        } = papers;
        let Ok(holder) = certificate::holder(from, certificate.as_ref(), now) else {
            return Answer::Refused(Refusal::BadCertificate);
        };
        // What was leased while it might counts, whatever became of its registration.
        let is_admitted = self.admits(now, holder, registration, out);
        if !is_admitted && reported.is_none() {
            return Answer::Refused(Refusal::NotRegistered);
        }
        if !self.devices.note(now, (from, certificate), &pull.share) {
            return Answer::Refused(Refusal::Busy);
        }
        let shown = reported.as_ref().map_or(&[][..], Reported::grants);
        for grant in shown {
            self.adopt(now, grant, holder);
        }
        let (ended, unknown) = self.renew(now, holder, (&pull.renew, shown));
        self.take_back(now, holder, pull, out);
        let verdicts =
            reported.map_or_else(Vec::new, |reported| self.count(now, holder, reported, out));
        let (leased, unfit) = if is_admitted {
            self.lease(now, holder, pull)
        } else {
            (None, Vec::new())
        };
        let peers = leased
            .as_ref()
            .map_or_else(Vec::new, |new| self.devices.peers(new.grant.task, from));
        let waits = leased.is_none() && pull.want > 0;
        let retry_millis = if waits { self.retry_millis() } else { 0 };
        self.devices.wait(
            from,
            if waits {
                Waits::ForUnits
            } else {
                Waits::ForNothing
            },
        );
        Answer::Pulled(Box::new(Pulled {
            leased,
            verdicts,
            ended,
            unknown,
            retry_millis,
            peers,
            receipts: self.devices.receipts(from, &pull.kept),
            unpaid: self.unpaid(from, holder, &pull.owed),
            unfit,
        }))
    }

    /// Returns how long a terminal that got nothing is to wait.
    fn retry_millis(&self) -> u64 {
        let (with_units, without) = RETRY_MILLIS;
        let least = if self.turns.is_empty() {
            without
        } else {
            with_units
        };
        let crowd = RETRY_MILLIS_EACH.saturating_mul(self.devices.waiting() as u64);
        least.max(crowd).min(RETRY_MILLIS_MAX)
    }

    /// Holds a grant of before a restart again, as far as anything of it is open.
    fn adopt(&mut self, now: Timestamp, grant: &Grant, holder: Holder) {
        let run = self.tasks.get(&grant.task).filter(|run| !run.is_ended());
        let Some((run, units)) = run.and_then(|run| Some((run, run.units()?))) else {
            return;
        };
        let is_open = |unit: &u32| !units.is_settled(*unit) && !units.has_vote(*unit, holder);
        let open = grant.units.iter().map(|leased| leased.unit);
        let open: BTreeSet<u32> = open.filter(is_open).collect();
        let lease = Duration::from_millis(run.task.lease_millis);
        let room =
            (DEVICE_LEASES_MAX as usize).saturating_sub(self.devices.grants.leases(grant.device));
        let is_known = self.devices.grants.get(grant.id).is_some();
        if !is_known && !open.is_empty() && open.len() <= room {
            self.devices.grants.adopt(now, grant, (open, lease));
        }
    }

    /// Renews the grants that the terminal still works on. Returns those that are over, and those that it has to show.
    fn renew(
        &mut self,
        now: Timestamp,
        holder: Holder,
        (grants, shown): (&[GrantId], &[Verified<Grant>]),
    ) -> (Vec<GrantId>, Vec<GrantId>) {
        let (mut ended, mut unknown) = (Vec::new(), Vec::new());
        for id in grants.iter().take(RENEWALS_MAX).copied() {
            let Some(held) = self.devices.grants.get(id) else {
                // What was shown and is not held now has nothing that is still wanted.
                let was_shown = shown.iter().any(|grant| grant.id == id);
                let told = if was_shown { &mut ended } else { &mut unknown };
                told.push(id);
                continue;
            };
            if held.device != holder.device {
                continue;
            }
            let goes_on = match held.state {
                State::Live(_) => self.devices.grants.renew(now, id),
                State::Expired(_) => self.revive(now, holder, id),
                State::Ended(_) => false,
            };
            if !goes_on {
                ended.push(id);
            }
        }
        (ended, unknown)
    }

    /// Leases the units of an expired grant again, as far as nobody else was given them. Returns whether any was.
    fn revive(&mut self, now: Timestamp, holder: Holder, id: GrantId) -> bool {
        let Some(held) = self.devices.grants.get(id) else {
            return false;
        };
        let Some(units) = self.tasks.get_mut(&held.task).and_then(TaskRun::units_mut) else {
            return false;
        };
        let mut revived = false;
        for unit in &held.units {
            if units.may_lease(now, *unit, holder) {
                units.lease(*unit, holder, id);
                revived = true;
            }
        }
        if revived && let Some(deadline) = self.devices.grants.revive(now, id) {
            self.timers.set(Timer::Expire(id), deadline);
        }
        revived
    }

    /// Takes back the units that the terminal cannot finish.
    fn take_back(&mut self, now: Timestamp, holder: Holder, pull: &Pull, out: &mut Vec<Effect>) {
        let from = holder.device;
        let (mut faulted, mut withdrawn) = (BTreeSet::new(), BTreeSet::new());
        for given in pull.abandoned.iter().take(GRANT_UNITS_MAX as usize) {
            let held = self.devices.grants.get(given.grant);
            let live =
                held.filter(|held| held.device == from && matches!(held.state, State::Live(_)));
            let Some(task) = live.map(|held| held.task) else {
                continue;
            };
            if !self.release(given.grant, given.unit) {
                continue;
            }
            if given.fault == Fault::Withdrawn {
                self.withdraw(now, (task, holder), given);
                withdrawn.insert(task);
                continue;
            }
            let fact = Fact::Faulted {
                task,
                device: from,
                unit: given.unit,
                fault: given.fault,
                at: now,
            };
            let decided = self.record(fact, out);
            self.after_decision(now, task, &decided);
            faulted.insert(task);
        }
        for task in faulted {
            if let Some(units) = self.units_mut(&task) {
                units.send_to_rest(now, from);
            }
            self.after_units(now, task, out);
            self.nudge_for_fresh(task, out);
        }
        for task in withdrawn {
            if let Some(units) = self.units_mut(&task) {
                units.rest_if_withdrawn(now, from);
            }
            out.push(Effect::Changed(task));
            self.nudge_for_fresh(task, out);
        }
    }

    /// Takes back a unit because the owner of its terminal wants the computer: nothing is held against unit or device.
    fn withdraw(&mut self, now: Timestamp, (task, holder): (TaskId, Holder), given: &Abandoned) {
        if let Some((task, running)) = self.tasks.get_mut(&task).and_then(TaskRun::running_mut) {
            let lease = Duration::from_millis(task.lease_millis);
            running.known.take(given.grant, given.unit);
            running.units.withdraw(now, (given.unit, holder), lease);
        }
    }

    /// Leases units of the first task in turn that has some for this terminal; its owner's own tasks come first if it
    /// wishes so. Who gets a lease goes to the end of the turns; those that were passed over keep their place, and so do
    /// all if a task was taken before its turn.
    fn lease(
        &mut self,
        now: Timestamp,
        holder: Holder,
        pull: &Pull,
    ) -> (Option<NewLeases>, Vec<Unfit>) {
        let room =
            (DEVICE_LEASES_MAX as usize).saturating_sub(self.devices.grants.leases(holder.device));
        let want = room.min(pull.want as usize).min(GRANT_UNITS_MAX as usize);
        if want == 0 {
            return (None, Vec::new());
        }
        let is_own = |task: &TaskId| {
            let run = self.tasks.get(task);
            run.is_some_and(|run| WorkKind::of(*task, &run.task).is_own(holder))
        };
        let (own, others): (Vec<TaskId>, Vec<TaskId>) = match pull.wishes.own_tasks {
            OwnTasks::First | OwnTasks::Only => self.turns.iter().partition(|task| is_own(task)),
            OwnTasks::Normal | OwnTasks::Never => (Vec::new(), self.turns.clone()),
        };
        let mut reasons = Vec::new();
        for task in own.iter().chain(&others) {
            match self.lease_of(now, *task, holder, (want, &pull.wishes)) {
                Ok(leases) => {
                    if !own.contains(task) {
                        // The next pull looks at the other tasks first.
                        self.turns.retain(|other| other != task);
                        self.turns.push(*task);
                    }
                    return (Some(leases), Vec::new());
                }
                Err(why) => reasons.push(why),
            }
        }
        (None, count_unfit(reasons))
    }

    fn lease_of(
        &mut self,
        now: Timestamp,
        id: TaskId,
        holder: Holder,
        (want, wishes): (usize, &Wishes),
    ) -> Result<NewLeases, Misfit> {
        let device = holder.device;
        let (kind, share) = self.may_take(now, id, (holder, wishes))?;
        // Nobody is asked for the answer to what is its own.
        let may_know = !kind.is_own(holder);
        let known = may_know.then(|| self.find_known(&id, holder)).flatten();
        let run = self.tasks.get_mut(&id).ok_or(Misfit::Taken)?;
        let card = self.cards.version(run.dues.card);
        let openable = run.openable(card);
        let (task, running) = run.running_mut().ok_or(Misfit::Taken)?;
        let (units, table) = (&mut running.units, &running.division.table);
        let lease = Duration::from_millis(task.lease_millis);
        let mut parcel = Parcel::default();
        let place = |unit: u32| table.range(unit).unwrap_or_default();
        // A known unit is one among others that are wanted: it comes first, as one that was returned would.
        let known = known.filter(|unit| units.wanted() > 0 && parcel.add(place(*unit)));
        let want = want.min(share) - usize::from(known.is_some());
        let mut chosen = units.choose(now, holder, (want, openable), |unit| {
            parcel.add(place(unit))
        });
        if chosen.is_empty() && known.is_none() {
            let slow = back_up(
                now,
                (&id, holder),
                (&mut *units, lease),
                (&mut self.devices, &mut self.timers),
            );
            let Some(unit) = slow else {
                return Err(units.why_none(now, holder, openable));
            };
            parcel.add(place(unit));
            chosen.push(unit);
        }
        let grant_id = self.devices.next_grant_id();
        if let Some(unit) = known {
            running.known.lease(unit, grant_id);
        }
        for unit in &chosen {
            units.lease(*unit, holder, grant_id);
        }
        // The same for a known unit as for the others: it tells nobody how often a unit was leased.
        let attempt = u32::try_from(self.devices.grants_made()).unwrap_or(u32::MAX);
        let leased = known.into_iter().chain(chosen);
        let leased = leased.map(|unit| leased_unit(table, unit, attempt));
        let grant = Grant {
            id: grant_id,
            device,
            customer: task.customer,
            task: id,
            unit_count: table.count(),
            program: task.program,
            args: task.args.clone(),
            limits: task.limits,
            profile: self.config.profile.clone(),
            input: running.division.packed,
            units: leased.collect(),
            rate_card: task.rate_card,
            issued: now,
            deadline: now + lease,
        };
        self.devices.grants.hold(&grant, lease);
        self.devices.set_task(device, id);
        self.timers.set(Timer::Expire(grant_id), grant.deadline);
        Ok(NewLeases {
            rate_card: card.signed().clone(),
            inline: parcel.inline(),
            read: parcel.read(&grant, now + READ_LIFE_MIN.max(lease * 2)),
            grant,
        })
    }

    /// Returns what kind of work a task is, and how many of its units the device may get, or why none. It is asked
    /// before all else, as it looks at no other task and at no single unit.
    fn may_take(
        &mut self,
        now: Timestamp,
        id: TaskId,
        (holder, wishes): (Holder, &Wishes),
    ) -> Result<(WorkKind, usize), Misfit> {
        let active = self.devices.count_active(now).max(1);
        let run = self.tasks.get(&id).ok_or(Misfit::Taken)?;
        let running = run.running().ok_or(Misfit::Taken)?;
        let kind = WorkKind::of(id, &run.task);
        wishes.misfit(&kind, holder).map_or(Ok(()), Err)?;
        let share = share_now(now, &running.units, (holder.device, active))?;
        Ok((kind, share))
    }

    /// Ends the leases of a grant that was not renewed.
    pub(super) fn expire(&mut self, now: Timestamp, id: GrantId, out: &mut Vec<Effect>) {
        let Some(State::Live(deadline)) = self.devices.grants.get(id).map(|held| held.state) else {
            return;
        };
        if deadline > now {
            // It was renewed since the timer was set.
            self.timers.set(Timer::Expire(id), deadline);
            return;
        }
        self.lapse(now, id, out);
    }

    /// Ends the leases of a device that may not work here any more.
    pub(super) fn end_leases(&mut self, now: Timestamp, device: NodeId, out: &mut Vec<Effect>) {
        for id in self.devices.grants.live_of(device) {
            self.timers.clear(Timer::Expire(id));
            self.lapse(now, id, out);
        }
    }

    fn lapse(&mut self, now: Timestamp, id: GrantId, out: &mut Vec<Effect>) {
        let Some((task, device, lost)) = self.devices.grants.expire(now, id) else {
            return;
        };
        let Some(units) = self.units_mut(&task) else {
            return;
        };
        for unit in lost {
            if units.end_lease(unit, device) {
                units.count_lost(device);
            }
        }
        out.push(Effect::Changed(task));
        self.nudge_for_fresh(task, out);
    }

    /// Wakes waiting terminals if leases are wanted that were not before.
    pub(super) fn nudge_for_fresh(&mut self, task: TaskId, out: &mut Vec<Effect>) {
        let fresh = self.units_mut(&task).map_or(0, Units::take_fresh);
        if fresh > 0 {
            self.nudge(task, fresh, out);
        }
    }

    /// Wakes as many waiting terminals as there are leases to give, and some in case those have run the unit already.
    fn nudge(&mut self, task: TaskId, leases: u32, out: &mut Vec<Effect>) {
        let spare = self
            .tasks
            .get(&task)
            .map_or(0, |run| usize::from(run.task.quorum.agree));
        for to in self.devices.wake(leases as usize + spare) {
            out.push(Effect::Nudge { to, task });
        }
    }

    /// Offers the open units of a task, now and again while there are any.
    pub(super) fn announce(&mut self, now: Timestamp, id: TaskId, out: &mut Vec<Effect>) {
        let known = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
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
            self.nudge(id, wanted, out);
        }
        self.timers.set(Timer::Announce(id), now + ANNOUNCE_EVERY);
    }

    pub(super) fn units_mut(&mut self, task: &TaskId) -> Option<&mut Units> {
        self.tasks.get_mut(task)?.units_mut()
    }
}

/// Returns a unit that somebody has for very long, to be leased to one more when nobody is wanted.
fn back_up(
    now: Timestamp,
    (task, holder): (&TaskId, Holder),
    (units, lease): (&mut Units, Duration),
    (devices, timers): (&mut Devices, &mut Timers),
) -> Option<u32> {
    let turn = usize::try_from(devices.grants_made()).unwrap_or(0);
    let made_before = now - lease * 2;
    let grants = &mut devices.grants;
    let is_settled = |unit| units.is_settled(unit);
    for spent in grants.end_spent(now, (task, made_before), is_settled) {
        timers.clear(Timer::Expire(spent));
    }
    let slow = grants.slow_units((task, made_before), is_settled, turn);
    let is_slow = |grant| grants.is_slow(grant, made_before);
    let mut slow = slow.into_iter();
    let unit = slow.find(|unit| units.may_back_up(now, (*unit, holder), is_slow));
    if unit.is_none() && units.keeps_back(holder) {
        units.send_doubted_to_rest(now, holder.device);
    }
    unit
}

/// Returns how many units a device may get at the moment, or why it gets none.
fn share_now(
    now: Timestamp,
    units: &Units,
    (device, active): (NodeId, usize),
) -> Result<usize, Misfit> {
    match share(units, device, active) {
        _ if units.rests(now, device) => Err(Misfit::Rests),
        0 => Err(Misfit::Unconfirmed),
        share => Ok(share),
    }
}

/// Returns how many units a device may get at a time. Guided self-scheduling: half of a fair share among `active`
/// devices, so that the last grants are small; and no more than it is trusted with.
fn share(units: &Units, device: NodeId, active: usize) -> usize {
    let share = (units.wanted() as usize).div_ceil(2 * active).max(1);
    share.min(units.entrusted(device))
}

fn leased_unit(table: &UnitTable, unit: u32, attempt: u32) -> LeasedUnit {
    let (start, bytes) = table.range(unit).unwrap_or_default();
    LeasedUnit {
        unit,
        attempt,
        start,
        bytes,
        params: table.params(unit),
    }
}
