//! `/tally/log/1`: anybody and the coordinator whose log it is.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::log::{LOG_BYTES_MAX, LogReply, LogRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::log`].
#[derive(Debug, Clone)]
pub(super) struct Log;

impl Conversation for Log {
    type Request = LogRequest;
    type Reply = LogReply;
    const TOPIC: &'static str = "log";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/log/1");
    const BYTES_MAX: usize = LOG_BYTES_MAX;
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> LogReply {
        LogReply::Refused(refusal)
    }

    fn refusal(reply: &LogReply) -> Option<&Refusal> {
        match reply {
            LogReply::Refused(refusal) => Some(refusal),
            LogReply::Head(_)
            | LogReply::Consistency(_)
            | LogReply::Inclusion(_)
            | LogReply::Receipts(_) => None,
        }
    }
}
