//! Questions of users, shops and coordinators, on their way to the machine.

use std::collections::BTreeMap;

use tally_protocol::account::Money;
use tally_protocol::app_server::{AppServer, Command, IdempotencyKey, Input, Opening};
use tally_protocol::id::{NetworkId, NodeId, VoucherId};
use tally_protocol::message::Refusal;
use tally_protocol::message::registry::{RegistryReply, RegistryRequest, STATEMENTS_MAX};
use tally_protocol::points::Points;
use tally_protocol::signed::VerifyError;

use super::{AppServerNode, Asker, NEXT_LOOK, Within};
use crate::happening::Happening;
use crate::peer::Peer;
use crate::shop::{ShopReply, ShopRequest, SignedRedeem};
use crate::signatures::Signatures;
use crate::stage::{Body, Envelope, Stage};

/// What a shop wants to use.
#[derive(Debug, Clone)]
pub(super) struct Using {
    pub(super) voucher: VoucherId,
    pub(super) fee: Money,
    pub(super) key: IdempotencyKey,
}

impl AppServerNode {
    pub(super) fn asked(
        &mut self,
        stage: &mut Stage,
        (from, ask): (Peer, u64),
        request: ShopRequest,
    ) {
        if self.up.as_ref().is_some_and(|up| up.writing.is_some()) {
            // The machine is ahead of the disk.
            let request = Within::Asked(from, ask, Box::new(request));
            return self.plan(stage, stage.now + NEXT_LOOK, request);
        }
        let Some(up) = &self.up else {
            return;
        };
        match &request {
            ShopRequest::Points(owner) => {
                let points = spendable(&up.machine, *owner);
                self.say(stage, (from, ask), ShopReply::Points(points));
            }
            ShopRequest::Look(order) => {
                let known = up.machine.order(*order);
                let reply = known.map_or(ShopReply::Refused("unknown_order"), |order| {
                    let goods = order.goods().cloned().map(Box::new);
                    ShopReply::Order(Box::new(order.status()), goods)
                });
                self.say(stage, (from, ask), reply);
            }
            ShopRequest::Enrol { .. }
            | ShopRequest::Open { .. }
            | ShopRequest::Redeem { .. }
            | ShopRequest::Pay { .. }
            | ShopRequest::Use { .. }
            | ShopRequest::Cancel(_)
            | ShopRequest::Refund(_) => self.ask_machine(stage, (from, ask), request),
        }
    }

    /// Lets the machine take a question whose statements hold.
    fn ask_machine(&mut self, stage: &mut Stage, (from, ask): (Peer, u64), request: ShopRequest) {
        let using = using(&request, (&mut stage.signatures, &stage.network));
        let asker = Asker::Peer(from, ask, using.map(Box::new));
        let Some(question) = self.question(asker) else {
            return;
        };
        let verify = (&mut stage.signatures, &stage.network);
        match input(question, request, verify) {
            Ok(input) => self.push(stage, input),
            Err(_) => {
                if let Some(up) = &mut self.up {
                    up.questions.remove(&question);
                }
                self.say(stage, (from, ask), ShopReply::Refused("unverified"));
            }
        }
    }

    /// A coordinator tells what devices have.
    pub(super) fn told(
        &mut self,
        stage: &mut Stage,
        (from, ask): (Peer, u64),
        request: RegistryRequest,
    ) {
        let refused = |refusal| Body::RegistryAnswered(RegistryReply::Refused(refusal));
        let statements = match request {
            RegistryRequest::Told(statements) if statements.len() <= STATEMENTS_MAX => statements,
            RegistryRequest::Told(_) => {
                return self.send(stage, (from, ask), refused(Refusal::Malformed));
            }
            RegistryRequest::Agree(_)
            | RegistryRequest::Register(_)
            | RegistryRequest::Revoke(_)
            | RegistryRequest::Points(_)
            | RegistryRequest::Settle(_) => {
                return self.send(stage, (from, ask), refused(Refusal::WrongRole));
            }
        };
        let statements = statements.into_iter();
        let verify = |signed| stage.signatures.verify(signed, &stage.network);
        let statements: Result<Vec<_>, _> = statements.map(verify).collect();
        match statements {
            Ok(statements) => {
                if let Some(question) = self.question(Asker::Partner(from, ask)) {
                    let input = Input::Told {
                        question,
                        statements,
                    };
                    self.push(stage, input);
                }
            }
            Err(_) => self.send(stage, (from, ask), refused(Refusal::Unverified)),
        }
    }

