//! What a terminal's wallet has on its disk: how things stand with each coordinator.
//!
//! The shell of a real node writes to its wallet while the machine goes on, and tells the machine when it is done. A
//! terminal that goes while something is being written has it or not: a group is written as a whole. The leaves of its
//! batches are not read back, so a terminal that comes back checks no receipt for what it did before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::id::{NodeId, ReceiptId};
use tally_protocol::terminal::{Effect, Input, Totals};

use super::{TerminalNode, Within};
use crate::happening::Happening;
use crate::stage::Stage;

/// Time that a group takes to the disk.
const WRITE: Duration = Duration::from_millis(5);

/// What is on the disk.
#[derive(Debug, Default)]
pub(super) struct Wallet {
    totals: BTreeMap<NodeId, Totals>,
    receipts: BTreeSet<ReceiptId>,
    /// The last entry of each log that was read.
    looked_at: BTreeMap<NodeId, u64>,
}

impl Wallet {
    /// Returns how things stood with each coordinator when that was last written.
    pub(super) fn totals(&self) -> impl Iterator<Item = (NodeId, Totals)> + '_ {
        self.totals.iter().map(|(node, totals)| (*node, *totals))
    }

    /// Returns whether it has this receipt.
    pub(super) fn has(&self, receipt: &ReceiptId) -> bool {
        self.receipts.contains(receipt)
    }

    /// Returns the last entry of a log that was read.
    pub(super) fn looked_at(&self, log: &NodeId) -> Option<u64> {
        self.looked_at.get(log).copied()
    }

    /// Takes a group that was written.
    pub(super) fn take(&mut self, group: &Group) {
        self.totals.extend(&group.totals);
        self.looked_at.extend(&group.looked_at);
        self.receipts.extend(group.receipts.values().flatten());
    }
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    totals: BTreeMap<NodeId, Totals>,
    receipts: BTreeMap<NodeId, Vec<ReceiptId>>,
    looked_at: BTreeMap<NodeId, u64>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.totals.is_empty() && self.receipts.is_empty() && self.looked_at.is_empty()
    }
}

impl TerminalNode {
    /// Lets what concerns the wallet be written, and notes it.
    pub(super) fn enter(&mut self, stage: &mut Stage, effect: Effect) {
        let by = self.peer;
        self.plan_write(stage);
        let Some(up) = &mut self.up else {
            return;
        };
        let what = match effect {
            Effect::KeepReceipt(kept) => {
                let (signer, receipt) = (kept.receipt.signer(), kept.receipt.id());
                up.unwritten
                    .receipts
                    .entry(signer)
                    .or_default()
                    .push(receipt);
                let from = stage.directory.peer(&signer);
                from.map(|from| Happening::ReceiptKept {
                    by,
                    from,
                    receipt,
                    standing: kept.standing,
                })
            }
            Effect::Settle(node, totals) => {
                up.unwritten.totals.insert(node, totals);
                None
            }
            Effect::Dispute(dispute) => {
                let from = stage.directory.peer(&dispute.from);
                from.map(|from| Happening::Disputed {
                    by,
                    from,
                    fault: dispute.fault,
                })
            }
            Effect::GiveUp(node, leaves) => {
                let from = stage.directory.peer(&node);
                let results = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
                from.map(|from| Happening::GivenUp { by, from, results })
            }
            Effect::CatchUp(_)
            | Effect::Pull(_)
            | Effect::Prepare(_)
            | Effect::Execute { .. }
            | Effect::Stop(_)
            | Effect::Release(_)
            | Effect::Discard(_)
            | Effect::Dial(_) => None,
        };
        if let Some(what) = what {
            stage.note(&what);
        }
    }

    /// Notes how far a log was read.
    pub(super) fn note_looked(&mut self, stage: &mut Stage, (log, sequence): (NodeId, u64)) {
        self.plan_write(stage);
        if let Some(up) = &mut self.up {
            up.unwritten.looked_at.insert(log, sequence);
        }
    }

    fn plan_write(&self, stage: &mut Stage) {
        let is_planned = |up: &super::Up| !up.unwritten.is_empty();
        if !self.up.as_ref().is_some_and(is_planned) {
            self.plan(stage, stage.now + WRITE, Within::Written);
        }
    }

    /// The wallet is written: the machine may acknowledge its receipts.
    pub(super) fn written(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let group = std::mem::take(&mut up.unwritten);
        self.wallet.take(&group);
        for (by, receipts) in group.receipts {
            self.feed(stage, Input::Kept { by, receipts });
        }
    }
}
