//! `tally service`: the node starts with its owner's session and runs in the background, by a systemd user unit.
//!
//! Nothing here needs root. Invariants: a unit file that was not written here is never touched, and one that runs another
//! folder only with `--force`; what is done twice changes nothing the second time.

mod manager;
mod unit;

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::run::RoleName;
use super::{Common, Exit, Failure};
use crate::folder::{FolderError, write_whole};
use manager::{Manager, State};
use unit::{Owner, Unit};

/// The name of the unit.
const UNIT: &str = "tally.service";
/// How to read what the node says.
const LOG: &str = "journalctl --user -u tally.service -n 20";

/// `tally service`.
#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// Have the node of this folder start with your session: writes and enables a systemd user unit.
    Install(Install),
    /// Stop that and take it back.
    Remove {
        /// Also if the unit runs the node of another folder.
        #[arg(long)]
        force: bool,
    },
    /// Whether it is installed, and how it runs.
    Status,
}

/// `tally service install`.
#[derive(Debug, Args)]
pub(super) struct Install {
    /// What the node is; may be given several times.
    #[arg(long, value_name = "ROLE", default_value = "terminal")]
    role: Vec<RoleName>,
    /// Start it at once, not only with the next session.
    #[arg(long)]
    now: bool,
    /// Also if the unit runs the node of another folder now.
    #[arg(long)]
    force: bool,
}

/// What `tally service` shows.
#[derive(Debug, Serialize)]
struct Shown {
    /// Whether the unit file is there.
    installed: bool,
    /// Where it is, or would be.
    unit: PathBuf,
    /// The folder whose node it runs.
    folder: Option<String>,
    /// Whether this command has changed anything.
    changed: bool,
    /// Whether it starts with the session.
    enabled: bool,
    /// What systemd says, such as `active`, `inactive`, `failed`.
    state: String,
    /// Why it is so, such as `success`, `exit-code`.
    result: String,
    /// The process, if it runs.
    process: Option<u32>,
    /// How to read what it says.
    log: &'static str,
}

impl Service {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let path = unit_path()?;
        let shown = match self {
            Self::Install(install) => install.run(common, path)?,
            Self::Remove { force } => remove(common, path, force)?,
            Self::Status => {
                let owner = read(&path)?;
                let state = match &owner {
                    Owner::Nobody => State::default(),
                    Owner::Folder(_) | Owner::Stranger => Manager::find()?.state()?,
                };
                Shown::new(path, &owner, state)
            }
        };
        common.output().result(&shown, || shown.text())
    }
}

impl Install {
    fn run(self, common: &Common, path: PathBuf) -> Result<Shown, Failure> {
        let folder = common.folder()?;
        let manager = Manager::find()?;
        let program = program()?;
        if is_built_here(&program) {
            let text = "warning: this tally lies in a build folder: what is built there next is what starts next";
            common.output().note(text);
        }
        let root = folder.root().canonicalize()?;
        let roles = self.role.iter().map(RoleName::word).collect();
        let unit = Unit {
            program,
            folder: root,
            roles,
            version: manager.version(),
        };
        let text = unit.text().map_err(|unfit| {
            Failure::new(Exit::Usage, format!("write the unit: {unfit}"))
                .hint("move the program or the folder to a path of usual characters")
        })?;
        let before = read(&path)?;
        guard(&path, &before, &unit.folder, self.force)?;
        let changed = fs::read_to_string(&path).ok().as_ref() != Some(&text);
        if changed {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            write_whole(&path, text.as_bytes())?;
        }
        manager.run(&["daemon-reload"])?;
        manager.run(&["enable", UNIT])?;
        let runs = manager.state()?.runs();
        if self.now && !runs {
            // Else systemd tries in vain, and says less about it.
            if let Err(error @ FolderError::InUse(_)) = folder.lock() {
                return Err(
                    Failure::from(error).hint("stop that node, then: tally service install --now")
                );
            }
            manager.run(&["start", UNIT])?;
        } else if self.now && changed {
            manager.run(&["restart", UNIT])?;
        }
        common.output().note(
            "It runs while you are logged in. To have it run from the start of the computer: loginctl enable-linger",
        );
        let after = Owner::Folder(unit.folder.display().to_string());
        let mut shown = Shown::new(path, &after, manager.state()?);
        shown.changed = changed;
        Ok(shown)
    }
}

