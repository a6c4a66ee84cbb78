//! Computers and coordinators that ask: their signatures are checked on other threads before the machine hears of it.

use tally_protocol::app_server::{Answer, Fault, Input, Opening, SignedPoints};
use tally_protocol::coordinator::Question;
use tally_protocol::id::{NetworkId, NodeId};
use tally_protocol::license::REDEMPTIONS_MAX;
use tally_protocol::message::Refusal;
use tally_protocol::message::enroll::{EnrollReply, EnrollRequest, PointsShown};
use tally_protocol::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use tally_protocol::time::Timestamp;
use tokio::task::spawn_blocking;

use super::{Asks, Message, Shell};
use crate::error::joined;
use crate::network::{Answer as Reached, verified};

impl Shell {
    /// Answers a computer that only looks; what changes something is checked first.
    pub(super) fn enroll_asked(
        &mut self,
        now: Timestamp,
        from: NodeId,
        request: EnrollRequest,
        answer: Reached<EnrollReply>,
    ) {
        let machine = &self.machine;
        let owner = machine.owner_of(from, now);
        let unknown = || EnrollReply::Not(Fault::UnknownDevice);
        match request {
            EnrollRequest::Catalogue => answer.send(EnrollReply::Catalogue(machine.catalogue())),
            EnrollRequest::Product(id) => {
                let product = machine.products().find(|product| product.id == id);
                let shown = product.map(|product| EnrollReply::Product(Box::new(product.clone())));
                answer.send(shown.unwrap_or(EnrollReply::Not(Fault::UnknownProduct)));
            }
            EnrollRequest::Offer(id) => {
                let offer = machine.offers().find(|offer| offer.id == id);
                let shown = offer.map(|offer| EnrollReply::Offer(Box::new(offer.clone())));
                answer.send(shown.unwrap_or(EnrollReply::Not(Fault::UnknownOffer)));
            }
            EnrollRequest::StatusList => answer.send(match machine.status_list() {
                Some(list) => EnrollReply::StatusList(list.clone()),
                None => EnrollReply::Refused(Refusal::Busy),
            }),
            EnrollRequest::Purse => {
                let purse = owner.map(|owner| EnrollReply::Purse(machine.purse(owner, now)));
                answer.send(purse.unwrap_or_else(unknown));
            }
            EnrollRequest::Order(id) => {
                let order = machine.order(id);
                // Others' orders are as unknown as those that are not.
                let own = order.filter(|order| Some(order.owner) == owner);
                let shown = own.map(|order| EnrollReply::Order(Box::new(order.shown())));
                answer.send(shown.unwrap_or(EnrollReply::Not(Fault::UnknownOrder)));
            }
            EnrollRequest::Open { wish, key } => match owner {
                Some(owner) => {
                    let opening = Opening { owner, wish, key };
                    let asks = move |question| Input::Opened { question, opening };
                    self.hand_on(from, Box::new(asks), answer);
                }
                None => answer.send(unknown()),
            },
            EnrollRequest::Redeem { order, .. }
                if machine.order(order).map(|order| order.owner) != owner || owner.is_none() =>
            {
                answer.send(EnrollReply::Not(Fault::UnknownOrder));
            }
            request @ (EnrollRequest::Redeem { .. } | EnrollRequest::Enrol { .. }) => {
                let network = self.network.network().clone();
                self.check(from, answer, move || asks_of(from, request, &network));
            }
        }
    }

    fn hand_on(&self, from: NodeId, asks: Box<dyn Asks>, answer: Reached<EnrollReply>) {
        // A full mailbox drops the answer, which tells the computer that the node is busy.
        let message = Message::EnrollChecked(from, asks, answer);
        let _ = self.mailbox.try_send(message);
    }

