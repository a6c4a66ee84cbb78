//! A terminal that plays a coordinator: it lets itself be found as one, shows roles and gives grants.

use std::time::Duration;

use tally_protocol::message::PROTOCOL_VERSION;
use tally_protocol::message::announce::{Role, RoleStatement};
use tally_protocol::message::work::{Grant, Leased, PullReply, WorkReply, WorkRequest};
use tally_protocol::rate_card::RateCard;
use tally_protocol::signed::{Signed, Verified};

use super::{Me, broken};
use crate::chance::Chance;
use crate::scenario::Rate;

/// Answers somebody who takes it for a coordinator.
pub(super) fn answer(
    asked: &WorkRequest,
    me: &Me<'_>,
    chance: &mut Chance,
) -> Option<(&'static str, WorkReply)> {
    match asked {
        WorkRequest::Hello => {
            let (how, role) = role(me, chance)?;
            Some((how, WorkReply::Role(role)))
        }
        WorkRequest::Pull(_) => {
            let (how, grant) = grant(me, chance)?;
            let leased = Some(Leased {
                grant,
                inputs: None,
                read: Signed::from_bytes(Vec::new()),
                rate_card: card(me),
            });
            let reply = PullReply {
                leased,
                ..PullReply::default()
            };
            Some((how, WorkReply::Pulled(Box::new(reply))))
        }
        WorkRequest::Nudge(_) => None,
    }
}

/// Returns a rate card of its own, which is in order.
fn card(me: &Me<'_>) -> Signed<RateCard> {
    let card = RateCard {
        version: 1,
        published: me.now,
        rates: Rate::Free.rates(),
    };
    Verified::sign(card, me.network, me.key).signed().clone()
}

fn role(me: &Me<'_>, chance: &mut Chance) -> Option<(&'static str, Signed<RoleStatement>)> {
    let own = |roles, expires| {
        let statement = RoleStatement {
            protocol: PROTOCOL_VERSION,
            roles,
            expires,
        };
        let signed = Verified::sign(statement, me.network, me.key);
        signed.signed().clone()
    };
    let (soon, minute) = (me.now + Duration::from_secs(3_600), Duration::from_secs(60));
    Some(match chance.below(5) {
        0 => {
            let (_, foreign) = me.wire.roles.iter().find(|(of, _)| *of != me.peer)?;
            ("role: another's", foreign.clone())
        }
        1 => (
            "role: expired",
            own(vec![Role::Coordinator], me.now - minute),
        ),
        2 => ("role: terminal", own(vec![Role::Terminal], soon)),
        3 => (
            "role: broken signature",
            broken(&own(vec![Role::Coordinator], soon)),
        ),
        // Anybody may be a coordinator: this one is believed, and then has only forged grants to give.
        _ => ("role: its own", own(vec![Role::Coordinator], soon)),
    })
}

fn grant(me: &Me<'_>, chance: &mut Chance) -> Option<(&'static str, Signed<Grant>)> {
    let (_, foreign) = me.wire.grants.iter().next_back()?;
    if chance.happens(0.3) {
        return Some(("grant: of another coordinator", foreign.clone()));
    }
    let copy = foreign.clone().verify(me.network).ok()?.value().clone();
    let copy = Verified::sign(copy, me.network, me.key);
    Some(if chance.happens(0.5) {
        ("grant: broken signature", broken(copy.signed()))
    } else {
        ("grant: for another device", copy.signed().clone())
    })
}
