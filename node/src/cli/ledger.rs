//! `tally ledger`: the permanent log and the books of a coordinator, through its running node or from its file.

mod books;
mod source;
mod verify;

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use tally_ledger::cli::{
    BalanceOf, BalanceQuery, EntriesQuery, EntryName, LedgerAnswer, LedgerQuery, Moment, NodeName,
    Order, Party, Period, TaskPrefix, ask_for_all, read_payments, reconcile, render, statement,
};
use tally_ledger::export::{ExportError, Format, PartFile, export};
use tally_protocol::id::ReceiptId;

use super::{Common, Exit, Failure};
use source::Source;
use verify::Verify;

/// `tally ledger`.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// What stands on the accounts.
    Balance(Balance),
    /// List entries.
    Entries(Entries),
    /// Show one entry whole.
    Show {
        /// Its place in the log, the receipt that it holds, or the posting that it made.
        entry: EntryName,
        #[command(flatten)]
        source: Source,
    },
    /// Show both halves of a receipt, and what became of it.
    Receipt {
        /// Its id.
        receipt: ReceiptId,
        #[command(flatten)]
        source: Source,
    },
    /// Write the proof that an entry stands in the log.
    Prove(Prove),
    /// Check every entry, every signature and the tree; or an export, or a proof, with a public key alone.
    Verify(Verify),
    /// What an owner earned and spent, or a customer paid.
    Statement(StatementOf),
    /// Hold deposits and payouts against what a bank says.
    Reconcile(Reconcile),
    /// Check everything: the log, each posting by the rules, and what must hold of the books as a whole.
    Audit {
        #[command(flatten)]
        source: Source,
    },
    /// Compute the books again from the log and compare.
    Rebuild {
        /// Replace the books by what the log gives. The node must not run.
        #[arg(long, requires = "file")]
        write: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Write the ledger as a file for other programs.
    Export(Export),
}

/// `tally ledger balance`.
#[derive(Debug, Args)]
pub(super) struct Balance {
    /// Only accounts whose names start so; --json shows the names.
    #[arg(conflicts_with_all = ["owner", "customer"], value_name = "ACCOUNT-PREFIX")]
    prefix: Option<String>,
    /// Only the accounts of an owner; the end of the id is enough.
    #[arg(long, value_name = "ID", conflicts_with = "customer")]
    owner: Option<NodeName>,
    /// Only the accounts of a customer; the end of the id is enough.
    #[arg(long, value_name = "ID")]
    customer: Option<NodeName>,
    /// Show at most so many; the sums are over all.
    #[arg(long, default_value_t = 200, value_name = "N")]
    limit: u32,
    #[command(flatten)]
    source: Source,
}

/// `tally ledger entries`.
#[derive(Debug, Args)]
pub(super) struct Entries {
    /// The first entry.
    #[arg(long, default_value_t = 0, value_name = "SEQ")]
    from: u64,
    /// Only those before this entry.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Only those of a task; the start of its id is enough.
    #[arg(long, value_name = "ID")]
    task: Option<TaskPrefix>,
    /// Only those about an owner or the owner's points; the end of the id is enough.
    #[arg(long, value_name = "ID")]
    owner: Option<NodeName>,
    /// Only those about a device, its results or its points; the end of the id is enough.
    #[arg(long, value_name = "ID")]
    device: Option<NodeName>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
    /// The newest first.
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    source: Source,
}

/// `tally ledger prove`.
#[derive(Debug, Args)]
pub(super) struct Prove {
    /// The place of the entry in the log, or the receipt that it holds.
    entry: EntryName,
    /// Write the proof there. [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the bytes of the entry there: a proof is checked against them.
    #[arg(long, value_name = "FILE")]
    entry_out: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// From when until when.
#[derive(Debug, Clone, Copy, Args)]
struct When {
    /// From this day or time on (UTC).
    #[arg(long, value_name = "DATE")]
    from: Option<Moment>,
    /// Until before this day or time (UTC).
    #[arg(long, value_name = "DATE")]
    to: Option<Moment>,
}

impl When {
    fn period(self) -> Period {
        Period {
            from: self.from.map(|Moment(at)| at),
            to: self.to.map(|Moment(at)| at),
        }
    }
}

/// `tally ledger statement`.
#[derive(Debug, Args)]
pub(super) struct StatementOf {
    /// Of an owner; the end of the id is enough.
    #[arg(long, value_name = "ID", required_unless_present = "customer")]
    owner: Option<NodeName>,
    /// Of a customer; the end of the id is enough.
    #[arg(long, value_name = "ID", conflicts_with = "owner")]
    customer: Option<NodeName>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    source: Source,
}

/// `tally ledger reconcile`.
#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// What the bank says: CSV with the columns reference, amount (below zero if it went out) and currency.
    #[arg(long, value_name = "FILE")]
    payments: PathBuf,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    source: Source,
}

/// `tally ledger export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// jsonl (the log, to be verified), csv (a line for each transfer) or hledger (a journal).
    #[arg(long)]
    format: Format,
    /// Write it there, whole or not at all. [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    source: Source,
}

