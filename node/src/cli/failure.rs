//! How a command fails: an exit code, a message, a hint.

use tally_protocol::app_server::Fault;

use crate::admin::{AdminError, AskError};
use crate::error::chain;
use crate::member::MemberError;

/// Why a command failed, as its exit code tells programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something failed.
    Failed = 1,
    /// The arguments or a file make no sense.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// Another node said no.
    Refused = 4,
    /// Nobody was reached.
    Unreached = 5,
    /// The task or unit did not succeed.
    Unsuccessful = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Returns the name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Unreached => "unreached",
            Self::Unsuccessful => "unsuccessful",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed; reads after "failed to".
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// Makes a failure.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Changes the exit code.
    #[must_use]
    pub const fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// Returns the exit code of what an app server did not do.
const fn exit_of(error: &MemberError) -> Exit {
    match error {
        MemberError::Unreached(..) => Exit::Unreached,
        MemberError::Fault(
            Fault::UnknownProduct
            | Fault::UnknownOffer
            | Fault::UnknownOrder
            | Fault::UnknownLicense
            | Fault::UnknownDevice,
        )
        | MemberError::NotRegistered(_) => Exit::NotFound,
        MemberError::Fault(_) | MemberError::Refused(_) => Exit::Refused,
        MemberError::Void(_) | MemberError::TooFew { .. } => Exit::Unsuccessful,
        MemberError::Answer(_)
        | MemberError::Unverified(_)
        | MemberError::MayNot { .. }
        | MemberError::Bundle(_)
        | MemberError::Io { .. }
        | MemberError::Kept { .. } => Exit::Failed,
    }
}

/// Whatever fails without saying more.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        if let Some(error) = error.downcast_ref::<MemberError>() {
            return Self::new(exit_of(error), chain(error)).hint(error.hint());
        }
        match error.downcast::<AskError>() {
            Ok(AskError::Refused(AdminError {
                code,
                message,
                hint,
            })) => {
                let exit = if code.starts_with("unknown") {
                    Exit::NotFound
                } else {
                    Exit::Refused
                };
                Self::new(exit, message).hint(hint)
            }
            Ok(error @ AskError::NotRunning) => Self::new(Exit::Unreached, chain(&error))
                .hint("start it with `tally run`, or name its folder with --dir"),
            Ok(error) => Self::new(Exit::Failed, chain(&error)),
            Err(error) => Self::new(Exit::Failed, chain(error.as_ref())),
        }
    }
}
