//! The witness as stories: logs that grow, logs that fork, and what is asked and remembered.

use std::convert::Infallible;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;
use crate::merkle::proof::{Subtree, consistency_spans};
use crate::merkle::{self, TreeHead, leaf_hash};

#[test]
fn a_log_that_grows_is_asked_for_the_proof_and_believed() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    let asked = bench.question().expect("its head is asked for at once");
    assert_eq!((asked.to, asked.request), (log.node(), LogRequest::Head));
    bench.told(asked.question, log.checkpoint(3));
    assert_eq!(bench.out, [Effect::Keep], "the first one is believed");
    bench.heard(log.checkpoint(7));
    bench.pass(1_000);
    let asked = bench.question().expect("wants to see the growth");
    assert_eq!(asked.request, LogRequest::Consistency { from: 3, to: 7 });
    assert_eq!(bench.log(&log).head.head().size, 3, "not yet");
    bench.proved(asked.question, log.proof(3, 7));
    assert_eq!(bench.out, [Effect::Keep]);
    let seen = bench.log(&log);
    assert_eq!((seen.head.head().size, seen.unproven), (7, 0));
    assert!(seen.fork.is_none());
}

#[test]
fn two_roots_for_one_size_are_a_fork_at_sight() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.heard(log.checkpoint(5));
    bench.heard(log.forked_at(2).checkpoint(5));
    assert_eq!(bench.out, [Effect::Keep, Effect::Forked(log.node())]);
    let fork = bench.log(&log).fork.unwrap();
    assert_eq!(fork.kind, ForkKind::SameSize);
    assert_eq!(fork.one, log.checkpoint(5));
    assert_eq!(fork.other, log.forked_at(2).checkpoint(5));
    assert_eq!(bench.witness.forked().collect::<Vec<_>>(), [log.node()]);
}

#[test]
fn a_log_that_went_on_from_an_old_copy_is_caught_by_its_own_proof() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(6));
    let other = log.forked_at(4);
    bench.heard(other.checkpoint(9));
    bench.pass(1_000);
    let asked = bench.question().unwrap();
    assert_eq!(asked.request, LogRequest::Consistency { from: 6, to: 9 });
    bench.proved(asked.question, other.proof(6, 9));
    assert_eq!(bench.out, [Effect::Keep, Effect::Forked(log.node())]);
    let fork = bench.log(&log).fork.unwrap();
    assert_eq!(fork.kind, ForkKind::NotGrown);
    assert_eq!((fork.one.head().size, fork.other.head().size), (6, 9));
    bench.heard(log.checkpoint(10));
    bench.pass(3_600_000);
    assert!(bench.question().is_none(), "nothing is asked any more");
}

#[test]
fn a_log_that_was_set_back_is_convicted_by_what_it_says_once_it_has_caught_up() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(8));
    bench.step(Input::Lost(log.node()));
    bench.found(&log);
    let other = log.forked_at(5);
    bench.answer_head(other.checkpoint(5));
    for millis in [1_000, 2_000, 4_000] {
        assert!(bench.question().is_none());
        assert_eq!(
            bench.log(&log).unproven,
            1,
            "the two go together, as far as one can see"
        );
        bench.pass(millis);
        bench.answer_head(other.checkpoint(5));
    }
    // It could prove by now that 8 grows out of 5, in its new story; but what it says now matters more.
    bench.heard(other.checkpoint(10));
    bench.pass(8_000);
    let asked = bench.question().unwrap();
    assert_eq!(asked.request, LogRequest::Consistency { from: 8, to: 10 });
    bench.proved(asked.question, other.proof(8, 10));
    let fork = bench.log(&log).fork.unwrap();
    assert_eq!(
        (&fork.one, &fork.other),
        (&log.checkpoint(8), &other.checkpoint(10))
    );
}

