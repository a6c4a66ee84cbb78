//! Starts what makes a node a terminal: wallet, sandboxes, the owner's side, the steward.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use rustix::time::{ClockId, clock_gettime};
use tally_host::{Computer, Host, Settings, cgroup};
use tally_ledger::wallet::Wallet;
use tally_protocol::certificate::DeviceCertificate;
use tally_protocol::id::NodeId;
use tally_protocol::manners::{Decision, Machine};
use tally_protocol::product::ProductId;
use tally_protocol::registration::Registration;
use tally_protocol::signed::Verified;
use tally_sandbox::{SandboxConfig, UnitMax};
use tokio::sync::{Notify, mpsc, watch};

use super::lender::Lender;
use super::{Part, identity, open_store};
use crate::blobs::{Access, BlobStore};
use crate::certificates::{self, Certified};
use crate::config::{Config, TerminalTable};
use crate::error::chain;
use crate::folder::Folder;
use crate::member::steward::{self, Stewardship};
use crate::member::{Line, Member};
use crate::network::Network;
use crate::owner::preferences::{self, PreferencesError};
use crate::owner::{self, Watch};
use crate::peers::Peers;
use crate::terminal;
use crate::worker::{self, Leave, Workers};

fn open_wallet(folder: &Folder, config: &Config, me: NodeId) -> Result<Arc<Wallet>> {
    let identity = identity(config, me);
    let opened = Wallet::create_or_open(&folder.wallet(), &identity);
    let wallet = opened.map_err(|error| {
        let hint = error.hint();
        anyhow::Error::from(error).context(hint)
    })?;
    Ok(Arc::new(wallet))
}

/// Reads whose this computer is, and says for whom it earns.
fn certificate(
    folder: &Folder,
    config: &Config,
    me: NodeId,
) -> Result<Option<Verified<DeviceCertificate>>> {
    let Some(certificate) = certificates::read(&folder.certificate(), &config.network)? else {
        tracing::info!("earns for itself; `tally key certify` lets it earn for its owner");
        return Ok(None);
    };
    let (owner, until) = (certificate.signer(), certificate.not_after);
    match certificates::standing(&certificate, me, crate::clock::now()) {
        Certified::Holds => tracing::info!(%owner, %until, "earns for its owner"),
        Certified::EndsSoon => tracing::warn!(
            %owner, %until, "earns for its owner; the certificate ends soon: `tally key certify` makes a new one"
        ),
        Certified::Not(fault) => tracing::warn!(
            %owner, %until, "earns for itself, because {fault}: `tally key certify` makes a new one"
        ),
    }
    Ok(Some(certificate))
}

/// Starts what looks after the registrations and licenses of a terminal.
fn start_steward(
    member: &Member,
    goal: Option<ProductId>,
    (terminal, network, earned): (&mpsc::Sender<terminal::Message>, Network, Arc<Notify>),
) -> Stewardship {
    steward::start(steward::Setup {
        member: member.clone(),
        line: Line::Own(network, None),
        terminal: terminal.clone(),
        earned,
        goal,
    })
}

/// Reads where this computer is registered.
fn registrations(member: &Member) -> Result<Vec<Verified<Registration>>> {
    let mut registrations = Vec::new();
    for membership in member.memberships().all()? {
        match membership.registration(member.network(), member.me()) {
            Ok(registration) => registrations.push(registration),
            Err(error) => {
                let app_server = membership.app_server;
                tracing::warn!(%app_server, "a registration is left out: {}", chain(&error));
            }
        }
    }
    Ok(registrations)
}

/// How a terminal looks at its computer.
#[derive(Debug, Clone, Default)]
pub struct Computing {
    /// The folder with `proc`, `sys` and `dev`, if it is another one than `/`: tests show a terminal a computer of theirs.
    pub computer: Option<PathBuf>,
}

