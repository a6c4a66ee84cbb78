//! The profile: everything that decides on a unit's outcome, output and fuel, named by one short id.

use std::fmt::Write as _;
use std::sync::OnceLock;

use tally_protocol::unit::ProfileId;

use crate::check::StaticLimits;
use crate::cost::operator_cost;
use crate::{fixed, kernel, wasi};

/// Returns the id of the profile that this crate implements, for example `wt48.0/cl/wasi1/0123456789ab`.
#[must_use]
pub fn profile() -> &'static ProfileId {
    static PROFILE: OnceLock<ProfileId> = OnceLock::new();
    PROFILE.get_or_init(|| {
        let hash = blake3::hash(profile_text().as_bytes()).to_hex();
        let text = format!("wt48.0/cl/wasi{}/{}", wasi::VERSION, &hash[..12]);
        text.parse().expect("the id is short and printable")
    })
}

/// Returns the text of which the profile id holds the hash: the limits and the price of every operator.
#[must_use]
pub fn profile_text() -> String {
    let mut text = String::from("engine wasmtime 48.0 cranelift, NaNs canonical\n");
    let mut line = |name: &str, value: &dyn std::fmt::Debug| {
        writeln!(text, "{name} {value:?}").expect("a string takes any text");
    };
    line("features", &fixed::FEATURES.bits());
    line("wasi", &wasi::VERSION);
    line("kernel", &kernel::VERSION);
    line("memory bytes at most", &fixed::MEMORY_BYTES_MAX);
    line("table elements at most", &fixed::TABLE_ELEMENTS_MAX);
    line("stack bytes", &fixed::WASM_STACK_BYTES);
    line("fuel of a host call", &fixed::HOST_CALL_FUEL);
    line("fuel of a byte moved by the host", &fixed::HOST_BYTE_FUEL);
    line("static limits", &StaticLimits::FIXED);
    line("operators", &operator_cost());
    text
}
