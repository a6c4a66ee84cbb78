//! The terminal as stories: arrange, step, look at the effects.

use ed25519_dalek::SigningKey;

use super::*;
use crate::account::Holder;
use crate::id::NetworkId;
use crate::message::wishes::Wishes;
use crate::message::work::{Abandoned, LeasedUnit, ResultVerdict, SHOWN_MAX, Unpaid};
use crate::rate_card::Rates;
use crate::unit::Limits;

mod owner;
mod registered;
mod wallet;

#[test]
fn takes_units_runs_them_and_reports_them_with_the_next_pull() {
    let mut bench = Bench::new(2);
    let first = bench.found(1);
    assert_eq!(
        (first.to, first.want),
        (node(1), 2),
        "one unit for each slot, as nothing is known"
    );
    let grant = bench.grant(1, 0..2, 60_000);
    bench.answer(&first, Some(&grant));
    let jobs = bench.jobs();
    assert_eq!(jobs.len(), 2);
    assert_eq!(bench.out[0], Effect::Prepare(grant.id));
    bench.run(jobs[0], 0, 10);
    let pull = bench
        .pull()
        .expect("nothing is in store, so it reports at once");
    assert_eq!((pull.results.len(), pull.renew.len()), (1, 1));
    bench.answer_with(
        &pull,
        Answer {
            verdicts: vec![ResultVerdict::Counted],
            ..Answer::default()
        },
    );
    bench.run(jobs[1], 1, 10);
    let pull = bench.pull().unwrap();
    bench.answer_with(
        &pull,
        Answer {
            verdicts: vec![ResultVerdict::Counted],
            ..Answer::default()
        },
    );
    assert!(bench.out.contains(&Effect::Release(grant.id)));
    assert_eq!(
        (bench.machine.tally().counted, bench.machine.is_drained()),
        (2, true)
    );
}

#[test]
fn units_that_run_for_long_keep_every_slot_busy() {
    let mut bench = Bench::new(4);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 600_000);
    bench.answer(&pull, Some(&grant));
    let again = bench
        .pull()
        .expect("three slots are free, though the speed is not known");
    assert_eq!(again.want, 3);
    let job = Job(1);
    bench.answer(&again, None);
    bench.pass(400_000);
    assert_eq!(bench.pulls.len(), 1, "it goes on asking for the free slots");
    bench.fail_all();
    bench.run(job, 0, 400_000);
    bench.pass(31_000);
    assert_eq!(
        bench.pull().expect("asks").want,
        4,
        "a unit takes minutes, and still each slot takes one"
    );
}

#[test]
fn the_report_of_the_last_unit_of_a_job_asks_for_the_next_one() {
    let mut bench = Bench::new(2);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..2, 600_000);
    bench.answer(&pull, Some(&grant));
    bench.pass(9_000);
    let ran = Ran {
        outcome: Outcome::Done,
        fuel: 5,
        output: BlobRef::of(b"out"),
        inline: Some(b"out".to_vec()),
    };
    let run = Run {
        unit: 0,
        result: Ok(ran),
        took: Duration::from_secs(9),
    };
    let (job, runs) = (Job(1), vec![run]);
    bench.step(Input::Ran { job, runs });
    let pull = bench.pull().expect("reports at once");
    assert_eq!((pull.results.len(), pull.want), (1, 1));
    bench.step(Input::Finished(job));
    assert!(bench.pull().is_none(), "that was all");
}

#[test]
fn fast_units_are_kept_in_store_for_a_second_or_two() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.run(Job(1), 0, 10);
    assert_eq!(bench.pull().unwrap().want, 150);
}

