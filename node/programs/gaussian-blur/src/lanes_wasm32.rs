//! The few vector operations that the blur is made of, as WebAssembly simd128.

use core::arch::wasm32::*;

/// Eight lanes of 16 bits or four of 32.
pub(crate) type Lanes = v128;

/// Reads eight bytes as 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn load_bytes(at: *const u8) -> Lanes {
    i16x8_load_extend_u8x8(at)
}

/// Reads eight 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn load(at: *const i16) -> Lanes {
    v128_load(at.cast())
}

/// Writes eight 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn store(at: *mut i16, value: Lanes) {
    v128_store(at.cast(), value);
}

/// Returns `low` and `high` in all four 32 bit lanes.
#[inline(always)]
pub(crate) fn splat_pair(low: i16, high: i16) -> Lanes {
    i16x8(low, high, low, high, low, high, low, high)
}

#[inline(always)]
pub(crate) fn splat32(value: i32) -> Lanes {
    i32x4_splat(value)
}

#[inline(always)]
pub(crate) fn add16(a: Lanes, b: Lanes) -> Lanes {
    i16x8_add(a, b)
}

#[inline(always)]
pub(crate) fn add32(a: Lanes, b: Lanes) -> Lanes {
    i32x4_add(a, b)
}

/// Interleaves the first four lanes of `a` and `b`.
#[inline(always)]
pub(crate) fn interleave_low(a: Lanes, b: Lanes) -> Lanes {
    i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b)
}

/// Interleaves the last four lanes of `a` and `b`.
#[inline(always)]
pub(crate) fn interleave_high(a: Lanes, b: Lanes) -> Lanes {
    i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b)
}

/// Multiplies 16 bit lanes and adds neighbouring products into 32 bit lanes.
#[inline(always)]
pub(crate) fn dot(a: Lanes, b: Lanes) -> Lanes {
    i32x4_dot_i16x8(a, b)
}

#[inline(always)]
pub(crate) fn shift_right32<const BITS: u32>(value: Lanes) -> Lanes {
    i32x4_shr(value, BITS)
}

/// Narrows 32 bit lanes, `low` first, to 16 bits.
#[inline(always)]
pub(crate) fn narrow32(low: Lanes, high: Lanes) -> Lanes {
    i16x8_narrow_i32x4(low, high)
}

/// Narrows 16 bit lanes, `low` first, to bytes, and writes the sixteen.
#[inline(always)]
pub(crate) unsafe fn store_bytes(at: *mut u8, low: Lanes, high: Lanes) {
    v128_store(at.cast(), u8x16_narrow_i16x8(low, high));
}
