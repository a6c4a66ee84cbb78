//! The same operations as SSE2, which every x86-64 has: the native build that the guest is measured against.

use core::arch::x86_64::*;

/// Eight lanes of 16 bits or four of 32.
pub(crate) type Lanes = __m128i;

/// Reads eight bytes as 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn load_bytes(at: *const u8) -> Lanes {
    _mm_unpacklo_epi8(_mm_loadl_epi64(at.cast()), _mm_setzero_si128())
}

/// Reads eight 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn load(at: *const i16) -> Lanes {
    _mm_loadu_si128(at.cast())
}

/// Writes eight 16 bit lanes.
#[inline(always)]
pub(crate) unsafe fn store(at: *mut i16, value: Lanes) {
    _mm_storeu_si128(at.cast(), value);
}

/// Returns `low` and `high` in all four 32 bit lanes.
#[inline(always)]
pub(crate) fn splat_pair(low: i16, high: i16) -> Lanes {
    unsafe { _mm_set_epi16(high, low, high, low, high, low, high, low) }
}

#[inline(always)]
pub(crate) fn splat32(value: i32) -> Lanes {
    unsafe { _mm_set1_epi32(value) }
}

#[inline(always)]
pub(crate) fn add16(a: Lanes, b: Lanes) -> Lanes {
    unsafe { _mm_add_epi16(a, b) }
}

#[inline(always)]
pub(crate) fn add32(a: Lanes, b: Lanes) -> Lanes {
    unsafe { _mm_add_epi32(a, b) }
}

/// Interleaves the first four lanes of `a` and `b`.
#[inline(always)]
pub(crate) fn interleave_low(a: Lanes, b: Lanes) -> Lanes {
    unsafe { _mm_unpacklo_epi16(a, b) }
}

/// Interleaves the last four lanes of `a` and `b`.
#[inline(always)]
pub(crate) fn interleave_high(a: Lanes, b: Lanes) -> Lanes {
    unsafe { _mm_unpackhi_epi16(a, b) }
}

/// Multiplies 16 bit lanes and adds neighbouring products into 32 bit lanes.
#[inline(always)]
pub(crate) fn dot(a: Lanes, b: Lanes) -> Lanes {
    unsafe { _mm_madd_epi16(a, b) }
}

#[inline(always)]
pub(crate) fn shift_right32<const BITS: u32>(value: Lanes) -> Lanes {
    unsafe { _mm_sra_epi32(value, _mm_cvtsi32_si128(BITS as i32)) }
}

/// Narrows 32 bit lanes, `low` first, to 16 bits.
#[inline(always)]
pub(crate) fn narrow32(low: Lanes, high: Lanes) -> Lanes {
    unsafe { _mm_packs_epi32(low, high) }
}

/// Narrows 16 bit lanes, `low` first, to bytes, and writes the sixteen.
#[inline(always)]
pub(crate) unsafe fn store_bytes(at: *mut u8, low: Lanes, high: Lanes) {
    _mm_storeu_si128(at.cast(), _mm_packus_epi16(low, high));
}
