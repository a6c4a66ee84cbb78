//! The operator of a coordinator: has money moved, and orders again what it has no answer to.
//!
//! It remembers over a crash what was done, as a person does. An order whose answer was lost is ordered again under the
//! same reference, so that it is refused if it is posted already.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_ledger::store::Store;
use tally_protocol::account::Money;
use tally_protocol::coordinator::{Input, Movement, Order, OrderFault, Question};
use tally_protocol::entry::Event;
use tally_protocol::id::{NetworkId, NodeId, PostingId};

use super::{CoordinatorNode, Within};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::stage::Stage;

/// After this an order that is not possible yet is given again.
const ORDER_AGAIN: Duration = Duration::from_secs(10);

/// Something that is to be done once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errand {
    /// When.
    pub(crate) at: Moment,
    /// What.
    pub(crate) what: Duty,
}

/// What an errand is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Duty {
    /// Money is moved.
    Move(Movement, Money),
    /// The first receipt of a device is taken back.
    ClawBack(NodeId),
}

/// The operator.
#[derive(Debug, Default)]
pub(super) struct Operator {
    errands: Vec<Errand>,
    done: BTreeSet<usize>,
    /// Orders without an answer.
    asked: BTreeMap<Question, usize>,
}

impl Operator {
    pub(super) fn expect(&mut self, errand: Errand) {
        self.errands.push(errand);
    }
}

impl CoordinatorNode {
    /// Has the operator do one more thing.
    pub(crate) fn expect_errand(&mut self, errand: Errand) {
        self.operator.expect(errand);
    }

    /// Orders everything that is due and not known to be done.
    pub(super) fn run_errands(&mut self, stage: &mut Stage) {
        self.operator.asked.clear();
        for number in 0..self.operator.errands.len() {
            let at = self.operator.errands[number].at;
            if at > stage.now {
                self.plan(stage, at, Within::Errand(number));
            } else {
                self.run_errand(stage, number);
            }
        }
    }

    pub(super) fn run_errand(&mut self, stage: &mut Stage, number: usize) {
        let operator = &self.operator;
        let Some(up) = self
            .up
            .as_mut()
            .filter(|_| !operator.done.contains(&number))
        else {
            return;
        };
        let Some(order) = order(
            &operator.errands[number],
            number,
            (&up.store, &stage.network),
        ) else {
            return self.plan(stage, stage.now + ORDER_AGAIN, Within::Errand(number));
        };
        up.asked += 1;
        let question = Question(up.asked);
        self.operator.asked.insert(question, number);
        self.push(stage, Input::Ordered { question, order });
    }

    /// Takes the answer to an order.
    pub(super) fn ordered(
        &mut self,
        stage: &mut Stage,
        question: Question,
        result: &Result<PostingId, OrderFault>,
    ) {
        let Some(number) = self.operator.asked.remove(&question) else {
            return;
        };
        match result {
            // Of what was taken back before nothing may be left.
            Ok(_) | Err(OrderFault::Repeated { .. } | OrderFault::NothingLeft) => {
                self.operator.done.insert(number);
            }
            Err(
                OrderFault::Reference { .. }
                | OrderFault::Amount { .. }
                | OrderFault::Currency { .. }
                | OrderFault::NoSettlement { .. }
                | OrderFault::Posting(_),
            ) => {
                let (by, from, why) = (self.peer, self.peer, "order_impossible");
                stage.note(&Happening::Refused { by, from, why });
                self.plan(stage, stage.now + ORDER_AGAIN, Within::Errand(number));
            }
        }
    }
}

/// Makes the order; none if what it is about is not there yet.
fn order(errand: &Errand, number: usize, at: (&Store, &NetworkId)) -> Option<Order> {
    match errand.what {
        Duty::Move(movement, money) => Some(Order::Move {
            movement,
            money,
            reference: format!("errand {number}"),
        }),
        Duty::ClawBack(device) => claw_back(device, at),
    }
}

fn claw_back(device: NodeId, (store, network): (&Store, &NetworkId)) -> Option<Order> {
    let read = "a store that opens can be read";
    let first = store.receipts_of(device, None, 1).expect(read);
    let entry = store.entry(*first.first()?).expect(read)?;
    let entry = entry.decode().expect("the log holds entries");
    let (Event::Receipted { receipt, .. }, Some(issued)) = (entry.event, entry.posting) else {
        return None;
    };
    Some(Order::ClawBack {
        receipt: Box::new(receipt.verify(network).ok()?),
        issued,
        reason: "the world wants it".to_owned(),
    })
}
