//! Terminal and coordinator: pull, grant, report.
//!
//! A terminal asks for work with a [`Pull`] and gets a [`Grant`]: leases of units of one task, under one signature.
//! What it has computed rides on its next pull as a [`Report`]: the device signs the Merkle root of a [`Batch`] of
//! results, once for all of them. Between pulls a coordinator may wake a waiting terminal with a nudge.
//!
//! A lease is named by (grant, unit). It is renewed by naming its grant in a pull and expires by the
//! coordinator's clock. Leases are not written down by the coordinator: one that was restarted recognises its own
//! grants by its signature, so it answers results of a grant it has forgotten with
//! [`ResultVerdict::ShowGrant`] and gets them again with the grant, and asks to see grants that are renewed and that
//! it does not know ([`PullReply::unknown`]).

use serde::{Deserialize, Serialize};

use crate::certificate::DeviceCertificate;
use crate::codec;
use crate::id::{GrantId, Hash, NetworkId, NodeId, RateCardId, ReceiptId, TaskId};
use crate::merkle;
use crate::message::Refusal;
use crate::message::announce::RoleStatement;
use crate::message::blob::BlobGrant;
use crate::message::wishes::{Unfit, Wishes};
use crate::rate_card::RateCard;
use crate::receipt::Receipt;
use crate::registration::Registration;
use crate::signed::{SignatureClaim, Signed, Statement, Verified};
use crate::task::BlobRef;
use crate::time::Timestamp;
use crate::unit::{Fault, Limits, Outcome, ProfileId};

/// The most units in one grant, and so the most results in one report.
pub const GRANT_UNITS_MAX: u32 = 1_024;
/// The most input bytes that are sent inside a grant's reply, and the most output bytes inside a report.
pub const INLINE_BYTES_MAX: usize = 512 << 10;
/// An input or output up to this size is sent inside the message, a larger one is read as a blob.
pub const INLINE_UNIT_BYTES_MAX: u64 = 4 << 10;
/// The largest message of this conversation: a full report with inline outputs and the grants shown again.
pub const WORK_BYTES_MAX: usize = 2 << 20;
/// The most grants that one pull renews, and that a terminal takes from one coordinator.
pub const RENEWALS_MAX: usize = 1_024;
/// The most grants shown in one report: each has up to 128 KiB.
pub const SHOWN_MAX: usize = 8;
/// The most receipts in one answer, and acknowledged in one pull.
pub const RECEIPTS_MAX: usize = 64;
/// The most bytes of all receipts in one answer: a full one has less than 20 KiB.
pub const RECEIPTS_BYTES_MAX: usize = 256 << 10;
/// The most unpaid results in one answer.
pub const UNPAID_MAX: usize = 1_024;
/// The most results that a pull asks about: as many as an answer may say are not paid.
pub const OWED_MAX: usize = UNPAID_MAX;
/// The most tasks of them: more are hardly under way at one coordinator, and each is looked up.
pub const OWED_TASKS_MAX: usize = 64;

/// What is asked in this conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkRequest {
    /// Who are you?
    Hello,
    /// A terminal reports and asks for work.
    Pull(Box<Pull>),
    /// A coordinator says that there is work of this task.
    Nudge(TaskId),
}

/// The answers, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkReply {
    /// The roles of the answerer.
    Role(Signed<RoleStatement>),
    /// The answer to a pull.
    Pulled(Box<PullReply>),
    /// The nudge was heard.
    Nudged,
    /// No.
    Refused(Refusal),
}

/// A terminal reports and asks for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Units wanted; 0 only reports.
    pub want: u32,
    /// The profile of its sandbox.
    pub profile: ProfileId,
    /// Which work it takes; lists beyond their bounds are refused.
    pub wishes: Wishes,
    /// Grants it still works on: their leases are renewed.
    pub renew: Vec<GrantId>,
    /// Units it cannot finish.
    pub abandoned: Vec<Abandoned>,
    /// What it has computed.
    pub report: Option<Report>,
    /// Where other terminals may reach it, if its owner lets them: at most
    /// [`crate::message::announce::ADDRESSES_MAX`] multiaddresses.
    pub share: Vec<String>,
    /// Whose the device is; its own if nobody has certified it.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// Where the device is registered, if its app server's news may not have come.
    pub registration: Option<Signed<Registration>>,
    /// Receipts that it has kept, at most [`RECEIPTS_MAX`]: they are not sent again.
    pub kept: Vec<ReceiptId>,
    /// Counted results for which it has waited in vain, at most [`OWED_MAX`] of at most [`OWED_TASKS_MAX`] tasks: those
    /// that nothing will come for are answered as unpaid, whether it was told before or not.
    pub owed: Vec<Owed>,
}

