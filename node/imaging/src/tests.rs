//! The way of an image through the whole crate, and files that mean harm.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, RgbaImage};
use proptest::prelude::*;
use tally_protocol::task::TileSplit;
use tally_protocol::task::split::{TileTable, UnitTable};
use tally_protocol::task::tiles::{Area, TileGrid};

use crate::{
    DecodeError, DecodeLimits, PackError, Picture, Stitcher, decode, decode_file, encode_png, pack,
};

const LIMITS: DecodeLimits = DecodeLimits {
    pixels_max: 1 << 16,
    bytes_max: 1 << 20,
};

proptest! {
    #[test]
    fn packing_and_stitching_is_the_identity(picture in pictures(70), split in splits()) {
        let stitched = through_tiles(&picture, split, Picture::clone);
        prop_assert_eq!(stitched, picture);
    }

    #[test]
    fn with_enough_halo_tiles_blur_like_the_whole(
        picture in pictures(40), core in 8_u32..30, radius in 0_u32..5, more in 0_u32..3,
    ) {
        let split = TileSplit { core, halo: radius + more };
        let stitched = through_tiles(&picture, split, |tile| blurred(tile, radius));
        prop_assert_eq!(stitched, blurred(&picture, radius));
    }

    #[test]
    fn a_png_has_every_pixel(picture in pictures(70)) {
        prop_assert_eq!(decode(&png(&picture), LIMITS).unwrap(), picture);
    }

    #[test]
    fn a_truncated_png_is_refused_or_whole(picture in pictures(20), share in 0.0..1.0) {
        let file = png(&picture);
        match decode(cut(&file, share), LIMITS) {
            Ok(decoded) => prop_assert_eq!(decoded, picture),
            Err(DecodeError::Truncated { .. } | DecodeError::UnknownFormat { .. }) => {}
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }

    #[test]
    fn a_truncated_jpeg_is_refused(picture in pictures(20), share in 0.0..1.0) {
        let file = jpeg(&picture);
        let error = decode(cut(&file, share), LIMITS).unwrap_err();
        prop_assert!(
            matches!(error, DecodeError::Truncated { .. } | DecodeError::UnknownFormat { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn damaged_files_never_panic(
        picture in pictures(20), harm in prop::collection::vec((0.0..1.0, any::<u8>()), 1..8),
    ) {
        for mut file in [png(&picture), jpeg(&picture)] {
            for (place, byte) in &harm {
                let place = cut(&file, *place).len();
                file[place] = *byte;
            }
            drop(decode(&file, LIMITS));
        }
    }
}

#[test]
fn units_lie_where_the_table_of_the_task_says() {
    let picture = Picture::new(20, 9, (0..=239).cycle().take(720).collect()).unwrap();
    let grid = TileGrid::new(20, 9, TileSplit { core: 8, halo: 2 }).unwrap();
    let mut packed = Vec::new();
    pack(&picture, &grid, &mut packed).unwrap();
    let table = UnitTable::Tiles(TileTable::from(grid));
    let mut end = 0;
    for index in 0..table.count() {
        let (start, length) = table.range(index).unwrap();
        assert_eq!(start, end);
        end = start + length;
    }
    assert_eq!(end, packed.len() as u64);
}

#[test]
fn a_picture_is_packed_by_its_own_grid_only() {
    let grid = TileGrid::new(4, 5, TileSplit { core: 8, halo: 0 }).unwrap();
    let picture = Picture::transparent(5, 4).unwrap();
    let error = pack(&picture, &grid, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PackError::OtherSize { .. }));
    assert_eq!(
        error.to_string(),
        "pack a picture of 5 x 4 pixels by a grid over 4 x 5"
    );
}

#[test]
fn every_turn_that_exif_asks_for_is_applied() {
    // Three pixels by two, shades apart enough to survive compression.
    let upright = [[0, 50, 100], [150, 200, 250]];
    for (orientation, expected) in [
        (1, vec![vec![0, 50, 100], vec![150, 200, 250]]),
        (2, vec![vec![100, 50, 0], vec![250, 200, 150]]),
        (3, vec![vec![250, 200, 150], vec![100, 50, 0]]),
        (4, vec![vec![150, 200, 250], vec![0, 50, 100]]),
        (5, vec![vec![0, 150], vec![50, 200], vec![100, 250]]),
        (6, vec![vec![150, 0], vec![200, 50], vec![250, 100]]),
        (7, vec![vec![250, 100], vec![200, 50], vec![150, 0]]),
        (8, vec![vec![100, 250], vec![50, 200], vec![0, 150]]),
    ] {
        let pixels: Vec<u8> = upright.concat().iter().flat_map(|l| [*l, *l, *l]).collect();
        let mut file = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 100)
            .write_image(&pixels, 3, 2, ExtendedColorType::Rgb8)
            .unwrap();
        file.splice(2..2, exif(orientation));
        let picture = decode(&file, LIMITS).unwrap();
        let shades: Vec<u8> = picture.pixels().iter().step_by(4).copied().collect();
        assert_eq!(picture.width() as usize, expected[0].len());
        for (shade, expected) in shades.iter().zip(expected.concat()) {
            assert!(shade.abs_diff(expected) < 20, "{orientation}: {shades:?}");
        }
    }
}

#[test]
fn common_kinds_of_png_become_rgba() {
    let file = |kind, pixels: &[u8]| {
        let mut file = Cursor::new(Vec::new());
        image::codecs::png::PngEncoder::new(&mut file)
            .write_image(pixels, 1, 1, kind)
            .unwrap();
        decode(&file.into_inner(), LIMITS).unwrap().into_pixels()
    };
    assert_eq!(file(ExtendedColorType::L8, &[7]), [7, 7, 7, 255]);
    assert_eq!(file(ExtendedColorType::La8, &[7, 9]), [7, 7, 7, 9]);
    assert_eq!(file(ExtendedColorType::Rgb8, &[1, 2, 3]), [1, 2, 3, 255]);
    let wide = [0xffff_u16, 0, 0x8080, 0x0101]
        .map(u16::to_ne_bytes)
        .concat();
    assert_eq!(file(ExtendedColorType::Rgba16, &wide), [255, 0, 128, 1]);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let bomb = png_header(100_000, 100_000);
    let error = decode(&bomb, DecodeLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "decode the image: 100000 x 100000 pixels, at most 134217728 are taken"
    );
    let mut bomb = jpeg(&Picture::transparent(8, 8).unwrap());
    let frame = bomb.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bomb[frame + 5..frame + 9].fill(0xff);
    let error = decode(&bomb, DecodeLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "decode the image: 65535 x 65535 pixels, at most 134217728 are taken"
    );
}

#[test]
fn a_small_png_with_huge_texts_is_refused() {
    let whole = png(&Picture::transparent(8, 8).unwrap());
    // Before the first chunk of pixels: a text of 20 MiB.
    let text = [b"key\0".to_vec(), vec![b'x'; 20 << 20]].concat();
    let length = u32::try_from(text.len()).unwrap();
    let checksum = crc32fast::hash(&[b"tEXt", &text[..]].concat());
    let chunk = [
        &length.to_be_bytes()[..],
        b"tEXt",
        &text,
        &checksum.to_be_bytes(),
    ];
    let file = [&whole[..33], &chunk.concat(), &whole[33..]].concat();
    let error = decode(&file, DecodeLimits::default()).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooCostly { format: "PNG", .. }),
        "{error:?}"
    );
}

#[test]
fn a_jpeg_with_endless_scans_is_refused() {
    let mut file = jpeg(&Picture::transparent(8, 8).unwrap());
    let scan = file.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    let end = file.split_off(file.len() - 2);
    let again = file[scan..].repeat(64);
    let file = [file, again, end].concat();
    let error = decode(&file, LIMITS).unwrap_err();
    assert_eq!(error.to_string(), "decode the JPEG: it has over 64 scans");
}

#[test]
fn refusals_say_what_is_wrong() {
    let message = |bytes: &[u8]| decode(bytes, LIMITS).unwrap_err().to_string();
    assert_eq!(
        message(b"GIF89a and more"),
        "decode the image: neither PNG nor JPEG, it starts with the bytes 4749463839612061"
    );
    assert_eq!(
        message(&vec![0; (1 << 20) + 1]),
        "decode the image: the file has more than 1048576 bytes"
    );
    let file = png(&Picture::transparent(8, 8).unwrap());
    assert_eq!(
        message(&file[..40]),
        "decode the PNG: it is truncated, the file ends after 40 bytes"
    );
    let missing = decode_file("no/such/file".as_ref(), LIMITS).unwrap_err();
    assert_eq!(missing.to_string(), "read the image file");
}

fn pictures(side_max: u32) -> impl Strategy<Value = Picture> {
    let kinds = prop::sample::select(vec![0_u8, 1, 2, 3]);
    (1..side_max, 1..side_max, any::<u32>(), kinds).prop_map(|(width, height, seed, kind)| {
        let mut state = seed;
        let pixels = (0..width * height).flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [r, g, b, a] = state.to_be_bytes();
            match kind {
                0 => [r, g, b, a],
                1 => [r, g, b, 255],
                2 => [r, r, r, a],
                _ => [r & 3, r & 3, r & 3, 255],
            }
        });
        Picture::new(width, height, pixels.collect()).unwrap()
    })
}

