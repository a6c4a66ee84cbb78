//! Terminals that lie, and terminals that die.

use tally_protocol::message::announce::Role;
use tally_protocol::message::customer::TaskStatus;
use tally_protocol::message::work::{ResultVerdict, WorkReply};
use tally_tests::job::Job;
use tally_tests::raw::{RawPeer, result_of};
use tally_tests::{ledger, until};

use crate::net;

/// Units that the liar gets: all that there are.
const UNITS: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_lies_is_outvoted_and_named() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    let to = coordinator.id();
    let text = "two words\n".repeat(UNITS as usize);
    let job = Job::builtin("wordcount")
        .text(&text)
        .table("quorum", "agree = 2\nerror_max = 3\ntotal_max = 8");
    let submitted = net.submit("customer", &job);
    // The liar is there first and signs in due form that each unit has a million words.
    let liar = RawPeer::join(&coordinator.address(), &[Role::Terminal]).await;
    let mut lied = 0;
    while lied < UNITS {
        let grant = liar.lease(to, UNITS).await;
        let lies: Vec<_> = grant
            .units
            .iter()
            .map(|leased| result_of(grant.id, leased.unit, b"1000000\n", 4_242))
            .collect();
        let count = lies.len();
        let WorkReply::Pulled(reply) = liar.tell(to, liar.report(to, lies)).await else {
            panic!("the coordinator cannot know that it is a lie");
        };
        assert_eq!(reply.verdicts, vec![ResultVerdict::Counted; count]);
        lied += u32::try_from(count).unwrap();
    }
    let mut honest = [
        net.start_terminal("honest-1"),
        net.start_terminal("honest-2"),
    ];
    let status: TaskStatus = submitted.wait().done().json();
    assert_eq!(net.result("customer"), b"24\n");
    let of_liar = &status.devices[&liar.id()];
    assert_eq!(
        (of_liar.agreed, of_liar.outvoted, of_liar.fuel),
        (0, UNITS, 0)
    );
    let mut named = of_liar.outvoted_units.clone();
    named.sort_unstable();
    assert_eq!(named, (0..UNITS).collect::<Vec<_>>());
    for terminal in &mut honest {
        let tally = &status.devices[&terminal.id()];
        assert_eq!((tally.agreed, tally.outvoted), (UNITS, 0));
    }
    // People read it too, and so it stands in the ledger for ever.
    let task = status.summary.task.to_string();
    let folder = net.path("coordinator");
    let shown = net.run(&["task", "status", &task, "--dir", folder.to_str().unwrap()]);
    let line = format!("{} was outvoted on unit ", liar.id());
    assert!(shown.done().text().contains(&line));
    coordinator.stop();
    let validated = ledger::validations(&net.path("coordinator"), status.summary.task);
    assert_eq!(validated.len(), UNITS as usize);
    for (_, (times, unit)) in validated {
        assert_eq!((times, unit.agreed.len()), (1, 2));
        assert_eq!(unit.outvoted, vec![liar.id()]);
    }
}

#[test]
fn a_terminal_that_is_killed_in_the_middle_costs_nothing_but_its_lease() {
    let mut net = net();
    let mut coordinator = net.start_coordinator();
    // Forty units of a few hundred milliseconds; a lease of one second, so that lost ones come back soon.
    let ranges: String = (0..40).map(|_| "0 40000000\n").collect();
    let job = Job::builtin("prime-count")
        .text(&ranges)
        .agree(1)
        .table("lease", "seconds = 1");
    let mut victim = net.start_terminal("victim");
    let victim_id = victim.id();
    let submitted = net.submit("customer", &job);
    let task = until("a unit that the victim has done", || {
        let task = coordinator.tasks().first()?.task;
        let status = coordinator.task(task);
        (status.summary.done > 0 && status.leased > 0).then_some(task)
    });
    victim.kill();
    let mut heir = net.start_terminal("heir");
    let heir_id = heir.id();
    let status: TaskStatus = submitted.wait().done().json();
    assert_eq!(status.summary.task, task);
    // There are 2,433,654 primes below 40 million.
    assert_eq!(
        net.result("customer"),
        format!("{}\n", 40 * 2_433_654).as_bytes()
    );
    let (dead, alive) = (&status.devices[&victim_id], &status.devices[&heir_id]);
    assert!(dead.lost > 0, "{dead:?}");
    assert_eq!(dead.outvoted, 0);
    assert_eq!(dead.agreed + alive.agreed, 40, "{status:?}");
    coordinator.stop();
    let validated = ledger::validations(&net.path("coordinator"), task);
    assert!(validated.len() == 40 && validated.values().all(|(times, _)| *times == 1));
}
