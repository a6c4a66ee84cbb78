//! The owner comes first: what is suspended, given back, not asked for, and what can be told about it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::message::wishes::{Choice, Misfit, OwnTasks, Unfit};
use crate::message::work::GRANT_UNITS_MAX;

const MEMORY: u64 = 1 << 20;

#[test]
fn what_is_suspended_keeps_its_lease_and_goes_on_and_what_waits_is_given_back() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..3);
    let job = bench.jobs()[0];
    bench.allow(|allowance| allowance.run = false);
    let pull = bench.pull().expect("gives back at once");
    assert_eq!((pull.want, pull.abandoned), (0, withdrawn(&grant, [1, 2])));
    assert_eq!(pull.renew, [grant.id]);
    assert!(
        !bench.out.contains(&Effect::Stop(job)),
        "the shell holds it"
    );
    bench.answer_question(pull.question);
    let suspended = bench.machine.suspended().unwrap();
    assert_eq!((suspended.units, suspended.since), (1, bench.now));
    for _ in 0..5 {
        bench.pass(20_000);
        let renewal = bench.pull().expect("renews the lease");
        assert_eq!((renewal.want, renewal.renew), (0, vec![grant.id]));
        bench.answer_question(renewal.question);
    }
    bench.allow(|allowance| allowance.run = true);
    assert_eq!(bench.machine.suspended(), None);
    bench.run(job, 0, 100_000);
    let pull = bench.pull().unwrap();
    assert_eq!((pull.results.len(), pull.abandoned.len()), (1, 0));
    assert_eq!(pull.want, 1, "how slow it was says nothing of the task");
    assert_eq!((bench.tally().withdrawn, bench.tally().faults), (2, 0));
}

#[test]
fn what_is_suspended_for_too_long_is_given_back() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..1);
    let job = bench.jobs()[0];
    bench.allow(|allowance| allowance.run = false);
    bench.pass_answering(599_999);
    assert_eq!(bench.gave_back, []);
    bench.pass_answering(1);
    assert_eq!(bench.gave_back, withdrawn(&grant, [0]));
    assert!(bench.seen.contains(&Effect::Stop(job)));
    bench.allow(|allowance| allowance.run = true);
    assert_eq!(
        bench.machine.busy(),
        (0, 1),
        "its slot is free when it has ended"
    );
    bench.step(Input::Finished(job));
    assert!(bench.out.contains(&Effect::Release(grant.id)));
    assert_eq!(bench.machine.busy(), (0, 0));
    assert_eq!(bench.gave_back, withdrawn(&grant, [0]), "once");
}

#[test]
fn memory_that_is_needed_is_had_at_once_and_a_late_result_is_nobodys() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..1);
    let job = bench.jobs()[0];
    bench.allow(|allowance| allowance.run = false);
    bench.step(Input::Withdraw);
    assert!(bench.out.contains(&Effect::Stop(job)));
    let pull = bench.pull().unwrap();
    assert_eq!(pull.abandoned, withdrawn(&grant, [0]));
    let runs = vec![large_run(0)];
    bench.step(Input::Ran { job, runs });
    let discarded = Effect::Discard(vec![BlobId::of(b"large")]);
    assert_eq!(bench.out, [discarded], "it was given back");
    bench.step(Input::Finished(job));
    assert_eq!(bench.out, [Effect::Release(grant.id)]);
}

#[test]
fn what_dies_while_it_is_suspended_is_nobodys_fault() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..1);
    bench.allow(|allowance| allowance.run = false);
    bench.step(Input::Finished(Job(1)));
    let pull = bench.pull().unwrap();
    assert_eq!(pull.abandoned, withdrawn(&grant, [0]));
    assert_eq!((bench.tally().withdrawn, bench.tally().faults), (1, 0));
}

#[test]
fn a_grant_that_ends_stops_its_suspended_job() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..1);
    bench.allow(|allowance| allowance.run = false);
    bench.pass(20_000);
    let renewal = bench.pull().unwrap();
    let answer = Answer {
        ended: vec![grant.id],
        ..Answer::default()
    };
    bench.answer_with(&renewal, answer);
    assert!(bench.out.contains(&Effect::Stop(Job(1))));
    assert_eq!(bench.machine.suspended(), None);
}

