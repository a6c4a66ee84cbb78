//! What a coordinator tells of its log: its head by gossip when it has grown, and answers when somebody asks
//! (node/src/coordinator/log.rs). Only what is durable is told, so no group has to be waited for.

use std::time::Duration;

use tally_ledger::store::{Committed, Store};
use tally_protocol::merkle::TreeHead;
use tally_protocol::message::Refusal;
use tally_protocol::message::log::{LOGGED_RECEIPTS_MAX, LogReply, LogRequest, LoggedEntry};

use super::{CoordinatorNode, Within};
use crate::conduct::Me;
use crate::happening::Happening;
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Stage};

/// How often the head is gossiped at most (node/src/coordinator/log.rs).
const HEAD_EVERY: Duration = Duration::from_secs(5);

/// The head of the log, as far as others have heard of it.
#[derive(Debug)]
pub(super) struct Head {
    now: TreeHead,
    /// The size that was gossiped last.
    told: u64,
    /// It is not gossiped before this moment.
    tell_at: Moment,
    is_planned: bool,
}

impl Head {
    /// Starts with a log of which nobody has heard yet.
    pub(super) const fn new(now: TreeHead) -> Self {
        Self {
            now,
            told: 0,
            tell_at: Moment::START,
            is_planned: false,
        }
    }

    /// Returns the size and the root of the log.
    pub(super) const fn tree(&self) -> TreeHead {
        self.now
    }

    /// Notes what was committed.
    pub(super) const fn grown(&mut self, committed: &Committed) {
        self.now = TreeHead {
            size: committed.tree_size,
            root: committed.root,
        };
    }
}

impl CoordinatorNode {
    /// Gossips the head when it has grown and the last one is old enough.
    pub(super) fn tell_head(&mut self, stage: &mut Stage) {
        let Some(up) = self.up.as_mut().filter(|_| stage.heads) else {
            return;
        };
        let head = &mut up.head;
        head.is_planned &= head.tell_at > stage.now;
        if head.now.size <= head.told || head.is_planned {
            return;
        }
        if head.tell_at > stage.now {
            head.is_planned = true;
            let at = head.tell_at;
            return self.plan(stage, at, Within::TellHead);
        }
        (head.told, head.tell_at) = (head.now.size, stage.now + HEAD_EVERY);
        let now = head.now;
        let (key, network) = (&self.setup.key, &stage.network);
        let mut signed = stage.signatures.sign_head(now, network, key);
        let me = Me::coordinator((self.peer, self.id), &self.setup, stage);
        let told = self
            .conduct
            .tell_head(&mut signed, (&up.store, &me), &mut self.chance);
        let by = self.peer;
        if let Some(how) = told {
            stage.note(&Happening::Cheated { by, to: by, how });
        }
        let size = signed.head().size;
        let reached = stage.publish_head(by, signed.signed());
        stage.note(&Happening::HeadTold { by, size, reached });
    }

    pub(super) fn tell_log(&mut self, stage: &mut Stage, to: (Peer, u64), request: &LogRequest) {
        let Some(up) = &self.up else {
            return;
        };
        let key = &self.setup.key;
        let mut reply = match request {
            LogRequest::Head => {
                let head = stage.signatures.sign_head(up.head.now, &stage.network, key);
                LogReply::Head(head.signed().clone())
            }
            LogRequest::Consistency { .. }
            | LogRequest::Inclusion { .. }
            | LogRequest::Receipts { .. } => read(&up.store, request),
        };
        let me = Me::coordinator((self.peer, self.id), &self.setup, stage);
        let told = self
            .conduct
            .tell_log(&mut reply, (request, to.0), (&up.store, &me));
        if let Some(how) = told {
            let (by, to) = (self.peer, to.0);
            stage.note(&Happening::Cheated { by, to, how });
        }
        self.reply(stage, to, Body::LogAnswered(reply));
    }
}

/// Reads what is asked for, but for the head.
fn read(store: &Store, request: &LogRequest) -> LogReply {
    let read = "a store that opens can be read";
    let found = match request {
        LogRequest::Head => None,
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