    fn check(
        &self,
        from: NodeId,
        answer: Reached<EnrollReply>,
        check: impl FnOnce() -> Result<Box<dyn Asks>, Refusal> + Send + 'static,
    ) {
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move {
            match joined(spawn_blocking(check).await) {
                Ok(asks) => {
                    let message = Message::EnrollChecked(from, asks, answer);
                    let _ = mailbox.send(message).await;
                }
                Err(refusal) => answer.send(EnrollReply::Refused(refusal)),
            }
        });
    }

    /// Says to a computer what the machine answers.
    pub(super) fn enroll_reply(&self, answer: Result<Answer, Fault>) -> EnrollReply {
        match answer {
            Ok(Answer::Registered(registration)) => EnrollReply::Registered(registration),
            Ok(Answer::Order(status)) => match self.machine.order(status.order) {
                Some(order) => EnrollReply::Order(Box::new(order.shown())),
                None => EnrollReply::Not(Fault::UnknownOrder),
            },
            Ok(Answer::Done | Answer::Split(_) | Answer::Settlement(_)) => {
                EnrollReply::Refused(Refusal::Malformed)
            }
            Err(fault) => EnrollReply::Not(fault),
        }
    }

    /// Hears what a coordinator tells of points.
    pub(super) fn registry_asked(
        &self,
        from: NodeId,
        request: RegistryRequest,
        answer: Reached<RegistryReply>,
    ) {
        let RegistryRequest::Told(statements) = request else {
            return answer.send(RegistryReply::Refused(Refusal::WrongRole));
        };
        if statements.len() > STATEMENTS_MAX {
            return answer.send(RegistryReply::Refused(Refusal::Malformed));
        }
        let (network, mailbox) = (self.network.network().clone(), self.mailbox.clone());
        tokio::spawn(async move {
            let verify = move || {
                let statements = statements.into_iter();
                let verified = statements.map(|of| verified(of, &network));
                verified.collect::<Result<Vec<_>, Refusal>>()
            };
            match joined(spawn_blocking(verify).await) {
                Ok(statements) => {
                    tracing::debug!(coordinator = %from, count = statements.len(), "told of points");
                    let asks = move |question| Input::Told {
                        question,
                        statements,
                    };
                    let _ = mailbox.send(Message::Told(Box::new(asks), answer)).await;
                }
                Err(refusal) => answer.send(RegistryReply::Refused(refusal)),
            }
        });
    }
}

/// Checks points that somebody shows.
///
/// # Errors
/// [`Refusal`] if there are too many, or a signature does not hold.
pub(crate) fn verified_points(
    shown: Vec<PointsShown>,
    network: &NetworkId,
) -> Result<Vec<SignedPoints>, Refusal> {
    if shown.len() > REDEMPTIONS_MAX {
        return Err(Refusal::Malformed);
    }
    let points = shown.into_iter().map(|(redeem, certificate)| {
        let certificate = certificate
            .map(|shown| verified(shown, network))
            .transpose()?;
        Ok((verified(redeem, network)?, certificate))
    });
    points.collect()
}

/// Checks the signatures of what changes something.
fn asks_of(
    from: NodeId,
    request: EnrollRequest,
    network: &NetworkId,
) -> Result<Box<dyn Asks>, Refusal> {
    match request {
        EnrollRequest::Enrol {
            enrolment,
            certificate,
        } => {
            let enrolment = verified(enrolment, network)?;
            // Each computer enrols itself, so whoever enrols many needs as many connections.
            if enrolment.signer() != from {
                return Err(Refusal::NotAdmitted);
            }
            let certificate = certificate
                .map(|shown| verified(shown, network))
                .transpose()?;
            Ok(Box::new(move |question: Question| Input::Enrolled {
                question,
                enrolment,
                certificate,
            }))
        }
        EnrollRequest::Redeem { order, points } => {
            let points = verified_points(points, network)?;
            Ok(Box::new(move |question: Question| Input::Redeemed {
                question,
                order,
                points,
            }))
        }
        EnrollRequest::Catalogue
        | EnrollRequest::Product(_)
        | EnrollRequest::Offer(_)
        | EnrollRequest::Purse
        | EnrollRequest::Open { .. }
        | EnrollRequest::Order(_)
        | EnrollRequest::StatusList => Err(Refusal::Malformed),
    }
}
