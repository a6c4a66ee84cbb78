//! The plots of a run, each with a title that says what one sees and a sentence on how to read it.

use std::collections::BTreeMap;

use super::super::plot::{Axis, Ink, Plot};
use super::super::quantity::{Quantity, grouped};
use super::super::{Bar, LiarReport, RunReport, Spread, totals};
use super::{Escaped, counted, optional};

/// A line has at most so many points: a sheet has fewer pixels.
const POINTS: usize = 180;
/// So many marks are listed by name.
const MARKS: usize = 20;
/// Units with more results than this share a bar.
const REPLICAS: u32 = 10;
/// So many ways to cheat have a row of their own.
const CONDUCTS: usize = 4;

/// Returns the sections with all plots of a run.
pub(super) fn sections(run: &RunReport) -> String {
    let section = |title: &str, before: String, figures: &[String]| {
        format!(
            "<section><h2>{title}</h2>{before}<div class=\"figures\">\n{}</div></section>\n",
            figures.concat()
        )
    };
    let per_unit = [
        replicas(run),
        latency(&run.unit_latency),
        traffic_of_a_terminal("sent", &run.bytes_sent, run),
        traffic_of_a_terminal("received", &run.bytes_received, run),
    ];
    let mut sections = section(
        "Over time",
        events(run),
        &[
            work(run),
            utilisation(run),
            online(run),
            pulls(run),
            traffic(run),
        ],
    );
    sections += &section("Per unit and per terminal", String::new(), &per_unit);
    if !run.liars.is_empty() {
        sections += &section(
            "Who cheated",
            String::new(),
            &[found_out_over_time(run), found_out_after(run)],
        );
    }
    sections
}

/// Returns a figure; a plot that has nothing to show is `None`.
fn figure(title: &str, caption: &str, plot: Option<Plot>) -> String {
    let plot = match plot {
        Some(plot) => plot.svg(&format!("{title}. {caption}")),
        None => "<p class=\"more\">Nothing was measured.</p>".to_owned(),
    };
    let (title, caption) = (Escaped(title), Escaped(caption));
    format!(
        "<figure><figcaption><h3>{title}</h3><p class=\"caption\">{caption}</p></figcaption>{plot}</figure>\n"
    )
}

/// Returns the list of what happened to the world, numbered as the marks in the plots are.
fn events(run: &RunReport) -> String {
    if run.marks.is_empty() {
        return String::new();
    }
    let item = |mark: &super::super::Mark| {
        format!(
            "<li><b>{}</b> {}</li>",
            Quantity::Seconds.text(mark.at),
            Escaped(&mark.what)
        )
    };
    let items: String = run.marks.iter().take(MARKS).map(item).collect();
    let more = match run.marks.len().saturating_sub(MARKS) {
        0 => String::new(),
        more => format!(
            "<p class=\"more\">And {}.</p>",
            counted(more as u64, "more event")
        ),
    };
    format!(
        "<p class=\"caption\">The numbered lines in the plots are these events:</p><ol class=\"events\">{items}</ol>{more}"
    )
}

fn work(run: &RunReport) -> String {
    let (validated, submitted) = (
        running(run, &run.series.validated),
        running(run, &run.series.submitted),
    );
    let plot = over_time(run, Quantity::Count, &submitted).map(|mut plot| {
        plot.area(&validated, Ink::Main);
        plot.line(&submitted, Ink::Quiet, "handed in");
        plot.line(&validated, Ink::Main, "done");
        plot
    });
    let (done, all) = (
        grouped(run.units_validated()),
        grouped(run.units_submitted()),
    );
    let caption = format!(
        "Units of work that customers handed in, and those with a result that enough devices agree on: {done} of {all} at the end."
    );
    figure("Work handed in and work done", &caption, plot)
}

fn utilisation(run: &RunReport) -> String {
    let shares: Vec<f64> = run
        .series
        .busy
        .iter()
        .zip(&run.series.slots)
        .map(|(busy, slots)| *busy as f64 / (*slots).max(1) as f64)
        .collect();
    let shares = thinned(run, &shares);
    // The axis goes to 100% even if the computers were never that busy.
    let full: Vec<(f64, f64)> = shares.iter().map(|point| (point.0, 1.0)).collect();
    let plot = over_time(run, Quantity::Share, &full).map(|mut plot| {
        plot.area(&shares, Ink::Main);
        plot.line(&shares, Ink::Main, "");
        plot
    });
    let mean = optional(run.utilisation(), Quantity::Share);
    let caption = format!(
        "Share of the slots online that were computing; a slot computes one unit at a time. {mean} on average."
    );
    figure("How busy the lent computers were", &caption, plot)
}

fn online(run: &RunReport) -> String {
    let online = &run.series.online;
    let (least, most) = (
        online.iter().min().copied().unwrap_or(0),
        online.iter().max().copied().unwrap_or(0),
    );
    let all = grouped(run.population.terminals.into());
    let caption = format!(
        "Terminals, the lent computers, that were up: between {} and {} of {all}.",
        grouped(least),
        grouped(most)
    );
    figure(
        "Computers online",
        &caption,
        single(run, Quantity::Count, &floats(online)),
    )
}

