//! Nodes that should stay connected: dialled again, at growing intervals, while they are not.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use rand::RngExt;
use tally_protocol::id::NodeId;

use super::super::peer::split_peer;

/// Bounds of the time between two dials of a node that should be connected.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(500);
/// See [`REDIAL_MIN`].
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(30);

/// A node that should stay connected.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) node: Option<NodeId>,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) why: Why,
    pub(super) failures: u32,
    pub(super) link: Link,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    Bootstrap,
    Coordinator,
}

#[derive(Debug)]
pub(super) enum Link {
    Waiting(Instant),
    Dialing(ConnectionId),
    Connected,
}

impl Kept {
    pub(super) fn bootstrap(address: &Multiaddr, now: Instant) -> Self {
        let (address, node) = split_peer(address);
        Self {
            node,
            addresses: vec![address],
            why: Why::Bootstrap,
            failures: 0,
            link: Link::Waiting(now),
        }
    }

    pub(super) fn fail(&mut self, now: Instant) {
        let pause = REDIAL_MIN * 2_u32.pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Waiting(now + jittered(pause.min(REDIAL_MAX)));
    }
}

/// Returns 75 % to 125 % of a span, so that nodes that started together do not stay in step.
pub(super) fn jittered(span: Duration) -> Duration {
    span.mul_f64(rand::rng().random_range(0.75..1.25))
}
