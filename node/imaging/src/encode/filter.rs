//! The filters of PNG: each row is written as differences from its neighbours, whichever kind is smallest.
//!
//! Every filter is one pass over slices of equal length, without a special case at the left edge: rows are kept
//! behind one pixel of zeros, which is what the format says lies there. So the compiler makes vector code of it.

/// Kinds of filters, by the number that the format has for them.
const KINDS: usize = 5;

/// Filters row after row, each against the one before it.
#[derive(Debug)]
pub(super) struct Filter {
    /// Bytes of a pixel.
    pixel: usize,
    /// The row before: a pixel of zeros, then its bytes.
    above: Vec<u8>,
    /// The row that is filtered, alike.
    row: Vec<u8>,
    /// Kind and bytes of the row by the best filter so far, and by the one that is tried.
    best: Vec<u8>,
    tried: Vec<u8>,
}

impl Filter {
    /// Starts above the first row of an image with `width` pixels of `pixel` bytes.
    pub(super) fn new(pixel: usize, width: usize) -> Self {
        let bytes = pixel * width;
        Self {
            pixel,
            above: vec![0; pixel + bytes],
            row: vec![0; pixel + bytes],
            best: vec![0; 1 + bytes],
            tried: vec![0; 1 + bytes],
        }
    }

    /// Goes on to the next row, whose bytes `extend` appends.
    ///
    /// # Panics
    /// If it does not append exactly a row.
    pub(super) fn pass(&mut self, extend: impl FnOnce(&mut Vec<u8>)) {
        let length = self.row.len();
        std::mem::swap(&mut self.above, &mut self.row);
        self.row.truncate(self.pixel);
        extend(&mut self.row);
        assert_eq!(self.row.len(), length, "a row has the width of the image");
    }

    /// Returns the row as it is written: the kind of the best filter and the filtered bytes.
    pub(super) fn best(&mut self) -> &[u8] {
        let mut least = u64::MAX;
        for kind in 0..KINDS {
            self.try_kind(kind);
            let cost = cost(&self.tried[1..]);
            if cost < least {
                least = cost;
                std::mem::swap(&mut self.best, &mut self.tried);
            }
        }
        &self.best
    }

    fn try_kind(&mut self, kind: usize) {
        let bytes = self.row.len() - self.pixel;
        let (row, above) = (&self.row[self.pixel..], &self.above[self.pixel..]);
        let (left, corner) = (&self.row[..bytes], &self.above[..bytes]);
        let (number, out) = self.tried.split_first_mut().expect("holds the kind");
        let out = out.iter_mut().zip(row);
        match kind {
            0 => {
                *number = 0;
                out.for_each(|(out, x)| *out = *x);
            }
            1 => {
                *number = 1;
                out.zip(left)
                    .for_each(|((out, x), a)| *out = x.wrapping_sub(*a));
            }
            2 => {
                *number = 2;
                out.zip(above)
                    .for_each(|((out, x), b)| *out = x.wrapping_sub(*b));
            }
            3 => {
                *number = 3;
                let neighbours = left.iter().zip(above);
                out.zip(neighbours)
                    .for_each(|((out, x), (a, b))| *out = x.wrapping_sub(a.midpoint(*b)));
            }
            _ => {
                *number = 4;
                let neighbours = left.iter().zip(above).zip(corner);
                out.zip(neighbours)
                    .for_each(|((out, x), ((a, b), c))| *out = x.wrapping_sub(paeth(*a, *b, *c)));
            }
        }
    }
}

/// Returns the neighbour (left, above, corner) that is nearest to left + above - corner.
fn paeth(a: u8, b: u8, c: u8) -> u8 {
    let (left, above, corner) = (i16::from(a), i16::from(b), i16::from(c));
    let to_left = (above - corner).abs();
    let to_above = (left - corner).abs();
    let to_corner = (left + above - 2 * corner).abs();
    let other = if to_above <= to_corner { b } else { c };
    if to_left <= to_above && to_left <= to_corner {
        a
    } else {
        other
    }
}

/// Returns the sum of the absolute values of the bytes, taken as signed: the smaller, the better they compress.
fn cost(filtered: &[u8]) -> u64 {
    // As many as fit 16 bits, so that one vector adds eight of them.
    const PIECE: usize = 256;
    let magnitude = |byte: &u8| u16::from(byte.cast_signed().unsigned_abs());
    let pieces = filtered.chunks(PIECE);
    pieces
        .map(|piece| u64::from(piece.iter().map(magnitude).fold(0, u16::wrapping_add)))
        .sum()
}
