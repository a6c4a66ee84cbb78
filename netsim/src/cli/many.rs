//! `netsim run --seeds`: many worlds of one scenario, as many at a time as there are processors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tally_netsim::moment::Moment;
use tally_netsim::scenario::Scenario;

use super::failure::Failure;
use super::output::Output;
use super::run::{self, Run};
use super::seeds::Seeds;

/// Runs all seeds, prints a line for each in their order, and in the end what failed. Returns all runs, without what
/// they were unless `keep` says so.
pub(super) fn run(
    output: Output,
    scenario: &Scenario,
    (seeds, keep): (&Seeds, bool),
) -> Result<Vec<Run>, Failure> {
    let Seeds(seeds) = seeds;
    let next = AtomicU64::new(seeds.start);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (done, finished) = mpsc::sync_channel(threads);
    let bar = output.bar(seeds.end - seeds.start);
    bar.set_message("the first seeds");
    bar.tick();
    let runs = thread::scope(|scope| {
        for _ in 0..threads {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = seed >= seeds.end;
                    if is_over || done.send(run::world(scenario, seed, |_, _| {})).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        // Those that were done before one with a smaller seed.
        let mut early = BTreeMap::new();
        let mut runs = Vec::new();
        for run in finished {
            early.insert(run.seed, run);
            while let Some(mut run) = early.remove(&(seeds.start + runs.len() as u64)) {
                bar.suspend(|| print(output, scenario, &run))?;
                run.report = run.report.filter(|_| keep);
                runs.push(run);
                bar.inc(1);
                bar.set_message(format!(
                    "{} of {} seeds",
                    bar.position(),
                    seeds.end - seeds.start
                ));
            }
        }
        Ok::<_, Failure>(runs)
    })?;
    bar.finish_and_clear();
    for line in outcome(&scenario.name, &runs) {
        output.note(line);
    }
    Ok(runs)
}

fn print(output: Output, scenario: &Scenario, run: &Run) -> Result<(), Failure> {
    match &run.report {
        _ if output.is_json() => run.print_json(output, &scenario.name)?,
        Some(report) => output.result(&(), || {
            let at = Duration::from_secs_f64(report.virtual_seconds);
            format!(
                "seed {:<6} {:<8} {:>12} virtual, {:>6.1} s wall, {} units, trace {}",
                run.seed,
                if run.failed { "FAILED" } else { "holds" },
                (Moment::START + at).to_string(),
                report.wall_seconds,
                report.validated_units,
                &report.trace_hash[..8],
            )
        })?,
        None => {}
    }
    for line in run::trouble(scenario, run) {
        output.note(line);
    }
    Ok(())
}

/// Says how many runs failed, and how to see each of them again.
fn outcome(scenario: &str, runs: &[Run]) -> Vec<String> {
    let failed: Vec<&Run> = runs.iter().filter(|run| run.failed).collect();
    let mut lines = vec![format!("{} runs, {} failed", runs.len(), failed.len())];
    let replay = |run: &&Run| format!("  netsim run {scenario} --seed {}", run.seed);
    lines.extend(failed.iter().map(replay));
    lines
}
