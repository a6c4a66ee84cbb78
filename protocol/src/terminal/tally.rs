//! What a terminal has done since its start, in numbers.

use std::collections::BTreeMap;

use crate::message::work::ResultVerdict;
use crate::unit::Fault;

/// What a terminal has done since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Units run.
    pub units: u64,
    /// Results that counted.
    pub counted: u64,
    /// Results that came too late or were not wanted.
    pub uncounted: u64,
    /// Units that could not be run.
    pub faults: u64,
    /// Fuel of all results.
    pub fuel: u64,
    /// Units given back because the owner wanted the computer, or does not want them any more.
    pub withdrawn: u64,
    /// Grants given back that were not what the owner wants.
    pub unwanted: u64,
    /// Verdicts on results, by kind; a result that is sent again gets another.
    pub verdicts: BTreeMap<ResultVerdict, u64>,
    /// Units that could not be run, by why.
    pub faults_by: BTreeMap<Fault, u64>,
}

impl Tally {
    /// Counts a unit that is given back.
    pub(super) fn count_back(&mut self, fault: Fault) {
        if fault == Fault::Withdrawn {
            self.withdrawn += 1;
        } else {
            self.faults += 1;
            *self.faults_by.entry(fault).or_default() += 1;
        }
    }

    /// Counts verdicts.
    pub(super) fn count_verdicts(&mut self, verdicts: &BTreeMap<ResultVerdict, u64>) {
        for (verdict, count) in verdicts {
            *self.verdicts.entry(*verdict).or_default() += count;
        }
    }
}