/// Starts the terminal, with what its owner allows.
pub(super) fn start_terminal(
    (folder, config, computing): (&Folder, &Config, &Computing),
    (key, member): (&SigningKey, &Member),
    (stores, (access, peers, network)): (&mut Vec<BlobStore>, (Access, Peers, Network)),
) -> Result<(Part<terminal::Message>, Lender)> {
    let memory = tally_host::memory_total();
    let preferences = preferences::read(&folder.preferences(), memory).map_err(hinted)?;
    let store = open_store(folder.blobs(), preferences.disk.max)?;
    stores.push(store.clone());
    let wallet = open_wallet(folder, config, member.me())?;
    let earned = Arc::new(Notify::new());
    let table = &config.terminal;
    let (mailbox, messages) = mpsc::channel(terminal::MAILBOX_MAX);
    let workers = start_workers(table, (&store, &mailbox))?;
    let watch = start_watch((folder, config, computing), &workers, &network).map_err(hinted)?;
    let shell = terminal::Shell::new(terminal::Setup {
        key: key.clone(),
        network: config.network.clone(),
        profile: tally_sandbox::profile().clone(),
        allowance: watch.decision().allowance.clone(),
        slots: table.slots.get(),
        store,
        access,
        peers,
        workers,
        certificate: certificate(folder, config, member.me())?,
        registrations: registrations(member)?,
        earned: Arc::clone(&earned),
        wallet: Arc::clone(&wallet),
        wallet_bytes_max: table.wallet_max.bytes(),
        mailbox: mailbox.clone(),
    })?;
    let lender = Lender {
        folder: folder.clone(),
        node: member.me(),
        network: network.clone(),
        terminal: mailbox.clone(),
        witness: None,
        wallet,
        owner: watch.run(mailbox.clone()),
        stewardship: start_steward(member, table.goal.clone(), (&mailbox, network, earned)),
        started: crate::clock::now(),
    };
    let task = tokio::spawn(async move { Ok(shell.run(messages).await?) });
    Ok((Part { mailbox, task }, lender))
}

/// Starts the slots, without sandboxes yet.
fn start_workers(
    table: &TerminalTable,
    (store, mailbox): (&BlobStore, &mpsc::Sender<terminal::Message>),
) -> Result<Arc<Workers>> {
    let slots = worker::Setup {
        slots: table.slots.get(),
        sandbox: SandboxConfig {
            priority: table.priority,
            ..SandboxConfig::default()
        },
        store: store.clone(),
        rest_after: worker::REST_AFTER,
    };
    let reports = mailbox.clone();
    let report = move |report| drop(reports.blocking_send(terminal::Message::Worker(report)));
    let workers = Workers::start(slots, report)
        .context("start the sandbox; Tally's terminals need Linux 5.13 or later with seccomp")?;
    Ok(Arc::new(workers))
}

/// Starts to watch computer and owner, and has the sandboxes obey.
fn start_watch(
    (folder, config, computing): (&Folder, &Config, &Computing),
    workers: &Arc<Workers>,
    network: &Network,
) -> Result<Watch, PreferencesError> {
    let settings = Settings::new(folder.root().to_owned(), |name| std::env::var(name).ok());
    let settings = match &computing.computer {
        Some(root) => Settings {
            root: root.clone(),
            system_bus: String::new(),
            session_bus: None,
            x11_display: None,
            wayland_socket: None,
            runtime_folder: None,
            ..settings
        },
        None => settings,
    };
    let cgroup = Cgroup::open().map(Cgroup::keep);
    let host: Box<dyn Host> = Box::new(Computer::new(settings));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (throttle, traffic) = (network.throttle().clone(), network.traffic().clone());
    let (obeying, measured) = (Arc::clone(workers), Arc::clone(workers));
    Watch::start(owner::Setup {
        folder: folder.clone(),
        host,
        machine: Machine {
            processors,
            slots: config.terminal.slots.get(),
            output_bytes: SandboxConfig::default().output_bytes_max as u64,
        },
        obey: Box::new(move |decision| {
            obeying.set(leave(decision));
            if decision.give_back {
                obeying.rest_paused();
            }
            throttle.set_limits(decision.up, decision.down);
            if let Some(cgroup) = &cgroup {
                let wanted = Held::by(decision, processors, obeying.pids());
                cgroup.send_if_modified(|held| {
                    let is_new = *held != wanted;
                    *held = wanted;
                    is_new
                });
            }
        }),
        look_every: owner::LOOK_EVERY,
        own_cpu: Box::new(move || own_time() + measured.cpu_time()),
        traffic_today: Box::new(move || {
            let today = traffic.seen().today;
            today.up.saturating_add(today.down)
        }),
    })
}

