//! Cutting an input into units, on a blocking thread.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::Path;

use tally_imaging::{DecodeLimits, decode_file, pack};
use tally_protocol::coordinator::{Division, Input};
use tally_protocol::id::TaskId;
use tally_protocol::task::split::{LineCutter, UnitTable};
use tally_protocol::task::tiles::TileGrid;
use tally_protocol::task::{BlobRef, LineSplit, Split, Task, TileSplit, UNITS_MAX};
use tokio::task::spawn_blocking;

use super::{Message, Shell};
use crate::blobs::BlobStore;
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
            let result = divide(&task, &parts.blobs, &parts.scratch);
            let _ = parts
                .mailbox
                .blocking_send(Message::input(Input::Divided { task: id, result }));
        });
    }
}

/// Cuts the input of `task`, which is in `blobs`. Tiles are packed into a new blob, by way of the folder `scratch`.
///
/// # Errors
/// The reason why the input cannot be cut, for the customer.
pub(crate) fn divide(task: &Task, blobs: &BlobStore, scratch: &Path) -> Result<Division, String> {
    let input = task.input;
    match task.split {
        Split::Lines(split) => Ok(Division {
            table: cut_lines(split, input, blobs)?,
            packed: input,
        }),
        Split::Bytes(size) => {
            let table = UnitTable::even(input.bytes, size).map_err(|error| chain(&error))?;
            Ok(Division {
                table,
                packed: input,
            })
        }
        Split::Tiles(split) => pack_tiles(split, input, blobs, scratch),
    }
}

fn cut_lines(split: LineSplit, input: BlobRef, blobs: &BlobStore) -> Result<UnitTable, String> {
    let mut file = blobs.open_file(input.id).map_err(|error| chain(&error))?;
    let mut cutter = LineCutter::new(split);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| format!("read the input: {error}"))?;
        if count == 0 {
            return cutter.finish().map_err(|error| chain(&error));
        }
        cutter
            .push(&piece[..count])
            .map_err(|error| chain(&error))?;
    }
}

fn pack_tiles(
    split: TileSplit,
    input: BlobRef,
    blobs: &BlobStore,
    scratch: &Path,
) -> Result<Division, String> {
    let path = blobs.path(input.id).ok_or("the input is gone")?;
    let picture = decode_file(&path, DecodeLimits::default()).map_err(|error| chain(&error))?;
    let (width, height) = (picture.width(), picture.height());
    let grid = TileGrid::new(width, height, split).ok_or_else(|| {
        format!("a picture of {width} x {height} pixels has no tiles or more than {UNITS_MAX}")
    })?;
    let scratch =
        tempfile::NamedTempFile::new_in(scratch).map_err(|error| format!("pack tiles: {error}"))?;
    let mut out = BufWriter::new(scratch.as_file());
    pack(&picture, &grid, &mut out).map_err(|error| chain(&error))?;
    let _: &File = out
        .into_inner()
        .map_err(|error| format!("pack tiles: {error}"))?;
    let packed = blobs
        .import(scratch.path())
        .map_err(|error| chain(&error))?;
    Ok(Division {
        table: UnitTable::Tiles(grid.into()),
        packed,
    })
}
