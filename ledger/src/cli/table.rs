//! Answers as text for people: at most [`COLUMNS`] columns, ids short in tables and full where one thing is shown.

use std::fmt::Write as _;

use tally_protocol::entry::{Ending, ValidatedUnit};
use tally_protocol::id::NodeId;
use tally_protocol::task::{BlobRef, Task};
use tally_protocol::time::Timestamp;

use super::view::{EntryDetail, EntryRow, EventDetail, EventRow, Statement};
use super::{EntriesPage, LedgerAnswer};
use crate::audit::Report;

/// The width of a terminal window that is as it always was.
pub const COLUMNS: usize = 80;
/// Characters of `2026-01-31 23:59:59`.
const TIME_CHARS: usize = 19;
/// Columns of a name before its value.
const NAME_COLUMNS: usize = 11;
/// The longest value that is shown whole.
const VALUE_CHARS_MAX: usize = 4_000;
/// How many nodes a table names before it only counts them.
const NODES_NAMED: usize = 1;

/// Returns the answer as lines of text.
#[must_use]
pub fn render(answer: &LedgerAnswer) -> String {
    match answer {
        LedgerAnswer::Entries(page) => entries(page),
        LedgerAnswer::Entry(entry) => detail(entry),
        LedgerAnswer::Verify(report) => verdict(report),
    }
}

fn entries(page: &EntriesPage) -> String {
    let width = |row: &EntryRow| row.sequence.to_string().len();
    let places = page.rows.iter().map(width).max().unwrap_or(0).max(5);
    let mut text = Text::default();
    if !page.rows.is_empty() {
        let (entry, time) = ("ENTRY", "TIME (UTC)");
        text.line(&format!(
            "{entry:>places$}  {time:<TIME_CHARS$}  WHAT       TASK      ABOUT"
        ));
    }
    for row in &page.rows {
        let (at, what, about) = columns(&row.event);
        let task = row.task().map_or_else(String::new, |task| task.short());
        text.line(&format!(
            "{:>places$}  {at:<TIME_CHARS$}  {what:<9}  {task:<8}  {about}",
            row.sequence
        ));
    }
    let (shown, all) = (page.rows.len() as u64, page.size);
    text.line(&format!("{} of {} entries", grouped(shown), grouped(all)));
    text.line(&format!("root {}", page.root));
    text.0
}

/// Returns time, kind and the rest of a row.
fn columns(event: &EventRow) -> (String, &'static str, String) {
    match event {
        EventRow::TaskAccepted { at, summary, .. } => {
            let about = match summary {
                Some(task) => format!("{} for {}", task.name, task.customer.short()),
                None => "its signature does not hold".to_owned(),
            };
            (time(*at), "accepted", about)
        }
        EventRow::BatchValidated {
            at,
            device,
            units,
            done,
            ..
        } => {
            let failed = match units.saturating_sub(*done) {
                0 => String::new(),
                failed => format!(", {} failed", grouped(failed)),
            };
            let about = format!("{} units by {}{failed}", grouped(*units), device.short());
            (time(*at), "validated", about)
        }
        EventRow::TaskEnded { at, ending, .. } => {
            let about = match ending {
                Ending::Done(result) => format!("done: {}", blob(result)),
                Ending::Failed(reason) => format!("failed: {reason}"),
                Ending::Cancelled => "cancelled".to_owned(),
            };
            (time(*at), "ended", about)
        }
        EventRow::Other { at } => (time(*at), "other", String::new()),
        EventRow::Unreadable { reason } => (String::new(), "unreadable", reason.clone()),
    }
}

fn detail(entry: &EntryDetail) -> String {
    let mut text = Text::default();
    text.field("entry", &entry.sequence.to_string());
    text.field("time", &entry.at.to_string());
    text.field("leaf", &entry.leaf.to_string());
    text.field("bytes", &grouped(entry.bytes));
    match &entry.event {
        EventDetail::TaskAccepted {
            task, statement, ..
        } => {
            text.field("what", "task accepted");
            text.field("task", &task.to_string());
            match statement {
                Statement::Verified(task) => signed_task(&mut text, task),
                Statement::Refused(reason) => {
                    text.field("signature", &format!("does not hold: failed to {reason}"));
                }
            }
        }
        EventDetail::BatchValidated {
            task,
            device,
            batch,
            units,
        } => {
            text.field("what", "units validated");
            text.field("task", &task.to_string());
            text.field("device", &device.to_string());
            text.field("batch", &batch.to_string());
            unit_table(&mut text, units);
        }
        EventDetail::TaskEnded { task, ending } => {
            text.field("what", "task ended");
            text.field("task", &task.to_string());
            match ending {
                Ending::Done(result) => {
                    text.field("ending", "done");
                    text.field("result", &result.id.to_string());
                    text.field("", &format!("{} bytes", grouped(result.bytes)));
                }
                Ending::Failed(reason) => text.field("ending", &format!("failed: {reason}")),
                Ending::Cancelled => text.field("ending", "cancelled by the customer"),
            }
        }
        EventDetail::Other => text.field("what", "something else"),
    }
    text.0
}

