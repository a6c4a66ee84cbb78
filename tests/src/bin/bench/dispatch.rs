//! Units that do nothing: what leasing, running in the sandbox, signing, validating and recording cost.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tally_protocol::task::job::Job;

use crate::report::Report;
use crate::world::World;
use crate::{Options, peers, progress};

/// Units that are measured.
const UNITS: u32 = 20_000;
/// Units that are run before, so that the program is compiled and its pace is known everywhere.
const WARM_UNITS: u32 = 2_000;
/// Bytes of a unit's input, and of its output.
const UNIT_BYTES: usize = 1_024;

/// The guest that returns its input with the first byte inverted.
pub(crate) const ECHO: &str = include_str!("guests/echo.wat");

/// The job of units of [`UNIT_BYTES`] bytes that run [`ECHO`].
pub(crate) fn echo_job() -> Result<Job> {
    let text = format!(
        "[job]\nname = \"echo\"\n[program]\nfile = \"echo.wasm\"\n[input]\nfile = \"input\"\n\
         [split]\nby = \"bytes\"\nbytes = {UNIT_BYTES}\n[quorum]\nagree = 1\n[merge]\nhow = \"concat\"\n"
    );
    Ok(text.parse()?)
}

/// Returns inputs of units one behind another, no two alike.
pub(crate) fn payloads(first: u64, count: u32) -> Vec<u8> {
    let numbers = first..first + u64::from(count);
    let payload = |number: u64| number.to_le_bytes().repeat(UNIT_BYTES / 8);
    numbers.flat_map(payload).collect()
}

/// Returns what the units give for `payloads`.
pub(crate) fn echoed(mut payloads: Vec<u8>) -> Vec<u8> {
    for payload in payloads.chunks_exact_mut(UNIT_BYTES) {
        payload[0] ^= 0xff;
    }
    payloads
}

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new("dispatch", ">= 10 x Ray, >= 25 x Dask");
    let units = options.units.unwrap_or(UNITS);
    let mut world = World::start(&options.dir, 2).await?;
    let program = world.put(&wat::parse_str(ECHO)?)?;
    let job = echo_job()?;
    progress(&format!(
        "dispatch: {WARM_UNITS} units to warm up, then {units}"
    ));
    let warm = world.put(&payloads(1 << 32, WARM_UNITS))?;
    world.run(&job, program, warm).await?;
    let path = world.folder().join("input");
    let input = payloads(0, units);
    std::fs::write(&path, &input)?;
    let before = world.processor_times();
    let start = Instant::now();
    let imported = world.import(&path)?;
    let run = world.run(&job, program, imported).await?;
    let seconds_to_result = start.elapsed().as_secs_f64();
    let used = world.processor_times_since(before);
    ensure!(
        world.read(run.result)? == echoed(input),
        "compare the result with what it should be: they differ"
    );
    let rate = |seconds: f64| f64::from(units) / seconds;
    report.add("units", f64::from(units));
    report.add("units_per_s", rate(seconds_to_result));
    report.add(
        "units_per_s_accepted_to_done",
        rate(run.since_accepted.as_secs_f64()),
    );
    report.add("seconds_submit_to_result", seconds_to_result);
    report.add("seconds_accepted_to_done", run.since_accepted.as_secs_f64());
    let whose = ["coordinator", "terminals", "sandboxes", "customer"];
    for (name, used) in whose.iter().zip(used) {
        let spent = micros_of(used) / f64::from(units);
        report.add(&format!("cpu_us_per_unit_{name}"), spent);
    }
    world.stop().await;
    if options.peers {
        let peers = peers::measure("dispatch", &["--units", &units.to_string()]).await?;
        report.compare(peers, "units_per_s", "units_per_s");
    }
    Ok(report)
}

fn micros_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
