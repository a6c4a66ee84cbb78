//! Visiting those who ask, within bounds: only at their own IP address, few times a minute, in all and each.
//!
//! A visit goes over a connection beside the swarm and under a key made for it. Under the node's own key it would be one
//! more connection of a peer that is there already, and a question that happens to take it would be lost with it.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt};
use libp2p::core::transport::{DialOpts, PortUse, TransportError};
use libp2p::core::{Endpoint, Transport};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, identity};
use rustix::io::Errno;
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::ADDRESS_BYTES_MAX;
use tally_protocol::message::reach::{NotReached, ReachReply, ReachRequest};
use tokio::time::timeout;

use super::super::behaviour;
use super::super::peer::{node_of, peer_of};
use super::super::traffic::Traffic;
use crate::error::chain;

/// Visits under way: a quarter of the dials of the swarm that may be.
const OPEN_MAX: usize = 16;
/// Visits in a minute.
const MINUTE_MAX: usize = 120;
/// Visits to one peer in a minute: it has as many addresses at one IP address at most, as a rule.
const MINUTE_PEER_MAX: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a node may take to say something once it is connected.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// The visits that this node makes.
#[derive(Debug, Default)]
pub(in super::super) struct Testing {
    /// Those of the last minute.
    lately: VecDeque<(Instant, NodeId)>,
    /// To whom visits are under way, one each.
    open: BTreeSet<NodeId>,
}

impl Testing {
    /// Decides about a question of a peer that is connected at `ips`; returns where to visit it. [`Testing::ended`] must
    /// follow.
    ///
    /// # Errors
    /// [`Refusal`] if nobody will try.
    pub(in super::super) fn accept(
        &mut self,
        (from, ips): (NodeId, &[IpAddr]),
        request: &ReachRequest,
        now: Instant,
    ) -> Result<Multiaddr, Refusal> {
        let ReachRequest::Dial(address) = request;
        let address = fit(address, ips).ok_or(Refusal::Malformed)?;
        let old = |(at, _): &(Instant, NodeId)| now.duration_since(*at) >= MINUTE;
        while self.lately.front().is_some_and(old) {
            self.lately.pop_front();
        }
        let of_peer = self.lately.iter().filter(|(_, node)| *node == from);
        if of_peer.count() >= MINUTE_PEER_MAX
            || self.lately.len() >= MINUTE_MAX
            || self.open.len() >= OPEN_MAX
            || !self.open.insert(from)
        {
            return Err(Refusal::Busy);
        }
        self.lately.push_back((now, from));
        Ok(address)
    }

    /// The visit to a peer is over.
    pub(in super::super) fn ended(&mut self, from: NodeId) {
        self.open.remove(&from);
    }
}

/// Visits `node` at `address` and returns what came of it.
pub(in super::super) async fn visit(
    node: NodeId,
    address: Multiaddr,
    traffic: Traffic,
) -> ReachReply {
    let visitor = identity::Keypair::generate_ed25519();
    let Some(name) = node_of(&visitor.public().to_peer_id()) else {
        return ReachReply::Refused(Refusal::Busy);
    };
    let Ok(mut tcp) = behaviour::tcp(&visitor, &traffic) else {
        return ReachReply::Refused(Refusal::Busy);
    };
    let options = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    let dialled = match tcp.dial(address, options) {
        Ok(dial) => timeout(behaviour::CONNECT_TIMEOUT, dial).await,
        Err(TransportError::MultiaddrNotSupported(_)) => {
            return ReachReply::Refused(Refusal::Malformed);
        }
        Err(TransportError::Other(error)) => Ok(Err(error)),
    };
    let not = ReachReply::NotReached;
    match dialled {
        Ok(Ok((peer, _))) if peer != peer_of(node) => not(NotReached::OtherNode),
        Ok(Ok((_, mut muxer))) => match timeout(GREETING_TIMEOUT, greeted(&mut muxer)).await {
            Ok(Ok(())) => ReachReply::Reached(name),
            Ok(Err(_)) | Err(_) => not(NotReached::NoNode),
        },
        Ok(Err(error)) if is_refused(&error) => not(NotReached::Closed),
        Ok(Err(_)) | Err(_) => not(NotReached::NoNode),
    }
}

/// Waits until the node at the other end opens a stream: then it has taken the connection in.
async fn greeted(muxer: &mut StreamMuxerBox) -> io::Result<()> {
    poll_fn(|context| {
        if let Poll::Ready(stream) = muxer.poll_inbound_unpin(context) {
            return Poll::Ready(stream.map(drop));
        }
        match muxer.poll_unpin(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    })
    .await
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

/// Looks for the operating system's word: the layers of the transport hide the kind of an error, but not its text.
fn is_refused(error: &io::Error) -> bool {
    let refused = io::Error::from_raw_os_error(Errno::CONNREFUSED.raw_os_error());
    chain(error).contains(&refused.to_string())
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
            assert_eq!(accepted, Err(Refusal::Malformed), "{unfit}");
        }
        let fit = dial("/ip4/192.0.2.1/tcp/4810");
        let accepted = Testing::default().accept((node(1), &[IP]), &fit, now);
        assert!(accepted.is_ok());
    }

    #[test]
    fn visits_are_few_for_each_and_in_all_and_one_at_a_time() {
        let now = Instant::now();
        let mut testing = Testing::default();
        let fit = dial("/ip4/192.0.2.1/tcp/4810");
        let mut ask = |n, at| {
            let accepted = testing.accept((node(n), &[IP]), &fit, at);
            if accepted.is_ok() {
                testing.ended(node(n));
            }
            accepted.err()
        };
        for _ in 0..MINUTE_PEER_MAX {
            assert_eq!(ask(1, now), None);
        }
        assert_eq!(ask(1, now), Some(Refusal::Busy));
        for n in 0..MINUTE_MAX - MINUTE_PEER_MAX {
            assert_eq!(ask(u8::try_from(n + 2).unwrap(), now), None);
        }
        assert_eq!(ask(200, now), Some(Refusal::Busy));
        assert_eq!(ask(1, now + MINUTE), None);
        let mut accept = |n| testing.accept((node(n), &[IP]), &fit, now + MINUTE);
        for n in 0..OPEN_MAX {
            assert!(accept(u8::try_from(n).unwrap()).is_ok());
        }
        assert_eq!(accept(0), Err(Refusal::Busy), "it is visited already");
        assert_eq!(accept(100), Err(Refusal::Busy), "as many as may be");
        testing.ended(node(0));
        let again = testing.accept((node(0), &[IP]), &fit, now + MINUTE);
        assert!(again.is_ok());
    }
}
