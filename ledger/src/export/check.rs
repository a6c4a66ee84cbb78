//! Verifies an export with nothing but a public key.
//!
//! In the order of the file: the head is one of this version, and its checkpoint is signed by that key; each line is
//! the one that follows from its bytes, and stands in its place; the tree over the bytes is the one that was signed.
//! Then all that an audit checks. The first thing that is wrong is told, with the entry that it is about.

use std::cell::RefCell;
use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use data_encoding::BASE64;
use tally_protocol::checkpoint::SignedCheckpoint;
use tally_protocol::id::{Hash, NetworkId, NodeId};
use tally_protocol::merkle::{Frontier, leaf_hash};

use super::jsonl::{EXPORT_FORMAT, Head, LINE_BYTES_MAX, line, to_json};
use crate::audit::{Audited, Finding, Progress, Report, audit_entries};
use crate::cli::{Text, grouped, origin_of, render_audit};
use crate::store::{Identity, StoredEntry};

/// What a verification of an export found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// Whose log it says it is.
    pub coordinator: NodeId,
    /// Of which network; none if the head cannot be read.
    pub network: Option<NetworkId>,
    /// Entries that are as they should be, from the first on.
    pub entries: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// The first thing that is wrong with the export.
    pub finding: Option<Finding<ExportProblem>>,
    /// What an audit of the entries found, if nothing is wrong with the export.
    pub audit: Option<Report>,
}

impl ExportReport {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.finding.is_none() && self.audit.as_ref().is_some_and(Report::is_sound)
    }

    /// Returns the report as lines of text of at most [`crate::cli::COLUMNS`] columns.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        match (&self.finding, &self.audit) {
            (Some(finding), _) => {
                text.line("The export is NOT sound.");
                text.field("problem", &finding.to_string());
                text.line("");
                text.line("What comes before is as it was written:");
            }
            (None, Some(audit)) if !audit.is_sound() => {
                text.line("The export is as its coordinator has signed it, but NOT sound.");
            }
            (None, _) => text.line("The export is sound, and its coordinator has signed it."),
        }
        text.field("entries", &grouped(self.entries));
        text.field("root", &self.root.to_string());
        text.field("log of", &self.coordinator.to_string());
        if let Some(network) = &self.network {
            text.field("network", network.as_str());
        }
        if let Some(audit) = &self.audit {
            text.line("");
            render_audit(&mut text, audit);
        }
        text.into_string()
    }
}

/// What is wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum ExportProblem {
    /// The first line is no head.
    #[error("the first line is not the head of an export: {reason}")]
    Head {
        /// Why not.
        reason: String,
    },
    /// The export is of another version.
    #[error("the export has format {found}, this program knows {EXPORT_FORMAT}")]
    Format {
        /// Its version.
        found: u32,
    },
    /// The checkpoint is wrong.
    #[error("its checkpoint: failed to {reason}")]
    Checkpoint {
        /// Why.
        reason: String,
    },
    /// The checkpoint is of another log, or says something else than the head.
    #[error(
        "the head says {head}, the checkpoint {checkpoint}, expected is coordinator {expected}"
    )]
    OtherLog {
        /// The coordinator and size that the head says.
        head: String,
        /// Those of the checkpoint.
        checkpoint: String,
        /// The coordinator whose key was given.
        expected: NodeId,
    },
    /// The line of an entry is missing.
    #[error("it is missing")]
    Missing,
    /// There are lines behind the last entry.
    #[error("the export has lines behind its last entry")]
    BeyondTheEnd,
    /// A line is no entry.
    #[error("its line cannot be read: {reason}")]
    Line {
        /// Why not.
        reason: String,
    },
    /// A line does not say what its bytes say.
    #[error("its line does not say what its bytes say")]
    Readable,
    /// The tree is another one than that which was signed.
    #[error("the root over the entries is {computed}, signed is {signed}")]
    Root {
        /// What the entries give.
        computed: Hash,
        /// What the checkpoint says.
        signed: Hash,
    },
}

