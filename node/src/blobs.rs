//! Content: where it lies on disk, who may read it, and how it travels.
//!
//! A blob is named by the BLAKE3 root of its bytes, so nobody can give anything else for it. Blobs above 16 KiB have
//! an *outboard* beside them, the inner hashes of the tree down to groups of 16 KiB, so that any range can be sent
//! with the hashes that prove it. A reader checks each group against the root before it writes it, and what it has
//! written stays when the transfer breaks: the next attempt checks what is there and goes on behind it.
//!
//! - `store`: files in a folder, with a bound on their bytes.
//! - `access`: who may read what.
//! - [`serve`]: answers streams of `/tally/blob/1`.
//! - [`fetch`]: reads from another node, a whole blob into the store or a range into memory.
//!
//! Invariants: what is visible in the store is whole and verified; a stranger cannot tell content that it may not
//! read from content that is not there; a slow peer holds buffers of bounded size and no thread.

mod access;
mod fetch;
mod segment;
mod serve;
mod store;
#[cfg(test)]
mod tests;

pub use access::Access;
pub use fetch::{FetchError, Progress, fetch, read_range};
pub use serve::{ServeLimits, serve};
pub use store::{BlobStore, StoreError, StoreLimits, Usage};
