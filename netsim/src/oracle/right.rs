//! Results are right.

use std::collections::{BTreeMap, BTreeSet};

use tally_protocol::coordinator::Compared;
use tally_protocol::entry::Ending;
use tally_protocol::id::TaskId;

use super::table::UnitTable;
use super::{Check, Oracle};
use crate::happening::{Gave, Happening, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;

/// A result that is validated is the right one, unless as many devices as must agree told the same lie.
#[derive(Debug, Default)]
pub(super) struct Right {
    /// What was asked of the reference, which takes its time to answer.
    truths: UnitTable<Option<Gave>>,
    /// Lies that count, of units that are not validated.
    lies: BTreeMap<(Peer, Unit), Vec<(Peer, Gave)>>,
    /// Units validated of each task.
    validated: BTreeMap<TaskId, u32>,
    /// Tasks with a unit for which enough devices told the same lie.
    colluded: BTreeSet<TaskId>,
    /// Results of the tasks that are done.
    results: BTreeMap<TaskId, tally_protocol::task::BlobRef>,
}

impl Oracle for Right {
    fn name(&self) -> &'static str {
        "right"
    }

    fn claim(&self) -> &'static str {
        "Every validated unit and every result is what honest devices compute, and no honest device is outvoted, \
         unless enough dishonest ones told the same lie."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Voted { at, by, unit, gave } => {
                if self.is_true(reference, *at, *unit, *gave) {
                    return Check::Holds;
                }
                let lies = self.lies.entry((*at, *unit)).or_default();
                lies.push((*by, *gave));
                let knows = reference.tasks().contains_key(&unit.task);
                Check::that(!knows || !reference.is_honest(*by), || {
                    format!(
                        "a vote of {by}, which is honest, on {unit} says {gave}, which is wrong"
                    )
                })
            }
            Happening::Answered {
                at,
                by,
                unit,
                gave,
                compared,
            } => {
                // What colluding devices made the known result is wrong, and so a right answer is.
                let is_known = self.is_true(reference, *at, *unit, *gave);
                let is_wronged = *compared == Compared::Other && reference.is_honest(*by);
                let excused = self.colluded.contains(&unit.task);
                Check::that(!is_wronged || excused || !is_known, || {
                    format!("{by} gives the right answer to {unit} and is said to be wrong")
                })
            }
            Happening::Validated {
                by,
                unit,
                gave,
                agreed,
                outvoted,
            } => self.validate(reference, (*by, *unit, *gave), (agreed, outvoted)),
            Happening::Ended {
                task,
                ending: Ending::Done(result),
                ..
            } => {
                self.results.insert(*task, *result);
                let Some(known) = reference.tasks().get(task) else {
                    return Check::Nothing;
                };
                // With a unit that was given up nobody can say beforehand what comes out.
                let all = self.validated.get(task) == Some(&known.units);
                let may_differ = self.colluded.contains(task) || !all;
                Check::that(may_differ || *result == known.result, || {
                    format!("the result of {} is wrong", known.name)
                })
            }
            Happening::Satisfied {
                by,
                task,
                result: Some(result),
            } if reference.is_honest(*by) => {
                Check::that(self.results.get(task) == Some(result), || {
                    format!("{by} has another result than its task {}", task.short())
                })
            }
            _ => Check::Nothing,
        }
    }
}

impl Right {
    fn is_true(&mut self, reference: &Reference, at: Peer, unit: Unit, gave: Gave) -> bool {
        let Some(truth) = self.truths.get(reference, at, unit) else {
            return false;
        };
        if truth.is_none() {
            *truth = reference.right(unit);
        }
        *truth == Some(gave)
    }

    fn validate(
        &mut self,
        reference: &Reference,
        (at, unit, gave): (Peer, Unit, Gave),
        (agreed, outvoted): (&[Peer], &[Peer]),
    ) -> Check {
        let lies = self.lies.remove(&(at, unit)).unwrap_or_default();
        let Some(known) = reference.tasks().get(&unit.task) else {
            return Check::Nothing;
        };
        *self.validated.entry(unit.task).or_default() += 1;
        if self.is_true(reference, at, unit, gave) {
            let lied = |peer: &&Peer| lies.iter().any(|(liar, _)| liar == *peer);
            if let Some(liar) = agreed.iter().find(lied) {
                return Check::Breaks(format!("{liar} lied about {unit}, and is said to agree"));
            }
            let honest = outvoted.iter().find(|peer| reference.is_honest(**peer));
            return Check::that(honest.is_none(), || {
                format!("an honest device was outvoted on {unit}: {honest:?}")
            });
        }
        let same: BTreeSet<Peer> = lies
            .iter()
            .filter(|(peer, lie)| *lie == gave && !reference.is_honest(*peer))
            .map(|(peer, _)| *peer)
            .collect();
        self.colluded.insert(unit.task);
        Check::that(same.len() >= usize::from(known.agree), || {
            format!("{unit} was validated as {gave}, which is wrong")
        })
    }
}
