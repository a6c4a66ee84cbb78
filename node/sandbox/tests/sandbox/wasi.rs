//! The WASI host, with the official testsuite's cases that need no directory as the yardstick.

use tally_protocol::unit::Outcome;

use crate::common::{LIMITS, run_one, run_with, sandbox};
use crate::script::{reported, script};

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;
const NOTDIR: u32 = 54;
const NOTSOCK: u32 = 57;
const SPIPE: u32 = 70;
const NOTCAPABLE: u32 = 76;

/// Runs a script without input and returns what it reported.
fn run(body: &str) -> Vec<u32> {
    run_on(body, b"")
}

fn run_on(body: &str, input: &[u8]) -> Vec<u32> {
    let run = run_one(&mut sandbox(), &script(body), input);
    assert_eq!(run.result, Ok(Outcome::Done), "{run:?}");
    reported(&run.output)
}

#[test]
fn arguments_start_with_the_name_unit() {
    let body = "(call $report (call $args_sizes_get (i32.const 0) (i32.const 4)))
        (call $report (i32.load (i32.const 0))) (call $report (i32.load (i32.const 4)))
        (call $report (call $args_get (i32.const 16) (i32.const 64)))
        (call $report (i32.load (i32.const 16))) (call $report (i32.load (i32.const 24)))
        (call $print (i32.const 64) (i32.load (i32.const 4)))";
    let (runs, _) = run_with(
        &mut sandbox(),
        &script(body),
        LIMITS,
        &["first", "the \"second\""],
        &[("", b"")],
    );
    let text = b"unit\0first\0the \"second\"\0";
    assert_eq!(&runs[0].output[..text.len()], text);
    let size = u32::try_from(text.len()).unwrap();
    assert_eq!(
        reported(&runs[0].output[text.len()..]),
        [SUCCESS, 3, size, SUCCESS, 64, 64 + 5 + 6]
    );
}

#[test]
fn the_environment_is_the_unit_s_place_and_nothing_else() {
    let body = "(drop (call $environ_sizes_get (i32.const 0) (i32.const 4)))
        (drop (call $environ_get (i32.const 16) (i32.const 64)))
        (call $print (i32.const 64) (i32.load (i32.const 4)))
        (call $proc_exit (i32.const 0))";
    let units: [(&str, &[u8]); 2] = [("", b""), ("lo=1 hi=2", b"")];
    let (runs, _) = run_with(&mut sandbox(), &script(body), LIMITS, &[], &units);
    assert_eq!(runs[0].output, b"UNIT_INDEX=0\0UNIT_COUNT=10\0");
    assert_eq!(
        runs[1].output,
        b"UNIT_INDEX=1\0UNIT_COUNT=10\0UNIT_PARAMS=lo=1 hi=2\0"
    );
}

#[test]
fn clocks_are_virtual_and_move_a_microsecond_a_look() {
    let read = |clock: u32| {
        format!(
            "(call $report (call $clock_time_get (i32.const {clock}) (i64.const 1) (i32.const 0)))
             (call $report64 (i64.load (i32.const 0)))"
        )
    };
    let out = run(&format!(
        "{} {} {} {} (call $report (call $clock_res_get (i32.const 0) (i32.const 0))) (call $report64 (i64.load (i32.const 0)))
         (call $report (call $clock_res_get (i32.const 4) (i32.const 0)))
         (call $report (call $clock_time_get (i32.const 9) (i64.const 0) (i32.const 0)))",
        read(0),
        read(0),
        read(1),
        read(3)
    ));
    let time = |at: usize| u64::from(out[at + 1]) | u64::from(out[at + 2]) << 32;
    assert_eq!((out[0], time(0)), (SUCCESS, 1_767_225_600_000_000_000));
    assert_eq!(time(3), time(0) + 1_000);
    assert_eq!(time(6), 1_000_002_000);
    assert_eq!(time(9), 3_000);
    assert_eq!(&out[12..], [SUCCESS, 1_000, 0, INVAL, INVAL]);
}

#[test]
fn sleeping_takes_no_time_but_moves_the_clock() {
    // A relative subscription of an hour beside one of a day: only the first is due.
    let out = run(
        "(i64.store (i32.const 0) (i64.const 77)) (i32.store (i32.const 16) (i32.const 1))
         (i64.store (i32.const 24) (i64.const 3600000000000))
         (i64.store (i32.const 48) (i64.const 78)) (i32.store (i32.const 64) (i32.const 0))
         (i64.store (i32.const 72) (i64.const 86400000000000))
         (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 2) (i32.const 2048)))
         (call $report (i32.load (i32.const 2048))) (call $report (i32.load (i32.const 1024)))
         (call $report (i32.load (i32.const 1032)))
         (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 0)))
         (call $report64 (i64.load (i32.const 0)))
         ;; The same clock as a point in time that has passed.
         (i64.store (i32.const 0) (i64.const 79)) (i32.store (i32.const 16) (i32.const 1))
         (i64.store (i32.const 24) (i64.const 5)) (i32.store (i32.const 40) (i32.const 1))
         (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 2048)))
         (call $report (i32.load (i32.const 1024)))",
    );
    let clock = 1_000_000_000_u64 + 3_600_000_000_000;
    let time = u64::from(out[4]) | u64::from(out[5]) << 32;
    assert_eq!(
        (&out[..4], time, &out[6..]),
        (&[SUCCESS, 1, 77, 0][..], clock, &[SUCCESS, 79][..])
    );
}

