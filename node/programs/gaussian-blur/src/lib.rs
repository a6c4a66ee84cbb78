//! Gaussian blur of an RGBA tile: a guest with the kernel ABI (exports `memory`, `alloc`, `run`; no imports).
//!
//! Arguments: `--radius R` (1 to 32), `--sigma S` (0.001 to 64, up to three places; default R/2). `portable.rs` defines
//! the arithmetic, `simd.rs` does it. Anything malformed traps. Calls to `alloc` never free; the output of `run` stays
//! valid until the next call.

#![no_std]

mod job;
#[cfg_attr(target_arch = "wasm32", path = "lanes_wasm32.rs")]
#[cfg_attr(target_arch = "x86_64", path = "lanes_x86_64.rs")]
mod lanes;
#[allow(dead_code)]
mod portable;
mod simd;

use core::sync::atomic::{AtomicUsize, Ordering};

use job::Job;

const PAGE: usize = 65_536;

/// Where free memory starts; 0 until the first call.
static TOP: AtomicUsize = AtomicUsize::new(0);

/// Reserves `length` bytes for the input; traps when memory can't grow.
#[no_mangle]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    let start = match TOP.load(Ordering::Relaxed) {
        0 => core::arch::wasm32::memory_size(0) * PAGE,
        top => top,
    };
    let end = match start
        .checked_add(length)
        .and_then(|end| end.checked_add(15))
    {
        Some(end) => end & !15,
        None => trap(),
    };
    reserve(end);
    TOP.store(end, Ordering::Relaxed);
    start as *mut u8
}

/// Filters the tile in the input, and returns where the output is: address in the high half, length in the low half.
///
/// # Safety
/// The host wrote `length` bytes at `input`, which came from [`alloc`].
#[no_mangle]
pub unsafe extern "C" fn run(input: *const u8, length: usize) -> u64 {
    let job = match Job::parse(core::slice::from_raw_parts(input, length)) {
        Some(job) => job,
        None => trap(),
    };
    let geometry = &job.geometry;
    let scratch = TOP.load(Ordering::Relaxed);
    if input as usize + length > scratch {
        trap();
    }
    let output = scratch + ((simd::scratch_bytes(geometry, &job.weights) + 15) & !15);
    let output_length = geometry.core_width * geometry.core_height * portable::CHANNELS;
    match output.checked_add(output_length + simd::SLACK) {
        Some(end) => reserve(end),
        None => trap(),
    }
    let output = output as *mut u8;
    simd::blur(
        job.pixels.as_ptr(),
        geometry,
        &job.weights,
        scratch as *mut u8,
        output,
    );
    ((output as u64) << 32) | output_length as u64
}

/// Grows the memory to at least `end` bytes.
fn reserve(end: usize) {
    let have = core::arch::wasm32::memory_size(0);
    let want = end / PAGE + 1;
    if want > have && core::arch::wasm32::memory_grow(0, want - have) == usize::MAX {
        trap();
    }
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    trap()
}
