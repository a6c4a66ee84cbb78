//! Leases: who gets which, how they end, and what becomes of late results.

use super::*;
use crate::unit::Fault;

#[test]
fn an_expired_lease_goes_to_another_and_a_late_result_still_counts_once() {
    let mut desk = Desk::new();
    let id = desk.run(task("late", 1), 2);
    let (slow, other) = (desk.lease(1, 1), desk.lease(1, 1));
    desk.pass(59);
    assert!(desk.pull(2, 1).leased.is_none());
    desk.pass(1);
    assert_eq!(desk.nudged().first(), Some(&node(2)), "who waits is woken");
    assert_eq!(desk.status(id).devices[&node(1)].lost, 2);
    let again = desk.lease(2, 1);
    assert_eq!(units_of(&again), [0]);
    assert!(again.units[0].attempt > slow.units[0].attempt, "fenced");
    assert_eq!(
        desk.report(1, results(&slow, b"x")).verdicts,
        [ResultVerdict::Counted]
    );
    assert_eq!(
        desk.report(2, results(&again, b"x")).verdicts,
        [ResultVerdict::Redundant]
    );
    assert_eq!(
        desk.report(1, results(&other, b"x")).verdicts,
        [ResultVerdict::Counted]
    );
    assert_eq!(
        (desk.phase(id).as_str(), desk.status(id).leased),
        ("merging", 0)
    );
}

#[test]
fn a_renewed_lease_goes_on() {
    let mut desk = Desk::new();
    desk.run(task("renew", 1), 1);
    let grant = desk.lease(1, 1);
    for _ in 0..5 {
        desk.pass(40);
        let renew = vec![grant.id];
        let told = desk.pull_with(
            1,
            0,
            Say {
                renew,
                ..Say::default()
            },
        );
        assert!(told.ended.is_empty());
    }
    desk.pass(59);
    assert_eq!(desk.coordinator.devices.grants.leases(node(1)), 1);
    desk.pass(1);
    assert_eq!(desk.coordinator.devices.grants.leases(node(1)), 0);
}

#[test]
fn an_expired_grant_is_had_back_as_long_as_nobody_else_has_its_units() {
    let mut desk = Desk::new();
    let id = desk.run(task("revive", 1), 2);
    let (first, second) = (desk.lease(1, 1), desk.lease(1, 1));
    desk.pass(60);
    let taken = desk.lease(2, 1);
    assert_eq!(units_of(&taken), units_of(&first));
    let renew = vec![first.id, second.id];
    let told = desk.pull_with(
        1,
        9,
        Say {
            renew,
            ..Say::default()
        },
    );
    assert_eq!(told.ended, [first.id]);
    assert!(told.leased.is_none(), "it has got the other one back");
    assert_eq!(desk.status(id).leased, 2);
    desk.pass(60);
    assert_eq!(desk.status(id).leased, 0, "and it expires again");
}

#[test]
fn an_expired_unit_that_comes_back_to_the_same_device_counts_once() {
    let mut desk = Desk::new();
    let id = desk.run(task("same", 2), 1);
    let first = desk.lease(1, 1);
    desk.pass(60);
    let second = desk.lease(1, 1);
    assert_eq!(
        desk.report(1, results(&first, b"x")).verdicts,
        [ResultVerdict::Counted]
    );
    assert_eq!(
        desk.report(1, results(&second, b"x")).verdicts,
        [ResultVerdict::Redundant]
    );
    assert_eq!(
        desk.status(id).summary.done,
        0,
        "one device is not a quorum of two"
    );
    assert!(desk.pull(1, 1).leased.is_none());
    assert_eq!(desk.coordinator.devices.grants.len(), 0);
}

