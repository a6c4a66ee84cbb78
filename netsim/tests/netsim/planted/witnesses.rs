//! The bugs of witnesses: each stands between a terminal's driver and its witness.

use std::collections::BTreeMap;

use tally_netsim::wrap::TerminalWrap;
use tally_protocol::checkpoint::VerifiedCheckpoint;
use tally_protocol::id::{Hash, NodeId};
use tally_protocol::time::Timestamp;
use tally_protocol::witness::{Effect, Input, Witness};

/// Believes the first head of each size, and takes every proof for one that it did not get.
#[derive(Debug, Default)]
pub(crate) struct ChecksNothing(BTreeMap<(NodeId, u64), Hash>);

impl ChecksNothing {
    fn contradicts(&mut self, checkpoint: &VerifiedCheckpoint) -> bool {
        let head = checkpoint.head();
        let known = self.0.entry((checkpoint.log(), head.size));
        *known.or_insert(head.root) != head.root
    }
}

impl TerminalWrap for ChecksNothing {
    fn watch(
        &mut self,
        witness: &mut Witness,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        let told = match &input {
            Input::Heard(checkpoint) | Input::Told { checkpoint, .. } => Some(checkpoint),
            Input::Found(_)
            | Input::Lost(_)
            | Input::Proved { .. }
            | Input::Failed(_)
            | Input::DeadlineReached => None,
        };
        let contradicts = told.is_some_and(|checkpoint| self.contradicts(checkpoint));
        if let Input::Proved { question, .. } = input {
            witness.handle(now, Input::Failed(question), out);
        } else if !contradicts {
            witness.handle(now, input, out);
        } else if let Input::Told { question, .. } = input {
            witness.handle(now, Input::Failed(question), out);
        }
    }
}

/// Keeps the evidence for itself.
#[derive(Debug)]
pub(crate) struct TellsNobody;

impl TerminalWrap for TellsNobody {
    fn watch(
        &mut self,
        witness: &mut Witness,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        witness.handle(now, input, out);
        out.retain(|effect| !matches!(effect, Effect::Forked(_)));
    }
}

/// Takes a proof that did not come for one that does not hold.
#[derive(Debug)]
pub(crate) struct AccusesAll;

impl TerminalWrap for AccusesAll {
    fn watch(
        &mut self,
        witness: &mut Witness,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        if let Input::Failed(question) = input {
            let path = Vec::new();
            return witness.handle(now, Input::Proved { question, path }, out);
        }
        witness.handle(now, input, out);
    }
}