#[test]
fn a_nudge_that_crosses_an_empty_answer_is_not_lost() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    bench.step(Input::Nudged {
        by: node(1),
        task: TaskId::from_bytes([1; 32]),
    });
    assert!(bench.pull().is_none(), "one question at a time");
    bench.answer_with(
        &pull,
        Answer {
            retry_millis: 5_000,
            ..Answer::default()
        },
    );
    let again = bench.pull().expect("asks again at once");
    bench.answer_with(
        &again,
        Answer {
            retry_millis: 5_000,
            ..Answer::default()
        },
    );
    assert!(bench.pull().is_none());
    bench.pass(4_999);
    assert!(bench.pulls.is_empty());
    bench.pass(2_501);
    assert_eq!(bench.pulls.len(), 1, "after the pause and up to half of it");
}

#[test]
fn leases_are_renewed_when_a_third_of_them_has_passed() {
    for (lease_millis, expected) in [(1_000, 333), (6_000, 2_000), (3_600_000, 20_000)] {
        let mut bench = Bench::new(1);
        let pull = bench.found(1);
        let grant = bench.grant(1, 0..1, lease_millis);
        bench.answer(&pull, Some(&grant));
        bench.pass(expected - 1);
        assert!(bench.pulls.is_empty());
        bench.pass(1);
        assert_eq!(bench.pull().unwrap().renew, [grant.id]);
    }
}

#[test]
fn a_result_of_a_short_lease_is_reported_within_it() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 1_000);
    bench.answer(&pull, Some(&grant));
    bench.run(Job(1), 0, 10);
    let more = bench.pull().unwrap();
    let other = bench.grant(1, 1..120, 1_000);
    bench.answer_with(
        &more,
        Answer {
            grant: Some(other),
            card: Some(card(node(1))),
            verdicts: vec![ResultVerdict::Counted],
            ..Answer::default()
        },
    );
    let runs = vec![large_run(1)];
    bench.step(Input::Ran { job: Job(2), runs });
    bench.pass(334);
    assert_eq!(bench.pull().expect("reports").results.len(), 1);
}

#[test]
fn a_pull_that_only_reports_does_not_put_off_the_next_one_for_work() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.pass(20_000);
    let renewal = bench.pull().unwrap();
    assert_eq!(renewal.want, 0);
    bench.answer_with(
        &renewal,
        Answer {
            retry_millis: 5_000,
            ..Answer::default()
        },
    );
    bench.run(Job(1), 0, 10);
    let next = bench.pull().unwrap();
    assert!(next.want > 0);
}

#[test]
fn unusable_grants_and_empty_answers_are_not_asked_for_in_a_loop() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let foreign = bench.grant(2, 0..1, 60_000);
    bench.answer(&pull, Some(&foreign));
    assert!(bench.pull().is_none());
    bench.pass(30_000);
    let pull = bench.pull().unwrap();
    let too_many = bench.grant(1, 0..9, 60_000);
    bench.answer(&pull, Some(&too_many));
    assert!(bench.out.is_empty(), "{:?}", bench.out);
    bench.pass(30_000);
    let pull = bench.pull().unwrap();
    bench.answer(&pull, None);
    assert!(bench.pull().is_none(), "a pause of 0 is no pause");
    bench.pass(100);
    assert!(bench.pull().is_some());
}

/// Found by reading, then done by `tampering` of netsim/tests/netsim/dishonest.rs.
#[test]
fn a_coordinator_cannot_end_grants_of_another_or_lease_a_unit_twice() {
    let mut bench = Bench::new(2);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    let more = bench.pull().expect("a slot is free");
    bench.answer(&more, None);
    let other = bench.found(2);
    assert_eq!(other.to, node(2));
    let ended = vec![grant.id];
    let answer = Answer {
        ended,
        ..Answer::default()
    };
    bench.answer_with(&other, answer);
    assert!(!bench.out.contains(&Effect::Release(grant.id)));
    assert!(!bench.out.contains(&Effect::Stop(Job(1))));
    let mut bench = Bench::new(2);
    let pull = bench.found(1);
    let mut twice = bench.grant(1, 0..2, 60_000).value().clone();
    twice.units[1] = twice.units[0].clone();
    bench.answer(
        &pull,
        Some(&Verified::sign(
            twice,
            &network(),
            &SigningKey::from_bytes(&[1; 32]),
        )),
    );
    assert!(bench.out.is_empty(), "{:?}", bench.out);
}

