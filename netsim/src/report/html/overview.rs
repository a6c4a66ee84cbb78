//! The page of several runs: an overview, then the first of them in full.

use std::collections::BTreeSet;

use super::super::RunReport;
use super::super::quantity::Quantity;
use super::tables::{Cell, Table};
use super::{Escaped, banner, detail, optional, part_of};

/// So many runs are shown in full; a page stays within a few MiB.
const RUNS_IN_DETAIL: usize = 8;
/// So many runs are in the overview.
const RUNS_IN_OVERVIEW: usize = 500;

/// Returns the overview and the details of several runs.
pub(super) fn page(runs: &[&RunReport]) -> String {
    let failed = runs.iter().filter(|run| !run.holds()).count();
    let verdict = match failed {
        0 => format!("All {} runs hold", runs.len()),
        _ => format!("{failed} of {} runs did not hold", runs.len()),
    };
    let details: String = runs
        .iter()
        .take(RUNS_IN_DETAIL)
        .enumerate()
        .map(|(index, run)| folded(run, index))
        .collect();
    let rest = runs.len().saturating_sub(RUNS_IN_DETAIL);
    let rest = match rest {
        0 => String::new(),
        _ => format!("<p class=\"more\">{rest} more runs are in the overview only.</p>\n"),
    };
    format!(
        "<h1>{}, {} runs</h1><header>{}</header>\n<section><h2>Overview</h2>{}</section>\n{details}{rest}",
        scenarios(runs),
        runs.len(),
        banner(failed == 0, &verdict),
        overview(runs),
    )
}

/// Returns the names of the scenarios that were run.
fn scenarios(runs: &[&RunReport]) -> String {
    let names: BTreeSet<&str> = runs.iter().map(|run| run.scenario.as_str()).collect();
    let names: Vec<String> = names
        .into_iter()
        .map(|name| Escaped(name).to_string())
        .collect();
    names.join(", ")
}

fn folded(run: &RunReport, index: usize) -> String {
    let open = if index == 0 { " open" } else { "" };
    format!(
        "<details class=\"run\" id=\"run-{index}\"{open}>\n<summary>{}, seed {}: {}</summary>\n{}</details>\n",
        Escaped(&run.scenario),
        run.seed,
        run.verdict(),
        detail(run),
    )
}

fn overview(runs: &[&RunReport]) -> String {
    let mut table = Table::new(
        "Runs",
        &[
            "Scenario",
            "#Seed",
            "Verdict",
            "#Tasks ended",
            "#Units done",
            "#Slots busy",
            "#Results per unit",
            "#Liars found",
            "#Half of the units within",
            "#Virtual time",
            "#Computed in",
            "Trace",
        ],
    );
    for (index, run) in runs.iter().enumerate() {
        let seed = match index {
            shown if shown < RUNS_IN_DETAIL => {
                Cell::link(&format!("#run-{index}"), &run.seed.to_string())
            }
            _ => Cell::text(&run.seed.to_string()),
        };
        table.row([
            Cell::text(&run.scenario),
            seed,
            Cell::verdict(run.holds(), if run.holds() { "holds" } else { "fails" }),
            Cell::text(&part_of(run.tasks_ended() as u64, run.tasks.len() as u64)),
            Cell::text(&part_of(run.validated_units, run.units_submitted())),
            Cell::text(&optional(run.utilisation(), Quantity::Share)),
            Cell::text(&optional(run.replicas_mean(), Quantity::Count)),
            Cell::text(&part_of(
                run.liars_detected() as u64,
                run.liars.len() as u64,
            )),
            Cell::text(&Quantity::Seconds.text(run.unit_latency.p50)),
            Cell::text(&Quantity::Seconds.text(run.virtual_seconds)),
            Cell::text(&Quantity::Seconds.text(run.wall_seconds)),
            Cell::code(&run.trace_hash.chars().take(12).collect::<String>()),
        ]);
    }
    table.html(RUNS_IN_OVERVIEW)
}
