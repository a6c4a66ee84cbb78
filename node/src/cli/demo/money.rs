//! The demo's money: a rate card whose escrow counts in seconds, a deposit, what the owners have in the end, the audit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tally_ledger::audit::Report;
use tally_ledger::cli::{AccountLine, BalanceOf, BalanceQuery, LedgerAnswer, LedgerQuery};
use tally_protocol::account::{Account, Money};
use tally_protocol::coordinator::Movement;
use tally_protocol::entry::Fund;
use tally_protocol::id::{NodeId, PostingId};
use tally_protocol::points::Points;

use super::nodes::Nodes;
use crate::admin::Request;
use crate::cli::output::table;
use crate::programs::builtin;

/// What the customer pays in.
const DEPOSIT: &str = "50.00 EUR";
/// Fuel that one pixel of the blur counts as.
const BLUR_PIXEL_FUEL: u64 = 200;
/// How long earned points stay in escrow, in seconds.
const ESCROW_SECONDS: u64 = 4;
/// How often it is looked whether they are released.
const POLL: Duration = Duration::from_millis(200);

/// Returns the configuration of the coordinator.
pub(super) fn rates_table() -> String {
    let blur =
        builtin("gaussian-blur").map(|program| tally_protocol::id::BlobId::of(program.module));
    let blur = blur.map(|id| id.to_string()).unwrap_or_default();
    format!(
        "[coordinator.rates]\nprice = \"150.00 EUR\"\nreserve = \"120.00 EUR\"\nper_points = 1\n\
         escrow_seconds = {ESCROW_SECONDS}\nlot_seconds = 1\npixels = {{ {blur} = {BLUR_PIXEL_FUEL} }}\n"
    )
}

/// Enters the customer's payment, as an operator does.
pub(super) async fn deposit(nodes: &Nodes, customer: NodeId) -> Result<Money> {
    let money: Money = DEPOSIT.parse()?;
    let request = Request::Move {
        movement: Movement::Deposit(Fund::Customer(customer)),
        money,
        reference: "demo payment 1".to_owned(),
    };
    let _: PostingId = nodes.ask_coordinator(&request).await?;
    Ok(money)
}

/// What an owner has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Earned {
    /// Computers that earned.
    computers: usize,
    /// Points that may still be taken back.
    escrowed: Points,
    /// Points that may be spent.
    spendable: Points,
}

/// Returns what each owner has.
pub(super) async fn earned(nodes: &Nodes) -> Result<BTreeMap<NodeId, Earned>> {
    let query = LedgerQuery::Balance(BalanceQuery {
        of: BalanceOf::Prefix("points:owner".to_owned()),
        limit: 1_000,
    });
    let LedgerAnswer::Balance(page) = nodes.ask_coordinator(&Request::Ledger { query }).await?
    else {
        bail!("read the balances: the coordinator answers something else");
    };
    let mut computers: BTreeMap<NodeId, BTreeMap<NodeId, Earned>> = BTreeMap::new();
    for AccountLine {
        account, posted, ..
    } in page.lines
    {
        let Some(holder) = account.holder() else {
            continue;
        };
        let of_owner = computers.entry(holder.owner).or_default();
        let earned = of_owner.entry(holder.device).or_default();
        let amount = Points::from_micro(u64::try_from(posted).unwrap_or(0));
        let part = if let Account::Escrow(_) = account {
            &mut earned.escrowed
        } else {
            &mut earned.spendable
        };
        *part = part.checked_add(amount).context("add up points")?;
    }
    let sum = |(owner, computers): (NodeId, BTreeMap<NodeId, Earned>)| {
        let mut all = Earned::default();
        for earned in computers.values() {
            all.computers += 1;
            all.escrowed = all.escrowed.checked_add(earned.escrowed)?;
            all.spendable = all.spendable.checked_add(earned.spendable)?;
        }
        Some((owner, all))
    };
    computers
        .into_iter()
        .map(sum)
        .collect::<Option<_>>()
        .context("add up points")
}

/// Waits until all points have left escrow.
pub(super) async fn released(
    nodes: &Nodes,
    patience: Duration,
) -> Result<BTreeMap<NodeId, Earned>> {
    let start = Instant::now();
    while start.elapsed() < patience {
        let earned = earned(nodes).await?;
        if earned
            .values()
            .all(|earned| earned.escrowed == Points::ZERO)
        {
            return Ok(earned);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!(
        "wait for points to leave escrow: some have not after {} s",
        patience.as_secs()
    )
}

/// Has the log and books of a node audited.
pub(super) async fn audit(nodes: &Nodes, name: &str) -> Result<Report> {
    let query = LedgerQuery::Audit;
    let answer = nodes.ask(name, &Request::Ledger { query }).await?;
    let LedgerAnswer::Audit(report) = answer else {
        bail!("audit the ledger: the {name} answers something else");
    };
    if report.is_sound() {
        return Ok(report);
    }
    let finding = report.finding.map(|finding| finding.to_string());
    let finding = finding.unwrap_or_else(|| "an invariant does not hold".to_owned());
    bail!("audit the ledger: {finding}")
}

/// Writes what owners have.
pub(super) fn owners_table(earned: &BTreeMap<NodeId, Earned>) -> String {
    let row = |(owner, earned): (&NodeId, &Earned)| {
        vec![
            format!("..{}", owner.short()),
            earned.computers.to_string(),
            earned.escrowed.to_string(),
            earned.spendable.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = earned.iter().map(row).collect();
    table(&["owner", "computers", "in escrow", "spendable"], &rows)
}
