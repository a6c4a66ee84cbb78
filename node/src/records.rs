//! The records of a role: the store that it starts from, and writes to as a whole.
//!
//! A group of facts, entries and rows is one change; the role lets nothing leave that follows from it before
//! [`Records::commit`] has returned. When the disk does not take a change, the process must stop.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use tally_ledger::cli::{AnswerError, LedgerAnswer, LedgerQuery};
use tally_ledger::store::{Change, CommitError, Committed, ReadError, Store};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::error::joined;
use crate::fault::{self, Point};

/// A store, and how far its snapshot is behind.
#[derive(Debug)]
pub struct Records {
    store: Arc<Store>,
    /// Where the journal goes on after the snapshot.
    snapshot_at: u64,
    /// Facts after which the journal is replaced by a snapshot.
    snapshot_every: u64,
}

/// What a role is restored from.
#[derive(Debug)]
pub struct Recorded {
    /// The snapshot, if there is one.
    pub snapshot: Option<Vec<u8>>,
    /// The facts since.
    pub facts: Vec<Vec<u8>>,
}

/// Why a role cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The records cannot be read.
    #[error("read the records")]
    Read(#[from] ReadError),
    /// The records make no sense.
    #[error("restore from the records")]
    Restore(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A group of records was not written.
    #[error("record what happened")]
    Commit(#[from] CommitError),
}

impl RecordsError {
    /// Makes the error of a role that could not be restored.
    pub fn restore(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Restore(Box::new(error))
    }

    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Read(error) => error.hint(),
            Self::Restore(_) => {
                "the database is damaged or of another network; restore it from a backup"
            }
            Self::Commit(error) => error.hint(),
        }
    }
}

impl Records {
    /// Reads what a store holds.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(store: Store, snapshot_every: u64) -> Result<(Self, Recorded), ReadError> {
        let loaded = store.load()?;
        let snapshot_at = loaded
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.up_to);
        let recorded = Recorded {
            snapshot: loaded.snapshot.map(|snapshot| snapshot.bytes),
            facts: loaded.facts.collect::<Result<_, _>>()?,
        };
        let records = Self {
            store: Arc::new(store),
            snapshot_at,
            snapshot_every,
        };
        Ok((records, recorded))
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Writes a change; it is durable when this returns. Passes the fault points before and after it.
    ///
    /// # Errors
    /// [`CommitError`]: the process must stop.
    pub async fn commit(
        &self,
        change: Change,
        points: &[(Point, Point)],
    ) -> Result<Committed, CommitError> {
        fault::pass(Point::BeforeCommit);
        points.iter().for_each(|(before, _)| fault::pass(*before));
        let store = Arc::clone(&self.store);
        let committed = joined(spawn_blocking(move || store.commit(change)).await)?;
        fault::pass(Point::AfterCommit);
        points.iter().for_each(|(_, after)| fault::pass(*after));
        Ok(committed)
    }

    /// Replaces the journal by a snapshot, if it is long by now.
    ///
    /// # Errors
    /// [`CommitError`]: the process must stop.
    pub async fn shorten(
        &mut self,
        committed: Committed,
        snapshot: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), CommitError> {
        if committed.journal_end - self.snapshot_at < self.snapshot_every {
            return Ok(());
        }
        let (store, bytes) = (Arc::clone(&self.store), snapshot());
        let write = move || store.write_snapshot(committed.journal_end, &bytes);
        joined(spawn_blocking(write).await)?;
        self.snapshot_at = committed.journal_end;
        fault::pass(Point::SnapshotWritten);
        Ok(())
    }

    /// Answers a question about the log on another thread, with checkpoints by `key`.
    pub fn answer(
        &self,
        key: SigningKey,
        query: LedgerQuery,
        reply: oneshot::Sender<Result<LedgerAnswer, AnswerError>>,
    ) {
        let store = Arc::clone(&self.store);
        spawn_blocking(move || {
            let _ = reply.send(tally_ledger::cli::answer(&store, Some(&key), &query));
        });
    }
}
