//! The constants of the overlay's model, each with where it comes from.
//!
//! All are constants of Tally or defaults of libp2p 0.57. Whether the model that is made of them counts as libp2p does
//! was measured with `tests/tests/nodes/overlay.rs`: 4 servers, 20 terminals that know them and four others each, 6
//! terminals that know terminals only. In twenty-four runs on two processors, eleven of them with three or four busy
//! loops beside, libp2p counted (least to most), and the model:
//!
//! | count | libp2p | model |
//! |---|---|---|
//! | requests of a look-up, 4 servers | 4.0 | 4.0 |
//! | the same after one server has gone | 4.0, one in vain | 4, one in vain |
//! | requests of a look-up, 27 servers (1) | 21.9 to 22.4 | 23 |
//! | the same after one server has gone (1) | 21.2 to 21.3, 0.8 in vain | 23.6, 0.6 in vain |
//! | mesh peers of a node | 5.9 to 6.5 | 6.5 |
//! | nodes of 29 that hear an offer | 29 | 29 |
//! | copies of an offer that a coordinator publishes, each | 5.9 to 6.9 | 6.2 to 6.3 |
//! | its hops | 1.21 to 1.44 | 1.21 |
//! | copies of an offer that a terminal publishes, each | 4.6 to 5.8 | 4.6 to 4.8 |
//! | its hops, from a terminal that knows the servers | 1.72 to 2.03 | 1.70 |
//! | its hops, from one that does not | 2.20 to 2.53 | 2.25 |
//! | copies in a star of 20 servers and 280 others (2) | 1.3 to 1.5 | 1.2 |
//!
//! (1) Two runs of the test with other numbers of nodes. (2) Two runs of another program over libp2p, before this one.
//!
//! That two nodes which hear at the same hop always send to each other is the one rule that was chosen by these counts:
//! it came nearer than that only some do. On links of different lengths fewer copies cross than between nodes that hear
//! at the same moment, so that the copies of the model are rather too many there.

use std::time::Duration;

/// Keys that coordinators spread over: `BUCKETS` of `node/src/network/discovery.rs`.
pub const BUCKETS: u8 = 16;

/// How long a provider record lives: `PROVIDER_TTL` of `node/src/network/behaviour.rs`.
pub const PROVIDER_TTL: Duration = Duration::from_secs(30 * 60);

/// How often a coordinator renews its record: `PROVIDER_INTERVAL` of `node/src/network/behaviour.rs`.
pub const PROVIDER_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Providers of one key that a server stores; one more is ignored: `max_providers_per_key` of libp2p-kad.
pub const PROVIDERS_MAX: usize = 20;

/// Servers that a look-up wants answers of, and that a record is put on: `K_VALUE` of libp2p-kad.
pub const CLOSEST: usize = 20;

/// Requests of one look-up under way at a time: `ALPHA_VALUE` of libp2p-kad.
pub const PARALLEL: usize = 3;

/// How long a look-up waits for one server that does not answer: `peer_timeout` of libp2p-kad.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a look-up may take: `QUERY_TIMEOUT` of `node/src/network/behaviour.rs`.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Servers that are gone and still asked: libp2p-kad keeps a peer that it cannot reach in its routing table until a
/// full bucket (of `K_VALUE` peers) needs the place.
pub const STALE_MAX: usize = 20;

/// Mesh peers that a node grafts up to: `mesh_n` of libp2p-gossipsub.
pub const MESH: usize = 6;

/// Mesh peers below which a node grafts: `mesh_n_low` of libp2p-gossipsub.
pub const MESH_LOW: usize = 5;

/// Mesh peers at which a node refuses grafts, and prunes down to [`MESH`]: `mesh_n_high` of libp2p-gossipsub.
pub const MESH_HIGH: usize = 12;

/// Time between two heartbeats: `heartbeat_interval` of libp2p-gossipsub.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Heartbeats in which a node tells others which messages it has: `history_gossip` of libp2p-gossipsub.
pub const GOSSIP_HEARTBEATS: u32 = 3;

/// Peers outside the mesh that a heartbeat tells at least: `gossip_lazy` of libp2p-gossipsub.
pub const GOSSIP_PEERS: usize = 6;

/// The part of the peers outside the mesh that a heartbeat tells, if that is more: `gossip_factor` of
/// libp2p-gossipsub.
pub const GOSSIP_PART: f64 = 0.25;

/// Returns name, value and source of every figure, for people.
#[must_use]
pub fn table() -> Vec<(&'static str, String, &'static str)> {
    const DISCOVERY: &str = "node/src/network/discovery.rs";
    const BEHAVIOUR: &str = "node/src/network/behaviour.rs";
    const KAD: &str = "libp2p-kad 0.49";
    const GOSSIPSUB: &str = "libp2p-gossipsub 0.50";
    let time = |time: Duration| format!("{} s", time.as_secs());
    vec![
        ("keys of coordinators", BUCKETS.to_string(), DISCOVERY),
        ("life of a provider record", time(PROVIDER_TTL), BEHAVIOUR),
        ("its renewal", time(PROVIDER_INTERVAL), BEHAVIOUR),
        ("providers of a key", PROVIDERS_MAX.to_string(), KAD),
        ("servers asked", CLOSEST.to_string(), KAD),
        ("requests at a time", PARALLEL.to_string(), KAD),
        ("timeout of a request", time(REQUEST_TIMEOUT), KAD),
        ("timeout of a look-up", time(QUERY_TIMEOUT), BEHAVIOUR),
        ("servers gone but asked", STALE_MAX.to_string(), KAD),
        ("mesh peers", MESH.to_string(), GOSSIPSUB),
        ("fewest mesh peers", MESH_LOW.to_string(), GOSSIPSUB),
        ("most mesh peers", MESH_HIGH.to_string(), GOSSIPSUB),
        ("heartbeat", time(HEARTBEAT), GOSSIPSUB),
        (
            "heartbeats that tell",
            GOSSIP_HEARTBEATS.to_string(),
            GOSSIPSUB,
        ),
        ("peers told, at least", GOSSIP_PEERS.to_string(), GOSSIPSUB),
        ("part of peers told", GOSSIP_PART.to_string(), GOSSIPSUB),
    ]
}
