//! Writing a picture as a PNG file.
//!
//! The same picture always yields the same bytes, on every computer and with any number of threads, so that two
//! coordinators return the same result. The settings are therefore fixed:
//!
//! - Colours: the smallest of grey, grey with alpha, RGB and RGBA that holds every pixel, 8 bits a channel, not
//!   interlaced.
//! - Filters: for each row the one of the five whose bytes, taken as signed, have the smallest sum of absolute
//!   values; of equal ones the first in the order of the format.
//! - Compression: zlib-rs at level 6, which works alike on all processors; strips that shrink to no less than a
//!   third that way are also compressed by runs only, and the smaller is taken.
//! - Strips: the rows are compressed in strips of 1 MiB, each on its own, so that several threads can
//!   work at once. A strip is one IDAT chunk. The window does not reach over a strip's edge, which costs less
//!   than one part in a hundred.
//! - No chunk but IHDR, IDAT and IEND: no text, no time, no colour profile (so the picture is taken as sRGB).

mod filter;

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use simd_adler32::Adler32;
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status, Strategy};

use crate::picture::{PIXEL, Picture};
use filter::Filter;

/// Level of the compressor. 7 takes 3 times as long for 3 % less, 3 half as long for 10 % more.
const LEVEL: i32 = 6;

/// Filtered bytes in a strip, unless a single row has more. Large enough that what is lost at its edges does not
/// matter, small enough that a picture of a megapixel keeps two processors busy.
const STRIP_BYTES: usize = 1 << 20;

/// The most threads that compress. Each holds up to three compressed strips.
const THREADS_MAX: usize = 16;

const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// What comes before the strips in the compressed stream: deflate with a window of 32 KiB, default level.
const STREAM_START: [u8; 2] = [0x78, 0x9c];
/// What ends the compressed stream, but for its checksum: an empty block that is marked as the last.
const STREAM_END: [u8; 2] = [0x03, 0x00];

/// Writes the picture as a PNG file, the same bytes every time, and flushes `out`; works with as many threads as the
/// computer offers, at most 16.
///
/// # Errors
/// What `out` returns; the file is then not whole.
pub fn encode_png(picture: &Picture, out: impl Write) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    encode_with_threads(picture, threads.min(THREADS_MAX), out)
}

fn encode_with_threads(picture: &Picture, threads: usize, mut out: impl Write) -> io::Result<()> {
    let strips = Strips::new(picture);
    out.write_all(&SIGNATURE)?;
    write_chunk(&mut out, *b"IHDR", &header(picture, strips.color))?;
    let checksum = thread::scope(|scope| {
        let lanes = (0..threads.min(strips.count())).map(|lane| {
            // One finished strip waits while the next is made, so an easy strip does not leave a thread idle.
            let (done, strip) = mpsc::sync_channel(1);
            scope.spawn(move || compress_lane(strips, lane, threads, &done));
            strip
        });
        write_strips(&lanes.collect::<Vec<_>>(), strips.count(), &mut out)
    })?;
    let end = [&STREAM_END[..], &checksum.to_be_bytes()].concat();
    write_chunk(&mut out, *b"IDAT", &end)?;
    write_chunk(&mut out, *b"IEND", &[])?;
    out.flush()
}

/// Compresses every strip whose number leaves the remainder `lane`, until nobody wants them any more.
fn compress_lane(strips: Strips<'_>, lane: usize, lanes: usize, done: &SyncSender<Strip>) {
    for index in (lane..strips.count()).step_by(lanes) {
        if done.send(strips.compress(index)).is_err() {
            return;
        }
    }
}

/// Writes the strips in order as they come and returns the checksum of all that they hold.
fn write_strips(lanes: &[Receiver<Strip>], count: usize, out: &mut impl Write) -> io::Result<u32> {
    let mut checksum = 1;
    for (index, lane) in (0..count).zip(lanes.iter().cycle()) {
        let strip = lane.recv().expect("each lane makes all of its strips");
        checksum = join_checksums(checksum, strip.checksum, strip.bytes);
        let mut compressed = strip.compressed;
        if index == 0 {
            compressed.splice(..0, STREAM_START);
        }
        write_chunk(out, *b"IDAT", &compressed)?;
    }
    Ok(checksum)
}

fn write_chunk(out: &mut impl Write, kind: [u8; 4], content: &[u8]) -> io::Result<()> {
    let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&kind);
    checksum.update(content);
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&kind)?;
    out.write_all(content)?;
    out.write_all(&checksum.finalize().to_be_bytes())
}

fn header(picture: &Picture, color: Color) -> [u8; 13] {
    const BITS: u8 = 8;
    let mut header = [0; 13];
    header[..4].copy_from_slice(&picture.width().to_be_bytes());
    header[4..8].copy_from_slice(&picture.height().to_be_bytes());
    header[8] = BITS;
    header[9] = color.code();
    header
}

