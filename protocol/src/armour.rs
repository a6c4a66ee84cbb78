//! Signed statements as text that people can mail, paste and keep in files: lines of base64 between two marks.
//!
//! ```text
//! -----BEGIN TALLY LICENSE-----
//! 0oRYVqQBJwRYIIqI490H...            (64 characters a line, the last one shorter)
//! -----END TALLY LICENSE-----
//! ```
//!
//! Invariants: a statement has one text, and that text alone is read: alphabet, padding, length of lines and marks are
//! exact. Only what editors and mail do to any text is forgiven: blanks and empty lines around it, and lines that end with
//! CR LF. The text adds nothing that could be believed; what counts are the signed bytes in it.

use data_encoding::BASE64;

use crate::signed::{Signed, Statement};

/// Characters of base64 in a line, as in PEM (RFC 7468).
const LINE_CHARS: usize = 64;
/// More than headers and signature add to a payload, in bytes.
const ENVELOPE_BYTES_MAX: usize = 512;

/// A statement that also exists as text.
pub trait Armoured: Statement {
    /// What stands in the marks, in capitals.
    const LABEL: &'static str;
}

/// Why a text is not an armoured statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmourError {
    /// Longer than any such statement.
    #[error("read a text of {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The first or last line is not the mark that belongs there.
    #[error("find the lines BEGIN TALLY {label} and END TALLY {label}")]
    Marks {
        /// What stands in the marks.
        label: &'static str,
    },
    /// What is between the marks is not base64 in whole lines.
    #[error("read the base64 between the marks")]
    Base64,
}

impl<T: Armoured> Signed<T> {
    /// Returns the statement as text, with a line end after the last mark.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (begin, end) = marks::<T>();
        let mut text = begin;
        for (place, character) in BASE64.encode(self.as_bytes()).chars().enumerate() {
            if place % LINE_CHARS == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text + "\n" + &end + "\n"
    }

    /// Reads the statement out of its text; its signature has not been checked then.
    ///
    /// # Errors
    /// [`ArmourError`] unless this is the text of a statement.
    pub fn from_text(text: &str) -> Result<Self, ArmourError> {
        let bytes_max = (T::BYTES_MAX + ENVELOPE_BYTES_MAX) * 3 / 2;
        if text.len() > bytes_max {
            let bytes = text.len();
            return Err(ArmourError::TooLong { bytes, bytes_max });
        }
        let (begin, end) = marks::<T>();
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let body = text.strip_prefix(&begin);
        let body = body.and_then(|body| body.strip_suffix(&end));
        let body = body.ok_or(ArmourError::Marks { label: T::LABEL })?;
        let base64: String = body.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let bytes = BASE64.decode(base64.as_bytes());
        let signed = Self::from_bytes(bytes.map_err(|_| ArmourError::Base64)?);
        // Whatever else could be read as the same bytes is not its text.
        if text.replace("\r\n", "\n") == signed.to_text().trim_end() {
            Ok(signed)
        } else {
            Err(ArmourError::Base64)
        }
    }
}

fn marks<T: Armoured>() -> (String, String) {
    let mark = |side| format!("-----{side} TALLY {}-----", T::LABEL);
    (mark("BEGIN"), mark("END"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Greeting {}

    impl Statement for Greeting {
        const TYPE: &'static str = "application/tally-greeting+cbor";
        const BYTES_MAX: usize = 1_000;
    }

    impl Armoured for Greeting {
        const LABEL: &'static str = "GREETING";
    }

    fn read(text: &str) -> Result<Vec<u8>, ArmourError> {
        Signed::<Greeting>::from_text(text).map(|signed| signed.as_bytes().to_vec())
    }

    fn written(bytes: &[u8]) -> String {
        Signed::<Greeting>::from_bytes(bytes.to_vec()).to_text()
    }

    #[test]
    fn lines_have_64_characters() {
        let text = written(&[0xff; 60]);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines[0], "-----BEGIN TALLY GREETING-----");
        assert_eq!(lines[1], "/".repeat(64));
        assert_eq!(lines[2], "/".repeat(16));
        assert_eq!(lines[3..], ["-----END TALLY GREETING-----", ""]);
    }

    #[test]
    fn what_mail_and_editors_do_is_forgiven_and_nothing_else() {
        let bytes: Vec<u8> = (0..100).collect();
        let text = written(&bytes);
        let forgiven = [
            text.replace('\n', "\r\n"),
            format!("\n\n  {text}\r\n \t"),
            text.trim_end().to_owned(),
        ];
        for text in forgiven {
            assert_eq!(read(&text), Ok(bytes.clone()));
        }
        let marks = ArmourError::Marks { label: "GREETING" };
        assert_eq!(read(&text.replace("GREETING", "LICENSE")), Err(marks));
        assert_eq!(read(&format!("See:\n{text}")), Err(marks));
        assert_eq!(read(&(text.clone() + &text)), Err(ArmourError::Base64));
        let (first, second) = (text.find('\n').unwrap(), text.rfind("==").unwrap());
        let mut joined = text.clone();
        joined.remove(first + 65);
        assert_eq!(read(&joined), Err(ArmourError::Base64));
        // The last character before the padding with a bit that no byte needs.
        let other = format!("{}x{}", &text[..second - 1], &text[second..]);
        assert_eq!(read(&other), Err(ArmourError::Base64));
        let long = " ".repeat(10_000);
        assert!(matches!(read(&long), Err(ArmourError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(read(&written(&bytes)), Ok(bytes));
        }

        #[test]
        fn a_cut_text_is_refused(
            bytes in prop::collection::vec(any::<u8>(), 1..400), cut in any::<prop::sample::Index>(),
        ) {
            let text = written(&bytes);
            let whole = text.trim_end();
            prop_assert!(read(&whole[..cut.index(whole.len())]).is_err());
        }

        #[test]
        fn a_changed_text_never_reads_as_the_same(
            bytes in prop::collection::vec(any::<u8>(), 1..400), place in any::<prop::sample::Index>(), to in 0_u8..128,
        ) {
            let text = written(&bytes);
            let mut changed = text.clone().into_bytes();
            let place = place.index(changed.len());
            changed[place] = to;
            let changed = String::from_utf8(changed).unwrap();
            let blank_at_the_end = changed.trim_end() == text.trim_end();
            if changed != text && !blank_at_the_end {
                prop_assert_ne!(read(&changed), Ok(bytes));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,300}") {
            if let Ok(bytes) = read(&text) {
                prop_assert_eq!(read(&written(&bytes)), Ok(bytes));
            }
        }
    }
}
