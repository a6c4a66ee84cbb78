//! Runs as a world might report them, for tests: two hours of 2000 terminals, a crash, a partition, thirty liars.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spread::Recorder;
use super::{
    Accounts, LiarReport, Mark, OracleReport, Population, RunReport, Sales, Series, Spread,
    TaskReport,
};
use crate::chance::Chance;

const SAMPLES: u64 = 200;
const SECONDS: f64 = 7200.0;
const CRASH: (u64, u64) = (60, 66);
const PARTITION: (u64, u64) = (110, 140);

/// Returns a run in which everything holds.
pub(super) fn run(seed: u64) -> RunReport {
    let mut chance = Chance::new(seed, "sample", 0);
    RunReport {
        scenario: "bad-day".to_owned(),
        about: "A coordinator crashes and comes back from its log, then the network falls apart into two halves for \
                eighteen minutes, and all the while thirty devices cheat in <four> ways."
            .to_owned(),
        seed,
        trace_hash: blake3::hash(&seed.to_be_bytes()).to_hex().to_string(),
        virtual_seconds: SECONDS,
        wall_seconds: 41.23,
        steps: 12_345_678,
        oracles: oracles(),
        population: Population {
            terminals: 2000,
            coordinators: 3,
            customers: 12,
            dishonest: [("wrong results", 14), ("lazy copies", 9), ("colluders", 5), ("floods", 2)]
                .map(|(kind, count)| (kind.to_owned(), count))
                .into(),
        },
        tasks: (0..40).map(task).collect(),
        series: series(&mut chance),
        marks: vec![
            mark(CRASH.0, "coordinator 0 crashes, its last writes torn"),
            mark(CRASH.1, "coordinator 0 is back"),
            mark(PARTITION.0, "partition begins: 1000 terminals | 1000 terminals"),
            mark(PARTITION.1, "partition ends"),
        ],
        replicas_per_unit: BTreeMap::from([(1, 1200), (2, 34_012), (3, 3011), (4, 702), (5, 80), (6, 9), (7, 1), (13, 2)]),
        unit_latency: spread(&mut chance, (38_800, 24_000_000, 1.1), 1e-6),
        bytes_sent: spread(&mut chance, (2000, 300_000, 0.7), 1.0),
        bytes_received: spread(&mut chance, (2000, 2_200_000, 0.5), 1.0),
        liars: (0..30).map(|index| liar(index, &mut chance)).collect(),
        refusals: [("lease expired", 412), ("result contradicts an agreed one", 61), ("stale offer", 20_311), ("unknown task", 3)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into(),
        colluded_units: 0,
        leases_per_unit: BTreeMap::from([(2, 36_000), (3, 2_800)]),
        validated_units: 39_120,
        messages_lost: 1_204,
        accounts: Accounts {
            receipts: 9_120,
            kept: (9_100, 9_000),
            escrowed: 1_500_000_000,
            spendable: 750_000_000,
            ..Accounts::default()
        },
        sales: Sales::default(),
        deeds: BTreeMap::from([(
            "replay a pull".to_owned(),
            BTreeMap::from([("done".to_owned(), 40), ("stale".to_owned(), 40)]),
        )]),
        leases: BTreeMap::from([("honest".to_owned(), 80_000)]),
    }
}

/// Returns a run in which two oracles found something wrong.
pub(super) fn failed(seed: u64) -> RunReport {
    let mut run = run(seed);
    run.oracles[1].finding = Some(
        "at 4012.5 s unit 17 of task 3 (blur of harbour.png) was validated twice: first with 9f31c2aa by terminals 12 and \
         1804, then with 08d1e77b by terminals 77 & 1204"
            .to_owned(),
    );
    run.oracles[4].finding = Some("at 7200 s task 38 had not ended".to_owned());
    run
}

/// Returns a run of a month with much of everything.
pub(super) fn long() -> RunReport {
    let mut chance = Chance::new(3, "long sample", 0);
    let mut run = run(3);
    let month = 30.0 * 86_400.0;
    let series = &mut run.series;
    for list in [
        &mut series.validated,
        &mut series.submitted,
        &mut series.online,
        &mut series.slots,
    ] {
        *list = (1..=50_000).map(|sample| sample * 31).collect();
    }
    for list in [&mut series.busy, &mut series.pulls, &mut series.bytes] {
        *list = (1..=50_000).map(|sample| chance.below(sample)).collect();
    }
    series.every_seconds = month / 50_000.0;
    run.virtual_seconds = month;
    let moment = |index: u32| f64::from(index) / 5_000.0 * month;
    run.marks = (0..5_000)
        .map(|index| Mark {
            at: moment(index),
            what: format!("terminal {index} leaves"),
        })
        .collect();
    run.tasks = (0..10_000).map(task).collect();
    run.liars = (0..10_000)
        .map(|index| liar(index % 30, &mut chance))
        .collect();
    for (index, liar) in run.liars.iter_mut().enumerate() {
        liar.conduct = format!(
            "a way to cheat that has a rather long name, number {}",
            index % 6
        );
    }
    run
}

/// Returns a run of which nothing is known.
pub(super) fn nothing() -> RunReport {
    let series = Series {
        every_seconds: 36.0,
        ..Series::default()
    };
    RunReport {
        oracles: Vec::new(),
        population: Population::default(),
        tasks: Vec::new(),
        series,
        marks: Vec::new(),
        replicas_per_unit: BTreeMap::new(),
        unit_latency: Spread::default(),
        bytes_sent: Spread::default(),
        bytes_received: Spread::default(),
        liars: Vec::new(),
        refusals: BTreeMap::new(),
        ..run(1)
    }
}

fn oracles() -> Vec<OracleReport> {
    let oracle = |name, claim, checks| OracleReport {
        name,
        claim,
        checks,
        finding: None,
    };
    vec![
        oracle(
            "quorum",
            "A unit is validated only if as many different devices as its task asks for reported the same result.",
            39_120,
        ),
        oracle(
            "once",
            "A unit is validated at most once, and its result never changes.",
            39_120,
        ),
        oracle(
            "durable",
            "What a coordinator said it holds is there after a crash.",
            3,
        ),
        oracle(
            "bounded",
            "No queue and no table grows beyond its bound.",
            12_345_678,
        ),
        oracle("ends", "Every task ends once faults have stopped.", 40),
        oracle(
            "ledger",
            "The log of every coordinator extends what it showed before.",
            812,
        ),
    ]
}

fn task(index: u32) -> TaskReport {
    let submitted = f64::from(index) * 150.0;
    let ended = (index < 38).then_some(submitted + 900.0 + f64::from(index % 7) * 61.0);
    let ending = if ended.is_some() {
        "complete"
    } else {
        "waits for 440 results"
    };
    let name = format!(
        "{} {index}",
        if index.is_multiple_of(2) {
            "blur"
        } else {
            "count words"
        }
    );
    TaskReport {
        name,
        units: 1000,
        agree: 2,
        submitted,
        ended,
        ending: ending.to_owned(),
    }
}

fn series(chance: &mut Chance) -> Series {
    let mut series = Series {
        every_seconds: SECONDS / SAMPLES as f64,
        ..Series::default()
    };
    let mut validated = 0;
    for sample in 0..SAMPLES {
        let submitted = (sample * 1000 / 4).next_multiple_of(1000).min(40_000);
        let apart = (PARTITION.0..PARTITION.1).contains(&sample);
        let down = (CRASH.0..CRASH.1).contains(&sample);
        let online = 1700 + sample - if apart { 420 } else { 0 } + chance.below(40);
        let slots = online * 3;
        let busy = slots
            * if down {
                20
            } else if apart {
                61
            } else {
                84
            }
            / 100
            + chance.below(200);
        validated = (validated + busy * if down { 0 } else { 5 } / 100).min(submitted.min(39_120));
        series.validated.push(validated);
        series.submitted.push(submitted);
        series.online.push(online);
        series.slots.push(slots);
        series.busy.push(busy);
        series
            .pulls
            .push(if down { 40 } else { 700 + chance.below(300) });
        series
            .bytes
            .push((if down { 4 } else { 20 } + chance.below(9)) << 20);
    }
    series
}

fn mark(sample: u64, what: &str) -> Mark {
    Mark {
        at: sample as f64 * SECONDS / SAMPLES as f64,
        what: what.to_owned(),
    }
}

fn liar(index: u32, chance: &mut Chance) -> LiarReport {
    let conduct = match index % 15 {
        0..7 => "wrong results",
        7..12 => "lazy copies",
        12..14 => "colluders",
        _ => "floods",
    };
    let lied = 60.0 + f64::from(index) * 200.0;
    let after = 3.0 + 20.0 * chance.log_normal(1.5);
    let detected = (index % 15 != 13).then_some((lied + after).min(SECONDS));
    let device = format!("{:06x}", chance.below(1 << 24));
    LiarReport {
        device,
        conduct: conduct.to_owned(),
        lied,
        detected,
        lies: 3 + chance.below(9),
        outvoted: 2,
    }
}

/// Returns a spread of `count` values around `middle`.
fn spread(chance: &mut Chance, (count, middle, width): (u32, u64, f64), scale: f64) -> Spread {
    let mut recorder = Recorder::new();
    for _ in 0..count {
        let value = Duration::from_micros(middle).mul_f64(chance.log_normal(width));
        recorder.record(u64::try_from(value.as_micros()).unwrap());
    }
    recorder.spread(scale)
}
