//! From submission to running: accept, fetch, divide; and cancelling.

use std::time::Duration;

use super::task_run::{Stage, TaskRun};
use super::{Answer, Coordinator, Customers, Division, Effect, Fact, Question, Timer};
use crate::account::{Account, Commodity};
use crate::entry::{Ending, Event};
use crate::id::{NodeId, TaskId};
use crate::message::Refusal;
use crate::posting;
use crate::rate_card::{Measured, RateCard};
use crate::signed::Verified;
use crate::task::{Split, Task, UNITS_MAX};
use crate::time::Timestamp;
use crate::unit::Outcome;

/// How long the input of an accepted task may take to arrive.
const UPLOAD_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How far from now a task may have been made: against tasks of old that somebody sends again.
const AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

impl Coordinator {
    pub(super) fn submit(
        &mut self,
        now: Timestamp,
        question: Question,
        task: Verified<Task>,
        out: &mut Vec<Effect>,
    ) {
        let id = task.task_id();
        // One that is known is asked for again because the customer did not hear the answer.
        if !self.tasks.contains_key(&id) {
            if let Err(refusal) = self.admit(now, &task) {
                let answer = Answer::Refused(refusal);
                return out.push(Effect::Answer { question, answer });
            }
            self.accept(now, &task, out);
            self.enter_stage(id, now, out);
        }
        let answer = self.status_answer(now, &id, task.signer());
        out.push(Effect::Answer { question, answer });
    }

    /// Accepts an admitted task, and holds what it may cost.
    fn accept(&mut self, now: Timestamp, task: &Verified<Task>, out: &mut Vec<Effect>) {
        let (id, signed) = (task.task_id(), task.signed().clone());
        let card = self.cards.find(task.rate_card);
        let card = card
            .expect("a task is admitted with the card in force")
            .value()
            .clone();
        let posting = if card.rates.is_free() {
            None
        } else {
            let price = card.rates.money(task.max_price);
            posting::acceptance(id, task.customer, price, deadline(now, task))
        };
        out.push(Effect::Record(Fact::Accepted {
            signed: signed.clone(),
            at: now,
        }));
        self.append(now, Event::TaskAccepted { task: id, signed }, posting, out);
        let run = TaskRun::new(task.clone(), now, card.version);
        self.tasks.insert(id, run);
    }

