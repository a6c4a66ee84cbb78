//! One slot: takes orders off the board, runs them in its sandbox, and reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_protocol::message::work::INLINE_UNIT_BYTES_MAX;
use tally_protocol::task::BlobRef;
use tally_protocol::terminal::{Ran, Run};
use tally_protocol::unit::Fault;
use tally_sandbox::{BatchReport, Sandbox, SandboxError, UnitRun, UnitSpec};

use super::board::{Board, Next};
use super::{Order, Report, batch_of};
use crate::blobs::BlobStore;

/// Results are handed over after this time at the latest.
const GATHER: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Slot<R> {
    pub(super) number: usize,
    pub(super) sandbox: Sandbox,
    pub(super) rest_after: Duration,
    pub(super) board: Arc<Board>,
    pub(super) store: BlobStore,
    pub(super) report: R,
}

impl<R: Fn(Report)> Slot<R> {
    /// Works until the board is closed.
    pub(super) fn serve(&mut self) {
        let mut rest_after = None;
        loop {
            match self.board.next(self.number, rest_after) {
                Next::Run(order, unit_max) => {
                    self.sandbox.set_unit_max(unit_max);
                    rest_after = Some(self.rest_after);
                    if let Err(error) = self.run(&order) {
                        (self.report)(Report::Broken(crate::error::chain(&error)));
                    }
                    self.board.finish(self.number);
                    (self.report)(Report::Finished(order.job));
                }
                Next::Rest => {
                    self.sandbox.rest();
                    rest_after = None;
                }
                Next::End => return,
            }
        }
    }

    /// Runs an order and reports its units.
    fn run(&mut self, order: &Order) -> Result<(), SandboxError> {
        let Order {
            job,
            grant,
            places,
            program,
            inputs,
        } = order;
        let Some((bytes, ranges)) = inputs.of(grant, places) else {
            self.give_up((order, 0), Fault::Unavailable);
            return Ok(());
        };
        match self.sandbox.input(bytes.len()) {
            Ok(buffer) => buffer.copy_from_slice(bytes),
            Err(error) => return self.refuse((order, 0), error),
        }
        let units: Vec<UnitSpec> = grant.units[places.clone()]
            .iter()
            .zip(ranges)
            .map(|(leased, input)| UnitSpec {
                index: leased.unit,
                params: leased.params.clone(),
                input,
            })
            .collect();
        let batch = batch_of(
            program,
            &grant.args,
            (grant.task, grant.unit_count),
            grant.limits,
            &units,
        );
        let mut gathered = Vec::new();
        let mut since = Instant::now();
        let mut ran = 0;
        let done = self.sandbox.run(&batch, &mut |unit| {
            let mut run = taken(unit, &self.store);
            if run.result == Err(Fault::Killed) && self.board.is_given_back(self.number) {
                run.result = Err(Fault::Withdrawn);
            }
            gathered.push(run);
            ran += 1;
            self.board.count(self.number);
            if since.elapsed() >= GATHER {
                (self.report)(Report::Ran(*job, std::mem::take(&mut gathered)));
                since = Instant::now();
            }
        });
        if !gathered.is_empty() {
            (self.report)(Report::Ran(*job, gathered));
        }
        match done {
            Ok(done) => {
                tell(order, done);
                Ok(())
            }
            Err(error) => self.refuse((order, ran), error),
        }
    }

    /// Gives up an order that the sandbox does not take; `ran` units of it were reported. What is not the order's fault is
    /// returned.
    fn refuse(&self, open: (&Order, usize), error: SandboxError) -> Result<(), SandboxError> {
        let fault = match &error {
            SandboxError::Capacity { .. } => Fault::HostMemory,
            SandboxError::InputRange { .. } | SandboxError::NulInArgument => Fault::Unavailable,
            SandboxError::SharedMemory(_) | SandboxError::Start { .. } => return Err(error),
        };
        let task = open.0.grant.task.short();
        tracing::warn!(%task, "an order is given back: {}", crate::error::chain(&error));
        self.give_up(open, fault);
        Ok(())
    }

    /// Reports a fault of all units of an order but the first, which were reported.
    fn give_up(&self, (order, ran): (&Order, usize), fault: Fault) {
        let open = order.grant.units[order.places.clone()].iter().skip(ran);
        let open = open.map(|leased| Run {
            unit: leased.unit,
            result: Err(fault),
            took: Duration::ZERO,
        });
        (self.report)(Report::Ran(order.job, open.collect()));
    }
}

/// Logs what is worth it.
fn tell(order: &Order, done: BatchReport) {
    let (program, task) = (order.program.id().short(), order.grant.task.short());
    if let Some(time) = done.compile_time {
        tracing::info!(%program, ?time, "compiled a program");
    }
    for death in done.deaths {
        tracing::warn!(%task, "the sandbox ended: {death}");
    }
    if let Some(reason) = done.refusal {
        tracing::warn!(%task, "the program was refused: {reason}");
    }
}

/// Turns what the sandbox says into a result, with a large output put into the store.
fn taken(unit: UnitRun, store: &BlobStore) -> Run {
    let UnitRun {
        index,
        result,
        fuel,
        output,
        run_time,
        ..
    } = unit;
    let result = result.and_then(|outcome| {
        if output.len() as u64 <= INLINE_UNIT_BYTES_MAX {
            return Ok(Ran {
                outcome,
                fuel,
                output: BlobRef::of(&output),
                inline: Some(output),
            });
        }
        let output = store.put(&output).map_err(|error| {
            tracing::warn!("cannot keep an output: {}", crate::error::chain(&error));
            Fault::Unavailable
        })?;
        Ok(Ran {
            outcome,
            fuel,
            output,
            inline: None,
        })
    });
    Run {
        unit: index,
        result,
        took: run_time,
    }
}