/// Verifies the export that `open` opens against the key of `coordinator`. It is opened twice: the first time the lines
/// and the tree are checked, the second time what they say is audited.
///
/// # Errors
/// If the file cannot be read; what is wrong with its content stands in the report.
pub fn check_export<F: BufRead>(
    coordinator: NodeId,
    mut open: impl FnMut() -> io::Result<F>,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<ExportReport> {
    let mut report = ExportReport {
        coordinator,
        network: None,
        entries: 0,
        root: Frontier::default().root(),
        finding: None,
        audit: None,
    };
    let head = match read_head(&mut Lines { file: open()? }, coordinator)? {
        Ok(head) => head,
        Err(problem) => {
            let sequence = None;
            report.finding = Some(Finding { sequence, problem });
            return Ok(report);
        }
    };
    report.network = Some(head.network.clone());
    let identity = Identity {
        network: head.network.clone(),
        node: coordinator,
    };
    let tree = RefCell::new(Frontier::default());
    let progress = RefCell::new(progress);
    // Half of the way is the first reading, half the second.
    let tell = |done: u64| {
        let total = head.size.saturating_mul(2);
        progress.borrow_mut()(Progress { done, total });
    };
    let mut reading = Reading::Checked;
    let reopened = || {
        let mut lines = Lines { file: open()? };
        lines.next()?;
        let reading = std::mem::replace(&mut reading, Reading::Parsed);
        Ok(Entries {
            lines,
            head: &head,
            next: 0,
            reading,
            tree: &tree,
            tell: &tell,
        })
    };
    let audited = audit_entries(&identity, head.size, reopened, &mut |told| {
        tell(head.size.saturating_add(told.done));
    });
    match audited {
        Ok(Audited { report: audit, .. }) => report.audit = Some(audit),
        Err(Stop::Found(finding)) => report.finding = Some(finding),
        Err(Stop::Io(error)) => return Err(error),
    }
    let tree = tree.into_inner();
    (report.entries, report.root) = (tree.size(), tree.root());
    Ok(report)
}

/// How the lines of entries are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Each line must be as it is written, and the tree over them as it was signed.
    Checked,
    /// They are known to be.
    Parsed,
}

/// Why the entries of an export end early.
enum Stop {
    Io(io::Error),
    Found(Finding<ExportProblem>),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The bytes of the entries of an export.
struct Entries<'a, F> {
    lines: Lines<F>,
    head: &'a Head,
    next: u64,
    reading: Reading,
    tree: &'a RefCell<Frontier>,
    tell: &'a dyn Fn(u64),
}

impl<F: BufRead> Iterator for Entries<'_, F> {
    type Item = Result<Vec<u8>, Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        let sequence = self.next;
        self.next = sequence.checked_add(1)?;
        if sequence < self.head.size {
            return Some(self.entry(sequence));
        }
        // Behind the last entry the whole is checked, once.
        if sequence > self.head.size || self.reading == Reading::Parsed {
            return None;
        }
        self.check_end().err().map(Err)
    }
}

impl<F: BufRead> Entries<'_, F> {
    fn entry(&mut self, sequence: u64) -> Result<Vec<u8>, Stop> {
        let found = |problem| {
            let sequence = Some(sequence);
            Stop::Found(Finding { sequence, problem })
        };
        let read = self.lines.next()?;
        let read = read.ok_or_else(|| found(ExportProblem::Missing))?;
        if self.reading == Reading::Parsed {
            return parse_line(read).map(|(_, bytes)| bytes).map_err(found);
        }
        if sequence.is_multiple_of(PROGRESS_ENTRIES) {
            (self.tell)(sequence);
        }
        let stored = check_line(read, sequence, &self.head.network).map_err(found)?;
        self.tree.borrow_mut().push(leaf_hash(&stored.bytes));
        Ok(stored.bytes)
    }

    fn check_end(&mut self) -> Result<(), Stop> {
        let found = |problem| {
            let sequence = None;
            Err(Stop::Found(Finding { sequence, problem }))
        };
        if self.lines.next()?.is_some() {
            return found(ExportProblem::BeyondTheEnd);
        }
        let (computed, signed) = (self.tree.borrow().root(), self.head.root);
        if computed != signed {
            return found(ExportProblem::Root { computed, signed });
        }
        Ok(())
    }
}

