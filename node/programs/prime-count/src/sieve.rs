//! The sieve of Eratosthenes over odd numbers, one bit each, a segment at a time so that it stays in the cache.
//!
//! Bit b stands for the odd number 2b + 1.

use crate::{wasi, Range};

/// Words of a segment: 32 KiB, a first level cache.
const SEGMENT_WORDS: usize = 1 << 12;

/// Odd numbers of a segment.
const SEGMENT_BITS: u64 = SEGMENT_WORDS as u64 * 64;

/// The odd primes up to a root, for ranges that end at its square or before.
pub(crate) struct Sieve {
    root: u64,
    primes: &'static [u32],
    /// Per prime in use, its next multiple: a bit counted from the start of the segment.
    next: &'static mut [u32],
    segment: &'static mut [u64],
}

impl Sieve {
    /// Returns a sieve for ranges that end at `hi` or before.
    pub(crate) fn for_ranges_to(hi: u64) -> Self {
        let root = root_above(hi);
        let primes = odd_primes_to(root);
        Self {
            root,
            primes,
            next: wasi::reserve(primes.len()),
            segment: wasi::reserve(SEGMENT_WORDS),
        }
    }

    /// Returns whether ranges that end at `hi` can be counted.
    pub(crate) fn reaches(&self, hi: u64) -> bool {
        root_above(hi) <= self.root
    }

    /// Counts the primes in a range.
    pub(crate) fn count(&mut self, range: Range) -> u64 {
        let two = u64::from(range.lo <= 2 && range.hi > 2);
        // From the first odd number that is at least LO, but for 1, up to the last below HI.
        let (first, end) = ((range.lo / 2).max(1), range.hi / 2);
        let mut in_use = 0;
        let mut count = two;
        let mut start = first;
        while start < end {
            let bits = (end - start).min(SEGMENT_BITS);
            in_use = self.take_into_use(in_use, start, start + bits);
            self.cross_out_segment(in_use);
            count += count_zeros(self.segment, bits as usize);
            start += SEGMENT_BITS;
        }
        count
    }

    /// Takes the primes into use whose square is in the segment or before; returns how many are.
    fn take_into_use(&mut self, in_use: usize, start: u64, end: u64) -> usize {
        let waiting = self.primes[in_use..].iter().zip(&mut self.next[in_use..]);
        let now =
            waiting.take_while(|(prime, _)| u64::from(**prime) * u64::from(**prime) < 2 * end);
        in_use
            + now
                .map(|(prime, next)| *next = first_multiple(u64::from(*prime), start))
                .count()
    }

    fn cross_out_segment(&mut self, in_use: usize) {
        self.segment.fill(0);
        for (prime, next) in self.primes[..in_use].iter().zip(&mut *self.next) {
            let beyond = cross_out(self.segment, *prime as usize, *next as usize);
            *next = (beyond - SEGMENT_BITS as usize) as u32;
        }
    }
}

/// Returns the bit, counted from `start`, of the first odd multiple of a prime from its square on. It fits in 32 bits:
/// either the multiple is less than 2 primes away, or the square is in this segment.
fn first_multiple(prime: u64, start: u64) -> u32 {
    let square = prime * prime / 2;
    match square >= start {
        true => (square - start) as u32,
        false => ((prime - (start - square) % prime) % prime) as u32,
    }
}

/// Sets the bits from `bit` on in steps of `step`; returns the first one beyond.
fn cross_out(words: &mut [u64], step: usize, bit: usize) -> usize {
    let bits = words.len() * 64;
    let mut bit = bit;
    // Four at a time, so that fuel is checked a fourth as often.
    while bit + 3 * step < bits {
        for nth in 0..4 {
            set(words, bit + nth * step);
        }
        bit += 4 * step;
    }
    while bit < bits {
        set(words, bit);
        bit += step;
    }
    bit
}

fn set(words: &mut [u64], bit: usize) {
    words[bit / 64] |= 1 << (bit % 64);
}

/// Counts the bits that are not set among the first `bits`.
fn count_zeros(words: &[u64], bits: usize) -> u64 {
    let whole = words[..bits / 64]
        .iter()
        .map(|word| u64::from(word.count_zeros()))
        .sum();
    match bits % 64 {
        0 => whole,
        rest => whole + u64::from((words[bits / 64] | (u64::MAX << rest)).count_zeros()),
    }
}

/// Returns the smallest number whose square is `number` or more.
fn root_above(number: u64) -> u64 {
    let mut root = 0;
    for bit in (0..32).rev() {
        let larger = root | (1 << bit);
        if larger * larger < number {
            root = larger;
        }
    }
    root + 1
}

/// Returns the odd primes up to `last`.
fn odd_primes_to(last: u64) -> &'static [u32] {
    let bits = (last as usize + 1) / 2;
    let words: &mut [u64] = wasi::reserve(bits / 64 + 1);
    set(words, 0);
    let mut bit = 1;
    while 2 * bit * (bit + 1) < bits {
        if !is_set(words, bit) {
            cross_out(words, 2 * bit + 1, 2 * bit * (bit + 1));
        }
        bit += 1;
    }
    let primes: &mut [u32] = wasi::reserve(count_zeros(words, bits) as usize);
    let odd_primes = (0..bits)
        .filter(|bit| !is_set(words, *bit))
        .map(|bit| 2 * bit as u32 + 1);
    primes
        .iter_mut()
        .zip(odd_primes)
        .for_each(|(place, prime)| *place = prime);
    primes
}

fn is_set(words: &[u64], bit: usize) -> bool {
    words[bit / 64] >> (bit % 64) & 1 == 1
}
