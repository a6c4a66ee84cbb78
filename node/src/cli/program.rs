//! `tally program`: check a program, and run one unit of it here, in the same sandbox as anywhere.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tally_protocol::account::Currency;
use tally_protocol::id::{BlobId, TaskId};
use tally_protocol::points::Points;
use tally_protocol::rate_card::{Measured, Rates};
use tally_protocol::task::job::ByteSize;
use tally_protocol::unit::{Fault, Limits, Outcome};
use tally_sandbox::{Priority, Program, Sandbox, SandboxConfig, UnitMax, UnitRun, UnitSpec};

use super::output::{BarUnit, grouped, table};
use super::{Common, Exit, Failure};
use crate::programs::{BUILTINS, builtin};
use crate::worker::batch_of;

/// `tally program`.
#[derive(Debug, Subcommand)]
pub(super) enum ProgramCommand {
    /// List the programs that come with Tally.
    List,
    /// Say whether a module is a program that terminals run.
    Check {
        /// A WebAssembly module, or the name of a program that comes with Tally.
        program: String,
    },
    /// Run one unit here: its output to standard output, the rest to standard error.
    Run(Box<RunUnit>),
}

/// `tally program run`.
#[derive(Debug, Args)]
pub(super) struct RunUnit {
    /// A WebAssembly module, or the name of a program that comes with Tally.
    program: String,
    /// The unit's input. [default: none]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Fuel that it may use.
    #[arg(long, default_value_t = 1_000_000_000_000, value_name = "FUEL")]
    fuel: u64,
    /// Memory that it may use, as 256MiB.
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    memory: ByteSize,
    /// Output that it may write, as 16MiB.
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    output: ByteSize,
    /// The unit's index in its task.
    #[arg(long, default_value_t = 0, value_name = "N")]
    unit: u32,
    /// Units of its task.
    #[arg(long, default_value_t = 1, value_name = "N")]
    units: u32,
    /// The unit's parameters.
    #[arg(long, default_value = "", value_name = "TEXT")]
    params: String,
    /// Arguments of the program.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl ProgramCommand {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let output = common.output();
        match self {
            Self::List => {
                let about = |program: &crate::programs::Builtin| json!({"name": program.name, "about": program.about});
                output.result(&BUILTINS.iter().map(about).collect::<Vec<_>>(), || {
                    let row = |program: &crate::programs::Builtin| {
                        vec![
                            program.name.to_owned(),
                            program.module.len().to_string(),
                            program.about.to_owned(),
                        ]
                    };
                    table(
                        &["program", "bytes", "what it does"],
                        &BUILTINS.iter().map(row).collect::<Vec<_>>(),
                    )
                })
            }
            Self::Check { program } => check(common, &program),
            Self::Run(unit) => unit.run(common),
        }
    }
}

/// Returns the module at a path, or the one that comes with Tally under this name.
pub(super) fn module(program: &str) -> Result<Vec<u8>, Failure> {
    if let Some(builtin) = builtin(program) {
        return Ok(builtin.module.to_vec());
    }
    std::fs::read(Path::new(program)).map_err(|error| {
        Failure::new(
            Exit::NotFound,
            format!("read the program {program:?}: {error}"),
        )
        .hint("name a .wasm file, or one of `tally program list`")
    })
}

fn check(common: &Common, program: &str) -> Result<(), Failure> {
    let module = module(program)?;
    let facts = tally_sandbox::check(&module).map_err(|refusal| {
        Failure::new(
            Exit::Unsuccessful,
            format!("accept the program {program:?}: it {refusal}"),
        )
        .hint("docs/programs.md says what a program may be")
    })?;
    let id = BlobId::of(&module);
    let profile = tally_sandbox::profile();
    let value = json!({
        "program": id, "abi": facts.abi.to_string(), "profile": profile, "bytes": facts.module_bytes,
        "functions": facts.functions, "code_bytes": facts.code_bytes, "data_bytes": facts.data_bytes,
        "memory_min_bytes": facts.memory_min_bytes,
    });
    common.output().result(&value, || {
        format!(
            "{program} is a program that terminals run\n  id         {id}\n  kind       {}\n  profile    {profile}\n  \
             size       {} bytes, {} functions\n  memory     {} bytes at the start",
            facts.abi,
            grouped(facts.module_bytes as u64),
            grouped(u64::from(facts.functions)),
            grouped(facts.memory_min_bytes),
        )
    })
}

/// How a unit ran, for programs.
#[derive(Debug, Serialize)]
struct Ran {
    outcome: String,
    done: bool,
    fuel: u64,
    points: Option<Points>,
    output_bytes: usize,
    output: BlobId,
    compile_millis: Option<u128>,
    run_micros: u128,
}

