//! Whom to ask about which address, and what came of it. A pure machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tally_protocol::id::NodeId;
use tally_protocol::message::reach::ReachReply;
use tally_protocol::time::Timestamp;

use super::super::peer::ip_of;
use super::{Tested, TestedAddress};

/// Addresses of this node that are looked at: more than a computer has interfaces.
const ADDRESSES_MAX: usize = 32;
/// Addresses among them that follow from how testers see this node; a tester may say anything.
const GUESSES_MAX: usize = 4;
/// Testers that are remembered.
const TESTERS_MAX: usize = 64;
/// Visitors that are remembered while a question is open: as many as may be connected.
const CAME_MAX: usize = 4_096;
/// How long a good answer is believed.
const REACHED_REST: Duration = Duration::from_secs(30 * 60);
/// The pause after another answer; it doubles up to [`REACHED_REST`].
const OTHER_REST: Duration = Duration::from_secs(60);

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Origin {
    /// This node listens there, or was told that others reach it there.
    Told,
    /// A tester sees this node at its IP address, and it listens on that port.
    Guessed,
}

/// What a test has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Learnt {
    /// This address was a guess, and leads here.
    Good(Multiaddr),
    /// This address was a guess, and does not.
    Bad(Multiaddr),
}

#[derive(Debug)]
struct Address {
    origin: Origin,
    tested: Tested,
    /// Whom it was last asked of.
    asked_of: Option<NodeId>,
    due: Instant,
    /// Answers that were no good one, since the last that was.
    failures: u32,
}

/// The question that is open.
#[derive(Debug)]
struct Asked {
    address: Multiaddr,
    tester: NodeId,
    /// Who has connected since.
    came: BTreeSet<NodeId>,
}

/// The machine.
#[derive(Debug, Default)]
pub(in super::super) struct Asking {
    addresses: BTreeMap<Multiaddr, Address>,
    /// Under which IP address each tester sees this node.
    testers: BTreeMap<NodeId, IpAddr>,
    asked: Option<Asked>,
}

impl Asking {
    /// This node listens at `address`, or was told of it.
    pub(in super::super) fn on_address(&mut self, address: &Multiaddr, now: Instant) {
        self.add(address, Origin::Told, now);
        self.guess(now);
    }

    /// This node no longer listens at `address`.
    pub(in super::super) fn on_address_gone(&mut self, address: &Multiaddr) {
        self.addresses.remove(address);
    }

    /// A connected peer tries if it is asked, and sees this node at `observed`.
    pub(in super::super) fn on_tester(&mut self, node: NodeId, observed: &Multiaddr, now: Instant) {
        let Some(ip) = ip_of(observed) else { return };
        if self.testers.len() < TESTERS_MAX || self.testers.contains_key(&node) {
            self.testers.insert(node, ip);
            self.guess(now);
        }
    }

    /// The last connection with a peer has ended.
    pub(in super::super) fn on_disconnected(&mut self, node: NodeId) {
        if self.testers.remove(&node).is_none() {
            return;
        }
        let seen: Vec<IpAddr> = self.testers.values().copied().collect();
        self.addresses.retain(|address, of| {
            // What was reached stays: others have been told of it.
            of.origin == Origin::Told
                || matches!(of.tested, Tested::Reached { .. })
                || ip_of(address).is_some_and(|ip| seen.contains(&ip))
        });
    }

    /// A peer has connected.
    pub(in super::super) fn on_incoming(&mut self, node: NodeId) {
        if let Some(asked) = &mut self.asked
            && asked.came.len() < CAME_MAX
        {
            asked.came.insert(node);
        }
    }

    /// Returns whom to ask about which address now. The answer must come, be it that there is none.
    pub(in super::super) fn ask(&mut self, now: Instant) -> Option<(NodeId, Multiaddr)> {
        if self.asked.is_some() {
            return None;
        }
        let (address, tester) = self.addresses.iter().find_map(|(address, of)| {
            let tester = self.tester(address, of.asked_of)?;
            (of.due <= now).then(|| (address.clone(), tester))
        })?;
        self.asked = Some(Asked {
            address: address.clone(),
            tester,
            came: BTreeSet::new(),
        });
        Some((tester, address))
    }

