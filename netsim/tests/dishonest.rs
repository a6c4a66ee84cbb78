//! Small worlds with dishonest nodes, one for each conduct: all tasks of the honest coordinator end with the right
//! result, no oracle finds anything, every deed is done and meets with what it should.

use std::collections::BTreeMap;
use std::time::Duration;

use tally_netsim::report::RunReport;
use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Options, World};
use tally_protocol::time::Timestamp;

/// Units of the tasks of each world, and results that each unit needs.
const UNITS: u64 = 300;
const AGREE: u64 = 2;

/// Ten terminals of a kind among thirty honest ones.
fn terminals(kind: &str) -> String {
    scenario(
        &format!(
            "[[terminals]]\ncount = 10\nslots = [2, 4]\nspeed = [0.5, 2.0]\nconduct = \"{kind}\""
        ),
        "",
    )
}

/// A coordinator of a kind, with a task of its own, beside an honest one.
fn coordinator(kind: &str) -> String {
    scenario(
        "",
        &format!(
            "[[coordinators]]\nconduct = \"{kind}\"\n\n[[tasks]]\ncoordinator = 1\nunits = 150\nunit_time = \"2 s\""
        ),
    )
}

fn scenario(terminals: &str, coordinators: &str) -> String {
    format!(
        r#"
about = "Dishonest nodes among honest ones."
until = "40 min"
settle = "10 s"

[[coordinators]]

{coordinators}

[[terminals]]
count = 30
slots = [1, 2]
speed = [0.5, 2.0]

{terminals}

[[tasks]]
coordinator = 0
units = 150
unit_time = "2 s"
spread = 0.3
lease = "20 s"

[[tasks]]
coordinator = 0
at = "5 s"
units = 150
unit_time = "1 s"
output = "16 KiB"
lease = "20 s"
"#
    )
}

/// Runs a world with each of some seeds, and checks what has to hold of all of them.
fn run(text: &str, seeds: std::ops::Range<u64>) -> Vec<RunReport> {
    let scenario = Scenario::parse("dishonest", text).unwrap();
    seeds
        .map(|seed| {
            let mut world = World::new(&scenario, seed, &Options::default());
            let start = std::time::Instant::now();
            world.run();
            let report = world.report(start.elapsed());
            eprintln!(
                "{seed}: {:.0} virtual s in {:.1} s, {} steps, deeds {:?}, leases {:?}, refusals {:?}, liars {:?}, replicas {:?}",
                report.virtual_seconds,
                report.wall_seconds,
                report.steps,
                report.deeds,
                report.leases,
                report.refusals,
                report.liars.iter().map(|liar| (liar.lies, liar.outvoted)).collect::<Vec<_>>(),
                report.replicas_per_unit,
            );
            assert_eq!(world.finding(), None, "seed {seed}");
            if report.colluded_units == 0 {
                check_results(&world, seed);
            }
            report
        })
        .collect()
}

/// Checks that every task of an honest coordinator has its right result.
fn check_results(world: &World, seed: u64) {
    let reference = world.onlookers().oracles.reference();
    let machines: BTreeMap<_, _> = world
        .coordinators()
        .map(|(peer, machine, _)| (peer, machine))
        .collect();
    for (id, task) in reference.tasks() {
        if !reference.is_honest(task.coordinator) {
            continue;
        }
        let machine = machines[&task.coordinator];
        let customer = machine.task(id).unwrap().customer;
        let status = machine.status(Timestamp::default(), id, customer).unwrap();
        assert_eq!(
            status.result,
            Some(task.result),
            "seed {seed}, {}",
            task.name
        );
    }
}

/// Sums up over all seeds what a deed met with.
fn deeds(reports: &[RunReport]) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for (how, met) in reports.iter().flat_map(|report| &report.deeds) {
        for (with, count) in met {
            *all.entry(how.clone())
                .or_default()
                .entry(with.clone())
                .or_default() += count;
        }
    }
    all
}

#[test]
fn wrong_output() {
    run(&terminals("wrong-output"), 0..2);
}

#[test]
fn wrong_fuel() {
    run(&terminals("wrong-fuel"), 0..2);
}

#[test]
fn lazy() {
    run(&terminals("lazy"), 0..2);
}

#[test]
fn colluding() {
    run(&terminals("colluding"), 0..2);
}

#[test]
fn withholding() {
    run(&terminals("withholding"), 0..2);
}

#[test]
fn hoarding() {
    run(&terminals("hoarding"), 0..2);
}

#[test]
fn replaying() {
    run(&terminals("replaying"), 0..2);
}

#[test]
fn forging() {
    run(&terminals("forging"), 0..2);
}

#[test]
fn flooding() {
    run(&terminals("flooding"), 0..1);
}

#[test]
fn owing() {
    run(&coordinator("owing"), 0..2);
}

#[test]
fn tampering() {
    run(&coordinator("tampering"), 0..2);
}
