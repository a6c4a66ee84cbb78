//! Forged questions of the conversation between terminals and coordinators: reports, pulls, nudges.

use tally_protocol::id::{GrantId, Hash, NetworkId, TaskId};
use tally_protocol::message::work::{
    Abandoned, Batch, Grant, INLINE_UNIT_BYTES_MAX, Pull, Report, SHOWN_MAX, UnitResult,
    WorkRequest,
};
use tally_protocol::signed::{Signed, Verified};
use tally_protocol::task::BlobRef;
use tally_protocol::unit::{Fault, Outcome};

use super::super::keeping::empty_pull;
use super::{Deed, Message, Scene, broken};
use crate::peer::Peer;

use ed25519_dalek::SigningKey;

pub(super) const DEEDS: [Deed; 19] = [
    ("report: broken signature", |scene, _| {
        let report = honest(scene)?;
        let batch = broken(&report.batch);
        send(scene, Report { batch, ..report })
    }),
    ("report: root of other results", |scene, _| {
        let root = Hash::from_bytes([7; 32]);
        batched(scene, |batch| Batch { root, ..batch })
    }),
    ("report: wrong count", |scene, _| {
        batched(scene, |batch| Batch {
            count: batch.count + 1,
            ..batch
        })
    }),
    ("report: for another coordinator", |scene, _| {
        let coordinator = scene.me.id;
        batched(scene, |batch| Batch {
            coordinator,
            ..batch
        })
    }),
    ("report: by another device", |scene, chance| {
        let other = SigningKey::from_bytes(&chance.bytes());
        let results = vec![result(scene, GrantId::from_bytes([1; 16]), 0)];
        let batch = Batch::of(&results, scene.to.1, scene.me.now);
        let batch = Verified::sign(batch, scene.me.network, &other);
        send(scene, reported(batch, results))
    }),
    ("report: of another network", |scene, _| {
        let other: NetworkId = "other".parse().ok()?;
        let results = vec![result(scene, GrantId::from_bytes([1; 16]), 0)];
        let batch = Batch::of(&results, scene.to.1, scene.me.now);
        let batch = Verified::sign(batch, &other, scene.me.key);
        send(scene, reported(batch, results))
    }),
    ("report: output is not what its hash says", |scene, _| {
        altered(scene, |result| result.inline = Some(b"another".to_vec()))
    }),
    ("report: small output left out", |scene, _| {
        altered(scene, |result| result.inline = None)
    }),
    ("report: grant made up", |scene, _| {
        let grant = Grant {
            id: GrantId::from_bytes([2; 16]),
            ..scene.grant()?.value().clone()
        };
        let grant = Verified::sign(grant, scene.me.network, scene.me.key);
        shown(scene, vec![grant.signed().clone()])
    }),
    ("report: grant of another device", |scene, _| {
        let mut others = scene.me.wire.grants.iter().rev();
        let (_, grant) = others.find(|(of, _)| *of != scene.me.peer)?;
        shown(scene, vec![grant.clone()])
    }),
    ("report: too many grants", |scene, _| {
        let grant = scene.grant()?.signed().clone();
        shown(scene, vec![grant; SHOWN_MAX + 1])
    }),
    ("report: grant nobody gave", |scene, chance| {
        let id = *chance.bytes().first_chunk()?;
        let results = vec![result(scene, GrantId::from_bytes(id), 0)];
        signed(scene, results)
    }),
    ("report: unit not leased", |scene, _| {
        let grant = scene.grant()?;
        let leased = |unit: &u32| grant.units.iter().any(|leased| leased.unit == *unit);
        let unit = (0..grant.unit_count).find(|unit| !leased(unit))?;
        signed(scene, vec![result(scene, grant.id, unit)])
    }),
    ("report: unit beyond the last", |scene, _| {
        let grant = scene.grant()?;
        signed(scene, vec![result(scene, grant.id, u32::MAX)])
    }),
    ("report: fuel over the limit", |scene, _| {
        let grant = scene.grant()?;
        let mut result = result(scene, grant.id, grant.units.last()?.unit);
        result.fuel = grant.limits.fuel + 1;
        signed(scene, vec![result])
    }),
    ("report: output over the limit", |scene, _| {
        let grant = scene.grant()?;
        let mut result = result(scene, grant.id, grant.units.last()?.unit);
        result.output.bytes = INLINE_UNIT_BYTES_MAX.max(grant.limits.output_bytes) + 1;
        result.inline = None;
        signed(scene, vec![result])
    }),
    ("pull: another profile", |scene, _| {
        let profile = "another".parse().ok()?;
        let want = 1;
        pull(
            scene,
            Pull {
                profile,
                want,
                ..empty_pull(scene.me)
            },
        )
    }),
    ("pull: grants of others", |scene, _| {
        let others = scene.me.wire.pulls.iter();
        let others = others.filter(|(from, _)| *from != scene.me.peer);
        let renew: Vec<GrantId> = others.flat_map(|(_, pull)| pull.renew.clone()).collect();
        let fault = Fault::Killed;
        let gives_back = |grant: GrantId| (0..64).map(move |unit| Abandoned { grant, unit, fault });
        let abandoned = renew.iter().copied().take(8).flat_map(gives_back).collect();
        pull(
            scene,
            Pull {
                renew,
                abandoned,
                ..empty_pull(scene.me)
            },
        )
    }),
    ("nudge: by no coordinator", |scene, chance| {
        let task = TaskId::from_bytes(chance.bytes());
        let mut pulls = scene.me.wire.pulls.iter().rev();
        let (victim, _) = pulls.find(|(from, _)| *from != scene.me.peer)?;
        let to = if chance.happens(0.5) {
            *victim
        } else {
            scene.to.0
        };
        Some((to, Message::Work(WorkRequest::Nudge(task))))
    }),
];

