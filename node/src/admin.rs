//! The admin socket: how the command line talks to the running node of the same folder.
//!
//! A Unix socket in the data folder, which only its owner can reach. One line of JSON is one question, one line the
//! answer: `{"ok": ...}` or `{"error": {"code", "message", "hint"}}`.

use std::io;
use std::path::Path;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tally_ledger::cli::LedgerQuery;
use tally_ledger::wallet::WalletQuery;
use tally_protocol::account::Money;
use tally_protocol::coordinator::{Decision, Movement};
use tally_protocol::id::{LicenseId, NodeId, ReceiptId, TaskId};
use tally_protocol::manners::Said;
use tally_protocol::message::blob::{BlobGrant, BlobRange};
use tally_protocol::registration::Registration;
use tally_protocol::signed::Signed;
use tally_protocol::task::BlobRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::app_server::operator::AppAsk;
use crate::member::Contact;

/// The longest question in bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// The longest answer in bytes.
const REPLY_BYTES_MAX: u64 = 256 << 20;
/// How long an answer may take: a verification of a long log takes minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the command line asks of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Who it is and how it is.
    Status,
    /// The connected peers.
    Peers,
    /// Whether others reach it.
    Reach,
    /// Coordinators, by Kademlia.
    Find,
    /// What is known of the logs of coordinators.
    Witness,
    /// What was refused, by protocol and reason.
    Counters,
    /// The tasks of the coordinator.
    Tasks,
    /// One task of the coordinator.
    Task {
        /// Which.
        task: TaskId,
    },
    /// Stop a task of the coordinator.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// Have the coordinator move money.
    Move {
        /// From where to where.
        movement: Movement,
        /// How much.
        money: Money,
        /// What the payment is called in the outside world.
        reference: String,
    },
    /// Have the coordinator take a receipt back.
    ClawBack {
        /// Which.
        receipt: ReceiptId,
        /// Why.
        reason: String,
    },
    /// About the coordinator's log.
    Ledger {
        /// What.
        query: LedgerQuery,
    },
    /// About what the terminal has earned.
    Wallet {
        /// What.
        query: WalletQuery,
    },
    /// Read a part of a blob from another node, with its leave.
    Fetch {
        /// Who has it.
        from: NodeId,
        /// What, at most [`FETCH_BYTES_MAX`].
        range: BlobRange,
        /// The leave.
        grant: Signed<BlobGrant>,
    },
    /// Ask an app server as its computer.
    AskAppServer {
        /// Which, and where.
        contact: Contact,
        /// The CBOR of the question; that of the answer comes back, both as base64.
        request: Content,
    },
    /// Download a user application, and say how far that is.
    Bring {
        /// From where.
        contact: Contact,
        /// What.
        blob: BlobRef,
    },
    /// The computer was registered by a command.
    Registered {
        /// The registration.
        registration: Signed<Registration>,
    },
    /// Show that this is the computer with the key: an application asks.
    Prove {
        /// The license that is to be used.
        license: LicenseId,
        /// What the application drew at random, 64 hex digits.
        nonce: Nonce,
    },
    /// About agreements with app servers.
    Agreements,
    /// Decide about an agreement that an app server has proposed.
    Decide {
        /// Who proposed it.
        app_server: NodeId,
        /// Its number.
        number: u32,
        /// What becomes of it.
        decision: Decision,
    },
    /// Enter that a settlement with an app server was paid.
    PaySettlement {
        /// The app server.
        app_server: NodeId,
        /// The number of the settlement.
        number: u32,
        /// What the payment is called in the outside world.
        reference: String,
    },
    /// Of the app server.
    App {
        /// What.
        question: AppAsk,
    },
    /// Of the owner of the terminal.
    Owner {
        /// What.
        question: OwnerAsk,
    },
    /// Finish the units at hand and stop; what takes too long is left to others.
    Stop,
}

/// What the owner of a terminal asks or says.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "owner", rename_all = "snake_case")]
pub enum OwnerAsk {
    /// Pause, go on, finish.
    Say {
        /// What.
        said: Said,
    },
    /// Read the preferences again at once.
    Look,
    /// Why does it not compute, has no work, is not paid?
    Why,
    /// Finish what is there, however long that takes, then stop the node.
    Finish,
    /// What opens the page?
    Page,
}

/// A challenge, in text 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a nonce is 64 hex digits"))
    }
}

/// The most bytes of one [`Request::Fetch`]: the answer is text, a third longer.
pub const FETCH_BYTES_MAX: u64 = 64 << 20;

/// Bytes; as text, base64.
#[derive(Debug, Clone)]
pub struct Content(pub Vec<u8>);

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes());
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a node does not answer as wished. For people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// A word for programs.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl AdminError {
    /// Makes an error.
    pub fn new(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            hint: hint.to_owned(),
        }
    }
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(AdminError),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No node runs on the folder.
    #[error("reach the node: none is running on this folder")]
    NotRunning,
    /// The connection broke.
    #[error("talk to the node")]
    Io(#[from] io::Error),
    /// The answer makes no sense: the node is of another version.
    #[error("understand the node's answer: {0}")]
    Answer(String),
    /// The node said no.
    #[error(transparent)]
    Refused(#[from] AdminError),
}

/// Opens the socket at `path`. One left behind by a node that was killed is replaced: the caller holds the folder.
///
/// # Errors
/// If the socket cannot be made, for example because the path is longer than 107 bytes.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Answers one connection, question by question.
///
/// # Errors
/// If the connection breaks.
pub async fn serve<F, A>(stream: UnixStream, answer: A) -> io::Result<()>
where
    A: Fn(Request) -> F,
    F: Future<Output = Result<Value, AdminError>>,
{
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let count = (&mut read)
            .take(REQUEST_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await?;
        if count == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => answer(request).await,
            Err(error) => {
                let hint = "the node and the command line may be of different versions";
                Err(AdminError::new(
                    "malformed",
                    format!("question not understood: {error}"),
                    hint,
                ))
            }
        };
        let reply = match reply {
            Ok(value) => Reply::Ok(value),
            Err(error) => Reply::Error(error),
        };
        let mut bytes = serde_json::to_vec(&reply)?;
        bytes.push(b'\n');
        write.write_all(&bytes).await?;
    }
}

/// Asks the node whose socket is at `path`.
///
/// # Errors
/// [`AskError`].
pub async fn ask<T: DeserializeOwned>(path: &Path, request: &Request) -> Result<T, AskError> {
    let mut stream = UnixStream::connect(path).await.map_err(|error| {
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if nobody.contains(&error.kind()) {
            AskError::NotRunning
        } else {
            AskError::Io(error)
        }
    })?;
    let mut bytes = serde_json::to_vec(request).map_err(io::Error::from)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(REPLY_BYTES_MAX));
    let read = tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await;
    read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match serde_json::from_slice(&line).map_err(|error| AskError::Answer(error.to_string()))? {
        Reply::Ok(value) => {
            serde_json::from_value(value).map_err(|error| AskError::Answer(error.to_string()))
        }
        Reply::Error(error) => Err(error.into()),
    }
}
