//! Known-answer units: units of a running task whose result is known, leased once more to see who tells the truth.
//!
//! A few of the units on which a quorum agreed are drawn by a secret, and each goes to a device of another owner, among
//! the units of a usual grant: its terminal cannot tell which of them is known. Who gives the answer is paid by the
//! coordinator itself, from what it holds as its subsidy; who gives another is outvoted.
//!
//! Only the answers are durable. Which units are known and who has them is forgotten in a crash, and nothing is lost by
//! it but a check. Invariants: nothing is leased that the subsidy could not pay; an owner never gets a unit that it
//! has voted on; at most [`KNOWN_MAX`] units of a task wait, and as many are leased.

use std::collections::VecDeque;

use super::task_run::TaskRun;
use super::{Coordinator, Vote};
use crate::account::{Account, Commodity, Holder};
use crate::entry::ValidatedUnit;
use crate::id::{GrantId, NodeId, TaskId};

/// The most known units of a task that wait for a device, and that are leased.
const KNOWN_MAX: usize = 64;

/// The known units of a task.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownUnits {
    waiting: VecDeque<Known>,
    /// In the order in which they were leased.
    leased: VecDeque<(GrantId, Vote)>,
}

/// A unit with its answer.
#[derive(Debug, Clone)]
struct Known {
    answer: Vote,
    /// The owners who agreed on it, or reported something else.
    owners: Vec<NodeId>,
}

impl KnownUnits {
    fn keep(&mut self, known: Known) {
        if self.waiting.len() < KNOWN_MAX {
            self.waiting.push_back(known);
        }
    }

    /// Returns the first unit that the owner does not know.
    fn find(&self, holder: Holder) -> Option<u32> {
        let is_new = |known: &&Known| !known.owners.contains(&holder.owner);
        let known = self.waiting.iter().find(is_new)?;
        Some(known.answer.unit)
    }

    /// Notes that a waiting unit is part of a grant.
    pub(super) fn lease(&mut self, unit: u32, grant: GrantId) {
        let mut waiting = self.waiting.iter();
        let place = waiting.position(|known| known.answer.unit == unit);
        if let Some(known) = place.and_then(|place| self.waiting.remove(place)) {
            // Of too many the one that nobody answered for longest is given up.
            if self.leased.len() == KNOWN_MAX {
                self.leased.pop_front();
            }
            self.leased.push_back((grant, known.answer));
        }
    }

    fn place(&self, grant: GrantId, unit: u32) -> Option<usize> {
        let mut leased = self.leased.iter();
        leased.position(|(of, answer)| (*of, answer.unit) == (grant, unit))
    }

    /// Returns the answer to a unit that is known to this grant.
    pub(super) fn answer(&self, grant: GrantId, unit: u32) -> Option<&Vote> {
        let (_, answer) = self.leased.get(self.place(grant, unit)?)?;
        Some(answer)
    }

    /// Notes that a unit of a grant was answered.
    pub(super) fn take(&mut self, grant: GrantId, unit: u32) {
        if let Some(place) = self.place(grant, unit) {
            self.leased.remove(place);
        }
    }
}

impl Coordinator {
    /// Draws those of the validated units that will be leased once more.
    pub(super) fn draw_known(&mut self, task: TaskId, units: &[ValidatedUnit]) {
        let per_mille = self.config.known_per_mille;
        let draws = |unit: &&ValidatedUnit| {
            // What one device alone says is not known.
            unit.agreed.len() > 1 && self.devices.draws(&task, unit.unit, per_mille)
        };
        let owner_of = |device: &NodeId| {
            let shown = self.certificates.get(device);
            shown.map_or(*device, |certificate| certificate.signer())
        };
        let known = |unit: &ValidatedUnit| Known {
            answer: Vote {
                unit: unit.unit,
                outcome: unit.outcome,
                fuel: unit.fuel,
                output: unit.output,
                leaf: 0,
            },
            owners: unit
                .agreed
                .iter()
                .chain(&unit.outvoted)
                .map(owner_of)
                .collect(),
        };
        let drawn: Vec<Known> = units.iter().filter(draws).map(known).collect();
        if let Some((_, running)) = self.tasks.get_mut(&task).and_then(TaskRun::running_mut) {
            drawn
                .into_iter()
                .for_each(|known| running.known.keep(known));
        }
    }

    /// Returns a known unit of the task to be leased to this holder, if there is one that can be paid.
    pub(super) fn find_known(&self, task: &TaskId, holder: Holder) -> Option<u32> {
        let run = self.tasks.get(task)?;
        let unit = run.running()?.known.find(holder)?;
        let each = |run: &TaskRun| {
            let rates = &self.cards.version(run.dues.card).rates;
            Some((rates.currency, rates.reserve.of(run.dues.unit_points_max)?))
        };
        let (currency, one) = each(run)?;
        let subsidy = Commodity::Money(currency);
        let subsidy = self.books.balance(Account::Subsidy, subsidy).available();
        // What is left after this one, and after all known units that are leased or due: looked at only if there is
        // enough for this one, as nobody need look at all tasks for what cannot be paid.
        let mut left = u64::try_from(subsidy).unwrap_or(0).checked_sub(one)?;
        for run in self.tasks.values().filter(|_| one > 0) {
            let leased = run
                .running()
                .map_or(0, |running| running.known.leased.len());
            let count = leased + run.dues.known_count();
            let (of, each) = each(run)?;
            if of == currency {
                left = left.checked_sub(each.checked_mul(count as u64)?)?;
            }
        }
        Some(unit)
    }
}
