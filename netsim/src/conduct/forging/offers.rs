//! Forged offers: all of them in order but for one thing.

use std::time::Duration;

use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::message::announce::{ADDRESSES_MAX, Offer};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::unit::Limits;

use super::{Deed, Me, Message, Scene, broken};
use crate::peer::Peer;

pub(super) const DEEDS: [Deed; 7] = [
    ("offer: broken signature", |scene, _| {
        gossip(scene, broken(&own(scene.me, scene.forger.deeds)))
    }),
    ("offer: of another network", |scene, _| {
        let other = "other".parse().ok()?;
        let offer = offer(scene.me, scene.forger.deeds);
        let signed = Verified::sign(offer, &other, scene.me.key);
        gossip(scene, signed.signed().clone())
    }),
    ("offer: expired", |scene, _| {
        let mut offer = offer(scene.me, scene.forger.deeds);
        (offer.issued, offer.expires) = (scene.me.now - HOUR / 12, scene.me.now - HOUR / 60);
        sign(scene, offer)
    }),
    ("offer: from the future", |scene, _| {
        let mut offer = offer(scene.me, scene.forger.deeds);
        (offer.issued, offer.expires) = (scene.me.now + HOUR, scene.me.now + HOUR * 2);
        sign(scene, offer)
    }),
    ("offer: for ever", |scene, _| {
        let mut offer = offer(scene.me, scene.forger.deeds);
        offer.expires = scene.me.now + HOUR * 1_000;
        sign(scene, offer)
    }),
    ("offer: addresses without end", |scene, _| {
        let mut offer = offer(scene.me, scene.forger.deeds);
        offer.addresses = vec![String::new(); ADDRESSES_MAX + 1];
        sign(scene, offer)
    }),
    ("offer: of an old epoch", |scene, _| {
        let mut offer = offer(scene.me, 0);
        offer.task = TaskId::from_bytes(*scene.me.id.as_bytes());
        sign(scene, offer)
    }),
];

const HOUR: Duration = Duration::from_secs(3_600);

/// Returns an offer that is in order, but that the signer has nothing to offer.
pub(crate) fn own(me: &Me<'_>, epoch: u64) -> Signed<Offer> {
    let signed = Verified::sign(offer(me, epoch), me.network, me.key);
    signed.signed().clone()
}

fn sign(scene: &Scene<'_>, offer: Offer) -> Option<(Peer, Message)> {
    let signed = Verified::sign(offer, scene.me.network, scene.me.key);
    gossip(scene, signed.signed().clone())
}

fn gossip(scene: &Scene<'_>, offer: Signed<Offer>) -> Option<(Peer, Message)> {
    scene.to_coordinator(Message::Offer(offer))
}

fn offer(me: &Me<'_>, epoch: u64) -> Offer {
    Offer {
        task: TaskId::from_bytes(*BlobId::of(&epoch.to_be_bytes()).as_bytes()),
        epoch,
        program: BlobId::of(b"no program"),
        program_bytes: 1,
        profile: me.profile.clone(),
        limits: Limits {
            fuel: 1,
            memory_bytes: 1 << 20,
            output_bytes: 1,
        },
        open_units: 1 << 20,
        spread_millis: 0,
        sortition: u16::MAX,
        addresses: Vec::new(),
        issued: me.now,
        expires: me.now + Duration::from_secs(60),
    }
}
