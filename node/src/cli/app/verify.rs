//! Whether an unpacked delivery is what its app server has signed.

use std::path::PathBuf;

use clap::Args;
use tally_protocol::id::NodeId;

use crate::cli::failure::Exit;
use crate::cli::{Common, Failure};
use crate::delivery;
use crate::error::chain;

/// `tally app verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The folder, with the file `manifest`.
    folder: PathBuf,
    /// Whose delivery it must be.
    #[arg(long, value_name = "ID")]
    app_server: Option<NodeId>,
}

impl Verify {
    pub(super) fn run(self, common: &Common) -> Result<(), Failure> {
        let hint = "fetch the archive again, from an address that you trust";
        let checked = delivery::check(&self.folder)
            .map_err(|error| Failure::new(Exit::Failed, chain(&error)).hint(hint))?;
        if let Some(expected) = self.app_server
            && expected != checked.app_server
        {
            let message = format!(
                "find a delivery of {expected}: it is of {}",
                checked.app_server
            );
            return Err(Failure::new(Exit::Failed, message).hint(hint));
        }
        common.output().result(&checked, || {
            format!(
                "{} in the network {}, as the app server {} has signed it: {}",
                checked.product,
                checked.network,
                checked.app_server,
                checked.files.join(", ")
            )
        })
    }
}
