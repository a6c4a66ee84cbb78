use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

/// A computer that nobody uses, on mains, with nothing else to do, on a Monday at noon.
fn quiet() -> Facts {
    Facts {
        idle: Some(Duration::from_secs(3_600)),
        power: Some(Power::Mains),
        others_cpu: Some(0),
        memory: Some(Space {
            total: 16 * GIB,
            free: 12 * GIB,
        }),
        disk: Some(Space {
            total: 100 * GIB,
            free: 50 * GIB,
        }),
        metered: Some(false),
        local: Some(MinuteOfWeek::new(0, 12 * 60)),
        running: Some(Vec::new()),
        traffic_today: 0,
    }
}

fn manners(text: &str) -> Manners {
    let machine = Machine {
        processors: 8,
        slots: 8,
        output_bytes: 256 << 20,
    };
    Manners::new(text.parse().unwrap(), (Said::Resume, at(0)), machine)
}

fn reasons(decision: &Decision) -> Vec<Reason> {
    decision
        .because
        .iter()
        .map(|because| because.reason)
        .collect()
}

/// Decides once, and returns the reasons.
fn why(text: &str, facts: &Facts) -> Vec<Reason> {
    reasons(&manners(text).decide(at(0), facts, AtHand::Work))
}

/// Every combination of preferences, battery, use, hours and load is decided as a person would who reads the preferences.
#[test]
fn the_matrix_of_preferences_and_facts() {
    let mut seen = 0;
    for run in ["idle", "always", "never"] {
        for on_battery in [false, true] {
            for hours in ["*", "mon 08:00-18:00", "mon 18:00-08:00"] {
                for power in [
                    None,
                    Some(Power::Mains),
                    Some(Power::Battery { percent: 80 }),
                    Some(Power::Battery { percent: 20 }),
                ] {
                    for idle in [None, Some(0), Some(179), Some(180), Some(7_200)] {
                        for others_cpu in [None, Some(0), Some(25), Some(26), Some(50), Some(51)] {
                            let text = format!(
                                "run = \"{run}\"\non_battery = {on_battery}\nhours = [\"{hours}\"]\n"
                            );
                            let facts = Facts {
                                power,
                                idle: idle.map(Duration::from_secs),
                                others_cpu,
                                ..quiet()
                            };
                            let in_use = idle.is_none_or(|seconds| seconds < 180);
                            let low = matches!(power, Some(Power::Battery { percent: 20 }));
                            let battery = matches!(power, Some(Power::Battery { .. }));
                            let most = if in_use { 25 } else { 50 };
                            let expected = [
                                (Reason::Never, run == "never"),
                                (Reason::OutsideHours, hours == "mon 18:00-08:00"),
                                (Reason::InUse, run == "idle" && in_use),
                                (Reason::OnBattery, battery && !on_battery),
                                (Reason::BatteryLow, low && on_battery),
                                (Reason::OthersBusy, others_cpu.is_some_and(|cpu| cpu > most)),
                            ];
                            let holds = expected.iter().filter(|(_, holds)| *holds);
                            let holds: Vec<Reason> = holds.map(|(reason, _)| *reason).collect();
                            let decision = manners(&text).decide(at(0), &facts, AtHand::Work);
                            assert_eq!(reasons(&decision), holds, "{text}{facts:?}");
                            assert_eq!(decision.allowance.run, holds.is_empty());
                            assert_eq!(decision.allowance.take, holds.is_empty());
                            assert_eq!(decision.in_use, in_use);
                            let cpu = if in_use { (25, 2) } else { (100, 8) };
                            assert_eq!((decision.cpu.get(), decision.allowance.slots), cpu);
                            let memory = if in_use { 4 * GIB } else { 8 * GIB };
                            assert_eq!(decision.allowance.memory_bytes, memory);
                            seen += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(seen, 3 * 2 * 3 * 4 * 5 * 6);
}

#[test]
fn what_the_owner_says_goes_before_everything_and_ends_by_itself_only_if_put_off() {
    let mut manners = manners("preset = \"full\"");
    let quiet = quiet();
    manners.say(at(1), Said::Pause);
    let paused = manners.decide(at(2), &quiet, AtHand::Work);
    assert_eq!(reasons(&paused), [Reason::Paused]);
    let because = &paused.because[0];
    assert_eq!((because.since, because.until), (at(1), Until::YouAct));
    assert_eq!(
        reasons(&manners.decide(at(1_000_000), &quiet, AtHand::Work)),
        [Reason::Paused]
    );

    manners.say(at(10), Said::Snooze { until: at(70) });
    let snoozed = manners.decide(at(69), &quiet, AtHand::Work);
    assert_eq!(reasons(&snoozed), [Reason::Snoozed]);
    assert_eq!(snoozed.because[0].until, Until::At(at(70)));
    assert_eq!(reasons(&manners.decide(at(70), &quiet, AtHand::Work)), []);
    assert_eq!(manners.said().0, Said::Resume);

    manners.say(at(80), Said::Finish);
    let finishing = manners.decide(at(81), &quiet, AtHand::Work);
    assert_eq!(reasons(&finishing), [Reason::Finishing]);
    assert!(finishing.allowance.run && !finishing.allowance.take);
    let finished = manners.decide(at(82), &quiet, AtHand::Nothing);
    assert_eq!(reasons(&finished), [Reason::Finished]);
    manners.say(at(90), Said::Resume);
    assert_eq!(
        reasons(&manners.decide(at(90), &quiet, AtHand::Nothing)),
        []
    );
}

#[test]
fn a_reason_keeps_its_beginning_and_says_its_end() {
    let mut manners = manners("preset = \"light\"\nhours = [\"mon 08:00-18:00\"]\n");
    let mut facts = Facts {
        idle: Some(Duration::from_secs(60)),
        ..quiet()
    };
    let first = manners.decide(at(100), &facts, AtHand::Work);
    assert_eq!(first.because[0].until, Until::At(at(100 + 14 * 60)));
    facts.idle = Some(Duration::from_secs(70));
    let later = manners.decide(at(110), &facts, AtHand::Work);
    assert_eq!(later.because[0].since, at(100));
    assert_eq!(
        later.because[0].until,
        Until::At(at(100 + 14 * 60)),
        "the same moment"
    );
    facts.idle = quiet().idle;
    facts.local = Some(MinuteOfWeek::new(0, 7 * 60));
    let outside = manners.decide(at(120), &facts, AtHand::Work);
    assert_eq!(reasons(&outside), [Reason::OutsideHours]);
    assert_eq!(outside.because[0].since, at(120));
    assert_eq!(outside.because[0].until, Until::At(at(120 + 3_600)));
}

#[test]
fn others_have_to_be_calm_for_a_while() {
    let mut manners = manners("");
    let busy = Facts {
        others_cpu: Some(80),
        ..quiet()
    };
    assert_eq!(reasons(&manners.decide(at(0), &quiet(), AtHand::Work)), []);
    assert_eq!(
        reasons(&manners.decide(at(1), &busy, AtHand::Work)),
        [Reason::OthersBusy]
    );
    let calm = manners.decide(at(2), &quiet(), AtHand::Work);
    assert_eq!(reasons(&calm), [Reason::OthersBusy]);
    assert_eq!(calm.because[0].until, Until::At(at(31)));
    assert_eq!(reasons(&manners.decide(at(31), &quiet(), AtHand::Work)), []);
    assert_eq!(
        why("preset = \"full\"", &busy),
        [],
        "100 is whatever others take"
    );
}

#[test]
fn no_more_is_wished_for_than_the_machine_has() {
    let decision = manners("preset = \"full\"\n[units]\nmemory = \"14 GiB\"\nminutes = 7").decide(
        at(0),
        &quiet(),
        AtHand::Work,
    );
    let limits = decision.allowance.wishes.limits;
    assert_eq!(
        (limits.memory_bytes, limits.output_bytes),
        (12 * GIB, 256 << 20)
    );
    assert_eq!(
        (decision.unit_memory_max, decision.unit_time_max),
        (14 * GIB, Duration::from_secs(420)),
        "what was leased before goes on"
    );
}

#[test]
fn short_memory_is_given_back_at_once() {
    let mut manners = manners("");
    let short = Facts {
        memory: Some(Space {
            total: 16 * GIB,
            free: GIB / 2,
        }),
        ..quiet()
    };
    let decision = manners.decide(at(0), &short, AtHand::Work);
    assert_eq!(reasons(&decision), [Reason::MemoryShort]);
    assert!(decision.give_back && !decision.allowance.run);
    let calm = manners.decide(at(5), &quiet(), AtHand::Work);
    assert_eq!(reasons(&calm), [Reason::MemoryShort]);
    assert!(!calm.give_back);
    assert_eq!(reasons(&manners.decide(at(30), &quiet(), AtHand::Work)), []);
}

#[test]
fn limits_of_disk_and_network_stop_new_work_only() {
    let cases = [
        (
            "",
            Facts {
                disk: Some(Space {
                    total: 100 * GIB,
                    free: 9 * GIB,
                }),
                ..quiet()
            },
            Reason::DiskFull,
        ),
        (
            "",
            Facts {
                metered: Some(true),
                ..quiet()
            },
            Reason::Metered,
        ),
        (
            "[network]\ndaily = \"1 GiB\"\n",
            Facts {
                traffic_today: GIB,
                ..quiet()
            },
            Reason::TrafficUsedUp,
        ),
    ];
    for (text, facts, reason) in cases {
        let decision = manners(text).decide(at(0), &facts, AtHand::Work);
        assert_eq!(reasons(&decision), [reason]);
        assert!(decision.allowance.run && !decision.allowance.take);
    }
    assert_eq!(
        why(
            "[network]\nmetered = true",
            &Facts {
                metered: Some(true),
                ..quiet()
            }
        ),
        []
    );
    let tomorrow = next_day(Timestamp::from_millis(86_400_000 * 3 + 5));
    assert_eq!(tomorrow, Timestamp::from_millis(86_400_000 * 4));
}

#[test]
fn programs_of_the_owner_go_first() {
    let facts = Facts {
        running: Some(vec!["vlc".to_owned()]),
        ..quiet()
    };
    assert_eq!(
        why("pause_for = [\"obs\", \"vlc\"]", &facts),
        [Reason::ProgramRuns]
    );
    assert_eq!(why("pause_for = [\"obs\"]", &facts), []);
    let blind = Facts {
        running: None,
        ..quiet()
    };
    assert_eq!(why("pause_for = [\"obs\"]", &blind), [Reason::ProgramRuns]);
    assert_eq!(why("", &blind), []);
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let power = prop_oneof![
        Just(Some(Power::Mains)),
        (0u8..=100).prop_map(|percent| Some(Power::Battery { percent })),
        Just(None),
    ];
    let space = || {
        proptest::option::of((0u64..64, 1u64..64).prop_map(|(free, total)| Space {
            total: total * GIB,
            free: free.min(total) * GIB,
        }))
    };
    let idle = proptest::option::of((0u64..10_000).prop_map(Duration::from_secs));
    let others = proptest::option::of(0u8..=100);
    let local = proptest::option::of(
        (0u8..7, 0u16..1_440).prop_map(|(day, minute)| MinuteOfWeek::new(day, minute)),
    );
    (
        idle,
        power,
        others,
        space(),
        space(),
        proptest::option::of(any::<bool>()),
        local,
    )
        .prop_map(
            |(idle, power, others_cpu, memory, disk, metered, local)| Facts {
                idle,
                power,
                others_cpu,
                memory,
                disk,
                metered,
                local,
                running: Some(Vec::new()),
                traffic_today: 0,
            },
        )
}

proptest! {
    /// Whatever the facts: what may run is what no reason forbids, and to know less never lets more run.
    #[test]
    fn knowing_less_never_runs_more(facts in any_facts(), preset in 0usize..3) {
        let text = format!("preset = \"{}\"", ["light", "medium", "full"][preset]);
        let decision = manners(&text).decide(at(0), &facts, AtHand::Work);
        let pauses = decision.because.iter().any(|b| b.reason.question() == Question::Paused);
        prop_assert_eq!(decision.allowance.run, !pauses);
        prop_assert_eq!(decision.allowance.take, decision.because.is_empty());
        let blind = Facts { idle: None, ..facts };
        let blind = manners(&text).decide(at(0), &blind, AtHand::Work);
        prop_assert!(blind.in_use);
        prop_assert!(blind.cpu <= decision.cpu);
        prop_assert!(blind.allowance.slots <= decision.allowance.slots);
        prop_assert!(blind.allowance.memory_bytes <= decision.allowance.memory_bytes);
    }
}