fn splits() -> impl Strategy<Value = TileSplit> {
    (8_u32..90, 0_u32..40).prop_map(|(core, halo)| TileSplit { core, halo })
}

/// Packs the picture, runs `program` over each tile, cuts out the cores and stitches them, last one first.
fn through_tiles(
    picture: &Picture,
    split: TileSplit,
    program: impl Fn(&Picture) -> Picture,
) -> Picture {
    let grid = TileGrid::new(picture.width(), picture.height(), split).unwrap();
    let mut packed = Vec::new();
    pack(picture, &grid, &mut packed).unwrap();
    let table = UnitTable::Tiles(TileTable::from(grid));
    let mut stitcher = Stitcher::new(&grid, 1 << 16).unwrap();
    for index in (0..grid.count()).rev() {
        let (start, length) = table.range(index).unwrap();
        let input = &packed[usize::try_from(start).unwrap()..][..usize::try_from(length).unwrap()];
        let tile = grid.tile(index).unwrap();
        let (core, padded) = (tile.core, tile.padded);
        let seen = Picture::new(padded.width, padded.height, input.to_vec()).unwrap();
        let inside = Area {
            x: core.x - padded.x,
            y: core.y - padded.y,
            ..core
        };
        let output = program(&seen);
        let core: Vec<&[u8]> = output.rows_of(inside).collect();
        stitcher.place(index, &core.concat()).unwrap();
    }
    stitcher.finish().unwrap()
}

