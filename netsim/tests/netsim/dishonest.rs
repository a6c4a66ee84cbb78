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
    let scenario = Scenario::parse("dishonest", text).expect("a scenario");
    seeds
        .map(|seed| {
            let mut world = World::new(&scenario, seed, &Options::default());
            world.run();
            let report = world.report(Duration::ZERO);
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
        let customer = machine.task(id).expect("it is known").customer;
        let status = machine.status(Timestamp::default(), id, customer);
        let status = status.expect("its customer may ask");
        assert_eq!(
            status.result,
            Some(task.result),
            "seed {seed}, {}",
            task.name
        );
    }
}

/// Sums up over all seeds what each deed met with.
fn deeds(reports: &[RunReport]) -> BTreeMap<&str, BTreeMap<&str, u64>> {
    let mut all: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (how, met) in reports.iter().flat_map(|report| &report.deeds) {
        for (with, count) in met {
            *all.entry(how).or_default().entry(with).or_default() += count;
        }
    }
    all
}

/// Checks that each of these deeds was done and met with what it should, and never counted as a result.
fn met(reports: &[RunReport], expected: &[(&str, &str)]) {
    let deeds = deeds(reports);
    for (how, with) in expected {
        let met = deeds
            .get(how)
            .unwrap_or_else(|| panic!("nobody did: {how}"));
        assert!(
            met.contains_key(with),
            "{how} never met with {with}: {met:?}"
        );
        assert!(!met.contains_key("counted"), "{how} counted: {met:?}");
    }
}

fn leases(report: &RunReport, kind: &str) -> u64 {
    report.leases.get(kind).copied().unwrap_or(0)
}

/// Checks that every lie was told and outvoted, so that the right result has as many honest voices as it needs.
fn liars_are_outvoted(reports: &[RunReport]) {
    for report in reports {
        assert!(!report.liars.is_empty());
        for liar in &report.liars {
            assert_ne!(liar.conduct, "honest");
            assert_eq!(
                liar.outvoted, liar.lies,
                "seed {}, {}",
                report.seed, liar.device
            );
        }
    }
}

/// Checks that honest devices were leased no unit more than `extra` beyond what all results and known answers need.
fn little_is_lost(reports: &[RunReport], extra: u64) {
    for report in reports {
        let honest = leases(report, "honest");
        assert!(
            honest <= UNITS * AGREE + report.accounts.known.0 + extra,
            "seed {}: {honest}",
            report.seed
        );
    }
}

#[test]
fn wrong_output() {
    let reports = run(&terminals("wrong-output"), 0..2);
    liars_are_outvoted(&reports);
    little_is_lost(&reports, 0);
}

#[test]
fn wrong_fuel() {
    let reports = run(&terminals("wrong-fuel"), 0..2);
    liars_are_outvoted(&reports);
    little_is_lost(&reports, 0);
}

/// A quarter of all devices report nonsense at once: they must not use up the votes of any unit.
#[test]
fn lazy() {
    let reports = run(&terminals("lazy"), 0..4);
    liars_are_outvoted(&reports);
    little_is_lost(&reports, 0);
}

/// Where keys are not tied to owners, two colluders validate a wrong unit if both of its leases went to them: the report
/// counts such units. With a quarter of all devices, and more of the slots, that is about every third unit. Devices that
/// show that they are of one owner validate nothing together.
#[test]
fn colluding() {
    let untied = run(&terminals("colluding"), 0..2);
    for report in &untied {
        let colluded = report.colluded_units;
        assert!((1..=UNITS / 2).contains(&colluded), "{colluded}");
        let (lies, outvoted) = report.liars.iter().fold((0, 0), |(lies, outvoted), liar| {
            (lies + liar.lies, outvoted + liar.outvoted)
        });
        assert!(0 < outvoted && outvoted < lies);
    }
    let conduct = "conduct = \"colluding\"";
    let text = terminals("colluding").replace(conduct, &format!("{conduct}\nowners = 1"));
    let tied = run(&text, 0..2);
    liars_are_outvoted(&tied);
    assert!(tied.iter().all(|report| report.colluded_units == 0));
}

/// Withheld units are computed by others, one lease each: nobody computes a unit in vain.
#[test]
fn withholding() {
    let reports = run(&terminals("withholding"), 0..2);
    little_is_lost(&reports, 0);
    for report in &reports {
        let withheld = leases(report, "withholding");
        assert!(
            (1..=UNITS / 2).contains(&withheld),
            "seed {}: {withheld}",
            report.seed
        );
    }
}

