//! Putting the outputs of a task together, and editing the result, on a blocking thread.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use tally_imaging::{DecodeLimits, Stitcher, encode_png};
use tally_ledger::store::Store;
use tally_protocol::coordinator::Input;
use tally_protocol::id::TaskId;
use tally_protocol::message::blob::BlobRange;
use tally_protocol::message::work::INLINE_UNIT_BYTES_MAX;
use tally_protocol::task::merge::{NUMBER_BYTES_MAX, Sum};
use tally_protocol::task::split::UnitTable;
use tally_protocol::task::tiles::TileGrid;
use tally_protocol::task::{BlobRef, Edit, Merge};
use tally_protocol::unit::Outcome;
use tally_sandbox::{Program, Sandbox, SandboxConfig, UnitSpec};
use tokio::task::spawn_blocking;

use super::contents::UnitOutput;
use super::{Message, Parts, Shell, contents};
use crate::error::chain;
use crate::worker::batch_of;

impl Shell {
    pub(super) fn merge(&self, id: TaskId) {
        let (Some(task), Some(division)) = (self.machine.task(&id), self.machine.division(&id))
        else {
            return;
        };
        let grid = if let UnitTable::Tiles(table) = &division.table {
            Some(*table.grid())
        } else {
            None
        };
        let merging = Merging {
            id,
            store: Arc::clone(self.records.store()),
            parts: self.parts.clone(),
        };
        let how = task.merge;
        self.work(id, move || match (how, grid) {
            (Merge::Concat, _) => merging.concat(),
            (Merge::Sum, _) => merging.sum(),
            (Merge::Stitch, Some(grid)) => merging.stitch(&grid),
            (Merge::Stitch, None) => Err("only tiles can be stitched".to_owned()),
        });
    }

    pub(super) fn edit(&self, id: TaskId, merged: BlobRef) {
        let Some(edit) = self.machine.task(&id).and_then(|task| task.edit.clone()) else {
            return;
        };
        let parts = self.parts.clone();
        self.work(id, move || edited(id, &edit, merged, &parts));
    }

    /// Makes a result elsewhere and tells the machine.
    fn work(&self, task: TaskId, work: impl FnOnce() -> Result<BlobRef, String> + Send + 'static) {
        let mailbox = self.parts.mailbox.clone();
        spawn_blocking(move || {
            let result = work();
            let _ = mailbox.blocking_send(Message::input(Input::Merged { task, result }));
        });
    }
}

/// A task whose outputs are put together.
struct Merging {
    id: TaskId,
    store: Arc<Store>,
    parts: Parts,
}

impl Merging {
    fn concat(&self) -> Result<BlobRef, String> {
        let failed = |error: io::Error| format!("write the result: {error}");
        let scratch = tempfile::NamedTempFile::new_in(&self.parts.scratch).map_err(failed)?;
        let mut out = BufWriter::new(scratch.as_file());
        self.each(|_, unit| {
            if unit.output.bytes <= INLINE_UNIT_BYTES_MAX {
                return out.write_all(&self.content(unit)?).map_err(failed);
            }
            let mut file = self
                .parts
                .blobs
                .open_file(unit.output.id)
                .map_err(|error| chain(&error))?;
            io::copy(&mut file, &mut out).map(drop).map_err(failed)
        })?;
        let _: &File = out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        self.parts
            .blobs
            .import(scratch.path())
            .map_err(|error| chain(&error))
    }

    fn sum(&self) -> Result<BlobRef, String> {
        let mut sum = Sum::default();
        self.each(|number, unit| {
            // Longer than any number: the start is enough to say what it is.
            let bytes = unit.output.bytes.min(NUMBER_BYTES_MAX);
            let content = if unit.output.bytes > INLINE_UNIT_BYTES_MAX {
                let start = BlobRange {
                    blob: unit.output.id,
                    start: 0,
                    bytes,
                };
                self.parts
                    .blobs
                    .read(start)
                    .map_err(|error| chain(&error))?
            } else {
                self.content(unit)?
            };
            sum.add(number, &content).map_err(|error| chain(&error))
        })?;
        self.parts
            .blobs
            .put(&sum.finish())
            .map_err(|error| chain(&error))
    }

