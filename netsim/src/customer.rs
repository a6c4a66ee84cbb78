//! A customer: the driver of its role machine for one task, with a coordinator that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::coordinator::Question;
use tally_protocol::customer::{Customer, Effect, Ending, Goal, Input};
use tally_protocol::id::TaskId;
use tally_protocol::message::Refusal;
use tally_protocol::message::customer::{CustomerReply, CustomerRequest, Phase};
use tally_protocol::signed::Signed;
use tally_protocol::task::{BlobRef, Task};

use crate::chance::Chance;
use crate::happening::{Happening, Stop};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Clock, Envelope, Stage};

/// The pause between attempts to connect, and between looks whether the connection is still there.
const CONNECT_EVERY: Duration = Duration::from_secs(1);

/// What a customer is.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) clock: Clock,
    pub(crate) coordinator: Peer,
    pub(crate) task: TaskId,
    pub(crate) signed: Signed<Task>,
    /// Whether it goes away after its upload, and how long it stays away.
    pub(crate) leaves: Option<Duration>,
    pub(crate) cancels_after: Option<Duration>,
}

/// Something within a customer.
#[derive(Debug)]
pub(crate) enum Within {
    /// A deadline of the machine may have come.
    Wake,
    /// Time to look after the connection.
    Connect,
    /// The result is here, or the way to it was cut.
    Fetched(bool),
    /// Time to change its mind.
    Cancel,
}

/// A customer of the world.
#[derive(Debug)]
pub(crate) struct CustomerNode {
    pub(crate) peer: Peer,
    pub(crate) setup: Setup,
    pub(crate) submitted: Option<Moment>,
    chance: Chance,
    machine: Option<Customer>,
    goal: Goal,
    connected: bool,
    wake: Option<Moment>,
    asks: BTreeMap<u64, Question>,
    /// Questions whose answers do not concern the machine.
    cancels: BTreeSet<u64>,
    satisfied: bool,
}

impl CustomerNode {
    pub(crate) fn new(peer: Peer, setup: Setup, seed: u64) -> Self {
        Self {
            peer,
            setup,
            submitted: None,
            chance: Chance::new(seed, "customer", u64::from(peer.0)),
            machine: None,
            goal: Goal::Result,
            connected: false,
            wake: None,
            asks: BTreeMap::new(),
            cancels: BTreeSet::new(),
            satisfied: false,
        }
    }

    /// Returns whether it has what it wanted, or knows that it never will.
    pub(crate) const fn is_satisfied(&self) -> bool {
        self.satisfied
    }

    /// Comes, for the first time or again.
    pub(crate) fn start(&mut self, stage: &mut Stage) {
        if self.satisfied {
            return;
        }
        stage.start(self.peer);
        let (task, to) = (self.setup.task, self.setup.coordinator);
        let is_first = self.submitted.is_none();
        if is_first {
            self.submitted = Some(stage.now);
            let by = self.peer;
            stage.note(&Happening::Submitted { by, to, task });
            if let Some(after) = self.setup.cancels_after {
                self.plan(stage, stage.now + after, Within::Cancel);
            }
        }
        self.goal = match self.setup.leaves {
            Some(_) if is_first => Goal::Uploaded,
            Some(_) | None => Goal::Result,
        };
        let signed = is_first.then(|| self.setup.signed.clone());
        self.machine = Some(Customer::new(task, signed, self.goal));
        (self.connected, self.wake) = (false, None);
        self.asks.clear();
        self.plan(stage, stage.now, Within::Connect);
    }

    /// Takes what comes from itself.
    pub(crate) fn within(&mut self, stage: &mut Stage, what: Within) {
        match what {
            Within::Wake => {
                if self.wake == Some(stage.now) {
                    self.wake = None;
                    self.feed(stage, Input::DeadlineReached);
                }
            }
            Within::Connect => self.look_after_connection(stage),
            Within::Fetched(here) => {
                let reachable = here && stage.can_talk(self.peer, self.setup.coordinator);
                let result = reachable.then_some(());
                let result = result.ok_or_else(|| "the connection is gone".to_owned());
                self.feed(stage, Input::Fetched(result));
            }
            Within::Cancel => self.cancel(stage),
        }
    }

    /// Takes a message.
    pub(crate) fn arrive(&mut self, stage: &mut Stage, envelope: Envelope) {
        let Envelope {
            from, ask, body, ..
        } = envelope;
        match body {
            Body::CustomerAnswered(reply) => {
                if let Some(question) = self.asks.remove(&ask) {
                    self.feed(stage, Input::Answered { question, reply });
                } else if self.cancels.remove(&ask) {
                    self.hear_of_cancel(stage, &reply);
                }
            }
            Body::WorkAsked(_)
            | Body::CustomerAsked(_)
            | Body::LogAsked(_)
            | Body::RegistryAsked(_)
            | Body::RedeemAsked(_)
            | Body::ShopAsked(_) => stage.note(&Happening::Refused {
                by: self.peer,
                from,
                why: Refusal::WrongRole.name(),
            }),
            Body::WorkAnswered(_)
            | Body::LogAnswered(_)
            | Body::RegistryAnswered(_)
            | Body::RedeemAnswered(_)
            | Body::ShopAnswered(_)
            | Body::Offered(_)
            | Body::Head(_) => {}
        }
    }

