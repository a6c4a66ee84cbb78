//! `tally net` and `tally status`: the overlay as the node of this folder sees it.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::output::{grouped, table};
use super::{Common, Failure};
use crate::admin::{Request, ask};
use crate::network::{FoundCoordinator, PeerInfo};
use crate::node::operator::NodeStatus;

/// `tally net`.
#[derive(Debug, Subcommand)]
pub(super) enum Net {
    /// The connected peers.
    Peers,
    /// Look for coordinators in Kademlia.
    Find,
    /// What this node has accepted and refused, by protocol and reason.
    Counters,
}

impl Net {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let (socket, output) = (common.folder()?.socket(), common.output());
        match self {
            Self::Peers => {
                let peers: Vec<PeerInfo> = ask(&socket, &Request::Peers).await?;
                output.result(&peers, || peers_table(&peers))
            }
            Self::Find => {
                let found: Vec<FoundCoordinator> = ask(&socket, &Request::Find).await?;
                output.result(&found, || {
                    let rows: Vec<Vec<String>> = found
                        .iter()
                        .map(|found| {
                            let verified = if found.verified {
                                "has shown it"
                            } else {
                                "has not shown it yet"
                            };
                            vec![found.node.to_string(), verified.to_owned()]
                        })
                        .collect();
                    if rows.is_empty() {
                        return "no coordinator was found".to_owned();
                    }
                    table(&["coordinator", "role"], &rows)
                })
            }
            Self::Counters => {
                let counters: BTreeMap<String, u64> = ask(&socket, &Request::Counters).await?;
                output.result(&counters, || {
                    let row = |(name, count): (&String, &u64)| vec![name.clone(), grouped(*count)];
                    table(
                        &["counter", "count"],
                        &counters.iter().map(row).collect::<Vec<_>>(),
                    )
                })
            }
        }
    }
}

fn peers_table(peers: &[PeerInfo]) -> String {
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            let roles: Vec<String> = peer
                .roles
                .iter()
                .flatten()
                .map(|role| format!("{role:?}").to_lowercase())
                .collect();
            let address = peer
                .addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let address = address.split("/p2p/").next().unwrap_or_default().to_owned();
            let millis = |micros: u64| format!("{}.{} ms", micros / 1_000, micros / 100 % 10);
            let rtt = peer.rtt_micros.map(millis).unwrap_or_default();
            vec![
                format!("..{}", peer.node.short()),
                roles.join(" "),
                rtt,
                address,
            ]
        })
        .collect();
    if rows.is_empty() {
        return "no peer is connected".to_owned();
    }
    table(&["peer", "roles", "round trip", "address"], &rows)
}

/// `tally status`.
pub(super) async fn status(common: &Common) -> Result<(), Failure> {
    let status: NodeStatus = ask(&common.folder()?.socket(), &Request::Status).await?;
    common.output().result(&status, || {
        let roles: Vec<String> = status
            .roles
            .iter()
            .map(|role| format!("{role:?}").to_lowercase())
            .collect();
        let mut lines = vec![
            format!("node      {}", status.node),
            format!("network   {}", status.network),
            format!("roles     {}", roles.join(", ")),
            format!("folder    {}", status.folder),
            format!("profile   {}", status.profile),
            format!("peers     {}", status.peers),
        ];
        lines.extend(
            status
                .addresses
                .iter()
                .map(|address| format!("address   {address}")),
        );
        if let Some(terminal) = &status.terminal {
            let found = terminal.coordinators.len();
            lines.push(format!(
                "terminal  {found} coordinators, {} units in store, {} jobs running",
                terminal.stored, terminal.running
            ));
            let (units, counted, faults) = (terminal.units, terminal.counted, terminal.faults);
            lines.push(format!(
                "          {units} units run, {counted} counted, {faults} failed, {} fuel",
                grouped(terminal.fuel)
            ));
            lines.push(format!("owner     {}", terminal.owner));
            for (coordinator, credit) in &terminal.credits {
                let owed = credit.totals.owed();
                if owed.results > 0 {
                    let (name, seconds) = (coordinator.short(), owed.time().as_secs_f64());
                    let results = grouped(owed.results);
                    let owing = if credit.owing {
                        "; it OWES too much and gets no more work done"
                    } else {
                        ""
                    };
                    lines.push(format!(
                        "          {results} results ({seconds:.1} s) wait for a receipt of ..{name}{owing}"
                    ));
                }
            }
        }
        lines.join("\n")
    })
}
