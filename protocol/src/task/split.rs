//! Cutting an input into units.
//!
//! All units of a task lie in one packed blob, one behind another, so a batch of neighbouring units is one read.
//! For lines and bytes the packed blob is the input itself; for images it is the tiles with their halos, whose
//! pixels repeat. A [`UnitTable`] says which part of the packed blob belongs to which unit.
//!
//! Invariants: the parts are contiguous and in order; for lines and bytes they concatenate to the input.

use serde::{Deserialize, Serialize};

use super::tiles::TileGrid;
use super::{LineSplit, UNITS_MAX};

/// Where each unit lies in the packed blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitTable {
    /// Pieces of one size, the last one shorter; an empty input is one empty unit.
    Even {
        /// Bytes of the packed blob.
        total: u64,
        /// Bytes of each unit but the last.
        size: u64,
    },
    /// Pieces of given ends: unit i is from end i-1 (or 0) to end i.
    Ends(Vec<u64>),
    /// Tiles of an image.
    Tiles(TileTable),
}

/// The tiles of an image, with the end of each in the packed blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "TileGrid", into = "TileGrid")]
pub struct TileTable {
    grid: TileGrid,
    ends: Vec<u64>,
}

impl From<TileGrid> for TileTable {
    fn from(grid: TileGrid) -> Self {
        let ends = grid.tiles().scan(0, |end, tile| {
            *end += tile.padded.bytes();
            Some(*end)
        });
        Self {
            grid,
            ends: ends.collect(),
        }
    }
}

impl From<TileTable> for TileGrid {
    fn from(table: TileTable) -> Self {
        table.grid
    }
}

impl TileTable {
    /// Returns the grid.
    #[must_use]
    pub const fn grid(&self) -> &TileGrid {
        &self.grid
    }
}

/// The input would make more units than a task may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cut the input: more than {UNITS_MAX} units; make them larger")]
pub struct TooManyUnits;

impl UnitTable {
    /// Cuts `total` bytes into pieces of `size`, at least 1.
    ///
    /// # Errors
    /// [`TooManyUnits`].
    pub fn even(total: u64, size: u64) -> Result<Self, TooManyUnits> {
        if total.div_ceil(size.max(1)) > u64::from(UNITS_MAX) {
            return Err(TooManyUnits);
        }
        Ok(Self::Even {
            total,
            size: size.max(1),
        })
    }

    /// Returns the number of units.
    #[must_use]
    pub fn count(&self) -> u32 {
        let count = match self {
            Self::Even { total, size } => total.div_ceil(*size).max(1),
            Self::Ends(ends) => ends.len() as u64,
            Self::Tiles(table) => u64::from(table.grid.count()),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Returns start and length of unit `index` in the packed blob; `None` beyond the last.
    #[must_use]
    pub fn range(&self, index: u32) -> Option<(u64, u64)> {
        if index >= self.count() {
            return None;
        }
        match self {
            Self::Even { total, size } => {
                let start = u64::from(index) * size;
                Some((start, (*size).min(total - start)))
            }
            Self::Ends(ends) => range_of(ends, index),
            Self::Tiles(table) => range_of(&table.ends, index),
        }
    }

    /// Returns how many pixels of the result unit `index` yields; 0 if it is no tile.
    #[must_use]
    pub fn core_pixels(&self, index: u32) -> u64 {
        match self {
            Self::Even { .. } | Self::Ends(_) => 0,
            Self::Tiles(table) => {
                let tile = table.grid.tile(index);
                tile.map_or(0, |tile| {
                    u64::from(tile.core.width) * u64::from(tile.core.height)
                })
            }
        }
    }

    /// Returns the parameters of unit `index`, empty for units that have none.
    #[must_use]
    pub fn params(&self, index: u32) -> String {
        match self {
            Self::Even { .. } | Self::Ends(_) => String::new(),
            Self::Tiles(table) => table
                .grid
                .tile(index)
                .map(|tile| tile.params())
                .unwrap_or_default(),
        }
    }
}

fn range_of(ends: &[u64], index: u32) -> Option<(u64, u64)> {
    let index = index as usize;
    let start = if index == 0 { 0 } else { ends[index - 1] };
    ends.get(index).map(|end| (start, end - start))
}

/// Finds the ends of units of whole lines in an input that arrives piece by piece.
#[derive(Debug)]
pub struct LineCutter {
    split: LineSplit,
    ends: Vec<u64>,
    /// Bytes seen.
    position: u64,
    /// Lines that have ended since the last cut.
    lines: u64,
}

impl LineCutter {
    /// Starts at the beginning of an input.
    #[must_use]
    pub const fn new(split: LineSplit) -> Self {
        Self {
            split,
            ends: Vec::new(),
            position: 0,
            lines: 0,
        }
    }

    /// Takes the next piece of the input.
    ///
    /// # Errors
    /// [`TooManyUnits`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TooManyUnits> {
        let base = self.position;
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            self.position += line.len() as u64;
            if line.last() != Some(&b'\n') {
                continue;
            }
            self.lines += 1;
            let start = self.ends.last().copied().unwrap_or(0);
            if self.lines >= self.split.lines || self.position - start >= self.split.bytes {
                self.cut()?;
            }
        }
        debug_assert_eq!(self.position, base + piece.len() as u64);
        Ok(())
    }

