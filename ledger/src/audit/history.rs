//! What a log has said so far, as far as it must not be said again.

use std::collections::HashMap;

use tally_protocol::entry::{Entry, Event, ValidatedUnit};
use tally_protocol::id::{NetworkId, TaskId};
use tally_protocol::signed::Signed;
use tally_protocol::task::{Task, UNITS_MAX};

use super::accounts::{Accounts, Issued};
use super::finding::Problem;
use super::units::UnitSet;
use crate::store::Identity;

/// The tasks of a log, and what it owes for them.
#[derive(Debug)]
pub(super) struct History {
    network: NetworkId,
    tasks: HashMap<TaskId, TaskHistory>,
    units: u64,
    /// None where only the log is looked at.
    accounts: Option<Accounts>,
}

/// What was said about a task.
#[derive(Debug, Default)]
struct TaskHistory {
    ended: bool,
    settled: bool,
    validated: UnitSet,
}

impl History {
    /// Begins to check that nothing is said twice.
    pub(super) fn of_log(identity: &Identity) -> Self {
        Self {
            network: identity.network.clone(),
            tasks: HashMap::new(),
            units: 0,
            accounts: None,
        }
    }

    /// Begins to check everything, the books too.
    pub(super) fn with_accounts(identity: &Identity) -> Self {
        Self {
            accounts: Some(Accounts::new(identity)),
            ..Self::of_log(identity)
        }
    }

    /// Adds an entry if it may come now.
    pub(super) fn add(&mut self, entry: &Entry, issued: Issued<'_>) -> Result<(), Problem> {
        match &entry.event {
            Event::TaskAccepted { task, signed } => {
                check_statement(*task, signed, &self.network)?;
                if self.tasks.insert(*task, TaskHistory::default()).is_some() {
                    return Err(Problem::AcceptedTwice { task: *task });
                }
            }
            Event::BatchValidated { task, units, .. } => self.add_units(*task, units)?,
            Event::TaskEnded { task, .. } => {
                let known = self.task(*task)?;
                if std::mem::replace(&mut known.ended, true) {
                    return Err(Problem::EndedTwice { task: *task });
                }
            }
            Event::TaskSettled { task, .. } => {
                let known = self.task(*task)?;
                if !known.ended {
                    return Err(Problem::NotEnded { task: *task });
                }
                if std::mem::replace(&mut known.settled, true) {
                    return Err(Problem::Settled { task: *task });
                }
            }
            Event::RateCardPublished { .. }
            | Event::DeviceCertified { .. }
            | Event::Receipted { .. }
            | Event::Deposited { .. }
            | Event::PaidOut { .. }
            | Event::Refunded { .. }
            | Event::ClawedBack { .. }
            | Event::AgreementMade { .. }
            | Event::DeviceRegistered { .. }
            | Event::RegistrationRevoked { .. }
            | Event::PointsReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::PointsRedeemed { .. }
            | Event::RedemptionReversed { .. }
            | Event::SettlementMade { .. }
            | Event::SettlementPaid { .. }
            | Event::OrderCharged { .. }
            | Event::OrderPaid { .. }
            | Event::OrderRefunded { .. }
            | Event::Released { .. }
            | Event::Expired { .. } => {}
        }
        let Some(accounts) = &mut self.accounts else {
            return Ok(());
        };
        let tasks = &self.tasks;
        let validated = |task, unit| {
            let known = tasks.get(&task);
            known.is_some_and(|known: &TaskHistory| known.validated.contains(unit))
        };
        accounts.add(entry, validated, issued)
    }

    /// Returns the number of tasks that were accepted.
    pub(super) fn tasks(&self) -> u64 {
        self.tasks.len() as u64
    }

    /// Returns the number of units that were validated.
    pub(super) const fn units(&self) -> u64 {
        self.units
    }

    /// Returns the books, if they are looked at.
    pub(super) const fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    pub(super) fn into_accounts(self) -> Option<Accounts> {
        self.accounts
    }

    fn add_units(&mut self, task: TaskId, units: &[ValidatedUnit]) -> Result<(), Problem> {
        let known = self.task(task)?;
        for ValidatedUnit { unit, .. } in units {
            let unit = *unit;
            if unit >= UNITS_MAX {
                return Err(Problem::NoSuchUnit { task, unit });
            }
            if !known.validated.insert(unit) {
                return Err(Problem::ValidatedTwice { task, unit });
            }
        }
        self.units = self.units.saturating_add(units.len() as u64);
        Ok(())
    }

    fn task(&mut self, task: TaskId) -> Result<&mut TaskHistory, Problem> {
        self.tasks
            .get_mut(&task)
            .ok_or(Problem::NotAccepted { task })
    }
}

/// Checks that the customer of `task` signed it.
fn check_statement(
    task: TaskId,
    signed: &Signed<Task>,
    network: &NetworkId,
) -> Result<(), Problem> {
    let verified = signed.clone().verify(network);
    let verified = verified.map_err(|error| Problem::Statement {
        reason: error.to_string(),
    })?;
    let found = verified.task_id();
    if found != task {
        return Err(Problem::OtherTask { signed: found });
    }
    let (customer, signer) = (verified.customer, verified.signer());
    if customer == signer {
        Ok(())
    } else {
        Err(Problem::OtherSigner { customer, signer })
    }
}
