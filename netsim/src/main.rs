//! The `netsim` program.
#![forbid(unsafe_code)]

mod cli;

/// A world makes and drops messages by the million, which the allocator of the system is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
