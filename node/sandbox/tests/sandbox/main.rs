//! The sandbox as the node sees it: a locked child process that runs batches of strangers' programs.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bombs;
mod children;
mod common;
mod golden;
mod hostile;
mod locked;
mod manners;
mod mutants;
mod programs;
mod script;
mod third_party;
mod wasi;
