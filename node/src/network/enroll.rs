//! `/tally/enroll/1`: a computer and its app server.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::enroll::{ENROLL_BYTES_MAX, EnrollReply, EnrollRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::enroll`].
#[derive(Debug, Clone)]
pub(super) struct Enroll;

impl Conversation for Enroll {
    type Request = EnrollRequest;
    type Reply = EnrollReply;
    const TOPIC: &'static str = "enroll";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/enroll/1");
    const BYTES_MAX: usize = ENROLL_BYTES_MAX;
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> EnrollReply {
        EnrollReply::Refused(refusal)
    }

    fn refusal(reply: &EnrollReply) -> Option<&Refusal> {
        match reply {
            EnrollReply::Refused(refusal) => Some(refusal),
            EnrollReply::Catalogue(_)
            | EnrollReply::Product(_)
            | EnrollReply::Offer(_)
            | EnrollReply::Registered(_)
            | EnrollReply::Purse(_)
            | EnrollReply::Order(_)
            | EnrollReply::StatusList(_)
            | EnrollReply::Not(_) => None,
        }
    }
}
