//! The two ABIs, batches, and what ends a run.

use tally_protocol::unit::{Limits, Outcome, Trap};
use tally_sandbox::{Abi, check};

use crate::common::{LIMITS, fill, guest, program, run_one, run_with, sandbox};
use crate::script::script;

#[test]
fn units_of_a_batch_are_reported_in_order_with_their_own_input() {
    let inputs: Vec<Vec<u8>> = (0..3000u32)
        .map(|i| i.to_string().repeat(200).into_bytes())
        .collect();
    let units: Vec<(&str, &[u8])> = inputs.iter().map(|input| ("", input.as_slice())).collect();
    let (runs, report) = run_with(&mut sandbox(), &guest("echo"), LIMITS, &[], &units);
    for (index, (run, input)) in runs.iter().zip(&inputs).enumerate() {
        assert_eq!(run.index as usize, index);
        assert_eq!(run.result, Ok(Outcome::Done));
        assert_eq!(&run.output, input);
    }
    assert!(
        report.deaths.is_empty() && report.refusal.is_none(),
        "{report:?}"
    );
}

#[test]
fn a_unit_sees_nothing_of_the_one_before() {
    // Each writes all over 20 MiB, its globals and its table, having found them fresh.
    let stain = |data: &str| {
        program(&format!(
            "(module (memory (export \"memory\") 20) (data (i32.const 70000) \"{data}\")
               (global $g (mut i64) (i64.const 7)) (table $t 1000 funcref) (elem $e declare func $f) (func $f)
               (func $empty (param $i i32) (param $end i32)
                 (loop
                   (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
                   (i64.store (local.get $i) (i64.const -1))
                   (local.set $i (i32.add (local.get $i) (i32.const 8)))
                   (br_if 0 (i32.lt_u (local.get $i) (local.get $end)))))
               (func (export \"_start\") (local $i i32)
                 (if (i64.ne (global.get $g) (i64.const 7)) (then unreachable))
                 (global.set $g (i64.const 8))
                 (if (i32.ne (memory.size) (i32.const 20)) (then unreachable))
                 (drop (memory.grow (i32.const 300)))
                 (if (i32.ne (i32.load8_u (i32.const 70000)) (i32.const {})) (then unreachable))
                 (call $empty (i32.const 0) (i32.const 70000))
                 (call $empty (i32.const 70008) (i32.const 20971520))
                 (i64.store (i32.const 70000) (i64.const -1))
                 (loop
                   (if (i32.eqz (ref.is_null (table.get $t (local.get $i)))) (then unreachable))
                   (table.set $t (local.get $i) (ref.func $f))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))))",
            data.as_bytes()[0]
        ))
    };
    let mut sandbox = sandbox();
    for program in [stain("a"), stain("b"), stain("a")] {
        let (runs, _) = run_with(
            &mut sandbox,
            &program,
            LIMITS,
            &[],
            &[("", b""), ("", b""), ("", b"")],
        );
        assert!(
            runs.iter().all(|run| run.result == Ok(Outcome::Done)),
            "{runs:?}"
        );
    }
}

