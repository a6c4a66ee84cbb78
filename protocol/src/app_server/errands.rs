//! What is to be asked of coordinators, until it is answered.
//!
//! An errand is only a name: what is to be asked follows from the recorded state, each time anew. So a restart forgets
//! nothing, an answer that was lost is asked for again, and an errand whose reason is gone ends by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{AppServer, Effect};
use crate::coordinator::Question;
use crate::id::{NodeId, OrderId, RedemptionId};
use crate::message::redeem::{RedeemReply, RedeemRequest};
use crate::message::registry::{RegistryReply, RegistryRequest};
use crate::time::Timestamp;

/// The first pause after a failure; each further one doubles it.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause: a coordinator that comes back is found within it.
const BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// A question without any answer counts as failed after this, whatever became of its stream.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A question to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// About agreements, registrations and settlements.
    Registry(RegistryRequest),
    /// About points of an order.
    Redeem(RedeemRequest),
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Registry`].
    Registry(RegistryReply),
    /// To [`Request::Redeem`].
    Redeem(RedeemReply),
}

/// Something to be asked until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Errand {
    /// Has the coordinator decided about the proposal?
    Agree(NodeId),
    /// Rows of the outbox.
    Outbox(NodeId),
    /// What is next for points of an order.
    Leg(OrderId, RedemptionId),
    /// Does the coordinator agree with the settlement?
    Settle(NodeId),
    /// What have devices earned with the coordinator?
    Points(NodeId),
}

/// What an answer means for its errand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something has changed: what is next may be asked at once.
    Done,
    /// Nothing has: ask again later.
    Wait,
}

/// What is due at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A pause is over, or nobody has answered.
    Errand(Errand),
    /// Something ends for an order.
    Order(OrderId),
    /// A new status list.
    StatusList,
}

/// Errands under way, and all timers.
#[derive(Debug, Default)]
pub(super) struct Errands {
    asked: u64,
    of: BTreeMap<Errand, Pace>,
    questions: BTreeMap<Question, Errand>,
    due: BTreeSet<(Timestamp, Due)>,
    set: BTreeMap<Due, Timestamp>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// The question that is open; none during a pause.
    question: Option<Question>,
    failures: u32,
}

impl Errands {
    /// Sets a timer, instead of any earlier setting.
    pub(super) fn set(&mut self, due: Due, at: Timestamp) {
        self.clear(due);
        self.set.insert(due, at);
        self.due.insert((at, due));
    }

    pub(super) fn clear(&mut self, due: Due) {
        if let Some(at) = self.set.remove(&due) {
            self.due.remove(&(at, due));
        }
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first timer that is due.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<Due> {
        let (_, due) = self.due.first().filter(|(at, _)| *at <= now).copied()?;
        self.clear(due);
        Some(due)
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    fn ask(&mut self, now: Timestamp, errand: Errand) -> Question {
        self.asked += 1;
        let question = Question(self.asked);
        self.of.entry(errand).or_default().question = Some(question);
        self.questions.insert(question, errand);
        self.set(Due::Errand(errand), now + ANSWER_WITHIN);
        question
    }

    /// Takes an open question.
    fn take(&mut self, question: Question) -> Option<Errand> {
        let errand = self.questions.remove(&question)?;
        self.of.get_mut(&errand)?.question = None;
        Some(errand)
    }

    fn pause(&mut self, now: Timestamp, errand: Errand) {
        let pace = self.of.entry(errand).or_default();
        if let Some(question) = pace.question.take() {
            self.questions.remove(&question);
        }
        let pause = (BACK_OFF_MIN * 2_u32.pow(pace.failures.min(9))).min(BACK_OFF_MAX);
        pace.failures = pace.failures.saturating_add(1);
        self.set(Due::Errand(errand), now + pause);
    }

    fn end(&mut self, errand: Errand) {
        if let Some(question) = self.of.remove(&errand).and_then(|pace| pace.question) {
            self.questions.remove(&question);
        }
        self.clear(Due::Errand(errand));
    }
}

impl AppServer {
    /// Goes on an errand, unless it is under way.
    pub(super) fn run_errand(&mut self, now: Timestamp, errand: Errand, out: &mut Vec<Effect>) {
        if !self.errands.of.contains_key(&errand) {
            self.ask(now, errand, out);
        }
    }

    fn ask(&mut self, now: Timestamp, errand: Errand, out: &mut Vec<Effect>) {
        let Some((coordinator, request)) = self.request(now, errand) else {
            self.errands.end(errand);
            return;
        };
        let question = self.errands.ask(now, errand);
        out.push(Effect::Ask {
            question,
            coordinator,
            request,
        });
    }

    /// Returns what is next to be asked; none if nothing is.
    fn request(&mut self, now: Timestamp, errand: Errand) -> Option<(NodeId, Request)> {
        match errand {
            Errand::Agree(coordinator) => {
                let signed = self.state.agreements.waiting(coordinator)?;
                let request = RegistryRequest::Agree(signed.clone());
                Some((coordinator, Request::Registry(request)))
            }
            Errand::Outbox(coordinator) => {
                let mut partners = self.state.agreements.partners(now);
                partners.find(|partner| *partner == coordinator)?;
                let (request, rows) = self.state.users.batch(coordinator)?;
                self.sent.insert(coordinator, rows);
                Some((coordinator, Request::Registry(request)))
            }
            Errand::Leg(order, leg) => {
                let (coordinator, request) = self.leg_request(order, leg)?;
                Some((coordinator, Request::Redeem(request)))
            }
            Errand::Points(coordinator) => {
                let request = self.points_request(now, coordinator)?;
                Some((coordinator, Request::Registry(request)))
            }
            Errand::Settle(coordinator) => {
                let request = self.state.settlements.request(coordinator)?;
                let request = RegistryRequest::Settle(Box::new(request));
                Some((coordinator, Request::Registry(request)))
            }
        }
    }

    /// Takes the answer to an open question.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        question: Question,
        reply: Reply,
        out: &mut Vec<Effect>,
    ) {
        let Some(errand) = self.errands.take(question) else {
            return;
        };
        let heard = match (errand, reply) {
            (Errand::Agree(from), Reply::Registry(RegistryReply::Agreement(proposal))) => {
                self.proposal_answered(now, from, proposal, out)
            }
            (Errand::Outbox(from), Reply::Registry(reply)) => {
                self.outbox_answered(from, &reply, out)
            }
            (Errand::Leg(order, leg), Reply::Redeem(reply)) => {
                self.leg_answered(now, (order, leg), reply, out)
            }
            (Errand::Settle(from), Reply::Registry(RegistryReply::Settlement(reply))) => {
                self.settle_answered(from, reply, out)
            }
            (Errand::Points(from), Reply::Registry(reply)) => {
                self.points_answered(now, from, reply, out)
            }
            (
                Errand::Agree(_)
                | Errand::Outbox(_)
                | Errand::Leg(..)
                | Errand::Settle(_)
                | Errand::Points(_),
                Reply::Registry(_) | Reply::Redeem(_),
            ) => Heard::Wait,
        };
        match heard {
            Heard::Done => {
                self.errands.end(errand);
                self.run_errand(now, errand, out);
            }
            Heard::Wait => self.errands.pause(now, errand),
        }
        if let Errand::Leg(order, _) = errand {
            self.advance(now, order, out);
        }
    }

    /// A question was not answered.
    pub(super) fn failed(&mut self, now: Timestamp, question: Question) {
        if let Some(errand) = self.errands.take(question) {
            self.errands.pause(now, errand);
        }
    }

    pub(super) fn fire_timers(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Some(due) = self.errands.pop(now) {
            match due {
                Due::Errand(errand) => {
                    let pace = self.errands.of.get(&errand);
                    if pace.is_some_and(|pace| pace.question.is_some()) {
                        self.errands.pause(now, errand);
                    } else {
                        self.ask(now, errand, out);
                    }
                }
                Due::Order(order) => self.advance(now, order, out),
                Due::StatusList => self.publish(now, out),
            }
        }
    }
}
