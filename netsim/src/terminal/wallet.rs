//! What a terminal's wallet has on its disk: how things stand with each coordinator.
//!
//! The shell of a real node writes to its wallet while the machine goes on, and tells the machine when it is done. A
//! terminal that goes while something is being written has it or not: a group is written as a whole. The leaves of its
//! batches are not read back, so a terminal that comes back checks no receipt for what it did before.

use std::collections::BTreeMap;
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
}

impl Wallet {
    /// Returns how things stood with each coordinator when that was last written.
    pub(super) fn totals(&self) -> impl Iterator<Item = (NodeId, Totals)> + '_ {
        self.totals.iter().map(|(node, totals)| (*node, *totals))
    }

    /// Takes a group that was written.
    pub(super) fn take(&mut self, group: Group) {
        self.totals.extend(group.totals);
    }
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    totals: BTreeMap<NodeId, Totals>,
    receipts: BTreeMap<NodeId, Vec<ReceiptId>>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.totals.is_empty() && self.receipts.is_empty()
    }
}

impl TerminalNode {
    /// Lets what concerns the wallet be written, and notes it.
    pub(super) fn enter(&mut self, stage: &mut Stage, effect: Effect) {
        let by = self.peer;
        let Some(up) = &mut self.up else {
            return;
        };
        if up.unwritten.is_empty() {
            let at = stage.now + WRITE;
            stage.plan_within(at, by, crate::stage::Within::Terminal(Within::Written));
        }
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

    /// The wallet is written: the machine may acknowledge its receipts.
    pub(super) fn written(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let mut group = std::mem::take(&mut up.unwritten);
        let receipts = std::mem::take(&mut group.receipts);
        self.wallet.take(group);
        for (by, receipts) in receipts {
            self.feed(stage, Input::Kept { by, receipts });
        }
    }
}