/// Counted results of one task for which neither a receipt nor a reason has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The task.
    pub task: TaskId,
    /// The units.
    pub units: Vec<u32>,
}

/// A unit that a terminal gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Its grant.
    pub grant: GrantId,
    /// The unit.
    pub unit: u32,
    /// Why.
    pub fault: Fault,
}

/// Results with the device's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The device's signature over the results.
    pub batch: Signed<Batch>,
    /// The results, in the order of the leaves.
    pub results: Vec<UnitResult>,
    /// Grants that the coordinator asked to see again; there may be no results beside them.
    pub grants: Vec<Signed<Grant>>,
}

/// What the device signs: the root of the Merkle tree (RFC 6962) whose leaves are [`UnitResult::leaf`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// To whom the results are reported.
    pub coordinator: NodeId,
    /// Number of leaves.
    pub count: u32,
    /// The root.
    pub root: Hash,
    /// When it was signed.
    pub at: Timestamp,
}

impl Statement for Batch {
    const TYPE: &'static str = "application/tally-batch+cbor";
    const BYTES_MAX: usize = 1 << 10;
}

/// What one run of a unit gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitResult {
    /// The grant that leased it.
    pub grant: GrantId,
    /// The unit.
    pub unit: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub fuel: u64,
    /// What it wrote.
    pub output: BlobRef,
    /// The output itself, if it is small.
    #[serde(with = "serde_bytes")]
    pub inline: Option<Vec<u8>>,
}

impl UnitResult {
    /// Returns the bytes of its leaf in the batch: everything but the inline output, whose hash is there.
    #[must_use]
    pub fn leaf(&self) -> Vec<u8> {
        codec::to_bytes(&(self.grant, self.unit, self.outcome, self.fuel, self.output))
    }
}

impl Batch {
    /// Makes the batch of `results`.
    #[must_use]
    pub fn of(results: &[UnitResult], coordinator: NodeId, at: Timestamp) -> Self {
        let count =
            u32::try_from(results.len()).expect("a report has at most GRANT_UNITS_MAX results");
        Self {
            coordinator,
            count,
            root: root_of(results),
            at,
        }
    }
}

fn root_of(results: &[UnitResult]) -> Hash {
    merkle::root(
        results
            .iter()
            .map(|result| merkle::leaf_hash(&result.leaf())),
    )
}

/// A report whose signatures, root and inline outputs were checked.
#[derive(Debug, Clone)]
pub struct VerifiedReport {
    /// The batch.
    pub batch: Verified<Batch>,
    /// Its results.
    pub results: Vec<UnitResult>,
    /// The grants shown again, each signed by the coordinator itself.
    pub grants: Vec<Verified<Grant>>,
}

impl Report {
    /// Checks everything that does not need the coordinator's state: the signatures, that the batch is for
    /// `coordinator` by `device`, that the root is that of the results, that each inline output is what its hash says.
    ///
    /// # Errors
    /// The [`Refusal`] to send back.
    pub fn verify(
        self,
        network: &NetworkId,
        coordinator: NodeId,
        device: NodeId,
    ) -> Result<VerifiedReport, Refusal> {
        self.verify_with(network, coordinator, device, |claim| claim.holds())
    }

    /// Checks the same as [`Report::verify`], but lets `holds` say which signatures do, as in
    /// [`Signed::verify_with`].
    ///
    /// # Errors
    /// The [`Refusal`] to send back.
    pub fn verify_with(
        self,
        network: &NetworkId,
        coordinator: NodeId,
        device: NodeId,
        mut holds: impl FnMut(&SignatureClaim<'_>) -> bool,
    ) -> Result<VerifiedReport, Refusal> {
        let batch = self
            .batch
            .verify_with(network, &mut holds)
            .map_err(|_| Refusal::Unverified)?;
        let fits = self.results.len() <= GRANT_UNITS_MAX as usize && self.grants.len() <= SHOWN_MAX;
        if !fits || batch.count as usize != self.results.len() {
            return Err(Refusal::Malformed);
        }
        let authentic = batch.signer() == device && batch.coordinator == coordinator;
        if !authentic || batch.root != root_of(&self.results) {
            return Err(Refusal::Unverified);
        }
        let inline_is_true = |result: &UnitResult| match &result.inline {
            Some(content) => BlobRef::of(content) == result.output,
            None => result.output.bytes > INLINE_UNIT_BYTES_MAX,
        };
        if !self.results.iter().all(inline_is_true) {
            return Err(Refusal::Unverified);
        }
        let own = |grant: Signed<Grant>| match grant.verify_with(network, &mut holds) {
            Ok(grant) if grant.signer() == coordinator && grant.device == device => Ok(grant),
            _ => Err(Refusal::Unverified),
        };
        let grants = self.grants.into_iter().map(own).collect::<Result<_, _>>()?;
        Ok(VerifiedReport {
            batch,
            results: self.results,
            grants,
        })
    }
}

/// Leases of units of one task to one device, signed by the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// Who may compute.
    pub device: NodeId,
    /// Whose task it is; nobody's (zeros) in grants of before protocol version 4, which wallets keep.
    #[serde(default = "nobody")]
    pub customer: NodeId,
    /// The task. Also the seed of the units' random numbers.
    pub task: TaskId,
    /// Units of the whole task.
    pub unit_count: u32,
    /// The program.
    pub program: BlobRef,
    /// Its arguments after its name.
    pub args: Vec<String>,
    /// Bounds of each unit.
    pub limits: Limits,
    /// The profile under which results are compared.
    pub profile: ProfileId,
    /// The packed blob that the units' inputs are ranges of.
    pub input: BlobRef,
    /// The leased units.
    pub units: Vec<LeasedUnit>,
    /// The rate card by which results are paid.
    pub rate_card: RateCardId,
    /// When it was made.
    pub issued: Timestamp,
    /// When the leases end unless they are renewed.
    pub deadline: Timestamp,
}

