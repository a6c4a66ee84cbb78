//! What the page shows, and what it asks for: the node stands behind it.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tally_ledger::wallet::{Earnings, Unpaid, UtcOffset};
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::manners::{Because, Preset};
use tally_protocol::points::Points;
use tally_protocol::product::ProductId;
use tally_protocol::time::Timestamp;

/// The days whose earnings the page shows.
pub const DAYS: u32 = 7;

/// Tells how the terminal is, and has it do what its owner wants.
pub trait Desk: Send + Sync + 'static {
    /// Returns how things are. Asked every two seconds while somebody looks.
    fn view(&self) -> BoxFuture<'_, Result<PageView, DeskError>>;

    /// Does what the owner wants; when this returns it is in force and durable.
    ///
    /// # Errors
    /// [`DeskError`]; then nothing has changed.
    fn act(&self, action: Action) -> BoxFuture<'_, Result<(), DeskError>>;
}

/// How a terminal is, for its owner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PageView {
    /// The time of day.
    pub now: Timestamp,
    /// How far the clock on the wall is before UTC.
    pub offset: UtcOffset,
    /// The computer.
    pub node: NodeId,
    /// For whom it earns.
    pub owner: NodeId,
    /// Every reason that holds, those that matter most first.
    pub because: Vec<Because>,
    /// What is computed now.
    pub running: Vec<RunningUnits>,
    /// What was earned on the latest [`DAYS`] days, and in all.
    pub earnings: Earnings,
    /// What is not paid, or cannot be spent, and why.
    pub unpaid: Unpaid,
    /// What the owner's points are for, at each app server where the computer is registered.
    pub goals: Vec<GoalView>,
    /// The preferences, as text: the keys of [`FIELDS`](super::form::FIELDS), and `preset`.
    pub preferences: BTreeMap<String, String>,
}

/// Units that are computed together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunningUnits {
    /// The name of the program, or the start of its hash.
    pub program: String,
    /// The task.
    pub task: TaskId,
    /// Which units, the first and the last.
    pub units: (u32, u32),
    /// Since when.
    pub since: Timestamp,
    /// How far, in percent, if that is known.
    pub percent: Option<u8>,
    /// Whether it waits for the owner to be away.
    pub suspended: bool,
}

/// What an owner's points are for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GoalView {
    /// The vendor, in its own words.
    pub vendor: String,
    /// The product.
    pub product: ProductId,
    /// What is going on, in a few words.
    pub state: String,
    /// Points that can be spent there.
    pub points: Points,
    /// Points that cannot be spent there yet.
    pub escrowed: Points,
    /// About how many points the license, or its renewal, takes.
    pub needed: Option<Points>,
    /// The license, in a word, if there is one.
    pub license: Option<String>,
    /// Until when it holds.
    pub license_until: Option<Timestamp>,
}

/// What an owner may want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compute nothing.
    Pause,
    /// Do as the preferences say.
    Resume,
    /// Compute nothing for so many minutes.
    Snooze(u32),
    /// Finish what is there, then pause.
    Finish,
    /// Take the preferences that the page shows from a preset, whatever was written; the others stay.
    Preset(Preset),
    /// Change preferences, all of them or none: keys and values as text.
    Set(Vec<(String, String)>),
}

/// Why something could not be told or done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// Values of preferences make no sense, or not together: key and reason of each.
    #[error("change the preferences: {} of the values will not do", .0.len())]
    Values(Vec<(String, String)>),
    /// The node cannot, with the reason.
    #[error("{0}")]
    Failed(String),
}