#[test]
fn a_report_that_comes_again_changes_nothing() {
    let mut desk = Desk::new();
    let id = desk.run(task("again", 1), 3);
    let grant = desk.lease(1, 1);
    let mut twice = results(&grant, b"x");
    twice.extend(results(&grant, b"y"));
    let shown = vec![Verified::sign(grant.clone(), &network(), &key(ME))];
    let say = Say {
        shown,
        results: twice,
        ..Say::default()
    };
    let verdicts = desk.pull_with(1, 0, say).verdicts;
    assert_eq!(verdicts, [ResultVerdict::Counted, ResultVerdict::NotLeased]);
    // Its grant is forgotten with its last unit, so it is to be shown, and then the result is redundant.
    assert_eq!(
        desk.report(1, results(&grant, b"x")).verdicts,
        [ResultVerdict::ShowGrant]
    );
    let shown = vec![Verified::sign(grant.clone(), &network(), &key(ME))];
    let say = Say {
        shown,
        results: results(&grant, b"x"),
        ..Say::default()
    };
    assert_eq!(
        desk.pull_with(1, 0, say).verdicts,
        [ResultVerdict::Redundant]
    );
    assert_eq!((desk.status(id).summary.done, desk.status(id).fuel), (1, 9));
}

#[test]
fn results_of_a_grant_from_before_a_restart_count_once_it_is_shown() {
    let mut desk = Desk::new();
    let id = desk.run(task("restart", 1), 1);
    let grant = desk.lease(1, 1);
    desk.restart();
    assert_eq!(
        desk.report(1, results(&grant, b"x")).verdicts,
        [ResultVerdict::ShowGrant]
    );
    let shown = vec![Verified::sign(grant.clone(), &network(), &key(ME))];
    let stolen = Say {
        shown: shown.clone(),
        results: results(&grant, b"y"),
        ..Say::default()
    };
    assert_eq!(
        desk.pull_with(2, 0, stolen).verdicts,
        [ResultVerdict::NotLeased],
        "of another device"
    );
    let mut other_unit = results(&grant, b"x");
    other_unit[0].unit = 7;
    let say = Say {
        shown: shown.clone(),
        results: other_unit,
        ..Say::default()
    };
    assert_eq!(
        desk.pull_with(1, 0, say).verdicts,
        [ResultVerdict::NotLeased]
    );
    let say = Say {
        shown,
        results: results(&grant, b"x"),
        ..Say::default()
    };
    assert_eq!(desk.pull_with(1, 0, say).verdicts, [ResultVerdict::Counted]);
    assert_eq!(desk.phase(id), "merging");
}

#[test]
fn a_grant_from_before_a_restart_is_renewed_once_it_is_shown() {
    let mut desk = Desk::new();
    let id = desk.run(task("restart", 1), 3);
    let (grant, other) = (desk.lease(1, 1), desk.lease(2, 1));
    desk.restart();
    assert_eq!(desk.status(id).leased, 0);
    let renew = |grant: &Grant, shown| Say {
        renew: vec![grant.id],
        shown,
        ..Say::default()
    };
    let heard = desk.pull_with(1, 0, renew(&grant, Vec::new()));
    assert_eq!((heard.unknown, heard.ended), (vec![grant.id], vec![]));
    let signed = |grant: &Grant| vec![Verified::sign(grant.clone(), &network(), &key(ME))];
    let heard = desk.pull_with(1, 0, renew(&grant, signed(&grant)));
    assert_eq!((heard.unknown, heard.ended), (vec![], vec![]));
    assert_eq!(desk.status(id).leased, 1);
    // Nobody else is given the unit, and it is renewed as any other.
    let left: Vec<u32> = units_of(&desk.lease(3, 3));
    assert!(!left.contains(&grant.units[0].unit), "{left:?}");
    desk.pass(40);
    let heard = desk.pull_with(1, 0, renew(&grant, Vec::new()));
    assert_eq!((heard.unknown, heard.ended), (vec![], vec![]));
    assert_eq!(
        desk.report(1, results(&grant, b"x")).verdicts,
        [ResultVerdict::Counted]
    );
    // Of a task that has ended meanwhile nothing is wanted.
    desk.step(Input::Cancelled {
        question: Question(0),
        task: id,
        by: me(),
    });
    desk.restart();
    let heard = desk.pull_with(2, 0, renew(&other, signed(&other)));
    assert_eq!((heard.unknown, heard.ended), (vec![], vec![other.id]));
}

