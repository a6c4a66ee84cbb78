//! From submission to the end.

use super::*;

#[test]
fn a_task_with_quorum_one_goes_through_all_stages() {
    let mut desk = Desk::new();
    let Answer::Status(status) = desk.submit(task("life", 1)) else {
        panic!("refused");
    };
    let id = status.summary.task;
    assert_eq!(status.summary.phase, Phase::Uploading);
    assert!(
        matches!(desk.out[..2], [Effect::Record(_), Effect::Append { .. }]),
        "recorded first"
    );
    assert!(desk.out.contains(&Effect::Fetch(id)));
    desk.step(Input::Arriving { task: id, bytes: 5 });
    assert_eq!(desk.status(id).uploaded, (5, 12));
    desk.step(Input::Arrived {
        task: id,
        result: Ok(()),
    });
    assert!(desk.out.contains(&Effect::Divide(id)));
    desk.step(Input::Divided {
        task: id,
        result: Ok(division(3)),
    });
    assert!(
        desk.out
            .iter()
            .any(|effect| matches!(effect, Effect::Announce(offer) if offer.open_units == 2))
    );

    let grant = desk.lease(1, 9);
    assert_eq!(units_of(&grant), [0, 1], "half of what there is");
    let last = desk.lease(1, 9);
    assert_eq!(
        (units_of(&last), last.units[0].start, last.units[0].bytes),
        (vec![2], 20, 10)
    );
    let verdicts = desk.report(1, results(&grant, b"out")).verdicts;
    assert_eq!(verdicts, [ResultVerdict::Counted; 2]);
    assert_eq!(desk.status(id).summary.done, 2);
    desk.report(1, results(&last, b"out"));
    assert!(desk.out.contains(&Effect::Merge(id)));
    desk.step(Input::Merged {
        task: id,
        result: Ok(BlobRef::of(b"result")),
    });
    let status = desk.status(id);
    assert_eq!(
        (status.summary.phase, status.result),
        (Phase::Done, Some(BlobRef::of(b"result")))
    );
    assert_eq!((status.fuel, status.devices[&node(1)].agreed), (27, 3));
    desk.pass(3_601);
    assert!(desk.out.contains(&Effect::Forget(id)));
    assert_eq!(desk.coordinator.timers.len(), 1, "points in escrow");
}

#[test]
fn a_liar_is_outvoted_by_a_third_terminal_and_named_in_the_status() {
    let mut desk = Desk::new();
    let id = desk.run(task("two of three", 2), 1);
    let (honest, liar) = (desk.lease(1, 1), desk.lease(2, 1));
    assert!(
        desk.pull(3, 1).leased.is_none(),
        "two are enough until they differ"
    );
    desk.report(1, results(&honest, b"right"));
    desk.report(2, results(&liar, b"wrong"));
    assert_eq!(desk.nudged(), [node(3)]);
    let third = desk.lease(3, 1);
    desk.report(3, results(&third, b"right"));
    let status = desk.status(id);
    assert_eq!(status.summary.phase, Phase::Merging);
    assert_eq!(status.devices[&node(2)].outvoted_units, [0]);
    assert_eq!(
        (
            status.devices[&node(1)].agreed,
            status.devices[&node(3)].agreed
        ),
        (1, 1)
    );
}

#[test]
fn an_edited_task_runs_its_editor_over_the_merged_result() {
    let mut desk = Desk::new();
    let mut edited = task("edit", 1);
    edited.edit = Some(Edit {
        program: BlobRef::of(b"editor"),
        args: vec![],
        limits: edited.limits,
    });
    let id = desk.run(edited, 1);
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"out"));
    let merged = BlobRef::of(b"merged");
    desk.step(Input::Merged {
        task: id,
        result: Ok(merged),
    });
    assert!(desk.out.contains(&Effect::Edit { task: id, merged }));
    desk.restart();
    assert!(
        desk.out.contains(&Effect::Edit { task: id, merged }),
        "asked again after a crash"
    );
    desk.step(Input::Merged {
        task: id,
        result: Ok(BlobRef::of(b"edited")),
    });
    assert_eq!(desk.status(id).result, Some(BlobRef::of(b"edited")));
}

#[test]
fn a_trap_that_the_quorum_agrees_on_is_a_result_and_fails_the_task_by_name() {
    let mut desk = Desk::new();
    let id = desk.run(task("trap", 2), 4);
    for device in [1, 2] {
        let grant = desk.lease(device, 1);
        let mut trapped = results(&grant, b"");
        trapped[0].outcome = Outcome::Trap(Trap::Unreachable);
        desk.report(device, trapped);
    }
    let Phase::Failed(reason) = desk.status(id).summary.phase else {
        panic!("{}", desk.phase(id));
    };
    assert_eq!(
        reason,
        "unit 0: trap: unreachable (the program aborted) (reported alike by 2 terminals)"
    );
    assert!(desk.pull(3, 1).leased.is_none(), "nothing more is computed");
}

#[test]
fn units_may_be_left_out_but_not_all_of_them() {
    for (fails, expected) in [(1, "merging"), (2, "failed")] {
        let mut desk = Desk::new();
        let mut skipping = task("skip", 1);
        skipping.on_failure = OnFailure::Skip;
        let id = desk.run(skipping, 2);
        for number in 0..2 {
            let grant = desk.lease(1, 1);
            let mut reported = results(&grant, b"out");
            if number < fails {
                reported[0].outcome = Outcome::OutOfFuel;
            }
            desk.report(1, reported);
        }
        assert_eq!(desk.phase(id), expected, "{fails} of 2 failed");
        assert_eq!(desk.coordinator.skipped(&id), fails);
    }
}