#[test]
fn failures_are_followed_by_longer_and_longer_pauses_until_it_connects_anew() {
    let mut bench = Bench::new(1);
    let mut pull = bench.found(1);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let failed_at = bench.now;
        bench.step(Input::Failed {
            question: pull.question,
            refusal: None,
        });
        let next = bench.machine.next_deadline().unwrap();
        pauses.push(next.since(failed_at).as_millis());
        bench.now = next;
        bench.step(Input::DeadlineReached);
        pull = bench.pull().unwrap();
    }
    let doubled = |pair: &[u128]| pair[1] > pair[0] || pair[1] >= 30_000;
    assert!(
        (250..376).contains(&pauses[0]) && pauses.windows(2).all(doubled),
        "{pauses:?}"
    );
    assert!(pauses.iter().all(|pause| *pause <= 45_000));
    bench.step(Input::Failed {
        question: pull.question,
        refusal: Some(Refusal::NotAdmitted),
    });
    bench.step(Input::Lost(node(1)));
    bench.found(1);
}

#[test]
fn results_that_are_refused_again_and_again_are_dropped() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.run(Job(1), 0, 10);
    for _ in 0..4 {
        let pull = bench.pull().unwrap();
        assert_eq!(pull.results.len(), 1);
        bench.step(Input::Failed {
            question: pull.question,
            refusal: Some(Refusal::Unverified),
        });
        let released = bench.out.contains(&Effect::Release(grant.id));
        bench.pass(90_000);
        if released {
            return assert_eq!(bench.machine.tally().uncounted, 1);
        }
    }
    panic!("kept for ever");
}

#[test]
fn a_restarted_coordinator_is_shown_the_grants_a_few_at_a_time() {
    let mut bench = Bench::new(20);
    let mut pull = bench.found(1);
    let grants: Vec<_> = (0..12)
        .map(|unit| bench.grant(1, unit..unit + 1, 60_000))
        .collect();
    for grant in &grants {
        bench.answer(&pull, Some(grant));
        pull = bench.pull().unwrap();
    }
    for (job, unit) in (1..).zip(0..12) {
        bench.run(Job(job), unit, 10);
    }
    bench.answer(&pull, None);
    let mut counted = 0;
    for _ in 0..5 {
        let Some(pull) = bench.pull().filter(|pull| !pull.results.is_empty()) else {
            break;
        };
        assert!(pull.grants.len() <= SHOWN_MAX);
        let shown: Vec<GrantId> = pull
            .grants
            .iter()
            .map(|grant| grant.clone().verify(&network()).unwrap().id)
            .collect();
        let verdict = |result: &UnitResult| {
            if shown.contains(&result.grant) {
                ResultVerdict::Counted
            } else {
                ResultVerdict::ShowGrant
            }
        };
        let verdicts: Vec<_> = pull.results.iter().map(verdict).collect();
        counted += verdicts
            .iter()
            .filter(|verdict| **verdict == ResultVerdict::Counted)
            .count();
        bench.answer_with(
            &pull,
            Answer {
                verdicts,
                ..Answer::default()
            },
        );
    }
    assert_eq!((counted, bench.machine.tally().uncounted), (12, 0));
}

