//! Units of 100 ms: the share of the processors' time that is spent in the guests.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tally_protocol::task::job::Job;
use tally_protocol::unit::Limits;
use tally_sandbox::{Batch, Program, Sandbox, SandboxConfig, UnitSpec};

use crate::report::Report;
use crate::world::World;
use crate::{Options, peers, progress};

/// Units that are measured.
const UNITS: u32 = 200;
/// Units that are run before.
const WARM_UNITS: u32 = 8;
/// Terminals, of one slot each.
const TERMINALS: u32 = 2;
/// How long a unit should take.
const UNIT_TIME: Duration = Duration::from_millis(100);
/// Rounds of the guest's loop by which its speed is found.
const TRIAL_ROUNDS: u64 = 20_000_000;
/// Fuel that no unit uses up.
const FUEL: u64 = 1 << 50;

/// The guest that computes for so many rounds.
pub(crate) const BURN: &str = include_str!("../../../../node/sandbox/tests/guests/burn.wat");

pub(crate) async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new("efficiency", ">= 0.97");
    let units = options.units.unwrap_or(UNITS);
    let module = wat::parse_str(BURN)?;
    let rounds = tokio::task::block_in_place(|| rounds_of_a_unit(&module))?;
    let mut world = World::start(&options.dir, TERMINALS as usize).await?;
    let program = world.put(&module)?;
    let job = job()?;
    progress(&format!(
        "efficiency: {units} units of {rounds} rounds each"
    ));
    let warm = world.put(&inputs(rounds + 1, WARM_UNITS))?;
    world.run(&job, program, warm).await?;
    let input = world.put(&inputs(rounds, units))?;
    let before = world.processor_times();
    let start = Instant::now();
    let run = world.run(&job, program, input).await?;
    let wall = start.elapsed();
    let used = world.processor_times_since(before);
    world.stop().await;
    let [coordinator, terminals, guests, customer] = used.map(|time| time.as_secs_f64());
    report.add("units", f64::from(units));
    report.add("unit_ms", guests * 1e3 / f64::from(units));
    report.add("seconds_submit_to_result", wall.as_secs_f64());
    report.add("seconds_accepted_to_done", run.since_accepted.as_secs_f64());
    report.add("seconds_in_guests", guests);
    report.add("seconds_in_coordinator", coordinator);
    report.add("seconds_in_terminals", terminals);
    report.add("seconds_in_customer", customer);
    let share = |wall: Duration| guests / (f64::from(TERMINALS) * wall.as_secs_f64());
    report.add("efficiency", share(wall));
    report.add("efficiency_accepted_to_done", share(run.since_accepted));
    if options.peers {
        let peers = peers::measure("efficiency", &["--units", &units.to_string()]).await?;
        report.compare(peers, "efficiency", "efficiency");
    }
    Ok(report)
}

/// Returns the job whose units are of 8 bytes each, see [`inputs`].
pub(crate) fn job() -> Result<Job> {
    let text = format!(
        "[job]\nname = \"burn\"\n[program]\nfile = \"burn.wasm\"\n[input]\nfile = \"input\"\n[split]\nby = \"bytes\"\n\
         bytes = 8\n[limits]\nfuel = {FUEL}\n[quorum]\nagree = 1\n[merge]\nhow = \"concat\"\n"
    );
    Ok(text.parse()?)
}

/// Returns the input of so many units, each of so many rounds.
pub(crate) fn inputs(rounds: u64, count: u32) -> Vec<u8> {
    rounds.to_le_bytes().repeat(count as usize)
}

/// Returns how many rounds take [`UNIT_TIME`] on this machine.
pub(crate) fn rounds_of_a_unit(module: &[u8]) -> Result<u64> {
    let program = Program::new(module.into());
    let mut sandbox = Sandbox::spawn(SandboxConfig::default())?;
    let input = TRIAL_ROUNDS.to_le_bytes();
    sandbox.input(input.len())?.copy_from_slice(&input);
    let unit = UnitSpec {
        index: 0,
        params: String::new(),
        input: 0..input.len(),
    };
    let batch = Batch {
        program: &program,
        args: &[],
        unit_count: 1,
        seed: [0; 32],
        limits: Limits {
            fuel: FUEL,
            memory_bytes: 1 << 20,
            output_bytes: 1 << 10,
        },
        units: &vec![unit; 10],
    };
    let mut fastest = Duration::MAX;
    sandbox.run(&batch, &mut |run| fastest = fastest.min(run.run_time))?;
    ensure!(
        !fastest.is_zero(),
        "find the guest's speed: it took no time"
    );
    let rounds = u128::from(TRIAL_ROUNDS) * UNIT_TIME.as_nanos() / fastest.as_nanos();
    u64::try_from(rounds).context("find the guest's speed")
}
