//! The story of one unit or one node: what concerned it, in order, in words.
//!
//! What happens to several units at one moment is told at once, and what happens again and again is told once, with
//! how often.

mod cast;
mod node;
mod unit;

use std::fmt::Write;

use crate::happening::{Happening, Observer, Unit};
use crate::moment::Moment;
use crate::peer::Peer;
pub use cast::Cast;

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// What a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A unit.
    Unit(Unit),
    /// A node.
    Node(Peer),
}

/// A story as it is told.
#[derive(Debug)]
pub struct Story {
    teller: Teller,
    entries: Vec<Entry>,
}

/// Finds the words.
#[derive(Debug)]
enum Teller {
    Unit(unit::UnitTeller),
    Node(node::NodeTeller),
}

/// One sentence of a story.
#[derive(Debug, Default, PartialEq, Eq)]
struct Telling {
    /// The sentence, up to the units if it has any.
    text: String,
    /// The units that it is about.
    units: Vec<u32>,
    /// What follows on the units.
    rest: String,
    /// What this is called when there are many of it in a row.
    many: Option<&'static str>,
}

impl Telling {
    fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Makes a sentence of which those that follow on each other are counted only.
    fn many(text: impl Into<String>, many: &'static str) -> Self {
        Self {
            many: Some(many),
            ..Self::new(text)
        }
    }

    /// Makes a sentence about units.
    fn units(text: impl Into<String>, units: Vec<u32>, rest: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            units,
            rest: rest.into(),
            many: None,
        }
    }

    fn sentence(&self) -> String {
        let mut sentence = self.text.clone();
        if !self.units.is_empty() {
            sentence.push(' ');
            sentence.push_str(&named(&self.units));
        }
        sentence + &self.rest
    }
}

/// A sentence with its moment, and how often the like of it followed.
#[derive(Debug)]
struct Entry {
    at: Moment,
    telling: Telling,
    more: u32,
    last: Moment,
}

impl Story {
    /// Begins a story of the nodes of this cast.
    #[must_use]
    pub const fn new(subject: Subject, cast: Cast) -> Self {
        let teller = match subject {
            Subject::Unit(unit) => Teller::Unit(unit::UnitTeller::new(unit, cast)),
            Subject::Node(node) => Teller::Node(node::NodeTeller::new(node, cast)),
        };
        Self {
            teller,
            entries: Vec::new(),
        }
    }

    /// Returns what was told, in lines of at most 80 columns.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let moments = self.entries.iter().map(|entry| entry.last);
        let width = moments.max().map_or(0, |last| last.to_string().len());
        let mut lines = Vec::new();
        for entry in &self.entries {
            let sentence = entry.telling.sentence();
            lines.extend(told(&entry.at.to_string(), width, &sentence));
            if let (more @ 1.., Some(many)) = (entry.more, entry.telling.many) {
                let sentence = format!("... {more} more {many}, the last at {}", entry.last);
                lines.extend(told("", width, &sentence));
            }
        }
        lines
    }

    fn tell(&mut self, at: Moment, telling: Telling) {
        if let Some(last) = self.entries.last_mut() {
            let same = &mut last.telling;
            if last.at == at
                && (same.text == telling.text && same.rest == telling.rest)
                && !same.units.is_empty()
            {
                same.units.extend(telling.units);
                return;
            }
            if telling.many.is_some() && same.many == telling.many {
                last.more += 1;
                last.last = at;
                return;
            }
        }
        self.entries.push(Entry {
            at,
            telling,
            more: 0,
            last: at,
        });
    }
}

impl Observer for Story {
    fn see(&mut self, at: Moment, what: &Happening) {
        let telling = match &mut self.teller {
            Teller::Unit(teller) => teller.tell(what),
            Teller::Node(teller) => teller.tell(what),
        };
        if let Some(telling) = telling {
            self.tell(at, telling);
        }
    }
}

/// Returns a sentence behind its moment, its further lines indented.
fn told(moment: &str, width: usize, sentence: &str) -> Vec<String> {
    let rows = wrapped(sentence, COLUMNS - width - 4);
    let row = |(place, row): (usize, &String)| match place {
        0 => format!("{moment:>width$}  {row}"),
        _ => format!("{:width$}    {row}", ""),
    };
    rows.iter().enumerate().map(row).collect()
}

/// Breaks a text between words into lines of at most so many columns.
#[must_use]
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Returns "unit 3", or "units 3, 7-9".
fn named(units: &[u32]) -> String {
    let mut sorted = units.to_vec();
    sorted.sort_unstable();
    let mut text = if sorted.len() == 1 { "unit" } else { "units" }.to_owned();
    let runs = sorted.chunk_by(|a, b| b.saturating_sub(*a) <= 1);
    for (place, run) in runs.enumerate() {
        text.push_str(if place == 0 { " " } else { ", " });
        let (first, last) = (run[0], run[run.len() - 1]);
        let _ = if first == last {
            write!(text, "{first}")
        } else {
            write!(text, "{first}-{last}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let cast = Cast {
            coordinators: 1,
            first_customer: 3,
            first_terminal: 4,
            first_app_server: 5,
            first_owner: 5,
        };
        Story::new(Subject::Node(Peer(4)), cast)
    }

    #[test]
    fn the_like_at_one_moment_is_one_sentence_and_again_and_again_is_counted() {
        let mut story = story();
        let at = Moment::from_secs;
        for unit in [7, 3, 8, 9] {
            story.tell(at(1), Telling::units("runs", vec![unit], ""));
        }
        for second in 2..8 {
            story.tell(at(second), Telling::many("pulls", "pulls"));
        }
        story.tell(at(8), Telling::new("is switched off"));
        assert_eq!(
            story.lines(),
            [
                "0:00:01.000  runs units 3, 7-9",
                "0:00:02.000  pulls",
                "             ... 5 more pulls, the last at 0:00:07.000",
                "0:00:08.000  is switched off",
            ]
        );
    }

    #[test]
    fn a_long_sentence_is_continued_on_an_indented_line() {
        let mut story = story();
        story.tell(Moment::START, Telling::new("word ".repeat(20)));
        let lines = story.lines();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS));
        assert!(lines[1].starts_with("               word"));
    }
}
