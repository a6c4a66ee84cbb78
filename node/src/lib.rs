//! The Tally node: libp2p, disk, clock and command line around the role machines.

pub mod blobs;
pub mod network;
