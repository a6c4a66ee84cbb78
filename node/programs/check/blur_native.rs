//! The blur compiled natively, as a library for `check.py`: the reference, and the guest's own vector code as SSE2.

#[path = "../gaussian-blur/src/lanes_x86_64.rs"]
mod lanes;
#[path = "../gaussian-blur/src/portable.rs"]
#[allow(dead_code)]
mod portable;
#[path = "../gaussian-blur/src/simd.rs"]
mod simd;

use portable::{Geometry, Weights, CHANNELS};

/// Filters with `portable.rs`; returns false where the radius, sigma or geometry is refused.
#[no_mangle]
pub unsafe extern "C" fn blur_portable(
    input: *const u8,
    numbers: *const u32,
    output: *mut u8,
) -> bool {
    let Some((geometry, weights)) = job(std::slice::from_raw_parts(numbers, 8)) else {
        return false;
    };
    let input = std::slice::from_raw_parts(input, geometry.width * geometry.height * CHANNELS);
    let output = std::slice::from_raw_parts_mut(
        output,
        geometry.core_width * geometry.core_height * CHANNELS,
    );
    portable::blur(input, &geometry, &weights, output);
    true
}

/// Filters with `simd.rs`; the caller's buffers have [`simd::SLACK`] bytes to spare.
#[no_mangle]
pub unsafe extern "C" fn blur_sse2(input: *const u8, numbers: *const u32, output: *mut u8) -> bool {
    let Some((geometry, weights)) = job(std::slice::from_raw_parts(numbers, 8)) else {
        return false;
    };
    let mut scratch = vec![0_u32; simd::scratch_bytes(&geometry, &weights) / 4 + 1];
    simd::blur(
        input,
        &geometry,
        &weights,
        scratch.as_mut_ptr().cast(),
        output,
    );
    true
}

/// Takes radius, sigma in thousandths, and the six numbers of the geometry.
fn job(numbers: &[u32]) -> Option<(Geometry, Weights)> {
    let number = |index: usize| numbers[index] as usize;
    let geometry = Geometry {
        width: number(2),
        height: number(3),
        left: number(4),
        top: number(5),
        core_width: number(6),
        core_height: number(7),
    };
    let weights = Weights::new(number(0), numbers[1])?;
    geometry.is_valid().then_some((geometry, weights))
}

/// Writes the radius + 1 weights of a half.
#[no_mangle]
pub unsafe extern "C" fn blur_weights(radius: u32, sigma_milli: u32, half: *mut i16) -> bool {
    let Some(weights) = Weights::new(radius as usize, sigma_milli) else {
        return false;
    };
    half.copy_from_nonoverlapping(weights.half().as_ptr(), weights.half().len());
    true
}
