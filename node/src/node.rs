//! A running node: the roles that were chosen, the overlay they share, and the admin socket.

mod lender;
mod lending;
pub mod operator;
mod router;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use tally_ledger::store::{Identity, Store};
use tally_protocol::app_server::AppServerConfig;
use tally_protocol::coordinator::CoordinatorConfig;
use tally_protocol::id::NodeId;
use tally_protocol::message::announce::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::app_server::operator::Counter;
use crate::app_server::{self, Desk};
use crate::blobs::{self, Access, BlobStore, ServeLimits, StoreLimits};
use crate::config::Config;
use crate::coordinator;
use crate::delivery::{Delivery, OWN_PROGRAM};
use crate::error::joined;
use crate::folder::Folder;
use crate::http::{self, tokens::Tokens, webhook::WebhookKey};
use crate::issuing;
use crate::keys;
use crate::member::Member;
use crate::network::{Network, NetworkConfig, NetworkLimits};
use crate::page::{Page, PageAddress, desk::Desk as PageDesk};
use crate::peers::Peers;
use crate::records::RecordsError;
use crate::terminal;
use crate::web;
use crate::witness;

use lender::Lender;
pub use lending::Computing;
use lending::start_terminal;

/// How long a terminal may finish its units after it was told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What a node is started with.
#[derive(Debug)]
pub struct Start {
    /// Its data folder.
    pub folder: Folder,
    /// Its configuration.
    pub config: Config,
    /// The roles it plays.
    pub roles: Vec<Role>,
    /// How it looks at its computer, if it is a terminal.
    pub computing: Computing,
}

/// The roles of a running node.
#[derive(Debug, Default)]
struct Roles {
    coordinator: Option<Part<coordinator::Message>>,
    terminal: Option<Part<terminal::Message>>,
    app_server: Option<Part<app_server::Message>>,
    /// What answers HTTP for the app server.
    http: Option<web::Server>,
    /// What shows the terminal to its owner.
    page: Option<Page>,
    /// Not a role: every node with one looks at the logs of others.
    witness: Option<mpsc::Sender<witness::Message>>,
}

/// A role that runs.
#[derive(Debug)]
struct Part<M> {
    mailbox: mpsc::Sender<M>,
    task: JoinHandle<Result<()>>,
}

/// Runs a node until it is told to stop: by a signal, through its admin socket, or because `stop` comes true.
///
/// # Errors
/// If it cannot start, or a role cannot go on.
pub async fn run(start: Start, stop: impl Future<Output = ()>) -> Result<()> {
    let Start {
        folder,
        config,
        roles,
        computing,
    } = start;
    let _lock = folder.lock()?;
    let key = keys::read(&folder.key())?;
    let me = keys::node_id(&key);
    let access = Access::new(me, config.network.clone());
    let (network, events) = Network::start(network_config(&folder, &config, &roles, &key))?;
    network.traffic().keep(folder.traffic()).await;
    let mut peers = Peers::new(network.clone());
    let mut stores = Vec::new();
    let mut running = Roles::default();
    if roles.contains(&Role::Coordinator) {
        let store = open_store(folder.tasks(), config.coordinator.disk_max.bytes())?;
        stores.push(store.clone());
        let part = start_coordinator(
            &folder,
            &config,
            &key,
            (store.clone(), access.clone(), network.clone()),
        )?;
        peers.add_own(part.mailbox.clone(), store);
        running.coordinator = Some(part);
    }
    let (mut lender, mut app_server) = (None, None);
    let member = Member::new(&folder, config.network.clone(), key.clone());
    if roles.contains(&Role::Terminal) {
        let from = (&folder, &config, &computing);
        let ways = (access.clone(), peers.clone(), network.clone());
        let (part, lends) = start_terminal(from, (&key, &member), (&mut stores, ways))?;
        (running.terminal, lender) = (Some(part), Some(lends));
    }
    if roles.contains(&Role::AppServer) {
        let parts = (&mut stores, access.clone(), network.clone());
        let (part, counter) = start_app_server((&folder, &config), &key, parts)?;
        running.http = Some(start_http((&folder, &config), &counter)?);
        (running.app_server, app_server) = (Some(part), Some(counter));
    }
    introduce(&running).await;
    running.witness = start_witness(&folder, &running, &network).await?;
    let lender = lender.map(|lender| {
        let witness = running.witness.clone();
        Arc::new(Lender { witness, ..lender })
    });
    if let Some(lender) = lender.clone() {
        running.page = start_page(&config, lender)?;
    }
    let serving = blobs::serve(&network, stores, access, ServeLimits::default());
    let socket = crate::admin::listen(&folder.socket())
        .with_context(|| format!("open the admin socket {}", folder.socket().display()))?;
    tracing::info!(node = %me, network = %config.network, ?roles, folder = %folder.root().display(), "node started");
    let routed = router::Router::new(&running, network.clone(), &config).run(events);
    let (asked, mut asked_to_stop) = mpsc::channel(1);
    let operator = operator::Operator::new(&running, network.clone(), (member, roles), asked)
        .with_lender(lender)
        .with_app_server(app_server);
    let stop = either(stop, asked_to_stop.recv());
    let result = until_stopped(&mut running, routed, operator.run(socket), stop).await;
    end(running).await;
    network.shutdown().await;
    serving.abort();
    let _ = std::fs::remove_file(folder.socket());
    result
}