#[test]
fn a_smaller_head_is_not_believed_without_its_proof() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(8));
    bench.heard(log.checkpoint(5));
    bench.pass(1_000);
    let asked = bench.question().unwrap();
    assert_eq!(asked.request, LogRequest::Consistency { from: 5, to: 8 });
    bench.proved(asked.question, log.proof(5, 8));
    assert_eq!(bench.log(&log).head.head().size, 8);
    bench.heard(log.checkpoint(5));
    bench.pass(1_000);
    assert!(bench.question().is_none(), "it is known to be an old one");
    let other = log.forked_at(3);
    bench.heard(other.checkpoint(6));
    bench.pass(1_000);
    let asked = bench.question().unwrap();
    assert_eq!(asked.request, LogRequest::Consistency { from: 6, to: 8 });
    bench.proved(asked.question, log.proof(6, 8));
    assert_eq!(bench.log(&log).fork.unwrap().other, other.checkpoint(6));
}

#[test]
fn a_log_that_does_not_answer_is_asked_less_often_and_is_no_fork() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(3));
    bench.heard(log.checkpoint(4));
    bench.pass(1_000);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let asked = bench.question().expect("asks again");
        assert_eq!(asked.request, LogRequest::Consistency { from: 3, to: 4 });
        bench.step(Input::Failed(asked.question));
        assert!(bench.question().is_none(), "not at once");
        let due = bench.witness.next_deadline().unwrap();
        pauses.push(due.since(bench.now).as_secs());
        bench.now = due;
        bench.step(Input::DeadlineReached);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    let seen = bench.log(&log);
    assert_eq!((seen.unproven, seen.fork.is_none()), (1, true));
    let asked = bench.question().unwrap();
    bench.proved(asked.question, log.proof(3, 4));
    assert_eq!(bench.log(&log).unproven, 0, "a late answer is as good");
}

#[test]
fn checkpoints_that_wait_for_their_proof_contradict_each_other_too() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.heard(log.checkpoint(3));
    bench.heard(log.checkpoint(6));
    bench.heard(log.forked_at(4).checkpoint(6));
    let fork = bench.log(&log).fork.unwrap();
    assert_eq!(fork.kind, ForkKind::SameSize);
    assert_eq!(fork.one, log.checkpoint(6));
}

#[test]
fn a_fork_while_a_proof_is_awaited_ends_the_question() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(3));
    bench.heard(log.checkpoint(6));
    bench.pass(1_000);
    let asked = bench.question().unwrap();
    bench.heard(log.forked_at(4).checkpoint(6));
    bench.proved(asked.question, log.proof(3, 6));
    assert!(bench.out.is_empty());
    assert!(bench.log(&log).fork.is_some());
}

#[test]
fn an_answer_of_another_kind_or_of_another_log_counts_as_none() {
    let (mut bench, log, other) = (Bench::new(), FakeLog::new(1), FakeLog::new(2));
    bench.found(&log);
    let asked = bench.question().unwrap();
    bench.proved(asked.question, Vec::new());
    assert!(bench.out.is_empty());
    bench.pass(1_000);
    let asked = bench.question().expect("asks again");
    bench.told(asked.question, other.checkpoint(3));
    assert_eq!(bench.witness.logs().count(), 0);
    bench.pass(2_000);
    let asked = bench.question().expect("asks again");
    bench.told(asked.question, log.checkpoint(3));
    assert_eq!(bench.log(&log).head.head().size, 3);
    // A late answer to a question from before a reconnection.
    bench.heard(log.checkpoint(4));
    bench.pass(1_000);
    let asked = bench.question().unwrap();
    bench.step(Input::Lost(log.node()));
    bench.proved(asked.question, Vec::new());
    assert!(bench.log(&log).fork.is_none());
    assert_eq!(bench.log(&log).unproven, 1);
}

