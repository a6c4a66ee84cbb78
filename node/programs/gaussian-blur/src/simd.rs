//! The blur of `portable.rs`, bit for bit, with vectors.
//!
//! For each row of the core, the columns are filtered into one row of 14 bit values, which stays in the cache, then that
//! row is filtered along. Symmetric taps are added first, then two neighbouring taps are interleaved, so that one
//! multiply-and-add does four taps of four values.
//!
//! Two things keep the guest near native speed. Loop bodies handle 32 values and run straight through, so that fuel is
//! checked once per body. And at most three groups of two taps are done between stores: Cranelift puts all loads before
//! the first store that depends on them, so more of them would not fit in sixteen registers. Radii up to 5 need no more;
//! wider ones are summed up in several walks over a row of 32 bit sums. Nothing treats ends apart: bodies run over the
//! ends of rows into slack.

use crate::lanes::*;
use crate::portable::{Geometry, Weights, CHANNELS, RADIUS_MAX};

/// Bytes that are read after the input, and written after the output and after each scratch row, at most.
pub(crate) const SLACK: usize = 128;

/// Returns the scratch bytes that [`blur`] needs, slack included.
pub(crate) fn scratch_bytes(geometry: &Geometry, weights: &Weights) -> usize {
    values_bytes(geometry.width, weights.radius()) + geometry.width * CHANNELS * 4 + SLACK
}

/// The row of 14 bit values, with its margins; the row of sums comes after it.
fn values_bytes(width: usize, radius: usize) -> usize {
    (width + 2 * radius) * CHANNELS * 2 + SLACK
}

/// Filters the core of `input` into `output`.
///
/// # Safety
/// The geometry is valid; `input` holds the tile and `output` has room for the core, each followed by [`SLACK`] bytes that
/// may be read or overwritten; `scratch` has [`scratch_bytes`] and is aligned to 4.
pub(crate) unsafe fn blur(
    input: *const u8,
    geometry: &Geometry,
    weights: &Weights,
    scratch: *mut u8,
    output: *mut u8,
) {
    let radius = weights.radius();
    let (columns, along) = passes(radius);
    let weights = Pairs::new(weights);
    let values = scratch.cast::<i16>();
    let sums = scratch
        .add(values_bytes(geometry.width, radius))
        .cast::<i32>();
    let margin = radius * CHANNELS;
    let row_bytes = geometry.width * CHANNELS;
    let core_bytes = geometry.core_width * CHANNELS;
    for y in 0..geometry.core_height {
        let rows = rows_around(input, geometry, geometry.top + y, radius);
        columns(&rows, &weights, sums, values.add(margin), row_bytes);
        repeat_ends(values, margin, row_bytes);
        along(
            values.add(geometry.left * CHANNELS),
            &weights,
            sums,
            output.add(y * core_bytes),
            core_bytes,
        );
    }
}

type Columns = unsafe fn(&Rows, &Pairs, *mut i32, *mut i16, usize);
type Along = unsafe fn(*const i16, &Pairs, *mut i32, *mut u8, usize);

/// Returns the two passes for a radius.
fn passes(radius: usize) -> (Columns, Along) {
    match radius {
        1 => (columns_narrow::<1>, along_narrow::<1>),
        2 => (columns_narrow::<2>, along_narrow::<2>),
        3 => (columns_narrow::<3>, along_narrow::<3>),
        4 => (columns_narrow::<4>, along_narrow::<4>),
        5 => (columns_narrow::<5>, along_narrow::<5>),
        _ => (columns_wide, along_wide),
    }
}

/// Groups of two taps: taps 0 and 1, 2 and 3, and so on; a missing last tap weighs nothing.
const GROUPS_MAX: usize = RADIUS_MAX / 2 + 1;

struct Pairs {
    radius: usize,
    groups: usize,
    pairs: [Lanes; GROUPS_MAX],
}

impl Pairs {
    fn new(weights: &Weights) -> Self {
        let mut pairs = [splat32(0); GROUPS_MAX];
        let mut groups = 0;
        for (pair, taps) in pairs.iter_mut().zip(weights.half().chunks(2)) {
            *pair = splat_pair(taps[0], if taps.len() == 2 { taps[1] } else { 0 });
            groups += 1;
        }
        Self {
            radius: weights.radius(),
            groups,
            pairs,
        }
    }
}

/// Two rows, as far above as below, at the same column.
type Tap = (*const u8, *const u8);

