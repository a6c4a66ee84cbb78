//! A small world in virtual time: one coordinator that crashes, terminals of which one lies, one is slow and one
//! vanishes, and a network that loses messages. Each seed is one history; every task has to end with the right
//! units, whatever happened.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use tally_protocol::codec;
use tally_protocol::coordinator::{self, Coordinator, CoordinatorConfig, Customers, Division};
use tally_protocol::coordinator::{Question, Row};
use tally_protocol::entry::{Ending, Event};
use tally_protocol::id::{GrantId, NetworkId, NodeId, TaskId};
use tally_protocol::message::work::Grant;
use tally_protocol::signed::Verified;
use tally_protocol::task::split::UnitTable;
use tally_protocol::task::{BlobRef, Merge, OnFailure, Quorum, Split, Task};
use tally_protocol::terminal::{self, PullOut, Ran, Run, Terminal, TerminalConfig};
use tally_protocol::time::Timestamp;
use tally_protocol::unit::{Fault, Limits, Outcome, ProfileId};

const SEEDS: u64 = 300;
const STEPS_MAX: usize = 200_000;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn every_task_ends_with_the_right_units_whatever_gets_lost() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        let mut steps = 0;
        while world.endings.len() < world.tasks.len() {
            steps += 1;
            assert!(steps < STEPS_MAX, "seed {seed}: no end at {}", world.now);
            world.step();
        }
        for (task, ending) in &world.endings {
            assert_eq!(*ending, world.expected(task), "seed {seed}");
        }
    }
}

/// What arrives at some time.
enum Arrival {
    Coordinator(coordinator::Input),
    Terminal(usize, terminal::Input),
    /// A pull reaches the coordinator.
    Pull(usize, Box<PullOut>),
    /// The answer to a pull.
    Answer(usize, Question, Option<coordinator::Answer>),
    Crash,
    Tick,
}

struct Member {
    machine: Terminal,
    key: SigningKey,
    /// What it holds.
    grants: BTreeMap<GrantId, Verified<Grant>>,
    conduct: Conduct,
}

#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    Honest,
    Liar,
    Slow,
    Vanishes,
}

struct World {
    random: u64,
    seed: u64,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Arrival>,
    sent: u64,
    key: SigningKey,
    coordinator: Coordinator,
    /// How often it was started: questions of earlier starts are void.
    starts: u8,
    questions: BTreeMap<Question, (usize, Question)>,
    asked: u64,
    members: Vec<Member>,
    tasks: BTreeMap<TaskId, (Task, Division)>,
    facts: Vec<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    rows: BTreeMap<(TaskId, u32), BlobRef>,
    validated: BTreeSet<(TaskId, u32)>,
    endings: BTreeMap<TaskId, Ending>,
}

impl World {
    fn new(seed: u64) -> Self {
        let key = SigningKey::from_bytes(&[200; 32]);
        let mut world = Self {
            random: seed,
            seed,
            now: Timestamp::from_millis(1_000_000),
            queue: BTreeMap::new(),
            sent: 0,
            coordinator: Coordinator::new(config(&key), [0; 32]),
            key,
            starts: 0,
            questions: BTreeMap::new(),
            asked: 0,
            members: Vec::new(),
            tasks: BTreeMap::new(),
            facts: Vec::new(),
            snapshot: None,
            rows: BTreeMap::new(),
            validated: BTreeSet::new(),
            endings: BTreeMap::new(),
        };
        for conduct in [
            Conduct::Honest,
            Conduct::Honest,
            Conduct::Liar,
            Conduct::Slow,
            Conduct::Vanishes,
        ] {
            world.join(conduct);
        }
        for number in 0..1 + seed % 3 {
            world.submit(number);
        }
        for _ in 0..seed % 4 {
            let pause = world.draw(40_000);
            world.send(pause, Arrival::Crash);
        }
        world.send(0, Arrival::Tick);
        world
    }

