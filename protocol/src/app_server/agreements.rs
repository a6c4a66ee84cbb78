//! Agreements with coordinators: proposed here, decided by their operators.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::errands::{Errand, Heard};
use super::{AppServer, Effect, Fact, Fault};
use crate::agreement::{Agreement, AgreementFault};
use crate::countersignature::{Countersigned, hash_of};
use crate::id::{Hash, NodeId};
use crate::message::registry::Proposal;
use crate::signed::{Signed, Verified};
use crate::time::Timestamp;

/// The most coordinators with whom there are agreements or proposals.
pub const COORDINATORS_MAX: usize = 256;
/// The most agreements with one coordinator that are remembered, the newest.
const AGREEMENTS_MAX: usize = 16;

/// Proposals and agreements by coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreements {
    of: BTreeMap<NodeId, Partner>,
}

/// What there is with one coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Partner {
    proposed: Option<Proposed>,
    /// The newest last.
    made: Vec<Made>,
    last_number: u32,
}

/// The last proposal to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Proposed {
    number: u32,
    signed: Signed<Agreement>,
    declined: Option<Declined>,
}

/// Why a proposal came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declined {
    /// The operator has said no.
    ByOperator,
    /// It cannot be an agreement.
    Faulty(AgreementFault),
}

/// An agreement that both signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// What they agree on.
    pub agreement: Agreement,
    /// SHA-256 of its statement, by which others name it.
    pub hash: Hash,
    /// Both signatures.
    pub signed: Countersigned<Agreement>,
}

/// What happens to agreements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgreementFact {
    /// One is proposed, instead of any earlier proposal.
    Proposed(NodeId, u32, Signed<Agreement>),
    /// It came to nothing.
    Declined(NodeId, Declined),
    /// It was made.
    Made(Box<Made>),
}

impl Agreements {
    pub(super) fn apply(&mut self, fact: &AgreementFact) {
        match fact {
            AgreementFact::Proposed(coordinator, number, signed) => {
                let partner = self.of.entry(*coordinator).or_default();
                partner.last_number = *number;
                partner.proposed = Some(Proposed {
                    number: *number,
                    signed: signed.clone(),
                    declined: None,
                });
            }
            AgreementFact::Declined(coordinator, declined) => {
                let partner = self.of.entry(*coordinator).or_default();
                if let Some(proposed) = &mut partner.proposed {
                    proposed.declined = Some(declined.clone());
                }
            }
            AgreementFact::Made(made) => {
                let partner = self.of.entry(made.agreement.coordinator).or_default();
                partner.proposed = None;
                partner.made.push(made.as_ref().clone());
                if partner.made.len() > AGREEMENTS_MAX {
                    partner.made.remove(0);
                }
            }
        }
    }

    /// Returns the agreement that is in force with a coordinator.
    pub(super) fn in_force(&self, coordinator: NodeId, now: Timestamp) -> Option<&Made> {
        let made = self.of.get(&coordinator)?.made.iter();
        let holds = made.filter(|made| made.agreement.holds(now));
        holds.max_by_key(|made| made.agreement.number)
    }

    /// Returns the last agreement that was made with a coordinator.
    pub(super) fn last(&self, coordinator: NodeId) -> Option<&Made> {
        self.of.get(&coordinator)?.made.last()
    }

    /// Returns the coordinators with an agreement that holds at `at` or will.
    pub(super) fn partners(&self, at: Timestamp) -> impl Iterator<Item = NodeId> {
        let holds = move |partner: &Partner| {
            let mut made = partner.made.iter();
            made.any(|made| at < made.agreement.not_after)
        };
        let of = self.of.iter().filter(move |(_, partner)| holds(partner));
        of.map(|(coordinator, _)| *coordinator)
    }

    /// Returns the proposal to a coordinator that is not decided.
    pub(super) fn waiting(&self, coordinator: NodeId) -> Option<&Signed<Agreement>> {
        let proposed = self.of.get(&coordinator)?.proposed.as_ref();
        let waiting = proposed.filter(|proposed| proposed.declined.is_none());
        waiting.map(|proposed| &proposed.signed)
    }