#[test]
fn a_grant_that_the_coordinator_does_not_know_is_shown_at_once_and_not_in_a_loop() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let (grant, foreign) = (bench.grant(1, 0..1, 60_000), bench.grant(2, 0..1, 60_000));
    bench.answer(&pull, Some(&grant));
    let asks = |bench: &mut Bench| {
        bench.pass(20_000);
        let pull = bench.pull().unwrap();
        let unknown = vec![grant.id, foreign.id];
        let answer = Answer {
            unknown,
            ..Answer::default()
        };
        bench.answer_with(&pull, answer);
        bench.pull()
    };
    let shown = asks(&mut bench).unwrap();
    assert_eq!(shown.grants, [grant.signed().clone()]);
    assert!(shown.results.is_empty());
    bench.answer(&shown, None);
    assert_eq!(asks(&mut bench), None, "it was shown");
    // A new connection may be to one that was restarted again.
    bench.step(Input::Lost(node(1)));
    bench.step(Input::Found(node(1)));
    assert_eq!(asks(&mut bench).unwrap().grants, [grant.signed().clone()]);
}

#[test]
fn a_coordinator_that_stays_away_is_given_up_with_all_that_was_for_it() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.step(Input::Lost(node(1)));
    bench.run(Job(1), 0, 10);
    assert!(!bench.machine.is_drained());
    bench.pass(600_000);
    assert!(bench.out.contains(&Effect::Release(grant.id)));
    assert!(bench.machine.is_drained());
    assert_eq!(bench.machine.next_deadline(), None);
}

#[test]
fn units_that_a_finished_job_did_not_run_are_given_back() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.step(Input::Finished(Job(1)));
    let pull = bench.pull().unwrap();
    let fault = Fault::Killed;
    assert_eq!(
        pull.abandoned,
        [Abandoned {
            grant: grant.id,
            unit: 0,
            fault
        }]
    );
    assert!(pull.renew.is_empty());
}

#[test]
fn a_grant_that_is_over_is_stopped_and_its_outputs_are_discarded() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 3_000);
    bench.answer(&pull, Some(&grant));
    bench.pass(1_000);
    let renewal = bench.pull().unwrap();
    bench.answer_with(
        &renewal,
        Answer {
            ended: vec![grant.id],
            ..Answer::default()
        },
    );
    assert!(bench.out.contains(&Effect::Stop(Job(1))));
    bench.step(Input::Ran {
        job: Job(1),
        runs: vec![large_run(0)],
    });
    assert_eq!(
        bench.out.first(),
        Some(&Effect::Discard(vec![BlobId::of(b"large")]))
    );
    bench.step(Input::Finished(Job(1)));
    assert!(bench.out.contains(&Effect::Release(grant.id)));
}

#[test]
fn a_distrusted_coordinator_loses_its_work_and_is_never_asked_again() {
    let mut bench = Bench::new(2);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    let job = bench.jobs()[0];
    let asked = bench.pull().expect("the other slot is free");
    bench.step(Input::Distrusted(node(1)));
    assert_eq!(bench.out, [Effect::Stop(job)]);
    assert_eq!(bench.machine.coordinators().count(), 0);
    bench.step(Input::Ran {
        job,
        runs: vec![large_run(0)],
    });
    let discarded = Effect::Discard(vec![BlobId::of(b"large")]);
    assert_eq!(bench.out, [discarded], "nothing is kept for it");
    bench.step(Input::Finished(job));
    assert_eq!(bench.out, [Effect::Release(grant.id)]);
    // An answer that was on its way.
    let late = bench.grant(1, 4..5, 60_000);
    bench.answer(&asked, Some(&late));
    assert_eq!(bench.machine.busy(), (0, 0));
    for input in [
        Input::Found(node(1)),
        Input::Nudged {
            by: node(1),
            task: TaskId::from_bytes([1; 32]),
        },
        Input::OfferHeard(Box::new(bench.offer(1))),
    ] {
        bench.step(input);
        assert!(bench.out.is_empty(), "{:?}", bench.out);
    }
    bench.pass(3_600_000);
    assert!(bench.pull().is_none());
    assert!(bench.machine.is_drained());
    bench.found(2);
    bench.step(Input::OfferHeard(Box::new(bench.offer(3))));
    let dials = |effect: &Effect| matches!(effect, Effect::Dial(_));
    assert!(bench.out.iter().any(dials), "others are as before");
}

