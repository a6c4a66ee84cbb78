//! The conversations, each with its place in the service: asked by this node, and asked of it.

use std::fmt;

use libp2p::request_response::{Event, ResponseChannel};
use tally_protocol::id::NodeId;
use tally_protocol::message::Refusal;
use tally_protocol::message::work::{WorkReply, WorkRequest};
use tokio::sync::oneshot;

use super::super::conversation::{Answered, Conversation, Question, Questions, Talk};
use super::super::{Answer, AskError, NetworkEvent};
use super::{Customer, Enroll, Log, Redeem, Registry, Service, Work};

/// A conversation that the service holds.
pub(in super::super) trait Held: Conversation {
    /// Returns its open questions and its behaviour.
    fn held(service: &mut Service) -> (&mut Questions<Self>, &mut Talk<Self>);

    /// Returns what a question of a peer is for the owner of the node.
    fn asked(from: NodeId, request: Self::Request, answer: Answer<Self::Reply>) -> NetworkEvent;

    /// Answers what needs no owner.
    fn answer_at_once(_: &Service, _: &Self::Request) -> Option<Self::Reply> {
        None
    }
}

/// Implements [`Held`]: the field of a conversation, its event, and what it answers at once.
macro_rules! held {
    ($conversation:ident, $field:ident, $event:ident $(, $($at_once:tt)+)?) => {
        impl Held for $conversation {
            fn held(service: &mut Service) -> (&mut Questions<Self>, &mut Talk<Self>) {
                let talk = &mut service.swarm.behaviour_mut().$field;
                (&mut service.$field, talk)
            }

            fn asked(
                from: NodeId,
                request: Self::Request,
                answer: Answer<Self::Reply>,
            ) -> NetworkEvent {
                NetworkEvent::$event {
                    from,
                    request,
                    answer,
                }
            }

            $($($at_once)+)?
        }
    };
}

held!(
    Work,
    work,
    WorkAsked,
    fn answer_at_once(service: &Service, request: &WorkRequest) -> Option<WorkReply> {
        let role = || WorkReply::Role(service.role.signed().clone());
        matches!(request, WorkRequest::Hello).then(role)
    }
);
held!(Customer, customer, CustomerAsked);
held!(Log, log, LogAsked);
held!(Registry, registry, RegistryAsked);
held!(Redeem, redeem, RedeemAsked);
held!(Enroll, enroll, EnrollAsked);

/// A question to a peer, of whatever conversation.
pub(in super::super) struct Asking(Box<dyn FnOnce(&mut Service) + Send>);

impl Asking {
    pub(in super::super) fn new<C: Held>(
        to: NodeId,
        request: C::Request,
        reply: oneshot::Sender<Result<C::Reply, AskError>>,
    ) -> Self {
        Self(Box::new(move |service| {
            let (questions, talk) = C::held(service);
            questions.ask(talk, to, request, reply);
        }))
    }

    pub(super) fn ask(self, service: &mut Service) {
        self.0(service);
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

impl Service {
    pub(super) fn on_talk<C: Held>(&mut self, event: Event<Question<C>, C::Reply>) {
        let (questions, talk) = C::held(self);
        if let Some((from, request, channel)) = questions.on_event(talk, event) {
            self.on_asked::<C>(from, request, channel);
        }
    }

    fn on_asked<C: Held>(
        &mut self,
        from: NodeId,
        request: C::Request,
        channel: ResponseChannel<C::Reply>,
    ) {
        if let Some(reply) = C::answer_at_once(self, &request) {
            self.answer::<C>((channel, reply));
        } else if self.can_ask_owner() {
            let (questions, _) = C::held(self);
            let answer = questions.open_answer(channel);
            self.tell(C::asked(from, request, answer));
        } else {
            self.answer::<C>((channel, C::refused(Refusal::Busy)));
        }
    }

    pub(super) fn answer<C: Held>(&mut self, (channel, reply): Answered<C>) {
        let (questions, talk) = C::held(self);
        questions.answer(talk, channel, reply);
    }
}
