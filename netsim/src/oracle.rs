//! Oracles: what must hold whatever happens. Each looks on, and says when it does not.
//!
//! An oracle never changes a world and never draws. It judges by what it has seen and by the [`Reference`]; after the
//! last event it may look into the nodes. The first thing that an oracle finds ends the run.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an oracle judges a few kinds of happenings among many"
)]

mod bounded;
mod credited;
mod done;
mod durable;
mod ends;
mod fenced;
mod forks;
mod left;
mod obeyed;
mod owing;
mod paid;
mod partners;
mod receipts;
mod registered;
mod right;
mod sold;
mod spent;
mod table;

use std::fmt;

use tally_ledger::store::{Change, Store};
use tally_protocol::app_server::{AppServer, Effect};
use tally_protocol::coordinator::Coordinator;

use crate::happening::{Happening, Observer};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::report::OracleReport;
use crate::world::World;

/// What an oracle says of what it was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// That is not what it looks at.
    Nothing,
    /// As it should be.
    Holds,
    /// It is wrong: in what way.
    Breaks(String),
}

impl Check {
    /// Holds if the condition does; else `wrong` says in what way it does not.
    pub fn that(condition: bool, wrong: impl FnOnce() -> String) -> Self {
        if condition {
            Self::Holds
        } else {
            Self::Breaks(wrong())
        }
    }
}

/// Something that must hold.
pub trait Oracle: fmt::Debug {
    /// Returns its name.
    fn name(&self) -> &'static str;

    /// Returns what always holds, in a sentence.
    fn claim(&self) -> &'static str;

    /// Judges a happening.
    fn see(&mut self, reference: &Reference, at: Moment, what: &Happening) -> Check {
        let _ = (reference, at, what);
        Check::Nothing
    }

    /// Judges a group of records that a coordinator is about to write.
    fn commits(&mut self, reference: &Reference, coordinator: Peer, change: &Change) -> Check {
        let _ = (reference, coordinator, change);
        Check::Nothing
    }

    /// Judges what a coordinator has restored at its start.
    fn restored(
        &mut self,
        reference: &Reference,
        coordinator: Peer,
        (machine, store): (&Coordinator, &Store),
    ) -> Check {
        let _ = (reference, coordinator, machine, store);
        Check::Nothing
    }

    /// Judges a group of records that an app server is about to write, with what follows from them.
    fn sells(
        &mut self,
        reference: &Reference,
        app_server: Peer,
        (effects, change): (&[Effect], &Change),
    ) -> Check {
        let _ = (reference, app_server, effects, change);
        Check::Nothing
    }

    /// Judges what an app server has restored at its start.
    fn shop_restored(
        &mut self,
        reference: &Reference,
        app_server: Peer,
        (machine, store): (&AppServer, &Store),
    ) -> Check {
        let _ = (reference, app_server, machine, store);
        Check::Nothing
    }

    /// Judges the world now and then.
    fn sample(&mut self, reference: &Reference, world: &World) -> Check {
        let _ = (reference, world);
        Check::Nothing
    }

    /// Judges the world after its last event.
    fn at_end(&mut self, reference: &Reference, world: &World) -> Check {
        let _ = (reference, world);
        Check::Nothing
    }
}

/// What an oracle found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The oracle.
    pub oracle: &'static str,
    /// When.
    pub at: Moment,
    /// What is wrong.
    pub what: String,
}

/// All oracles of a world.
#[derive(Debug)]
pub struct Oracles {
    reference: Reference,
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    oracle: Box<dyn Oracle>,
    checks: u64,
    finding: Option<Finding>,
}

impl Seat {
    fn note(&mut self, at: Moment, check: Check) {
        self.checks += u64::from(check != Check::Nothing);
        if let (Check::Breaks(what), None) = (check, &self.finding) {
            let oracle = self.oracle.name();
            self.finding = Some(Finding { oracle, at, what });
        }
    }
}

