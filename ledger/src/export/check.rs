//! Verifies an export with nothing but a public key.
//!
//! In the order of the file: the head is one of this version, and its checkpoint is signed by that key; each line is
//! the one that follows from its bytes, and stands in its place; the tree over the bytes is the one that was signed.
//! Then all that an audit checks. The first thing that is wrong is told, with the entry that it is about.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use data_encoding::BASE64;
use tally_protocol::checkpoint::SignedCheckpoint;
use tally_protocol::id::{Hash, NetworkId, NodeId};
use tally_protocol::merkle::{Frontier, leaf_hash};

use super::jsonl::{EXPORT_FORMAT, Head, LINE_BYTES_MAX, line, to_json};
use crate::audit::Progress;
use crate::cli::origin_of;
use crate::store::StoredEntry;

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
    /// The first thing that is wrong.
    pub finding: Option<ExportFinding>,
}

impl ExportReport {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.finding.is_none()
    }
}

/// Something wrong in an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportFinding {
    /// The entry; none if it is the head or the whole.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub problem: ExportProblem,
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

/// Verifies the export in `file` against the key of `coordinator`.
///
/// # Errors
/// If the file cannot be read; what is wrong with its content stands in the report.
pub fn check_export(
    file: impl BufRead,
    coordinator: NodeId,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<ExportReport> {
    let mut check = Check {
        lines: Lines { file },
        tree: Frontier::default(),
        network: None,
    };
    let finding = check.run(coordinator, progress)?;
    Ok(ExportReport {
        coordinator,
        entries: check.tree.size(),
        root: check.tree.root(),
        network: check.network,
        finding,
    })
}

struct Check<F> {
    lines: Lines<F>,
    tree: Frontier,
    network: Option<NetworkId>,
}

impl<F: BufRead> Check<F> {
    fn run(
        &mut self,
        coordinator: NodeId,
        progress: &mut dyn FnMut(Progress),
    ) -> io::Result<Option<ExportFinding>> {
        let of_whole = |problem| {
            Some(ExportFinding {
                sequence: None,
                problem,
            })
        };
        let head = match self.lines.next()? {
            Some(line) => check_head(line, coordinator),
            None => Err(ExportProblem::Head {
                reason: "there is none".to_owned(),
            }),
        };
        let head = match head {
            Ok(head) => head,
            Err(problem) => return Ok(of_whole(problem)),
        };
        self.network = Some(head.network.clone());
        for sequence in 0..head.size {
            if sequence.is_multiple_of(PROGRESS_ENTRIES) {
                progress(Progress {
                    done: sequence,
                    total: head.size,
                });
            }
            let checked = match self.lines.next()? {
                None => Err(ExportProblem::Missing),
                Some(line) => check_line(line, sequence, &head.network),
            };
            match checked {
                Ok(stored) => self.tree.push(leaf_hash(&stored.bytes)),
                Err(problem) => {
                    return Ok(Some(ExportFinding {
                        sequence: Some(sequence),
                        problem,
                    }));
                }
            }
        }
        progress(Progress {
            done: head.size,
            total: head.size,
        });
        if self.lines.next()?.is_some() {
            return Ok(of_whole(ExportProblem::BeyondTheEnd));
        }
        let (computed, signed) = (self.tree.root(), head.root);
        if computed != signed {
            return Ok(of_whole(ExportProblem::Root { computed, signed }));
        }
        Ok(None)
    }
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

fn check_line(
    read: LineRead,
    sequence: u64,
    network: &NetworkId,
) -> Result<StoredEntry, ExportProblem> {
    let no_line = |reason: String| ExportProblem::Line { reason };
    let read = read.map_err(no_line)?;
    let found: EntryLine =
        serde_json::from_slice(&read).map_err(|error| no_line(error.to_string()))?;
    let bytes = BASE64
        .decode(found.bytes.as_bytes())
        .map_err(|error| no_line(error.to_string()))?;
    let stored = StoredEntry { sequence, bytes };
    let made = line(&stored, network).map_err(|error| no_line(error.to_string()))?;
    if found.sequence == sequence && made == read {
        Ok(stored)
    } else {
        Err(ExportProblem::Readable)
    }
}
