//! What a terminal holds at the moment, in numbers: for its owner and for whoever looks for leaks.

use super::Terminal;
use super::link::Link;

/// How much of what a terminal holds. The same numbers are what `/metrics` will show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Coordinators that it deals with, at most 64.
    pub links: usize,
    /// Questions without an answer, at most one to each of them.
    pub questions: usize,
    /// Grants of which something is to be run or reported.
    pub grants: usize,
    /// Units that wait, at most [`super::STORE_UNITS_MAX`].
    pub stored: usize,
    /// Jobs that run, at most one in each slot.
    pub jobs: usize,
    /// Results without a verdict: no job is begun when there are [`super::RESULTS_MAX`] for its coordinator.
    pub results: usize,
    /// Units to be given back.
    pub given_back: usize,
    /// Leaves of reported batches that are remembered, at most [`super::LEAVES_MAX`] of each coordinator.
    pub leaves: usize,
    /// Results that counted and have neither a receipt nor a reason for having none.
    pub owed: u64,
    /// Coordinators that owe so much that they get no more work done.
    pub owing: usize,
}

impl Terminal {
    /// Returns how much of what it holds.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            links: self.links.len(),
            questions: self.questions.len(),
            grants: self.work.held(),
            stored: self.work.stored(),
            jobs: self.work.running(),
            results: self.links.values().map(Link::kept).sum(),
            given_back: self.links.values().map(Link::given_back).sum(),
            leaves: self.wallet.leaves(),
            owed: self
                .credits()
                .map(|(_, credit)| credit.totals.owed().results)
                .sum(),
            owing: self.credits().filter(|(_, credit)| credit.owing).count(),
        }
    }
}