/// Which channels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Color {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

impl Color {
    /// Returns the smallest that holds every pixel.
    fn of(picture: &Picture) -> Self {
        let (mut opaque, mut grey) = (true, true);
        for row in picture.rows() {
            let (pixels, _) = row.as_chunks::<PIXEL>();
            // Without an early end, the compiler makes a few vector instructions of each.
            opaque &= pixels.iter().fold(0xff, |all, pixel| all & pixel[3]) == 0xff;
            let differing = |[r, g, b, _]: &[u8; PIXEL]| (r ^ g) | (g ^ b);
            grey &= pixels.iter().fold(0, |all, pixel| all | differing(pixel)) == 0;
        }
        match (grey, opaque) {
            (true, true) => Self::Grey,
            (true, false) => Self::GreyAlpha,
            (false, true) => Self::Rgb,
            (false, false) => Self::Rgba,
        }
    }

    /// Returns the number that the format has for it.
    const fn code(self) -> u8 {
        match self {
            Self::Grey => 0,
            Self::Rgb => 2,
            Self::GreyAlpha => 4,
            Self::Rgba => 6,
        }
    }

    const fn channels(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Appends the channels of a row of RGBA pixels.
    fn extend(self, row: &[u8], channels: &mut Vec<u8>) {
        let (pixels, _) = row.as_chunks::<PIXEL>();
        match self {
            Self::Grey => channels.extend(pixels.iter().map(|[grey, ..]| grey)),
            Self::GreyAlpha => {
                channels.extend(pixels.iter().flat_map(|[grey, .., alpha]| [grey, alpha]));
            }
            Self::Rgb => channels.extend(pixels.iter().flat_map(|[r, g, b, _]| [r, g, b])),
            Self::Rgba => channels.extend_from_slice(row),
        }
    }
}

/// A picture cut into groups of rows.
#[derive(Debug, Clone, Copy)]
struct Strips<'a> {
    picture: &'a Picture,
    color: Color,
    /// Rows in each strip but the last.
    rows: usize,
}

/// A strip, ready to be written.
#[derive(Debug)]
struct Strip {
    compressed: Vec<u8>,
    /// Adler-32 of the filtered bytes.
    checksum: u32,
    /// Filtered bytes.
    bytes: usize,
}

impl<'a> Strips<'a> {
    fn new(picture: &'a Picture) -> Self {
        let color = Color::of(picture);
        let row_bytes = picture.width() as usize * color.channels() + 1;
        Self {
            picture,
            color,
            rows: (STRIP_BYTES / row_bytes).max(1),
        }
    }

    fn count(&self) -> usize {
        (self.picture.height() as usize).div_ceil(self.rows)
    }

    fn compress(&self, index: usize) -> Strip {
        let first = index * self.rows;
        let end = (first + self.rows).min(self.picture.height() as usize);
        let mut filter = Filter::new(self.color.channels(), self.picture.width() as usize);
        if let Some(above) = first.checked_sub(1) {
            filter.pass(|row| self.color.extend(self.picture.row(above), row));
        }
        let mut filtered = Vec::new();
        for y in first..end {
            filter.pass(|row| self.color.extend(self.picture.row(y), row));
            filtered.extend_from_slice(filter.best());
        }
        let mut checksum = Adler32::new();
        checksum.write(&filtered);
        Strip {
            compressed: compress(&filtered),
            checksum: checksum.finish(),
            bytes: filtered.len(),
        }
    }
}

/// Compresses a strip on its own. Long matches make little of grain and noise, and spoil the codes: where they gave
/// less than a third, runs alone are tried as well.
fn compress(filtered: &[u8]) -> Vec<u8> {
    let by_matches = deflate(filtered, Strategy::Default);
    if by_matches.len() < filtered.len() / 3 {
        return by_matches;
    }
    let by_runs = deflate(filtered, Strategy::Rle);
    if by_runs.len() < by_matches.len() {
        by_runs
    } else {
        by_matches
    }
}