impl LedgerCommand {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Balance(balance) => balance.run(common),
            Self::Entries(entries) => entries.run(common),
            Self::Show { entry, source } => {
                tell(common, &source, LedgerQuery::Show { entry }).map(drop)
            }
            Self::Receipt { receipt, source } => {
                tell(common, &source, LedgerQuery::Receipt { receipt }).map(drop)
            }
            Self::Prove(prove) => prove.run(common),
            Self::Verify(verify) => verify.run(common),
            Self::Statement(statement) => statement.run(common),
            Self::Reconcile(reconcile) => reconcile.run(common),
            Self::Audit { source } => books::audit(common, &source),
            Self::Rebuild { write, source } => {
                let way = if write {
                    books::Way::Write
                } else {
                    books::Way::Compare
                };
                books::rebuild(common, &source, way)
            }
            Self::Export(export) => export.run(common),
        }
    }
}

/// Asks and prints the answer.
fn tell(common: &Common, source: &Source, query: LedgerQuery) -> Result<LedgerAnswer, Failure> {
    let mut asked = source.open(common)?;
    let found = ask_for_all(query, |page| asked.ask(page))?;
    common.output().result(&found, || render(&found))?;
    Ok(found)
}

impl Balance {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let of = match (self.owner, self.customer) {
            (Some(owner), _) => BalanceOf::Owner(owner),
            (None, Some(customer)) => BalanceOf::Customer(customer),
            (None, None) => BalanceOf::Prefix(self.prefix.unwrap_or_default()),
        };
        let limit = self.limit;
        let query = LedgerQuery::Balance(BalanceQuery { of, limit });
        tell(common, &self.source, query).map(drop)
    }
}

impl Entries {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let query = LedgerQuery::Entries(EntriesQuery {
            from: self.from,
            to: self.to,
            task: self.task,
            owner: self.owner,
            device: self.device,
            limit: self.limit,
            order: if self.newest {
                Order::NewestFirst
            } else {
                Order::OldestFirst
            },
        });
        tell(common, &self.source, query).map(drop)
    }
}

impl Prove {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let query = LedgerQuery::Prove { entry: self.entry };
        let answer = self.source.open(common)?.ask(&query)?;
        let LedgerAnswer::Proof(proof) = &answer else {
            return Err(Failure::new(Exit::Failed, "understand the node's answer"));
        };
        if let Some(path) = &self.entry_out {
            write_file(path, &proof.entry)?;
        }
        match &self.out {
            None => common.output().result(&answer, || render(&answer)),
            Some(path) => write_file(path, proof.proof.as_bytes()),
        }
    }
}

fn write_file(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = PartFile::create(path)?;
    file.write_all(bytes)?;
    Ok(file.finish()?)
}

impl StatementOf {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let period = self.when.period();
        let party = match (self.owner, self.customer) {
            (Some(owner), _) => Party::Owner(owner),
            (None, Some(customer)) => Party::Customer(customer),
            (None, None) => return Err(Failure::new(Exit::Usage, "tell whose statement to make")),
        };
        let mut asked = self.source.open(common)?;
        let head = asked.head(period.to)?;
        let entries = asked.entries(common, &head, "reading");
        let made = statement::<Failure>(&head.network, (&party, period), entries)?;
        common.output().result(&made, || made.render())
    }
}

impl Reconcile {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let period = self.when.period();
        let file = BufReader::new(File::open(&self.payments)?);
        let payments =
            read_payments(file).map_err(|error| Failure::from(error).exit(Exit::Usage))?;
        let mut asked = self.source.open(common)?;
        let head = asked.head(period.to)?;
        let entries = asked.entries(common, &head, "reading");
        let found = reconcile::<Failure>(period, payments, entries)?;
        common.output().result(&found, || found.render())?;
        if found.is_clean() {
            Ok(())
        } else {
            Err(Failure::new(
                Exit::Failed,
                "find every payment in the books and at the bank",
            )
            .hint("the payments that differ are listed above"))
        }
    }
}

impl Export {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let period = self.when.period();
        let refused = |error: ExportError| {
            let hint = error.hint();
            Failure::from(error).hint(hint)
        };
        if self.format == Format::Jsonl && period.from.is_some() {
            return Err(refused(ExportError::NotWhole).exit(Exit::Usage));
        }
        let mut asked = self.source.open(common)?;
        let head = asked.head(period.to)?;
        if self.format == Format::Jsonl && head.checkpoint.is_none() {
            return Err(refused(ExportError::NoCheckpoint));
        }
        let told = (self.format, period);
        let entries = asked.entries(common, &head, "exporting");
        let Some(path) = &self.out else {
            let mut out = BufWriter::new(std::io::stdout().lock());
            export::<Failure>(told, &head, entries, &mut out)?;
            return Ok(out.flush()?);
        };
        let mut file = PartFile::create(path)?;
        let count = export::<Failure>(told, &head, entries, &mut file)?;
        file.finish()?;
        let text = format!("{count} entries are in {}", path.display());
        let value = serde_json::json!({"entries": count, "file": path, "root": head.root});
        common.output().result(&value, || text)
    }
}
