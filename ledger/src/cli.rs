//! The questions of `tally ledger`, the answers, and how they look.
//!
//! A [`LedgerQuery`] is put to the tables by [`answer`], be it by the command line with a [`Reader`] of a file, or by
//! a running node that got it over its admin interface. The [`LedgerAnswer`] is the same either way: as JSON it has
//! full ids, and [`render`] makes text of at most [`COLUMNS`] columns of it for people.
//!
//! An answer is bounded: at most [`LIMIT_MAX`] entries, found among at most [`SCAN_MAX`]; [`ask_for_all`] goes on
//! where an answer stopped. What needs the whole log, [`statement`](statement()), [`reconcile`](reconcile()) and the
//! [exports](crate::export), reads it page by page as [`Pages`], and keeps of it only what it tells.

mod amount;
mod balance;
mod bytes;
mod checks;
mod name;
mod pages;
mod prove;
mod receipt;
mod reconcile;
mod show;
mod statement;
mod table;
mod text;
mod view;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tally_protocol::checkpoint::log_proof::LogProof;
use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::id::{Hash, NetworkId, NodeId, PostingId, ReceiptId};
use tally_protocol::merkle::TreeHead;
use tally_protocol::time::Timestamp;

use crate::audit::{self, Report};
use crate::rebuild::{self, RebuildError, Rebuilt};
use crate::store::{ReadError, Reader, StoredEntry};

pub use balance::{AccountLine, BalanceOf, BalancePage, BalanceQuery, CommoditySum, LINES_MAX};
pub(crate) use checks::render_audit;
pub use name::{EntryName, Moment, NodeName, ParseNameError, TaskPrefix};
pub use pages::{Pages, UnexpectedAnswer};
pub(crate) use prove::origin_of;
pub use prove::{EntryProof, ProveError, Proved, check_proof};
pub use receipt::{Halves, LotState, Paid, ReceiptDetail};
pub use reconcile::{
    BankPayment, Different, PAYMENTS_MAX, PaymentsError, Reconciliation, RecordedPayment,
    read_payments, reconcile,
};
pub use statement::{
    AccountStatement, EscrowLot, Party, Period, STATEMENT_LINES_MAX, Section, Stand,
    StatementError, StatementLine, statement,
};
pub use table::render;
pub use text::COLUMNS;
pub(crate) use text::{Text, grouped};
pub(crate) use view::Parties;
pub use view::{
    AgreementSummary, Certified, Checking, EntryDetail, EntryRow, EventDetail, EventRow,
    ReceiptSummary, RedeemSummary, RedemptionDetail, RedemptionSummary, RegistrationDetail,
    RegistrationSummary, Says, SettlementSummary, Statement, TaskSummary,
};

/// The most entries of one answer.
pub const LIMIT_MAX: u32 = 1_000;
/// The most entries that are read for one answer, so that a question about a rare task keeps nobody waiting.
pub const SCAN_MAX: u64 = 100_000;
/// After how many bytes of entries a page of them ends: enough that asking for it costs little beside reading it.
const PAGE_BYTES: usize = 4 << 20;

/// A question about the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case", deny_unknown_fields)]
pub enum LedgerQuery {
    /// Which entries are there?
    Entries(EntriesQuery),
    /// What does this entry say?
    Show {
        /// Its name.
        entry: EntryName,
    },
    /// What became of this receipt?
    Receipt {
        /// Its id.
        receipt: ReceiptId,
    },
    /// What stands on the accounts?
    Balance(BalanceQuery),
    /// How can somebody be shown that this entry stands in the log?
    Prove {
        /// Its name.
        entry: EntryName,
    },
    /// How long is the log, and what does the coordinator sign for it?
    Head {
        /// Only the entries before this time.
        before: Option<Timestamp>,
    },
    /// What are the bytes of entries?
    Bytes {
        /// The first sequence.
        from: u64,
        /// The sequence after the last.
        to: u64,
    },
    /// Is the log whole?
    Verify,
    /// Is the log whole, and do the books follow from it?
    Audit,
    /// Are the books what the log gives?
    Rebuild,
}

/// Which entries to list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesQuery {
    /// The first sequence.
    pub from: u64,
    /// The sequence after the last; `None` for the end of the log.
    pub to: Option<u64>,
    /// Only entries of the task whose id starts with these hex digits.
    pub task: Option<TaskPrefix>,
    /// Only entries about this owner or the owner's points.
    pub owner: Option<NodeName>,
    /// Only entries about this device, its results or its points.
    pub device: Option<NodeName>,
    /// The most entries wanted.
    pub limit: u32,
    /// From which end of the range.
    pub order: Order,
}

