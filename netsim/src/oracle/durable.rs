//! What was told lasts.

use std::collections::{BTreeMap, BTreeSet};

use tally_ledger::audit;
use tally_ledger::store::{Change, Draft, Store};
use tally_protocol::codec;
use tally_protocol::coordinator::{Coordinator, Fact};
use tally_protocol::entry::{Ending, Entry, Event};
use tally_protocol::id::{NodeId, TaskId};
use tally_protocol::merkle::{Frontier, leaf_hash};
use tally_protocol::message::customer::{Phase, TaskStatus};
use tally_protocol::message::work::ResultVerdict;
use tally_protocol::time::Timestamp;

use super::{Check, Oracle};
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::reference::Reference;
use crate::world::World;

/// The longest fact.
const FACT_BYTES_MAX: usize = 1 << 30;
/// The longest log that is audited at every start, in entries.
const AUDITED_MAX: u64 = 100;

/// Keeps a book of its own of what each coordinator has written, and holds it against what is told and restored.
#[derive(Debug, Default)]
pub(super) struct Durable(BTreeMap<Peer, Book>);

/// What a coordinator has written.
#[derive(Debug, Default)]
struct Book {
    /// A hash of each fact of the journal.
    facts: Vec<u64>,
    log: Frontier,
    last_time: Timestamp,
    tasks: BTreeMap<TaskId, Known>,
    /// Votes that became durable last, by device and unit.
    fresh: BTreeSet<(Peer, u32)>,
}

/// What is durable of a task.
#[derive(Debug, Default)]
struct Known {
    done: u32,
    ending: Option<Ending>,
    /// Who voted on units that are not validated.
    votes: BTreeMap<u32, Vec<NodeId>>,
}

impl Oracle for Durable {
    fn name(&self) -> &'static str {
        "durable"
    }

    fn claim(&self) -> &'static str {
        "What a coordinator tells is on its disk before, and there for ever: no crash takes a task, a vote, a done \
         unit, an ending or an entry of the log."
    }

    fn see(&mut self, reference: &Reference, _: Moment, what: &Happening) -> Check {
        match what {
            Happening::Voted { at, by, unit, .. } | Happening::Answered { at, by, unit, .. } => {
                let book = self.0.entry(*at).or_default();
                book.fresh.insert((*by, unit.unit));
                Check::Nothing
            }
            Happening::Judged {
                by,
                to,
                unit,
                verdict: ResultVerdict::Counted,
                ..
            } if reference.is_honest(*by) => {
                let book = self.0.get(by);
                let is_fresh = book.is_some_and(|book| book.fresh.contains(&(*to, *unit)));
                Check::that(is_fresh, || {
                    format!("{to} is told that unit {unit} counts before that is durable")
                })
            }
            Happening::Told {
                by,
                task,
                phase,
                done,
                ..
            } => match self.0.get(by).and_then(|book| book.tasks.get(task)) {
                Some(known) => known.told(*task, phase, *done),
                None => Check::Breaks(format!(
                    "task {} is told to be {phase} before it is durable",
                    task.short()
                )),
            },
            _ => Check::Nothing,
        }
    }

    fn commits(&mut self, _: &Reference, coordinator: Peer, change: &Change) -> Check {
        let book = self.0.entry(coordinator).or_default();
        book.fresh.clear();
        for fact in &change.facts {
            book.facts.push(hash(fact));
            match codec::from_bytes(fact, FACT_BYTES_MAX) {
                Ok(fact) => book.note_fact(fact),
                Err(error) => return Check::Breaks(format!("a fact cannot be read: {error}")),
            }
        }
        for draft in &change.events {
            book.append(draft);
        }
        Check::Nothing
    }

    fn restored(
        &mut self,
        _: &Reference,
        coordinator: Peer,
        (machine, store): (&Coordinator, &Store),
    ) -> Check {
        let book = self.0.entry(coordinator).or_default();
        book.fresh.clear();
        let wrong = |what| Check::Breaks(format!("{coordinator} is back, and {what}"));
        if let Err(what) = book.compare_store(store) {
            return wrong(what);
        }
        if let Err(what) = book.compare_machine(machine, store.identity().node) {
            return wrong(what);
        }
        if book.log.size() > AUDITED_MAX {
            return Check::Holds;
        }
        sound(store)
    }

    fn at_end(&mut self, _: &Reference, world: &World) -> Check {
        let mut stores = world.coordinators();
        let finding = stores.find_map(|(peer, _, store)| {
            let book = self.0.get(&peer)?;
            let check = book.compare_log(store).map_or_else(
                |what| Check::Breaks(format!("of {peer} {what}")),
                |()| sound(store),
            );
            matches!(check, Check::Breaks(_)).then_some(check)
        });
        finding.unwrap_or(Check::Holds)
    }
}