    /// Answers a user or a shop.
    pub(super) fn say(&self, stage: &mut Stage, (to, ask): (Peer, u64), reply: ShopReply) {
        if let ShopReply::Refused(why) = &reply {
            let (by, from) = (self.peer, to);
            stage.note(&Happening::Refused { by, from, why });
        }
        self.send(stage, (to, ask), Body::ShopAnswered(Box::new(reply)));
    }

    pub(super) fn send(&self, stage: &mut Stage, (to, ask): (Peer, u64), body: Body) {
        let from = self.peer;
        stage.send(Envelope {
            from,
            to,
            ask,
            body,
        });
    }
}

/// Returns what an owner can spend at each coordinator, as far as is known.
fn spendable(machine: &AppServer, owner: NodeId) -> Vec<(NodeId, Points)> {
    let mut sums: BTreeMap<NodeId, u64> = BTreeMap::new();
    for device in machine.devices_of(owner) {
        for (coordinator, statement) in &device.points {
            *sums.entry(*coordinator).or_default() += statement.spendable.as_micro();
        }
    }
    let sums = sums.into_iter();
    sums.map(|(node, sum)| (node, Points::from_micro(sum)))
        .collect()
}

/// Returns what a shop wants to use.
fn using(
    request: &ShopRequest,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Option<Using> {
    let ShopRequest::Use { voucher, fee, key } = request else {
        return None;
    };
    let shown = signatures.verify(voucher.clone(), network).ok()?;
    let (voucher, fee, key) = (shown.id, *fee, key.clone());
    Some(Using { voucher, fee, key })
}

fn input(
    question: tally_protocol::coordinator::Question,
    request: ShopRequest,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Result<Input, VerifyError> {
    let ordered = |command| Input::Ordered { question, command };
    Ok(match request {
        ShopRequest::Enrol {
            enrolment,
            certificate,
        } => {
            let enrolment = signatures.verify(enrolment, network)?;
            let certificate = certificate.map(|shown| signatures.verify(shown, network));
            Input::Enrolled {
                question,
                enrolment,
                certificate: certificate.transpose()?,
            }
        }
        ShopRequest::Open { owner, wish, key } => Input::Opened {
            question,
            opening: Opening { owner, wish, key },
        },
        ShopRequest::Redeem { order, points } => {
            let mut verify = |(redeem, shown): SignedRedeem| -> Result<_, VerifyError> {
                let shown = shown.map(|shown| signatures.verify(shown, network));
                Ok((signatures.verify(redeem, network)?, shown.transpose()?))
            };
            let points = points.into_iter().map(&mut verify);
            Input::Redeemed {
                question,
                order,
                points: points.collect::<Result<_, _>>()?,
            }
        }
        ShopRequest::Pay { order, reference } => Input::Paid {
            question,
            order,
            reference,
        },
        ShopRequest::Use { voucher, fee, key } => Input::UseVoucher {
            question,
            voucher: Box::new(signatures.verify(voucher, network)?),
            fee,
            key,
        },
        ShopRequest::Cancel(order) => ordered(Command::Cancel(order)),
        ShopRequest::Refund(order) => ordered(Command::Refund(order)),
        ShopRequest::Points(_) | ShopRequest::Look(_) => {
            unreachable!("what is only looked up is not asked of the machine")
        }
    })
}
