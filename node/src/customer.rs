//! The customer's shell: a node for the time of one command, with its own key and folder.
//!
//! It submits tasks, serves their program and input to the coordinator, follows them and fetches results. What it has
//! submitted stands in a [`Book`], so that another command, at another time, can go on. The book is written before
//! a task leaves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ed25519_dalek::SigningKey;
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use tally_ledger::store::{Change, Identity, OpenError, Row, Store};
use tally_protocol::account::Money;
use tally_protocol::codec;
use tally_protocol::customer::{Customer, Effect, Ending, Goal, Input};
use tally_protocol::id::{NetworkId, NodeId, TaskId};
use tally_protocol::message::customer::{CustomerReply, CustomerRequest, TaskStatus, Terms};
use tally_protocol::rate_card::RateCard;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::{BlobRef, Task};
use tally_protocol::time::Timestamp;
use tokio::sync::mpsc;

use crate::blobs::{self, Access, BlobStore, Progress, ServeLimits, StoreLimits};
use crate::clock;
use crate::config::Config;
use crate::folder::Folder;
use crate::keys;
use crate::network::{Network, NetworkConfig, NetworkEvent, NetworkLimits};

/// How long a coordinator is looked for.
const FIND_MAX: Duration = Duration::from_secs(30);
/// How long another one is looked for after one has refused.
const FIND_ANOTHER_MAX: Duration = Duration::from_secs(3);
/// How long a coordinator that does not tell its terms is left alone before it is asked again.
const TERMS_PAUSE: Duration = Duration::from_millis(250);
/// The most disk space for results and for inputs that are not files.
const STORE_BYTES_MAX: u64 = 64 << 30;
/// How long another command may hold the book.
const BOOK_PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a record.
const RECORD_BYTES_MAX: usize = 128 << 10;

/// What a customer remembers of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// As signed.
    pub signed: Signed<Task>,
    /// Who was asked to do it.
    pub coordinator: NodeId,
    /// Where it was then.
    pub addresses: Vec<String>,
    /// When it was signed.
    pub submitted: Timestamp,
}

/// The tasks that a key has submitted.
#[derive(Debug)]
pub struct Book {
    path: PathBuf,
    identity: Identity,
}

impl Book {
    /// Returns the book of a folder.
    #[must_use]
    pub fn new(folder: &Folder, network: NetworkId, node: NodeId) -> Self {
        Self {
            path: folder.customer_store(),
            identity: Identity { network, node },
        }
    }

    /// Opens the database; waits a little if another command has it.
    fn open(&self) -> Result<Store> {
        let start = std::time::Instant::now();
        loop {
            match Store::create_or_open(&self.path, &self.identity, clock::now()) {
                Ok(store) => return Ok(store),
                Err(OpenError::Locked { .. }) if start.elapsed() < BOOK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    let hint = error.hint();
                    return Err(anyhow::Error::from(error).context(hint));
                }
            }
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(&self, task: &TaskId, record: &Record) -> Result<()> {
        let row = Row {
            key: task.as_bytes().to_vec(),
            value: codec::to_bytes(record),
        };
        self.open()?.commit(Change {
            puts: vec![row],
            ..Change::default()
        })?;
        Ok(())
    }

    /// Returns all records, the newest first.
    ///
    /// # Errors
    /// If the disk does not give them.
    pub fn read(&self) -> Result<Vec<(TaskId, Record)>> {
        let mut records = Vec::new();
        for row in self.open()?.rows(&[])? {
            let row = row?;
            let id = row
                .key
                .as_slice()
                .try_into()
                .map(TaskId::from_bytes)
                .context("read the book of tasks")?;
            records.push((id, codec::from_bytes(&row.value, RECORD_BYTES_MAX)?));
        }
        records.sort_by_key(|(_, record): &(TaskId, Record)| std::cmp::Reverse(record.submitted));
        Ok(records)
    }

    /// Returns the record whose id starts with `text`.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn find(&self, text: &str) -> Result<(TaskId, Record)> {
        let mut found = self
            .read()?
            .into_iter()
            .filter(|(id, _)| id.to_string().starts_with(text));
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (None, _) => {
                bail!("find a task {text:?}: this folder has submitted none whose id starts so")
            }
            (Some(_), Some(_)) => {
                bail!("find a task {text:?}: several ids start so, write more of it")
            }
        }
    }
}

