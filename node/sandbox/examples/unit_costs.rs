//! Measures what a unit costs beside its own work: batches of echoes of several sizes, from the input in the
//! parent's hands to the output in the parent's hands. `cargo run --release -p tally-sandbox --example unit_costs`.

#![expect(clippy::print_stdout, reason = "it is a tool for people")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tally_protocol::unit::{Limits, Outcome};
use tally_sandbox::{Batch, Program, Sandbox, SandboxConfig, UnitSpec};

/// Bytes of input, units in a batch, batches.
const SIZES: [(usize, u32, u32); 4] = [
    (0, 1000, 20),
    (1 << 10, 1000, 20),
    (1 << 20, 50, 10),
    (64 << 20, 1, 10),
];

fn main() -> ExitCode {
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    let begin = Instant::now();
    let mut sandbox = Sandbox::spawn(SandboxConfig {
        priority: tally_sandbox::Priority::Normal,
        ..SandboxConfig::default()
    })
    .expect("a sandbox");
    println!(
        "start of a sandbox: {:?}; {}",
        begin.elapsed(),
        sandbox.lockdown().expect("it has a child")
    );
    for name in ["echo", "kernel-echo"] {
        let path = format!("{}/tests/guests/{name}.wat", env!("CARGO_MANIFEST_DIR"));
        let module = wat::parse_file(path).expect("a valid module");
        let program = Program::new(module.into());
        for (bytes, units, batches) in SIZES {
            let best = (0..batches)
                .map(|_| batch(&mut sandbox, &program, bytes, units))
                .min();
            let (whole, running) = best.expect("several batches");
            println!(
                "{name:12} {bytes:>9} B: {:>10.2?} a unit, of which {:>10.2?} in the child's run",
                whole, running
            );
        }
    }
    ExitCode::SUCCESS
}

/// Runs a batch and returns the time of a unit, in all and in the child.
fn batch(
    sandbox: &mut Sandbox,
    program: &Program,
    bytes: usize,
    units: u32,
) -> (Duration, Duration) {
    let specs: Vec<UnitSpec> = (0..units)
        .map(|index| {
            let start = index as usize * bytes;
            UnitSpec {
                index,
                params: String::new(),
                input: start..start + bytes,
            }
        })
        .collect();
    let source = vec![7; bytes * units as usize];
    let begin = Instant::now();
    sandbox
        .input(source.len())
        .expect("room for the input")
        .copy_from_slice(&source);
    let limits = Limits {
        fuel: 10_000_000_000,
        memory_bytes: 256 << 20,
        output_bytes: 80 << 20,
    };
    let batch = Batch {
        program,
        args: &[],
        unit_count: units,
        seed: [0; 32],
        limits,
        units: &specs,
    };
    let mut running = Duration::ZERO;
    sandbox
        .run(&batch, &mut |run| {
            assert_eq!(run.result, Ok(Outcome::Done));
            running += run.run_time;
        })
        .expect("a batch");
    (begin.elapsed() / units, running / units)
}