#[test]
fn a_task_can_be_cancelled_in_each_stage_by_its_customer_only() {
    for stage in 0..5 {
        let mut desk = Desk::new();
        desk.submit(task("cancel", 1));
        let id = desk.coordinator.unended().next().unwrap();
        let steps = [
            Input::Arrived {
                task: id,
                result: Ok(()),
            },
            Input::Divided {
                task: id,
                result: Ok(division(1)),
            },
        ];
        steps
            .into_iter()
            .take(stage)
            .for_each(|input| desk.step(input));
        let grant = (stage >= 3).then(|| desk.lease(1, 1));
        if let (4, Some(grant)) = (stage, &grant) {
            desk.report(1, results(grant, b"out"));
        }
        let stranger = desk.answer(|question| Input::Cancelled {
            question,
            task: id,
            by: node(9),
        });
        assert_eq!(stranger, Answer::Refused(Refusal::UnknownTask));
        assert_ne!(desk.phase(id), "cancelled");
        desk.answer(|question| Input::Cancelled {
            question,
            task: id,
            by: node(CUSTOMER),
        });
        assert_eq!(desk.phase(id), "cancelled");
        tell_late(&mut desk, id);
        assert_eq!(
            desk.phase(id),
            "cancelled",
            "what comes late changes nothing"
        );
        if let (3, Some(grant)) = (stage, grant) {
            let renew = vec![grant.id];
            let results = results(&grant, b"out");
            let told = desk.pull_with(
                1,
                0,
                Say {
                    renew,
                    results,
                    ..Say::default()
                },
            );
            assert_eq!(told.ended, [grant.id]);
            assert_eq!(told.verdicts, [ResultVerdict::TaskEnded]);
        }
    }
}

/// Brings what the task waited for in each stage.
fn tell_late(desk: &mut Desk, task: TaskId) {
    let late = [
        Input::Arrived {
            task,
            result: Ok(()),
        },
        Input::Divided {
            task,
            result: Ok(division(1)),
        },
        Input::Merged {
            task,
            result: Ok(BlobRef::of(b"late")),
        },
    ];
    late.into_iter().for_each(|input| desk.step(input));
}

#[test]
fn what_cannot_be_fetched_divided_or_merged_ends_the_task_with_the_reason() {
    let failed = |desk: &Desk, id| match desk.status(id).summary.phase {
        Phase::Failed(reason) => reason,
        other => other.to_string(),
    };
    let mut desk = Desk::new();
    desk.submit(task("upload", 1));
    let id = desk.coordinator.unended().next().unwrap();
    desk.pass(24 * 3_600);
    assert_eq!(
        failed(&desk, id),
        "program and input did not arrive within 24 hours"
    );
    let mut desk = Desk::new();
    let id = desk.run(task("merge", 1), 1);
    let grant = desk.lease(1, 1);
    desk.report(1, results(&grant, b"x"));
    desk.step(Input::Merged {
        task: id,
        result: Err("é".repeat(10_000)),
    });
    assert_eq!(
        failed(&desk, id),
        "é".repeat(250),
        "cut to what a message holds"
    );
}

#[test]
fn each_refusal_has_its_cause() {
    let mut desk = Desk::new();
    type Change = fn(&mut Task);
    let cases: [(Change, Refusal); 4] = [
        (|task| task.customer = node(9), Refusal::NotAdmitted),
        (
            |task| task.created = Timestamp::from_millis(200_000_000),
            Refusal::Stale,
        ),
        (
            |task| task.quorum.agree = 0,
            Refusal::InvalidTask("quorum.agree is 0, it must be 1 to 16".to_owned()),
        ),
        (
            |task| task.program.bytes = 1 << 30,
            Refusal::InvalidTask(
                "the program has 1073741824 bytes, this coordinator takes at most 1048576"
                    .to_owned(),
            ),
        ),
    ];
    for (change, refusal) in cases {
        let mut bad = task("bad", 1);
        change(&mut bad);
        assert_eq!(desk.submit(bad), Answer::Refused(refusal));
        assert_eq!(desk.facts.len(), 1, "the rate card");
    }
    desk.coordinator.config.customers = Customers::Listed(BTreeSet::from([node(9)]));
    assert_eq!(
        desk.submit(task("stranger", 1)),
        Answer::Refused(Refusal::NotAdmitted)
    );
    desk.coordinator.config.customers = Customers::Any;
    for name in ["one", "two", "three"] {
        assert!(matches!(desk.submit(task(name, 1)), Answer::Status(_)));
    }
    assert_eq!(desk.submit(task("four", 1)), Answer::Refused(Refusal::Busy));
    assert!(
        matches!(desk.submit(task("one", 1)), Answer::Status(_)),
        "it is known already"
    );
    assert_eq!(desk.facts.len(), 1 + 3, "the rate card and the tasks");
    desk.coordinator.config.profile = "other".parse().unwrap();
    assert_eq!(
        desk.ask(1, 1, Say::default()),
        Answer::Refused(Refusal::WrongProfile)
    );
}

#[test]
fn a_refused_task_after_an_accepted_one_in_the_same_step_is_not_fetched() {
    let mut desk = Desk::new();
    let mut out = vec![Effect::Append {
        event: Event::TaskEnded {
            task: TaskId::from_bytes([1; 32]),
            ending: Ending::Cancelled,
        },
        posting: None,
    }];
    let mut bad = task("bad", 1);
    bad.quorum.agree = 0;
    let task = Verified::sign(bad, &network(), &key(CUSTOMER));
    desk.coordinator.handle(
        desk.now,
        Input::Submitted {
            question: Question(1),
            task,
        },
        &mut out,
    );
    assert!(
        matches!(
            out[1..],
            [Effect::Answer {
                answer: Answer::Refused(_),
                ..
            }]
        ),
        "{out:?}"
    );
}