/// The rows that a row's columns are made of, clamped to the tile.
type Rows = [Tap; 2 * GROUPS_MAX];

unsafe fn rows_around(input: *const u8, geometry: &Geometry, y: usize, radius: usize) -> Rows {
    let row = |y: usize| input.add(y * geometry.width * CHANNELS);
    let mut rows = [(row(y), row(y)); 2 * GROUPS_MAX];
    for (t, tap) in rows.iter_mut().enumerate().take(radius + 1).skip(1) {
        *tap = (
            row(y.saturating_sub(t)),
            row((y + t).min(geometry.height - 1)),
        );
    }
    rows
}

/// The sums of eight neighbouring values.
type Sums = (Lanes, Lanes);

const COLUMNS_ROUND: i32 = 1 << 7;
const ALONG_ROUND: i32 = 1 << 19;

fn columns_value(sums: Sums) -> Lanes {
    narrow32(shift_right32::<8>(sums.0), shift_right32::<8>(sums.1))
}

fn along_value(sums: Sums) -> Lanes {
    narrow32(shift_right32::<20>(sums.0), shift_right32::<20>(sums.1))
}

/// Adds two taps of eight values.
#[inline(always)]
fn add_taps(sums: Sums, pair: Lanes, even: Lanes, odd: Lanes) -> Sums {
    let low = add32(sums.0, dot(interleave_low(even, odd), pair));
    (low, add32(sums.1, dot(interleave_high(even, odd), pair)))
}

/// The column sums of eight values over the taps from the centre to `RADIUS`.
#[inline(always)]
unsafe fn columns_from_centre<const RADIUS: usize>(
    rows: &Rows,
    pairs: &[Lanes; GROUPS_MAX],
    at: usize,
) -> Sums {
    let tap = |t: usize| add16(load_bytes(rows[t].0.add(at)), load_bytes(rows[t].1.add(at)));
    let mut sums = (splat32(COLUMNS_ROUND), splat32(COLUMNS_ROUND));
    sums = add_taps(sums, pairs[0], load_bytes(rows[0].0.add(at)), tap(1));
    for group in 1..RADIUS / 2 + 1 {
        let odd = if 2 * group < RADIUS {
            tap(2 * group + 1)
        } else {
            splat32(0)
        };
        sums = add_taps(sums, pairs[group], tap(2 * group), odd);
    }
    sums
}

/// The same along a row; `window` starts `reach` pixels before the eight values.
#[inline(always)]
unsafe fn along_from_centre<const RADIUS: usize>(
    window: *const i16,
    reach: usize,
    pairs: &[Lanes; GROUPS_MAX],
) -> Sums {
    let tap = |t: usize| {
        add16(
            load(window.add((reach - t) * CHANNELS)),
            load(window.add((reach + t) * CHANNELS)),
        )
    };
    let mut sums = (splat32(ALONG_ROUND), splat32(ALONG_ROUND));
    sums = add_taps(sums, pairs[0], load(window.add(reach * CHANNELS)), tap(1));
    for group in 1..RADIUS / 2 + 1 {
        let odd = if 2 * group < RADIUS {
            tap(2 * group + 1)
        } else {
            splat32(0)
        };
        sums = add_taps(sums, pairs[group], tap(2 * group), odd);
    }
    sums
}

unsafe fn columns_narrow<const RADIUS: usize>(
    rows: &Rows,
    weights: &Pairs,
    _: *mut i32,
    out: *mut i16,
    length: usize,
) {
    let pairs = weights.pairs;
    let mut rows = *rows;
    let mut out = out;
    let end = out.add(length);
    while out < end {
        store(
            out,
            columns_value(columns_from_centre::<RADIUS>(&rows, &pairs, 0)),
        );
        store(
            out.add(8),
            columns_value(columns_from_centre::<RADIUS>(&rows, &pairs, 8)),
        );
        store(
            out.add(16),
            columns_value(columns_from_centre::<RADIUS>(&rows, &pairs, 16)),
        );
        store(
            out.add(24),
            columns_value(columns_from_centre::<RADIUS>(&rows, &pairs, 24)),
        );
        advance(&mut rows[..=RADIUS], 32);
        out = out.add(32);
    }
}

