//! As it should be.

use super::Conduct;

/// Does what the protocol says.
#[derive(Debug)]
pub(super) struct Honest;

impl Conduct for Honest {}
