//! What a terminal has earned, in a file of its own: receipts, and what is needed to prove and repeat the work.
//!
//! Each batch is kept as the device signed it, with its leaves and the grants that they belong to. A receipt names
//! leaves, so both together prove the debt, and the units can be run again. Points that receipts promise stand in
//! **lots**, by the moment from which on they may be spent.
//!
//! What was earned stands beside the receipts, summed by the time at which they came.
//!
//! Invariants: one [`Wallet::write`] is one durable transaction; a receipt is there once, and counted once; the file
//! stays within its limit: leaves of work that was paid and released go first, the oldest before others; receipts
//! stay as long as there is room for them.

mod dossier;
mod earned;
mod prune;
mod read;
mod tables;
#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a sum that does not fit fails the test"
)]
mod tests;
mod upgrade;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyDatabase, ReadTransaction,
    ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tally_protocol::codec;
use tally_protocol::id::{GrantId, Hash, NetworkId, NodeId, RateCardId, ReceiptId};
use tally_protocol::message::blob::BlobGrant;
use tally_protocol::message::work::{Batch, Grant, UnitResult};
use tally_protocol::rate_card::RateCard;
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::Signed;
use tally_protocol::terminal::{Dispute, KeptReceipt, Standing, Totals, UnpaidLeaf};
use tally_protocol::time::Timestamp;

use crate::store::Identity;
use tables::Tables;

pub use dossier::{
    Check, DOSSIER_BYTES_MAX, Dossier, DossierBatch, DossierError, DossierGrant, DossierProof,
    Finding, Verification, Work,
};
pub use earned::{EARNED_DAYS_MAX, Earned, EarnedDay, Earnings, UtcOffset};
pub use read::{
    AccountRow, Balance, DisputeRow, Holding, Lot, RECEIPTS_PAGE_MAX, ReceiptPage, ReceiptView,
    WalletAnswer, WalletQuery,
};
pub use waiting::{DATES_MAX, PointsAt, SOON, Unpaid, UnpaidBy};

/// The version of the tables that this program reads and writes.
pub const FORMAT: u32 = 2;
/// Memory for pages of the file, in bytes: little of it is ever read again.
const CACHE_BYTES: usize = 8 << 20;
/// The longest row: a batch of 1,024 results, or a grant of as many units.
const ROW_BYTES_MAX: usize = 1 << 20;
/// The most receipts that are kept as evidence against coordinators; older ones go.
const DISPUTES_MAX: u64 = 1_024;

type Bytes = &'static [u8];

/// One row, [`KEY`]: the version of these tables and whose they are.
const FORMAT_TABLE: TableDefinition<'_, &str, Bytes> = TableDefinition::new("wallet");
/// One row, [`KEY`]: what was counted up to now.
const COUNTS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("counts");
const KEY: &str = "tally";
/// How things stand with a coordinator.
const ACCOUNTS: TableDefinition<'_, &[u8; 32], Bytes> = TableDefinition::new("accounts");
/// Rate cards by coordinator and id.
const CARDS: TableDefinition<'_, &[u8; 64], Bytes> = TableDefinition::new("cards");
/// Grants by coordinator and id.
const GRANTS: TableDefinition<'_, &[u8; 48], Bytes> = TableDefinition::new("grants");
/// Batches by coordinator and root.
const BATCHES: TableDefinition<'_, &[u8; 64], Bytes> = TableDefinition::new("batches");
/// What became of each batch: small rows, so that a receipt does not rewrite the leaves.
const STATES: TableDefinition<'_, &[u8; 64], Bytes> = TableDefinition::new("states");
/// Batches in the order in which they were written.
const ORDER: TableDefinition<'_, u64, &[u8; 64]> = TableDefinition::new("order");
/// Receipts by id.
const RECEIPTS: TableDefinition<'_, &[u8; 32], Bytes> = TableDefinition::new("receipts");
/// Receipts in the order in which they came.
const RECEIVED: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("received");
/// Points by coordinator, owner, and since when they may be spent (big endian).
const LOTS: TableDefinition<'_, &[u8; 72], Bytes> = TableDefinition::new("lots");
/// Receipts that are wrong.
const DISPUTES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("disputes");
/// Proofs that a receipt stands in its coordinator's log.
const PROOFS: TableDefinition<'_, &[u8; 32], Bytes> = TableDefinition::new("proofs");
/// What receipts brought, by the quarter of an hour in which they came.
const EARNED: TableDefinition<'_, u64, Bytes> = TableDefinition::new("earned");
/// Batches with results that wait for a receipt, by coordinator and number (big endian).
const WAITING: TableDefinition<'_, &[u8; 40], Bytes> = TableDefinition::new("waiting");

