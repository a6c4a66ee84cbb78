//! The reference definition of the gaussian blur: integer arithmetic, no `unsafe`, the same result on every machine.
//!
//! An image is RGBA with 8 bits a channel; all four channels are filtered alike (alpha is not premultiplied).
//! With radius R and weights `w[0..=R]`, where `w[0] + 2 * (w[1] + .. + w[R]) = 2^14`, each channel is filtered down the
//! columns and then along the rows, `>>` rounding down:
//!
//! ```text
//! h(x, y)   = (sum over k = -R..=R of w[|k|] * in(x, clamp(y + k)) + 2^7)  >> 8      14 bits: 255 becomes 255 * 2^6
//! out(x, y) = (sum over k = -R..=R of w[|k|] * h(clamp(x + k), y)  + 2^19) >> 20
//! ```
//!
//! `clamp` repeats the pixels at the borders of the buffer. A pixel depends only on the 2R+1 rows and columns around it, so
//! a tile whose halo is R wide gives exactly the pixels of the whole image. An even area stays as it is, since the
//! weights sum to a power of two exactly. All sums fit in 31 bits, and nothing here saturates.
//!
//! This file stands alone (core only), so that a benchmark can compile it natively with `#[path]`.

/// The largest radius.
pub const RADIUS_MAX: usize = 32;

/// The largest sigma, in thousandths of a pixel.
pub const SIGMA_MILLI_MAX: u32 = 64_000;

/// Pixels that [`blur`] can take in one row of the buffer, halo included: its scratch rows are on the stack.
pub const PORTABLE_WIDTH_MAX: usize = 4096;

/// Bytes of a pixel.
pub const CHANNELS: usize = 4;

/// What the weights of a kernel sum to.
pub const WEIGHT_SUM: u64 = 1 << 14;

/// A tile with its halo, and the core inside it that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Columns of the tile, halo included.
    pub width: usize,
    /// Rows of the tile, halo included.
    pub height: usize,
    /// The core's first column.
    pub left: usize,
    /// The core's first row.
    pub top: usize,
    /// Columns of the core.
    pub core_width: usize,
    /// Rows of the core.
    pub core_height: usize,
}

impl Geometry {
    /// Returns whether the core is not empty and lies inside the tile.
    pub fn is_valid(&self) -> bool {
        fn inside(start: usize, length: usize, whole: usize) -> bool {
            length > 0 && start < whole && length <= whole - start
        }
        inside(self.left, self.core_width, self.width)
            && inside(self.top, self.core_height, self.height)
    }
}

/// The weights of one half of a symmetric kernel, centre first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    radius: usize,
    half: [i16; RADIUS_MAX + 1],
}

impl Weights {
    /// Returns the weights for a radius of 1 to [`RADIUS_MAX`] and a sigma of 1 to [`SIGMA_MILLI_MAX`] thousandths.
    ///
    /// With g(t) = exp(-t^2 / (2 sigma^2)) in 31 bit fixed point and G(t) = g(t) + .. + g(R), the half sums are rounded,
    /// not the weights: c(t) = round(2^14 * G(t) / (2 G(0) - g(0))), w(t) = c(t) - c(t+1), w(0) = 2^14 - 2 c(1). So each
    /// weight is less than one step off, and the whole sums to 2^14.
    pub fn new(radius: usize, sigma_milli: u32) -> Option<Self> {
        if radius == 0 || radius > RADIUS_MAX || sigma_milli == 0 || sigma_milli > SIGMA_MILLI_MAX {
            return None;
        }
        let denominator = 2 * u64::from(sigma_milli) * u64::from(sigma_milli);
        let mut bell = [0_u64; RADIUS_MAX + 1];
        for (value, t) in bell.iter_mut().zip(0_u64..).take(radius + 1) {
            *value = exp_negative(t * t * 1_000_000, denominator);
        }
        let sum = bell[0] + 2 * bell[1..].iter().sum::<u64>();
        let mut half = [0_i16; RADIUS_MAX + 1];
        let mut tail = 0;
        let mut tail_rounded = 0;
        for t in (1..=radius).rev() {
            tail += bell[t];
            let rounded = (2 * WEIGHT_SUM * tail + sum) / (2 * sum);
            half[t] = weight(rounded - tail_rounded);
            tail_rounded = rounded;
        }
        half[0] = weight(WEIGHT_SUM - 2 * tail_rounded);
        Some(Self { radius, half })
    }

