//! Programs that attack their host. Each is contained, and the sandbox runs an honest unit afterwards.

use std::time::Duration;

use tally_protocol::unit::{Fault, Limits, Outcome, Trap};
use tally_sandbox::{Program, Sandbox, UnitRun};

use crate::common::{LIMITS, guest, program, run_one, run_with, sandbox};
use crate::script::{imports, script};

/// Runs an attack within seconds of processor time, then an honest unit in the same child.
fn attack(program: &Program) -> UnitRun {
    attack_with(program, LIMITS)
}

fn attack_with(program: &Program, limits: Limits) -> UnitRun {
    let mut sandbox = sandbox();
    let (mut runs, report) = run_with(&mut sandbox, program, limits, &[], &[("", b"")]);
    assert!(report.deaths.is_empty(), "{report:?}");
    assert!(
        sandbox.handle().cpu_time() < Duration::from_secs(30),
        "{:?}",
        sandbox.handle().cpu_time()
    );
    goes_on(&mut sandbox);
    runs.remove(0)
}

pub(crate) fn goes_on(sandbox: &mut Sandbox) {
    let run = run_one(sandbox, &guest("echo"), b"still here");
    assert_eq!(
        (run.result, run.output.as_slice()),
        (Ok(Outcome::Done), &b"still here"[..])
    );
}

/// A command of one page.
fn command(body: &str) -> Program {
    program(&format!(
        "(module (memory (export \"memory\") 1) (func (export \"_start\") {body}))"
    ))
}

fn assert_out_of_fuel(run: &UnitRun) {
    assert_eq!(
        (run.result, run.fuel, run.output.len()),
        (Ok(Outcome::OutOfFuel), LIMITS.fuel, 0)
    );
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    assert_out_of_fuel(&attack(&command("(loop (br 0))")));
}

#[test]
fn an_endless_start_function_runs_out_of_fuel() {
    let text = "(module (memory (export \"memory\") 1) (start $s) (func $s (loop (br 0))) (func (export \"_start\")))";
    assert_out_of_fuel(&attack(&program(text)));
}

#[test]
fn a_tree_of_calls_runs_out_of_fuel() {
    let levels: String = (0..40)
        .map(|i| format!("(func $f{i} (call $f{0}) (call $f{0}))", i + 1))
        .collect();
    let text = format!(
        "(module (memory (export \"memory\") 1) {levels} (func $f40) (func (export \"_start\") (call $f0)))"
    );
    assert_out_of_fuel(&attack(&program(&text)));
}

#[test]
fn endless_recursion_is_a_fault() {
    let text = "(module (memory (export \"memory\") 1) (func $f (call $f) (call $f)) (func (export \"_start\") (call $f)))";
    assert_eq!(attack(&program(text)).result, Err(Fault::StackOverflow));
}

#[test]
fn growing_memory_stops_at_the_limit_and_is_dear() {
    let grow = "(local $i i32) (loop (drop (memory.grow (i32.const 1))) (br 0))";
    assert_out_of_fuel(&attack(&command(grow)));
    // Beyond 1,600 pages growth gives -1, and the memory that is there works to its end.
    let probe = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (memory.size))
        (call $report (memory.size)) (call $report (memory.grow (i32.const 65535)))";
    let limits = Limits {
        memory_bytes: 100 << 20,
        ..LIMITS
    };
    let run = attack_with(&script(probe), limits);
    assert_eq!(crate::script::reported(&run.output), [1587, u32::MAX]);
}

