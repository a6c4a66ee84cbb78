//! What people and programs see: the only place of the program that prints.

#![expect(clippy::print_stderr, reason = "this is where the command line talks")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;

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
        let mut out = io::stdout().lock();
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            // That the reader has gone is not an error.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Tells people something that is not the result.
    #[expect(clippy::unused_self, reason = "whoever prints has an output")]
    pub(super) fn note(self, text: impl Display) {
        eprintln!("{text}");
    }

    /// Prints why the command failed, and returns its exit code.
    pub(super) fn failure(self, failure: &Failure) -> ExitCode {
        let Failure { message, hint } = failure;
        if self.json {
            let error = serde_json::json!({
                "error": {"code": "usage", "message": message, "hint": hint}
            });
            eprintln!("{error}");
        } else {
            eprintln!("error: failed to {message}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(Failure::EXIT)
    }

    /// Returns a bar of this length that shows how far it is; invisible for programs and where there is no terminal.
    pub(super) fn bar(self, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length);
        if self.json || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(
            ProgressStyle::with_template("[{bar:24}] {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar
    }
}