    /// The question was answered, or was not.
    pub(in super::super) fn on_answer(
        &mut self,
        reply: Option<ReachReply>,
        (now, at): (Instant, Timestamp),
    ) -> Option<Learnt> {
        let asked = self.asked.take()?;
        let of = self.addresses.get_mut(&asked.address)?;
        of.asked_of = Some(asked.tester);
        let by = asked.tester;
        let tested = match reply {
            Some(ReachReply::Reached(visitor)) if asked.came.contains(&visitor) => {
                Some(Tested::Reached { by, at })
            }
            Some(ReachReply::NotReached(why)) => Some(Tested::NotReached { by, at, why }),
            // Whoever says so without having come has not tried.
            Some(ReachReply::Reached(_) | ReachReply::Refused(_)) | None => None,
        };
        let reached = matches!(tested, Some(Tested::Reached { .. }));
        of.failures = if reached {
            0
        } else {
            of.failures.saturating_add(1)
        };
        of.due = now
            + match of.failures {
                0 => REACHED_REST,
                n => (OTHER_REST * 2_u32.pow(n.min(6) - 1)).min(REACHED_REST),
            };
        of.tested = tested?;
        (of.origin == Origin::Guessed).then(|| {
            if reached {
                Learnt::Good(asked.address)
            } else {
                Learnt::Bad(asked.address)
            }
        })
    }

    /// Returns what is known of each address.
    pub(in super::super) fn known(&self) -> Vec<TestedAddress> {
        let of = |(address, of): (&Multiaddr, &Address)| TestedAddress {
            address: address.clone(),
            tested: of.tested.clone(),
        };
        self.addresses.iter().map(of).collect()
    }

    /// Returns how many connected peers would try.
    pub(in super::super) fn testers(&self) -> usize {
        self.testers.len()
    }

    /// Returns a peer that sees this node at the IP address, another one than the last if there is one.
    fn tester(&self, address: &Multiaddr, last: Option<NodeId>) -> Option<NodeId> {
        let ip = ip_of(address)?;
        let seeing = self.testers.iter().filter(|(_, seen)| **seen == ip);
        let mut seeing = seeing.map(|(node, _)| *node);
        seeing
            .clone()
            .find(|node| Some(*node) > last)
            .or_else(|| seeing.next())
    }

    fn add(&mut self, address: &Multiaddr, origin: Origin, now: Instant) {
        let fresh = || Address {
            origin,
            tested: Tested::Untested,
            asked_of: None,
            due: now,
            failures: 0,
        };
        if let Some(of) = self.addresses.get_mut(address) {
            if origin == Origin::Told {
                of.origin = origin;
            }
        } else if self.addresses.len() < ADDRESSES_MAX {
            self.addresses.insert(address.clone(), fresh());
        }
    }

