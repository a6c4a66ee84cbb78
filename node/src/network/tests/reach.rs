//! Whether others reach a node, tried by real nodes.

use std::net::TcpListener;

use tally_protocol::message::reach::NotReached;

use super::*;

/// Waits until all addresses of a node were tried.
async fn tried(node: &TestNode) -> Reachability {
    let tried = async {
        loop {
            let known = node.network.reachability().await;
            let untested = |of: &TestedAddress| of.tested == Tested::Untested;
            if !known.addresses.is_empty() && !known.addresses.iter().any(untested) {
                return known;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let known = tokio::time::timeout(PATIENCE, tried).await;
    known.expect("the addresses are tried")
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
}

#[tokio::test]
async fn each_address_is_tried_and_the_peer_that_tried_is_named() {
    let mut bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    // Held but not listening: connections are refused, and nobody else gets the port.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let any: std::net::SocketAddrV4 = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&socket, &any).unwrap();
    let held = rustix::net::getsockname(&socket).unwrap();
    let held: std::net::SocketAddrV4 = held.try_into().unwrap();
    // Somebody who is no node.
    let stranger = TcpListener::bind(any).unwrap();
    let strange = stranger.local_addr().unwrap().port();
    std::thread::spawn(move || stranger.incoming().take(1).for_each(drop));
    let mut config = config(2, &[Role::Coordinator], &[]);
    let wrong = [
        address(held.port()),
        address(strange),
        bootstrap.address.clone(),
    ];
    config.external = wrong.to_vec();
    let mut coordinator = TestNode::start(config).await;
    coordinator.join(&mut bootstrap).await;
    let known = tried(&coordinator).await;
    assert!(known.listens);
    let of = |address: &Multiaddr| {
        let mut all = known.addresses.iter();
        let found = all.find(|tested| tested.address == *address);
        found.unwrap().tested.clone()
    };
    let by = |tested: Tested| match tested {
        Tested::Reached { by, .. } => (by, None),
        Tested::NotReached { by, why, .. } => (by, Some(why)),
        Tested::Untested => panic!("it was tried"),
    };
    let tester = bootstrap.id();
    assert_eq!(by(of(&coordinator.address)), (tester, None));
    assert_eq!(by(of(&wrong[0])), (tester, Some(NotReached::Closed)));
    assert_eq!(by(of(&wrong[1])), (tester, Some(NotReached::NoNode)));
    assert_eq!(by(of(&wrong[2])), (tester, Some(NotReached::OtherNode)));
    assert_eq!(
        known.reached().map(|(at, ..)| at),
        Some(&coordinator.address)
    );
    // What was opened for the tests is closed again; the two stay connected.
    let known = tried(&bootstrap).await;
    assert_eq!(
        by(known.addresses[0].tested.clone()),
        (coordinator.id(), None)
    );
    assert_eq!(bootstrap.network.peers().await.len(), 1);
}

#[tokio::test]
async fn a_terminal_that_only_dials_says_so_and_tries_nobody() {
    let bootstrap = TestNode::with(3, &[Role::Bootstrap], &[]).await;
    let mut config = config(4, &[Role::Terminal], &[&bootstrap]);
    config.listen = Vec::new();
    let (terminal, mut events) = Network::start(config).unwrap();
    wait(&mut events, |event| {
        matches!(event, NetworkEvent::Connected(_)).then_some(())
    })
    .await;
    let known = terminal.reachability().await;
    assert_eq!((known.listens, known.addresses.len()), (false, 0));
    assert_eq!(known.testers, 1);
    let known = bootstrap.network.reachability().await;
    assert_eq!((known.testers, known.is_tested()), (0, false));
}
