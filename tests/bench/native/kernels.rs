//! The programs that come with Tally, compiled natively: what the `kernels` benchmark compares the sandbox with.
//!
//!     kernels VARIANT RUNS FILE [NUMBER...]
//!
//! Runs a variant some times over the bytes of a file and prints the fastest time in nanoseconds and the result. Built
//! by the benchmark with plain `rustc`, because the workspace forbids the `unsafe` that vector code needs.

#[path = "../../../node/programs/gaussian-blur/src/lanes_x86_64.rs"]
mod lanes;
#[path = "../../../node/programs/gaussian-blur/src/portable.rs"]
mod portable;
#[path = "../../../node/programs/prime-count/src/sieve.rs"]
mod sieve;
#[path = "../../../node/programs/gaussian-blur/src/simd.rs"]
mod simd;

use std::arch::x86_64::*;
use std::time::Instant;

use portable::{Geometry, Weights, CHANNELS};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [variant, runs, file, numbers @ ..] = arguments.as_slice() else {
        panic!("usage: kernels VARIANT RUNS FILE [NUMBER...]");
    };
    let input = std::fs::read(file).expect("the input can be read");
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    let runs: u32 = runs.parse().expect("a number of runs");
    let (nanos, result) = match variant.as_str() {
        "blur_portable" | "blur_sse2" => blur(variant, runs, &input, &numbers),
        "wordcount" => fastest(runs, || Counter::words(&input).to_string()),
        "prime_count" => fastest(runs, || {
            let range = Range {
                lo: numbers[0],
                hi: numbers[1],
            };
            sieve::Sieve::for_ranges_to(range.hi)
                .count(range)
                .to_string()
        }),
        _ => panic!("no variant {variant}"),
    };
    println!("{nanos} {result}");
}

/// Returns the fastest of some runs in nanoseconds, and what they return.
fn fastest<T>(runs: u32, mut run: impl FnMut() -> T) -> (u128, T) {
    let mut timed = || {
        let start = Instant::now();
        let result = run();
        (start.elapsed().as_nanos(), result)
    };
    let mut best = timed();
    for _ in 1..runs {
        let again = timed();
        if again.0 < best.0 {
            best = again;
        }
    }
    best
}

/// Blurs a tile: radius, then the six numbers of the geometry.
fn blur(variant: &str, runs: u32, input: &[u8], numbers: &[u64]) -> (u128, String) {
    let number = |place: usize| numbers[place] as usize;
    let weights = Weights::new(number(0), numbers[0] as u32 * 500).expect("a radius");
    let geometry = Geometry {
        width: number(1),
        height: number(2),
        left: number(3),
        top: number(4),
        core_width: number(5),
        core_height: number(6),
    };
    let output_bytes = geometry.core_width * geometry.core_height * CHANNELS;
    let mut output = vec![0; output_bytes + simd::SLACK];
    let nanos = if variant == "blur_portable" {
        let output = &mut output[..output_bytes];
        fastest(runs, || portable::blur(input, &geometry, &weights, output)).0
    } else {
        let mut padded = input.to_vec();
        padded.resize(input.len() + simd::SLACK, 0);
        let mut scratch = vec![0_u32; simd::scratch_bytes(&geometry, &weights) / 4 + 1];
        let run = || unsafe {
            simd::blur(
                padded.as_ptr(),
                &geometry,
                &weights,
                scratch.as_mut_ptr().cast(),
                output.as_mut_ptr(),
            )
        };
        fastest(runs, run).0
    };
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let digest = output[..output_bytes]
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, fnv);
    (nanos, format!("{digest:016x}"))
}

/// The guest's way to count words, with the vectors that every x86-64 has.
struct Counter {
    words: u64,
    inside: bool,
}

impl Counter {
    /// Counts the words of a text, which is read through a buffer as the guest does.
    fn words(mut text: &[u8]) -> u64 {
        const BUFFER: usize = 65_536;
        let mut counter = Self {
            words: 0,
            inside: false,
        };
        let mut buffer = vec![0; BUFFER];
        while !text.is_empty() {
            let length = text.len().min(BUFFER);
            buffer[..length].copy_from_slice(&text[..length]);
            text = &text[length..];
            let padded = length.div_ceil(64) * 64;
            buffer[length..padded].fill(b' ');
            buffer[..padded]
                .chunks_exact(64)
                .for_each(|block| counter.add(block));
        }
        counter.words
    }

    fn add(&mut self, block: &[u8]) {
        let (mut space, mut printable) = (0, 0);
        for (quarter, bytes) in block.chunks_exact(16).enumerate() {
            let (spaces, printables) = unsafe { classify(_mm_loadu_si128(bytes.as_ptr().cast())) };
            space |= u64::from(spaces) << (16 * quarter);
            printable |= u64::from(printables) << (16 * quarter);
        }
        let (sum, carried) = (!space).overflowing_add(printable);
        let (sum, carried_in) = sum.overflowing_add(u64::from(self.inside));
        let inside_before = sum ^ !space ^ printable;
        self.words += u64::from((printable & !inside_before).count_ones());
        self.inside = carried | carried_in;
    }
}

/// Returns a bit a byte: which are white space, and which are printable.
#[inline(always)]
unsafe fn classify(bytes: __m128i) -> (u16, u16) {
    let splat = |byte: u8| _mm_set1_epi8(byte as i8);
    let between = |first: u8, last: u8| {
        let from_first = _mm_sub_epi8(bytes, splat(first));
        _mm_cmpeq_epi8(_mm_min_epu8(from_first, splat(last - first)), from_first)
    };
    let space = _mm_or_si128(between(b'\t', b'\r'), _mm_cmpeq_epi8(bytes, splat(b' ')));
    let mask = |lanes| _mm_movemask_epi8(lanes) as u16;
    (mask(space), mask(between(33, 126)))
}

/// What the sieve is given; as in the guest.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) lo: u64,
    pub(crate) hi: u64,
}

/// What the sieve uses of the guest's host.
mod wasi {
    /// Returns zeroed numbers that are never freed.
    pub(crate) fn reserve<T: Default + Clone>(count: usize) -> &'static mut [T] {
        vec![T::default(); count].leak()
    }
}