    fn stitch(&self, grid: &TileGrid) -> Result<BlobRef, String> {
        let mut stitcher = Stitcher::new(grid, DecodeLimits::default().pixels_max)
            .map_err(|error| chain(&error))?;
        let mut next = 0;
        self.each(|number, unit| {
            for skipped in next..number {
                stitcher.skip(skipped).map_err(|error| chain(&error))?;
            }
            next = number + 1;
            stitcher
                .place(number, &self.content(unit)?)
                .map_err(|error| chain(&error))
        })?;
        for skipped in next..grid.count() {
            stitcher.skip(skipped).map_err(|error| chain(&error))?;
        }
        let picture = stitcher.finish().map_err(|error| chain(&error))?;
        let scratch = tempfile::NamedTempFile::new_in(&self.parts.scratch);
        let scratch = scratch.map_err(|error| format!("write the result: {error}"))?;
        encode_png(&picture, &mut scratch.as_file()).map_err(|error| chain(&error))?;
        self.parts
            .blobs
            .import(scratch.path())
            .map_err(|error| chain(&error))
    }

    /// Calls `take` with each unit that has an output, in order.
    fn each(
        &self,
        mut take: impl FnMut(u32, UnitOutput) -> Result<(), String>,
    ) -> Result<(), String> {
        for row in contents::outputs(&self.store, &self.id).map_err(|error| chain(&error))? {
            let (number, unit) = row.map_err(|error| chain(&error))?;
            take(number, unit)?;
        }
        Ok(())
    }

    fn content(&self, unit: UnitOutput) -> Result<Vec<u8>, String> {
        let UnitOutput { output, content } = unit;
        if let Some(content) = content {
            return Ok(content);
        }
        if output.bytes <= INLINE_UNIT_BYTES_MAX {
            let small = contents::small_output(&self.store, &self.id, &output.id)
                .map_err(|error| chain(&error))?;
            return small.ok_or_else(|| format!("output {} is not in the database", output.id));
        }
        let whole = BlobRange {
            blob: output.id,
            start: 0,
            bytes: output.bytes,
        };
        self.parts.blobs.read(whole).map_err(|error| chain(&error))
    }
}

/// Runs the editor in a sandbox of this node.
fn edited(id: TaskId, edit: &Edit, merged: BlobRef, parts: &Parts) -> Result<BlobRef, String> {
    let read = |blob: BlobRef| {
        let whole = BlobRange {
            blob: blob.id,
            start: 0,
            bytes: blob.bytes,
        };
        parts.blobs.read(whole).map_err(|error| chain(&error))
    };
    let program = Program::new(read(edit.program)?.into());
    let input = read(merged)?;
    let mut sandbox = Sandbox::spawn(SandboxConfig::default()).map_err(|error| chain(&error))?;
    let buffer = sandbox.input(input.len()).map_err(|error| chain(&error))?;
    buffer.copy_from_slice(&input);
    let units = [UnitSpec {
        index: 0,
        params: String::new(),
        input: 0..input.len(),
    }];
    let mut run = None;
    let batch = batch_of(&program, &edit.args, (id, 1), edit.limits, &units);
    sandbox
        .run(&batch, &mut |unit| run = Some(unit))
        .map_err(|error| chain(&error))?;
    let run = run.ok_or("the editor was not run")?;
    match run.result {
        Ok(Outcome::Done) => parts.blobs.put(&run.output).map_err(|error| chain(&error)),
        Ok(outcome) => Err(format!(
            "the editor ended with: {outcome}{}",
            said(&run.stderr)
        )),
        Err(fault) => Err(format!("the editor could not be run: {fault}")),
    }
}

/// Returns the start of what a program wrote to its standard error, for people.
fn said(stderr: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(stderr).chars().take(300).collect();
    if text.trim().is_empty() {
        String::new()
    } else {
        format!("; it said: {}", text.trim())
    }
}