/// What a coordinator asks and what a customer has there.
#[derive(Debug)]
pub struct CheckedTerms {
    /// The rate card, signed by the coordinator.
    pub rate_card: Verified<RateCard>,
    /// What the customer can spend.
    pub available: Money,
    /// What is held for tasks.
    pub held: Money,
}

/// A customer that is connected to the overlay.
#[derive(Debug)]
pub struct CustomerNode {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
    store: BlobStore,
    access: Access,
    key: SigningKey,
    found: BTreeSet<NodeId>,
}

/// What a customer sees while it follows a task.
#[derive(Debug)]
pub enum News<'a> {
    /// The task moved.
    Status(&'a TaskStatus),
    /// The result is on its way.
    Result(Progress),
}

impl CustomerNode {
    /// Joins the overlay for the folder's key.
    ///
    /// # Errors
    /// If the folder has no key, or the overlay cannot be started.
    pub fn join(folder: &Folder, config: &Config) -> Result<Self> {
        let key = keys::read(&folder.key())?;
        let me = keys::node_id(&key);
        let (network, events) = Network::start(NetworkConfig {
            key: key.clone(),
            network: config.network.clone(),
            roles: Vec::new(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: config.bootstrap.clone(),
            mdns: config.mdns,
            saved_peers: Some(folder.peers()),
            limits: NetworkLimits::default(),
        })?;
        std::fs::create_dir_all(folder.blobs())?;
        let store = BlobStore::open(
            &folder.blobs(),
            StoreLimits {
                bytes_max: STORE_BYTES_MAX,
            },
        )?;
        let access = Access::new(me, config.network.clone());
        let _served = blobs::serve(
            &network,
            vec![store.clone()],
            access.clone(),
            ServeLimits::default(),
        );
        Ok(Self {
            network,
            events,
            store,
            access,
            key,
            found: BTreeSet::new(),
        })
    }

    /// Returns the customer's key.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Returns the network that the customer is in.
    #[must_use]
    pub const fn network(&self) -> &NetworkId {
        self.network.network()
    }

    /// Returns the customer's contents.
    #[must_use]
    pub const fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Connects to the coordinator at `address`.
    ///
    /// # Errors
    /// If nobody answers there, or a node of another network.
    pub async fn coordinator_at(&mut self, address: &Multiaddr) -> Result<NodeId> {
        let at = || format!("reach the coordinator at {address}");
        let node = self.network.dial(address.clone()).await.with_context(at)?;
        self.identified(node).await.with_context(at)?;
        Ok(node)
    }

    /// Returns a coordinator that was not returned before: the first that is found within half a minute, a further one
    /// if it shows itself soon.
    ///
    /// # Errors
    /// If there is none.
    pub async fn find_coordinator(&mut self) -> Result<NodeId> {
        let patience = if self.found.is_empty() {
            FIND_MAX
        } else {
            FIND_ANOTHER_MAX
        };
        let found = tokio::time::timeout(patience, async {
            loop {
                match self.events.recv().await {
                    Some(NetworkEvent::CoordinatorFound(node)) if self.found.insert(node) => {
                        return Ok(node);
                    }
                    Some(_) => {}
                    None => bail!("the overlay ended"),
                }
            }
        });
        let seconds = patience.as_secs();
        found
            .await
            .map_err(|_| anyhow!("find a coordinator: none showed itself in {seconds} s"))?
    }

    /// Waits until a node that was dialled has shown that it is of this network.
    async fn identified(&mut self, dialled: NodeId) -> Result<()> {
        let shown = async {
            loop {
                match self.events.recv().await {
                    Some(NetworkEvent::Connected(node)) if node == dialled => return Ok(()),
                    Some(NetworkEvent::Foreign { node, found }) if node == dialled => {
                        let ours = self.network.network();
                        let says =
                            found.map_or("went away".to_owned(), |found| format!("says {found:?}"));
                        bail!("meet a node of network {ours} and of this version: it {says}");
                    }
                    Some(_) => {}
                    None => bail!("the overlay ended"),
                }
            }
        };
        tokio::time::timeout(FIND_MAX, shown).await?
    }

    /// Returns the addresses at which a connected node can be found again.
    pub async fn addresses_of(&self, node: NodeId) -> Vec<String> {
        let peers = self.network.peers().await;
        let peer = peers.into_iter().find(|peer| peer.node == node);
        peer.map(|peer| peer.addresses.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    /// Lets the coordinator of a recorded task read its program and input.
    ///
    /// # Errors
    /// If the statement in the book cannot be read.
    pub fn serve(&self, record: &Record) -> Result<()> {
        let task = record.signed.clone().verify(self.network.network())?;
        let editor = task.edit.as_ref().map(|edit| edit.program);
        for blob in [task.program, task.input].into_iter().chain(editor) {
            self.access.allow_reader(blob.id, record.coordinator);
        }
        Ok(())
    }

    /// Asks the coordinator of a record one question, connecting first.
    ///
    /// # Errors
    /// If it cannot be reached or does not answer.
    pub async fn ask(&self, record: &Record, request: CustomerRequest) -> Result<CustomerReply> {
        self.connect(record).await?;
        Ok(self
            .network
            .ask_customer(record.coordinator, request)
            .await?)
    }

    /// Asks a connected coordinator what work costs there, and what funds this customer has.
    ///
    /// # Errors
    /// If it does not answer, or not with a rate card of its own.
    pub async fn terms(&self, coordinator: NodeId) -> Result<CheckedTerms> {
        let addresses = self.addresses_of(coordinator).await;
        let addresses: Vec<Multiaddr> = addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let start = std::time::Instant::now();
        let reply = loop {
            let asked = self
                .network
                .ask_customer(coordinator, CustomerRequest::Terms);
            match asked.await {
                Ok(reply) => break reply,
                Err(error) if start.elapsed() > FIND_MAX => return Err(error.into()),
                // It may be starting again.
                Err(_) => {
                    tokio::time::sleep(TERMS_PAUSE).await;
                    let _ = self.network.connect(coordinator, addresses.clone()).await;
                }
            }
        };
        let CustomerReply::Terms(terms) = reply else {
            bail!("ask for the terms of the coordinator: it answered something else");
        };
        let Terms {
            rate_card,
            available,
            held,
        } = *terms;
        let rate_card = rate_card.verify(self.network.network())?;
        if rate_card.signer() != coordinator {
            bail!("accept the rate card of the coordinator: somebody else signed it");
        }
        rate_card.rates.check()?;
        Ok(CheckedTerms {
            rate_card,
            available,
            held,
        })
    }

    async fn connect(&self, record: &Record) -> Result<()> {
        let addresses = record
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let connected = self.network.connect(record.coordinator, addresses).await;
        connected.with_context(|| format!("reach the coordinator {}", record.coordinator))
    }

    /// Follows a recorded task up to `goal`, for as long as it takes; the result, if that is the goal, is in the store.
    ///
    /// # Errors
    /// If the result cannot be stored.
    pub async fn follow(
        &mut self,
        (id, record): (TaskId, &Record),
        goal: Goal,
        mut tell: impl FnMut(News<'_>) + Send,
    ) -> Result<Ending> {
        self.serve(record)?;
        let mut machine = Customer::new(id, Some(record.signed.clone()), goal);
        let (inputs, mut mailbox) = mpsc::channel(16);
        let (moved, mut movements) = mpsc::channel(16);
        let link = tokio::spawn(keep_connected(
            self.network.clone(),
            record.clone(),
            inputs.clone(),
        ));
        let following = Following {
            network: &self.network,
            store: &self.store,
            record,
            inputs,
            moved,
        };
        let ending = loop {
            let mut effects = Vec::new();
            tokio::select! {
                input = mailbox.recv() => {
                    let input = input.unwrap_or(Input::DeadlineReached);
                    machine.handle(clock::now(), input, &mut effects);
                }
                Some(progress) = movements.recv() => tell(News::Result(progress)),
                () = clock::sleep_until(machine.next_deadline()) => {
                    machine.handle(clock::now(), Input::DeadlineReached, &mut effects);
                }
            }
            if let Some(ending) = following.carry_out(effects, &mut tell) {
                break ending;
            }
        };
        link.abort();
        Ok(ending)
    }

    /// Copies a blob of the store to `path`; what was there is replaced only by the whole result.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_result(&self, result: BlobRef, path: &Path) -> Result<()> {
        let folder = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let failed = || format!("write the result to {}", path.display());
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
        std::io::copy(&mut self.store.open_file(result.id)?, &mut file).with_context(failed)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(file.path(), mode).with_context(failed)?;
        file.persist(path).with_context(failed)?;
        Ok(())
    }

    /// Leaves the overlay.
    pub async fn leave(self) {
        self.network.shutdown().await;
    }
}

/// Carries out what the machine wants.
struct Following<'a> {
    network: &'a Network,
    store: &'a BlobStore,
    record: &'a Record,
    inputs: mpsc::Sender<Input>,
    moved: mpsc::Sender<Progress>,
}

impl Following<'_> {
    fn carry_out(
        &self,
        effects: Vec<Effect>,
        tell: &mut (impl FnMut(News<'_>) + Send),
    ) -> Option<Ending> {
        for effect in effects {
            match effect {
                Effect::Ask { question, request } => {
                    let (network, inputs, to) = (
                        self.network.clone(),
                        self.inputs.clone(),
                        self.record.coordinator,
                    );
                    tokio::spawn(async move {
                        let input = match network.ask_customer(to, request).await {
                            Ok(reply) => Input::Answered { question, reply },
                            Err(error) => {
                                tracing::debug!("the coordinator does not answer: {error}");
                                Input::Failed(question)
                            }
                        };
                        let _ = inputs.send(input).await;
                    });
                }
                Effect::Progress(status) => tell(News::Status(&status)),
                Effect::Fetch(result) => self.fetch(result),
                Effect::End(ending) => return Some(ending),
            }
        }
        None
    }

    fn fetch(&self, result: BlobRef) {
        let (network, store, from) = (
            self.network.clone(),
            self.store.clone(),
            self.record.coordinator,
        );
        let (inputs, moved) = (self.inputs.clone(), self.moved.clone());
        tokio::spawn(async move {
            let progress = |progress| {
                let _ = moved.try_send(progress);
            };
            let fetched = blobs::fetch(&network, &store, from, result, None, progress).await;
            let fetched = fetched.map_err(|error| crate::error::chain(&error));
            if let Err(reason) = &fetched {
                tracing::warn!("the result did not come through: {reason}");
            }
            let _ = inputs.send(Input::Fetched(fetched)).await;
        });
    }
}

/// Connects to the coordinator, again whenever the connection was lost.
async fn keep_connected(network: Network, record: Record, inputs: mpsc::Sender<Input>) {
    /// The pause between attempts, and between looks whether the connection is still there.
    const PAUSE: Duration = Duration::from_secs(1);
    let mut connected = false;
    loop {
        let addresses = record
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect();
        let now = network.connect(record.coordinator, addresses).await.is_ok();
        if now != connected {
            connected = now;
            let input = if now {
                Input::Connected
            } else {
                Input::Disconnected
            };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
