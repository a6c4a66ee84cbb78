//! What a write changes in the tables, within one transaction.

use redb::{ReadableTable, Table, WriteTransaction};
use tally_protocol::codec;
use tally_protocol::id::{NetworkId, NodeId, RateCardId};
use tally_protocol::message::work::{UnitResult, UnpaidReason};
use tally_protocol::points::Points;
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::terminal::{Dispute, KeptReceipt, Standing};
use tally_protocol::time::Timestamp;

use super::earned::{Earned, quarter};
use super::{
    ACCOUNTS, AccountRow, BATCHES, BatchRow, Bytes, CARDS, COUNTS, Counts, DISPUTES, DISPUTES_MAX,
    DisputeRow, EARNED, GRANTS, GrantRow, KEY, KeptBatch, LOTS, ORDER, PROOFS, Papers, RECEIPTS,
    RECEIVED, ReceiptRow, STATES, StateRow, WAITING, WalletError, Write, decode, grant_key,
    lot_key, pair, put, read, take,
};

/// The tables of one transaction.
pub(super) struct Tables<'a> {
    pub(super) network: &'a NetworkId,
    pub(super) counts: Counts,
    pub(super) counts_table: Table<'a, &'static str, Bytes>,
    pub(super) accounts: Table<'a, &'static [u8; 32], Bytes>,
    pub(super) cards: Table<'a, &'static [u8; 64], Bytes>,
    pub(super) grants: Table<'a, &'static [u8; 48], Bytes>,
    pub(super) batches: Table<'a, &'static [u8; 64], Bytes>,
    pub(super) states: Table<'a, &'static [u8; 64], Bytes>,
    pub(super) order: Table<'a, u64, &'static [u8; 64]>,
    pub(super) receipts: Table<'a, &'static [u8; 32], Bytes>,
    pub(super) received: Table<'a, u64, &'static [u8; 32]>,
    pub(super) lots: Table<'a, &'static [u8; 72], Bytes>,
    pub(super) disputes: Table<'a, u64, Bytes>,
    pub(super) proofs: Table<'a, &'static [u8; 32], Bytes>,
    pub(super) earned: Table<'a, u64, Bytes>,
    pub(super) waiting: Table<'a, &'static [u8; 40], Bytes>,
}

impl<'a> Tables<'a> {
    pub(super) fn open(
        transaction: &'a WriteTransaction,
        network: &'a NetworkId,
    ) -> Result<Self, WalletError> {
        let counts_table = transaction.open_table(COUNTS)?;
        let counts = match counts_table.get(KEY)? {
            Some(row) => decode(row.value(), "counts")?,
            None => Counts::default(),
        };
        Ok(Self {
            network,
            counts,
            counts_table,
            accounts: transaction.open_table(ACCOUNTS)?,
            cards: transaction.open_table(CARDS)?,
            grants: transaction.open_table(GRANTS)?,
            batches: transaction.open_table(BATCHES)?,
            states: transaction.open_table(STATES)?,
            order: transaction.open_table(ORDER)?,
            receipts: transaction.open_table(RECEIPTS)?,
            received: transaction.open_table(RECEIVED)?,
            lots: transaction.open_table(LOTS)?,
            disputes: transaction.open_table(DISPUTES)?,
            proofs: transaction.open_table(PROOFS)?,
            earned: transaction.open_table(EARNED)?,
            waiting: transaction.open_table(WAITING)?,
        })
    }