/// From which end entries are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As in the log.
    OldestFirst,
    /// The latest first.
    NewestFirst,
}

/// An answer about the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LedgerAnswer {
    /// To [`LedgerQuery::Entries`].
    Entries(EntriesPage),
    /// To [`LedgerQuery::Show`].
    Entry(Box<EntryDetail>),
    /// To [`LedgerQuery::Receipt`].
    Receipt(Box<ReceiptDetail>),
    /// To [`LedgerQuery::Balance`].
    Balance(BalancePage),
    /// To [`LedgerQuery::Prove`].
    Proof(EntryProof),
    /// To [`LedgerQuery::Head`].
    Head(LogHead),
    /// To [`LedgerQuery::Bytes`].
    Bytes(BytesPage),
    /// To [`LedgerQuery::Verify`].
    Verify(Report),
    /// To [`LedgerQuery::Audit`].
    Audit(Report),
    /// To [`LedgerQuery::Rebuild`].
    Rebuild(Rebuilt),
}

/// Entries of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesPage {
    /// Entries in the log.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// What was found, in the order that was asked for.
    pub rows: Vec<EntryRow>,
    /// Where to go on, as `from` or, newest first, as `to`; `None` at the end of the range.
    pub next: Option<u64>,
}

/// What stands for the log, or for its first entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The network.
    pub network: NetworkId,
    /// Whose log it is.
    pub coordinator: NodeId,
    /// How many entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// The signed checkpoint; none where the coordinator's key is not at hand.
    pub checkpoint: Option<SignedCheckpoint>,
}

/// Some entries as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BytesPage {
    /// The first sequence.
    pub from: u64,
    /// The entries, dense from there: at least one of those that were asked for, if there are any.
    pub entries: Vec<EntryBytes>,
}

/// The bytes of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryBytes(#[serde(with = "bytes")] pub Vec<u8>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The log is shorter.
    #[error("show entry {sequence}: the log has {size} entries")]
    NoSuchEntry {
        /// Its place.
        sequence: u64,
        /// Entries in the log.
        size: u64,
    },
    /// No entry holds the receipt.
    #[error("find receipt {receipt}: no entry holds it")]
    NoSuchReceipt {
        /// Its id.
        receipt: ReceiptId,
    },
    /// No entry made the posting.
    #[error("find posting {posting}: no entry made it")]
    NoSuchPosting {
        /// Its id.
        posting: PostingId,
    },
    /// A checkpoint is to be signed without a key.
    #[error("sign a checkpoint: the key of coordinator {coordinator} is not at hand")]
    NoKey {
        /// Whose key it takes.
        coordinator: NodeId,
    },
    /// The tables could not be read.
    #[error("answer a question about the ledger")]
    Read(#[from] ReadError),
    /// The books could not be computed again.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
}

impl AnswerError {
    /// Returns a word for programs; it starts with `unknown` if what was named is not there.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchEntry { .. } => "unknown_entry",
            Self::NoSuchReceipt { .. } => "unknown_receipt",
            Self::NoSuchPosting { .. } => "unknown_posting",
            Self::NoKey { .. } => "no_key",
            Self::Read(_) | Self::Rebuild(_) => "ledger",
        }
    }

    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSuchEntry { .. } => "`tally ledger entries` lists what there is",
            Self::NoSuchReceipt { .. } | Self::NoSuchPosting { .. } => {
                "check the id; another coordinator may have it"
            }
            Self::NoKey { .. } => {
                "ask the running node, or name the coordinator's key file with --key-file"
            }
            Self::Read(error) => error.hint(),
            Self::Rebuild(error) => error.hint(),
        }
    }
}

