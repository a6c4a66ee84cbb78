//! A network of its own, under a folder of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tally_node::owner::preferences::WHATEVER_HAPPENS;
use tally_protocol::id::NodeId;
use tempfile::TempDir;

use crate::job::Job;
use crate::lines::Place;
use crate::node::Node;
use crate::run::{Ran, Running};

/// The name of the network of each test: its nodes never meet those of another, because nobody tells them.
pub const NETWORK: &str = "test";

/// The nodes of a test.
#[derive(Debug)]
pub struct Net {
    program: PathBuf,
    root: TempDir,
    bootstrap: Vec<String>,
    place: Option<Place>,
}

/// A node to be started.
#[derive(Debug)]
pub struct Start<'a> {
    net: &'a Net,
    name: &'a str,
    args: Vec<String>,
    bootstrap: Vec<String>,
}

impl Net {
    /// Makes an empty network; `program` is the `tally` executable.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let root = tempfile::Builder::new()
            .prefix("tally-test-")
            .tempdir()
            .unwrap();
        Self {
            program: program.into(),
            root,
            bootstrap: Vec::new(),
            place: None,
        }
    }

    /// Returns the folder of everything.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns a place under the folder of everything.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file under the folder of everything.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Starts all that is not started elsewhere in `place` from now on.
    pub fn settle(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Lets all that is started from now on connect to `node` first.
    pub fn bootstrap(&mut self, node: &mut Node) {
        self.bootstrap = vec![node.address()];
    }

    /// Returns the address that all connect to first.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn first_address(&self) -> &str {
        &self.bootstrap[0]
    }

    /// Returns `tally` with arguments, without anything of the user's.
    #[must_use]
    pub fn tally(&self, args: &[&str]) -> Command {
        self.tally_in(self.place.as_ref(), args)
    }

    /// Returns `tally` as it is started in a place.
    #[must_use]
    pub fn tally_in(&self, place: Option<&Place>, args: &[&str]) -> Command {
        let mut command = match place {
            None => self.command(&self.program),
            Some(place) => {
                let mut command = self.command("nsenter");
                command.arg(place.as_arg()).arg(&self.program);
                command
            }
        };
        command.args(args);
        command
    }

    /// Returns a command that runs in the folder of everything, without anything of the user's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.root.path());
        for name in ["TALLY_DIR", "RUST_LOG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.current_dir(self.root.path());
        command
    }

    /// Runs `tally` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        Running::start(&mut self.tally(args)).wait()
    }

    /// Returns a node to be started in the folder `name`.
    #[must_use]
    pub fn node<'a>(&'a self, name: &'a str, role: &str) -> Start<'a> {
        let start = Start {
            net: self,
            name,
            args: Vec::new(),
            bootstrap: self.bootstrap.clone(),
        };
        start.args(&["--role", role])
    }

    /// Starts a bootstrap node that all others connect to first.
    pub fn start_bootstrap(&mut self) -> Node {
        let mut node = self.node("bootstrap", "bootstrap").loopback().start();
        self.bootstrap(&mut node);
        node
    }

    /// Starts a coordinator that takes anybody's tasks, and that all others connect to first.
    pub fn start_coordinator(&mut self) -> Node {
        let mut node = self.coordinator("coordinator").start();
        self.bootstrap(&mut node);
        node
    }

    /// Returns a coordinator that takes anybody's tasks, to be started.
    #[must_use]
    pub fn coordinator<'a>(&'a self, name: &'a str) -> Start<'a> {
        let start = self.node(name, "coordinator").loopback();
        start.args(&["--customers", "any"])
    }

    /// Starts a terminal that runs one unit at a time.
    pub fn start_terminal(&self, name: &str) -> Node {
        self.terminal(name).start()
    }

    /// Returns a terminal that runs one unit at a time, to be started.
    #[must_use]
    pub fn terminal<'a>(&'a self, name: &'a str) -> Start<'a> {
        self.node(name, "terminal").args(&["--slots", "1"])
    }

    /// Returns what a customer types: `tally task ARGS` in the folder `name`.
    #[must_use]
    pub fn task(&self, name: &str, args: &[&str]) -> Command {
        let mut command = self.tally(&["task"]);
        command
            .args(args)
            .arg("--json")
            .arg("--dir")
            .arg(self.path(name));
        command.args(joining(&self.bootstrap));
        command
    }

    /// Runs what a customer types to its end.
    #[track_caller]
    pub fn run_task(&self, name: &str, args: &[&str]) -> Ran {
        Running::start(&mut self.task(name, args)).wait()
    }

    /// Submits a job as the customer `name` and goes on at once; the result goes to the file `name.out`.
    #[track_caller]
    pub fn submit(&self, name: &str, job: &Job) -> Running {
        let path = self.write(&format!("{name}.toml"), job.to_string());
        let out = self.path(&format!("{name}.out"));
        let mut command = self.task(name, &["submit"]);
        command.arg(path).arg("--out").arg(out);
        Running::start(&mut command)
    }

    /// Returns the result that [`Net::submit`] has written.
    #[track_caller]
    pub fn result(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(&format!("{name}.out"))).unwrap()
    }

    /// Makes a key in the folder `name` and returns its id.
    #[track_caller]
    pub fn new_key(&self, name: &str) -> NodeId {
        let folder = self.path(name);
        let args = ["key", "new", "--dir", folder.to_str().unwrap()];
        self.run(&args).done().text().trim().parse().unwrap()
    }
}

impl Start<'_> {
    /// Adds arguments of `tally run`.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Listens on a free port of loopback.
    #[must_use]
    pub fn loopback(self) -> Self {
        self.args(&["--listen", "/ip4/127.0.0.1/tcp/0"])
    }

    /// Connects first to these instead of to the bootstrap of the network.
    #[must_use]
    pub fn bootstrap(mut self, addresses: &[String]) -> Self {
        self.bootstrap = addresses.to_vec();
        self
    }

    /// Writes the configuration of the node.
    #[must_use]
    pub fn config(self, text: &str) -> Self {
        self.net.write(&format!("{}/tally.toml", self.name), text);
        self
    }

    /// Starts the node.
    pub fn start(self) -> Node {
        let command = self.net.tally(&[]);
        self.start_with(command)
    }

    /// Starts the node by a command that takes the arguments of `tally`.
    pub fn start_with(self, mut command: Command) -> Node {
        let folder = self.net.path(self.name);
        // At the lowest priority a unit waits for as long as other tests compute.
        if !folder.join("tally.toml").exists() && self.args.iter().any(|arg| arg == "terminal") {
            let name = format!("{}/tally.toml", self.name);
            self.net.write(&name, "[terminal]\npriority = \"normal\"\n");
        }
        // Tests run on computers that are busy, and that somebody may use.
        if !folder.join("preferences.toml").exists() {
            let name = format!("{}/preferences.toml", self.name);
            self.net.write(&name, WHATEVER_HAPPENS);
        }
        command.args(["run", "--until-stdin-ends"]);
        command.arg("--dir").arg(&folder).args(&self.args);
        command.args(joining(&self.bootstrap));
        Node::start(command, &folder)
    }
}

fn joining(bootstrap: &[String]) -> Vec<String> {
    let fixed = ["--network", NETWORK, "--no-mdns"].map(str::to_owned);
    let addresses = bootstrap
        .iter()
        .flat_map(|address| ["--bootstrap".to_owned(), address.clone()]);
    fixed.into_iter().chain(addresses).collect()
}
