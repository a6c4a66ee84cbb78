//! A running node.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tally_node::admin::{AdminError, Reply, Request};
use tally_node::node::operator::NodeStatus;
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::message::customer::{TaskStatus, TaskSummary};

use crate::until;

/// How long one answer of a node may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A node in a process of its own. It ends when this is dropped, and when the test dies.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    process: Child,
    stdin: Option<ChildStdin>,
    command: String,
}

impl Node {
    /// Starts a node; what it says goes to `log.txt` in its folder.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("log.txt"))
            .unwrap();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let text = format!("{command:?}");
        let mut process = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {text}: {error}"));
        let stdin = process.stdin.take();
        Self {
            folder: folder.to_owned(),
            process,
            stdin,
            command: text,
        }
    }

    /// Returns its data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns its process id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// Returns what it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log.txt")).unwrap_or_default()
    }

    /// Asks it; `None` if it does not answer.
    ///
    /// # Errors
    /// What it answers, if that is an error.
    pub fn ask<T: DeserializeOwned>(&self, request: &Request) -> Option<Result<T, AdminError>> {
        let mut stream = UnixStream::connect(self.folder.join("admin.sock")).ok()?;
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        let line = serde_json::to_string(request).unwrap() + "\n";
        stream.write_all(line.as_bytes()).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        match serde_json::from_str(&line).ok()? {
            Reply::Ok(value) => Some(Ok(serde_json::from_value(value).unwrap())),
            Reply::Error(error) => Some(Err(error)),
        }
    }

    /// Asks it until it answers.
    ///
    /// # Panics
    /// If it does not, or has ended, or answers with an error.
    #[track_caller]
    pub fn answer<T: DeserializeOwned>(&mut self, request: &Request) -> T {
        until(&format!("an answer to {request:?}"), || {
            self.assert_running();
            self.ask(request)
        })
        .unwrap()
    }

    /// Returns how it is.
    #[track_caller]
    pub fn status(&mut self) -> NodeStatus {
        self.answer(&Request::Status)
    }

    /// Returns its id.
    #[track_caller]
    pub fn id(&mut self) -> NodeId {
        self.status().node
    }

    /// Returns where it listens, with its id.
    #[track_caller]
    pub fn address(&mut self) -> String {
        let status = until("an address", || {
            Some(self.status()).filter(|status| !status.addresses.is_empty())
        });
        let address = &status.addresses[0];
        if address.contains("/p2p/") {
            return address.clone();
        }
        format!("{address}/p2p/{}", status.node)
    }

    /// Returns the tasks of a coordinator.
    #[track_caller]
    pub fn tasks(&mut self) -> Vec<TaskSummary> {
        self.answer(&Request::Tasks)
    }

    /// Returns how a task of a coordinator is.
    #[track_caller]
    pub fn task(&mut self, task: TaskId) -> TaskStatus {
        self.answer(&Request::Task { task })
    }

    /// Returns one of its counters, such as `work.malformed`.
    #[track_caller]
    pub fn counter(&mut self, name: &str) -> u64 {
        let counters: std::collections::BTreeMap<String, u64> = self.answer(&Request::Counters);
        counters.get(name).copied().unwrap_or_default()
    }

    /// Waits until a terminal has found so many coordinators.
    #[track_caller]
    pub fn until_found(&mut self, count: usize) {
        until("the coordinator to be found", || {
            let terminal = self.status().terminal?;
            (terminal.coordinators.len() >= count).then_some(())
        });
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops it in order and returns how it ended.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.ended()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::run::send(self.process.id(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the end of a node", || self.process.try_wait().unwrap())
    }

    /// Returns whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    #[track_caller]
    fn assert_running(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "the node ended with {ended:?}: {}\n{}",
            self.command,
            self.log()
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(15)..];
            // Shown with the failure of the test.
            let _ = writeln!(
                std::io::stderr(),
                "== {}\n{}",
                self.command,
                tail.join("\n")
            );
        }
    }
}
