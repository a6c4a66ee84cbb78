//! The programs that are ready to run, or known not to run. The least recently used one goes first.

use std::rc::Rc;

use tally_protocol::id::BlobId;

use crate::engine::Compiled;

/// Native code of all programs together: CPython takes 50 MB.
const CODE_BYTES_MAX: usize = 512 << 20;

pub(super) enum Entry {
    Compiled(Compiled),
    /// The profile does not accept it.
    Refused(String),
    /// The compiler gave up.
    Failed(String),
}

impl Entry {
    fn code_bytes(&self) -> usize {
        match self {
            Self::Compiled(compiled) => compiled.code_bytes(),
            Self::Refused(_) | Self::Failed(_) => 0,
        }
    }
}

/// Programs by id, the most recently used one last.
pub(super) struct Cache {
    entries: Vec<(BlobId, Rc<Entry>)>,
    entries_max: usize,
}

impl Cache {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            entries_max: entries_max.max(1),
        }
    }

    pub(super) fn find(&mut self, program: &BlobId) -> Option<Rc<Entry>> {
        let position = self.entries.iter().position(|(id, _)| id == program)?;
        let found = self.entries.remove(position);
        let entry = Rc::clone(&found.1);
        self.entries.push(found);
        Some(entry)
    }

    pub(super) fn insert(&mut self, program: BlobId, entry: Entry) -> Rc<Entry> {
        let entry = Rc::new(entry);
        self.entries.push((program, Rc::clone(&entry)));
        let mut code_bytes: usize = self
            .entries
            .iter()
            .map(|(_, entry)| entry.code_bytes())
            .sum();
        // The newest entry is in use, so it stays even where it is over the bound by itself.
        while self.entries.len() > 1
            && (self.entries.len() > self.entries_max || code_bytes > CODE_BYTES_MAX)
        {
            code_bytes -= self.entries.remove(0).1.code_bytes();
        }
        entry
    }
}
