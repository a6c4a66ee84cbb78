//! The sandbox as the node sees it: a locked child process that runs batches.

mod common;

use common::{LIMITS, guest, run_one, run_with, sandbox};
use tally_protocol::unit::Outcome;

#[test]
fn a_command_copies_its_input() {
    let mut sandbox = sandbox();
    let (runs, report) = run_with(
        &mut sandbox,
        &guest("echo"),
        LIMITS,
        &[],
        &[("", b"hello"), ("", b"world")],
    );
    assert_eq!(runs[0].result, Ok(Outcome::Done), "{runs:?} {report:?}");
    assert_eq!(runs[0].output, b"hello");
    assert_eq!(runs[1].output, b"world");
    println!("{:?} {report:?} {runs:?}", sandbox.lockdown());
    let _ = run_one(&mut sandbox, &guest("echo"), b"x");
}
