//! Decoding, tiling, stitching and encoding of images.
//!
//! The way of an image through a task:
//!
//! 1. [`decode`] or [`decode_file`] turns a PNG or JPEG file into a [`Picture`]: RGBA, 8 bits a channel, upright,
//!    without metadata. Its size is checked before its pixels are.
//! 2. [`pack`] writes the tiles of the picture one behind another, each with its halo. That is the packed input of
//!    the task; `tally_protocol::task::split::UnitTable::Tiles` says which part belongs to which unit.
//! 3. A program runs over each tile and yields the pixels of the tile's core.
//! 4. A [`Stitcher`] puts the cores together again, in any order, and knows which are missing.
//! 5. [`encode_png`] writes the result.
//!
//! Invariants: packing and stitching the cores is the identity; the same picture always yields the same PNG bytes;
//! no input, however made, costs more memory than its limits allow.
//!
//! Nothing here knows of tasks, leases or the network, and nothing waits.
#![forbid(unsafe_code)]

mod decode;
mod encode;
mod pack;
mod picture;
mod stitch;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, DecodeLimits, decode, decode_file};
pub use encode::encode_png;
pub use pack::{PackError, pack};
pub use picture::Picture;
pub use stitch::{Coverage, StitchError, Stitcher};
