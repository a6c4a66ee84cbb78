//! The sequences of receipts: dense for each task and owner, so one that is missing shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, TaskId};
use crate::receipt::Receipt;

/// The most tasks of one coordinator whose sequences are followed.
const TASKS_MAX: usize = 1_024;
/// The most missing receipts of a task that are remembered: those of an answer that was lost.
const MISSING_MAX: u64 = 64;

/// The receipts that came, by task and owner.
#[derive(Debug, Default)]
pub(super) struct Sequences(BTreeMap<(TaskId, NodeId), Sequence>);

#[derive(Debug)]
struct Sequence {
    /// The first that came since the start: what was before is not known.
    first: u64,
    next: u64,
    missing: BTreeSet<u64>,
}

impl Sequences {
    /// Returns whether another receipt came with the sequence of this one.
    pub(super) fn is_used(&self, receipt: &Receipt) -> bool {
        let key = (receipt.task, receipt.holder.owner);
        let number = receipt.sequence;
        self.0.get(&key).is_some_and(|of| {
            (of.first..of.next).contains(&number) && !of.missing.contains(&number)
        })
    }

    /// Notes that a receipt came. Returns whether one before it is missing.
    pub(super) fn note(&mut self, receipt: &Receipt) -> bool {
        let (key, number) = ((receipt.task, receipt.holder.owner), receipt.sequence);
        if self.0.len() >= TASKS_MAX && !self.0.contains_key(&key) {
            self.0.pop_first();
        }
        let of = self.0.entry(key).or_insert(Sequence {
            first: number,
            next: number,
            missing: BTreeSet::new(),
        });
        of.missing.remove(&number);
        if number < of.next {
            return false;
        }
        let gap = number.saturating_sub(of.next);
        if gap > MISSING_MAX {
            (of.first, of.missing) = (number, BTreeSet::new());
        } else {
            of.missing.extend(of.next..number);
        }
        of.next = number.saturating_add(1);
        gap > 0
    }
}
