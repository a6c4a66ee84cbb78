//! What leaves an app server once it is durable: questions to coordinators and answers to users.

use tally_protocol::app_server::{Answer, Effect, Fault, Input, Reply, Request};
use tally_protocol::coordinator::Question;
use tally_protocol::message::registry::RegistryReply;

use super::{AppServerNode, Asker, Within};
use crate::conduct::{self, Cheat, Me, Message};
use crate::happening::Happening;
use crate::peer::Peer;
use crate::shop::ShopReply;
use crate::stage::{Body, Stage};

impl AppServerNode {
    /// Carries out effects, all of whose records are durable.
    pub(super) fn release(&mut self, stage: &mut Stage, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(_)
                | Effect::Append { .. }
                | Effect::Changed(_)
                | Effect::Publish(_) => {}
                Effect::Ask {
                    question,
                    coordinator,
                    request,
                } => match stage.directory.peer(&coordinator) {
                    Some(to) => self.ask(stage, (question, to), request),
                    None => self.push(stage, Input::Failed(question)),
                },
                Effect::Answer { question, answer } => self.answer(stage, question, answer),
            }
        }
    }

    fn ask(&mut self, stage: &mut Stage, (question, to): (Question, Peer), request: Request) {
        let body = match request {
            Request::Registry(request) => Body::RegistryAsked(request),
            Request::Redeem(request) => Body::RedeemAsked(request),
        };
        let ask = stage.ask(self.peer, to, body);
        if let Some(up) = &mut self.up {
            up.asks.insert(ask, question);
        }
    }

    fn answer(&mut self, stage: &mut Stage, question: Question, answer: Result<Answer, Fault>) {
        let up = self.up.as_mut();
        let Some(asker) = up.and_then(|up| up.questions.remove(&question)) else {
            return;
        };
        match asker {
            Asker::Operator(number) => {
                self.operator.has_offered = true;
                self.ordered(stage, number, &answer);
            }
            Asker::Partner(to, ask) => {
                let body = Body::RegistryAnswered(RegistryReply::Heard);
                self.send(stage, (to, ask), body);
            }
            Asker::Peer(to, ask, using) => {
                if let (Some(using), Ok(Answer::Split(_))) = (using, &answer) {
                    stage.note(&Happening::VoucherTaken {
                        by: self.peer,
                        voucher: using.voucher,
                        fee: using.fee,
                        key: using.key.to_string(),
                    });
                }
                let reply = match answer {
                    Ok(Answer::Registered(signed)) => ShopReply::Registered(signed),
                    Ok(Answer::Order(status)) => ShopReply::Order(status, None),
                    Ok(Answer::Split(split)) => ShopReply::Split(split),
                    Ok(Answer::Done | Answer::Settlement(_)) => ShopReply::Done,
                    Err(fault) => ShopReply::Refused(fault.code()),
                };
                self.say(stage, (to, ask), reply);
            }
        }
    }

    /// Acts on its own, against the rules.
    pub(super) fn act(&mut self, stage: &mut Stage) {
        let partners = stage.directory.coordinators();
        let me = Me {
            peer: self.peer,
            id: self.id,
            key: &self.setup.key,
            network: &stage.network,
            profile: &stage.profile,
            now: self.setup.clock.read(stage.now),
            coordinators: &partners,
            wire: &stage.wire,
        };
        let cheats = self.conduct.act(&me, &mut self.chance);
        for Cheat { how, to, message } in cheats {
            let body = match message {
                Message::Registry(request) => Body::RegistryAsked(request),
                Message::Redeem(request) => Body::RedeemAsked(request),
                Message::Work(_) | Message::Customer(_) | Message::Offer(_) => continue,
            };
            let by = self.peer;
            stage.note(&Happening::Cheated { by, to, how });
            let ask = stage.ask(by, to, body);
            if let Some(up) = &mut self.up {
                up.cheats.insert(ask, (to, how));
            }
        }
        if let Some(every) = self.conduct.acts_every() {
            let pause = every.mul_f64(0.5 + self.chance.part());
            self.plan(stage, stage.now + pause, Within::Act);
        }
    }

    /// Notes what something that it did of its own accord met with.
    pub(super) fn met(&self, stage: &mut Stage, (from, how): (Peer, &'static str), reply: &Reply) {
        let by = self.peer;
        let with = match reply {
            Reply::Registry(reply) => conduct::registry_reply_name(reply),
            Reply::Redeem(reply) => conduct::redeem_reply_name(reply),
        };
        stage.note(&Happening::Met {
            by,
            from,
            how,
            with,
        });
    }
}
