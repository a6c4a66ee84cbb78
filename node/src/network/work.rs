//! `/tally/work/1`: terminal and coordinator.

use std::time::Duration;

use libp2p::StreamProtocol;
use tally_protocol::message::Refusal;
use tally_protocol::message::work::{WORK_BYTES_MAX, WorkReply, WorkRequest};

use super::conversation::Conversation;

/// See [`tally_protocol::message::work`].
#[derive(Debug, Clone)]
pub(super) struct Work;

impl Conversation for Work {
    type Request = WorkRequest;
    type Reply = WorkReply;
    const TOPIC: &'static str = "work";
    const PROTOCOL: StreamProtocol = StreamProtocol::new("/tally/work/1");
    const BYTES_MAX: usize = WORK_BYTES_MAX;
    const TIMEOUT: Duration = Duration::from_secs(20);

    fn refused(refusal: Refusal) -> WorkReply {
        WorkReply::Refused(refusal)
    }

    fn refusal(reply: &WorkReply) -> Option<&Refusal> {
        match reply {
            WorkReply::Refused(refusal) => Some(refusal),
            WorkReply::Role(_) | WorkReply::Pulled(_) | WorkReply::Nudged => None,
        }
    }
}
