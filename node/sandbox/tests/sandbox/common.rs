//! Helpers of the tests: sandboxes with tight limits, guests from text, batches from a few bytes.

use std::path::PathBuf;

use tally_protocol::unit::Limits;
use tally_sandbox::{
    Batch, BatchReport, Priority, Program, Sandbox, SandboxConfig, UnitRun, UnitSpec,
};

/// A config whose child is the binary of this crate.
pub(crate) fn config() -> SandboxConfig {
    SandboxConfig {
        executable: PathBuf::from(env!("CARGO_BIN_EXE_tally-sandbox-child")),
        priority: Priority::Normal,
        ..SandboxConfig::default()
    }
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::spawn(config()).unwrap()
}

pub(crate) const LIMITS: Limits = Limits {
    fuel: 2_000_000_000,
    memory_bytes: 256 << 20,
    output_bytes: 64 << 20,
};

/// A program from `tests/guests`.
pub(crate) fn guest(name: &str) -> Program {
    let path = format!("{}/tests/guests/{name}.wat", env!("CARGO_MANIFEST_DIR"));
    program(&std::fs::read_to_string(path).unwrap())
}

/// A program from its text.
pub(crate) fn program(text: &str) -> Program {
    Program::new(wat::parse_str(text).unwrap().into())
}

/// Puts the inputs into the sandbox and returns the units: parameters and input each.
pub(crate) fn fill(sandbox: &mut Sandbox, units: &[(&str, &[u8])]) -> Vec<UnitSpec> {
    let total = units.iter().map(|(_, input)| input.len()).sum();
    let buffer = sandbox.input(total).unwrap();
    let mut end = 0;
    let mut specs = Vec::new();
    for (index, (params, input)) in (0..).zip(units) {
        let start = end;
        end += input.len();
        buffer[start..end].copy_from_slice(input);
        specs.push(UnitSpec {
            index,
            params: (*params).to_owned(),
            input: start..end,
        });
    }
    specs
}

/// Runs units of a program with given limits.
pub(crate) fn run_with(
    sandbox: &mut Sandbox,
    program: &Program,
    limits: Limits,
    args: &[&str],
    units: &[(&str, &[u8])],
) -> (Vec<UnitRun>, BatchReport) {
    let units = fill(sandbox, units);
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let batch = Batch {
        program,
        args: &args,
        unit_count: 10,
        seed: [7; 32],
        limits,
        units: &units,
    };
    let mut runs = Vec::new();
    let report = sandbox.run(&batch, &mut |run| runs.push(run)).unwrap();
    assert_eq!(runs.len(), units.len(), "every unit is reported once");
    (runs, report)
}

/// Runs one unit without arguments.
pub(crate) fn run_one(sandbox: &mut Sandbox, program: &Program, input: &[u8]) -> UnitRun {
    run_with(sandbox, program, LIMITS, &[], &[("", input)])
        .0
        .remove(0)
}
