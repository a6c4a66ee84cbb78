//! Checking a receipt against what was done here.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::{Account, Leaf, LeafState};
use super::{Standing, Wallet};
use crate::id::{Hash, NodeId};
use crate::points::Points;
use crate::receipt::Receipt;
use crate::signed::Verified;
use crate::time::Timestamp;

/// How far the clocks of honest computers may be apart.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(600);

/// What is wrong with a receipt.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptFault {
    /// Who sent it is not who signed it.
    #[error("it is signed by another node than the coordinator that sent it")]
    OtherSigner,
    /// It pays another computer.
    #[error("it is for another device")]
    OtherDevice,
    /// It pays another person than the one whom this computer worked for.
    #[error("it is for another owner")]
    OtherOwner,
    /// It names more, or fewer, results than it says, or too many.
    #[error("its results are not as many as it says")]
    Malformed,
    /// It names a batch that this device never signed.
    #[error("it names a batch that was never reported")]
    UnknownBatch,
    /// The batch has no such leaf, or the leaf is of another unit.
    #[error("it names a result that is not in the batch")]
    UnknownLeaf,
    /// A result is paid by an earlier receipt too, or twice by this one.
    #[error("it pays a result that is paid already")]
    Twice,
    /// Another receipt of the task has the same sequence.
    #[error("another receipt has its sequence")]
    SequenceUsed,
    /// A result is of another task.
    #[error("it names a result of another task")]
    OtherTask,
    /// It counts by another rate card than the grant named.
    #[error("it counts by another rate card")]
    OtherCard,
    /// It counts fuel of another profile.
    #[error("it counts by another profile")]
    OtherProfile,
    /// Units, fuel, bytes, pixels or points are not those of the results.
    #[error("its amounts are not those of its results")]
    OtherAmounts,
    /// It says it was earned before the work was leased, or in the future.
    #[error("its times are not possible")]
    Times,
}

/// The results that a receipt pays.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that are known here, as batch and place.
    pub(super) known: BTreeSet<(Hash, usize)>,
    /// How many are not.
    pub(super) unknown: u64,
}

impl Found {
    pub(super) const fn standing(&self) -> Standing {
        if self.unknown == 0 {
            Standing::Checked
        } else {
            Standing::Unchecked
        }
    }
}

/// Sums over results.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    fuel: u64,
    bytes: u64,
    pixels: u64,
    points: Points,
}

impl Wallet {
    /// Returns what a receipt pays, if it may be kept.
    pub(super) fn check(
        &self,
        account: &Account,
        (now, from): (Timestamp, NodeId),
        receipt: &Verified<Receipt>,
    ) -> Result<Found, ReceiptFault> {
        if receipt.signer() != from {
            return Err(ReceiptFault::OtherSigner);
        }
        if receipt.holder.device != self.me {
            return Err(ReceiptFault::OtherDevice);
        }
        if !receipt.is_well_formed() {
            return Err(ReceiptFault::Malformed);
        }
        if receipt.leased_at > receipt.done_at || receipt.done_at.since(now) > CLOCKS_APART_MAX {
            return Err(ReceiptFault::Times);
        }
        if account.sequences.is_used(receipt) {
            return Err(ReceiptFault::SequenceUsed);
        }
        if receipt.profile != self.profile {
            return Err(ReceiptFault::OtherProfile);
        }
        let found = account.find(receipt)?;
        if found.unknown > 0 && !account.forgot && self.is_recent(receipt) {
            return Err(ReceiptFault::UnknownBatch);
        }
        let sums = account
            .sums(&found, receipt)
            .ok_or(ReceiptFault::OtherAmounts)?;
        if sums.agree(receipt, found.unknown) {
            Ok(found)
        } else {
            Err(ReceiptFault::OtherAmounts)
        }
    }

    /// Returns whether all its work was leased after this terminal was started.
    fn is_recent(&self, receipt: &Receipt) -> bool {
        let started = self.started.unwrap_or_default();
        receipt.leased_at.since(started) > CLOCKS_APART_MAX
    }
}

impl Account {
    fn find(&self, receipt: &Receipt) -> Result<Found, ReceiptFault> {
        let mut found = Found::default();
        let mut unknown = BTreeSet::new();
        for (root, place, unit) in receipt.results() {
            let Some(batch) = self.batches.get(&root) else {
                if !unknown.insert((root, place)) {
                    return Err(ReceiptFault::Twice);
                }
                found.unknown = found.unknown.saturating_add(1);
                continue;
            };
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let leaf = batch.leaves.get(place).ok_or(ReceiptFault::UnknownLeaf)?;
            leaf.fits(receipt, unit)?;
            if batch.owner != receipt.holder.owner {
                return Err(ReceiptFault::OtherOwner);
            }
            if leaf.state == LeafState::Paid || !found.known.insert((root, place)) {
                return Err(ReceiptFault::Twice);
            }
        }
        Ok(found)
    }

    /// Adds up what the known results are worth; none if it does not fit.
    fn sums(&self, found: &Found, receipt: &Receipt) -> Option<Sums> {
        let mut sums = Sums::default();
        for (root, place) in &found.known {
            let reported = &self.batches.get(root)?.leaves.get(*place)?.reported;
            let (terms, measured) = (&reported.terms, &reported.measured);
            debug_assert_eq!(terms.task, receipt.task, "checked before");
            sums = Sums {
                fuel: sums.fuel.checked_add(measured.fuel)?,
                bytes: sums.bytes.checked_add(measured.bytes)?,
                pixels: sums.pixels.checked_add(measured.pixels)?,
                points: sums
                    .points
                    .checked_add(terms.rates.points(terms.program, measured)?)?,
            };
        }
        Some(sums)
    }
}

impl Leaf {
    /// Checks what does not need other leaves.
    fn fits(&self, receipt: &Receipt, unit: u32) -> Result<(), ReceiptFault> {
        let terms = &self.reported.terms;
        if self.reported.unit != unit {
            Err(ReceiptFault::UnknownLeaf)
        } else if terms.task != receipt.task {
            Err(ReceiptFault::OtherTask)
        } else if terms.card != receipt.rate_card {
            Err(ReceiptFault::OtherCard)
        } else if receipt.done_at < terms.issued {
            Err(ReceiptFault::Times)
        } else {
            Ok(())
        }
    }
}

impl Sums {
    /// Returns whether a receipt says the same; at least as much if it pays results beside these.
    fn agree(&self, receipt: &Receipt, unknown: u64) -> bool {
        let Receipt {
            fuel,
            bytes,
            pixels,
            points,
            ..
        } = *receipt;
        let said = Self {
            fuel,
            bytes,
            pixels,
            points,
        };
        if unknown == 0 {
            return *self == said;
        }
        self.fuel <= fuel && self.bytes <= bytes && self.pixels <= pixels && self.points <= points
    }
}