#[test]
fn a_result_beyond_the_limits_or_of_a_foreign_grant_does_not_count() {
    let mut desk = Desk::new();
    desk.run(task("limits", 1), 4);
    let (grant, other) = (desk.lease(1, 1), desk.lease(2, 1));
    let mut dear = results(&grant, b"x");
    dear[0].fuel = 1_001;
    assert_eq!(desk.report(1, dear).verdicts, [ResultVerdict::NotLeased]);
    assert_eq!(
        desk.report(1, results(&other, b"x")).verdicts,
        [ResultVerdict::NotLeased]
    );
    let renew = vec![other.id];
    assert!(
        desk.pull_with(
            1,
            0,
            Say {
                renew,
                ..Say::default()
            }
        )
        .ended
        .is_empty()
    );
}

#[test]
fn one_broken_terminal_rests_and_does_not_fail_a_unit() {
    let mut desk = Desk::new();
    let id = desk.run(task("broken", 1), 1);
    let mut tries = 0;
    while desk.phase(id) == "running" && tries < 6 {
        let pulled = desk.pull(1, 1);
        if let Some(leased) = pulled.leased {
            give_back(&mut desk, 1, &leased.grant);
            assert!(desk.pull(1, 1).leased.is_none(), "it rests");
            tries += 1;
        }
        desk.pass(1);
    }
    assert_eq!(
        (tries, desk.phase(id).as_str()),
        (6, "running"),
        "another may be able to"
    );
    for device in [2, 3] {
        let grant = desk.lease(device, 1);
        give_back(&mut desk, device, &grant);
    }
    let Phase::Failed(reason) = desk.status(id).summary.phase else {
        panic!("three different ones could not");
    };
    assert_eq!(reason, "unit 0: stack overflow, after 8 attempts");
}

#[test]
fn a_unit_that_the_only_terminal_cannot_run_comes_to_an_end() {
    let mut desk = Desk::new();
    let id = desk.run(task("alone", 1), 1);
    for _ in 0..400 {
        if let Some(leased) = desk.pull(1, 1).leased {
            give_back(&mut desk, 1, &leased.grant);
        }
        desk.pass(1);
    }
    assert_eq!(desk.phase(id), "failed");
}

#[test]
fn a_lease_that_is_only_ever_renewed_is_backed_up_by_an_idle_terminal() {
    let mut desk = Desk::new();
    let id = desk.run(task("hoarder", 1), 1);
    let grant = desk.lease(1, 1);
    for _ in 0..4 {
        desk.pass(30);
        let renew = vec![grant.id];
        desk.pull_with(
            1,
            0,
            Say {
                renew,
                ..Say::default()
            },
        );
        assert!(desk.pull(2, 1).leased.is_none());
    }
    desk.pass(1);
    let backup = desk.lease(2, 1);
    assert!(
        desk.pull(3, 1).leased.is_none(),
        "one backup is enough for now"
    );
    desk.report(2, results(&backup, b"x"));
    assert_eq!(
        (desk.phase(id).as_str(), desk.status(id).leased),
        ("merging", 0)
    );
    let late = desk.pull_with(
        1,
        0,
        Say {
            renew: vec![grant.id],
            results: results(&grant, b"x"),
            ..Say::default()
        },
    );
    assert_eq!(
        (late.ended, late.verdicts),
        (vec![grant.id], vec![ResultVerdict::Redundant])
    );
}

