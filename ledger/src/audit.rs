//! Proves that a log is whole, says nothing twice, and that the books follow from it.
//!
//! An audit reads every entry once, in order, and stops at the first that breaks a rule. [`verify`] looks at the log:
//! - entries are dense from 0, each decodes and says its own place, and no time is before the one before it;
//! - each complete node of the tree is stored as it follows from the entries, and so is the head;
//! - a task is accepted once, with the customer's own signature over it, before it is validated or ended; it ends at
//!   most once, is settled at most once and after that, and each of its units is validated at most once.
//!
//! [`audit`] looks at the books too, [`audit_entries`] does without the tables:
//! - the posting of each entry is the one that the rules give ([`tally_protocol::posting`]), and it is possible;
//! - rate cards are signed by the coordinator and numbered, and a task is accepted under the one in force;
//! - a receipt is signed by the coordinator, its batches by the device; every unit was validated with this device among
//!   those that agreed and is paid to an owner once; fuel, bytes, pixels and points are the sums over its units; of one
//!   holder and task the receipts are dense from 0; no leaf of a batch is cited twice; a certificate that held while the
//!   work was done stands before a receipt of another's device;
//! - an agreement is signed by both sides, its number rises and its points are worth no more than stands behind them; a
//!   registration and its revocation are signed by an app server with an agreement, the device and its owner;
//! - points are set aside as their owner, or a device that may, has signed, the oldest first; what is taken is signed by
//!   the coordinator and worth what the agreement says that was in force, within its cap and its credit; what is given
//!   back, the app server has signed;
//! - a settlement is signed by both sides, its number rises; it counts redemptions that were taken, and reversals of what
//!   was counted, each once, and devices once a period, no more than were registered; it is paid once;
//! - in the log of an app server, a charge is what the user owes and what coordinators owe for points that they have
//!   signed to have taken for this order and user; an order is charged and paid once, and undone once, for what was
//!   charged and paid; points are given back only for orders that were undone; a settlement counts all that was charged
//!   and given back before it was stated and no settlement has, but for what its coordinator disputes;
//! - then, of the whole, each [`Rule`]: what it compares stands in the report.
//!
//! It holds one entry at a time, and of the past: the books; about 100 bytes a task and 160 bytes for each 1,024 units of
//! a task of which one was validated; about 200 bytes for each unit that was validated and is not paid to all who agreed,
//! until its task is settled; 16 bytes for each order of the operator, release and expiry; about 150 bytes for each batch
//! that a receipt cites, and for each certificate; about 200 bytes for each registration and each redemption, and 100 for
//! each lot that was drawn for it; about 300 bytes for each order of an app server and each redemption for one.
//!
//! Whoever can write the file can also write another log that is whole. That shows only against a root that somebody
//! else remembers: [`Report::root`] is what to compare.

mod accounts;
mod finding;
mod history;
mod invariants;
mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tally_protocol::books::Books;
use tally_protocol::entry::{Entry, Event};
use tally_protocol::id::{Hash, ReceiptId};
use tally_protocol::merkle::{Frontier, leaf_hash};
use tally_protocol::time::Timestamp;

use crate::rebuild::Differences;
use crate::store::{
    Identity, Log, Name, NameIndex, Nodes, Projection, ReadError, Reader, StoredEntry,
};
use crate::tree::{Tree, node_count};
use accounts::Issued;
use history::History;

pub use finding::{Finding, Problem, ReceiptProblem};
pub use invariants::{Figure, Invariant, Rule};

/// After how many entries progress is told.
const PROGRESS_ENTRIES: u64 = 1_024;

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Entries read.
    pub done: u64,
    /// Entries of the log.
    pub total: u64,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries that are as they should be, from the first on.
    pub entries: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Tasks that were accepted.
    pub tasks: u64,
    /// Units that were validated.
    pub units: u64,
    /// Receipts that were issued; 0 if only the log was looked at.
    pub receipts: u64,
    /// Time of the last good entry.
    pub last_at: Option<Timestamp>,
    /// The first thing that is wrong.
    pub finding: Option<Finding>,
    /// What must hold of the books as a whole, after these entries; none if only the log was looked at.
    pub invariants: Vec<Invariant>,
}