#[test]
fn streams_are_ready_at_once() {
    let subscribe = |at: u32, user: u32, kind: u32, fd: u32| {
        format!(
            "(i64.store (i32.const {at}) (i64.const {user})) (i32.store8 (i32.const {}) (i32.const {kind}))
             (i32.store (i32.const {}) (i32.const {fd}))",
            at + 8,
            at + 16
        )
    };
    let event = |at: u32| {
        [0, 8, 16]
            .map(|part| format!("(call $report (i32.load (i32.const {})))", at + part))
            .concat()
    };
    // A clock of 200 ms, standard input to read, standard output to write, and a descriptor that is not open.
    let body = format!(
        "{} {} {} {} (i64.store (i32.const 24) (i64.const 200000000))
         (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 4) (i32.const 2048)))
         (call $report (i32.load (i32.const 2048))) {} {} {}
         (call $report (call $poll_oneoff (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 2048)))",
        subscribe(0, 1, 0, 0),
        subscribe(48, 2, 1, 0),
        subscribe(96, 3, 2, 1),
        subscribe(144, 4, 1, 9),
        event(1024),
        event(1056),
        event(1088)
    );
    let out = run_on(&body, b"twelve bytes");
    assert_eq!(out[..2], [SUCCESS, 3]);
    assert_eq!(out[2..5], [2, 1 << 16, 12]);
    assert_eq!(out[5..8], [3, 2 << 16, 0]);
    assert_eq!(out[8..11], [4, 1 << 16 | BADF, 0]);
    assert_eq!(out[11], INVAL);
}

#[test]
fn random_bytes_are_a_stream_of_the_unit() {
    let body = "(call $report (call $random_get (i32.const 0) (i32.const 0)))
        (call $report (call $random_get (i32.const 0) (i32.const 5)))
        (call $report (call $random_get (i32.const 5) (i32.const 11)))
        (call $print (i32.const 0) (i32.const 16))
        (call $report (call $random_get (i32.const 196600) (i32.const 100)))";
    let program = script(body);
    let units: [(&str, &[u8]); 2] = [("", b""), ("", b"")];
    let (runs, _) = run_with(&mut sandbox(), &program, LIMITS, &[], &units);
    let expected = |index: u32| {
        let mut hasher = blake3::Hasher::new_derive_key("tally unit random stream 1");
        hasher.update(&[7; 32]).update(&index.to_le_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    };
    for (index, run) in (0..).zip(&runs) {
        assert_eq!(run.output[..16], expected(index));
        assert_eq!(
            reported(&run.output[16..]),
            [SUCCESS, SUCCESS, SUCCESS, FAULT]
        );
    }
}

#[test]
fn reading_fills_a_list_of_buffers_until_the_end() {
    // Buffers of 2, 0 and 4 bytes; input of 9: reads 6, then 3, then nothing.
    let read =
        "(call $report (call $fd_read (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 64)))
        (call $report (i32.load (i32.const 64))) (call $report (i32.load (i32.const 100)))";
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 2))
         (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 0))
         (i32.store (i32.const 16) (i32.const 102)) (i32.store (i32.const 20) (i32.const 4))
         {read} {read} {read}"
    );
    let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
    let out = run_on(&body, b"abcdefghi");
    assert_eq!(
        out,
        [
            SUCCESS,
            6,
            word(b"abcd"),
            SUCCESS,
            3,
            word(b"ghid"),
            SUCCESS,
            0,
            word(b"ghid")
        ]
    );
}

