//! `tally open`: the page of the running terminal in the owner's browser.

use std::process::Stdio;

use clap::Args;

use super::{Common, Failure};
use crate::admin::{OwnerAsk, Request, ask};
use crate::page::Opening;

/// What opens an address in the browser that the owner has chosen.
const OPENER: &str = "xdg-open";

/// `tally open`.
#[derive(Debug, Args)]
pub(super) struct Open {
    /// Only print the address, which opens the page once, within a minute.
    #[arg(long)]
    print: bool,
}

impl Open {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        let opening: Opening = ask(
            &folder.socket(),
            &Request::Owner {
                question: OwnerAsk::Page,
            },
        )
        .await?;
        if !self.print && has_display() {
            let opener = tokio::process::Command::new(OPENER)
                .arg(&opening.url)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if opener.await.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            common.output().note(format!(
                "no browser was opened by {OPENER}: open this address yourself"
            ));
        }
        common.output().result(&opening, || opening.url.clone())
    }
}

fn has_display() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}
