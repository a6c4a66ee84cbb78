//! The talk with app servers: agreements, registrations, redemptions, and what app servers are told of points.
//!
//! What is told is what the books have when the statement is signed, with the head of the log over them; a statement that
//! is not acknowledged is signed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tally_protocol::account::Holder;
use tally_protocol::coordinator::{
    Input, Order, Question, Redeeming as Asked, Registering, Totals,
};
use tally_protocol::entry::Event;
use tally_protocol::id::{NetworkId, NodeId, RedemptionId};
use tally_protocol::message::Refusal;
use tally_protocol::message::redeem::{RedeemReply, RedeemRequest};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use tally_protocol::registration::PointStatement;
use tally_protocol::signed::{Signed, VerifyError};

use super::pulls::registered;
use super::{Asker, CoordinatorNode, NEXT_LOOK, Within};
use crate::conduct::Me;
use crate::happening::{Happening, Redeeming};
use crate::peer::Peer;
use crate::signatures::Signatures;
use crate::stage::{Body, Stage};

/// How often the operator looks for proposals, and for settlements to be paid.
const DECIDE_EVERY: Duration = Duration::from_secs(10);
/// After this an app server that did not answer is told again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What app servers are to be told. Nothing of it survives: a coordinator that comes back tells them anew.
#[derive(Debug, Default)]
pub(super) struct Partners {
    /// Of each app server, the holders of whose points it has not heard.
    untold: BTreeMap<Peer, BTreeSet<Holder>>,
    /// Open questions, with whom and what they tell.
    told: BTreeMap<u64, (Peer, Vec<Holder>)>,
}

impl CoordinatorNode {
    /// Lets the operator decide about all that is proposed.
    pub(super) fn decide(&mut self, stage: &mut Stage) {
        let (Some(up), Some(decision)) = (&mut self.up, self.setup.decision) else {
            return;
        };
        let mut decided = Vec::new();
        for proposal in up.machine.proposals() {
            up.asked += 1;
            decided.push(Input::Decided {
                question: Question(up.asked),
                app_server: proposal.app_server,
                number: proposal.number,
                decision,
            });
        }
        for made in up.machine.settlements() {
            let settlement = made.pair.value();
            let (app_server, number) = (settlement.app_server, settlement.number);
            let is_paid = || stage.payments.contains(&(app_server, self.id, number));
            // Who owes pays; the other one sees it come in.
            if made.unpaid.is_some() && (settlement.due > 0 || is_paid()) {
                up.asked += 1;
                let order = Order::PaySettlement {
                    app_server,
                    number,
                    reference: format!("settlement {number} with {app_server}"),
                };
                let question = Question(up.asked);
                decided.push(Input::Ordered { question, order });
            }
        }
        for input in decided {
            self.push(stage, input);
        }
        self.plan(stage, stage.now + DECIDE_EVERY, Within::Decide);
    }

    pub(super) fn registry_asked(
        &mut self,
        stage: &mut Stage,
        (peer, ask): (Peer, u64),
        request: RegistryRequest,
    ) {
        match registering(request, (&mut stage.signatures, &stage.network)) {
            Ok(asked) => {
                let from = stage.directory.id(peer);
                let asker = asker(stage, (peer, ask));
                if let Some(question) = self.question(asker) {
                    let input = Input::Registry {
                        question,
                        from,
                        asked,
                    };
                    self.push(stage, input);
                }
            }
            Err(refusal) => {
                let body = Body::RegistryAnswered(RegistryReply::Refused(refusal));
                self.reply(stage, (peer, ask), body);
            }
        }
    }

    pub(super) fn redeem_asked(
        &mut self,
        stage: &mut Stage,
        (peer, ask): (Peer, u64),
        request: RedeemRequest,
    ) {
        match redeeming(request, (&mut stage.signatures, &stage.network)) {
            Ok(asked) => {
                let from = stage.directory.id(peer);
                let asker = asker(stage, (peer, ask));
                if let Some(question) = self.question(asker) {
                    let input = Input::Redeem {
                        question,
                        from,
                        asked,
                    };
                    self.push(stage, input);
                }
            }
            Err(_) => {
                let refused = RedeemReply::Refused(Refusal::Unverified);
                self.reply(stage, (peer, ask), Body::RedeemAnswered(refused));
            }
        }
    }

    /// Answers about points.
    pub(super) fn answer_redeem(
        &mut self,
        stage: &mut Stage,
        to: (Peer, u64),
        mut reply: RedeemReply,
    ) {
        let me = Me::coordinator((self.peer, self.id), &self.setup, stage);
        let said = self.conduct.redeem_reply(&mut reply, &me, &mut self.chance);
        if let Some(how) = said {
            let (by, to) = (self.peer, to.0);
            stage.note(&Happening::Cheated { by, to, how });
        }
        self.reply(stage, to, Body::RedeemAnswered(reply));
    }