    fn join(&mut self, conduct: Conduct) {
        let index = self.members.len();
        let key = SigningKey::from_bytes(&[u8::try_from(index).unwrap() + 1; 32]);
        let config = TerminalConfig {
            me: node(&key),
            profile: profile(),
            memory_bytes: 1 << 30,
            slots: 1 + index % 3,
        };
        let machine = Terminal::new(config, [u8::try_from(index).unwrap(); 32]);
        self.members.push(Member {
            machine,
            key,
            grants: BTreeMap::new(),
            conduct,
        });
        let found = terminal::Input::Found(node(&self.key));
        self.send(self.seed % 7 * 100, Arrival::Terminal(index, found));
    }

    fn submit(&mut self, number: u64) {
        let customer = SigningKey::from_bytes(&[100; 32]);
        let units = 1 + self.draw(60);
        let task = Task {
            name: format!("task {number}"),
            customer: node(&customer),
            created: self.now,
            program: BlobRef::of(b"program"),
            args: Vec::new(),
            input: BlobRef {
                id: BlobRef::of(b"input").id,
                bytes: units * 3,
            },
            split: Split::Bytes(3),
            limits: Limits {
                fuel: 1_000_000,
                memory_bytes: 1 << 20,
                output_bytes: 100,
            },
            lease_millis: 1_000 + self.draw(5_000),
            quorum: Quorum {
                agree: 2,
                error_max: 3,
                total_max: 8,
            },
            merge: Merge::Concat,
            edit: None,
            on_failure: OnFailure::Fail,
        };
        let task = Verified::sign(task, &network(), &customer);
        let division = Division {
            table: UnitTable::even(units * 3, 3).unwrap(),
            packed: task.input,
        };
        self.tasks
            .insert(task.task_id(), (task.value().clone(), division));
        let question = Question(u64::MAX - number);
        let pause = self.draw(5_000);
        self.send(
            pause,
            Arrival::Coordinator(coordinator::Input::Submitted { question, task }),
        );
    }

    fn expected(&self, task: &TaskId) -> Ending {
        Ending::Done(BlobRef::of(task.as_bytes()))
    }

