//! Geometry of image tiles: a grid of cores that cover the image once, each with a halo around it.
//!
//! Invariants: cores are disjoint and cover the image; a tile is its core grown by the halo and cut at the edges
//! of the image. A program whose output pixel depends on at most `halo` pixels around it, and which repeats
//! the border pixels beyond the edges of its buffer, yields the same core as over the whole image.

use serde::{Deserialize, Serialize};

use super::{TileSplit, UNITS_MAX};

/// Bytes of one pixel: red, green, blue, alpha.
pub const PIXEL_BYTES: u64 = 4;

/// The grid over one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TileGrid {
    width: u32,
    height: u32,
    core: u32,
    halo: u32,
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// Distance from the left edge.
    pub x: u32,
    /// Distance from the upper edge.
    pub y: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Area {
    /// Returns how many bytes its pixels have.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.width as u64 * self.height as u64 * PIXEL_BYTES
    }
}

/// One tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// What the tile yields, in the image.
    pub core: Area,
    /// What the program sees, in the image: the core with its halo.
    pub padded: Area,
}

impl Tile {
    /// Returns the unit's parameters: `width height left top core_width core_height`, where the first two are the
    /// size of what the program sees and the next two the place of the core in it.
    #[must_use]
    pub fn params(&self) -> String {
        let (core, padded) = (self.core, self.padded);
        let (left, top) = (core.x - padded.x, core.y - padded.y);
        format!(
            "{} {} {left} {top} {} {}",
            padded.width, padded.height, core.width, core.height
        )
    }
}

/// Returns the core pixels of a unit with these parameters: what [`Tile::params`] writes, with a core that lies inside
/// of what the program sees. 0 if they are anything else.
#[must_use]
pub fn core_pixels(params: &str) -> u64 {
    let mut numbers = [0_u32; 6];
    let mut words = params.split(' ');
    for number in &mut numbers {
        let Some(Ok(read)) = words.next().map(str::parse) else {
            return 0;
        };
        *number = read;
    }
    let [width, height, left, top, core_width, core_height] = numbers.map(u64::from);
    let inside = left + core_width <= width && top + core_height <= height;
    if inside && words.next().is_none() {
        core_width * core_height
    } else {
        0
    }
}

impl TileGrid {
    /// Lays the grid over an image of `width` x `height` pixels; `None` if the image is empty or has more tiles
    /// than a task has units.
    #[must_use]
    pub fn new(width: u32, height: u32, split: TileSplit) -> Option<Self> {
        if width == 0 || height == 0 || split.core == 0 {
            return None;
        }
        let tiles = u64::from(width.div_ceil(split.core)) * u64::from(height.div_ceil(split.core));
        let grid = Self {
            width,
            height,
            core: split.core,
            halo: split.halo,
        };
        (tiles <= u64::from(UNITS_MAX)).then_some(grid)
    }

    /// Returns the size of the image: width and height.
    #[must_use]
    pub const fn image(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Returns the number of tiles.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.columns() * self.height.div_ceil(self.core)
    }

    /// Returns tile `index`, row by row from the upper left; `None` beyond the last.
    #[must_use]
    pub fn tile(&self, index: u32) -> Option<Tile> {
        if index >= self.count() {
            return None;
        }
        let (x, y) = (
            index % self.columns() * self.core,
            index / self.columns() * self.core,
        );
        let core = Area {
            x,
            y,
            width: self.core.min(self.width - x),
            height: self.core.min(self.height - y),
        };
        let (left, top) = (x.saturating_sub(self.halo), y.saturating_sub(self.halo));
        let right = (x + core.width).saturating_add(self.halo).min(self.width);
        let bottom = (y + core.height).saturating_add(self.halo).min(self.height);
        Some(Tile {
            core,
            padded: Area {
                x: left,
                y: top,
                width: right - left,
                height: bottom - top,
            },
        })
    }

    /// Returns the tiles in order.
    pub fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let grid = *self;
        (0..grid.count()).map_while(move |index| grid.tile(index))
    }

    const fn columns(&self) -> u32 {
        self.width.div_ceil(self.core)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_parameters_of_a_tile_have_core_pixels() {
        let pixels = |params: &str| core_pixels(params);
        assert_eq!(pixels("146 81 9 9 128 72"), 128 * 72);
        let area = u64::from(u32::MAX).pow(2);
        assert_eq!(
            pixels("4294967295 4294967295 0 0 4294967295 4294967295"),
            area
        );
        let others = [
            "",
            "7",
            "146 81 9 9 128",
            "146 81 9 9 128 72 1",
            "146 81 9 9 138 72",
            "146 81 9 10 128 72",
            "146 81 9 9 -1 72",
            "146  81 9 9 128 72",
            "4294967296 81 9 9 128 72",
        ];
        assert!(others.iter().all(|params| pixels(params) == 0));
        let grid = TileGrid::new(300, 200, TileSplit { core: 128, halo: 9 }).unwrap();
        let all: u64 = grid.tiles().map(|tile| pixels(&tile.params())).sum();
        assert_eq!(all, 300 * 200);
    }

    #[test]
    fn a_tile_tells_where_its_core_lies() {
        let grid = TileGrid::new(300, 200, TileSplit { core: 128, halo: 9 }).unwrap();
        assert_eq!(grid.count(), 6);
        let last = grid.tile(5).unwrap();
        assert_eq!(
            last.core,
            Area {
                x: 256,
                y: 128,
                width: 44,
                height: 72
            }
        );
        assert_eq!(
            last.padded,
            Area {
                x: 247,
                y: 119,
                width: 53,
                height: 81
            }
        );
        assert_eq!(last.params(), "53 81 9 9 44 72");
        assert_eq!(grid.tile(6), None);
    }

    #[test]
    fn empty_and_huge_images_have_no_grid() {
        let split = TileSplit { core: 8, halo: 0 };
        assert_eq!(TileGrid::new(0, 5, split), None);
        assert_eq!(TileGrid::new(u32::MAX, u32::MAX, split), None);
    }

    proptest! {
        #[test]
        fn cores_cover_each_pixel_once(width in 1_u32..90, height in 1_u32..90, core in 8_u32..40, halo in 0_u32..20) {
            let grid = TileGrid::new(width, height, TileSplit { core, halo }).unwrap();
            let mut seen = vec![0_u8; (width * height) as usize];
            for tile in grid.tiles() {
                for y in tile.core.y..tile.core.y + tile.core.height {
                    for x in tile.core.x..tile.core.x + tile.core.width {
                        seen[(y * width + x) as usize] += 1;
                    }
                }
                prop_assert!(tile.padded.x + tile.padded.width <= width);
                prop_assert!(tile.padded.y + tile.padded.height <= height);
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
        }
    }
}
