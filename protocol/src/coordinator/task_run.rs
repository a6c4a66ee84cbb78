//! One task on its way through the stages.

use serde::{Deserialize, Serialize};

use super::Division;
use super::units::Units;
use crate::entry::Ending;
use crate::id::{NetworkId, TaskId};
use crate::message::customer::Phase;
use crate::signed::{Signed, Verified, VerifyError};
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;

/// A task with its stage.
#[derive(Debug)]
pub(super) struct TaskRun {
    id: TaskId,
    pub(super) task: Verified<Task>,
    pub(super) accepted: Timestamp,
    /// Grows with every change.
    pub(super) version: u64,
    pub(super) stage: Stage,
}

/// Where a task is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// So many bytes have come from the customer.
    Uploading(u64),
    Dividing,
    Running(Running),
    /// All units are settled.
    Merging(Running),
    Editing(Running, BlobRef),
    Ended(Box<Ended>),
}

/// A task that has units.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) division: Division,
    pub(super) units: Units,
}

/// A task that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    pub(super) at: Timestamp,
    /// Its units, if it came so far.
    pub(super) units: Option<Units>,
}

/// A task as a snapshot holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TaskRecord {
    signed: Signed<Task>,
    accepted: Timestamp,
    version: u64,
    stage: Stage,
}

impl TaskRecord {
    pub(super) fn restore(self, network: &NetworkId) -> Result<TaskRun, VerifyError> {
        let task = self.signed.verify(network)?;
        let id = task.task_id();
        let Self {
            accepted,
            version,
            stage,
            ..
        } = self;
        let mut run = TaskRun {
            id,
            task,
            accepted,
            version,
            stage,
        };
        if let Some(units) = run.units_mut() {
            units.recount();
        }
        Ok(run)
    }
}

impl TaskRun {
    pub(super) fn new(task: Verified<Task>, accepted: Timestamp) -> Self {
        Self {
            id: task.task_id(),
            task,
            accepted,
            version: 1,
            stage: Stage::Uploading(0),
        }
    }

    pub(super) const fn id(&self) -> TaskId {
        self.id
    }

    pub(super) fn record(&self) -> TaskRecord {
        TaskRecord {
            signed: self.task.signed().clone(),
            accepted: self.accepted,
            version: self.version,
            stage: self.stage.clone(),
        }
    }

    pub(super) const fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Uploading(_) => Phase::Uploading,
            Stage::Dividing => Phase::Dividing,
            Stage::Running(_) => Phase::Running,
            Stage::Merging(_) => Phase::Merging,
            Stage::Editing(..) => Phase::Editing,
            Stage::Ended(ended) => match &ended.ending {
                Ending::Done(_) => Phase::Done,
                Ending::Failed(reason) => Phase::Failed(reason.clone()),
                Ending::Cancelled => Phase::Cancelled,
            },
        }
    }

    pub(super) const fn division(&self) -> Option<&Division> {
        match &self.stage {
            Stage::Running(running) | Stage::Merging(running) | Stage::Editing(running, _) => {
                Some(&running.division)
            }
            Stage::Uploading(_) | Stage::Dividing | Stage::Ended(_) => None,
        }
    }

    pub(super) fn units(&self) -> Option<&Units> {
        match &self.stage {
            Stage::Running(running) | Stage::Merging(running) | Stage::Editing(running, _) => {
                Some(&running.units)
            }
            Stage::Ended(ended) => ended.units.as_ref(),
            Stage::Uploading(_) | Stage::Dividing => None,
        }
    }

    /// Returns the units while they may change.
    pub(super) const fn units_mut(&mut self) -> Option<&mut Units> {
        if let Stage::Running(running) = &mut self.stage {
            Some(&mut running.units)
        } else {
            None
        }
    }

    /// Returns the task and its units while they may change.
    pub(super) const fn running_mut(&mut self) -> Option<(&Task, &mut Running)> {
        if let Stage::Running(running) = &mut self.stage {
            Some((self.task.value(), running))
        } else {
            None
        }
    }

    pub(super) fn start(&mut self, division: Division) {
        let units = Units::new(division.table.count(), self.task.quorum);
        self.stage = Stage::Running(Running { division, units });
    }

    /// Steps from running to merging if all units are settled. Returns whether it did.
    pub(super) fn settle(&mut self) -> bool {
        let is_settled = self.units_mut().is_some_and(|units| units.all_settled());
        if is_settled {
            self.replace_running(Stage::Merging);
        }
        is_settled
    }

    pub(super) fn edit(&mut self, merged: BlobRef) {
        // In the journal the step from running to merging is not written down: it follows from the units.
        self.replace_running(|running| Stage::Editing(running, merged));
    }

    /// Goes on from running or merging to the next stage.
    fn replace_running(&mut self, next: impl FnOnce(Running) -> Stage) {
        self.stage = match self.take_stage() {
            Stage::Running(running) | Stage::Merging(running) => next(running),
            other @ (Stage::Uploading(_)
            | Stage::Dividing
            | Stage::Editing(..)
            | Stage::Ended(_)) => other,
        };
    }

    pub(super) fn end(&mut self, ending: Ending, at: Timestamp) {
        let units = match self.take_stage() {
            Stage::Running(running) | Stage::Merging(running) | Stage::Editing(running, _) => {
                Some(running.units)
            }
            Stage::Ended(ended) => ended.units,
            Stage::Uploading(_) | Stage::Dividing => None,
        };
        let units = units.map(Units::seal);
        self.stage = Stage::Ended(Box::new(Ended { ending, at, units }));
    }

    /// Takes the stage out, to be replaced by the next one.
    const fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Dividing)
    }
}
