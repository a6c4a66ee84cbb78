//! The owner of a terminal sits down at the computer and goes again, opens what needs its memory, shuts the lid.
//!
//! A suspended unit goes on where it was: what is left of it takes its time from then on. A computer that sleeps takes
//! nothing; what came meanwhile it takes when it wakes, in the order in which it came.

use std::time::Duration;

use tally_protocol::terminal::{Allowance, Input};

use super::runs::Computed;
use super::{MEMORY_BYTES, TerminalNode, Within};
use crate::happening::{Happening, Interruption};
use crate::moment::Moment;
use crate::scenario::Interrupted;
use crate::stage::{Envelope, Stage};

/// What the owner of a terminal does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// How it interrupts.
    pub(crate) interrupted: Interrupted,
    /// From when on it leaves the computer alone.
    pub(crate) calm: Option<Moment>,
}

/// Where the owner is, and what waits for it to go.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Since when it sits there, and nothing runs.
    pub(super) since: Option<Moment>,
    /// How long it has sat there before.
    pub(super) before: Duration,
    /// Units that are suspended, with what is left of them.
    pub(super) halted: Vec<(Computed, Duration)>,
    /// Jobs that were begun and have not started.
    pub(super) waiting: Vec<super::runs::Waiting>,
    /// What came while the computer sleeps, if it does.
    asleep: Option<Vec<Missed>>,
}

/// What a sleeping computer has not taken.
#[derive(Debug)]
enum Missed {
    Within(Within),
    Envelope(Envelope),
    NoAnswer(u64),
}

impl TerminalNode {
    /// Plans when the owner comes for the first time.
    pub(super) fn expect_owner(&mut self, stage: &mut Stage) {
        if let Some(owner) = self.setup.owner {
            let away = self.chance.exponential(owner.interrupted.away);
            self.plan(stage, stage.now + away, Within::Owner);
        }
    }

    /// The owner comes or goes.
    pub(super) fn owner_turns(&mut self, stage: &mut Stage) {
        let (Some(owner), Some(up)) = (self.setup.owner, &self.up) else {
            return;
        };
        let is_calm = owner.calm.is_some_and(|calm| calm <= stage.now);
        let Interrupted {
            away,
            present,
            withdraws,
            sleeps,
        } = owner.interrupted;
        if up.seat.since.is_some() {
            self.resume(stage);
            if !is_calm {
                let at = stage.now + self.chance.exponential(away);
                self.plan(stage, at, Within::Owner);
            }
        } else if is_calm {
            // It stays away.
        } else if self.chance.happens(sleeps) {
            self.note_interruption(stage, Interruption::Slept);
            if let Some(up) = &mut self.up {
                up.seat.asleep = Some(Vec::new());
            }
            let at = stage.now + self.chance.exponential(present);
            self.plan(stage, at, Within::LidOpens);
        } else {
            self.suspend(stage);
            let at = stage.now + self.chance.exponential(present);
            self.plan(stage, at, Within::Owner);
            if self.chance.happens(withdraws) {
                let within = self.chance.between(Duration::ZERO, at.since(stage.now));
                self.plan(stage, stage.now + within, Within::MemoryNeeded);
            }
        }
    }

    fn suspend(&mut self, stage: &mut Stage) {
        if let Some(up) = &mut self.up {
            up.seat.since = Some(stage.now);
        }
        self.note_interruption(stage, Interruption::Suspended);
        let allowance = Allowance {
            run: false,
            ..self.allowance()
        };
        self.feed(stage, Input::Allowed(Box::new(allowance)));
    }

    fn resume(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let since = up.seat.since.take().unwrap_or(stage.now);
        up.seat.before += stage.now.since(since);
        let before = up.seat.before;
        let halted = std::mem::take(&mut up.seat.halted);
        let waiting = std::mem::take(&mut up.seat.waiting);
        self.note_interruption(stage, Interruption::Resumed);
        for (computed, left) in halted {
            let computed = Computed { before, ..computed };
            self.plan(stage, stage.now + left, Within::Computed(computed));
        }
        for waiting in waiting {
            self.run(stage, waiting);
        }
        let allowance = self.allowance();
        self.feed(stage, Input::Allowed(Box::new(allowance)));
    }

    pub(super) fn memory_needed(&mut self, stage: &mut Stage) {
        if self.up.as_ref().is_some_and(|up| up.seat.since.is_some()) {
            self.note_interruption(stage, Interruption::MemoryNeeded);
            self.feed(stage, Input::Withdraw);
        }
    }

    /// The computer wakes and takes what came meanwhile.
    pub(super) fn wakes_up(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let missed = up.seat.asleep.take().unwrap_or_default();
        (up.wake, up.watch_wake) = (None, None);
        self.note_interruption(stage, Interruption::Woke);
        for missed in missed {
            match missed {
                // Deadlines are looked at anyway.
                Missed::Within(Within::Wake | Within::Watch) => {}
                Missed::Within(what) => self.within(stage, what),
                Missed::Envelope(envelope) => self.arrive(stage, envelope),
                Missed::NoAnswer(ask) => self.unanswered(stage, ask),
            }
        }
        self.feed(stage, Input::DeadlineReached);
        self.plan_watch(stage);
        self.expect_owner(stage);
    }

    /// Keeps what comes within a computer that sleeps; returns it if it is awake.
    pub(super) fn miss_within(&mut self, what: Within) -> Option<Within> {
        match self.asleep() {
            Some(missed) if !matches!(what, Within::LidOpens) => {
                missed.push(Missed::Within(what));
                None
            }
            _ => Some(what),
        }
    }

    pub(super) fn miss_envelope(&mut self, envelope: Envelope) -> Option<Envelope> {
        let Some(missed) = self.asleep() else {
            return Some(envelope);
        };
        missed.push(Missed::Envelope(envelope));
        None
    }

    pub(super) fn miss_no_answer(&mut self, ask: u64) -> Option<u64> {
        let Some(missed) = self.asleep() else {
            return Some(ask);
        };
        missed.push(Missed::NoAnswer(ask));
        None
    }

    fn asleep(&mut self) -> Option<&mut Vec<Missed>> {
        self.up.as_mut()?.seat.asleep.as_mut()
    }

    fn note_interruption(&self, stage: &mut Stage, how: Interruption) {
        let of = self.peer;
        stage.note(&Happening::Interrupted { of, how });
    }

    /// Returns what the owner allows while it is away.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance::all(usize::from(self.setup.slots), MEMORY_BYTES)
    }
}
