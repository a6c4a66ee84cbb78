//! The lists of a run: what was checked, the tasks, the liars, what was refused.

use super::super::quantity::{Quantity, grouped};
use super::super::{LiarReport, RunReport, TaskReport};
use super::{Escaped, counted};

/// A list on the page has at most so many rows.
const ROWS: usize = 20;

/// Returns the sections with the lists of a run.
pub(super) fn sections(run: &RunReport) -> String {
    let section = |title: &str, text: &str, table: String| {
        format!("<section><h2>{title}</h2><p class=\"caption\">{text}</p>{table}</section>\n")
    };
    [
        section(
            "What was checked",
            "Each line always has to hold; it was checked over and over while the world ran.",
            oracles(run),
        ),
        section(
            "Tasks",
            "What customers handed in; unfinished ones first.",
            tasks(run),
        ),
        section(
            "Liars",
            "Devices that reported a wrong result; those never contradicted first.",
            liars(run),
        ),
        section(
            "Refusals",
            "What the nodes refused or ignored, by reason.",
            refusals(run),
        ),
    ]
    .concat()
}

fn oracles(run: &RunReport) -> String {
    let mut table = Table::new(
        "What was checked",
        &["Verdict", "What always holds", "#Checks", "Oracle"],
    );
    for oracle in &run.oracles {
        let verdict = match (&oracle.finding, oracle.checks) {
            (Some(_), _) => Cell::verdict(false, "fails"),
            (None, 0) => Cell::text("not checked"),
            (None, _) => Cell::verdict(true, "holds"),
        };
        table.row([
            verdict,
            Cell::wide(oracle.claim),
            Cell::text(&grouped(oracle.checks)),
            Cell::code(oracle.name),
        ]);
    }
    table.html(usize::MAX)
}

fn tasks(run: &RunReport) -> String {
    let mut tasks: Vec<&TaskReport> = run.tasks.iter().collect();
    tasks.sort_by_key(|task| task.ended.is_some());
    let mut table = Table::new(
        "Tasks",
        &[
            "Task",
            "#Units",
            "#Must agree",
            "#Handed in at",
            "#Took",
            "How it ended, or what it waits for",
        ],
    );
    for task in tasks {
        let took = task.ended.map_or_else(
            || "–".to_owned(),
            |ended| Quantity::Seconds.text(ended - task.submitted),
        );
        table.row([
            Cell::text(&task.name),
            Cell::text(&grouped(task.units.into())),
            Cell::text(&task.agree.to_string()),
            Cell::text(&Quantity::Seconds.text(task.submitted)),
            Cell::text(&took),
            Cell::wide(&task.ending),
        ]);
    }
    table.html(ROWS)
}

fn liars(run: &RunReport) -> String {
    let mut liars: Vec<&LiarReport> = run.liars.iter().collect();
    liars.sort_by_key(|liar| liar.detected.is_some());
    let mut table = Table::new(
        "Liars",
        &[
            "Device",
            "How it cheats",
            "#First lie at",
            "#Found out after",
            "#Lies",
            "#Contradicted",
        ],
    );
    for liar in liars {
        let after = liar.detected_after().map_or_else(
            || "never".to_owned(),
            |seconds| Quantity::Seconds.text(seconds),
        );
        table.row([
            Cell::code(&liar.device),
            Cell::text(&liar.conduct),
            Cell::text(&Quantity::Seconds.text(liar.lied)),
            Cell::text(&after),
            Cell::text(&grouped(liar.lies)),
            Cell::text(&grouped(liar.outvoted)),
        ]);
    }
    table.html(ROWS)
}

fn refusals(run: &RunReport) -> String {
    let mut refusals: Vec<(&String, &u64)> = run.refusals.iter().collect();
    refusals.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut table = Table::new("Refusals", &["Reason", "#Times"]);
    for (reason, count) in refusals {
        table.row([Cell::text(reason), Cell::text(&grouped(*count))]);
    }
    table.html(ROWS)
}

/// A table under construction.
#[derive(Debug)]
pub(super) struct Table {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<String>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    class: &'static str,
}

impl Table {
    /// Starts a table with these columns; one whose title begins with `#` has numbers.
    pub(super) fn new(name: &'static str, titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('#') {
            Some(title) => Column {
                title,
                class: " class=\"number\"",
            },
            None => Column { title, class: "" },
        };
        Self {
            name,
            columns: titles.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        let cell = |(column, cell): (&Column, Cell)| match cell.wide {
            true => format!("<td class=\"wide\">{}</td>", cell.html),
            false => format!("<td{}>{}</td>", column.class, cell.html),
        };
        let cells: String = self.columns.iter().zip(cells).map(cell).collect();
        self.rows.push(format!("<tr>{cells}</tr>\n"));
    }

    /// Returns the table with its first `limit` rows and how many there are beyond.
    pub(super) fn html(self, limit: usize) -> String {
        if self.rows.is_empty() {
            return "<p class=\"more\">None.</p>".to_owned();
        }
        let head: String = self
            .columns
            .iter()
            .map(|column| format!("<th scope=\"col\"{}>{}</th>", column.class, column.title))
            .collect();
        let more = match self.rows.len().saturating_sub(limit) {
            0 => String::new(),
            more => format!(
                "<p class=\"more\">And {}.</p>",
                counted(more as u64, "more row")
            ),
        };
        let rows: String = self.rows.into_iter().take(limit).collect();
        format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table><thead><tr>{head}</tr></thead>\n\
             <tbody>{rows}</tbody></table></div>{more}",
            self.name
        )
    }
}

/// A cell of a table.
#[derive(Debug)]
pub(super) struct Cell {
    html: String,
    wide: bool,
}

impl Cell {
    /// Says something short, in one line.
    pub(super) fn text(text: &str) -> Self {
        Self {
            html: Escaped(text).to_string(),
            wide: false,
        }
    }

    /// Says something that may take several lines.
    pub(super) fn wide(text: &str) -> Self {
        Self {
            html: Escaped(text).to_string(),
            wide: true,
        }
    }

    /// Names something.
    pub(super) fn code(text: &str) -> Self {
        Self {
            html: format!("<code>{}</code>", Escaped(text)),
            wide: false,
        }
    }

    /// Leads to another place of the page.
    pub(super) fn link(to: &str, text: &str) -> Self {
        Self {
            html: format!("<a href=\"{}\">{}</a>", Escaped(to), Escaped(text)),
            wide: false,
        }
    }

    /// Says whether something holds.
    pub(super) fn verdict(holds: bool, text: &str) -> Self {
        let (class, sign) = if holds {
            ("holds", "✓")
        } else {
            ("fails", "✗")
        };
        Self {
            html: format!("<span class=\"{class}\">{sign} {}</span>", Escaped(text)),
            wide: false,
        }
    }
}
