//! Plots of how units, terminals and liars were spread.

use std::collections::BTreeMap;

use super::super::super::plot::{Axis, Plot};
use super::super::super::quantity::{Quantity, grouped};
use super::super::super::{Bar, LiarReport, RunReport, Spread, totals};
use super::super::{counted, optional};
use super::figure;

/// Units with at least so many results share a bar.
const REPLICAS: u32 = 10;
/// So many ways to cheat have a row of their own.
const CONDUCTS: usize = 4;
/// A way to cheat is named in at most so many characters.
const CONDUCT_CHARACTERS: usize = 18;

/// Returns the plots.
pub(super) fn figures(run: &RunReport) -> Vec<String> {
    let mut figures = vec![
        replicas(run),
        latency(&run.unit_latency),
        bytes_of_a_terminal("sent", &run.bytes_sent, run),
        bytes_of_a_terminal("received", &run.bytes_received, run),
    ];
    if !run.liars.is_empty() {
        figures.push(found_out_after(run));
    }
    figures
}

fn replicas(run: &RunReport) -> String {
    let mut bars: BTreeMap<u32, u64> = BTreeMap::new();
    for (replicas, units) in &run.replicas_per_unit {
        *bars.entry((*replicas).min(REPLICAS)).or_default() += units;
    }
    let units: u64 = bars.values().sum();
    let ends = bars
        .first_key_value()
        .zip(bars.last_key_value())
        .map(|(first, last)| (*first.0, *last.0));
    let plot = ends.map(|(first, last)| {
        let name = |replicas: u32| {
            if replicas == REPLICAS {
                format!("{replicas}+")
            } else {
                replicas.to_string()
            }
        };
        let largest = bars.values().max().copied().unwrap_or(0) as f64;
        // Room for the label above the highest bar.
        let mut plot = Plot::new(
            Axis::places((first..=last).map(name).collect()),
            Axis::upright(Quantity::Count, largest * 1.08),
        );
        for replicas in first..=last {
            let count = bars.get(&replicas).copied().unwrap_or(0);
            let from = f64::from(replicas - first);
            let story = format!(
                "{} of {} with {}",
                grouped(count),
                counted(units, "unit"),
                counted(replicas.into(), "result")
            );
            plot.bar(
                (from, from + 1.0),
                count as f64,
                &story,
                &percent(count, units),
            );
        }
        plot
    });
    let mean = optional(run.replicas_mean(), Quantity::Count);
    let caption = format!(
        "Units by the number of results reported of them; devices must agree, so most need several. {mean} on average."
    );
    figure("How often each unit was computed", &caption, plot)
}

fn latency(spread: &Spread) -> String {
    let text = |seconds| Quantity::Seconds.text(seconds);
    let plot = histogram(spread, Quantity::Seconds, ends(&[spread])).map(|plot| {
        let mut plot = plot.with_rows_above(4);
        plot.value(spread.p50, 2, &format!("half within {}", text(spread.p50)));
        plot.value(spread.p90, 1, &format!("90% within {}", text(spread.p90)));
        plot.value(spread.p99, 0, &format!("99% within {}", text(spread.p99)));
        bars(plot, spread, Quantity::Seconds, "unit")
    });
    let caption = format!(
        "Time from a unit's first lease to its agreed result, on a scale where equal steps multiply; the longest took {}.",
        text(spread.max)
    );
    figure("How long a unit took", &caption, plot)
}

fn bytes_of_a_terminal(verb: &str, spread: &Spread, run: &RunReport) -> String {
    // Both directions have the same axis, so that they compare.
    let ends = ends(&[&run.bytes_sent, &run.bytes_received]);
    let text = |bytes| Quantity::Bytes.text(bytes);
    let plot = histogram(spread, Quantity::Bytes, ends).map(|plot| {
        let mut plot = plot.with_rows_above(2);
        plot.value(
            spread.p50,
            0,
            &format!("half {verb} at most {}", text(spread.p50)),
        );
        bars(plot, spread, Quantity::Bytes, "terminal")
    });
    let caption = format!(
        "Terminals by the bytes they {verb} in the whole run; {} on average, at most {}.",
        text(spread.mean),
        text(spread.max)
    );
    figure(&format!("Data that a terminal {verb}"), &caption, plot)
}

