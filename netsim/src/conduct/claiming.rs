//! Certificates that do not make a device that of whom it names.

use std::time::Duration;

use tally_protocol::certificate::{DeviceCertificate, LIFE_MAX};
use tally_protocol::id::NodeId;
use tally_protocol::message::work::{Pull, WorkRequest};
use tally_protocol::points::Points;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::time::Timestamp;

use super::keeping::empty_pull;
use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;

/// How often it asks for work in the name of another owner.
const CLAIMS_EVERY: Duration = Duration::from_secs(1);

/// Asks for work, and reports one in three results, with a certificate that another device has shown, or that it has
/// made of one, or with one of its own that cannot hold.
#[derive(Debug)]
pub(super) struct Claiming;

type Certificate = Signed<DeviceCertificate>;

/// A way to claim: what it is called, and the certificate, if it can be made at the moment.
type Claim = (
    &'static str,
    fn(&Me<'_>, &mut Chance) -> Option<Certificate>,
);

const CLAIMS: [Claim; 4] = [
    ("certificate: another device's", |me, chance| {
        overheard(me, chance).map(|(_, certificate)| certificate)
    }),
    (
        "certificate: its own name on another's",
        own_name_on_anothers,
    ),
    ("certificate: expired", |me, _| {
        let begun = me.now - CLAIMS_EVERY * 2;
        Some(self_signed(me, (begun, me.now)))
    }),
    ("certificate: for ever", |me, _| {
        let ends = me.now + LIFE_MAX * 2;
        Some(self_signed(me, (me.now, ends)))
    }),
];

impl Conduct for Claiming {
    fn pull(&mut self, pull: &mut Pull, me: &Me<'_>, chance: &mut Chance) -> Option<&'static str> {
        if pull.report.is_none() || chance.happens(2.0 / 3.0) {
            return None;
        }
        pull.certificate = Some(own_name_on_anothers(me, chance)?);
        Some("reports for another owner")
    }

    fn acts_every(&self) -> Option<Duration> {
        Some(CLAIMS_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let claim = chance.choose(&CLAIMS).copied();
        let made = claim.and_then(|(how, make)| Some((how, make(me, chance)?)));
        let to = chance.choose(me.coordinators).copied();
        let cheat = made.zip(to).map(|((how, certificate), (to, _))| {
            let pull = Pull {
                want: 1,
                certificate: Some(certificate),
                ..empty_pull(me)
            };
            let message = Message::Work(WorkRequest::Pull(Box::new(pull)));
            Cheat { how, to, message }
        });
        cheat.into_iter().collect()
    }
}

/// Returns a certificate that another device has shown, with that device.
fn overheard(me: &Me<'_>, chance: &mut Chance) -> Option<(NodeId, Certificate)> {
    let shown = me.wire.pulls.iter();
    let shown = shown.filter_map(|(_, pull)| pull.certificate.as_ref());
    let all: Vec<(NodeId, Certificate)> = shown
        .filter_map(|shown| {
            let device = shown.clone().verify(me.network).ok()?.device;
            (device != me.id).then(|| (device, shown.clone()))
        })
        .collect();
    chance.choose(&all).cloned()
}

fn own_name_on_anothers(me: &Me<'_>, chance: &mut Chance) -> Option<Certificate> {
    let (device, certificate) = overheard(me, chance)?;
    let mut bytes = certificate.as_bytes().to_vec();
    let length = device.as_bytes().len();
    let place = bytes
        .windows(length)
        .position(|window| window == device.as_bytes())?;
    bytes
        .get_mut(place..place + length)?
        .copy_from_slice(me.id.as_bytes());
    Some(Signed::from_bytes(bytes))
}

/// Makes itself its own owner, for a time that cannot be.
fn self_signed(me: &Me<'_>, (not_before, not_after): (Timestamp, Timestamp)) -> Certificate {
    let certificate = DeviceCertificate {
        device: me.id,
        not_before,
        not_after,
        serial: 1,
        redeem_points: Points::ZERO,
    };
    Verified::sign(certificate, me.network, me.key)
        .signed()
        .clone()
}
