//! The page of one or several runs: one HTML file that needs nothing else, neither network nor script.
//!
//! It first says whether all that was checked holds, then what the run came to, then shows plots, then lists. Text
//! that comes from a run is escaped wherever it stands. Whatever can be long is cut, and what was left out is counted.

mod figures;
mod overview;
mod tables;

use super::escaped::Escaped;
use super::quantity::{Quantity, grouped};
use super::{Population, RunReport};

/// Returns the page of these runs.
///
/// All are in the overview at the top; the first few are shown in full, those that found something wrong before the
/// others.
#[must_use]
pub fn page(runs: &[RunReport]) -> String {
    let mut ordered: Vec<&RunReport> = runs.iter().collect();
    ordered.sort_by_key(|run| run.holds());
    let (title, body) = match ordered.as_slice() {
        [] => ("no runs".to_owned(), "<h1>No runs</h1>".to_owned()),
        [run] => {
            let title = format!("{}, seed {}", run.scenario, run.seed);
            let body = format!("<h1>{}</h1>{}", Escaped(&run.scenario), detail(run));
            (title, body)
        }
        [first, ..] => (
            format!("{}, {} runs", first.scenario, ordered.len()),
            overview::page(&ordered),
        ),
    };
    let (title, style) = (Escaped(&title), include_str!("html/style.css"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>netsim: {title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// Returns everything about one run.
fn detail(run: &RunReport) -> String {
    [
        header(run),
        numbers(run),
        figures::sections(run),
        tables::sections(run),
    ]
    .concat()
}

fn header(run: &RunReport) -> String {
    let findings: String = run
        .failures()
        .map(|oracle| {
            let (finding, claim) = (
                oracle.finding.as_deref().unwrap_or_default(),
                Escaped(oracle.claim),
            );
            format!(
                "<p class=\"finding\"><b>{}</b> {}<br><small>It should be: {claim}</small></p>",
                oracle.name,
                Escaped(finding)
            )
        })
        .collect();
    let replay = match findings.as_str() {
        "" => String::new(),
        _ => format!(
            "<p>See it happen again: <code>{}</code></p>",
            Escaped(&run.replay_command())
        ),
    };
    let facts = [
        ("Seed", run.seed.to_string()),
        ("Took part", population(&run.population)),
        ("Virtual time", Quantity::Seconds.text(run.virtual_seconds)),
        (
            "Computed in",
            format!(
                "{}, {} steps",
                Quantity::Seconds.text(run.wall_seconds),
                grouped(run.steps)
            ),
        ),
        ("Command", run.replay_command()),
        ("Trace hash", run.trace_hash.clone()),
    ];
    let fact = |(name, value): &(&str, String)| {
        let tag = if matches!(*name, "Command" | "Trace hash") {
            "code"
        } else {
            "span"
        };
        format!(
            "<div><dt>{name}</dt><dd><{tag}>{}</{tag}></dd></div>",
            Escaped(value)
        )
    };
    format!(
        "<header><p class=\"about\">{}</p>{}{findings}{replay}<dl class=\"facts\">{}</dl></header>\n",
        Escaped(&run.about),
        banner(run.holds(), &capitalised(&run.verdict())),
        facts.iter().map(fact).collect::<String>(),
    )
}

fn banner(holds: bool, text: &str) -> String {
    let (class, sign) = if holds {
        ("holds", "✓")
    } else {
        ("fails", "✗")
    };
    format!("<p class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {text}</p>")
}

fn population(population: &Population) -> String {
    let dishonest: u32 = population.dishonest.values().sum();
    let mut text = [
        counted(population.terminals.into(), "terminal"),
        counted(population.coordinators.into(), "coordinator"),
        counted(population.customers.into(), "customer"),
    ]
    .join(", ");
    if dishonest > 0 {
        let kinds: Vec<String> = population
            .dishonest
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        text.push_str(&format!("; dishonest: {}", kinds.join(", ")));
    }
    text
}

/// Returns the few numbers that a run comes to.
fn numbers(run: &RunReport) -> String {
    let latency = &run.unit_latency;
    let mut tiles = vec![
        (
            "tasks ended",
            part_of(run.tasks_ended() as u64, run.tasks.len() as u64),
        ),
        (
            "units done",
            part_of(run.validated_units, run.units_submitted()),
        ),
        (
            "of the slots busy on average",
            optional(run.utilisation(), Quantity::Share),
        ),
        (
            "results per unit on average",
            optional(run.replicas_mean(), Quantity::Count),
        ),
        (
            "within which half of the units were done",
            Quantity::Seconds.text(latency.p50),
        ),
        (
            "within which 99% of the units were done",
            Quantity::Seconds.text(latency.p99),
        ),
        (
            "liars found out",
            part_of(run.liars_detected() as u64, run.liars.len() as u64),
        ),
        (
            "within which half of those were found out",
            optional(run.detection_median(), Quantity::Seconds),
        ),
        (
            "sent by a terminal on average",
            Quantity::Bytes.text(run.bytes_sent.mean),
        ),
        (
            "received by a terminal on average",
            Quantity::Bytes.text(run.bytes_received.mean),
        ),
    ];
    if run.colluded_units > 0 {
        tiles.push(("units wrong by collusion", grouped(run.colluded_units)));
    }
    let tile =
        |(name, value): &(&str, String)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>");
    format!(
        "<dl class=\"numbers\">{}</dl>\n",
        tiles.iter().map(tile).collect::<String>()
    )
}

fn optional(value: Option<f64>, quantity: Quantity) -> String {
    value.map_or_else(|| "–".to_owned(), |value| quantity.text(value))
}

fn part_of(part: u64, whole: u64) -> String {
    format!("{} of {}", grouped(part), grouped(whole))
}

fn counted(number: u64, what: &str) -> String {
    format!(
        "{} {what}{}",
        grouped(number),
        if number == 1 { "" } else { "s" }
    )
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// Writes the page to the file that `NETSIM_SAMPLE_PAGE` names, if it does, to be looked at.
    fn shown(runs: &[RunReport]) -> String {
        let page = page(runs);
        if let Some(file) = std::env::var_os("NETSIM_SAMPLE_PAGE") {
            let file = format!("{}-{}.html", file.to_string_lossy(), runs.len());
            std::fs::write(file, &page).unwrap();
        }
        page
    }

    #[test]
    fn one_run_is_one_page_that_needs_nothing_else() {
        let page = shown(&[sample::run(7)]);
        assert!(
            page.contains("All 6 oracles hold") && page.contains("netsim run bad-day --seed 7")
        );
        assert_eq!(
            page.matches("<svg ").count(),
            page.matches("role=\"img\" aria-label=").count()
        );
        assert_eq!(page.matches("<svg ").count(), 11);
        for absent in ["http:", "https:", "<script", "<link", "url(", "NaN", "inf"] {
            assert!(!page.contains(absent), "{absent}");
        }
        assert!(page.len() < 300_000, "{} bytes", page.len());
    }

    #[test]
    fn text_of_a_run_is_escaped() {
        let mut run = sample::failed(7);
        let hostile = "<script>'\"&";
        run.scenario = hostile.to_owned();
        run.marks[0].what = hostile.to_owned();
        run.liars
            .iter_mut()
            .for_each(|liar| liar.conduct = hostile.to_owned());
        run.oracles[0].finding = Some(hostile.to_owned());
        run.refusals.insert(hostile.to_owned(), 1);
        let page = page(&[run]);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;&#39;&quot;&amp;"));
    }

    #[test]
    fn a_run_that_failed_comes_first_with_what_was_found() {
        let mut runs: Vec<RunReport> = (1..=11).map(sample::run).collect();
        runs[4] = sample::failed(5);
        let page = shown(&runs);
        assert!(page.contains("1 of 11 runs did not hold"));
        assert!(page.contains("3 more runs are in the overview only"));
        let first = page.find("<details").unwrap();
        assert!(page[first..].starts_with(
            "<details class=\"run\" id=\"run-0\" open>\n<summary>bad-day, seed 5: 2 of 6"
        ));
        assert!(page.contains("terminals 77 &amp; 1204"));
    }

    #[test]
    fn a_page_stays_small_however_long_the_run_was() {
        let page = shown(&[sample::long(), sample::long()]);
        assert!(page.len() < 600_000, "{} bytes", page.len());
        assert!(page.contains("And 4,980 more events, not drawn.") && page.contains("other ways"));
    }

    #[test]
    fn a_run_without_anything_is_a_page() {
        let page = page(&[sample::nothing()]);
        assert!(
            page.contains("Nothing was measured.")
                && !page.contains("NaN")
                && !page.contains("inf")
        );
    }
}