    /// Nobody answered in time.
    pub(crate) fn unanswered(&mut self, stage: &mut Stage, ask: u64) {
        if let Some(question) = self.asks.remove(&ask) {
            self.feed(stage, Input::Failed(question));
        } else if self.cancels.remove(&ask) {
            self.cancel(stage);
        }
    }

    fn plan(&self, stage: &mut Stage, at: Moment, what: Within) {
        stage.plan_within(at, self.peer, crate::stage::Within::Customer(what));
    }

    fn look_after_connection(&mut self, stage: &mut Stage) {
        let to = self.setup.coordinator;
        let now = stage.can_talk(self.peer, to);
        if now != self.connected {
            self.connected = now;
            if now {
                stage.connect(self.peer, to);
            } else {
                stage.disconnect(self.peer, to);
                // What was asked over the connection is not answered any more.
                for (_, question) in std::mem::take(&mut self.asks) {
                    self.feed(stage, Input::Failed(question));
                }
            }
            let input = if now {
                Input::Connected
            } else {
                Input::Disconnected
            };
            self.feed(stage, input);
        }
        self.plan(stage, stage.now + CONNECT_EVERY, Within::Connect);
    }

    fn feed(&mut self, stage: &mut Stage, input: Input) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        let mut effects = Vec::new();
        machine.handle(self.setup.clock.read(stage.now), input, &mut effects);
        for effect in effects {
            self.carry_out(stage, effect);
        }
        let Some(due) = self.machine.as_ref().and_then(Customer::next_deadline) else {
            return;
        };
        let at = self.setup.clock.when(due).max(stage.now);
        if self.wake.is_none_or(|planned| planned > at) {
            self.wake = Some(at);
            self.plan(stage, at, Within::Wake);
        }
    }

    fn carry_out(&mut self, stage: &mut Stage, effect: Effect) {
        match effect {
            Effect::Ask { question, request } => {
                let to = self.setup.coordinator;
                let ask = stage.ask(self.peer, to, Body::CustomerAsked(request));
                self.asks.insert(ask, question);
            }
            Effect::Progress(_) => {}
            Effect::Fetch(result) => {
                let ways = (self.setup.coordinator, self.peer);
                let arrival = stage.links.stream(stage.now, ways, result.bytes);
                let at = arrival.unwrap_or(stage.now + CONNECT_EVERY);
                self.plan(stage, at, Within::Fetched(arrival.is_some()));
            }
            Effect::End(Ending::Reached(_)) if self.goal == Goal::Uploaded => self.leave(stage),
            Effect::End(Ending::Reached(status)) => {
                let is_done = status.summary.phase == Phase::Done;
                self.satisfy(stage, status.result.filter(|_| is_done));
            }
            Effect::End(Ending::Refused(_)) => self.satisfy(stage, None),
        }
    }

    fn satisfy(&mut self, stage: &mut Stage, result: Option<BlobRef>) {
        self.satisfied = true;
        stage.note(&Happening::Satisfied {
            by: self.peer,
            task: self.setup.task,
            result,
        });
        self.go(stage);
    }

    /// Goes away, to come back later.
    fn leave(&mut self, stage: &mut Stage) {
        self.go(stage);
        if let Some(away) = self.setup.leaves {
            let away = away.mul_f64(0.5 + self.chance.part());
            let back = crate::world::Fate::Starts(self.peer);
            stage.plan(stage.now + away, crate::stage::Event::World(back));
        }
    }

    fn go(&mut self, stage: &mut Stage) {
        self.machine = None;
        self.connected = false;
        stage.disconnect(self.peer, self.setup.coordinator);
        stage.stop(self.peer, Stop::Left);
    }

    fn cancel(&mut self, stage: &mut Stage) {
        if self.satisfied {
            return;
        }
        let request = CustomerRequest::Cancel(self.setup.task);
        let to = self.setup.coordinator;
        let ask = stage.ask(self.peer, to, Body::CustomerAsked(request));
        self.cancels.insert(ask);
    }

    fn hear_of_cancel(&mut self, stage: &mut Stage, reply: &CustomerReply) {
        // The machine hears of the end by itself, at its next question.
        if let CustomerReply::Refused(Refusal::Busy) = reply {
            self.cancel(stage);
        }
    }
}
