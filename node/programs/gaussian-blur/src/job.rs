//! What a unit asks for: the head of the kernel's input, taken apart.
//!
//! The input is `u32` little endian length, that many bytes of text, then the pixels. The text is the job's arguments
//! and then the unit's parameters, joined by NUL: `--radius 3 --sigma 1.5` and `width height left top core_width
//! core_height`. Whatever is not exactly this is refused.

use crate::portable::{Geometry, Weights, CHANNELS};

/// One tile to filter.
pub(crate) struct Job<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) weights: Weights,
    pub(crate) pixels: &'a [u8],
}

impl<'a> Job<'a> {
    /// Returns `None` for a malformed input.
    pub(crate) fn parse(input: &'a [u8]) -> Option<Self> {
        let head = input.get(..4)?;
        let text_length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let text = input[4..].get(..text_length)?;
        let pixels = &input[4 + text_length..];
        let (arguments, parameters) = split_last(text)?;
        let geometry = parse_geometry(parameters)?;
        if !geometry.is_valid() {
            return None;
        }
        let area = geometry.width.checked_mul(geometry.height)?;
        if area.checked_mul(CHANNELS)? != pixels.len() {
            return None;
        }
        Some(Self {
            geometry,
            weights: parse_arguments(arguments)?,
            pixels,
        })
    }
}

/// The parameters are the last string.
fn split_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = text.iter().rposition(|byte| *byte == 0)?;
    Some((&text[..nul], &text[nul + 1..]))
}

fn parse_geometry(text: &[u8]) -> Option<Geometry> {
    let mut numbers = text.split(|byte| *byte == b' ').map(parse_number);
    let mut next = || numbers.next()?.map(|number| number as usize);
    let geometry = Geometry {
        width: next()?,
        height: next()?,
        left: next()?,
        top: next()?,
        core_width: next()?,
        core_height: next()?,
    };
    match next() {
        None if numbers.next().is_none() => Some(geometry),
        _ => None,
    }
}

fn parse_arguments(text: &[u8]) -> Option<Weights> {
    let mut radius = None;
    let mut sigma_milli = None;
    let mut words = text.split(|byte| *byte == 0);
    while let Some(word) = words.next() {
        match word {
            b"--radius" if radius.is_none() => radius = Some(parse_number(words.next()?)?),
            b"--sigma" if sigma_milli.is_none() => sigma_milli = Some(parse_milli(words.next()?)?),
            _ => return None,
        }
    }
    let radius = radius?;
    Weights::new(
        radius as usize,
        sigma_milli.unwrap_or(radius.checked_mul(500)?),
    )
}

/// Parses decimal digits, nothing else.
fn parse_number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u32::from(byte - b'0')),
        _ => None,
    })
}

/// Parses a decimal with up to three places into thousandths.
fn parse_milli(text: &[u8]) -> Option<u32> {
    let (whole, places) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b"0"[..]),
    };
    let scale = match places.len() {
        1 => 100,
        2 => 10,
        3 => 1,
        _ => return None,
    };
    parse_number(whole)?
        .checked_mul(1000)?
        .checked_add(parse_number(places)? * scale)
}