/// Why the wallet could not be used.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// There is no file.
    #[error("open the wallet {0}: there is no such file")]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("open the wallet {0}: another process has it open")]
    Locked(PathBuf),
    /// The file is something else.
    #[error("open the wallet {0}: this is not a wallet")]
    NotAWallet(PathBuf),
    /// Another version of Tally wrote it.
    #[error("open the wallet {path}: its format is {found}, this program has format {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u32,
    },
    /// It belongs to another device, or to another network.
    #[error("open the wallet {path}: it is of {found} in network {network:?}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Of which network.
        network: String,
    },
    /// A row is not what belongs there.
    #[error("read the wallet: a row of {table} is damaged")]
    Damaged {
        /// Where it stands.
        table: &'static str,
    },
    /// The disk or the file failed.
    #[error("use the wallet")]
    Storage(#[source] Box<redb::Error>),
}

impl WalletError {
    /// Returns what to do next.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Missing(_) => "a terminal makes its wallet when it first runs",
            Self::Locked(_) => "the node is running: ask it instead of the file",
            Self::NotAWallet(_) | Self::Damaged { .. } => {
                "restore it from a backup; coordinators give receipts again that they still have"
            }
            Self::Format { .. } => "use the version of Tally that wrote it",
            Self::Identity { .. } => "give each key and network a data folder of its own",
            Self::Storage(_) => "check the disk, its free space and the rights to the file",
        }
    }
}

impl<E: Into<redb::Error>> From<E> for WalletError {
    fn from(error: E) -> Self {
        Self::Storage(Box::new(error.into()))
    }
}

/// What came with a grant and is needed to run its units again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Papers {
    /// Its id.
    pub id: GrantId,
    /// The grant.
    pub grant: Signed<Grant>,
    /// The right to read program and inputs.
    pub read: Signed<BlobGrant>,
    /// The rate card that it names.
    pub card: Signed<RateCard>,
    /// The id of that.
    pub card_id: RateCardId,
}

/// A batch to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBatch {
    /// To whom it is reported.
    pub coordinator: NodeId,
    /// Its root.
    pub root: Hash,
    /// As the device signed it.
    pub batch: Signed<Batch>,
    /// Its leaves; inline outputs are not kept.
    pub results: Vec<UnitResult>,
    /// The grants of its results.
    pub papers: Vec<Arc<Papers>>,
}

/// Something to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A batch goes out.
    Batch(Box<KeptBatch>),
    /// A receipt came.
    Receipt(Box<KeptReceipt>),
    /// A receipt is wrong.
    Dispute(Box<Dispute>),
    /// Results will not be paid.
    GiveUp(NodeId, Vec<UnpaidLeaf>),
    /// How things stand with a coordinator.
    Totals(NodeId, Totals),
    /// A receipt was proven to stand in its coordinator's log.
    Proof(ReceiptId, Box<DossierProof>),
    /// The log of a coordinator was looked at up to this entry.
    LookedAt(NodeId, u64),
}

/// The wallet of a terminal.
#[derive(Debug)]
pub struct Wallet {
    handle: Handle,
    identity: Identity,
    path: PathBuf,
}

enum Handle {
    Writable(Database),
    ReadOnly(ReadOnlyDatabase),
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Writable(_) => "Writable",
            Self::ReadOnly(_) => "ReadOnly",
        })
    }
}

#[derive(Serialize, Deserialize)]
struct FormatRow {
    format: u32,
    network: NetworkId,
    node: NodeId,
}

/// What every version of the format row has.
#[derive(Deserialize)]
struct FormatVersion {
    format: u32,
}

/// The row of [`COUNTS`].
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counts {
    /// Batches ever written.
    batches: u64,
    /// Receipts ever received.
    receipts: u64,
    /// Disputes ever written.
    disputes: u64,
    /// Bytes of all batches, grants and receipts that are there.
    bytes: u64,
}

/// A row of [`GRANTS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GrantRow {
    grant: Signed<Grant>,
    read: Signed<BlobGrant>,
    /// Batches that are there and have results of it.
    batches: u32,
}

