//! What a person sees in the terminal after a run: a dozen lines of at most 80 columns.

use super::quantity::{Quantity, grouped};
use super::{OracleReport, RunReport};

/// A terminal has at least so many columns.
const COLUMNS: usize = 80;
/// So many findings are told in full.
const FINDINGS: usize = 5;

/// Returns the summary, which ends with a line break.
#[must_use]
pub fn summary(run: &RunReport) -> String {
    let lines = [
        ("verdict", run.verdict()),
        ("ran", ran(run)),
        (
            "tasks",
            format!(
                "{} of {} ended",
                grouped(run.tasks_ended() as u64),
                grouped(run.tasks.len() as u64)
            ),
        ),
        ("units", units(run)),
        ("terminals", terminals(run)),
        ("liars", liars(run)),
        ("accounts", accounts(run)),
        ("unit took", latency(run)),
        ("traffic", traffic(run)),
        ("trace", run.trace_hash.clone()),
    ];
    let mut text = format!("{}, seed {}\n", run.scenario, run.seed);
    for (name, value) in lines {
        text.push_str(&wrapped(&format!("{name:<10}{value}"), 2, 12));
    }
    for oracle in run.failures().take(FINDINGS) {
        text.push_str(&finding(oracle));
    }
    match run.failures().count() {
        0 => {}
        failures => {
            if failures > FINDINGS {
                text.push_str(&format!("\nand {} more\n", failures - FINDINGS));
            }
            text.push_str(&format!("\nreplay with: {}\n", run.replay_command()));
        }
    }
    text
}

fn ran(run: &RunReport) -> String {
    let (virtual_time, wall) = (
        Quantity::Seconds.text(run.virtual_seconds),
        Quantity::Seconds.text(run.wall_seconds),
    );
    format!(
        "{virtual_time} of virtual time in {wall}, {} steps",
        grouped(run.steps)
    )
}

fn units(run: &RunReport) -> String {
    let mut text = format!(
        "{} of {} validated",
        grouped(run.validated_units),
        grouped(run.units_submitted())
    );
    if let Some(replicas) = run.replicas_mean() {
        text.push_str(&format!(
            ", {} results each",
            Quantity::Count.text(replicas)
        ));
    }
    if run.colluded_units > 0 {
        text.push_str(&format!(
            ", {} of them wrong by collusion",
            grouped(run.colluded_units)
        ));
    }
    text
}

fn terminals(run: &RunReport) -> String {
    let mut text = grouped(run.population.terminals.into());
    if let Some(most) = run.series.online.iter().max() {
        text.push_str(&format!(", up to {} online", grouped(*most)));
    }
    if let Some(utilisation) = run.utilisation() {
        text.push_str(&format!(
            ", {} of the slots busy",
            Quantity::Share.text(utilisation)
        ));
    }
    text
}

fn liars(run: &RunReport) -> String {
    if run.liars.is_empty() {
        return "none".to_owned();
    }
    let mut text = format!("{} of {} detected", run.liars_detected(), run.liars.len());
    if let Some(median) = run.detection_median() {
        text.push_str(&format!(
            ", half of those within {} of the first lie",
            Quantity::Seconds.text(median)
        ));
    }
    text
}

