//! One unit at a time, from a customer that stays connected: submit to result.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::dispatch::{ECHO, echo_job, echoed, payloads};
use crate::report::{Report, quantile};
use crate::world::World;
use crate::{Options, peers, progress};

/// Tasks that are measured.
const TASKS: u32 = 200;
/// The whole, and its steps: the input put into the customer's store, the task accepted, everything until it is done,
/// the result read into the customer's store.
const NAMES: [&str; 5] = ["ms", "ms_stored", "ms_accepted", "ms_done", "ms_result"];
/// Tasks that are done before.
const WARM_TASKS: u32 = 20;

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new("latency", "<= 1 x Ray (ratio of the medians)");
    let tasks = options.units.unwrap_or(TASKS);
    let mut world = World::start(&options.dir, 2).await?;
    let program = world.put(&wat::parse_str(ECHO)?)?;
    let job = echo_job()?;
    progress(&format!(
        "latency: {WARM_TASKS} tasks to warm up, then {tasks}, one after the other"
    ));
    let mut steps: [Vec<f64>; 5] = Default::default();
    for number in 0..WARM_TASKS + tasks {
        let content = payloads(u64::from(number), 1);
        let start = Instant::now();
        let input = world.put(&content)?;
        let stored = start.elapsed();
        let run = world.run(&job, program, input).await?;
        let total = start.elapsed();
        ensure!(
            world.read(run.result)? == echoed(content),
            "compare the result with what it should be: they differ"
        );
        if number < WARM_TASKS {
            continue;
        }
        let answered = run.phases.first().map_or(Duration::ZERO, |(_, at)| *at);
        let times = [
            total,
            stored,
            answered,
            run.done - answered,
            run.result_here - run.done,
        ];
        for (step, time) in steps.iter_mut().zip(times) {
            step.push(millis_of(time));
        }
    }
    world.stop().await;
    report.add("tasks", f64::from(tasks));
    for (name, mut millis) in NAMES.iter().zip(steps) {
        millis.sort_by(f64::total_cmp);
        report.add(&format!("p50_{name}"), quantile(&millis, 0.5));
        report.add(&format!("p90_{name}"), quantile(&millis, 0.9));
    }
    if options.peers {
        let peers = peers::measure("latency", &["--units", &tasks.to_string()]).await?;
        report.compare(peers, "p50_ms", "median_ms");
    }
    Ok(report)
}

fn millis_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
