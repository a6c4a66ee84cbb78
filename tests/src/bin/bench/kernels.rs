//! The programs that come with Tally, metered in the sandbox, beside the same algorithms compiled natively.
//!
//! The native ones are built by the `rustc` at hand from `tests/bench/native`. Rounds of both alternate, and the
//! fastest of each counts, so that other work on the machine disturbs both alike.
//!
//! The time of a unit has two parts: its program's, and what the sandbox needs to give a fresh instance its memory and
//! to copy input and output. The second is found with a guest that only copies as much. The native programs work on
//! memory that they have used before, so the first part is what compares with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tally_node::programs::builtin;
use tally_protocol::unit::{Limits, Outcome};
use tally_sandbox::{Batch, Program, Sandbox, SandboxConfig, UnitSpec};

use crate::peers::crate_folder;
use crate::report::Report;
use crate::{Options, progress};

/// Rounds, of some runs each.
const ROUNDS: u32 = 8;
/// Runs of a round, of which the fastest counts.
const RUNS: u32 = 5;
/// Width and height of a tile's core, as the image server will cut it.
const CORE: usize = 512;
/// The radii that are measured.
const RADII: [usize; 4] = [1, 3, 5, 9];
/// Bytes of text.
const TEXT_BYTES: usize = 16 << 20;
/// The range whose primes are counted.
const PRIMES: [&str; 2] = ["1000000000", "1020000000"];

/// The guest that only copies.
const COPY: &str = include_str!("guests/copy.wat");

pub(crate) fn measure(options: &Options) -> Result<Report> {
    let goal = "<= 1.3 x native for integer image kernels, <= 1.7 for others";
    let mut report = Report::new("kernels", goal);
    let folder = tempfile::Builder::new()
        .prefix("tally-bench-")
        .tempdir_in(&options.dir)?;
    let native = build(folder.path())?;
    let mut sandbox = Sandbox::spawn(SandboxConfig::default())?;
    let rounds = options.units.unwrap_or(ROUNDS);
    let copy = Program::new(wat::parse_str(COPY)?.into());
    let cases = RADII.map(blur).into_iter().chain([words(), primes()]);
    for case in cases {
        progress(&format!("kernels: {}", case.name));
        let path = folder.path().join("input");
        std::fs::write(&path, &case.input)?;
        let module = builtin(case.program).context("find the program")?.module;
        let program = Program::new(module.into());
        let mut times = Times::default();
        for _ in 0..rounds {
            let (unit, output) = in_sandbox(&mut sandbox, &case, &program)?;
            keep(&mut times.unit, unit);
            if case.params.is_empty() {
                // Input and output are streams, which are small in memory.
                keep(&mut times.copy, Duration::ZERO);
            } else {
                keep(
                    &mut times.copy,
                    in_sandbox(&mut sandbox, &case.bare(), &copy)?.0,
                );
            }
            let said = case.said(output)?;
            times.natives.resize(case.natives.len(), None);
            for (variant, fastest) in case.natives.iter().zip(&mut times.natives) {
                let (time, answer) = natively(&native, variant, &case, &path)?;
                ensure!(
                    answer == said,
                    "compare {} with {variant}: {said} and {answer}",
                    case.name
                );
                keep(fastest, time);
            }
        }
        times.tell(&case, &mut report);
    }
    Ok(report)
}

/// The fastest times of a case.
#[derive(Default)]
struct Times {
    /// A whole unit in the sandbox.
    unit: Option<Duration>,
    /// A unit of the same size that only copies.
    copy: Option<Duration>,
    /// The native programs.
    natives: Vec<Option<Duration>>,
}

impl Times {
    fn tell(&self, case: &Case, report: &mut Report) {
        let micros =
            |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
        let (unit, copy) = (micros(self.unit), micros(self.copy));
        let program = unit - copy;
        report.add(&format!("{}_unit_us", case.name), unit);
        report.add(&format!("{}_copy_us", case.name), copy);
        for (variant, native) in case.natives.iter().zip(&self.natives) {
            let (name, native) = (format!("{}_{variant}", case.name), micros(*native));
            report.add(&format!("{name}_us"), native);
            report.ratio.insert(format!("{name}_unit"), unit / native);
            report.ratio.insert(name, program / native);
        }
    }
}

/// A program with an input.
struct Case {
    name: String,
    program: &'static str,
    args: Vec<String>,
    params: String,
    input: Vec<u8>,
    /// How the native program calls it.
    natives: Vec<&'static str>,
}

