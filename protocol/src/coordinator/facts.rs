//! What must survive a crash: facts, the state that they fold into, and snapshots of it.
//!
//! Invariant: durable state changes only in [`Coordinator::apply`], and in [`Coordinator::replay`] where a signature
//! is checked first; both give the same state for the same facts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::task_run::{Decided, Stage, TaskRecord, TaskRun};
use super::treasury::Lots;
use super::units::Ballot;
use super::{Coordinator, CoordinatorConfig, Division, Effect, Reservation, SettlementRecord};
use crate::account::Holder;
use crate::agreement::Agreement;
use crate::books::Books;
use crate::certificate::DeviceCertificate;
use crate::codec::{self, DecodeError};
use crate::countersignature::{Countersigned, PairError, VerifiedPair};
use crate::entry::Ending;
use crate::id::{Hash, NodeId, PostingId, RedemptionId, TaskId};
use crate::message::work::{Batch, UnitResult};
use crate::rate_card::RateCard;
use crate::receipt::Validation;
use crate::redemption::{Redemption, Reversal};
use crate::registration::{Registration, Revocation};
use crate::signed::{Signed, VerifyError};
use crate::task::{BlobRef, Task};
use crate::time::Timestamp;
use crate::unit::{Fault, Outcome};

/// What happened, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A task was accepted.
    Accepted {
        /// As signed.
        signed: Signed<Task>,
        /// When.
        at: Timestamp,
    },
    /// Program and input are here.
    Arrived(TaskId),
    /// The input was cut.
    Divided {
        /// The task.
        task: TaskId,
        /// How.
        division: Division,
    },
    /// A device reported units.
    Reported {
        /// The task.
        task: TaskId,
        /// The device, and whose it is.
        holder: Holder,
        /// The root of the batch it signed.
        batch: Hash,
        /// The batch.
        signed: Signed<Batch>,
        /// When the first of the units was leased.
        leased_at: Timestamp,
        /// When.
        at: Timestamp,
        /// What it reported.
        votes: Vec<Vote>,
    },
    /// A device reported a unit whose result was known.
    Answered {
        /// The task.
        task: TaskId,
        /// The device, and whose it is.
        holder: Holder,
        /// The root of the batch it signed.
        batch: Hash,
        /// The batch.
        signed: Signed<Batch>,
        /// When the unit was leased.
        leased_at: Timestamp,
        /// When.
        at: Timestamp,
        /// What it reported.
        vote: Vote,
        /// What that is compared with the known result.
        compared: Compared,
    },
    /// A device could not run a unit.
    Faulted {
        /// The task.
        task: TaskId,
        /// The device.
        device: NodeId,
        /// The unit.
        unit: u32,
        /// Why.
        fault: Fault,
        /// When.
        at: Timestamp,
    },
    /// The outputs were merged and an editor comes next.
    Merged {
        /// The task.
        task: TaskId,
        /// The merged result.
        merged: BlobRef,
    },
    /// The task ended.
    Ended {
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
        /// When.
        at: Timestamp,
    },
    /// A device got its next receipt for a task.
    Receipted {
        /// The task.
        task: TaskId,
        /// The device, and whose it is.
        holder: Holder,
        /// What kind of results it pays.
        validation: Validation,
    },
    /// Nothing more will be paid for a task.
    Settled(TaskId),
    /// The task was forgotten.
    Forgotten(TaskId),
    /// A rate card was published.
    Published(Signed<RateCard>),
    /// A device has shown whose it is.
    Certified(Signed<DeviceCertificate>),
    /// An order was carried out.
    Ordered(PostingId),
    /// An app server proposed an agreement.
    Proposed(Signed<Agreement>),
    /// The operator declined what an app server proposed.
    Declined(NodeId),
    /// An agreement was made.
    Agreed(Countersigned<Agreement>),
    /// A device is registered at an app server.
    Registered(Signed<Registration>),
    /// It is not any more.
    Revoked(Signed<Revocation>),
    /// Points were set aside.
    Reserved(Box<Reservation>),
    /// They are free again.
    ReservationEnded(RedemptionId),
    /// They were taken.
    Redeemed(Signed<Redemption>),
    /// They were given back.
    Reversed(Signed<Reversal>),
    /// A settlement was made.
    SettlementMade(Box<SettlementRecord>),
}

