//! Forged questions of the conversation between customers and coordinators. Any key may ask.

use std::time::Duration;

use tally_protocol::id::{RateCardId, TaskId};
use tally_protocol::message::customer::CustomerRequest;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::{BlobRef, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::unit::Limits;

use super::{Deed, Me, Message, Scene, broken};
use crate::peer::Peer;

pub(super) const DEEDS: [Deed; 9] = [
    ("submit: broken signature", |scene, _| {
        let signed = Verified::sign(task(scene.me), scene.me.network, scene.me.key);
        submit(scene, broken(signed.signed()))
    }),
    ("submit: of another network", |scene, _| {
        let other = "other".parse().ok()?;
        let signed = Verified::sign(task(scene.me), &other, scene.me.key);
        submit(scene, signed.signed().clone())
    }),
    ("submit: in another's name", |scene, _| {
        let customer = scene.to.1;
        let task = Task {
            customer,
            ..task(scene.me)
        };
        sign(scene, task)
    }),
    ("submit: signed by another", |scene, _| {
        let (_, task) = scene.me.wire.tasks.iter().next_back()?;
        submit(scene, task.clone())
    }),
    ("submit: of old", |scene, _| submit(scene, of_old(scene.me))),
    ("submit: without a quorum", |scene, _| {
        let mut task = task(scene.me);
        task.quorum.agree = 0;
        sign(scene, task)
    }),
    ("watch: another's task", |scene, _| {
        let (_, task) = *scene.me.wire.watched.iter().next_back()?;
        let seen = 0;
        ask(scene, CustomerRequest::Watch { task, seen })
    }),
    ("cancel: another's task", |scene, _| {
        let (_, task) = *scene.me.wire.watched.iter().next_back()?;
        ask(scene, CustomerRequest::Cancel(task))
    }),
    ("cancel: a task that is not there", |scene, chance| {
        let task = TaskId::from_bytes(chance.bytes());
        ask(scene, CustomerRequest::Cancel(task))
    }),
];

/// Returns a task that was made too long ago.
pub(crate) fn of_old(me: &Me<'_>) -> Signed<Task> {
    let mut task = task(me);
    task.created = me.now - Duration::from_secs(48 * 3_600);
    let signed = Verified::sign(task, me.network, me.key);
    signed.signed().clone()
}

fn sign(scene: &Scene<'_>, task: Task) -> Option<(Peer, Message)> {
    let signed = Verified::sign(task, scene.me.network, scene.me.key);
    submit(scene, signed.signed().clone())
}

fn submit(scene: &Scene<'_>, task: Signed<Task>) -> Option<(Peer, Message)> {
    ask(scene, CustomerRequest::Submit(task))
}

fn ask(scene: &Scene<'_>, request: CustomerRequest) -> Option<(Peer, Message)> {
    scene.to_coordinator(Message::Customer(request))
}

/// Returns a task of the forger's own that is in order.
fn task(me: &Me<'_>) -> Task {
    Task {
        name: "forged".to_owned(),
        customer: me.id,
        created: me.now,
        program: BlobRef::of(b"program"),
        args: Vec::new(),
        input: BlobRef::of(b"input"),
        split: Split::Bytes(1),
        limits: Limits {
            fuel: 1_000_000,
            memory_bytes: 1 << 20,
            output_bytes: 64,
        },
        lease_millis: 60_000,
        quorum: Quorum {
            agree: 2,
            error_max: 4,
            total_max: 8,
        },
        merge: Merge::Concat,
        edit: None,
        on_failure: OnFailure::Fail,
        rate_card: card(me),
        max_price: 0,
        deadline_millis: 3_600_000,
    }
}

/// Returns the rate card of the coordinator that gave the last grant.
fn card(me: &Me<'_>) -> RateCardId {
    let last = me.wire.grants.iter().next_back();
    let grant = last.and_then(|(_, grant)| grant.clone().verify(me.network).ok());
    grant.map_or(RateCardId::from_bytes([0; 32]), |grant| grant.rate_card)
}