#[test]
fn only_a_connected_coordinator_is_asked_and_its_head_every_minute() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.heard(log.checkpoint(3));
    bench.heard(log.checkpoint(5));
    bench.pass(3_600_000);
    assert_eq!(
        (bench.question(), bench.witness.next_deadline()),
        (None, None)
    );
    bench.found(&log);
    let asked = bench.question().unwrap();
    bench.proved(asked.question, log.proof(3, 5));
    bench.pass(1_000);
    bench.answer_head(log.checkpoint(5));
    bench.pass(59_999);
    assert!(bench.question().is_none());
    bench.pass(1);
    assert_eq!(bench.question().unwrap().request, LogRequest::Head);
}

#[test]
fn the_log_of_this_node_is_not_looked_at() {
    let (mut bench, me) = (Bench::new(), FakeLog::new(99));
    bench.heard(me.checkpoint(3));
    bench.found(&me);
    assert!(bench.out.is_empty());
    assert_eq!(bench.witness.logs().count(), 0);
}

#[test]
fn a_restart_forgets_neither_heads_nor_questions_nor_evidence() {
    let mut bench = Bench::new();
    let (good, bad, busy) = (FakeLog::new(1), FakeLog::new(2), FakeLog::new(3));
    bench.found(&good);
    bench.answer_head(good.checkpoint(8));
    bench.heard(bad.checkpoint(5));
    bench.heard(bad.forked_at(2).checkpoint(5));
    bench.heard(busy.checkpoint(4));
    bench.heard(busy.checkpoint(9));
    let saved = bench.witness.saved();
    assert!(saved.len() <= SAVED_BYTES_MAX);
    bench.witness = Witness::restore(node(99), &network(), &saved).unwrap();
    assert_eq!(bench.witness.saved(), saved);
    assert_eq!(bench.witness.forked().collect::<Vec<_>>(), [bad.node()]);
    bench.heard(bad.checkpoint(6));
    assert!(bench.log(&bad).fork.is_some(), "never forgiven");
    bench.found(&busy);
    let asked = bench.question().unwrap();
    assert_eq!(asked.request, LogRequest::Consistency { from: 4, to: 9 });
    // What it forgot it would believe.
    bench.heard(good.forked_at(3).checkpoint(8));
    assert_eq!(bench.out, [Effect::Keep, Effect::Forked(good.node())]);
}

#[test]
fn what_was_not_saved_by_this_network_and_version_is_refused() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.heard(log.checkpoint(5));
    let saved = bench.witness.saved();
    let restore = |bytes: &[u8], name: &str| {
        let restored = Witness::restore(node(99), &name.parse().unwrap(), bytes);
        restored.map(drop).unwrap_err()
    };
    assert!(matches!(
        restore(&saved, "main"),
        RestoreError::Checkpoint(_)
    ));
    assert!(matches!(
        restore(&saved[1..], "test"),
        RestoreError::Decode(_)
    ));
    let at = saved.windows(8).position(|bytes| &bytes[..7] == b"version");
    let mut newer = saved.clone();
    newer[at.unwrap() + 7] = 2;
    assert_eq!(restore(&newer, "test"), RestoreError::Version { found: 2 });
    let mut forged = saved;
    let at = forged.windows(3).position(|bytes| bytes == b"\n5\n");
    forged[at.unwrap() + 1] = b'6';
    assert!(matches!(
        restore(&forged, "test"),
        RestoreError::Checkpoint(_)
    ));
}

#[test]
fn what_is_remembered_is_bounded_and_coordinators_that_were_met_come_first() {
    let mut bench = Bench::new();
    let met = FakeLog::new(1);
    bench.found(&met);
    bench.answer_head(met.checkpoint(3));
    bench.step(Input::Lost(met.node()));
    for number in 100..100 + u16::try_from(LOGS_MAX).unwrap() {
        bench.heard(FakeLog::numbered(number).checkpoint(1));
        assert!(bench.witness.logs().count() <= LOGS_MAX);
    }
    let late = FakeLog::new(2);
    bench.heard(late.checkpoint(3));
    assert!(
        bench.find(&late).is_none(),
        "no room for one more by hearsay"
    );
    bench.found(&late);
    bench.answer_head(late.checkpoint(3));
    assert!(bench.find(&late).is_some(), "but for a coordinator");
    assert!(bench.find(&met).is_some());
    for size in 4..100 {
        bench.heard(met.checkpoint(size));
    }
    assert!(bench.log(&met).unproven <= UNPROVEN_MAX);
    assert!(bench.witness.saved().len() <= SAVED_BYTES_MAX);
}

