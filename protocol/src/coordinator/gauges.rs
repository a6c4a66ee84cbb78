//! What a coordinator holds at the moment, in numbers: for operators and for whoever looks for leaks.

use super::devices::DEVICES_MAX;
use super::grants::OVER_MAX;
use super::task_run::{Stage, TaskRun};
use super::{Coordinator, TaskId};
use crate::id::NodeId;

/// How much of what a coordinator holds. The same numbers are what `/metrics` will show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Tasks that are known: those that have not ended are at most [`super::CoordinatorConfig::tasks_max`].
    pub tasks: usize,
    /// Tasks whose units are computed, merged or edited.
    pub running: usize,
    /// Units of these that have votes, faults or leases.
    pub open_units: usize,
    /// Leases of these units.
    pub live_leases: usize,
    /// Grants whose leases have not ended.
    pub live_grants: usize,
    /// Grants that are over and remembered, at most [`Gauges::OVER_GRANTS_MAX`].
    pub over_grants: usize,
    /// Terminals that have pulled, at most [`Gauges::DEVICES_MAX`].
    pub devices: usize,
    /// Those of them that wait for units.
    pub waiting: usize,
    /// Timers that are set: at most four for each task, one for each live grant and one for all lots.
    pub timers: usize,
}

impl Gauges {
    /// The most terminals remembered.
    pub const DEVICES_MAX: usize = DEVICES_MAX;
    /// The most grants remembered that are over.
    pub const OVER_GRANTS_MAX: usize = OVER_MAX;
}

impl Coordinator {
    /// Returns how much of what it holds.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let at_work = |run: &&TaskRun| match run.stage {
            Stage::Running(_) | Stage::Merging(_) | Stage::Editing(..) => true,
            Stage::Uploading(_) | Stage::Dividing | Stage::Ended(_) => false,
        };
        let units = || self.tasks.values().filter_map(TaskRun::units);
        let (live_grants, over_grants) = self.devices.grants.count();
        Gauges {
            tasks: self.tasks.len(),
            running: self.tasks.values().filter(at_work).count(),
            open_units: units().map(|units| units.open_count()).sum(),
            live_leases: units().map(|units| units.leased() as usize).sum(),
            live_grants,
            over_grants,
            devices: self.devices.len(),
            waiting: self.devices.waiting(),
            timers: self.timers.len(),
        }
    }

    /// Returns whether what `device` reported of a unit counts: its vote is there, or the unit is settled.
    #[must_use]
    pub fn has_counted(&self, task: &TaskId, unit: u32, device: &NodeId) -> bool {
        let run = self.tasks.get(task);
        run.is_some_and(|run| {
            let counted = |units: &super::units::Units| {
                units.is_settled(unit) || units.has_reported(unit, *device)
            };
            run.is_ended() || run.units().is_some_and(counted)
        })
    }
}
