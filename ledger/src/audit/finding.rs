//! What can be wrong with a log.

use std::fmt;

use serde::{Deserialize, Serialize};
use tally_protocol::id::{Hash, NodeId, PostingId, ReceiptId, TaskId};
use tally_protocol::time::Timestamp;

/// Something wrong in a log, or in an export of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding<P = Problem> {
    /// The entry, unless it concerns the whole.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub problem: P,
}

impl<P: fmt::Display> fmt::Display for Finding<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "entry {sequence}: {}", self.problem),
            None => self.problem.fmt(f),
        }
    }
}

/// What is wrong with an entry or the whole log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Problem {
    /// The log says that it has more entries.
    #[error("it is missing")]
    Missing,
    /// The head says that the log ends before.
    #[error("it is stored, but the log ends before it")]
    BeyondTheEnd,
    /// The bytes are no entry.
    #[error("its bytes are no entry: {reason}")]
    Undecodable {
        /// Why not.
        reason: String,
    },
    /// It was written for another place.
    #[error("it says that it is entry {says}")]
    Misplaced {
        /// The place.
        says: u64,
    },
    /// It is older than its predecessor.
    #[error("its time is before {before}, the time of the entry before it")]
    TimeWentBack {
        /// The time of the predecessor.
        before: Timestamp,
    },
    /// The stored leaf is not the hash of the entry.
    #[error("it is not the entry that the tree was made of")]
    Leaf,
    /// A stored inner node does not follow from the leaves below it.
    #[error("a node of the tree over it and the entries before it does not follow from them")]
    Node,
    /// The head is missing or not one.
    #[error("the head of the log is missing or not one")]
    Head,
    /// The stored head is not the one of the entries.
    #[error("the root over the entries is {computed}, stored is {stored}")]
    Root {
        /// What the entries give.
        computed: Hash,
        /// What is stored.
        stored: Hash,
    },
    /// The signature of a task does not hold.
    #[error("the statement of its task: failed to {reason}")]
    Statement {
        /// Why not.
        reason: String,
    },
    /// The signed task is another one.
    #[error("its statement is of task {signed}")]
    OtherTask {
        /// The id of the signed task.
        signed: TaskId,
    },
    /// The task was signed by somebody else than its customer.
    #[error("its task is of customer {customer}, but {signer} signed it")]
    OtherSigner {
        /// Whose task it is.
        customer: NodeId,
        /// Who signed.
        signer: NodeId,
    },
    /// The task had been accepted before.
    #[error("task {task} was accepted before")]
    AcceptedTwice {
        /// The task.
        task: TaskId,
    },
    /// The task was never accepted before.
    #[error("task {task} was not accepted before")]
    NotAccepted {
        /// The task.
        task: TaskId,
    },
    /// No task has such a unit.
    #[error("task {task} cannot have a unit {unit}")]
    NoSuchUnit {
        /// The task.
        task: TaskId,
        /// The unit.
        unit: u32,
    },
    /// The unit had been validated before.
    #[error("unit {unit} of task {task} was validated before")]
    ValidatedTwice {
        /// The task.
        task: TaskId,
        /// The unit.
        unit: u32,
    },
    /// The task had ended before.
    #[error("task {task} ended before")]
    EndedTwice {
        /// The task.
        task: TaskId,
    },
    /// The task had not ended before.
    #[error("task {task} has not ended before")]
    NotEnded {
        /// The task.
        task: TaskId,
    },
    /// The task had been settled before.
    #[error("task {task} was settled before")]
    Settled {
        /// The task.
        task: TaskId,
    },
    /// The task names another rate card than the one in force.
    #[error("task {task} names another rate card than the one in force")]
    OtherCard {
        /// The task.
        task: TaskId,
    },
    /// The rate card may not stand here.
    #[error("its rate card: {reason}")]
    Card {
        /// Why not.
        reason: String,
    },
    /// The certificate is none.
    #[error("its certificate: {reason}")]
    Certificate {
        /// Why not.
        reason: String,
    },
    /// The receipt does not follow from what was agreed on.
    #[error("its receipt: {fault}")]
    Receipt {
        /// What is wrong with it.
        fault: ReceiptProblem,
    },
    /// The agreement is none, or may not stand here.
    #[error("its agreement: {reason}")]
    Agreement {
        /// Why not.
        reason: String,
    },
    /// The registration, or its revocation, is none, or may not stand here.
    #[error("its registration: {reason}")]
    Registration {
        /// Why not.
        reason: String,
    },
    /// The points may not be set aside, taken or given back.
    #[error("its redemption: {reason}")]
    Redemption {
        /// Why not.
        reason: String,
    },
    /// The settlement does not follow from what was taken, or its payment not from it.
    #[error("its settlement: {reason}")]
    Settlement {
        /// Why not.
        reason: String,
    },
    /// What an order is charged, paid or given back does not follow from what came before.
    #[error("its order: {reason}")]
    Order {
        /// Why not.
        reason: String,
    },
    /// The receipt was never issued.
    #[error("there is no receipt {receipt} before it")]
    NoSuchReceipt {
        /// The receipt.
        receipt: ReceiptId,
    },
    /// It says that it happened later than it was written.
    #[error("it happened at {says}, after it was written")]
    FromTheFuture {
        /// The time.
        says: Timestamp,
    },
    /// A lot is not due, or not of the card.
    #[error("the lot {lot} may not be moved by it")]
    Lot {
        /// The account.
        lot: String,
    },
    /// The posting is not what the rules give.
    #[error("its posting is not what the rules give: {difference}")]
    OtherPosting {
        /// The first difference.
        difference: String,
    },
    /// The posting is not possible.
    #[error("its posting: {reason}")]
    Posting {
        /// Why not.
        reason: String,
    },
    /// The posting was made before.
    #[error("posting {id} was made before")]
    PostedBefore {
        /// The posting.
        id: PostingId,
    },
}

