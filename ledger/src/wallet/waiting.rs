//! What is not paid, or cannot be spent yet, and why: the answer to an owner who looks for points.
//!
//! Invariant: a row of [`WAITING`] is a batch with results for which neither a receipt nor a reason came; it goes with the
//! last of them, or with the batch.

use std::collections::BTreeMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use tally_protocol::id::{Hash, NodeId};
use tally_protocol::message::work::UnpaidReason;
use tally_protocol::points::Points;
use tally_protocol::terminal::UnpaidLeaf;
use tally_protocol::time::Timestamp;

use super::read::DisputeRow;
use super::tables::Tables;
use super::{DISPUTES, StateRow, WAITING, Wallet, WalletError, decode, pair, put, take};

/// Rows that are looked at for the oldest result that waits: no question takes long.
const LOOKED_AT_MAX: usize = 16_384;
/// The most dates of one answer; what comes later is one sum.
pub const DATES_MAX: usize = 100;
/// How long before they are lost points are said to expire soon: as long as before a certificate ends.
pub const SOON: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// A row of [`WAITING`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WaitingRow {
    /// When the batch was written.
    pub(super) at: Timestamp,
    /// Its results that wait.
    pub(super) results: u64,
}

/// All that was done and brought no points that can be spent, with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpaid {
    /// By coordinator; those where nothing is open are left out.
    pub coordinators: Vec<UnpaidBy>,
    /// Points that can be spent, as far as this computer knows: coordinators know what was spent.
    pub spendable: Points,
    /// Points in escrow by the moment of their release, at most [`DATES_MAX`].
    pub escrow: Vec<PointsAt>,
    /// Points that are released even later.
    pub escrow_later: Points,
    /// Points of which nobody here can say when they may be spent, because their rate card is not known.
    pub undated: Points,
    /// Points that can be spent and soon are lost, by the moment of that, at most [`DATES_MAX`].
    pub expiring: Vec<PointsAt>,
}

/// What one coordinator has not paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpaidBy {
    /// The coordinator.
    pub coordinator: NodeId,
    /// Results that it counted and for which neither a receipt nor a reason came.
    pub waiting: u64,
    /// Since when the oldest of them has waited, at least; none if this is not known here any more.
    pub waiting_since: Option<Timestamp>,
    /// Results that it declared unpaid, by reason.
    pub declared: BTreeMap<UnpaidReason, u64>,
    /// Receipts of it that are wrong, and so were not taken, of those that are kept as evidence.
    pub disputed: u64,
}

/// Points of which something becomes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsAt {
    /// When.
    pub at: Timestamp,
    /// How many.
    pub points: Points,
}

impl Unpaid {
    /// Returns all points in escrow.
    #[must_use]
    pub fn escrowed(&self) -> Points {
        let dated = self.escrow.iter().map(|part| part.points);
        sum(dated.chain([self.escrow_later, self.undated]))
    }

    /// Returns how many results wait for a receipt.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let waiting = self.coordinators.iter().map(|by| by.waiting);
        waiting.fold(0, u64::saturating_add)
    }
}