#[test]
fn while_suspended_draining_gives_everything_back_at_once() {
    for drained_first in [true, false] {
        let mut bench = Bench::new(1);
        let grant = bench.leased(0..1);
        if drained_first {
            bench.step(Input::Drain);
        }
        bench.allow(|allowance| allowance.run = false);
        if !drained_first {
            bench.step(Input::Drain);
        }
        assert!(bench.out.contains(&Effect::Stop(Job(1))));
        let pull = bench.pull().unwrap();
        assert_eq!(pull.abandoned, withdrawn(&grant, [0]));
        bench.step(Input::Finished(Job(1)));
        bench.answer_question(pull.question);
        assert!(bench.machine.is_drained());
    }
}

#[test]
fn an_owner_that_wants_no_more_work_is_asked_for_none_and_the_rest_is_done() {
    let mut bench = Bench::new(1);
    bench.leased(0..2);
    bench.allow(|allowance| allowance.take = false);
    bench.step(Input::OfferHeard(Box::new(bench.offer(2))));
    assert!(bench.out.is_empty(), "nobody new is dialled");
    bench.run(Job(1), 0, 10);
    assert!(matches!(bench.out.last(), Some(Effect::Execute { .. })));
    bench.run(Job(2), 1, 10);
    let pull = bench.pull().unwrap();
    assert_eq!((pull.want, pull.results.len()), (0, 2));
    let answer = Answer {
        verdicts: vec![ResultVerdict::Counted; 2],
        ..Answer::default()
    };
    bench.answer_with(&pull, answer);
    bench.pass(900);
    assert!(bench.pulls.iter().all(|pull| pull.want == 0));
    bench.fail_all();
    bench.allow(|allowance| allowance.take = true);
    bench.pass(1_000);
    assert!(bench.pull().expect("asks again").want > 0);
}

#[test]
fn a_grant_that_crosses_a_change_of_mind_is_given_back() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.allow(|allowance| allowance.run = false);
    bench.answer(&pull, Some(&grant));
    assert!(!bench.out.contains(&Effect::Prepare(grant.id)));
    let pull = bench.pull().unwrap();
    assert_eq!((pull.want, pull.abandoned), (0, withdrawn(&grant, [0])));
    assert!(pull.renew.is_empty());
    assert_eq!(bench.tally().unwanted, 0, "nobody did anything wrong");
}

#[test]
fn who_leases_what_is_not_wanted_again_and_again_is_not_asked_for_a_while() {
    let mut bench = Bench::new(1);
    bench.allow(|allowance| {
        let not_this = BTreeSet::from([BlobId::of(b"program")]);
        allowance.wishes.programs = Choice::AllBut(not_this);
    });
    let mut pull = bench.found(1);
    for time in 1..=3 {
        assert_eq!(pull.want, 1);
        let grant = bench.grant(1, 0..1, 60_000);
        bench.answer(&pull, Some(&grant));
        pull = bench.pull().expect("gives it back at once");
        assert_eq!(pull.abandoned, withdrawn(&grant, [0]));
        assert_eq!(bench.tally().unwanted, time);
    }
    assert_eq!(pull.want, 0, "three were enough");
    bench.answer(&pull, None);
    bench.step(Input::Nudged {
        by: node(1),
        task: TaskId::from_bytes([1; 32]),
    });
    bench.pass(29_999);
    assert!(bench.pull().is_none());
    bench.pass(1);
    assert_eq!(bench.pull().expect("one more try").want, 1);
}

#[test]
fn a_program_that_is_forbidden_is_stopped_and_offers_of_it_are_not_heard() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..2);
    bench.allow(|allowance| {
        let others = BTreeSet::from([BlobId::of(b"another")]);
        allowance.wishes.programs = Choice::Only(others);
    });
    assert!(bench.out.contains(&Effect::Stop(Job(1))));
    let pull = bench.pull().unwrap();
    assert_eq!(pull.abandoned, withdrawn(&grant, [1, 0]));
    bench.step(Input::OfferHeard(Box::new(bench.offer(2))));
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    bench.allow(|allowance| allowance.wishes = Wishes::within_memory(MEMORY));
    bench.step(Input::OfferHeard(Box::new(bench.offer(2))));
    assert!(matches!(bench.out[..], [Effect::Dial(_)]));
}

#[test]
fn limits_hold_for_what_waits_and_not_for_what_runs() {
    let mut bench = Bench::new(2);
    let grant = bench.leased(0..4);
    assert_eq!(bench.jobs().len(), 2);
    bench.allow(|allowance| allowance.memory_bytes = MEMORY - 1);
    assert!(!bench.out.contains(&Effect::Stop(Job(1))));
    let pull = bench.pull().unwrap();
    assert_eq!(pull.abandoned, withdrawn(&grant, [2, 3]), "never fits");
    assert_eq!(pull.wishes.limits.memory_bytes, MEMORY - 1);
}

