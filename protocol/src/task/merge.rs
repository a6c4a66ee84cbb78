//! Putting unit outputs together, where that is arithmetic. Concatenating is the shell's copying of bytes and
//! stitching is pixels, which belong to the imaging crate.

/// A unit's output that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// Not one decimal number.
    #[error("add output {text:?} of unit {unit}: not one decimal number")]
    NotANumber {
        /// The unit.
        unit: u32,
        /// The start of its output.
        text: String,
    },
    /// The total does not fit 128 bits.
    #[error("add output of unit {unit}: the sum is beyond 128 bits")]
    Overflow {
        /// The unit at which it happened.
        unit: u32,
    },
}

/// Adds decimal outputs: each is an optional sign and digits, white space around it is ignored.
#[derive(Debug, Default)]
pub struct Sum(i128);

/// The longest output that can be a number: 40 characters of a 128-bit number and some white space.
pub const NUMBER_BYTES_MAX: u64 = 64;

impl Sum {
    /// Adds the output of `unit`.
    ///
    /// # Errors
    /// [`SumError`] names the unit; the sum so far is kept.
    pub fn add(&mut self, unit: u32, output: &[u8]) -> Result<(), SumError> {
        let text = String::from_utf8_lossy(output);
        let number: i128 = text.trim().parse().map_err(|_| SumError::NotANumber {
            unit,
            text: text.chars().take(40).collect(),
        })?;
        self.0 = self
            .0
            .checked_add(number)
            .ok_or(SumError::Overflow { unit })?;
        Ok(())
    }

    /// Returns the result: the decimal sum and a newline.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_signed_numbers_with_white_space() {
        let mut sum = Sum::default();
        for (unit, output) in [(0, &b"12\n"[..]), (1, b" -2 "), (2, b"0")] {
            sum.add(unit, output).unwrap();
        }
        assert_eq!(sum.finish(), b"10\n");
    }

    #[test]
    fn names_the_unit_that_cannot_be_added() {
        let mut sum = Sum::default();
        let error = sum.add(7, b"a lot").unwrap_err();
        assert_eq!(
            error.to_string(),
            "add output \"a lot\" of unit 7: not one decimal number"
        );
        sum.add(8, i128::MAX.to_string().as_bytes()).unwrap();
        assert_eq!(sum.add(9, b"1"), Err(SumError::Overflow { unit: 9 }));
    }
}
