//! Transfers as lines of CSV (RFC 4180).

use std::io::Write;

use tally_protocol::books::Step;

use super::{EntryWriter, ExportError, Told, kind, reference};
use crate::cli::LogHead;

/// The first line. `minor` is the amount in micro-points or minor units, `amount` the same with its decimals.
const HEAD: &str =
    "entry,time,event,task,receipt,reference,posting,step,from,to,commodity,amount,minor";

/// Writes an export.
pub(super) struct Writer;

impl EntryWriter for Writer {
    fn begin(&mut self, _head: &LogHead, out: &mut dyn Write) -> Result<(), ExportError> {
        Ok(write!(out, "{HEAD}\r\n")?)
    }

    fn write(&mut self, told: &Told<'_>, out: &mut dyn Write) -> Result<(), ExportError> {
        let (entry, parties) = (told.entry, told.parties);
        let Some(posting) = &entry.posting else {
            return Ok(());
        };
        let text = |id: Option<String>| id.unwrap_or_default();
        let about = [
            entry.sequence.to_string(),
            entry.at.to_string(),
            kind(&entry.event).to_owned(),
            text(parties.task.map(|task| task.to_string())),
            text(parties.receipt.map(|receipt| receipt.to_string())),
            quoted(reference(&entry.event).unwrap_or_default()),
            posting.id.to_string(),
        ]
        .join(",");
        for transfer in &posting.transfers {
            let amount = transfer.commodity.show(i128::from(transfer.amount));
            write!(
                out,
                "{about},{},{},{},{},{amount},{}\r\n",
                step(transfer.step),
                transfer.from,
                transfer.to,
                transfer.commodity,
                transfer.amount
            )?;
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut dyn Write) -> Result<(), ExportError> {
        Ok(())
    }
}

const fn step(step: Step) -> &'static str {
    match step {
        Step::Move => "move",
        Step::Hold { .. } => "hold",
        Step::Post(_) => "post",
        Step::Void(_) => "void",
        Step::Expire(_) => "expire",
    }
}

/// Returns the text as a field.
fn quoted(text: &str) -> String {
    let special = |c: char| matches!(c, '"' | ',' | '\r' | '\n');
    if text.contains(special) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