#[test]
fn units_run_within_memory_and_the_oldest_waits_for_its_own() {
    let mut bench = Bench::new(4);
    bench.allow(|allowance| {
        allowance.memory_bytes = 3 * MEMORY;
        allowance.wishes = Wishes::within_memory(3 * MEMORY);
    });
    let pull = bench.found(1);
    let large = bench.grant_with(0..2, |grant| grant.limits.memory_bytes = 2 * MEMORY);
    bench.answer(&pull, Some(&large));
    assert_eq!(bench.jobs().len(), 1, "two of them do not fit");
    assert!(bench.pull().is_none(), "more would only wait");
    let small = bench.grant(1, 2..4, 60_000);
    bench.pass(20_000);
    let renewal = bench.pull().unwrap();
    bench.answer_wanted(&renewal, &small);
    assert_eq!(
        bench.machine.busy(),
        (3, 1),
        "nothing overtakes the large one"
    );
    bench.run(Job(1), 0, 300);
    assert_eq!(bench.machine.busy(), (1, 2), "both are in their memory");
}

#[test]
fn fewer_slots_begin_no_new_jobs() {
    let mut bench = Bench::new(2);
    bench.leased(0..4);
    bench.allow(|allowance| allowance.slots = 1);
    bench.run(Job(1), 0, 300);
    assert_eq!(bench.machine.busy(), (2, 1), "the other one still runs");
    bench.run(Job(2), 1, 300);
    assert_eq!(bench.machine.busy(), (1, 1), "and now one at a time");
    bench.allow(|allowance| allowance.slots = 9);
    assert_eq!(bench.machine.busy(), (0, 2), "never more than there are");
    bench.allow(|allowance| allowance.slots = 0);
    assert_eq!(bench.machine.busy(), (0, 2), "what runs may end");
}

#[test]
fn a_task_that_earns_too_little_is_declined_for_an_hour() {
    let mut bench = Bench::new(1);
    let grant = bench.leased(0..40);
    // Each unit earns 1,000 micro-points, the least that there is, in a tenth of a second: 36 points an hour.
    bench.allow(|allowance| allowance.hourly_min = 36_000_000);
    bench.run_units(100, 16);
    assert_eq!(bench.machine.declined().count(), 0, "it is just enough");
    bench.allow(|allowance| allowance.hourly_min = 36_000_001);
    bench.run_units(100, 16);
    let declined: Vec<(TaskId, Declined)> = bench.machine.declined().collect();
    let (since, hourly) = (bench.now, 36_000_000);
    assert_eq!(declined, [(grant.task, Declined { hourly, since })]);
    bench.pass_answering(100);
    let back = &bench.gave_back;
    assert!(!back.is_empty() && back.iter().all(|unit| unit.fault == Fault::Withdrawn));
    assert_eq!(bench.machine.busy().0, 0, "nothing of it waits");
    let (want, wishes) = bench.asked.last().unwrap();
    assert!(*want > 0 && wishes.declined.contains(&grant.task));
    bench.pass_answering(3_660_000);
    let (_, wishes) = bench.asked.last().unwrap();
    assert!(wishes.declined.is_empty(), "it is tried again");
    assert_eq!(bench.machine.declined().count(), 0);
}

#[test]
fn the_owners_own_tasks_are_not_judged_by_what_they_earn() {
    for (own_tasks, declined) in [(OwnTasks::First, 0), (OwnTasks::Normal, 1)] {
        let mut bench = Bench::new(1);
        bench.allow(|allowance| {
            allowance.hourly_min = u64::MAX;
            allowance.wishes.own_tasks = own_tasks;
        });
        let pull = bench.found(1);
        let own = bench.grant_with(0..1, |grant| grant.customer = node(9));
        bench.answer(&pull, Some(&own));
        bench.run(Job(1), 0, 61_000);
        assert_eq!(bench.machine.declined().count(), declined);
    }
}

