//! The bounds that are the same for every program and every terminal, hence part of the profile id.
//!
//! A bound that depends on the task is in `Limits`; one that depends on the computer is in `SandboxConfig`.

use wasmparser::WasmFeatures;

/// Call stack of a program. Where it ends depends on the compiler, so reaching it is a fault, not an outcome.
pub(crate) const WASM_STACK_BYTES: usize = 512 * 1024;

/// Elements of one table. Compilers make one table, of the functions that are called by pointer.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Tables of a program.
pub(crate) const TABLES_MAX: u32 = 10;

/// Size of one WebAssembly page.
pub(crate) const PAGE_BYTES: u64 = 64 * 1024;

/// The most memory that a 32-bit program can address.
pub(crate) const MEMORY_BYTES_MAX: usize = 4 << 30;

/// Bytes of standard error that are kept; what comes after is dropped without an error, so that a program
/// behaves the same whether or not somebody reads its diagnostics.
pub(crate) const STDERR_BYTES_KEPT: usize = 64 * 1024;

/// Fuel of one call into the host, whatever it does. Leaving the program and coming back takes 20 to 60 ns.
pub(crate) const HOST_CALL_FUEL: u64 = 200;

/// Fuel of one byte that the host moves into or out of the program's memory.
pub(crate) const HOST_BYTE_FUEL: u64 = 1;

/// What of WebAssembly a program may use: version 2 without what only the outside world can see (threads), and
/// the constant expressions that current compilers write. Everything here is bit for bit the same on all
/// machines once NaNs are canonical; relaxed SIMD is not, and the rest has shown the most engine bugs.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::EXTENDED_CONST);
