//! Reading the wallet: sums and lots by coordinator and owner, receipts page by page, and what proves one of them.

use std::collections::BTreeMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use tally_protocol::id::{NetworkId, NodeId, ReceiptId};
use tally_protocol::message::work::UnpaidReason;
use tally_protocol::points::Points;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::{Signed, Statement};
use tally_protocol::terminal::{ReceiptFault, Standing, Totals};
use tally_protocol::time::Timestamp;

use super::dossier::{DossierBatch, DossierGrant};
use super::earned::{Earnings, UtcOffset};
use super::waiting::Unpaid;
use super::{
    ACCOUNTS, BATCHES, BatchRow, CARDS, DISPUTES, Dossier, GRANTS, GrantRow, LOTS, PROOFS,
    RECEIPTS, RECEIVED, ReceiptRow, Wallet, WalletError, decode, grant_key, pair, take,
};

/// The most receipts of one answer.
pub const RECEIPTS_PAGE_MAX: usize = 1_000;

/// How things stand with a coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Work that counted, was paid, and was not paid.
    pub totals: Totals,
    /// Results that are not paid, by reason.
    pub unpaid: BTreeMap<UnpaidReason, u64>,
    /// Receipts that came.
    pub receipts: u64,
    /// Points of all of them.
    pub points: Points,
    /// Units that they pay.
    #[serde(default)]
    pub units: u64,
    /// The last entry of its log that was looked at for receipts.
    pub looked_at: Option<u64>,
}

/// A row of the lots.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct LotRow {
    pub(super) points: Points,
    pub(super) expires: Option<Timestamp>,
}

/// Points that may be spent from one moment on, as receipts promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// From when on; none if the rate card is not known here.
    pub since: Option<Timestamp>,
    /// How many.
    pub points: Points,
    /// Until when; none for ever.
    pub expires: Option<Timestamp>,
}

/// The points of one owner at one coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who owes them.
    pub coordinator: NodeId,
    /// To whom.
    pub owner: NodeId,
    /// By the time from which on they may be spent.
    pub lots: Vec<Lot>,
}

/// A receipt as people and programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// Its id.
    pub id: ReceiptId,
    /// Its number in the wallet.
    pub number: u64,
    /// Who owes it.
    pub coordinator: NodeId,
    /// When it came.
    pub kept: Timestamp,
    /// Whether it was checked against what was done.
    pub standing: Standing,
    /// Whether its proof is here.
    pub proven: bool,
    /// What it says.
    pub receipt: Receipt,
}

/// Receipts in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptPage {
    /// The receipts.
    pub receipts: Vec<ReceiptView>,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
}

/// A receipt that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeRow {
    /// When it came.
    pub at: Timestamp,
    /// Who sent it.
    pub from: NodeId,
    /// What is wrong.
    pub fault: ReceiptFault,
    /// The receipt, as evidence.
    pub receipt: Signed<Receipt>,
}

/// A question about the wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case", deny_unknown_fields)]
pub enum WalletQuery {
    /// How much is there?
    Balance,
    /// Which receipts are there?
    Receipts {
        /// From this number on.
        from: u64,
        /// At most so many.
        limit: usize,
    },
    /// What was earned on which day?
    Earnings {
        /// The time of day.
        now: Timestamp,
        /// How many days, today included: 1 to [`EARNED_DAYS_MAX`](super::EARNED_DAYS_MAX).
        days: u32,
        /// Where the days begin at midnight.
        offset: UtcOffset,
    },
    /// What is not paid, or cannot be spent, and why?
    Unpaid {
        /// The time of day.
        now: Timestamp,
    },
    /// What proves the receipt whose id starts with these hex digits?
    Dossier {
        /// The digits.
        prefix: String,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum WalletAnswer {
    /// To [`WalletQuery::Balance`].
    Balance(Box<Balance>),
    /// To [`WalletQuery::Receipts`].
    Receipts(ReceiptPage),
    /// To [`WalletQuery::Earnings`].
    Earnings(Earnings),
    /// To [`WalletQuery::Unpaid`].
    Unpaid(Box<Unpaid>),
    /// To [`WalletQuery::Dossier`]: none if none or more than one starts so.
    Dossier {
        /// The ids that start so, at most two.
        ids: Vec<ReceiptId>,
        /// The dossier, if it is one.
        dossier: Option<Box<Dossier>>,
    },
}

/// All that is there and all that is owed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// How things stand with each coordinator.
    pub accounts: Vec<(NodeId, AccountRow)>,
    /// Points by coordinator and owner.
    pub holdings: Vec<Holding>,
    /// The latest receipts that are wrong.
    pub disputes: Vec<DisputeRow>,
}

/// Disputes that a balance shows.
const DISPUTES_SHOWN: usize = 20;

impl Wallet {
    /// Answers a question.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn answer(&self, query: &WalletQuery) -> Result<WalletAnswer, WalletError> {
        Ok(match query {
            WalletQuery::Balance => WalletAnswer::Balance(Box::new(Balance {
                accounts: self.accounts()?,
                holdings: self.holdings()?,
                disputes: self.disputes(DISPUTES_SHOWN)?,
            })),
            WalletQuery::Receipts { from, limit } => {
                WalletAnswer::Receipts(self.receipts(*from, *limit)?)
            }
            WalletQuery::Earnings { now, days, offset } => {
                WalletAnswer::Earnings(self.earnings(*now, *days, *offset)?)
            }
            WalletQuery::Unpaid { now } => WalletAnswer::Unpaid(Box::new(self.unpaid(*now)?)),
            WalletQuery::Dossier { prefix } => {
                let ids = self.find(prefix)?;
                let dossier = match ids.as_slice() {
                    [id] => self.dossier(*id)?.map(Box::new),
                    _ => None,
                };
                WalletAnswer::Dossier { ids, dossier }
            }
        })
    }

