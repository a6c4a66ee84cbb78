//! Stitching: the cores of tiles, in any order, become one picture.
//!
//! Invariant: each tile is placed or skipped at most once, so what is drawn never changes afterwards.

use tally_protocol::task::tiles::{Tile, TileGrid};

use crate::picture::Picture;

/// A picture that is being put together.
#[derive(Debug)]
pub struct Stitcher {
    grid: TileGrid,
    picture: Picture,
    coverage: Vec<Coverage>,
    /// Tiles that are neither placed nor skipped.
    missing: u32,
}

/// What is known of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing yet.
    Missing,
    /// Its core is in the picture.
    Placed,
    /// It will not come; its core stays transparent.
    Skipped,
}

/// Why a picture could not be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StitchError {
    /// The picture has more pixels than the limit.
    #[error("stitch {width} x {height} pixels: at most {pixels_max} are taken")]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        pixels_max: u64,
    },
    /// The grid has no such tile.
    #[error("place tile {index}: there are {count}")]
    NoSuchTile {
        /// The tile.
        index: u32,
        /// Tiles of the grid.
        count: u32,
    },
    /// The bytes are not those of the tile's core.
    #[error("place tile {index}: it has {bytes} bytes instead of {expected}")]
    WrongSize {
        /// The tile.
        index: u32,
        /// Bytes given.
        bytes: u64,
        /// Bytes of its core.
        expected: u64,
    },
    /// The tile was placed or skipped before.
    #[error("place tile {index}: it was placed or skipped before")]
    Again {
        /// The tile.
        index: u32,
    },
    /// Tiles are neither placed nor skipped.
    #[error("finish the picture: {missing} tiles are missing, the first is {first}")]
    Incomplete {
        /// How many.
        missing: u32,
        /// The first of them.
        first: u32,
    },
}

impl Stitcher {
    /// Starts with an empty picture of at most `pixels_max` pixels; a grid can come from somebody else and cover
    /// more than any memory holds.
    ///
    /// # Errors
    /// [`StitchError::TooManyPixels`].
    pub fn new(grid: &TileGrid, pixels_max: u64) -> Result<Self, StitchError> {
        let (width, height) = grid.image();
        let picture = (u64::from(width) * u64::from(height) <= pixels_max)
            .then(|| Picture::transparent(width, height))
            .flatten();
        let picture = picture.ok_or(StitchError::TooManyPixels {
            width,
            height,
            pixels_max,
        })?;
        Ok(Self {
            grid: *grid,
            picture,
            coverage: vec![Coverage::Missing; grid.count() as usize],
            missing: grid.count(),
        })
    }

    /// Draws the core of tile `index`, given as rows of RGBA bytes.
    ///
    /// # Errors
    /// [`StitchError`]; the picture is as it was.
    pub fn place(&mut self, index: u32, core: &[u8]) -> Result<(), StitchError> {
        let tile = self.missing_tile(index)?;
        let (bytes, expected) = (core.len() as u64, tile.core.bytes());
        if bytes != expected {
            return Err(StitchError::WrongSize {
                index,
                bytes,
                expected,
            });
        }
        self.picture.write(tile.core, core);
        self.settle(index, Coverage::Placed);
        Ok(())
    }

    /// Leaves the core of tile `index` transparent, for a unit that failed for good.
    ///
    /// # Errors
    /// [`StitchError::NoSuchTile`] or [`StitchError::Again`].
    pub fn skip(&mut self, index: u32) -> Result<(), StitchError> {
        self.missing_tile(index)?;
        self.settle(index, Coverage::Skipped);
        Ok(())
    }

    /// Returns what is known of each tile, in the order of the grid.
    #[must_use]
    pub fn coverage(&self) -> &[Coverage] {
        &self.coverage
    }

