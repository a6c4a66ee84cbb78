//! Modules that are small to send and dear to compile.

use std::fmt::Write as _;
use std::time::Duration;

use tally_protocol::unit::{Fault, Outcome};
use tally_sandbox::{Program, Sandbox, SandboxConfig, TestHooks, check};

use crate::common::{LIMITS, config, program, run_with, sandbox};
use crate::hostile::goes_on;

/// A module around some functions.
fn module(inner: &str) -> Program {
    program(&format!(
        "(module (memory (export \"memory\") 4096) {inner} (func (export \"_start\")))"
    ))
}

fn nested_blocks(depth: usize) -> Program {
    module(&format!(
        "(func {} {})",
        "block ".repeat(depth),
        "end ".repeat(depth)
    ))
}

fn locals(functions: usize, locals: usize) -> Program {
    // The binary form is a few bytes a function; as text it would be megabytes.
    let leb = |n: usize| {
        let [low, middle, high, ..] =
            ((n & 0x7f) | (n & 0x3f80) << 1 | (n & 0x1f_c000) << 2).to_le_bytes();
        vec![low | 0x80, middle | 0x80, high]
    };
    let section = |id: u8, body: Vec<u8>| [vec![id], leb(body.len()), body].concat();
    let body = [vec![1], leb(locals), vec![0x7f, 0x0b]].concat();
    let body = [leb(body.len()), body].concat();
    let start = vec![2, 0, 0x0b];
    let bytes = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 0, 0]),
        section(3, [leb(functions + 1), vec![0; functions + 1]].concat()),
        section(5, vec![1, 0, 1]),
        section(
            7,
            [
                vec![2, 6],
                b"memory".to_vec(),
                vec![2, 0, 6],
                b"_start".to_vec(),
                vec![0, 0],
            ]
            .concat(),
        ),
        section(
            10,
            [leb(functions + 1), start, body.repeat(functions)].concat(),
        ),
    ];
    Program::new(bytes.concat().into())
}

fn scattered_data(segments: u32) -> Program {
    let mut text = String::new();
    for i in 0..segments {
        write!(text, "(data (i32.const {}) \"x\")", i * 2700).unwrap();
    }
    module(&text)
}

fn loops(blocks: usize, locals: usize) -> Program {
    let mut text = format!("(func (param i32) (local {})", "i32 ".repeat(locals - 1));
    for i in 0..blocks {
        let (a, b, c) = (i * 7 % locals, i * 13 % locals, i % locals);
        write!(
            text,
            "(loop (local.set {a} (local.get {b})) (br_if 0 (local.get {c})))"
        )
        .unwrap();
    }
    module(&(text + ")"))
}

/// Loops one after another through which sixteen values pass, in four bytes each.
fn wide_loops(loops: usize) -> Program {
    let (types, values) = ("i32 ".repeat(16), "(local.get 0)".repeat(16));
    let body = format!("(loop (param {types}) (result {types}))").repeat(loops);
    module(&format!(
        "(func (param i32) {values} {body} {})",
        "drop ".repeat(16)
    ))
}

/// Branches that each carry sixteen values to the end of a block.
fn wide_branches(branches: usize) -> Program {
    let (types, values) = ("i32 ".repeat(16), "(local.get 0)".repeat(16));
    let body = "(br_if 0 (local.get 0))".repeat(branches);
    module(&format!(
        "(func (param i32) (block (result {types}) {values} {body}) {})",
        "drop ".repeat(16)
    ))
}

fn branch_tables(targets: usize) -> Program {
    module(&format!(
        "(func (block (br_table {} (i32.const 0))))",
        "0 ".repeat(targets)
    ))
}

