//! `netsim list`.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;
use tally_netsim::scenario::Scenario;
use tally_netsim::scenario::shipped;

use super::failure::Failure;
use super::output::Output;

/// What is shown of a scenario.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    about: String,
    coordinators: u32,
    terminals: u32,
    tasks: u32,
    units: u64,
    until_seconds: u64,
}

pub(super) fn list(output: Output) -> Result<ExitCode, Failure> {
    for shipped in &shipped::ALL {
        let scenario = shipped.scenario()?;
        let line = line(&scenario);
        output.result(&line, || text(&line, &scenario))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(scenario: &Scenario) -> Line {
    let tasks = || scenario.tasks.iter();
    Line {
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        coordinators: scenario.coordinators.iter().map(|group| group.count).sum(),
        terminals: scenario.terminals.iter().map(|group| group.count).sum(),
        tasks: tasks().map(|group| group.count).sum(),
        units: tasks()
            .map(|group| u64::from(group.count) * u64::from(group.units))
            .sum(),
        until_seconds: scenario.until.as_secs(),
    }
}

fn text(line: &Line, scenario: &Scenario) -> String {
    let mut text = format!("{}\n", line.name);
    for row in output_rows(&line.about) {
        let _ = writeln!(text, "    {row}");
    }
    let many = |count: u64, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    let _ = writeln!(
        text,
        "    {}, {}, {}, {}; at most {} of virtual time",
        many(line.coordinators.into(), "coordinator"),
        many(line.terminals.into(), "terminal"),
        many(line.tasks.into(), "task"),
        many(line.units, "unit"),
        humantime(scenario.until),
    );
    text
}

fn humantime(duration: std::time::Duration) -> String {
    let (hours, minutes) = (duration.as_secs() / 3_600, duration.as_secs() / 60 % 60);
    match (hours, minutes) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn output_rows(about: &str) -> Vec<String> {
    tally_netsim::story::wrapped(about, 76)
}