/// Returns a result that would be right in form.
fn result(scene: &Scene<'_>, grant: GrantId, unit: u32) -> UnitResult {
    let written = scene.me.id.as_bytes().to_vec();
    UnitResult {
        grant,
        unit,
        outcome: Outcome::Done,
        fuel: 1,
        output: BlobRef::of(&written),
        inline: Some(written),
    }
}

/// Returns a report that would be in order, of a unit that the forger was leased.
fn honest(scene: &Scene<'_>) -> Option<Report> {
    let grant = scene.grant()?;
    let results = vec![result(scene, grant.id, grant.units.last()?.unit)];
    let batch = Batch::of(&results, scene.to.1, scene.me.now);
    let batch = Verified::sign(batch, scene.me.network, scene.me.key);
    Some(reported(batch, results))
}

fn reported(batch: Verified<Batch>, results: Vec<UnitResult>) -> Report {
    Report {
        batch: batch.signed().clone(),
        results,
        grants: Vec::new(),
    }
}

/// Reports with a batch that is changed before it is signed.
fn batched(scene: &Scene<'_>, change: impl FnOnce(Batch) -> Batch) -> Option<(Peer, Message)> {
    let results = honest(scene)?.results;
    let batch = change(Batch::of(&results, scene.to.1, scene.me.now));
    let batch = Verified::sign(batch, scene.me.network, scene.me.key);
    send(scene, reported(batch, results))
}

/// Reports a result that is changed after the batch was signed, in what the signature does not cover.
fn altered(scene: &Scene<'_>, change: impl FnOnce(&mut UnitResult)) -> Option<(Peer, Message)> {
    let mut report = honest(scene)?;
    report.results.first_mut().map(change)?;
    send(scene, report)
}

fn signed(scene: &Scene<'_>, results: Vec<UnitResult>) -> Option<(Peer, Message)> {
    let batch = Batch::of(&results, scene.to.1, scene.me.now);
    let batch = Verified::sign(batch, scene.me.network, scene.me.key);
    send(scene, reported(batch, results))
}

fn shown(scene: &Scene<'_>, grants: Vec<Signed<Grant>>) -> Option<(Peer, Message)> {
    let report = honest(scene)?;
    send(scene, Report { grants, ..report })
}

fn send(scene: &Scene<'_>, report: Report) -> Option<(Peer, Message)> {
    let report = Some(report);
    pull(
        scene,
        Pull {
            report,
            ..empty_pull(scene.me)
        },
    )
}

fn pull(scene: &Scene<'_>, pull: Pull) -> Option<(Peer, Message)> {
    scene.to_coordinator(Message::Work(WorkRequest::Pull(Box::new(pull))))
}