fn remove(common: &Common, path: PathBuf, force: bool) -> Result<Shown, Failure> {
    let owner = read(&path)?;
    if matches!(owner, Owner::Nobody) {
        return Ok(Shown::new(path, &owner, State::default()));
    }
    let folder = common.folder_path()?;
    // A folder that is gone already has no better name.
    let folder = folder
        .canonicalize()
        .or_else(|_| std::path::absolute(&folder))?;
    guard(&path, &owner, &folder, force)?;
    let manager = Manager::find()?;
    manager.run(&["disable", "--now", UNIT])?;
    fs::remove_file(&path)?;
    manager.run(&["daemon-reload"])?;
    let mut shown = Shown::new(path, &Owner::Nobody, State::default());
    shown.changed = true;
    Ok(shown)
}

/// Refuses to touch what is not this folder's.
fn guard(path: &Path, owner: &Owner, folder: &Path, force: bool) -> Result<(), Failure> {
    let unit = path.display();
    match owner {
        Owner::Nobody => Ok(()),
        Owner::Stranger => {
            let message = format!("change {unit}: it was not written by tally");
            Err(Failure::new(Exit::Failed, message).hint("move that file away"))
        }
        Owner::Folder(of) if force || Path::new(of) == folder => Ok(()),
        Owner::Folder(of) => {
            let message = format!("change {unit}: it runs the node of {of}");
            let hint = "name that folder with --dir, or say --force";
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
    }
}

impl Shown {
    fn new(unit: PathBuf, owner: &Owner, state: State) -> Self {
        let folder = match owner {
            Owner::Folder(folder) => Some(folder.clone()),
            Owner::Nobody | Owner::Stranger => None,
        };
        Self {
            installed: !matches!(owner, Owner::Nobody),
            unit,
            folder,
            changed: false,
            enabled: state.enabled,
            state: state.active,
            result: state.result,
            process: state.process,
            log: LOG,
        }
    }

    fn text(&self) -> String {
        let unit = self.unit.display();
        if !self.installed {
            return format!("not installed: {unit} is not there");
        }
        let running = match (self.state.as_str(), self.process) {
            ("active", Some(process)) => format!("running, process {process}"),
            ("failed", _) => format!("FAILED ({})", self.result),
            (state, _) => state.to_owned(),
        };
        let enabled = if self.enabled {
            "starts with your session"
        } else {
            "does not start by itself"
        };
        let folder = self.folder.as_deref();
        let folder = folder.unwrap_or("unknown: it was not written by tally");
        format!(
            "service   {running}; {enabled}\nunit      {unit}\nfolder    {folder}\nlog       {}",
            self.log
        )
    }
}

fn read(path: &Path) -> Result<Owner, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Owner::of(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Owner::Nobody),
        Err(error) => {
            let message = format!("read {}: {error}", path.display());
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

/// Returns where systemd looks for the unit.
fn unit_path() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")));
    let config = config.ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "find the units of your session: HOME is not set",
        )
    })?;
    Ok(config.join("systemd/user").join(UNIT))
}

/// Returns the file of this program.
fn program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.canonicalize().map_err(|error| {
        let message = format!("find the file of this program: {error}");
        Failure::new(Exit::Failed, message).hint("it was replaced: type the command again")
    })?;
    Ok(program)
}

/// Returns whether cargo has built the program where it lies.
fn is_built_here(program: &Path) -> bool {
    let folder = program.parent();
    folder
        .is_some_and(|folder| folder.join("deps").is_dir() && folder.join(".fingerprint").is_dir())
}

/// Tells systemd that the node is up, if systemd has started it and wants to know.
pub(super) fn tell_ready() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match to.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&to),
    };
    let told =
        address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address));
    if let Err(error) = told {
        let _ = writeln!(
            io::stderr(),
            "systemd was not told that the node is up: {error}"
        );
    }
}