fn read_head(
    lines: &mut Lines<impl BufRead>,
    coordinator: NodeId,
) -> io::Result<Result<Head, ExportProblem>> {
    Ok(match lines.next()? {
        Some(line) => check_head(line, coordinator),
        None => Err(ExportProblem::Head {
            reason: "there is none".to_owned(),
        }),
    })
}

/// After how many entries progress is told.
const PROGRESS_ENTRIES: u64 = 1_024;

/// A line, or why it is none.
type LineRead = Result<Vec<u8>, String>;

/// Lines of bounded length, each with an end.
struct Lines<F> {
    file: F,
}

impl<F: BufRead> Lines<F> {
    fn next(&mut self) -> io::Result<Option<LineRead>> {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let count = self.file.by_ref().take(most).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(None);
        }
        Ok(Some(match line.pop() {
            Some(b'\n') => Ok(line),
            _ if count == LINE_BYTES_MAX => Err("it is too long".to_owned()),
            _ => Err("it does not end".to_owned()),
        }))
    }
}

fn check_head(line: LineRead, coordinator: NodeId) -> Result<Head, ExportProblem> {
    let line = line.map_err(|reason| ExportProblem::Head { reason })?;
    let no_head = |error: serde_json::Error| ExportProblem::Head {
        reason: error.to_string(),
    };
    let Version {
        tally_ledger_export: found,
    } = serde_json::from_slice(&line).map_err(no_head)?;
    if found != EXPORT_FORMAT {
        return Err(ExportProblem::Format { found });
    }
    let head: Head = serde_json::from_slice(&line).map_err(no_head)?;
    if to_json(&head) != line {
        return Err(ExportProblem::Head {
            reason: "it is not written as an export is".to_owned(),
        });
    }
    check_checkpoint(&head, coordinator)?;
    Ok(head)
}

/// What every version of the head has.
#[derive(Deserialize)]
struct Version {
    tally_ledger_export: u32,
}

fn check_checkpoint(head: &Head, coordinator: NodeId) -> Result<(), ExportProblem> {
    let wrong = |error: &dyn std::error::Error| ExportProblem::Checkpoint {
        reason: error.to_string(),
    };
    let note: &SignedCheckpoint = &head.checkpoint;
    let origin = origin_of(note.as_str()).map_err(|error| wrong(&error))?;
    let checkpoint = note
        .clone()
        .verify(&origin.network)
        .map_err(|error| wrong(&error))?;
    let tree = checkpoint.head();
    let stated = (&head.network, head.coordinator, head.size, head.root);
    let signed = (&origin.network, checkpoint.log(), tree.size, tree.root);
    if stated == signed && coordinator == head.coordinator {
        return Ok(());
    }
    let told = |(network, node, size, root): (&NetworkId, NodeId, u64, Hash)| {
        format!("{size} entries of {node} in {network} with root {root}")
    };
    Err(ExportProblem::OtherLog {
        head: told(stated),
        checkpoint: told(signed),
        expected: coordinator,
    })
}

/// What is read of the line of an entry; the rest is made again.
#[derive(Deserialize)]
struct EntryLine {
    sequence: u64,
    bytes: String,
}

fn parse_line(read: LineRead) -> Result<(u64, Vec<u8>), ExportProblem> {
    let no_line = |reason: String| ExportProblem::Line { reason };
    let read = read.map_err(no_line)?;
    let EntryLine { sequence, bytes } =
        serde_json::from_slice(&read).map_err(|error| no_line(error.to_string()))?;
    let bytes = BASE64.decode(bytes.as_bytes());
    Ok((sequence, bytes.map_err(|error| no_line(error.to_string()))?))
}

fn check_line(
    read: LineRead,
    sequence: u64,
    network: &NetworkId,
) -> Result<StoredEntry, ExportProblem> {
    let (says, bytes) = parse_line(read.clone())?;
    let stored = StoredEntry { sequence, bytes };
    let made = line(&stored, network).map_err(|error| ExportProblem::Line {
        reason: error.to_string(),
    })?;
    if says == sequence && Ok(made) == read {
        Ok(stored)
    } else {
        Err(ExportProblem::Readable)
    }
}
