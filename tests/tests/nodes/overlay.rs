//! The overlay's model against real libp2p: thirty nodes in one process, and the same population in `tally-netsim`.
//!
//! Counts are compared (requests, deliveries, copies, hops), within a factor of two, and never times. The model gets
//! the connections that the real nodes have made; what it makes of them is its own.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for some events among all"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use libp2p::Multiaddr;
use tally_netsim::chance::Chance;
use tally_netsim::moment::Moment;
use tally_netsim::overlay::figures::{BUCKETS, GOSSIP_HEARTBEATS, HEARTBEAT, MESH_LOW};
use tally_netsim::overlay::gossip::Gossip;
use tally_netsim::overlay::kademlia::Kademlia;
use tally_netsim::peer::Peer;
use tally_node::network::{Network, NetworkEvent, PeerInfo};
use tally_protocol::id::{BlobId, NodeId, TaskId};
use tally_protocol::message::announce::{Offer, Role};
use tally_protocol::unit::Limits;
use tally_tests::PATIENCE;
use tally_tests::raw::{RawPeer, signed};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The bootstrap node has number 0; then come the coordinators.
const SERVERS: usize = 4;
/// Terminals that know the bootstrap node, up to this number.
const INNER: usize = 24;
/// Then terminals that know only other terminals.
const NODES: usize = 30;
/// Terminals that each terminal dials.
const FRIENDS: usize = 4;
/// Offers that a publisher gossips.
const OFFERS: usize = 10;
/// Runs of the model, for its mean.
const RUNS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_of_the_overlay_counts_what_libp2p_does() {
    let mut world = World::start().await;
    let mut counts = Comparison::default();
    world.compare_look_ups(&mut counts).await;
    let gossip = world.connections(&mut counts).await;
    // Two coordinators, a terminal that knows them, and one that does not.
    for publisher in [1, 2, SERVERS, NODES - 1] {
        world.compare_gossip(publisher, &gossip, &mut counts).await;
    }
    world.compare_stale(&mut counts).await;
    counts.check();
}

/// The real nodes.
struct World {
    nodes: Vec<Network>,
    keys: Vec<ed25519_dalek::SigningKey>,
    numbers: BTreeMap<NodeId, usize>,
    /// Which node has found which coordinator.
    found: BTreeSet<(usize, NodeId)>,
    events: mpsc::Receiver<(usize, NetworkEvent)>,
    events_in: mpsc::Sender<(usize, NetworkEvent)>,
}

impl World {
    /// Starts the nodes, waits until the inner terminals have found all coordinators, and connects terminals with
    /// terminals.
    async fn start() -> Self {
        let (events_in, events) = mpsc::channel(1 << 14);
        let mut world = Self {
            nodes: Vec::new(),
            keys: Vec::new(),
            numbers: BTreeMap::new(),
            found: BTreeSet::new(),
            events,
            events_in,
        };
        let mut addresses = Vec::new();
        for number in 0..NODES {
            let role = match number {
                0 => Role::Bootstrap,
                1..SERVERS => Role::Coordinator,
                _ => Role::Terminal,
            };
            world.add(role);
            addresses.push(world.listening(number).await);
            if (1..INNER).contains(&number) {
                let met = world.nodes[number].dial(addresses[0].clone()).await;
                assert_eq!(met, Ok(world.nodes[0].me()));
            }
            if number == SERVERS - 1 {
                // Each of the others stores what a coordinator provides.
                let coordinators = number as u64;
                world.counted(0, "provider_stored", coordinators).await;
                for server in 1..SERVERS {
                    let stored = coordinators - 1;
                    world.counted(server, "provider_stored", stored).await;
                }
            }
        }
        world.befriend(&addresses).await;
        world
    }