impl Oracles {
    /// Seats all oracles.
    #[must_use]
    pub fn new(reference: Reference) -> Self {
        let oracles: Vec<Box<dyn Oracle>> = vec![
            Box::new(credited::Credited::default()),
            Box::new(done::Done::default()),
            Box::new(right::Right::default()),
            Box::new(fenced::Fenced::default()),
            Box::new(durable::Durable::default()),
            Box::new(bounded::Bounded),
            Box::new(ends::Ends),
            Box::new(left::Left),
            Box::new(obeyed::Obeyed::default()),
            Box::new(paid::Paid::default()),
            Box::new(receipts::Receipts::default()),
            Box::new(owing::Owing::default()),
            Box::new(forks::Forks::default()),
            Box::new(registered::Registered::default()),
            Box::new(spent::Spent::default()),
            Box::new(sold::Sold::default()),
            Box::new(partners::Partners::default()),
        ];
        let seat = |oracle| Seat {
            oracle,
            checks: 0,
            finding: None,
        };
        Self {
            reference,
            seats: oracles.into_iter().map(seat).collect(),
        }
    }

    /// Seats nobody.
    pub(crate) fn nobody() -> Self {
        Self {
            reference: Reference::default(),
            seats: Vec::new(),
        }
    }

    /// Returns what should come of the world.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns what was found first.
    #[must_use]
    pub fn first_finding(&self) -> Option<&Finding> {
        let findings = self.seats.iter().filter_map(|seat| seat.finding.as_ref());
        findings.min_by_key(|finding| finding.at)
    }

    /// Returns what each has checked and found.
    #[must_use]
    pub fn reports(&self) -> Vec<OracleReport> {
        let report = |seat: &Seat| OracleReport {
            name: seat.oracle.name(),
            claim: seat.oracle.claim(),
            checks: seat.checks,
            finding: seat
                .finding
                .as_ref()
                .map(|finding| format!("at {}: {}", finding.at, finding.what)),
        };
        self.seats.iter().map(report).collect()
    }

    pub(crate) fn commits(&mut self, at: Moment, coordinator: Peer, change: &Change) {
        for seat in &mut self.seats {
            let check = seat.oracle.commits(&self.reference, coordinator, change);
            seat.note(at, check);
        }
    }

    pub(crate) fn restored(
        &mut self,
        at: Moment,
        coordinator: Peer,
        machine: &Coordinator,
        store: &Store,
    ) {
        for seat in &mut self.seats {
            let restored = (machine, store);
            let check = seat.oracle.restored(&self.reference, coordinator, restored);
            seat.note(at, check);
        }
    }

    pub(crate) fn sells(
        &mut self,
        at: Moment,
        app_server: Peer,
        (effects, change): (&[Effect], &Change),
    ) {
        for seat in &mut self.seats {
            let written = (effects, change);
            let check = seat.oracle.sells(&self.reference, app_server, written);
            seat.note(at, check);
        }
    }

    pub(crate) fn shop_restored(
        &mut self,
        at: Moment,
        app_server: Peer,
        machine: &AppServer,
        store: &Store,
    ) {
        for seat in &mut self.seats {
            let restored = (machine, store);
            let check = seat
                .oracle
                .shop_restored(&self.reference, app_server, restored);
            seat.note(at, check);
        }
    }

    /// Lets all judge the world now and then.
    pub(crate) fn judge_sample(mut self, at: Moment, world: &World) -> Self {
        for seat in &mut self.seats {
            let check = seat.oracle.sample(&self.reference, world);
            seat.note(at, check);
        }
        self
    }

    /// Lets all judge the world after its last event.
    pub(crate) fn judge_end(mut self, at: Moment, world: &World) -> Self {
        for seat in &mut self.seats {
            let check = seat.oracle.at_end(&self.reference, world);
            seat.note(at, check);
        }
        self
    }
}

impl Observer for Oracles {
    fn see(&mut self, at: Moment, what: &Happening) {
        for seat in &mut self.seats {
            let check = seat.oracle.see(&self.reference, at, what);
            seat.note(at, check);
        }
    }
}
