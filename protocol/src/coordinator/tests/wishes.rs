//! What a terminal takes, and what its owner takes back: nobody gets what he does not want, and nobody loses his turn.

use super::*;
use crate::message::wishes::{CHOICE_MAX, Choice, Misfit, OwnTasks, Unfit};
use crate::message::work::GRANT_UNITS_MAX;
use crate::unit::Fault;

fn wishing(change: impl FnOnce(&mut Wishes)) -> Say {
    let mut wishes = Wishes::within_memory(1 << 30);
    change(&mut wishes);
    Say {
        wishes: Some(wishes),
        ..Say::default()
    }
}

#[test]
fn what_is_not_wanted_is_not_leased_and_the_terminal_is_told_why() {
    let mut desk = Desk::new();
    let id = desk.run(task("plain", 1), 5);
    let mut large = task("large", 1);
    large.limits.memory_bytes = 1 << 31;
    desk.run(large, 5);
    let program = BTreeSet::from([BlobRef::of(b"program").id]);
    let customer = BTreeSet::from([node(CUSTOMER)]);
    let cases = [
        (
            Misfit::Program,
            wishing(|w| w.programs = Choice::AllBut(program.clone())),
        ),
        (
            Misfit::Customer,
            wishing(|w| w.customers = Choice::AllBut(customer)),
        ),
        (Misfit::Memory, wishing(|w| w.limits.memory_bytes = 1 << 10)),
        (Misfit::Fuel, wishing(|w| w.limits.fuel = 999)),
        (Misfit::Output, wishing(|w| w.limits.output_bytes = 99)),
        (
            Misfit::Declined,
            wishing(|w| w.declined = BTreeSet::from([id])),
        ),
        (Misfit::OwnOnly, wishing(|w| w.own_tasks = OwnTasks::Only)),
    ];
    for (why, say) in cases {
        let pulled = desk.pull_with(1, 1, say);
        assert!(pulled.leased.is_none(), "{why:?}");
        let mut expected = BTreeMap::from([(why, 1)]);
        // The second task does not fit for a reason of its own, unless both have the same one.
        let other = match why {
            Misfit::Declined | Misfit::Fuel | Misfit::Output => Misfit::Memory,
            same => same,
        };
        *expected.entry(other).or_default() += 1;
        let told = pulled.unfit.iter().map(|unfit| (unfit.why, unfit.tasks));
        assert_eq!(told.collect::<BTreeMap<_, _>>(), expected);
    }
    let only = wishing(|w| w.programs = Choice::Only(program));
    let leased = desk.pull_with(1, 1, only).leased.unwrap();
    assert_eq!(
        (leased.grant.task, leased.grant.customer),
        (id, node(CUSTOMER))
    );
    let silent = desk.pull_with(1, 0, wishing(|w| w.limits.fuel = 0));
    assert_eq!(silent.unfit, [], "nothing was wanted");
}

#[test]
fn a_terminal_that_gets_nothing_is_told_what_the_others_do() {
    let mut desk = Desk::new();
    let told = |pulled: Pulled| pulled.unfit.first().copied();
    assert_eq!(told(desk.pull(1, 1)), None, "there is no task");
    desk.run(task("shared", 1), 1);
    let grant = desk.lease(1, 1);
    let one = |why| Some(Unfit { why, tasks: 1 });
    assert_eq!(told(desk.pull(2, 1)), one(Misfit::Taken));
    let abandoned = back(&grant, Fault::Killed);
    let say = Say {
        abandoned,
        ..Say::default()
    };
    assert_eq!(told(desk.pull_with(1, 1, say)), one(Misfit::Rests));
    let mut desk = Desk::new();
    desk.run(task("confirmed", 2), 1);
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"x"));
    assert_eq!(told(desk.pull(1, 1)), one(Misfit::Computed));
}

#[test]
fn lists_beyond_their_bounds_are_refused() {
    let mut desk = Desk::new();
    desk.run(task("plain", 1), 5);
    let programs = |count: usize| (0..count).map(|number| BlobRef::of(&number.to_be_bytes()).id);
    let named = |count| wishing(|w| w.programs = Choice::AllBut(programs(count).collect()));
    assert!(matches!(
        desk.ask(1, 1, named(CHOICE_MAX)),
        Answer::Pulled(_)
    ));
    let refused = desk.ask(2, 1, named(CHOICE_MAX + 1));
    assert_eq!(refused, Answer::Refused(Refusal::Malformed));
}

#[test]
fn own_tasks_come_as_the_owner_wishes_and_nobody_loses_a_turn() {
    let mut desk = Desk::new();
    let others = [desk.run(task("a", 1), 500), desk.run(task("b", 1), 500)];
    let mut own = task("own", 1);
    own.customer = node(7);
    let signed = Verified::sign(own, &network(), &key(7));
    let own = desk.run_signed(signed, 500);
    let mut lease = |device, own_tasks| {
        let pulled = desk.pull_with(device, 1, wishing(|w| w.own_tasks = own_tasks));
        pulled.leased.map(|leased| leased.grant.task)
    };
    for _ in 0..3 {
        assert_eq!(lease(7, OwnTasks::First), Some(own));
        assert_eq!(lease(7, OwnTasks::Only), Some(own));
    }
    assert_eq!(lease(1, OwnTasks::First), Some(others[0]), "it is its turn");
    let in_turn: Vec<TaskId> = (0..3).filter_map(|_| lease(7, OwnTasks::Normal)).collect();
    assert_eq!(in_turn, [others[1], own, others[0]]);
    let never: Vec<TaskId> = (0..3).filter_map(|_| lease(7, OwnTasks::Never)).collect();
    assert_eq!(never, [others[1], others[0], others[1]]);
    assert_eq!(lease(1, OwnTasks::First), Some(own), "it kept its place");
    assert_eq!(lease(1, OwnTasks::Only), None);
}

