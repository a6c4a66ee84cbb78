//! Those who look on: the trace, the numbers, the oracles, and the story if somebody wants one.

use tally_ledger::store::{Change, Store};
use tally_protocol::app_server::{self, AppServer};
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

    /// Shows what an app server that starts has restored.
    pub(crate) fn shop_restored(
        &mut self,
        at: Moment,
        app_server: Peer,
        machine: &AppServer,
        store: &Store,
    ) {
        self.oracles.shop_restored(at, app_server, machine, store);
    }

    /// Shows what an app server is about to write, with the effects that follow.
    pub(crate) fn sells(
        &mut self,
        at: Moment,
        app_server: Peer,
        (effects, change): (&[app_server::Effect], &Change),
    ) {
        self.oracles.sells(at, app_server, (effects, change));
    }

    /// Returns what was found wrong first.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        self.oracles.first_finding()
    }
}
