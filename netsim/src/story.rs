//! The story of one unit or one device: what concerned it, in order, in words.

use crate::happening::{Happening, Observer};
use crate::moment::Moment;
use crate::peer::Peer;

/// What a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A unit of the so manieth task, from 0.
    Unit(u32, u32),
    /// A node.
    Node(Peer),
}

/// A story as it is told.
#[derive(Debug)]
pub struct Story {
    subject: Subject,
    lines: Vec<String>,
}

impl Story {
    /// Begins a story.
    #[must_use]
    pub const fn new(subject: Subject) -> Self {
        Self {
            subject,
            lines: Vec::new(),
        }
    }

    /// Returns what was told, a line for each happening.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl Observer for Story {
    fn see(&mut self, at: Moment, what: &Happening) {
        let _ = self.subject;
        self.lines.push(format!("{at} {what:?}"));
    }
}
