//! Planted bugs: mistakes that a coordinator's author could make, each found by the oracle whose matter it is, within
//! a few fixed seeds. The same worlds without a bug are clean. So no oracle is silent because it is blind.

mod bugs;
mod owners;
mod shops;
mod witnesses;

use std::ops::Range;

use tally_netsim::scenario::{Scenario, shipped};
use tally_netsim::world::{Options, World};
use tally_netsim::wrap::{Plain, TerminalWrap, Wrap};

use bugs::{
    CountsAll, Credits, EditsTwice, EndsEarly, ForgetsAnswer, ForgetsDebts, ForgetsRow,
    IgnoresMismatch, Leases, Mistake, NeverWakes, OldSnapshot, Planted, SettlesEarly, TellsFirst,
    Twists,
};
use owners::{CountsWithdrawn, ForgetsSuspended, HearsNothing, SaysKilled};
use witnesses::{AccusesAll, ChecksNothing, TellsNobody};

/// Everything goes wrong that may: crashes, churn, loss, doubles, liars, failing units, outputs read as blobs.
const WORLD: &str = r#"
    about = "a small world in which much goes wrong"
    until = "30 min"
    calm_after = "90 s"
    [lines.bad]
    latency = "20 ms"
    up = "2 MiB"
    down = "8 MiB"
    loss = 0.05
    duplicate = 0.2
    reorder = 0.1
    [[coordinators]]
    crash_every = "25 s"
    down = "4 s"
    commit = "20 ms"
    snapshot_every = 25
    [[terminals]]
    count = 6
    slots = [1, 2]
    speed = [0.5, 2.0]
    line = "bad"
    [[terminals]]
    count = 4
    line = "bad"
    presence.exponential = { up = "30 s", down = "15 s" }
    [[terminals]]
    count = 2
    conduct = "wrong-output"
    [[tasks]]
    units = 60
    unit_time = "3 s"
    spread = 0.5
    lease = "10 s"
    failing = 0.05
    [[tasks]]
    at = "5 s"
    units = 20
    unit_time = "2 s"
    output = "6 KiB"
    edited = true
    customer_leaves = true
"#;

/// A coordinator that never pays, with much more work than terminals do on credit.
const UNPAID_WORLD: &str = r#"
    about = "work for nothing"
    until = "1h"
    [[coordinators]]
    conduct = "owing"
    [[terminals]]
    count = 3
    slots = [1, 2]
    [[tasks]]
    units = 4000
    agree = 1
    unit_time = "5 s"
"#;

/// Owners who sit down at their computers all the time, and units that take longer than they stay away.
const OWNED_WORLD: &str = r#"
    about = "a small world of busy owners"
    until = "30 min"
    calm_after = "5 min"
    [[coordinators]]
    [[terminals]]
    count = 5
    slots = [1, 2]
    interrupted = { away = "30 s", present = "20 s", withdraws = 0.3, sleeps = 0.2 }
    [[tasks]]
    units = 30
    unit_time = "20 s"
    spread = 0.5
    lease = "6 s"
    [[tasks]]
    units = 600
    unit_time = "250 ms"
"#;

/// The seeds of all worlds here.
const SEEDS: Range<u64> = 0..8;

#[test]
fn worlds_without_a_bug_are_clean() {
    for seed in SEEDS {
        assert_eq!(run(seed, || Box::new(Plain)), None, "seed {seed}");
    }
}

#[test]
fn a_result_that_comes_twice_is_credited_twice() {
    finds("credited once", || Box::new(Planted(Credits::twice())));
}

#[test]
fn a_result_is_credited_to_the_device_that_reported_before() {
    finds("credited once", || {
        Box::new(Planted(Credits::to_the_last()))
    });
}

#[test]
fn a_mismatch_is_ignored() {
    // A truth taken for an earlier lie is not right; a lie taken for an earlier truth was never reported.
    finds_any(&["right", "credited once"], || {
        Box::new(Planted(IgnoresMismatch::default()))
    });
}

#[test]
fn a_grant_has_the_name_of_an_earlier_one() {
    finds("fenced", || {
        Box::new(Planted(Leases::with(Mistake::SameName)))
    });
}

