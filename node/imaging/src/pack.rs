//! Packing a picture: its tiles with their halos, one behind another.

use std::io::{self, Write};

use tally_protocol::task::tiles::TileGrid;

use crate::picture::Picture;

/// Why a picture was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The grid is one over an image of another size.
    #[error("pack a picture of {width} x {height} pixels by a grid over {} x {}", grid.0, grid.1)]
    OtherSize {
        /// Pixels in a row of the picture.
        width: u32,
        /// Rows of the picture.
        height: u32,
        /// Width and height that the grid covers.
        grid: (u32, u32),
    },
    /// The packed tiles could not be written.
    #[error("write the packed tiles")]
    Write(#[source] io::Error),
}

/// Writes the padded area of each tile as rows of RGBA bytes, tile after tile, so that each tile lies where the
/// unit table of the task says.
///
/// `out` gets many small writes, one for each row of each tile: give it a buffer, which is flushed at the end.
///
/// # Errors
/// [`PackError`]; what was written till then is of no use.
pub fn pack(picture: &Picture, grid: &TileGrid, mut out: impl Write) -> Result<(), PackError> {
    let (width, height) = (picture.width(), picture.height());
    if grid.image() != (width, height) {
        return Err(PackError::OtherSize {
            width,
            height,
            grid: grid.image(),
        });
    }
    let mut rows = grid.tiles().flat_map(|tile| picture.rows_of(tile.padded));
    rows.try_for_each(|row| out.write_all(row))
        .and_then(|()| out.flush())
        .map_err(PackError::Write)
}
