//! The overlay below the roles: how long it takes to find coordinators, and whom an offer reaches.
//!
//! libp2p does not run here, it is modelled: [`kademlia`] answers look-ups of provider records, [`gossip`] says whom
//! a published offer reaches, over how many hops and in how many copies. Both count; neither knows a link's speed:
//! the caller says how long a round trip or a hop takes.
//!
//! Invariants: every constant of the model stands in [`figures`] with the place where it was read or measured, and a
//! test runs the same population on real libp2p and compares the counts; a result is a function of the calls and of
//! the chance given.

pub mod figures;
pub mod gossip;
pub mod kademlia;