/// Ten hoarders that keep asking get less than one lease for each of the units.
#[test]
fn hoarding() {
    let reports = run(&terminals("hoarding"), 0..2);
    met(
        &reports,
        &[("hoards units", "leased"), ("hoards units", "nothing")],
    );
    little_is_lost(&reports, 0);
    for report in &reports {
        let hoarded = leases(report, "hoarding");
        assert!(
            (1..=UNITS).contains(&hoarded),
            "seed {}: {hoarded}",
            report.seed
        );
    }
}

#[test]
fn replaying() {
    let reports = run(&terminals("replaying"), 0..2);
    little_is_lost(&reports, 0);
    met(
        &reports,
        &[
            ("replays another's report", "unverified"),
            ("replays another's grant", "unverified"),
            ("replays a task", "not_admitted"),
            ("watches another's task", "unknown_task"),
            ("cancels another's task", "unknown_task"),
            ("replays an offer", "done"),
        ],
    );
    // It may come before the report itself, whose answer was not heard: then it counts, once.
    let deeds = deeds(&reports);
    let again = &deeds["replays its report"];
    let useless = [
        "redundant",
        "show_grant",
        "not_leased",
        "task_ended",
        "leased",
    ];
    assert!(
        useless.iter().any(|with| again.contains_key(with)),
        "{again:?}"
    );
    assert!(reports.iter().all(|report| report.liars.is_empty()));
}

#[test]
fn forging() {
    let reports = run(&terminals("forging"), 0..2);
    little_is_lost(&reports, 0);
    met(
        &reports,
        &[
            ("report: broken signature", "unverified"),
            ("report: root of other results", "unverified"),
            ("report: wrong count", "malformed"),
            ("report: for another coordinator", "unverified"),
            ("report: by another device", "unverified"),
            ("report: of another network", "unverified"),
            ("report: output is not what its hash says", "unverified"),
            ("report: small output left out", "unverified"),
            ("report: grant made up", "unverified"),
            ("report: grant of another device", "unverified"),
            ("report: too many grants", "malformed"),
            ("report: grant nobody gave", "show_grant"),
            ("report: unit not leased", "not_leased"),
            ("report: unit beyond the last", "not_leased"),
            ("report: fuel over the limit", "not_leased"),
            ("report: output over the limit", "not_leased"),
            ("pull: another profile", "wrong_profile"),
            ("pull: grants of others", "nothing"),
            ("nudge: by no coordinator", "nudged"),
            ("nudge: by no coordinator", "wrong_role"),
            ("submit: broken signature", "unverified"),
            ("submit: of another network", "unverified"),
            ("submit: in another's name", "not_admitted"),
            ("submit: signed by another", "not_admitted"),
            ("submit: of old", "stale"),
            ("submit: without a quorum", "invalid_task"),
            ("watch: another's task", "unknown_task"),
            ("cancel: another's task", "unknown_task"),
            ("cancel: a task that is not there", "unknown_task"),
            ("offer: broken signature", "done"),
            ("offer: of another network", "done"),
            ("offer: expired", "done"),
            ("offer: from the future", "done"),
            ("offer: for ever", "done"),
            ("offer: addresses without end", "done"),
            ("offer: of an old epoch", "done"),
            ("role: another's", "done"),
            ("role: expired", "done"),
            ("role: terminal", "done"),
            ("role: broken signature", "done"),
            ("role: its own", "done"),
            ("grant: of another coordinator", "done"),
            ("grant: broken signature", "done"),
            ("grant: for another device", "done"),
        ],
    );
    for report in &reports {
        for why in [
            "rejected_unverified",
            "rejected_bounds",
            "ignored_expired",
            "ignored_clock",
            "ignored_old_epoch",
            "role_unverified",
            "answer_unverified",
            "grant_unusable",
        ] {
            assert!(
                report.refusals.contains_key(why),
                "seed {}: {why}",
                report.seed
            );
        }
        assert!(report.liars.is_empty());
    }
}

/// A flood takes leases that nobody computes, at most one for each result that is needed.
#[test]
fn flooding() {
    let reports = run(&terminals("flooding"), 0..2);
    little_is_lost(&reports, 0);
    met(
        &reports,
        &[
            ("floods with pulls", "nothing"),
            ("floods with hellos", "role"),
            ("floods with tasks", "stale"),
            ("floods with watches", "unknown_task"),
            ("floods with lists", "tasks"),
            ("floods with offers", "done"),
        ],
    );
    for report in &reports {
        let taken = leases(report, "flooding");
        assert!(
            (1..=UNITS * AGREE).contains(&taken),
            "seed {}: {taken}",
            report.seed
        );
    }
}