/// A row of [`BATCHES`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BatchRow {
    batch: Signed<Batch>,
    results: Vec<UnitResult>,
}

/// A row of [`STATES`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct StateRow {
    /// Its place in [`ORDER`].
    number: u64,
    at: Timestamp,
    bytes: u64,
    /// Leaves for which receipts came.
    paid: u32,
    /// When the last of their points leave escrow.
    released: Timestamp,
}

/// A row of [`RECEIPTS`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ReceiptRow {
    /// Its place in [`RECEIVED`].
    number: u64,
    coordinator: NodeId,
    kept: Timestamp,
    standing: Standing,
    receipt: Signed<Receipt>,
}

impl Wallet {
    /// Opens the wallet of `identity` in the file `path`, or makes it there.
    ///
    /// # Errors
    /// [`WalletError`]; the file is then as it was.
    pub fn create_or_open(path: &Path, identity: &Identity) -> Result<Self, WalletError> {
        let database = builder()
            .create(path)
            .map_err(|error| refuse(path, error))?;
        Self::on_database(database, path, identity)
    }

    /// Opens the wallet of `identity` on `backend`, or makes it there.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn on_backend(
        backend: impl StorageBackend,
        identity: &Identity,
    ) -> Result<Self, WalletError> {
        let path = Path::new("");
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| refuse(path, error))?;
        Self::on_database(database, path, identity)
    }

    /// Opens the wallet in the file `path` to read, whoever it belongs to, while no node has it open. One of the format
    /// before is brought up to this one first.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn open(path: &Path) -> Result<Self, WalletError> {
        if !path.exists() {
            return Err(WalletError::Missing(path.to_owned()));
        }
        let database = match builder().open_read_only(path) {
            // It was never closed.
            Err(DatabaseError::RepairAborted) => builder()
                .open(path)
                .and_then(Database::close)
                .and_then(|()| builder().open_read_only(path)),
            opened => opened,
        };
        let mut handle = Handle::ReadOnly(database.map_err(|error| refuse(path, error))?);
        let (found, identity) = format_of(&handle, path)?;
        if found == upgrade::BEFORE {
            drop(handle);
            let database = builder().open(path).map_err(|error| refuse(path, error))?;
            upgrade::upgrade(&database, &identity)?;
            database.close().map_err(|error| refuse(path, error))?;
            let database = builder().open_read_only(path);
            handle = Handle::ReadOnly(database.map_err(|error| refuse(path, error))?);
        }
        Ok(Self {
            handle,
            identity,
            path: path.to_owned(),
        })
    }

    fn on_database(
        database: Database,
        path: &Path,
        identity: &Identity,
    ) -> Result<Self, WalletError> {
        let is_new = database.begin_read()?.list_tables()?.count() == 0;
        if is_new {
            initialise(&database, identity)?;
        }
        let handle = Handle::Writable(database);
        let (format, found) = format_of(&handle, path)?;
        if found != *identity {
            return Err(WalletError::Identity {
                path: path.to_owned(),
                found: found.node,
                network: found.network.to_string(),
            });
        }
        if let Handle::Writable(database) = &handle
            && format == upgrade::BEFORE
        {
            upgrade::upgrade(database, identity)?;
        }
        Ok(Self {
            handle,
            identity: found,
            path: path.to_owned(),
        })
    }

    /// Returns whose wallet this is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the file; empty if there is none.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `writes`, or nothing; when this returns, it is durable. What is older than its retention, and the
    /// oldest beyond `bytes_max`, goes.
    ///
    /// # Errors
    /// [`WalletError`].
    ///
    /// # Panics
    /// If the wallet was opened to read.
    pub fn write(
        &self,
        now: Timestamp,
        writes: &[Write],
        bytes_max: u64,
    ) -> Result<(), WalletError> {
        let Handle::Writable(database) = &self.handle else {
            unreachable!("a wallet that is written is open for that");
        };
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .expect("no savepoint is used, and immediate is the strongest durability");
        transaction.set_quick_repair(true);
        let mut tables = Tables::open(&transaction, &self.identity.network)?;
        for write in writes {
            tables.apply(now, write)?;
        }
        tables.prune(now, bytes_max)?;
        tables.close()?;
        transaction.commit()?;
        Ok(())
    }

    fn begin_read(&self) -> Result<ReadTransaction, WalletError> {
        Ok(match &self.handle {
            Handle::Writable(database) => database.begin_read()?,
            Handle::ReadOnly(database) => database.begin_read()?,
        })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn initialise(database: &Database, identity: &Identity) -> Result<(), WalletError> {
    let row = codec::to_bytes(&FormatRow {
        format: FORMAT,
        network: identity.network.clone(),
        node: identity.node,
    });
    let transaction = database.begin_write()?;
    transaction
        .open_table(FORMAT_TABLE)?
        .insert(KEY, row.as_slice())?;
    Tables::open(&transaction, &identity.network)?.close()?;
    transaction.commit()?;
    Ok(())
}

/// Returns the format, which is this one or the one before, and whose wallet it is.
fn format_of(handle: &Handle, path: &Path) -> Result<(u32, Identity), WalletError> {
    let transaction = match handle {
        Handle::Writable(database) => database.begin_read()?,
        Handle::ReadOnly(database) => database.begin_read()?,
    };
    let foreign = || WalletError::NotAWallet(path.to_owned());
    let table = transaction
        .open_table(FORMAT_TABLE)
        .map_err(|_| foreign())?;
    let row = table.get(KEY)?.ok_or_else(foreign)?;
    let version: FormatVersion =
        codec::from_bytes(row.value(), ROW_BYTES_MAX).map_err(|_| foreign())?;
    if ![upgrade::BEFORE, FORMAT].contains(&version.format) {
        return Err(WalletError::Format {
            path: path.to_owned(),
            found: version.format,
        });
    }
    let row: FormatRow = codec::from_bytes(row.value(), ROW_BYTES_MAX).map_err(|_| foreign())?;
    let identity = Identity {
        network: row.network,
        node: row.node,
    };
    Ok((row.format, identity))
}

fn refuse(path: &Path, error: DatabaseError) -> WalletError {
    let locked = matches!(
        error,
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch
    );
    let foreign = if let DatabaseError::Storage(redb::StorageError::Io(error)) = &error {
        error.kind() == std::io::ErrorKind::InvalidData
    } else {
        matches!(error, DatabaseError::UpgradeRequired(_))
    };
    if locked {
        WalletError::Locked(path.to_owned())
    } else if foreign {
        WalletError::NotAWallet(path.to_owned())
    } else {
        error.into()
    }
}

/// Returns the coordinator with whom a key begins.
fn coordinator_of(key: &[u8; 64]) -> NodeId {
    let mut coordinator = [0; 32];
    coordinator.copy_from_slice(&key[..32]);
    NodeId::from_bytes(coordinator)
}

/// Returns the key of something of a coordinator that has 32 bytes.
fn pair(coordinator: &NodeId, of: &[u8; 32]) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(coordinator.as_bytes());
    key[32..].copy_from_slice(of);
    key
}