unsafe fn along_narrow<const RADIUS: usize>(
    window: *const i16,
    weights: &Pairs,
    _: *mut i32,
    out: *mut u8,
    length: usize,
) {
    let pairs = weights.pairs;
    let mut window = window;
    let mut out = out;
    let end = out.add(length);
    while out < end {
        let values =
            |at: usize| along_value(along_from_centre::<RADIUS>(window.add(at), RADIUS, &pairs));
        store_bytes(out, values(0), values(8));
        store_bytes(out.add(16), values(16), values(24));
        window = window.add(32);
        out = out.add(32);
    }
}

/// Groups that one walk over the sums does.
const GROUPS_A_WALK: usize = 3;

/// The taps of the first walk.
const RADIUS_FIRST: usize = 2 * GROUPS_A_WALK - 1;

unsafe fn columns_wide(rows: &Rows, weights: &Pairs, sums: *mut i32, out: *mut i16, length: usize) {
    columns_first(rows, weights, sums, length);
    let mut group = GROUPS_A_WALK;
    while group < weights.groups {
        let rows = &rows[2 * group..];
        let pairs = &weights.pairs[group..];
        match weights.groups - group {
            1 => columns_add::<1>(rows, pairs, sums, length),
            2 => columns_add::<2>(rows, pairs, sums, length),
            _ => columns_add::<3>(rows, pairs, sums, length),
        }
        group += GROUPS_A_WALK;
    }
    let mut x = 0;
    while x < length {
        store(out.add(x), columns_value(load_sums(sums.add(x))));
        store(out.add(x + 8), columns_value(load_sums(sums.add(x + 8))));
        store(out.add(x + 16), columns_value(load_sums(sums.add(x + 16))));
        store(out.add(x + 24), columns_value(load_sums(sums.add(x + 24))));
        x += 32;
    }
}

unsafe fn along_wide(
    window: *const i16,
    weights: &Pairs,
    sums: *mut i32,
    out: *mut u8,
    length: usize,
) {
    let centre = window.add(weights.radius * CHANNELS);
    along_first(centre.sub(RADIUS_FIRST * CHANNELS), weights, sums, length);
    let mut group = GROUPS_A_WALK;
    while group < weights.groups {
        let pairs = &weights.pairs[group..];
        let (left, right) = (
            centre.sub(2 * group * CHANNELS),
            centre.add(2 * group * CHANNELS),
        );
        match weights.groups - group {
            1 => along_add::<1>(left, right, pairs, sums, length),
            2 => along_add::<2>(left, right, pairs, sums, length),
            _ => along_add::<3>(left, right, pairs, sums, length),
        }
        group += GROUPS_A_WALK;
    }
    let value = |x: usize| along_value(load_sums(sums.add(x)));
    let mut x = 0;
    while x < length {
        store_bytes(out.add(x), value(x), value(x + 8));
        store_bytes(out.add(x + 16), value(x + 16), value(x + 24));
        x += 32;
    }
}

unsafe fn columns_first(rows: &Rows, weights: &Pairs, sums: *mut i32, length: usize) {
    let pairs = weights.pairs;
    let mut rows = *rows;
    let end = sums.add(length);
    let mut sums = sums;
    while sums < end {
        store_sums(sums, columns_from_centre::<RADIUS_FIRST>(&rows, &pairs, 0));
        store_sums(
            sums.add(8),
            columns_from_centre::<RADIUS_FIRST>(&rows, &pairs, 8),
        );
        store_sums(
            sums.add(16),
            columns_from_centre::<RADIUS_FIRST>(&rows, &pairs, 16),
        );
        store_sums(
            sums.add(24),
            columns_from_centre::<RADIUS_FIRST>(&rows, &pairs, 24),
        );
        advance(&mut rows[..=RADIUS_FIRST], 32);
        sums = sums.add(32);
    }
}

unsafe fn along_first(window: *const i16, weights: &Pairs, sums: *mut i32, length: usize) {
    let pairs = weights.pairs;
    let end = sums.add(length);
    let (mut window, mut sums) = (window, sums);
    while sums < end {
        store_sums(
            sums,
            along_from_centre::<RADIUS_FIRST>(window, RADIUS_FIRST, &pairs),
        );
        store_sums(
            sums.add(8),
            along_from_centre::<RADIUS_FIRST>(window.add(8), RADIUS_FIRST, &pairs),
        );
        store_sums(
            sums.add(16),
            along_from_centre::<RADIUS_FIRST>(window.add(16), RADIUS_FIRST, &pairs),
        );
        store_sums(
            sums.add(24),
            along_from_centre::<RADIUS_FIRST>(window.add(24), RADIUS_FIRST, &pairs),
        );
        window = window.add(32);
        sums = sums.add(32);
    }
}

