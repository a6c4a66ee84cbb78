//! The lines between nodes: each node has a line to the core of the Internet, and a message crosses two.
//!
//! A line delays by its latency, drawn anew for each message, and by its bandwidth, which all that the node sends
//! shares. Messages get lost, come twice and overtake each other. A cut separates two groups, in both directions or
//! in one. After [`Links::calm_down`] nothing of this happens any more but the delays.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::chance::Chance;
use crate::moment::Moment;
use crate::peer::Peer;

/// The line of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Median time to the core, one way.
    pub latency: Duration,
    /// Deviation of the logarithm of that time.
    pub jitter: f64,
    /// Bytes that the node can send in a second.
    pub up: u64,
    /// Bytes that it can receive in a second.
    pub down: u64,
    /// Probability that a message is lost.
    pub loss: f64,
    /// Probability that a message comes twice.
    pub duplicate: f64,
    /// Probability that a message is held back by up to [`HELD_BACK_MAX`], so that later ones overtake it.
    pub reorder: f64,
}

/// The longest time by which a message is held back.
pub const HELD_BACK_MAX: Duration = Duration::from_secs(2);

/// When a message arrives: at two moments if it comes twice, never if it is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The first arrival.
    pub first: Option<Moment>,
    /// The second.
    pub second: Option<Moment>,
}

/// A separation of two groups.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The nodes on one side; all others are on the other.
    pub inside: BTreeSet<Peer>,
    /// Whether messages from outside still come in.
    pub one_way: bool,
}

/// What a node has sent and received, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// All lines.
#[derive(Debug)]
pub struct Links {
    lines: Vec<Line>,
    /// When each line can take the next byte.
    free: Vec<Moment>,
    traffic: Vec<Traffic>,
    cuts: Vec<Option<Cut>>,
    is_calm: bool,
    chance: Chance,
}

impl Links {
    /// Makes the lines of nodes 0, 1, ...
    #[must_use]
    pub fn new(lines: Vec<Line>, chance: Chance) -> Self {
        Self {
            free: vec![Moment::START; lines.len()],
            traffic: vec![Traffic::default(); lines.len()],
            lines,
            cuts: Vec::new(),
            is_calm: false,
            chance,
        }
    }

    /// Begins a cut. Returns its number.
    pub fn cut(&mut self, cut: Cut) -> usize {
        self.cuts.push(Some(cut));
        self.cuts.len() - 1
    }

    /// Ends a cut.
    pub fn heal(&mut self, number: usize) {
        if let Some(cut) = self.cuts.get_mut(number) {
            *cut = None;
        }
    }

    /// Ends all cuts, and all losses, repetitions and overtakings from now on.
    pub fn calm_down(&mut self) {
        self.cuts.clear();
        self.is_calm = true;
    }

    /// Returns whether messages from one node to another are cut off.
    #[must_use]
    pub fn is_cut(&self, from: Peer, to: Peer) -> bool {
        self.cuts.iter().flatten().any(|cut| {
            let (leaves, enters) = (cut.inside.contains(&from), cut.inside.contains(&to));
            leaves != enters && (leaves || !cut.one_way)
        })
    }

    /// Sends a message of so many bytes.
    pub fn send(&mut self, now: Moment, (from, to): (Peer, Peer), bytes: u64) -> Arrivals {
        let arrival = self.carry(now, (from, to), bytes);
        if self.is_cut(from, to) {
            return Arrivals::default();
        }
        if self.is_calm {
            self.receive(to, bytes);
            return Arrivals {
                first: Some(arrival),
                second: None,
            };
        }
        let (from_line, to_line) = (&self.lines[from.index()], &self.lines[to.index()]);
        let loss = from_line.loss + to_line.loss;
        let duplicate = from_line.duplicate + to_line.duplicate;
        let reorder = from_line.reorder + to_line.reorder;
        if self.chance.happens(loss) {
            return Arrivals::default();
        }
        let mut arrivals = Arrivals {
            first: Some(self.hold_back(arrival, reorder)),
            second: None,
        };
        self.receive(to, bytes);
        if self.chance.happens(duplicate) {
            arrivals.second = Some(self.hold_back(arrival, 1.0));
            self.receive(to, bytes);
        }
        arrivals
    }