fn grant_key(coordinator: &NodeId, grant: &GrantId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..32].copy_from_slice(coordinator.as_bytes());
    key[32..].copy_from_slice(grant.as_bytes());
    key
}

fn lot_key(coordinator: &NodeId, owner: &NodeId, since: Timestamp) -> [u8; 72] {
    let mut key = [0; 72];
    key[..32].copy_from_slice(coordinator.as_bytes());
    key[32..64].copy_from_slice(owner.as_bytes());
    key[64..].copy_from_slice(&since.as_millis().to_be_bytes());
    key
}

fn decode<T: DeserializeOwned>(bytes: &[u8], table: &'static str) -> Result<T, WalletError> {
    codec::from_bytes(bytes, ROW_BYTES_MAX).map_err(|_| WalletError::Damaged { table })
}

/// Returns what stands under a key.
fn take<const N: usize, T: DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8; N], Bytes>,
    key: &[u8; N],
    name: &'static str,
) -> Result<Option<T>, WalletError> {
    let row = table.get(key)?;
    row.map(|row| decode(row.value(), name)).transpose()
}

/// Writes a row. Returns its length.
fn put<const N: usize, T: Serialize>(
    table: &mut Table<'_, &'static [u8; N], Bytes>,
    key: &[u8; N],
    row: &T,
) -> Result<u64, WalletError> {
    let bytes = codec::to_bytes(row);
    table.insert(key, bytes.as_slice())?;
    Ok(bytes.len() as u64)
}