    /// Returns how things stand with each coordinator.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn accounts(&self) -> Result<Vec<(NodeId, AccountRow)>, WalletError> {
        let transaction = self.begin_read()?;
        let mut accounts = Vec::new();
        for row in transaction.open_table(ACCOUNTS)?.iter()? {
            let (key, row) = row?;
            let node = NodeId::from_bytes(*key.value());
            accounts.push((node, decode(row.value(), "accounts")?));
        }
        Ok(accounts)
    }

    /// Returns all points that receipts promise, by coordinator and owner.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn holdings(&self) -> Result<Vec<Holding>, WalletError> {
        let transaction = self.begin_read()?;
        let mut holdings: Vec<Holding> = Vec::new();
        for row in transaction.open_table(LOTS)?.iter()? {
            let (key, row) = row?;
            let (coordinator, owner, since) = split_lot_key(key.value());
            let LotRow { points, expires } = decode(row.value(), "lots")?;
            let lot = Lot {
                since: (since.as_millis() < u64::MAX).then_some(since),
                points,
                expires,
            };
            match holdings.last_mut() {
                Some(last) if (last.coordinator, last.owner) == (coordinator, owner) => {
                    last.lots.push(lot);
                }
                _ => holdings.push(Holding {
                    coordinator,
                    owner,
                    lots: vec![lot],
                }),
            }
        }
        Ok(holdings)
    }

    /// Returns which of these receipts are here.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn known(&self, ids: &[ReceiptId]) -> Result<Vec<ReceiptId>, WalletError> {
        let receipts = self.begin_read()?.open_table(RECEIPTS)?;
        let mut known = Vec::new();
        for id in ids {
            if receipts.get(id.as_bytes())?.is_some() {
                known.push(*id);
            }
        }
        Ok(known)
    }

    /// Returns up to `limit` receipts from number `from` on, at most [`RECEIPTS_PAGE_MAX`].
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn receipts(&self, from: u64, limit: usize) -> Result<ReceiptPage, WalletError> {
        let transaction = self.begin_read()?;
        let (received, receipts) = (
            transaction.open_table(RECEIVED)?,
            transaction.open_table(RECEIPTS)?,
        );
        let proofs = transaction.open_table(PROOFS)?;
        let mut page = ReceiptPage {
            receipts: Vec::new(),
            next: None,
        };
        for row in received.range(from..)? {
            let (number, id) = row?;
            if page.receipts.len() >= limit.min(RECEIPTS_PAGE_MAX) {
                page.next = Some(number.value());
                break;
            }
            let row: Option<ReceiptRow> = take(&receipts, id.value(), "receipts")?;
            let row = row.ok_or(WalletError::Damaged { table: "received" })?;
            let proven = proofs.get(id.value())?.is_some();
            let id = ReceiptId::from_bytes(*id.value());
            let view = row.view(id, proven, &self.identity.network)?;
            page.receipts.push(view);
        }
        Ok(page)
    }

    /// Returns the ids of receipts that start with these hex digits, at most two.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn find(&self, prefix: &str) -> Result<Vec<ReceiptId>, WalletError> {
        let transaction = self.begin_read()?;
        let receipts = transaction.open_table(RECEIPTS)?;
        let padded = format!("{prefix:0<64}");
        let first: ReceiptId = match padded.parse() {
            Ok(first) => first,
            Err(_) => return Ok(Vec::new()),
        };
        let mut found = Vec::new();
        for row in receipts.range::<&[u8; 32]>(first.as_bytes()..)? {
            let id = ReceiptId::from_bytes(*row?.0.value());
            if found.len() == 2 || !id.to_string().starts_with(prefix) {
                break;
            }
            found.push(id);
        }
        Ok(found)
    }

    /// Returns a receipt with everything that proves it and is still here.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn dossier(&self, id: ReceiptId) -> Result<Option<Dossier>, WalletError> {
        let transaction = self.begin_read()?;
        let row: Option<ReceiptRow> = take(
            &transaction.open_table(RECEIPTS)?,
            id.as_bytes(),
            "receipts",
        )?;
        let Some(row) = row else {
            return Ok(None);
        };
        let receipt = row.view(id, false, &self.identity.network)?.receipt;
        let coordinator = row.coordinator;
        let cards = transaction.open_table(CARDS)?;
        let card = cards.get(&pair(&coordinator, receipt.rate_card.as_bytes()))?;
        let (batches, grants) = (
            transaction.open_table(BATCHES)?,
            transaction.open_table(GRANTS)?,
        );
        let mut dossier = Dossier {
            network: self.identity.network.clone(),
            coordinator,
            receipt: row.receipt,
            card: card.map(|card| Signed::from_bytes(card.value().to_vec())),
            batches: Vec::new(),
            grants: Vec::new(),
            proof: None,
        };
        for share in &receipt.shares {
            let key = pair(&coordinator, share.batch.as_bytes());
            let Some(batch) = take::<_, BatchRow>(&batches, &key, "batches")? else {
                continue;
            };
            dossier.batches.push(DossierBatch {
                batch: batch.batch,
                results: batch.results,
            });
        }
        for grant in dossier.named_grants(&receipt) {
            let key = grant_key(&coordinator, &grant);
            if let Some(row) = take::<_, GrantRow>(&grants, &key, "grants")? {
                dossier.grants.push(DossierGrant {
                    grant: row.grant,
                    read: Some(row.read),
                });
            }
        }
        let proofs = transaction.open_table(PROOFS)?;
        dossier.proof = take(&proofs, id.as_bytes(), "proofs")?;
        Ok(Some(dossier))
    }

    /// Returns the receipts that are wrong, the latest first, at most `limit`.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn disputes(&self, limit: usize) -> Result<Vec<DisputeRow>, WalletError> {
        let transaction = self.begin_read()?;
        let table = transaction.open_table(DISPUTES)?;
        let latest = table.iter()?.rev().take(limit);
        latest
            .map(|row| decode(row?.1.value(), "disputes"))
            .collect()
    }
}

