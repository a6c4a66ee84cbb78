//! The scenarios that come with the program, each with fixed seeds: nothing is found wrong, every task ends as it
//! should, and the scenario still shows what it is there for. The two largest are run by hand only.

use std::collections::BTreeSet;
use std::time::Duration;

use tally_netsim::report::{OracleReport, RunReport};
use tally_netsim::scenario::{Scenario, shipped};
use tally_netsim::world::{Options, World};

/// Runs a scenario, and holds what every run must be.
fn run(name: &str, seed: u64) -> RunReport {
    run_changed(name, seed, |_| {})
}

fn run_changed(name: &str, seed: u64, change: impl Fn(&mut Scenario)) -> RunReport {
    let shipped = shipped::find(name).expect("a scenario of this name is shipped");
    let mut scenario = shipped.scenario().expect("what is shipped can be read");
    change(&mut scenario);
    let mut world = World::new(&scenario, seed, &Options::default());
    world.run();
    let report = world.report(Duration::ZERO);
    for oracle in &report.oracles {
        assert_eq!(
            oracle.finding, None,
            "{name} --seed {seed}: {}",
            oracle.name
        );
    }
    let expected = |ending: &str| match name {
        "everything" => ["done", "cancelled"].contains(&ending),
        // One of its two tasks is for a coordinator that gets no more work.
        "owing-coordinator" | "forked-log" => true,
        _ => ending == "done",
    };
    assert!(
        report.tasks.iter().all(|task| expected(&task.ending)),
        "{name} --seed {seed}: {:?}",
        report.tasks
    );
    report
}

/// Returns the units that were leased more than `often` times.
fn leased_more_than(report: &RunReport, often: u32) -> u64 {
    report
        .leases_per_unit
        .range(often + 1..)
        .map(|(_, units)| units)
        .sum()
}

/// Returns how many marks say this.
fn marks(report: &RunReport, what: &str) -> usize {
    let said = report.marks.iter();
    said.filter(|mark| mark.what.contains(what)).count()
}

#[test]
fn hello_leases_every_unit_to_two_computers_and_no_more() {
    for seed in 0..3 {
        let report = run("hello", seed);
        // Known-answer units are leased once more.
        let units: u64 = report
            .leases_per_unit
            .range(2..=3)
            .map(|(_, units)| units)
            .sum();
        assert_eq!(
            (units, leased_more_than(&report, 2)),
            (200, report.accounts.known.0)
        );
        assert_eq!(report.replicas_per_unit, [(2, 200)].into());
        assert!(report.refusals.is_empty());
    }
}

#[test]
fn office_computes_at_night_what_was_asked_for_by_day() {
    let fifth = |scenario: &mut Scenario| {
        scenario
            .terminals
            .iter_mut()
            .for_each(|group| group.count /= 5);
        scenario.tasks.iter_mut().for_each(|group| group.units /= 5);
    };
    let report = run_changed("office", 0, fifth);
    let day = 24.0 * 3_600.0;
    let at_night = |ended: f64| !(8.0..18.0).contains(&(ended % day / 3_600.0));
    let ended = report.tasks.iter().filter_map(|task| task.ended);
    assert!(ended.filter(|ended| at_night(*ended)).count() > 10);
    assert!(
        report.series.online.contains(&0),
        "nobody lends in the morning"
    );
    assert!(leased_more_than(&report, 2) > 0, "owners come back");
}

#[test]
fn partition_costs_leases_which_are_given_to_others() {
    for seed in 0..2 {
        let report = run("partition", seed);
        assert_eq!(marks(&report, "begins"), 3);
        assert!(leased_more_than(&report, 2) > 30);
        assert!(report.messages_lost > 100);
    }
}

#[test]
fn churn_costs_leases_which_are_given_to_others() {
    let report = run("churn", 0);
    let online = &report.series.online;
    assert!(online.iter().all(|online| (80..160).contains(online)));
    assert!(leased_more_than(&report, 2) > 300);
}

#[test]
fn every_liar_is_outvoted_and_nothing_wrong_is_validated() {
    for seed in 0..3 {
        let report = run("liars-10-percent", seed);
        assert_eq!(report.liars.len(), 10);
        for liar in &report.liars {
            assert!(
                liar.detected.is_some() && liar.outvoted == liar.lies,
                "{liar:?}"
            );
        }
        assert_eq!(report.colluded_units, 0);
        let lies: u64 = report.liars.iter().map(|liar| liar.lies).sum();
        assert!(lies > 100);
    }
}

#[test]
fn a_slow_tail_is_ended_by_backups() {
    let report = run("slow-tail", 0);
    assert!(leased_more_than(&report, 2) > 10, "backups");
    assert!(report.unit_latency.max > 10.0 * report.unit_latency.p50);
}

#[test]
fn a_coordinator_crashes_again_and_again_also_while_it_writes() {
    for seed in 0..2 {
        let report = run("coordinator-crash", seed);
        assert!(marks(&report, "crashes") > 10);
        assert!(marks(&report, "in the middle of a commit") > 3);
        let is_back = marks(&report, "is back");
        assert!(marks(&report, "crashes") - is_back <= 1);
    }
}

#[test]
fn what_the_radio_loses_is_said_again() {
    let report = run("lossy-mobile", 0);
    assert!(report.messages_lost > 300);
    assert!(leased_more_than(&report, 2) > 10);
}

