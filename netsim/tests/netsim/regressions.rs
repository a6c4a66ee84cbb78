//! Worlds in which something was wrong once, with the story of what it was.

use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Options, World};

#[test]
fn a_coordinator_that_is_back_wakes_although_nobody_talks_to_it() {
    // All terminals are cut off when the coordinator comes back, so no input came; its driver had planned no wake-up
    // at the start, and the deadlines that resuming had set (the next offer) passed unnoticed.
    let scenario = world(
        r#"
        about = "a crash behind a cut"
        until = "30 min"
        calm_after = "2 min"
        [[coordinators]]
        crash_every = "40 s"
        down = "2 s"
        [[terminals]]
        count = 6
        [[tasks]]
        units = 40
        unit_time = "10 s"
        customer_leaves = true
        [[cuts]]
        at = "20 s"
        lasts = "90 s"
        coordinators = [0]
        "#,
    );
    for seed in 0..8 {
        clean(&scenario, seed);
    }
}

#[test]
fn a_customer_that_asks_while_a_group_is_written_hears_only_what_is_durable() {
    // Watchers were answered from the machine, which is ahead of the disk until its group of records is written; a
    // crash then took back what they had been told.
    let scenario = world(
        r#"
        about = "a slow disk"
        until = "30 min"
        calm_after = "2 min"
        [[coordinators]]
        crash_every = "10 s"
        commit = "300 ms"
        [[terminals]]
        count = 8
        [[tasks]]
        units = 60
        unit_time = "2 s"
        "#,
    );
    for seed in 0..4 {
        clean(&scenario, seed);
    }
}

#[test]
fn a_terminal_is_stopped_whose_grant_is_of_before_a_crash() {
    // A slow terminal computed a unit of a task that had ended meanwhile: the coordinator that was restarted knew the
    // grant neither as its own nor as over, and did not ask to see it.
    let scenario = world(
        r#"
        about = "a slow terminal and a crash"
        until = "2h"
        calm_after = "1 min"
        [[coordinators]]
        crash_every = "15 s"
        [[terminals]]
        count = 5
        [[terminals]]
        count = 2
        speed = [0.01, 0.01]
        [[tasks]]
        units = 30
        unit_time = "4 s"
        lease = "5 s"
        "#,
    );
    for seed in 0..4 {
        clean(&scenario, seed);
    }
}

#[test]
fn a_crash_takes_who_was_to_be_told_that_nothing_is_paid_and_nobody_is_distrusted_for_ever() {
    // A slow terminal keeps all quorums open when the customer cancels; all are cut off, and the coordinator crashes
    // before any of them is told. So the others took the results for owed, more than they give on credit, and the next
    // task of the same coordinator never ended.
    let scenario = world(
        r#"
        about = "a cancelled task, a cut and a crash"
        until = "2h"
        calm_after = "5 min"
        [[coordinators]]
        crash_every = "30 s"
        down = "10 s"
        [[terminals]]
        count = 5
        [[terminals]]
        speed = [0.05, 0.05]
        [[tasks]]
        units = 60
        unit_time = "20 s"
        agree = 6
        cancelled_after = "150 s"
        [[tasks]]
        at = "6 min"
        units = 20
        unit_time = "5 s"
        agree = 5
        [[cuts]]
        at = "140 s"
        lasts = "2 min"
        terminals = 1.0
        "#,
    );
    for seed in 0..4 {
        clean(&scenario, seed);
    }
}

#[test]
fn terminals_that_wait_for_each_other_try_the_coordinator_again() {
    // Each of those that stay has results that nobody has confirmed yet, more than it gives on credit, because those who
    // were to confirm them have gone. None of them asked for work any more, so they confirmed nothing to each other,
    // and the task took until somebody new had done it alone.
    let scenario = world(
        r#"
        about = "all wait for each other"
        until = "75 min"
        [[coordinators]]
        [[terminals]]
        count = 4
        [[terminals]]
        count = 60
        presence.exponential = { up = "10 s", down = "20 s" }
        [[tasks]]
        units = 60
        unit_time = "60 s"
        lease = "5 s"
        "#,
    );
    for seed in 0..4 {
        clean(&scenario, seed);
    }
}

fn world(text: &str) -> Scenario {
    Scenario::parse("regression", text).expect("a scenario")
}

fn clean(scenario: &Scenario, seed: u64) {
    let mut world = World::new(scenario, seed, &Options::default());
    world.run();
    assert_eq!(world.finding(), None, "{}, seed {seed}", scenario.about);
    assert!(world.has_settled(), "{}, seed {seed}", scenario.about);
}
