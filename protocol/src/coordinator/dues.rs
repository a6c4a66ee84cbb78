//! What a task owes: results that were agreed on and have no receipt yet, and what it has cost so far.
//!
//! Everything here follows from facts. Invariants: an agreed result is paid by exactly one receipt; a batch is kept as
//! long as a vote that it holds may still be paid; the points that are paid or due, with those that units under way may
//! come to, never cost more than what is held for the task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::units::Ballot;
use crate::account::Holder;
use crate::id::{Hash, TaskId};
use crate::message::work::Batch;
use crate::points::Points;
use crate::posting::Cost;
use crate::rate_card::RateCard;
use crate::receipt::{BatchShare, RECEIPT_UNITS_MAX, Receipt, Validation};
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;
use crate::unit::ProfileId;

/// The books of one task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Dues {
    /// Version of the rate card by which it is paid.
    pub(super) card: u32,
    /// What its receipts come to.
    pub(super) cost: Cost,
    /// Points of results that the customer pays and that have no receipt yet.
    pub(super) due_points: Points,
    /// The most that one run of one of its units can be worth; known once it was cut.
    pub(super) unit_points_max: Points,
    /// Whether nothing more will be paid.
    pub(super) settled: bool,
    /// The next receipt of each device.
    sequences: BTreeMap<Holder, u64>,
    due: BTreeMap<(Holder, Validation), VecDeque<DueResult>>,
    batches: BTreeMap<Hash, KeptBatch>,
}

/// A batch that a device signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptBatch {
    signed: Signed<Batch>,
    /// Votes in it that are not decided, or due.
    uses: u32,
}

/// A result that is to be paid.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct DueResult {
    pub(super) batch: Hash,
    pub(super) leaf: u32,
    pub(super) unit: u32,
    pub(super) fuel: u64,
    pub(super) bytes: u64,
    pub(super) pixels: u64,
    pub(super) points: Points,
    pub(super) leased_at: Timestamp,
    pub(super) done_at: Timestamp,
}

/// A receipt to be signed, and the batches that it cites.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) receipt: Receipt,
    pub(super) batches: Vec<Signed<Batch>>,
}

impl Dues {
    pub(super) const fn new(card: u32) -> Self {
        Self {
            card,
            cost: Cost {
                points: Points::ZERO,
                price: 0,
                reserve: 0,
            },
            due_points: Points::ZERO,
            unit_points_max: Points::ZERO,
            settled: false,
            sequences: BTreeMap::new(),
            due: BTreeMap::new(),
            batches: BTreeMap::new(),
        }
    }

    /// Keeps the batch of a report of which `count` votes were taken.
    pub(super) fn keep(&mut self, root: Hash, signed: &Signed<Batch>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > 0 {
            let signed = signed.clone();
            let kept = self.batches.entry(root);
            kept.or_insert(KeptBatch { signed, uses: 0 }).uses += count;
        }
    }

    /// Notes that a vote will not be paid.
    pub(super) fn drop_vote(&mut self, ballot: &Ballot) {
        self.release(ballot.batch);
    }

    fn release(&mut self, batch: Hash) {
        if let Some(kept) = self.batches.get_mut(&batch) {
            kept.uses -= 1;
            if kept.uses == 0 {
                self.batches.remove(&batch);
            }
        }
    }

    /// Notes that a result is to be paid.
    pub(super) fn add(&mut self, holder: Holder, validation: Validation, result: DueResult) {
        if validation != Validation::KnownAnswer {
            let sum = self.due_points.checked_add(result.points);
            self.due_points =
                sum.expect("a task is worth less than 2^64 upt: checked before it was accepted");
        }
        self.due
            .entry((holder, validation))
            .or_default()
            .push_back(result);
    }

    /// Returns whether everything that was agreed on has a receipt.
    pub(super) fn is_clear(&self) -> bool {
        self.due.is_empty()
    }

    /// Returns how many answers to known units have no receipt.
    pub(super) fn known_count(&self) -> usize {
        let known = |due: &(&(Holder, Validation), &VecDeque<DueResult>)| {
            due.0.1 == Validation::KnownAnswer
        };
        self.due
            .iter()
            .filter(known)
            .map(|(_, due)| due.len())
            .sum()
    }

    /// Returns the units of which a result of the holder is to be paid.
    pub(super) fn due_of(&self, holder: Holder) -> BTreeSet<u32> {
        let of_holder = self.due.range((holder, Validation::Quorum(0))..);
        let of_holder = of_holder.take_while(|((due, _), _)| *due == holder);
        let results = of_holder.flat_map(|(_, results)| results);
        results.map(|result| result.unit).collect()
    }