impl Report {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.finding.is_none() && self.invariants.iter().all(|invariant| invariant.holds)
    }
}

/// What an audit of the books gives.
#[derive(Debug)]
pub struct Audited {
    /// What it found.
    pub report: Report,
    /// The books after the good entries, as computed from them.
    pub books: Books,
}

/// Checks the whole log of `reader`, as it is now.
///
/// # Errors
/// [`ReadError`] if the file cannot be read; what is wrong with its content stands in the report.
pub fn verify(reader: &Reader, progress: &mut dyn FnMut(Progress)) -> Result<Report, ReadError> {
    let log = reader.log()?;
    let mut verifier = Verifier::new(History::of_log(reader.identity()));
    let finding = match read_head(&log)? {
        Ok(head) => verifier.read(&log, &head, None, progress)?,
        Err(finding) => Some(finding),
    };
    Ok(verifier.report(finding))
}

/// Audits the whole log of `reader` and its books, as they are now.
///
/// # Errors
/// [`ReadError`] if the file cannot be read; what is wrong with its content stands in the report.
pub fn audit(reader: &Reader, progress: &mut dyn FnMut(Progress)) -> Result<Audited, ReadError> {
    let (log, books) = reader.log_and_books()?;
    let mut verifier = Verifier::new(History::with_accounts(reader.identity()));
    let mut tables = Tables::of(&books)?;
    let finding = match read_head(&log)? {
        Ok(head) => verifier.read(&log, &head, Some(&mut tables), progress)?,
        Err(finding) => Some(finding),
    };
    let mut audited = verifier.audited(finding);
    // Where the log stops making sense there is nothing to compare the tables with.
    if audited.report.finding.is_none() {
        let differences = tables.compare(&audited.books)?;
        let invariant = invariants::projection(&differences);
        audited.report.invariants.push(invariant);
    }
    Ok(audited)
}