impl Case {
    /// The same input for a program without arguments and parameters.
    fn bare(&self) -> Self {
        Self {
            args: Vec::new(),
            params: String::new(),
            input: self.input.clone(),
            name: self.name.clone(),
            program: self.program,
            natives: Vec::new(),
        }
    }

    /// Returns an output as the native program prints it.
    fn said(&self, output: Vec<u8>) -> Result<String> {
        Ok(match self.program {
            "gaussian-blur" => format!("{:016x}", digest(&output)),
            _ => String::from_utf8(output)?.trim().to_owned(),
        })
    }
}

fn blur(radius: usize) -> Case {
    let side = CORE + 2 * radius;
    Case {
        name: format!("gaussian_blur_{radius}"),
        program: "gaussian-blur",
        args: vec!["--radius".to_owned(), radius.to_string()],
        params: format!("{side} {side} {radius} {radius} {CORE} {CORE}"),
        input: noise(side * side * 4),
        natives: vec!["blur_portable", "blur_sse2"],
    }
}

fn words() -> Case {
    // One byte in six is a blank, and lines have some twelve words.
    let letter = |byte: u8| match byte {
        0..=42 => b' ',
        43..=46 => b'\n',
        _ => b'a' + byte % 26,
    };
    Case {
        name: "wordcount".to_owned(),
        program: "wordcount",
        args: Vec::new(),
        params: String::new(),
        input: noise(TEXT_BYTES).into_iter().map(letter).collect(),
        natives: vec!["wordcount"],
    }
}

fn primes() -> Case {
    Case {
        name: "prime_count".to_owned(),
        program: "prime-count",
        args: PRIMES.map(str::to_owned).to_vec(),
        params: String::new(),
        input: Vec::new(),
        natives: vec!["prime_count"],
    }
}

/// Returns bytes without a pattern, the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// Runs a case some times in the sandbox. Returns the fastest time, and the output.
fn in_sandbox(
    sandbox: &mut Sandbox,
    case: &Case,
    program: &Program,
) -> Result<(Duration, Vec<u8>)> {
    sandbox
        .input(case.input.len())?
        .copy_from_slice(&case.input);
    let unit = UnitSpec {
        index: 0,
        params: case.params.clone(),
        input: 0..case.input.len(),
    };
    let batch = Batch {
        program,
        args: &case.args,
        unit_count: 1,
        seed: [0; 32],
        limits: Limits {
            fuel: 1 << 50,
            memory_bytes: 1 << 30,
            output_bytes: 64 << 20,
        },
        units: &vec![unit; RUNS as usize],
    };
    let mut fastest = None;
    let mut said = None;
    sandbox.run(&batch, &mut |run| {
        keep(&mut fastest, run.run_time);
        said = (run.result == Ok(Outcome::Done)).then_some(run.output);
    })?;
    let output = said.with_context(|| format!("run {} in the sandbox", case.name))?;
    Ok((fastest.context("run a unit")?, output))
}

/// Runs a case some times natively. Returns the fastest time, and what it said.
fn natively(native: &Path, variant: &str, case: &Case, input: &Path) -> Result<(Duration, String)> {
    let mut command = Command::new(native);
    command.arg(variant).arg(RUNS.to_string()).arg(input);
    let output = command
        .args(case.args.iter().filter(|argument| *argument != "--radius"))
        .args(case.params.split_whitespace())
        .output()
        .context("start the native program")?;
    ensure!(
        output.status.success(),
        "run {variant} natively: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let (nanos, said) = text
        .trim()
        .split_once(' ')
        .context("read what the native program says")?;
    Ok((Duration::from_nanos(nanos.parse()?), said.to_owned()))
}

/// Builds the native program as a release build would, for any processor of this architecture.
fn build(folder: &Path) -> Result<PathBuf> {
    let binary = folder.join("native");
    let source = crate_folder().join("bench/native/kernels.rs");
    let built = Command::new("rustc")
        .args([
            "--edition",
            "2021",
            "-C",
            "opt-level=3",
            "-C",
            "codegen-units=1",
        ])
        .args(["-C", "panic=abort", "--cap-lints", "allow", "-o"])
        .arg(&binary)
        .arg(&source)
        .output()
        .context("start rustc, which builds the native programs")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "build {}: {said}", source.display());
    Ok(binary)
}

fn keep(fastest: &mut Option<Duration>, time: Duration) {
    *fastest = Some(fastest.map_or(time, |known| known.min(time)));
}

/// Returns the FNV-1a hash of an output, as the native program computes it.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