#[test]
fn attempts_are_not_counted() {
    finds("fenced", || {
        Box::new(Planted(Leases::with(Mistake::FirstAttempt)))
    });
}

#[test]
fn a_lease_is_given_to_the_next_device_too() {
    finds("fenced", || {
        Box::new(Planted(Leases::with(Mistake::Shared)))
    });
}

#[test]
fn a_device_is_given_what_it_holds() {
    finds("fenced", || Box::new(Planted(Leases::with(Mistake::Again))));
}

#[test]
fn every_result_is_said_to_count() {
    finds_any(&["durable", "fenced"], || Box::new(Planted(CountsAll)));
}

#[test]
fn answers_leave_before_they_are_recorded() {
    finds("durable", || Box::new(TellsFirst));
}

#[test]
fn a_snapshot_lacks_what_came_last() {
    finds("durable", || Box::new(OldSnapshot::default()));
}

#[test]
fn verdicts_are_in_the_wrong_order() {
    finds_any(&["durable", "fenced"], || {
        Box::new(Planted(Twists(bugs::reverse_verdicts)))
    });
}

#[test]
fn the_log_lacks_an_acceptance() {
    finds("durable", || {
        Box::new(Planted(Twists(bugs::forget_acceptance)))
    });
}

#[test]
fn a_task_ends_with_its_last_unit_open() {
    // If one report settles the last two units, none is open, and the result is wrong.
    finds_any(&["done means done", "right"], || {
        Box::new(Planted(EndsEarly::default()))
    });
}

#[test]
fn a_task_ends_twice() {
    finds("done means done", || {
        Box::new(Planted(Twists(bugs::end_twice)))
    });
}

#[test]
fn a_validated_unit_is_not_kept() {
    finds("right", || Box::new(Planted(ForgetsRow::default())));
}

#[test]
fn a_result_is_edited_twice() {
    finds("right", || Box::new(EditsTwice::default()));
}

#[test]
fn a_deadline_is_never_armed() {
    finds("bounded", || Box::new(NeverWakes));
}

#[test]
fn outputs_are_not_kept() {
    finds("bounded", || {
        Box::new(Planted(Twists(bugs::forget_outputs)))
    });
}

#[test]
fn a_merge_is_never_begun() {
    finds("ends", || Box::new(Planted(Twists(bugs::forget_merge))));
}

#[test]
fn a_pull_is_not_answered() {
    finds("nothing left", || {
        Box::new(Planted(ForgetsAnswer::default()))
    });
}

#[test]
fn a_receipt_has_more_points_than_its_results() {
    finds("paid once", || Box::new(Planted(Twists(bugs::pay_more))));
}

#[test]
fn a_receipt_is_not_written() {
    // Its credit is missing in the log, or the terminal holds what is not there.
    finds_any(&["receipts hold", "paid once"], || {
        Box::new(Planted(Twists(bugs::forget_receipt)))
    });
}

#[test]
fn receipts_are_written_without_their_credits() {
    finds("paid once", || {
        Box::new(Planted(Twists(bugs::forget_posting)))
    });
}

#[test]
fn a_task_is_settled_before_all_is_paid() {
    finds("paid once", || Box::new(Planted(SettlesEarly::default())));
}

#[test]
fn a_witness_does_not_look_at_heads_and_proofs() {
    finds_among_forks(|| Box::new(ChecksNothing::default()));
}

#[test]
fn a_witness_tells_nobody_what_it_has_found() {
    finds_among_forks(|| Box::new(TellsNobody));
}

#[test]
fn a_witness_takes_no_answer_for_a_wrong_one() {
    let scenario = Scenario::parse("planted", WORLD).expect("a scenario");
    let wrap: fn() -> Box<dyn TerminalWrap> = || Box::new(AccusesAll);
    let options = || Options {
        terminal_wrap: Some(wrap),
        ..Options::default()
    };
    found_by(&["one story"], |seed| found(&scenario, seed, &options()));
}

