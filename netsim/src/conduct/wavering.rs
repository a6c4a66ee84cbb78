//! A coordinator that does not stand by what it has said about points.

use tally_protocol::message::redeem::{RedeemFault, RedeemReply};

use super::{Conduct, Me};
use crate::chance::Chance;

/// Changes one answer about points in three: it says that they are worth twice as much, that they are gone when they are
/// taken, or answers what was asked before. Asked again, it may tell the truth.
#[derive(Debug, Default)]
pub(super) struct Wavering {
    /// What it has answered before.
    old: Option<RedeemReply>,
}

impl Conduct for Wavering {
    fn redeem_reply(
        &mut self,
        reply: &mut RedeemReply,
        _: &Me<'_>,
        chance: &mut Chance,
    ) -> Option<&'static str> {
        if chance.happens(2.0 / 3.0) {
            return None;
        }
        let old = self.old.replace(reply.clone());
        match reply {
            RedeemReply::Reserved(reserved) if chance.happens(0.5) => {
                reserved.value.minor = reserved.value.minor.saturating_mul(2);
                Some("doubles what points are worth")
            }
            RedeemReply::Posted(_) if chance.happens(0.3) => {
                *reply = RedeemReply::Not(RedeemFault::Over);
                Some("takes points and says that they are gone")
            }
            RedeemReply::Reserved(_) | RedeemReply::Posted(_) => {
                // Another answer of the same kind is for another redemption.
                let is_same = |old: &RedeemReply| {
                    std::mem::discriminant(old) == std::mem::discriminant(reply) && old != reply
                };
                *reply = old.filter(is_same)?;
                Some("answers what was asked before")
            }
            RedeemReply::Voided
            | RedeemReply::Reversed
            | RedeemReply::Not(_)
            | RedeemReply::Refused(_) => None,
        }
    }
}
