//! The name of a node in the world: its number.
//!
//! Numbers are dense, so that tables may be indexed by them. What a node is called by others (its key) is the
//! protocol's business.

use std::fmt;

use serde::Serialize;

/// A node of the world.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Peer(pub u32);

impl Peer {
    /// Returns its place in a table of all nodes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}
