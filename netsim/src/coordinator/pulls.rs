//! Pulls of terminals on their way to the machine: what they show is checked, and large outputs are read before.

use std::collections::BTreeSet;
use std::time::Duration;

use tally_protocol::account::Holder;
use tally_protocol::certificate;
use tally_protocol::coordinator::{Input, Papers};
use tally_protocol::id::{GrantId, NetworkId};
use tally_protocol::message::Refusal;
use tally_protocol::message::announce::{Role, RoleStatement};
use tally_protocol::message::work::{Pull, UnitResult, VerifiedReport, WorkReply};
use tally_protocol::registration::{self, Registration};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::time::Timestamp;

use super::{Asker, CoordinatorNode, Within};
use crate::peer::Peer;
use crate::signatures::Signatures;
use crate::stage::{Body, Stage};

/// How long a role statement holds.
const ROLE_LIFE: Duration = Duration::from_secs(3_600);

/// A pull whose report was taken out.
#[derive(Debug)]
struct Pulled {
    pull: Pull,
    papers: Papers,
}

/// A report on its way to the machine.
#[derive(Debug)]
pub(crate) struct Brought {
    from: Peer,
    ask: u64,
    pull: Pulled,
    report: VerifiedReport,
    missing: BTreeSet<(GrantId, u32)>,
}

impl CoordinatorNode {
    pub(super) fn show_role(&self, stage: &mut Stage, to: Peer, ask: u64) {
        // Signed anew each hour, as a node does.
        let now = self.setup.clock.read(stage.now).as_millis();
        let hour = u64::try_from(ROLE_LIFE.as_millis()).unwrap_or(u64::MAX);
        let statement = RoleStatement {
            protocol: tally_protocol::message::PROTOCOL_VERSION,
            roles: vec![Role::Coordinator],
            expires: Timestamp::from_millis((now / hour + 2) * hour),
        };
        let signed = stage
            .signatures
            .sign(statement, &stage.network, &self.setup.key);
        let role = WorkReply::Role(signed.signed().clone());
        self.reply(stage, (to, ask), Body::WorkAnswered(role));
    }

    /// Checks a pull's report, and reads the outputs that are too large for it.
    pub(super) fn check_pull(&mut self, stage: &mut Stage, from: Peer, ask: u64, mut pull: Pull) {
        let device = stage.directory.id(from);
        let report = pull.report.take();
        let papers = papers(&mut pull, (&mut stage.signatures, &stage.network));
        let checked = papers.and_then(|papers| {
            let verify = |report| {
                let signatures = &mut stage.signatures;
                signatures.verify_report(report, &stage.network, self.id, device)
            };
            Ok((papers, report.map(verify).transpose()?))
        });
        match checked {
            Err(refusal) => {
                let body = Body::WorkAnswered(WorkReply::Refused(refusal));
                self.reply(stage, (from, ask), body);
            }
            Ok((papers, None)) => {
                self.pulled(stage, (from, ask), Pulled { pull, papers }, None);
            }
            Ok((papers, Some(report))) => {
                self.bring(stage, (from, ask), Pulled { pull, papers }, report);
            }
        }
    }

    fn bring(
        &mut self,
        stage: &mut Stage,
        (from, ask): (Peer, u64),
        pull: Pulled,
        report: VerifiedReport,
    ) {
        let Some(up) = &self.up else {
            return;
        };
        let holder = self.holder(stage, from, &pull);
        let wanted: Vec<(GrantId, u32, BlobRef)> = report
            .results
            .iter()
            .filter(|result| {
                let shown = &report.grants;
                up.machine.wants_output(holder, result, shown).is_some()
            })
            .map(
                |UnitResult {
                     grant,
                     unit,
                     output,
                     ..
                 }| (*grant, *unit, *output),
            )
            .collect();
        if wanted.is_empty() {
            let missing = BTreeSet::new();
            return self.pulled(stage, (from, ask), pull, Some((report, missing)));
        }
        let (mut at, mut missing) = (stage.now, BTreeSet::new());
        for (grant, unit, output) in wanted {
            let serves = stage.readable.contains(&(from, output.id));
            let ways = (from, self.peer);
            match serves.then(|| stage.links.stream(stage.now, ways, output.bytes)) {
                Some(Some(arrival)) => at = at.max(arrival),
                Some(None) | None => {
                    missing.insert((grant, unit));
                }
            }
        }
        let brought = Brought {
            from,
            ask,
            pull,
            report,
            missing,
        };
        self.plan(stage, at, Within::Brought(Box::new(brought)));
    }

    /// Returns whose a device is that pulls; its own if what it shows does not hold.
    fn holder(&self, stage: &Stage, from: Peer, pulled: &Pulled) -> Holder {
        let device = stage.directory.id(from);
        let now = self.setup.clock.read(stage.now);
        let holder = certificate::holder(device, pulled.papers.certificate.as_ref(), now);
        holder.unwrap_or_else(|_| Holder::alone(device))
    }

    pub(super) fn brought(&mut self, stage: &mut Stage, brought: Brought) {
        let Brought {
            from,
            ask,
            pull,
            report,
            missing,
        } = brought;
        self.pulled(stage, (from, ask), pull, Some((report, missing)));
    }

    fn pulled(
        &mut self,
        stage: &mut Stage,
        (peer, ask): (Peer, u64),
        Pulled { pull, papers }: Pulled,
        report: Option<(VerifiedReport, BTreeSet<(GrantId, u32)>)>,
    ) {
        let results = report
            .as_ref()
            .map_or(&[][..], |(report, _)| &report.results);
        let results = results.iter().map(|result| (result.grant, result.unit));
        let asker = Asker {
            peer,
            ask,
            since: stage.now,
            results: Some(results.collect()),
        };
        let Some(question) = self.question(asker) else {
            return;
        };
        let (report, missing) = report.unzip();
        let input = Input::Pulled {
            question,
            from: stage.directory.id(peer),
            pull,
            papers,
            report,
            missing: missing.unwrap_or_default(),
        };
        self.push(stage, input);
    }
}

/// Takes out and checks what a terminal shows of itself.
fn papers(
    pull: &mut Pull,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Result<Papers, Refusal> {
    let certificate = pull.certificate.take();
    let certificate = certificate.map(|shown| signatures.verify(shown, network));
    let certificate = certificate
        .transpose()
        .map_err(|_| Refusal::BadCertificate)?;
    let registration = pull.registration.take();
    let registration = registration.map(|shown| registered(shown, (signatures, network)));
    Ok(Papers {
        certificate,
        registration: registration.transpose()?,
    })
}

/// Checks a registration down to the signatures of the device and its owner.
pub(super) fn registered(
    shown: Signed<Registration>,
    (signatures, network): (&mut Signatures, &NetworkId),
) -> Result<Verified<Registration>, Refusal> {
    let shown = signatures.verify(shown, network);
    let shown = shown.map_err(|_| Refusal::Unverified)?;
    let checked = registration::check(&shown, network);
    checked.map_err(|_| Refusal::Unverified)?;
    Ok(shown)
}
