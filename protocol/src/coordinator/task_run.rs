//! One task on its way through the stages.

use serde::{Deserialize, Serialize};

use super::dues::{DueResult, Dues};
use super::known::KnownUnits;
use super::units::{Agreed, Ballot, Settled, Units};
use super::{Compared, Division, Vote};
use crate::entry::{Ending, ValidatedUnit};
use crate::id::{Hash, NetworkId, NodeId, TaskId};
use crate::message::customer::Phase;
use crate::message::work::{Batch, UnpaidReason};
use crate::rate_card::{Measured, RateCard};
use crate::receipt::Validation;
use crate::signed::{Signed, Verified, VerifyError};
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::Fault;

/// A task with its stage.
#[derive(Debug)]
pub(super) struct TaskRun {
    id: TaskId,
    pub(super) task: Verified<Task>,
    pub(super) accepted: Timestamp,
    /// Grows with every change.
    pub(super) version: u64,
    pub(super) stage: Stage,
    pub(super) dues: Dues,
}

/// What a report or a fault changed, as others are told.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Units whose quorum was completed.
    pub(super) validated: Vec<ValidatedUnit>,
    /// Votes for which nobody is paid.
    pub(super) unpaid: Vec<(Ballot, UnpaidReason)>,
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
    #[serde(skip)]
    pub(super) known: KnownUnits,
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
    dues: Dues,
}

impl TaskRecord {
    pub(super) fn restore(self, network: &NetworkId) -> Result<TaskRun, VerifyError> {
        let task = self.signed.verify(network)?;
        let id = task.task_id();
        let Self {
            accepted,
            version,
            stage,
            dues,
            ..
        } = self;
        let mut run = TaskRun {
            id,
            task,
            accepted,
            version,
            stage,
            dues,
        };
        if let Some(units) = run.units_mut() {
            units.recount();
        }
        Ok(run)
    }
}

