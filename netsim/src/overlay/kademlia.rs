//! Look-ups of coordinators: provider records on Kademlia servers.
//!
//! Every server has a store of its own, in memory: a record lies on the servers that were closest to its key when it
//! was put, and is gone with them. A provider that is gone stays in the records until they expire. A server that is
//! gone stays in the routing tables until others take its place, and is asked in vain. A terminal asks the closest
//! servers, a few at a time, and is done when all of them have answered or not; what the first answer names can be
//! dialled at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::figures::{
    CLOSEST, PARALLEL, PROVIDER_TTL, PROVIDERS_MAX, QUERY_TIMEOUT, REQUEST_TIMEOUT, STALE_MAX,
};
use crate::moment::Moment;
use crate::peer::Peer;

/// The Kademlia servers of the world, and what they store.
#[derive(Debug, Clone, Default)]
pub struct Kademlia {
    servers: BTreeMap<Peer, Store>,
    /// Those that went last, in the order in which they did.
    gone: Vec<Peer>,
}

/// The records of one server: when the claim of each provider of a key ends.
type Store = BTreeMap<u8, BTreeMap<Peer, Moment>>;

/// What a look-up has found, and its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookUp {
    /// Who was named as a provider by any server, at most 20 by each. Some may be gone.
    pub providers: Vec<Peer>,
    /// Requests sent.
    pub requests: u32,
    /// Those of them that were not answered.
    pub failures: u32,
    /// Servers one after the other that led to the closest one; 0 if no server answered.
    pub hops: u32,
    /// When the first server had answered; `None` if none did.
    pub answered: Option<Duration>,
    /// When it was over.
    pub took: Duration,
}

impl Kademlia {
    /// Returns a world without servers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A server has started, with an empty store.
    pub fn server_up(&mut self, peer: Peer) {
        self.gone.retain(|gone| *gone != peer);
        self.servers.insert(peer, Store::new());
    }

    /// A server has gone, and its store with it.
    pub fn server_down(&mut self, peer: Peer) {
        if self.servers.remove(&peer).is_some() {
            self.gone.push(peer);
            let forgotten = self.gone.len().saturating_sub(STALE_MAX);
            self.gone.drain(..forgotten);
        }
    }

    /// `peer` tells the servers closest to the key that it provides it. Due again after
    /// [`PROVIDER_INTERVAL`](super::figures::PROVIDER_INTERVAL).
    pub fn provide(&mut self, now: Moment, bucket: u8, peer: Peer) {
        let mut holders = closest(self.servers.keys().copied(), bucket);
        holders.truncate(CLOSEST);
        if self.servers.contains_key(&peer) {
            holders.push(peer);
        }
        for holder in holders {
            let store = self.servers.entry(holder).or_default();
            let providers = store.entry(bucket).or_default();
            providers.retain(|_, ends| *ends > now);
            if providers.len() < PROVIDERS_MAX || providers.contains_key(&peer) {
                providers.insert(peer, now + PROVIDER_TTL);
            }
        }
    }

    /// Asks who provides a key. `round_trip` is called once for each answer, and says how long it took.
    pub fn look_up(
        &self,
        now: Moment,
        bucket: u8,
        round_trip: &mut impl FnMut() -> Duration,
    ) -> LookUp {
        let depth = depth(self.servers.len());
        let way: Duration = (1..depth).map(|_| round_trip()).sum();
        let mut slots = [way; PARALLEL];
        let mut found = LookUp {
            providers: Vec::new(),
            requests: count((depth - 1) * PARALLEL),
            failures: 0,
            hops: 0,
            answered: None,
            took: Duration::ZERO,
        };
        let mut providers = BTreeSet::new();
        for server in self.asked(bucket) {
            let slot = slots.iter_mut().min().expect("there is a slot");
            if *slot >= QUERY_TIMEOUT {
                break;
            }
            found.requests += 1;
            if let Some(store) = self.servers.get(&server) {
                *slot += round_trip();
                found.answered = Some(found.answered.map_or(*slot, |first| first.min(*slot)));
                found.hops = count(depth);
                let named = store.get(&bucket).into_iter().flatten();
                let named = named.filter(|(_, ends)| **ends > now);
                providers.extend(named.map(|(peer, _)| *peer));
            } else {
                *slot += REQUEST_TIMEOUT;
                found.failures += 1;
            }
        }
        found.providers = providers.into_iter().collect();
        let took = slots.into_iter().max().unwrap_or_default();
        found.took = took.min(QUERY_TIMEOUT);
        found
    }

