//! Owners are obeyed, and pay nothing for it.

use std::collections::{BTreeMap, BTreeSet};

use tally_protocol::id::GrantId;
use tally_protocol::unit::Fault;

use super::{Check, Oracle};
use crate::happening::{Happening, Interruption, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// While its owner is there nothing runs on a terminal and nothing waits there; what is suspended keeps its lease, and
/// what is given back for it is held against nobody.
#[derive(Debug, Default)]
pub(super) struct Obeyed {
    /// Terminals that somebody has interrupted.
    owned: BTreeSet<Peer>,
    /// Those of them whose owner is there.
    suspended: BTreeSet<Peer>,
    /// Units at work on terminals that are interrupted, with the coordinator of each grant.
    at_work: BTreeMap<Peer, BTreeMap<GrantId, (Peer, BTreeSet<u32>)>>,
    /// Units that a sandbox could not run.
    failed: BTreeSet<(Peer, GrantId, u32)>,
    /// The same, of whatever grant.
    failures: BTreeSet<(Peer, Unit)>,
}

impl Oracle for Obeyed {
    fn name(&self) -> &'static str {
        "obeyed"
    }

    fn claim(&self) -> &'static str {
        "While the owner of an honest terminal is there no unit begins or ends on it and none waits; what is suspended keeps \
         its lease; and nothing is reported or recorded as a fault that was none."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Interrupted { of, how } => {
                self.owned.insert(*of);
                match how {
                    Interruption::Suspended => drop(self.suspended.insert(*of)),
                    Interruption::Resumed => drop(self.suspended.remove(of)),
                    Interruption::MemoryNeeded | Interruption::Slept | Interruption::Woke => {}
                }
                Check::Nothing
            }
            Happening::Stopped { node, .. } => {
                self.suspended.remove(node);
                self.at_work.remove(node);
                Check::Nothing
            }
            Happening::Began {
                by,
                at,
                grant,
                units,
            } => {
                let grants = self.at_work.entry(*by).or_default();
                let (_, at_work) = grants.entry(*grant).or_insert((*at, BTreeSet::new()));
                at_work.extend(units);
                self.is_free(*by, "begins units")
            }
            Happening::Ran {
                by,
                grant,
                unit,
                gave,
                ..
            } => {
                self.end(*by, *grant, unit.unit);
                if gave.is_err() {
                    self.failed.insert((*by, *grant, unit.unit));
                    self.failures.insert((*by, *unit));
                    // What could not be fetched was not run.
                    return Check::Nothing;
                }
                self.is_free(*by, "has run a unit")
            }
            _ => self.judge(reference, what),
        }
    }

    fn sample(&mut self, reference: &Reference, world: &World) -> Check {
        let suspended = |(peer, _): &(Peer, _)| self.suspended.contains(peer);
        let mut terminals = world.terminals().filter(suspended);
        let hoards = terminals.find(|(peer, machine)| {
            let (stored, _) = machine.busy();
            reference.is_honest(*peer) && stored > 0
        });
        match hoards {
            Some((peer, _)) => Check::Breaks(format!("units wait at {peer}, which is suspended")),
            None if self.suspended.is_empty() => Check::Nothing,
            None => Check::Holds,
        }
    }
}

impl Obeyed {
    /// Judges what a terminal says, and what is held against it.
    fn judge(&mut self, reference: &Reference, what: &Happening) -> Check {
        match what {
            Happening::GivenBack {
                by,
                grant,
                unit,
                fault,
                ..
            } => {
                self.end(*by, *grant, *unit);
                let is_true = *fault == Fault::Withdrawn
                    || self.failed.contains(&(*by, *grant, *unit))
                    || !self.is_owned(reference, *by);
                Check::that(is_true, || {
                    format!("{by} gives unit {unit} back as {fault}, which it has not run")
                })
            }
            Happening::LeaseEnded { of, grant, .. } => {
                self.at_work
                    .entry(*of)
                    .and_modify(|grants| drop(grants.remove(grant)));
                Check::Nothing
            }
            Happening::Pulled {
                by, to, renews: 0, ..
            } if self.suspended.contains(by) => {
                let mut grants = self.at_work.get(by).into_iter().flatten();
                let held = grants.find(|(_, (at, units))| at == to && !units.is_empty());
                Check::that(held.is_none(), || {
                    format!("{by} has suspended units of {to} and does not renew their leases")
                })
            }
            Happening::Faulted { at, by, unit, .. }
                if self.is_owned(reference, *by) && reference.is_honest(*at) =>
            {
                Check::that(self.failures.contains(&(*by, *unit)), || {
                    format!("{at} holds {unit} against {by}, which did not fail to run it")
                })
            }
            _ => Check::Nothing,
        }
    }

    /// Returns whether a terminal behaves as it should and is interrupted by somebody.
    fn is_owned(&self, reference: &Reference, terminal: Peer) -> bool {
        self.owned.contains(&terminal) && reference.is_honest(terminal)
    }

    fn end(&mut self, by: Peer, grant: GrantId, unit: u32) {
        let grants = self.at_work.get_mut(&by);
        if let Some((_, units)) = grants.and_then(|grants| grants.get_mut(&grant)) {
            units.remove(&unit);
        }
    }

    fn is_free(&self, terminal: Peer, what: &str) -> Check {
        Check::that(!self.suspended.contains(&terminal), || {
            format!("{terminal} {what} while its owner is there")
        })
    }
}