    /// Draws a number below `end` (splitmix64).
    fn draw(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn send(&mut self, millis: u64, arrival: Arrival) {
        self.sent += 1;
        let at = self.now + Duration::from_millis(millis);
        self.queue.insert((at, self.sent), arrival);
    }

    fn step(&mut self) {
        let ((at, _), arrival) = self.queue.pop_first().expect("a tick always comes");
        self.now = at;
        match arrival {
            Arrival::Coordinator(input) => self.coordinate(input),
            Arrival::Terminal(index, input) => self.work(index, input),
            Arrival::Pull(index, pull) => self.pulled(index, *pull),
            Arrival::Answer(index, question, answer) => self.answered(index, question, answer),
            Arrival::Crash => self.crash(),
            Arrival::Tick => self.tick(),
        }
    }

    /// Fires the deadlines that are due, 20 times a second.
    fn tick(&mut self) {
        let now = self.now;
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(self.coordinator.next_deadline()) {
            self.coordinate(coordinator::Input::DeadlineReached);
            assert!(
                !due(self.coordinator.next_deadline()),
                "seed {}: a deadline stays",
                self.seed
            );
        }
        for index in 0..self.members.len() {
            if !self.has_vanished(index) && due(self.members[index].machine.next_deadline()) {
                self.work(index, terminal::Input::DeadlineReached);
                let next = self.members[index].machine.next_deadline();
                assert!(
                    !due(next),
                    "seed {}: a deadline of terminal {index} stays",
                    self.seed
                );
            }
        }
        self.send(50, Arrival::Tick);
    }

    fn coordinate(&mut self, input: coordinator::Input) {
        let mut effects = Vec::new();
        self.coordinator.handle(self.now, input, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<coordinator::Effect>) {
        use coordinator::Effect;
        for effect in effects {
            match effect {
                Effect::Record(fact) => self.facts.push(codec::to_bytes(&fact)),
                Effect::Append(event) => self.append(event),
                Effect::Keep {
                    task,
                    row: Row::Unit { unit, output },
                } => {
                    self.rows.insert((task, unit), output);
                }
                Effect::Answer { question, answer } => {
                    if let Some((index, asked)) = self.questions.remove(&question) {
                        let answer = (self.draw(20) > 0).then_some(answer);
                        self.send(20, Arrival::Answer(index, asked, answer));
                    }
                }
                Effect::Nudge { to, task } => {
                    let index = self
                        .members
                        .iter()
                        .position(|member| node(&member.key) == to);
                    let by = node(&self.key);
                    let nudge = terminal::Input::Nudged { by, task };
                    self.send(10, Arrival::Terminal(index.unwrap(), nudge));
                }
                Effect::Fetch(task) => {
                    let result = Ok(());
                    self.send(
                        500,
                        Arrival::Coordinator(coordinator::Input::Arrived { task, result }),
                    );
                }
                Effect::Divide(task) => {
                    let result = Ok(self.tasks[&task].1.clone());
                    self.send(
                        100,
                        Arrival::Coordinator(coordinator::Input::Divided { task, result }),
                    );
                }
                Effect::Merge(task) => {
                    let result = Ok(self.merge(task));
                    self.send(
                        100,
                        Arrival::Coordinator(coordinator::Input::Merged { task, result }),
                    );
                }
                Effect::Keep { .. }
                | Effect::Announce(_)
                | Effect::Edit { .. }
                | Effect::Changed(_)
                | Effect::Forget(_) => {}
            }
        }
        if self.facts.len() > 40 {
            (self.snapshot, self.facts) = (Some(self.coordinator.snapshot()), Vec::new());
        }
    }

    fn append(&mut self, event: Event) {
        match event {
            Event::TaskAccepted { .. } => {}
            Event::BatchValidated { task, units, .. } => {
                for unit in units {
                    let seed = self.seed;
                    assert!(
                        self.validated.insert((task, unit.unit)),
                        "seed {seed}: {unit:?} again"
                    );
                    assert_eq!(unit.output, right_output(unit.unit), "seed {seed}");
                    let agreed: BTreeSet<_> = unit.agreed.iter().collect();
                    assert_eq!(agreed.len(), 2, "seed {seed}: {unit:?}");
                }
            }
            Event::TaskEnded { task, ending } => {
                assert!(self.endings.insert(task, ending).is_none(), "ended twice");
            }
        }
    }

    /// Merges the rows of a task, of which none may be missing.
    fn merge(&self, task: TaskId) -> BlobRef {
        for unit in 0..self.tasks[&task].1.table.count() {
            assert_eq!(self.rows.get(&(task, unit)), Some(&right_output(unit)));
        }
        BlobRef::of(task.as_bytes())
    }

    /// Stops the coordinator and starts it from what it recorded.
    fn crash(&mut self) {
        self.starts += 1;
        let seed = [self.starts; 32];
        let snapshot = self.snapshot.as_deref();
        self.coordinator =
            Coordinator::restore(config(&self.key), seed, snapshot, &self.facts).unwrap();
        let is_internal = |arrival: &Arrival| {
            use coordinator::Input;
            matches!(
                arrival,
                Arrival::Coordinator(
                    Input::Arrived { .. } | Input::Divided { .. } | Input::Merged { .. }
                )
            )
        };
        self.queue.retain(|_, arrival| !is_internal(arrival));
        let questions = std::mem::take(&mut self.questions);
        for (index, question) in questions.into_values() {
            self.send(5, Arrival::Answer(index, question, None));
        }
        for index in 0..self.members.len() {
            let by = node(&self.key);
            self.send(5, Arrival::Terminal(index, terminal::Input::Lost(by)));
            let pause = 1_000 + self.draw(2_000);
            self.send(pause, Arrival::Terminal(index, terminal::Input::Found(by)));
        }
        let mut effects = Vec::new();
        self.coordinator.resume(self.now, &mut effects);
        self.carry_out(effects);
    }

    fn has_vanished(&self, index: usize) -> bool {
        let vanishes = self.members[index].conduct == Conduct::Vanishes;
        vanishes && self.now > Timestamp::from_millis(1_008_000)
    }

    fn work(&mut self, index: usize, input: terminal::Input) {
        if self.has_vanished(index) {
            return;
        }
        let mut effects = Vec::new();
        self.members[index]
            .machine
            .handle(self.now, input, &mut effects);
        for effect in effects {
            match effect {
                terminal::Effect::Pull(pull) if self.draw(20) == 0 => {
                    let millis = u64::try_from(ANSWER_WITHIN.as_millis()).unwrap();
                    self.send(millis, Arrival::Answer(index, pull.question, None));
                }
                terminal::Effect::Pull(pull) => self.send(20, Arrival::Pull(index, pull)),
                terminal::Effect::Execute { job, grant, places } => {
                    self.execute(index, job, (grant, places))
                }
                terminal::Effect::Release(grant) => {
                    self.members[index].grants.remove(&grant);
                }
                terminal::Effect::Prepare(_)
                | terminal::Effect::Stop(_)
                | terminal::Effect::Discard(_)
                | terminal::Effect::Dial(_) => {}
            }
        }
    }

    fn execute(
        &mut self,
        index: usize,
        job: terminal::Job,
        (grant, places): (GrantId, std::ops::Range<usize>),
    ) {
        let member = &self.members[index];
        let conduct = member.conduct;
        let units: Vec<u32> = member.grants[&grant].units[places]
            .iter()
            .map(|leased| leased.unit)
            .collect();
        let mut after = 0;
        for unit in units {
            let took = if conduct == Conduct::Slow {
                3_000
            } else {
                50 + self.draw(300)
            };
            after += took;
            let output = if conduct == Conduct::Liar {
                BlobRef::of(b"wrong")
            } else {
                right_output(unit)
            };
            let inline = Some(if conduct == Conduct::Liar {
                b"wrong".to_vec()
            } else {
                unit.to_be_bytes().to_vec()
            });
            let ran = Ran {
                outcome: Outcome::Done,
                fuel: 100,
                output,
                inline,
            };
            let result = if self.draw(40) == 0 {
                Err(Fault::Killed)
            } else {
                Ok(ran)
            };
            let took = Duration::from_millis(took);
            let runs = vec![Run { unit, result, took }];
            self.send(
                after,
                Arrival::Terminal(index, terminal::Input::Ran { job, runs }),
            );
        }
        self.send(
            after,
            Arrival::Terminal(index, terminal::Input::Finished(job)),
        );
    }

    fn pulled(&mut self, index: usize, pull: PullOut) {
        let key = &self.members[index].key;
        let (from, me) = (node(key), node(&self.key));
        let asked = pull.question;
        let mut pull = pull.into_pull(self.now, (profile(), 1 << 30), |batch| {
            Verified::sign(batch, &network(), key).signed().clone()
        });
        let report = pull.report.take().map(|report| {
            report
                .verify(&network(), me, from)
                .expect("an honest report")
        });
        self.asked += 1;
        let question = Question(self.asked);
        self.questions.insert(question, (index, asked));
        let missing = BTreeSet::new();
        self.coordinate(coordinator::Input::Pulled {
            question,
            from,
            pull,
            report,
            missing,
        });
    }

    fn answered(&mut self, index: usize, question: Question, answer: Option<coordinator::Answer>) {
        let Some(coordinator::Answer::Pulled(pulled)) = answer else {
            return self.work(
                index,
                terminal::Input::Failed {
                    question,
                    refusal: None,
                },
            );
        };
        let grant = pulled
            .leased
            .map(|new| Verified::sign(new.grant, &network(), &self.key));
        if let Some(grant) = &grant {
            self.members[index].grants.insert(grant.id, grant.clone());
        }
        let answer = terminal::Answer {
            grant,
            verdicts: pulled.verdicts,
            ended: pulled.ended,
            unknown: pulled.unknown,
            retry_millis: pulled.retry_millis,
        };
        self.work(index, terminal::Input::Answered { question, answer });
    }
}

fn right_output(unit: u32) -> BlobRef {
    BlobRef::of(&unit.to_be_bytes())
}

fn node(key: &SigningKey) -> NodeId {
    NodeId::from_bytes(key.verifying_key().to_bytes())
}

fn network() -> NetworkId {
    "world".parse().unwrap()
}

fn profile() -> ProfileId {
    "test-1".parse().unwrap()
}

fn config(key: &SigningKey) -> CoordinatorConfig {
    CoordinatorConfig {
        me: node(key),
        network: network(),
        profile: profile(),
        customers: Customers::Any,
        tasks_max: 10,
        input_bytes_max: 1 << 30,
        program_bytes_max: 1 << 30,
        retention: Duration::from_secs(3_600),
    }
}