    /// Returns whom a look-up asks: from the closest on, until enough of them have answered.
    fn asked(&self, bucket: u8) -> Vec<Peer> {
        let known = self.servers.keys().chain(&self.gone).copied();
        let mut alive = 0;
        let missing = |peer: &Peer| {
            let missing = alive < CLOSEST;
            alive += usize::from(self.servers.contains_key(peer));
            missing
        };
        let closest = closest(known, bucket).into_iter();
        closest.take_while(missing).collect()
    }
}

/// Returns the peers by their distance from a key.
fn closest(peers: impl Iterator<Item = Peer>, bucket: u8) -> Vec<Peer> {
    let mut peers: Vec<Peer> = peers.collect();
    peers.sort_by_cached_key(|peer| distance(*peer, bucket));
    peers
}

/// Returns a number that stands for the distance of a peer from a key: nothing that a peer chooses (the finalizer of
/// splitmix64).
const fn distance(peer: Peer, bucket: u8) -> u64 {
    let name = ((bucket as u64) << 32) | peer.0 as u64;
    let mixed = name.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns how many servers one after the other lead to the closest one: each names the closest twenty it knows, so
/// that each is twenty times closer than the last.
fn depth(servers: usize) -> usize {
    let mut depth = 1;
    let mut seen = CLOSEST;
    while seen < servers {
        seen = seen.saturating_mul(CLOSEST);
        depth += 1;
    }
    depth
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn world(servers: u32) -> Kademlia {
        let mut world = Kademlia::new();
        (0..servers).for_each(|peer| world.server_up(Peer(peer)));
        world
    }

    fn look(world: &Kademlia, now: Moment, bucket: u8) -> LookUp {
        world.look_up(now, bucket, &mut || RTT)
    }

    #[test]
    fn every_server_is_asked_and_names_at_most_twenty_providers() {
        let mut world = world(5);
        for peer in 100..130 {
            world.provide(Moment::START, 3, Peer(peer));
        }
        let found = look(&world, Moment::START, 3);
        let first: Vec<_> = (100..120).map(Peer).collect();
        assert_eq!(found.providers, first, "a full store ignores the others");
        assert_eq!((found.requests, found.failures, found.hops), (5, 0, 1));
        assert_eq!((found.answered, found.took), (Some(RTT), 2 * RTT));
        assert_eq!(look(&world, Moment::START, 4).providers, []);
    }

    #[test]
    fn a_provider_that_is_gone_is_named_until_its_record_ends() {
        let mut world = world(3);
        world.provide(Moment::START, 0, Peer(9));
        let before = Moment::from_secs(30 * 60 - 1);
        assert_eq!(look(&world, before, 0).providers, [Peer(9)]);
        let after = Moment::from_secs(30 * 60);
        assert_eq!(look(&world, after, 0).providers, []);
        world.provide(after, 0, Peer(9));
        assert_eq!(look(&world, after, 0).providers, [Peer(9)]);
    }

    #[test]
    fn a_server_that_is_gone_costs_a_timeout_until_it_is_back() {
        let mut world = world(4);
        world.server_down(Peer(2));
        let found = look(&world, Moment::START, 0);
        assert_eq!((found.requests, found.failures), (4, 1));
        assert_eq!(found.answered, Some(RTT), "the others answer meanwhile");
        assert!((REQUEST_TIMEOUT..REQUEST_TIMEOUT + 3 * RTT).contains(&found.took));
        world.server_up(Peer(2));
        let found = look(&world, Moment::START, 0);
        assert_eq!((found.requests, found.failures), (4, 0));
    }

    #[test]
    fn records_are_lost_with_the_servers_that_held_them() {
        let mut world = world(2);
        world.provide(Moment::START, 0, Peer(9));
        for server in [Peer(0), Peer(1)] {
            world.server_down(server);
            world.server_up(server);
        }
        assert_eq!(look(&world, Moment::START, 0).providers, []);
    }

    #[test]
    fn without_servers_nothing_is_found() {
        let found = look(&Kademlia::new(), Moment::START, 0);
        assert_eq!((found.requests, found.hops, found.answered), (0, 0, None));
        let mut world = world(7);
        (0..7).for_each(|peer| world.server_down(Peer(peer)));
        let found = look(&world, Moment::START, 0);
        // Three at a time, ten seconds each, for twenty seconds.
        assert_eq!((found.requests, found.failures, found.hops), (6, 6, 0));
        assert_eq!((found.answered, found.took), (None, QUERY_TIMEOUT));
    }

    #[test]
    fn the_cost_grows_slowly_with_the_servers() {
        let cost = |servers| {
            let found = look(&world(servers), Moment::START, 0);
            (found.requests, found.hops)
        };
        assert_eq!(cost(20), (20, 1));
        assert_eq!(cost(21), (23, 2));
        assert_eq!(cost(1_000), (26, 3));
    }
}