#[test]
fn old_heads_that_somebody_repeats_cost_the_log_few_questions() {
    let (mut bench, log) = (Bench::new(), FakeLog::new(1));
    bench.found(&log);
    bench.answer_head(log.checkpoint(90));
    let mut questions = 0;
    for size in 1..80 {
        bench.heard(log.checkpoint(size));
        bench.pass(1_000);
        if let Some(asked) = bench.question() {
            questions += 1;
            match asked.request {
                LogRequest::Consistency { from, to } => {
                    bench.proved(asked.question, log.proof(from, to));
                }
                LogRequest::Head | LogRequest::Inclusion { .. } | LogRequest::Receipts { .. } => {
                    bench.told(asked.question, log.checkpoint(90));
                }
            }
        }
    }
    assert!(questions <= 1 + 4 + 8, "{questions} in 80 seconds");
    assert!(bench.log(&log).fork.is_none());
}

proptest! {
    #[test]
    fn an_honest_log_is_never_taken_for_a_fork_and_the_evidence_is_of_two_stories(
        fork_at in 1..40_u64, heads in prop::collection::vec((1..60_u64, any::<bool>(), 0..30_000_u64), 2..40),
    ) {
        let (mut bench, honest) = (Bench::new(), FakeLog::new(1));
        let other = honest.forked_at(fork_at);
        let mut shown = [0_u64; 2];
        bench.found(&honest);
        for (size, is_other, pause) in heads {
            let log = if is_other { &other } else { &honest };
            bench.heard(log.checkpoint(size));
            let mut told = size;
            let mut rounds = 0;
            while let Some(asked) = bench.question() {
                rounds += 1;
                prop_assert!(rounds < 100);
                match asked.request {
                    LogRequest::Head => bench.told(asked.question, log.checkpoint(size)),
                    LogRequest::Consistency { from, to } => {
                        // The log proves the story that it tells at the moment.
                        bench.proved(asked.question, log.proof(from, to));
                        told = told.max(to);
                    }
                    LogRequest::Inclusion { .. } | LogRequest::Receipts { .. } => unreachable!("a witness asks for no entries"),
                }
                bench.pass(1_000);
            }
            let forked = bench.find(&honest).is_some_and(|seen| seen.fork.is_some());
            if let Some(fork) = bench.find(&honest).and_then(|seen| seen.fork)
                && fork.kind == ForkKind::SameSize
            {
                let is_of = |log: &FakeLog, one: &VerifiedCheckpoint| {
                    *one == log.checkpoint(one.head().size)
                };
                let (one, other_head) = (&fork.one, &fork.other);
                prop_assert_eq!(one.head().size, other_head.head().size);
                prop_assert!(is_of(&honest, one) != is_of(&honest, other_head));
                prop_assert!(is_of(&other, one) != is_of(&other, other_head));
            }
            shown[usize::from(is_other)] = shown[usize::from(is_other)].max(told);
            // Two stories differ only if both go beyond the place where they part.
            if shown[0].min(shown[1]) <= fork_at {
                prop_assert!(!forked, "an honest log");
            }
            bench.pass(pause);
        }
    }
}