/// What is wrong with a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum ReceiptProblem {
    /// The statement is not one, or its signature does not hold.
    #[error("failed to {reason}")]
    Statement {
        /// Why not.
        reason: String,
    },
    /// It was signed by somebody else than the coordinator.
    #[error("{signer} signed it, not the coordinator")]
    OtherSigner {
        /// Who signed.
        signer: NodeId,
    },
    /// It names no results, too many, others than it says, or results in another order than that of the leaves.
    #[error("its results are not well formed")]
    Malformed,
    /// It is not the next one of its holder and task.
    #[error("its sequence is {found}, the next one of its holder and task is {expected}")]
    Sequence {
        /// The next one.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// It counts by another rate card than its task.
    #[error("it names another rate card than its task")]
    OtherCard,
    /// It says another quorum than its task.
    #[error("it names another quorum than its task")]
    OtherQuorum,
    /// Nothing says that the device belongs to the owner.
    #[error("no certificate of {owner} for the device stands before it")]
    Uncertified {
        /// The owner.
        owner: NodeId,
    },
    /// What says that the device belongs to the owner did not hold while the work was done.
    #[error(
        "no certificate of {owner} for the device that stands before it held between {leased_at} and {done_at}"
    )]
    CertificateOver {
        /// The owner.
        owner: NodeId,
        /// When the first of its units was leased.
        leased_at: Timestamp,
        /// When the last of them was agreed on.
        done_at: Timestamp,
    },
    /// A result of a batch was paid before.
    #[error("leaf {leaf} of batch {batch} was cited before")]
    CitedTwice {
        /// The root of the batch.
        batch: Hash,
        /// The leaf.
        leaf: u32,
    },
    /// Its batches are not those that it cites.
    #[error("the batches beside it are not those that it cites")]
    OtherBatches,
    /// A batch is not what it should be.
    #[error("batch {batch}: {reason}")]
    Batch {
        /// The root that the receipt cites.
        batch: Hash,
        /// What is wrong.
        reason: String,
    },
    /// A unit was never validated.
    #[error("unit {unit} was not validated before")]
    NotValidated {
        /// The unit.
        unit: u32,
    },
    /// The device is not among those that agreed on the unit.
    #[error("the device did not agree on unit {unit}")]
    NotAgreed {
        /// The unit.
        unit: u32,
    },
    /// The owner had been paid for the unit.
    #[error("unit {unit} was paid to this owner before")]
    PaidTwice {
        /// The unit.
        unit: u32,
    },
    /// An amount is not the sum over its units.
    #[error("{what} is {found}, its units come to {expected}")]
    Amount {
        /// Which amount.
        what: String,
        /// What its units come to.
        expected: u64,
        /// What it says.
        found: u64,
    },
}