impl ReceiptRow {
    fn view(
        &self,
        id: ReceiptId,
        proven: bool,
        network: &NetworkId,
    ) -> Result<ReceiptView, WalletError> {
        let damaged = WalletError::Damaged { table: "receipts" };
        Ok(ReceiptView {
            id,
            number: self.number,
            coordinator: self.coordinator,
            kept: self.kept,
            standing: self.standing,
            proven,
            receipt: value_of(self.receipt.clone(), network).ok_or(damaged)?,
        })
    }
}

/// Returns what a statement says that was verified before it was written here.
pub(super) fn value_of<T: Statement + Clone>(signed: Signed<T>, network: &NetworkId) -> Option<T> {
    let verified = signed.verify_with(network, |_| true).ok()?;
    Some(verified.value().clone())
}

fn split_lot_key(key: &[u8; 72]) -> (NodeId, NodeId, Timestamp) {
    let (mut coordinator, mut owner, mut since) = ([0; 32], [0; 32], [0; 8]);
    coordinator.copy_from_slice(&key[..32]);
    owner.copy_from_slice(&key[32..64]);
    since.copy_from_slice(&key[64..]);
    (
        NodeId::from_bytes(coordinator),
        NodeId::from_bytes(owner),
        Timestamp::from_millis(u64::from_be_bytes(since)),
    )
}