    /// Returns to whom a receipt is owed, the first one.
    pub(super) fn next_holder(&self) -> Option<(Holder, Validation)> {
        self.due.keys().next().copied()
    }

    /// Makes the next receipt of a holder, without noting it.
    pub(super) fn next(
        &self,
        (holder, validation): (Holder, Validation),
        task: TaskId,
        (card, profile): (&Verified<RateCard>, &ProfileId),
    ) -> Option<Due> {
        let mut results = self.taken(holder, validation)?;
        results.sort_unstable_by_key(|result| (result.batch, result.leaf));
        let mut shares: Vec<BatchShare> = Vec::new();
        for result in &results {
            let batch = result.batch;
            if shares.last().is_none_or(|share| share.batch != batch) {
                let runs = Vec::new();
                shares.push(BatchShare { batch, runs });
            }
            let share = shares.last_mut().expect("one was pushed");
            share.push(result.leaf, result.unit);
        }
        let sum = |of: fn(&DueResult) -> u64| results.iter().map(of).fold(0, u64::saturating_add);
        let batches = shares
            .iter()
            .filter_map(|share| self.batches.get(&share.batch));
        Some(Due {
            batches: batches.map(|kept| kept.signed.clone()).collect(),
            receipt: Receipt {
                sequence: self.sequences.get(&holder).copied().unwrap_or(0),
                holder,
                task,
                units: u32::try_from(results.len()).unwrap_or(u32::MAX),
                fuel: sum(|result| result.fuel),
                bytes: sum(|result| result.bytes),
                pixels: sum(|result| result.pixels),
                points: Points::from_micro(sum(|result| result.points.as_micro())),
                rate_card: card.id(),
                profile: profile.clone(),
                validation,
                leased_at: results.iter().map(|result| result.leased_at).min()?,
                done_at: results.iter().map(|result| result.done_at).max()?,
                shares,
            },
        })
    }

    /// Returns the results that the next receipt of a holder pays.
    fn taken(&self, holder: Holder, validation: Validation) -> Option<Vec<DueResult>> {
        let due = self.due.get(&(holder, validation))?;
        Some(
            due.iter()
                .take(RECEIPT_UNITS_MAX as usize)
                .copied()
                .collect(),
        )
    }

    /// Notes that the next receipt of a holder was issued.
    pub(super) fn receipted(&mut self, holder: Holder, validation: Validation, card: &RateCard) {
        let Some(results) = self.taken(holder, validation) else {
            return;
        };
        let sum = results.iter().map(|result| result.points.as_micro());
        let points = Points::from_micro(sum.sum());
        for result in &results {
            self.release(result.batch);
        }
        if let Some(due) = self.due.get_mut(&(holder, validation)) {
            due.drain(..results.len());
            if due.is_empty() {
                self.due.remove(&(holder, validation));
            }
        }
        *self.sequences.entry(holder).or_default() += 1;
        if validation != Validation::KnownAnswer {
            let left = self.due_points.as_micro().saturating_sub(points.as_micro());
            self.due_points = Points::from_micro(left);
        }
        self.cost = self.cost_with(points, validation, card);
    }

    /// Returns what the task costs with a receipt of so many points more.
    pub(super) fn cost_with(
        &self,
        points: Points,
        validation: Validation,
        card: &RateCard,
    ) -> Cost {
        match validation {
            Validation::KnownAnswer => self.cost,
            Validation::Quorum(_) => {
                let with = self.cost.with(points, &card.rates);
                with.expect("a task costs less than 2^64: no unit is leased beyond what is held")
            }
        }
    }

    /// Returns how many more units may be opened, so that all that are open can be paid for: each may be worth
    /// `unit_points_max` to each of `agree` devices.
    pub(super) fn openable(
        &self,
        open: usize,
        agree: u8,
        (card, max_price): (&RateCard, u64),
    ) -> u32 {
        let price = card.rates.price;
        if price.minor == 0 {
            return u32::MAX;
        }
        // The most points that cost no more than is held: the price is rounded up, so this is rounded down.
        let affordable =
            u128::from(max_price) * u128::from(price.micro_points) / u128::from(price.minor);
        let each = u128::from(self.unit_points_max.as_micro()) * u128::from(agree);
        let bound = u128::from(self.cost.points.as_micro())
            + u128::from(self.due_points.as_micro())
            + each * open as u128;
        let left = affordable.saturating_sub(bound);
        u32::try_from(left.checked_div(each).unwrap_or(0)).unwrap_or(u32::MAX)
    }
}
