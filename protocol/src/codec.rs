//! Bytes on the wire and on disk: deterministic CBOR (RFC 8949) with bounds on what is decoded.
//!
//! Structs are maps with text keys in the order of their fields, enums are their name or a map of one pair.
//! Before anything is decoded the whole text is checked in one pass without allocation: the length is within
//! the caller's bound, nesting within [`DEPTH_MAX`], every length definite and inside the text, every number in
//! its shortest form, no floats, no tags, nothing left over. So no bytes of a peer can make the decoder recurse
//! or allocate beyond a small multiple of their own length.

use std::io;

use cbor4ii::core::utils::IoWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The deepest nesting of arrays and maps. The messages need 10.
pub const DEPTH_MAX: usize = 16;

/// Why bytes were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the message may have.
    #[error("decode {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// Not deterministic CBOR.
    #[error("decode CBOR at byte {at}: {what}")]
    Malformed {
        /// Offset of the item.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Good CBOR of another shape.
    #[error("decode the fields: {0}")]
    Shape(String),
}

/// Returns the CBOR of `value`.
///
/// # Panics
/// If the value cannot be written as CBOR; Tally's types all can.
#[must_use]
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    cbor4ii::serde::to_vec(Vec::new(), value)
        .expect("every message type has definite lengths and string keys")
}

/// Returns the length of the CBOR of `value`, without writing it anywhere.
///
/// # Panics
/// As [`to_bytes`].
#[must_use]
pub fn length<T: Serialize>(value: &T) -> u64 {
    let mut counted = IoWriter::new(Count(0));
    let mut serializer = cbor4ii::serde::Serializer::new(&mut counted);
    value
        .serialize(&mut serializer)
        .expect("every message type has definite lengths and string keys");
    counted.into_inner().0
}

/// Counts what is written.
struct Count(u64);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the value that `bytes` say.
///
/// # Errors
/// [`DecodeError`] if there are more than `bytes_max` bytes, they are not deterministic CBOR, or say another type.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::TooLong {
            bytes: bytes.len(),
            bytes_max,
        });
    }
    check(bytes)?;
    cbor4ii::serde::from_slice(bytes).map_err(|error| DecodeError::Shape(error.to_string()))
}

/// Checks that `bytes` are exactly one deterministic CBOR item within the nesting bound.
fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut scan = Scan { bytes, at: 0 };
    scan.item(DEPTH_MAX)?;
    if scan.at == bytes.len() {
        Ok(())
    } else {
        Err(scan.malformed("bytes after the end"))
    }
}

/// A cursor over the items of a CBOR text.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Major types of RFC 8949, section 3.1.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

impl Scan<'_> {
    fn item(&mut self, depth: usize) -> Result<(), DecodeError> {
        let Some(&initial) = self.bytes.get(self.at) else {
            return Err(self.malformed("the text ends too early"));
        };
        let (major, low) = (initial >> 5, initial & 0x1f);
        match major {
            UNSIGNED | NEGATIVE => self.argument(low).map(drop),
            BYTES | TEXT => {
                let length = self.argument(low)?;
                self.skip(length)
            }
            ARRAY | MAP => {
                let Some(depth) = depth.checked_sub(1) else {
                    return Err(self.malformed("nested too deeply"));
                };
                let count = self.argument(low)?;
                let items = if major == MAP {
                    count.checked_mul(2)
                } else {
                    Some(count)
                };
                // Each item has at least one byte, so a count beyond the rest is a lie.
                if items.is_none_or(|items| items > self.rest()) {
                    return Err(self.malformed("more items than bytes"));
                }
                (0..items.unwrap_or(0)).try_for_each(|_| self.item(depth))
            }
            // false, true, null.
            _ if (0xf4..=0xf6).contains(&initial) => self.skip(1),
            _ => Err(self.malformed("a tag, float or other item that no message has")),
        }
    }

    /// Reads the argument of the item at the cursor and steps behind it.
    fn argument(&mut self, low: u8) -> Result<u64, DecodeError> {
        let width = match low {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(self.malformed("an indefinite length")),
        };
        let Some(raw) = self.bytes.get(self.at + 1..self.at + 1 + width) else {
            return Err(self.malformed("the text ends too early"));
        };
        let value = if width == 0 {
            u64::from(low)
        } else {
            raw.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let least = match width {
            0 => 0,
            1 => 24,
            2 => 1 << 8,
            4 => 1 << 16,
            _ => 1 << 32,
        };
        if value < least {
            return Err(self.malformed("a number not in its shortest form"));
        }
        self.at += 1 + width;
        Ok(value)
    }

    fn skip(&mut self, length: u64) -> Result<(), DecodeError> {
        if length > self.rest() {
            return Err(self.malformed("the text ends too early"));
        }
        self.at += usize::try_from(length).expect("within the rest of the text");
        Ok(())
    }

    fn rest(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    const fn malformed(&self, what: &'static str) -> DecodeError {
        DecodeError::Malformed { at: self.at, what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Option<u64>>, DecodeError> {
        from_bytes(bytes, 1 << 20)
    }

    #[test]
    fn the_length_is_that_of_the_bytes() {
        let value = (vec![1_u64, 1 << 40], "text", Some([7_u8; 300].to_vec()));
        assert_eq!(length(&value), to_bytes(&value).len() as u64);
    }

    #[test]
    fn accepts_what_it_writes() {
        let value = vec![
            Some(0_u64),
            None,
            Some(23),
            Some(24),
            Some(65_536),
            Some(u64::MAX),
        ];
        assert_eq!(decode(&to_bytes(&value)), Ok(value));
    }

    #[test]
    fn refuses_what_is_not_deterministic_or_not_whole() {
        let cases: [(&[u8], &str); 8] = [
            (&[], "the text ends too early"),
            (&[0x81], "more items than bytes"),
            (&[0x9f, 0xff], "an indefinite length"),
            (&[0x81, 0x18, 0x01], "a number not in its shortest form"),
            (&[0x80, 0x00], "bytes after the end"),
            (
                &[0x81, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
                "a tag, float or other item that no message has",
            ),
            (
                &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "more items than bytes",
            ),
            (
                &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "the text ends too early",
            ),
        ];
        for (bytes, reason) in cases {
            let Err(DecodeError::Malformed { what, .. }) = decode(bytes) else {
                panic!("{bytes:x?} was accepted");
            };
            assert_eq!(what, reason, "{bytes:x?}");
        }
        assert!(matches!(
            decode(&[0x81; 40]),
            Err(DecodeError::Malformed {
                what: "nested too deeply",
                ..
            })
        ));
        assert_eq!(
            from_bytes::<u8>(&[0; 9], 8),
            Err(DecodeError::TooLong {
                bytes: 9,
                bytes_max: 8
            })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(to_bytes(&value), bytes);
            }
        }
    }
}