    fn add(&mut self, role: Role) {
        let RawPeer {
            key,
            network,
            mut events,
        } = RawPeer::start(&[role]);
        let number = self.nodes.len();
        self.numbers.insert(network.me(), number);
        self.nodes.push(network);
        self.keys.push(key);
        let events_in = self.events_in.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if events_in.send((number, event)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Connects each terminal with some others: the inner ones with inner ones, those at the edge with anybody.
    async fn befriend(&self, addresses: &[Multiaddr]) {
        let mut chance = Chance::new(0, "friends", 0);
        let mut dials = Vec::new();
        for number in SERVERS..NODES {
            let others = SERVERS..number.max(INNER);
            for _ in 0..FRIENDS {
                let other = others.start + below(&mut chance, others.len());
                if other != number {
                    dials.push(self.nodes[number].dial(addresses[other].clone()));
                }
            }
        }
        for dialled in join_all(dials).await {
            dialled.unwrap();
        }
    }

    async fn listening(&mut self, number: usize) -> Multiaddr {
        self.next("listens", |node, event| match event {
            NetworkEvent::Listening(address) => (node == number).then_some(address),
            _ => None,
        })
        .await
    }

    /// Waits for an event that `pick` takes; others are dropped.
    async fn next<T>(
        &mut self,
        what: &str,
        pick: impl FnMut(usize, NetworkEvent) -> Option<T>,
    ) -> T {
        let picked = self.next_within(PATIENCE, pick).await;
        picked.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}"))
    }

    /// The same, for no longer than that.
    async fn next_within<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(usize, NetworkEvent) -> Option<T>,
    ) -> Option<T> {
        let picked = async {
            loop {
                let (number, event) = self.events.recv().await.unwrap();
                if let NetworkEvent::CoordinatorFound(coordinator) = event {
                    self.found.insert((number, coordinator));
                }
                if let Some(picked) = pick(number, event) {
                    return picked;
                }
            }
        };
        timeout(patience, picked).await.ok()
    }