    pub(super) fn made(&self, coordinator: NodeId) -> impl Iterator<Item = &Made> {
        let of = self.of.get(&coordinator).into_iter();
        of.flat_map(|partner| &partner.made)
    }

    pub(super) fn proposed(
        &self,
        coordinator: NodeId,
    ) -> Option<(&Signed<Agreement>, Option<&Declined>)> {
        let proposed = self.of.get(&coordinator)?.proposed.as_ref()?;
        Some((&proposed.signed, proposed.declined.as_ref()))
    }

    pub(super) fn coordinators(&self) -> impl Iterator<Item = NodeId> {
        self.of.keys().copied()
    }
}

impl AppServer {
    /// Returns the agreement that is in force with a coordinator.
    #[must_use]
    pub fn agreement(&self, coordinator: NodeId, now: Timestamp) -> Option<&Made> {
        self.state.agreements.in_force(coordinator, now)
    }

    /// Returns the number and the end of the last proposal to a coordinator, if it came to nothing.
    #[must_use]
    pub fn declined(&self, coordinator: NodeId) -> Option<(u32, &Declined)> {
        let proposed = self.state.agreements.of.get(&coordinator)?;
        let proposed = proposed.proposed.as_ref()?;
        Some((proposed.number, proposed.declined.as_ref()?))
    }

    /// Signs and proposes an agreement.
    pub(super) fn propose(
        &mut self,
        now: Timestamp,
        agreement: Agreement,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let (coordinator, number) = (agreement.coordinator, agreement.number);
        let of = &self.state.agreements.of;
        let partner = of.get(&coordinator);
        if partner.is_none() && of.len() >= COORDINATORS_MAX {
            return Err(Fault::Full);
        }
        let is_new = partner.is_none_or(|partner| partner.last_number < number);
        let lasts = now < agreement.not_after && agreement.not_before < agreement.not_after;
        let counts = agreement.value.micro_points > 0 && agreement.period_seconds > 0;
        let invalid = |what: &str| {
            let what = what.to_owned();
            Err(Fault::Invalid { what })
        };
        let last = self.state.agreements.last(coordinator);
        let is_same = last.is_none_or(|last| last.agreement.currency == agreement.currency);
        if !is_same && self.state.settlements.has_open(coordinator) {
            return invalid("currency: that of the last agreement, until everything is settled");
        } else if agreement.app_server != self.config.me {
            return invalid("app_server: this one");
        } else if !is_new {
            return invalid("number: above that of every earlier proposal to the coordinator");
        } else if !lasts {
            return invalid("not_after: in the future and after not_before");
        } else if !counts {
            return invalid("value and period_seconds: above zero");
        }
        let signed = Verified::sign(agreement, &self.config.network, &self.config.key);
        let signed = signed.signed().clone();
        let fact = AgreementFact::Proposed(coordinator, number, signed);
        self.record(Fact::Agreement(fact), out);
        self.run_errand(now, Errand::Agree(coordinator), out);
        Ok(())
    }

    /// A coordinator says how a proposal stands.
    pub(super) fn proposal_answered(
        &mut self,
        now: Timestamp,
        coordinator: NodeId,
        proposal: Proposal,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let Some(asked) = self.state.agreements.waiting(coordinator).map(hash_of) else {
            return Heard::Done;
        };
        let declined = |declined| AgreementFact::Declined(coordinator, declined);
        let fact = match proposal {
            Proposal::Waiting => return Heard::Wait,
            Proposal::Declined => declined(Declined::ByOperator),
            Proposal::Faulty(fault) => declined(Declined::Faulty(fault)),
            Proposal::Made(signed) => {
                let pair = signed.clone().verify(&self.config.network);
                let signers = (self.config.me, coordinator);
                let is_ours = |pair: &crate::countersignature::VerifiedPair<Agreement>| {
                    pair.hash() == asked && pair.signers() == signers
                };
                let Some(pair) = pair.ok().filter(is_ours) else {
                    return Heard::Wait;
                };
                AgreementFact::Made(Box::new(Made {
                    agreement: pair.value().clone(),
                    hash: asked,
                    signed,
                }))
            }
        };
        self.record(Fact::Agreement(fact), out);
        self.run_errand(now, Errand::Outbox(coordinator), out);
        Heard::Done
    }
}
