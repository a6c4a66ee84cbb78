use std::time::Duration;

use super::trust::{REST_MAX, REST_MIN, WITHDRAWN_MAX};
use super::*;
use crate::task::BlobRef;
use crate::unit::Outcome;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LEASE: Duration = Duration::from_secs(60);

fn device(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn holder(number: u8) -> Holder {
    Holder::alone(device(number))
}

fn vote(unit: u32, output: &[u8]) -> Vote {
    Vote {
        unit,
        outcome: Outcome::Done,
        fuel: 7,
        output: BlobRef::of(output),
        leaf: 0,
    }
}

fn report(units: &mut Units, holder: Holder, votes: &[Vote]) -> Settled {
    let ballot = |vote: &Vote| Ballot {
        holder,
        vote: *vote,
        batch: Hash::from_bytes([holder.device.as_bytes()[0]; 32]),
        leased_at: Timestamp::default(),
    };
    units.report(votes.iter().map(ballot))
}

fn units(count: u32, agree: u8) -> Units {
    Units::new(
        count,
        Quorum {
            agree,
            error_max: 2,
            total_max: 4,
        },
    )
}

fn lease(units: &mut Units, number: u8, want: usize) -> Vec<u32> {
    let chosen = units.choose(START, holder(number), (want, u32::MAX), |_| true);
    for unit in &chosen {
        units.lease(*unit, holder(number), GrantId::from_bytes([number; 16]));
    }
    chosen
}

#[test]
fn each_unit_goes_to_as_many_devices_as_must_agree() {
    let mut units = units(4, 2);
    assert_eq!(lease(&mut units, 1, 3), [0, 1, 2]);
    assert_eq!(lease(&mut units, 2, 9), [0, 1, 2, 3]);
    assert_eq!(lease(&mut units, 3, 9), [3]);
    assert_eq!(lease(&mut units, 4, 9), [0_u32; 0]);
    assert_eq!(lease(&mut units, 1, 9), [0_u32; 0]);
    assert_eq!(units.leased(), 8);
}

#[test]
fn a_mismatch_asks_a_third_device_and_outvotes_the_liar() {
    let mut units = units(1, 2);
    lease(&mut units, 1, 1);
    lease(&mut units, 2, 1);
    assert!(
        report(&mut units, holder(1), &[vote(0, b"right")])
            .agreed
            .is_empty()
    );
    assert!(
        report(&mut units, holder(2), &[vote(0, b"wrong")])
            .agreed
            .is_empty()
    );
    assert_eq!(lease(&mut units, 1, 1), [0_u32; 0]);
    assert_eq!(lease(&mut units, 3, 1), [0]);
    let settled = report(&mut units, holder(3), &[vote(0, b"right")]);
    let agreed = &settled.agreed[0];
    let by: Vec<Holder> = agreed.votes.iter().map(|ballot| ballot.holder).collect();
    assert_eq!(by, [holder(1), holder(3)]);
    assert_eq!(agreed.outvoted, [device(2)]);
    let (unpaid, reason) = settled.unpaid[0];
    assert_eq!((unpaid.holder, reason), (holder(2), UnpaidReason::Outvoted));
    assert_eq!(units.devices()[&device(2)].outvoted_units, [0]);
    assert!(units.all_settled());
    assert_eq!(units.leased(), 0);
}

/// Found by netsim: `lazy` of netsim/tests/netsim/dishonest.rs, seed 0.
#[test]
fn who_is_always_contradicted_rests_until_somebody_agrees() {
    let (now, mut units) = (Timestamp::default(), units(9, 2));
    for unit in 0..4 {
        report(&mut units, holder(1), &[vote(unit, b"nonsense")]);
        report(&mut units, holder(2), &[vote(unit, b"right")]);
    }
    assert!(units.is_doubted(device(1)) && units.is_doubted(device(2)));
    for number in [1, 2] {
        units.send_doubted_to_rest(now, device(number));
    }
    report(&mut units, holder(3), &[vote(0, b"right")]);
    assert!(units.rests(now, device(1)) && units.is_doubted(device(1)));
    assert!(!units.rests(now, device(2)) && !units.is_doubted(device(2)));
    assert!(!units.rests(now + REST_MAX, device(1)), "not for ever");
}

/// Found by netsim: `lazy` of netsim/tests/netsim/dishonest.rs, seed 2.
#[test]
fn the_last_votes_of_a_unit_are_kept_for_the_proven_for_a_while() {
    let (now, mut units) = (Timestamp::default(), units(9, 2));
    for number in 1..=3 {
        report(&mut units, holder(number), &[vote(8, &[number])]);
    }
    for number in [5, 6] {
        report(&mut units, holder(number), &[vote(0, b"right")]);
    }
    assert!(units.may_lease(START, 8, holder(5)), "others agree with it");
    assert!(!units.may_lease(START, 8, holder(7)), "nobody knows it");
    assert!(units.keeps_back(holder(7)) && !units.keeps_back(holder(5)));
    for _ in 0..4 {
        units.send_doubted_to_rest(now, device(7));
    }
    assert!(units.may_lease(START, 8, holder(7)), "nobody else came");
}

/// Found by netsim: `liars-10-percent`, seed 0, in which one device that answered at once reported most units.
#[test]
fn who_was_contradicted_is_given_few_units_at_a_time() {
    let mut units = units(9, 2);
    assert_eq!(units.entrusted(device(1)), 64);
    report(&mut units, holder(1), &[vote(8, b"right")]);
    assert_eq!(units.entrusted(device(1)), 63, "one is not confirmed");
    for unit in 0..5 {
        report(&mut units, holder(2), &[vote(unit, b"right")]);
        report(&mut units, holder(3), &[vote(unit, b"right")]);
    }
    assert_eq!(units.entrusted(device(2)), 64 + 4 * 5);
    for (unit, output) in [(5, b"nonsense"), (6, b"the same")] {
        report(&mut units, holder(1), &[vote(unit, output)]);
        report(&mut units, holder(2), &[vote(unit, b"the same")]);
        report(&mut units, holder(3), &[vote(unit, b"the same")]);
    }
    assert_eq!(units.entrusted(device(1)), 2, "one each way");
    report(&mut units, holder(1), &[vote(7, b"nonsense")]);
    report(&mut units, holder(2), &[vote(7, b"right")]);
    report(&mut units, holder(3), &[vote(7, b"right")]);
    assert_eq!(units.entrusted(device(1)), 1);
    assert_eq!(units.entrusted(device(2)), 64 + 4 * 8);
}

#[test]
fn two_devices_of_one_owner_never_have_the_same_unit() {
    let mut units = units(2, 2);
    let owner = device(9);
    let of_owner = |number| Holder {
        owner,
        device: device(number),
    };
    units.lease(0, of_owner(1), GrantId::from_bytes([1; 16]));
    assert!(!units.may_lease(START, 0, of_owner(2)) && units.may_lease(START, 0, holder(3)));
    report(&mut units, of_owner(1), &[vote(0, b"x")]);
    let second = report(&mut units, of_owner(2), &[vote(0, b"x")]);
    assert!(second.agreed.is_empty(), "an owner cannot confirm itself");
    assert_eq!(
        report(&mut units, holder(3), &[vote(0, b"x")]).agreed.len(),
        1
    );
}

/// Found by netsim: `every_record.rs`, a crash with the ninth group. The result of the second device never counted,
/// and its lease never ended, so that nobody else was given the unit.
#[test]
fn the_vote_of_an_owner_ends_the_lease_of_its_other_device() {
    let mut units = units(1, 2);
    let of_owner = |number| Holder {
        owner: device(9),
        device: device(number),
    };
    // The first reports by a grant of before a restart; the second was leased the unit meanwhile.
    units.lease(0, of_owner(2), GrantId::from_bytes([2; 16]));
    assert_eq!(lease(&mut units, 3, 1), [0]);
    report(&mut units, of_owner(1), &[vote(0, b"x")]);
    assert_eq!(units.leased(), 1);
    assert!(units.end_lease(0, device(3)), "it is gone");
    assert_eq!(lease(&mut units, 4, 1), [0]);
}

#[test]
fn no_more_untouched_units_are_chosen_than_there_is_money_for() {
    let mut units = units(9, 2);
    let chosen = units.choose(START, holder(1), (9, 3), |_| true);
    assert_eq!(chosen, [0, 1, 2]);
    for unit in chosen {
        units.lease(unit, holder(1), GrantId::from_bytes([1; 16]));
    }
    assert_eq!(units.choose(START, holder(1), (9, 0), |_| true), [0_u32; 0]);
    assert_eq!(
        units.choose(START, holder(2), (9, 1), |_| true),
        [0, 1, 2, 3]
    );
}

#[test]
fn equal_output_with_other_fuel_does_not_agree() {
    let mut units = units(1, 2);
    report(&mut units, holder(1), &[vote(0, b"same")]);
    let dearer = Vote {
        fuel: 8,
        ..vote(0, b"same")
    };
    assert!(report(&mut units, holder(2), &[dearer]).agreed.is_empty());
}

#[test]
fn a_second_vote_and_a_vote_on_a_done_unit_change_nothing() {
    let mut units = units(2, 2);
    report(&mut units, holder(1), &[vote(0, b"x"), vote(0, b"x")]);
    assert!(
        report(&mut units, holder(1), &[vote(0, b"x")])
            .agreed
            .is_empty()
    );
    assert_eq!(
        report(&mut units, holder(2), &[vote(0, b"x")]).agreed.len(),
        1
    );
    assert!(
        report(&mut units, holder(3), &[vote(0, b"x")])
            .agreed
            .is_empty()
    );
    assert_eq!((units.done_count(), units.fuel()), (1, 7));
}

#[test]
fn a_lost_lease_goes_to_the_next_who_asks() {
    let mut units = units(3, 1);
    assert_eq!(lease(&mut units, 1, 3), [0, 1, 2]);
    assert_eq!(lease(&mut units, 2, 3), [0_u32; 0]);
    assert!(units.end_lease(1, device(1)));
    assert!(!units.end_lease(1, device(1)));
    assert_eq!(lease(&mut units, 2, 3), [1]);
}

#[test]
fn an_owner_who_took_a_unit_back_gets_it_after_another_or_a_lease_time() {
    let mut units = units(2, 1);
    let of_owner = |number| Holder {
        owner: device(9),
        device: device(number),
    };
    let grant = GrantId::from_bytes([1; 16]);
    let take_back = |units: &mut Units| {
        units.lease(0, of_owner(1), grant);
        units.withdraw(START, (0, of_owner(1)), LEASE);
    };
    take_back(&mut units);
    let almost = START + LEASE.checked_sub(Duration::from_millis(1)).unwrap();
    for number in [1, 2] {
        assert!(!units.may_lease(almost, 0, of_owner(number)));
        assert!(units.may_lease(START + LEASE, 0, of_owner(number)));
        assert!(units.may_lease(START, 1, of_owner(number)), "it may others");
    }
    assert_eq!(units.why_none(almost, of_owner(2), 9), Misfit::Rests);
    assert_eq!(lease(&mut units, 3, 1), [0]);
    units.withdraw(START, (0, holder(3)), LEASE);
    assert!(units.may_lease(START, 0, of_owner(1)), "another had it");
    assert!(!units.may_lease(START, 0, holder(3)));
    take_back(&mut units);
    assert!(units.may_lease(START, 0, holder(3)), "another had it");
    // Nor does it come back as a backup of somebody who is slow.
    units.withdraw(START, (0, holder(3)), LEASE);
    assert!(units.may_lease(START, 0, holder(3)), "it did not have it");
    units.lease(0, holder(4), grant);
    assert!(units.may_back_up(START, (0, of_owner(1)), |_| true));
}

#[test]
fn who_takes_back_a_unit_of_two_does_not_back_up_the_other() {
    let mut units = units(1, 2);
    assert_eq!(lease(&mut units, 1, 1), [0]);
    assert_eq!(lease(&mut units, 2, 1), [0]);
    units.withdraw(START, (0, holder(1)), LEASE);
    assert!(!units.may_back_up(START, (0, holder(1)), |_| true));
    assert!(units.may_back_up(START + LEASE, (0, holder(1)), |_| true));
}

#[test]
fn who_takes_back_more_than_it_could_have_rests_until_it_reports() {
    let mut units = units(3, 1);
    let take_back = |units: &mut Units| {
        units.lease(0, holder(1), GrantId::from_bytes([1; 16]));
        units.withdraw(START, (0, holder(1)), LEASE);
        units.rest_if_withdrawn(START, device(1));
        units.rests(START, device(1))
    };
    for _ in 0..WITHDRAWN_MAX {
        assert!(!take_back(&mut units));
    }
    assert!(take_back(&mut units));
    assert!(!units.rests(START + REST_MIN, device(1)), "not for long");
    assert!(take_back(&mut units));
    assert!(units.rests(START + REST_MIN, device(1)), "for longer");
    units.trust(device(1));
    assert!(!take_back(&mut units));
}

#[test]
fn faults_and_disagreement_have_an_end() {
    let mut units = units(2, 2);
    units.fault(device(1), 0, Fault::StackOverflow);
    units.fault(device(2), 0, Fault::StackOverflow);
    assert_eq!(units.failed()[&0], "stack overflow, after 2 attempts");
    for number in 1..=4 {
        report(&mut units, holder(number), &[vote(1, &[number])]);
    }
    assert_eq!(
        units.failed()[&1],
        "4 terminals reported, no 2 of them the same"
    );
    assert!(units.all_settled());
    assert_eq!((units.done_count(), units.failed_count()), (0, 2));
}

#[test]
fn votes_beyond_the_units_are_ignored() {
    let mut units = units(2, 1);
    assert!(
        report(&mut units, holder(1), &[vote(2, b""), vote(u32::MAX, b"")])
            .agreed
            .is_empty()
    );
    units.fault(device(1), 7, Fault::Killed);
    assert_eq!(units.failed_count(), 0);
}
