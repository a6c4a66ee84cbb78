//! Programs on which a child died while compiling: they are answered at once, not tried for two minutes again.

use std::collections::VecDeque;

use tally_protocol::id::BlobId;

/// Programs that are remembered. Each has cost its sender a task, so the list is not easily filled.
const PROGRAMS_MAX: usize = 256;

/// The programs, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Poisoned(VecDeque<BlobId>);

impl Poisoned {
    pub(super) fn contains(&self, program: &BlobId) -> bool {
        self.0.contains(program)
    }

    pub(super) fn insert(&mut self, program: BlobId) {
        if self.0.len() == PROGRAMS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(program);
    }
}
