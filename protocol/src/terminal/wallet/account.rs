//! One coordinator: the batches that it was told, and what became of each of their leaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::check::Found;
use super::credit::{Effort, Totals, Trial};
use super::sequences::Sequences;
use super::{LEAVES_MAX, Reported, SEEN_MAX, UnpaidLeaf};
use crate::id::{Hash, NodeId, ReceiptId, TaskId};
use crate::message::work::{OWED_MAX, OWED_TASKS_MAX, Owed, ResultVerdict, Unpaid, UnpaidReason};

/// How things stand with one coordinator.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) totals: Totals,
    /// The part of what is owed whose leaves are known.
    pub(super) known: Effort,
    pub(super) batches: BTreeMap<Hash, OpenBatch>,
    pub(super) leaves: usize,
    /// Batches in the order in which they were reported, and those of which nothing is owed in the order of that.
    order: VecDeque<Hash>,
    settled: VecDeque<Hash>,
    /// Whether leaves that may be paid were forgotten for want of room.
    pub(super) forgot: bool,
    pub(super) sequences: Sequences,
    pub(super) seen: BTreeMap<ReceiptId, Seen>,
    seen_order: VecDeque<ReceiptId>,
    pub(super) acknowledge: BTreeSet<ReceiptId>,
    /// Answers in a row that brought no receipt while some were awaited.
    pub(super) fruitless: u32,
    /// Its trials, while it owes too much.
    pub(super) trial: Option<Trial>,
}

#[derive(Debug)]
pub(super) struct OpenBatch {
    /// For whom its results were computed.
    pub(super) owner: NodeId,
    pub(super) leaves: Vec<Leaf>,
    /// Nothing of it was owed once: it is forgotten before others.
    settled: bool,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) reported: Reported,
    pub(super) state: LeafState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeafState {
    /// Reported: whether it counts is not known, or it does not.
    Open,
    /// It counts and is owed.
    Counted,
    /// Paid by a receipt.
    Paid,
    /// Declared unpaid.
    Unpaid,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Told to the shell, which has not said yet that it is durable.
    Keeping,
    Kept,
    Refused,
}

impl OpenBatch {
    pub(super) fn new(owner: NodeId, results: Vec<Reported>) -> Self {
        let open = |reported| Leaf {
            reported,
            state: LeafState::Open,
        };
        Self {
            owner,
            leaves: results.into_iter().map(open).collect(),
            settled: false,
        }
    }

    /// Returns whether it is settled from now on.
    fn settles(&mut self) -> bool {
        let settles = !self.settled && !self.owes();
        self.settled |= settles;
        settles
    }

    fn owes(&self) -> bool {
        let counted = |leaf: &Leaf| leaf.state == LeafState::Counted;
        self.leaves.iter().any(counted)
    }
}

impl Account {
    /// Adds a batch. One that is reported again, because no answer came, is there already.
    pub(super) fn add(&mut self, root: Hash, batch: OpenBatch) {
        if self.batches.contains_key(&root) {
            return;
        }
        self.leaves = self.leaves.saturating_add(batch.leaves.len());
        self.order.push_back(root);
        self.batches.insert(root, batch);
        while self.leaves > LEAVES_MAX {
            let oldest = self.settled.pop_front().or_else(|| self.order.pop_front());
            let Some(oldest) = oldest else {
                return;
            };
            self.forget(oldest);
        }
        if self.order.len() > self.batches.len().saturating_mul(2) {
            self.order.retain(|root| self.batches.contains_key(root));
        }
    }

    fn forget(&mut self, root: Hash) {
        let Some(batch) = self.batches.remove(&root) else {
            return;
        };
        self.leaves = self.leaves.saturating_sub(batch.leaves.len());
        for leaf in &batch.leaves {
            match leaf.state {
                LeafState::Open => self.forgot = true,
                LeafState::Counted => {
                    self.forgot = true;
                    self.known = self.known.less(Effort::one(leaf.reported.nanos));
                }
                LeafState::Paid | LeafState::Unpaid => {}
            }
        }
    }

