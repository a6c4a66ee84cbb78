//! The command line: one test a command, with what it prints, its JSON and its exit codes.

mod books;
mod claims;
mod help;
mod key;
mod ledger;
mod net;
mod program;
mod run;
mod service;
mod task;
mod wallet;

use tally_tests::net::Net;

/// A network of the `tally` that was built with these tests.
fn net() -> Net {
    Net::new(env!("CARGO_BIN_EXE_tally-under-test"))
}
