//! What the nodes of Tally agree on.
#![forbid(unsafe_code)]

pub mod codec;
pub mod coordinator;
pub mod entry;
pub mod id;
pub mod merkle;
pub mod message;
pub mod points;
pub mod signed;
pub mod task;
pub mod time;
pub mod unit;
