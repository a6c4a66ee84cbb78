//! The names and types of WASI preview 1, in one table that the check and the linker share.

use std::fmt;

use wasmparser::{FuncType, ValType};

/// The module that a WASI program imports from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// Each function with its parameters: `i` is an i32, `I` an i64. All but `proc_exit` return an errno.
pub(crate) const FUNCTIONS: [(&str, &str); 46] = [
    ("args_get", "ii -> i"),
    ("args_sizes_get", "ii -> i"),
    ("clock_res_get", "ii -> i"),
    ("clock_time_get", "iIi -> i"),
    ("environ_get", "ii -> i"),
    ("environ_sizes_get", "ii -> i"),
    ("fd_advise", "iIIi -> i"),
    ("fd_allocate", "iII -> i"),
    ("fd_close", "i -> i"),
    ("fd_datasync", "i -> i"),
    ("fd_fdstat_get", "ii -> i"),
    ("fd_fdstat_set_flags", "ii -> i"),
    ("fd_fdstat_set_rights", "iII -> i"),
    ("fd_filestat_get", "ii -> i"),
    ("fd_filestat_set_size", "iI -> i"),
    ("fd_filestat_set_times", "iIIi -> i"),
    ("fd_pread", "iiiIi -> i"),
    ("fd_prestat_dir_name", "iii -> i"),
    ("fd_prestat_get", "ii -> i"),
    ("fd_pwrite", "iiiIi -> i"),
    ("fd_read", "iiii -> i"),
    ("fd_readdir", "iiiIi -> i"),
    ("fd_renumber", "ii -> i"),
    ("fd_seek", "iIii -> i"),
    ("fd_sync", "i -> i"),
    ("fd_tell", "ii -> i"),
    ("fd_write", "iiii -> i"),
    ("path_create_directory", "iii -> i"),
    ("path_filestat_get", "iiiii -> i"),
    ("path_filestat_set_times", "iiiiIIi -> i"),
    ("path_link", "iiiiiii -> i"),
    ("path_open", "iiiiiIIii -> i"),
    ("path_readlink", "iiiiii -> i"),
    ("path_remove_directory", "iii -> i"),
    ("path_rename", "iiiiii -> i"),
    ("path_symlink", "iiiii -> i"),
    ("path_unlink_file", "iii -> i"),
    ("poll_oneoff", "iiii -> i"),
    ("proc_exit", "i"),
    ("proc_raise", "i -> i"),
    ("random_get", "ii -> i"),
    ("sched_yield", " -> i"),
    ("sock_accept", "iii -> i"),
    ("sock_recv", "iiiiii -> i"),
    ("sock_send", "iiiii -> i"),
    ("sock_shutdown", "ii -> i"),
];

/// The type of a function over i32 and i64 with at most one result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature {
    params: &'static str,
    results: &'static str,
}

/// Returns the type of an import, if this host has it.
pub(crate) fn signature(module: &str, name: &str) -> Option<Signature> {
    let (_, text) = FUNCTIONS
        .iter()
        .find(|(function, _)| module == MODULE && *function == name)?;
    Some(Signature::parse(text))
}

impl Signature {
    /// Reads `"ii -> I"`.
    pub(crate) fn parse(text: &'static str) -> Self {
        let (params, results) = text.split_once(" -> ").unwrap_or((text, ""));
        Self { params, results }
    }

    /// Returns the letters of the parameters.
    pub(crate) fn params(self) -> impl ExactSizeIterator<Item = char> {
        self.params.bytes().map(char::from)
    }

    /// Returns whether a type is this one.
    pub(crate) fn is(self, ty: &FuncType) -> bool {
        let same = |letters: &str, types: &[ValType]| {
            letters.len() == types.len()
                && letters
                    .chars()
                    .zip(types)
                    .all(|(letter, ty)| value(letter) == *ty)
        };
        same(self.params, ty.params()) && same(self.results, ty.results())
    }
}

fn value(letter: char) -> ValType {
    if letter == 'I' {
        ValType::I64
    } else {
        ValType::I32
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |letters: &str| {
            letters
                .chars()
                .map(|letter| value(letter).to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        write!(f, "({}) -> ({})", list(self.params), list(self.results))
    }
}
