//! `tally ledger audit` and `rebuild`: whether the books follow from the log.

use tally_ledger::audit;
use tally_ledger::cli::{LedgerAnswer, LedgerQuery, render};
use tally_ledger::rebuild;
use tally_ledger::store::Store;

use super::source::{Source, open};
use super::verify::{sound, with_bar};
use crate::cli::{Common, Exit, Failure};
use crate::clock;

/// Whether books that differ from the log are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Compare,
    Write,
}

pub(super) fn audit(common: &Common, source: &Source) -> Result<(), Failure> {
    let mut asked = source.open(common)?;
    let found = match asked.reader() {
        None => asked.ask(&LedgerQuery::Audit)?,
        Some(reader) => {
            let audited = with_bar(common, "auditing", |progress| {
                audit::audit(reader, progress)
            })?;
            LedgerAnswer::Audit(audited.report)
        }
    };
    common.output().result(&found, || render(&found))?;
    let is_sound = matches!(&found, LedgerAnswer::Audit(report) if report.is_sound());
    sound(
        is_sound,
        "audit the ledger",
        "the answer names the entry or the rule; `tally ledger show ENTRY` tells what it says",
    )
}

pub(super) fn rebuild(common: &Common, source: &Source, way: Way) -> Result<(), Failure> {
    let rebuilt = match (way, source.file()) {
        (Way::Write, Some(file)) => {
            let identity = open(file)?.identity().clone();
            let store = Store::create_or_open(file, &identity, clock::now())?;
            with_bar(common, "rebuilding", |progress| {
                rebuild::write(&store, progress)
            })?
        }
        (Way::Write | Way::Compare, _) => return compare(common, source),
    };
    let replaced = rebuilt.differences > 0;
    let found = LedgerAnswer::Rebuild(rebuilt);
    common.output().result(&found, || render(&found))?;
    if replaced {
        common
            .output()
            .note("the books were replaced by what the log gives");
    }
    Ok(())
}

fn compare(common: &Common, source: &Source) -> Result<(), Failure> {
    let mut asked = source.open(common)?;
    let found = match asked.reader() {
        None => asked.ask(&LedgerQuery::Rebuild)?,
        Some(reader) => {
            let rebuilt = with_bar(common, "rebuilding", |progress| {
                rebuild::check(reader, progress)
            })?;
            LedgerAnswer::Rebuild(rebuilt)
        }
    };
    common.output().result(&found, || render(&found))?;
    if let LedgerAnswer::Rebuild(rebuilt) = &found
        && rebuilt.differences == 0
    {
        return Ok(());
    }
    let hint = "stop the node and run `tally ledger rebuild --write --file FILE`";
    Err(Failure::new(Exit::Unsuccessful, "find the books as the log gives them").hint(hint))
}
