//! How the computer is and what its owner does, as far as the operating system can tell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hours::MinuteOfWeek;

/// What is seen of a computer at one moment; `None` where it cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// How long ago the owner has last used keyboard, mouse or a terminal. Not known counts as just now.
    pub idle: Option<Duration>,
    /// Where its power comes from. Not known counts as mains.
    pub power: Option<Power>,
    /// How much of all processors programs take that are not ours, in percent.
    pub others_cpu: Option<u8>,
    /// Memory.
    pub memory: Option<Space>,
    /// The disk on which the data folder lies.
    pub disk: Option<Space>,
    /// Whether the network costs by what it carries.
    pub metered: Option<bool>,
    /// What it is by the clock on the wall. Not known: all hours are allowed ones.
    pub local: Option<MinuteOfWeek>,
    /// Programs that run and while which nothing is to be computed. Not known counts as running.
    pub running: Option<Vec<String>>,
    /// What this node has sent and received today, in bytes.
    pub traffic_today: u64,
}

/// Where the power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// From the wall, or the computer has no battery.
    Mains,
    /// From a battery that is so full.
    Battery {
        /// In percent.
        percent: u8,
    },
}

/// Memory or disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What can be had without taking it from others.
    pub free: u64,
}

impl Space {
    /// Returns how much of all is free, in percent, rounded down.
    #[must_use]
    pub fn free_percent(&self) -> u8 {
        let percent = u128::from(self.free) * 100 / u128::from(self.total.max(1));
        u8::try_from(percent).unwrap_or(100)
    }
}
