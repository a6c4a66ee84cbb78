//! What a customer, or the operator, is told of a task.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::task_run::{Stage, TaskRun};
use super::units::Units;
use super::{Answer, Coordinator};
use crate::entry::Ending;
use crate::id::{NodeId, TaskId};
use crate::message::Refusal;
use crate::message::customer::{
    DEVICES_TOLD_MAX, DeviceTally, LIST_MAX, TaskCost, TaskStatus, TaskSummary,
};
use crate::posting;
use crate::time::Timestamp;

/// An upload that has brought nothing for so long is told to wait for the customer.
const UPLOAD_QUIET: Duration = Duration::from_secs(5);

impl Coordinator {
    /// Returns how the task is, if `asker` is its customer or the coordinator itself.
    #[must_use]
    pub fn status(&self, now: Timestamp, task: &TaskId, asker: NodeId) -> Option<TaskStatus> {
        let run = self.tasks.get(task)?;
        (asker == run.task.customer || asker == self.config.me).then(|| self.status_of(now, run))
    }

    /// Returns what tells whether a status would say something new, if `asker` may have it. Much cheaper than
    /// [`Self::status`], which names devices by the thousand.
    #[must_use]
    pub fn news(&self, task: &TaskId, asker: NodeId) -> Option<News> {
        let run = self.tasks.get(task)?;
        (asker == run.task.customer || asker == self.config.me).then(|| News {
            version: run.version,
            is_final: run.is_ended(),
        })
    }

    /// Returns the tasks that `asker` may see, the newest first.
    #[must_use]
    pub fn list(&self, asker: NodeId) -> Vec<TaskSummary> {
        let visible = |run: &&TaskRun| asker == run.task.customer || asker == self.config.me;
        let mut tasks: Vec<TaskSummary> =
            self.tasks.values().filter(visible).map(summary).collect();
        tasks.sort_by_key(|task| Reverse(task.accepted));
        tasks.truncate(LIST_MAX);
        tasks
    }

    /// Returns the tasks that have not ended.
    pub fn unended(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks
            .values()
            .filter(|run| !run.is_ended())
            .map(TaskRun::id)
    }

    pub(super) fn status_answer(&self, now: Timestamp, task: &TaskId, asker: NodeId) -> Answer {
        let status = self.status(now, task, asker);
        status.map_or(Answer::Refused(Refusal::UnknownTask), |status| {
            Answer::Status(Box::new(status))
        })
    }

    fn status_of(&self, now: Timestamp, run: &TaskRun) -> TaskStatus {
        let total = run.task.program.bytes
            + run.task.input.bytes
            + run.task.edit.as_ref().map_or(0, |edit| edit.program.bytes);
        let arrived = if let Stage::Uploading(bytes) = run.stage {
            bytes
        } else {
            total
        };
        let units = run.units();
        let result = if let Stage::Ended(ended) = &run.stage
            && let Ending::Done(result) = ended.ending
        {
            Some(result)
        } else {
            None
        };
        TaskStatus {
            summary: summary(run),
            version: run.version,
            uploaded: (arrived.min(total), total),
            leased: units.map_or(0, |units| units.leased()),
            failed: units
                .map(|units| units.failed().clone())
                .unwrap_or_default(),
            failed_count: units.map_or(0, |units| units.failed_count()),
            fuel: units.map_or(0, |units| units.fuel()),
            cost: self.cost_of(run),
            devices: units.map(told_devices).unwrap_or_default(),
            waiting_for: self.waiting_for(now, run),
            result,
        }
    }

    fn cost_of(&self, run: &TaskRun) -> TaskCost {
        let rates = &self.cards.version(run.dues.card).rates;
        let hold = self.books.hold(posting::hold_of(run.id()));
        TaskCost {
            points: run.dues.cost.points,
            paid: rates.money(run.dues.cost.price),
            held: rates.money(hold.map_or(0, |hold| hold.left)),
        }
    }

    /// Says why nothing moves.
    fn waiting_for(&self, now: Timestamp, run: &TaskRun) -> Option<String> {
        match &run.stage {
            Stage::Uploading(0) if now.since(run.accepted) > UPLOAD_QUIET => {
                Some("program and input from the customer: run `tally task watch` there".to_owned())
            }
            Stage::Running(running) if running.units.leased() == 0 => {
                let needed = usize::from(run.task.quorum.agree);
                let seen = self.devices.active_up_to(now, needed);
                (seen < needed).then(|| {
                    format!("terminals: each unit needs {needed} different ones, {seen} asked for work lately")
                })
            }
            Stage::Uploading(_)
            | Stage::Dividing
            | Stage::Running(_)
            | Stage::Merging(_)
            | Stage::Editing(..)
            | Stage::Ended(_) => None,
        }
    }
}

/// How new what is known of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// See [`TaskStatus::version`].
    pub version: u64,
    /// Whether nothing will change any more.
    pub is_final: bool,
}

/// Returns what each device did, of the most important ones if there are too many for a message.
fn told_devices(units: &Units) -> BTreeMap<NodeId, DeviceTally> {
    let all = units.devices();
    if all.len() <= DEVICES_TOLD_MAX {
        return all.clone();
    }
    let mut ranked: Vec<(&NodeId, &DeviceTally)> = all.iter().collect();
    ranked.select_nth_unstable_by_key(DEVICES_TOLD_MAX, |(node, tally)| {
        Reverse((tally.outvoted, tally.agreed, tally.lost, **node))
    });
    let told = ranked.into_iter().take(DEVICES_TOLD_MAX);
    told.map(|(device, tally)| (*device, tally.clone()))
        .collect()
}

fn summary(run: &TaskRun) -> TaskSummary {
    TaskSummary {
        task: run.id(),
        name: run.task.name.clone(),
        phase: run.phase(),
        units: run.units().map_or(0, |units| units.count()),
        done: run.units().map_or(0, |units| units.done_count()),
        accepted: run.accepted,
    }
}
