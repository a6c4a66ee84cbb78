//! A small overlay on loopback: a coordinator and terminals as processes, and a customer in this one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libp2p::Multiaddr;
use serde::de::DeserializeOwned;
use tally_node::admin::{OwnerAsk, Request, ask};
use tally_node::clock;
use tally_node::config::Config;
use tally_node::customer::{CustomerNode, News, Record};
use tally_node::folder::Folder;
use tally_node::keys;
use tally_node::node::operator::NodeStatus;
use tally_node::owner::OwnerStatus;
use tally_node::owner::preferences::WHATEVER_HAPPENS;
use tally_node::owner::why::Why;
use tally_protocol::customer::{Ending, Goal};
use tally_protocol::id::NodeId;
use tally_protocol::manners::Said;
use tally_protocol::message::customer::Phase;
use tally_protocol::signed::Verified;
use tally_protocol::task::BlobRef;
use tally_protocol::task::job::{Contents, Job, Payment};
use tokio::process::{Child, Command};

use crate::{cpu, progress};

/// Where all nodes listen: any free port, loopback only.
pub(crate) const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";
/// The network of the benchmarks.
pub(crate) const NETWORK: &str = "bench";
/// How long a node may take to be ready.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long a task may take.
const TASK_MAX: Duration = Duration::from_secs(3_600);
/// How often a node is asked whether it is ready.
const POLL: Duration = Duration::from_millis(50);

/// The overlay.
pub(crate) struct World {
    root: tempfile::TempDir,
    nodes: Vec<Node>,
    customer: CustomerNode,
    config: Config,
    coordinator: NodeId,
    address: String,
}

struct Node {
    name: String,
    process: Child,
    id: u32,
}

/// How a task went.
pub(crate) struct Run {
    /// From signing the task until the coordinator's word that it is done.
    pub(crate) done: Duration,
    /// Until the result was in the customer's store.
    pub(crate) result_here: Duration,
    /// From the moment the coordinator accepted it, by the clock that both share, until its word.
    pub(crate) since_accepted: Duration,
    /// When each phase was first heard of.
    pub(crate) phases: Vec<(Phase, Duration)>,
    /// The result.
    pub(crate) result: BlobRef,
}

impl World {
    /// Starts a coordinator and terminals of one slot, and connects the customer.
    pub(crate) async fn start(dir: &Path, terminals: usize) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("tally-bench-")
            .tempdir_in(dir);
        let root = root.with_context(|| format!("make a folder in {}", dir.display()))?;
        let folder = Folder::open(&root.path().join("customer"))?;
        keys::create(&folder.key())?;
        let mut nodes = vec![node(
            root.path(),
            "coordinator",
            &[
                "--role",
                "coordinator",
                "--listen",
                LISTEN,
                "--customers",
                "any",
            ],
        )?];
        let ready = |status: &NodeStatus| !status.addresses.is_empty();
        let status = until(root.path(), &mut nodes[0], ready).await?;
        let address = with_id(&status.addresses[0], status.node);
        let joining = [
            "--role",
            "terminal",
            "--slots",
            "1",
            "--bootstrap",
            &address,
        ];
        for number in 1..=terminals {
            nodes.push(node(root.path(), &format!("terminal-{number}"), &joining)?);
        }
        for node in &mut nodes[1..] {
            let found = |status: &NodeStatus| {
                let terminal = status.terminal.as_ref();
                terminal.is_some_and(|terminal| !terminal.coordinators.is_empty())
            };
            until(root.path(), node, found).await?;
        }
        let config = Config {
            network: NETWORK.parse()?,
            mdns: false,
            ..Config::default()
        };
        let mut customer = CustomerNode::join(&folder, &config)?;
        let dialled: Multiaddr = address.parse()?;
        let coordinator = customer.coordinator_at(&dialled).await?;
        Ok(Self {
            root,
            nodes,
            customer,
            config,
            coordinator,
            address,
        })
    }

    /// Returns a terminal.
    pub(crate) fn terminal(&self, number: usize) -> Terminal {
        let node = &self.nodes[1 + number];
        Terminal {
            folder: self.root.path().join(&node.name),
            id: node.id,
        }
    }

    /// Returns a folder for files of the customer.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    /// Puts content where the coordinator can read it.
    pub(crate) fn put(&self, content: &[u8]) -> Result<BlobRef> {
        Ok(self.customer.store().put(content)?)
    }

    /// Names a file that the coordinator can read where it lies.
    pub(crate) fn import(&self, path: &Path) -> Result<BlobRef> {
        Ok(self.customer.store().import_in_place(path)?)
    }

    /// Returns a result's bytes.
    pub(crate) fn read(&self, result: BlobRef) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = self.customer.store().open_file(result.id)?;
        std::io::Read::read_to_end(&mut file, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes a result to a file.
    pub(crate) fn write(&self, result: BlobRef, path: &Path) -> Result<()> {
        self.customer.write_result(result, path)
    }

    /// Has one task done, up to its result in the customer's store.
    pub(crate) async fn run(&mut self, job: &Job, program: BlobRef, input: BlobRef) -> Result<Run> {
        let start = Instant::now();
        let contents = Contents {
            program,
            input,
            edit: None,
        };
        let customer = keys::node_id(self.customer.key());
        let terms = self.customer.terms(self.coordinator).await?;
        let payment = Payment {
            rate_card: terms.rate_card.id(),
            max_price: 0,
        };
        let task = job.task(customer, clock::now(), contents, payment)?;
        let task = Verified::sign(task, &self.config.network, self.customer.key());
        let record = Record {
            signed: task.signed().clone(),
            coordinator: self.coordinator,
            addresses: vec![self.address.clone()],
            submitted: task.created,
        };
        let mut phases: Vec<(Phase, Duration)> = Vec::new();
        let mut done = Duration::ZERO;
        let mut since_accepted = Duration::ZERO;
        let tell = |news: News<'_>| {
            let News::Status(status) = news else { return };
            let phase = &status.summary.phase;
            if phases.last().is_none_or(|(last, _)| last != phase) {
                phases.push((phase.clone(), start.elapsed()));
            }
            if phase.is_final() && done.is_zero() {
                done = start.elapsed();
                since_accepted = clock::now().since(status.summary.accepted);
            }
        };
        let following = self
            .customer
            .follow((task.task_id(), &record), Goal::Result, tell);
        let ending = tokio::time::timeout(TASK_MAX, following)
            .await
            .context("wait for the task")??;
        let result_here = start.elapsed();
        let Ending::Reached(status) = ending else {
            bail!("have a task done: {ending:?}");
        };
        let phase = &status.summary.phase;
        ensure!(*phase == Phase::Done, "have a task done: it is {phase:?}");
        let result = status.result.context("find the result of the task")?;
        Ok(Run {
            done,
            result_here,
            since_accepted,
            phases,
            result,
        })
    }

    /// Returns the processor time so far: of the coordinator, the terminals, their sandboxes and this process.
    pub(crate) fn processor_times(&self) -> [Duration; 4] {
        let terminals = || (0..self.nodes.len() - 1).map(|number| self.terminal(number));
        [
            cpu::time_of(self.nodes[0].id),
            terminals().map(|terminal| cpu::time_of(terminal.id)).sum(),
            terminals().map(|terminal| terminal.sandbox_time()).sum(),
            cpu::time_of(std::process::id()),
        ]
    }

    /// Returns the processor time of the same since `before`.
    pub(crate) fn processor_times_since(&self, before: [Duration; 4]) -> [Duration; 4] {
        let now = self.processor_times();
        std::array::from_fn(|part| now[part].saturating_sub(before[part]))
    }

    /// Stops all nodes, and kills those that do not stop.
    pub(crate) async fn stop(mut self) {
        self.customer.leave().await;
        for node in &mut self.nodes {
            drop(node.process.stdin.take());
        }
        for mut node in self.nodes {
            let stopped = tokio::time::timeout(STOP_MAX, node.process.wait()).await;
            if stopped.is_err() {
                progress(&format!("the {} did not stop, it is killed", node.name));
                let _ = node.process.kill().await;
            }
        }
    }
}

