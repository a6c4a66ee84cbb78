//! Opening the tables: only ever those of this version, this network and this node.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend,
    StorageError,
};
use serde::{Deserialize, Serialize};
use tally_protocol::codec;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::merkle::Frontier;
use tally_protocol::time::Timestamp;

use super::names::{NameTables, RecentNames};
use super::read::Handle;
use super::{
    FORMAT_KEY, FORMAT_TABLE, HEAD, Identity, JOURNAL, ROWS, ReadError, Reader, SNAPSHOT, Store,
    Tip, Writer, books, durable, names, runs, write_head,
};
use crate::tree::Tree;

/// The version of the tables that this program reads and writes.
pub const FORMAT: u32 = 4;
/// Memory for pages of the file, in bytes. redb's own default is 1 GiB.
pub const CACHE_BYTES: usize = 64 << 20;
/// The most bytes of the format row.
const FORMAT_BYTES_MAX: usize = 4 << 10;

/// Why the tables could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the file open.
    #[error("open the ledger {path}: another process has it open")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no file.
    #[error("open the ledger {path}: there is no such file")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("open the ledger {path}: this is not a ledger")]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version of Tally.
    #[error("open the ledger {path}: its format is {found}, this program has format {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
    },
    /// The file belongs to another network.
    #[error("open the ledger {path}: it is of network {found:?}, this node is of {expected:?}")]
    Network {
        /// The file.
        path: PathBuf,
        /// The network of the file.
        found: NetworkId,
        /// The network of the node.
        expected: NetworkId,
    },
    /// The file belongs to another node.
    #[error("open the ledger {path}: it belongs to node {found}, this is node {expected}")]
    Node {
        /// The file.
        path: PathBuf,
        /// The node of the file.
        found: NodeId,
        /// This node.
        expected: NodeId,
    },
    /// The tables contradict each other.
    #[error("open the ledger {path}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ReadError,
    },
    /// The disk or the file failed.
    #[error("open the ledger {path}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: redb::Error,
    },
}

impl OpenError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Locked { .. } => {
                "the node is running: ask it instead of the file, or stop it first"
            }
            Self::Missing { .. } => "check the path; a node makes its ledger when it first runs",
            Self::NotALedger { .. } => {
                "check the path; if something else overwrote the ledger, restore it from a backup"
            }
            Self::Format { found, .. } if *found > FORMAT => {
                "it was written by a newer version of Tally: use that version"
            }
            Self::Format { .. } => "it was written by an older version of Tally: use that version",
            Self::Network { .. } => {
                "give this network a data folder of its own, or set the other network"
            }
            Self::Node { .. } => {
                "give each node a data folder of its own, with the key that it was made with"
            }
            Self::Damaged { .. } => "check the disk and restore the ledger from a backup",
            Self::Storage { .. } => "check the disk, its free space and the rights to the file",
        }
    }
}

impl Store {
    /// Opens the tables of `identity` in the file `path`, or makes them there, created `now`.
    ///
    /// # Errors
    /// [`OpenError`]; the tables are then as they were.
    pub fn create_or_open(
        path: &Path,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let database = if path.exists() {
            builder().open(path).map_err(|error| refuse(path, error))?
        } else {
            create(path, identity, now)?
        };
        Self::on_database(database, path, identity, now)
    }

    /// Opens the tables of `identity` on `backend`, or makes them there, created `now`.
    ///
    /// # Errors
    /// [`OpenError`], with an empty path.
    pub fn on_backend(
        backend: impl StorageBackend,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let path = Path::new("");
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| refuse(path, error))?;
        Self::on_database(database, path, identity, now)
    }

    fn on_database(
        database: Database,
        path: &Path,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        if is_new(&database).map_err(|error| storage(path, error))? {
            initialise(&database, identity, now).map_err(|error| storage(path, error))?;
        }
        let reader = Reader::on(Handle::Writable(database), path)?;
        let found = reader.identity();
        if found.network != identity.network {
            return Err(OpenError::Network {
                path: path.to_owned(),
                found: found.network.clone(),
                expected: identity.network.clone(),
            });
        }
        if found.node != identity.node {
            return Err(OpenError::Node {
                path: path.to_owned(),
                found: found.node,
                expected: identity.node,
            });
        }
        let damaged = |source| OpenError::Damaged {
            path: path.to_owned(),
            source,
        };
        let tip = tip(&reader).map_err(damaged)?;
        let names = reader
            .begin_read()
            .and_then(|transaction| NameTables::of(&transaction))
            .and_then(|tables| RecentNames::load(&tables, tip.tree.size()))
            .map_err(damaged)?;
        Ok(Self {
            reader,
            writer: Mutex::new(Writer::Ready { tip, names }),
        })
    }
}