#[test]
fn the_store_holds_what_many_coordinators_give_at_once() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    // Units so fast that the store would take thousands.
    bench.step(Input::Ran {
        job: Job(1),
        runs: vec![Run {
            took: Duration::from_nanos(1),
            ..large_run(0)
        }],
    });
    for number in 2..40 {
        bench.step(Input::Found(node(number)));
        bench.note_pulls();
    }
    let wanted: u32 = bench.pulls.iter().map(|pull| pull.want).sum();
    assert_eq!(wanted as usize, STORE_UNITS_MAX);
}

#[test]
fn while_draining_it_takes_no_more_and_finishes_what_it_has() {
    let mut bench = Bench::new(1);
    let pull = bench.found(1);
    let grant = bench.grant(1, 0..1, 60_000);
    bench.answer(&pull, Some(&grant));
    bench.step(Input::Drain);
    bench.run(Job(1), 0, 10);
    let pull = bench.pull().unwrap();
    assert_eq!((pull.want, pull.results.len()), (0, 1));
    bench.answer_with(
        &pull,
        Answer {
            verdicts: vec![ResultVerdict::Counted],
            ..Answer::default()
        },
    );
    assert!(bench.machine.is_drained() && bench.pull().is_none());
}

/// A terminal with what it has put out.
struct Bench {
    machine: Terminal,
    now: Timestamp,
    out: Vec<Effect>,
    /// Pulls that have no answer yet.
    pulls: Vec<PullOut>,
    /// What it has put out before, but for pulls.
    seen: Vec<Effect>,
    /// What each pull wanted.
    asked: Vec<(u32, Wishes)>,
    /// Units that it has given back.
    gave_back: Vec<Abandoned>,
    grants: u8,
}

impl Bench {
    fn new(slots: usize) -> Self {
        let config = TerminalConfig {
            me: node(9),
            profile: profile(),
            slots,
            allowance: Allowance::all(slots, 1 << 30),
            certificate: None,
            registrations: Vec::new(),
        };
        Self {
            machine: Terminal::new(config, [3; 32]),
            now: Timestamp::from_millis(1_000_000),
            out: Vec::new(),
            pulls: Vec::new(),
            seen: Vec::new(),
            asked: Vec::new(),
            gave_back: Vec::new(),
            grants: 0,
        }
    }

    fn step(&mut self, input: Input) {
        self.seen.append(&mut self.out);
        self.machine.handle(self.now, input, &mut self.out);
        self.note_pulls();
    }

    fn note_pulls(&mut self) {
        let pulls = self
            .out
            .extract_if(.., |effect| matches!(effect, Effect::Pull(_)));
        for effect in pulls {
            let Effect::Pull(pull) = effect else {
                panic!("{effect:?}")
            };
            self.asked.push((pull.want, pull.wishes.clone()));
            self.gave_back.extend(&pull.abandoned);
            self.pulls.push(*pull);
        }
    }

    /// Takes the oldest pull that has no answer.
    fn pull(&mut self) -> Option<PullOut> {
        (!self.pulls.is_empty()).then(|| self.pulls.remove(0))
    }

    fn found(&mut self, number: u8) -> PullOut {
        self.step(Input::Found(node(number)));
        self.pull().expect("asks whom it finds")
    }

    fn answer(&mut self, pull: &PullOut, grant: Option<&Verified<Grant>>) {
        self.answer_with(
            pull,
            Answer {
                grant: grant.cloned(),
                card: grant.map(|grant| card(grant.signer())),
                ..Answer::default()
            },
        );
    }

    /// Answers with verdicts on all results, if none are given.
    fn answer_with(&mut self, pull: &PullOut, mut answer: Answer) {
        answer
            .verdicts
            .resize(pull.results.len(), ResultVerdict::ShowGrant);
        self.step(Input::Answered {
            question: pull.question,
            answer,
        });
    }

