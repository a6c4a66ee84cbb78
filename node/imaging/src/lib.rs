//! Decoding, tiling, stitching and encoding of images.
