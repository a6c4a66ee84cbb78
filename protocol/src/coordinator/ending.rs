//! From the last unit to the result: settle, merge, edit, end.

use super::task_run::Stage;
use super::{Coordinator, Effect, Fact};
use crate::entry::{Ending, Event};
use crate::id::TaskId;
use crate::task::{BlobRef, OnFailure};
use crate::time::Timestamp;

impl Coordinator {
    /// Looks whether the task can go on after its units have changed.
    pub(super) fn after_units(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        let Some(run) = self.tasks.get_mut(&task) else {
            return;
        };
        let failure = run.units().and_then(|units| units.first_failure()).cloned();
        if let (OnFailure::Fail, Some((unit, reason)), false) =
            (run.task.on_failure, failure, run.is_ended())
        {
            self.end(
                now,
                task,
                Ending::Failed(format!("unit {unit}: {reason}")),
                out,
            );
        } else if run.settle() {
            self.leave_turns(&task);
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
        self.record(
            Fact::Ended {
                task,
                ending: ending.clone(),
                at: now,
            },
            out,
        );
        out.push(Effect::Append(Event::TaskEnded { task, ending }));
        self.leave_turns(&task);
        self.devices.end_task(&task);
        self.enter_stage(task, now, out);
    }

    fn leave_turns(&mut self, task: &TaskId) {
        self.turns.retain(|other| other != task);
    }
}
