//! Orders of the operator: money that comes and goes, and receipts that are taken back.

use tally_protocol::coordinator::{Effect, Input, Order, OrderFault};
use tally_protocol::entry::Event;
use tally_protocol::id::{PostingId, ReceiptId};
use tally_protocol::time::Timestamp;
use tokio::sync::oneshot;

use super::{ClawBackError, Shell};

/// Where the answer to an order goes.
#[derive(Debug)]
pub(super) enum Ordered {
    Moved(oneshot::Sender<Result<PostingId, OrderFault>>),
    ClawedBack(oneshot::Sender<Result<PostingId, ClawBackError>>),
}

impl Ordered {
    pub(super) fn send(self, result: Result<PostingId, OrderFault>) {
        match self {
            Self::Moved(reply) => drop(reply.send(result)),
            Self::ClawedBack(reply) => drop(reply.send(result.map_err(ClawBackError::Order))),
        }
    }
}

impl Shell {
    pub(super) fn order(
        &mut self,
        now: Timestamp,
        order: Order,
        reply: Ordered,
        effects: &mut Vec<Effect>,
    ) {
        let question = self.question();
        self.orders.insert(question, reply);
        self.machine
            .handle(now, Input::Ordered { question, order }, effects);
    }

    /// Looks up what was posted with a receipt.
    pub(super) fn find_receipt(
        &self,
        id: ReceiptId,
        reason: String,
    ) -> Result<Order, ClawBackError> {
        let sequence = self.records.store().receipt_entry(id)?;
        let sequence = sequence.ok_or(ClawBackError::Unknown(id))?;
        let entry = self.records.store().entry(sequence)?;
        let entry = entry.map(|entry| entry.decode()).transpose();
        let entry = entry.map_err(tally_ledger::store::ReadError::from)?;
        let Some((Event::Receipted { receipt, .. }, Some(issued))) =
            entry.map(|entry| (entry.event, entry.posting))
        else {
            return Err(ClawBackError::Unknown(id));
        };
        let receipt = receipt.verify(self.parts.network.network());
        let receipt = receipt.map_err(|_| ClawBackError::Unknown(id))?;
        Ok(Order::ClawBack {
            receipt: Box::new(receipt),
            issued,
            reason,
        })
    }
}