#[test]
fn everything_at_once_ends_well() {
    let mut crashes = 0;
    for seed in 0..6 {
        let report = run("everything", seed);
        let cancelled = report
            .tasks
            .iter()
            .filter(|task| task.ending == "cancelled");
        assert_eq!(cancelled.count(), 1);
        assert_eq!(report.colluded_units, 0);
        assert_eq!(marks(&report, "cut 0 begins"), 1);
        assert!(!report.liars.is_empty() && report.messages_lost > 0);
        crashes += marks(&report, "crashes");
    }
    assert!(crashes > 10);
}

#[test]
fn every_result_has_a_receipt_and_points_leave_escrow() {
    let report = run("receipts", 0);
    let accounts = &report.accounts;
    assert!(marks(&report, "crashes") > 0);
    assert!(accounts.paid > 0 && accounts.spendable > 0, "{accounts:?}");
    assert!(accounts.reserve <= accounts.paid, "{accounts:?}");
    assert_eq!(accounts.held, 0, "every task is settled");
    assert_eq!(accounts.paid_out, 100);
    assert!(
        accounts.disputes.is_empty() && accounts.owing == 0,
        "{accounts:?}"
    );
}

#[test]
fn who_pays_nobody_gets_ten_minutes_of_each_slot_and_the_honest_one_the_rest() {
    let report = run("owing-coordinator", 0);
    let honest = &report.tasks[0];
    assert_eq!(honest.ending, "done");
    assert!(report.tasks[1].ended.is_none(), "{:?}", report.tasks);
    assert!(report.accounts.owing > 0, "{:?}", report.accounts);
}

#[test]
fn all_who_hear_both_logs_of_a_coordinator_leave_it() {
    for seed in 0..2 {
        let report = run("forked-log", seed);
        assert_eq!(report.tasks[0].ending, "done");
        assert!(report.tasks[1].ended.is_none(), "{:?}", report.tasks);
        let forks = report.accounts.forks;
        assert_eq!(forks, u64::from(report.population.terminals), "seed {seed}");
        let has_checked = |oracle: &OracleReport| oracle.name == "one story" && oracle.checks > 1;
        assert!(report.oracles.iter().any(has_checked));
    }
}

/// Returns how often something has happened to orders.
fn orders(report: &RunReport, how: &str) -> u64 {
    report.sales.orders.get(how).copied().unwrap_or(0)
}

#[test]
fn owners_buy_with_points_of_two_coordinators() {
    for seed in 0..2 {
        let report = run("redemption", seed);
        assert!(orders(&report, "fulfilled") > 10, "{:?}", report.sales);
        assert!(orders(&report, "refunded") > 0, "{:?}", report.sales);
        let taken = report.sales.redemptions["taken"];
        assert!(taken > orders(&report, "posted"), "of two at once");
        assert!(report.sales.vouchers > 0, "{:?}", report.sales);
        // Those that nobody has registered, and those that were revoked.
        assert!(report.refusals["not_registered"] > 10);
        let checked = |name: &str| {
            let oracle = report.oracles.iter().find(|oracle| oracle.name == name);
            oracle.is_some_and(|oracle| oracle.checks > 10)
        };
        for name in ["registered only", "spent once", "sold for what was paid"] {
            assert!(checked(name), "{name}");
        }
    }
}

#[test]
fn who_wants_more_than_there_is_gets_no_more() {
    let mut seen = BTreeSet::new();
    for seed in 0..6 {
        let report = run("double-redemption", seed);
        seen.extend(report.deeds.keys().cloned());
        if seed >= 2 {
            continue;
        }
        let met = |how: &str| {
            let met = report.deeds.get(how).unwrap_or_else(|| {
                panic!("nobody {how}, only {:?}", report.deeds.keys());
            });
            let with = met.keys().map(String::as_str);
            with.filter(|with| *with != "done").collect::<Vec<_>>()
        };
        assert!(orders(&report, "voided") > 0, "{:?}", report.sales);
        assert!(orders(&report, "fulfilled") > 10, "{:?}", report.sales);
        assert_eq!(met("uses a voucher twice"), ["voucher_used"]);
        assert_eq!(met("uses a voucher on another fee"), ["key_used"]);
        assert_eq!(met("uses a voucher elsewhere"), ["unknown_voucher"]);
        assert_eq!(met("redeems twice for one order"), ["taken"]);
        assert_eq!(met("takes points never set aside"), ["unknown"]);
        assert_eq!(met("asks for another's redemption"), ["other_audience"]);
        // To a coordinator that does not know of them, too.
        for how in ["takes another's points", "gives another's points back"] {
            let with = met(how);
            let harmless = |with: &&str| ["other_audience", "unknown"].contains(with);
            assert!(with.iter().all(harmless), "{how}: {with:?}");
        }
        // One of the two is registered, and leased something when it asks with its own word.
        assert!(met("registration: not by the app server").contains(&"unverified"));
        assert!(met("registration: by nobody with an agreement").contains(&"not_registered"));
    }
    for how in [
        "doubles what points are worth",
        "answers what was asked before",
    ] {
        assert!(seen.contains(how), "{how}: {seen:?}");
    }
}

#[test]
fn orders_end_well_whoever_crashes() {
    for seed in 0..2 {
        let report = run("app-server-crashes", seed);
        assert!(marks(&report, "app server") > 20);
        assert!(marks(&report, "coordinator") > 4);
        assert!(orders(&report, "fulfilled") > 10, "{:?}", report.sales);
    }
}

#[test]
fn owners_are_obeyed_at_any_moment_and_nothing_is_lost() {
    for seed in 0..4 {
        let report = run("owners", seed);
        let obeyed = report.oracles.iter().find(|oracle| oracle.name == "obeyed");
        let checks = obeyed.map_or(0, |oracle| oracle.checks);
        assert!(checks > 1_000, "{checks}");
        assert!(marks(&report, "crashes") > 0);
    }
}
