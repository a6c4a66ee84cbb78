//! Which work an owner's computer takes: what a terminal says with each pull, so that it is not leased what it would
//! give back.
//!
//! Invariants: a list has at most [`CHOICE_MAX`] entries, whoever wrote it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{BlobId, NodeId, TaskId};
use crate::unit::Limits;

/// The most programs, and the most customers, that wishes name: what a person keeps in a list.
pub const CHOICE_MAX: usize = 256;
/// The most tasks that wishes name: more are hardly under way at one coordinator.
pub const DECLINED_MAX: usize = 64;

/// What work a terminal takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// The largest limits of a unit.
    pub limits: Limits,
    /// Which programs.
    pub programs: Choice<BlobId>,
    /// Whose tasks.
    pub customers: Choice<NodeId>,
    /// Tasks of which no more is taken, at most [`DECLINED_MAX`]: they earn too little here.
    pub declined: BTreeSet<TaskId>,
    /// What of the owner's own tasks.
    pub own_tasks: OwnTasks,
}

/// Some of all things of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice<T: Ord> {
    /// All of them.
    #[default]
    All,
    /// These alone.
    Only(BTreeSet<T>),
    /// All but these.
    AllBut(BTreeSet<T>),
}

/// What becomes of tasks whose customer is the owner of the computer, by the same key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnTasks {
    /// They come before those of others.
    #[default]
    First,
    /// Nothing else is taken.
    Only,
    /// They wait for their turn.
    Normal,
    /// They are for other computers.
    Never,
}

impl<T: Ord> Choice<T> {
    /// Returns whether a thing is chosen.
    #[must_use]
    pub fn takes(&self, thing: &T) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(thing),
            Self::AllBut(these) => !these.contains(thing),
        }
    }

    /// Returns how many things are named.
    #[must_use]
    pub fn named(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Only(these) | Self::AllBut(these) => these.len(),
        }
    }
}

impl Wishes {
    /// Takes everything that fits these limits, the owner's own tasks first.
    #[must_use]
    pub const fn any(limits: Limits) -> Self {
        Self {
            limits,
            programs: Choice::All,
            customers: Choice::All,
            declined: BTreeSet::new(),
            own_tasks: OwnTasks::First,
        }
    }

    /// Returns whether the lists are within their bounds.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.programs.named() <= CHOICE_MAX
            && self.customers.named() <= CHOICE_MAX
            && self.declined.len() <= DECLINED_MAX
    }
}
