//! Peers that send garbage, too much, the same again, or what they have no right to: it is refused and counted, and
//! the node goes on. What the overlay itself refuses is tested where the overlay is.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_node::network::NetworkEvent;
use tally_protocol::entry::Event;
use tally_protocol::id::{BlobId, GrantId, NodeId, RateCardId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::{Offer, Role};
use tally_protocol::message::blob::{BlobGrant, BlobRange, BlobRequest, HEADER_BYTES_MAX};
use tally_protocol::message::customer::{CUSTOMER_BYTES_MAX, CustomerReply, CustomerRequest};
use tally_protocol::message::work::{
    Grant, Leased, LeasedUnit, PullReply, ResultVerdict, WORK_BYTES_MAX, WorkReply, WorkRequest,
};
use tally_protocol::rate_card::{RateCard, Rates};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::{BlobRef, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::unit::Limits;
use tally_tests::job::Job;
use tally_tests::net::Net;
use tally_tests::raw::{RawPeer, Vandal, framed, result_of, signed};
use tally_tests::{ledger, until_true};

use crate::net;

const WORK: &str = "/tally/work/1";
const CUSTOMER: &str = "/tally/customer/1";
const BLOB: &str = "/tally/blob/1";

/// Shows that the nodes still do their work.
#[track_caller]
fn still_works(net: &Net) {
    let job = Job::builtin("wordcount").text("it still\nworks").agree(1);
    let _ = net.submit("honest", &job).wait().done();
    assert_eq!(net.result("honest"), b"3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversized_messages_are_counted_refusals_on_every_protocol() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let mut terminal = net.terminal("terminal").loopback().start();
    for node in [&mut coordinator, &mut terminal] {
        let vandal = Vandal::join(&node.address()).await;
        let conversations = [
            (WORK, WORK_BYTES_MAX, "work.malformed"),
            (CUSTOMER, CUSTOMER_BYTES_MAX, "customer.malformed"),
            (BLOB, HEADER_BYTES_MAX, "blob.malformed"),
        ];
        for (protocol, bytes_max, counter) in conversations {
            let too_long = u32::try_from(bytes_max + 1).unwrap().to_be_bytes();
            let cases = [
                framed(&"not a message of this conversation"),
                vec![0xff; 10_000],
                [&10_u32.to_be_bytes()[..], &[0x9f; 10]].concat(),
                [&too_long[..], &vec![0; bytes_max + 1]].concat(),
                too_long.to_vec(),
                // Arrays in arrays, deeper than any message.
                [&5_000_u32.to_be_bytes()[..], &[0x81; 5_000]].concat(),
            ];
            let count = cases.len() as u64;
            for case in cases {
                vandal.write(protocol, &case).await;
            }
            until_true(counter, || node.counter(counter) == count);
        }
    }
    still_works(&net);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_reports_and_foreign_grants_change_nothing() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let (to, address) = (coordinator.id(), coordinator.address());
    let job = Job::builtin("wordcount")
        .text("one\ntwo\nthree")
        .agree(2)
        .table("lease", "seconds = 3");
    let submitted = net.submit("customer", &job);
    let peer = RawPeer::join(&address, &[Role::Terminal]).await;
    let other = RawPeer::join(&address, &[Role::Terminal]).await;
    let grant = peer.lease(to, 8).await;
    let result = |unit| result_of(grant.id, unit, b"1\n", 1);
    let sound = || peer.report(to, vec![result(0)]);
    let stranger = SigningKey::from_bytes(&[7; 32]);
    let (mut changed, mut swapped, mut garbage, mut foreign) = (sound(), sound(), sound(), sound());
    changed.results[0].fuel += 1;
    swapped.results[0].inline = Some(b"2\n".to_vec());
    garbage.batch = Signed::from_bytes(vec![0xd2; 100]);
    foreign.grants = vec![signed(grant.value().clone(), &stranger)];
    let mut borrowed = other.report(to, vec![result(0)]);
    borrowed.grants = vec![grant.signed().clone()];
    let cases = [
        (
            &peer,
            other.report(to, vec![result(0)]),
            "another device's batch",
        ),
        (
            &peer,
            peer.report(other.id(), vec![result(0)]),
            "a batch for another coordinator",
        ),
        (&peer, changed, "results that were not signed"),
        (&peer, swapped, "another output than the hash says"),
        (&peer, garbage, "a signature that is none"),
        (&peer, foreign, "a grant of another coordinator"),
        (&other, borrowed, "a grant of another device"),
    ];
    for (refused, (by, report, why)) in (1..).zip(cases) {
        let reply = by.tell(to, report).await;
        assert_eq!(reply, WorkReply::Refused(Refusal::Unverified), "{why}");
        assert_eq!(coordinator.counter("work.unverified"), refused, "{why}");
    }
    // Nothing has counted so far: the task waits for its first votes.
    let tallies = coordinator.task(grant.task).devices;
    assert!(
        tallies
            .values()
            .all(|tally| tally.agreed + tally.outvoted == 0)
    );
    let _terminals = [
        net.start_terminal("terminal-1"),
        net.start_terminal("terminal-2"),
    ];
    let _ = submitted.wait().done();
    assert_eq!(net.result("customer"), b"3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_counts_once_and_only_for_its_lease() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let (to, address) = (coordinator.id(), coordinator.address());
    let job = Job::builtin("wordcount")
        .text("one\ntwo\nthree")
        .agree(2)
        .table("lease", "seconds = 3");
    let submitted = net.submit("customer", &job);
    let peer = RawPeer::join(&address, &[Role::Terminal]).await;
    let other = RawPeer::join(&address, &[Role::Terminal]).await;
    let mut grant = peer.lease(to, 1).await;
    let unit = grant.units[0].unit;
    let verdicts = |reply| {
        let WorkReply::Pulled(reply) = reply else {
            panic!("refused: {reply:?}");
        };
        PullReply::clone(&reply).verdicts
    };
    let result = result_of(grant.id, unit, b"1\n", 1);

    let not_leased = result_of(grant.id, unit + 1, b"1\n", 1);
    let reply = peer.tell(to, peer.report(to, vec![not_leased])).await;
    assert_eq!(verdicts(reply), [ResultVerdict::NotLeased]);

    let unknown = result_of(GrantId::from_bytes([9; 16]), unit, b"1\n", 1);
    let reply = peer.tell(to, peer.report(to, vec![unknown])).await;
    assert_eq!(verdicts(reply), [ResultVerdict::ShowGrant]);

    let reply = other.tell(to, other.report(to, vec![result.clone()])).await;
    assert_eq!(
        verdicts(reply),
        [ResultVerdict::NotLeased],
        "it is the lease of another"
    );

    let twice = peer.report(to, vec![result.clone(), result.clone()]);
    let first = verdicts(peer.tell(to, twice.clone()).await);
    assert_eq!(first[0], ResultVerdict::Counted);
    assert_ne!(first[1], ResultVerdict::Counted);
    let again = verdicts(peer.tell(to, twice).await);
    assert!(
        again
            .iter()
            .all(|verdict| *verdict != ResultVerdict::Counted),
        "{again:?}"
    );
    let tallies = coordinator.task(grant.task).devices;
    assert!(
        tallies.values().all(|tally| tally.agreed == 0),
        "one vote is no quorum"
    );

    // The same device does not make a quorum with itself, however often it asks.
    grant = peer.lease(to, 8).await;
    assert!(grant.units.iter().all(|leased| leased.unit != unit));
    drop((peer, other));
    let _terminals = [
        net.start_terminal("terminal-1"),
        net.start_terminal("terminal-2"),
    ];
    let _ = submitted.wait().done();
    assert_eq!(net.result("customer"), b"3\n");
    coordinator.stop();
    let validated = ledger::validations(&net.path("coordinator"), grant.task);
    assert!(validated.len() == 3 && validated.values().all(|(times, _)| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_another_sandbox_or_another_role_gets_no_work() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let mut terminal = net.terminal("terminal").loopback().start();
    let peer = RawPeer::join(&coordinator.address(), &[Role::Terminal]).await;
    let mut foreign = RawPeer::wanting(1);
    foreign.profile = "another-engine".parse().unwrap();
    let reply = peer.ask(coordinator.id(), foreign).await;
    assert_eq!(reply, WorkReply::Refused(Refusal::WrongProfile));
    assert_eq!(coordinator.counter("work.wrong_profile"), 1);

    let peer = RawPeer::join(&terminal.address(), &[Role::Terminal]).await;
    let reply = peer.ask(terminal.id(), RawPeer::wanting(1)).await;
    assert_eq!(reply, WorkReply::Refused(Refusal::WrongRole));
    assert_eq!(terminal.counter("work.wrong_role"), 1);
    let listed = peer
        .network
        .ask_customer(terminal.id(), CustomerRequest::List)
        .await;
    assert_eq!(listed, Ok(CustomerReply::Refused(Refusal::WrongRole)));
    assert_eq!(terminal.counter("customer.wrong_role"), 1);

    // A nudge of a stranger is heard and means nothing.
    let nudge = WorkRequest::Nudge(TaskId::from_bytes([1; 32]));
    let nudged = peer.network.ask_work(terminal.id(), nudge.clone()).await;
    assert_eq!(nudged, Ok(WorkReply::Nudged));
    let refused = RawPeer::join(&coordinator.address(), &[]).await;
    let nudged = refused.network.ask_work(coordinator.id(), nudge).await;
    assert_eq!(nudged, Ok(WorkReply::Refused(Refusal::WrongRole)));
    still_works(&net);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_submitted_again_by_anybody_is_one_task() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let (to, address) = (coordinator.id(), coordinator.address());
    let customer = RawPeer::join(&address, &[]).await;
    let thief = RawPeer::join(&address, &[]).await;
    let card = card_of(&customer, to).await;
    let task = signed(task_of(customer.id(), card), &customer.key);
    let submit = |by: &RawPeer, task: &Signed<Task>| {
        let (network, request) = (by.network.clone(), CustomerRequest::Submit(task.clone()));
        async move { network.ask_customer(to, request).await.unwrap() }
    };
    for _ in 0..3 {
        let CustomerReply::Status(status) = submit(&customer, &task).await else {
            panic!("refused")
        };
        assert_eq!(status.summary.name, "replayed");
    }
    let stolen = submit(&thief, &task).await;
    assert_eq!(stolen, CustomerReply::Refused(Refusal::NotAdmitted));
    let for_another = signed(task_of(customer.id(), card), &thief.key);
    let in_anothers_name = submit(&thief, &for_another).await;
    assert_eq!(
        in_anothers_name,
        CustomerReply::Refused(Refusal::NotAdmitted)
    );
    let mut bytes = task.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = submit(&customer, &Signed::from_bytes(bytes)).await;
    assert_eq!(forged, CustomerReply::Refused(Refusal::Unverified));
    let elsewhere = Verified::sign(
        task_of(customer.id(), card),
        &"elsewhere".parse().unwrap(),
        &customer.key,
    );
    let foreign = submit(&customer, elsewhere.signed()).await;
    assert_eq!(foreign, CustomerReply::Refused(Refusal::Unverified));
    let mut old = task_of(customer.id(), card);
    old.created = tally_protocol::time::Timestamp::from_millis(1_000);
    let stale = submit(&customer, &signed(old, &customer.key)).await;
    assert_eq!(stale, CustomerReply::Refused(Refusal::Stale));

    // Whose task it is is nobody else's business.
    let id = coordinator.tasks()[0].task;
    let watch = CustomerRequest::Watch { task: id, seen: 0 };
    for request in [watch, CustomerRequest::Cancel(id)] {
        let reply = thief.network.ask_customer(to, request).await;
        assert_eq!(reply, Ok(CustomerReply::Refused(Refusal::UnknownTask)));
    }
    let listed = thief.network.ask_customer(to, CustomerRequest::List).await;
    assert_eq!(listed, Ok(CustomerReply::Tasks(Vec::new())));
    let counts = ["not_admitted", "unverified", "stale", "unknown_task"]
        .map(|name| coordinator.counter(&format!("customer.{name}")));
    assert_eq!(counts, [2, 2, 1, 2]);
    assert_eq!(coordinator.tasks().len(), 1);
    let _terminal = net.start_terminal("terminal");
    still_works(&net);
    coordinator.stop();
    let accepted = ledger::events(&net.path("coordinator"));
    let accepted = accepted
        .iter()
        .filter(|event| matches!(event, Event::TaskAccepted { .. }));
    assert_eq!(accepted.count(), 2);
}

/// Returns the rate card that a coordinator has in force.
async fn card_of(peer: &RawPeer, coordinator: NodeId) -> RateCardId {
    let asked = peer
        .network
        .ask_customer(coordinator, CustomerRequest::Terms);
    let reply = asked.await.unwrap();
    let CustomerReply::Terms(terms) = reply else {
        panic!("{reply:?}");
    };
    terms.rate_card.id()
}

const fn limits() -> Limits {
    Limits {
        fuel: 1_000_000,
        memory_bytes: 1 << 20,
        output_bytes: 1 << 10,
    }
}

fn task_of(customer: NodeId, rate_card: RateCardId) -> Task {
    Task {
        name: "replayed".to_owned(),
        customer,
        created: tally_node::clock::now(),
        program: BlobRef::of(b"a program that never comes"),
        args: Vec::new(),
        input: BlobRef::of(b"an input that never comes"),
        split: Split::Bytes(1),
        limits: limits(),
        lease_millis: 10_000,
        quorum: Quorum {
            agree: 1,
            error_max: 3,
            total_max: 8,
        },
        merge: Merge::Concat,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card,
        max_price: 0,
        deadline_millis: 3_600_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_read_by_those_who_may_and_by_nobody_else() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let _terminal = net.start_terminal("terminal");
    still_works(&net);
    let content = b"it still\nworks";
    let wanted = BlobRange {
        blob: BlobId::of(content),
        start: 0,
        bytes: content.len() as u64,
    };
    let thief = RawPeer::join(&coordinator.address(), &[Role::Terminal]).await;
    let read =
        |grant| tally_node::blobs::read_range(&thief.network, coordinator_id(&net), wanted, grant);
    let grant = |reader, expires| BlobGrant {
        reader,
        ranges: vec![wanted],
        expires,
    };
    let soon = tally_node::clock::now() + Duration::from_secs(60);
    let cases = [
        None,
        // Signed by itself, for itself.
        Some(signed(grant(thief.id(), soon), &thief.key)),
        Some(Signed::from_bytes(vec![0xd2; 64])),
        Some(signed(
            grant(thief.id(), tally_node::clock::now()),
            &thief.key,
        )),
    ];
    for case in cases {
        let error = read(case).await.unwrap_err();
        assert!(
            matches!(error, tally_node::blobs::FetchError::Refused(_)),
            "{error:?}"
        );
    }
    let counts = ["unknown_blob", "unverified", "stale"]
        .map(|name| coordinator.counter(&format!("blob.{name}")));
    assert_eq!(counts.iter().sum::<u64>(), 4, "{counts:?}");
    let vandal = Vandal::join(&coordinator.address()).await;
    let beyond = BlobRange {
        start: u64::MAX,
        bytes: u64::MAX,
        ..wanted
    };
    let question = BlobRequest {
        range: beyond,
        grant: None,
    };
    vandal.write(BLOB, &framed(&question)).await;
    still_works(&net);
}

/// Returns the id of the coordinator, which stands at the end of its address.
fn coordinator_id(net: &Net) -> NodeId {
    let (_, id) = net.first_address().split_once("/p2p/").unwrap();
    id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_offers_are_dropped_and_counted_by_nodes_of_every_role() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let mut terminal = net.terminal("terminal").loopback().start();
    for node in [&mut coordinator, &mut terminal] {
        let peer = RawPeer::join(&node.address(), &[Role::Coordinator]).await;
        let offer = offer_of(TaskId::from_bytes([3; 32]));
        let elsewhere = Verified::sign(offer.clone(), &"elsewhere".parse().unwrap(), &peer.key);
        let before = node.counter("gossip.rejected_unverified");
        until_true("the mesh", || {
            let _ =
                futures::executor::block_on(peer.network.publish_offer(elsewhere.signed().clone()));
            node.counter("gossip.rejected_unverified") > before
        });
    }
    still_works(&net);
}

fn offer_of(task: TaskId) -> Offer {
    let now = tally_node::clock::now();
    Offer {
        task,
        epoch: 1,
        program: BlobId::of(b"program"),
        program_bytes: 7,
        profile: tally_sandbox::profile().clone(),
        limits: limits(),
        open_units: 64,
        spread_millis: 0,
        sortition: u16::MAX,
        addresses: Vec::new(),
        issued: now,
        expires: now + Duration::from_secs(60),
    }
}

/// A coordinator whose grants are no good: a terminal runs nothing of it, and goes on for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_runs_nothing_of_a_grant_that_is_not_for_it() {
    let mut net = net();
    let mut honest = net.start_coordinator();
    let mut terminal = net.terminal("terminal").loopback().start();
    let me = terminal.id();
    let mut liar = RawPeer::join(&terminal.address(), &[Role::Coordinator]).await;
    let (own, stranger) = (liar.key.clone(), SigningKey::from_bytes(&[8; 32]));
    let (asked, mut asking) = tokio::sync::mpsc::channel(64);
    let answers = tokio::spawn(async move {
        let mut given = 0_u64;
        while let Some(event) = liar.events.recv().await {
            let NetworkEvent::WorkAsked {
                answer,
                request: WorkRequest::Pull(_),
                ..
            } = event
            else {
                continue;
            };
            let somebody = NodeId::from_bytes([1; 32]);
            let (device, key) = match given % 2 {
                0 => (me, &stranger),
                _ => (somebody, &own),
            };
            given += 1;
            answer.send(WorkReply::Pulled(Box::new(PullReply {
                leased: Some(leased(device, key)),
                ..PullReply::default()
            })));
            let _ = asked.send(given).await;
        }
    });
    until_true("the first pull", || asking.try_recv().is_ok());
    still_works(&net);
    let units = terminal.status().terminal.unwrap();
    assert_eq!(
        (units.units, units.counted),
        (2, 2),
        "only those of the honest one"
    );
    assert!(honest.is_running());
    answers.abort();
}

fn leased(device: NodeId, key: &SigningKey) -> Leased {
    let now = tally_node::clock::now();
    let module = BlobRef::of(b"no module");
    let card = RateCard {
        version: 1,
        published: now,
        rates: Rates::free("EUR".parse().unwrap()),
    };
    let card = signed(card, key);
    let grant = Grant {
        id: GrantId::from_bytes(rand::random()),
        device,
        customer: NodeId::from_bytes([8; 32]),
        task: TaskId::from_bytes([4; 32]),
        unit_count: 1,
        program: module,
        args: Vec::new(),
        limits: limits(),
        profile: tally_sandbox::profile().clone(),
        input: BlobRef::of(b"x"),
        units: vec![LeasedUnit {
            unit: 0,
            attempt: 0,
            start: 0,
            bytes: 1,
            params: String::new(),
        }],
        rate_card: card.id(),
        issued: now,
        deadline: now + Duration::from_secs(60),
    };
    let read = BlobGrant {
        reader: device,
        ranges: Vec::new(),
        expires: grant.deadline,
    };
    Leased {
        grant: signed(grant, key),
        inputs: Some(b"x".to_vec()),
        read: signed(read, key),
        rate_card: card,
    }
}
