//! The `netsim` command.

fn main() {}
