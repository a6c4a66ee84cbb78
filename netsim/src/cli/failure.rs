//! How a command fails: an exit code, a message, a hint.

/// A command that failed, always for a reason of its usage: what a run finds wrong is a result.
#[derive(Debug)]
pub(super) struct Failure {
    /// What failed; reads after "failed to".
    pub(super) message: String,
    /// What to do next.
    pub(super) hint: Option<String>,
}

impl Failure {
    /// The exit code.
    pub(super) const EXIT: u8 = 2;

    /// Makes a failure.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// Whatever fails without saying more.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        Self {
            message: format!("{error:#}"),
            hint: None,
        }
    }
}
