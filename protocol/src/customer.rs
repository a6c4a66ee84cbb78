//! The customer: submits one task, follows it, fetches its result.
//!
//! A state machine without I/O for one task, driven like the [coordinator](crate::coordinator). The connection, the
//! coordinator or this process may go away at any moment: every step can be repeated, so after each failure the
//! machine pauses and asks again. While it lives, the shell serves program and input to the coordinator.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::coordinator::Question;
use crate::id::TaskId;
use crate::message::Refusal;
use crate::message::customer::{CustomerReply, CustomerRequest, Phase, TaskStatus};
use crate::signed::Signed;
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;

/// The first pause after a failure; each further one doubles it.
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// The longest pause after failures.
const BACK_OFF_MAX: Duration = Duration::from_secs(15);

/// So many statuses are asked for one after another: most tasks end within them.
const STATUSES_AT_ONCE: u32 = 16;
/// The pause before each further one: a long task changes more often than anybody looks.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// How far a customer follows its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// Until the coordinator has accepted it and has program and input.
    Uploaded,
    /// Until it has ended.
    Ended,
    /// Until its result is here.
    Result,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The coordinator is connected.
    Connected,
    /// The connection is gone.
    Disconnected,
    /// A question was answered.
    Answered {
        /// The question.
        question: Question,
        /// The answer.
        reply: CustomerReply,
    },
    /// A question was not answered.
    Failed(Question),
    /// The result is here, or could not be read.
    Fetched(Result<(), String>),
    /// The time of [`Customer::next_deadline`] has come.
    DeadlineReached,
}

/// What the shell has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the coordinator.
    Ask {
        /// Repeated with the answer.
        question: Question,
        /// What.
        request: CustomerRequest,
    },
    /// Show how far the task is.
    Progress(Box<TaskStatus>),
    /// Read the result from the coordinator.
    Fetch(BlobRef),
    /// The goal is reached, or never will be.
    End(Ending),
}

/// How following a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// As far as was asked for; with the last status.
    Reached(Box<TaskStatus>),
    /// The coordinator refuses the task, or does not know it.
    Refused(Refusal),
}

/// One task as its customer follows it.
#[derive(Debug)]
pub struct Customer {
    task: TaskId,
    /// Submitted unless the coordinator is known to have it.
    signed: Option<Signed<Task>>,
    goal: Goal,
    connected: bool,
    asked: u64,
    failures: u32,
    /// Statuses that were heard without a failure in between.
    statuses: u32,
    /// The version of the last of them.
    seen: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The next question is due at this moment.
    Pausing(Timestamp),
    Asking(Question),
    Fetching(Box<TaskStatus>),
    Ended,
}

impl Customer {
    /// Follows `task` up to `goal`. `signed` is given if it may not have been submitted yet.
    #[must_use]
    pub const fn new(task: TaskId, signed: Option<Signed<Task>>, goal: Goal) -> Self {
        let state = State::Pausing(Timestamp::from_millis(0));
        Self {
            task,
            signed,
            goal,
            connected: false,
            asked: 0,
            failures: 0,
            statuses: 0,
            seen: 0,
            state,
        }
    }

    /// Takes one input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connected => {
                self.connected = true;
                self.failures = 0;
                if matches!(self.state, State::Pausing(_)) {
                    self.state = State::Pausing(now);
                }
            }
            Input::Disconnected => self.connected = false,
            Input::Answered { question, reply } if self.is_asking(question) => {
                self.answered(now, reply, out)
            }
            Input::Failed(question) if self.is_asking(question) => self.pause(now),
            Input::Fetched(result) => self.fetched(now, result, out),
            Input::Answered { .. } | Input::Failed(_) | Input::DeadlineReached => {}
        }
        if let State::Pausing(at) = self.state
            && self.connected
            && at <= now
        {
            self.ask(out);
        }
    }

    /// Returns when [`Input::DeadlineReached`] is due next.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Timestamp> {
        if let State::Pausing(at) = self.state
            && self.connected
        {
            Some(at)
        } else {
            None
        }
    }

    fn is_asking(&self, question: Question) -> bool {
        matches!(self.state, State::Asking(asked) if asked == question)
    }

    fn ask(&mut self, out: &mut Vec<Effect>) {
        self.asked += 1;
        let question = Question(self.asked);
        let request = match &self.signed {
            Some(signed) => CustomerRequest::Submit(signed.clone()),
            None => CustomerRequest::Watch {
                task: self.task,
                seen: self.seen,
            },
        };
        self.state = State::Asking(question);
        out.push(Effect::Ask { question, request });
    }

    fn pause(&mut self, now: Timestamp) {
        let pause = (BACK_OFF_MIN * 2_u32.pow(self.failures.min(8))).min(BACK_OFF_MAX);
        self.failures += 1;
        // What was missed meanwhile is to be told at once.
        (self.statuses, self.seen) = (0, 0);
        self.state = State::Pausing(now + pause);
    }

    fn answered(&mut self, now: Timestamp, reply: CustomerReply, out: &mut Vec<Effect>) {
        match reply {
            CustomerReply::Status(status) if status.summary.task == self.task => {
                // A result that cannot be fetched is asked for less and less often.
                if !status.summary.phase.is_final() {
                    self.failures = 0;
                }
                self.signed = None;
                out.push(Effect::Progress(status.clone()));
                self.advance(now, status, out);
            }
            CustomerReply::Refused(Refusal::Busy) => self.pause(now),
            CustomerReply::Refused(refusal) => self.end(Ending::Refused(refusal), out),
            // An answer to another question than was asked: as good as none.
            CustomerReply::Status(_) | CustomerReply::Tasks(_) | CustomerReply::Terms(_) => {
                self.pause(now)
            }
        }
    }

    fn advance(&mut self, now: Timestamp, status: Box<TaskStatus>, out: &mut Vec<Effect>) {
        let reached = match (self.goal, &status.summary.phase) {
            (Goal::Uploaded, phase) => *phase != Phase::Uploading,
            (Goal::Ended | Goal::Result, phase) => phase.is_final(),
        };
        if let (Goal::Result, Phase::Done, Some(result)) =
            (self.goal, &status.summary.phase, status.result)
        {
            out.push(Effect::Fetch(result));
            self.state = State::Fetching(status);
        } else if reached {
            self.end(Ending::Reached(status), out);
        } else {
            self.seen = status.version;
            self.statuses = self.statuses.saturating_add(1);
            let at_once = self.statuses < STATUSES_AT_ONCE;
            let pause = if at_once {
                Duration::ZERO
            } else {
                STATUS_EVERY
            };
            self.state = State::Pausing(now + pause);
        }
    }

    fn fetched(&mut self, now: Timestamp, result: Result<(), String>, out: &mut Vec<Effect>) {
        let State::Fetching(status) = &self.state else {
            return;
        };
        match result {
            Ok(()) => {
                let status = status.clone();
                self.end(Ending::Reached(status), out);
            }
            Err(_) => self.pause(now),
        }
    }

    fn end(&mut self, ending: Ending, out: &mut Vec<Effect>) {
        self.state = State::Ended;
        out.push(Effect::End(ending));
    }
}
