//! Getting receipts from the log of their coordinator: those that were lost on the way, and the proof of each.
//!
//! Everything that is taken is proven against a head that the coordinator has signed.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_ledger::wallet::DossierProof;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::codec;
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry, Event};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::log::{LOGGED_RECEIPTS_MAX, LogReply, LogRequest};
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::Verified;
use tokio::sync::mpsc;

use super::Message;
use crate::keys;
use crate::peers::Peers;

/// The time between two looks at the log of one coordinator, unless a receipt is known to be missing.
pub(super) const EVERY: Duration = Duration::from_secs(600);
/// The least time between two looks.
pub(super) const EVERY_MIN: Duration = Duration::from_secs(20);
/// The most entries that one look reads; the next one goes on.
const ENTRIES_MAX: usize = LOGGED_RECEIPTS_MAX;

/// A receipt from a log.
#[derive(Debug)]
pub struct Logged {
    /// The receipt.
    pub(super) receipt: Verified<Receipt>,
    /// What proves that it stands there.
    pub(super) proof: DossierProof,
    /// Where.
    pub(super) sequence: u64,
}

/// What a look needs.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) coordinator: NodeId,
    /// The last entry that was read before.
    pub(super) after: Option<u64>,
    pub(super) network: NetworkId,
    pub(super) key: SigningKey,
    pub(super) peers: Peers,
    pub(super) mailbox: mpsc::Sender<Message>,
}

impl Look {
    /// Reads the receipts of this device from the log, one after another, and tells the shell each of them.
    pub(super) async fn run(self) {
        let coordinator = self.coordinator;
        match self.read().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(?coordinator, count, "receipts and proofs from its log"),
            Err(reason) => tracing::debug!(?coordinator, "cannot read its log: {reason}"),
        }
        let _ = self.mailbox.send(Message::Looked(coordinator)).await;
    }

    async fn read(&self) -> Result<usize, String> {
        let device = keys::node_id(&self.key);
        let after = self.after;
        let asked = LogRequest::Receipts { device, after };
        let LogReply::Receipts(mut sequences) = self.ask(asked).await? else {
            return Err("it answers something else".to_owned());
        };
        sequences.truncate(ENTRIES_MAX);
        if sequences.is_empty() {
            return Ok(0);
        }
        let rising = sequences.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || sequences.first().copied() <= after {
            return Err("it names entries out of order".to_owned());
        }
        let LogReply::Head(head) = self.ask(LogRequest::Head).await? else {
            return Err("it answers something else".to_owned());
        };
        let head = head
            .verify(&self.network)
            .map_err(|error| error.to_string())?;
        if head.log() != self.coordinator {
            return Err("it shows the head of another log".to_owned());
        }
        for sequence in &sequences {
            let logged = self.logged(*sequence, &head).await?;
            let message = Message::Logged(Box::new(logged));
            if self.mailbox.send(message).await.is_err() {
                break;
            }
        }
        Ok(sequences.len())
    }

    async fn logged(&self, sequence: u64, head: &VerifiedCheckpoint) -> Result<Logged, String> {
        let size = head.head().size;
        let asked = LogRequest::Inclusion { sequence, size };
        let LogReply::Inclusion(logged) = self.ask(asked).await? else {
            return Err("it answers something else".to_owned());
        };
        let proof = LogProof {
            extra: None,
            index: sequence,
            path: logged.path,
            checkpoint: head.signed().clone(),
        };
        let proof = DossierProof {
            entry: logged.entry,
            proof: proof.to_string(),
        };
        let entry: Entry =
            codec::from_bytes(&proof.entry, ENTRY_BYTES_MAX).map_err(|error| error.to_string())?;
        let Event::Receipted { receipt, .. } = entry.event else {
            return Err(format!("entry {sequence} is no receipt"));
        };
        let receipt = receipt
            .verify(&self.network)
            .map_err(|error| error.to_string())?;
        if receipt.signer() != self.coordinator {
            return Err(format!(
                "entry {sequence} is a receipt of another coordinator"
            ));
        }
        proof.verify(&receipt, &self.network)?;
        Ok(Logged {
            receipt,
            proof,
            sequence,
        })
    }

    async fn ask(&self, request: LogRequest) -> Result<LogReply, String> {
        let asked = self.peers.ask_log(self.coordinator, request).await;
        let reply = asked.map_err(|error| error.to_string())?;
        if let LogReply::Refused(refusal) = &reply {
            return Err(refusal.to_string());
        }
        Ok(reply)
    }
}
