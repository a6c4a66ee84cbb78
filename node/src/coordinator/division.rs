//! Cutting an input into units, on a blocking thread.

use std::fs::File;
use std::io::{BufWriter, Read};

use tally_imaging::{DecodeLimits, decode_file, pack};
use tally_protocol::coordinator::{Division, Input};
use tally_protocol::id::TaskId;
use tally_protocol::task::split::{LineCutter, UnitTable};
use tally_protocol::task::tiles::TileGrid;
use tally_protocol::task::{BlobRef, LineSplit, Split, Task, TileSplit, UNITS_MAX};
use tokio::task::spawn_blocking;

use super::{Message, Parts, Shell};
use crate::error::chain;

/// Bytes of an input that are looked at at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Shell {
    pub(super) fn divide(&self, id: TaskId) {
        let Some(task) = self.machine.task(&id) else {
            return;
        };
        let (task, parts) = (task.value().clone(), self.parts.clone());
        spawn_blocking(move || {
            let result = division(&task, &parts);
            let _ = parts.mailbox.blocking_send(Message::Input(Input::Divided { task: id, result }));
        });
    }
}

fn division(task: &Task, parts: &Parts) -> Result<Division, String> {
    match task.split {
        Split::Lines(split) => {
            let table = cut_lines(split, task.input, parts)?;
            Ok(Division { table, packed: task.input })
        }
        Split::Bytes(size) => {
            let table = UnitTable::even(task.input.bytes, size).map_err(|error| chain(&error))?;
            Ok(Division { table, packed: task.input })
        }
        Split::Tiles(split) => pack_tiles(split, task.input, parts),
    }
}

fn cut_lines(split: LineSplit, input: BlobRef, parts: &Parts) -> Result<UnitTable, String> {
    let mut file = parts.blobs.open_file(input.id).map_err(|error| chain(&error))?;
    let mut cutter = LineCutter::new(split);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(|error| format!("read the input: {error}"))?;
        if count == 0 {
            return cutter.finish().map_err(|error| chain(&error));
        }
        cutter.push(&piece[..count]).map_err(|error| chain(&error))?;
    }
}

fn pack_tiles(split: TileSplit, input: BlobRef, parts: &Parts) -> Result<Division, String> {
    let path = parts.blobs.path(input.id).ok_or("the input is gone")?;
    let picture = decode_file(&path, DecodeLimits::default()).map_err(|error| chain(&error))?;
    let (width, height) = (picture.width(), picture.height());
    let grid = TileGrid::new(width, height, split)
        .ok_or_else(|| format!("a picture of {width} x {height} pixels has no tiles or more than {UNITS_MAX}"))?;
    let scratch = tempfile::NamedTempFile::new_in(&parts.scratch).map_err(|error| format!("pack tiles: {error}"))?;
    let mut out = BufWriter::new(scratch.as_file());
    pack(&picture, &grid, &mut out).map_err(|error| chain(&error))?;
    let _: &File = out.into_inner().map_err(|error| format!("pack tiles: {error}"))?;
    let packed = parts.blobs.import(scratch.path()).map_err(|error| chain(&error))?;
    Ok(Division { table: UnitTable::Tiles(grid.into()), packed })
}