    /// Answers what devices have.
    pub(super) fn answer_points(&self, stage: &mut Stage, to: (Peer, u64), of: &[Holder]) {
        let app_server = stage.directory.id(to.0);
        let statements = of.iter();
        let statements = statements.filter_map(|holder| self.statement(stage, app_server, *holder));
        let reply = RegistryReply::Points(statements.collect());
        self.reply(stage, to, Body::RegistryAnswered(reply));
    }

    /// Notes that an app server is to be told of the points of a holder.
    pub(super) fn expect_to_tell(&mut self, stage: &mut Stage, app_server: NodeId, holder: Holder) {
        let Some((up, peer)) = self.up.as_mut().zip(stage.directory.peer(&app_server)) else {
            return;
        };
        up.partners.untold.entry(peer).or_default().insert(holder);
        self.tell_partner(stage, peer);
    }

    /// Tells an app server of points, unless it is being told.
    pub(super) fn tell_partner(&mut self, stage: &mut Stage, to: Peer) {
        let Some(up) = &mut self.up else {
            return;
        };
        if up.partners.told.values().any(|(told, _)| *told == to) {
            return;
        }
        if up.writing.is_some() {
            // The machine is ahead of the disk.
            return self.plan(stage, stage.now + NEXT_LOOK, Within::Tell(to));
        }
        let Some(untold) = up.partners.untold.remove(&to) else {
            return;
        };
        let (now, later): (Vec<_>, Vec<_>) =
            (0..).zip(untold).partition(|(n, _)| *n < STATEMENTS_MAX);
        let holders: Vec<Holder> = now.into_iter().map(|(_, holder)| holder).collect();
        if !later.is_empty() {
            let later = later.into_iter().map(|(_, holder)| holder).collect();
            up.partners.untold.insert(to, later);
        }
        let app_server = stage.directory.id(to);
        let statements = holders.iter();
        let statements = statements.filter_map(|holder| self.statement(stage, app_server, *holder));
        let told = RegistryRequest::Told(statements.collect());
        let ask = stage.ask(self.peer, to, Body::RegistryAsked(told));
        if let Some(up) = &mut self.up {
            up.partners.told.insert(ask, (to, holders));
        }
    }

    /// An app server has heard what it was told.
    pub(super) fn partner_told(&mut self, stage: &mut Stage, ask: u64) {
        let told = self.up.as_mut().map(|up| up.partners.told.remove(&ask));
        if let Some((to, _)) = told.flatten() {
            self.tell_partner(stage, to);
        }
    }

    /// Nobody answered in time: what was told will be told again.
    pub(crate) fn unanswered(&mut self, stage: &mut Stage, ask: u64) {
        let Some(up) = &mut self.up else {
            return;
        };
        if let Some((to, holders)) = up.partners.told.remove(&ask) {
            up.partners.untold.entry(to).or_default().extend(holders);
            self.plan(stage, stage.now + TELL_AGAIN, Within::Tell(to));
        }
    }

    /// Notes what an event about agreements, registrations or points has made a fact.
    pub(super) fn note_partner(&self, stage: &mut Stage, event: &Event) {
        let what = partner_event(event, stage);
        let by = self.peer;
        let Some(what) = what else {
            return stage.breach(by, "an event is in the log that nobody signed");
        };
        let node = |id: &NodeId| stage.directory.peer(id).unwrap_or(by);
        if let (Noted::Settled(number, "paid"), Event::SettlementPaid { with, .. }) = (&what, event)
        {
            stage.payments.insert((*with, self.id, *number));
        }
        let what = match what {
            Noted::Settled(number, how) => Happening::SettlementStands { by, number, how },
            Noted::Agreed(with) => Happening::Agreed {
                by,
                with: node(&with),
            },
            Noted::Registered(device, holds) => Happening::Registered {
                by,
                device: node(&device),
                holds,
            },
            Noted::Redeemed(redemption, how) => Happening::Redeemed {
                by,
                redemption,
                how,
            },
        };
        stage.note(&what);
    }

    /// Signs what a holder has.
    fn statement(
        &self,
        stage: &mut Stage,
        app_server: NodeId,
        holder: Holder,
    ) -> Option<Signed<PointStatement>> {
        let up = self.up.as_ref()?;
        let Totals {
            earned,
            escrowed,
            spendable,
            redeemed,
        } = up.machine.totals(holder);
        let head = up.head.tree();
        let statement = PointStatement {
            app_server,
            holder,
            earned,
            escrowed,
            spendable,
            redeemed,
            size: head.size,
            root: head.root,
            at: self.setup.clock.read(stage.now),
        };
        let (network, key) = (&stage.network, &self.setup.key);
        let signed = stage.signatures.sign(statement, network, key);
        Some(signed.signed().clone())
    }
}