    /// Returns the weights from the centre outwards: radius + 1 of them.
    pub fn half(&self) -> &[i16] {
        &self.half[..=self.radius]
    }

    /// Returns the radius.
    pub fn radius(&self) -> usize {
        self.radius
    }
}

/// Filters the core of `input` (RGBA rows of the whole tile) into `output` (RGBA rows of the core).
///
/// # Panics
/// If the geometry is not valid, a buffer's length does not fit it, or the tile is wider than [`PORTABLE_WIDTH_MAX`].
pub fn blur(input: &[u8], geometry: &Geometry, weights: &Weights, output: &mut [u8]) {
    let row_bytes = geometry.width * CHANNELS;
    assert!(
        geometry.is_valid() && geometry.width <= PORTABLE_WIDTH_MAX,
        "the geometry is valid"
    );
    assert!(
        input.len() == geometry.height * row_bytes,
        "the input is the tile"
    );
    assert!(
        output.len() == geometry.core_width * geometry.core_height * CHANNELS,
        "the output is the core"
    );
    let mut padded = [0_i16; (PORTABLE_WIDTH_MAX + 2 * RADIUS_MAX) * CHANNELS];
    let margin = weights.radius * CHANNELS;
    let padded = &mut padded[..row_bytes + 2 * margin];
    let rows_out = output.chunks_exact_mut(geometry.core_width * CHANNELS);
    for (row_out, y) in rows_out.zip(geometry.top..) {
        filter_columns(
            input,
            row_bytes,
            y,
            weights,
            &mut padded[margin..margin + row_bytes],
        );
        repeat_ends(padded, margin);
        filter_row(&padded[geometry.left * CHANNELS..], weights, row_out);
    }
}

/// Values that are summed together: enough to keep vector units busy, few enough to stay in registers.
const BLOCK: usize = 16;

/// What is added before shifting, so that the shift rounds to nearest.
const COLUMNS_ROUND: i32 = 1 << 7;
const ROW_ROUND: i32 = 1 << 19;

/// Filters row `y` of the tile down its columns, into 14 bit values.
fn filter_columns(input: &[u8], row_bytes: usize, y: usize, weights: &Weights, out: &mut [i16]) {
    let y_last = input.len() / row_bytes - 1;
    let row = |y: usize| &input[y * row_bytes..][..row_bytes];
    let mut rows = [(row(y), row(y)); RADIUS_MAX + 1];
    for (t, pair) in rows.iter_mut().enumerate().take(weights.radius + 1).skip(1) {
        *pair = (row(y.saturating_sub(t)), row((y + t).min(y_last)));
    }
    let centre = i32::from(weights.half[0]);
    let blocks_end = row_bytes - row_bytes % BLOCK;
    for x in (0..blocks_end).step_by(BLOCK) {
        let mut sums = [COLUMNS_ROUND; BLOCK];
        for (sum, value) in sums.iter_mut().zip(block(row(y), x)) {
            *sum += centre.wrapping_mul(i32::from(*value));
        }
        for (t, (above, below)) in rows.iter().enumerate().take(weights.radius + 1).skip(1) {
            add_weighted(&mut sums, weights.half[t], block(above, x), block(below, x));
        }
        for (value, sum) in out[x..x + BLOCK].iter_mut().zip(sums) {
            *value = low_i16(sum >> 8);
        }
    }
    for (x, out) in out.iter_mut().enumerate().skip(blocks_end) {
        let tap = |t: usize| {
            i32::from(weights.half[t]) * (i32::from(rows[t].0[x]) + i32::from(rows[t].1[x]))
        };
        let sum = centre * i32::from(row(y)[x]) + (1..=weights.radius).map(tap).sum::<i32>();
        *out = low_i16((sum + COLUMNS_ROUND) >> 8);
    }
}