    /// Says whether the task may be accepted.
    fn admit(&self, now: Timestamp, task: &Verified<Task>) -> Result<(), Refusal> {
        let card = self.cards.current().ok_or(Refusal::Busy)?;
        let listed = match &self.config.customers {
            Customers::Any => true,
            Customers::Listed(customers) => customers.contains(&task.signer()),
        };
        // Who pays is welcome.
        let is_admitted = listed || !card.rates.is_free();
        if !is_admitted || task.customer != task.signer() {
            return Err(Refusal::NotAdmitted);
        }
        if now.since(task.created) > AGE_MAX || task.created.since(now) > AGE_MAX {
            return Err(Refusal::Stale);
        }
        task.check()
            .map_err(|error| Refusal::InvalidTask(error.to_string()))?;
        let too_large = |what: &str, bytes: u64, bytes_max: u64| {
            Err(Refusal::InvalidTask(format!(
                "the {what} has {bytes} bytes, this coordinator takes at most {bytes_max}"
            )))
        };
        let (input, program) = (task.input.bytes, task.program.bytes);
        if input > self.config.input_bytes_max {
            return too_large("input", input, self.config.input_bytes_max);
        }
        let editor = task.edit.as_ref().map_or(0, |edit| edit.program.bytes);
        if program.max(editor) > self.config.program_bytes_max {
            return too_large(
                "program",
                program.max(editor),
                self.config.program_bytes_max,
            );
        }
        self.admit_price(task, card)?;
        if self.tasks.len() - self.ended.len() >= self.config.tasks_max {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    /// Says whether the customer can pay the task, and whether its price can be counted.
    fn admit_price(&self, task: &Verified<Task>, card: &Verified<RateCard>) -> Result<(), Refusal> {
        if task.rate_card != card.id() {
            return Err(Refusal::OtherRateCard);
        }
        let rates = &card.rates;
        let largest = Measured {
            outcome: Outcome::Done,
            fuel: task.limits.fuel,
            fuel_limit: task.limits.fuel,
            bytes: task.input.bytes.saturating_add(task.limits.output_bytes),
            pixels: core_pixels_max(task.split),
        };
        let all = rates.points(task.program.id, &largest).and_then(|points| {
            points.checked_mul(u64::from(UNITS_MAX) * u64::from(task.quorum.agree))
        });
        if all.and_then(|points| rates.price.of(points)).is_none() {
            let text = "limits.fuel, limits.output and the input are so large that the price cannot be counted";
            return Err(Refusal::InvalidTask(text.to_owned()));
        }
        if rates.is_free() {
            return Ok(());
        }
        let line = (
            Account::Customer(task.customer),
            Commodity::Money(rates.currency),
        );
        let available = self.books.balance(line.0, line.1).available();
        let available = rates.money(u64::try_from(available).unwrap_or(0));
        let needed = rates.money(task.max_price);
        if needed.minor == 0 {
            let text = "max_price is 0, but work has a price here: see `tally task estimate`";
            return Err(Refusal::InvalidTask(text.to_owned()));
        }
        if needed > available {
            return Err(Refusal::InsufficientFunds { needed, available });
        }
        Ok(())
    }

    pub(super) fn arriving(&mut self, task: TaskId, bytes: u64, out: &mut Vec<Effect>) {
        if let Some(TaskRun {
            stage: Stage::Uploading(arrived),
            version,
            ..
        }) = self.tasks.get_mut(&task)
        {
            *arrived = bytes;
            *version += 1;
            out.push(Effect::Changed(task));
        }
    }

    pub(super) fn arrived(
        &mut self,
        now: Timestamp,
        task: TaskId,
        result: Result<(), String>,
        out: &mut Vec<Effect>,
    ) {
        if !self.is_at(&task, |stage| matches!(stage, Stage::Uploading(_))) {
            return;
        }
        match result {
            Ok(()) => {
                self.record(Fact::Arrived(task), out);
                self.enter_stage(task, now, out);
            }
            Err(reason) => self.end(now, task, Ending::Failed(reason), out),
        }
    }

    pub(super) fn divided(
        &mut self,
        now: Timestamp,
        task: TaskId,
        result: Result<Division, String>,
        out: &mut Vec<Effect>,
    ) {
        if !self.is_at(&task, |stage| matches!(stage, Stage::Dividing)) {
            return;
        }
        match result {
            Ok(division) => {
                self.record(Fact::Divided { task, division }, out);
                self.enter_stage(task, now, out);
                self.after_units(now, task, out);
            }
            Err(reason) => self.end(now, task, Ending::Failed(reason), out),
        }
    }

    /// Asks for what the stage of the task needs from outside.
    pub(super) fn enter_stage(&mut self, task: TaskId, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(run) = self.tasks.get(&task) else {
            return;
        };
        let mut drop_at = None;
        if !run.is_ended() {
            let at = deadline(run.accepted, &run.task);
            self.timers.set(Timer::Deadline(task), at);
        }
        match &run.stage {
            Stage::Uploading(_) => {
                out.push(Effect::Fetch(task));
                drop_at = Some(run.accepted + UPLOAD_MAX);
            }
            Stage::Dividing => out.push(Effect::Divide(task)),
            Stage::Running(_) => {
                self.turns.push(task);
                self.announce(now, task, out);
            }
            Stage::Merging(_) => out.push(Effect::Merge(task)),
            Stage::Editing(_, merged) => {
                let merged = *merged;
                out.push(Effect::Edit { task, merged });
            }
            Stage::Ended(ended) => {
                self.timers.clear(Timer::Deadline(task));
                self.ended.insert((ended.at, task));
                drop_at = Some(ended.at + self.config.retention);
            }
        }
        match drop_at {
            Some(at) => self.timers.set(Timer::Drop(task), at),
            None => self.timers.clear(Timer::Drop(task)),
        }
        out.push(Effect::Changed(task));
    }

    pub(super) fn cancel(
        &mut self,
        now: Timestamp,
        task: TaskId,
        by: NodeId,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let run = self.tasks.get(&task).filter(|run| !run.is_ended());
        if run.is_some_and(|run| by == run.task.customer || by == self.config.me) {
            self.end(now, task, Ending::Cancelled, out);
        }
        self.status_answer(now, &task, by)
    }

    pub(super) fn is_at(&self, task: &TaskId, stage: impl Fn(&Stage) -> bool) -> bool {
        self.tasks.get(task).is_some_and(|run| stage(&run.stage))
    }

    /// Ends a task whose input never came, forgets one whose result was kept long enough.
    pub(super) fn drop_task(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        let Some(run) = self.tasks.get(&task) else {
            return;
        };
        match &run.stage {
            Stage::Uploading(_) if run.accepted + UPLOAD_MAX <= now => {
                let hours = UPLOAD_MAX.as_secs() / 3_600;
                let reason = format!("program and input did not arrive within {hours} hours");
                self.end(now, task, Ending::Failed(reason), out);
            }
            Stage::Ended(ended) if ended.at + self.config.retention <= now => {
                let at = ended.at;
                self.forget(now, (at, task), out);
            }
            Stage::Uploading(_)
            | Stage::Dividing
            | Stage::Running(_)
            | Stage::Merging(_)
            | Stage::Editing(..)
            | Stage::Ended(_) => {}
        }
    }

    /// Ends a task whose time is over.
    pub(super) fn miss_deadline(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        let Some(run) = self.tasks.get(&task).filter(|run| !run.is_ended()) else {
            return;
        };
        let hours = run.task.deadline_millis.div_ceil(3_600_000);
        let reason =
            format!("it was not done by its deadline, {hours} hours after it was accepted");
        self.end(now, task, Ending::Failed(reason), out);
    }

    /// Forgets a task that has ended.
    pub(super) fn forget(
        &mut self,
        now: Timestamp,
        (at, task): (Timestamp, TaskId),
        out: &mut Vec<Effect>,
    ) {
        self.pay_all(now, task, out);
        self.ended.remove(&(at, task));
        self.timers.clear(Timer::Drop(task));
        self.record(Fact::Forgotten(task), out);
        out.push(Effect::Forget(task));
    }
}

/// Returns by when a task that was accepted at `accepted` must have ended.
fn deadline(accepted: Timestamp, task: &Task) -> Timestamp {
    accepted + Duration::from_millis(task.deadline_millis)
}

/// Returns the most pixels that a unit can yield.
fn core_pixels_max(split: Split) -> u64 {
    match split {
        Split::Tiles(tiles) => u64::from(tiles.core) * u64::from(tiles.core),
        Split::Lines(_) | Split::Bytes(_) => 0,
    }
}
