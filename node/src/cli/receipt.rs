//! `tally receipt verify`: whether a receipt is what it says, and whether its units give again what it pays for.

mod again;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use tally_ledger::wallet::{DOSSIER_BYTES_MAX, Dossier, Finding, Verification};
use tally_protocol::id::NodeId;

use super::wallet::Source;
use super::{Common, Exit, Failure};
use again::Outcomes;

/// `tally receipt`.
#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// Check a receipt: signatures, leaves, leases, amounts, and that it stands in the coordinator's log.
    Verify(Verify),
}

/// `tally receipt verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A file of `tally wallet export`, or the id of a receipt in the wallet.
    receipt: String,
    /// The coordinator's key, as known from elsewhere. [default: whom the receipt names]
    #[arg(long, value_name = "NODE")]
    key: Option<NodeId>,
    /// Run its units again here, and compare what they give bit by bit.
    #[arg(long)]
    reexecute: bool,
    /// A program or an input that is needed for that, if it is not here; may be given several times.
    #[arg(long, value_name = "FILE", requires = "reexecute")]
    with: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl ReceiptCommand {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.run(common).await,
        }
    }
}

impl Verify {
    async fn run(self, common: &Common) -> Result<(), Failure> {
        let file = Path::new(&self.receipt);
        let dossier = if file.is_file() {
            read(file)?
        } else {
            self.source.dossier(common, &self.receipt).await?
        };
        let verified = dossier.verify(self.key).map_err(|error| {
            let hint = "it was changed, or somebody else made it";
            Failure::from(error).hint(hint).exit(Exit::Unsuccessful)
        })?;
        let outcomes = if self.reexecute {
            Some(again::run(common, &dossier, &self.with).await?)
        } else {
            None
        };
        let value = json!({
            "id": verified.id, "coordinator": verified.coordinator, "receipt": verified.receipt,
            "sound": verified.is_sound(), "complete": verified.is_complete(),
            "checks": verified.checks, "reexecution": outcomes,
        });
        common
            .output()
            .result(&value, || text(&verified, outcomes.as_ref()))?;
        conclude(&verified, outcomes.as_ref())
    }
}

fn read(file: &Path) -> Result<Dossier, Failure> {
    let about = std::fs::metadata(file)?;
    if about.len() > DOSSIER_BYTES_MAX {
        let message = format!("read {}: it is too long for a receipt", file.display());
        return Err(Failure::new(Exit::Usage, message));
    }
    serde_json::from_slice(&std::fs::read(file)?).map_err(|error| {
        let message = format!("read {}: {error}", file.display());
        Failure::new(Exit::Usage, message).hint("`tally wallet export` writes such files")
    })
}

fn text(verified: &Verification, outcomes: Option<&Outcomes>) -> String {
    let receipt = &verified.receipt;
    let mut text = format!(
        "receipt {}\n  {} points for {} units, owed by {}\n",
        verified.id, receipt.points, receipt.units, verified.coordinator
    );
    for (check, finding) in &verified.checks {
        let found = match finding {
            Finding::Right => "ok".to_owned(),
            Finding::Missing(what) => format!("not checked, without {what}"),
            Finding::Wrong(what) => format!("WRONG: {what}"),
        };
        text += &format!("  {check:28}  {found}\n");
    }
    if let Some(outcomes) = outcomes {
        text += &outcomes.text();
    }
    text
}

/// Returns the failure that the exit code tells, if there is one.
fn conclude(verified: &Verification, outcomes: Option<&Outcomes>) -> Result<(), Failure> {
    if !verified.is_sound() {
        let failure = Failure::new(Exit::Unsuccessful, "verify the receipt");
        return Err(failure.hint("it is no proof of what it says"));
    }
    let Some(outcomes) = outcomes else {
        return Ok(());
    };
    if !outcomes.different.is_empty() {
        let message = "get the same again from the units of the receipt";
        let hint =
            "the device reported something else than its units give; a quorum agreed with it";
        return Err(Failure::new(Exit::Unsuccessful, message).hint(hint));
    }
    if !outcomes.missing.is_empty() {
        let message = "run all units of the receipt again: something is missing here";
        let hint =
            "give programs and inputs with --with FILE; a running node also asks the coordinator";
        return Err(Failure::new(Exit::NotFound, message).hint(hint));
    }
    Ok(())
}