fn pulls(run: &RunReport) -> String {
    let every = run.series.every_seconds;
    let largest = run.series.pulls.iter().max().copied().unwrap_or(0) as f64 / every;
    let (per, name) = if largest < 2.0 {
        (60.0, "minute")
    } else {
        (1.0, "second")
    };
    let rates: Vec<f64> = run
        .series
        .pulls
        .iter()
        .map(|pulls| *pulls as f64 / every * per)
        .collect();
    let caption = format!(
        "Pulls, in which a terminal asks for units and a coordinator answers, each {name}."
    );
    figure(
        &format!("Requests for work each {name}"),
        &caption,
        single(run, Quantity::Count, &rates),
    )
}

fn traffic(run: &RunReport) -> String {
    let rates: Vec<f64> = run
        .series
        .bytes
        .iter()
        .map(|bytes| *bytes as f64 / run.series.every_seconds)
        .collect();
    let all = Quantity::Bytes.text(run.series.bytes.iter().sum::<u64>() as f64);
    let caption =
        format!("Bytes that all nodes together sent each second; {all} in the whole run.");
    figure(
        "Traffic each second",
        &caption,
        single(run, Quantity::Bytes, &rates),
    )
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
        plot.value(spread.p50, 0, &format!("half within {}", text(spread.p50)));
        plot.value(spread.p90, 1, &format!("90% within {}", text(spread.p90)));
        plot.value(spread.p99, 2, &format!("99% within {}", text(spread.p99)));
        bars(plot, spread, Quantity::Seconds, "unit")
    });
    let caption = format!(
        "Time from a unit's first lease to its agreed result, by equal factors; the longest took {}.",
        text(spread.max)
    );
    figure("How long a unit took", &caption, plot)
}

fn traffic_of_a_terminal(verb: &str, spread: &Spread, run: &RunReport) -> String {
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

fn found_out_over_time(run: &RunReport) -> String {
    let lied = steps(
        run.liars.iter().map(|liar| liar.lied).collect(),
        run.virtual_seconds,
    );
    let found = steps(
        run.liars.iter().filter_map(|liar| liar.detected).collect(),
        run.virtual_seconds,
    );
    let plot = over_time(run, Quantity::Count, &lied).map(|mut plot| {
        plot.area(&found, Ink::Main);
        plot.line(&lied, Ink::Other, "have lied");
        plot.line(&found, Ink::Main, "found out");
        plot
    });
    let caption = format!(
        "Devices that reported a wrong result so far, and those contradicted by others: {} of {} at the end.",
        run.liars_detected(),
        run.liars.len()
    );
    figure("Liars, and liars found out", &caption, plot)
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
            let label = format!("{conduct}: {} of {}{half}", after.len(), liars.len());
            plot.dots(&after, (index, rows.len()), &label);
        }
        plot
    });
    let caption = "A dot is a liar that was found out; to the right by the time since its first lie, by equal factors. A row is a way to cheat.";
    figure("How soon liars were found out", caption, plot)
}

/// Starts a plot over the time of a run, unless there is nothing in it.
fn over_time(run: &RunReport, quantity: Quantity, largest: &[(f64, f64)]) -> Option<Plot> {
    let largest = largest
        .iter()
        .map(|point| point.1)
        .fold(None, |most: Option<f64>, value| {
            Some(most.map_or(value, |most| most.max(value)))
        })?;
    let least = if quantity == Quantity::Bytes || quantity == Quantity::Count {
        1.0
    } else {
        0.01
    };
    let mut plot = Plot::new(
        Axis::time(run.virtual_seconds),
        Axis::upright(quantity, largest.max(least)),
    );
    plot.marks(&run.marks.iter().map(|mark| mark.at).collect::<Vec<_>>());
    Some(plot)
}

/// Plots one quantity over time.
fn single(run: &RunReport, quantity: Quantity, samples: &[f64]) -> Option<Plot> {
    let points = thinned(run, samples);
    over_time(run, quantity, &points).map(|mut plot| {
        plot.area(&points, Ink::Main);
        plot.line(&points, Ink::Main, "");
        plot
    })
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

/// Returns points of what only grows, from nothing at the start.
fn running(run: &RunReport, samples: &[u64]) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS).max(1);
    let at = |index: usize| (index + 1) as f64 * run.series.every_seconds;
    let shown = |index: &usize| (index + 1) % every == 0 || index + 1 == samples.len();
    let points = (0..samples.len())
        .filter(shown)
        .map(|index| (at(index), samples[index] as f64));
    let start = (!samples.is_empty()).then_some((0.0, 0.0));
    start.into_iter().chain(points).collect()
}

/// Returns points of what goes up and down, each the mean of a few samples where there are many.
fn thinned(run: &RunReport, samples: &[f64]) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS).max(1);
    let point = |(index, chunk): (usize, &[f64])| {
        let at = (index * every + chunk.len()) as f64 * run.series.every_seconds;
        (at, chunk.iter().sum::<f64>() / chunk.len() as f64)
    };
    samples.chunks(every).enumerate().map(point).collect()
}

/// Returns points of a count that goes up by one at each of these moments, until the end.
fn steps(mut moments: Vec<f64>, end: f64) -> Vec<(f64, f64)> {
    moments.sort_by(f64::total_cmp);
    let mut points = vec![(0.0, 0.0)];
    for (index, moment) in moments.iter().enumerate() {
        points.extend([(*moment, index as f64), (*moment, (index + 1) as f64)]);
    }
    points.push((end, moments.len() as f64));
    points
}

fn floats(samples: &[u64]) -> Vec<f64> {
    samples.iter().map(|sample| *sample as f64).collect()
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