    /// Sends a content over a stream that repeats what is lost. Returns when the last byte is there, none if the way
    /// is cut.
    pub fn stream(&mut self, now: Moment, (from, to): (Peer, Peer), bytes: u64) -> Option<Moment> {
        if self.is_cut(from, to) || self.is_cut(to, from) {
            return None;
        }
        let asked = self.latency(to, from);
        let arrival = self.carry(now + asked, (from, to), bytes);
        self.receive(to, bytes);
        Some(arrival)
    }

    /// Notes that a node was passed gossip of so many bytes.
    pub fn relay(&mut self, node: Peer, received: u64) {
        self.receive(node, received);
    }

    /// Returns the probability that a copy of an offer of this node is lost on its way.
    #[must_use]
    pub fn gossip_loss(&self, from: Peer) -> f64 {
        if self.is_calm {
            0.0
        } else {
            self.lines[from.index()].loss
        }
    }

    /// Returns a time that a message takes from one node to another, besides its length.
    pub fn latency(&mut self, from: Peer, to: Peer) -> Duration {
        let mut half = |peer: Peer| {
            let line = &self.lines[peer.index()];
            line.latency.mul_f64(self.chance.log_normal(line.jitter))
        };
        half(from) + half(to)
    }

    /// Returns what a node has sent and received.
    #[must_use]
    pub fn traffic(&self, peer: Peer) -> Traffic {
        self.traffic[peer.index()]
    }

    /// Returns the bytes that all nodes have sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.traffic.iter().map(|traffic| traffic.sent).sum()
    }

    /// Lets the sender's line carry the bytes. Returns when the last one arrives.
    fn carry(&mut self, now: Moment, (from, to): (Peer, Peer), bytes: u64) -> Moment {
        let free = &mut self.free[from.index()];
        let start = now.max(*free);
        *free = start + transmission(bytes, self.lines[from.index()].up);
        let sent = *free;
        self.traffic[from.index()].sent += bytes;
        let received = transmission(bytes, self.lines[to.index()].down);
        sent + received + self.latency(from, to)
    }

    fn receive(&mut self, to: Peer, bytes: u64) {
        self.traffic[to.index()].received += bytes;
    }

    fn hold_back(&mut self, arrival: Moment, probability: f64) -> Moment {
        if self.chance.happens(probability) {
            arrival + self.chance.between(Duration::ZERO, HELD_BACK_MAX)
        } else {
            arrival
        }
    }
}

fn transmission(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer(0);
    const B: Peer = Peer(1);

    fn links(change: impl Fn(&mut Line)) -> Links {
        let mut line = Line {
            latency: Duration::from_millis(10),
            jitter: 0.0,
            up: 1_000,
            down: 1_000_000_000,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
        };
        change(&mut line);
        Links::new(vec![line.clone(), line], Chance::new(1, "links", 0))
    }

    #[test]
    fn a_line_is_shared_by_what_is_sent_over_it() {
        let mut links = links(|_| {});
        let arrive = |links: &mut Links| links.send(Moment::START, (A, B), 500).first.unwrap();
        assert_eq!(arrive(&mut links), Moment::from_micros(520_000));
        assert_eq!(arrive(&mut links), Moment::from_micros(1_020_000));
        assert_eq!(links.traffic(A).sent, 1_000);
        assert_eq!(links.traffic(B).received, 1_000);
    }

    #[test]
    fn a_one_way_cut_lets_messages_in_and_none_out() {
        let mut links = links(|_| {});
        let cut = links.cut(Cut {
            inside: [A].into(),
            one_way: true,
        });
        assert!(links.send(Moment::START, (A, B), 1).first.is_none());
        assert!(links.send(Moment::START, (B, A), 1).first.is_some());
        assert!(links.stream(Moment::START, (B, A), 1).is_none());
        links.heal(cut);
        assert!(links.send(Moment::START, (A, B), 1).first.is_some());
    }

    #[test]
    fn losses_and_repetitions_have_their_share_until_the_world_is_calm() {
        let mut links = links(|line| (line.loss, line.duplicate) = (0.1, 0.1));
        let count = |links: &mut Links| {
            let mut counted = (0, 0);
            for _ in 0..10_000 {
                let arrivals = links.send(Moment::START, (A, B), 0);
                counted.0 += u32::from(arrivals.first.is_none());
                counted.1 += u32::from(arrivals.second.is_some());
            }
            counted
        };
        let (lost, doubled) = count(&mut links);
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert!((1_400..1_800).contains(&doubled), "{doubled}");
        links.calm_down();
        assert_eq!(count(&mut links), (0, 0));
    }
}
