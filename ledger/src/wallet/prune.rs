//! What the wallet lets go: leaves that nobody needs any more, and the oldest if there is no room.

use std::collections::BTreeSet;
use std::time::Duration;

use redb::ReadableTable;
use tally_protocol::id::GrantId;
use tally_protocol::time::Timestamp;

use super::{
    BatchRow, GrantRow, ReceiptRow, StateRow, Tables, WalletError, coordinator_of, decode,
    grant_key, put, take,
};

/// How long leaves are kept after the points that they earned were released.
const RETENTION: Duration = Duration::from_secs(30 * 86_400);
/// How long leaves are kept for which no receipt came.
const UNPAID_RETENTION: Duration = Duration::from_secs(180 * 86_400);
/// Batches looked at for their age after one write, so that no write takes long.
const LOOKED_AT_MAX: usize = 64;

/// Which batches may go for want of room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    Paid,
    All,
}

impl Tables<'_> {
    /// Drops what is beyond its retention, and the oldest beyond `bytes_max`.
    pub(super) fn prune(&mut self, now: Timestamp, bytes_max: u64) -> Result<(), WalletError> {
        let mut gone = Vec::new();
        for row in self.order.iter()?.take(LOOKED_AT_MAX) {
            let key = *row?.1.value();
            let state: Option<StateRow> = take(&self.states, &key, "states")?;
            let over = state.is_none_or(|state| {
                let (since, retention) = if state.paid > 0 {
                    (state.released, RETENTION)
                } else {
                    (state.at, UNPAID_RETENTION)
                };
                now.since(since) > retention
            });
            if over {
                gone.push(key);
            }
        }
        for key in gone {
            self.drop_batch(&key)?;
        }
        if self.counts.bytes <= bytes_max {
            return Ok(());
        }
        // A tenth is made free at once, so that the tables are not searched with each write.
        let target = bytes_max.saturating_sub(bytes_max.checked_div(10).unwrap_or(0));
        self.make_room(Among::Paid, target)?;
        self.make_room(Among::All, target)?;
        self.drop_receipts(now, target)
    }

    fn make_room(&mut self, among: Among, target: u64) -> Result<(), WalletError> {
        let mut excess = self.counts.bytes.saturating_sub(target);
        let mut gone = Vec::new();
        for row in self.order.iter()? {
            if excess == 0 {
                break;
            }
            let key = *row?.1.value();
            let Some(state) = take::<_, StateRow>(&self.states, &key, "states")? else {
                continue;
            };
            if among == Among::All || state.paid > 0 {
                excess = excess.saturating_sub(state.bytes);
                gone.push(key);
            }
        }
        for key in gone {
            // Grants go with their last batch, so fewer may do.
            if self.counts.bytes <= target {
                break;
            }
            self.drop_batch(&key)?;
        }
        Ok(())
    }

    /// Drops a batch, and the grants that no other batch needs.
    fn drop_batch(&mut self, key: &[u8; 64]) -> Result<(), WalletError> {
        let state: Option<StateRow> = take(&self.states, key, "states")?;
        let batch: Option<BatchRow> = take(&self.batches, key, "batches")?;
        let coordinator = coordinator_of(key);
        if let Some(state) = state {
            self.order.remove(state.number)?;
            self.settle(&coordinator, state.number, u64::MAX)?;
            self.counts.bytes = self.counts.bytes.saturating_sub(state.bytes);
        }
        self.states.remove(key)?;
        self.batches.remove(key)?;
        let results = batch.iter().flat_map(|batch| &batch.results);
        let grants: BTreeSet<GrantId> = results.map(|result| result.grant).collect();
        for grant in grants {
            let key = grant_key(&coordinator, &grant);
            let Some(bytes) = self.grants.get(&key)?.map(|row| row.value().to_vec()) else {
                continue;
            };
            let mut row: GrantRow = decode(&bytes, "grants")?;
            row.batches = row.batches.saturating_sub(1);
            if row.batches == 0 {
                self.grants.remove(&key)?;
                self.counts.bytes = self.counts.bytes.saturating_sub(bytes.len() as u64);
            } else {
                put(&mut self.grants, &key, &row)?;
            }
        }
        Ok(())
    }

    /// Drops the oldest receipts, whose points have long been released: the lots and the sums stay.
    fn drop_receipts(&mut self, now: Timestamp, target: u64) -> Result<(), WalletError> {
        let mut excess = self.counts.bytes.saturating_sub(target);
        let mut gone = Vec::new();
        for row in self.received.iter()? {
            let (number, id) = row?;
            let (number, id) = (number.value(), *id.value());
            let Some(bytes) = self.receipts.get(&id)?.map(|row| row.value().to_vec()) else {
                continue;
            };
            let row: ReceiptRow = decode(&bytes, "receipts")?;
            if excess == 0 || now.since(row.kept) < UNPAID_RETENTION {
                break;
            }
            excess = excess.saturating_sub(bytes.len() as u64);
            gone.push((number, id, bytes.len() as u64));
        }
        for (number, id, bytes) in gone {
            self.received.remove(number)?;
            self.receipts.remove(&id)?;
            let proof = self.proofs.remove(&id)?;
            let proof = proof.map_or(0, |proof| proof.value().len() as u64);
            let gone = bytes.saturating_add(proof);
            self.counts.bytes = self.counts.bytes.saturating_sub(gone);
        }
        Ok(())
    }
}
