//! What a coordinator tells of its log. It reads only what is durable, so no group has to be waited for.

use tally_ledger::store::Store;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::merkle::TreeHead;
use tally_protocol::message::Refusal;
use tally_protocol::message::log::{LOGGED_RECEIPTS_MAX, LogReply, LogRequest, LoggedEntry};

use super::CoordinatorNode;
use crate::happening::Happening;
use crate::peer::Peer;
use crate::stage::{Body, Stage};

impl CoordinatorNode {
    pub(super) fn tell_log(&self, stage: &mut Stage, to: (Peer, u64), request: &LogRequest) {
        let Some(up) = &self.up else {
            return;
        };
        let reply = if self.conduct.shows_log() {
            self.log_reply(stage, &up.store, request)
        } else {
            let (by, to, how) = (self.peer, to.0, "hides its log");
            stage.note(&Happening::Cheated { by, to, how });
            LogReply::Refused(Refusal::UnknownEntry)
        };
        self.reply(stage, to, Body::LogAnswered(reply));
    }

    fn log_reply(&self, stage: &Stage, store: &Store, request: &LogRequest) -> LogReply {
        let read = "a store that opens can be read";
        let found = match request {
            LogRequest::Head => {
                let frontier = store.head().expect(read);
                let head = TreeHead {
                    size: frontier.size(),
                    root: frontier.root(),
                };
                let signed = VerifiedCheckpoint::sign(head, &stage.network, &self.setup.key);
                Some(LogReply::Head(signed.signed().clone()))
            }
            LogRequest::Consistency { from, to } => {
                let path = store.consistency(*from, *to).expect(read);
                path.map(LogReply::Consistency)
            }
            LogRequest::Inclusion { sequence, size } => {
                let proved = store.inclusion(*sequence, *size).expect(read);
                proved.map(|proved| {
                    let (entry, path) = (proved.entry.bytes, proved.path);
                    LogReply::Inclusion(LoggedEntry { entry, path })
                })
            }
            LogRequest::Receipts { device, after } => {
                let receipts = store.receipts_of(*device, *after, LOGGED_RECEIPTS_MAX);
                Some(LogReply::Receipts(receipts.expect(read)))
            }
        };
        found.unwrap_or(LogReply::Refused(Refusal::UnknownEntry))
    }
}
