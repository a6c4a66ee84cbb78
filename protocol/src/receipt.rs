//! Receipts: what a coordinator owes a computer for work that was agreed on.
//!
//! The device has signed the batches of results that a receipt counts, the coordinator signs the receipt: like the two
//! halves of a tally stick they prove the debt only together. There is one receipt for each device and task every second
//! or so, not one for each unit. A receipt names the leaves of the batches, so whoever has them can run the units again.
//!
//! Invariants: of one device and task the sequences are dense from 0; a unit is paid to one owner at most once; the
//! amounts follow from the agreed results by the rate card.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::account::Holder;
use crate::id::{Hash, RateCardId, ReceiptId, TaskId};
use crate::points::Points;
use crate::signed::{Signed, Statement, Verified};
use crate::time::Timestamp;
use crate::unit::ProfileId;

/// The most units that one receipt pays.
pub const RECEIPT_UNITS_MAX: u32 = 1_024;

/// What a coordinator owes, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Counts the receipts of this device and task, from 0.
    pub sequence: u64,
    /// Who earned.
    pub holder: Holder,
    /// For which task.
    pub task: TaskId,
    /// Where the results are that are paid.
    pub shares: Vec<BatchShare>,
    /// How many they are.
    pub units: u32,
    /// Fuel of all of them.
    pub fuel: u64,
    /// Bytes of input and output of all of them.
    pub bytes: u64,
    /// Core pixels of all of them; 0 if the task has no tiles.
    pub pixels: u64,
    /// What they are worth.
    pub points: Points,
    /// The rate card by which.
    pub rate_card: RateCardId,
    /// The profile under which the fuel was counted.
    pub profile: ProfileId,
    /// How the results came to count.
    pub validation: Validation,
    /// When the first of them was leased.
    pub leased_at: Timestamp,
    /// When the last of them was agreed on.
    pub done_at: Timestamp,
}

impl Statement for Receipt {
    const TYPE: &'static str = "application/tally-receipt+cbor";
    const BYTES_MAX: usize = 96 << 10;
}

/// Results of one batch that the device signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShare {
    /// The root of the batch.
    pub batch: Hash,
    /// The results, in the order of the leaves.
    pub runs: Vec<LeafRun>,
}

/// Neighbouring leaves of a batch with neighbouring units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct LeafRun {
    /// The first leaf, from 0.
    pub leaf: u32,
    /// The unit that it is of.
    pub unit: u32,
    /// How many leaves, and units.
    pub count: u32,
}

impl From<(u32, u32, u32)> for LeafRun {
    fn from((leaf, unit, count): (u32, u32, u32)) -> Self {
        Self { leaf, unit, count }
    }
}

impl From<LeafRun> for (u32, u32, u32) {
    fn from(run: LeafRun) -> Self {
        (run.leaf, run.unit, run.count)
    }
}

/// How the results of a receipt came to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Validation {
    /// So many devices reported the same.
    Quorum(u8),
    /// The answer was known before; the coordinator pays.
    KnownAnswer,
}

impl Receipt {
    /// Returns each result that is paid, as (batch, leaf, unit), in order.
    pub fn results(&self) -> impl Iterator<Item = (Hash, u32, u32)> + '_ {
        let of_run = |batch: Hash, run: LeafRun| {
            let at = move |place: u32| {
                (
                    batch,
                    run.leaf.saturating_add(place),
                    run.unit.saturating_add(place),
                )
            };
            (0..run.count).map(at)
        };
        let shares = self.shares.iter();
        shares.flat_map(move |share| {
            share
                .runs
                .iter()
                .flat_map(move |run| of_run(share.batch, *run))
        })
    }

    /// Returns whether it names as many results as it says, at most [`RECEIPT_UNITS_MAX`] and none without end.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let runs = || self.shares.iter().flat_map(|share| &share.runs);
        let fits = |run: &LeafRun| {
            run.count > 0
                && run.leaf.checked_add(run.count).is_some()
                && run.unit.checked_add(run.count).is_some()
        };
        let units: u64 = runs().map(|run| u64::from(run.count)).sum();
        let full = self.shares.iter().all(|share| !share.runs.is_empty());
        runs().all(fits)
            && full
            && units == u64::from(self.units)
            && (1..=RECEIPT_UNITS_MAX).contains(&self.units)
    }
}

impl BatchShare {
    /// Appends a result: to the last run if it is its neighbour.
    pub fn push(&mut self, leaf: u32, unit: u32) {
        match self.runs.last_mut() {
            Some(run) if (run.leaf + run.count, run.unit + run.count) == (leaf, unit) => {
                run.count += 1
            }
            _ => self.runs.push(LeafRun {
                leaf,
                unit,
                count: 1,
            }),
        }
    }
}

impl Signed<Receipt> {
    /// Returns the id of the receipt: SHA-256 of the whole signed statement.
    #[must_use]
    pub fn id(&self) -> ReceiptId {
        ReceiptId::from_bytes(Sha256::digest(self.as_bytes()).into())
    }
}

impl Verified<Receipt> {
    /// Returns the id of the receipt.
    #[must_use]
    pub fn id(&self) -> ReceiptId {
        self.signed().id()
    }
}
