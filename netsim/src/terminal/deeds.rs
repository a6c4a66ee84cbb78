//! What a terminal does that no honest one does: it plays a coordinator, and acts of its own accord.

use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tally_protocol::terminal::Input;

use super::link::Tie;
use super::{Asked, TerminalNode, Within, me};
use crate::conduct::{Cheat, Message};
use crate::happening::Happening;
use crate::overlay::figures::BUCKETS;
use crate::peer::Peer;
use crate::stage::{Body, Stage};

impl TerminalNode {
    /// Answers a question, as the role that it plays.
    pub(super) fn asked(
        &mut self,
        stage: &mut Stage,
        (from, ask): (Peer, u64),
        request: WorkRequest,
    ) {
        if let WorkRequest::Nudge(task) = request {
            let by = stage.directory.id(from);
            self.feed(stage, Input::Nudged { by, task });
            // A coordinator does not wait for the answer.
            if ask > 0 {
                self.send(stage, (from, ask), Body::WorkAnswered(WorkReply::Nudged));
            }
            return;
        }
        let me = me(&self.setup, (self.peer, self.id), stage, &[]);
        let posed = self.conduct.pose(&request, &me, &mut self.chance);
        let reply = match posed {
            Some((how, reply)) => {
                let (by, to) = (self.peer, from);
                stage.note(&Happening::Cheated { by, to, how });
                reply
            }
            None => {
                self.refuse(stage, from, Refusal::WrongRole.name());
                WorkReply::Refused(Refusal::WrongRole)
            }
        };
        self.send(stage, (from, ask), Body::WorkAnswered(reply));
    }

    /// Notes what something that it did of its own accord met with.
    pub(super) fn met(&mut self, stage: &mut Stage, ask: u64, with: &'static str) {
        let asked = self.up.as_mut().and_then(|up| up.asks.remove(&ask));
        if let Some(Asked::Cheat(from, how)) = asked {
            let by = self.peer;
            stage.note(&Happening::Met {
                by,
                from,
                how,
                with,
            });
        }
    }

    pub(super) fn act(&mut self, stage: &mut Stage) {
        let Some(up) = &self.up else {
            return;
        };
        let tied = up
            .ties
            .iter()
            .filter(|(_, tie)| matches!(tie, Tie::Connected));
        let coordinators: Vec<(Peer, NodeId)> = tied
            .map(|(peer, _)| (*peer, stage.directory.id(*peer)))
            .collect();
        if self.conduct.poses() {
            let bucket = u8::try_from(self.peer.0 % u32::from(BUCKETS)).unwrap_or(0);
            stage.kademlia.provide(stage.now, bucket, self.peer);
        }
        let me = me(&self.setup, (self.peer, self.id), stage, &coordinators);
        let cheats = self.conduct.act(&me, &mut self.chance);
        for Cheat { how, to, message } in cheats {
            let by = self.peer;
            stage.note(&Happening::Cheated { by, to, how });
            let body = match message {
                Message::Work(request) => Body::WorkAsked(request),
                Message::Customer(request) => Body::CustomerAsked(request),
                Message::Registry(request) => Body::RegistryAsked(request),
                Message::Redeem(request) => Body::RedeemAsked(request),
                Message::Offer(offer) => {
                    stage.publish(by, &offer);
                    continue;
                }
            };
            let ask = stage.ask(by, to, body);
            if let Some(up) = &mut self.up {
                up.asks.insert(ask, Asked::Cheat(to, how));
            }
        }
        if let Some(every) = self.conduct.acts_every() {
            let pause = every.mul_f64(0.5 + self.chance.part());
            self.plan(stage, stage.now + pause, Within::Act);
        }
    }
}
