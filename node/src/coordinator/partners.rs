//! App servers: what they ask, checked on other threads before the machine hears of it, and what they are told of points.
//!
//! What is told of a holder is what its books say after all that is committed, so head and totals of a statement belong
//! together. An app server that is away is told later; the newest statement is enough, so only holders are remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::account::Holder;
use tally_protocol::coordinator::{Answer as RoleAnswer, Input, Redeeming, Registering};
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::message::Refusal;
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use tally_protocol::registration::{self, PointStatement, Registration};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;
use tokio::task::spawn_blocking;

use super::{Message, Shell};
use crate::clock;
use crate::error::joined;
use crate::network::{Answer, verified};

/// The pause before an app server that is away is told again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// An app server asks.
#[derive(Debug)]
pub enum PartnerAsked {
    /// About agreements, registrations or points.
    Registry(RegistryRequest, Answer<RegistryReply>),
    /// About a redemption.
    Redeem(RedeemRequest, Answer<RedeemReply>),
}

/// The same, with signatures that hold.
#[derive(Debug)]
pub enum PartnerChecked {
    /// About agreements, registrations or points.
    Registry(Registering, Answer<RegistryReply>),
    /// About a redemption.
    Redeem(Box<Redeeming>, Answer<RedeemReply>),
}

/// Where the answer to an app server goes.
#[derive(Debug)]
pub(super) enum PartnerAnswer {
    Registry(NodeId, Answer<RegistryReply>),
    Redeem(Answer<RedeemReply>),
}

/// Holders of whose points app servers are to be told.
#[derive(Debug, Default)]
pub(super) struct Untold {
    of: BTreeMap<NodeId, Partner>,
}

#[derive(Debug, Default)]
struct Partner {
    holders: BTreeSet<Holder>,
    /// When it may be told; none while it is.
    next: Option<Timestamp>,
}

impl Untold {
    /// Notes that an app server is to be told of a holder.
    pub(super) fn note(&mut self, app_server: NodeId, holder: Holder) {
        let partner = self.of.entry(app_server).or_insert_with(|| Partner {
            holders: BTreeSet::new(),
            next: Some(Timestamp::default()),
        });
        partner.holders.insert(holder);
    }

    /// Returns when somebody is to be told next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.of.values().filter_map(|partner| partner.next).min()
    }

    /// Takes some holders of an app server that is due.
    fn take_due(&mut self, now: Timestamp) -> Option<(NodeId, Vec<Holder>)> {
        let due = |partner: &Partner| partner.next.is_some_and(|next| next <= now);
        let (app_server, partner) = self.of.iter_mut().find(|(_, partner)| due(partner))?;
        let take = || partner.holders.pop_first();
        let holders = std::iter::from_fn(take).take(STATEMENTS_MAX).collect();
        partner.next = None;
        Some((*app_server, holders))
    }

    /// Notes that an app server was told, or of which holders it was not.
    fn told(&mut self, now: Timestamp, app_server: NodeId, missed: Vec<Holder>) {
        let Some(partner) = self.of.get_mut(&app_server) else {
            return;
        };
        let pause = if missed.is_empty() {
            Duration::ZERO
        } else {
            TELL_AGAIN
        };
        partner.holders.extend(missed);
        partner.next = Some(now + pause);
        if partner.holders.is_empty() {
            self.of.remove(&app_server);
        }
    }
}

impl Shell {
    /// Checks the signatures of a question elsewhere.
    pub(super) fn check_partner(&self, from: NodeId, asked: PartnerAsked) {
        let (network, mailbox) = (
            self.parts.network.network().clone(),
            self.parts.mailbox.clone(),
        );
        tokio::spawn(async move {
            let checked = spawn_blocking(move || match asked {
                PartnerAsked::Registry(request, answer) => match registering(request, &network) {
                    Ok(asked) => Some(PartnerChecked::Registry(asked, answer)),
                    Err(refusal) => {
                        answer.send(RegistryReply::Refused(refusal));
                        None
                    }
                },
                PartnerAsked::Redeem(request, answer) => match redeeming(request, &network) {
                    Ok(asked) => Some(PartnerChecked::Redeem(Box::new(asked), answer)),
                    Err(refusal) => {
                        answer.send(RedeemReply::Refused(refusal));
                        None
                    }
                },
            });
            if let Some(checked) = joined(checked.await) {
                let _ = mailbox.send(Message::PartnerChecked(from, checked)).await;
            }
        });
    }

    /// Makes a checked question one for the machine.
    pub(super) fn partner_input(&mut self, from: NodeId, checked: PartnerChecked) -> Input {
        let question = self.question();
        match checked {
            PartnerChecked::Registry(asked, answer) => {
                let answer = PartnerAnswer::Registry(from, answer);
                self.partners.insert(question, answer);
                Input::Registry {
                    question,
                    from,
                    asked,
                }
            }
            PartnerChecked::Redeem(asked, answer) => {
                self.partners
                    .insert(question, PartnerAnswer::Redeem(answer));
                Input::Redeem {
                    question,
                    from,
                    asked: *asked,
                }
            }
        }
    }

