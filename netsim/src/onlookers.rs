//! Those who look on: the trace, the numbers, the oracles, and the story if somebody wants one.

use tally_ledger::store::{Change, Store};
use tally_protocol::coordinator::Coordinator;

use crate::happening::{Happening, Observer};
use crate::moment::Moment;
use crate::oracle::{Finding, Oracles};
use crate::peer::Peer;
use crate::statistics::Statistics;
use crate::story::Story;
use crate::trace::Trace;

/// All who look on.
#[derive(Debug)]
pub struct Onlookers {
    /// Hashes everything.
    pub trace: Trace,
    /// Counts.
    pub statistics: Statistics,
    /// Judge.
    pub oracles: Oracles,
    /// Tells what somebody wants to know.
    pub story: Option<Story>,
}

impl Onlookers {
    pub(crate) fn see(&mut self, at: Moment, what: &Happening) {
        self.trace.see(at, what);
        self.statistics.see(at, what);
        self.oracles.see(at, what);
        if let Some(story) = &mut self.story {
            story.see(at, what);
        }
    }

    /// Shows what a coordinator that starts has restored.
    pub(crate) fn restored(
        &mut self,
        at: Moment,
        coordinator: Peer,
        machine: &Coordinator,
        store: &Store,
    ) {
        self.oracles.restored(at, coordinator, machine, store);
    }

    /// Shows a group of records just before it is written.
    pub(crate) fn commits(&mut self, at: Moment, coordinator: Peer, change: &Change) {
        self.oracles.commits(at, coordinator, change);
    }

    /// Returns what was found wrong first.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        self.oracles.first_finding()
    }
}
