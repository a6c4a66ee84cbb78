//! How nodes find coordinators.

use super::*;

#[tokio::test]
async fn a_terminal_finds_a_coordinator_through_kademlia_alone() {
    let bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let coordinator = TestNode::with(2, &[Role::Coordinator], &[&bootstrap]).await;
    counted(&bootstrap.network, "kad", "provider_stored", 1).await;
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[&bootstrap]).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
    let found = terminal.network.find_coordinators().await;
    let expected = FoundCoordinator {
        node: coordinator.id(),
        verified: true,
    };
    assert_eq!(found, [expected]);
}

#[tokio::test]
async fn a_coordinator_that_comes_later_is_found_by_terminals_and_customers() {
    let bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[&bootstrap]).await;
    let mut customer = TestNode::with(4, &[], &[&bootstrap]).await;
    terminal.sees(bootstrap.id()).await;
    customer.sees(bootstrap.id()).await;
    assert_eq!(terminal.network.find_coordinators().await, []);
    let coordinator = TestNode::with(2, &[Role::Coordinator], &[&bootstrap]).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
    assert_eq!(customer.finds_coordinator().await, coordinator.id());
}

#[tokio::test]
async fn any_start_order_works() {
    // Until the bootstrap node comes, somebody silent has its port.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let later: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let mut early = config(3, &[Role::Terminal], &[]);
    early.bootstrap = vec![later.clone()];
    let mut terminal = TestNode::start(early).await;
    let mut coordinator = config(2, &[Role::Coordinator], &[]);
    coordinator.bootstrap = vec![later.clone()];
    let coordinator = TestNode::start(coordinator).await;
    let mut bootstrap = config(1, &[Role::Bootstrap], &[]);
    bootstrap.listen = vec![later];
    drop(silent);
    let _bootstrap = TestNode::start(bootstrap).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
}

#[tokio::test]
async fn a_restarted_coordinator_is_found_again() {
    let bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let coordinator = TestNode::with(2, &[Role::Coordinator], &[&bootstrap]).await;
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[&bootstrap]).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
    coordinator.network.shutdown().await;
    wait(&mut terminal.events, |event| {
        matches!(event, NetworkEvent::Disconnected(_)).then_some(())
    })
    .await;
    // Another port: what the terminal remembers of it is no longer true.
    let coordinator = TestNode::with(2, &[Role::Coordinator], &[&bootstrap]).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
}

#[tokio::test]
async fn saved_peers_lead_back_without_a_bootstrap_node() {
    let folder = tempfile::tempdir().unwrap();
    let remembering = |bootstrap: &[&TestNode]| {
        let mut config = config(3, &[Role::Terminal], bootstrap);
        config.saved_peers = Some(folder.path().join("peers.json"));
        config
    };
    let coordinator = TestNode::with(2, &[Role::Coordinator], &[]).await;
    let mut first = TestNode::start(remembering(&[&coordinator])).await;
    assert_eq!(first.finds_coordinator().await, coordinator.id());
    first.network.shutdown().await;
    let mut second = TestNode::start(remembering(&[])).await;
    assert_eq!(second.finds_coordinator().await, coordinator.id());
}

#[tokio::test]
async fn a_node_of_another_network_is_disconnected() {
    let mut bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let mut other = config(2, &[Role::Terminal], &[]);
    other.network = "other".parse().unwrap();
    let other = TestNode::start(other).await;
    other.network.dial(bootstrap.address.clone()).await.unwrap();
    let foreign = async {
        tokio::select! {
            () = counted(&bootstrap.network, "connection", "foreign", 1) => {}
            () = counted(&other.network, "connection", "foreign", 1) => {}
        }
    };
    foreign.await;
    let mut friend = TestNode::with(3, &[Role::Terminal], &[]).await;
    friend.join(&mut bootstrap).await;
    assert!(
        bootstrap
            .network
            .peers()
            .await
            .iter()
            .all(|peer| peer.node != other.id())
    );
}