#[test]
fn a_large_task_does_not_starve_a_small_one() {
    let mut desk = Desk::new();
    let large = desk.run(task("large", 1), 100_000);
    let small = desk.run(task("small", 1), 2);
    let tasks = [
        desk.lease(1, 8).task,
        desk.lease(2, 8).task,
        desk.lease(1, 8).task,
    ];
    assert_eq!(tasks, [large, small, large]);
}

#[test]
fn a_quorum_that_cannot_be_had_says_what_is_missing() {
    let mut desk = Desk::new();
    let id = desk.run(task("lonely", 2), 1);
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"x"));
    let waiting = desk.status(id).waiting_for.unwrap();
    assert_eq!(
        waiting,
        "terminals: each unit needs 2 different ones, 1 asked for work lately"
    );
    assert!(desk.pull(1, 1).leased.is_none());
    let other = desk.lease(2, 1);
    desk.report(2, results(&other, b"x"));
    assert_eq!(desk.phase(id), "merging");
}

#[test]
fn waiting_terminals_are_woken_in_turn_and_only_while_connected() {
    let mut desk = Desk::new();
    for device in 1..=5 {
        assert!(desk.pull(device, 1).leased.is_none());
    }
    desk.step(Input::Gone(node(5)));
    desk.run(task("nudge", 1), 1);
    let first: BTreeSet<NodeId> = desk.nudged().into_iter().collect();
    assert_eq!(first.len(), 2, "for one unit, and one in case");
    for device in 1..=4 {
        desk.pull(device, 0);
        desk.step(Input::Gone(node(device)));
    }
    assert_eq!(desk.coordinator.devices.waiting(), 0);
}

#[test]
fn reports_alone_do_not_make_a_terminal_wait() {
    let mut desk = Desk::new();
    desk.run(task("pause", 1), 9);
    assert_eq!(desk.pull(1, 0).retry_millis, 0);
    while desk.pull(1, 100).leased.is_some() {}
    assert_eq!(desk.pull(1, 1).retry_millis, 500);
}

fn give_back(desk: &mut Desk, device: u8, grant: &Grant) {
    let back = |unit| Abandoned {
        grant: grant.id,
        unit,
        fault: Fault::StackOverflow,
    };
    let abandoned = units_of(grant).into_iter().map(back).collect();
    desk.pull_with(
        device,
        0,
        Say {
            abandoned,
            ..Say::default()
        },
    );
}

/// Found by netsim: `withholding` of netsim/tests/netsim/dishonest.rs, seed 0.
#[test]
fn withheld_leases_do_not_hide_one_another_and_a_spent_grant_is_worth_nothing() {
    let mut desk = Desk::new();
    let id = desk.run(task("withheld", 1), 12);
    let withheld: Vec<Grant> = (1..=12).map(|device| desk.lease(device, 1)).collect();
    let renewed = |desk: &mut Desk, device: u8| {
        let renew = vec![withheld[usize::from(device) - 1].id];
        let say = Say {
            renew,
            ..Say::default()
        };
        desk.pull_with(device, 0, say).ended
    };
    for _ in 0..4 {
        desk.pass(40);
        for device in 1..=12 {
            assert!(renewed(&mut desk, device).is_empty());
        }
    }
    for done in 0..11 {
        let backup = desk.lease(20, 1);
        desk.report(20, results(&backup, b"x"));
        assert_eq!(desk.status(id).summary.done, done + 1);
    }
    assert!(desk.pull(21, 1).leased.is_some(), "the last one");
    let spent = (1..=12).find(|device| !renewed(&mut desk, *device).is_empty());
    let spent = spent.expect("who holds a settled unit is told to stop");
    let mut told = results(&withheld[usize::from(spent) - 1], b"y");
    told.extend(told.clone());
    let units = desk.coordinator.units_mut(&id).unwrap();
    told[0].unit = (0..12).find(|unit| !units.is_settled(*unit)).unwrap();
    assert_eq!(
        desk.report(spent, told).verdicts,
        [ResultVerdict::NotLeased, ResultVerdict::Redundant]
    );
}