#[test]
fn a_customer_votes_on_its_own_task_once_whichever_computer_it_is() {
    let mut desk = Desk::new();
    let id = desk.run(task("mine", 2), 1);
    let grant = desk.lease(CUSTOMER, 1);
    desk.report(CUSTOMER, results(&grant, b"x"));
    assert!(desk.pull(CUSTOMER, 1).leased.is_none());
    let other = desk.lease(1, 1);
    desk.report(1, results(&other, b"x"));
    assert_eq!(desk.phase(id), "merging");
}

#[test]
fn who_is_passed_over_keeps_its_turn() {
    let mut desk = Desk::new();
    let mut large = task("large", 1);
    large.limits.memory_bytes = 1 << 31;
    let large = desk.run(large, 500);
    let small = desk.run(task("small", 1), 500);
    for _ in 0..3 {
        assert_eq!(
            desk.lease(1, 1).task,
            small,
            "it does not wait for the large one"
        );
    }
    let strong = wishing(|w| w.limits.memory_bytes = 1 << 32);
    let leased = desk.pull_with(2, 1, strong).leased.unwrap();
    assert_eq!(leased.grant.task, large, "it was its turn all the time");
}

#[test]
fn what_an_owner_takes_back_is_held_against_nobody() {
    let mut desk = Desk::new();
    let id = desk.run(task("owner", 1), 1);
    // More often than any unit may fail.
    for _ in 0..40 {
        let grant = desk.lease(1, 1);
        let facts = desk.facts.len();
        assert!(desk.pull(2, 1).leased.is_none());
        let abandoned = back(&grant, Fault::Withdrawn);
        let say = Say {
            abandoned,
            ..Say::default()
        };
        desk.pull_with(1, 0, say);
        assert_eq!(desk.nudged(), [node(2)], "who waits is woken");
        assert_eq!(desk.facts.len(), facts, "nothing is recorded");
        desk.pass(60);
    }
    let status = desk.status(id);
    assert_eq!((status.leased, desk.phase(id).as_str()), (0, "running"));
    assert!(
        status
            .devices
            .get(&node(1))
            .is_none_or(|tally| tally.lost == 0)
    );
    let grant = desk.lease(2, 1);
    desk.report(2, results(&grant, b"x"));
    assert_eq!(desk.phase(id), "merging");
}

/// It was leased the same unit again at once, in a grant that did not look slow, as often as it liked.
#[test]
fn nobody_holds_the_last_unit_by_taking_it_back() {
    let mut desk = Desk::new();
    let id = desk.run(task("last", 1), 1);
    let grant = desk.lease(1, 1);
    for _ in 0..3 {
        desk.pass(39);
        let renew = vec![grant.id];
        let say = Say {
            renew,
            ..Say::default()
        };
        assert_eq!(desk.pull_with(1, 0, say).ended, []);
        assert!(desk.pull(2, 1).leased.is_none());
    }
    let abandoned = back(&grant, Fault::Withdrawn);
    let say = Say {
        abandoned,
        ..Say::default()
    };
    let pulled = desk.pull_with(1, 1, say);
    assert!(pulled.leased.is_none(), "it has just given it back");
    let one = |why| vec![Unfit { why, tasks: 1 }];
    assert_eq!(pulled.unfit, one(Misfit::Rests));
    desk.pass(59);
    assert!(desk.pull(1, 1).leased.is_none());
    let other = desk.lease(2, 1);
    let abandoned = back(&other, Fault::Withdrawn);
    let say = Say {
        abandoned,
        ..Say::default()
    };
    assert!(desk.pull_with(2, 1, say).leased.is_none());
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"x"));
    assert_eq!(desk.phase(id), "merging");
}

#[test]
fn who_alone_is_there_has_back_what_its_owner_took() {
    let mut desk = Desk::new();
    desk.run(task("alone", 1), 1);
    let grant = desk.lease(1, 1);
    let abandoned = back(&grant, Fault::Withdrawn);
    let say = Say {
        abandoned,
        ..Say::default()
    };
    desk.pull_with(1, 0, say);
    desk.pass(60);
    assert_eq!(units_of(&desk.lease(1, 1)), [0]);
}

#[test]
fn who_takes_back_and_reports_nothing_rests() {
    let mut desk = Desk::new();
    desk.run(task("churn", 1), 30_000);
    for round in 0..9 {
        let grant = desk.lease(1, GRANT_UNITS_MAX);
        assert_eq!(grant.units.len(), GRANT_UNITS_MAX as usize, "{round}");
        let abandoned = back(&grant, Fault::Withdrawn);
        let say = Say {
            abandoned,
            ..Say::default()
        };
        desk.pull_with(1, 0, say);
    }
    let rests = vec![Unfit {
        why: Misfit::Rests,
        tasks: 1,
    }];
    assert_eq!(desk.pull(1, 1).unfit, rests);
    desk.pass(1);
    desk.lease(1, 1);
}

#[test]
fn nobody_takes_back_the_lease_of_another() {
    let mut desk = Desk::new();
    let id = desk.run(task("others", 1), 1);
    let grant = desk.lease(1, 1);
    let abandoned = back(&grant, Fault::Withdrawn);
    let say = Say {
        abandoned,
        ..Say::default()
    };
    desk.pull_with(2, 0, say);
    assert_eq!(desk.status(id).leased, 1);
}

/// Returns what giving all units of a grant back looks like.
fn back(grant: &Grant, fault: Fault) -> Vec<Abandoned> {
    let units = units_of(grant).into_iter();
    let grant = grant.id;
    units.map(|unit| Abandoned { grant, unit, fault }).collect()
}
