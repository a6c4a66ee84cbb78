//! What a run was: everything that the JSON object, the HTML page and the summary in the terminal are made of.
//!
//! Times are virtual seconds since the world began, unless the name says otherwise.

mod escaped;
pub mod html;
mod plot;
mod quantity;
#[cfg(test)]
mod sample;
pub mod spread;
pub mod summary;
mod totals;

use std::collections::BTreeMap;

use serde::Serialize;

/// One run of one scenario with one seed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RunReport {
    /// The scenario's name.
    pub scenario: String,
    /// What it shows, in a sentence or two of its author.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Hash of everything that happened, 64 hex digits: equal for equal runs.
    pub trace_hash: String,
    /// How long the world ran, in virtual seconds.
    pub virtual_seconds: f64,
    /// How long that took, in seconds of the computer's clock. Not a function of the seed.
    pub wall_seconds: f64,
    /// Steps of the world.
    pub steps: u64,
    /// What was checked, and what was found.
    pub oracles: Vec<OracleReport>,
    /// Who took part.
    pub population: Population,
    /// The tasks, in the order of their submission.
    pub tasks: Vec<TaskReport>,
    /// What was measured again and again.
    pub series: Series,
    /// What happened to the world as a whole, in order.
    pub marks: Vec<Mark>,
    /// Units by the number of results that terminals reported of them.
    pub replicas_per_unit: BTreeMap<u32, u64>,
    /// Units by how often they were leased.
    pub leases_per_unit: BTreeMap<u32, u64>,
    /// Units validated in all.
    pub validated_units: u64,
    /// Messages that were lost, or cut off.
    pub messages_lost: u64,
    /// Time from the first lease of a unit to its validation, in seconds.
    pub unit_latency: Spread,
    /// Bytes that a terminal sent in all.
    pub bytes_sent: Spread,
    /// Bytes that a terminal received in all.
    pub bytes_received: Spread,
    /// Devices that told a lie about a result, in the order of their first one.
    pub liars: Vec<LiarReport>,
    /// What was refused or ignored, by its reason.
    pub refusals: BTreeMap<String, u64>,
    /// What dishonest nodes did: how often (`done`), and how often each met with what.
    pub deeds: BTreeMap<String, BTreeMap<String, u64>>,
    /// Leases given, by how those behave who got them.
    pub leases: BTreeMap<String, u64>,
    /// What was earned and paid.
    pub accounts: Accounts,
    /// What app servers have sold.
    pub sales: Sales,
    /// Units validated with a result that is wrong, because as many colluding devices as must agree were leased
    /// them.
    pub colluded_units: u64,
}

/// What was earned and paid, at all coordinators that run in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Accounts {
    /// Receipts that coordinators have written.
    pub receipts: u64,
    /// Receipts that terminals have kept, and of these, those that they could check.
    pub kept: (u64, u64),
    /// Receipts that terminals found wrong, by what is wrong.
    pub disputes: BTreeMap<String, u64>,
    /// Answers to units whose result was known, and of these, those that were other ones.
    pub known: (u64, u64),
    /// Results of which terminals were told that nobody pays them.
    pub unpaid: u64,
    /// Pairs of a terminal and a coordinator that owes it so much that it gets no more work done.
    pub owing: u64,
    /// Pairs of a terminal and a coordinator of whose log it has the evidence that it has forked.
    pub forks: u64,
    /// Money that operators have paid out, in minor units.
    pub paid_out: u64,
    /// Points of owners that are in escrow, in micro-points.
    pub escrowed: u64,
    /// Points that owners can spend, in micro-points.
    pub spendable: u64,
    /// Money that customers have and that is held for tasks, in minor units.
    pub held: u64,
    /// Money that customers have paid for results, in minor units.
    pub paid: u64,
    /// The part of it that is behind points, in minor units.
    pub reserve: u64,
}

/// What app servers have sold, and what came of points.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sales {
    /// What has happened to orders, by what, with how often.
    pub orders: BTreeMap<String, u64>,
    /// What has become of redemptions, by what, with how often.
    pub redemptions: BTreeMap<String, u64>,
    /// How often a shop was told that a voucher is good.
    pub vouchers: u64,
}

/// One oracle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OracleReport {
    /// Its name.
    pub name: &'static str,
    /// What always holds, in one sentence.
    pub claim: &'static str,
    /// How often it had something to check.
    pub checks: u64,
    /// What it found wrong, first of all, with the time.
    pub finding: Option<String>,
}

/// Who took part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Population {
    /// Terminals, dishonest ones included.
    pub terminals: u32,
    /// Coordinators.
    pub coordinators: u32,
    /// Customers.
    pub customers: u32,
    /// Dishonest peers by what they do.
    pub dishonest: BTreeMap<String, u32>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Units.
    pub units: u32,
    /// Devices that must agree on each.
    pub agree: u8,
    /// When its customer first submitted it.
    pub submitted: f64,
    /// When it ended, if it did.
    pub ended: Option<f64>,
    /// How it ended, or what it waits for.
    pub ending: String,
}

/// Samples at equal distances; each list has one number for each sample.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    /// Distance of the samples, in virtual seconds; the first sample is at one distance from the start.
    pub every_seconds: f64,
    /// Units validated so far.
    pub validated: Vec<u64>,
    /// Units that tasks had so far: those validated and those still to be.
    pub submitted: Vec<u64>,
    /// Terminals that are up.
    pub online: Vec<u64>,
    /// Slots of the terminals that are up.
    pub slots: Vec<u64>,
    /// Slots that run a unit.
    pub busy: Vec<u64>,
    /// Pulls that the coordinators answered since the sample before.
    pub pulls: Vec<u64>,
    /// Bytes that all nodes sent since the sample before.
    pub bytes: Vec<u64>,
}

/// Something that happened to the world.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// When.
    pub at: f64,
    /// What, in a few words: "coordinator 0 crashes", "partition begins".
    pub what: String,
}

/// A device that reported a wrong result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LiarReport {
    /// The device's short name.
    pub device: String,
    /// How it cheats.
    pub conduct: String,
    /// When it first reported a wrong result.
    pub lied: f64,
    /// When a quorum first contradicted it.
    pub detected: Option<f64>,
    /// Wrong results that it reported.
    pub lies: u64,
    /// Of those, results that a quorum contradicted.
    pub outvoted: u64,
}

/// How a quantity was spread.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The smallest.
    pub min: f64,
    /// Half are at most this.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// 99 of a hundred are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
    /// The values in bars of equal width on a logarithmic scale.
    pub bars: Vec<Bar>,
}

/// One bar of a histogram: values above `from`, at most `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bar {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Values in it.
    pub count: u64,
}
