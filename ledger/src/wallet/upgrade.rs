//! From a wallet of the format before to one of this: what is new there is computed once from what it has.

use std::collections::BTreeMap;

use redb::{Database, ReadableTable};
use tally_protocol::codec;
use tally_protocol::id::NodeId;

use super::earned::{Earned, quarter};
use super::read::value_of;
use super::tables::Tables;
use super::{
    BatchRow, FORMAT, FORMAT_TABLE, FormatRow, KEY, ReceiptRow, StateRow, WalletError,
    coordinator_of, decode, take,
};
use crate::store::Identity;

/// The format without sums by day, and without the batches that wait.
pub(super) const BEFORE: u32 = 1;
/// Batches, the latest, that are looked at for results that wait: older ones are hardly waited for.
const BATCHES_MAX: usize = 4_096;

/// Brings the tables up to [`FORMAT`], in one transaction.
pub(super) fn upgrade(database: &Database, identity: &Identity) -> Result<(), WalletError> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let mut tables = Tables::open(&transaction, &identity.network)?;
    tables.sum_receipts()?;
    tables.find_waiting()?;
    tables.close()?;
    let row = codec::to_bytes(&FormatRow {
        format: FORMAT,
        network: identity.network.clone(),
        node: identity.node,
    });
    transaction
        .open_table(FORMAT_TABLE)?
        .insert(KEY, row.as_slice())?;
    transaction.commit()?;
    Ok(())
}

impl Tables<'_> {
    fn sum_receipts(&mut self) -> Result<(), WalletError> {
        let mut quarters: BTreeMap<u64, Earned> = BTreeMap::new();
        let mut units: BTreeMap<NodeId, u64> = BTreeMap::new();
        for row in self.receipts.iter()? {
            let row: ReceiptRow = decode(row?.1.value(), "receipts")?;
            let receipt = value_of(row.receipt, self.network);
            let receipt = receipt.ok_or(WalletError::Damaged { table: "receipts" })?;
            let earned = Earned::by(&receipt);
            let sum = quarters.entry(quarter(row.kept)).or_default();
            *sum = sum.plus(earned);
            let sum = units.entry(row.coordinator).or_default();
            *sum = sum.saturating_add(earned.units);
        }
        for (quarter, earned) in quarters {
            self.add_earned(quarter, earned)?;
        }
        for (coordinator, units) in units {
            self.change_account(&coordinator, |account| account.units = units)?;
        }
        Ok(())
    }

    fn find_waiting(&mut self) -> Result<(), WalletError> {
        let mut keys = Vec::new();
        for row in self.order.iter()?.rev().take(BATCHES_MAX) {
            keys.push(*row?.1.value());
        }
        for key in keys {
            let state: Option<StateRow> = take(&self.states, &key, "states")?;
            let batch: Option<BatchRow> = take(&self.batches, &key, "batches")?;
            if let (Some(state), Some(batch)) = (state, batch) {
                let results = batch.results.len() as u64;
                let coordinator = coordinator_of(&key);
                self.wait(
                    &coordinator,
                    &state,
                    results.saturating_sub(u64::from(state.paid)),
                )?;
            }
        }
        Ok(())
    }
}
