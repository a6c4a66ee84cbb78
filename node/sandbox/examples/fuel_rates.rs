//! Measures how much fuel a second different programs use, and what single operators cost. For calibrating the
//! cost table: `cargo run --release -p tally-sandbox --example fuel_rates [-- MODULE [ARGUMENT..]]`.

#![expect(clippy::print_stdout, reason = "it is a tool for people")]

use std::process::ExitCode;
use std::time::Duration;

use tally_protocol::unit::{Limits, Outcome};
use tally_sandbox::{Batch, Program, Sandbox, SandboxConfig, UnitRun, UnitSpec};

fn main() -> ExitCode {
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    let mut sandbox = Sandbox::spawn(SandboxConfig {
        priority: tally_sandbox::Priority::Normal,
        ..SandboxConfig::default()
    })
    .expect("a sandbox");
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some((module, args)) = given.split_first() {
        let program = read(module);
        let input = if args.iter().any(|arg| arg == "--radius") {
            tile()
        } else {
            text()
        };
        let params = if args.iter().any(|arg| arg == "--radius") {
            "1024 1024 0 0 1024 1024"
        } else {
            ""
        };
        print(
            module,
            &fastest(&mut sandbox, &program, args, params, &input),
        );
        return ExitCode::SUCCESS;
    }
    for name in ["sieve", "mandelbrot", "hash", "blur"] {
        let path = format!("{}/examples/kernels/{name}.wat", env!("CARGO_MANIFEST_DIR"));
        print(name, &fastest(&mut sandbox, &read(&path), &[], "", b""));
    }
    for (name, body) in OPERATORS {
        let run = fastest(&mut sandbox, &operator(body), &[], "", b"");
        let nanos = run.run_time.as_secs_f64() * 1e9 / f64::from(TURNS * COPIES);
        println!(
            "{name:28} {nanos:6.2} ns {:6.1} fuel {:6.2} G/s",
            fuel_per_copy(&run),
            rate(&run)
        );
    }
    ExitCode::SUCCESS
}

/// Turns of the loop around an operator, and its copies in one turn.
const TURNS: u32 = 2_000_000;
const COPIES: u32 = 16;

/// Chains of one operator: each works on the result of the one before.
const OPERATORS: [(&str, &str); 33] = [
    (
        "i64.add",
        "(local.set $x (i64.add (local.get $x) (local.get $y)))",
    ),
    (
        "i64.xor",
        "(local.set $x (i64.xor (local.get $x) (local.get $y)))",
    ),
    (
        "i64.shl",
        "(local.set $x (i64.shl (local.get $x) (local.get $y)))",
    ),
    (
        "i64.rotl const",
        "(local.set $x (i64.rotl (local.get $x) (i64.const 7)))",
    ),
    (
        "i64.mul",
        "(local.set $x (i64.mul (local.get $x) (local.get $y)))",
    ),
    (
        "i32.mul",
        "(local.set $i (i32.mul (local.get $i) (i32.const 77777)))",
    ),
    ("i64.popcnt", "(local.set $x (i64.popcnt (local.get $x)))"),
    ("i64.clz", "(local.set $x (i64.clz (local.get $x)))"),
    (
        "i64.div_u",
        "(local.set $x (i64.div_u (local.get $z) (i64.or (local.get $x) (i64.const 3))))",
    ),
    (
        "i64.rem_s",
        "(local.set $x (i64.rem_s (local.get $z) (i64.or (local.get $x) (i64.const 3))))",
    ),
    (
        "i32.div_u",
        "(local.set $i (i32.div_u (i32.const -7) (i32.or (local.get $i) (i32.const 3))))",
    ),
    (
        "i64.eq, select",
        "(local.set $x (select (local.get $x) (local.get $z) (i64.eq (local.get $x) (local.get $y))))",
    ),
    (
        "i64.load",
        "(local.set $i (i32.wrap_i64 (i64.load (local.get $i))))",
    ),
    (
        "i64.store",
        "(i64.store (local.get $j) (local.get $x)) (local.set $j (i32.xor (local.get $j) (i32.const 64)))",
    ),
    (
        "i64.load beside each other",
        "(local.set $x (i64.xor (local.get $x) (i64.load (i32.and (i32.wrap_i64 (local.get $x)) (i32.const 4088)))))",
    ),
    (
        "global.get, global.set",
        "(global.set $g (i64.add (global.get $g) (i64.const 1)))",
    ),
    ("call", "(local.set $x (call $same (local.get $x)))"),
    (
        "call_indirect",
        "(local.set $x (call_indirect (type $t) (local.get $x) (i32.const 0)))",
    ),
    (
        "br_table",
        "(block (block (block (br_table 0 1 2 (local.get $i)))))",
    ),
    (
        "f64.add",
        "(local.set $f (f64.add (local.get $f) (local.get $h)))",
    ),
    (
        "f64.mul",
        "(local.set $f (f64.mul (local.get $f) (local.get $h)))",
    ),
    (
        "f64.div",
        "(local.set $f (f64.div (local.get $f) (local.get $h)))",
    ),
    ("f64.sqrt", "(local.set $f (f64.sqrt (local.get $f)))"),
    (
        "f64.min",
        "(local.set $f (f64.min (local.get $f) (local.get $h)))",
    ),
    ("f64.floor", "(local.set $f (f64.floor (local.get $f)))"),
    ("f64.abs", "(local.set $f (f64.abs (local.get $f)))"),
    (
        "f32.add",
        "(local.set $e (f32.add (local.get $e) (f32.const 1.5)))",
    ),
    (
        "i64.trunc_sat, f64.convert",
        "(local.set $f (f64.convert_i64_s (i64.trunc_sat_f64_s (local.get $f))))",
    ),
    (
        "i32x4.add",
        "(local.set $v (i32x4.add (local.get $v) (local.get $w)))",
    ),
    (
        "i16x8.mul",
        "(local.set $v (i16x8.mul (local.get $v) (local.get $w)))",
    ),
    (
        "i8x16.shuffle",
        "(local.set $v (i8x16.shuffle 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 0 (local.get $v) (local.get $w)))",
    ),
    (
        "f32x4.add",
        "(local.set $v (f32x4.add (local.get $v) (local.get $w)))",
    ),
    (
        "f64x2.mul",
        "(local.set $v (f64x2.mul (local.get $v) (local.get $w)))",
    ),
];