impl RunUnit {
    fn run(self, common: &Common) -> Result<(), Failure> {
        let output = common.output();
        let program = Program::new(module(&self.program)?.into());
        let input = match &self.input {
            Some(path) => std::fs::read(path).map_err(|error| {
                Failure::new(
                    Exit::NotFound,
                    format!("read the input {}: {error}", path.display()),
                )
            })?,
            None => Vec::new(),
        };
        let limits = Limits {
            fuel: self.fuel,
            memory_bytes: self.memory.0,
            output_bytes: self.output.0,
        };
        let spinner = output.bar(BarUnit::Time);
        spinner.set_message("running");
        let ran = run_here(
            &program,
            &self.args,
            limits,
            (self.unit, self.units, self.params),
            &input,
        )?;
        spinner.finish_and_clear();
        let Here {
            unit,
            compile_time,
            refusal,
        } = ran;
        output.bytes(&unit.output)?;
        let stderr = String::from_utf8_lossy(&unit.stderr);
        if !stderr.is_empty() {
            output.note(stderr.trim_end());
        }
        report(output, &unit, compile_time, input.len())?;
        match (unit.result, refusal) {
            (Ok(Outcome::Done), _) => Ok(()),
            (_, Some(reason)) => Err(Failure::new(
                Exit::Unsuccessful,
                format!("run the program: it {reason}"),
            )),
            (Ok(outcome), None) => Err(Failure::new(
                Exit::Unsuccessful,
                format!("run the unit to its end: {outcome}"),
            )),
            (Err(fault), None) => Err(Failure::new(
                Exit::Unsuccessful,
                format!("run the unit: {fault}"),
            )),
        }
    }
}

fn report(
    output: super::Output,
    unit: &UnitRun,
    compile_time: Option<Duration>,
    input_bytes: usize,
) -> Result<(), Failure> {
    let outcome = match unit.result {
        Ok(outcome) => outcome.to_string(),
        Err(fault) => fault.to_string(),
    };
    let ran = Ran {
        outcome,
        done: unit.result == Ok(Outcome::Done),
        fuel: unit.fuel,
        points: points_of(unit, input_bytes),
        output_bytes: unit.output.len(),
        output: BlobId::of(&unit.output),
        compile_millis: compile_time.map(|time| time.as_millis()),
        run_micros: unit.run_time.as_micros(),
    };
    if output.is_json() {
        output.note(serde_json::to_string(&ran)?);
        return Ok(());
    }
    let points = ran
        .points
        .map(|points| points.to_string())
        .unwrap_or_default();
    let compiled = compile_time
        .map(|time| format!(", compiled in {time:.1?}"))
        .unwrap_or_default();
    let (fuel, bytes, time) = (
        grouped(ran.fuel),
        grouped(ran.output_bytes as u64),
        unit.run_time,
    );
    output.note(format!(
        "{}: {fuel} fuel, {bytes} bytes, {points} points, {time:.1?}{compiled}",
        ran.outcome
    ));
    Ok(())
}

/// Returns what a run is worth by the usual constants.
fn points_of(unit: &UnitRun, input_bytes: usize) -> Option<Points> {
    let measured = Measured {
        outcome: unit.result.ok()?,
        fuel: unit.fuel,
        fuel_limit: 0,
        bytes: (input_bytes + unit.output.len()) as u64,
        pixels: 0,
    };
    let rates = Rates::free(Currency::from_bytes(*b"EUR")?);
    rates.points(BlobId::from_bytes([0; 32]), &measured)
}

/// A unit that was run on this computer.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) unit: UnitRun,
    pub(super) compile_time: Option<Duration>,
    pub(super) refusal: Option<String>,
}

/// Runs one unit in a sandbox of its own.
pub(super) fn run_here(
    program: &Program,
    args: &[String],
    limits: Limits,
    (index, count, params): (u32, u32, String),
    input: &[u8],
) -> Result<Here, Failure> {
    let config = SandboxConfig {
        priority: Priority::Normal,
        unit_max: UnitMax {
            memory_bytes: limits.memory_bytes,
            time: Duration::from_secs(24 * 3_600),
        },
        output_bytes_max: usize::try_from(limits.output_bytes)?,
        input_bytes_max: input.len().max(1 << 20),
        ..SandboxConfig::default()
    };
    let mut sandbox = Sandbox::spawn(config)?;
    sandbox.input(input.len())?.copy_from_slice(input);
    let units = [UnitSpec {
        index,
        params,
        input: 0..input.len(),
    }];
    let task = TaskId::from_bytes([0; 32]);
    let mut run = None;
    let report = sandbox.run(
        &batch_of(program, args, (task, count), limits, &units),
        &mut |unit| run = Some(unit),
    )?;
    let none = UnitRun {
        index,
        result: Err(Fault::Killed),
        fuel: 0,
        output: Vec::new(),
        stderr: Vec::new(),
        run_time: Duration::ZERO,
    };
    Ok(Here {
        unit: run.unwrap_or(none),
        compile_time: report.compile_time,
        refusal: report.refusal,
    })
}
