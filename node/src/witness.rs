//! The witness's shell: one task owns the [machine](tally_protocol::witness), feeds it what is heard of the logs of
//! coordinators, asks what it wants to know, and has the terminal of this node leave a coordinator whose log has forked.
//!
//! What the machine remembers is on the disk before anybody learns what follows from it, so that no restart believes a
//! log again that was caught. A disk that does not take it is complained of, and a fork still counts.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tally_protocol::checkpoint::{Origin, VerifiedCheckpoint};
use tally_protocol::coordinator::Question;
use tally_protocol::id::{Hash, NetworkId, NodeId};
use tally_protocol::message::log::{LogReply, LogRequest};
use tally_protocol::terminal::Input as TerminalInput;
use tally_protocol::time::Timestamp;
use tally_protocol::witness::{
    Effect, ForkKind, Input, RestoreError, SAVED_BYTES_MAX, Witness, Witnessed,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::clock;
use crate::error::chain;
use crate::network::Network;
use crate::terminal;

/// Messages that wait for the witness: more make their senders wait, and more gossip is not listened to.
pub const MAILBOX_MAX: usize = 256;
/// Inputs taken at once before they are written down.
const INPUTS_MAX: usize = 64;

/// What the shell is told.
#[derive(Debug)]
pub enum Message {
    /// For the machine.
    Input(Input),
    /// Somebody asks what is known.
    List(oneshot::Sender<Vec<WitnessedLog>>),
}

/// What a witness needs.
#[derive(Debug)]
pub struct Setup {
    /// The overlay.
    pub network: Network,
    /// Where it remembers.
    pub path: PathBuf,
    /// The terminal of this node.
    pub terminal: Option<mpsc::Sender<terminal::Message>>,
    /// Where the shell's own tasks report to.
    pub mailbox: mpsc::Sender<Message>,
}

/// Why a witness cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file makes no sense.
    #[error("use {path}; what it knew of the logs of others is lost if you remove it")]
    Restore {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RestoreError,
    },
}

/// What is known of the log of a coordinator, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessedLog {
    /// The coordinator.
    pub log: NodeId,
    /// What the log calls itself.
    pub origin: String,
    /// Entries in the last head that grew out of all before it.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When its first head was heard.
    pub since: Timestamp,
    /// When its last head was heard.
    pub heard: Timestamp,
    /// How it is.
    pub state: LogState,
    /// Heads that wait for their proof.
    pub unproven: usize,
    /// The evidence, if it has forked.
    pub fork: Option<ForkEvidence>,
}

/// How a log is, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogState {
    /// All that was heard of it goes together.
    Consistent,
    /// It has not shown yet that a head goes together with the others.
    Unproven,
    /// It has told two stories.
    Forked,
}

/// Two heads that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkEvidence {
    /// How.
    pub kind: ForkKind,
    /// When that was found.
    pub found: Timestamp,
    /// Both, the one that was there first.
    pub heads: [SignedHead; 2],
}

/// A head as its log signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The signed note.
    pub note: String,
}

/// The shell.
#[derive(Debug)]
pub struct Shell {
    setup: Setup,
    machine: Witness,
}

impl Shell {
    /// Starts from what the file holds, and has the terminal leave those that are known to have forked.
    ///
    /// # Errors
    /// [`WitnessError`] if the file cannot be used.
    pub async fn start(setup: Setup) -> Result<Self, WitnessError> {
        let me = setup.network.me();
        let path = setup.path.clone();
        let machine = match load(&path) {
            Ok(None) => Witness::new(me),
            Ok(Some(saved)) => Witness::restore(me, setup.network.network(), &saved)
                .map_err(|source| WitnessError::Restore { path, source })?,
            Err(source) => return Err(WitnessError::Read { path, source }),
        };
        let shell = Self { setup, machine };
        for node in shell.machine.forked() {
            shell.distrust(node).await;
        }
        Ok(shell)
    }

