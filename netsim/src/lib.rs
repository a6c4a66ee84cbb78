//! The Tally roles on a simulated network, disk and clock.
//!
//! The role machines of `tally-protocol` and the journal and log of `tally-ledger` run here as they are, thousands of
//! them in one thread and in virtual time. What is simulated is everything below and around them: links that delay,
//! lose and repeat, nodes that crash and come back, disks that tear what was not yet synced, clocks that are wrong,
//! the look-ups and the gossip of the overlay, the running of units, and peers that cheat.
//!
//! Invariants: a run is a function of its scenario and its seed; nothing here reads a clock, a file or the operating
//! system's random numbers while a world runs; every random draw comes from a [`chance::Chance`] that one thing owns.

mod app_server;
pub mod chance;
pub mod conduct;
mod coordinator;
mod customer;
pub mod disk;
pub mod execution;
pub mod happening;
pub mod links;
pub mod moment;
pub mod onlookers;
pub mod oracle;
pub mod overlay;
mod owner;
pub mod peer;
mod queue;
pub mod reference;
pub mod report;
pub mod scenario;
pub mod shop;
pub mod signatures;
mod stage;
pub mod statistics;
pub mod story;
mod terminal;
pub mod trace;
pub mod wire;
pub mod world;
pub mod wrap;