/// The mean of the square around each pixel; beyond the edges, the border pixels are repeated.
fn blurred(picture: &Picture, radius: u32) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let near = |center: u32, size: u32| {
        (0..=2 * radius).map(move |step| (center + step).saturating_sub(radius).min(size - 1))
    };
    let count = (2 * radius + 1).pow(2);
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let mut sums = [0_u32; 4];
            for row in near(y, height) {
                for column in near(x, width) {
                    let pixel = &picture.row(row as usize)[column as usize * 4..];
                    for (sum, channel) in sums.iter_mut().zip(pixel) {
                        *sum += u32::from(*channel);
                    }
                }
            }
            pixels.extend(sums.map(|sum| u8::try_from(sum / count).unwrap()));
        }
    }
    Picture::new(width, height, pixels).unwrap()
}

fn png(picture: &Picture) -> Vec<u8> {
    let mut file = Vec::new();
    encode_png(picture, &mut file).unwrap();
    file
}

fn jpeg(picture: &Picture) -> Vec<u8> {
    let (width, height) = (picture.width(), picture.height());
    let image = RgbaImage::from_raw(width, height, picture.pixels().to_vec()).unwrap();
    let mut file = Vec::new();
    image::DynamicImage::from(image)
        .to_rgb8()
        .write_with_encoder(image::codecs::jpeg::JpegEncoder::new(&mut file))
        .unwrap();
    file
}

/// Returns the first `share` of the file, never all of it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a small file"
)]
fn cut(file: &[u8], share: f64) -> &[u8] {
    &file[..(file.len() as f64 * share) as usize]
}

/// A PNG file that ends after its first chunk.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let chunk = [&b"IHDR"[..], &sides, &[8, 6, 0, 0, 0]].concat();
    let checksum = crc32fast::hash(&chunk).to_be_bytes();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\r"[..], &chunk, &checksum].concat()
}

/// The segment of a JPEG file that tells how the camera was held.
fn exif(orientation: u8) -> Vec<u8> {
    let directory = [
        0,
        1,
        0x01,
        0x12,
        0,
        3,
        0,
        0,
        0,
        1,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let tiff = [&b"MM\0\x2a\0\0\0\x08"[..], &directory].concat();
    let content = [&b"Exif\0\0"[..], &tiff].concat();
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&[0xff, 0xe1][..], &length, &content].concat()
}
