//! x
use super::{Common, Failure};
/// `tally demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {}
impl Demo {
    pub(super) async fn run(self, _common: &Common) -> Result<(), Failure> {
        Ok(())
    }
}