/// Lets the coordinator nudge the terminal of the same node.
async fn introduce(running: &Roles) {
    if let (Some(coordinator), Some(terminal)) = (&running.coordinator, &running.terminal) {
        let beside = coordinator::Message::Beside(terminal.mailbox.clone());
        let _ = coordinator.mailbox.send(beside).await;
    }
}

/// Waits for the first of two things.
async fn either<T>(one: impl Future<Output = ()>, other: impl Future<Output = T>) {
    tokio::select! {
        () = one => {}
        _ = other => {}
    }
}

/// Waits for a signal, a question to stop, or a role that cannot go on.
async fn until_stopped(
    running: &mut Roles,
    routed: impl Future<Output = ()>,
    operated: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = routed => Ok(()),
        () = operated => Ok(()),
        () = stop => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        result = ended(&mut running.coordinator) => result.context("the coordinator stopped"),
        result = ended(&mut running.terminal) => result.context("the terminal stopped"),
        result = ended(&mut running.app_server) => result.context("the app server stopped"),
    }
}

/// Waits for the end of a role, for ever if it is not played.
async fn ended<M>(part: &mut Option<Part<M>>) -> Result<()> {
    let result = match part {
        Some(part) => (&mut part.task).await,
        None => std::future::pending().await,
    };
    *part = None;
    joined(result)
}

/// Lets the terminal report what it has, then stops the roles.
async fn end(mut running: Roles) {
    if let Some(terminal) = &running.terminal {
        let _ = terminal.mailbox.send(terminal::Message::Drain).await;
        let drained = tokio::time::timeout(DRAIN_MAX, ended(&mut running.terminal)).await;
        if drained.is_err() {
            tracing::info!("units that were not finished are left to others");
        }
    }
    if let Some(coordinator) = &running.coordinator {
        let stop = coordinator::Message::Operator(coordinator::Operator::Stop);
        let _ = coordinator.mailbox.send(stop).await;
        let _ = ended(&mut running.coordinator).await;
    }
    if let Some(page) = running.page.take() {
        page.stop().await;
    }
    if let Some(http) = running.http.take() {
        http.stop().await;
    }
    if let Some(app_server) = &running.app_server {
        let _ = app_server.mailbox.send(app_server::Message::Stop).await;
        let _ = ended(&mut running.app_server).await;
    }
}

fn network_config(
    folder: &Folder,
    config: &Config,
    roles: &[Role],
    key: &SigningKey,
) -> NetworkConfig {
    NetworkConfig {
        key: key.clone(),
        network: config.network.clone(),
        roles: roles.to_vec(),
        listen: config.listen_for(roles),
        external: config.external.clone(),
        bootstrap: config.bootstrap.clone(),
        mdns: config.mdns,
        saved_peers: Some(folder.peers()),
        limits: NetworkLimits::default(),
    }
}

fn open_store(path: PathBuf, bytes_max: u64) -> Result<BlobStore> {
    std::fs::create_dir_all(&path)
        .with_context(|| format!("make the folder {}", path.display()))?;
    Ok(BlobStore::open(&path, StoreLimits { bytes_max })?)
}

/// Says whose tables these are.
fn identity(config: &Config, node: NodeId) -> Identity {
    Identity {
        network: config.network.clone(),
        node,
    }
}

/// Says what to do when a role cannot go on.
fn hinted(result: Result<(), RecordsError>) -> Result<()> {
    result.map_err(|error| {
        let hint = error.hint();
        anyhow::Error::from(error).context(hint)
    })
}

