//! How things stand between a terminal and its coordinators at the moment: so that its owner can be told why nothing
//! runs.

use serde::{Deserialize, Serialize};

use super::{Declined, Terminal};
use crate::id::{NodeId, TaskId};
use crate::message::Refusal;
use crate::message::wishes::Unfit;
use crate::time::Timestamp;

/// How things stand with a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStanding {
    /// Whether there is a connection.
    pub connected: bool,
    /// Since when there is one, or none.
    pub since: Timestamp,
    /// When it is asked again; none if it was asked and has not answered, is not connected, or if nothing is wanted.
    pub asked_again_at: Option<Timestamp>,
    /// What it refuses, and since when; none if it answered last.
    pub refusal: Option<(Refusal, Timestamp)>,
    /// Questions in a row that it did not answer, or refused.
    pub failures: u32,
    /// Why it had nothing when it was last asked for work; empty if it has leased something since, or has no task.
    pub unfit: Vec<Unfit>,
    /// When it was last asked for work and had nothing; none if it has leased something since.
    pub empty_at: Option<Timestamp>,
    /// When it last answered.
    pub last_answer: Option<Timestamp>,
    /// When it last leased units that were wanted.
    pub last_grant: Option<Timestamp>,
}

/// Units at work that do not go on at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Since when.
    pub since: Timestamp,
    /// How many.
    pub units: usize,
}

impl Terminal {
    /// Returns how things stand with each coordinator in touch.
    pub fn standings(&self) -> impl Iterator<Item = (NodeId, LinkStanding)> + '_ {
        let standing = |node: NodeId| {
            let link = self.links.get(&node)?;
            let due = link.due(self.wants(node), self.asked_every(node));
            Some((node, link.standing(due)))
        };
        self.links.keys().filter_map(move |node| standing(*node))
    }

    /// Returns the tasks of which no more is taken because they earn too little here.
    pub fn declined(&self) -> impl Iterator<Item = (TaskId, Declined)> + '_ {
        self.earnings.declined()
    }

    /// Returns the units at work that do not go on at the moment.
    #[must_use]
    pub fn suspended(&self) -> Option<Suspended> {
        let units = self.work.at_work().map(|running| running.units).sum();
        let since = self.suspended_since.filter(|_| units > 0)?;
        Some(Suspended { since, units })
    }
}
