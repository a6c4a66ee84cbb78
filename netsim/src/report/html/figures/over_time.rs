//! Plots over the time of a run, with marks for what happened to the world.

use super::super::super::plot::{Axis, Ink, Plot};
use super::super::super::quantity::{Quantity, grouped};
use super::super::super::{Mark, RunReport};
use super::super::{Escaped, counted, optional, part_of};
use super::figure;

/// A line has at most about so many points: a sheet has few more pixels.
const POINTS: usize = 240;
/// So many marks are drawn and listed.
const MARKS: usize = 20;

/// Returns the plots.
pub(super) fn figures(run: &RunReport) -> Vec<String> {
    let mut figures = vec![
        work(run),
        utilisation(run),
        online(run),
        pulls(run),
        traffic(run),
    ];
    if !run.liars.is_empty() {
        figures.push(liars(run));
    }
    figures
}

/// Returns the list of what happened to the world, numbered as the marks in the plots are.
pub(super) fn events(run: &RunReport) -> String {
    if run.marks.is_empty() {
        return String::new();
    }
    let item = |mark: &Mark| {
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
            "<p class=\"more\">And {}, not drawn.</p>",
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
    let (done, all) = (grouped(run.validated_units), grouped(run.units_submitted()));
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

fn liars(run: &RunReport) -> String {
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
        "Devices that reported a wrong result so far, and those contradicted by others: {} at the end.",
        part_of(run.liars_detected() as u64, run.liars.len() as u64)
    );
    figure("Liars, and liars found out", &caption, plot)
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
    plot.marks(
        &run.marks
            .iter()
            .take(MARKS)
            .map(|mark| mark.at)
            .collect::<Vec<_>>(),
    );
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

/// Returns points of what only grows, from nothing at the start.
fn running(run: &RunReport, samples: &[u64]) -> Vec<(f64, f64)> {
    let every = samples.len().div_ceil(POINTS).max(1);
    let at = |index: usize| (index + 1) as f64 * run.series.every_seconds;
    let shown = |index: &usize| (index + 1).is_multiple_of(every) || index + 1 == samples.len();
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
    let every = moments.len().div_ceil(POINTS).max(1);
    let mut points = vec![(0.0, 0.0)];
    let mut count = 0.0;
    for chunk in moments.chunks(every) {
        let moment = chunk[chunk.len() - 1];
        points.push((moment, count));
        count += chunk.len() as f64;
        points.push((moment, count));
    }
    points.push((end, count));
    points
}

fn floats(samples: &[u64]) -> Vec<f64> {
    samples.iter().map(|sample| *sample as f64).collect()
}
