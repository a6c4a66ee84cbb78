//! Dialling those who ask, within bounds: only at their own IP address, few times a minute, in all and each.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::ADDRESS_BYTES_MAX;
use tally_protocol::message::reach::{NotReached, ReachReply, ReachRequest};

use super::super::Answer;
use super::super::peer::peer_of;

/// Tests under way: a quarter of the dials that may be, so that they keep nothing else waiting.
const OPEN_MAX: usize = 16;
/// Tests in a minute.
const MINUTE_MAX: usize = 120;
/// Tests of one peer in a minute: it has as many addresses at one IP address at most, as a rule.
const MINUTE_PEER_MAX: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// The tests that this node makes.
#[derive(Debug, Default)]
pub(in super::super) struct Testing {
    /// Those of the last minute.
    lately: VecDeque<(Instant, NodeId)>,
    open: HashMap<ConnectionId, (NodeId, Answer<ReachReply>)>,
}

impl Testing {
    /// Decides about a question of a peer that is connected at `ips`; returns how to dial it.
    ///
    /// # Errors
    /// [`Refusal`] if nobody will try.
    pub(in super::super) fn accept(
        &mut self,
        (from, ips): (NodeId, &[IpAddr]),
        request: &ReachRequest,
        now: Instant,
    ) -> Result<DialOpts, Refusal> {
        let ReachRequest::Dial(address) = request;
        let address = fit(address, ips).ok_or(Refusal::Malformed)?;
        let old = |(at, _): &(Instant, NodeId)| now.duration_since(*at) >= MINUTE;
        while self.lately.front().is_some_and(old) {
            self.lately.pop_front();
        }
        let of_peer = self.lately.iter().filter(|(_, node)| *node == from).count();
        let is_open = self.open.values().any(|(node, _)| *node == from);
        if is_open
            || of_peer >= MINUTE_PEER_MAX
            || self.lately.len() >= MINUTE_MAX
            || self.open.len() >= OPEN_MAX
        {
            return Err(Refusal::Busy);
        }
        self.lately.push_back((now, from));
        Ok(DialOpts::peer_id(peer_of(from))
            .condition(PeerCondition::Always)
            .addresses(vec![address])
            .allocate_new_port()
            .build())
    }

    /// A dial is under way.
    pub(in super::super) fn opened(
        &mut self,
        id: ConnectionId,
        from: NodeId,
        answer: Answer<ReachReply>,
    ) {
        self.open.insert(id, (from, answer));
    }

    /// The node at the other end of a connection has said who it is. Returns whether the connection was for a test and
    /// is to be closed.
    pub(in super::super) fn on_identified(&mut self, id: ConnectionId) -> bool {
        self.end(id, ReachReply::Reached)
    }

    /// A connection was not made.
    pub(in super::super) fn on_dial_failed(&mut self, id: ConnectionId, error: &DialError) {
        self.end(id, why(error));
    }

    /// A connection ended.
    pub(in super::super) fn on_closed(&mut self, id: ConnectionId) {
        self.end(id, ReachReply::NotReached(NotReached::NoNode));
    }

    fn end(&mut self, id: ConnectionId, reply: ReachReply) -> bool {
        match self.open.remove(&id) {
            Some((_, answer)) => {
                answer.send(reply);
                true
            }
            None => false,
        }
    }
}

/// Returns the address if it is an IP address and a TCP port, and the IP address is one of `ips`.
fn fit(text: &str, ips: &[IpAddr]) -> Option<Multiaddr> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let address: Multiaddr = text.parse().ok()?;
    let port = match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) if port != 0 => port,
        _ => return None,
    };
    let at = |ip: &IpAddr| address == Multiaddr::from(*ip).with(Protocol::Tcp(port));
    ips.iter().any(at).then_some(address)
}

/// Returns what a failed dial says about the address, or that it says nothing.
fn why(error: &DialError) -> ReachReply {
    match error {
        // A node leaves its own addresses out.
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } | DialError::NoAddresses => {
            ReachReply::NotReached(NotReached::OtherNode)
        }
        DialError::Transport(errors) => {
            let closed = errors.iter().any(|(_, error)| is_refused(error));
            ReachReply::NotReached(if closed {
                NotReached::Closed
            } else {
                NotReached::NoNode
            })
        }
        DialError::DialPeerConditionFalse(_) | DialError::Aborted | DialError::Denied { .. } => {
            ReachReply::Refused(Refusal::Busy)
        }
    }
}

/// Looks for the operating system's word below what the layers of the transport make of it.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                return true;
            }
            // What stands inside an `io::Error` is no source of it, only the source of that is.
            if error.get_ref().is_some_and(|inner| is_refused(inner)) {
                return true;
            }
        }
        at = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn dial(address: &str) -> ReachRequest {
        ReachRequest::Dial(address.to_owned())
    }

    #[test]
    fn only_the_ip_address_of_the_asker_is_dialled() {
        let now = Instant::now();
        for unfit in [
            "/ip4/192.0.2.2/tcp/4810",
            "/ip4/127.0.0.1/tcp/4810",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/udp/4810",
            "/ip4/192.0.2.1",
            "/dns4/localhost/tcp/4810",
            "/ip4/192.0.2.1/tcp/4810/ip4/192.0.2.2/tcp/4810",
            "/ip4/192.0.2.1/tcp/4810/p2p-circuit",
            "192.0.2.1:4810",
            "",
        ] {
            let accepted = Testing::default().accept((node(1), &[IP]), &dial(unfit), now);
            assert_eq!(accepted.err(), Some(Refusal::Malformed), "{unfit}");
        }
        let fit = dial("/ip4/192.0.2.1/tcp/4810");
        assert!(
            Testing::default()
                .accept((node(1), &[IP]), &fit, now)
                .is_ok()
        );
    }

    #[test]
    fn tests_are_few_for_each_and_in_all_and_one_at_a_time() {
        let now = Instant::now();
        let mut testing = Testing::default();
        let fit = dial("/ip4/192.0.2.1/tcp/4810");
        let mut ask = |n, at| testing.accept((node(n), &[IP]), &fit, at).err();
        for _ in 0..MINUTE_PEER_MAX {
            assert_eq!(ask(1, now), None);
        }
        assert_eq!(ask(1, now), Some(Refusal::Busy));
        let others = MINUTE_MAX - MINUTE_PEER_MAX;
        for n in 0..others {
            assert_eq!(ask(u8::try_from(n + 2).unwrap(), now), None);
        }
        assert_eq!(ask(200, now), Some(Refusal::Busy));
        assert_eq!(ask(1, now + MINUTE), None);
        let options = testing
            .accept((node(2), &[IP]), &fit, now + MINUTE)
            .unwrap();
        let (answer, mut answered) = Answer::channel();
        testing.opened(options.connection_id(), node(2), answer);
        let again = testing.accept((node(2), &[IP]), &fit, now + MINUTE);
        assert_eq!(again.err(), Some(Refusal::Busy));
        assert!(testing.on_identified(options.connection_id()));
        assert_eq!(answered.try_recv(), Ok(ReachReply::Reached));
        assert!(!testing.on_identified(options.connection_id()));
    }
}
