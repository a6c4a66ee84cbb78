//! Commands: started with nothing of the user's environment, waited for with patience, killed when they are dropped.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    name: String,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
    name: String,
}

/// An error as `--json` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: i32,
    /// The word for programs.
    pub code: String,
    /// What failed.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

impl Running {
    /// Starts a command whose standard input is empty.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let stdout = read(child.stdout.take().unwrap());
        let stderr = read(child.stderr.take().unwrap());
        Self {
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
            name,
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Returns whether it runs still.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let name = self.name.clone();
        let status = crate::until(&format!("the end of {name}"), || {
            self.child.try_wait().unwrap()
        });
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        Ran {
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            name,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that a test has started; nothing happens if it is gone.
pub fn send(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Ran {
    /// Returns the exit code, or minus the signal that ended it.
    #[must_use]
    pub fn exit(&self) -> i32 {
        let signal = || self.status.signal().map(|signal| -signal);
        self.status.code().or_else(signal).unwrap_or(i32::MIN)
    }

    /// Returns itself if the command succeeded.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    #[must_use]
    pub fn done(self) -> Self {
        assert_eq!(self.exit(), 0, "{} failed:\n{}", self.name, self.stderr);
        self
    }

    /// Returns standard output as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Reads standard output, one JSON value.
    ///
    /// # Panics
    /// If it is something else.
    #[track_caller]
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            let (name, text, said) = (
                &self.name,
                String::from_utf8_lossy(&self.stdout),
                &self.stderr,
            );
            panic!("{name} said {text:?}: {error}\n{said}")
        })
    }

    /// Returns the error that a command with `--json` told.
    ///
    /// # Panics
    /// If it succeeded or told none.
    #[track_caller]
    #[must_use]
    pub fn failure(&self) -> Failure {
        let name = &self.name;
        assert_ne!(self.exit(), 0, "{name} succeeded: {}", self.text());
        let told = self.stderr.lines().rev().find_map(|line| {
            let value: Value = serde_json::from_str(line).ok()?;
            value.get("error").cloned()
        });
        let told = told.unwrap_or_else(|| panic!("{name} told no error: {}", self.stderr));
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        Failure {
            exit: self.exit(),
            code: text("code"),
            message: text("message"),
            hint: text("hint"),
        }
    }
}