fn signed_task(text: &mut Text, task: &Task) {
    text.field("signature", "holds");
    text.field("name", &task.name);
    text.field("customer", &task.customer.to_string());
    text.field("created", &task.created.to_string());
    text.field("program", &task.program.id.to_string());
    text.field("args", &task.args.join(" "));
    text.field("input", &task.input.id.to_string());
    text.field("", &format!("{} bytes", grouped(task.input.bytes)));
    let (agree, most) = (task.quorum.agree, task.quorum.total_max);
    text.field(
        "quorum",
        &format!("{agree} must agree, of at most {most} results"),
    );
    let limits = &task.limits;
    text.field("fuel", &format!("at most {} a unit", grouped(limits.fuel)));
    text.field(
        "memory",
        &format!("at most {} bytes", grouped(limits.memory_bytes)),
    );
}

fn unit_table(text: &mut Text, units: &[ValidatedUnit]) {
    text.field("units", &grouped(units.len() as u64));
    text.line("");
    text.line("   UNIT  OUTCOME          FUEL  OUTPUT             AGREED        OUTVOTED");
    for unit in units {
        text.line(&format!(
            "{:>7}  {:<12}  {:>7}  {:<17}  {:<12}  {}",
            unit.unit,
            fit(&unit.outcome.to_string(), 12),
            scaled(unit.fuel),
            blob(&unit.output),
            nodes(&unit.agreed),
            nodes(&unit.outvoted),
        ));
    }
}

fn verdict(report: &Report) -> String {
    let mut text = Text::default();
    match &report.finding {
        None => text.line("The log is sound."),
        Some(finding) => {
            text.line("The log is NOT sound.");
            text.field("problem", &finding.to_string());
            text.line("");
            text.line("What comes before is sound:");
        }
    }
    text.field("entries", &grouped(report.entries));
    text.field("tasks", &grouped(report.tasks));
    text.field("units", &grouped(report.units));
    if let Some(at) = report.last_at {
        text.field("last", &at.to_string());
    }
    text.field("root", &report.root.to_string());
    text.0
}

/// Text under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Adds a line, cut to the width of the page.
    fn line(&mut self, line: &str) {
        let line = fit(line.trim_end(), COLUMNS);
        writeln!(self.0, "{line}").expect("writing to a string cannot fail");
    }

    /// Adds a named value, on as many lines as it needs.
    fn field(&mut self, name: &str, value: &str) {
        let (mut name, mut rest) = (name, fit(value, VALUE_CHARS_MAX));
        if rest.is_empty() {
            rest.push('-');
        }
        while !rest.is_empty() {
            let behind = rest.split_off(line_end(&rest, COLUMNS.saturating_sub(NAME_COLUMNS)));
            self.line(&format!("{name:<NAME_COLUMNS$}{rest}"));
            (name, rest) = ("", behind.trim_start().to_owned());
        }
    }
}

/// Returns where to break the text: behind the last space of the first `chars` characters, or after them.
fn line_end(text: &str, chars: usize) -> usize {
    let Some((end, _)) = text.char_indices().nth(chars) else {
        return text.len();
    };
    text[..end]
        .rfind(' ')
        .filter(|space| *space > 0)
        .unwrap_or(end)
}

/// Returns the text without what could move the cursor of a terminal.
fn plain(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
}

/// Returns the text, cut to `chars` characters.
fn fit(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return plain(text).collect();
    }
    let mut cut: String = plain(text).take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn time(at: Timestamp) -> String {
    at.to_string()
        .chars()
        .take(TIME_CHARS)
        .map(|c| if c == 'T' { ' ' } else { c })
        .collect()
}

fn blob(blob: &BlobRef) -> String {
    format!("{} {}B", blob.id.short(), scaled(blob.bytes))
}

fn nodes(nodes: &[NodeId]) -> String {
    let named: Vec<String> = nodes.iter().take(NODES_NAMED).map(NodeId::short).collect();
    match nodes.len().saturating_sub(NODES_NAMED) {
        0 => named.join(" "),
        more => format!("{} +{more}", named.join(" ")),
    }
}

/// Returns a number with three digits or four, and the letter of its thousands: `999`, `12.3k`, `1.23G`.
fn scaled(number: u64) -> String {
    const LETTERS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let thousands = LETTERS.len().min(grouped(number).split(',').count());
    let digits = number.to_string();
    let lead = grouped(number).split(',').next().map_or(0, str::len);
    let letter = LETTERS[thousands.saturating_sub(1)];
    if thousands == 1 {
        return digits;
    }
    let fraction: String = digits
        .chars()
        .skip(lead)
        .take(3_usize.saturating_sub(lead))
        .collect();
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{}{point}{fraction}{letter}", &digits[..lead])
}

/// Returns a number with a comma at each thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(scaled(999), "999");
        assert_eq!(scaled(1_000), "1.00k");
        assert_eq!(scaled(12_345), "12.3k");
        assert_eq!(scaled(999_999_999), "999M");
        assert_eq!(scaled(u64::MAX), "18.4E");
    }

    #[test]
    fn nothing_in_a_text_moves_the_cursor() {
        assert_eq!(fit("a\x1b[2Jb", 10), "a\u{fffd}[2Jb");
        assert_eq!(fit("abcdef", 4), "abc…");
    }
}
