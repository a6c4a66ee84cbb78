//! Nothing grows without a bound, and no input costs much.

use super::*;

#[test]
fn timers_and_grants_go_with_what_they_are_for() {
    let mut desk = Desk::new();
    desk.run(task("many", 1), 2_000);
    for _ in 0..300 {
        let grant = desk.lease(1, 4);
        desk.report(1, results(&grant, b"x"));
    }
    assert_eq!(desk.coordinator.devices.grants.len(), 0);
    let timers = desk.coordinator.timers.len();
    assert_eq!(timers, 3, "the next offer, the next receipt, the deadline");
    let held = desk.lease(2, 4);
    for _ in 0..300 {
        desk.pass(30);
        desk.pull_with(
            2,
            0,
            Say {
                renew: vec![held.id],
                ..Say::default()
            },
        );
    }
    let timers = desk.coordinator.timers.len();
    assert_eq!(timers, 4, "offer, deadline, lease, and points in escrow");
}

#[test]
fn a_device_that_never_reports_holds_a_bounded_number_of_leases() {
    let mut desk = Desk::new();
    let mut short = task("hoard", 1);
    short.lease_millis = 1_000;
    let id = desk.run(short, 1_000_000);
    let leased = |desk: &Desk| desk.status(id).leased;
    for _ in 0..20 {
        desk.pull(1, 5_000);
    }
    assert_eq!(leased(&desk), 8_192);
    for _ in 0..100 {
        desk.pass(1);
        for _ in 0..8 {
            desk.pull(1, 1_024);
        }
    }
    let weight = desk.coordinator.devices.grants.weight();
    assert!(
        weight <= 1 << 18,
        "{weight} units of expired grants are kept"
    );
}

#[test]
fn the_oldest_ended_tasks_are_forgotten_when_there_are_very_many() {
    let mut desk = Desk::new();
    for number in 0..10_001 {
        desk.submit(task(&number.to_string(), 1));
        let id = desk.coordinator.unended().next().unwrap();
        desk.answer(|question| Input::Cancelled {
            question,
            task: id,
            by: me(),
        });
    }
    assert!(
        desk.out
            .iter()
            .any(|effect| matches!(effect, Effect::Forget(_)))
    );
    assert_eq!(desk.coordinator.tasks.len(), 10_000);
}

#[test]
fn a_status_with_very_many_devices_fits_a_message() {
    let mut desk = Desk::new();
    let id = desk.run(task("wide", 1), 3_000);
    for number in 0..3_000_u32 {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&number.to_be_bytes());
        let vote = Vote {
            unit: number,
            outcome: Outcome::Exit(1),
            fuel: 1 << 50,
            output: BlobRef::of(b""),
            leaf: 0,
        };
        let holder = Holder::alone(NodeId::from_bytes(raw));
        let fact = reported_by(&desk, id, holder, vec![vote]);
        desk.coordinator.apply(&fact);
    }
    let status = desk.status(id);
    assert_eq!(status.devices.len(), 1_000);
    let bytes = codec::to_bytes(&crate::message::customer::CustomerReply::Status(Box::new(
        status,
    )));
    assert!(
        bytes.len() < crate::message::customer::CUSTOMER_BYTES_MAX,
        "{}",
        bytes.len()
    );
}

/// Would take minutes if a pull looked at all units, all grants or all devices.
#[test]
fn many_terminals_and_many_units_cost_little_each() {
    let mut desk = Desk::new();
    let id = desk.run(task("crowd", 2), 50_000);
    let mut reported = 0_u32;
    for round in 0..8_u32 {
        for number in 0..5_000_u32 {
            let mut raw = [1; 32];
            raw[..4].copy_from_slice(&number.to_be_bytes());
            let from = NodeId::from_bytes(raw);
            let pull = Pull {
                want: 4,
                profile: profile(),
                wishes: Wishes::within_memory(1 << 30),
                renew: vec![],
                abandoned: vec![],
                report: None,
                share: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
                certificate: None,
                registration: None,
                kept: vec![],
                owed: vec![],
            };
            let missing = BTreeSet::new();
            let answer = desk.answer(|question| Input::Pulled {
                question,
                from,
                papers: Papers::default(),
                pull,
                report: None,
                missing,
            });
            let Answer::Pulled(pulled) = answer else {
                panic!("{answer:?}")
            };
            let Some(new) = pulled.leased else { continue };
            assert!(pulled.peers.len() <= 8 && (round == 0 || pulled.peers.len() == 8));
            let votes = (0..).zip(&new.grant.units).map(|(leaf, leased)| Vote {
                unit: leased.unit,
                outcome: Outcome::Done,
                fuel: 1,
                output: BlobRef::of(b""),
                leaf,
            });
            let votes: Vec<Vote> = votes.collect();
            reported += u32::try_from(votes.len()).unwrap();
            for vote in &votes {
                desk.coordinator.release(new.grant.id, vote.unit);
            }
            let fact = reported_by(&desk, id, Holder::alone(from), votes);
            let batch = Hash::from_bytes([0; 32]);
            let out = &mut Vec::new();
            desk.coordinator
                .vote(desk.now, (id, from, batch), fact, out);
        }
    }
    assert_eq!((desk.phase(id).as_str(), reported), ("merging", 100_000));
}

/// A report as it is recorded.
fn reported_by(desk: &Desk, task: TaskId, holder: Holder, votes: Vec<Vote>) -> Fact {
    Fact::Reported {
        task,
        holder,
        batch: Hash::from_bytes([0; 32]),
        signed: Signed::from_bytes(Vec::new()),
        leased_at: desk.now,
        at: desk.now,
        votes,
    }
}