    pub(super) fn judged(&mut self, root: Hash, verdicts: &[ResultVerdict]) {
        let Some(batch) = self.batches.get_mut(&root) else {
            return;
        };
        for (leaf, verdict) in batch.leaves.iter_mut().zip(verdicts) {
            if *verdict == ResultVerdict::Counted && leaf.state == LeafState::Open {
                leaf.state = LeafState::Counted;
                let effort = Effort::one(leaf.reported.nanos);
                self.totals.counted = self.totals.counted.plus(effort);
                self.known = self.known.plus(effort);
            }
        }
        if batch.settles() {
            self.settled.push_back(root);
        }
    }

    /// Takes what a receipt pays off what is owed.
    pub(super) fn pay(&mut self, found: &Found) {
        let totals = &mut self.totals;
        for (root, place) in &found.known {
            let Some(batch) = self.batches.get_mut(root) else {
                continue;
            };
            let Some(leaf) = batch.leaves.get_mut(*place) else {
                continue;
            };
            let effort = Effort::one(leaf.reported.nanos);
            match leaf.state {
                LeafState::Open => totals.counted = totals.counted.plus(effort),
                LeafState::Counted => self.known = self.known.less(effort),
                // It pays what it had said it would not.
                LeafState::Unpaid => totals.unpaid = totals.unpaid.less(effort),
                LeafState::Paid => continue,
            }
            leaf.state = LeafState::Paid;
            totals.paid = totals.paid.plus(effort);
            if batch.settles() {
                self.settled.push_back(*root);
            }
        }
        let forgotten = self.forgotten().share(found.unknown);
        self.totals.paid = self.totals.paid.plus(forgotten);
    }

    /// Returns the results that are owed and known, the oldest first, as many as may be asked about at once.
    pub(super) fn owed(&self) -> Vec<Owed> {
        let mut owed: BTreeMap<TaskId, Vec<u32>> = BTreeMap::new();
        let batches = self.order.iter().filter_map(|root| self.batches.get(root));
        let leaves = batches.flat_map(|batch| &batch.leaves);
        let counted = leaves.filter(|leaf| leaf.state == LeafState::Counted);
        for Leaf { reported, .. } in counted.take(OWED_MAX) {
            if owed.len() < OWED_TASKS_MAX || owed.contains_key(&reported.terms.task) {
                owed.entry(reported.terms.task)
                    .or_default()
                    .push(reported.unit);
            }
        }
        owed.into_iter()
            .map(|(task, units)| Owed { task, units })
            .collect()
    }

    /// Takes results off what is owed for which no receipt will come. Those that are not known here are some of which
    /// the leaves were forgotten.
    pub(super) fn give_up(&mut self, unpaid: &[Unpaid]) -> Vec<UnpaidLeaf> {
        let mut given_up = Vec::new();
        if unpaid.is_empty() {
            return given_up;
        }
        let unpaid: BTreeMap<(TaskId, u32), UnpaidReason> = unpaid
            .iter()
            .map(|unpaid| ((unpaid.task, unpaid.unit), unpaid.reason))
            .collect();
        let mut unknown: BTreeSet<(TaskId, u32)> = unpaid.keys().copied().collect();
        for (root, batch) in &mut self.batches {
            let before = given_up.len();
            for (place, leaf) in (0_u32..).zip(&mut batch.leaves) {
                let unit = (leaf.reported.terms.task, leaf.reported.unit);
                let Some(reason) = unpaid.get(&unit).copied() else {
                    continue;
                };
                unknown.remove(&unit);
                if leaf.state == LeafState::Counted {
                    leaf.state = LeafState::Unpaid;
                    let effort = Effort::one(leaf.reported.nanos);
                    self.known = self.known.less(effort);
                    self.totals.unpaid = self.totals.unpaid.plus(effort);
                    given_up.push(UnpaidLeaf {
                        batch: *root,
                        leaf: place,
                        reason,
                    });
                }
            }
            if given_up.len() > before && batch.settles() {
                self.settled.push_back(*root);
            }
        }
        let unknown = u64::try_from(unknown.len()).unwrap_or(u64::MAX);
        let forgotten = self.forgotten().share(unknown);
        self.totals.unpaid = self.totals.unpaid.plus(forgotten);
        given_up
    }

    /// Returns what is owed for results whose leaves are not known any more.
    fn forgotten(&self) -> Effort {
        self.totals.owed().less(self.known)
    }

    pub(super) fn note_seen(&mut self, id: ReceiptId, seen: Seen) {
        self.seen.insert(id, seen);
        self.seen_order.push_back(id);
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }
}
