//! Offers and heads by gossip.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one event among all"
)]

use tally_protocol::checkpoint::CHECKPOINT_BYTES_MAX;
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::merkle::{TreeHead, leaf_hash};
use tally_protocol::unit::Limits;

use super::super::gossip::{OFFER_BYTES_MAX, Subject};
use super::hostile::RawNode;
use super::*;

fn offer(epoch: u64) -> Offer {
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
        issued: now(),
        expires: now() + Duration::from_secs(60),
    }
}

fn signed(offer: Offer, seed: u8) -> Signed<Offer> {
    let network = "test".parse().unwrap();
    Verified::sign(offer, &network, &key(seed)).signed().clone()
}

#[tokio::test]
async fn an_offer_reaches_who_is_two_hops_away() {
    let mut bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let mut coordinator = TestNode::with(2, &[Role::Coordinator], &[]).await;
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[]).await;
    coordinator.join(&mut bootstrap).await;
    terminal.join(&mut bootstrap).await;
    let heard = wait(&mut terminal.events, |event| match event {
        NetworkEvent::OfferHeard { offer, from } => Some((offer, from)),
        _ => None,
    });
    // A subscription takes a moment to be known, so the coordinator repeats itself, as it does in life.
    let repeat = async {
        for epoch in 1.. {
            let offer = signed(offer(epoch), 2);
            coordinator.network.publish_offer(offer).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (heard, from) = tokio::select! {
        heard = heard => heard,
        () = repeat => unreachable!("it never ends"),
    };
    assert_eq!(heard.signer(), coordinator.id());
    assert_eq!(from, bootstrap.id());
    let copies = terminal.network.counters().value("gossip", "copies");
    assert!(copies >= 1, "the one that was heard");
    let peers = terminal.network.peers().await;
    assert_eq!(peers.iter().filter(|peer| peer.mesh).count(), 1);
    assert!(bootstrap.network.counters().value("gossip", "accepted") >= 1);
}

#[tokio::test]
async fn bad_offers_are_counted_and_none_is_heard() {
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[]).await;
    let mut raw = RawNode::start(7, &[Role::Terminal]);
    raw.join(&terminal).await;
    let good = signed(offer(5), 2);
    raw.publish_when_heard(good.as_bytes().to_vec()).await;
    let heard = wait(&mut terminal.events, |event| {
        matches!(event, NetworkEvent::OfferHeard { .. }).then_some(())
    });
    raw.drive_until(heard).await;
    let mut forged = signed(offer(6), 2).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut old = offer(7);
    old.issued = Timestamp::from_millis(0);
    old.expires = Timestamp::from_millis(1_000);
    let mut eternal = offer(8);
    eternal.expires = now() + Duration::from_secs(1_000_000);
    let cases = [
        (forged, "rejected_unverified"),
        (b"garbage".to_vec(), "rejected_unverified"),
        (signed(old, 2).as_bytes().to_vec(), "ignored_expired"),
        (signed(offer(4), 2).as_bytes().to_vec(), "ignored_old_epoch"),
        (signed(eternal, 2).as_bytes().to_vec(), "rejected_bounds"),
        (vec![0; OFFER_BYTES_MAX + 1], "rejected_too_long"),
    ];
    let mut expected = std::collections::BTreeMap::new();
    for (bytes, name) in cases {
        raw.publish(bytes);
        let count = expected.entry(name).or_default();
        *count += 1;
        raw.drive_until(counted(&terminal.network, "gossip", name, *count))
            .await;
    }
    // The very same bytes again are dropped by gossipsub, unseen.
    assert_eq!(terminal.network.counters().value("gossip", "accepted"), 1);
    let too_long = Signed::from_bytes(vec![0; OFFER_BYTES_MAX + 1]);
    let refused = terminal.network.publish_offer(too_long).await;
    let bytes = OFFER_BYTES_MAX + 1;
    let bytes_max = OFFER_BYTES_MAX;
    assert_eq!(refused, Err(PublishError::TooLong { bytes, bytes_max }));
}

