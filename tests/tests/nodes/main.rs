//! Tests over real processes that talk over loopback, by theme.

#![expect(
    clippy::print_stderr,
    reason = "whoever runs the tests should know the seed, and what was left out"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says where and ends"
)]

mod bad_input;
mod crash;
mod customer;
mod demo;
mod dishonest;
mod disk;
mod fork;
mod hostile;
mod http;
mod manners;
mod money;
mod order;
mod overlay;
mod owner;
mod page;
mod proofs;
mod redeeming;
mod third_party;

use tally_tests::net::Net;

/// A network of the `tally` that was built with these tests.
fn net() -> Net {
    Net::new(env!("CARGO_BIN_EXE_tally-under-test"))
}