/// Repeats the first and the last pixel of a row into its margins.
fn repeat_ends(padded: &mut [i16], margin: usize) {
    let end = padded.len() - margin;
    let (first, last) = (margin, end - CHANNELS);
    for x in (0..margin).step_by(CHANNELS) {
        padded.copy_within(first..first + CHANNELS, x);
        padded.copy_within(last..last + CHANNELS, end + x);
    }
}

/// Filters along a row; `padded` starts a radius before the first pixel that is wanted.
fn filter_row(padded: &[i16], weights: &Weights, out: &mut [u8]) {
    let margin = weights.radius * CHANNELS;
    let centre = i32::from(weights.half[0]);
    let blocks_end = out.len() - out.len() % BLOCK;
    for x in (0..blocks_end).step_by(BLOCK) {
        let at = margin + x;
        let mut sums = [ROW_ROUND; BLOCK];
        for (sum, value) in sums.iter_mut().zip(block(padded, at)) {
            *sum += centre.wrapping_mul(i32::from(*value));
        }
        for t in 1..=weights.radius {
            let away = t * CHANNELS;
            add_weighted(
                &mut sums,
                weights.half[t],
                block(padded, at - away),
                block(padded, at + away),
            );
        }
        for (byte, sum) in out[x..x + BLOCK].iter_mut().zip(sums) {
            *byte = low_u8(sum >> 20);
        }
    }
    for (x, out) in out.iter_mut().enumerate().skip(blocks_end) {
        let at = margin + x;
        let value = |at: usize| i32::from(padded[at]);
        let tap = |t: usize| {
            i32::from(weights.half[t]) * (value(at - t * CHANNELS) + value(at + t * CHANNELS))
        };
        let sum = centre * value(at) + (1..=weights.radius).map(tap).sum::<i32>();
        *out = low_u8((sum + ROW_ROUND) >> 20);
    }
}

/// Adds `weight * (a + b)` to each sum: a pair fits in 16 bits, and nothing overflows whatever the build checks.
#[inline(always)]
fn add_weighted<T: Copy + Into<i16>>(
    sums: &mut [i32; BLOCK],
    weight: i16,
    a: &[T; BLOCK],
    b: &[T; BLOCK],
) {
    let weight = i32::from(weight);
    for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
        let pair: i16 = (*a).into().wrapping_add((*b).into());
        *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(pair)));
    }
}

#[inline(always)]
fn block<T>(row: &[T], at: usize) -> &[T; BLOCK] {
    row[at..at + BLOCK]
        .try_into()
        .expect("the slice is a block long")
}

/// Keeps the low half of a sum that is known to be at most 255 * 2^6.
#[inline(always)]
fn low_i16(value: i32) -> i16 {
    let [low, high, ..] = value.to_le_bytes();
    i16::from_le_bytes([low, high])
}

/// Keeps the low byte of a sum that is known to be at most 255.
#[inline(always)]
fn low_u8(value: i32) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

/// Returns exp(-numerator / denominator) in 31 bit fixed point, all steps rounding down.
fn exp_negative(numerator: u64, denominator: u64) -> u64 {
    const ONE: u64 = 1 << 31;
    const EXP_MINUS_ONE: u64 = 790_015_084;
    const TERMS: u64 = 14;
    let whole = numerator / denominator;
    if whole > 30 {
        return 0;
    }
    let fraction = ((numerator % denominator) << 31) / denominator;
    let mut value = ONE;
    for k in (1..=TERMS).rev() {
        value = ONE - ((fraction * value) >> 31) / k;
    }
    for _ in 0..whole {
        value = (value * EXP_MINUS_ONE) >> 31;
    }
    value
}

/// Narrows a weight, which is at most [`WEIGHT_SUM`].
fn weight(value: u64) -> i16 {
    match i16::try_from(value) {
        Ok(weight) => weight,
        Err(_) => unreachable!("a weight is at most the sum of all"),
    }
}
