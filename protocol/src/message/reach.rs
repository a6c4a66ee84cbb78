//! A node that wants to know whether others reach it, and one that tries.
//!
//! The asker names one address of its own, at the IP address from which it is connected. The tester dials it, as
//! anybody else would: over a new connection, from a port that the two have not used and under a name made for it, and
//! waits until the node there has taken it in. Who was reached has seen that name connect, so nobody can say "reached"
//! without having come; that nobody was reached is the word of the tester.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::message::Refusal;
use crate::message::announce::ADDRESS_BYTES_MAX;

/// The largest message of this conversation: an address, or a refusal with its text.
pub const REACH_BYTES_MAX: usize = ADDRESS_BYTES_MAX + 512;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachRequest {
    /// Dial me here: a multiaddress of an IP address and a TCP port, at most [`ADDRESS_BYTES_MAX`] long.
    Dial(String),
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReachReply {
    /// The asker has answered there, to a visitor of this name.
    Reached(NodeId),
    /// It has not.
    NotReached(NotReached),
    /// Nobody tried; [`Refusal::Malformed`] if the address is not at the IP address of the asker.
    Refused(Refusal),
}

/// Why an address does not lead to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReached {
    /// The connection is refused.
    Closed,
    /// Nothing answers, or nothing that is a node.
    NoNode,
    /// Another node answers.
    OtherNode,
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is refused: nothing listens there",
            Self::NoNode => "no node answers there",
            Self::OtherNode => "another node answers there",
        })
    }
}
