//! What a Tally node must never forget, on redb.
//!
//! A node keeps two histories. The **journal** holds the operational facts of its role: folded over the last
//! **snapshot** they give the role's state back after a crash, and a newer snapshot replaces them. The **log** holds
//! the entries that stay for ever: what was accepted, validated and ended. Its entries are the leaves of an RFC 6962
//! tree, so one hash, the root, stands for all of them. Beside both stand the **rows** of a role: keyed data of which
//! there is too much to keep in memory.
//!
//! - [`store`]: the tables, and group commit of facts, entries and rows in one durable transaction
//! - [`proofs`]: shows of an entry that it stands in the log, and of a log that it has only grown
//! - [`audit`]: proves that a log is whole, says nothing twice, and that the books follow from it
//! - [`rebuild`]: computes the books again from the log, compares, and replaces them
//! - [`cli`]: questions about the log, asked of a file or of a running node, and their answers as tables
//! - [`export`]: the log as a file for other programs, and its verification by whoever has only a public key
//! - [`wallet`]: what a terminal has earned: receipts, and what proves them, in a file of its own
//!
//! Nothing here reads a clock or the environment, prints, or waits for anything but the disk.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

pub mod audit;
pub mod cli;
pub mod export;
pub mod proofs;
pub mod rebuild;
pub mod store;
mod tree;
pub mod wallet;
