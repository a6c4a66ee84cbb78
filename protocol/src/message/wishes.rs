//! Which work an owner's computer takes: what a terminal says with each pull, so that it is not leased what it would
//! give back.
//!
//! Invariants: a list has at most [`CHOICE_MAX`] entries, whoever wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::Holder;
use crate::id::{BlobId, NodeId, TaskId};
use crate::message::work::Grant;
use crate::task::Task;
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

    /// Takes every unit that needs no more memory than this, in bytes, the owner's own tasks first.
    #[must_use]
    pub const fn within_memory(memory_bytes: u64) -> Self {
        Self::any(Limits {
            fuel: u64::MAX,
            memory_bytes,
            output_bytes: u64::MAX,
        })
    }

    /// Returns why work for `holder` is not taken, the first reason of many; none if it is.
    #[must_use]
    pub fn misfit(&self, work: &WorkKind, holder: Holder) -> Option<Misfit> {
        let is_own = work.is_own(holder);
        let reasons = [
            (
                is_own && self.own_tasks == OwnTasks::Never,
                Misfit::OwnNever,
            ),
            (!is_own && self.own_tasks == OwnTasks::Only, Misfit::OwnOnly),
            (!self.customers.takes(&work.customer), Misfit::Customer),
        ];
        let first = reasons.into_iter().find(|(is_so, _)| *is_so);
        let first = first.map(|(_, reason)| reason);
        first.or_else(|| self.misfit_of(work.task, work.program, work.limits))
    }

    /// Returns why a task is not taken whose customer is not known.
    #[must_use]
    pub fn misfit_of(&self, task: TaskId, program: BlobId, limits: Limits) -> Option<Misfit> {
        let most = self.limits;
        let reasons = [
            (!self.programs.takes(&program), Misfit::Program),
            (self.declined.contains(&task), Misfit::Declined),
            (limits.memory_bytes > most.memory_bytes, Misfit::Memory),
            (limits.fuel > most.fuel, Misfit::Fuel),
            (limits.output_bytes > most.output_bytes, Misfit::Output),
        ];
        let first = reasons.into_iter().find(|(is_so, _)| *is_so);
        first.map(|(_, reason)| reason)
    }

    /// Returns whether the lists are within their bounds.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.programs.named() <= CHOICE_MAX
            && self.customers.named() <= CHOICE_MAX
            && self.declined.len() <= DECLINED_MAX
    }
}

/// What there is to choose by in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkKind {
    /// The task.
    pub task: TaskId,
    /// Whose it is.
    pub customer: NodeId,
    /// The program.
    pub program: BlobId,
    /// Bounds of each unit.
    pub limits: Limits,
}

impl WorkKind {
    /// Returns what there is to choose by in a task.
    #[must_use]
    pub const fn of(id: TaskId, task: &Task) -> Self {
        Self {
            task: id,
            customer: task.customer,
            program: task.program.id,
            limits: task.limits,
        }
    }

    /// Returns what there is to choose by in a grant.
    #[must_use]
    pub const fn of_grant(grant: &Grant) -> Self {
        Self {
            task: grant.task,
            customer: grant.customer,
            program: grant.program.id,
            limits: grant.limits,
        }
    }

    /// Returns whether the customer is the device itself, or its owner.
    #[must_use]
    pub fn is_own(&self, holder: Holder) -> bool {
        [holder.device, holder.owner].contains(&self.customer)
    }
}

/// Tasks of a coordinator that are not leased to a terminal, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// Why, the first reason of many.
    pub why: Misfit,
    /// How many tasks, at least one.
    pub tasks: u32,
}

/// The most of them in an answer: as many as there are reasons.
pub const UNFIT_MAX: usize = 13;

/// Why a task whose units are leased is not leased to a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misfit {
    /// The owner does not want its program.
    Program,
    /// The owner does not want its customer.
    Customer,
    /// A unit may need more memory than the owner gives.
    Memory,
    /// A unit may take more fuel than the owner gives.
    Fuel,
    /// A unit may write more output than the owner gives.
    Output,
    /// It earns too little on this computer.
    Declined,
    /// The owner wants its own tasks only.
    OwnOnly,
    /// It is the owner's own, and the owner wants others to compute that.
    OwnNever,
    /// Who has this terminal has computed all units that are left, or is at work on them.
    Computed,
    /// The terminal rests: it could not run units, its owner took them back, or others contradict its results.
    Rests,
    /// The terminal is too far ahead of those who confirm its results.
    Unconfirmed,
    /// The customer's money is bound in units that are under way.
    Funds,
    /// Others are at work on all its units.
    Taken,
}

impl Misfit {
    /// All of them.
    pub const ALL: [Self; UNFIT_MAX] = [
        Self::Program,
        Self::Customer,
        Self::Memory,
        Self::Fuel,
        Self::Output,
        Self::Declined,
        Self::OwnOnly,
        Self::OwnNever,
        Self::Computed,
        Self::Rests,
        Self::Unconfirmed,
        Self::Funds,
        Self::Taken,
    ];

    /// Returns a name for counting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Customer => "customer",
            Self::Memory => "memory",
            Self::Fuel => "fuel",
            Self::Output => "output",
            Self::Declined => "declined",
            Self::OwnOnly => "own_only",
            Self::OwnNever => "own_never",
            Self::Computed => "computed",
            Self::Rests => "rests",
            Self::Unconfirmed => "unconfirmed",
            Self::Funds => "funds",
            Self::Taken => "taken",
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Program => "its program is not wanted",
            Self::Customer => "its customer is not wanted",
            Self::Memory => "a unit may need more memory than this computer gives",
            Self::Fuel => "a unit may compute for longer than this computer does",
            Self::Output => "a unit may write more than this computer takes",
            Self::Declined => "it earns too little on this computer",
            Self::OwnOnly => "only tasks of the owner are wanted",
            Self::OwnNever => "it is the owner's own, which others are to compute",
            Self::Computed => "the owner's computers have done their part of what is left",
            Self::Rests => "this computer rests: units failed on it or were taken back, or others contradict it",
            Self::Unconfirmed => "others have to confirm what this computer has done first",
            Self::Funds => "the customer's money is bound in units that are under way",
            Self::Taken => "others are at work on all units that are left",
        })
    }
}

/// Counts tasks by the reason for which they were not leased.
#[must_use]
pub fn count_unfit(reasons: impl IntoIterator<Item = Misfit>) -> Vec<Unfit> {
    let mut counts: BTreeMap<Misfit, u32> = BTreeMap::new();
    for why in reasons {
        let tasks = counts.entry(why).or_default();
        *tasks = tasks.saturating_add(1);
    }
    let counts = counts.into_iter();
    counts.map(|(why, tasks)| Unfit { why, tasks }).collect()
}
