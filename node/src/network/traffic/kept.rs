//! The bytes of the day, over restarts: a small JSON file. One that is missing, damaged or of another format is ignored.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Moved, TrafficSeen};
use crate::folder::{read_json, write_whole};

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// The format of the file.
const FORMAT: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    format: u32,
    day: String,
    moved: Moved,
}

/// The day that is counted.
#[derive(Debug, Default)]
pub(super) struct Day {
    day: String,
    /// What an earlier run has moved on it.
    before: Moved,
    /// What this run had moved when it began.
    begin: Moved,
}

impl Day {
    /// Goes on from what an earlier run has moved today.
    pub(super) fn go_on(&mut self, kept: &Kept, today: &str) {
        if kept.day == today {
            self.day.clone_from(&kept.day);
            self.before = kept.moved;
        }
    }

    /// Returns the day and what was moved on it, when the run has moved `sum`. Another day begins at nothing.
    pub(super) fn at(&mut self, today: String, sum: Moved) -> (String, Moved) {
        if self.day != today {
            // The run itself may begin with the day: what it has moved counts.
            let fresh = self.day.is_empty();
            *self = Self {
                day: today,
                before: Moved::default(),
                begin: if fresh { Moved::default() } else { sum },
            };
        }
        let since =
            |sum: u64, begin: u64, before: u64| sum.saturating_sub(begin).saturating_add(before);
        let moved = Moved {
            up: since(sum.up, self.begin.up, self.before.up),
            down: since(sum.down, self.begin.down, self.before.down),
        };
        (self.day.clone(), moved)
    }
}

/// Reads the file.
pub(super) fn load(path: &Path) -> Option<Kept> {
    match read_json::<Kept>(path, FILE_BYTES_MAX) {
        Ok(kept) if kept.format == FORMAT => Some(kept),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(_) | Err(_) => {
            tracing::warn!(path = %path.display(), "ignored the traffic of an earlier run: not of this format");
            None
        }
    }
}

/// Writes the file.
pub(super) fn store(path: &Path, seen: &TrafficSeen) -> io::Result<()> {
    let kept = Kept {
        format: FORMAT,
        day: seen.day.clone(),
        moved: seen.today,
    };
    write_whole(path, &serde_json::to_vec(&kept)?)
}
