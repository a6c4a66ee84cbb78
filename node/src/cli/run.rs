//! `tally run`: a node in the foreground.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use libp2p::Multiaddr;
use tally_protocol::message::announce::Role;

use super::{Common, Exit, Failure, Joining};
use crate::config::CustomerList;
use crate::fault::{self, Fault};
use crate::keys;
use crate::node::{self, Computing};

/// `tally run`.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// What the node is; may be given several times.
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<RoleName>,
    #[command(flatten)]
    joining: Joining,
    /// An address to listen on; may be given several times. [default for all but terminals:
    /// /ip4/0.0.0.0/tcp/4810]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<Multiaddr>,
    /// An address under which others reach this node, if it is not one it listens on.
    #[arg(long, value_name = "ADDRESS")]
    external: Vec<Multiaddr>,
    /// Coordinator: whose tasks it takes, "any" or ids with commas between. [default: nobody's]
    #[arg(long, value_name = "WHO")]
    customers: Option<CustomerList>,
    /// Terminal: units run at a time. [default: the number of processors]
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroUsize>,
    /// Stop when standard input ends: for programs that start nodes.
    #[arg(long)]
    until_stdin_ends: bool,
    #[arg(long, hide = true)]
    fault: Option<Fault>,
    /// Terminal: a folder with the proc, sys and dev of another computer to look at.
    #[arg(long, hide = true, value_name = "DIR")]
    computer: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleName {
    /// Takes tasks from customers, leases their units, validates and merges.
    Coordinator,
    /// Lends this computer: runs units in a locked sandbox.
    Terminal,
    /// Helps others to find each other.
    Bootstrap,
    /// Registers computers, gives licenses and discounts for points, and charges for them. A node of its own.
    AppServer,
}

impl RoleName {
    /// Returns how it is typed.
    pub(super) fn word(&self) -> String {
        let value = self.to_possible_value().expect("no role is hidden");
        value.get_name().to_owned()
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Coordinator => Self::Coordinator,
            RoleName::Terminal => Self::Terminal,
            RoleName::Bootstrap => Self::Bootstrap,
            RoleName::AppServer => Self::AppServer,
        }
    }
}

impl Run {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let folder = common.folder()?;
        let mut config = self
            .joining
            .config(&folder)
            .map_err(|failure| failure.exit(Exit::Usage))?;
        config.listen.extend(self.listen);
        config.external.extend(self.external);
        if let Some(customers) = self.customers {
            config.coordinator.customers = customers;
        }
        if let Some(slots) = self.slots {
            config.terminal.slots = slots;
        }
        if !folder.key().exists() {
            let key = keys::create(&folder.key())?;
            common
                .output()
                .note(format!("made the key of {}", keys::node_id(&key)));
        }
        if let Some(fault) = self.fault {
            fault::arm(fault);
        }
        let mut roles: Vec<Role> = self.role.into_iter().map(Role::from).collect();
        roles.sort_unstable();
        roles.dedup();
        if roles.len() > 1 && roles.contains(&Role::AppServer) {
            let message =
                "run an app server beside another role: they would be partners with one key";
            return Err(Failure::new(Exit::Usage, message)
                .hint("give each a node of its own, with its own --dir"));
        }
        let until_stdin_ends = self.until_stdin_ends;
        let stop = async move {
            // Whoever waits for the end of a node begins when it is up.
            super::service::tell_ready();
            if until_stdin_ends {
                stdin_ended().await;
            } else {
                std::future::pending().await
            }
        };
        node::run(
            node::Start {
                folder,
                config,
                roles,
                computing: Computing {
                    computer: self.computer,
                },
            },
            stop,
        )
        .await?;
        Ok(())
    }
}

/// Waits for the end of standard input, on a thread that the process does not wait for.
async fn stdin_ended() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}
