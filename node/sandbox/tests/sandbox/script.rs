//! WASI commands that are one list of host calls: each `(call $report ..)` adds an i32 to the output, which is
//! written at the end.

use tally_sandbox::Program;

use crate::common::program;

/// The functions of WASI preview 1 with their types, from the specification and not from the crate.
pub(crate) const WASI: [(&str, &str, &str); 46] = [
    ("args_get", "i32 i32", "i32"),
    ("args_sizes_get", "i32 i32", "i32"),
    ("environ_get", "i32 i32", "i32"),
    ("environ_sizes_get", "i32 i32", "i32"),
    ("clock_res_get", "i32 i32", "i32"),
    ("clock_time_get", "i32 i64 i32", "i32"),
    ("fd_advise", "i32 i64 i64 i32", "i32"),
    ("fd_allocate", "i32 i64 i64", "i32"),
    ("fd_close", "i32", "i32"),
    ("fd_datasync", "i32", "i32"),
    ("fd_fdstat_get", "i32 i32", "i32"),
    ("fd_fdstat_set_flags", "i32 i32", "i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64", "i32"),
    ("fd_filestat_get", "i32 i32", "i32"),
    ("fd_filestat_set_size", "i32 i64", "i32"),
    ("fd_filestat_set_times", "i32 i64 i64 i32", "i32"),
    ("fd_pread", "i32 i32 i32 i64 i32", "i32"),
    ("fd_prestat_get", "i32 i32", "i32"),
    ("fd_prestat_dir_name", "i32 i32 i32", "i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32", "i32"),
    ("fd_read", "i32 i32 i32 i32", "i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32", "i32"),
    ("fd_renumber", "i32 i32", "i32"),
    ("fd_seek", "i32 i64 i32 i32", "i32"),
    ("fd_sync", "i32", "i32"),
    ("fd_tell", "i32 i32", "i32"),
    ("fd_write", "i32 i32 i32 i32", "i32"),
    ("path_create_directory", "i32 i32 i32", "i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32", "i32"),
    (
        "path_filestat_set_times",
        "i32 i32 i32 i32 i64 i64 i32",
        "i32",
    ),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32", "i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32", "i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32", "i32"),
    ("path_remove_directory", "i32 i32 i32", "i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32", "i32"),
    ("path_symlink", "i32 i32 i32 i32 i32", "i32"),
    ("path_unlink_file", "i32 i32 i32", "i32"),
    ("poll_oneoff", "i32 i32 i32 i32", "i32"),
    ("proc_exit", "i32", ""),
    ("proc_raise", "i32", "i32"),
    ("random_get", "i32 i32", "i32"),
    ("sched_yield", "", "i32"),
    ("sock_accept", "i32 i32 i32", "i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32", "i32"),
    ("sock_send", "i32 i32 i32 i32 i32", "i32"),
    ("sock_shutdown", "i32 i32", "i32"),
];

/// The imports of all functions, as text.
pub(crate) fn imports() -> String {
    WASI.map(|(name, params, result)| {
        let result = if result.is_empty() { String::new() } else { format!("(result {result})") };
        format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) {result}))\n")
    })
    .concat()
}

/// A command with three pages of memory: what it reports gathers at 65536, `body` may use what is below.
pub(crate) fn script(body: &str) -> Program {
    program(&format!(
        "(module {}
           (memory (export \"memory\") 3)
           (global $end (mut i32) (i32.const 65536))
           (func $report (param i32)
             (i32.store (global.get $end) (local.get 0))
             (global.set $end (i32.add (global.get $end) (i32.const 4))))
           (func $report64 (param i64)
             (i64.store (global.get $end) (local.get 0))
             (global.set $end (i32.add (global.get $end) (i32.const 8))))
           (func $print (param $start i32) (param $len i32)
             (i32.store (i32.const 65520) (local.get $start))
             (i32.store (i32.const 65524) (local.get $len))
             (drop (call $fd_write (i32.const 1) (i32.const 65520) (i32.const 1) (i32.const 65528))))
           (func (export \"_start\")
             {body}
             (call $print (i32.const 65536) (i32.sub (global.get $end) (i32.const 65536)))))",
        imports()
    ))
}

/// Reads what a script reported.
pub(crate) fn reported(output: &[u8]) -> Vec<u32> {
    let (words, rest) = output.as_chunks::<4>();
    assert!(rest.is_empty(), "{output:?}");
    words.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
