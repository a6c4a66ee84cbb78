//! What a JPEG file will cost and whether it is whole, seen from its markers before anything is decoded.
//!
//! The decoder is lenient: it would fill what a truncated file lacks with grey, and decode a progressive file of
//! a few kilobytes with thousands of scans for minutes. So the markers are counted first.

use super::{DecodeError, DecodeLimits, check_size};

/// Scans of one image. Progressive files of common encoders have 10 or so; the format could have thousands, each
/// of which passes over all the pixels.
const SCANS_MAX: u32 = 64;

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Checks that the image has one frame of an allowed size, not too many scans, and an end.
pub(super) fn check(bytes: &[u8], limits: DecodeLimits) -> Result<(), DecodeError> {
    let too_costly = |what| DecodeError::TooCostly {
        format: "JPEG",
        what,
    };
    let (mut frames, mut scans, mut rest) = (0, 0, bytes);
    while let Some((marker, behind)) = next_marker(rest) {
        match marker {
            END_OF_IMAGE => return Ok(()),
            START_OF_SCAN => scans += 1,
            _ if is_frame(marker) => {
                frames += 1;
                let [_, _, _, high, low, left, right, ..] = behind else {
                    break;
                };
                let height = u16::from_be_bytes([*high, *low]);
                let width = u16::from_be_bytes([*left, *right]);
                check_size((width.into(), height.into()), limits)?;
            }
            _ => {}
        }
        if frames > 1 {
            return Err(too_costly("it has more than one frame"));
        }
        if scans > SCANS_MAX {
            return Err(too_costly("it has over 64 scans"));
        }
        rest = if has_length(marker) {
            let [high, low, ..] = behind else { break };
            let length = u16::from_be_bytes([*high, *low]);
            behind.get(usize::from(length)..).unwrap_or_default()
        } else {
            behind
        };
    }
    Err(DecodeError::Truncated {
        format: "JPEG",
        bytes: bytes.len() as u64,
    })
}

/// Returns the next marker and what lies behind it. Compressed data is passed over: in it, 0xff is followed by 0.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let start = bytes.iter().position(|byte| *byte == 0xff)?;
    let fill = bytes[start..].iter().position(|byte| *byte != 0xff)?;
    let (marker, behind) = bytes[start + fill..].split_first()?;
    Some((*marker, behind))
}

const fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

const fn has_length(marker: u8) -> bool {
    !matches!(marker, 0x00 | 0x01 | 0xd0..=0xd9)
}