    /// Returns how many tiles are neither placed nor skipped.
    #[must_use]
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// Returns the picture so far, to be shown while tiles arrive.
    #[must_use]
    pub const fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Returns the whole picture.
    ///
    /// # Errors
    /// [`StitchError::Incomplete`] if a tile was neither placed nor skipped.
    pub fn finish(self) -> Result<Picture, StitchError> {
        let first = (0_u32..)
            .zip(&self.coverage)
            .find(|(_, coverage)| **coverage == Coverage::Missing);
        match first {
            None => Ok(self.picture),
            Some((first, _)) => Err(StitchError::Incomplete {
                missing: self.missing,
                first,
            }),
        }
    }

    fn missing_tile(&self, index: u32) -> Result<Tile, StitchError> {
        let tile = self.grid.tile(index).ok_or(StitchError::NoSuchTile {
            index,
            count: self.grid.count(),
        })?;
        match self.coverage[index as usize] {
            Coverage::Missing => Ok(tile),
            Coverage::Placed | Coverage::Skipped => Err(StitchError::Again { index }),
        }
    }

    fn settle(&mut self, index: u32, coverage: Coverage) {
        self.coverage[index as usize] = coverage;
        self.missing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use tally_protocol::task::TileSplit;

    use super::*;

    /// Two tiles of 8 x 3 and 2 x 3 pixels.
    fn stitcher() -> Stitcher {
        let grid = TileGrid::new(10, 3, TileSplit { core: 8, halo: 1 }).unwrap();
        Stitcher::new(&grid, 30).unwrap()
    }

    #[test]
    fn tiles_arrive_in_any_order() {
        let mut stitcher = stitcher();
        stitcher.place(1, &[2; 2 * 3 * 4]).unwrap();
        assert_eq!(stitcher.coverage(), [Coverage::Missing, Coverage::Placed]);
        stitcher.place(0, &[1; 8 * 3 * 4]).unwrap();
        let row = [[1; 8 * 4].as_slice(), &[2; 2 * 4]].concat();
        assert_eq!(stitcher.finish().unwrap().pixels(), row.repeat(3));
    }

    #[test]
    fn a_skipped_tile_stays_transparent() {
        let mut stitcher = stitcher();
        stitcher.skip(0).unwrap();
        stitcher.place(1, &[9; 24]).unwrap();
        assert_eq!(stitcher.coverage(), [Coverage::Skipped, Coverage::Placed]);
        let row = [[0; 32].as_slice(), &[9; 8]].concat();
        assert_eq!(stitcher.finish().unwrap().pixels(), row.repeat(3));
    }

    #[test]
    fn a_refused_tile_changes_nothing() {
        let mut stitcher = stitcher();
        stitcher.place(1, &[2; 24]).unwrap();
        let again = StitchError::Again { index: 1 };
        assert_eq!(stitcher.place(1, &[3; 24]), Err(again.clone()));
        assert_eq!(stitcher.skip(1), Err(again));
        let wrong = stitcher.place(0, &[3; 95]).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "place tile 0: it has 95 bytes instead of 96"
        );
        let unknown = StitchError::NoSuchTile { index: 2, count: 2 };
        assert_eq!(stitcher.place(2, &[3; 24]), Err(unknown));
        let expected = [[0; 32].as_slice(), &[2; 8]].concat().repeat(3);
        assert_eq!(stitcher.picture().pixels(), expected);
        let incomplete = StitchError::Incomplete {
            missing: 1,
            first: 0,
        };
        assert_eq!(stitcher.finish(), Err(incomplete));
    }

    #[test]
    fn a_grid_over_more_pixels_than_the_limit_takes_no_memory() {
        let grid = TileGrid::new(
            u32::MAX,
            4_000,
            TileSplit {
                core: 8_192,
                halo: 0,
            },
        )
        .unwrap();
        let error = Stitcher::new(&grid, 1 << 27).unwrap_err();
        assert_eq!(
            error.to_string(),
            "stitch 4294967295 x 4000 pixels: at most 134217728 are taken"
        );
    }
}
