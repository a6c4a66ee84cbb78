//! Agreements with app servers: proposed by them, decided by the operator, countersigned here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Coordinator, Effect, Fact};
use crate::agreement::{Agreement, AgreementFault};
use crate::countersignature::{VerifiedPair, hash_of};
use crate::entry::Event;
use crate::id::{Hash, NodeId};
use crate::message::Refusal;
use crate::message::registry::{Proposal, RegistryReply};
use crate::signed::Verified;
use crate::time::Timestamp;

/// The most app servers whose proposals wait, or have agreements: anybody may propose one.
const APP_SERVERS_MAX: usize = 256;
/// The most agreements with one app server that are remembered, the newest.
const AGREEMENTS_MAX: usize = 16;

/// What the operator decides about a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It is countersigned.
    Accept,
    /// It is not.
    Decline,
}

/// Why a decision changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecisionFault {
    /// There is no such proposal.
    #[error("{app_server} has proposed no agreement {number}")]
    NoProposal {
        /// The app server.
        app_server: NodeId,
        /// The number.
        number: u32,
    },
    /// It cannot be an agreement any more: the rate card is another one by now.
    #[error(transparent)]
    Faulty(#[from] AgreementFault),
}

/// Proposals and agreements, by app server.
#[derive(Debug, Default)]
pub(super) struct Agreements {
    proposed: BTreeMap<NodeId, Proposed>,
    /// Of each app server, the newest last.
    made: BTreeMap<NodeId, Vec<VerifiedPair<Agreement>>>,
}

/// The last proposal of an app server.
#[derive(Debug, Clone)]
struct Proposed {
    agreement: Verified<Agreement>,
    is_declined: bool,
}

impl Agreements {
    pub(super) fn propose(&mut self, agreement: Verified<Agreement>) {
        let proposed = Proposed {
            agreement,
            is_declined: false,
        };
        self.proposed.insert(proposed.agreement.signer(), proposed);
    }

    pub(super) fn decline(&mut self, app_server: NodeId) {
        if let Some(proposed) = self.proposed.get_mut(&app_server) {
            proposed.is_declined = true;
        }
    }

    pub(super) fn make(&mut self, pair: VerifiedPair<Agreement>) {
        let app_server = pair.value().app_server;
        self.proposed.remove(&app_server);
        let made = self.made.entry(app_server).or_default();
        made.push(pair);
        if made.len() > AGREEMENTS_MAX {
            made.remove(0);
        }
    }

    /// Returns the agreement that is in force with an app server.
    pub(super) fn in_force(
        &self,
        app_server: NodeId,
        now: Timestamp,
    ) -> Option<&VerifiedPair<Agreement>> {
        let made = self.made.get(&app_server)?.iter();
        let holds = made.filter(|pair| pair.value().holds(now));
        holds.max_by_key(|pair| pair.value().number)
    }

    /// Returns the number of the last agreement with an app server, 0 if there is none: numbers rise.
    fn newest(&self, app_server: NodeId) -> u32 {
        let made = self.made.get(&app_server);
        made.and_then(|made| made.last())
            .map_or(0, |pair| pair.value().number)
    }

    /// Returns whether an agreement with anybody is in force.
    pub(super) fn is_any_in_force(&self, now: Timestamp) -> bool {
        let mut app_servers = self.made.keys();
        app_servers.any(|app_server| self.in_force(*app_server, now).is_some())
    }

    pub(super) fn find(&self, agreement: Hash) -> Option<&VerifiedPair<Agreement>> {
        let mut made = self.made.values().flatten();
        made.find(|pair| pair.hash() == agreement)
    }

    /// Returns all agreements, and then all proposals that nobody has declined.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> {
        let made = self.made.values().flatten();
        let made = made.map(|pair| Fact::Agreed(pair.signed()));
        let proposed = self.proposed.iter().flat_map(|(app_server, proposed)| {
            let declined = proposed.is_declined.then_some(Fact::Declined(*app_server));
            let proposed = Fact::Proposed(proposed.agreement.signed().clone());
            [Some(proposed), declined]
        });
        made.chain(proposed.flatten())
    }

    fn has_room(&self, app_server: NodeId) -> bool {
        let known = |map: usize| map < APP_SERVERS_MAX;
        self.proposed.contains_key(&app_server) || known(self.proposed.len())
    }
}

impl Coordinator {
    /// Returns the proposals on which the operator has not decided.
    pub fn proposals(&self) -> impl Iterator<Item = &Verified<Agreement>> {
        let proposed = self.agreements.proposed.values();
        let waiting = proposed.filter(|proposed| !proposed.is_declined);
        waiting.map(|proposed| &proposed.agreement)
    }

    /// Returns the agreements that were made, those with one app server together.
    pub fn agreements(&self) -> impl Iterator<Item = &VerifiedPair<Agreement>> {
        self.agreements.made.values().flatten()
    }

    /// Takes a proposal, or says how it stands. `from` is who asks.
    pub(super) fn propose(
        &mut self,
        from: NodeId,
        agreement: &Verified<Agreement>,
        out: &mut Vec<Effect>,
    ) -> RegistryReply {
        let is_between = agreement.signer() == from
            && agreement.app_server == from
            && agreement.coordinator == self.config.me;
        if !is_between {
            return RegistryReply::Refused(Refusal::Unverified);
        }
        if let Err(fault) = agreement.check(&self.config.rates) {
            return RegistryReply::Agreement(Proposal::Faulty(fault));
        }
        let asked = hash_of(agreement.signed());
        if let Some(pair) = self.agreements.find(asked) {
            return RegistryReply::Agreement(Proposal::Made(pair.signed()));
        }
        let known = self.agreements.proposed.get(&from);
        let known = known.filter(|known| hash_of(known.agreement.signed()) == asked);
        if let Some(known) = known {
            return RegistryReply::Agreement(if known.is_declined {
                Proposal::Declined
            } else {
                Proposal::Waiting
            });
        }
        let newest = self.agreements.newest(from);
        if agreement.number <= newest {
            return RegistryReply::Agreement(Proposal::Faulty(AgreementFault::Bounds {
                name: "number".to_owned(),
                value: agreement.number.to_string(),
                bounds: format!("above {newest}"),
            }));
        }
        if !self.agreements.has_room(from) {
            return RegistryReply::Refused(Refusal::Busy);
        }
        self.agreements.propose(agreement.clone());
        out.push(Effect::Record(Fact::Proposed(agreement.signed().clone())));
        RegistryReply::Agreement(Proposal::Waiting)
    }

    /// Carries out the operator's decision about a proposal.
    pub(super) fn decide(
        &mut self,
        now: Timestamp,
        (app_server, number): (NodeId, u32),
        decision: Decision,
        out: &mut Vec<Effect>,
    ) -> Result<(), DecisionFault> {
        let proposed = self.agreements.proposed.get(&app_server);
        let proposed = proposed.filter(|proposed| proposed.agreement.number == number);
        let proposed = proposed.ok_or(DecisionFault::NoProposal { app_server, number })?;
        match decision {
            Decision::Decline => {
                self.agreements.decline(app_server);
                out.push(Effect::Record(Fact::Declined(app_server)));
            }
            Decision::Accept => {
                let agreement = proposed.agreement.clone();
                agreement.check(&self.config.rates)?;
                let pair = VerifiedPair::agree(agreement, &self.config.network, &self.config.key);
                let signed = pair.signed();
                self.agreements.make(pair);
                out.push(Effect::Record(Fact::Agreed(signed.clone())));
                self.append(now, Event::AgreementMade { agreement: signed }, None, out);
            }
        }
        Ok(())
    }
}
