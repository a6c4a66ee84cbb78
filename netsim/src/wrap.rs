//! The place between a node's driver and its machine, where a test can plant a bug.

use std::fmt;

use tally_protocol::app_server::{self, AppServer};
use tally_protocol::coordinator::{Coordinator, Effect, Input};
use tally_protocol::terminal::{self, Terminal};
use tally_protocol::time::Timestamp;
use tally_protocol::witness::{self, Witness};

/// Stands between a coordinator's driver and its machine. By default it is not noticed.
pub trait Wrap: fmt::Debug {
    /// Lets the machine take an input.
    fn handle(
        &mut self,
        machine: &mut Coordinator,
        now: Timestamp,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        machine.handle(now, input, out);
    }

    /// Returns when the machine wants to be woken.
    fn next_deadline(&self, machine: &Coordinator) -> Option<Timestamp> {
        machine.next_deadline()
    }

    /// Returns what is written instead of all facts so far.
    fn snapshot(&mut self, machine: &Coordinator) -> Vec<u8> {
        machine.snapshot()
    }

    /// Returns whether records are made durable before anything else leaves, as it must be.
    fn records_first(&self) -> bool {
        true
    }
}

/// Stands between a terminal's driver and its machines. By default it is not noticed.
pub trait TerminalWrap: fmt::Debug {
    /// Lets the machine take an input.
    fn handle(
        &mut self,
        machine: &mut Terminal,
        now: Timestamp,
        input: terminal::Input,
        out: &mut Vec<terminal::Effect>,
    ) {
        machine.handle(now, input, out);
    }

    /// Lets the witness take an input.
    fn watch(
        &mut self,
        witness: &mut Witness,
        now: Timestamp,
        input: witness::Input,
        out: &mut Vec<witness::Effect>,
    ) {
        witness.handle(now, input, out);
    }
}

/// Stands between an app server's driver and its machine. By default it is not noticed.
pub trait AppServerWrap: fmt::Debug {
    /// Lets the machine take an input.
    fn handle(
        &mut self,
        machine: &mut AppServer,
        now: Timestamp,
        input: app_server::Input,
        out: &mut Vec<app_server::Effect>,
    ) {
        machine.handle(now, input, out);
    }
}

/// Nothing in between.
#[derive(Debug, Default)]
pub struct Plain;

impl Wrap for Plain {}

impl TerminalWrap for Plain {}

impl AppServerWrap for Plain {}
