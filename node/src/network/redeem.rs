//! `/tally/redeem/1`: app server and coordinator, about points that are redeemed.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::redeem::{REDEEM_BYTES_MAX, RedeemReply, RedeemRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::redeem`].
#[derive(Debug, Clone)]
pub(super) struct Redeem;

impl Conversation for Redeem {
    type Request = RedeemRequest;
    type Reply = RedeemReply;
    const TOPIC: &'static str = "redeem";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/redeem/1");
    const BYTES_MAX: usize = REDEEM_BYTES_MAX;
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> RedeemReply {
        RedeemReply::Refused(refusal)
    }

    fn refusal(reply: &RedeemReply) -> Option<&Refusal> {
        match reply {
            RedeemReply::Refused(refusal) => Some(refusal),
            RedeemReply::Reserved(_)
            | RedeemReply::Posted(_)
            | RedeemReply::Voided
            | RedeemReply::Reversed
            | RedeemReply::Not(_) => None,
        }
    }
}
