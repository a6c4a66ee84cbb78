//! The child of the sandboxes in this crate's tests; in a node, the `tally` binary is its own child.

use std::process::ExitCode;

fn main() -> ExitCode {
    if tally_sandbox::is_child(std::env::args_os()) {
        tally_sandbox::child_main()
    } else {
        ExitCode::FAILURE
    }
}