    /// Answers an app server. Everything that the answer follows from is committed.
    pub(super) fn answer_partner(&self, answer: RoleAnswer, reply: PartnerAnswer) {
        match (answer, reply) {
            (RoleAnswer::Registry(answer), PartnerAnswer::Registry(_, reply)) => reply.send(answer),
            (RoleAnswer::Points(holders), PartnerAnswer::Registry(app_server, reply)) => {
                let holders = holders.into_iter().map(|(holder, _)| holder);
                let statements = self.statements(app_server, holders.collect());
                let (network, key) = (self.parts.network.network().clone(), self.parts.key.clone());
                spawn_blocking(move || {
                    let signed = statements.into_iter();
                    let signed =
                        signed.map(|of| Verified::sign(of, &network, &key).signed().clone());
                    reply.send(RegistryReply::Points(signed.collect()));
                });
            }
            (RoleAnswer::Redeem(answer), PartnerAnswer::Redeem(reply)) => reply.send(answer),
            (_, PartnerAnswer::Registry(_, reply)) => {
                reply.send(RegistryReply::Refused(Refusal::Malformed));
            }
            (_, PartnerAnswer::Redeem(reply)) => {
                reply.send(RedeemReply::Refused(Refusal::Malformed));
            }
        }
    }

    /// Says of each holder what it has after all that is committed.
    fn statements(&self, app_server: NodeId, holders: Vec<Holder>) -> Vec<PointStatement> {
        let (head, at) = (self.head.current(), clock::now());
        let of = |holder| {
            let totals = self.machine.totals(holder);
            PointStatement {
                app_server,
                holder,
                earned: totals.earned,
                escrowed: totals.escrowed,
                spendable: totals.spendable,
                redeemed: totals.redeemed,
                size: head.size,
                root: head.root,
                at,
            }
        };
        holders.into_iter().map(of).collect()
    }

    /// Tells app servers what is due.
    pub(super) fn tell_points(&mut self) {
        while let Some((app_server, holders)) = self.untold.take_due(clock::now()) {
            let statements = self.statements(app_server, holders.clone());
            let parts = self.parts.clone();
            tokio::spawn(async move {
                let (network, key) = (parts.network.network().clone(), parts.key.clone());
                let sign = move || {
                    let signed = statements.into_iter();
                    let signed =
                        signed.map(|of| Verified::sign(of, &network, &key).signed().clone());
                    RegistryRequest::Told(signed.collect())
                };
                let request = joined(spawn_blocking(sign).await);
                let missed = match parts.network.ask_registry(app_server, request).await {
                    Ok(RegistryReply::Heard) => Vec::new(),
                    Ok(other) => {
                        tracing::debug!(%app_server, ?other, "an app server does not hear of points");
                        holders
                    }
                    Err(error) => {
                        tracing::debug!(%app_server, "cannot tell an app server of points: {error}");
                        holders
                    }
                };
                let _ = parts.mailbox.send(Message::Told(app_server, missed)).await;
            });
        }
    }

    /// Notes how telling an app server went.
    pub(super) fn told(&mut self, now: Timestamp, app_server: NodeId, missed: Vec<Holder>) {
        self.untold.told(now, app_server, missed);
    }
}

/// Checks a registration, down to the signatures of the device and its owner.
pub(super) fn registered(
    shown: Signed<Registration>,
    network: &NetworkId,
) -> Result<Verified<Registration>, Refusal> {
    let shown = verified(shown, network)?;
    let checked = registration::check(&shown, network);
    checked.map_err(|_| Refusal::Unverified)?;
    Ok(shown)
}

fn registering(request: RegistryRequest, network: &NetworkId) -> Result<Registering, Refusal> {
    let bounded = |count: usize| {
        (count <= STATEMENTS_MAX)
            .then_some(())
            .ok_or(Refusal::Malformed)
    };
    match request {
        RegistryRequest::Agree(agreement) => Ok(Registering::Agree(verified(agreement, network)?)),
        RegistryRequest::Register(told) => {
            bounded(told.len())?;
            let told = told.into_iter().map(|of| registered(of, network));
            Ok(Registering::Register(told.collect::<Result<_, _>>()?))
        }
        RegistryRequest::Revoke(told) => {
            bounded(told.len())?;
            let told = told.into_iter().map(|of| verified(of, network));
            Ok(Registering::Revoke(told.collect::<Result<_, _>>()?))
        }
        RegistryRequest::Points(devices) => {
            bounded(devices.len())?;
            Ok(Registering::Points(devices))
        }
        RegistryRequest::Settle(request) => {
            Ok(Registering::Settle(Box::new(request.check(network)?)))
        }
        RegistryRequest::Told(_) => Err(Refusal::WrongRole),
    }
}

fn redeeming(request: RedeemRequest, network: &NetworkId) -> Result<Redeeming, Refusal> {
    match request {
        RedeemRequest::Reserve {
            redeem,
            certificate,
        } => Ok(Redeeming::Reserve {
            redeem: verified(redeem, network)?,
            certificate: certificate
                .map(|shown| verified(shown, network))
                .transpose()?,
        }),
        RedeemRequest::Post(id) => Ok(Redeeming::Post(id)),
        RedeemRequest::Void(id) => Ok(Redeeming::Void(id)),
        RedeemRequest::Reverse(reversal) => Ok(Redeeming::Reverse(verified(reversal, network)?)),
    }
}
