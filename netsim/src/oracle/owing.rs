//! Who does not pay gets no more work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::id::GrantId;
use tally_protocol::message::work::ResultVerdict;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// What a terminal risks for each slot on a coordinator that it does not know: what that may owe, and what it may declare
/// unpaid (protocol/src/terminal/wallet/credit.rs).
const RISK_OF_SLOT: Duration = Duration::from_secs(30 + 600);
/// Units for each slot that may be done beyond that: those that were leased before it was known what they take.
const UNITS_OF_SLOT: u32 = 4;
/// The first pause between two units on trial, and the last.
const TRIAL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3_600));

/// A terminal and a coordinator.
type Pair = (Peer, Peer);

/// Follows what terminals say and do; what is done for liars it adds up on its own.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// Who was owed more than it gives on credit, as it says, at the last look at the world.
    owed: BTreeSet<Pair>,
    /// When each terminal was started.
    started: BTreeMap<Peer, Moment>,
    /// Grants of dishonest coordinators.
    grants: BTreeMap<GrantId, Peer>,
    /// What terminals did since their start for coordinators that are dishonest.
    work: BTreeMap<Pair, Work>,
}

#[derive(Debug, Default)]
struct Work {
    time: Duration,
    /// The unit that took longest.
    longest: Duration,
    /// Verdicts that a result does not count: that is not owed.
    uncounted: u32,
    /// Whether it ever paid.
    paid: bool,
}

impl Work {
    /// Returns how long a terminal works at most for somebody who does not pay, `since` its start.
    fn bound(&self, slots: u32, since: Duration) -> Duration {
        let (first, last) = (TRIAL.0.as_secs(), TRIAL.1.as_secs());
        let (doublings, days) = (
            (1 + since.as_secs() / first).ilog2(),
            since.as_secs() / last,
        );
        let trials = doublings + u32::try_from(days).unwrap_or(u32::MAX);
        let units = trials + slots * UNITS_OF_SLOT + self.uncounted;
        RISK_OF_SLOT * slots + self.longest * units
    }
}

impl Oracle for Owing {
    fn name(&self) -> &'static str {
        "no work for nothing"
    }

    fn claim(&self) -> &'static str {
        "Where more is owed than it gives on credit an honest terminal asks for no more than a unit on trial; and for a \
         coordinator that never pays it works no longer than that credit and those trials."
    }

    fn see(&mut self, reference: &Reference, at: Moment, what: &Happening) -> Check {
        match what {
            Happening::Started { node, .. } => {
                self.owed.retain(|(by, _)| by != node);
                self.work.retain(|(by, _), _| by != node);
                self.started.insert(*node, at);
            }
            // It has paid, or what it owed is declared unpaid, of which it may leave more.
            Happening::ReceiptKept { by, from, .. } => {
                self.owed.remove(&(*by, *from));
                if !reference.is_honest(*from) {
                    self.work.entry((*by, *from)).or_default().paid = true;
                }
            }
            Happening::GivenUp { by, from, .. } => {
                self.owed.remove(&(*by, *from));
            }
            Happening::Pulled { by, to, want, .. } if *want > 0 => {
                return Check::that(*want == 1 || !self.owed.contains(&(*by, *to)), || {
                    format!("{by} wants {want} units of {to}, which owes it too much")
                });
            }
            Happening::Leased { by, to, grant, .. }
                if !reference.is_honest(*by) && reference.is_honest(*to) =>
            {
                self.grants.insert(*grant, *by);
            }
            Happening::Ran {
                by,
                grant,
                gave: Ok(_),
                took,
                ..
            } => {
                if let Some(from) = self.grants.get(grant) {
                    let work = self.work.entry((*by, *from)).or_default();
                    work.time += *took;
                    work.longest = work.longest.max(*took);
                }
            }
            Happening::Judged {
                by, to, verdict, ..
            } if *verdict != ResultVerdict::Counted => {
                if let Some(work) = self.work.get_mut(&(*to, *by)) {
                    work.uncounted += 1;
                }
            }
            _ => {}
        }
        Check::Nothing
    }

    fn sample(&mut self, reference: &Reference, world: &World) -> Check {
        let honest = world.terminals();
        let honest = honest.filter(|(peer, _)| reference.is_honest(*peer));
        self.owed = honest
            .flat_map(|(peer, machine)| {
                let owing = machine.credits().filter(|(_, credit)| credit.owing);
                owing.filter_map(move |(node, _)| Some((peer, world.peer(&node)?)))
            })
            .collect();
        let unpaid = self.work.iter().filter(|(_, work)| !work.paid);
        let mut bounds = unpaid.map(|((by, from), work)| {
            let started = self.started.get(by).copied().unwrap_or(Moment::START);
            let bound = work.bound(world.slots(*by), world.now().since(started));
            (by, from, work.time, bound)
        });
        let Some((by, from, time, bound)) = bounds.find(|(.., time, bound)| time > bound) else {
            return if self.work.is_empty() {
                Check::Nothing
            } else {
                Check::Holds
            };
        };
        Check::Breaks(format!(
            "{by} has worked {time:.0?} for {from}, which never paid; {bound:.0?} is the most"
        ))
    }
}
