//! How a terminal gets registered at an app server: it signs that it wants to work for a product, and asks until it is
//! answered. Its registration is on its disk; it enrols anew before that ends, and when a coordinator does not know it.

use std::time::Duration;

use tally_protocol::id::NodeId;
use tally_protocol::product::ProductId;
use tally_protocol::registration::Enrolment;
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::terminal::Input;

use super::{Asked, TerminalNode, Within};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::shop::{ShopReply, ShopRequest};
use crate::stage::{Body, Stage};

/// After this it asks again if nobody has answered.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// Before it enrols anew because a coordinator does not know it: the app server may be about to tell it.
const ANEW_AFTER: Duration = Duration::from_secs(30);
/// What is left of a registration when the next one is asked for: a third of what it holds.
const RENEWED_BEFORE: u32 = 3;

/// Where a terminal enrols.
#[derive(Debug, Clone)]
pub(crate) struct Enrols {
    pub(crate) at: Peer,
    pub(crate) app_server: NodeId,
    pub(crate) product: ProductId,
}

/// How it stands with the registration.
#[derive(Debug, Default)]
pub(super) struct Enrolling {
    /// What it says, the same until it is answered.
    word: Option<Signed<Enrolment>>,
    /// When it looks at it next.
    next: Option<Moment>,
}

impl TerminalNode {
    /// Lets it look after a registration at some moment, if it has not to do that before.
    pub(super) fn enrol_at(&mut self, stage: &mut Stage, place: usize, at: Moment) {
        let Some(up) = &mut self.up else {
            return;
        };
        let enrolling = up.enrolling.entry(place).or_default();
        if enrolling.next.is_none_or(|next| next > at) {
            enrolling.next = Some(at);
            self.plan(stage, at, Within::Enrol(place));
        }
    }

    /// A coordinator does not know that it is registered.
    pub(super) fn enrol_anew(&mut self, stage: &mut Stage) {
        let now = self.setup.clock.read(stage.now);
        for place in 0..self.setup.enrols.len() {
            let known = self.registered.get(&place);
            if known.is_none_or(|known| now.since(known.issued) >= ANEW_AFTER) {
                self.registered.remove(&place);
                self.enrol_at(stage, place, stage.now + ANEW_AFTER);
            }
        }
    }

    /// Enrols, unless its registration holds for some time yet.
    pub(super) fn enrol(&mut self, stage: &mut Stage, place: usize) {
        let enrolling = self.up.as_mut().map(|up| up.enrolling.entry(place));
        let enrolling = enrolling.map(|enrolling| enrolling.or_default());
        let Some(enrolling) = enrolling.filter(|it| it.next == Some(stage.now)) else {
            return;
        };
        enrolling.next = None;
        let word = enrolling.word.clone();
        if let Some(at) = self.renews_at(place)
            && at > stage.now
        {
            return self.enrol_at(stage, place, at);
        }
        let word = word.unwrap_or_else(|| self.word(stage, place));
        let shown = self.setup.certificate.as_ref();
        let request = ShopRequest::Enrol {
            enrolment: word.clone(),
            certificate: shown.map(|shown| shown.signed().clone()),
        };
        let at = self.setup.enrols[place].at;
        let ask = stage.ask(self.peer, at, Body::ShopAsked(Box::new(request)));
        if let Some(up) = &mut self.up {
            up.enrolling.entry(place).or_default().word = Some(word);
            up.asks.insert(ask, Asked::Enrol(at, place));
        }
        self.enrol_at(stage, place, stage.now + ASK_AGAIN);
    }

    /// Signs that it wants to work for a product.
    fn word(&self, stage: &mut Stage, place: usize) -> Signed<Enrolment> {
        let Enrols {
            app_server,
            product,
            ..
        } = self.setup.enrols[place].clone();
        let shown = self.setup.certificate.as_ref();
        let enrolment = Enrolment {
            app_server,
            product,
            owner: shown.map_or(self.id, Verified::signer),
            at: self.setup.clock.read(stage.now),
        };
        let (network, key) = (&stage.network, &self.setup.key);
        let signed = stage.signatures.sign(enrolment, network, key);
        signed.signed().clone()
    }

    /// Takes the answer of an app server.
    pub(super) fn enrolled(&mut self, stage: &mut Stage, ask: u64, reply: ShopReply) {
        let up = self.up.as_mut();
        let asked = up.and_then(|up| up.asks.remove(&ask));
        let (Some(Asked::Enrol(at, place)), Some(up)) = (asked, &mut self.up) else {
            return;
        };
        // What was said once is not said again: an app server may refuse it for good.
        up.enrolling.entry(place).or_default().word = None;
        let ShopReply::Registered(signed) = reply else {
            return;
        };
        let Ok(registration) = stage.signatures.verify(signed, &stage.network) else {
            return self.refuse(stage, at, "registration_unverified");
        };
        if registration.signer() != stage.directory.id(at) || registration.holder.device != self.id
        {
            return self.refuse(stage, at, "registration_of_another");
        }
        self.registered.insert(place, registration.clone());
        self.feed(stage, Input::Registered(Box::new(registration)));
        if let Some(at) = self.renews_at(place) {
            self.enrol_at(stage, place, at);
        }
    }

    /// Returns when it enrols anew.
    fn renews_at(&self, place: usize) -> Option<Moment> {
        let known = self.registered.get(&place)?;
        let left = known.expires.since(known.issued) / RENEWED_BEFORE;
        Some(self.setup.clock.when(known.expires - left))
    }
}