/// Answers a question from the tables. `key` is the coordinator's, if it is at hand; it signs checkpoints.
///
/// # Errors
/// [`AnswerError`].
pub fn answer(
    reader: &Reader,
    key: Option<&SigningKey>,
    query: &LedgerQuery,
) -> Result<LedgerAnswer, AnswerError> {
    Ok(match query {
        LedgerQuery::Entries(query) => LedgerAnswer::Entries(list(reader, query)?),
        LedgerQuery::Show { entry } => LedgerAnswer::Entry(Box::new(show(reader, *entry)?)),
        LedgerQuery::Receipt { receipt } => {
            LedgerAnswer::Receipt(Box::new(receipt::detail(reader, *receipt)?))
        }
        LedgerQuery::Balance(query) => LedgerAnswer::Balance(balance::page(reader, query)?),
        LedgerQuery::Prove { entry } => LedgerAnswer::Proof(prove(reader, key, *entry)?),
        LedgerQuery::Head { before } => LedgerAnswer::Head(head(reader, key, *before)?),
        LedgerQuery::Bytes { from, to } => LedgerAnswer::Bytes(entry_bytes(reader, *from, *to)?),
        LedgerQuery::Verify => LedgerAnswer::Verify(audit::verify(reader, &mut |_| ())?),
        LedgerQuery::Audit => LedgerAnswer::Audit(audit::audit(reader, &mut |_| ())?.report),
        LedgerQuery::Rebuild => LedgerAnswer::Rebuild(rebuild::check(reader, &mut |_| ())?),
    })
}

/// Puts a question, and for entries goes on page by page until there are as many as its limit says, or no more.
///
/// # Errors
/// The first error of `ask`.
pub fn ask_for_all<E>(
    query: LedgerQuery,
    mut ask: impl FnMut(&LedgerQuery) -> Result<LedgerAnswer, E>,
) -> Result<LedgerAnswer, E> {
    let mut answer = ask(&query)?;
    let LedgerQuery::Entries(mut rest) = query else {
        return Ok(answer);
    };
    while let LedgerAnswer::Entries(all) = &mut answer
        && let Some(next) = all.next
    {
        let found = u32::try_from(all.rows.len()).unwrap_or(u32::MAX);
        let wanted = rest.limit.saturating_sub(found);
        if wanted == 0 {
            break;
        }
        // What is appended meanwhile is not part of the answer.
        let to = *rest.to.get_or_insert(all.size);
        let (from, to) = match rest.order {
            Order::OldestFirst => (next, to),
            Order::NewestFirst => (rest.from, next),
        };
        let page = LedgerQuery::Entries(EntriesQuery {
            from,
            to: Some(to),
            limit: wanted,
            ..rest.clone()
        });
        let LedgerAnswer::Entries(page) = ask(&page)? else {
            break;
        };
        all.rows.extend(page.rows);
        all.next = page.next;
    }
    Ok(answer)
}

fn list(reader: &Reader, query: &EntriesQuery) -> Result<EntriesPage, ReadError> {
    let log = reader.log()?;
    let head = log.head()?;
    let to = query.to.unwrap_or(u64::MAX).min(head.size());
    let from = query.from.min(to);
    // What is read for this answer; the rest of the range is for the next.
    let (scanned, rest) = match query.order {
        Order::OldestFirst => {
            let end = from.saturating_add(SCAN_MAX).min(to);
            (from..end, (end < to).then_some(end))
        }
        Order::NewestFirst => {
            let start = to.saturating_sub(SCAN_MAX).max(from);
            (start..to, (start > from).then_some(start))
        }
    };
    let mut page = EntriesPage {
        size: head.size(),
        root: head.root(),
        rows: Vec::new(),
        next: rest,
    };
    let entries = log.entries(scanned)?;
    let entries: Box<dyn Iterator<Item = _>> = match query.order {
        Order::OldestFirst => Box::new(entries),
        Order::NewestFirst => Box::new(entries.rev()),
    };
    let network = &reader.identity().network;
    for entry in entries {
        let entry = entry?;
        if page.rows.len() as u64 >= u64::from(query.limit.min(LIMIT_MAX)) {
            page.next = Some(match query.order {
                Order::OldestFirst => entry.sequence,
                Order::NewestFirst => entry.sequence.saturating_add(1),
            });
            break;
        }
        if query.takes(&entry, network) {
            page.rows.push(EntryRow::of(&entry, network));
        }
    }
    Ok(page)
}

impl EntriesQuery {
    /// Returns whether an entry is asked for.
    fn takes(&self, stored: &StoredEntry, network: &NetworkId) -> bool {
        if self.task.is_none() && self.owner.is_none() && self.device.is_none() {
            return true;
        }
        let task = self.task.as_ref();
        let nodes = [&self.owner, &self.device];
        let may_be = task.is_none_or(|task| task.may_be_in(&stored.bytes))
            && nodes
                .into_iter()
                .flatten()
                .all(|node| node.may_be_in(&stored.bytes));
        if !may_be {
            return false;
        }
        let Ok(entry) = stored.decode() else {
            return false;
        };
        let parties = Parties::of(&entry, network);
        let named = |name: &Option<NodeName>, nodes: &[NodeId]| {
            name.as_ref()
                .is_none_or(|name| nodes.iter().any(|node| name.is_of(*node)))
        };
        task.is_none_or(|wanted| parties.task.is_some_and(|task| wanted.is_of(task)))
            && named(&self.owner, &parties.owners)
            && named(&self.device, &parties.devices)
    }
}