impl TaskRun {
    pub(super) fn new(task: Verified<Task>, accepted: Timestamp, card: u32) -> Self {
        Self {
            id: task.task_id(),
            task,
            accepted,
            version: 1,
            stage: Stage::Uploading(0),
            dues: Dues::new(card),
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
            dues: self.dues.clone(),
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

    /// Returns the units with what belongs to them, while they may change.
    pub(super) const fn running(&self) -> Option<&Running> {
        if let Stage::Running(running) = &self.stage {
            Some(running)
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

    pub(super) fn start(&mut self, division: Division, card: &RateCard) {
        let most = card.rates.points_max(self.task.value(), &division.table);
        self.dues.unit_points_max =
            most.expect("checked for the largest unit before the task was accepted");
        let units = Units::new(division.table.count(), self.task.quorum);
        let known = KnownUnits::default();
        self.stage = Stage::Running(Running {
            division,
            units,
            known,
        });
    }

    /// Counts ballots of one report, as far as they change anything.
    pub(super) fn report(
        &mut self,
        (root, batch): (Hash, &Signed<Batch>),
        ballots: Vec<Ballot>,
        (at, card): (Timestamp, &RateCard),
    ) -> Decided {
        let Some(units) = self.units_mut() else {
            return Decided::default();
        };
        let is_new = |ballot: &&Ballot| {
            !units.is_settled(ballot.vote.unit) && !units.has_vote(ballot.vote.unit, ballot.holder)
        };
        let counted = ballots.iter().filter(is_new).count();
        let settled = units.report(ballots);
        self.dues.keep(root, batch, counted);
        self.decide(settled, at, card)
    }

    pub(super) fn fault(
        &mut self,
        (device, unit): (NodeId, u32),
        fault: Fault,
        (at, card): (Timestamp, &RateCard),
    ) -> Decided {
        let Some(units) = self.units_mut() else {
            return Decided::default();
        };
        let settled = units.fault(device, unit, fault);
        self.decide(settled, at, card)
    }

    /// Counts the answer of a device to a unit that was agreed on before.
    pub(super) fn answered(
        &mut self,
        (root, batch): (Hash, &Signed<Batch>),
        (ballot, compared): (Ballot, Compared),
        (at, card): (Timestamp, &RateCard),
    ) -> Decided {
        let device = ballot.holder.device;
        let Some((_, Running { units, .. })) = self.running_mut() else {
            return Decided::default();
        };
        match compared {
            Compared::Same => {
                units.count_agreed(device, ballot.vote.fuel);
                self.dues.keep(root, batch, 1);
                self.owe(&ballot, Validation::KnownAnswer, at, card);
                Decided::default()
            }
            Compared::Other => {
                units.count_outvoted(device, ballot.vote.unit);
                let unpaid = vec![(ballot, UnpaidReason::Outvoted)];
                Decided {
                    unpaid,
                    ..Decided::default()
                }
            }
        }
    }

    /// Makes debts of what was agreed on.
    fn decide(&mut self, settled: Settled, at: Timestamp, card: &RateCard) -> Decided {
        let Settled { agreed, unpaid } = settled;
        for (ballot, _) in &unpaid {
            self.dues.drop_vote(ballot);
        }
        let validated = agreed
            .into_iter()
            .map(|agreed| self.validate(agreed, at, card))
            .collect();
        Decided { validated, unpaid }
    }

    fn validate(&mut self, agreed: Agreed, at: Timestamp, card: &RateCard) -> ValidatedUnit {
        let Agreed {
            vote,
            votes,
            outvoted,
        } = agreed;
        let agree = Validation::Quorum(self.task.quorum.agree);
        for ballot in &votes {
            self.owe(ballot, agree, at, card);
        }
        let measured = self.measured(&vote);
        ValidatedUnit {
            unit: vote.unit,
            outcome: vote.outcome,
            fuel: vote.fuel,
            input_bytes: measured.bytes - vote.output.bytes,
            pixels: measured.pixels,
            output: vote.output,
            agreed: votes.iter().map(|ballot| ballot.holder.device).collect(),
            outvoted,
        }
    }

    /// Returns what a run of a unit with this result took.
    fn measured(&self, vote: &Vote) -> Measured {
        let table = &self.division().expect("units are of a division").table;
        let (_, input) = table.range(vote.unit).unwrap_or_default();
        Measured {
            outcome: vote.outcome,
            fuel: vote.fuel,
            fuel_limit: self.task.limits.fuel,
            bytes: input.saturating_add(vote.output.bytes),
            pixels: table.core_pixels(vote.unit),
        }
    }

    /// Makes a debt of a right result.
    fn owe(&mut self, ballot: &Ballot, validation: Validation, at: Timestamp, card: &RateCard) {
        let vote = &ballot.vote;
        let measured = self.measured(vote);
        let points = card.rates.points(self.task.program.id, &measured);
        let result = DueResult {
            batch: ballot.batch,
            leaf: vote.leaf,
            unit: vote.unit,
            fuel: vote.fuel,
            bytes: measured.bytes,
            pixels: measured.pixels,
            points: points.expect("checked for the largest unit before the task was accepted"),
            leased_at: ballot.leased_at,
            done_at: at,
        };
        self.dues.add(ballot.holder, validation, result);
    }

    /// Returns how many more units may be leased to somebody for the first time.
    pub(super) fn openable(&self, card: &RateCard) -> u32 {
        let open = self.units().map_or(0, Units::open_count);
        let (agree, max_price) = (self.task.quorum.agree, self.task.max_price);
        self.dues.openable(open, agree, (card, max_price))
    }

    /// Returns whether units are left for which there is no money, and none that are under way.
    pub(super) fn is_out_of_funds(&self, card: &RateCard) -> bool {
        let waits = |units: &Units| units.untouched() > 0 && units.open_count() == 0;
        self.units().is_some_and(waits) && self.openable(card) == 0
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

    /// Ends the task. Returns the votes that nobody will be paid for.
    pub(super) fn end(&mut self, ending: Ending, at: Timestamp) -> Vec<(Ballot, UnpaidReason)> {
        let undecided = self.units().into_iter().flat_map(Units::undecided).copied();
        let unpaid: Vec<_> = undecided
            .map(|ballot| (ballot, UnpaidReason::TaskEnded))
            .collect();
        for (ballot, _) in &unpaid {
            self.dues.drop_vote(ballot);
        }
        let units = match self.take_stage() {
            Stage::Running(running) | Stage::Merging(running) | Stage::Editing(running, _) => {
                Some(running.units)
            }
            Stage::Ended(ended) => ended.units,
            Stage::Uploading(_) | Stage::Dividing => None,
        };
        let units = units.map(Units::seal);
        self.stage = Stage::Ended(Box::new(Ended { ending, at, units }));
        unpaid
    }

    /// Takes the stage out, to be replaced by the next one.
    const fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Dividing)
    }
}
