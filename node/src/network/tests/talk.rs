//! Questions and answers between honest nodes.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test waits for one event among all"
)]

use tally_protocol::id::TaskId;
use tally_protocol::message::Refusal;

use super::*;

const TASK: TaskId = TaskId::from_bytes([9; 32]);

#[tokio::test]
async fn two_nodes_ask_and_answer_on_all_protocols() {
    let mut coordinator = TestNode::with(1, &[Role::Coordinator], &[]).await;
    let mut terminal = TestNode::with(2, &[Role::Terminal], &[]).await;
    terminal.join(&mut coordinator).await;
    let asker = terminal.id();
    let owner = tokio::spawn(async move {
        let mut answered = 0;
        while answered < 3 {
            match coordinator.events.recv().await.unwrap() {
                NetworkEvent::WorkAsked {
                    from,
                    request: WorkRequest::Nudge(task),
                    answer,
                } => {
                    assert_eq!((from, task), (asker, TASK));
                    answer.send(WorkReply::Nudged);
                    answered += 1;
                }
                NetworkEvent::LogAsked {
                    from,
                    request: LogRequest::Consistency { from: 3, to: 5 },
                    answer,
                } => {
                    assert_eq!(from, asker);
                    answer.send(LogReply::Consistency(Vec::new()));
                    answered += 1;
                }
                NetworkEvent::CustomerAsked { answer, .. } => {
                    answer.send(CustomerReply::Tasks(Vec::new()));
                    answered += 1;
                }
                _ => {}
            }
        }
        coordinator
    });
    let to = terminal.finds_coordinator().await;
    let nudge = terminal.network.ask_work(to, WorkRequest::Nudge(TASK));
    assert_eq!(nudge.await, Ok(WorkReply::Nudged));
    let list = terminal.network.ask_customer(to, CustomerRequest::List);
    assert_eq!(list.await, Ok(CustomerReply::Tasks(Vec::new())));
    let proof = LogRequest::Consistency { from: 3, to: 5 };
    let proved = terminal.network.ask_log(to, proof).await;
    assert_eq!(proved, Ok(LogReply::Consistency(Vec::new())));
    let coordinator = owner.await.unwrap();
    assert_eq!(coordinator.network.counters().value("customer", "asked"), 1);
}

#[tokio::test]
async fn peers_are_listed_with_the_roles_they_have_shown() {
    let mut coordinator = TestNode::with(1, &[Role::Coordinator], &[]).await;
    let mut terminal = TestNode::with(2, &[Role::Terminal], &[]).await;
    terminal.join(&mut coordinator).await;
    assert_eq!(terminal.finds_coordinator().await, coordinator.id());
    let peers = terminal.network.peers().await;
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].node, coordinator.id());
    assert_eq!(peers[0].roles, Some(vec![Role::Coordinator]));
    assert_eq!(peers[0].direction, Direction::Outgoing);
    assert!(peers[0].addresses.contains(&coordinator.address));
    assert!(peers[0].protocols.contains(&"/tally/work/1".to_owned()));
    assert!(peers[0].agent.starts_with("tally/"));
    let seen = coordinator.network.peers().await;
    assert_eq!(seen[0].direction, Direction::Incoming);
}

#[tokio::test]
async fn an_owner_that_does_not_keep_up_is_busy_and_the_swarm_goes_on() {
    let mut small = config(1, &[Role::Coordinator], &[]);
    small.limits.events = 8;
    let mut coordinator = TestNode::start(small).await;
    let mut terminal = TestNode::with(2, &[Role::Terminal], &[]).await;
    terminal.join(&mut coordinator).await;
    let to = coordinator.id();
    let asks = (0..12).map(|_| {
        let network = terminal.network.clone();
        tokio::spawn(async move { network.ask_work(to, WorkRequest::Nudge(TASK)).await })
    });
    let asks: Vec<_> = asks.collect();
    // Nobody reads the events: four questions wait, the others are refused at once.
    counted(&coordinator.network, "work", "busy", 8).await;
    let hello = terminal.network.ask_work(to, WorkRequest::Hello).await;
    assert!(matches!(hello, Ok(WorkReply::Role(_))));
    drop(coordinator.events);
    for ask in asks {
        let reply = ask.await.unwrap();
        assert_eq!(reply, Ok(WorkReply::Refused(Refusal::Busy)));
    }
}

#[tokio::test]
async fn asking_who_is_not_there_ends_with_the_reason() {
    let terminal = TestNode::with(2, &[Role::Terminal], &[]).await;
    let nobody = NodeId::from_bytes(key(99).verifying_key().to_bytes());
    let ask = terminal.network.ask_work(nobody, WorkRequest::Hello).await;
    assert_eq!(ask, Err(AskError::Unreachable(nobody)));
    let connect = terminal.network.connect(nobody, Vec::new()).await;
    assert_eq!(connect, Err(DialError::NoAddress));
    let nowhere = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    let dial = terminal.network.dial(nowhere).await;
    assert!(matches!(dial, Err(DialError::Failed(_))));
    terminal.network.shutdown().await;
    let late = terminal.network.ask_work(nobody, WorkRequest::Hello).await;
    assert_eq!(late, Err(AskError::ShutDown));
}