#[test]
fn own_tasks_for_others_and_others_tasks_are_given_back_as_wished() {
    for (own_tasks, customer, is_taken) in [
        (OwnTasks::Never, 9, false),
        (OwnTasks::Never, 8, true),
        (OwnTasks::Only, 8, false),
        (OwnTasks::Only, 9, true),
        (OwnTasks::Normal, 9, true),
    ] {
        let mut bench = Bench::new(1);
        bench.allow(|allowance| allowance.wishes.own_tasks = own_tasks);
        let pull = bench.found(1);
        let grant = bench.grant_with(0..1, |grant| grant.customer = node(customer));
        bench.answer(&pull, Some(&grant));
        let taken = bench.out.contains(&Effect::Prepare(grant.id));
        assert_eq!(taken, is_taken, "{own_tasks:?} of {customer}");
    }
}

#[test]
fn its_owner_can_be_told_how_things_stand_with_each_coordinator() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let began = bench.now;
    let unfit = vec![Unfit {
        why: Misfit::Memory,
        tasks: 2,
    }];
    bench.pass(1_000);
    let answer = Answer {
        retry_millis: 2_000,
        unfit: unfit.clone(),
        ..Answer::default()
    };
    bench.answer_with(&pull, answer);
    let standing = bench.standing();
    assert!(standing.connected && standing.since == began);
    assert_eq!(
        (standing.unfit, standing.empty_at),
        (unfit, Some(bench.now))
    );
    assert_eq!(standing.last_answer, Some(bench.now));
    let again = standing.asked_again_at.unwrap();
    assert!(again >= bench.now + Duration::from_secs(2));
    for _ in 0..2 {
        bench.pass(100_000);
        let pull = bench.pull().unwrap();
        let (question, refusal) = (pull.question, Some(Refusal::NotRegistered));
        bench.step(Input::Failed { question, refusal });
    }
    let standing = bench.standing();
    let (refusal, since) = standing.refusal.unwrap();
    assert_eq!((refusal, standing.failures), (Refusal::NotRegistered, 2));
    assert!(since < bench.now, "since the first time");
    bench.pass(100_000);
    let pull = bench.pull().unwrap();
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    let standing = bench.standing();
    assert_eq!((standing.refusal, standing.unfit), (None, vec![]));
    assert_eq!(standing.last_grant, Some(bench.now));
    bench.step(Input::Lost(node(1)));
    let standing = bench.standing();
    assert!(!standing.connected && standing.since == bench.now);
    assert_eq!(standing.asked_again_at, None);
}

#[test]
fn verdicts_and_faults_are_counted_by_kind() {
    let mut bench = Bench::new(1);
    bench.leased(0..3);
    bench.run(Job(1), 0, 10);
    let run = |unit, fault| Run {
        unit,
        result: Err(fault),
        took: Duration::ZERO,
    };
    let runs = vec![run(1, Fault::HostMemory), run(2, Fault::Killed)];
    let job = Job(2);
    bench.step(Input::Ran { job, runs });
    bench.step(Input::Finished(job));
    for _ in 0..3 {
        let Some(pull) = bench.pull() else { break };
        let answer = Answer {
            verdicts: vec![ResultVerdict::Redundant; pull.results.len()],
            ..Answer::default()
        };
        bench.answer_with(&pull, answer);
    }
    let faults = BTreeMap::from([(Fault::HostMemory, 1), (Fault::Killed, 1)]);
    assert_eq!(
        (&bench.tally().faults_by, bench.tally().faults),
        (&faults, 2)
    );
    let verdicts = BTreeMap::from([(ResultVerdict::Redundant, 1)]);
    assert_eq!(bench.tally().verdicts, verdicts);
}

