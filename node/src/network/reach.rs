//! `/tally/reach/1`: whether others reach this node, tried by those who answer for the network.
//!
//! Nothing is assumed: an address counts as reached once a peer has connected there, from outside and under a name made
//! for it, and this node has seen that name come in. Every node asks; coordinators, app servers and bootstrap nodes try
//! ([`testing`]), for they need to be reached themselves and see many. One address is asked for at a time, of a peer
//! that sees this computer under its IP address ([`asking`]).

pub(super) mod asking;
pub(super) mod testing;

use std::time::Duration;

use libp2p::{Multiaddr, StreamProtocol};
use serde::{Deserialize, Serialize};
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::reach::{NotReached, REACH_BYTES_MAX, ReachReply, ReachRequest};
use tally_protocol::time::Timestamp;

use super::conversation::Conversation;

/// See [`tally_protocol::message::reach`].
#[derive(Debug, Clone)]
pub(super) struct Reach;

impl Conversation for Reach {
    type Request = ReachRequest;
    type Reply = ReachReply;
    const TOPIC: &'static str = "reach";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/reach/1");
    const BYTES_MAX: usize = REACH_BYTES_MAX;
    // A dial takes at most 10 s.
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> ReachReply {
        ReachReply::Refused(refusal)
    }

    fn refusal(reply: &ReachReply) -> Option<&Refusal> {
        match reply {
            ReachReply::Refused(refusal) => Some(refusal),
            ReachReply::Reached(_) | ReachReply::NotReached(_) => None,
        }
    }
}

/// Whether others reach this node, as far as it was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachability {
    /// Whether it listens at all; a terminal need not.
    pub listens: bool,
    /// The connected peers that would try.
    pub testers: usize,
    /// Its addresses: those that it listens on or was told of, and those that follow from how others see it.
    pub addresses: Vec<TestedAddress>,
}

/// An address and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestedAddress {
    /// The address.
    pub address: Multiaddr,
    /// Whether it leads here.
    pub tested: Tested,
}

/// What the last test of an address said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tested {
    /// A peer has connected there.
    Reached {
        /// Who.
        by: NodeId,
        /// When.
        at: Timestamp,
    },
    /// A peer says that it could not.
    NotReached {
        /// Who.
        by: NodeId,
        /// When.
        at: Timestamp,
        /// What it found.
        why: NotReached,
    },
    /// No peer has tried: none is connected that tries, or none that sees this computer at that IP address.
    #[default]
    Untested,
}

impl Reachability {
    /// Returns the newest test in which this node was reached: where, by whom and when.
    #[must_use]
    pub fn reached(&self) -> Option<(&Multiaddr, NodeId, Timestamp)> {
        let reached = self.addresses.iter().filter_map(|tested| {
            if let Tested::Reached { by, at } = tested.tested {
                Some((&tested.address, by, at))
            } else {
                None
            }
        });
        reached.max_by_key(|(_, _, at)| *at)
    }

    /// Returns whether a peer has tried.
    #[must_use]
    pub fn is_tested(&self) -> bool {
        let tested = |address: &TestedAddress| address.tested != Tested::Untested;
        self.addresses.iter().any(tested)
    }
}