fn start_coordinator(
    folder: &Folder,
    config: &Config,
    key: &SigningKey,
    (blobs, access, network): (BlobStore, Access, Network),
) -> Result<Part<coordinator::Message>> {
    let me = keys::node_id(key);
    let identity = identity(config, me);
    let store = Store::create_or_open(&folder.coordinator_store(), &identity, crate::clock::now())?;
    let scratch = folder.root().join("scratch");
    // Whatever lies there was left half done by an earlier run.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch)
        .with_context(|| format!("make the folder {}", scratch.display()))?;
    let (mailbox, messages) = mpsc::channel(coordinator::MAILBOX_MAX);
    let table = &config.coordinator;
    let role = CoordinatorConfig {
        me,
        key: key.clone(),
        rates: table.rates.rates(),
        network: config.network.clone(),
        profile: tally_sandbox::profile().clone(),
        customers: table.customers.0.clone(),
        tasks_max: table.tasks_max,
        input_bytes_max: table.input_max.bytes(),
        program_bytes_max: table.program_max.bytes(),
        retention: config.retention(),
        known_per_mille: table.known_per_mille.get(),
        admission: table.admission.0,
    };
    let shell = coordinator::Shell::start(coordinator::Setup {
        config: role,
        key: key.clone(),
        store,
        blobs,
        access,
        scratch,
        snapshot_every: table.snapshot_every.get(),
        network,
        mailbox: mailbox.clone(),
    })?;
    let task = tokio::spawn(async move { hinted(shell.run(messages).await) });
    Ok(Part { mailbox, task })
}

/// Starts the app server, and returns what answers its operator beside it.
fn start_app_server(
    (folder, config): (&Folder, &Config),
    key: &SigningKey,
    (stores, access, network): (&mut Vec<BlobStore>, Access, Network),
) -> Result<(Part<app_server::Message>, Counter)> {
    let me = keys::node_id(key);
    let identity = identity(config, me);
    let table = &config.app_server;
    let blobs = open_store(folder.applications(), table.applications_max.bytes())?;
    stores.push(blobs.clone());
    let issuer = issuing::issuer(folder, &config.network).context(
        "`tally app init` makes an issuer key, and with the vendor's key its certificate",
    )?;
    let store = Store::create_or_open(&folder.app_server_store(), &identity, crate::clock::now())?;
    let (mailbox, messages) = mpsc::channel(app_server::MAILBOX_MAX);
    let desk = Desk::new(mailbox.clone());
    let tokens = Tokens::load(&store, desk.clone())?;
    let role = AppServerConfig {
        me,
        key: key.clone(),
        network: config.network.clone(),
        issuer,
        pay_within: Duration::from_secs(table.pay_hours * 3_600),
        status_every: Duration::from_secs(table.status_minutes * 60),
    };
    let counter = Counter {
        desk,
        tokens,
        blobs: blobs.clone(),
        delivery: Arc::new(Delivery::new(
            key.clone(),
            network.clone(),
            blobs.clone(),
            OWN_PROGRAM.into(),
        )),
        network: config.network.clone(),
    };
    let shell = app_server::Shell::start(app_server::Setup {
        config: role,
        key: key.clone(),
        store,
        blobs,
        access,
        snapshot_every: table.snapshot_every.get(),
        network,
        mailbox: mailbox.clone(),
    })?;
    let task = tokio::spawn(async move { hinted(shell.run(messages).await) });
    Ok((Part { mailbox, task }, counter))
}

/// Starts to answer HTTP for the app server.
fn start_http((folder, config): (&Folder, &Config), counter: &Counter) -> Result<web::Server> {
    let path = folder.webhook_key();
    let webhook = WebhookKey::open(&path)
        .with_context(|| format!("read the key of payment services {}", path.display()))?;
    let listen = config.app_server.http;
    let setup = http::Setup {
        listen,
        url: config.app_server.url.clone(),
        desk: counter.desk.clone(),
        tokens: counter.tokens.clone(),
        network: config.network.clone(),
        issuer: issuing::read(folder, &config.network)?.signed().to_text(),
        webhook,
        delivery: Arc::clone(&counter.delivery),
    };
    http::start(setup).with_context(|| {
        format!("answer HTTP at {listen}: set [app_server] http to an address that is free")
    })
}

/// Starts to show the terminal to its owner.
fn start_page(config: &Config, desk: Arc<dyn PageDesk>) -> Result<Option<Page>> {
    let PageAddress::At(address) = config.terminal.page else {
        return Ok(None);
    };
    let page = Page::start(address, desk).with_context(|| {
        format!(
            "answer the owner's page at {address}: set [terminal] page to a port that is free, or 0"
        )
    })?;
    Ok(Some(page))
}

/// Starts the witness, on a node that has to do with coordinators.
async fn start_witness(
    folder: &Folder,
    running: &Roles,
    network: &Network,
) -> Result<Option<mpsc::Sender<witness::Message>>> {
    if running.coordinator.is_none() && running.terminal.is_none() {
        return Ok(None);
    }
    let (mailbox, messages) = mpsc::channel(witness::MAILBOX_MAX);
    let shell = witness::Shell::start(witness::Setup {
        network: network.clone(),
        path: folder.witness(),
        terminal: running.terminal.as_ref().map(|part| part.mailbox.clone()),
        mailbox: mailbox.clone(),
    });
    tokio::spawn(shell.await?.run(messages));
    Ok(Some(mailbox))
}