/// The cgroup of the sandboxes, where this process may make one: the kernel holds the limits, too.
#[derive(Debug)]
struct Cgroup {
    delegated: cgroup::Delegated,
    held: Held,
}

/// What it is to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    processes: BTreeSet<u32>,
    /// Thousandths of a processor, and bytes of memory; none before the first decision.
    limits: Option<(u64, u64)>,
}

impl Held {
    fn by(decision: &Decision, processors: usize, processes: Vec<u32>) -> Self {
        let processors = u64::try_from(processors).unwrap_or(u64::MAX);
        let thousandths = decision.cpu.of(processors.saturating_mul(1_000));
        Self {
            processes: processes.into_iter().collect(),
            limits: Some((thousandths, decision.allowance.memory_bytes)),
        }
    }
}

impl Cgroup {
    fn open() -> Option<Self> {
        match cgroup::Delegated::open() {
            Ok(delegated) => {
                tracing::info!("the sandboxes have a cgroup of their own");
                Some(Self {
                    delegated,
                    held: Held::default(),
                })
            }
            Err(reason) => {
                tracing::debug!(
                    "the sandboxes have no cgroup of their own: {}",
                    chain(&reason)
                );
                None
            }
        }
    }

    /// Holds whatever is sent last, for as long as it may be sent. Whoever sends does not wait: less memory takes until the
    /// kernel has got back what is too much.
    fn keep(mut self) -> watch::Sender<Held> {
        let (sender, mut wanted) = watch::channel(Held::default());
        tokio::spawn(async move {
            while wanted.changed().await.is_ok() {
                let held = wanted.borrow_and_update().clone();
                let holding = tokio::task::spawn_blocking(move || {
                    self.hold(held);
                    self
                });
                match holding.await {
                    Ok(back) => self = back,
                    Err(_) => return,
                }
            }
        });
        sender
    }

    /// Moves new sandboxes into it, and sets the limits that have changed.
    fn hold(&mut self, wanted: Held) {
        for new in wanted.processes.difference(&self.held.processes) {
            // One that has ended meanwhile needs no limits.
            let _ = self.delegated.add(*new);
        }
        if let Some((thousandths, memory_bytes)) = wanted.limits
            && wanted.limits != self.held.limits
        {
            let set = self.delegated.set_processors(Some(thousandths));
            let set = set.and_then(|()| self.delegated.set_memory(Some(memory_bytes)));
            if let Err(error) = set {
                tracing::warn!("cannot limit the cgroup of the sandboxes: {error}");
            }
        }
        self.held = wanted;
    }
}

/// Returns what a decision allows the sandboxes.
fn leave(decision: &Decision) -> Leave {
    Leave {
        run: decision.allowance.run,
        cpu: f64::from(decision.cpu.get()) / 100.0,
        slots: decision.allowance.slots,
        unit: UnitMax {
            memory_bytes: decision.unit_memory_max,
            time: decision.unit_time_max,
        },
    }
}

/// Returns the processor time of this process.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

fn hinted(error: PreferencesError) -> anyhow::Error {
    let hint = error.hint();
    anyhow::Error::from(error).context(hint)
}
