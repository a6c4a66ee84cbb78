//! The systemd of the user's session, over `systemctl --user`.

use std::io;
use std::process::{Command, Output};

use super::super::{Exit, Failure};
use super::UNIT;

/// The manager of the user's units, which answers.
#[derive(Debug)]
pub(super) struct Manager {
    version: u32,
}

/// How the unit is.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) enabled: bool,
    /// Such as `active`.
    pub(super) active: String,
    /// Such as `success`.
    pub(super) result: String,
    pub(super) process: Option<u32>,
}

impl State {
    /// Returns whether it runs, or is on its way there or from there.
    pub(super) fn runs(&self) -> bool {
        !matches!(self.active.as_str(), "" | "inactive" | "failed")
    }
}

impl Manager {
    /// Finds it.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub(super) fn find() -> Result<Self, Failure> {
        let output = systemctl(&["show", "--property=Version"])?;
        if !output.status.success() {
            let message = format!("reach the systemd of your session: {}", said(&output));
            return Err(Failure::new(Exit::Failed, message).hint(
                "log in as this user, for su and sudo start no session, and see that XDG_RUNTIME_DIR is set; on a \
                 server: `loginctl enable-linger`, then log in again",
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.trim().strip_prefix("Version=").unwrap_or_default();
        let digits = number.split(|c: char| !c.is_ascii_digit()).next();
        let version = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        Ok(Self { version })
    }

    /// Returns its version; 0 if it says none.
    pub(super) const fn version(&self) -> u32 {
        self.version
    }

    /// Has it do something.
    ///
    /// # Errors
    /// What it says.
    #[expect(clippy::unused_self, reason = "it was found to answer")]
    pub(super) fn run(&self, words: &[&str]) -> Result<(), Failure> {
        let output = systemctl(words)?;
        if output.status.success() {
            return Ok(());
        }
        let message = format!("systemctl --user {}: {}", words.join(" "), said(&output));
        Err(Failure::new(Exit::Failed, message).hint(super::LOG))
    }

    /// Returns how the unit is.
    ///
    /// # Errors
    /// What it says.
    #[expect(clippy::unused_self, reason = "it was found to answer")]
    pub(super) fn state(&self) -> Result<State, Failure> {
        let wanted = "--property=UnitFileState,ActiveState,Result,MainPID";
        let output = systemctl(&["show", UNIT, wanted])?;
        if !output.status.success() {
            let message = format!("ask for the state of {UNIT}: {}", said(&output));
            return Err(Failure::new(Exit::Failed, message));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(of, _)| *of == name);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        Ok(State {
            enabled: value("UnitFileState") == "enabled",
            active: value("ActiveState"),
            result: value("Result"),
            process: value("MainPID").parse().ok().filter(|process| *process > 0),
        })
    }
}

fn systemctl(words: &[&str]) -> Result<Output, Failure> {
    let run = Command::new("systemctl").arg("--user").args(words).output();
    run.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            let message = "find systemctl: this computer has no systemd";
            Failure::new(Exit::Failed, message)
                .hint("have `tally run --role terminal` started by whatever starts programs here")
        } else {
            Failure::new(Exit::Failed, format!("run systemctl: {error}"))
        }
    })
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim().lines().next().unwrap_or_default().to_owned();
    if text.is_empty() {
        format!("systemctl ended with {}", output.status)
    } else {
        text
    }
}
