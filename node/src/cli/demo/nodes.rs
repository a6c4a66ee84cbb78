//! The demo's nodes: processes of this same program.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::de::DeserializeOwned;
use tally_protocol::account::Money;
use tally_protocol::id::NodeId;
use tally_protocol::message::customer::TaskStatus;
use tokio::process::{Child, Command};

use crate::admin::{Request, ask};
use crate::folder::Folder;
use crate::node::operator::NodeStatus;
use crate::owner::preferences::WHATEVER_HAPPENS;

/// How often a node is asked whether it is there.
const POLL: Duration = Duration::from_millis(50);
/// How long a node may take to stop by itself.
const STOP_MAX: Duration = Duration::from_secs(5);
/// The network of the demo.
pub(super) const NETWORK: &str = "demo";
/// The address that all nodes listen on: any free port, loopback only.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// The nodes, and what is known of them.
pub(super) struct Nodes {
    root: PathBuf,
    running: Vec<Node>,
    bootstrap: Option<String>,
}

struct Node {
    name: String,
    process: Child,
}

impl Nodes {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            running: Vec::new(),
            bootstrap: None,
        }
    }

    /// Returns the folder of everything.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of a node.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Starts the bootstrap node, then the coordinator.
    pub(super) async fn start(&mut self, patience: Duration) -> Result<()> {
        self.run("bootstrap", &["--role", "bootstrap", "--listen", LISTEN])?;
        let status = self
            .until("bootstrap", patience, |status| !status.addresses.is_empty())
            .await?;
        self.bootstrap = address_of(&status);
        let coordinator = self.root.join("coordinator");
        std::fs::create_dir_all(&coordinator)?;
        std::fs::write(coordinator.join("tally.toml"), super::money::rates_table())?;
        self.run(
            "coordinator",
            &["--role", "coordinator", "--listen", LISTEN],
        )?;
        self.until("coordinator", patience, |_| true).await?;
        Ok(())
    }

    /// Starts the app server, whose folder is there.
    pub(super) async fn start_app_server(&mut self, name: &str, patience: Duration) -> Result<()> {
        self.run(name, &["--role", "app-server", "--listen", LISTEN])?;
        let is_reached =
            |status: &NodeStatus| !status.addresses.is_empty() && status.http.is_some();
        self.until(name, patience, is_reached).await?;
        Ok(())
    }

    /// Makes the folder of a terminal that computes whatever happens on this computer, beside everything else.
    pub(super) fn prepare_terminal(&self, number: u8, goal: Option<&str>) -> Result<()> {
        let folder = self.folder(&format!("terminal-{number}"));
        std::fs::create_dir_all(&folder)?;
        let goal = goal.map_or(String::new(), |goal| format!("goal = \"{goal}\"\n"));
        let config = format!("[terminal]\npriority = \"normal\"\n{goal}");
        std::fs::write(folder.join("tally.toml"), config)?;
        std::fs::write(folder.join("preferences.toml"), WHATEVER_HAPPENS)?;
        Ok(())
    }

    /// Starts the terminals, whose folders are there.
    pub(super) fn start_terminals(&mut self, terminals: u8) -> Result<()> {
        for number in 1..=terminals {
            self.run(
                &format!("terminal-{number}"),
                &["--role", "terminal", "--slots", "1"],
            )?;
        }
        Ok(())
    }

    /// Waits until each terminal has found the coordinator. Returns a line about each node.
    pub(super) async fn met(&mut self, patience: Duration) -> Result<Vec<String>> {
        let names: Vec<String> = self.running.iter().map(|node| node.name.clone()).collect();
        let mut lines = Vec::new();
        for name in names {
            let met = |status: &NodeStatus| {
                status
                    .terminal
                    .as_ref()
                    .is_none_or(|terminal| !terminal.coordinators.is_empty())
            };
            let status = self.until(&name, patience, met).await?;
            let found = match &status.terminal {
                Some(terminal) => {
                    let found = terminal
                        .coordinators
                        .first()
                        .map(|node| node.short())
                        .unwrap_or_default();
                    format!(", found the coordinator ..{found} through Kademlia")
                }
                None => String::new(),
            };
            lines.push(format!(
                "  {name:12} ..{}  process {}{found}",
                status.node.short(),
                status.process
            ));
        }
        Ok(lines)
    }

    /// Has the customer estimate what a job costs at the coordinator.
    pub(super) async fn estimate(&self, job: &Path) -> Result<Money> {
        let status: NodeStatus = self.ask_coordinator(&Request::Status).await?;
        let address = address_of(&status).context("find the coordinator")?;
        let joining = self.joining();
        let job = job.display().to_string();
        let mut args = vec!["task", "estimate", &job, "--coordinator", &address];
        args.extend(joining.iter().map(String::as_str));
        let estimate = self.tool("customer", &args).await?;
        let expected = estimate["price"]["expected"].clone();
        serde_json::from_value(expected).context("read the estimate")
    }

    /// Submits a job as the customer, from its own folder, and waits for the result.
    pub(super) async fn submit(
        &self,
        job: &Path,
        out: &Path,
        patience: Duration,
    ) -> Result<TaskStatus> {
        let mut command = self.command("customer", &["task", "submit", "--json"])?;
        command.arg(job).arg("--out").arg(out).args(self.joining());
        let submitted = tokio::time::timeout(patience, output(&mut command))
            .await
            .context("wait for the customer")??;
        if !submitted.status.success() {
            let said = String::from_utf8_lossy(&submitted.stderr);
            bail!(
                "run the customer: {}",
                said.lines().last().unwrap_or("it said nothing")
            );
        }
        serde_json::from_slice(&submitted.stdout).context("read what the customer says")
    }

    /// Gives some computers one owner. Returns it.
    pub(super) async fn certify(&self, names: &[String]) -> Result<NodeId> {
        let file = self.root.join("owner-key").display().to_string();
        let made = self
            .tool("owner", &["key", "owner", "new", "--file", &file])
            .await?;
        for name in names {
            self.tool(name, &["key", "new"]).await?;
            let certify = [
                "key",
                "certify",
                "--network",
                NETWORK,
                "--owner-key",
                &file,
                "--redeem-points",
                "1",
            ];
            self.tool(name, &certify).await?;
        }
        let owner = made.get("node").cloned().unwrap_or_default();
        serde_json::from_value(owner).context("read whose key it is")
    }

    /// Makes the customer's key. Returns its id.
    pub(super) async fn customer(&self) -> Result<NodeId> {
        let made = self.tool("customer", &["key", "new"]).await?;
        let node = made.get("node").cloned().unwrap_or_default();
        serde_json::from_value(node).context("read the customer's id")
    }

    /// Asks the coordinator, as its operator does.
    pub(super) async fn ask_coordinator<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<T> {
        self.ask("coordinator", request).await
    }

    /// Asks a node, as its operator does.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        name: &str,
        request: &Request,
    ) -> Result<T> {
        let folder = Folder::open(&self.root.join(name))?;
        Ok(ask(&folder.socket(), request).await?)
    }

    /// Runs one command on a folder. Returns what it says.
    pub(super) async fn tool(&self, name: &str, args: &[&str]) -> Result<serde_json::Value> {
        std::fs::create_dir_all(self.root.join(name))?;
        let mut command = self.command(name, &[&["--json"], args].concat())?;
        let ran = output(&mut command).await?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr);
            bail!("run `tally {}`: {said}", args.join(" "));
        }
        serde_json::from_slice(&ran.stdout).context("read what a command says")
    }

    /// Stops all nodes, the last first; kills those that do not stop.
    pub(super) async fn stop(&mut self) {
        for node in &mut self.running {
            drop(node.process.stdin.take());
        }
        for mut node in self.running.drain(..) {
            if tokio::time::timeout(STOP_MAX, node.process.wait())
                .await
                .is_err()
            {
                let _ = node.process.kill().await;
            }
        }
    }

    fn joining(&self) -> Vec<String> {
        let network = ["--network", NETWORK, "--no-mdns"]
            .map(str::to_owned)
            .into_iter();
        let bootstrap = self
            .bootstrap
            .iter()
            .flat_map(|address| ["--bootstrap".to_owned(), address.clone()]);
        network.chain(bootstrap).collect()
    }

    pub(super) fn command(&self, name: &str, args: &[&str]) -> Result<Command> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        // First, because a launch command takes all words that follow.
        command
            .arg("--dir")
            .arg(self.root.join(name))
            .args(args)
            .kill_on_drop(true);
        command.env_remove("TALLY_DIR");
        Ok(command)
    }

    fn run(&mut self, name: &str, args: &[&str]) -> Result<()> {
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder)?;
        let log = std::fs::File::create(folder.join("log.txt"))?;
        let mut command = self.command(name, &["run", "--until-stdin-ends"])?;
        command.args(args).args(self.joining());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let process = command
            .spawn()
            .with_context(|| format!("start the {name}"))?;
        self.running.push(Node {
            name: name.to_owned(),
            process,
        });
        Ok(())
    }

    /// Asks a node how it is until `ready` says yes.
    async fn until(
        &mut self,
        name: &str,
        patience: Duration,
        ready: impl Fn(&NodeStatus) -> bool,
    ) -> Result<NodeStatus> {
        let folder = Folder::open(&self.root.join(name))?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Ok(status) = ask::<NodeStatus>(&folder.socket(), &Request::Status).await
                && ready(&status)
            {
                return Ok(status);
            }
            let node = self
                .running
                .iter_mut()
                .find(|node| node.name == name)
                .context("find the node")?;
            if let Some(exit) = node.process.try_wait()? {
                let log =
                    std::fs::read_to_string(folder.root().join("log.txt")).unwrap_or_default();
                bail!(
                    "start the {name}: it ended with {exit}; it said: {}",
                    log.lines().last().unwrap_or_default()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("start the {name}: not ready after {} s", patience.as_secs())
    }
}

/// Runs a command to its end. If nobody waits for that any more, it is killed with all that it has started.
pub(super) async fn output(command: &mut Command) -> Result<Output> {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn()?;
    let group = Group(
        child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
    );
    let output = child.wait_with_output().await?;
    // It has ended, and its number may be another's by now.
    std::mem::forget(group);
    Ok(output)
}

/// A group of processes that does not outlive this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Returns where a node is reached, with its id.
fn address_of(status: &NodeStatus) -> Option<String> {
    let address = status.addresses.first()?;
    Some(if address.contains("/p2p/") {
        address.clone()
    } else {
        format!("{address}/p2p/{}", status.node)
    })
}