fn head(size: u64, seed: u8) -> VerifiedCheckpoint {
    let root = leaf_hash(b"root");
    VerifiedCheckpoint::sign(
        TreeHead { size, root },
        &"test".parse().unwrap(),
        &key(seed),
    )
}

#[tokio::test]
async fn a_head_reaches_who_is_two_hops_away() {
    let mut bootstrap = TestNode::with(1, &[Role::Bootstrap], &[]).await;
    let mut coordinator = TestNode::with(2, &[Role::Coordinator], &[]).await;
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[]).await;
    coordinator.join(&mut bootstrap).await;
    terminal.join(&mut bootstrap).await;
    let heard = wait(&mut terminal.events, |event| match event {
        NetworkEvent::HeadHeard(head) => Some(head),
        _ => None,
    });
    let repeat = async {
        for size in 1.. {
            let head = head(size, 2).signed().clone();
            coordinator.network.publish_head(head).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let heard = tokio::select! {
        heard = heard => heard,
        () = repeat => unreachable!("it never ends"),
    };
    assert_eq!(heard, head(heard.head().size, 2));
    assert_eq!(heard.log(), coordinator.id());
}

#[tokio::test]
async fn bad_heads_are_counted_and_none_is_heard() {
    let mut terminal = TestNode::with(3, &[Role::Terminal], &[]).await;
    let mut raw = RawNode::start(7, &[Role::Terminal]);
    raw.join(&terminal).await;
    // When the subscription to offers is known, the other may take a moment still.
    raw.publish_when_heard(signed(offer(1), 2).as_bytes().to_vec())
        .await;
    raw.drive_until(counted(&terminal.network, "gossip", "accepted", 1))
        .await;
    let note = |head: VerifiedCheckpoint| head.signed().as_str().to_owned();
    let mut expected = std::collections::BTreeMap::new();
    for (note, name) in [
        (note(head(5, 2)), "accepted"),
        (
            note(head(5, 2)).replacen("\n5\n", "\n6\n", 1),
            "rejected_unverified",
        ),
        ("garbage".to_owned(), "rejected_unverified"),
        (
            note(head(7, 2)).replacen("tally/test/", "tally/main/", 2),
            "rejected_unverified",
        ),
        ("x".repeat(CHECKPOINT_BYTES_MAX + 1), "rejected_too_long"),
    ] {
        raw.publish_about(Subject::Heads, note.into_bytes());
        let count = expected.entry(name).or_default();
        *count += 1;
        raw.drive_until(counted(&terminal.network, "heads", name, *count))
            .await;
    }
    let heard = wait(&mut terminal.events, |event| match event {
        NetworkEvent::HeadHeard(head) => Some(head),
        _ => None,
    });
    assert_eq!(heard.await, head(5, 2), "the first one");
}

#[tokio::test]
async fn a_log_whose_heads_flood_is_heard_as_often_as_it_may() {
    let terminal = TestNode::with(3, &[Role::Terminal], &[]).await;
    let mut raw = RawNode::start(7, &[Role::Terminal]);
    raw.join(&terminal).await;
    raw.publish_when_heard(signed(offer(1), 2).as_bytes().to_vec())
        .await;
    raw.drive_until(counted(&terminal.network, "gossip", "accepted", 1))
        .await;
    for size in 1..=14 {
        let note = head(size, 2).signed().as_str().to_owned();
        raw.publish_about(Subject::Heads, note.into_bytes());
        raw.drive_until(judged(&terminal.network, size)).await;
    }
    // Ten at once; one more in 2.5 s, should the test be slow.
    let ignored = terminal
        .network
        .counters()
        .value("heads", "ignored_too_many");
    assert!((1..=4).contains(&ignored), "{ignored}");
}

/// Waits until so many heads were passed on or ignored.
async fn judged(network: &Network, count: u64) {
    let value = |name| network.counters().value("heads", name);
    let all = async {
        while value("accepted") + value("ignored_too_many") < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("each is judged");
}
