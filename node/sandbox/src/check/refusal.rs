//! Why a module is not accepted.

use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

use crate::wasi;

/// Why the profile does not accept a module. The text says what to do about it where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a WebAssembly module.
    #[error("not a valid WebAssembly module: {message} (at byte {offset})")]
    Invalid {
        /// What the validator says.
        message: String,
        /// Where in the module.
        offset: usize,
    },
    /// The module is valid, but uses a proposal that the profile leaves out.
    #[error(
        "needs a WebAssembly feature that this profile leaves out: {message} (at byte {offset}){hint}"
    )]
    Feature {
        /// What the validator says.
        message: String,
        /// Where in the module.
        offset: usize,
        /// What to do about it, or empty.
        hint: &'static str,
    },
    /// A component, not a core module.
    #[error("is a component; compile it as a core module for wasm32-wasip1 (WASI preview 1)")]
    Component,
    /// Something is larger than the profile allows.
    #[error("has {found} {what}; at most {max} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: u64,
        /// How much may be.
        max: u64,
    },
    /// The program starts with more memory than the task gives.
    #[error("starts with {found} bytes of memory; the task allows {max}")]
    MemoryMinimum {
        /// The memory at the start.
        found: u64,
        /// The memory that the task gives.
        max: u64,
    },
    /// An import that nobody provides.
    #[error("imports {module}.{name}, which does not exist here{hint}")]
    Import {
        /// The module of the import.
        module: String,
        /// The name of the import.
        name: String,
        /// What to do about it, or empty.
        hint: &'static str,
    },
    /// A WASI function with another type than WASI's.
    #[error("imports wasi_snapshot_preview1.{name} with a wrong type; it is {expected}")]
    ImportType {
        /// The name of the import.
        name: String,
        /// The type that it should have.
        expected: String,
    },
    /// No memory is exported.
    #[error("exports no memory named \"memory\"")]
    NoMemory,
    /// Nothing to call is exported.
    #[error("exports neither _start (a WASI command) nor alloc(i32) -> i32 and run(i32, i32) -> i64 (a kernel \
        without imports){}", if *reactor { "; it is a WASI reactor: build it as a command" } else { "" })]
    NoEntry {
        /// Whether the module is a WASI reactor.
        reactor: bool,
    },
}

impl Refusal {
    /// Explains what the parser or the validator found, by trying again with every feature.
    pub(super) fn invalid(module: &[u8], error: &BinaryReaderError) -> Self {
        let (message, offset) = (printable(error.message(), 300), error.offset());
        if Validator::new_with_features(WasmFeatures::all())
            .validate_all(module)
            .is_err()
        {
            return Self::Invalid { message, offset };
        }
        let hint = if message.contains("exceptions") {
            EXCEPTIONS_HINT
        } else {
            ""
        };
        Self::Feature {
            message,
            offset,
            hint,
        }
    }

    pub(super) fn exceptions() -> Self {
        Self::Feature {
            message: "exception handling".to_owned(),
            offset: 0,
            hint: EXCEPTIONS_HINT,
        }
    }

    pub(super) fn import(module: &str, name: &str) -> Self {
        let hint = match module {
            wasi::MODULE if name.starts_with("sock_") => "; sockets are not available",
            wasi::MODULE => "; WASI preview 1 has no such function",
            "wasi_unstable" => "; build the program for WASI preview 1 (wasi_snapshot_preview1)",
            "wbg" | "__wbindgen_placeholder__" => {
                "; build the program for wasm32-wasip1, without wasm-bindgen"
            }
            _ if module.starts_with("wasi:") => {
                "; build the program for WASI preview 1, not for components"
            }
            _ => "; only functions of wasi_snapshot_preview1 can be imported",
        };
        Self::Import {
            module: printable(module, 80),
            name: printable(name, 80),
            hint,
        }
    }
}

/// Returns the start of a text with names that a stranger chose, fit for a terminal.
fn printable(text: &str, len_max: usize) -> String {
    let printable = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(len_max).map(printable).collect()
}

const EXCEPTIONS_HINT: &str = "; build the program without exceptions (clang: -fno-exceptions)";

/// Refuses more than `max`.
pub(crate) fn at_most<N>(what: &'static str, found: N, max: N) -> Result<(), Refusal>
where
    N: PartialOrd + TryInto<u64>,
{
    if found <= max {
        return Ok(());
    }
    let wide = |n: N| n.try_into().unwrap_or(u64::MAX);
    Err(Refusal::TooMany {
        what,
        found: wide(found),
        max: wide(max),
    })
}
