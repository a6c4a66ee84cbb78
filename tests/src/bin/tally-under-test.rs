//! The `tally` program, built for the tests: the same main, so that they start what people start.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if tally_sandbox::is_child(std::env::args_os()) {
        return tally_sandbox::child_main();
    }
    tally_node::cli::main()
}