/// What an event of the talk with app servers says.
enum Noted {
    Agreed(NodeId),
    Registered(NodeId, bool),
    Redeemed(RedemptionId, Redeeming),
    Settled(u32, &'static str),
}

/// Reads an event; none if a statement in it does not hold.
fn partner_event(event: &Event, stage: &mut Stage) -> Option<Noted> {
    let (signatures, network) = (&mut stage.signatures, &stage.network);
    Some(match event {
        Event::AgreementMade { agreement } => {
            let agreement = signatures.verify(agreement.statement.clone(), network);
            Noted::Agreed(agreement.ok()?.app_server)
        }
        Event::DeviceRegistered { registration } => {
            let registration = signatures.verify(registration.clone(), network).ok()?;
            Noted::Registered(registration.holder.device, true)
        }
        Event::RegistrationRevoked { revocation } => {
            let revocation = signatures.verify(revocation.clone(), network).ok()?;
            Noted::Registered(revocation.device, false)
        }
        Event::PointsReserved { redeem, .. } => {
            Noted::Redeemed(RedemptionId::of(redeem), Redeeming::Reserved)
        }
        Event::ReservationEnded { redemption } => Noted::Redeemed(*redemption, Redeeming::Freed),
        Event::PointsRedeemed { redemption } => {
            let redemption = signatures.verify(redemption.clone(), network).ok()?;
            let id = RedemptionId::of(&redemption.redeem);
            Noted::Redeemed(id, Redeeming::Taken)
        }
        Event::RedemptionReversed { reversal } => {
            let reversal = signatures.verify(reversal.clone(), network).ok()?;
            Noted::Redeemed(reversal.redemption, Redeeming::GivenBack)
        }
        Event::SettlementMade { settlement, .. } => {
            let settlement = signatures.verify(settlement.statement.clone(), network);
            Noted::Settled(settlement.ok()?.number, "agreed")
        }
        Event::SettlementPaid { number, .. } => Noted::Settled(*number, "paid"),
        Event::RateCardPublished { .. }
        | Event::DeviceCertified { .. }
        | Event::TaskAccepted { .. }
        | Event::BatchValidated { .. }
        | Event::TaskEnded { .. }
        | Event::TaskSettled { .. }
        | Event::Receipted { .. }
        | Event::Deposited { .. }
        | Event::PaidOut { .. }
        | Event::Refunded { .. }
        | Event::ClawedBack { .. }
        | Event::Released { .. }
        | Event::Expired { .. }
        | Event::OrderCharged { .. }
        | Event::OrderPaid { .. }
        | Event::OrderRefunded { .. } => return None,
    })
}

const fn asker(stage: &Stage, (peer, ask): (Peer, u64)) -> Asker {
    let (since, results) = (stage.now, None);
    Asker {
        peer,
        ask,
        since,
        results,
    }
}

/// Checks every statement of a question about agreements, registrations and points.
fn registering(
    request: RegistryRequest,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Result<Registering, Refusal> {
    let unverified = |_: VerifyError| Refusal::Unverified;
    match request {
        RegistryRequest::Agree(signed) => {
            let agreement = signatures.verify(signed, network);
            agreement.map(Registering::Agree).map_err(unverified)
        }
        RegistryRequest::Register(told) if told.len() <= STATEMENTS_MAX => {
            let told = told.into_iter();
            let told = told.map(|signed| registered(signed, (signatures, network)));
            told.collect::<Result<_, _>>().map(Registering::Register)
        }
        RegistryRequest::Revoke(told) if told.len() <= STATEMENTS_MAX => {
            let told = told.into_iter();
            let told = told.map(|signed| signatures.verify(signed, network).map_err(unverified));
            told.collect::<Result<_, _>>().map(Registering::Revoke)
        }
        RegistryRequest::Points(devices) if devices.len() <= STATEMENTS_MAX => {
            Ok(Registering::Points(devices))
        }
        RegistryRequest::Register(_) | RegistryRequest::Revoke(_) | RegistryRequest::Points(_) => {
            Err(Refusal::Malformed)
        }
        RegistryRequest::Settle(request) => {
            let stated = request.check(network)?;
            Ok(Registering::Settle(Box::new(stated)))
        }
        RegistryRequest::Told(_) => Err(Refusal::WrongRole),
    }
}

/// Checks every statement of a question about points.
fn redeeming(
    request: RedeemRequest,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Result<Asked, VerifyError> {
    Ok(match request {
        RedeemRequest::Reserve {
            redeem,
            certificate,
        } => {
            let certificate = certificate.map(|shown| signatures.verify(shown, network));
            Asked::Reserve {
                redeem: signatures.verify(redeem, network)?,
                certificate: certificate.transpose()?,
            }
        }
        RedeemRequest::Post(id) => Asked::Post(id),
        RedeemRequest::Void(id) => Asked::Void(id),
        RedeemRequest::Reverse(signed) => Asked::Reverse(signatures.verify(signed, network)?),
    })
}
