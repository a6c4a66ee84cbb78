//! From the last unit to the result: settle, merge, edit, end.

use super::task_run::{Stage, TaskRun};
use super::timers::Timer;
use super::{Coordinator, Effect, Fact};
use crate::entry::{Ending, Event};
use crate::id::TaskId;
use crate::rate_card::RateCard;
use crate::task::{BlobRef, OnFailure};
use crate::time::Timestamp;

/// The most ended tasks that are kept, however long they should be: customers are not to fill the disk with them.
const ENDED_MAX: usize = 10_000;
/// The longest reason of a failure, in bytes.
const REASON_BYTES_MAX: usize = 500;

impl Coordinator {
    /// Looks whether a running task can go on after its units have changed.
    pub(super) fn after_units(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        let Some(run) = self.tasks.get_mut(&task) else {
            return;
        };
        let on_failure = run.task.on_failure;
        let Some(units) = run.units_mut() else {
            return;
        };
        let none_done = units.all_settled() && units.done_count() == 0;
        let failure = match (units.first_failure(), on_failure) {
            (Some((unit, reason)), OnFailure::Fail) => Some(format!("unit {unit}: {reason}")),
            (Some((unit, reason)), OnFailure::Skip) if none_done => {
                Some(format!("no unit could be computed; unit {unit}: {reason}"))
            }
            _ => None,
        };
        let card = self.cards.version(run.dues.card);
        if let Some(reason) = failure {
            self.end(now, task, Ending::Failed(reason), out);
        } else if run.is_out_of_funds(card) {
            let reason = out_of_funds(run, card);
            self.end(now, task, Ending::Failed(reason), out);
        } else if run.settle() {
            self.stop_leasing(now, &task);
            self.enter_stage(task, now, out);
        } else {
            out.push(Effect::Changed(task));
        }
    }

    pub(super) fn merged(
        &mut self,
        now: Timestamp,
        task: TaskId,
        result: Result<BlobRef, String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(run) = self.tasks.get(&task) else {
            return;
        };
        match (&run.stage, result) {
            (Stage::Merging(_) | Stage::Editing(..), Err(reason)) => {
                self.end(now, task, Ending::Failed(reason), out)
            }
            (Stage::Merging(_), Ok(merged)) if run.task.edit.is_some() => {
                self.record(Fact::Merged { task, merged }, out);
                self.enter_stage(task, now, out);
            }
            (Stage::Merging(_) | Stage::Editing(..), Ok(result)) => {
                self.end(now, task, Ending::Done(result), out)
            }
            (Stage::Uploading(_) | Stage::Dividing | Stage::Running(_) | Stage::Ended(_), _) => {}
        }
    }

    /// Ends the task; its leases mean nothing any more.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        task: TaskId,
        ending: Ending,
        out: &mut Vec<Effect>,
    ) {
        let ending = match ending {
            Ending::Failed(reason) => Ending::Failed(shorten(reason)),
            Ending::Done(_) | Ending::Cancelled => ending,
        };
        let fact = Fact::Ended {
            task,
            ending: ending.clone(),
            at: now,
        };
        let decided = self.record(fact, out);
        self.append(now, Event::TaskEnded { task, ending }, None, out);
        self.after_decision(now, task, &decided);
        self.stop_leasing(now, &task);
        self.pay(now, task, out);
        self.enter_stage(task, now, out);
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.first().copied()
        {
            self.forget(now, oldest, out);
        }
    }

    fn stop_leasing(&mut self, now: Timestamp, task: &TaskId) {
        self.turns.retain(|other| other != task);
        self.timers.clear(Timer::Announce(*task));
        for grant in self.devices.end_task(now, task) {
            self.timers.clear(Timer::Expire(grant));
        }
    }
}

/// Says what the highest price of a task was enough for.
fn out_of_funds(run: &TaskRun, card: &RateCard) -> String {
    let rates = &card.rates;
    let (settled, count) = run.units().map_or((0, 0), |units| {
        (units.done_count() + units.failed_count(), units.count())
    });
    let agree = u64::from(run.task.quorum.agree);
    let unit = run.dues.unit_points_max.checked_mul(agree);
    let unit = unit
        .and_then(|points| rates.price.of(points))
        .unwrap_or(u64::MAX);
    format!(
        "its highest price of {} is enough for {settled} of {count} units: a unit may cost up to {} with its limits",
        rates.money(run.task.max_price),
        rates.money(unit)
    )
}

/// Cuts a reason to what fits a list of tasks.
fn shorten(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}
