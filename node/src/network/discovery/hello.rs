//! What a connected peer has shown of its roles.

use std::time::Instant;

use tally_protocol::message::announce::Role;
use tally_protocol::time::Timestamp;

/// The roles of a peer, as its signed statement says.
#[derive(Debug, Clone)]
pub(in super::super) struct ShownRoles {
    pub(in super::super) roles: Vec<Role>,
    pub(in super::super) expires: Timestamp,
}

/// How far asking a peer for its roles is.
#[derive(Debug)]
pub(super) enum Hello {
    Asked { failures: u32 },
    Failed { failures: u32, again: Instant },
    Shown(ShownRoles),
    Renewing(ShownRoles),
}

impl Hello {
    pub(super) fn roles(&self) -> &[Role] {
        match self {
            Self::Shown(shown) | Self::Renewing(shown) => &shown.roles,
            Self::Asked { .. } | Self::Failed { .. } => &[],
        }
    }
}
