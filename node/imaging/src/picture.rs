//! A picture in memory.

use std::fmt;

use tally_protocol::task::tiles::{Area, PIXEL_BYTES};

/// Bytes of one pixel, as a length.
pub(crate) const PIXEL: usize = 4;
const _: () = assert!(PIXEL as u64 == PIXEL_BYTES, "the same everywhere");

/// Pixels in rows from the upper left: red, green, blue and alpha, a byte each, alpha not multiplied in.
///
/// Invariant: it has at least one pixel, and as many bytes as its size says.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    /// Makes a picture of RGBA bytes; `None` if there are not exactly `width` x `height` pixels, or none.
    #[must_use]
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let bytes = byte_count(width, height)?;
        (bytes > 0 && bytes == pixels.len()).then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Makes a picture that is transparent everywhere; `None` if it would have no pixels or not fit the memory of
    /// any computer.
    #[must_use]
    pub fn transparent(width: u32, height: u32) -> Option<Self> {
        Self::new(width, height, vec![0; byte_count(width, height)?])
    }

    /// Returns the pixels in a row.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Returns the rows.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// Returns the RGBA bytes, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the RGBA bytes, row by row.
    #[must_use]
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Returns the rows from the top, each as its RGBA bytes.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.width as usize * PIXEL)
    }

    /// Returns the bytes of row `y`.
    ///
    /// # Panics
    /// If there is no such row.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let row_bytes = self.width as usize * PIXEL;
        &self.pixels[y * row_bytes..][..row_bytes]
    }

    /// Returns the parts of rows that lie in `area`, from the top.
    ///
    /// # Panics
    /// If the area is not inside the picture.
    pub(crate) fn rows_of(&self, area: Area) -> impl Iterator<Item = &[u8]> {
        let (start, length) = (area.x as usize * PIXEL, area.width as usize * PIXEL);
        let rows = area.y as usize..area.y as usize + area.height as usize;
        rows.map(move |y| &self.row(y)[start..start + length])
    }

    /// Writes `bytes`, the rows of `area`, into the picture.
    ///
    /// # Panics
    /// If the area is not inside the picture.
    pub(crate) fn write(&mut self, area: Area, bytes: &[u8]) {
        let row_bytes = self.width as usize * PIXEL;
        let (start, length) = (area.x as usize * PIXEL, area.width as usize * PIXEL);
        let rows = self.pixels.chunks_exact_mut(row_bytes);
        for (row, part) in rows
            .skip(area.y as usize)
            .zip(bytes.chunks_exact(length))
            .take(area.height as usize)
        {
            row[start..start + length].copy_from_slice(part);
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({} x {})", self.width, self.height)
    }
}

fn byte_count(width: u32, height: u32) -> Option<usize> {
    let pixels = (width as usize).checked_mul(height as usize)?;
    // No allocation may be larger than this; a vector would panic.
    pixels
        .checked_mul(PIXEL)
        .filter(|bytes| *bytes <= isize::MAX.unsigned_abs())
}
