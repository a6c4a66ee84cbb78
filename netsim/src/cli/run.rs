//! `netsim run`: one world, and what is said of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tally_netsim::moment::Moment;
use tally_netsim::report::{RunReport, html, summary};
use tally_netsim::scenario::Scenario;
use tally_netsim::world::{Options, World};

use super::failure::Failure;
use super::output::Output;
use super::{RunArgs, explain, many, source};

/// What is known of one run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) seed: u64,
    /// Whether something was found wrong.
    pub(super) failed: bool,
    /// What it was; none if a machine or the simulation stopped itself because an invariant of its own was broken.
    pub(super) report: Option<RunReport>,
}

impl Run {
    /// Prints it as JSON.
    pub(super) fn print_json(&self, output: Output, scenario: &str) -> Result<(), Failure> {
        match &self.report {
            Some(report) => output.result(report, String::new),
            None => output.result(
                &serde_json::json!({"scenario": scenario, "seed": self.seed, "panicked": true}),
                String::new,
            ),
        }
    }
}

pub(super) fn run(output: Output, args: &RunArgs) -> Result<ExitCode, Failure> {
    let scenario = source::scenario(&args.scenario)?;
    if let Some(file) = &args.report {
        check_writable(file)?;
    }
    let runs = match &args.seeds {
        Some(seeds) => many::run(output, &scenario, (seeds, args.report.is_some()))?,
        None => vec![single(output, &scenario, args.seed)?],
    };
    if let Some(file) = &args.report {
        let reports: Vec<RunReport> = runs.iter().filter_map(|run| run.report.clone()).collect();
        std::fs::write(file, html::page(&reports)).map_err(|error| unwritable(file, &error))?;
        output.note(format!("The page is in {}.", file.display()));
    }
    Ok(if runs.iter().any(|run| run.failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn single(output: Output, scenario: &Scenario, seed: u64) -> Result<Run, Failure> {
    let bar = output.bar(u64::try_from(scenario.until.as_millis()).unwrap_or(u64::MAX));
    let run = world(scenario, seed, |world, wall| show(&bar, world, wall));
    bar.finish_and_clear();
    match &run.report {
        _ if output.is_json() => run.print_json(output, &scenario.name)?,
        Some(report) => output.result(&(), || summary::summary(report))?,
        None => {}
    }
    for line in trouble(scenario, &run) {
        output.note(line);
    }
    Ok(run)
}

/// Runs a world to its end. A panic ends this run only.
pub(super) fn world(scenario: &Scenario, seed: u64, watch: impl Fn(&World, Duration)) -> Run {
    let run = || {
        let start = Instant::now();
        let mut world = World::new(scenario, seed, &Options::default());
        world.run_watched(|world| watch(world, start.elapsed()));
        world.report(start.elapsed())
    };
    let report = catch_unwind(AssertUnwindSafe(run)).ok();
    let failed = report
        .as_ref()
        .is_none_or(|report| report.failures().next().is_some());
    Run {
        seed,
        failed,
        report,
    }
}

/// Shows how far a world is.
fn show(bar: &ProgressBar, world: &World, wall: Duration) {
    let until = Moment::START + world.until();
    let now = world.now();
    bar.set_position(now.as_micros() / 1_000);
    let rate = now.as_secs_f64() / wall.as_secs_f64().max(1e-3);
    let units = world.onlookers().statistics.validated_units();
    bar.set_message(format!(
        "{now} of {until}, {units} units validated, {rate:.0} times as fast as real"
    ));
}

/// Returns what people have to know of a run that failed, beside the summary: how to see it again, and its story.
pub(super) fn trouble(scenario: &Scenario, run: &Run) -> Vec<String> {
    let name = &scenario.name;
    let seed = run.seed;
    let replay = format!("netsim run {name} --seed {seed}");
    let Some(report) = &run.report else {
        return vec![
            format!("seed {seed}: an invariant is broken, see the panic above"),
            format!("  replay:  {replay}"),
        ];
    };
    let mut lines = Vec::new();
    for oracle in report.failures() {
        let finding = oracle.finding.as_deref().unwrap_or_default();
        lines.push(format!("seed {seed}: {} {finding}", oracle.name));
        lines.push(format!("  replay:  {replay}"));
        if let Some(subject) = explain::subject_of(finding) {
            lines.push(format!(
                "  story:   netsim explain {name} --seed {seed} {subject}"
            ));
        }
    }
    lines
}

/// Finds out before the run whether the page can be written after it.
fn check_writable(file: &Path) -> Result<(), Failure> {
    let opened = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file);
    opened.map(drop).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("write the page to {}: {error}", file.display()),
        "name a file in a folder that is there and that you may write to",
    )
}
