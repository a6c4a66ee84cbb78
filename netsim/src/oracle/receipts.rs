//! What terminals hold is what coordinators have written.

use std::collections::BTreeSet;

use tally_protocol::id::ReceiptId;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;

/// Remembers the receipts that are durable, with whose they are.
#[derive(Debug, Default)]
pub(super) struct Receipts(BTreeSet<(Peer, Peer, ReceiptId)>);

impl Oracle for Receipts {
    fn name(&self) -> &'static str {
        "receipts hold"
    }

    fn claim(&self) -> &'static str {
        "A receipt that an honest terminal keeps stands in the log of who signed it, and none by an honest \
         coordinator is found wrong."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Receipted {
                by, to, receipt, ..
            } => {
                self.0.insert((*by, *to, *receipt));
                Check::Nothing
            }
            Happening::ReceiptKept {
                by, from, receipt, ..
            } if reference.is_honest(*by) && reference.is_honest(*from) => {
                let is_durable = self.0.contains(&(*from, *by, *receipt));
                Check::that(is_durable, || {
                    let receipt = receipt.short();
                    format!("{by} has receipt {receipt} of {from}, which is not in its log")
                })
            }
            Happening::Disputed { by, from, fault }
                if reference.is_honest(*by) && reference.is_honest(*from) =>
            {
                Check::Breaks(format!("{by} finds a receipt of {from} wrong: {fault}"))
            }
            _ => Check::Nothing,
        }
    }
}
