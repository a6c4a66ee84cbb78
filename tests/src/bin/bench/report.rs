//! What a benchmark found, as a table for people or JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cpu;

/// Figures by name; the unit is the end of the name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What a benchmark found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The benchmark.
    pub(crate) name: &'static str,
    /// What Tally did.
    pub(crate) ours: Figures,
    /// What others did.
    pub(crate) peers: BTreeMap<String, Figures>,
    /// Ours by theirs: more than 1 is better where much is good, worse where little is.
    pub(crate) ratio: Figures,
    /// What is to be reached, for people.
    pub(crate) goal: &'static str,
    /// The load of the machine over the last minute, before and after.
    pub(crate) load_before: f64,
    pub(crate) load_after: f64,
}

impl Report {
    pub(crate) fn new(name: &'static str, goal: &'static str) -> Self {
        Self {
            name,
            ours: Figures::new(),
            peers: BTreeMap::new(),
            ratio: Figures::new(),
            goal,
            load_before: cpu::load(),
            load_after: 0.0,
        }
    }

    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.ours.insert(name.to_owned(), value);
    }

    /// Adds some places of values, in any order, under `NAME_PLACE`: a place is a name and a share, see [`quantile`].
    pub(crate) fn add_places(&mut self, name: &str, mut values: Vec<f64>, places: &[(&str, f64)]) {
        values.sort_by(f64::total_cmp);
        for (place, share) in places {
            self.add(&format!("{name}_{place}"), quantile(&values, *share));
        }
    }

    /// Takes the peers' figures, and compares `ours` with each peer's `theirs`.
    pub(crate) fn compare(&mut self, peers: BTreeMap<String, Figures>, ours: &str, theirs: &str) {
        let Some(own) = self.ours.get(ours).copied() else {
            return;
        };
        for (peer, figures) in &peers {
            if let Some(figure) = figures.get(theirs) {
                self.ratio.insert(peer.clone(), own / figure);
            }
        }
        self.peers.extend(peers);
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{} (load {:.2} before, {:.2} after; goal: {})\n",
            self.name, self.load_before, self.load_after, self.goal
        );
        let peers = self.peers.iter();
        let parts = peers.map(|(peer, figures)| (peer.as_str(), figures));
        for (whose, figures) in std::iter::once(("ours", &self.ours))
            .chain(parts)
            .chain([("ratio", &self.ratio)])
        {
            for (name, value) in figures {
                let _ = writeln!(text, "  {whose:8} {name:32} {:>14}", number(*value));
            }
        }
        text
    }
}

/// Writes a number with four digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns a share of sorted values: 0.5 is the median.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a short list"
    )]
    let place = (last as f64 * share).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
