//! Programs that were made by others without a thought of this sandbox. `tests/fetch-programs` gets them; without
//! them these tests say so and do nothing.

use std::path::PathBuf;

use tally_protocol::unit::{Limits, Outcome};
use tally_sandbox::{Program, Sandbox, UnitRun};

use crate::common::{LIMITS, run_with, sandbox};

/// Names the folder that `fetch-programs` has filled.
const FOLDER: &str = "TALLY_WASI_PROGRAMS";

const SVG: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">
  <rect width="60" height="40" fill="#fff"/><circle cx="30" cy="20" r="15" fill="#d22" opacity="0.8"/></svg>"##;

#[expect(
    clippy::print_stdout,
    reason = "whoever runs the tests should know what was left out"
)]
fn module(name: &str) -> Option<Program> {
    let module = std::env::var_os(FOLDER)
        .ok_or_else(|| format!("{FOLDER} is not set"))
        .and_then(|folder| {
            std::fs::read(PathBuf::from(folder).join(name)).map_err(|error| error.to_string())
        });
    match module {
        Ok(module) => Some(Program::new(module.into())),
        Err(reason) => {
            println!("not run: there is no {name}: {reason}");
            None
        }
    }
}

/// Runs a unit twice in one sandbox and once in another: all must be the same, to the last byte and fuel.
fn run_everywhere(program: &Program, args: &[&str], input: &[u8]) -> UnitRun {
    let limits = Limits {
        fuel: 100_000_000_000,
        ..LIMITS
    };
    let (mut here, mut there) = (sandbox(), sandbox());
    let run = |sandbox: &mut Sandbox| {
        run_with(sandbox, program, limits, args, &[("", input)])
            .0
            .remove(0)
    };
    let runs = [run(&mut here), run(&mut here), run(&mut there)];
    let facts = |run: &UnitRun| (run.result, run.fuel, run.output.clone(), run.stderr.clone());
    assert!(
        runs.windows(2)
            .all(|pair| facts(&pair[0]) == facts(&pair[1])),
        "{runs:?}"
    );
    let [first, ..] = runs;
    assert_eq!(
        first.result,
        Ok(Outcome::Done),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    first
}

#[test]
fn resvg_draws() {
    let Some(resvg) = module("resvg.wasm") else {
        return;
    };
    let run = run_everywhere(
        &resvg,
        &["--quiet", "--resources-dir", "/", "-", "-c"],
        SVG.as_bytes(),
    );
    assert!(run.output.starts_with(b"\x89PNG\r\n") && run.output.len() > 500);
}

#[test]
fn python_computes() {
    let Some(python) = module("python-3.12.0.wasm") else {
        return;
    };
    let code = "import sys, time, random, hashlib
time.sleep(3600)
print(sum(map(int, sys.stdin)), hash('x'), random.random(), hashlib.sha256(b'x').hexdigest()[:8])";
    let run = run_everywhere(&python, &["-c", code], b"1\n2\n39\n");
    let text = String::from_utf8(run.output).unwrap();
    assert!(
        text.starts_with("42 ") && text.trim_end().ends_with("2d711642"),
        "{text}"
    );
}

#[test]
fn yosys_helps() {
    let Some(yosys) = module("yosys.wasm") else {
        return;
    };
    let run = run_everywhere(&yosys, &["-Q", "-T", "-p", "help add"], b"");
    assert!(
        String::from_utf8_lossy(&run.output).contains("This command adds objects to the design")
    );
}