    pub(super) fn close(mut self) -> Result<(), WalletError> {
        let bytes = codec::to_bytes(&self.counts);
        self.counts_table.insert(KEY, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn apply(&mut self, now: Timestamp, write: &Write) -> Result<(), WalletError> {
        match write {
            Write::Batch(batch) => self.keep_batch(now, batch),
            Write::Receipt(kept) => self.keep_receipt(now, kept),
            Write::Dispute(dispute) => self.dispute(now, dispute),
            Write::GiveUp(coordinator, leaves) => {
                self.settle_unpaid(coordinator, leaves)?;
                let reasons = leaves.iter().map(|leaf| leaf.reason);
                self.change_account(coordinator, |account| account.give_up(reasons))
            }
            Write::LookedAt(coordinator, sequence) => {
                self.change_account(coordinator, |account| account.looked_at = Some(*sequence))
            }
            Write::Totals(coordinator, totals) => {
                self.change_account(coordinator, |account| account.totals = *totals)
            }
            Write::Proof(receipt, proof) => {
                let here = self.receipts.get(receipt.as_bytes())?.is_some();
                if here && self.proofs.get(receipt.as_bytes())?.is_none() {
                    let bytes = put(&mut self.proofs, receipt.as_bytes(), proof)?;
                    self.counts.bytes = self.counts.bytes.saturating_add(bytes);
                }
                Ok(())
            }
        }
    }

    fn keep_batch(&mut self, now: Timestamp, kept: &KeptBatch) -> Result<(), WalletError> {
        let key = pair(&kept.coordinator, kept.root.as_bytes());
        if self.states.get(&key)?.is_some() {
            return Ok(());
        }
        for papers in &kept.papers {
            self.keep_papers(&kept.coordinator, papers)?;
        }
        let without_inline = |result: &UnitResult| UnitResult {
            inline: None,
            ..result.clone()
        };
        let bytes = codec::to_bytes(&BatchRow {
            batch: kept.batch.clone(),
            results: kept.results.iter().map(without_inline).collect(),
        });
        let state = StateRow {
            number: self.counts.batches,
            at: now,
            bytes: bytes.len() as u64,
            paid: 0,
            released: Timestamp::default(),
        };
        self.order.insert(state.number, &key)?;
        self.batches.insert(&key, bytes.as_slice())?;
        put(&mut self.states, &key, &state)?;
        self.wait(&kept.coordinator, &state, kept.results.len() as u64)?;
        self.counts.batches = self.counts.batches.saturating_add(1);
        self.counts.bytes = self.counts.bytes.saturating_add(state.bytes);
        Ok(())
    }

    /// Keeps a grant for one batch more, with its rate card.
    fn keep_papers(&mut self, coordinator: &NodeId, papers: &Papers) -> Result<(), WalletError> {
        let card = pair(coordinator, papers.card_id.as_bytes());
        if self.cards.get(&card)?.is_none() {
            self.cards.insert(&card, papers.card.as_bytes())?;
        }
        let key = grant_key(coordinator, &papers.id);
        let held: Option<GrantRow> = take(&self.grants, &key, "grants")?;
        let is_new = held.is_none();
        let mut row = held.unwrap_or_else(|| GrantRow {
            grant: papers.grant.clone(),
            read: papers.read.clone(),
            batches: 0,
        });
        row.batches = row.batches.saturating_add(1);
        let bytes = put(&mut self.grants, &key, &row)?;
        if is_new {
            self.counts.bytes = self.counts.bytes.saturating_add(bytes);
        }
        Ok(())
    }

    fn keep_receipt(&mut self, now: Timestamp, kept: &KeptReceipt) -> Result<(), WalletError> {
        let (receipt, id) = (&kept.receipt, kept.receipt.id());
        let coordinator = receipt.signer();
        let known: Option<ReceiptRow> = take(&self.receipts, id.as_bytes(), "receipts")?;
        if let Some(mut row) = known {
            if kept.standing == Standing::Checked && row.standing == Standing::Unchecked {
                row.standing = Standing::Checked;
                put(&mut self.receipts, id.as_bytes(), &row)?;
            }
            return Ok(());
        }
        let row = ReceiptRow {
            number: self.counts.receipts,
            coordinator,
            kept: now,
            standing: kept.standing,
            receipt: receipt.signed().clone(),
        };
        let bytes = put(&mut self.receipts, id.as_bytes(), &row)?;
        self.received.insert(row.number, id.as_bytes())?;
        self.counts.receipts = self.counts.receipts.saturating_add(1);
        self.counts.bytes = self.counts.bytes.saturating_add(bytes);
        let released = self.earn(&coordinator, receipt)?;
        for share in &receipt.shares {
            let key = pair(&coordinator, share.batch.as_bytes());
            let Some(mut state) = take::<_, StateRow>(&self.states, &key, "states")? else {
                continue;
            };
            let paid = share
                .runs
                .iter()
                .fold(0_u32, |sum, run| sum.saturating_add(run.count));
            state.paid = state.paid.saturating_add(paid);
            state.released = state.released.max(released);
            put(&mut self.states, &key, &state)?;
            self.settle(&coordinator, state.number, u64::from(paid))?;
        }
        let earned = Earned::by(receipt);
        self.add_earned(quarter(now), earned)?;
        self.change_account(&coordinator, |account| {
            account.receipts = account.receipts.saturating_add(1);
            let sum = account.points.checked_add(receipt.points);
            account.points = sum.unwrap_or(account.points);
            account.units = account.units.saturating_add(earned.units);
        })
    }

    /// Adds the points of a receipt to their lots. Returns when the last of them may be spent.
    fn earn(
        &mut self,
        coordinator: &NodeId,
        receipt: &Verified<Receipt>,
    ) -> Result<Timestamp, WalletError> {
        let card = self.card(coordinator, &receipt.rate_card)?;
        let unknown = Timestamp::from_millis(u64::MAX);
        let parts = match &card {
            Some(card) => {
                let escrowed = card.rates.escrowed(receipt.points);
                let free = receipt
                    .points
                    .as_micro()
                    .saturating_sub(escrowed.as_micro());
                let (since, released) = card.rates.spendable_since(receipt.done_at);
                [(since, Points::from_micro(free)), (released, escrowed)]
            }
            // Without its card nobody can say when.
            None => [(unknown, receipt.points), (unknown, Points::ZERO)],
        };
        for (since, points) in parts {
            if points == Points::ZERO {
                continue;
            }
            let key = lot_key(coordinator, &receipt.holder.owner, since);
            let lot: Option<read::LotRow> = take(&self.lots, &key, "lots")?;
            let expires = card.as_ref().and_then(|card| card.rates.expires(since));
            let mut lot = lot.unwrap_or(read::LotRow {
                points: Points::ZERO,
                expires,
            });
            lot.points = lot.points.checked_add(points).unwrap_or(lot.points);
            lot.expires = lot.expires.min(expires);
            put(&mut self.lots, &key, &lot)?;
        }
        Ok(parts[1].0)
    }

    fn card(&self, coordinator: &NodeId, id: &RateCardId) -> Result<Option<RateCard>, WalletError> {
        let Some(row) = self.cards.get(&pair(coordinator, id.as_bytes()))? else {
            return Ok(None);
        };
        // It was verified before it was written.
        let card = Signed::<RateCard>::from_bytes(row.value().to_vec());
        Ok(read::value_of(card, self.network))
    }

    fn dispute(&mut self, now: Timestamp, dispute: &Dispute) -> Result<(), WalletError> {
        let row = DisputeRow {
            at: now,
            from: dispute.from,
            fault: dispute.fault,
            receipt: dispute.receipt.signed().clone(),
        };
        let number = self.counts.disputes;
        let bytes = codec::to_bytes(&row);
        self.disputes.insert(number, bytes.as_slice())?;
        self.counts.disputes = number.saturating_add(1);
        if let Some(old) = number.checked_sub(DISPUTES_MAX) {
            self.disputes.remove(old)?;
        }
        Ok(())
    }

    pub(super) fn change_account(
        &mut self,
        coordinator: &NodeId,
        change: impl FnOnce(&mut AccountRow),
    ) -> Result<(), WalletError> {
        let row: Option<AccountRow> = take(&self.accounts, coordinator.as_bytes(), "accounts")?;
        let mut row = row.unwrap_or_default();
        change(&mut row);
        put(&mut self.accounts, coordinator.as_bytes(), &row)?;
        Ok(())
    }
}

impl AccountRow {
    fn give_up(&mut self, reasons: impl Iterator<Item = UnpaidReason>) {
        for reason in reasons {
            let count = self.unpaid.entry(reason).or_default();
            *count = count.saturating_add(1);
        }
    }
}
