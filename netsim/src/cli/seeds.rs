//! A range of seeds.

use std::ops::Range;
use std::str::FromStr;

/// Seeds from one up to, and without, another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seeds(pub(super) Range<u64>);

/// A text that is no range of seeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SeedsError {
    /// Not two numbers with two dots between them.
    #[error(
        "{0:?} is not of the form A..B with two whole numbers, for example 0..100, which is 0 to 99"
    )]
    Form(String),
    /// No seed is in it.
    #[error(
        "there is no seed in {0}..{1}: the first number must be less than the second, which is not part of it"
    )]
    Empty(u64, u64),
}

impl FromStr for Seeds {
    type Err = SeedsError;

    fn from_str(text: &str) -> Result<Self, SeedsError> {
        let form = || SeedsError::Form(text.to_owned());
        let (first, end) = text.split_once("..").ok_or_else(form)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| form());
        let (first, end) = (number(first)?, number(end)?);
        if first < end {
            Ok(Self(first..end))
        } else {
            Err(SeedsError::Empty(first, end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_written_as_in_rust_and_a_bad_one_says_how() {
        assert_eq!("3..10".parse(), Ok(Seeds(3..10)));
        for bad in ["7", "3...5", "3..=5", "a..b", "..", "-1..4", "0..", ""] {
            let error = bad.parse::<Seeds>().unwrap_err();
            assert!(error.to_string().contains("form A..B"), "{bad}");
        }
        assert_eq!("5..5".parse::<Seeds>(), Err(SeedsError::Empty(5, 5)));
    }
}
