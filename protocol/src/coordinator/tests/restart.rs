//! What was recorded is enough: at every fact, the restored coordinator is as the one that goes on, but for leases.

use proptest::prelude::*;

use super::*;
use crate::unit::Fault;

/// What may happen next; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Move {
    Submit(u8),
    Prepare,
    Lease(u8, u32),
    Report(usize, u8),
    GiveBack(usize),
    Pass(u64),
    Cancel,
    Snapshot,
    Restart,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        1 => (1_u8..=2).prop_map(Move::Submit),
        3 => Just(Move::Prepare),
        8 => (1_u8..=4, 1_u32..6).prop_map(|(device, want)| Move::Lease(device, want)),
        8 => (any::<usize>(), 0_u8..12).prop_map(|(grant, output)| Move::Report(grant, output)),
        1 => any::<usize>().prop_map(Move::GiveBack),
        2 => (1_u64..50).prop_map(Move::Pass),
        1 => Just(Move::Cancel),
        1 => Just(Move::Snapshot),
        1 => Just(Move::Restart),
    ];
    prop::collection::vec(one, 0..60)
}

/// A desk with what its terminals hold, and the log.
struct Story {
    desk: Desk,
    snapshot: Option<Vec<u8>>,
    grants: Vec<(u8, Grant)>,
    submitted: u32,
    validated: BTreeSet<(TaskId, u32)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_restored_coordinator_is_the_one_that_was_and_finishes_each_unit_once(moves in moves()) {
        let mut story = Story {
            desk: Desk::new(),
            snapshot: None,
            grants: Vec::new(),
            submitted: 0,
            validated: BTreeSet::new(),
        };
        for next in moves {
            story.make(next);
            story.note_log();
            story.compare();
        }
        story.finish();
    }
}

impl Story {
    fn make(&mut self, next: Move) {
        match next {
            Move::Submit(agree) => {
                self.submitted += 1;
                let mut task = task(&self.submitted.to_string(), agree);
                task.on_failure = if self.submitted.is_multiple_of(2) {
                    OnFailure::Skip
                } else {
                    OnFailure::Fail
                };
                task.edit = self.submitted.is_multiple_of(3).then(|| Edit {
                    program: task.program,
                    args: vec![],
                    limits: task.limits,
                });
                self.desk.submit(task);
            }
            Move::Prepare => self.prepare(),
            Move::Lease(device, want) => {
                let leased = self.desk.pull(device, want).leased;
                self.grants.extend(leased.map(|new| (device, new.grant)));
            }
            Move::Report(grant, output) => self.report(grant, output),
            Move::GiveBack(grant) => self.give_back(grant),
            Move::Pass(seconds) => self.desk.pass(seconds),
            Move::Cancel => {
                let task = self.desk.coordinator.unended().next();
                if let Some(task) = task {
                    self.desk.answer(|question| Input::Cancelled {
                        question,
                        task,
                        by: me(),
                    });
                }
            }
            Move::Snapshot => {
                self.snapshot = Some(self.desk.coordinator.snapshot());
                self.desk.facts.clear();
            }
            Move::Restart => {
                self.desk.coordinator = self.restored();
                self.desk.out.clear();
                self.desk
                    .coordinator
                    .resume(self.desk.now, &mut self.desk.out);
                self.desk.note_facts();
            }
        }
    }

    /// Gives each task what its stage waits for.
    fn prepare(&mut self) {
        let tasks: Vec<TaskId> = self.desk.coordinator.unended().collect();
        for task in tasks {
            let input = match self.desk.status(task).summary.phase {
                Phase::Uploading => Input::Arrived {
                    task,
                    result: Ok(()),
                },
                Phase::Dividing => Input::Divided {
                    task,
                    result: Ok(division(6)),
                },
                Phase::Merging | Phase::Editing => Input::Merged {
                    task,
                    result: Ok(BlobRef::of(b"result")),
                },
                _ => continue,
            };
            self.desk.step(input);
            self.note_log();
        }
    }

