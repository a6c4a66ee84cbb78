//! Verdicts about the log and the books, as text for people.

use super::text::{Text, grouped};
use crate::audit::{Invariant, Report};
use crate::rebuild::Rebuilt;

/// What `tally ledger verify` says.
pub(super) fn verdict(report: &Report) -> String {
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
    text.into_string()
}

/// What `tally ledger audit` says.
pub(super) fn audit(report: &Report) -> String {
    let mut text = Text::default();
    text.line(if report.is_sound() {
        "The log and the books are sound."
    } else {
        "The log and the books are NOT sound."
    });
    text.field("root", &report.root.to_string());
    text.line("");
    render_audit(&mut text, report);
    text.into_string()
}

/// What was checked, rule by rule.
pub(crate) fn render_audit(text: &mut Text, report: &Report) {
    if let Some(finding) = &report.finding {
        text.field("problem", &finding.to_string());
        text.line("");
        text.line("Up to there:");
    }
    let counts = [
        (report.entries, "entries"),
        (report.tasks, "tasks"),
        (report.units, "units"),
        (report.receipts, "receipts"),
    ]
    .map(|(count, name)| format!("{} {name}", grouped(count)));
    text.field(
        if report.finding.is_none() {
            "ok"
        } else {
            "read"
        },
        &counts.join(", "),
    );
    for invariant in &report.invariants {
        rule(text, invariant);
    }
}

fn rule(text: &mut Text, invariant: &Invariant) {
    let verdict = if invariant.holds { "ok" } else { "WRONG" };
    text.field(verdict, &invariant.rule.to_string());
    for figure in &invariant.figures {
        text.field("", &format!("  {}: {}", figure.name, figure.value));
    }
}

/// What `tally ledger rebuild` says.
pub(super) fn rebuilt(rebuilt: &Rebuilt) -> String {
    let mut text = Text::default();
    text.line(match rebuilt.differences {
        0 => "The books are what the log gives.",
        _ => "The books are NOT what the log gives.",
    });
    for difference in &rebuilt.first {
        text.field("problem", &difference.to_string());
    }
    for (name, count) in [
        ("problems", rebuilt.differences),
        ("entries", rebuilt.entries),
        ("accounts", rebuilt.lines),
        ("holds", rebuilt.holds),
        ("postings", rebuilt.postings),
        ("receipts", rebuilt.receipts),
    ] {
        text.field(name, &grouped(count));
    }
    text.into_string()
}