    /// Adds the addresses under which testers see this node, at the ports on which it listens for more than itself.
    fn guess(&mut self, now: Instant) {
        let far = |address: &Multiaddr| ip_of(address).is_some_and(|ip| !ip.is_loopback());
        let told = self.addresses.iter();
        let told = told.filter(|(address, of)| of.origin == Origin::Told && far(address));
        let ports: Vec<Protocol<'static>> = told
            .filter_map(|(address, _)| address.iter().nth(1).map(Protocol::acquire))
            .filter(|port| matches!(port, Protocol::Tcp(_)))
            .collect();
        let seen: Vec<IpAddr> = self.testers.values().copied().collect();
        for (ip, port) in seen
            .iter()
            .flat_map(|ip| ports.iter().map(move |port| (ip, port)))
        {
            let guesses = self.addresses.values();
            let guesses = guesses.filter(|of| of.origin == Origin::Guessed).count();
            if !ip.is_loopback() && guesses < GUESSES_MAX {
                let address = Multiaddr::from(*ip).with(port.clone());
                self.add(&address, Origin::Guessed, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tally_protocol::message::Refusal;
    use tally_protocol::message::reach::NotReached;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(7);

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn listening(at: &str, now: Instant) -> Asking {
        let mut asking = Asking::default();
        asking.on_address(&address(at), now);
        asking
    }

    #[test]
    fn an_address_is_reached_if_the_tester_says_who_came_and_that_one_did() {
        let now = Instant::now();
        let mut asking = listening("/ip4/192.0.2.1/tcp/4810", now);
        assert_eq!(asking.ask(now), None, "nobody tries");
        asking.on_tester(node(1), &address("/ip4/192.0.2.1/tcp/50000"), now);
        let (tester, asked) = asking.ask(now).unwrap();
        assert_eq!(
            (tester, &asked),
            (node(1), &address("/ip4/192.0.2.1/tcp/4810"))
        );
        assert_eq!(asking.ask(now), None, "one question at a time");
        asking.on_incoming(node(2));
        asking.on_answer(Some(ReachReply::Reached(node(9))), (now, AT));
        assert_eq!(
            asking.known()[0].tested,
            Tested::Untested,
            "somebody else came"
        );
        let later = now + OTHER_REST;
        asking.ask(later).unwrap();
        asking.on_incoming(node(9));
        asking.on_answer(Some(ReachReply::Reached(node(9))), (later, AT));
        let by = node(1);
        assert_eq!(asking.known()[0].tested, Tested::Reached { by, at: AT });
        assert_eq!(asking.ask(later + OTHER_REST), None);
        assert!(asking.ask(later + REACHED_REST).is_some());
    }

    #[test]
    fn only_peers_that_see_this_node_there_are_asked_and_each_in_turn() {
        let now = Instant::now();
        let mut asking = listening("/ip4/127.0.0.1/tcp/4810", now);
        asking.on_tester(node(1), &address("/ip4/192.0.2.1/tcp/1"), now);
        assert_eq!(asking.ask(now), None);
        assert_eq!(asking.known().len(), 1, "a loopback port is no guess");
        asking.on_tester(node(2), &address("/ip4/127.0.0.1/tcp/1"), now);
        asking.on_tester(node(3), &address("/ip4/127.0.0.1/tcp/2"), now);
        let mut at = now;
        let mut asked = Vec::new();
        for _ in 0..4 {
            asked.push(asking.ask(at).unwrap().0);
            let closed = ReachReply::NotReached(NotReached::Closed);
            asking.on_answer(Some(closed), (at, AT));
            assert_eq!(asking.ask(at), None, "not at once");
            at += REACHED_REST;
        }
        assert_eq!(asked, [node(2), node(3), node(2), node(3)]);
        let (by, why) = (node(3), NotReached::Closed);
        assert_eq!(
            asking.known()[0].tested,
            Tested::NotReached { by, at: AT, why }
        );
    }

    #[test]
    fn a_port_behind_a_router_is_guessed_and_told_of_if_it_leads_here() {
        let now = Instant::now();
        let mut asking = listening("/ip4/10.0.0.5/tcp/4810", now);
        asking.on_tester(node(1), &address("/ip4/192.0.2.1/tcp/50000"), now);
        let guess = address("/ip4/192.0.2.1/tcp/4810");
        assert_eq!(asking.ask(now).unwrap(), (node(1), guess.clone()));
        asking.on_incoming(node(9));
        let learnt = asking.on_answer(Some(ReachReply::Reached(node(9))), (now, AT));
        assert_eq!(learnt, Some(Learnt::Good(guess.clone())));
        let later = now + REACHED_REST;
        asking.ask(later).unwrap();
        let gone = ReachReply::NotReached(NotReached::NoNode);
        let learnt = asking.on_answer(Some(gone), (later, AT));
        assert_eq!(learnt, Some(Learnt::Bad(guess)));
        asking.on_disconnected(node(1));
        assert_eq!(
            asking.known().len(),
            1,
            "nobody sees this node there any more"
        );
    }

    #[test]
    fn a_refusal_says_nothing_and_what_testers_say_is_bounded() {
        let now = Instant::now();
        let mut asking = listening("/ip4/10.0.0.5/tcp/4810", now);
        for n in 0..200 {
            asking.on_tester(node(n), &address(&format!("/ip4/192.0.2.{n}/tcp/1")), now);
        }
        assert_eq!(asking.testers(), TESTERS_MAX);
        assert_eq!(asking.known().len(), 1 + GUESSES_MAX);
        asking.ask(now).unwrap();
        asking.on_answer(Some(ReachReply::Refused(Refusal::Busy)), (now, AT));
        asking.ask(now).unwrap();
        asking.on_answer(None, (now, AT));
        assert!(
            asking
                .known()
                .iter()
                .all(|of| of.tested == Tested::Untested)
        );
    }
}
