//! `tally net` and `tally status`: the overlay as the node of this folder sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;
use tally_protocol::id::NodeId;
use tally_protocol::manners::Question;
use tally_protocol::points::Points;
use tally_protocol::task::job::ByteSize;
use tally_protocol::witness::ForkKind;

use super::failure::Exit;
use super::output::{grouped, table};
use super::{Common, Failure};
use crate::admin::{Request, ask};
use crate::member::steward::MemberStatus;
use crate::network::{
    FoundCoordinator, PeerInfo, Reachability, Tested, TestedAddress, TrafficSeen,
};
use crate::node::operator::NodeStatus;
use crate::owner::OwnerStatus;
use crate::witness::{ForkEvidence, LogState, WitnessedLog};

/// `tally net`.
#[derive(Debug, Subcommand)]
pub(super) enum Net {
    /// The connected peers.
    Peers,
    /// Whether others reach this node: peers try, nothing is assumed.
    Reach,
    /// Look for coordinators in Kademlia.
    Find,
    /// What the logs of coordinators have signed, and whether one has told two stories.
    Witness {
        /// Only the log of this coordinator.
        #[arg(value_name = "PEER")]
        log: Option<NodeId>,
        /// Write the two signed heads of a log that has forked to this file.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
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
            Self::Reach => {
                let reach: Reachability = ask(&socket, &Request::Reach).await?;
                output.result(&reach, || reach_table(&reach))
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
            Self::Witness { log, export } => {
                let mut logs: Vec<WitnessedLog> = ask(&socket, &Request::Witness).await?;
                logs.retain(|seen| log.is_none_or(|log| seen.log == log));
                if let Some(path) = export {
                    std::fs::write(path, evidence(&logs)?)?;
                }
                output.result(&logs, || witness_table(&logs))
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
                .map(ToString::to_string)
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

fn reach_table(reach: &Reachability) -> String {
    let row = |of: &TestedAddress| {
        let (reached, by, at) = match &of.tested {
            Tested::Reached { by, at } => ("yes".to_owned(), Some(by), Some(at)),
            Tested::NotReached { by, at, why } => (format!("no: {why}"), Some(by), Some(at)),
            Tested::Untested => ("not tested".to_owned(), None, None),
        };
        let by = by.map_or(String::new(), |by| format!("..{}", by.short()));
        let at = at.map_or(String::new(), ToString::to_string);
        vec![of.address.to_string(), reached, by, at]
    };
    let rows: Vec<Vec<String>> = reach.addresses.iter().map(row).collect();
    if rows.is_empty() {
        return reach_line(reach);
    }
    let rows = table(&["address", "reached", "tried by", "at"], &rows);
    format!("{}\n\n{rows}", reach_line(reach))
}

/// Says in one line whether others reach a node.
fn reach_line(reach: &Reachability) -> String {
    if let Some((address, by, at)) = reach.reached() {
        return format!("reachable at {address}, tried by ..{} at {at}", by.short());
    }
    if reach.is_tested() {
        "not reachable from outside: dials out only (that is fine for a terminal)"
    } else if reach.addresses.is_empty() && !reach.listens {
        "listens on nothing: dials out only (that is fine for a terminal)"
    } else if reach.testers == 0 {
        "not tested yet: no peer that tests is connected"
    } else {
        "not tested yet: no peer that tests sees this computer at an address of it"
    }
    .to_owned()
}

fn traffic_line(traffic: &TrafficSeen) -> String {
    let (up, down) = (traffic.today.up, traffic.today.down);
    let (up, down) = (grouped(up / 1_000), grouped(down / 1_000));
    format!("traffic   {up} kB up, {down} kB down today (UTC)")
}

fn witness_table(logs: &[WitnessedLog]) -> String {
    let row = |log: &WitnessedLog| {
        let state = match log.state {
            LogState::Consistent => "consistent".to_owned(),
            LogState::Unproven => format!("{} heads wait for their proof", log.unproven),
            LogState::Forked => "FORKED".to_owned(),
        };
        let (size, root) = (grouped(log.size), log.root.short());
        vec![log.origin.clone(), size, root, log.since.to_string(), state]
    };
    if logs.is_empty() {
        return "no coordinator has shown a head of its log".to_owned();
    }
    let rows: Vec<Vec<String>> = logs.iter().map(row).collect();
    let mut text = table(&["log", "entries", "root", "since", "state"], &rows);
    let forks = logs
        .iter()
        .filter_map(|log| Some((log, log.fork.as_ref()?)));
    for (log, fork) in forks {
        text.push_str(&fork_text(log, fork));
    }
    text
}

fn fork_text(log: &WitnessedLog, fork: &ForkEvidence) -> String {
    let how = match fork.kind {
        ForkKind::SameSize => "has signed two roots for one size",
        ForkKind::NotGrown => "has signed two heads of which neither grows out of the other",
    };
    let [one, other] = &fork.heads;
    format!(
        "\n\n{} {how}, found {}:\n\n{}\n{}",
        log.origin, fork.found, one.note, other.note
    )
}

/// Returns the two notes of the log that has forked, with an empty line between them.
fn evidence(logs: &[WitnessedLog]) -> Result<String, Failure> {
    let mut forks = logs.iter().filter_map(|log| log.fork.as_ref());
    match (forks.next(), forks.next()) {
        (Some(fork), None) => {
            let [one, other] = &fork.heads;
            Ok(format!("{}\n{}", one.note, other.note))
        }
        (None, _) => Err(Failure::new(Exit::NotFound, "export: no log has forked")),
        (Some(_), Some(_)) => {
            let failure = Failure::new(Exit::Usage, "export: more than one log has forked");
            Err(failure.hint("name the coordinator: tally net witness PEER --export FILE"))
        }
    }
}

/// `tally status`.
pub(super) async fn status(common: &Common) -> Result<(), Failure> {
    let status: NodeStatus = ask(&common.folder()?.socket(), &Request::Status).await?;
    common.output().result(&status, || {
        let roles: Vec<String> = status
            .roles
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut lines = vec![
            format!("node      {}", status.node),
            format!("network   {}", status.network),
            format!("roles     {}", roles.join(", ")),
            format!("folder    {}", status.folder),
            format!("profile   {}", status.profile),
            format!("peers     {}", status.peers),
            format!("reach     {}", reach_line(&status.reach)),
            traffic_line(&status.traffic),
        ];
        lines.extend(
            status
                .addresses
                .iter()
                .map(|address| format!("address   {address}")),
        );
        lines.extend(status.http.map(|http| format!("http      http://{http}")));
        if let Some(owner) = &status.owner {
            lines.extend(owner_lines(owner));
        }
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
        for membership in &status.memberships {
            lines.extend(membership_lines(membership));
        }
        lines.join("\n")
    })
}

/// Returns what people see of what the owner allows.
fn owner_lines(owner: &OwnerStatus) -> Vec<String> {
    let OwnerStatus {
        cpu, slots, preset, ..
    } = owner;
    let used = if owner.in_use { "in use" } else { "idle" };
    let memory = ByteSize(owner.memory_bytes >> 20 << 20);
    let mut lines = vec![format!(
        "lends     {cpu} % of the processors, {slots} units at a time, {memory} of memory"
    )];
    lines.push(format!("          preset {preset}, the computer is {used}"));
    for because in &owner.because {
        let what = match because.reason.question() {
            Question::Paused => "paused",
            Question::NoWork | Question::NotPaid | Question::NoResult => "full",
        };
        let sentence = super::owner::sentence(because);
        let until = super::owner::until(because.until);
        lines.push(format!("{what:<9} {sentence}"));
        lines.push(format!("          {until}; {}", because.reason.remedy()));
    }
    if let Some(fault) = &owner.preferences_fault {
        let fault = fault.replace('\n', "\n          ");
        lines.push(format!("NOT READ  {fault}"));
        lines.push("          the preferences of before hold until that is mended".to_owned());
    }
    let computer = owner.computer.iter().enumerate();
    lines.extend(computer.map(|(place, line)| match place {
        0 => format!("computer  {line}"),
        _ => format!("          {line}"),
    }));
    lines
}

/// Returns what people see of a registration and of the goal.
fn membership_lines(membership: &MemberStatus) -> Vec<String> {
    let MemberStatus {
        vendor, product, ..
    } = membership;
    let standing = match membership.ended {
        Some(since) => format!("REVOKED, noticed {since}; `tally enroll` asks for another one"),
        None => format!("registered until {}", membership.registered_until),
    };
    let mut lines = vec![format!("product   {product} of {vendor}: {standing}")];
    if let Some(goal) = &membership.goal {
        let needed = match goal.needed {
            Some(needed) => format!("{} of {needed} points", goal.points),
            None => format!("{} points", goal.points),
        };
        lines.push(format!(
            "goal      {}: {}, {needed}",
            goal.product, goal.state
        ));
        if goal.escrowed > Points::ZERO {
            lines.push(format!("          {} more in escrow", goal.escrowed));
        }
        if let Some(code) = goal.license {
            let until = goal.license_until;
            let until = until.map_or(String::new(), |until| format!(" until {until}"));
            lines.push(format!("license   {code}{until}"));
        }
    }
    lines
}