    fn report(&mut self, grant: usize, output: u8) {
        if self.grants.is_empty() {
            return;
        }
        let (device, grant) = self.grants.remove(grant % self.grants.len());
        let output: &[u8] = if output == 0 { b"wrong" } else { b"right" };
        let mut reported = results(&grant, output);
        if output == b"wrong" {
            reported[0].outcome = Outcome::Exit(3);
        }
        let shown = vec![Verified::sign(grant, &network(), &key(ME))];
        self.desk.pull_with(
            device,
            0,
            Say {
                shown,
                results: reported,
                ..Say::default()
            },
        );
    }

    fn give_back(&mut self, grant: usize) {
        if self.grants.is_empty() {
            return;
        }
        let (device, grant) = self.grants.remove(grant % self.grants.len());
        let back = |unit| Abandoned {
            grant: grant.id,
            unit,
            fault: Fault::Killed,
        };
        let abandoned = units_of(&grant).into_iter().map(back).collect();
        self.desk.pull_with(
            device,
            0,
            Say {
                abandoned,
                ..Say::default()
            },
        );
    }

    fn note_log(&mut self) {
        for effect in std::mem::take(&mut self.desk.out) {
            if let Effect::Append {
                event: Event::BatchValidated { task, units, .. },
                ..
            } = effect
            {
                for unit in units {
                    assert!(
                        self.validated.insert((task, unit.unit)),
                        "{unit:?} was validated before"
                    );
                    let devices: BTreeSet<&NodeId> =
                        unit.agreed.iter().chain(&unit.outvoted).collect();
                    assert_eq!(devices.len(), unit.agreed.len() + unit.outvoted.len());
                }
            }
        }
    }

    fn restored(&self) -> Coordinator {
        let seed = *blake3::hash(&self.desk.now.as_millis().to_be_bytes()).as_bytes();
        let state = (self.snapshot.as_deref(), self.desk.books.clone());
        Coordinator::restore(config(), seed, state, &self.desk.facts).unwrap()
    }

    fn compare(&self) {
        let mut restored = self.restored();
        let mut facts = Vec::new();
        restored.resume(self.desk.now, &mut facts);
        facts.retain(|effect| matches!(effect, Effect::Record(_)));
        assert_eq!(facts, [], "what follows from the facts is in the facts");
        for (id, run) in &self.desk.coordinator.tasks {
            let other = &restored.tasks[id];
            assert_eq!(run.phase(), other.phase());
            assert_eq!(
                durable(self.desk.status(*id)),
                durable(restored.status(self.desk.now, id, me()).unwrap())
            );
            let wanted = |run: &TaskRun| run.units().map(|units| units.wanted() + units.leased());
            if run.phase() == Phase::Running {
                assert!(wanted(other) <= wanted(run), "leases are wanted again");
            }
        }
        assert_eq!(restored.tasks.len(), self.desk.coordinator.tasks.len());
    }

    /// Lets honest terminals finish everything.
    fn finish(&mut self) {
        for round in 0.. {
            if self.desk.coordinator.unended().next().is_none() {
                return;
            }
            assert!(
                round < 400,
                "no end: {:?}",
                self.desk.coordinator.list(me())
            );
            self.prepare();
            for device in 10..20 {
                while let Some(new) = self.desk.pull(device, 100).leased {
                    self.desk.report(device, results(&new.grant, b"right"));
                    self.note_log();
                }
            }
            self.desk.pass(20);
        }
    }
}

/// What of a status follows from facts.
fn durable(mut status: TaskStatus) -> TaskStatus {
    (status.version, status.leased, status.waiting_for) = (0, 0, None);
    // A device that only lost leases is known to the live one only.
    status.devices.retain(|_, tally| {
        tally.lost = 0;
        tally.agreed + tally.outvoted > 0
    });
    status
}
