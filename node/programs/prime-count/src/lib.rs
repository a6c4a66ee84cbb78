//! Counts primes with a segmented sieve, and prints the number.
//!
//! `prime-count LO HI` counts the primes p with LO <= p < HI. As unit i of n (`UNIT_INDEX`, `UNIT_COUNT`) it counts its
//! share, from LO + floor((HI - LO) * i / n) to LO + floor((HI - LO) * (i + 1) / n): the shares of all units make up the
//! range. Where the splitter gives a unit its own range in `UNIT_PARAMS` (`LO HI`), that range is counted whole instead.
//! Without arguments the ranges come from standard input, a line `LO HI` each, and the sum of their counts is printed.
//! HI may be 10^15 at most. Anything malformed ends with exit code 2.

#![no_std]

mod sieve;
#[path = "../../shared/wasi.rs"]
mod wasi;

use sieve::Sieve;
use wasi::Strings;

/// The largest HI: primes up to its square root are kept in memory (about 10 MB).
const HI_MAX: u64 = 1_000_000_000_000_000;

const USAGE: &[u8] =
    b"usage: prime-count LO HI, or lines `LO HI` on standard input; LO <= HI <= 1000000000000000\n";

/// Runs the command.
#[no_mangle]
pub extern "C" fn _start() {
    match count() {
        Some(count) => wasi::print_number(count),
        None => wasi::fail(USAGE),
    }
}

/// Returns `None` for malformed arguments or input.
fn count() -> Option<u64> {
    let mut arguments = Strings::arguments();
    let whole = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, None, None) => None,
        (Some(lo), Some(hi), None) => Some(Range::parse(lo, hi)?),
        _ => return None,
    };
    let range = match (Strings::variable(b"UNIT_PARAMS"), whole) {
        (Some(own), _) => Range::parse_line(own)?,
        (None, Some(whole)) => whole.share(
            number_variable(b"UNIT_INDEX", 0)?,
            number_variable(b"UNIT_COUNT", 1)?,
        )?,
        (None, None) => return count_lines(),
    };
    Some(Sieve::for_ranges_to(range.hi).count(range))
}

/// Half open: LO is in it, HI is not.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) lo: u64,
    pub(crate) hi: u64,
}

impl Range {
    fn parse(lo: &[u8], hi: &[u8]) -> Option<Self> {
        let range = Self {
            lo: parse_number(lo)?,
            hi: parse_number(hi)?,
        };
        (range.lo <= range.hi && range.hi <= HI_MAX).then_some(range)
    }

    /// Parses `LO HI`, with any number of blanks around each.
    fn parse_line(line: &[u8]) -> Option<Self> {
        let mut words = line
            .split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
            .filter(|word| !word.is_empty());
        match (words.next(), words.next(), words.next()) {
            (Some(lo), Some(hi), None) => Self::parse(lo, hi),
            _ => None,
        }
    }

    fn share(self, index: u64, count: u64) -> Option<Self> {
        if index >= count {
            return None;
        }
        let length = self.hi - self.lo;
        // length * index / count in two parts, since both index and count fit in 32 bits and the product might not in 64.
        let cut = |index: u64| (length / count) * index + (length % count) * index / count;
        Some(Self {
            lo: self.lo + cut(index),
            hi: self.lo + cut(index + 1),
        })
    }
}

/// Returns the variable's number, or `default` if it is not set; a number of units fits in 32 bits.
fn number_variable(name: &[u8], default: u64) -> Option<u64> {
    match Strings::variable(name) {
        Some(text) => parse_number(text).filter(|number| *number <= u64::from(u32::MAX)),
        None => Some(default),
    }
}

fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Sums the counts of the lines on standard input; empty lines count nothing.
fn count_lines() -> Option<u64> {
    const LINE_MAX: usize = 4096;
    let buffer = wasi::reserve(LINE_MAX);
    let mut sieve: Option<Sieve> = None;
    let mut filled = 0;
    let mut total = 0;
    loop {
        let length = wasi::read(&mut buffer[filled..]);
        let end = filled + length;
        let mut start = 0;
        while let Some(newline) = buffer[start..end].iter().position(|byte| *byte == b'\n') {
            total += count_line(&buffer[start..start + newline], &mut sieve)?;
            start += newline + 1;
        }
        if length == 0 {
            return Some(total + count_line(&buffer[start..end], &mut sieve)?);
        }
        buffer.copy_within(start..end, 0);
        filled = end - start;
        if filled == LINE_MAX {
            return None;
        }
    }
}

/// Keeps the sieve for the next lines; one that no longer reaches is replaced by one that reaches twice as far, since
/// memory is never freed.
fn count_line(line: &[u8], sieve: &mut Option<Sieve>) -> Option<u64> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Some(0);
    }
    let range = Range::parse_line(line)?;
    match sieve {
        Some(sieve) if sieve.reaches(range.hi) => Some(sieve.count(range)),
        _ => Some(
            sieve
                .insert(Sieve::for_ranges_to((4 * range.hi).min(HI_MAX)))
                .count(range),
        ),
    }
}
