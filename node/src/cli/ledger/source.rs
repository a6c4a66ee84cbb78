//! Where the ledger is read: the running node of the data folder, or a file that no node has open.

use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::SigningKey;
use indicatif::ProgressBar;
use tally_ledger::cli::{LedgerAnswer, LedgerQuery, LogHead, Pages, answer};
use tally_ledger::store::{OpenError, Reader, StoredEntry};
use tally_protocol::time::Timestamp;

use crate::admin::{AskError, Request, ask};
use crate::cli::output::BarUnit;
use crate::cli::{Common, Exit, Failure};
use crate::keys;

/// Where the log is read.
#[derive(Debug, Args)]
pub(in crate::cli) struct Source {
    /// A database file of a node that does not run. [default: the running node of the data folder, else its file]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The coordinator's key, to sign a checkpoint for what is read from the file. [default: that beside the file]
    #[arg(long, value_name = "FILE", requires = "file")]
    key_file: Option<PathBuf>,
}

/// Who answers questions about the ledger.
#[derive(Debug)]
pub(super) enum Asked {
    /// The node whose socket this is.
    Node(PathBuf),
    /// A file, with the coordinator's key if it is at hand.
    File(Box<Reader>, Option<Box<SigningKey>>),
}

impl Source {
    /// Returns the file that was named.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Finds out who answers.
    pub(super) fn open(&self, common: &Common) -> Result<Asked, Failure> {
        if let Some(file) = &self.file {
            let key = match &self.key_file {
                Some(path) => Some(keys::read(path)?),
                None => keys::read(&file.with_file_name("key")).ok(),
            };
            return Ok(Asked::File(Box::new(open(file)?), key.map(Box::new)));
        }
        let folder = common.folder()?;
        let asked = Asked::Node(folder.socket());
        match asked.through_node(&LedgerQuery::Head { before: None }) {
            Err(AskError::NotRunning) => {
                let store = folder.app_server_store();
                let reader = open(&if store.exists() {
                    store
                } else {
                    folder.coordinator_store()
                })?;
                Ok(Asked::File(
                    Box::new(reader),
                    keys::read(&folder.key()).ok().map(Box::new),
                ))
            }
            Ok(_) => Ok(asked),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) fn open(file: &Path) -> Result<Reader, Failure> {
    Reader::open(file).map_err(|error| {
        let hint = error.hint();
        let missing = matches!(error, OpenError::Missing { .. });
        Failure::from(error).hint(hint).exit(if missing {
            Exit::NotFound
        } else {
            Exit::Failed
        })
    })
}

impl Asked {
    /// Puts a question.
    pub(super) fn ask(&mut self, query: &LedgerQuery) -> Result<LedgerAnswer, Failure> {
        match self {
            Self::Node(_) => Ok(self.through_node(query)?),
            Self::File(reader, key) => answer(reader, key.as_deref(), query).map_err(|error| {
                let hint = error.hint();
                let unknown = error.code().starts_with("unknown");
                Failure::from(error).hint(hint).exit(if unknown {
                    Exit::NotFound
                } else {
                    Exit::Failed
                })
            }),
        }
    }

    fn through_node(&self, query: &LedgerQuery) -> Result<LedgerAnswer, AskError> {
        let Self::Node(socket) = self else {
            return Err(AskError::NotRunning);
        };
        let query = query.clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(ask(socket, &Request::Ledger { query })))
    }

    /// Returns what stands for the log, or for its entries before a time.
    pub(super) fn head(&mut self, before: Option<Timestamp>) -> Result<LogHead, Failure> {
        if let LedgerAnswer::Head(head) = self.ask(&LedgerQuery::Head { before })? {
            Ok(head)
        } else {
            Err(Failure::new(Exit::Failed, "understand the node's answer"))
        }
    }

    /// Returns the entries under a head, page by page, with a bar that says how far they are.
    pub(super) fn entries(
        &mut self,
        common: &Common,
        head: &LogHead,
        doing: &'static str,
    ) -> impl Iterator<Item = Result<StoredEntry, Failure>> {
        let bar = Bar(common.output().bar(BarUnit::Entries));
        bar.0.set_length(head.size);
        bar.0.set_message(doing);
        let pages = Pages::new(0..head.size, |query: &LedgerQuery| self.ask(query));
        pages.inspect(move |_| bar.0.inc(1))
    }

    /// Returns the file that is read, if it is one.
    pub(super) fn reader(&self) -> Option<&Reader> {
        match self {
            Self::Node(_) => None,
            Self::File(reader, _) => Some(reader),
        }
    }
}

/// A bar that is gone when nobody counts any more.
struct Bar(ProgressBar);

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