/// Audits `total` entries of the log of `identity` as `open` gives them, from the first on. It is opened twice: the
/// first time to see which receipts were taken back later.
///
/// # Errors
/// The first error of `open` and of what it gives.
pub fn audit_entries<I, E>(
    identity: &Identity,
    total: u64,
    mut open: impl FnMut() -> Result<I, E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Audited, E>
where
    I: Iterator<Item = Result<Vec<u8>, E>>,
{
    let mut taken_back = TakenBack::default();
    for bytes in open()? {
        taken_back.expect(&bytes?);
    }
    let mut verifier = Verifier::new(History::with_accounts(identity));
    for (sequence, bytes) in (0..).zip(open()?) {
        tell(sequence, total, progress);
        let bytes = bytes?;
        let stored = StoredEntry { sequence, bytes };
        let checked = verifier.check_content(&stored, &mut |receipt| taken_back.find(receipt));
        match checked {
            Ok(entry) => {
                verifier
                    .tree
                    .push(leaf_hash(&stored.bytes), &mut Vec::new());
                taken_back.keep(entry);
            }
            Err(problem) => {
                let sequence = Some(sequence);
                return Ok(verifier.audited(Some(Finding { sequence, problem })));
            }
        }
    }
    let done = verifier.tree.size();
    progress(Progress { done, total: done });
    let finding = (done < total).then_some(Finding {
        sequence: Some(done),
        problem: Problem::Missing,
    });
    Ok(verifier.audited(finding))
}

/// Returns the head of a log, or what to say if there is none.
fn read_head(log: &Log) -> Result<Result<Frontier, Finding>, ReadError> {
    match log.head() {
        Ok(head) => Ok(Ok(head)),
        Err(ReadError::Damaged { .. } | ReadError::Undecodable(_)) => Ok(Err(Finding {
            sequence: None,
            problem: Problem::Head,
        })),
        Err(error @ ReadError::Storage(_)) => Err(error),
    }
}

/// Returns what was read of a table; nothing if what is stored there cannot be taken apart.
fn readable<T>(row: Option<Result<T, ReadError>>) -> Result<Option<T>, ReadError> {
    match row.transpose() {
        Err(ReadError::Damaged { .. } | ReadError::Undecodable(_)) => Ok(None),
        read => read,
    }
}

fn tell(done: u64, total: u64, progress: &mut dyn FnMut(Progress)) {
    if done.is_multiple_of(PROGRESS_ENTRIES) {
        progress(Progress { done, total });
    }
}

/// Receipts that are taken back later, with their entries once these were read.
#[derive(Debug, Default)]
struct TakenBack(BTreeMap<ReceiptId, Option<Entry>>);

impl TakenBack {
    /// Notes the receipt that an entry takes back, if it does.
    fn expect(&mut self, bytes: &[u8]) {
        const NAME: &[u8] = b"clawed_back";
        let is_named = bytes.windows(NAME.len()).any(|part| part == NAME);
        if is_named
            && let Ok(entry) = decode(bytes)
            && let Event::ClawedBack { receipt, .. } = entry.event
        {
            self.0.insert(receipt, None);
        }
    }

    /// Keeps an entry if its receipt is one of them.
    fn keep(&mut self, entry: Entry) {
        if self.0.is_empty() {
            return;
        }
        if let Event::Receipted { receipt, .. } = &entry.event
            && let Some(kept) = self.0.get_mut(&receipt.id())
        {
            *kept = Some(entry);
        }
    }

    fn find(&self, receipt: ReceiptId) -> Option<Entry> {
        self.0.get(&receipt).cloned().flatten()
    }
}

fn decode(bytes: &[u8]) -> Result<Entry, tally_protocol::codec::DecodeError> {
    tally_protocol::codec::from_bytes(bytes, tally_protocol::entry::ENTRY_BYTES_MAX)
}

/// The tables of the books, compared with the log as it is read.
struct Tables<'a> {
    books: &'a Projection,
    names: NameIndex<'a>,
    named: (u64, u64),
    differences: Differences,
}

impl<'a> Tables<'a> {
    fn of(books: &'a Projection) -> Result<Self, ReadError> {
        Ok(Self {
            books,
            names: books.names()?,
            named: (0, 0),
            differences: Differences::default(),
        })
    }

    /// Returns the entry with a receipt, if it came before `sequence`. Where the names are wrong, it is looked for in
    /// the log itself.
    fn issued(&self, log: &Log, receipt: ReceiptId, sequence: u64) -> Option<Entry> {
        let named = self.books.receipt_entry(receipt).ok().flatten();
        let named = named.filter(|named| *named < sequence);
        let named = named.and_then(|named| log.entry(named).ok().flatten()?.decode().ok());
        let is_it = |entry: &Entry| matches!(&entry.event, Event::Receipted { receipt: found, .. } if found.id() == receipt);
        named.filter(is_it).or_else(|| {
            let entries = log.entries(0..sequence).ok()?;
            let mut decoded = entries.filter_map(|entry| entry.ok()?.decode().ok());
            decoded.find(is_it)
        })
    }

    fn add(&mut self, entry: &Entry) -> Result<(), ReadError> {
        if let Some(name) = Name::of(entry) {
            self.differences
                .check_name(&self.names, &name, &mut self.named)?;
        }
        Ok(())
    }

    fn compare(mut self, computed: &Books) -> Result<Differences, ReadError> {
        self.differences.check_counts(&self.names, self.named)?;
        self.differences.check_books(self.books, computed)?;
        Ok(self.differences)
    }
}

