//! How errors are shown: the chain once, at the top, in one line. And what becomes of a panic on another thread.

use std::error::Error;

use tokio::task::JoinError;

/// Returns the error and its sources, joined by colons.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Returns what a task returned that nobody aborts; its panic goes on here.
pub(crate) fn joined<T>(result: Result<T, JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