impl Wallet {
    /// Returns what is not paid, or cannot be spent at `now`, and why.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn unpaid(&self, now: Timestamp) -> Result<Unpaid, WalletError> {
        let mut unpaid = self.points_by_date(now)?;
        let mut disputed: BTreeMap<NodeId, u64> = BTreeMap::new();
        for row in self.begin_read()?.open_table(DISPUTES)?.iter()? {
            let row: DisputeRow = decode(row?.1.value(), "disputes")?;
            let count = disputed.entry(row.from).or_default();
            *count = count.saturating_add(1);
        }
        let mut accounts: BTreeMap<_, _> = self.accounts()?.into_iter().collect();
        for coordinator in disputed.keys() {
            accounts.entry(*coordinator).or_default();
        }
        for (coordinator, account) in accounts {
            let by = UnpaidBy {
                coordinator,
                waiting: account.totals.owed().results,
                waiting_since: self.waiting_since(&coordinator, account.totals.owed().results)?,
                declared: account.unpaid,
                disputed: disputed.remove(&coordinator).unwrap_or(0),
            };
            if by.waiting > 0 || by.disputed > 0 || !by.declared.is_empty() {
                unpaid.coordinators.push(by);
            }
        }
        Ok(unpaid)
    }

    /// Returns since when the oldest of so many results waits: those that were reported last do, unless they were paid,
    /// declared unpaid, or never counted.
    fn waiting_since(
        &self,
        coordinator: &NodeId,
        results: u64,
    ) -> Result<Option<Timestamp>, WalletError> {
        let table = self.begin_read()?.open_table(WAITING)?;
        let (first, last) = (key(coordinator, 0), key(coordinator, u64::MAX));
        let rows = table.range::<&[u8; 40]>(&first..=&last)?.rev();
        let (mut left, mut since) = (results, None);
        for row in rows.take(LOOKED_AT_MAX) {
            if left == 0 {
                break;
            }
            let row: WaitingRow = decode(row?.1.value(), "waiting")?;
            left = left.saturating_sub(row.results);
            since = Some(row.at);
        }
        Ok(since)
    }

    fn points_by_date(&self, now: Timestamp) -> Result<Unpaid, WalletError> {
        let mut unpaid = Unpaid::default();
        let (mut released, mut lost) = (BTreeMap::new(), BTreeMap::new());
        for lot in self.holdings()?.into_iter().flat_map(|held| held.lots) {
            if lot.expires.is_some_and(|expires| expires <= now) {
                continue;
            }
            let place = match lot.since {
                None => &mut unpaid.undated,
                Some(since) if since > now => released.entry(since).or_default(),
                Some(_) => {
                    if let Some(expires) = lot.expires
                        && expires.since(now) <= SOON
                    {
                        let lost = lost.entry(expires).or_default();
                        *lost = sum([*lost, lot.points]);
                    }
                    &mut unpaid.spendable
                }
            };
            *place = sum([*place, lot.points]);
        }
        let dated = |(at, points)| PointsAt { at, points };
        let mut released = released.into_iter();
        unpaid.escrow = released.by_ref().take(DATES_MAX).map(dated).collect();
        unpaid.escrow_later = sum(released.map(|(_, points)| points));
        unpaid.expiring = lost.into_iter().take(DATES_MAX).map(dated).collect();
        Ok(unpaid)
    }
}

impl Tables<'_> {
    /// All results of a batch wait from now on.
    pub(super) fn wait(
        &mut self,
        coordinator: &NodeId,
        state: &StateRow,
        results: u64,
    ) -> Result<(), WalletError> {
        let row = WaitingRow {
            at: state.at,
            results,
        };
        if results > 0 {
            put(&mut self.waiting, &key(coordinator, state.number), &row)?;
        }
        Ok(())
    }

    /// So many results of a batch wait no more.
    pub(super) fn settle(
        &mut self,
        coordinator: &NodeId,
        number: u64,
        results: u64,
    ) -> Result<(), WalletError> {
        let key = key(coordinator, number);
        let Some(mut row) = take::<_, WaitingRow>(&self.waiting, &key, "waiting")? else {
            return Ok(());
        };
        row.results = row.results.saturating_sub(results);
        if row.results == 0 {
            self.waiting.remove(&key)?;
        } else {
            put(&mut self.waiting, &key, &row)?;
        }
        Ok(())
    }

    /// Results that are declared unpaid wait no more.
    pub(super) fn settle_unpaid(
        &mut self,
        coordinator: &NodeId,
        leaves: &[UnpaidLeaf],
    ) -> Result<(), WalletError> {
        let mut counts: BTreeMap<Hash, u64> = BTreeMap::new();
        for leaf in leaves {
            let count = counts.entry(leaf.batch).or_default();
            *count = count.saturating_add(1);
        }
        for (root, count) in counts {
            let state = pair(coordinator, root.as_bytes());
            if let Some(state) = take::<_, StateRow>(&self.states, &state, "states")? {
                self.settle(coordinator, state.number, count)?;
            }
        }
        Ok(())
    }
}

fn sum(points: impl IntoIterator<Item = Points>) -> Points {
    let micro = points.into_iter().map(Points::as_micro);
    Points::from_micro(micro.fold(0, u64::saturating_add))
}

fn key(coordinator: &NodeId, number: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(coordinator.as_bytes());
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}
