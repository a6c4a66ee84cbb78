//! Writes the wallet, on a thread of its own: many writes in one transaction, and the terminal never waits for the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_ledger::wallet::{Wallet, Write};
use tally_protocol::id::{NodeId, ReceiptId};
use tally_protocol::terminal::Input;
use tokio::sync::mpsc;

use super::Message;
use crate::clock;
use crate::error::chain;

/// Groups of writes that wait for the disk.
const GROUPS_MAX: usize = 16;
/// Writes that wait for a place among them: about a minute of work for fast units. A disk that is slower than that has
/// failed.
const WAITING_MAX: usize = 8_192;

/// The way to the wallet.
#[derive(Debug)]
pub(super) struct Keeper {
    waiting: Vec<Write>,
    groups: mpsc::Sender<Vec<Write>>,
}

impl Keeper {
    /// Starts the thread. It ends with the keeper, after everything is written.
    pub(super) fn start(
        wallet: Arc<Wallet>,
        bytes_max: u64,
        mailbox: mpsc::Sender<Message>,
    ) -> (Self, std::thread::JoinHandle<()>) {
        let (groups, queue) = mpsc::channel(GROUPS_MAX);
        let thread = std::thread::Builder::new()
            .name("wallet".to_owned())
            .spawn(move || serve(&wallet, bytes_max, queue, &mailbox))
            .expect("the operating system has room for a thread");
        let waiting = Vec::new();
        (Self { waiting, groups }, thread)
    }

    /// Takes something to write.
    pub(super) fn write(&mut self, write: Write) {
        self.waiting.push(write);
    }

    /// Returns whether so much waits that the disk must have failed.
    pub(super) const fn is_stuck(&self) -> bool {
        self.waiting.len() > WAITING_MAX
    }

    /// Hands over what waits, when there is room for it. Never ends if nothing waits.
    pub(super) async fn hand_over(&mut self) {
        if self.waiting.is_empty() {
            return std::future::pending().await;
        }
        // A thread that is gone has said why.
        let Ok(permit) = self.groups.reserve().await else {
            return std::future::pending().await;
        };
        permit.send(std::mem::take(&mut self.waiting));
    }

    /// Hands over the rest and lets the thread end.
    pub(super) async fn finish(self) {
        if let Ok(permit) = self.groups.reserve().await {
            permit.send(self.waiting);
        }
    }
}

fn serve(
    wallet: &Wallet,
    bytes_max: u64,
    mut queue: mpsc::Receiver<Vec<Write>>,
    mailbox: &mpsc::Sender<Message>,
) {
    while let Some(mut writes) = queue.blocking_recv() {
        while let Ok(more) = queue.try_recv() {
            writes.extend(more);
        }
        if let Err(error) = wallet.write(clock::now(), &writes, bytes_max) {
            let reason = format!("{}; {}", chain(&error), error.hint());
            let _ = mailbox.blocking_send(Message::WalletFailed(reason));
            return;
        }
        for (by, receipts) in kept(&writes) {
            let _ = mailbox.blocking_send(Message::input(Input::Kept { by, receipts }));
        }
    }
}

/// Returns the receipts among what was written, by coordinator.
fn kept(writes: &[Write]) -> BTreeMap<NodeId, Vec<ReceiptId>> {
    let mut kept: BTreeMap<NodeId, Vec<ReceiptId>> = BTreeMap::new();
    for write in writes {
        if let Write::Receipt(receipt) = write {
            let receipt = &receipt.receipt;
            kept.entry(receipt.signer()).or_default().push(receipt.id());
        }
    }
    kept
}
