//! Fuel to the unit, and the name of the profile that it belongs to. If one of these moves, owners would be paid
//! differently for the same work: then the profile needs a new id, not the test a new number.

use tally_protocol::unit::Outcome;
use tally_sandbox::{profile, profile_text};

use crate::common::{guest, program, run_one, sandbox};
use crate::script::script;

#[test]
fn the_profile_has_its_name() {
    assert_eq!(profile().as_str(), "wt48.0/cl/wasi1/2d5fff6ef36b");
    assert!(profile_text().starts_with("engine wasmtime 48.0 cranelift, NaNs canonical\n"));
}

#[test]
fn small_programs_cost_what_they_always_did() {
    let command = |body: &str| {
        program(&format!(
            "(module (memory (export \"memory\") 2) (func (export \"_start\") (local $i i32) (local $f f64) {body}))"
        ))
    };
    let count = |body: &str| {
        format!(
            "(loop {body} (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))"
        )
    };
    let cases = [
        ("nothing", command(""), 1),
        ("count to 1000", command(&count("")), 3_001),
        (
            "loads and stores",
            command(&count(
                "(i32.store (local.get $i) (i32.load offset=8 (local.get $i)))",
            )),
            8_001,
        ),
        (
            "floats",
            command(&count(
                "(local.set $f (f64.add (f64.mul (local.get $f) (f64.const 3)) (f64.const 1)))",
            )),
            23_001,
        ),
        (
            "division",
            command(&count(
                "(local.set $i (i32.sub (local.get $i) (i32.rem_u (local.get $i) (i32.const 1))))",
            )),
            20_001,
        ),
        (
            "fill",
            command("(memory.fill (i32.const 0) (i32.const 1) (i32.const 100000))"),
            100_041,
        ),
        ("grow", command("(drop (memory.grow (i32.const 3)))"), 1_021),
        (
            "vectors",
            command(&count(
                "(v128.store (i32.const 0) (i16x8.add (v128.load (i32.const 16)) (v128.load (i32.const 32))))",
            )),
            8_001,
        ),
        ("host call", script("(drop (call $sched_yield))"), 446),
        (
            "1000 random bytes",
            script("(drop (call $random_get (i32.const 0) (i32.const 1000)))"),
            1_446,
        ),
        ("echo of 5 bytes", guest("echo"), 695),
        ("kernel echo of 5 bytes", guest("kernel-echo"), 30),
    ];
    let mut sandbox = sandbox();
    let found: Vec<_> = cases
        .iter()
        .map(|(name, program, _)| {
            let run = run_one(&mut sandbox, program, b"hello");
            assert_eq!(run.result, Ok(Outcome::Done), "{name}");
            (*name, run.fuel)
        })
        .collect();
    let expected: Vec<_> = cases.iter().map(|(name, _, fuel)| (*name, *fuel)).collect();
    assert_eq!(found, expected);
}