/// A witness, its time and what it wants.
struct Bench {
    witness: Witness,
    now: Timestamp,
    out: Vec<Effect>,
    questions: Vec<AskedOf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AskedOf {
    question: Question,
    to: NodeId,
    request: LogRequest,
}

impl Bench {
    fn new() -> Self {
        Self {
            witness: Witness::new(node(99)),
            now: Timestamp::from_millis(1_800_000_000_000),
            out: Vec::new(),
            questions: Vec::new(),
        }
    }

    /// Takes an input; `out` holds its effects without the questions.
    fn step(&mut self, input: Input) {
        self.out.clear();
        self.witness.handle(self.now, input, &mut self.out);
        for effect in std::mem::take(&mut self.out) {
            match effect {
                Effect::Ask {
                    question,
                    to,
                    request,
                } => self.questions.push(AskedOf {
                    question,
                    to,
                    request,
                }),
                Effect::Keep | Effect::Forked(_) => self.out.push(effect),
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.step(Input::DeadlineReached);
    }

    fn found(&mut self, log: &FakeLog) {
        self.step(Input::Found(log.node()));
    }

    fn heard(&mut self, checkpoint: VerifiedCheckpoint) {
        self.step(Input::Heard(checkpoint));
    }

    fn told(&mut self, question: Question, checkpoint: VerifiedCheckpoint) {
        self.step(Input::Told {
            question,
            checkpoint,
        });
    }

    fn proved(&mut self, question: Question, path: Vec<Hash>) {
        self.step(Input::Proved { question, path });
    }

    /// Answers the question for the head, which is the next one.
    fn answer_head(&mut self, checkpoint: VerifiedCheckpoint) {
        let asked = self.question().expect("asks for the head");
        assert_eq!(asked.request, LogRequest::Head);
        self.told(asked.question, checkpoint);
    }

    fn question(&mut self) -> Option<AskedOf> {
        (!self.questions.is_empty()).then(|| self.questions.remove(0))
    }

    fn find(&self, log: &FakeLog) -> Option<Witnessed<'_>> {
        let node = log.node();
        self.witness.logs().find(|seen| seen.head.log() == node)
    }

    fn log(&self, log: &FakeLog) -> Witnessed<'_> {
        self.find(log).expect("the log was seen")
    }
}

/// A log that can be as long as a test wants, with entries that are all different.
struct FakeLog {
    key: SigningKey,
    /// From this entry on it tells another story.
    forked_at: u64,
}

impl FakeLog {
    fn new(number: u8) -> Self {
        Self {
            key: SigningKey::from_bytes(&[number; 32]),
            forked_at: u64::MAX,
        }
    }

    fn numbered(number: u16) -> Self {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Self {
            key: SigningKey::from_bytes(&bytes),
            forked_at: u64::MAX,
        }
    }

    fn forked_at(&self, entry: u64) -> Self {
        Self {
            key: self.key.clone(),
            forked_at: entry,
        }
    }

    fn node(&self) -> NodeId {
        NodeId::from_bytes(self.key.verifying_key().to_bytes())
    }

    fn leaf(&self, entry: u64) -> Hash {
        leaf_hash(&[entry.to_be_bytes(), [u8::from(entry >= self.forked_at); 8]].concat())
    }

    fn checkpoint(&self, size: u64) -> VerifiedCheckpoint {
        let root = merkle::root((0..size).map(|entry| self.leaf(entry)));
        VerifiedCheckpoint::sign(TreeHead { size, root }, &network(), &self.key)
    }

    fn proof(&self, from: u64, to: u64) -> Vec<Hash> {
        let hash_of = |subtree: Subtree| {
            let leaves = (subtree.start..=subtree.last()).map(|entry| self.leaf(entry));
            Ok::<_, Infallible>(merkle::root(leaves))
        };
        let spans = consistency_spans(from, to).unwrap();
        spans
            .into_iter()
            .map(|span| span.hash(hash_of).unwrap())
            .collect()
    }
}

fn node(number: u8) -> NodeId {
    FakeLog::new(number).node()
}

fn network() -> NetworkId {
    "test".parse().unwrap()
}
