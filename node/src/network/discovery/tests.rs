use super::super::tests::{config, key};
use super::*;

fn node(seed: u8) -> NodeId {
    NodeId::from_bytes(key(seed).verifying_key().to_bytes())
}

fn machine(roles: &[Role], bootstrap: &[&str], now: Instant) -> Discovery {
    let mut config = config(1, roles, &[]);
    config.bootstrap = bootstrap.iter().map(|text| text.parse().unwrap()).collect();
    Discovery::new(&config, Vec::new(), now)
}

fn shown(roles: &[Role]) -> ShownRoles {
    ShownRoles {
        roles: roles.to_vec(),
        expires: Timestamp::from_millis(10_000_000),
    }
}

const CLOCK: Timestamp = Timestamp::from_millis(0);

fn looks(actions: &[Action]) -> usize {
    let looks = |action: &&Action| matches!(action, Action::Look(_));
    actions.iter().filter(looks).count()
}

#[test]
fn a_candidate_is_dialled_once_in_a_while() {
    let start = Instant::now();
    let mut terminal = machine(&[Role::Terminal], &[], start);
    let mut tries = |after: u64| {
        let now = start + Duration::from_secs(after);
        terminal.on_candidate(node(2), Vec::new(), now).is_some()
    };
    assert!(tries(0));
    assert!(!tries(9));
    assert!(tries(10));
    let mut coordinator = machine(&[Role::Coordinator], &[], start);
    assert!(
        coordinator
            .on_candidate(node(2), Vec::new(), start)
            .is_none()
    );
}

#[test]
fn only_a_shown_role_makes_a_coordinator_and_then_the_search_slows_down() {
    let start = Instant::now();
    let mut terminal = machine(&[Role::Terminal], &[], start);
    assert_eq!(looks(&terminal.on_tick(start, CLOCK)), 0, "nobody to ask");
    let hello = terminal.on_identified(node(2), true, start);
    assert!(matches!(hello, Some(Action::Hello(asked)) if asked == node(2)));
    assert_eq!(looks(&terminal.on_tick(start, CLOCK)), usize::from(BUCKETS));
    let later = start + Duration::from_secs(4);
    assert_eq!(looks(&terminal.on_tick(later, CLOCK)), usize::from(BUCKETS));
    assert!(!terminal.is_coordinator(node(2)));
    assert!(!terminal.on_roles(node(2), shown(&[Role::Bootstrap]), Vec::new(), CLOCK));
    assert!(terminal.on_identified(node(3), true, start).is_some());
    assert!(terminal.on_roles(node(3), shown(&[Role::Coordinator]), Vec::new(), CLOCK));
    assert!(terminal.is_coordinator(node(3)));
    let later = start + Duration::from_secs(8);
    assert_eq!(looks(&terminal.on_tick(later, CLOCK)), CONTENT_BUCKETS);
    let later = start + Duration::from_secs(40);
    assert_eq!(looks(&terminal.on_tick(later, CLOCK)), 0);
    terminal.on_disconnected(node(3), later);
    let later = later + Duration::from_secs(1);
    assert_eq!(looks(&terminal.on_tick(later, CLOCK)), usize::from(BUCKETS));
}

#[test]
fn a_statement_is_asked_for_again_before_it_ends_and_a_silent_peer_not_for_ever() {
    let start = Instant::now();
    let mut terminal = machine(&[Role::Terminal], &[], start);
    terminal.on_identified(node(2), true, start);
    terminal.on_roles(node(2), shown(&[Role::Coordinator]), Vec::new(), CLOCK);
    let hellos = |actions: Vec<Action>| {
        let hello = |action: &&Action| matches!(action, Action::Hello(_));
        actions.iter().filter(hello).count()
    };
    assert_eq!(hellos(terminal.on_tick(start, CLOCK)), 0);
    let nearly_over = Timestamp::from_millis(9_800_000);
    assert_eq!(hellos(terminal.on_tick(start, nearly_over)), 1);
    assert!(terminal.is_coordinator(node(2)));
    let again = terminal.on_roles(node(2), shown(&[Role::Coordinator]), Vec::new(), CLOCK);
    assert!(!again, "a renewal is no discovery");
    terminal.on_identified(node(3), true, start);
    let mut asked = 0;
    let mut now = start;
    for _ in 0..100 {
        terminal.on_hello_failed(node(3), now);
        now += Duration::from_secs(60);
        asked += hellos(terminal.on_tick(now, CLOCK));
    }
    assert_eq!(asked, HELLO_FAILURES_MAX as usize);
}

#[test]
fn a_bootstrap_node_is_dialled_at_growing_intervals_while_it_is_away() {
    let mut now = Instant::now();
    let mut terminal = machine(&[Role::Terminal], &["/ip4/127.0.0.1/tcp/1"], now);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let from = now;
        let id = loop {
            match terminal.on_tick(now, CLOCK).pop() {
                Some(Action::Dial(options)) => break options.connection_id(),
                _ => now += Duration::from_millis(50),
            }
        };
        pauses.push(now.duration_since(from));
        terminal.on_dial_failed(id, now);
    }
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(pauses[1] <= Duration::from_millis(700));
    assert!(pauses[9] >= Duration::from_secs(20) && pauses[9] <= Duration::from_secs(40));
}
