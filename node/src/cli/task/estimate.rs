//! `tally task estimate`: run some units here, say what all of them will cost.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use tally_protocol::id::NodeId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::points::Points;
use tally_protocol::task::Task;
use tally_protocol::unit::Outcome;
use tally_sandbox::{Program, UnitRun};

use super::submit::{contents, read_job, usage};
use crate::blobs::{BlobStore, StoreLimits};
use crate::cli::output::{BarUnit, grouped};
use crate::cli::program::run_here;
use crate::cli::{Common, Exit, Failure};
use crate::clock;
use crate::coordinator::division::divide;

/// What a task is expected to take.
#[derive(Debug, Serialize)]
struct Estimate {
    units: u32,
    sampled: Vec<Sample>,
    /// Of all units, each run once.
    fuel: u64,
    /// Of all units, each run once.
    points: Points,
    /// Terminals that must agree.
    replicas: u8,
    /// With every replica.
    points_with_replicas: Points,
    /// Processor time of all replicas on a computer like this one, in seconds.
    cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Sample {
    unit: u32,
    outcome: String,
    fuel: u64,
    input_bytes: u64,
    output_bytes: u64,
    run_millis: f64,
}

/// Estimates the job at `path`.
pub(super) fn estimate(common: &Common, path: &Path) -> Result<(), Failure> {
    let output = common.output();
    let job = read_job(path)?;
    let scratch = tempfile::tempdir().context("make a folder for the sample")?;
    let store = BlobStore::open(
        &scratch.path().join("blobs"),
        StoreLimits {
            bytes_max: u64::MAX,
        },
    )?;
    let contents = contents(&job, path, &store)?;
    let nobody = NodeId::from_bytes([0; 32]);
    let task = job
        .task(nobody, clock::now(), contents)
        .map_err(|error| usage(error, path))?;
    let bar = output.bar(BarUnit::Time);
    bar.set_message("estimating");
    let division = divide(&task, &store, scratch.path())
        .map_err(|reason| Failure::new(Exit::Usage, format!("cut the input: {reason}")))?;
    let count = division.table.count();
    let module = std::fs::read(store.path(task.program.id).context("find the program")?)?;
    let program = Program::new(module.into());
    let mut samples = Vec::new();
    for index in BTreeSet::from([0, count / 2, count - 1]) {
        let (start, bytes) = division.table.range(index).unwrap_or_default();
        let input = store.read(BlobRange {
            blob: division.packed.id,
            start,
            bytes,
        })?;
        let params = division.table.params(index);
        let here = run_here(
            &program,
            &task.args,
            task.limits,
            (index, count, params),
            &input,
        )?;
        samples.push(sample(index, bytes, &here.unit));
        if here.unit.result != Ok(Outcome::Done) {
            bar.finish_and_clear();
            return Err(failed(index, &here.unit, here.refusal));
        }
    }
    bar.finish_and_clear();
    let estimate =
        summed(&task, count, samples).context("add up the points: the amount is too large")?;
    output.result(&estimate, || text(&estimate))
}

fn sample(unit: u32, input_bytes: u64, run: &UnitRun) -> Sample {
    let outcome = match run.result {
        Ok(outcome) => outcome.to_string(),
        Err(fault) => fault.to_string(),
    };
    let output_bytes = run.output.len() as u64;
    Sample {
        unit,
        outcome,
        fuel: run.fuel,
        input_bytes,
        output_bytes,
        run_millis: run.run_time.as_secs_f64() * 1e3,
    }
}

fn failed(index: u32, run: &UnitRun, refusal: Option<String>) -> Failure {
    let why = match (&run.result, refusal) {
        (_, Some(reason)) => format!("the program {reason}"),
        (Ok(outcome), None) => outcome.to_string(),
        (Err(fault), None) => fault.to_string(),
    };
    let said = String::from_utf8_lossy(&run.stderr);
    let said = if said.trim().is_empty() {
        String::new()
    } else {
        format!("; it said: {}", said.trim())
    };
    Failure::new(
        Exit::Unsuccessful,
        format!("run unit {index} here: {why}{said}"),
    )
    .hint("raise [limits] or correct the program; `tally program run` tries one unit")
}

fn summed(task: &Task, units: u32, sampled: Vec<Sample>) -> Option<Estimate> {
    let count = sampled.len() as u64;
    let fuel = sampled
        .iter()
        .map(|sample| sample.fuel)
        .sum::<u64>()
        .checked_mul(u64::from(units))?
        / count;
    let mut points = Points::ZERO;
    for sample in &sampled {
        points = points.checked_add(Points::of_unit(
            sample.fuel,
            sample.input_bytes + sample.output_bytes,
        )?)?;
    }
    let points = Points::from_micro(points.checked_mul(u64::from(units))?.as_micro() / count);
    let millis = sampled.iter().map(|sample| sample.run_millis).sum::<f64>()
        / f64::from(u32::try_from(count).ok()?);
    let replicas = task.quorum.agree;
    Some(Estimate {
        units,
        sampled,
        fuel,
        points,
        replicas,
        points_with_replicas: points.checked_mul(u64::from(replicas))?,
        cpu_seconds: millis * f64::from(units) * f64::from(replicas) / 1e3,
    })
}

fn text(estimate: &Estimate) -> String {
    let Estimate {
        units,
        sampled,
        fuel,
        points,
        replicas,
        points_with_replicas,
        cpu_seconds,
    } = estimate;
    format!(
        "{units} units, {} of them run here\n  fuel      {}\n  points    {points}, with {replicas} replicas \
         {points_with_replicas}\n  processor {cpu_seconds:.1} s on a computer like this one, replicas included",
        sampled.len(),
        grouped(*fuel),
    )
}
