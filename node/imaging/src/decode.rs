//! Reading image files: PNG and JPEG become a picture.
//!
//! Files come from strangers. What a file costs is known from its header, and is refused there: a file of a few
//! bytes that claims a billion pixels is refused in the time it takes to read these bytes. The metadata of the
//! file ends here: the turn that EXIF asks for is applied, everything else (place, time, camera, colour profile)
//! is dropped.

mod jpeg;

use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

use crate::picture::Picture;

/// Bytes that the ancillary parts of a PNG file (palette, profile, text) may take in memory. Colour profiles of
/// printers are the largest that honest files have, up to 2 MiB.
const ANCILLARY_BYTES_MAX: u64 = 16 << 20;

/// What an image file may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Pixels of the picture. Decoding takes up to 13 bytes of memory for each of them for a while (a progressive
    /// JPEG: its coefficients, its colours and the picture), 7 for a common photograph, and 4 afterwards.
    pub pixels_max: u64,
    /// Bytes of the file.
    pub bytes_max: u64,
}

impl Default for DecodeLimits {
    /// 2^27 pixels, so that a picture takes 512 MiB at most: above the 108 megapixels of phones and the 102 of
    /// medium format cameras. 256 MiB of file: twice what a photograph of that size has.
    fn default() -> Self {
        Self {
            pixels_max: 1 << 27,
            bytes_max: 256 << 20,
        }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file could not be read.
    #[error("read the image file")]
    Read(#[source] io::Error),
    /// More bytes than the limit.
    #[error("decode the image: the file has more than {bytes_max} bytes")]
    TooManyBytes {
        /// The limit.
        bytes_max: u64,
    },
    /// Neither PNG nor JPEG.
    #[error("decode the image: neither PNG nor JPEG, it starts with the bytes {start}")]
    UnknownFormat {
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// More pixels than the limit.
    #[error("decode the image: {width} x {height} pixels, at most {pixels_max} are taken")]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit.
        pixels_max: u64,
    },
    /// Parts that are not pixels, or scans of a JPEG, beyond what honest files have.
    #[error("decode the {format}: {what}")]
    TooCostly {
        /// "PNG" or "JPEG".
        format: &'static str,
        /// What there is too much of.
        what: &'static str,
    },
    /// The file ends before the image does.
    #[error("decode the {format}: it is truncated, the file ends after {bytes} bytes")]
    Truncated {
        /// "PNG" or "JPEG".
        format: &'static str,
        /// Bytes of the file.
        bytes: u64,
    },
    /// A kind of PNG or JPEG that nobody here can read.
    #[error("decode the {format}: it is of a kind that is not supported")]
    Unsupported {
        /// "PNG" or "JPEG".
        format: &'static str,
        /// The feature that it needs.
        source: DecoderError,
    },
    /// The file contradicts its format.
    #[error("decode the {format}: it is damaged")]
    Damaged {
        /// "PNG" or "JPEG".
        format: &'static str,
        /// What is wrong with it.
        source: DecoderError,
    },
}

/// What the decoder of the format says.
#[derive(Debug)]
pub struct DecoderError(ImageError);

impl fmt::Display for DecoderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DecoderError {}

/// Decodes a PNG or JPEG file at `path`.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_file(path: &Path, limits: DecodeLimits) -> Result<Picture, DecodeError> {
    let file = File::open(path).map_err(DecodeError::Read)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    file.take(limits.bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(DecodeError::Read)?;
    decode(&bytes, limits)
}

/// Decodes the `bytes` of a PNG or JPEG file.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(bytes: &[u8], limits: DecodeLimits) -> Result<Picture, DecodeError> {
    if bytes.len() as u64 > limits.bytes_max {
        return Err(DecodeError::TooManyBytes {
            bytes_max: limits.bytes_max,
        });
    }
    let start = &bytes[..bytes.len().min(8)];
    match image::guess_format(start) {
        Ok(ImageFormat::Png) => decode_png(bytes, limits),
        Ok(ImageFormat::Jpeg) => decode_jpeg(bytes, limits),
        _ => Err(DecodeError::UnknownFormat {
            start: start.iter().map(|byte| format!("{byte:02x}")).collect(),
        }),
    }
}

fn decode_png(bytes: &[u8], limits: DecodeLimits) -> Result<Picture, DecodeError> {
    let refuse = |error| refusal("PNG", bytes, error);
    // The decoder makes room for a row before it tells the size, so that is read here.
    if let [_, _, _, _, size @ ..] = bytes.get(12..24).unwrap_or_default() {
        let (width, height) = size.split_at(4);
        let side = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |side, byte| side << 8 | u32::from(*byte))
        };
        check_size((side(width), side(height)), limits)?;
    }
    let mut ancillary = Limits::no_limits();
    ancillary.max_alloc = Some(ANCILLARY_BYTES_MAX);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), ancillary).map_err(refuse)?;
    check_size(decoder.dimensions(), limits)?;
    picture(decoder).map_err(refuse)
}

fn decode_jpeg(bytes: &[u8], limits: DecodeLimits) -> Result<Picture, DecodeError> {
    let refuse = |error| refusal("JPEG", bytes, error);
    jpeg::check(bytes, limits)?;
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(refuse)?;
    check_size(decoder.dimensions(), limits)?;
    picture(decoder).map_err(refuse)
}

fn check_size((width, height): (u32, u32), limits: DecodeLimits) -> Result<(), DecodeError> {
    if u64::from(width) * u64::from(height) <= limits.pixels_max {
        return Ok(());
    }
    Err(DecodeError::TooManyPixels {
        width,
        height,
        pixels_max: limits.pixels_max,
    })
}

fn picture(mut decoder: impl ImageDecoder) -> Result<Picture, ImageError> {
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    Ok(Picture::new(width, height, image.into_raw()).expect("the decoder returns whole images"))
}

fn refusal(format: &'static str, bytes: &[u8], error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated {
                format,
                bytes: bytes.len() as u64,
            }
        }
        ImageError::Limits(_) => DecodeError::TooCostly {
            format,
            what: "its palette, profile and texts need over 16 MiB",
        },
        ImageError::Unsupported(_) => DecodeError::Unsupported {
            format,
            source: DecoderError(error),
        },
        ImageError::Decoding(_)
        | ImageError::Encoding(_)
        | ImageError::Parameter(_)
        | ImageError::IoError(_) => DecodeError::Damaged {
            format,
            source: DecoderError(error),
        },
    }
}