    /// Waits until a Kademlia counter has reached `count`; counters have no events, so it looks again and again.
    async fn counted(&self, number: usize, name: &'static str, count: u64) {
        let counters = self.nodes[number].counters();
        let reached = async {
            while counters.value("kad", name) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{number}: {name} in {:?}", counters.all());
    }

    fn sum(
        &self,
        nodes: impl IntoIterator<Item = usize>,
        topic: &'static str,
        name: &'static str,
    ) -> u64 {
        let value = |number: usize| self.nodes[number].counters().value(topic, name);
        nodes.into_iter().map(value).sum()
    }

    /// Lets the inner terminals look for coordinators, and returns per look-up: requests, failures; and per sweep the
    /// coordinators that were named.
    async fn look_ups(&self) -> [f64; 3] {
        let terminals = SERVERS..INNER;
        let names = ["look_ups", "look_up_requests", "look_up_failures"];
        let sums = || names.map(|name| self.sum(terminals.clone(), "kad", name) as f64);
        let before = sums();
        let finds = terminals
            .clone()
            .map(|number| self.nodes[number].find_coordinators());
        let found: usize = join_all(finds).await.iter().map(Vec::len).sum();
        let after = sums();
        let [look_ups, requests, failures] = [0, 1, 2].map(|sum| after[sum] - before[sum]);
        let named = found as f64 / terminals.len() as f64;
        [requests / look_ups, failures / look_ups, named]
    }

    /// The same in the model, with the servers in `gone` gone after all coordinators have provided their keys.
    fn model_look_ups(&self, gone: &[usize]) -> [f64; 3] {
        let mut kademlia = Kademlia::new();
        let servers = (0..SERVERS).map(peer);
        servers
            .clone()
            .for_each(|server| kademlia.server_up(server));
        let bucket = |number: usize| self.nodes[number].me().as_bytes()[0] % BUCKETS;
        for coordinator in 1..SERVERS {
            kademlia.provide(Moment::START, bucket(coordinator), peer(coordinator));
        }
        gone.iter()
            .for_each(|server| kademlia.server_down(peer(*server)));
        let mut round_trip = || Duration::from_millis(1);
        let found: Vec<_> = (0..BUCKETS)
            .map(|bucket| kademlia.look_up(Moment::START, bucket, &mut round_trip))
            .collect();
        let mean = |sum: u32| f64::from(sum) / f64::from(BUCKETS);
        let named: usize = found.iter().map(|found| found.providers.len()).sum();
        [
            mean(found.iter().map(|found| found.requests).sum()),
            mean(found.iter().map(|found| found.failures).sum()),
            named as f64,
        ]
    }

    async fn compare_look_ups(&mut self, counts: &mut Comparison) {
        // The first sweep names all coordinators, which are then dialled and show their roles.
        self.look_ups().await;
        while self.found.len() < (INNER - SERVERS) * (SERVERS - 1) {
            self.next("terminals to find coordinators", |_, _| Some(()))
                .await;
        }
        let (measured, model) = (self.look_ups().await, self.model_look_ups(&[]));
        counts.add_look_ups("all servers up", measured, model);
    }

    /// A coordinator goes: its records stay, and it is asked in vain.
    async fn compare_stale(&mut self, counts: &mut Comparison) {
        let gone = SERVERS - 1;
        let id = self.nodes[gone].me();
        self.nodes[gone].shutdown().await;
        let mut left = BTreeSet::new();
        self.next("all terminals to lose a coordinator", |number, event| {
            if matches!(event, NetworkEvent::Disconnected(lost) if lost == id) {
                left.insert(number);
            }
            (SERVERS..INNER)
                .all(|number| left.contains(&number))
                .then_some(())
        })
        .await;
        let (measured, model) = (self.look_ups().await, self.model_look_ups(&[gone]));
        counts.add_look_ups("one server gone", measured, model);
    }

    /// Waits until the mesh has settled, and returns the connections in the model.
    async fn connections(&self, counts: &mut Comparison) -> Gossip {
        let settled = async {
            loop {
                let peers = join_all(self.nodes.iter().map(Network::peers)).await;
                let low = |peers: &&Vec<PeerInfo>| mesh_peers(peers) < MESH_LOW.min(peers.len());
                // Who was pruned by one of a few connections has to wait for a minute.
                if peers.iter().filter(low).count() <= NODES / 10 {
                    return peers;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let peers = timeout(PATIENCE, settled).await.unwrap();
        let mut gossip = Gossip::new();
        for (number, peers) in peers.iter().enumerate() {
            for other in peers {
                gossip.connect(peer(number), peer(self.numbers[&other.node]));
            }
        }
        let mut model = gossip.clone();
        model.settle(&mut Chance::new(0, "overlay", 0));
        let all = |mesh: usize| mesh as f64 / NODES as f64;
        let measured = peers.iter().map(|peers| mesh_peers(peers)).sum();
        let modelled = (0..NODES)
            .map(|number| model.mesh_peers(peer(number)))
            .sum();
        counts.add(
            "mesh peers of a node".to_owned(),
            all(measured),
            all(modelled),
        );
        gossip
    }

    /// One node publishes offers; the model does the same.
    async fn compare_gossip(&mut self, publisher: usize, gossip: &Gossip, counts: &mut Comparison) {
        let others: Vec<usize> = (0..NODES).filter(|number| *number != publisher).collect();
        let copies = self.sum(others.clone(), "gossip", "copies");
        let mut heard = Tally::default();
        for epoch in 0..OFFERS {
            let from = self.publish(publisher, epoch as u64).await;
            for number in from.keys() {
                heard.add(hops(&from, publisher, *number));
            }
        }
        heard.copies = self.copies_at_rest(&others).await - copies;
        let mut model = Tally::default();
        for run in 0..RUNS {
            let mut chance = Chance::new(run, "overlay", 0);
            for delivery in gossip.clone().publish(peer(publisher), 0.0, &mut chance) {
                model.add(delivery.hops);
                model.copies += u64::from(delivery.copies);
            }
        }
        let name = |what: &str| format!("node {publisher} publishes: {what}");
        let (offers, runs) = (OFFERS as f64, RUNS as f64);
        counts.add(
            name("heard by"),
            heard.deliveries as f64 / offers,
            model.deliveries as f64 / runs,
        );
        counts.add(
            name("copies each"),
            heard.mean(heard.copies),
            model.mean(model.copies),
        );
        counts.add(name("hops"), heard.mean(heard.hops), model.mean(model.hops));
    }

    /// Publishes an offer and returns whom each has heard it from. Who has not heard it when gossip has ended will not.
    async fn publish(&mut self, publisher: usize, epoch: u64) -> BTreeMap<usize, usize> {
        let offer = offer(epoch);
        let task = offer.task;
        let offer = signed(offer, &self.keys[publisher]);
        self.nodes[publisher].publish_offer(offer).await.unwrap();
        let signer = self.nodes[publisher].me();
        let numbers = self.numbers.clone();
        let mut heard = BTreeMap::new();
        let gossip_ends = HEARTBEAT * (GOSSIP_HEARTBEATS + 2);
        self.next_within(gossip_ends, |number, event| {
            if let NetworkEvent::OfferHeard { offer, from } = event
                && (offer.signer(), offer.task, offer.epoch) == (signer, task, epoch)
            {
                heard.insert(number, numbers[&from]);
            }
            (heard.len() == NODES - 1).then_some(())
        })
        .await;
        heard
    }

    /// Returns the copies that nodes have received, once a while has brought no more.
    async fn copies_at_rest(&self, nodes: &[usize]) -> u64 {
        let sum = || self.sum(nodes.iter().copied(), "gossip", "copies");
        let mut last = sum();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = sum();
            if now == last {
                return now;
            }
            last = now;
        }
    }
}

/// What became of some offers.
#[derive(Default)]
struct Tally {
    deliveries: u64,
    copies: u64,
    hops: u64,
}

impl Tally {
    fn add(&mut self, hops: u32) {
        self.deliveries += 1;
        self.hops += u64::from(hops);
    }

    /// Returns a sum per delivery.
    fn mean(&self, sum: u64) -> f64 {
        sum as f64 / self.deliveries as f64
    }
}

/// Counts, measured and of the model.
#[derive(Default)]
struct Comparison(Vec<(String, f64, f64)>);

impl Comparison {
    fn add(&mut self, name: String, measured: f64, model: f64) {
        self.0.push((name, measured, model));
    }

    fn add_look_ups(&mut self, when: &str, measured: [f64; 3], model: [f64; 3]) {
        let names = [
            "requests of a look-up",
            "its failures",
            "coordinators named",
        ];
        for (name, (measured, model)) in names.iter().zip(measured.into_iter().zip(model)) {
            self.add(format!("{when}: {name}"), measured, model);
        }
    }

    /// Prints the table; none of the counts may be off by more than a factor of two.
    fn check(&self) {
        eprintln!("{:<42} {:>9} {:>9}", "count", "measured", "model");
        for (name, measured, model) in &self.0 {
            eprintln!("{name:<42} {measured:>9.2} {model:>9.2}");
        }
        let off: Vec<_> = self
            .0
            .iter()
            .filter(|(_, measured, model)| measured.max(*model) > 2.0 * measured.min(*model))
            .collect();
        assert!(off.is_empty(), "off by more than a factor of two: {off:?}");
    }
}

/// Returns over how many hops an offer came to a node: from whom it heard it, from whom that one did, and so on.
fn hops(from: &BTreeMap<usize, usize>, publisher: usize, node: usize) -> u32 {
    let way = std::iter::successors(Some(node), |node| from.get(node).copied());
    let way = way.take_while(|node| *node != publisher);
    u32::try_from(way.take(NODES).count()).unwrap()
}

fn mesh_peers(peers: &[PeerInfo]) -> usize {
    peers.iter().filter(|peer| peer.mesh).count()
}

fn peer(number: usize) -> Peer {
    Peer(u32::try_from(number).unwrap())
}

fn below(chance: &mut Chance, end: usize) -> usize {
    usize::try_from(chance.below(end as u64)).unwrap()
}

fn offer(epoch: u64) -> Offer {
    let now = tally_node::clock::now();
    Offer {
        task: TaskId::from_bytes([1; 32]),
        epoch,
        program: BlobId::of(b"program"),
        program_bytes: 7,
        profile: "0".repeat(64).parse().unwrap(),
        limits: Limits {
            fuel: 1,
            memory_bytes: 1,
            output_bytes: 1,
        },
        open_units: 1,
        spread_millis: 0,
        sortition: u16::MAX,
        addresses: Vec::new(),
        issued: now,
        expires: now + Duration::from_secs(60),
    }
}