#[test]
fn filling_memory_is_charged_by_the_byte() {
    let text = "(module (memory (export \"memory\") 3200)
        (func (export \"_start\") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 200000000)) (br 0))))";
    assert_out_of_fuel(&attack(&program(text)));
}

#[test]
fn copying_memory_is_charged_by_the_byte() {
    let text = "(module (memory (export \"memory\") 3200)
        (func (export \"_start\")
          (loop (memory.copy (i32.const 0) (i32.const 100000000) (i32.const 100000000)) (br 0))))";
    assert_out_of_fuel(&attack(&program(text)));
}

#[test]
fn growing_tables_stops_at_the_limit() {
    let text = "(module (memory (export \"memory\") 1) (table $t 1 funcref)
        (func (export \"_start\")
          (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
          (if (i32.ne (table.size $t) (i32.const 99001)) (then unreachable))
          (loop (drop (table.grow $t (ref.null func) (i32.const 1000000000))) (br 0))))";
    assert_out_of_fuel(&attack(&program(text)));
}

#[test]
fn a_flood_of_output_ends_at_its_limit() {
    let flood = "(i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 65536))
        (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))";
    let run = attack(&script(flood));
    assert_eq!(
        (run.result, run.output.len()),
        (Ok(Outcome::OutputLimit), 0)
    );
}

#[test]
fn a_flood_of_diagnostics_runs_out_of_fuel() {
    let flood = "(i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 65536))
        (loop (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))";
    let run = attack(&script(flood));
    assert_out_of_fuel(&run);
    assert_eq!(run.stderr.len(), 64 << 10);
}

#[test]
fn empty_host_calls_run_out_of_fuel() {
    let calls = "(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))) (br 0))";
    assert_out_of_fuel(&attack(&script(calls)));
    assert_out_of_fuel(&attack(&script("(loop (drop (call $sched_yield)) (br 0))")));
    let path =
        "(loop (drop (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 0))) (br 0))";
    assert_out_of_fuel(&attack(&script(path)));
}

#[test]
fn long_lists_of_buffers_are_charged() {
    // 24 MiB of buffer entries, all of one byte that is dropped on standard error.
    let text = format!(
        "(module {} (memory (export \"memory\") 400)
           (func (export \"_start\") (local $i i32)
             (loop (i32.store (i32.add (local.get $i) (i32.const 4)) (i32.const 1))
               (local.set $i (i32.add (local.get $i) (i32.const 8)))
               (br_if 0 (i32.lt_u (local.get $i) (i32.const 24000000))))
             (loop (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 3000000) (i32.const 24000000))) (br 0))))",
        imports()
    );
    assert_out_of_fuel(&attack(&program(&text)));
}

#[test]
fn endless_randomness_is_charged_by_the_byte() {
    assert_out_of_fuel(&attack(&script(
        "(loop (drop (call $random_get (i32.const 0) (i32.const 65000))) (br 0))",
    )));
}

#[test]
fn sleeping_for_centuries_ends_at_once() {
    let sleep = "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const -1))
        (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048)))
        (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048)))
        (call $report (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))";
    assert_eq!(attack(&script(sleep)).result, Ok(Outcome::Done));
}

#[test]
fn reaching_for_the_host_s_memory_traps() {
    for address in ["0x7fffffff", "0x80000000", "0xfffffffc"] {
        for (access, limit) in [("i32.load", 0u64), ("i32.load offset=0xffffffff", 0)] {
            let run = attack(&command(&format!(
                "(drop ({access} (i32.const {address})))"
            )));
            assert_eq!(
                (run.result, run.fuel),
                (Ok(Outcome::Trap(Trap::MemoryOutOfBounds)), limit + run.fuel)
            );
        }
    }
}

#[test]
fn nans_have_one_pattern() {
    // 0/0, inf-inf, a NaN with a payload times 1, min of NaNs, sqrt(-1) and a vector lane.
    let bits = |expression: &str| format!("(call $report (i32.reinterpret_f32 {expression}))");
    let payload = "(f32.reinterpret_i32 (i32.load (i32.const 0)))";
    let body = [
        "(i32.store (i32.const 0) (i32.const 0xffc12345))".to_owned(),
        bits("(f32.div (f32.convert_i32_u (i32.load (i32.const 8))) (f32.const 0))"),
        bits(&format!("(f32.mul {payload} (f32.const 1))")),
        bits(&format!("(f32.add {payload} {payload})")),
        bits(&format!("(f32.min {payload} (f32.const 1))")),
        bits("(f32.sqrt (f32.convert_i32_s (i32.sub (i32.load (i32.const 8)) (i32.const 1))))"),
        bits(&format!("(f32.demote_f64 (f64.promote_f32 {payload}))")),
        bits(&format!(
            "(f32x4.extract_lane 2 (f32x4.add (f32x4.splat {payload}) (f32x4.splat {payload})))"
        )),
    ]
    .concat();
    let run = attack(&script(&body));
    assert_eq!(crate::script::reported(&run.output), [0x7fc0_0000; 7]);
}
