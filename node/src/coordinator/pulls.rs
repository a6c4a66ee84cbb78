//! Terminals: a pull on its way to the machine, and the answer on its way back.
//!
//! Signatures are checked and made on other threads. Outputs that are too large for the message are read from the
//! terminal, over its own connection, before the machine hears of the results; so a vote never waits for bytes.

use std::collections::BTreeSet;

use tally_protocol::certificate;
use tally_protocol::coordinator::{Answer as RoleAnswer, Effect, Input, NewLeases, Papers};
use tally_protocol::id::{GrantId, NodeId, TaskId};
use tally_protocol::message::Refusal;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::message::work::{Grant, Leased, Pull, WorkReply};
use tally_protocol::signed::Verified;
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;
use tokio::task::spawn_blocking;

use super::{CheckedPull, Message, Parts, Shell, contents, partners};
use crate::blobs::{self, StoreError};
use crate::error::{chain, joined};
use crate::fault::{self, Point};
use crate::network::Answer;

impl Shell {
    /// Checks the signatures of a pull's report elsewhere; what has none goes on at once.
    pub(super) fn check_pull(&self, from: NodeId, mut pull: Pull, answer: Answer<WorkReply>) {
        let parts = self.parts.clone();
        let report = pull.report.take();
        let (certificate, registration) = (pull.certificate.take(), pull.registration.take());
        tokio::spawn(async move {
            let is_plain = report.is_none() && certificate.is_none() && registration.is_none();
            let verified = if is_plain {
                Ok((Papers::default(), None))
            } else {
                let (network, me) = (parts.network.network().clone(), parts.me);
                let check = move || {
                    let certificate = certificate.map(|shown| shown.verify(&network)).transpose();
                    let certificate = certificate.map_err(|_| Refusal::BadCertificate)?;
                    let registration =
                        registration.map(|shown| partners::registered(shown, &network));
                    let papers = Papers {
                        certificate,
                        registration: registration.transpose()?,
                    };
                    let report = report.map(|report| report.verify(&network, me, from));
                    Ok((papers, report.transpose()?))
                };
                joined(spawn_blocking(check).await)
            };
            match verified {
                Ok((papers, report)) => {
                    fault::pass(Point::ReportVerified);
                    let pull = Box::new(CheckedPull {
                        from,
                        pull,
                        papers,
                        report,
                        answer,
                    });
                    let _ = parts.mailbox.send(Message::Checked(pull)).await;
                }
                Err(refusal) => {
                    tracing::info!(terminal = ?from, "pull refused: {refusal}");
                    answer.send(WorkReply::Refused(refusal));
                }
            }
        });
    }

    /// Reads the large outputs that the machine would count; without any the pull goes to the machine at once.
    pub(super) fn complete_pull(
        &mut self,
        now: Timestamp,
        pull: Box<CheckedPull>,
        effects: &mut Vec<Effect>,
    ) {
        let wanted = self.wanted_outputs(now, &pull);
        if wanted.is_empty() {
            return self.pulled(now, *pull, BTreeSet::new(), effects);
        }
        for (task, _, output) in &wanted {
            self.rows.extend(contents::pins(task, &output.id));
        }
        let parts = self.parts.clone();
        tokio::spawn(async move {
            let mut missing = BTreeSet::new();
            for (_, result, output) in wanted {
                if let Err(reason) = bring(&parts, pull.from, output).await {
                    tracing::info!(terminal = ?pull.from, "cannot read an output: {reason}");
                    missing.insert(result);
                }
            }
            let _ = parts.mailbox.send(Message::Complete(pull, missing)).await;
        });
    }

    fn wanted_outputs(
        &self,
        now: Timestamp,
        pull: &CheckedPull,
    ) -> Vec<(TaskId, (GrantId, u32), BlobRef)> {
        let holder = certificate::holder(pull.from, pull.papers.certificate.as_ref(), now);
        let (Some(report), Ok(holder)) = (&pull.report, holder) else {
            return Vec::new();
        };
        let wanted = report.results.iter().filter_map(|result| {
            let task = self.machine.wants_output(holder, result, &report.grants)?;
            Some((task, (result.grant, result.unit), result.output))
        });
        wanted.collect()
    }

    pub(super) fn pulled(
        &mut self,
        now: Timestamp,
        pull: CheckedPull,
        missing: BTreeSet<(GrantId, u32)>,
        effects: &mut Vec<Effect>,
    ) {
        let CheckedPull {
            from,
            pull,
            papers,
            report,
            answer,
        } = pull;
        let question = self.question();
        self.pulls.insert(question, answer);
        let input = Input::Pulled {
            question,
            from,
            pull,
            papers,
            report,
            missing,
        };
        self.machine.handle(now, input, effects);
    }

    /// Signs and sends the answer to a pull.
    pub(super) fn answer_pull(&self, answer: RoleAnswer, reply: Answer<WorkReply>) {
        let pulled = match answer {
            RoleAnswer::Pulled(pulled) => *pulled,
            RoleAnswer::Refused(refusal) => return reply.send(WorkReply::Refused(refusal)),
            RoleAnswer::Status(_)
            | RoleAnswer::Ordered(_)
            | RoleAnswer::Decided(_)
            | RoleAnswer::Registry(_)
            | RoleAnswer::Points(_)
            | RoleAnswer::Redeem(_) => {
                return reply.send(WorkReply::Refused(Refusal::Malformed));
            }
        };
        let parts = self.parts.clone();
        spawn_blocking(move || {
            let pulled = pulled.into_reply(|new| match sign(new, &parts) {
                Ok(leased) => Some(leased),
                Err(error) => {
                    tracing::error!("cannot read inputs: {}", chain(&error));
                    None
                }
            });
            fault::pass(Point::GrantSigned);
            reply.send(WorkReply::Pulled(Box::new(pulled)));
            fault::pass(Point::PullAnswered);
        });
    }
}

async fn bring(parts: &Parts, from: NodeId, output: BlobRef) -> Result<(), String> {
    blobs::fetch(&parts.network, &parts.blobs, from, output, None, |_| {})
        .await
        .map_err(|error| chain(&error))
}

fn sign(new: NewLeases, parts: &Parts) -> Result<Leased, StoreError> {
    let NewLeases {
        grant,
        inline,
        read,
        rate_card,
    } = new;
    let inputs = if inline {
        Some(read_inputs(&grant, parts)?)
    } else {
        None
    };
    let network = parts.network.network();
    let grant = Verified::sign(grant, network, &parts.key).signed().clone();
    let read = Verified::sign(read, network, &parts.key).signed().clone();
    Ok(Leased {
        grant,
        inputs,
        read,
        rate_card,
    })
}

/// Reads the inputs of all units of a grant; neighbours are read at once.
fn read_inputs(grant: &Grant, parts: &Parts) -> Result<Vec<u8>, StoreError> {
    let mut inputs = Vec::new();
    let mut run = BlobRange {
        blob: grant.input.id,
        start: 0,
        bytes: 0,
    };
    for unit in &grant.units {
        if run.start + run.bytes == unit.start {
            run.bytes += unit.bytes;
            continue;
        }
        inputs.extend(parts.blobs.read(run)?);
        (run.start, run.bytes) = (unit.start, unit.bytes);
    }
    inputs.extend(parts.blobs.read(run)?);
    Ok(inputs)
}
