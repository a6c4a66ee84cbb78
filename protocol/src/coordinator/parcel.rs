//! What goes into one grant: small inputs that travel with it, or ranges to be read.

use crate::message::blob::{BlobGrant, BlobRange, RANGES_MAX};
use crate::message::work::{Grant, INLINE_BYTES_MAX, INLINE_UNIT_BYTES_MAX};
use crate::time::Timestamp;

/// The most input bytes of one grant that are read as a blob: about a second of a good line.
const GRANT_BYTES_MAX: u64 = 64 << 20;

/// The inputs of the units chosen so far.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    bytes: u64,
    largest: u64,
    /// Start and end of each contiguous run.
    runs: Vec<(u64, u64)>,
}

impl Parcel {
    /// Adds a unit's range. Returns whether it fits; the first one always does.
    pub(super) fn add(&mut self, (start, length): (u64, u64)) -> bool {
        let small = self.largest.max(length) <= INLINE_UNIT_BYTES_MAX;
        let bytes_max = if small {
            INLINE_BYTES_MAX as u64
        } else {
            GRANT_BYTES_MAX
        };
        let extends = self.runs.last().is_some_and(|(_, end)| *end == start);
        let runs = self.runs.len() + usize::from(!extends);
        // The program is one of the ranges.
        let runs_fit = small || runs < RANGES_MAX;
        if !self.runs.is_empty() && (self.bytes + length > bytes_max || !runs_fit) {
            return false;
        }
        match self.runs.last_mut() {
            Some((_, end)) if *end == start => *end += length,
            _ => self.runs.push((start, start + length)),
        }
        (self.bytes, self.largest) = (self.bytes + length, self.largest.max(length));
        true
    }

    pub(super) fn inline(&self) -> bool {
        self.largest <= INLINE_UNIT_BYTES_MAX && self.bytes <= INLINE_BYTES_MAX as u64
    }

    /// Returns the right to read the program and what does not travel with the grant.
    pub(super) fn read(&self, grant: &Grant, expires: Timestamp) -> BlobGrant {
        let program = BlobRange {
            blob: grant.program.id,
            start: 0,
            bytes: grant.program.bytes,
        };
        let inputs = self.runs.iter().filter(|_| !self.inline());
        let inputs = inputs.map(|(start, end)| BlobRange {
            blob: grant.input.id,
            start: *start,
            bytes: end - start,
        });
        BlobGrant {
            reader: grant.device,
            ranges: std::iter::once(program).chain(inputs).collect(),
            expires,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_scattered_inputs_and_then_a_large_one_stay_within_the_ranges_of_a_grant() {
        let mut parcel = Parcel::default();
        for place in 0..40 {
            assert!(parcel.add((place * 100, 10)));
        }
        assert!(!parcel.add((3_910, 10_000)), "extends the last of 40 runs");
        assert!(!parcel.add((9_000, 10_000)));
        assert!(parcel.inline());
    }

    #[test]
    fn large_inputs_take_all_ranges_but_the_one_of_the_program() {
        let mut parcel = Parcel::default();
        let fitting = (0..100).take_while(|place| parcel.add((place * 100_000, 10_000)));
        assert_eq!(fitting.count(), RANGES_MAX - 1);
        assert!(!parcel.inline());
    }

    #[test]
    fn the_first_unit_fits_whatever_its_size() {
        let mut parcel = Parcel::default();
        assert!(parcel.add((0, 1 << 40)));
        assert!(!parcel.add((1 << 40, 1)));
    }
}
