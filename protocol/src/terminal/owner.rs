//! The terminal obeys its owner: what is not allowed is not begun, what is not wanted any more is given back.
//!
//! While nothing may run, the shell has suspended the units at work. They keep their leases for [`SUSPENDED_MAX`], as
//! most owners are back at their computer for minutes only, and then go on where they were. Units that wait are given
//! back at once: nobody knows when they would run. What is given back is [`Fault::Withdrawn`], which coordinators hold
//! against nobody.
//!
//! Invariants: no job is begun while nothing may run, nor beyond the slots and the memory that are allowed; nothing waits
//! that could not run; a unit that is given back is not reported.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Allowance, Effect, Job, Terminal};
use crate::account::Holder;
use crate::id::{GrantId, NodeId, TaskId};
use crate::message::wishes::{DECLINED_MAX, Misfit, OwnTasks, Wishes, WorkKind};
use crate::message::work::{Abandoned, Grant};
use crate::rate_card::Rates;
use crate::signed::Verified;
use crate::time::Timestamp;
use crate::unit::Fault;

/// How long units stay suspended before they are given back: their tasks wait for them.
pub const SUSPENDED_MAX: Duration = Duration::from_secs(600);

impl Terminal {
    /// Obeys what the owner allows from now on.
    pub(super) fn allowed(&mut self, now: Timestamp, allowance: Allowance, out: &mut Vec<Effect>) {
        self.config.allowance = allowance;
        self.work.allow(&self.config.room());
        if self.config.allowance.run {
            self.suspended_since = None;
        } else {
            self.suspended_since.get_or_insert(now);
            self.work.suspend();
        }
        self.earnings.forget(now, self.config.allowance.hourly_min);
        self.give_back_unwanted(now, out);
    }

    /// Stops and gives back the units at work, as far as they were not run.
    pub(super) fn withdraw(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let jobs: Vec<_> = self.work.at_work().map(|running| running.job).collect();
        for job in jobs {
            self.withdraw_job(now, job, out);
        }
    }

    /// Withdraws what has been suspended for too long; while draining, whatever is suspended.
    pub(super) fn withdraw_where_due(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.withdrawn_at().is_some_and(|at| at <= now) {
            self.withdraw(now, out);
        }
    }

    /// Returns when the units at work are given back unless they go on before.
    pub(super) fn withdrawn_at(&self) -> Option<Timestamp> {
        let since = self.suspended_since?;
        self.work.at_work().next()?;
        let patience = if self.draining {
            Duration::ZERO
        } else {
            SUSPENDED_MAX
        };
        Some(since + patience)
    }

    /// Gives back the units that wait and cannot run, and those at work for what is not wanted at all any more.
    pub(super) fn give_back_unwanted(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let (wishes, holder) = (self.wishes(), self.holder(now));
        let may_run = self.config.room().slots > 0;
        let misfit = |grant: &Grant| wishes.misfit(&WorkKind::of_grant(grant), holder);
        for id in self.work.queued() {
            let grant = self
                .work
                .grant(&id)
                .map(|grant| (grant.signer(), misfit(grant)));
            let Some((coordinator, misfit)) = grant else {
                continue;
            };
            if !may_run || misfit.is_some() {
                let units = self.work.take_waiting(id);
                self.give_back(now, (coordinator, id), (units, Fault::Withdrawn), out);
            }
        }
        let forbidden = |grant: &Grant| misfit(grant).is_some_and(stops_work);
        let jobs = self.work.at_work();
        let jobs = jobs.filter(|running| forbidden(running.grant));
        let jobs: Vec<_> = jobs.map(|running| running.job).collect();
        for job in jobs {
            self.withdraw_job(now, job, out);
        }
    }

    fn withdraw_job(&mut self, now: Timestamp, job: Job, out: &mut Vec<Effect>) {
        if let Some((coordinator, grant, units)) = self.work.withdraw(job) {
            out.push(Effect::Stop(job));
            self.give_back(now, (coordinator, grant), (units, Fault::Withdrawn), out);
        }
    }

    /// Gives units of a grant back.
    pub(super) fn give_back(
        &mut self,
        now: Timestamp,
        (coordinator, grant): (NodeId, GrantId),
        (units, fault): (impl IntoIterator<Item = u32>, Fault),
        out: &mut Vec<Effect>,
    ) {
        for unit in units {
            if let Some(link) = self.links.get_mut(&coordinator) {
                self.tally.count_back(fault);
                link.give_back(now, Abandoned { grant, unit, fault });
            }
            self.work.reported(grant, out);
        }
    }

    /// Takes a grant, or gives it back if the owner does not want it. Who leases again and again what was not asked for
    /// is not asked for work for a while.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        grant: Verified<Grant>,
        rates: &Rates,
        out: &mut Vec<Effect>,
    ) {
        let (from, id) = (grant.signer(), grant.id);
        if self.work.grant(&id).is_some() {
            return;
        }
        let is_time = self.config.allowance.take && self.config.room().slots > 0;
        let kind = WorkKind::of_grant(&grant);
        let is_wanted = self.wishes().misfit(&kind, self.holder(now)).is_none();
        if let Some(link) = self.links.get_mut(&from) {
            if is_wanted {
                link.note_grant(now);
            } else {
                self.tally.unwanted += 1;
                link.note_unwanted(now);
            }
        }
        if is_time && is_wanted {
            self.wallet.leased(now, from);
            self.work.add(grant, rates, out);
        } else {
            let units: Vec<u32> = grant.units.iter().map(|leased| leased.unit).collect();
            self.give_back(now, (from, id), (units, Fault::Withdrawn), out);
        }
    }

    /// Declines those of the tasks that earn too little, each with a grant of it. What the owner wants to have done first is
    /// not judged by what it earns.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        tasks: BTreeSet<(TaskId, GrantId)>,
        out: &mut Vec<Effect>,
    ) {
        let (holder, allowance) = (self.holder(now), &self.config.allowance);
        let own_first = matches!(allowance.wishes.own_tasks, OwnTasks::First | OwnTasks::Only);
        let mut declines = false;
        for (task, grant) in tasks {
            let grant = self.work.grant(&grant);
            let is_own = grant.is_some_and(|grant| WorkKind::of_grant(grant).is_own(holder));
            if !(own_first && is_own) {
                declines |= self.earnings.judge(now, task, allowance.hourly_min);
            }
        }
        if declines {
            self.give_back_unwanted(now, out);
        }
    }

    /// Returns whose the terminal is.
    pub(super) fn holder(&self, now: Timestamp) -> Holder {
        let (owner, device) = (self.owner(now), self.config.me);
        Holder { owner, device }
    }

    /// Returns which work is taken: what the owner wants, but for what earns too little or cannot fit.
    pub(super) fn wishes(&self) -> Wishes {
        let Allowance {
            wishes,
            memory_bytes,
            ..
        } = &self.config.allowance;
        let mut wishes = wishes.clone();
        let declined = self.earnings.declined().map(|(task, _)| task);
        wishes.declined.extend(declined);
        while wishes.declined.len() > DECLINED_MAX {
            wishes.declined.pop_first();
        }
        wishes.limits.memory_bytes = wishes.limits.memory_bytes.min(*memory_bytes);
        wishes
    }
}

/// Returns whether units at work are stopped for this reason, not only those that wait.
const fn stops_work(misfit: Misfit) -> bool {
    matches!(
        misfit,
        Misfit::Program | Misfit::Customer | Misfit::OwnOnly | Misfit::OwnNever
    )
}
