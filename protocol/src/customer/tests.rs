//! The customer as stories: arrange, step, look at the effects.

use std::collections::BTreeMap;

use super::*;
use crate::message::customer::{TaskCost, TaskSummary};
use crate::points::Points;

#[test]
fn submits_watches_fetches_and_ends() {
    let mut follower = Follower::new(Goal::Result);
    follower.step(Input::Connected);
    let question = follower.asked(|request| matches!(request, CustomerRequest::Submit(_)));
    follower.status(question, Phase::Uploading, 1);
    let question =
        follower.asked(|request| matches!(request, CustomerRequest::Watch { seen: 1, .. }));
    follower.status(question, Phase::Done, 9);
    assert_eq!(
        follower.out.last(),
        Some(&Effect::Fetch(BlobRef::of(b"result")))
    );
    follower.step(Input::Fetched(Ok(())));
    assert!(matches!(
        follower.out[..],
        [Effect::End(Ending::Reached(_))]
    ));
    follower.step(Input::Disconnected);
    follower.step(Input::Connected);
    assert_eq!(follower.out, [], "it has ended");
}

#[test]
fn the_goal_says_when_it_ends() {
    for (goal, phase) in [
        (Goal::Uploaded, Phase::Running),
        (Goal::Ended, Phase::Cancelled),
    ] {
        let mut follower = Follower::new(goal);
        follower.step(Input::Connected);
        let question = follower.asked(|_| true);
        follower.status(question, Phase::Uploading, 1);
        let question = follower.asked(|_| true);
        follower.status(question, phase, 2);
        assert!(matches!(
            follower.out.last(),
            Some(Effect::End(Ending::Reached(_)))
        ));
    }
}

#[test]
fn submits_again_until_it_hears_that_the_task_is_known() {
    let mut follower = Follower::new(Goal::Ended);
    follower.step(Input::Connected);
    let question = follower.asked(|_| true);
    follower.step(Input::Failed(question));
    assert_eq!(follower.out, []);
    follower.pass(249);
    assert_eq!(follower.out, []);
    follower.pass(1);
    let question = follower.asked(|request| matches!(request, CustomerRequest::Submit(_)));
    follower.step(Input::Answered {
        question,
        reply: CustomerReply::Refused(Refusal::Busy),
    });
    follower.pass(499);
    assert_eq!(follower.out, [], "twice as long");
    follower.step(Input::Disconnected);
    follower.pass(60_000);
    assert_eq!(follower.out, [], "nobody is there to be asked");
    follower.step(Input::Connected);
    follower.asked(|request| matches!(request, CustomerRequest::Submit(_)));
}

#[test]
fn a_refusal_ends_it() {
    let mut follower = Follower::new(Goal::Ended);
    follower.step(Input::Connected);
    let question = follower.asked(|_| true);
    let reply = CustomerReply::Refused(Refusal::NotAdmitted);
    follower.step(Input::Answered { question, reply });
    assert_eq!(
        follower.out,
        [Effect::End(Ending::Refused(Refusal::NotAdmitted))]
    );
}

#[test]
fn answers_to_other_questions_and_of_other_tasks_are_not_taken() {
    let mut follower = Follower::new(Goal::Ended);
    follower.step(Input::Connected);
    let question = follower.asked(|_| true);
    follower.status(Question(question.0 + 1), Phase::Done, 1);
    assert_eq!(follower.out, []);
    let mut other = status(Phase::Done, 1);
    other.summary.task = TaskId::from_bytes([2; 32]);
    follower.step(Input::Answered {
        question,
        reply: CustomerReply::Status(Box::new(other)),
    });
    assert_eq!(follower.out, []);
}

#[test]
fn a_long_task_is_looked_at_ten_times_a_second() {
    let mut follower = Follower::new(Goal::Ended);
    follower.step(Input::Connected);
    for version in 1..STATUSES_AT_ONCE {
        let question = follower.asked(|_| true);
        follower.status(question, Phase::Running, version.into());
    }
    let question = follower.asked(|_| true);
    follower.status(question, Phase::Running, 100);
    assert!(matches!(follower.out[..], [Effect::Progress(_)]));
    follower.pass(100);
    follower.asked(|request| matches!(request, CustomerRequest::Watch { seen: 100, .. }));
}

#[test]
fn a_result_that_cannot_be_fetched_is_asked_for_less_and_less_often() {
    let mut follower = Follower::new(Goal::Result);
    follower.step(Input::Connected);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let question = follower.asked(|_| true);
        follower.status(question, Phase::Done, 5);
        follower.step(Input::Fetched(Err("no".to_owned())));
        let next = follower.machine.next_deadline().unwrap();
        pauses.push(next.since(follower.now).as_millis());
        follower.now = next;
        follower.step(Input::DeadlineReached);
    }
    assert_eq!(
        pauses,
        [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]
    );
}

struct Follower {
    machine: Customer,
    now: Timestamp,
    out: Vec<Effect>,
}

impl Follower {
    fn new(goal: Goal) -> Self {
        let signed = Signed::from_bytes(vec![1, 2, 3]);
        Self {
            machine: Customer::new(TaskId::from_bytes([1; 32]), Some(signed), goal),
            now: Timestamp::from_millis(1_000_000),
            out: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) {
        self.out.clear();
        self.machine.handle(self.now, input, &mut self.out);
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.step(Input::DeadlineReached);
    }

    /// Returns the question that was asked last.
    fn asked(&self, is_expected: impl Fn(&CustomerRequest) -> bool) -> Question {
        match self.out.last() {
            Some(Effect::Ask { question, request }) if is_expected(request) => *question,
            other => panic!("asked {other:?}"),
        }
    }

    fn status(&mut self, question: Question, phase: Phase, version: u64) {
        let reply = CustomerReply::Status(Box::new(status(phase, version)));
        self.step(Input::Answered { question, reply });
    }
}

fn status(phase: Phase, version: u64) -> TaskStatus {
    let result = (phase == Phase::Done).then(|| BlobRef::of(b"result"));
    TaskStatus {
        summary: TaskSummary {
            task: TaskId::from_bytes([1; 32]),
            name: "task".to_owned(),
            phase,
            units: 1,
            done: 0,
            accepted: Timestamp::from_millis(1),
        },
        version,
        uploaded: (0, 0),
        leased: 0,
        failed: BTreeMap::new(),
        failed_count: 0,
        fuel: 0,
        cost: TaskCost {
            points: Points::ZERO,
            paid: "0 EUR".parse().unwrap(),
            held: "0 EUR".parse().unwrap(),
        },
        devices: BTreeMap::new(),
        waiting_for: None,
        result,
    }
}
