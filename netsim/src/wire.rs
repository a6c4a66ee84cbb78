//! What goes over the wires, as far as dishonest nodes have got hold of it.
//!
//! Connections are encrypted, but whoever runs many nodes sees much: one memory is shared by all who use what was not
//! meant for them. It keeps the latest messages of each kind, and nothing at all in a world without such nodes.

use std::collections::VecDeque;

use tally_protocol::id::TaskId;
use tally_protocol::message::announce::{Offer, RoleStatement};
use tally_protocol::message::customer::CustomerRequest;
use tally_protocol::message::redeem::RedeemRequest;
use tally_protocol::message::work::{Grant, Pull, WorkReply, WorkRequest};
use tally_protocol::signed::Signed;
use tally_protocol::task::Task;

use crate::peer::Peer;
use crate::stage::{Body, Envelope};

/// Messages that are kept of each kind.
const KEPT_MAX: usize = 32;

/// The latest messages of each kind.
#[derive(Debug, Default)]
pub struct Wire {
    is_tapped: bool,
    /// Pulls, with who sent them.
    pub pulls: Latest<(Peer, Pull)>,
    /// Grants, with who got them.
    pub grants: Latest<(Peer, Signed<Grant>)>,
    /// Role statements, with who showed them.
    pub roles: Latest<(Peer, Signed<RoleStatement>)>,
    /// Tasks as they were submitted, with their customers.
    pub tasks: Latest<(Peer, Signed<Task>)>,
    /// Tasks that customers asked about.
    pub watched: Latest<(Peer, TaskId)>,
    /// What app servers asked about points, with who asked.
    pub redeems: Latest<(Peer, RedeemRequest)>,
    /// Offers, with who gossiped them first.
    pub offers: Latest<(Peer, Signed<Offer>)>,
}

/// The latest things of a kind.
#[derive(Debug)]
pub struct Latest<T>(VecDeque<T>);

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Latest<T> {
    /// Keeps a thing, and forgets the oldest if there are many.
    pub fn push(&mut self, thing: T) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(thing);
    }

    /// Keeps each of some things.
    pub fn push_all(&mut self, things: impl IntoIterator<Item = T>) {
        for thing in things {
            self.push(thing);
        }
    }

    /// Returns the things, the oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> + DoubleEndedIterator {
        self.0.iter()
    }
}

impl Wire {
    /// From now on, messages are kept.
    pub(crate) const fn tap(&mut self) {
        self.is_tapped = true;
    }

    /// Hears a message.
    pub(crate) fn hear(&mut self, envelope: &Envelope) {
        if !self.is_tapped {
            return;
        }
        let Envelope { from, to, body, .. } = envelope;
        match body {
            Body::WorkAsked(WorkRequest::Pull(pull)) => {
                self.pulls.push((*from, Pull::clone(pull)));
            }
            Body::WorkAnswered(WorkReply::Role(role)) => self.roles.push((*from, role.clone())),
            Body::WorkAnswered(WorkReply::Pulled(reply)) => {
                if let Some(leased) = &reply.leased {
                    self.grants.push((*to, leased.grant.clone()));
                }
            }
            Body::CustomerAsked(CustomerRequest::Submit(task)) => {
                self.tasks.push((*from, task.clone()));
            }
            Body::CustomerAsked(CustomerRequest::Watch { task, .. }) => {
                self.watched.push((*from, *task));
            }
            Body::RedeemAsked(request) => self.redeems.push((*from, request.clone())),
            Body::WorkAsked(WorkRequest::Hello | WorkRequest::Nudge(_))
            | Body::WorkAnswered(WorkReply::Nudged | WorkReply::Refused(_))
            | Body::CustomerAsked(
                CustomerRequest::List | CustomerRequest::Cancel(_) | CustomerRequest::Terms,
            )
            | Body::CustomerAnswered(_)
            | Body::LogAsked(_)
            | Body::LogAnswered(_)
            | Body::RegistryAsked(_)
            | Body::RegistryAnswered(_)
            | Body::RedeemAnswered(_)
            | Body::ShopAsked(_)
            | Body::ShopAnswered(_)
            | Body::Offered(_)
            | Body::Head(_) => {}
        }
    }

    /// Hears an offer that is gossiped.
    pub(crate) fn hear_offer(&mut self, from: Peer, offer: &Signed<Offer>) {
        if self.is_tapped {
            self.offers.push((from, offer.clone()));
        }
    }
}
