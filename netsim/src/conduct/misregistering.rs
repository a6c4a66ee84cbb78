//! Registrations that do not make a terminal one of an app server's.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::account::Holder;
use tally_protocol::id::NodeId;
use tally_protocol::message::work::{Pull, WorkRequest};
use tally_protocol::registration::{Enrolment, Registration};
use tally_protocol::signed::{Signed, Verified};

use super::keeping::empty_pull;
use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;

/// How often it asks for work by a registration that does not count.
const SHOWS_EVERY: Duration = Duration::from_secs(2);
/// How long a forged registration holds.
const HOLDS: Duration = Duration::from_secs(3_600);

/// Asks for work with a registration that another device has shown, or that it has made itself: in the name of nobody
/// with whom there is an agreement, in another's name, or by a clock of long ago.
#[derive(Debug, Default)]
pub(super) struct Misregistering {
    /// One that was its own, to be shown when it is over.
    own: Option<Signed<Registration>>,
}

impl Conduct for Misregistering {
    fn pull(&mut self, pull: &mut Pull, _: &Me<'_>, _: &mut Chance) -> Option<&'static str> {
        let shown = pull.registration.clone()?;
        self.own.get_or_insert(shown);
        None
    }

    fn acts_every(&self) -> Option<Duration> {
        Some(SHOWS_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let made = self.registration(me, chance);
        let to = chance.choose(me.coordinators).copied();
        let cheat = made.zip(to).map(|((how, registration), (to, _))| {
            let pull = Pull {
                want: 1,
                registration: Some(registration),
                ..empty_pull(me)
            };
            let message = Message::Work(WorkRequest::Pull(Box::new(pull)));
            Cheat { how, to, message }
        });
        cheat.into_iter().collect()
    }
}

impl Misregistering {
    fn registration(
        &self,
        me: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<(&'static str, Signed<Registration>)> {
        let nobody = SigningKey::from_bytes(&chance.bytes());
        let own = (me.key, me.id);
        Some(match chance.below(5) {
            0 => {
                let pulls = me.wire.pulls.iter().rev();
                let others = pulls.filter(|(from, _)| *from != me.peer);
                let mut shown = others.filter_map(|(_, pull)| pull.registration.clone());
                ("registration: another device's", shown.next()?)
            }
            1 => {
                let forged = forged(me, own, (&nobody, id(&nobody)));
                ("registration: by nobody with an agreement", forged)
            }
            2 => {
                let forged = forged(me, own, (me.key, app_server(me)?));
                ("registration: not by the app server", forged)
            }
            3 => {
                let device = (&nobody, id(&nobody));
                let forged = forged(me, device, (me.key, app_server(me)?));
                ("registration: of an unknown device", forged)
            }
            _ => ("registration: of long ago", self.own.clone()?),
        })
    }
}

/// Returns an app server that others are registered at.
fn app_server(me: &Me<'_>) -> Option<NodeId> {
    let mut shown = me.wire.pulls.iter().rev();
    let shown = shown.find_map(|(_, pull)| pull.registration.clone())?;
    let shown = shown.verify(me.network).ok()?;
    Some(shown.signer())
}

/// Makes a registration of a device at an app server, signed by this key.
fn forged(
    me: &Me<'_>,
    (device_key, device): (&SigningKey, NodeId),
    (key, app_server): (&SigningKey, NodeId),
) -> Signed<Registration> {
    let product: tally_protocol::product::ProductId =
        "photo".parse().expect("a legal name of a product");
    let enrolment = Enrolment {
        app_server,
        product: product.clone(),
        owner: device,
        at: me.now,
    };
    let enrolment = Verified::sign(enrolment, me.network, device_key);
    let registration = Registration {
        product,
        holder: Holder::alone(device),
        certificate: None,
        enrolment: enrolment.signed().clone(),
        issued: me.now,
        expires: me.now + HOLDS,
        serial: 1,
    };
    let signed = Verified::sign(registration, me.network, key);
    signed.signed().clone()
}

fn id(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}
