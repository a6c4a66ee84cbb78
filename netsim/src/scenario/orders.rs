//! What operators of coordinators have done with money.

use std::time::Duration;

use serde::Deserialize;
use tally_protocol::account::Money;

use super::{ScenarioError, bounded};

/// An order of the operator of a coordinator. It is given again until it is carried out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderTable {
    /// When it is given for the first time.
    #[serde(with = "humantime_serde")]
    pub at: Duration,
    /// The coordinator.
    #[serde(default)]
    pub coordinator: u32,
    /// What is to be done.
    pub what: Wanted,
}

/// What an operator wants done. Tasks stand for their customers, terminals for their owners; both count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wanted {
    /// A customer has paid in.
    Deposit {
        /// Its task.
        task: u32,
        /// How much.
        money: Money,
    },
    /// A customer gets back what it has not used.
    Withdrawal {
        /// Its task.
        task: u32,
        /// How much.
        money: Money,
    },
    /// An owner is paid for points.
    PayOut {
        /// A terminal of the owner.
        terminal: u32,
        /// How much.
        money: Money,
    },
    /// The operator takes what the coordinator has earned.
    Earnings {
        /// How much.
        money: Money,
    },
    /// A customer gets back what the coordinator has earned.
    Refund {
        /// Its task.
        task: u32,
        /// How much.
        money: Money,
    },
    /// The first receipt of a terminal is taken back.
    ClawBack {
        /// The terminal.
        terminal: u32,
    },
}

impl OrderTable {
    /// Checks that what it names is there, of so many coordinators, terminals and tasks.
    pub(super) fn check(
        &self,
        [coordinators, terminals, tasks]: [u32; 3],
    ) -> Result<(), ScenarioError> {
        bounded("orders.coordinator", self.coordinator, 0..=coordinators - 1)?;
        match self.what {
            Wanted::Deposit { task, .. }
            | Wanted::Withdrawal { task, .. }
            | Wanted::Refund { task, .. } => {
                bounded("orders.what.task", task, 0..=tasks.saturating_sub(1))
            }
            Wanted::PayOut { terminal, .. } | Wanted::ClawBack { terminal } => bounded(
                "orders.what.terminal",
                terminal,
                0..=terminals.saturating_sub(1),
            ),
            Wanted::Earnings { .. } => Ok(()),
        }
    }
}