/// An audit under way: what the good entries so far come to.
struct Verifier {
    tree: Tree,
    last_at: Option<Timestamp>,
    history: History,
}

impl Verifier {
    fn new(history: History) -> Self {
        Self {
            tree: Tree::default(),
            last_at: None,
            history,
        }
    }

    /// Reads the log up to its end or the first thing that is wrong.
    fn read(
        &mut self,
        log: &Log,
        head: &Frontier,
        mut tables: Option<&mut Tables<'_>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<Finding>, ReadError> {
        let total = head.size();
        let mut entries = log.entries(0..u64::MAX)?;
        let mut nodes = log.nodes()?;
        for sequence in 0..total {
            tell(sequence, total, progress);
            let checked = match readable(entries.next())? {
                Some(entry) if entry.sequence == sequence => {
                    let issued = tables.as_deref();
                    let mut issued = |receipt| issued?.issued(log, receipt, sequence);
                    self.check(&entry, &mut nodes, &mut issued)?
                }
                _ => Err(Problem::Missing),
            };
            match checked {
                Ok(entry) => {
                    if let Some(tables) = tables.as_deref_mut() {
                        tables.add(&entry)?;
                    }
                }
                Err(problem) => {
                    let sequence = Some(sequence);
                    return Ok(Some(Finding { sequence, problem }));
                }
            }
        }
        progress(Progress { done: total, total });
        if entries.next().is_some() || nodes.next().is_some() {
            return Ok(Some(Finding {
                sequence: Some(total),
                problem: Problem::BeyondTheEnd,
            }));
        }
        let (computed, stored) = (self.tree.frontier(), head);
        Ok((computed != *stored).then(|| Finding {
            sequence: None,
            problem: Problem::Root {
                computed: computed.root(),
                stored: stored.root(),
            },
        }))
    }

    /// Checks the next entry, and the nodes of the tree that it completes.
    fn check(
        &mut self,
        entry: &StoredEntry,
        nodes: &mut Nodes,
        issued: Issued<'_>,
    ) -> Result<Result<Entry, Problem>, ReadError> {
        let (mut tree, mut completed) = (self.tree.clone(), Vec::new());
        tree.push(leaf_hash(&entry.bytes), &mut completed);
        let mut problem = Problem::Leaf;
        for expected in (node_count(entry.sequence)..).zip(completed) {
            if readable(nodes.next())? != Some(expected) {
                return Ok(Err(problem));
            }
            problem = Problem::Node;
        }
        let checked = self.check_content(entry, issued);
        Ok(checked.inspect(|_| self.tree = tree))
    }

    fn check_content(
        &mut self,
        stored: &StoredEntry,
        issued: Issued<'_>,
    ) -> Result<Entry, Problem> {
        let entry = stored.decode().map_err(|error| Problem::Undecodable {
            reason: error.to_string(),
        })?;
        if entry.sequence != stored.sequence {
            return Err(Problem::Misplaced {
                says: entry.sequence,
            });
        }
        if let Some(before) = self.last_at
            && entry.at < before
        {
            return Err(Problem::TimeWentBack { before });
        }
        self.history.add(&entry, issued)?;
        self.last_at = Some(entry.at);
        Ok(entry)
    }

    fn report(&self, finding: Option<Finding>) -> Report {
        let accounts = self.history.accounts();
        Report {
            entries: self.tree.size(),
            root: self.tree.frontier().root(),
            tasks: self.history.tasks(),
            units: self.history.units(),
            receipts: accounts.map_or(0, |accounts| accounts.totals().receipts),
            last_at: self.last_at,
            finding,
            invariants: accounts.map_or_else(Vec::new, invariants::of),
        }
    }

    fn audited(self, finding: Option<Finding>) -> Audited {
        let report = self.report(finding);
        let accounts = self.history.into_accounts();
        let books = accounts.map_or_else(Books::default, accounts::Accounts::into_books);
        Audited { report, books }
    }
}
