//! From agreed results to receipts, and from the last receipt to the settled task.

use std::time::Duration;

use super::timers::Timer;
use super::{Coordinator, Decided, Effect, Fact};
use crate::account::Holder;
use crate::certificate;
use crate::entry::Event;
use crate::id::{NodeId, TaskId};
use crate::message::work::Unpaid;
use crate::posting;
use crate::receipt::Validation;
use crate::signed::Verified;
use crate::time::Timestamp;

/// How long results that were agreed on wait for others, to be on one receipt with them.
const RECEIPT_EVERY: Duration = Duration::from_secs(1);
/// The most receipts that are signed one after another, about ten milliseconds of work.
const RECEIPTS_AT_ONCE: usize = 256;
/// How long the others wait.
const RECEIPTS_PAUSE: Duration = Duration::from_millis(1);

impl Coordinator {
    /// Tells whoever is not paid why, and lets receipts follow for those who are.
    pub(super) fn after_decision(&mut self, now: Timestamp, task: TaskId, decided: &Decided) {
        for (ballot, reason) in &decided.unpaid {
            let (unit, reason) = (ballot.vote.unit, *reason);
            self.devices
                .tell_unpaid(ballot.holder.device, Unpaid { task, unit, reason });
        }
        self.set_receipt_timer(now, task);
    }

    /// Lets receipts follow for what a task owes, or its settlement if it has ended.
    pub(super) fn set_receipt_timer(&mut self, now: Timestamp, task: TaskId) {
        let goes_on =
            |run: &super::TaskRun| !run.dues.is_clear() || run.is_ended() && !run.dues.settled;
        if self.tasks.get(&task).is_some_and(goes_on) {
            let at = now + RECEIPT_EVERY;
            self.timers.set_at_latest(Timer::Receipts(task), at);
        }
    }

    /// Issues the receipts that a task owes, as many as may be at once, and settles it when it has ended and owes none.
    pub(super) fn pay(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        for _ in 0..RECEIPTS_AT_ONCE {
            let due = self.tasks.get(&task).and_then(|run| run.dues.next_holder());
            let Some((holder, validation)) = due else {
                self.timers.clear(Timer::Receipts(task));
                return self.settle(now, task, out);
            };
            self.issue(now, (task, holder, validation), out);
        }
        self.timers.set(Timer::Receipts(task), now + RECEIPTS_PAUSE);
    }

    fn issue(
        &mut self,
        now: Timestamp,
        (task, holder, validation): (TaskId, Holder, Validation),
        out: &mut Vec<Effect>,
    ) {
        let run = &self.tasks[&task];
        let card = self.cards.version(run.dues.card);
        let due = run
            .dues
            .next((holder, validation), task, (card, &self.config.profile));
        let due = due.expect("the holder has results that are due");
        let receipt = Verified::sign(due.receipt, &self.config.network, &self.config.key);
        let costs = (
            run.dues.cost,
            run.dues.cost_with(receipt.points, validation, card),
        );
        let posting = posting::receipt((receipt.id(), &receipt), (run.task.customer, card), costs);
        let posting = posting.expect("the amounts were bounded before the task was accepted");
        let (signed, batches) = (receipt.signed().clone(), due.batches);
        self.record(
            Fact::Receipted {
                task,
                holder,
                validation,
            },
            out,
        );
        self.devices
            .keep_receipt(holder.device, receipt.id(), signed.clone());
        let event = Event::Receipted {
            receipt: signed,
            batches,
        };
        self.append(now, event, Some(posting), out);
        out.push(Effect::Changed(task));
    }

    /// Frees what is left of the hold of a task for which nothing more will be paid.
    fn settle(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        let is_over =
            |run: &&super::TaskRun| run.is_ended() && run.dues.is_clear() && !run.dues.settled;
        if self.tasks.get(&task).filter(is_over).is_none() {
            return;
        }
        let hold = self.books.hold(posting::hold_of(task));
        let posting = hold.and_then(|hold| posting::settlement(task, hold, now));
        self.record(Fact::Settled(task), out);
        self.append(now, Event::TaskSettled { task, at: now }, posting, out);
        out.push(Effect::Changed(task));
    }

    /// Pays everything that a task owes, however much it is.
    pub(super) fn pay_all(&mut self, now: Timestamp, task: TaskId, out: &mut Vec<Effect>) {
        while self
            .tasks
            .get(&task)
            .is_some_and(|run| !run.dues.settled && run.is_ended())
        {
            self.pay(now, task, out);
        }
    }

    /// Notes whose a device is that has reported results, so that the log has a certificate that holds now.
    pub(super) fn certify(&mut self, now: Timestamp, device: NodeId, out: &mut Vec<Effect>) {
        let Some(shown) = self.devices.certificate(device) else {
            return;
        };
        let known = certificate::holder(device, self.certificates.get(&device), now);
        if known.is_ok_and(|known| known.owner == shown.signer()) {
            return;
        }
        let (shown, certificate) = (shown.clone(), shown.signed().clone());
        self.certificates.insert(device, shown);
        out.push(Effect::Record(Fact::Certified(certificate.clone())));
        self.append(now, Event::DeviceCertified { certificate }, None, out);
    }
}
