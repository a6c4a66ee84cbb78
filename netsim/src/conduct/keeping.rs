//! Leases that are kept from others.

use std::time::Duration;

use tally_protocol::id::GrantId;
use tally_protocol::message::wishes::Wishes;
use tally_protocol::message::work::{GRANT_UNITS_MAX, Pull, WorkReply, WorkRequest};
use tally_protocol::terminal::Ran;

use super::{Answer, Cheat, Conduct, Me, Message};
use crate::chance::Chance;
use crate::happening::Unit;
use crate::peer::Peer;
use crate::wire::Latest;

/// How often a hoarder asks for more.
const HOARDS_EVERY: Duration = Duration::from_secs(2);

/// Takes leases, renews them and never reports two in three; of the others it does not give the outputs that are too
/// large for a report.
#[derive(Debug)]
pub(super) struct Withholding;

impl Conduct for Withholding {
    fn answer(&mut self, right: Ran, _: Unit, chance: &mut Chance) -> Answer {
        if chance.happens(2.0 / 3.0) {
            Answer::KeepsSilent
        } else {
            Answer::Reports(right)
        }
    }

    fn serves_outputs(&self) -> bool {
        false
    }
}

/// Asks for as many units as it can get, again and again, keeps half of its grants alive and computes nothing.
#[derive(Debug, Default)]
pub(super) struct Hoarding {
    grants: Latest<(Peer, GrantId)>,
}

impl Conduct for Hoarding {
    fn answer(&mut self, _: Ran, _: Unit, _: &mut Chance) -> Answer {
        Answer::KeepsSilent
    }

    fn hear(&mut self, from: Peer, reply: &WorkReply, me: &Me<'_>) {
        let WorkReply::Pulled(reply) = reply else {
            return;
        };
        let leased = reply.leased.as_ref();
        let grant = leased.and_then(|leased| leased.grant.clone().verify(me.network).ok());
        self.grants.push_all(grant.map(|grant| (from, grant.id)));
    }

    fn acts_every(&self) -> Option<Duration> {
        Some(HOARDS_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let hoard = |(to, _): &(Peer, _)| {
            let kept = self.grants.iter().filter(|(from, _)| from == to);
            let renew = kept.map(|(_, grant)| *grant);
            let renew = renew.filter(|_| chance.happens(0.5)).collect();
            let pull = Pull {
                want: GRANT_UNITS_MAX,
                renew,
                ..empty_pull(me)
            };
            Cheat {
                how: "hoards units",
                to: *to,
                message: Message::Work(WorkRequest::Pull(Box::new(pull))),
            }
        };
        me.coordinators.iter().map(hoard).collect()
    }
}

/// Returns a pull that wants and says nothing.
pub(super) fn empty_pull(me: &Me<'_>) -> Pull {
    Pull {
        want: 0,
        profile: me.profile.clone(),
        wishes: Wishes::within_memory(1 << 30),
        renew: Vec::new(),
        abandoned: Vec::new(),
        report: None,
        share: Vec::new(),
        certificate: None,
        registration: None,
        kept: Vec::new(),
        owed: Vec::new(),
    }
}
