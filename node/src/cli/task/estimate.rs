//! `tally task estimate`: run some units here, say what all of them will cost.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use libp2p::Multiaddr;
use serde::Serialize;
use tally_protocol::account::{Currency, Money};
use tally_protocol::id::NodeId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Measured, Rates};
use tally_protocol::task::Task;
use tally_protocol::task::job::Payment;
use tally_protocol::task::split::UnitTable;
use tally_protocol::unit::Outcome;
use tally_sandbox::{Program, UnitRun};

use super::Desk;
use super::submit::{contents, read_job, usage};
use crate::blobs::{BlobStore, StoreLimits};
use crate::cli::output::{BarUnit, Output, grouped};
use crate::cli::program::run_here;
use crate::cli::{Common, Exit, Failure, Joining};
use crate::clock;
use crate::coordinator::division::divide;

/// What a task is expected to take.
#[derive(Debug, Serialize)]
pub(super) struct Estimate {
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
    /// What that costs, and what should be held for it; none without a coordinator to ask.
    price: Option<Quote>,
    /// Processor time of all replicas on a computer like this one, in seconds.
    cpu_seconds: f64,
}

/// What a coordinator takes for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Quote {
    /// With every replica, as estimated.
    pub(super) expected: Money,
    /// A highest price that leaves room: twice what is expected, and as much as units under way may cost at most.
    pub(super) max_price: Money,
}

impl Estimate {
    pub(super) const fn price(&self) -> Option<Quote> {
        self.price
    }
}

#[derive(Debug, Serialize)]
struct Sample {
    unit: u32,
    outcome: String,
    fuel: u64,
    input_bytes: u64,
    output_bytes: u64,
    pixels: u64,
    run_millis: f64,
}

/// Units under way that a highest price leaves room for.
const UNDER_WAY: u32 = 64;

/// Estimates the job at `path`; with its price if there is a coordinator to ask.
pub(super) async fn estimate(
    common: &Common,
    path: &Path,
    (coordinator, joining): (Option<&Multiaddr>, &Joining),
) -> Result<(), Failure> {
    let output = common.output();
    let job = read_job(path)?;
    let rates = match coordinator {
        Some(address) => Some(
            Desk::terms(common, joining, address)
                .await?
                .rate_card
                .rates
                .clone(),
        ),
        None => None,
    };
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
        .task(nobody, clock::now(), contents, Payment::NOTHING)
        .map_err(|error| usage(error, path))?;
    let estimate = run_samples(output, &task, &store, rates.as_ref())?;
    output.result(&estimate, || text(&estimate))
}

/// Runs some units of a task here and says what all of them will take.
pub(super) fn run_samples(
    output: Output,
    task: &Task,
    store: &BlobStore,
    rates: Option<&Rates>,
) -> Result<Estimate, Failure> {
    let scratch = tempfile::tempdir().context("make a folder for the sample")?;
    let bar = output.bar(BarUnit::Time);
    bar.set_message("estimating");
    let division = divide(task, store, scratch.path())
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
        let pixels = division.table.core_pixels(index);
        samples.push(sample(index, (bytes, pixels), &here.unit));
        if here.unit.result != Ok(Outcome::Done) {
            bar.finish_and_clear();
            return Err(failed(index, &here.unit, here.refusal));
        }
    }
    bar.finish_and_clear();
    let summed = summed(task, &division.table, samples, rates);
    Ok(summed.context("add up the points: the amount is too large")?)
}

fn sample(unit: u32, (input_bytes, pixels): (u64, u64), run: &UnitRun) -> Sample {
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
        pixels,
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

fn summed(
    task: &Task,
    table: &UnitTable,
    sampled: Vec<Sample>,
    rates: Option<&Rates>,
) -> Option<Estimate> {
    let (units, count) = (table.count(), sampled.len() as u64);
    // Without a coordinator: the usual constants.
    let usual = Rates::free(Currency::from_bytes(*b"EUR")?);
    let constants = rates.unwrap_or(&usual);
    let fuel: u64 = sampled.iter().map(|sample| sample.fuel).sum();
    let mut points = Points::ZERO;
    for sample in &sampled {
        let measured = Measured {
            outcome: Outcome::Done,
            fuel: sample.fuel,
            fuel_limit: task.limits.fuel,
            bytes: sample.input_bytes + sample.output_bytes,
            pixels: sample.pixels,
        };
        points = points.checked_add(constants.points(task.program.id, &measured)?)?;
    }
    let points = Points::from_micro(points.checked_mul(u64::from(units))?.as_micro() / count);
    let millis = sampled.iter().map(|sample| sample.run_millis).sum::<f64>()
        / f64::from(u32::try_from(count).ok()?);
    let replicas = task.quorum.agree;
    let points_with_replicas = points.checked_mul(u64::from(replicas))?;
    let price = match rates {
        Some(rates) => Some(quote(task, table, rates, points_with_replicas)?),
        None => None,
    };
    Some(Estimate {
        units,
        sampled,
        fuel: fuel.checked_mul(u64::from(units))? / count,
        points,
        replicas,
        points_with_replicas,
        price,
        cpu_seconds: millis * f64::from(units) * f64::from(replicas) / 1e3,
    })
}

fn quote(task: &Task, table: &UnitTable, rates: &Rates, expected: Points) -> Option<Quote> {
    let under_way = u64::from(table.count().min(UNDER_WAY)) * u64::from(task.quorum.agree);
    let room = rates.points_max(task, table)?.checked_mul(under_way)?;
    let most = expected.checked_mul(2)?.checked_add(room)?;
    Some(Quote {
        expected: rates.money(rates.price.of(expected)?),
        max_price: rates.money(rates.price.of(most)?),
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
        price,
        cpu_seconds,
    } = estimate;
    let price = match price {
        Some(Quote {
            expected,
            max_price,
        }) => format!("\n  price     {expected}; up to {max_price} would be held for it"),
        None => "\n  price     name a coordinator with --coordinator to be told".to_owned(),
    };
    format!(
        "{units} units, {} of them run here\n  fuel      {}\n  points    {points}, with {replicas} replicas \
         {points_with_replicas}{price}\n  processor {cpu_seconds:.1} s on a computer like this one, replicas included",
        sampled.len(),
        grouped(*fuel),
    )
}