fn found_out_after(run: &RunReport) -> String {
    let mut conducts: BTreeMap<&str, Vec<&LiarReport>> = BTreeMap::new();
    for liar in &run.liars {
        conducts.entry(&liar.conduct).or_default().push(liar);
    }
    let mut rows: Vec<(&str, Vec<&LiarReport>)> = conducts.into_iter().collect();
    rows.sort_by_key(|(_, liars)| std::cmp::Reverse(liars.len()));
    if rows.len() > CONDUCTS {
        let others = rows
            .split_off(CONDUCTS - 1)
            .into_iter()
            .flat_map(|(_, liars)| liars)
            .collect();
        rows.push(("other ways", others));
    }
    let after = |liars: &[&LiarReport]| {
        liars
            .iter()
            .filter_map(|liar| liar.detected_after())
            .collect::<Vec<f64>>()
    };
    let all = after(&run.liars.iter().collect::<Vec<_>>());
    let shortest = all.iter().copied().fold(f64::INFINITY, f64::min).max(0.001);
    let longest = all.iter().copied().fold(0.0, f64::max).max(shortest);
    let plot = (!all.is_empty()).then(|| {
        let axis = Axis::logarithmic(Quantity::Seconds, shortest * 0.8, longest * 1.25);
        let mut plot = Plot::new(axis, Axis::bare()).with_rows_above(0);
        for (index, (conduct, liars)) in rows.iter().enumerate() {
            let after = after(liars);
            let half = totals::median(after.iter().copied()).map_or_else(String::new, |half| {
                format!(", half within {}", Quantity::Seconds.text(half))
            });
            let label = format!(
                "{}: {} of {}{half}",
                shortened(conduct),
                after.len(),
                liars.len()
            );
            plot.dots(&after, (index, rows.len()), &label);
        }
        plot
    });
    let caption = "A dot is a liar that was found out, placed by the time since its first lie, on a scale where equal steps multiply; a row is a way to cheat.";
    figure("How soon liars were found out", caption, plot)
}

fn histogram(spread: &Spread, quantity: Quantity, ends: Option<(f64, f64)>) -> Option<Plot> {
    let (from, to) = ends?;
    let largest = spread.bars.iter().map(|bar| bar.count).max()?;
    Some(Plot::new(
        Axis::logarithmic(quantity, from, to),
        Axis::upright(Quantity::Count, largest as f64),
    ))
}

fn bars(mut plot: Plot, spread: &Spread, quantity: Quantity, what: &str) -> Plot {
    for Bar { from, to, count } in &spread.bars {
        let story = format!(
            "{}: above {}, at most {}",
            counted(*count, what),
            quantity.text(*from),
            quantity.text(*to)
        );
        plot.bar((*from, *to), *count as f64, &story, "");
    }
    plot
}

/// Returns where the bars of all these begin and end.
fn ends(spreads: &[&Spread]) -> Option<(f64, f64)> {
    let first = spreads
        .iter()
        .filter_map(|spread| spread.bars.first())
        .map(|bar| bar.from)
        .reduce(f64::min)?;
    let last = spreads
        .iter()
        .filter_map(|spread| spread.bars.last())
        .map(|bar| bar.to)
        .reduce(f64::max)?;
    Some((first, last))
}

/// Cuts a name that is too long for a row.
fn shortened(name: &str) -> String {
    if name.chars().count() <= CONDUCT_CHARACTERS {
        return name.to_owned();
    }
    let start: String = name.chars().take(CONDUCT_CHARACTERS - 1).collect();
    start + "…"
}

/// Writes a part of a whole in a few characters.
fn percent(part: u64, whole: u64) -> String {
    let percent = part as f64 / whole.max(1) as f64 * 100.0;
    match part {
        0 => String::new(),
        _ if percent < 0.5 => "<1%".to_owned(),
        _ => format!("{percent:.0}%"),
    }
}
