//! A crash between every two records of an order, one world for each: all orders end, whoever crashes.
//!
//! A coordinator, and an app server, crash with each group of records in turn: once before it is on the disk, and once when
//! it is there and nothing that follows from it has left. The oracles judge each world: what is bought is paid, no point
//! is spent twice, and both books say the same.

use tally_netsim::peer::Peer;
use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Crash, Loss, Options, World};
use tally_protocol::app_server::Phase;

/// An owner with a computer that buys everything there is.
const BOUGHT: &str = r#"
    about = "all that can be bought"
    until = "40 min"
    settle = "70 s"
    [[coordinators]]
    rates = "priced"
    known_per_mille = 0
    down = "2 s"
    [[app_servers]]
    down = "2 s"
    settle_every = "50 s"
    supply_fee = "0.01 EUR"
    [[terminals]]
    count = 2
    app_servers = [0]
    [[owners]]
    at = "30 s"
    orders = 4
    every = "2 s"
    [[tasks]]
    units = 24
    unit_time = "2 s"
    lease = "10 s"
    max_price = "4000 EUR"
"#;

const COORDINATOR: Peer = Peer(0);
/// After the coordinator, two bootstrap nodes, a customer and two terminals.
const APP_SERVER: Peer = Peer(6);

#[test]
fn a_crash_of_an_app_server_with_any_record_costs_nobody_anything() {
    with_every_crash(APP_SERVER, 1);
}

#[test]
fn a_crash_of_a_coordinator_with_any_record_costs_nobody_anything() {
    with_every_crash(COORDINATOR, 2);
}

/// Runs a world without a crash, then with one at each `step`th group of records.
fn with_every_crash(node: Peer, step: usize) {
    let scenario = Scenario::parse("every-order", BOUGHT).expect("a scenario");
    let world = run(&scenario, None);
    assert!(fulfilled(&world) > 0, "something is bought");
    let groups = world.groups(node);
    assert!(groups > 20, "only {groups} groups");
    for group in (2..=groups).step_by(step) {
        for loss in [Loss::Group, Loss::Effects] {
            let world = run(&scenario, Some(Crash { node, group, loss }));
            assert!(fulfilled(&world) > 0, "group {group}, {loss:?}");
        }
    }
}

fn run(scenario: &Scenario, crash: Option<Crash>) -> World {
    let options = Options {
        crash,
        ..Options::default()
    };
    let mut world = World::new(scenario, 1, &options);
    world.run();
    assert_eq!(world.finding(), None, "{crash:?}");
    assert!(world.has_settled(), "{crash:?}");
    world
}

fn fulfilled(world: &World) -> usize {
    let machines = world.app_servers();
    let orders = machines.flat_map(|(_, machine, _)| machine.orders());
    orders
        .filter(|order| order.phase() == Phase::Fulfilled)
        .count()
}
