//! Helpers of the tests over real processes and real libp2p on loopback.
//!
//! - [`net::Net`]: a network of its own under a folder of its own, and all that is started in it
//! - [`node::Node`]: a running node, which ends with the test, however the test ends
//! - [`run::Running`]: a command that runs; [`run::Ran`]: what it said and how it ended
//! - [`job::Job`]: a job file
//! - [`http::Client`]: somebody who asks an app server over HTTP
//! - [`lines::Lines`]: networks of their own, joined by lines that can be cut
//! - [`market`]: an app server beside a coordinator, and owners who order from it
//! - [`raw`]: peers in the process of the test, which say what the test tells them to say
//!
//! Nothing here sleeps for a time that somebody guessed: [`until`] asks until it is so, and says what was not.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says where and ends"
)]

pub mod http;
pub mod job;
pub mod ledger;
pub mod lines;
pub mod market;
pub mod net;
pub mod node;
pub mod raw;
pub mod run;

use std::time::{Duration, Instant};

/// How long a test waits for anything that has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` gives something.
///
/// # Panics
/// If it gives nothing within [`PATIENCE`]; the text says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks until `look` says yes.
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[track_caller]
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}
