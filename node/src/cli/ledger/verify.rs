//! `tally ledger verify`: the log itself, an export of it, or one proof.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use tally_ledger::audit::{self, Progress};
use tally_ledger::cli::{LedgerAnswer, LedgerQuery, check_proof, render};
use tally_ledger::export::check_export;
use tally_protocol::id::NodeId;

use super::source::Source;
use crate::cli::output::BarUnit;
use crate::cli::{Common, Exit, Failure};

/// The most bytes of an entry or a proof that are read from a file: an entry has at most 1 MiB.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// `tally ledger verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Verify this export (jsonl); nothing else is needed but the key.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["proof", "file"])]
    export: Option<PathBuf>,
    /// Verify this proof of one entry; nothing else is needed but the entry and the key.
    #[arg(long, value_name = "FILE", requires_all = ["key", "entry"], conflicts_with = "file")]
    proof: Option<PathBuf>,
    /// The bytes of the entry that is proved.
    #[arg(long, value_name = "FILE", requires = "proof")]
    entry: Option<PathBuf>,
    /// The coordinator: its peer id is its public key.
    #[arg(long, value_name = "NODE")]
    key: Option<NodeId>,
    #[command(flatten)]
    source: Source,
}

impl Verify {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        match (&self.export, &self.proof, &self.entry, self.key) {
            (Some(file), _, _, Some(key)) => verify_export(common, file, key),
            (None, Some(proof), Some(entry), Some(key)) => {
                verify_proof(common, proof, (entry, key))
            }
            _ => self.verify_log(common),
        }
    }

    fn verify_log(&self, common: &Common) -> Result<(), Failure> {
        let mut asked = self.source.open(common)?;
        let report = match asked.reader() {
            None => {
                let LedgerAnswer::Verify(report) = asked.ask(&LedgerQuery::Verify)? else {
                    return Err(Failure::new(Exit::Failed, "understand the node's answer"));
                };
                report
            }
            Some(reader) => with_bar(common, "verifying", |progress| {
                audit::verify(reader, progress)
            })?,
        };
        let is_sound = report.is_sound();
        let found = LedgerAnswer::Verify(report);
        common.output().result(&found, || render(&found))?;
        sound(
            is_sound,
            "verify the log",
            "the log was changed after it was written, or the disk is damaged",
        )
    }
}

fn verify_export(common: &Common, file: &Path, key: NodeId) -> Result<(), Failure> {
    let open = || File::open(file).map(BufReader::new);
    let report = with_bar(common, "verifying", |progress| {
        check_export(key, open, progress)
    })?;
    common.output().result(&report, || report.render())?;
    sound(
        report.is_sound(),
        "verify the export",
        "the file was changed after it was written, or this is not the key of its coordinator",
    )
}

fn verify_proof(
    common: &Common,
    proof: &Path,
    (entry, key): (&Path, NodeId),
) -> Result<(), Failure> {
    let proof = String::from_utf8(read(proof)?)
        .map_err(|_| Failure::new(Exit::Unsuccessful, "read a log proof: it is no text"))?;
    let proved = check_proof(&proof, &read(entry)?, key).map_err(|error| {
        Failure::from(error)
            .exit(Exit::Unsuccessful)
            .hint("the entry, the proof and the key must belong together")
    })?;
    common.output().result(&proved, || proved.render())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs what tells its progress, beside a bar.
pub(super) fn with_bar<T>(
    common: &Common,
    doing: &'static str,
    run: impl FnOnce(&mut dyn FnMut(Progress)) -> T,
) -> T {
    let bar = common.output().bar(BarUnit::Entries);
    bar.set_message(doing);
    let found = run(&mut |Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    found
}

pub(super) fn sound(is_sound: bool, what: &str, hint: &str) -> Result<(), Failure> {
    if is_sound {
        Ok(())
    } else {
        Err(Failure::new(Exit::Unsuccessful, what).hint(hint))
    }
}
