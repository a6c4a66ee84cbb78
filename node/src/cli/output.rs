//! What people and programs see: the only place of this crate that prints.

#![expect(clippy::print_stderr, reason = "this is where the command line talks")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::{Exit, Failure};

/// Standard output and error of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a result: `value` as JSON, or the text for people.
    pub(super) fn result(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let mut line = if self.json {
            serde_json::to_string(value)?
        } else {
            text()
        };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        self.bytes(line.as_bytes())
    }

    /// Writes bytes to standard output. That the reader has gone is not an error.
    #[expect(clippy::unused_self, reason = "whoever prints has an output")]
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Tells people something that is not the result.
    #[expect(clippy::unused_self, reason = "whoever prints has an output")]
    pub(super) fn note(self, text: impl Display) {
        eprintln!("{text}");
    }

    /// Prints why the command failed, and returns its exit code.
    pub(super) fn failure(self, failure: &Failure) -> ExitCode {
        let Failure {
            exit,
            message,
            hint,
        } = failure;
        if self.json {
            let error = serde_json::json!({"error": {"code": exit.name(), "message": message, "hint": hint}});
            eprintln!("{error}");
        } else if *exit == Exit::Interrupted {
            eprintln!("{message}");
        } else {
            eprintln!("error: failed to {message}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(*exit as u8)
    }

    /// Returns a bar that counts `unit`s; invisible for programs and where there is no terminal.
    pub(super) fn bar(self, unit: BarUnit) -> ProgressBar {
        let bar = ProgressBar::new(0);
        if self.json || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(
            ProgressStyle::with_template(unit.template())
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// What a progress bar counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum BarUnit {
    Bytes,
    Units,
    Entries,
    /// Nothing but time.
    Time,
}

impl BarUnit {
    const fn template(self) -> &'static str {
        match self {
            Self::Bytes => "{msg:10} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
            Self::Units => "{msg:10} [{bar:24}] {pos}/{len} units {per_sec} ETA {eta}",
            Self::Time => "{msg:10} {spinner} {elapsed}",
            Self::Entries => "{msg:10} [{bar:24}] {pos}/{len} entries {per_sec} ETA {eta}",
        }
    }
}

/// Returns a table with two spaces between columns; numbers go to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(head[column].chars().count())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let numeric = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some()
            && cells.all(|cell| {
                cell.chars()
                    .all(|c| c.is_ascii_digit() || c == ' ' || c == '.')
            })
    };
    let right: Vec<bool> = (0..head.len()).map(numeric).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let cell = if right[column] {
                format!("{cell:>width$}")
            } else {
                format!("{cell:width$}")
            };
            line.push_str(&cell);
            line.push_str("  ");
        }
        line.trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    rows.iter().fold(line(&head), |text, row| text + &line(row))
}

/// Returns a table, or what to say where there is nothing.
pub(super) fn table_or(head: &[&str], rows: &[Vec<String>], nothing: &str) -> String {
    if rows.is_empty() {
        return nothing.to_owned();
    }
    table(head, rows)
}

/// Returns a number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = vec![
            vec!["a".to_owned(), "7".to_owned()],
            vec!["long".to_owned(), "1 000".to_owned()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name      n\na         7\nlong  1 000\n"
        );
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(grouped(12), "12");
    }
}
