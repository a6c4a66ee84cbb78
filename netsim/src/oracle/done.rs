//! A task that is done is done.

use std::collections::{BTreeMap, BTreeSet};

use tally_protocol::entry::Ending;
use tally_protocol::id::TaskId;

use super::table::UnitTable;
use super::{Check, Oracle};
use crate::happening::{Happening, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::{Reference, TaskReference};

/// How often each of the fewest devices must fail, if no others try (protocol/src/coordinator/units.rs).
const SAME_DEVICE_FAULTS: usize = 4;

/// Follows units until their task ends.
#[derive(Debug, Default)]
pub(super) struct Done {
    units: UnitTable<State>,
    /// Who could not run a unit, once for each time.
    faults: BTreeMap<(Peer, Unit), Vec<Peer>>,
    divided: BTreeSet<(Peer, TaskId)>,
    ended: BTreeSet<(Peer, TaskId)>,
}

/// How a unit stands.
#[derive(Debug, Clone, Copy)]
enum State {
    /// So many devices have voted.
    Open(u8),
    Done,
    /// A quorum agrees that it fails.
    Failed,
}

impl Default for State {
    fn default() -> Self {
        Self::Open(0)
    }
}

impl Oracle for Done {
    fn name(&self) -> &'static str {
        "done means done"
    }

    fn claim(&self) -> &'static str {
        "A task ends once; done only when all its units are, but for those that cannot be and may be left out; and \
         never failed or cancelled without a reason."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Divided { by, task, units } => {
                self.divided.insert((*by, *task));
                let known = reference.tasks().get(task);
                Check::that(known.is_none_or(|known| known.units == *units), || {
                    format!("task {} was cut into {units} units", task.short())
                })
            }
            Happening::Voted { at, unit, .. } => {
                if let Some(State::Open(votes)) = self.units.get(reference, *at, *unit) {
                    *votes = votes.saturating_add(1);
                }
                Check::Nothing
            }
            Happening::Faulted { at, by, unit, .. } => {
                self.faults.entry((*at, *unit)).or_default().push(*by);
                Check::Nothing
            }
            Happening::Validated { by, unit, gave, .. } => {
                self.faults.remove(&(*by, *unit));
                if let Some(state) = self.units.get(reference, *by, *unit) {
                    let is_done = gave.outcome.is_done();
                    *state = if is_done { State::Done } else { State::Failed };
                }
                Check::Nothing
            }
            Happening::Ended { by, task, ending } => match reference.tasks().get(task) {
                Some(known) => self.end((*by, *task), ending, known),
                None => Check::Nothing,
            },
            _ => Check::Nothing,
        }
    }
}

impl Done {
    fn end(&mut self, (by, task): (Peer, TaskId), ending: &Ending, known: &TaskReference) -> Check {
        let wrong = |what: String| Check::Breaks(format!("task {} {what}", known.name));
        if !self.ended.insert((by, task)) {
            return wrong("ends a second time".to_owned());
        }
        let failing = self.first(by, (task, known), Self::fails);
        match ending {
            Ending::Cancelled if !known.may_be_cancelled => {
                wrong("was cancelled by nobody".to_owned())
            }
            Ending::Cancelled => Check::Holds,
            Ending::Done(_) => {
                let undone = |done: &Self, at, unit, known: &TaskReference| {
                    done.is_open(at, unit) && !done.fails(at, unit, known)
                };
                if let Some(unit) = self.first(by, (task, known), undone) {
                    return wrong(format!("is done, but unit {unit} is not"));
                }
                match failing.filter(|_| !known.skips) {
                    Some(unit) => wrong(format!("is done although unit {unit} failed")),
                    None => Check::Holds,
                }
            }
            Ending::Failed(reason) => {
                let has_units = self.divided.contains(&(by, task));
                let all_fail =
                    |done: &Self, at, unit, known: &TaskReference| !done.fails(at, unit, known);
                let is_right = !has_units
                    || (!known.skips && failing.is_some())
                    || self.first(by, (task, known), all_fail).is_none();
                Check::that(is_right, || {
                    format!("task {} failed without need: {reason}", known.name)
                })
            }
        }
    }

    /// Returns the first unit for which `holds`.
    fn first(
        &self,
        by: Peer,
        (task, known): (TaskId, &TaskReference),
        holds: impl Fn(&Self, Peer, Unit, &TaskReference) -> bool,
    ) -> Option<u32> {
        (0..known.units).find(|unit| holds(self, by, Unit { task, unit: *unit }, known))
    }

    fn state(&self, by: Peer, unit: Unit) -> State {
        let units = self.units.all(by, &unit.task);
        units.get(unit.unit as usize).copied().unwrap_or_default()
    }

    fn is_open(&self, by: Peer, unit: Unit) -> bool {
        matches!(self.state(by, unit), State::Open(_))
    }

    /// Returns whether a unit has failed by right: all agree that it does, or nobody can run it, or nobody agrees.
    fn fails(&self, by: Peer, unit: Unit, known: &TaskReference) -> bool {
        match self.state(by, unit) {
            State::Done => false,
            State::Failed => true,
            State::Open(votes) => {
                let faults = self.faults.get(&(by, unit)).map_or(&[][..], Vec::as_slice);
                let devices: BTreeSet<&Peer> = faults.iter().collect();
                let error_max = usize::from(known.error_max);
                votes >= known.total_max
                    || devices.len() >= error_max
                    || faults.len() >= error_max * SAME_DEVICE_FAULTS
            }
        }
    }
}
