//! Job files.

use std::fmt;
use std::fmt::Write;
use std::path::Path;

use serde_json::json;

/// A job file in the making. Without more it counts words, line by line, at quorum 2.
#[derive(Debug, Clone)]
pub struct Job {
    program: String,
    args: Vec<String>,
    input: String,
    split: String,
    merge: &'static str,
    tables: String,
}

impl Job {
    /// Runs a program that comes with Tally.
    #[must_use]
    pub fn builtin(name: &str) -> Self {
        Self {
            program: format!("builtin = {}", json!(name)),
            args: Vec::new(),
            input: "text = \"\"".to_owned(),
            split: "by = \"lines\"\nlines = 1".to_owned(),
            merge: "sum",
            tables: String::new(),
        }
    }

    /// Runs the module at `path`.
    #[must_use]
    pub fn module(path: &Path) -> Self {
        Self {
            program: format!("file = {}", json!(path)),
            ..Self::builtin("")
        }
    }

    /// Passes arguments to the program.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Takes a text as the input.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.input = format!("text = {}", json!(text));
        self
    }

    /// Takes a file as the input.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self.input = format!("file = {}", json!(path));
        self
    }

    /// Says what stands under `[split]`.
    #[must_use]
    pub fn split(mut self, table: &str) -> Self {
        table.clone_into(&mut self.split);
        self
    }

    /// Says how outputs are put together.
    #[must_use]
    pub const fn merge(mut self, how: &'static str) -> Self {
        self.merge = how;
        self
    }

    /// Says how many terminals must agree.
    #[must_use]
    pub fn agree(self, count: u8) -> Self {
        self.table("quorum", &format!("agree = {count}"))
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, name: &str, text: &str) -> Self {
        writeln!(self.tables, "[{name}]\n{text}").unwrap();
        self
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            args,
            input,
            split,
            merge,
            tables,
        } = self;
        let args = json!(args);
        write!(
            f,
            "[job]\nname = \"a test\"\n[program]\n{program}\nargs = {args}\n[input]\n{input}\n[split]\n{split}\n\
             [merge]\nhow = \"{merge}\"\n{tables}"
        )
    }
}