const fn nobody() -> NodeId {
    NodeId::from_bytes([0; 32])
}

impl Statement for Grant {
    const TYPE: &'static str = "application/tally-grant+cbor";
    const BYTES_MAX: usize = 256 << 10;
}

/// One lease of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedUnit {
    /// The unit.
    pub unit: u32,
    /// Higher than that of any earlier lease of the unit: the fence against results of an older one.
    pub attempt: u32,
    /// Where its input starts in the packed blob.
    pub start: u64,
    /// Length of its input.
    pub bytes: u64,
    /// Its parameters.
    pub params: String,
}

/// The answer to a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReply {
    /// The new leases, if any.
    pub leased: Option<Leased>,
    /// What became of the reported results, one verdict each and in their order.
    pub verdicts: Vec<ResultVerdict>,
    /// Grants whose leases are no longer wanted (task cancelled or ended, lease expired): stop them.
    pub ended: Vec<GrantId>,
    /// Renewed grants that are not known, because the coordinator was restarted: they are to be shown, so that they
    /// can be renewed, or ended.
    pub unknown: Vec<GrantId>,
    /// The terminal should not ask again before this has passed, unless it has something to report, in milliseconds.
    pub retry_millis: u64,
    /// Other terminals on the same task that let themselves be reached: multiaddresses with peer id.
    pub peers: Vec<String>,
    /// Receipts for this device that it has not said it keeps: at most [`RECEIPTS_MAX`], of at most
    /// [`RECEIPTS_BYTES_MAX`] together.
    pub receipts: Vec<Signed<Receipt>>,
    /// Counted results that are not paid: at most [`UNPAID_MAX`].
    pub unpaid: Vec<Unpaid>,
    /// If units were wanted and none were leased: why, each reason once, at most
    /// [`crate::message::wishes::UNFIT_MAX`]. Empty if there is no task at all.
    pub unfit: Vec<Unfit>,
}

/// A counted result for which no receipt will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpaid {
    /// The task.
    pub task: TaskId,
    /// The unit.
    pub unit: u32,
    /// Why.
    pub reason: UnpaidReason,
}

/// Why a counted result is not paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnpaidReason {
    /// A quorum agreed on something else.
    Outvoted,
    /// No quorum came about.
    NoQuorum,
    /// The task ended before a quorum came about.
    TaskEnded,
    /// Nothing of it is undecided or due any more: if it is paid, its receipt stands in the log.
    Settled,
}

/// New leases with what is needed to run them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The leases.
    pub grant: Signed<Grant>,
    /// The units' inputs one behind another, if they are small.
    #[serde(with = "serde_bytes")]
    pub inputs: Option<Vec<u8>>,
    /// The right to read the program and, where inputs are not inline, the input.
    pub read: Signed<BlobGrant>,
    /// The rate card that the grant names.
    pub rate_card: Signed<RateCard>,
}

/// What became of a reported result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultVerdict {
    /// It counts.
    Counted,
    /// Enough others had come before; it changes nothing.
    Redundant,
    /// The device was not leased this unit, or has already reported it.
    NotLeased,
    /// The coordinator was restarted: send the result again with its grant.
    ShowGrant,
    /// The output could not be read; the lease goes on.
    OutputMissing,
    /// The task has ended.
    TaskEnded,
}
