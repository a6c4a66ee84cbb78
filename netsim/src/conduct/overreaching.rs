//! An app server that takes what is not its own.

use std::time::Duration;

use tally_protocol::id::RedemptionId;
use tally_protocol::message::redeem::RedeemRequest;
use tally_protocol::message::registry::RegistryRequest;
use tally_protocol::redemption::Reversal;
use tally_protocol::registration::Revocation;
use tally_protocol::signed::Verified;

use super::{Cheat, Conduct, Me, Message};
use crate::chance::Chance;
use crate::peer::Peer;

/// How often it tries something.
const REACHES_EVERY: Duration = Duration::from_secs(4);

/// Says again what owners have signed for others and for itself, takes points that were never set aside or for another
/// one, gives back and lets go those of others, and revokes what others have registered. Beside that it is honest.
#[derive(Debug)]
pub(super) struct Overreaching;

impl Conduct for Overreaching {
    fn acts_every(&self) -> Option<Duration> {
        Some(REACHES_EVERY)
    }

    fn act(&mut self, me: &Me<'_>, chance: &mut Chance) -> Vec<Cheat> {
        let cheat = reach(me, chance);
        let to = chance.choose(me.coordinators).copied();
        let cheat = cheat.zip(to);
        let cheat = cheat.map(|((how, message), (to, _))| Cheat { how, to, message });
        cheat.into_iter().collect()
    }
}

fn reach(me: &Me<'_>, chance: &mut Chance) -> Option<(&'static str, Message)> {
    let is_own = |peer: Peer| peer == me.peer;
    let heard: Vec<&(Peer, RedeemRequest)> = me.wire.redeems.iter().collect();
    let (from, request) = chance.choose(&heard).copied()?;
    let redeem = |how, request| Some((how, Message::Redeem(request)));
    match (chance.below(5), request) {
        (0, _) => {
            let made_up = chance.bytes();
            let id = RedemptionId::from_bytes(*made_up.first_chunk()?);
            redeem("takes points never set aside", RedeemRequest::Post(id))
        }
        (1, RedeemRequest::Reserve { .. }) if is_own(*from) => {
            redeem("asks for its old redemption again", request.clone())
        }
        (_, RedeemRequest::Reserve { .. }) if !is_own(*from) => {
            redeem("asks for another's redemption", request.clone())
        }
        (2, RedeemRequest::Post(id)) if !is_own(*from) => {
            redeem("takes another's points", RedeemRequest::Post(*id))
        }
        (3, RedeemRequest::Post(id)) if !is_own(*from) => {
            redeem("lets another's points go", RedeemRequest::Void(*id))
        }
        (_, RedeemRequest::Post(id)) if !is_own(*from) => {
            let reversal = Reversal {
                redemption: *id,
                reason: "mine".to_owned(),
                at: me.now,
            };
            let reversal = Verified::sign(reversal, me.network, me.key);
            let request = RedeemRequest::Reverse(reversal.signed().clone());
            redeem("gives another's points back", request)
        }
        _ => {
            let (_, pull) = me.wire.pulls.iter().next_back()?;
            let shown = pull.registration.clone()?.verify(me.network).ok()?;
            let revocation = Revocation {
                device: shown.holder.device,
                serial: u64::MAX,
                at: me.now,
                reason: "mine".to_owned(),
            };
            let revocation = Verified::sign(revocation, me.network, me.key);
            let told = vec![revocation.signed().clone()];
            let message = Message::Registry(RegistryRequest::Revoke(told));
            Some(("revokes another's registration", message))
        }
    }
}
