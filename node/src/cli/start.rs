//! `tally start`: an application that was delivered, with its license.
//!
//! The application finds the paths of its license and of the status list in its environment, and a socket where it gets
//! the proof that it runs on this computer: a socket that answers nothing else, made for this run.

use std::process::ExitStatus;

use clap::Args;
use tally_protocol::product::ProductId;
use tokio::net::UnixListener;

use super::{Common, Exit, Failure};
use crate::admin::{self, AdminError, Content, Request};
use crate::config::{Config, Optional};
use crate::folder::Folder;
use crate::keys;
use crate::member::enrolling::application;
use crate::member::shelf::Shelf;
use crate::member::{Member, bundle};

/// `tally start`.
#[derive(Debug, Args)]
pub(super) struct Start {
    /// The product.
    product: ProductId,
    /// What the application is told.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Start {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        // The application may change its working folder.
        let folder = Folder::open(&std::path::absolute(common.folder_path()?)?)?;
        let config = Config::read(&folder.config(), Optional::Yes)?;
        let member = Member::new(&folder, config.network, keys::read(&folder.key())?);
        let membership = member.memberships().having(&self.product)?;
        let shelf = Shelf::new(&member, &membership, &self.product);
        shelf.apply()?;
        let launch = &membership.applications[&self.product].launch;
        let (program, words) = launch.split_first().ok_or_else(|| {
            Failure::new(Exit::Failed, "start the application: it names no program")
        })?;
        let path = application(&member, &self.product).join(bundle::inside(program.as_ref())?);
        // A private folder: whoever reaches the socket is this user.
        let private = tempfile::Builder::new().prefix("tally-").tempdir()?;
        let socket = private.path().join("proof.sock");
        let serving = tokio::spawn(serve(admin::listen(&socket)?, member.clone()));
        let mut command = tokio::process::Command::new(&path);
        command
            .args(words)
            .args(&self.args)
            .env("TALLY_LICENSE", shelf.applied())
            .env("TALLY_STATUS_LIST", shelf.list_path())
            .env("TALLY_SOCKET", &socket);
        let mut child = command.spawn().map_err(|error| {
            let message = format!("start {}: {error}", path.display());
            Failure::new(Exit::NotFound, message)
                .hint("`tally enroll` with the invitation delivers the application again")
        })?;
        // Ctrl-C is for the application; this process waits for it.
        let ignoring = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        let status = child.wait().await;
        ignoring.abort();
        serving.abort();
        drop(private);
        ended(status?)
    }
}

/// Answers challenges.
async fn serve(socket: UnixListener, member: Member) {
    while let Ok((stream, _)) = socket.accept().await {
        let member = member.clone();
        tokio::spawn(async move {
            let answer = |request| {
                let answered = prove(&member, request);
                std::future::ready(answered)
            };
            let _ = admin::serve(stream, answer).await;
        });
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "nothing but one question is answered here"
)]
fn prove(member: &Member, request: Request) -> Result<serde_json::Value, AdminError> {
    match request {
        Request::Prove { license, nonce } => {
            let proof = member.prove(license, nonce.0);
            let value = serde_json::to_value(Content(proof.as_bytes().to_vec()));
            value.map_err(|error| AdminError::new("internal", error.to_string(), "report this"))
        }
        _ => {
            let hint = "ask the node's own socket";
            Err(AdminError::new(
                "refused",
                "only challenges are answered here",
                hint,
            ))
        }
    }
}

/// Ends as the application did.
fn ended(status: ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => Err(Failure::new(
            Exit::Unsuccessful,
            format!("run the application to its end: {status}"),
        )),
    }
}