impl Book {
    fn note_fact(&mut self, fact: Fact) {
        match fact {
            Fact::Reported {
                task,
                holder,
                votes,
                ..
            } => {
                if let Some(known) = self.tasks.get_mut(&task) {
                    for vote in votes {
                        known
                            .votes
                            .entry(vote.unit)
                            .or_default()
                            .push(holder.device);
                    }
                }
            }
            Fact::Forgotten(task) => {
                self.tasks.remove(&task);
            }
            Fact::Accepted { .. }
            | Fact::Arrived(_)
            | Fact::Divided { .. }
            | Fact::Faulted { .. }
            | Fact::Merged { .. }
            | Fact::Ended { .. }
            | Fact::Answered { .. }
            | Fact::Receipted { .. }
            | Fact::Settled(_)
            | Fact::Published(_)
            | Fact::Certified(_)
            | Fact::Ordered(_)
            | Fact::Proposed(_)
            | Fact::Declined(_)
            | Fact::Agreed(_)
            | Fact::Registered(_)
            | Fact::Revoked(_)
            | Fact::Reserved(_)
            | Fact::ReservationEnded(_)
            | Fact::Redeemed(_)
            | Fact::Reversed(_)
            | Fact::SettlementMade(_) => {}
        }
    }

    fn append(&mut self, draft: &Draft) {
        match &draft.event {
            Event::TaskAccepted { task, .. } => {
                self.tasks.entry(*task).or_default();
            }
            Event::BatchValidated { task, units, .. } => {
                if let Some(known) = self.tasks.get_mut(task) {
                    for validated in units {
                        known.done += u32::from(validated.outcome.is_done());
                        known.votes.remove(&validated.unit);
                    }
                }
            }
            Event::TaskEnded { task, ending } => {
                if let Some(known) = self.tasks.get_mut(task) {
                    known.ending = Some(ending.clone());
                    known.votes.clear();
                }
            }
            Event::TaskSettled { .. }
            | Event::RateCardPublished { .. }
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
        self.last_time = self.last_time.max(draft.at);
        let entry = Entry {
            sequence: self.log.size(),
            at: self.last_time,
            event: draft.event.clone(),
            posting: draft.posting.clone(),
        };
        self.log.push(leaf_hash(&codec::to_bytes(&entry)));
    }

    fn compare_store(&self, store: &Store) -> Result<(), String> {
        let loaded = store.load().map_err(|error| error.to_string())?;
        let first = loaded.snapshot.as_ref().map_or(0, |found| found.up_to);
        let (found, written) = (loaded.journal_end, self.facts.len() as u64);
        if found != written {
            return Err(format!(
                "its journal has {found} facts, {written} were written"
            ));
        }
        for (position, fact) in (first..).zip(loaded.facts) {
            let fact = fact.map_err(|error| error.to_string())?;
            let place = usize::try_from(position).unwrap_or(usize::MAX);
            if self.facts.get(place) != Some(&hash(&fact)) {
                return Err(format!("fact {position} of its journal is another one"));
            }
        }
        self.compare_log(store)
    }

    fn compare_log(&self, store: &Store) -> Result<(), String> {
        let head = store.head().map_err(|error| error.to_string())?;
        let (found, written) = (head.size(), self.log.size());
        if (found, head.root()) == (written, self.log.root()) {
            return Ok(());
        }
        Err(format!(
            "the log has {found} entries and not the {written} that were written"
        ))
    }

    fn compare_machine(&self, machine: &Coordinator, me: NodeId) -> Result<(), String> {
        for (task, known) in &self.tasks {
            let name = task.short();
            let Some(status) = machine.status(self.last_time, task, me) else {
                return Err(format!("task {name} is lost"));
            };
            let TaskStatus { summary, .. } = &status;
            if summary.done != known.done {
                let (done, before) = (summary.done, known.done);
                return Err(format!(
                    "{done} units of task {name} are done, there were {before}"
                ));
            }
            if ending_of(&status) != known.ending {
                let phase = &summary.phase;
                return Err(format!("task {name} is {phase}, it was {:?}", known.ending));
            }
            for (unit, devices) in &known.votes {
                let lost = |device: &&NodeId| !machine.has_counted(task, *unit, device);
                if devices.iter().any(|device| lost(&device)) {
                    return Err(format!("a vote on unit {unit} of task {name} is lost"));
                }
            }
        }
        Ok(())
    }
}

impl Known {
    fn told(&self, task: TaskId, phase: &str, done: u32) -> Check {
        let ended = self.ending.as_ref().map(|ending| match ending {
            Ending::Done(_) => "done",
            Ending::Failed(_) => "failed",
            Ending::Cancelled => "cancelled",
        });
        let is_final = matches!(phase, "done" | "failed" | "cancelled");
        let is_durable = done <= self.done && (!is_final || ended == Some(phase));
        Check::that(is_durable, || {
            format!(
                "task {} is told to be {phase} with {done} units done, durable are {ended:?} and {}",
                task.short(),
                self.done
            )
        })
    }
}

fn ending_of(status: &TaskStatus) -> Option<Ending> {
    match &status.summary.phase {
        Phase::Done => status.result.map(Ending::Done),
        Phase::Failed(reason) => Some(Ending::Failed(reason.clone())),
        Phase::Cancelled => Some(Ending::Cancelled),
        Phase::Uploading | Phase::Dividing | Phase::Running | Phase::Merging | Phase::Editing => {
            None
        }
    }
}

fn sound(store: &Store) -> Check {
    match audit::verify(store, &mut |_| {}) {
        Ok(report) => match report.finding {
            None => Check::Holds,
            Some(finding) => Check::Breaks(format!("the audit of the log says: {finding}")),
        },
        Err(error) => Check::Breaks(error.to_string()),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}