/// Adds the taps of the first `GROUPS` of `rows` and `pairs`.
unsafe fn columns_add<const GROUPS: usize>(
    rows: &[Tap],
    pairs: &[Lanes],
    sums: *mut i32,
    length: usize,
) {
    let mut taps = [[rows[0], rows[1]]; GROUPS];
    let mut weights = [pairs[0]; GROUPS];
    for group in 1..GROUPS {
        taps[group] = [rows[2 * group], rows[2 * group + 1]];
        weights[group] = pairs[group];
    }
    let end = sums.add(length);
    let mut sums = sums;
    while sums < end {
        columns_add_eight(&taps, &weights, sums, 0);
        columns_add_eight(&taps, &weights, sums.add(8), 8);
        columns_add_eight(&taps, &weights, sums.add(16), 16);
        columns_add_eight(&taps, &weights, sums.add(24), 24);
        for taps in &mut taps {
            advance(taps, 32);
        }
        sums = sums.add(32);
    }
}

#[inline(always)]
unsafe fn columns_add_eight<const GROUPS: usize>(
    taps: &[[Tap; 2]; GROUPS],
    weights: &[Lanes; GROUPS],
    sums: *mut i32,
    at: usize,
) {
    let load_tap = |tap: Tap| add16(load_bytes(tap.0.add(at)), load_bytes(tap.1.add(at)));
    let mut new = load_sums(sums);
    for group in 0..GROUPS {
        new = add_taps(
            new,
            weights[group],
            load_tap(taps[group][0]),
            load_tap(taps[group][1]),
        );
    }
    store_sums(sums, new);
}

/// Adds the taps of `GROUPS` groups, whose first is at `left` and `right`. A tap beyond the radius may lie outside the
/// margins, so the last tap is read in its place; it weighs nothing.
unsafe fn along_add<const GROUPS: usize>(
    left: *const i16,
    right: *const i16,
    pairs: &[Lanes],
    sums: *mut i32,
    length: usize,
) {
    let mut weights = [pairs[0]; GROUPS];
    weights.copy_from_slice(&pairs[..GROUPS]);
    let span = (2 * GROUPS - 1) * CHANNELS;
    let (mut left, mut right) = (left.sub(span), right);
    let end = sums.add(length);
    let mut sums = sums;
    while sums < end {
        along_add_eight(left, right, &weights, sums);
        along_add_eight(left.add(8), right.add(8), &weights, sums.add(8));
        along_add_eight(left.add(16), right.add(16), &weights, sums.add(16));
        along_add_eight(left.add(24), right.add(24), &weights, sums.add(24));
        left = left.add(32);
        right = right.add(32);
        sums = sums.add(32);
    }
}

/// `left` starts at the last tap, `right` at the first.
#[inline(always)]
unsafe fn along_add_eight<const GROUPS: usize>(
    left: *const i16,
    right: *const i16,
    weights: &[Lanes; GROUPS],
    sums: *mut i32,
) {
    let last = 2 * GROUPS - 1;
    let tap = |t: usize| {
        add16(
            load(left.add((last - t) * CHANNELS)),
            load(right.add(t * CHANNELS)),
        )
    };
    let mut new = load_sums(sums);
    for group in 0..GROUPS {
        new = add_taps(new, weights[group], tap(2 * group), tap(2 * group + 1));
    }
    store_sums(sums, new);
}

#[inline(always)]
unsafe fn advance(rows: &mut [Tap], bytes: usize) {
    for row in rows {
        *row = (row.0.add(bytes), row.1.add(bytes));
    }
}

#[inline(always)]
unsafe fn load_sums(at: *const i32) -> Sums {
    (load(at.cast()), load(at.add(4).cast()))
}

#[inline(always)]
unsafe fn store_sums(at: *mut i32, sums: Sums) {
    store(at.cast(), sums.0);
    store(at.add(4).cast(), sums.1);
}

/// Repeats the first and the last pixel of a row into its margins.
unsafe fn repeat_ends(values: *mut i16, margin: usize, length: usize) {
    let first = values.add(margin).cast::<u64>();
    let last = values.add(margin + length - CHANNELS).cast::<u64>();
    let (first, last) = (first.read_unaligned(), last.read_unaligned());
    for x in (0..margin).step_by(CHANNELS) {
        values.add(x).cast::<u64>().write_unaligned(first);
        values
            .add(margin + length + x)
            .cast::<u64>()
            .write_unaligned(last);
    }
}