fn accounts(run: &RunReport) -> String {
    let accounts = &run.accounts;
    let points = |micro: u64| Quantity::Count.text(micro as f64 / 1e6);
    let mut text = format!(
        "{} receipts; {} points in escrow, {} spendable",
        Quantity::Count.text(accounts.receipts as f64),
        points(accounts.escrowed),
        points(accounts.spendable)
    );
    if accounts.paid > 0 {
        let money = |minor: u64| minor as f64 / 100.0;
        let (paid, reserve) = (money(accounts.paid), money(accounts.reserve));
        text.push_str(&format!("; {paid:.2} EUR paid, {reserve:.2} in reserve"));
    }
    let disputed: u64 = accounts.disputes.values().sum();
    if disputed > 0 {
        text.push_str(&format!("; {disputed} receipts disputed"));
    }
    let (known, others) = accounts.known;
    if known > 0 {
        text.push_str(&format!(
            "; {known} known answers asked for, {others} wrong"
        ));
    }
    let sold = |how: &str| run.sales.orders.get(how).copied().unwrap_or(0);
    if !run.sales.orders.is_empty() {
        let (fulfilled, void) = (sold("fulfilled"), sold("voided"));
        text.push_str(&format!("; {fulfilled} orders fulfilled, {void} void"));
    }
    if accounts.owing > 0 {
        text.push_str(&format!("; {} owe too much", accounts.owing));
    }
    if accounts.forks > 0 {
        text.push_str(&format!("; {} found a forked log", accounts.forks));
    }
    text
}

fn latency(run: &RunReport) -> String {
    if run.unit_latency.count == 0 {
        return "no unit was validated".to_owned();
    }
    let text = |seconds| Quantity::Seconds.text(seconds);
    format!(
        "half within {}, 99% within {}",
        text(run.unit_latency.p50),
        text(run.unit_latency.p99)
    )
}

fn traffic(run: &RunReport) -> String {
    let (sent, received) = (
        Quantity::Bytes.text(run.bytes_sent.mean),
        Quantity::Bytes.text(run.bytes_received.mean),
    );
    format!("a terminal sent {sent} and received {received} in the mean")
}

fn finding(oracle: &OracleReport) -> String {
    let title = format!("\n{}: {}\n", oracle.name, oracle.claim);
    let found = oracle.finding.as_deref().unwrap_or_default();
    let title = wrapped(title.trim(), 0, 2);
    format!("\n{title}{}", wrapped(&format!("found: {found}"), 2, 4))
}

/// Breaks a text between words; the first line begins after `first` spaces, the others after `others`.
fn wrapped(text: &str, first: usize, others: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(first);
    let mut empty = true;
    // Runs of spaces stay as they are: they align columns.
    for word in text.split_inclusive(' ') {
        if !empty && line.chars().count() + word.trim_end().chars().count() > COLUMNS {
            lines.push_str(line.trim_end());
            lines.push('\n');
            line = " ".repeat(others);
        }
        line.push_str(word);
        empty = false;
    }
    lines + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_run_is_told_in_a_dozen_lines() {
        let mut run = sample::run(7);
        run.trace_hash = "0f".repeat(32);
        assert_eq!(
            summary(&run),
            "\
bad-day, seed 7
  verdict   all 6 oracles hold
  ran       2 h of virtual time in 41.2 s, 12,345,678 steps
  tasks     38 of 40 ended
  units     39,120 of 40,000 validated, 2.09 results each
  terminals 2,000, up to 1,924 online, 81.1% of the slots busy
  liars     28 of 30 detected, half of those within 32.7 s of the first lie
  accounts  9.12k receipts; 1.5k points in escrow, 750 spendable
  unit took half within 24 s, 99% within 4.95 min
  traffic   a terminal sent 375 KiB and received 2.39 MiB in the mean
  trace     0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f
"
        );
    }

    #[test]
    fn a_failure_says_what_was_found_and_how_to_see_it_again() {
        let text = summary(&sample::failed(8));
        let end = &text[text.find("\n\n").unwrap()..];
        assert_eq!(
            end,
            "

once: A unit is validated at most once, and its result never changes.
  found: at 4012.5 s unit 17 of task 3 (blur of harbour.png) was validated
    twice: first with 9f31c2aa by terminals 12 and 1804, then with 08d1e77b by
    terminals 77 & 1204

ends: Every task ends once faults have stopped.
  found: at 7200 s task 38 had not ended

replay with: netsim run bad-day --seed 8
"
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
    }

    #[test]
    fn a_run_without_anything_is_told() {
        let text = summary(&sample::nothing());
        assert!(
            text.contains("nothing was checked") && text.contains("no unit was validated"),
            "{text}"
        );
    }
}