/// A program that runs `body` many times.
fn operator(body: &str) -> Program {
    let copies = body.repeat(COPIES as usize);
    program(&format!(
        "(module (memory (export \"memory\") 1) (type $t (func (param i64) (result i64)))
           (table 1 funcref) (elem (i32.const 0) $same) (global $g (mut i64) (i64.const 0x9e3779b97f4a7c15)) (global $k (mut i32) (i32.const 0))
           (func $same (param i64) (result i64) local.get 0)
           (func (export \"_start\")
             (local $n i32) (local $i i32) (local $j i32) (local $x i64) (local $y i64) (local $z i64)
             (local $e f32) (local $f f64) (local $h f64) (local $v v128) (local $w v128)
             (local.set $x (global.get $g)) (local.set $z (global.get $g))
             (local.set $y (i64.shr_u (global.get $g) (i64.const 20)))
             (local.set $i (global.get $k)) (local.set $j (global.get $k))
             (local.set $v (i64x2.splat (local.get $x))) (local.set $w (i64x2.splat (local.get $y)))
             (local.set $f (f64.const 1.25)) (local.set $h (f64.const 1.0000001)) (local.set $e (f32.const 1))
             (loop $again {copies}
               (local.set $n (i32.add (local.get $n) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $n) (i32.const {TURNS}))))
             (i64.store (i32.const 128) (i64.add (local.get $x) (local.get $y)))
             (i32.store (i32.const 136) (local.get $i))
             (f64.store (i32.const 144) (local.get $f)) (f32.store (i32.const 152) (local.get $e))
             (v128.store (i32.const 160) (local.get $v))))"
    ))
}

fn read(path: &str) -> Program {
    let bytes = std::fs::read(path).expect("a module");
    if path.ends_with(".wat") {
        program(&String::from_utf8(bytes).expect("text"))
    } else {
        Program::new(bytes.into())
    }
}

fn program(text: &str) -> Program {
    Program::new(wat::parse_str(text).expect("a valid module").into())
}

fn tile() -> Vec<u8> {
    (0..1024 * 1024 * 4u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

fn text() -> Vec<u8> {
    "the quick brown fox jumps over the lazy dog and so on\n"
        .repeat(400_000)
        .into_bytes()
}

fn fastest(
    sandbox: &mut Sandbox,
    program: &Program,
    args: &[String],
    params: &str,
    input: &[u8],
) -> UnitRun {
    sandbox
        .input(input.len())
        .expect("room for the input")
        .copy_from_slice(input);
    let limits = Limits {
        fuel: u64::MAX,
        memory_bytes: 1 << 30,
        output_bytes: 64 << 20,
    };
    let unit = UnitSpec {
        index: 0,
        params: params.to_owned(),
        input: 0..input.len(),
    };
    let units = vec![unit; 4];
    let batch = Batch {
        program,
        args,
        unit_count: 1,
        seed: [0; 32],
        limits,
        units: &units,
    };
    let mut runs = Vec::new();
    let report = sandbox
        .run(&batch, &mut |run| runs.push(run))
        .expect("a run");
    let best = runs
        .into_iter()
        .min_by_key(|run| run.run_time)
        .expect("four runs");
    assert_eq!(
        best.result,
        Ok(Outcome::Done),
        "{report:?} {}",
        String::from_utf8_lossy(&best.stderr)
    );
    best
}

fn print(name: &str, run: &UnitRun) {
    let millis = run.run_time.as_secs_f64() * 1e3;
    println!(
        "{name:28} {:>14} fuel {millis:9.2} ms {:6.2} G/s",
        run.fuel,
        rate(run)
    );
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn rate(run: &UnitRun) -> f64 {
    run.fuel as f64 / run.run_time.max(Duration::from_nanos(1)).as_secs_f64() / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "a price for people to read")]
fn fuel_per_copy(run: &UnitRun) -> f64 {
    run.fuel as f64 / f64::from(TURNS * COPIES)
}
