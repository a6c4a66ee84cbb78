//! The operator of an app server: fills the catalogue, proposes agreements, revokes registrations, settles.
//!
//! It remembers over a crash what was done, as a person does, and does again what it has no answer to.

use std::collections::BTreeSet;
use std::time::Duration;

use tally_protocol::agreement::Agreement;
use tally_protocol::app_server::{Answer, Command, Fault, Input, Standing};
use tally_protocol::id::NodeId;

use super::{AppServerNode, Asker, Within};
use crate::moment::Moment;
use crate::stage::Stage;

/// After this what was not possible is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Something that is to be done once.
#[derive(Debug, Clone)]
pub(crate) struct Duty {
    /// When.
    pub(crate) at: Moment,
    /// What.
    pub(crate) agreement: Agreement,
}

/// The operator.
#[derive(Debug, Default)]
pub(super) struct Operator {
    duties: Vec<Duty>,
    done: BTreeSet<usize>,
    /// Whether the catalogue is known to be filled.
    pub(super) has_offered: bool,
}

impl AppServerNode {
    /// Has the operator propose an agreement.
    pub(crate) fn expect_duty(&mut self, duty: Duty) {
        self.operator.duties.push(duty);
    }

    /// Does everything that is due and not known to be done.
    pub(super) fn run_duties(&mut self, stage: &mut Stage) {
        if !self.operator.has_offered {
            let product = Command::Offer(Box::new(self.setup.product.clone()));
            let discount = Command::Discount(Box::new(self.setup.discount.clone()));
            self.order(stage, None, product);
            self.order(stage, None, discount);
        }
        for number in 0..self.operator.duties.len() {
            let at = self.operator.duties[number].at;
            if at > stage.now {
                self.plan(stage, at, Within::Duty(number));
            } else {
                self.run_duty(stage, number);
            }
        }
    }

    pub(super) fn run_duty(&mut self, stage: &mut Stage, number: usize) {
        if self.operator.done.contains(&number) {
            return;
        }
        let agreement = self.operator.duties[number].agreement.clone();
        let command = Command::Propose(Box::new(agreement));
        self.order(stage, Some(number), command);
    }

    fn order(&mut self, stage: &mut Stage, number: Option<usize>, command: Command) {
        if let Some(question) = self.question(Asker::Operator(number)) {
            self.push(stage, Input::Ordered { question, command });
        }
    }

    /// Takes the answer to an order.
    pub(super) fn ordered(
        &mut self,
        stage: &mut Stage,
        number: Option<usize>,
        answer: &Result<Answer, Fault>,
    ) {
        let Some(number) = number else {
            return;
        };
        match answer {
            // What was proposed before a crash cannot be proposed again.
            Ok(_) | Err(Fault::Invalid { .. }) => {
                self.operator.done.insert(number);
            }
            Err(_) => self.plan(stage, stage.now + AGAIN, Within::Duty(number)),
        }
    }

    fn coordinators(&self) -> Vec<NodeId> {
        let duties = self.operator.duties.iter();
        duties.map(|duty| duty.agreement.coordinator).collect()
    }

    /// States what each coordinator owes, while anybody wants anything.
    pub(super) fn settle(&mut self, stage: &mut Stage) {
        if stage.is_quiet {
            return;
        }
        for coordinator in self.coordinators() {
            self.order(stage, None, Command::Settle(coordinator));
        }
        self.plan(stage, stage.now + self.setup.settle_every, Within::Settle);
    }

    /// Pays what it owes by settlements, and notes what was paid to it.
    pub(super) fn pay(&mut self, stage: &mut Stage) {
        let Some(up) = &self.up else {
            return;
        };
        let mut paid = Vec::new();
        for coordinator in self.coordinators() {
            for agreed in up.machine.settlements(coordinator) {
                let number = agreed.value.number;
                let is_paid = stage.payments.contains(&(self.id, coordinator, number));
                let is_mine = agreed.value.due < 0;
                if agreed.paid.is_none() && (is_mine || is_paid) {
                    let reference = format!("settlement {number} with {coordinator}");
                    paid.push(Command::SettlementPaid {
                        coordinator,
                        number,
                        reference,
                    });
                }
            }
        }
        for command in paid {
            self.order(stage, None, command);
        }
        self.plan(stage, stage.now + AGAIN, Within::Pay);
    }

    /// Ends the registration of some computer.
    pub(super) fn revoke(&mut self, stage: &mut Stage) {
        let Some(up) = &self.up else {
            return;
        };
        let owners: Vec<NodeId> = stage.directory.owners().collect();
        let devices = owners
            .iter()
            .flat_map(|owner| up.machine.devices_of(*owner));
        let registered =
            devices.filter(|device| matches!(device.standing, Standing::Registered { .. }));
        let devices: Vec<NodeId> = registered.map(|device| device.holder.device).collect();
        if let Some(device) = self.chance.choose(&devices).copied() {
            let reason = "the world wants it".to_owned();
            self.order(stage, None, Command::Revoke { device, reason });
        }
        if let Some(every) = self.setup.revoke_every {
            let pause = every.mul_f64(0.5 + self.chance.part());
            self.plan(stage, stage.now + pause, Within::Revoke);
        }
    }
}