/// Expects that a bug of witnesses is found where there is a log that forks.
fn finds_among_forks(wrap: fn() -> Box<dyn TerminalWrap>) {
    let shipped = shipped::find("forked-log").expect("it is shipped");
    let scenario = shipped.scenario().expect("what is shipped can be read");
    let options = || Options {
        terminal_wrap: Some(wrap),
        ..Options::default()
    };
    found_by(&["one story"], |seed| found(&scenario, seed, &options()));
}

#[test]
fn owners_of_terminals_without_a_bug_are_obeyed() {
    let scenario = Scenario::parse("planted", OWNED_WORLD).expect("a scenario");
    for seed in SEEDS {
        let found = found(&scenario, seed, &Options::default());
        assert_eq!(found, None, "seed {seed}");
    }
}

#[test]
fn what_an_owner_takes_back_is_reported_as_a_fault() {
    finds_among_owners(|| Box::new(SaysKilled));
}

#[test]
fn what_is_suspended_loses_its_lease() {
    finds_among_owners(|| Box::new(ForgetsSuspended));
}

#[test]
fn units_wait_while_the_owner_is_there() {
    finds_among_owners(|| Box::new(HearsNothing));
}

#[test]
fn what_an_owner_takes_back_is_held_against_its_terminal() {
    let scenario = Scenario::parse("planted", OWNED_WORLD).expect("a scenario");
    let wrap: fn() -> Box<dyn Wrap> = || Box::new(Planted(CountsWithdrawn));
    let options = || Options {
        wrap: Some(wrap),
        ..Options::default()
    };
    found_by(&["obeyed"], |seed| found(&scenario, seed, &options()));
}

/// Expects that a bug of terminals is found where owners interrupt them.
fn finds_among_owners(wrap: fn() -> Box<dyn TerminalWrap>) {
    let scenario = Scenario::parse("planted", OWNED_WORLD).expect("a scenario");
    let options = || Options {
        terminal_wrap: Some(wrap),
        ..Options::default()
    };
    found_by(&["obeyed"], |seed| found(&scenario, seed, &options()));
}

#[test]
fn a_terminal_forgets_what_it_is_owed() {
    let scenario = Scenario::parse("planted", UNPAID_WORLD).expect("a scenario");
    let forgetful = Options {
        terminal_wrap: Some(|| Box::new(ForgetsDebts)),
        ..Options::default()
    };
    for seed in 0..3 {
        let honest = found(&scenario, seed, &Options::default());
        assert_eq!(honest, None, "seed {seed}");
        let (oracle, what) = found(&scenario, seed, &forgetful).expect("it works for nothing");
        assert_eq!(oracle, "no work for nothing", "seed {seed}: {what}");
    }
}

/// Runs a world. Returns the oracle that found something first, with its words.
fn run(seed: u64, wrap: fn() -> Box<dyn Wrap>) -> Option<(&'static str, String)> {
    let scenario = Scenario::parse("planted", WORLD).expect("a scenario");
    let options = Options {
        wrap: Some(wrap),
        ..Options::default()
    };
    found(&scenario, seed, &options)
}

fn found(scenario: &Scenario, seed: u64, options: &Options) -> Option<(&'static str, String)> {
    let mut world = World::new(scenario, seed, options);
    world.run();
    let finding = world.finding()?;
    Some((finding.oracle, finding.what.clone()))
}

fn finds(oracle: &str, wrap: fn() -> Box<dyn Wrap>) {
    finds_any(&[oracle], wrap);
}

/// Expects that the bug is found, and in each world first by one of these oracles.
fn finds_any(oracles: &[&str], wrap: fn() -> Box<dyn Wrap>) {
    found_by(oracles, |seed| run(seed, wrap));
}

/// Expects that something is found with one of the seeds, and in each world first by one of these oracles.
fn found_by(oracles: &[&str], run: impl Fn(u64) -> Option<(&'static str, String)>) {
    let findings = SEEDS.filter_map(|seed| Some((seed, run(seed)?)));
    let findings: Vec<(u64, (&str, String))> = findings.collect();
    assert!(!findings.is_empty(), "no oracle finds it");
    for (seed, (oracle, what)) in findings {
        assert!(oracles.contains(&oracle), "seed {seed}: {oracle}: {what}");
    }
}