    /// Ends the input: what is left is the last unit.
    ///
    /// # Errors
    /// [`TooManyUnits`].
    pub fn finish(mut self) -> Result<UnitTable, TooManyUnits> {
        if self.ends.last().copied() != Some(self.position) {
            self.cut()?;
        }
        Ok(UnitTable::Ends(self.ends))
    }

    fn cut(&mut self) -> Result<(), TooManyUnits> {
        if self.ends.len() == UNITS_MAX as usize {
            return Err(TooManyUnits);
        }
        self.ends.push(self.position);
        self.lines = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(pieces: &[&[u8]], lines: u64, bytes: u64) -> UnitTable {
        let mut cutter = LineCutter::new(LineSplit { lines, bytes });
        for piece in pieces {
            cutter.push(piece).unwrap();
        }
        cutter.finish().unwrap()
    }

    fn parts<'a>(table: &UnitTable, input: &'a [u8]) -> Vec<&'a [u8]> {
        let part = |index| {
            let (start, length) = table.range(index).unwrap();
            &input[usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap()]
        };
        (0..table.count()).map(part).collect()
    }

    #[test]
    fn an_empty_input_is_one_empty_unit() {
        let expected: Vec<&[u8]> = vec![b""];
        assert_eq!(parts(&lines_of(&[], 5, 100), b""), expected);
        assert_eq!(parts(&UnitTable::even(0, 10).unwrap(), b""), expected);
    }

    #[test]
    fn lines_stay_whole_with_crlf_long_lines_and_no_last_newline() {
        let input = b"a\r\nbb\r\n0123456789012345\nc";
        let table = lines_of(&[&input[..2], &input[2..9], &input[9..]], 2, 8);
        let expected: Vec<&[u8]> = vec![b"a\r\nbb\r\n", b"0123456789012345\n", b"c"];
        assert_eq!(parts(&table, input), expected);
    }

    #[test]
    fn too_many_units_are_refused() {
        assert_eq!(UnitTable::even(u64::MAX, 1), Err(TooManyUnits));
        let mut cutter = LineCutter::new(LineSplit { lines: 1, bytes: 1 });
        assert_eq!(
            cutter.push(&vec![b'\n'; UNITS_MAX as usize + 1]),
            Err(TooManyUnits)
        );
    }

    proptest! {
        #[test]
        fn units_concatenate_to_the_input(
            input in prop::collection::vec(prop::sample::select(vec![b'\n', b'\r', b'a', 0xff]), 0..300),
            piece in 1_usize..50, lines in 1_u64..5, bytes in 1_u64..60,
        ) {
            let by_lines = lines_of(&input.chunks(piece).collect::<Vec<_>>(), lines, bytes);
            prop_assert_eq!(parts(&by_lines, &input).concat(), input.clone());
            let whole_lines = parts(&by_lines, &input);
            prop_assert!(whole_lines.iter().rev().skip(1).all(|unit| unit.ends_with(b"\n")));
            let by_bytes = UnitTable::even(input.len() as u64, bytes).unwrap();
            prop_assert_eq!(parts(&by_bytes, &input).concat(), input.clone());
        }
    }
}