    /// Runs until the process ends; what matters is on the disk by then.
    pub async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(INPUTS_MAX);
        loop {
            let mut effects = Vec::new();
            for message in messages.drain(..) {
                match message {
                    Message::Input(input) => {
                        self.machine.handle(clock::now(), input, &mut effects);
                    }
                    Message::List(reply) => drop(reply.send(self.list())),
                }
            }
            if effects.contains(&Effect::Keep) {
                self.keep().await;
            }
            for effect in effects {
                self.carry_out(effect).await;
            }
            tokio::select! {
                count = mailbox.recv_many(&mut messages, INPUTS_MAX) => if count == 0 { return },
                () = clock::sleep_until(self.machine.next_deadline()) => {
                    messages.push(Message::Input(Input::DeadlineReached));
                }
            }
        }
    }

    async fn carry_out(&self, effect: Effect) {
        match effect {
            // Done for all inputs at once.
            Effect::Keep => {}
            Effect::Ask {
                question,
                to,
                request,
            } => self.ask(question, to, request),
            Effect::Forked(node) => {
                tracing::error!(
                    coordinator = %node,
                    "its log has forked: `tally net witness` shows the evidence"
                );
                self.distrust(node).await;
            }
        }
    }

    /// Asks a coordinator; the answer comes back as a message.
    fn ask(&self, question: Question, to: NodeId, request: LogRequest) {
        let (network, mailbox) = (self.setup.network.clone(), self.setup.mailbox.clone());
        tokio::spawn(async move {
            let name = network.network().clone();
            let input = match network.ask_log(to, request).await {
                Ok(reply) => {
                    let checked = spawn_blocking(move || checked(question, reply, &name)).await;
                    checked.unwrap_or(Input::Failed(question))
                }
                Err(error) => {
                    tracing::debug!(coordinator = ?to, "no answer about its log: {error}");
                    Input::Failed(question)
                }
            };
            let _ = mailbox.send(Message::Input(input)).await;
        });
    }

    async fn distrust(&self, node: NodeId) {
        if let Some(terminal) = &self.setup.terminal {
            let distrusted = terminal::Message::input(TerminalInput::Distrusted(node));
            let _ = terminal.send(distrusted).await;
        }
    }

    async fn keep(&self) {
        let (path, bytes) = (self.setup.path.clone(), self.machine.saved());
        let written = spawn_blocking(move || store(&path, &bytes)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = written {
            tracing::error!("cannot write down what is known of logs: {}", chain(&error));
        }
    }

    fn list(&self) -> Vec<WitnessedLog> {
        let network = self.setup.network.network();
        let logs = self.machine.logs();
        logs.map(|log| WitnessedLog::of(network, &log)).collect()
    }
}

impl WitnessedLog {
    fn of(network: &NetworkId, log: &Witnessed<'_>) -> Self {
        let (node, head) = (log.head.log(), log.head.head());
        let origin = Origin {
            network: network.clone(),
            node,
        };
        let state = match (log.fork, log.unproven) {
            (Some(_), _) => LogState::Forked,
            (None, 0) => LogState::Consistent,
            (None, _) => LogState::Unproven,
        };
        Self {
            log: node,
            origin: origin.to_string(),
            size: head.size,
            root: head.root,
            since: log.since,
            heard: log.heard,
            state,
            unproven: log.unproven,
            fork: log.fork.map(|fork| ForkEvidence {
                kind: fork.kind,
                found: fork.found,
                heads: [&fork.one, &fork.other].map(SignedHead::of),
            }),
        }
    }
}

impl SignedHead {
    fn of(checkpoint: &VerifiedCheckpoint) -> Self {
        let head = checkpoint.head();
        Self {
            size: head.size,
            root: head.root,
            note: checkpoint.signed().as_str().to_owned(),
        }
    }
}

/// Checks an answer; what cannot be an answer to any question counts as none.
fn checked(question: Question, reply: LogReply, network: &NetworkId) -> Input {
    match reply {
        LogReply::Head(head) => match head.verify(network) {
            Ok(checkpoint) => Input::Told {
                question,
                checkpoint,
            },
            Err(error) => {
                tracing::debug!("a coordinator told a head that does not hold: {error}");
                Input::Failed(question)
            }
        },
        LogReply::Consistency(path) => Input::Proved { question, path },
        LogReply::Inclusion(_) | LogReply::Receipts(_) | LogReply::Refused(_) => {
            Input::Failed(question)
        }
    }
}

/// Reads the file; `None` if there is none.
fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut saved = Vec::new();
    // One byte more than there may be, so that a longer file is noticed.
    file.take(SAVED_BYTES_MAX as u64 + 1)
        .read_to_end(&mut saved)?;
    Ok(Some(saved))
}

/// Writes the file: the new one is on the disk before it takes the place of the old one.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}
