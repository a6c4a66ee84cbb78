//! A pull on its way out, and its answer once it is checked.

use crate::certificate::DeviceCertificate;
use crate::coordinator::Question;
use crate::id::{GrantId, NetworkId, NodeId, ReceiptId};
use crate::message::wishes::{UNFIT_MAX, Unfit, Wishes};
use crate::message::work::{
    Abandoned, Batch, Grant, Leased, Owed, Pull, PullReply, RECEIPTS_MAX, Report, ResultVerdict,
    UnitResult, Unpaid,
};
use crate::rate_card::RateCard;
use crate::receipt::Receipt;
use crate::registration::Registration;
use crate::signed::{SignatureClaim, Signed, Verified};
use crate::unit::ProfileId;

/// A pull to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct PullOut {
    /// Repeated with the answer.
    pub question: Question,
    /// The coordinator.
    pub to: NodeId,
    /// Units wanted.
    pub want: u32,
    /// Which work is wanted.
    pub wishes: Wishes,
    /// Grants to renew.
    pub renew: Vec<GrantId>,
    /// Units given back.
    pub abandoned: Vec<Abandoned>,
    /// What is to be signed, if there are results or grants to show.
    pub batch: Option<Batch>,
    /// What was computed: the leaves of the batch.
    pub results: Vec<UnitResult>,
    /// Grants that the coordinator wants to see, as it signed them.
    pub grants: Vec<Signed<Grant>>,
    /// See [`super::Input::Shared`].
    pub share: Vec<String>,
    /// Whose the terminal is.
    pub certificate: Option<Signed<DeviceCertificate>>,
    /// Where it is registered, if the coordinator is to be shown it.
    pub registration: Option<Signed<Registration>>,
    /// Receipts that are durable here.
    pub kept: Vec<ReceiptId>,
    /// See [`Pull::owed`].
    pub owed: Vec<Owed>,
}

impl PullOut {
    /// Makes the message, with a report if there is something to tell or to show. `sign` signs its batch.
    #[must_use]
    pub fn into_pull(self, profile: ProfileId, sign: impl FnOnce(Batch) -> Signed<Batch>) -> Pull {
        let report = self.batch.map(|batch| Report {
            batch: sign(batch),
            results: self.results,
            grants: self.grants,
        });
        Pull {
            want: self.want,
            profile,
            wishes: self.wishes,
            renew: self.renew,
            abandoned: self.abandoned,
            report,
            share: self.share,
            certificate: self.certificate,
            registration: self.registration,
            kept: self.kept,
            owed: self.owed,
        }
    }
}

/// A checked answer to a pull.
#[derive(Debug, Default)]
pub struct Answer {
    /// The leases; the shell keeps what came with them.
    pub grant: Option<Verified<Grant>>,
    /// The rate card that came with them.
    pub card: Option<Verified<RateCard>>,
    /// See [`PullReply::receipts`].
    pub receipts: Vec<Verified<Receipt>>,
    /// See [`PullReply::unpaid`].
    pub unpaid: Vec<Unpaid>,
    /// The rest of the answer.
    pub verdicts: Vec<ResultVerdict>,
    /// See [`PullReply::ended`].
    pub ended: Vec<GrantId>,
    /// See [`PullReply::unknown`].
    pub unknown: Vec<GrantId>,
    /// See [`PullReply::retry_millis`].
    pub retry_millis: u64,
    /// See [`PullReply::unfit`].
    pub unfit: Vec<Unfit>,
}

/// What comes with a checked answer, for the shell.
#[derive(Debug)]
pub struct Beside {
    /// The new leases with what is needed to run them.
    pub leased: Option<Leased>,
    /// See [`PullReply::peers`].
    pub peers: Vec<String>,
}

impl Answer {
    /// Checks the signatures of grant, rate card and receipts. `holds` says which do, as in
    /// [`Signed::verify_with`]. None if one does not: then nothing of the answer counts.
    #[must_use]
    pub fn check(
        reply: PullReply,
        network: &NetworkId,
        mut holds: impl FnMut(&SignatureClaim<'_>) -> bool,
    ) -> Option<(Self, Beside)> {
        let (grant, card) = match &reply.leased {
            Some(Leased {
                grant, rate_card, ..
            }) => {
                let grant = grant.clone().verify_with(network, &mut holds).ok()?;
                let card = rate_card.clone().verify_with(network, &mut holds).ok()?;
                (Some(grant), Some(card))
            }
            None => (None, None),
        };
        let receipts = reply.receipts.into_iter().take(RECEIPTS_MAX);
        let receipts = receipts.map(|receipt| receipt.verify_with(network, &mut holds).ok());
        let answer = Self {
            grant,
            card,
            receipts: receipts.collect::<Option<_>>()?,
            unpaid: reply.unpaid,
            verdicts: reply.verdicts,
            ended: reply.ended,
            unknown: reply.unknown,
            retry_millis: reply.retry_millis,
            unfit: reply.unfit.into_iter().take(UNFIT_MAX).collect(),
        };
        let (leased, peers) = (reply.leased, reply.peers);
        Some((answer, Beside { leased, peers }))
    }
}
