//! What an app server sells a license for: a user application, by the short name that the vendor pins in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::ParseIdError;

/// The longest name of a product, in bytes: it stands in addresses, file names and every registration.
pub const PRODUCT_BYTES_MAX: usize = 40;

/// Names a product of one vendor: 1 to 40 characters of `a-z`, `0-9` and `-`, the first no dash. Lower case only, since
/// the name is part of file names and addresses, where some systems don't tell the cases apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProductId(String);

impl ProductId {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProductId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = (1..=PRODUCT_BYTES_MAX).contains(&text.len()) && !text.starts_with('-');
        if fits && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseIdError::new(
                text,
                "a product name (1 to 40 of a-z, 0-9, -, the first no dash)",
            ))
        }
    }
}

impl TryFrom<String> for ProductId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<ProductId> for String {
    fn from(product: ProductId) -> Self {
        product.0
    }
}

impl fmt::Display for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ProductId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "photo-editor-2", "7", &"x".repeat(40)] {
            let product: ProductId = name.parse().unwrap();
            assert_eq!(product.to_string(), name);
        }
        let long = "x".repeat(41);
        for name in ["", "-a", "Photo", "a b", "a/b", "\u{e4}", "a\n", &long] {
            assert!(name.parse::<ProductId>().is_err(), "{name:?}");
        }
    }
}