#[test]
fn streams_go_one_way_and_have_no_position() {
    let body = "(i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 2))
        (call $report (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_read (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_seek (i32.const 0) (i64.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_tell (i32.const 1) (i32.const 64)))
        (call $report (call $fd_pread (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 64)))
        (call $report (call $fd_pwrite (i32.const 1) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 64)))
        (call $report (call $fd_readdir (i32.const 0) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 64)))
        (call $report (call $fd_write (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_write (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 64)))";
    let expected = [
        NOTCAPABLE, NOTCAPABLE, SPIPE, SPIPE, SPIPE, SPIPE, NOTDIR, BADF, BADF,
    ];
    assert_eq!(run(body), expected);
}

#[test]
fn there_are_no_directories_and_no_sockets() {
    let body = "(call $report (call $fd_prestat_get (i32.const 3) (i32.const 0)))
        (call $report (call $fd_prestat_get (i32.const 0) (i32.const 0)))
        (call $report (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)
            (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))
        (call $report (call $path_unlink_file (i32.const 1) (i32.const 0) (i32.const 1)))
        (call $report (call $path_symlink (i32.const 0) (i32.const 1) (i32.const 3) (i32.const 0) (i32.const 1)))
        (call $report (call $sock_shutdown (i32.const 1) (i32.const 1)))
        (call $report (call $sock_shutdown (i32.const 3) (i32.const 1)))
        (call $report (call $sock_accept (i32.const 5) (i32.const 0) (i32.const 0)))
        (call $report (call $proc_raise (i32.const 6)))
        (call $report (call $sched_yield))";
    assert_eq!(
        run(body),
        [
            BADF, BADF, BADF, NOTDIR, BADF, NOTSOCK, BADF, BADF, NOSYS, SUCCESS
        ]
    );
}

#[test]
fn a_stream_is_no_terminal_and_loses_rights_for_good() {
    let body = "(call $report (call $fd_fdstat_get (i32.const 1) (i32.const 0)))
        (call $report (i32.load (i32.const 0))) (call $report64 (i64.load (i32.const 8)))
        (call $report64 (i64.load (i32.const 16)))
        (call $report (call $fd_fdstat_set_flags (i32.const 1) (i32.const 5)))
        (drop (call $fd_fdstat_get (i32.const 1) (i32.const 0)))
        (call $report (i32.load (i32.const 0)))
        (call $report (call $fd_fdstat_set_rights (i32.const 1) (i64.const 2) (i64.const 0)))
        (call $report (call $fd_fdstat_set_rights (i32.const 2) (i64.const 0) (i64.const 0)))
        (call $report (call $fd_write (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 64)))
        (call $report (call $fd_filestat_get (i32.const 0) (i32.const 0)))
        (call $report (i32.load8_u (i32.const 16)))
        (call $report (call $fd_fdstat_get (i32.const 8) (i32.const 0)))";
    let rights = 1 << 3 | 1 << 6 | 1 << 21 | 1 << 27;
    let facts = [
        SUCCESS,
        0,
        rights,
        0,
        0,
        0,
        SUCCESS,
        5 << 16,
        NOTCAPABLE,
        SUCCESS,
        NOTCAPABLE,
        SUCCESS,
        0,
        BADF,
    ];
    assert_eq!(run(body), facts);
}

#[test]
fn descriptors_close_and_renumber() {
    // Standard output becomes descriptor 2 and comes back, so that the report can be written.
    let body = "(call $report (call $fd_renumber (i32.const 1) (i32.const 2)))
        (call $report (call $fd_fdstat_get (i32.const 1) (i32.const 0)))
        (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 4))
        (call $report (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_renumber (i32.const 0) (i32.const 7)))
        (call $report (call $fd_renumber (i32.const 2) (i32.const 0)))
        (call $report (call $fd_renumber (i32.const 0) (i32.const 0)))
        (call $report (call $fd_close (i32.const 2)))
        (call $report (call $fd_renumber (i32.const 0) (i32.const 1)))
        (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 32))
        (drop (call $fd_write (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))";
    let run = run_one(&mut sandbox(), &script(body), b"");
    assert_eq!(run.result, Ok(Outcome::Done));
    assert_eq!(
        reported(&run.output),
        [
            SUCCESS, SUCCESS, BADF, SUCCESS, BADF, SUCCESS, SUCCESS, BADF, BADF
        ]
    );
}

#[test]
fn pointers_outside_memory_are_a_fault() {
    let body = "(call $report (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const -4)))
        (call $report (call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 0)))
        (i32.store (i32.const 0) (i32.const 196600)) (i32.store (i32.const 4) (i32.const 100))
        (call $report (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $args_sizes_get (i32.const 196606) (i32.const 0)))
        (call $report (call $poll_oneoff (i32.const 196600) (i32.const 0) (i32.const 1) (i32.const 64)))
        (call $report (call $fd_fdstat_get (i32.const 0) (i32.const 196600)))";
    assert_eq!(run(body), [FAULT; 7]);
}

#[test]
fn exit_codes_are_reported_and_output_kept() {
    let mut sandbox = sandbox();
    let exit = |code: u32| {
        script(&format!("(i32.store (i32.const 0) (i32.const 0x41424344)) (call $print (i32.const 0) (i32.const 4))
            (call $proc_exit (i32.const {code}))"))
    };
    for (code, outcome) in [
        (0, Outcome::Done),
        (3, Outcome::Exit(3)),
        (u32::MAX, Outcome::Exit(u32::MAX)),
    ] {
        let run = run_one(&mut sandbox, &exit(code), b"");
        assert_eq!(
            (run.result, run.output.as_slice()),
            (Ok(outcome), &b"DCBA"[..])
        );
    }
}
