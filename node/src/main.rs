//! The `tally` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // A sandbox is this program started again: it must lock itself before anything else happens.
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    tally_node::cli::main()
}
