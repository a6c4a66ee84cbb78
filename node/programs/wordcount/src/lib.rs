//! Counts the words of standard input as `LC_ALL=C wc -w` of GNU coreutils 9.1 does, and prints the number.
//!
//! White space (tab, newline, vertical tab, form feed, carriage return, space) ends a word, and a printable byte (33 to
//! 126) makes one. All other bytes do neither: `a\x01b` is one word and `\x01` is none.

#![no_std]

#[path = "../../shared/wasi.rs"]
#[allow(dead_code)]
mod wasi;

use core::arch::wasm32::*;

/// Bytes counted in a step: one bit each in a `u64`.
const BLOCK: usize = 64;

/// Bytes read at a time.
const BUFFER: usize = 1024 * BLOCK;

/// Runs the command.
#[no_mangle]
pub extern "C" fn _start() {
    if wasi::Strings::arguments().next().is_some() {
        wasi::fail(b"wordcount takes no arguments: it reads standard input\n");
    }
    let buffer = wasi::reserve(BUFFER);
    let mut counter = Counter {
        words: 0,
        inside: false,
    };
    loop {
        let length = fill(buffer);
        // White space after the end changes nothing.
        let padded = (length + BLOCK - 1) / BLOCK * BLOCK;
        buffer[length..padded].fill(b' ');
        buffer[..padded]
            .chunks_exact(BLOCK)
            .for_each(|block| counter.add(block));
        if length < BUFFER {
            break;
        }
    }
    wasi::print_number(counter.words);
}

/// Reads until the buffer is full or the input ends.
fn fill(buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match wasi::read(&mut buffer[filled..]) {
            0 => break,
            length => filled += length,
        }
    }
    filled
}

struct Counter {
    words: u64,
    /// The bytes so far end inside a word.
    inside: bool,
}

impl Counter {
    /// Counts the words that start in a block of 64 bytes.
    ///
    /// Being inside a word moves from byte to byte as a carry does in an addition: a printable byte generates it, a byte
    /// that is neither passes it on, white space stops it. So one addition finds it for all 64.
    fn add(&mut self, block: &[u8]) {
        let (mut space, mut printable) = (0, 0);
        for (quarter, bytes) in block.chunks_exact(16).enumerate() {
            let bytes = unsafe { v128_load(bytes.as_ptr().cast()) };
            let classes = classify(bytes);
            space |= u64::from(classes.0) << (16 * quarter);
            printable |= u64::from(classes.1) << (16 * quarter);
        }
        let (sum, carried) = (!space).overflowing_add(printable);
        let (sum, carried_in) = sum.overflowing_add(u64::from(self.inside));
        let inside_before = sum ^ !space ^ printable;
        self.words += u64::from((printable & !inside_before).count_ones());
        self.inside = carried | carried_in;
    }
}

/// Returns a bit a byte: which are white space, and which are printable.
fn classify(bytes: v128) -> (u16, u16) {
    let between = |first: u8, last: u8| {
        u8x16_le(
            u8x16_sub(bytes, u8x16_splat(first)),
            u8x16_splat(last - first),
        )
    };
    let space = v128_or(between(b'\t', b'\r'), u8x16_eq(bytes, u8x16_splat(b' ')));
    (u8x16_bitmask(space), u8x16_bitmask(between(33, 126)))
}