/// Returns a raw deflate stream that ends at a byte and is open for more.
fn deflate(bytes: &[u8], strategy: Strategy) -> Vec<u8> {
    /// The compressor counts in 32 bits.
    const PIECE: usize = 1 << 30;
    const WINDOW_BITS: i32 = 15;
    let mut stream = Deflate::new_with_config(DeflateConfig {
        level: LEVEL,
        // Negative means that the stream has neither header nor checksum.
        window_bits: -WINDOW_BITS,
        strategy,
        ..DeflateConfig::default()
    });
    let mut out = vec![0; bytes.len() + bytes.len() / 8 + 1024];
    let mut written = 0;
    let last = [(&[][..], DeflateFlush::SyncFlush)];
    let pieces = bytes
        .chunks(PIECE)
        .map(|piece| (piece, DeflateFlush::NoFlush));
    for (piece, flush) in pieces.chain(last) {
        let before = (stream.total_in(), stream.total_out());
        let status = stream.compress(piece, &mut out[written..], flush);
        let taken = stream.total_in() - before.0;
        assert!(
            status == Ok(Status::Ok) && taken == piece.len() as u64,
            "an eighth more is enough for bytes that cannot be compressed"
        );
        written += usize::try_from(stream.total_out() - before.1).expect("it is inside the buffer");
    }
    out.truncate(written);
    out
}

/// Returns the Adler-32 of two pieces one behind the other, from the checksum of each and the length of the second.
fn join_checksums(first: u32, second: u32, second_bytes: usize) -> u32 {
    const BASE: u64 = 65_521;
    let (low_first, high_first) = (u64::from(first & 0xffff), u64::from(first >> 16));
    let (low_second, high_second) = (u64::from(second & 0xffff), u64::from(second >> 16));
    let low = (low_first + low_second + BASE - 1) % BASE;
    let bytes = second_bytes as u64 % BASE;
    let high = (high_first + high_second + bytes * (low_first + BASE - 1)) % BASE;
    u32::try_from(high << 16 | low).expect("both halves are below 2^16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(picture: &Picture, threads: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_with_threads(picture, threads, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_pixel_has_the_bytes_it_always_had() {
        let picture = Picture::new(1, 1, vec![255, 0, 0, 255]).unwrap();
        let chunks = [
            &b"\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90\x77\x53\xde"[..],
            b"\0\0\0\x0cIDAT\x78\x9c\x62\xf8\xcf\xc0\0\0\0\0\xff\xff\x92\x76\x1f\xb6",
            b"\0\0\0\x06IDAT\x03\0\x03\x01\x01\0\xbc\x0e\x9f\xf6",
            b"\0\0\0\0IEND\xae\x42\x60\x82",
        ];
        let expected = [&SIGNATURE[..], &chunks.concat()].concat();
        assert_eq!(encoded(&picture, 1), expected);
    }

    #[test]
    fn neither_threads_nor_time_change_the_bytes() {
        // Three strips, the first of noise and the others smooth.
        let mut state = 7_u32;
        let pixels = (0..900 * 1_000_u32).flat_map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [.., noise] = state.to_be_bytes();
            let shade = if index < 200_000 {
                state.to_be_bytes()[0]
            } else {
                noise & 1
            };
            [shade, shade / 2, 7, 255]
        });
        let picture = Picture::new(900, 1_000, pixels.collect()).unwrap();
        assert_eq!(Strips::new(&picture).count(), 3);
        let one = encoded(&picture, 1);
        assert_eq!(encoded(&picture, 2), one);
        assert_eq!(encoded(&picture, 5), one);
        // Other bytes are not wrong, but results of an older version will differ from those of this one.
        assert_eq!((one.len(), crc32fast::hash(&one)), (391_047, 1_839_412_760));
    }

    #[test]
    fn the_smallest_colours_that_hold_every_pixel_are_chosen() {
        let color = |pixels: [[u8; 4]; 2]| Color::of(&Picture::new(2, 1, pixels.concat()).unwrap());
        assert_eq!(color([[3, 3, 3, 255], [9, 9, 9, 255]]), Color::Grey);
        assert_eq!(color([[3, 3, 3, 255], [9, 9, 9, 254]]), Color::GreyAlpha);
        assert_eq!(color([[3, 3, 3, 255], [9, 9, 8, 255]]), Color::Rgb);
        assert_eq!(color([[3, 4, 3, 255], [9, 9, 9, 0]]), Color::Rgba);
    }

    #[test]
    fn joined_checksums_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..200_000_u32)
            .map(|index| (index % 251) as u8 | 0x80)
            .collect();
        let checksum = |part: &[u8]| {
            let mut checksum = Adler32::new();
            checksum.write(part);
            checksum.finish()
        };
        for cut in [0, 1, 65_521, 150_000, 200_000] {
            let (first, second) = bytes.split_at(cut);
            let joined = join_checksums(checksum(first), checksum(second), second.len());
            assert_eq!(joined, checksum(&bytes), "cut at {cut}");
        }
    }

    #[test]
    fn a_full_disk_ends_the_work() {
        let picture = Picture::new(2_000, 2_000, vec![9; 16_000_000]).unwrap();
        let mut space = [0; 50];
        let error = encode_with_threads(&picture, 2, &mut space[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