#[test]
fn bombs_are_refused_before_they_are_compiled() {
    let bombs = [
        (nested_blocks(10_000), "nested blocks"),
        (nested_blocks(80_000), "nested blocks"),
        (locals(300, 49_000), "locals in one function"),
        (locals(4_000, 49_000), "locals in one function"),
        (locals(4_000, 1_999), "locals in all functions"),
        (module(&"(func)".repeat(300_000)), "functions"),
        (scattered_data(90_000), "data segments"),
        (scattered_data(20_000), "data segments far apart"),
        (
            loops(10_000, 1_000),
            "possible values at the joins of one function",
        ),
        (
            branch_tables(20_000),
            "branch table targets in one function",
        ),
        (
            module(&format!(
                "(func {})",
                "(drop (i32.const 7))".repeat(400_000)
            )),
            "bytes in one function",
        ),
        (
            module(
                &(0..10_000)
                    .map(|i| format!("(type (func (param {})))", "i32 ".repeat(i % 900)))
                    .collect::<String>(),
            ),
            "types",
        ),
        (
            wide_loops(200_000),
            "possible values at the joins of one function",
        ),
        (
            wide_branches(258_000),
            "possible values at the joins of one function",
        ),
        (
            module(&format!(
                "(func (result {}) unreachable)",
                "i32 ".repeat(17)
            )),
            "results of one function",
        ),
        (
            module(&format!("(func (param {}))", "i32 ".repeat(256))),
            "parameters of one function",
        ),
        (module(&"(table 100000 funcref)".repeat(11)), "tables"),
        (Program::new(vec![0; 33 << 20].into()), "bytes"),
    ];
    let mut sandbox = sandbox();
    for (bomb, what) in bombs {
        let refusal = check(bomb.module()).unwrap_err().to_string();
        assert!(refusal.contains(&format!(" {what}; at most ")), "{refusal}");
        let before = sandbox.handle().cpu_time();
        let (runs, _) = run_with(&mut sandbox, &bomb, LIMITS, &[], &[("", b"")]);
        assert_eq!(runs[0].result, Ok(Outcome::Refused));
        let spent = sandbox.handle().cpu_time() - before;
        assert!(spent < Duration::from_secs(1), "{what}: {spent:?}");
    }
    goes_on(&mut sandbox);
}

/// A sandbox that compiles without a look, within small limits.
fn unchecked() -> Sandbox {
    Sandbox::spawn(SandboxConfig {
        compile_time_max: Duration::from_secs(2),
        compile_memory_bytes_max: 1 << 30,
        hooks: TestHooks::without_check(),
        ..config()
    })
    .unwrap()
}

fn ends_at_the_child_s_limits(bomb: &Program) -> String {
    let mut sandbox = unchecked();
    let (runs, report) = run_with(&mut sandbox, bomb, LIMITS, &[], &[("", b""), ("", b"")]);
    assert_eq!(
        [runs[0].result, runs[1].result],
        [Err(Fault::CompileLimit); 2]
    );
    let spent = sandbox.handle().cpu_time();
    assert!(spent < Duration::from_secs(10), "{spent:?}");
    // The second time it is known, and nobody tries.
    let (runs, second) = run_with(&mut sandbox, bomb, LIMITS, &[], &[("", b"")]);
    assert_eq!(runs[0].result, Err(Fault::CompileLimit));
    assert!(second.deaths.is_empty(), "{second:?}");
    assert_eq!(sandbox.handle().cpu_time(), spent);
    goes_on(&mut sandbox);
    assert_eq!(report.deaths.len(), 1);
    report.deaths[0].clone()
}

#[test]
fn a_bomb_of_time_ends_at_the_limit_of_processor_time() {
    let death = ends_at_the_child_s_limits(&loops(10_000, 2_000));
    assert!(
        death.starts_with("over the time limit while compiling"),
        "{death}"
    );
}

#[test]
fn a_bomb_of_memory_ends_at_the_limit_of_memory() {
    let death = ends_at_the_child_s_limits(&locals(4_000, 49_000));
    assert!(death.contains("while compiling"), "{death}");
}