/// What an owner does, and what happens meanwhile.
#[derive(Debug, Clone)]
enum Step {
    Allow {
        run: bool,
        take: bool,
        slots: usize,
        memory: u64,
        wants_program: bool,
    },
    Withdraw,
    /// The coordinator answers, with a grant of so many units of so much memory.
    Answer(u32, u64),
    NoAnswer,
    /// A job runs its next unit, or ends.
    Run(usize),
    End(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let allow = (
        any::<bool>(),
        any::<bool>(),
        0..4_usize,
        0..5_u64,
        any::<bool>(),
    );
    let allow = allow.prop_map(|(run, take, slots, memory, wants_program)| Step::Allow {
        run,
        take,
        slots,
        memory: memory * MEMORY,
        wants_program,
    });
    prop_oneof![
        2 => allow,
        1 => Just(Step::Withdraw),
        4 => (1..6_u32, 1..4_u64).prop_map(|(units, memory)| Step::Answer(units, memory * MEMORY)),
        1 => Just(Step::NoAnswer),
        4 => (0..3_usize).prop_map(Step::Run),
        3 => (0..3_usize).prop_map(Step::End),
        2 => (1..400_000_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_owner_does_each_unit_is_reported_or_given_back_once(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut play = Play::new();
        for step in steps {
            play.take(step)?;
        }
        play.end()?;
    }
}

/// A terminal, its shell and its only coordinator.
struct Play {
    bench: Bench,
    /// The jobs that the shell runs, with the units that it has not run.
    jobs: BTreeMap<Job, (u64, Vec<u32>)>,
    held: BTreeMap<GrantId, Verified<Grant>>,
    /// What the coordinator has heard of each unit that it leased.
    heard: BTreeMap<(GrantId, u32), u32>,
    room: (usize, u64),
    wants_program: bool,
    units: u32,
}

impl Play {
    fn new() -> Self {
        let mut bench = Bench::new(3);
        bench.step(Input::Found(node(1)));
        let mut play = Self {
            bench,
            jobs: BTreeMap::new(),
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
            room: (3, 3 << 30),
            wants_program: true,
            units: 0,
        };
        play.note().unwrap();
        play
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Allow {
                run,
                take,
                slots,
                memory,
                wants_program,
            } => {
                self.room = (if run { slots } else { 0 }, memory);
                self.wants_program = wants_program;
                self.bench.allow(|allowance| {
                    (allowance.run, allowance.take) = (run, take);
                    (allowance.slots, allowance.memory_bytes) = (slots, memory);
                    let this = BTreeSet::from([BlobId::of(b"program")]);
                    allowance.wishes.programs = if wants_program {
                        Choice::Only(this)
                    } else {
                        Choice::AllBut(this)
                    };
                });
            }
            Step::Withdraw => self.bench.step(Input::Withdraw),
            Step::Answer(units, memory) => self.answer(units, memory),
            Step::NoAnswer => self.bench.fail_all(),
            Step::Run(place) => self.run(place),
            Step::End(place) => self.end_job(place),
            Step::Pass(millis) => self.bench.pass(millis),
        }
        self.note()
    }

    fn answer(&mut self, units: u32, memory: u64) {
        let Some(pull) = self.bench.pull() else {
            return;
        };
        for result in &pull.results {
            *self.heard.entry((result.grant, result.unit)).or_default() += 1;
        }
        for back in &pull.abandoned {
            assert_eq!(back.fault, Fault::Withdrawn);
            *self.heard.entry((back.grant, back.unit)).or_default() += 1;
        }
        let verdicts = vec![ResultVerdict::Counted; pull.results.len()];
        let from = self.units;
        let units = from..from + units.min(pull.want);
        let grant = (!units.is_empty()).then(|| {
            self.units = units.end;
            let grant = self.bench.grant_with(units, |grant| {
                grant.limits.memory_bytes = memory;
                let id = (1 << 64) + u128::from(from);
                grant.id = GrantId::from_bytes(id.to_be_bytes());
            });
            self.held.insert(grant.id, grant.clone());
            grant
        });
        let answer = Answer {
            card: grant.as_ref().map(|grant| card(grant.signer())),
            grant,
            verdicts,
            ..Answer::default()
        };
        self.bench.answer_with(&pull, answer);
    }

    /// The shell runs nothing while the owner does not let it.
    fn run(&mut self, place: usize) {
        let may_run = self.bench.machine.config.allowance.run;
        let job = self.jobs.keys().nth(place).copied();
        let Some(job) = job.filter(|_| may_run) else {
            return;
        };
        let Some(unit) = self.jobs.get_mut(&job).and_then(|(_, left)| left.pop()) else {
            return;
        };
        let runs = vec![large_run(unit)];
        self.bench.step(Input::Ran { job, runs });
    }

    fn end_job(&mut self, place: usize) {
        let idle = self.jobs.iter().filter(|(_, (_, left))| left.is_empty());
        let Some(job) = idle.map(|(job, _)| *job).nth(place) else {
            return;
        };
        self.jobs.remove(&job);
        self.bench.step(Input::Finished(job));
    }

    /// Does what the machine wants, and checks that it may want it.
    fn note(&mut self) -> Result<(), TestCaseError> {
        let (seen, out) = (&mut self.bench.seen, &mut self.bench.out);
        seen.append(out);
        for effect in std::mem::take(seen) {
            match effect {
                Effect::Execute { job, grant, places } => {
                    let held = &self.held[&grant];
                    let units = held.units[places].iter().map(|leased| leased.unit);
                    let memory = held.limits.memory_bytes;
                    self.jobs.insert(job, (memory, units.collect()));
                    let used: u64 = self.jobs.values().map(|(memory, _)| memory).sum();
                    prop_assert!(self.wants_program);
                    prop_assert!(self.jobs.len() <= self.room.0, "beyond the slots");
                    prop_assert!(used <= self.room.1, "beyond the memory");
                }
                Effect::Stop(job) => {
                    if let Some((_, left)) = self.jobs.get_mut(&job) {
                        left.clear();
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets everything come to its end.
    fn end(mut self) -> Result<(), TestCaseError> {
        self.bench.step(Input::Drain);
        self.note()?;
        for _ in 0..2_000 {
            if self.bench.machine.is_drained() {
                break;
            }
            self.take(Step::Answer(0, 0))?;
            self.take(Step::Run(0))?;
            self.take(Step::End(0))?;
            self.take(Step::Pass(100))?;
        }
        prop_assert!(self.bench.machine.is_drained());
        let leased = self.held.values().flat_map(|grant| {
            let units = grant.units.iter();
            units.map(|leased| ((grant.id, leased.unit), 1))
        });
        prop_assert_eq!(self.heard, leased.collect::<BTreeMap<_, _>>());
        Ok(())
    }
}

/// Returns what giving units of a grant back looks like.
fn withdrawn<const N: usize>(grant: &Grant, units: [u32; N]) -> Vec<Abandoned> {
    let (grant, fault) = (grant.id, Fault::Withdrawn);
    let back = |unit| Abandoned { grant, unit, fault };
    units.map(back).into()
}

impl Bench {
    /// Has the coordinator 1 lease units to it.
    fn leased(&mut self, units: std::ops::Range<u32>) -> Verified<Grant> {
        let pull = self.found(1);
        let grant = self.grant(1, units, 60_000);
        self.answer_wanted(&pull, &grant);
        grant
    }

    /// Answers with a grant, as if as many units had been wanted.
    fn answer_wanted(&mut self, pull: &PullOut, grant: &Verified<Grant>) {
        let asked = self.machine.questions.get_mut(&pull.question).unwrap();
        asked.want = GRANT_UNITS_MAX;
        self.answer(pull, Some(grant));
    }

    /// Returns a grant of the coordinator 1 that differs.
    fn grant_with(
        &mut self,
        units: std::ops::Range<u32>,
        change: impl FnOnce(&mut Grant),
    ) -> Verified<Grant> {
        let mut grant = self.grant(1, units, 60_000).value().clone();
        change(&mut grant);
        Verified::sign(grant, &network(), &SigningKey::from_bytes(&[1; 32]))
    }

    fn answer_question(&mut self, question: Question) {
        let answer = Answer::default();
        self.step(Input::Answered { question, answer });
    }

    /// Lets time pass, while whoever is asked answers.
    fn pass_answering(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            while let Some(pull) = self.pull() {
                let answer = Answer {
                    verdicts: vec![ResultVerdict::Counted; pull.results.len()],
                    retry_millis: 5_000,
                    ..Answer::default()
                };
                self.answer_with(&pull, answer);
            }
            let due = self.machine.next_deadline();
            let Some(at) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.step(Input::DeadlineReached);
        }
        self.now = end;
    }

    /// Runs about so many units in the only slot, each for so long, as far as there are any.
    fn run_units(&mut self, millis: u64, count: usize) {
        let mut ran = 0;
        while ran < count {
            let running = self.machine.work.at_work().next();
            let Some((job, units)) = running.map(|running| (running.job, running.units)) else {
                return;
            };
            for unit in 0..100 {
                let runs = vec![Run {
                    took: Duration::from_millis(millis),
                    ..large_run(unit)
                }];
                self.step(Input::Ran { job, runs });
            }
            self.step(Input::Finished(job));
            ran += units;
        }
    }

    fn allow(&mut self, change: impl FnOnce(&mut Allowance)) {
        let mut allowance = self.machine.config.allowance.clone();
        change(&mut allowance);
        self.step(Input::Allowed(Box::new(allowance)));
    }

    fn tally(&self) -> &Tally {
        self.machine.tally()
    }

    fn standing(&self) -> LinkStanding {
        let (_, standing) = self.machine.standings().next().unwrap();
        standing
    }
}
