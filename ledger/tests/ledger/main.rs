//! The ledger from outside: formats, group commit, crashes, audits and the command line's answers.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    reason = "the sizes of tests fit into every type, and they look for one thing among many"
)]

#[cfg(test)]
mod audit;
#[cfg(test)]
mod books;
#[cfg(test)]
mod books_cli;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod coordinator;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod example;
#[cfg(test)]
mod export;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod model;
#[cfg(test)]
mod open;
#[cfg(test)]
mod partners;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod sales;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trade;