/// One device's result of one unit, as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VoteParts", into = "VoteParts")]
pub struct Vote {
    /// The unit.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// Its leaf in the batch, from 0.
    pub leaf: u32,
}

/// What an answer to a known unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// The same as the known one, bit for bit.
    Same,
    /// Another.
    Other,
}

/// A vote as it is recorded.
type VoteParts = (u32, Outcome, u64, BlobRef, u32);

impl Vote {
    /// Takes what is compared out of a result, which is leaf `leaf` of its batch.
    pub(super) const fn of(leaf: u32, result: &UnitResult) -> Self {
        Self {
            unit: result.unit,
            outcome: result.outcome,
            fuel: result.fuel,
            output: result.output,
            leaf,
        }
    }

    fn ballot(&self, (holder, leased_at): (Holder, Timestamp), batch: Hash) -> Ballot {
        Ballot {
            holder,
            vote: *self,
            batch,
            leased_at,
        }
    }

    /// Returns whether both say the same: outcome with exit code, output and fuel, bit for bit.
    pub(super) fn same(&self, other: &Self) -> bool {
        (self.outcome, self.output, self.fuel) == (other.outcome, other.output, other.fuel)
    }
}

impl From<VoteParts> for Vote {
    fn from((unit, outcome, fuel, output, leaf): VoteParts) -> Self {
        Self {
            unit,
            outcome,
            fuel,
            output,
            leaf,
        }
    }
}

impl From<Vote> for VoteParts {
    fn from(vote: Vote) -> Self {
        (vote.unit, vote.outcome, vote.fuel, vote.output, vote.leaf)
    }
}

