//! The text of the unit.
//!
//! It holds what systemd.exec(5) allows to a user's manager and what leaves the sandbox whole: a child makes namespaces,
//! compiles programs and locks itself, so nothing here takes namespaces, executable memory or system calls away, and
//! nothing needs a mount namespace.

use std::path::{Path, PathBuf};

/// The first line of a unit that was written here.
const MARKER: &str = "# Written by `tally service install`, deleted by `tally service remove`.";
/// What stands before the folder on the second line.
const FOLDER: &str = "# Folder: ";
/// The first version of systemd with `RestartSteps`.
const STEPS_SINCE: u32 = 254;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) roles: Vec<String>,
    /// Of systemd.
    pub(super) version: u32,
}

/// Whose a unit file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is none.
    Nobody,
    /// It was written here, for this folder.
    Folder(String),
    /// It was written by somebody else.
    Stranger,
}

impl Owner {
    /// Reads it from the text of the unit.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = text.lines();
        match (
            lines.next(),
            lines.next().and_then(|line| line.strip_prefix(FOLDER)),
        ) {
            (Some(MARKER), Some(folder)) => Self::Folder(folder.to_owned()),
            _ => Self::Stranger,
        }
    }
}

/// A path that a unit cannot name.
#[derive(Debug, thiserror::Error)]
#[error("the path {} has characters that a unit cannot have", .0.display())]
pub(super) struct Unfit(PathBuf);

impl Unit {
    /// Returns the text of the unit.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(super) fn text(&self) -> Result<String, Unfit> {
        let (program, folder) = (plain(&self.program)?, plain(&self.folder)?);
        // systemd takes the first word for a path as it stands, but for specifiers.
        if program.contains('$') {
            return Err(Unfit(self.program.clone()));
        }
        let mut start = quoted(program);
        start.push_str(" run");
        for role in &self.roles {
            start.push_str(&format!(" --role {role}"));
        }
        start.push_str(" --dir ");
        start.push_str(&quoted(folder).replace('$', "$$"));
        let steps = if self.version >= STEPS_SINCE {
            "RestartSteps=6\nRestartMaxDelaySec=15min\n"
        } else {
            ""
        };
        Ok(format!(
            "{MARKER}
{FOLDER}{folder}
[Unit]
Description=Tally: lends what this computer does not need
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={start}
Restart=on-failure
RestartSec=30s
{steps}# Wrong arguments or a wrong configuration do not mend themselves.
RestartPreventExitStatus=2
# A wallet of a version before is rewritten as a whole, behind everything else on the computer.
TimeoutStartSec=infinity
# The node takes 10 s at most to hand in what it has.
TimeoutStopSec=15s

# Behind everything else.
Nice=19
CPUSchedulingPolicy=idle
CPUWeight=idle
IOSchedulingClass=idle
OOMScoreAdjust=900
# The node may hold its sandboxes in a group of their own.
Delegate=cpu memory

UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"
        ))
    }
}

/// Returns the path as text without control characters.
fn plain(path: &Path) -> Result<&str, Unfit> {
    let text = path
        .to_str()
        .filter(|text| !text.chars().any(char::is_control));
    text.ok_or_else(|| Unfit(path.to_owned()))
}

/// Writes a word as systemd.syntax(7) reads it, without specifiers.
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(program: &str, folder: &str) -> Unit {
        Unit {
            program: program.into(),
            folder: folder.into(),
            roles: vec!["terminal".to_owned()],
            version: 252,
        }
    }

    #[test]
    fn the_unit_is_this_text() {
        let golden = include_str!("tally.service");
        let unit = unit("/home/ann/.local/bin/tally", "/home/ann/.local/share/tally");
        let text = unit.text().unwrap();
        assert_eq!(text, golden);
        let folder = "/home/ann/.local/share/tally".to_owned();
        assert_eq!(Owner::of(&text), Owner::Folder(folder));
        assert_eq!(Owner::of("[Unit]\n"), Owner::Stranger);
        let newer = Unit {
            version: 254,
            ..unit
        };
        let text = newer.text().unwrap();
        assert!(text.contains("RestartSec=30s\nRestartSteps=6\nRestartMaxDelaySec=15min\n"));
    }

    #[test]
    fn paths_are_written_as_systemd_reads_them() {
        let text = unit("/opt/a \"b\"/100%/tally", "/home/a b\\c/$x").text();
        let start = "ExecStart=\"/opt/a \\\"b\\\"/100%%/tally\" run --role terminal --dir \"/home/a b\\\\c/$$x\"\n";
        let text = text.unwrap();
        assert!(text.contains(start), "{text}");
        assert_eq!(
            Owner::of(&text),
            Owner::Folder("/home/a b\\c/$x".to_owned())
        );
        assert!(unit("/opt/$a/tally", "/f").text().is_err());
        assert!(unit("/opt/tally", "/a\nExecStart=b").text().is_err());
    }
}