/// A terminal, for whoever plays its owner.
pub(crate) struct Terminal {
    folder: PathBuf,
    id: u32,
}

impl Terminal {
    /// Has it follow these preferences.
    pub(crate) async fn prefer(&self, text: &str) -> Result<()> {
        std::fs::write(self.folder.join("preferences.toml"), text)?;
        let status = self.ask::<OwnerStatus>(OwnerAsk::Look).await?;
        let fault = status.preferences_fault;
        ensure!(fault.is_none(), "follow preferences: {fault:?}");
        Ok(())
    }

    /// Says what the owner says.
    pub(crate) async fn say(&self, said: Said) -> Result<OwnerStatus> {
        self.ask(OwnerAsk::Say { said }).await
    }

    /// Asks why it does what it does.
    pub(crate) async fn why(&self) -> Result<Why> {
        self.ask(OwnerAsk::Why).await
    }

    /// Returns the exact processor time of its sandboxes so far, of those that live.
    pub(crate) fn sandbox_time(&self) -> Duration {
        let sandboxes = cpu::children_of(self.id).into_iter();
        sandboxes.map(cpu::exact_time_of).sum()
    }

    async fn ask<T: DeserializeOwned>(&self, question: OwnerAsk) -> Result<T> {
        let request = Request::Owner { question };
        Ok(ask(&self.folder.join("admin.sock"), &request).await?)
    }
}

/// Starts a node: this same program.
fn node(root: &Path, name: &str, arguments: &[&str]) -> Result<Node> {
    let folder = root.join(name);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("preferences.toml"), WHATEVER_HAPPENS)?;
    let log = std::fs::File::create(folder.join("log.txt"))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command
        .args([
            "run",
            "--until-stdin-ends",
            "--no-mdns",
            "--network",
            NETWORK,
        ])
        .args(arguments)
        .arg("--dir")
        .arg(&folder)
        .env_remove("TALLY_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    let process = command
        .spawn()
        .with_context(|| format!("start the {name}"))?;
    let id = process
        .id()
        .with_context(|| format!("start the {name}: it has ended"))?;
    Ok(Node {
        name: name.to_owned(),
        process,
        id,
    })
}

/// Asks a node how it is until `ready` says yes.
async fn until(
    root: &Path,
    node: &mut Node,
    ready: impl Fn(&NodeStatus) -> bool,
) -> Result<NodeStatus> {
    let folder = root.join(&node.name);
    let socket = folder.join("admin.sock");
    let start = Instant::now();
    while start.elapsed() < START_MAX {
        if let Ok(status) = ask::<NodeStatus>(&socket, &Request::Status).await
            && ready(&status)
        {
            return Ok(status);
        }
        if let Some(exit) = node.process.try_wait()? {
            let log = std::fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
            let said = log.lines().last().unwrap_or_default();
            bail!(
                "start the {}: it ended with {exit} and said: {said}",
                node.name
            );
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("start the {}: not ready after {START_MAX:?}", node.name)
}

fn with_id(address: &str, node: NodeId) -> String {
    if address.contains("/p2p/") {
        address.to_owned()
    } else {
        format!("{address}/p2p/{node}")
    }
}