/// A quarter of all terminals say that they are other owners': they are refused, and no receipt names those owners,
/// which the oracle "paid once" looks at. The results that they report in their own name count.
#[test]
fn claiming() {
    let text = terminals("claiming").replace("count = 30", "count = 30\nowners = 15");
    let reports = run(&text, 0..2);
    met(
        &reports,
        &[
            ("certificate: another device's", "bad_certificate"),
            ("certificate: its own name on another's", "bad_certificate"),
            ("certificate: expired", "bad_certificate"),
            ("certificate: for ever", "bad_certificate"),
            ("reports for another owner", "done"),
        ],
    );
    for (how, met) in deeds(&reports) {
        let only = ["done", "bad_certificate"];
        let other = met.keys().find(|with| !only.contains(with));
        assert_eq!(other, None, "{how}: {met:?}");
    }
    for report in &reports {
        assert!(leases(report, "claiming") > 0, "seed {}", report.seed);
        assert!(report.liars.is_empty());
    }
}

/// A coordinator that owes verdicts costs only the work that was done for it.
#[test]
fn owing() {
    let reports = run(&coordinator("owing"), 0..2);
    let how = [
        "keeps receipts back",
        "hides its log",
        "gives no verdicts",
        "finds all redundant",
        "wants all grants",
        "misses all outputs",
    ];
    met(&reports, &how.map(|how| (how, "done")));
    little_is_lost(&reports, UNITS);
}

/// Terminals dispute what a coordinator has forged, and get what is right from its log.
#[test]
fn swindling() {
    let reports = run(&coordinator("swindling"), 0..2);
    let how = [
        "sends a receipt of before",
        "halves the points of a receipt",
        "changes the fuel of a receipt",
        "sends a receipt for another device",
        "names leaves that are not there",
        "breaks the signature of a receipt",
    ];
    met(&reports, &how.map(|how| (how, "done")));
    for report in &reports {
        let disputes = &report.accounts.disputes;
        for fault in [
            "it is for another device",
            "its amounts are not those of its results",
        ] {
            assert!(disputes.contains_key(fault), "{disputes:?}");
        }
    }
}

/// Terminals hear heads of both logs, and leave. When nearly all have left the log does not grow any more, so that one
/// that has heard of one log only hears nothing else; but it has nobody to agree with.
#[test]
fn forking() {
    let reports = run(&coordinator("forking"), 0..2);
    let how = [
        "gossips the head of another log",
        "tells the head of another log",
        "proves that another log has grown",
        "proves an entry of another log",
    ];
    met(&reports, &how.map(|how| (how, "done")));
    for report in &reports {
        let forks = report.accounts.forks;
        assert!((28..=30).contains(&forks), "seed {}: {forks}", report.seed);
    }
}

#[test]
fn tampering() {
    let reports = run(&coordinator("tampering"), 0..2);
    let how = [
        "breaks the signature of a grant",
        "gives an old grant",
        "gives a grant for another device",
        "gives more units than are wanted",
        "gives one unit many times",
        "gives a grant of another profile",
        "gives a grant without units",
        "gives a grant that has ended",
        "gives a grant that needs too much memory",
        "ends grants of others",
        "ends grants that were never given",
        "gives too many verdicts",
        "gives too few verdicts",
        "says come back never",
        "says come back at once",
    ];
    met(&reports, &how.map(|how| (how, "done")));
    for report in &reports {
        for why in ["answer_unverified", "grant_unusable"] {
            assert!(
                report.refusals.contains_key(why),
                "seed {}: {why}",
                report.seed
            );
        }
    }
}

/// With every validated unit leased once more, those who lie now and then are found by the known answers too, and an
/// honest one never is: that is for the oracle to see.
#[test]
fn known_answers_find_liars() {
    let text = terminals("wrong-output").replacen(
        "[[coordinators]]",
        "[[coordinators]]\nknown_per_mille = 1000",
        1,
    );
    for report in run(&text, 0..2) {
        let (asked, others) = report.accounts.known;
        assert!(asked > others && others > 0, "{others} of {asked}");
    }
}