/// Why a coordinator's state cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot is damaged.
    #[error("read the snapshot of the coordinator")]
    Snapshot(#[source] DecodeError),
    /// A fact is damaged.
    #[error("read fact {index} of the coordinator's journal")]
    Fact {
        /// Place in the journal after the snapshot.
        index: u64,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// A recorded signature does not hold.
    #[error("verify a recorded statement")]
    Statement(#[source] VerifyError),
    /// A task names a rate card that was never published.
    #[error("find the rate card of task {0}")]
    Card(TaskId),
    /// A recorded agreement is not one.
    #[error("verify a recorded agreement")]
    Agreement(#[source] PairError),
    /// A recorded settlement is not one.
    #[error("verify a recorded settlement")]
    Settlement(#[source] PairError),
}

/// The largest fact or snapshot that is read back, in bytes: a division into 10^6 units has 9 MB.
const STATE_BYTES_MAX: usize = 1 << 30;

/// What a snapshot holds.
#[derive(Debug, Serialize, Deserialize)]
struct StateRecord {
    cards: Vec<Signed<RateCard>>,
    certificates: Vec<Signed<DeviceCertificate>>,
    orders: BTreeSet<PostingId>,
    tasks: Vec<TaskRecord>,
    /// Agreements, registrations, redemptions and settlements, as the facts that make them again.
    partners: Vec<Fact>,
}

impl Coordinator {
    /// Starts from what was recorded: a snapshot, if there is one, the facts since, and the books.
    ///
    /// # Errors
    /// [`RestoreError`] if something recorded cannot be read.
    pub fn restore<B: AsRef<[u8]>>(
        config: CoordinatorConfig,
        seed: [u8; 32],
        (snapshot, books): (Option<&[u8]>, Books),
        facts: impl IntoIterator<Item = B>,
    ) -> Result<Self, RestoreError> {
        let mut restored = Self::new(config, seed);
        restored.books = books;
        if let Some(bytes) = snapshot {
            let record =
                codec::from_bytes(bytes, STATE_BYTES_MAX).map_err(RestoreError::Snapshot)?;
            restored.load(record)?;
        }
        for (index, bytes) in (0..).zip(facts) {
            let fact = codec::from_bytes(bytes.as_ref(), STATE_BYTES_MAX)
                .map_err(|source| RestoreError::Fact { index, source })?;
            restored.replay(fact)?;
        }
        restored.lots = Lots::of(&restored.books, &restored.cards);
        Ok(restored)
    }

    fn load(&mut self, record: StateRecord) -> Result<(), RestoreError> {
        for card in record.cards {
            self.replay(Fact::Published(card))?;
        }
        for certificate in record.certificates {
            self.replay(Fact::Certified(certificate))?;
        }
        self.orders = record.orders;
        for task in record.tasks {
            let run = task.restore(&self.config.network);
            let run = run.map_err(RestoreError::Statement)?;
            self.tasks.insert(run.id(), run);
        }
        record
            .partners
            .into_iter()
            .try_for_each(|fact| self.replay_partner(fact))
    }

    fn replay(&mut self, fact: Fact) -> Result<(), RestoreError> {
        let network = &self.config.network;
        match fact {
            Fact::Accepted { signed, at } => {
                let task = signed.verify(network).map_err(RestoreError::Statement)?;
                let card = self.cards.find(task.rate_card);
                let card = card
                    .ok_or_else(|| RestoreError::Card(task.task_id()))?
                    .version;
                let run = TaskRun::new(task, at, card);
                self.tasks.insert(run.id(), run);
            }
            Fact::Published(card) => {
                let card = card.verify(network).map_err(RestoreError::Statement)?;
                self.cards.add(card);
            }
            Fact::Certified(certificate) => {
                let certificate = certificate
                    .verify(network)
                    .map_err(RestoreError::Statement)?;
                self.certificates.insert(certificate.device, certificate);
            }
            fact @ (Fact::Arrived(_)
            | Fact::Divided { .. }
            | Fact::Reported { .. }
            | Fact::Answered { .. }
            | Fact::Faulted { .. }
            | Fact::Merged { .. }
            | Fact::Ended { .. }
            | Fact::Receipted { .. }
            | Fact::Settled(_)
            | Fact::Forgotten(_)
            | Fact::Ordered(_)) => drop(self.apply(&fact)),
            fact @ (Fact::Proposed(_)
            | Fact::Declined(_)
            | Fact::Agreed(_)
            | Fact::Registered(_)
            | Fact::Revoked(_)
            | Fact::Reserved(_)
            | Fact::ReservationEnded(_)
            | Fact::Redeemed(_)
            | Fact::Reversed(_)
            | Fact::SettlementMade(_)) => return self.replay_partner(fact),
        }
        Ok(())
    }

    /// Folds a fact about an app server.
    fn replay_partner(&mut self, fact: Fact) -> Result<(), RestoreError> {
        let network = &self.config.network;
        let statement = RestoreError::Statement;
        match fact {
            Fact::Proposed(agreement) => {
                let agreement = agreement.verify(network).map_err(statement)?;
                self.agreements.propose(agreement);
            }
            Fact::Declined(app_server) => self.agreements.decline(app_server),
            Fact::Agreed(agreement) => {
                let pair = agreement.verify(network).map_err(RestoreError::Agreement)?;
                self.agreements.make(pair);
            }
            Fact::Registered(registration) => {
                let registration = registration.verify(network).map_err(statement)?;
                self.registrations.add(registration);
            }
            Fact::Revoked(revocation) => {
                let revocation = revocation.verify(network).map_err(statement)?;
                self.registrations.revoke(revocation);
            }
            Fact::Reserved(reservation) => {
                let redeem = reservation.redeem.clone();
                let redeem = redeem.verify(network).map_err(statement)?;
                let agreement = self.agreements.find(reservation.agreement);
                let agreement = agreement.map(VerifiedPair::value);
                self.redemptions.reserve(&redeem, *reservation, agreement);
            }
            Fact::ReservationEnded(id) => self.redemptions.end(id),
            Fact::Redeemed(redemption) => {
                let verified = redemption.clone().verify(network).map_err(statement)?;
                let id = RedemptionId::of(&verified.redeem);
                self.redemptions.post(redemption, id);
            }
            Fact::Reversed(reversal) => {
                let verified = reversal.clone().verify(network).map_err(statement)?;
                self.redemptions.reverse(reversal, verified.redemption);
            }
            Fact::SettlementMade(record) => {
                let pair = record.settlement.clone().verify(network);
                self.note_settlement(pair.map_err(RestoreError::Settlement)?, &record);
            }
            Fact::Accepted { .. }
            | Fact::Arrived(_)
            | Fact::Divided { .. }
            | Fact::Reported { .. }
            | Fact::Answered { .. }
            | Fact::Faulted { .. }
            | Fact::Merged { .. }
            | Fact::Ended { .. }
            | Fact::Receipted { .. }
            | Fact::Settled(_)
            | Fact::Forgotten(_)
            | Fact::Published(_)
            | Fact::Certified(_)
            | Fact::Ordered(_) => {}
        }
        Ok(())
    }

    /// Returns what a new [`Coordinator`] needs instead of all facts so far.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let certificates = self.certificates.values();
        codec::to_bytes(&StateRecord {
            cards: self.cards.signed().cloned().collect(),
            certificates: certificates.map(|shown| shown.signed().clone()).collect(),
            orders: self.orders.clone(),
            tasks: self.tasks.values().map(TaskRun::record).collect(),
            partners: self
                .agreements
                .facts()
                .chain(self.registrations.facts())
                .chain(self.redemptions.facts())
                .chain(self.settlement_facts())
                .collect(),
        })
    }

    /// Changes the state by a fact that is recorded with it.
    pub(super) fn record(&mut self, fact: Fact, out: &mut Vec<Effect>) -> Decided {
        let decided = self.apply(&fact);
        out.push(Effect::Record(fact));
        decided
    }

    /// Changes the state by a fact: the only place where durable state changes, but for what [`Self::replay`] verifies.
    pub(super) fn apply(&mut self, fact: &Fact) -> Decided {
        if let Fact::Forgotten(task) = fact {
            self.tasks.remove(task);
        } else if let Fact::Ordered(posting) = fact {
            self.orders.insert(*posting);
            self.settlements.pay(*posting);
        }
        let Some(run) = fact.task().and_then(|task| self.tasks.get_mut(&task)) else {
            return Decided::default();
        };
        run.version += 1;
        let card = self.cards.version(run.dues.card);
        run.apply(fact, card)
    }
}

impl TaskRun {
    fn apply(&mut self, fact: &Fact, card: &RateCard) -> Decided {
        match fact {
            Fact::Accepted { .. }
            | Fact::Forgotten(_)
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
            Fact::Arrived(_) => self.stage = Stage::Dividing,
            Fact::Divided { division, .. } => self.start(division.clone(), card),
            Fact::Reported {
                holder,
                batch,
                signed,
                leased_at,
                at,
                votes,
                ..
            } => {
                let ballot = |vote: &Vote| vote.ballot((*holder, *leased_at), *batch);
                let ballots = votes.iter().map(ballot).collect();
                return self.report((*batch, signed), ballots, (*at, card));
            }
            Fact::Answered {
                holder,
                batch,
                signed,
                leased_at,
                at,
                vote,
                compared,
                ..
            } => {
                let ballot = vote.ballot((*holder, *leased_at), *batch);
                return self.answered((*batch, signed), (ballot, *compared), (*at, card));
            }
            Fact::Faulted {
                device,
                unit,
                fault,
                at,
                ..
            } => {
                return self.fault((*device, *unit), *fault, (*at, card));
            }
            Fact::Merged { merged, .. } => self.edit(*merged),
            Fact::Ended { ending, at, .. } => {
                let unpaid = self.end(ending.clone(), *at);
                return Decided {
                    unpaid,
                    ..Decided::default()
                };
            }
            Fact::Receipted {
                holder, validation, ..
            } => self.dues.receipted(*holder, *validation, card),
            Fact::Settled(_) => self.dues.settled = true,
        }
        Decided::default()
    }
}

impl Fact {
    /// Returns the task that the fact changes; none for an acceptance, which makes one.
    const fn task(&self) -> Option<TaskId> {
        match self {
            Self::Accepted { .. }
            | Self::Published(_)
            | Self::Certified(_)
            | Self::Ordered(_)
            | Self::Proposed(_)
            | Self::Declined(_)
            | Self::Agreed(_)
            | Self::Registered(_)
            | Self::Revoked(_)
            | Self::Reserved(_)
            | Self::ReservationEnded(_)
            | Self::Redeemed(_)
            | Self::Reversed(_)
            | Self::SettlementMade(_) => None,
            Self::Arrived(task)
            | Self::Divided { task, .. }
            | Self::Reported { task, .. }
            | Self::Answered { task, .. }
            | Self::Faulted { task, .. }
            | Self::Merged { task, .. }
            | Self::Ended { task, .. }
            | Self::Receipted { task, .. }
            | Self::Settled(task)
            | Self::Forgotten(task) => Some(*task),
        }
    }
}