    fn fail_all(&mut self) {
        for pull in std::mem::take(&mut self.pulls) {
            self.step(Input::Failed {
                question: pull.question,
                refusal: None,
            });
        }
    }

    fn run(&mut self, job: Job, unit: u32, millis: u64) {
        let took = Duration::from_millis(millis);
        let inline = Some(b"out".to_vec());
        let ran = Ran {
            outcome: Outcome::Done,
            fuel: 5,
            output: BlobRef::of(b"out"),
            inline,
        };
        let runs = vec![Run {
            unit,
            result: Ok(ran),
            took,
        }];
        self.step(Input::Ran { job, runs });
        let mut out = std::mem::take(&mut self.out);
        self.step(Input::Finished(job));
        out.append(&mut self.out);
        self.out = out;
    }

    /// Lets time pass, with all deadlines in it.
    fn pass(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(at) = self.machine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Input::DeadlineReached);
        }
        self.now = end;
    }

    fn jobs(&self) -> Vec<Job> {
        let jobs = self.out.iter().filter_map(|effect| match effect {
            Effect::Execute { job, .. } => Some(*job),
            _ => None,
        });
        jobs.collect()
    }

    fn offer(&self, by: u8) -> Verified<Offer> {
        let offer = Offer {
            task: TaskId::from_bytes([1; 32]),
            epoch: 1,
            program: BlobId::of(b"program"),
            program_bytes: 7,
            profile: profile(),
            limits: Limits {
                fuel: 1_000,
                memory_bytes: 1 << 20,
                output_bytes: 100,
            },
            open_units: 1,
            spread_millis: 0,
            sortition: u16::MAX,
            addresses: Vec::new(),
            issued: self.now,
            expires: self.now + Duration::from_secs(60),
        };
        Verified::sign(offer, &network(), &SigningKey::from_bytes(&[by; 32]))
    }

    fn grant(&mut self, by: u8, units: std::ops::Range<u32>, lease_millis: u64) -> Verified<Grant> {
        self.grants += 1;
        let leased = |unit| LeasedUnit {
            unit,
            attempt: 0,
            start: 0,
            bytes: 1,
            params: String::new(),
        };
        let grant = Grant {
            id: GrantId::from_bytes([self.grants; 16]),
            device: node(9),
            customer: NodeId::from_bytes([8; 32]),
            task: TaskId::from_bytes([1; 32]),
            unit_count: 100,
            program: BlobRef::of(b"program"),
            args: vec![],
            limits: Limits {
                fuel: 1_000,
                memory_bytes: 1 << 20,
                output_bytes: 100,
            },
            profile: profile(),
            input: BlobRef::of(b"input"),
            units: units.map(leased).collect(),
            rate_card: card(node(by)).id(),
            issued: self.now,
            deadline: self.now + Duration::from_millis(lease_millis),
        };
        Verified::sign(grant, &network(), &SigningKey::from_bytes(&[by; 32]))
    }
}

fn large_run(unit: u32) -> Run {
    let output = BlobRef::of(b"large");
    let ran = Ran {
        outcome: Outcome::Done,
        fuel: 5,
        output,
        inline: None,
    };
    Run {
        unit,
        result: Ok(ran),
        took: Duration::from_millis(1),
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes(
        SigningKey::from_bytes(&[number; 32])
            .verifying_key()
            .to_bytes(),
    )
}

/// The rate card of the node with this id.
fn card(of: NodeId) -> Verified<RateCard> {
    let number = (0..=u8::MAX).find(|number| node(*number) == of);
    let key = SigningKey::from_bytes(&[number.expect("a node of these stories"); 32]);
    let card = RateCard {
        version: 1,
        published: Timestamp::from_millis(1),
        rates: Rates::free("EUR".parse().unwrap()),
    };
    Verified::sign(card, &network(), &key)
}

fn network() -> NetworkId {
    "test".parse().unwrap()
}

fn profile() -> ProfileId {
    "test-1".parse().unwrap()
}
