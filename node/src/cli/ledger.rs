//! `tally ledger`: the permanent log of a coordinator, through its running node or from its file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tally_ledger::audit::{self, Progress};

use tally_ledger::cli::{
    EntriesQuery, LedgerAnswer, LedgerQuery, Order, TaskPrefix, answer, ask_for_all, render,
};
use tally_ledger::store::Reader;

use super::output::BarUnit;
use super::{Common, Exit, Failure};
use crate::admin::{AskError, Request, ask};

/// `tally ledger`.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// List entries.
    Entries {
        /// The first entry.
        #[arg(long, default_value_t = 0, value_name = "SEQ")]
        from: u64,
        /// Only those before this entry.
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
        /// Only those of a task; the start of its id is enough.
        #[arg(long, value_name = "ID")]
        task: Option<TaskPrefix>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
        /// The newest first.
        #[arg(long)]
        newest: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Show one entry whole.
    Show {
        /// Its place in the log.
        sequence: u64,
        #[command(flatten)]
        source: Source,
    },
    /// Check every entry, every signature and the tree.
    Verify {
        #[command(flatten)]
        source: Source,
    },
}

/// Where the log is read.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// A database file of a node that does not run. [default: the running node of the data folder, else its file]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl LedgerCommand {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let (query, source) = match self {
            Self::Entries {
                from,
                to,
                task,
                limit,
                newest,
                source,
            } => {
                let order = if newest {
                    Order::NewestFirst
                } else {
                    Order::OldestFirst
                };
                (
                    LedgerQuery::Entries(EntriesQuery {
                        from,
                        to,
                        task,
                        limit,
                        order,
                    }),
                    source,
                )
            }
            Self::Show { sequence, source } => (LedgerQuery::Show { sequence }, source),
            Self::Verify { source } => (LedgerQuery::Verify, source),
        };
        let found = source.answer(common, query)?;
        common.output().result(&found, || render(&found))?;
        if matches!(&found, LedgerAnswer::Verify(report) if !report.is_sound()) {
            let hint = "the log was changed after it was written, or the disk is damaged";
            return Err(Failure::new(Exit::Unsuccessful, "verify the log").hint(hint));
        }
        Ok(())
    }
}

impl Source {
    fn answer(&self, common: &Common, query: LedgerQuery) -> Result<LedgerAnswer, Failure> {
        if let Some(file) = &self.file {
            return from_file(common, file, query);
        }
        let folder = common.folder()?;
        match through_node(&folder.socket(), query.clone()) {
            Err(AskError::NotRunning) => from_file(common, &folder.coordinator_store(), query),
            answered => Ok(answered?),
        }
    }
}

fn through_node(socket: &std::path::Path, query: LedgerQuery) -> Result<LedgerAnswer, AskError> {
    // The pages of a long list are asked for one by one, each a question of its own.
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        ask_for_all(query, |page| {
            runtime.block_on(ask(
                socket,
                &Request::Ledger {
                    query: page.clone(),
                },
            ))
        })
    })
}

fn from_file(
    common: &Common,
    file: &std::path::Path,
    query: LedgerQuery,
) -> Result<LedgerAnswer, Failure> {
    let reader = Reader::open(file).map_err(|error| {
        let hint = error.hint();
        let missing = matches!(error, tally_ledger::store::OpenError::Missing { .. });
        Failure::from(error).hint(hint).exit(if missing {
            Exit::NotFound
        } else {
            Exit::Failed
        })
    })?;
    if query == LedgerQuery::Verify {
        let bar = common.output().bar(BarUnit::Entries);
        bar.set_message("verifying");
        let report = audit::verify(&reader, &mut |Progress { done, total }| {
            bar.set_length(total);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        return Ok(LedgerAnswer::Verify(report));
    }
    ask_for_all(query, |page| answer(&reader, page)).map_err(|error| {
        let hint = error.hint();
        Failure::from(error).hint(hint).exit(Exit::NotFound)
    })
}
