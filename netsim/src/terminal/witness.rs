//! A terminal's witness of the logs of coordinators, as the shell of a real node drives it (node/src/witness.rs).
//!
//! It hears heads by gossip, asks coordinators for theirs and for proofs, and has the terminal leave one whose log has
//! forked. What it has written down is there again when the terminal comes back.

use tally_protocol::checkpoint::{SignedCheckpoint, VerifiedCheckpoint};
use tally_protocol::coordinator::Question;
use tally_protocol::merkle::TreeHead;
use tally_protocol::message::log::LogReply;
use tally_protocol::terminal::Input as TerminalInput;
use tally_protocol::witness::{Effect, Input, Witness};

use super::{Asked, TerminalNode, Within};
use crate::happening::Happening;
use crate::peer::Peer;
use crate::stage::Stage;

impl TerminalNode {
    /// Returns the witness as it was when the terminal went.
    pub(super) fn witness_from_disk(&self, stage: &Stage) -> Witness {
        let Some(saved) = &self.witnessed else {
            return Witness::new(self.id);
        };
        let restored = Witness::restore(self.id, &stage.network, saved);
        restored.expect("what a witness has written can be read")
    }

    /// Leaves the coordinators that were caught before.
    pub(super) fn remember_forks(&mut self, stage: &mut Stage) {
        let forked = self.up.iter().flat_map(|up| up.witness.forked());
        for node in forked.collect::<Vec<_>>() {
            self.feed(stage, TerminalInput::Distrusted(node));
        }
    }

    /// Takes a head that was gossiped.
    pub(super) fn head_heard(&mut self, stage: &mut Stage, from: Peer, head: &SignedCheckpoint) {
        let Some(checkpoint) = stage.signatures.verify_head(head, &stage.network) else {
            return self.refuse(stage, from, "rejected_unverified");
        };
        let now = self.setup.clock.read(stage.now);
        let admitted = self.up.as_mut().map(|up| up.heads.admit(&checkpoint, now));
        match admitted {
            Some(true) => {
                self.note_head(stage, &checkpoint);
                self.watch(stage, Input::Heard(checkpoint));
            }
            Some(false) => self.refuse(stage, from, "ignored_too_many"),
            None => {}
        }
    }

    fn note_head(&self, stage: &mut Stage, checkpoint: &VerifiedCheckpoint) {
        let by = self.peer;
        if let Some(of) = stage.directory.peer(&checkpoint.log()) {
            let TreeHead { size, root } = checkpoint.head();
            stage.note(&Happening::HeadHeard { by, of, size, root });
        }
    }

    /// Lets the witness take an input, and carries out what it wants.
    pub(super) fn watch(&mut self, stage: &mut Stage, input: Input) {
        let Some(up) = self.up.as_mut().filter(|_| stage.heads) else {
            return;
        };
        let (now, mut effects) = (self.setup.clock.read(stage.now), Vec::new());
        self.wrap.watch(&mut up.witness, now, input, &mut effects);
        for effect in effects {
            match effect {
                // It is written when the terminal goes: nobody can tell.
                Effect::Keep => {}
                Effect::Ask {
                    question,
                    to,
                    request,
                } => {
                    if let Some(to) = stage.directory.peer(&to) {
                        let asked = Asked::Witness(to, question);
                        self.ask_log(stage, to, (request, asked));
                    }
                }
                Effect::Forked(node) => {
                    let by = self.peer;
                    if let Some(of) = stage.directory.peer(&node) {
                        stage.note(&Happening::ForkFound { by, of });
                    }
                    self.feed(stage, TerminalInput::Distrusted(node));
                }
            }
        }
        self.plan_watch(stage);
    }

    /// Takes the answer to a question of the witness.
    pub(super) fn told_witness(&mut self, stage: &mut Stage, question: Question, reply: LogReply) {
        let failed = Input::Failed(question);
        let input = match reply {
            LogReply::Head(head) => {
                let checkpoint = stage.signatures.verify_head(&head, &stage.network);
                if let Some(checkpoint) = &checkpoint {
                    self.note_head(stage, checkpoint);
                }
                checkpoint.map_or(failed, |checkpoint| Input::Told {
                    question,
                    checkpoint,
                })
            }
            LogReply::Consistency(path) => Input::Proved { question, path },
            LogReply::Inclusion(_) | LogReply::Receipts(_) | LogReply::Refused(_) => failed,
        };
        self.watch(stage, input);
    }

    pub(super) fn plan_watch(&mut self, stage: &mut Stage) {
        let Some(up) = &mut self.up else {
            return;
        };
        let Some(due) = up.witness.next_deadline() else {
            return;
        };
        let at = self.setup.clock.when(due).max(stage.now);
        if up.watch_wake.is_none_or(|planned| planned > at) {
            up.watch_wake = Some(at);
            self.plan(stage, at, Within::Watch);
        }
    }

    /// A deadline of the witness may have come.
    pub(super) fn watch_due(&mut self, stage: &mut Stage) {
        if let Some(up) = self.up.as_mut()
            && up.watch_wake == Some(stage.now)
        {
            up.watch_wake = None;
            self.watch(stage, Input::DeadlineReached);
        }
    }
}