#[test]
fn a_program_as_large_as_allowed_runs() {
    let functions: String = (0..49_999).map(|i| format!("(func $f{i})")).collect();
    let names: String = (0..49_999).map(|i| format!("$f{i} ")).collect();
    let globals = "(global (mut v128) (v128.const i64x2 1 2))".repeat(10_000);
    let tables = "(table 100000 funcref)".repeat(9);
    let text = format!(
        "(module (memory (export \"memory\") 4096) (table 100000 funcref) {tables} (elem (i32.const 0) {names})
           {globals} {functions} (func (export \"_start\")))"
    );
    assert_eq!(
        run_one(&mut sandbox(), &program(&text), b"").result,
        Ok(Outcome::Done)
    );
}

#[test]
fn large_inputs_and_outputs_pass_unharmed() {
    let input: Vec<u8> = (0..64u32 << 18)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let run = run_one(&mut sandbox(), &guest("echo"), &input);
    assert_eq!(run.result, Ok(Outcome::Done));
    assert!(run.output == input, "64 MiB come back as they went in");
}

#[test]
fn a_kernel_gets_one_buffer_and_gives_one_back() {
    let mut sandbox = sandbox();
    let kernel = guest("kernel-echo");
    assert_eq!(check(kernel.module()).unwrap().abi, Abi::Kernel);
    let units: [(&str, &[u8]); 3] = [("1 2", b"input"), ("", b""), ("", b"x")];
    let (runs, _) = run_with(&mut sandbox, &kernel, LIMITS, &["--radius", "3"], &units);
    assert_eq!(runs[0].result, Ok(Outcome::Done));
    assert_eq!(runs[0].output, b"\x0e\0\0\0--radius\x003\x001 2input");
    assert_eq!(runs[1].output, b"\x0a\0\0\0--radius\x003");
    let (runs, _) = run_with(&mut sandbox, &kernel, LIMITS, &[], &units);
    assert_eq!(runs[0].output, b"\x04\0\0\0\x001 2input");
    assert_eq!(runs[2].output, b"\0\0\0\0x");
}

#[test]
fn a_kernel_that_breaks_the_abi_traps() {
    let mut sandbox = sandbox();
    let kernel = |alloc: &str, run: &str| {
        program(&format!(
            "(module (memory (export \"memory\") 1)
               (func (export \"alloc\") (param i32) (result i32) {alloc})
               (func (export \"run\") (param i32 i32) (result i64) {run}))"
        ))
    };
    let cases = [
        (
            "(i32.const 65536)",
            "(i64.const 0)",
            Outcome::Trap(Trap::Abi),
        ),
        ("(i32.const -1)", "(i64.const 0)", Outcome::Trap(Trap::Abi)),
        (
            "(i32.const 0)",
            "(i64.const 0x0000ffff00000002)",
            Outcome::Trap(Trap::Abi),
        ),
        (
            "(i32.const 0)",
            "(i64.const 0x00000000ffffffff)",
            Outcome::OutOfFuel,
        ),
        (
            "(i32.const 0)",
            "(i64.const 0x0000ffff00000001)",
            Outcome::Done,
        ),
        (
            "(i32.const 0)",
            "unreachable",
            Outcome::Trap(Trap::Unreachable),
        ),
    ];
    for (alloc, run, outcome) in cases {
        let end = run_one(&mut sandbox, &kernel(alloc, run), b"input");
        assert_eq!(end.result, Ok(outcome), "{alloc} {run}");
    }
}

#[test]
fn output_ends_at_its_limit() {
    let mut sandbox = sandbox();
    for program in [guest("echo"), guest("kernel-echo")] {
        let head = if program.id() == guest("echo").id() {
            0
        } else {
            4
        };
        let limits = Limits {
            output_bytes: 100 + head,
            ..LIMITS
        };
        let units: [(&str, &[u8]); 2] = [("", &[1; 100]), ("", &[1; 101])];
        let (runs, _) = run_with(&mut sandbox, &program, limits, &[], &units);
        assert_eq!(runs[0].result, Ok(Outcome::Done));
        assert_eq!(runs[1].result, Ok(Outcome::OutputLimit));
        assert!(runs[1].output.is_empty());
    }
}

#[test]
fn standard_error_is_cut_and_never_fails() {
    let body = "(local $i i32)
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
        (memory.fill (i32.const 64) (i32.const 101) (i32.const 60000))
        (loop $again
          (call $report (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $report (i32.load (i32.const 8)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $i) (i32.const 3))))";
    let run = run_one(&mut sandbox(), &script(body), b"");
    assert_eq!(run.result, Ok(Outcome::Done));
    assert_eq!(run.stderr, vec![b'e'; 64 << 10]);
    assert_eq!(
        crate::script::reported(&run.output),
        [0, 60_000, 0, 60_000, 0, 60_000]
    );
}

#[test]
fn what_a_trap_leaves_behind_is_dropped_but_for_diagnostics() {
    let body = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (i32.div_u (i32.const 1) (i32.const 0)))";
    let run = run_one(&mut sandbox(), &script(body), b"");
    assert_eq!(run.result, Ok(Outcome::Trap(Trap::Arithmetic)));
    assert_eq!((run.output.len(), run.stderr.len()), (0, 5));
    assert!(run.fuel > 0);
}

#[test]
fn each_trap_has_its_outcome() {
    let cases = [
        ("unreachable", Trap::Unreachable),
        (
            "(drop (i32.load (i32.const 65536)))",
            Trap::MemoryOutOfBounds,
        ),
        (
            "(memory.fill (i32.const 65000) (i32.const 0) (i32.const 1000))",
            Trap::MemoryOutOfBounds,
        ),
        (
            "(drop (table.get $t (i32.const 5)))",
            Trap::TableOutOfBounds,
        ),
        (
            "(call_indirect (type $v) (i32.const 0))",
            Trap::IndirectCall,
        ),
        (
            "(call_indirect (type $v) (i32.const 1))",
            Trap::IndirectCall,
        ),
        (
            "(call_indirect (type $v) (i32.const 9))",
            Trap::TableOutOfBounds,
        ),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
            Trap::Arithmetic,
        ),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", Trap::Arithmetic),
    ];
    let mut sandbox = sandbox();
    for (body, trap) in cases {
        let program = program(&format!(
            "(module (memory (export \"memory\") 1) (table $t 2 funcref) (type $v (func))
               (elem (i32.const 1) $other) (func $other (param i32)) (func (export \"_start\") {body}))"
        ));
        assert_eq!(
            run_one(&mut sandbox, &program, b"").result,
            Ok(Outcome::Trap(trap)),
            "{body}"
        );
    }
}

#[test]
fn refused_programs_say_why() {
    let cases = [
        ("(module)", "exports no memory"),
        (
            "(module (memory (export \"memory\") 1))",
            "exports neither _start",
        ),
        (
            "(module (memory (export \"memory\") 1) (func (export \"_initialize\")))",
            "WASI reactor",
        ),
        (
            "(module (import \"env\" \"socket\" (func)))",
            "imports env.socket, which does not exist here; only functions",
        ),
        (
            "(module (import \"wasi_snapshot_preview1\" \"sock_open\" (func)))",
            "sockets are not available",
        ),
        (
            "(module (import \"wasi_unstable\" \"fd_write\" (func)))",
            "build the program for WASI preview 1",
        ),
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_close\" (func)))",
            "it is (i32) -> (i32)",
        ),
        (
            "(module (import \"wasi_snapshot_preview1\" \"memory\" (memory 1)))",
            "no such function",
        ),
        ("(module (tag))", "without exceptions"),
        ("(module (memory i64 1))", "leaves out: memory64"),
        ("(module (memory 1) (memory 1))", "multi"),
        ("(module (memory 1 1 shared))", "leaves out"),
        ("(module (type (struct)))", "leaves out"),
        (
            "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))",
            "relaxed",
        ),
        ("(module (table 100001 funcref))", "100001 table elements"),
    ];
    let mut sandbox = sandbox();
    for (text, reason) in cases {
        let program = program(text);
        let refusal = check(program.module()).unwrap_err().to_string();
        assert!(refusal.contains(reason), "{text}: {refusal}");
        let (runs, report) = run_with(&mut sandbox, &program, LIMITS, &[], &[("", b"")]);
        assert_eq!((runs[0].result, runs[0].fuel), (Ok(Outcome::Refused), 0));
        assert_eq!(report.refusal, Some(refusal));
    }
    assert!(
        check(b"\0asm\x0d\0\x01\0")
            .unwrap_err()
            .to_string()
            .starts_with("is a component")
    );
    let memory = program("(module (memory (export \"memory\") 65536) (func (export \"_start\")))");
    let (runs, report) = run_with(&mut sandbox, &memory, LIMITS, &[], &[("", b"")]);
    assert_eq!(runs[0].result, Ok(Outcome::Refused));
    assert_eq!(
        report.refusal.unwrap(),
        "starts with 4294967296 bytes of memory; the task allows 268435456"
    );
}

#[test]
fn batches_beyond_the_sandbox_are_errors() {
    let mut sandbox = sandbox();
    let echo = guest("echo");
    let units = fill(&mut sandbox, &[("", b"input")]);
    let batch = tally_sandbox::Batch {
        program: &echo,
        args: &[],
        unit_count: 1,
        seed: [0; 32],
        limits: LIMITS,
        units: &units,
    };
    let mut message = |batch: &tally_sandbox::Batch<'_>| {
        sandbox
            .run(batch, &mut |_| panic!("no unit may run"))
            .unwrap_err()
            .to_string()
    };
    let memory = Limits {
        memory_bytes: 1 << 40,
        ..LIMITS
    };
    assert!(
        message(&tally_sandbox::Batch {
            limits: memory,
            ..batch
        })
        .contains("bytes of memory")
    );
    let output = Limits {
        output_bytes: 1 << 40,
        ..LIMITS
    };
    assert!(
        message(&tally_sandbox::Batch {
            limits: output,
            ..batch
        })
        .contains("bytes of output")
    );
    let outside = [tally_sandbox::UnitSpec {
        index: 4,
        params: String::new(),
        input: 3..6,
    }];
    assert!(
        message(&tally_sandbox::Batch {
            units: &outside,
            ..batch
        })
        .contains("unit 4: its input 3..6")
    );
    let args = ["a\0b".to_owned()];
    assert!(
        message(&tally_sandbox::Batch {
            args: &args,
            ..batch
        })
        .contains("NUL")
    );
    assert!(sandbox.input(2 << 30).is_err());
}