impl Reader {
    /// Opens the tables in the file `path` to read, whoever they belong to, while no node has them open.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.exists() {
            return Err(OpenError::Missing {
                path: path.to_owned(),
            });
        }
        let database = match builder().open_read_only(path) {
            // The file was never closed and its last transaction was none of ours.
            Err(DatabaseError::RepairAborted) => builder()
                .open(path)
                .and_then(Database::close)
                .and_then(|()| builder().open_read_only(path)),
            opened => opened,
        };
        let database = database.map_err(|error| refuse(path, error))?;
        Self::on(Handle::ReadOnly(database), path)
    }

    /// Opens the tables on `backend` to read, whoever they belong to.
    ///
    /// # Errors
    /// [`OpenError`], with an empty path.
    pub fn on_backend(backend: impl StorageBackend) -> Result<Self, OpenError> {
        let path = Path::new("");
        let database = builder()
            .open_read_only_with_backend(backend)
            .map_err(|error| refuse(path, error))?;
        Self::on(Handle::ReadOnly(database), path)
    }

    fn on(handle: Handle, path: &Path) -> Result<Self, OpenError> {
        let row = handle
            .begin_read()
            .map_err(redb::Error::from)
            .and_then(|transaction| format_row(&transaction))
            .map_err(|error| storage(path, error))?;
        let not_a_ledger = || OpenError::NotALedger {
            path: path.to_owned(),
        };
        let row = row.ok_or_else(not_a_ledger)?;
        let version: FormatVersion =
            codec::from_bytes(&row, FORMAT_BYTES_MAX).map_err(|_| not_a_ledger())?;
        if version.format != FORMAT {
            return Err(OpenError::Format {
                path: path.to_owned(),
                found: version.format,
            });
        }
        let row: FormatRow =
            codec::from_bytes(&row, FORMAT_BYTES_MAX).map_err(|_| not_a_ledger())?;
        let identity = Identity {
            network: row.network,
            node: row.node,
        };
        Ok(Self::new(handle, identity, row.created))
    }
}

/// What every version of the format row has; its other fields are passed over.
#[derive(Deserialize)]
struct FormatVersion {
    format: u32,
}

/// The row of [`FORMAT_TABLE`].
#[derive(Serialize, Deserialize)]
struct FormatRow {
    format: u32,
    network: NetworkId,
    node: NodeId,
    created: Timestamp,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Returns whether nothing was ever committed: a crash may come between making the file and its tables.
fn is_new(database: &Database) -> Result<bool, redb::Error> {
    let transaction = database.begin_read()?;
    let tables = transaction.list_tables()?.count();
    Ok(tables == 0 && transaction.list_multimap_tables()?.count() == 0)
}

/// Makes the file with its tables under another name first: a crash on the way leaves a file that redb would refuse.
fn create(path: &Path, identity: &Identity, now: Timestamp) -> Result<Database, OpenError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let database = match builder().create(&new) {
        Err(error) if is_foreign(&error) => {
            fs::remove_file(&new).map_err(|error| storage(path, redb::Error::Io(error)))?;
            builder().create(&new)
        }
        opened => opened,
    };
    let database = database.map_err(|error| refuse(path, error))?;
    if is_new(&database).map_err(|error| storage(path, error))? {
        initialise(&database, identity, now).map_err(|error| storage(path, error))?;
    }
    // Who holds the new file is the only one who renames, so what is there by now was made by a process before.
    if path.exists() {
        return builder().open(path).map_err(|error| refuse(path, error));
    }
    fs::rename(&new, path)
        .and_then(|()| sync_folder(path))
        .map_err(|error| storage(path, redb::Error::Io(error)))?;
    Ok(database)
}

fn initialise(database: &Database, identity: &Identity, now: Timestamp) -> Result<(), redb::Error> {
    let row = codec::to_bytes(&FormatRow {
        format: FORMAT,
        network: identity.network.clone(),
        node: identity.node,
        created: now,
    });
    let mut transaction = database.begin_write()?;
    durable(&mut transaction);
    transaction
        .open_table(FORMAT_TABLE)?
        .insert(FORMAT_KEY, row.as_slice())?;
    transaction.open_table(JOURNAL)?;
    transaction.open_table(SNAPSHOT)?;
    transaction.open_table(runs::ENTRIES)?;
    transaction.open_table(runs::NODES)?;
    transaction.open_table(HEAD)?;
    transaction.open_table(ROWS)?;
    books::create(&transaction)?;
    names::create(&transaction)?;
    write_head(&transaction, &Frontier::default())?;
    transaction.commit()?;
    Ok(())
}

fn format_row(transaction: &ReadTransaction) -> Result<Option<Vec<u8>>, redb::Error> {
    match transaction.open_table(FORMAT_TABLE) {
        Ok(table) => Ok(table.get(FORMAT_KEY)?.map(|row| row.value().to_vec())),
        Err(
            redb::TableError::TableDoesNotExist(_)
            | redb::TableError::TableTypeMismatch { .. }
            | redb::TableError::TableIsMultimap(_),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns where the next change goes.
fn tip(reader: &Reader) -> Result<Tip, ReadError> {
    let log = reader.log()?;
    let head = log.head()?;
    let last_time = match head.size().checked_sub(1) {
        None => Timestamp::default(),
        Some(last) => {
            let entry = log.entry(last)?.ok_or(ReadError::Damaged {
                what: "the last entry of the log is missing",
            })?;
            entry.decode()?.at
        }
    };
    Ok(Tip {
        tree: Tree::of(&head),
        journal_end: reader.load()?.journal_end,
        last_time,
    })
}

/// Makes the name of a new file durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn refuse(path: &Path, error: DatabaseError) -> OpenError {
    let locked = matches!(
        error,
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch
    );
    if locked {
        return OpenError::Locked {
            path: path.to_owned(),
        };
    }
    if is_foreign(&error) {
        return OpenError::NotALedger {
            path: path.to_owned(),
        };
    }
    storage(path, error)
}

/// Returns whether the file is no redb database, or one of a version of redb from before Tally.
fn is_foreign(error: &DatabaseError) -> bool {
    if let DatabaseError::Storage(StorageError::Io(io)) = error {
        return matches!(
            io.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory
        );
    }
    matches!(error, DatabaseError::UpgradeRequired(_))
}

fn storage(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    OpenError::Storage {
        path: path.to_owned(),
        source: error.into(),
    }
}
