//! Looks at the logs of coordinators, for receipts that were lost on the way: as the shell of a real node takes them.
//!
//! A look asks which entries are receipts of this device, then for the head of the log, then for one entry after
//! another with the proof that it stands there. One that is not answered is over, and taken again later.

use std::collections::VecDeque;
use std::time::Duration;

use tally_protocol::codec;
use tally_protocol::entry::{ENTRY_BYTES_MAX, Entry, Event};
use tally_protocol::merkle::proof::verify_inclusion;
use tally_protocol::merkle::{TreeHead, leaf_hash};
use tally_protocol::message::log::{LogReply, LogRequest, LoggedEntry};
use tally_protocol::receipt::Receipt;
use tally_protocol::signed::Verified;
use tally_protocol::terminal::Input;

use super::link::Tie;
use super::{Asked, TerminalNode, Within};
use crate::moment::Moment;
use crate::peer::Peer;
use crate::stage::{Body, Stage};

/// The time between two looks at one log (node/src/terminal/catch_up.rs).
const EVERY: Duration = Duration::from_secs(600);
/// The least time between two looks, and before the first.
const EVERY_MIN: Duration = Duration::from_secs(20);

/// How far a terminal has read the log of a coordinator.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// When it may look again; none while it looks.
    next: Option<Moment>,
    head: Option<TreeHead>,
    /// Entries that are still to be read.
    entries: VecDeque<u64>,
}

impl TerminalNode {
    /// Plans the next look at a log, no later than `within` from now.
    pub(super) fn plan_look(&mut self, stage: &mut Stage, at: Peer, within: Option<Duration>) {
        let Some(up) = &mut self.up else {
            return;
        };
        let latest = stage.now + within.unwrap_or(EVERY_MIN);
        let look = up.looks.entry(at).or_insert_with(|| Look {
            next: Some(latest),
            ..Look::default()
        });
        let Some(next) = &mut look.next else {
            return;
        };
        *next = (*next).min(latest);
        let next = *next;
        self.plan(stage, next, Within::Look(at));
    }

    /// A receipt is missing: its coordinator's log has it.
    pub(super) fn catch_up(&mut self, stage: &mut Stage, at: Peer) {
        self.plan_look(stage, at, Some(EVERY_MIN));
    }

    pub(super) fn look(&mut self, stage: &mut Stage, at: Peer) {
        let id = stage.directory.id(at);
        let after = self.wallet.looked_at(&id);
        let Some(up) = &mut self.up else {
            return;
        };
        let is_connected = matches!(up.ties.get(&at), Some(Tie::Connected));
        let Some(look) = up.looks.get_mut(&at).filter(|_| is_connected) else {
            return;
        };
        if look.next.is_none_or(|next| next > stage.now) {
            return;
        }
        look.next = None;
        let device = self.id;
        self.look_up(stage, at, LogRequest::Receipts { device, after });
    }

    fn look_up(&mut self, stage: &mut Stage, to: Peer, request: LogRequest) {
        self.ask_log(stage, to, (request, Asked::Log(to)));
    }

    /// Asks a coordinator about its log.
    pub(super) fn ask_log(
        &mut self,
        stage: &mut Stage,
        to: Peer,
        (request, asked): (LogRequest, Asked),
    ) {
        let ask = stage.ask(self.peer, to, Body::LogAsked(request));
        if let Some(up) = &mut self.up {
            up.asks.insert(ask, asked);
        }
    }

    /// Takes what a log says. None if no look was taken.
    pub(super) fn heard_log(&mut self, stage: &mut Stage, ask: u64, reply: LogReply) {
        let asked = self.up.as_mut().and_then(|up| up.asks.remove(&ask));
        if let Some(Asked::Witness(_, question)) = asked {
            return self.told_witness(stage, question, reply);
        }
        let Some(Asked::Log(from)) = asked else {
            return;
        };
        if self.take_log(stage, from, reply).is_none() {
            self.looked(stage, from);
        }
    }

    /// Goes on with a look. None if it is over.
    fn take_log(&mut self, stage: &mut Stage, from: Peer, reply: LogReply) -> Option<()> {
        let look = self.up.as_mut()?.looks.get_mut(&from)?;
        match reply {
            LogReply::Receipts(sequences) => {
                look.entries = sequences.into();
                look.entries.front()?;
                self.look_up(stage, from, LogRequest::Head);
                return Some(());
            }
            LogReply::Head(head) => {
                let head = stage.signatures.verify_head(&head, &stage.network)?;
                if head.log() != stage.directory.id(from) {
                    return None;
                }
                look.head = Some(head.head());
            }
            LogReply::Inclusion(logged) => {
                let (sequence, head) = (look.entries.pop_front()?, look.head?);
                self.logged(stage, (from, sequence), (&head, logged))?;
            }
            LogReply::Consistency(_) | LogReply::Refused(_) => return None,
        }
        let look = self.up.as_mut()?.looks.get_mut(&from)?;
        let (sequence, size) = (*look.entries.front()?, look.head?.size);
        self.look_up(stage, from, LogRequest::Inclusion { sequence, size });
        Some(())
    }

    /// Takes an entry, if it is a receipt and stands in the log.
    fn logged(
        &mut self,
        stage: &mut Stage,
        (from, sequence): (Peer, u64),
        (head, logged): (&TreeHead, LoggedEntry),
    ) -> Option<()> {
        let LoggedEntry { entry, path } = logged;
        verify_inclusion(leaf_hash(&entry), sequence, head, &path).ok()?;
        let entry: Entry = codec::from_bytes(&entry, ENTRY_BYTES_MAX).ok()?;
        let Event::Receipted { receipt, .. } = entry.event else {
            return None;
        };
        let receipt = stage.signatures.verify(receipt, &stage.network).ok()?;
        let by = stage.directory.id(from);
        if receipt.signer() != by {
            return None;
        }
        self.note_looked(stage, (by, sequence));
        let receipts = self.take_known(stage, by, vec![receipt]);
        if !receipts.is_empty() {
            self.feed(stage, Input::Logged { by, receipts });
        }
        Some(())
    }

    /// Takes out receipts that are in the wallet already: they need only be acknowledged.
    pub(super) fn take_known(
        &mut self,
        stage: &mut Stage,
        by: tally_protocol::id::NodeId,
        receipts: Vec<Verified<Receipt>>,
    ) -> Vec<Verified<Receipt>> {
        let known = |receipt: &Verified<Receipt>| self.wallet.has(&receipt.id());
        let (known, new): (Vec<_>, Vec<_>) = receipts.into_iter().partition(known);
        if !known.is_empty() {
            let receipts = known.iter().map(Verified::<Receipt>::id).collect();
            self.feed(stage, Input::Kept { by, receipts });
        }
        new
    }

    /// A look is over.
    pub(super) fn looked(&mut self, stage: &mut Stage, at: Peer) {
        let look = self.up.as_mut().and_then(|up| up.looks.get_mut(&at));
        if let Some(look) = look {
            *look = Look {
                next: Some(stage.now + EVERY),
                ..Look::default()
            };
            self.plan(stage, stage.now + EVERY, Within::Look(at));
        }
    }
}