fn show(reader: &Reader, entry: EntryName) -> Result<EntryDetail, AnswerError> {
    let log = reader.log()?;
    let sequence = sequence_of(reader, entry)?;
    let Some(entry) = log.entry(sequence)? else {
        let size = log.head()?.size();
        return Err(AnswerError::NoSuchEntry { sequence, size });
    };
    let leaf = log.leaf(sequence)?.ok_or(ReadError::Damaged {
        what: "a leaf of the tree is missing",
    })?;
    let network = &reader.identity().network;
    let detail = EntryDetail::of(&entry, leaf, network, Checking::Signatures);
    Ok(detail.map_err(ReadError::from)?)
}

/// Returns the place of a named entry; there may be no entry at a place that was named as such.
fn sequence_of(reader: &Reader, entry: EntryName) -> Result<u64, AnswerError> {
    match entry {
        EntryName::Sequence(sequence) => Ok(sequence),
        EntryName::Receipt(receipt) => {
            let found = reader.receipt_entry(receipt)?;
            found.ok_or(AnswerError::NoSuchReceipt { receipt })
        }
        EntryName::Posting(posting) => {
            let found = reader.posting_entry(posting)?;
            found.ok_or(AnswerError::NoSuchPosting { posting })
        }
    }
}

fn prove(
    reader: &Reader,
    key: Option<&SigningKey>,
    entry: EntryName,
) -> Result<EntryProof, AnswerError> {
    let sequence = sequence_of(reader, entry)?;
    let tree = reader.head()?.head();
    let checkpoint = sign(reader, key, tree).ok_or(AnswerError::NoKey {
        coordinator: reader.identity().node,
    })?;
    let proved = reader
        .inclusion(sequence, tree.size)?
        .ok_or(AnswerError::NoSuchEntry {
            sequence,
            size: tree.size,
        })?;
    let proof = LogProof {
        extra: None,
        index: sequence,
        path: proved.path,
        checkpoint,
    };
    Ok(EntryProof {
        sequence,
        entry: proved.entry.bytes,
        proof: proof.to_string(),
    })
}

/// Signs the head of the log, if the key at hand is that of the log.
fn sign(reader: &Reader, key: Option<&SigningKey>, tree: TreeHead) -> Option<SignedCheckpoint> {
    let identity = reader.identity();
    let key = key.filter(|key| key.verifying_key().to_bytes() == *identity.node.as_bytes())?;
    let checkpoint = VerifiedCheckpoint::sign(tree, &identity.network, key);
    Some(checkpoint.signed().clone())
}

fn head(
    reader: &Reader,
    key: Option<&SigningKey>,
    before: Option<Timestamp>,
) -> Result<LogHead, AnswerError> {
    let log = reader.log()?;
    let mut size = log.head()?.size();
    if let Some(before) = before {
        // Times never go back: the entries before a moment are the first ones.
        let mut first = 0_u64;
        while first < size {
            let middle = first.midpoint(size);
            let entry = log.entry(middle)?.ok_or(ReadError::Damaged {
                what: "an entry of the log is missing",
            })?;
            if entry.decode().map_err(ReadError::from)?.at < before {
                first = middle.saturating_add(1);
            } else {
                size = middle;
            }
        }
    }
    let tree = log.head_at(size)?.ok_or(ReadError::Damaged {
        what: "a node of the tree is missing",
    })?;
    let identity = reader.identity();
    Ok(LogHead {
        network: identity.network.clone(),
        coordinator: identity.node,
        size: tree.size,
        root: tree.root,
        checkpoint: sign(reader, key, tree),
    })
}

fn entry_bytes(reader: &Reader, from: u64, to: u64) -> Result<BytesPage, ReadError> {
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    for entry in reader.entries(from..to)? {
        let entry = entry?;
        if entries.is_empty() && entry.sequence != from {
            break;
        }
        bytes = bytes.saturating_add(entry.bytes.len());
        entries.push(EntryBytes(entry.bytes));
        if bytes >= PAGE_BYTES {
            break;
        }
    }
    Ok(BytesPage { from, entries })
}
