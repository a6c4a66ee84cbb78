//! `tally wallet`: what this computer has earned, through its running node or from its file.

mod earnings;
mod unpaid;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use tally_ledger::wallet::{
    Balance, Dossier, EARNED_DAYS_MAX, Holding, Lot, RECEIPTS_PAGE_MAX, ReceiptPage, ReceiptView,
    Wallet, WalletAnswer, WalletError, WalletQuery,
};
use tally_protocol::id::{NodeId, ReceiptId};
use tally_protocol::message::work::UnpaidReason;
use tally_protocol::points::Points;
use tally_protocol::receipt::Validation;
use tally_protocol::terminal::{Credit, ReceiptFault, Standing};
use tally_protocol::time::Timestamp;

use super::output::{BarUnit, grouped, table};
use super::{Common, Exit, Failure};
use crate::admin::{AskError, Request, ask};
use crate::config::{Config, Optional};
use crate::node::operator::NodeStatus;
use crate::{clock, folder};

/// `tally wallet`.
#[derive(Debug, Args)]
pub(super) struct WalletCommand {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What receipts brought, by day.
    Earnings {
        /// So many days, today included.
        #[arg(long, default_value_t = 7, value_name = "N",
              value_parser = clap::value_parser!(u32).range(1..=i64::from(EARNED_DAYS_MAX)))]
        days: u32,
    },
    /// What is not paid, or cannot be spent yet, and why.
    Unpaid,
    /// List receipts in the order in which they came.
    Receipts {
        /// From this number on.
        #[arg(long, default_value_t = 0, value_name = "N")]
        from: u64,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Show one receipt.
    Show {
        /// Its id; the start is enough.
        id: String,
    },
    /// Write receipts with what proves them as files that anybody can check with `tally receipt verify`.
    Export {
        /// The folder; it is made if it is not there.
        folder: PathBuf,
        /// Only these receipts; the start of an id is enough. [default: all]
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
}

/// Where the wallet is read.
#[derive(Debug, Clone, Args)]
pub(super) struct Source {
    /// A wallet file of a node that does not run. [default: the running node of the data folder, else its file]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Source {
    pub(super) async fn answer(
        &self,
        common: &Common,
        query: WalletQuery,
    ) -> Result<WalletAnswer, Failure> {
        if let Some(file) = &self.file {
            return from_file(file, &query);
        }
        let folder = common.folder()?;
        let request = Request::Wallet {
            query: query.clone(),
        };
        match ask(&folder.socket(), &request).await {
            Err(AskError::NotRunning) => from_file(&folder.wallet(), &query),
            answered => Ok(answered?),
        }
    }

    /// Returns what proves the receipt whose id starts so.
    pub(super) async fn dossier(&self, common: &Common, prefix: &str) -> Result<Dossier, Failure> {
        let query = WalletQuery::Dossier {
            prefix: prefix.to_owned(),
        };
        let WalletAnswer::Dossier { ids, dossier } = self.answer(common, query).await? else {
            return Err(misunderstood());
        };
        let Some(dossier) = dossier else {
            let message = if ids.len() > 1 {
                format!("find the receipt {prefix}: more than one starts so")
            } else {
                format!("find the receipt {prefix}: it is not in the wallet")
            };
            let hint = "`tally wallet receipts --json` lists whole ids";
            return Err(Failure::new(Exit::NotFound, message).hint(hint));
        };
        Ok(*dossier)
    }

    async fn page(
        &self,
        common: &Common,
        (from, limit): (u64, usize),
    ) -> Result<ReceiptPage, Failure> {
        match self
            .answer(common, WalletQuery::Receipts { from, limit })
            .await?
        {
            WalletAnswer::Receipts(page) => Ok(page),
            WalletAnswer::Balance(_)
            | WalletAnswer::Earnings(_)
            | WalletAnswer::Unpaid(_)
            | WalletAnswer::Dossier { .. } => Err(misunderstood()),
        }
    }
}

impl WalletCommand {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let source = &self.source;
        match self.what {
            None => balance(common, source).await,
            Some(What::Earnings { days }) => earnings::run(common, source, days).await,
            Some(What::Unpaid) => unpaid::run(common, source).await,
            Some(What::Receipts { from, limit }) => receipts(common, source, (from, limit)).await,
            Some(What::Show { id }) => show(common, source, &id).await,
            Some(What::Export { folder, ids }) => export(common, source, (&folder, ids)).await,
        }
    }
}

fn from_file(file: &Path, query: &WalletQuery) -> Result<WalletAnswer, Failure> {
    let answered = Wallet::open(file).and_then(|wallet| wallet.answer(query));
    answered.map_err(|error| {
        let (hint, missing) = (error.hint(), matches!(error, WalletError::Missing(_)));
        Failure::from(error).hint(hint).exit(if missing {
            Exit::NotFound
        } else {
            Exit::Failed
        })
    })
}

fn misunderstood() -> Failure {
    Failure::new(Exit::Failed, "understand the node's answer")
        .hint("the node and the command line may be of different versions")
}

/// A coordinator of the wallet, for people and programs.
#[derive(Debug, Serialize)]
struct CoordinatorView {
    coordinator: NodeId,
    receipts: u64,
    points: Points,
    /// Owes so much that it gets no more work done.
    owing: bool,
    waiting_results: u64,
    waiting_seconds: f64,
    limit_seconds: f64,
    unpaid: BTreeMap<UnpaidReason, u64>,
    owners: Vec<OwnerView>,
}

/// What one owner has there.
#[derive(Debug, Serialize)]
struct OwnerView {
    owner: NodeId,
    spendable: Points,
    escrowed: Points,
    next_release: Option<Timestamp>,
    lots: Vec<Lot>,
}

#[derive(Debug, Serialize)]
struct DisputeView {
    at: Timestamp,
    from: NodeId,
    receipt: ReceiptId,
    fault: ReceiptFault,
}

#[derive(Debug, Serialize)]
struct BalanceView {
    coordinators: Vec<CoordinatorView>,
    disputes: Vec<DisputeView>,
}

async fn balance(common: &Common, source: &Source) -> Result<(), Failure> {
    let answer = source.answer(common, WalletQuery::Balance).await?;
    let WalletAnswer::Balance(balance) = answer else {
        return Err(misunderstood());
    };
    let slots = Config::read(&common.folder()?.config(), Optional::Yes)?
        .terminal
        .slots;
    let mut credits: BTreeMap<NodeId, Credit> = BTreeMap::new();
    if source.file.is_none() {
        // The running terminal knows how many slots it really has.
        let status = ask::<NodeStatus>(&common.folder()?.socket(), &Request::Status).await;
        let terminal = status.ok().and_then(|status| status.terminal);
        credits.extend(terminal.into_iter().flat_map(|terminal| terminal.credits));
    }
    let view = view(*balance, clock::now(), |coordinator, totals| {
        let known = credits.get(&coordinator).copied();
        known.unwrap_or_else(|| Credit::of(totals, slots.get()))
    });
    common.output().result(&view, || view.text())
}

fn view(
    balance: Balance,
    now: Timestamp,
    credit: impl Fn(NodeId, tally_protocol::terminal::Totals) -> Credit,
) -> BalanceView {
    let Balance {
        accounts,
        holdings,
        disputes,
    } = balance;
    let of_coordinator = |(coordinator, account): (NodeId, tally_ledger::wallet::AccountRow)| {
        let credit = credit(coordinator, account.totals);
        let owners = holdings
            .iter()
            .filter(|holding| holding.coordinator == coordinator)
            .map(|holding| OwnerView::of(holding, now));
        CoordinatorView {
            coordinator,
            receipts: account.receipts,
            points: account.points,
            owing: credit.owing,
            waiting_results: credit.totals.owed().results,
            waiting_seconds: credit.totals.owed().time().as_secs_f64(),
            limit_seconds: credit.limit.as_secs_f64(),
            unpaid: account.unpaid,
            owners: owners.collect(),
        }
    };
    let disputed = |row: tally_ledger::wallet::DisputeRow| DisputeView {
        at: row.at,
        from: row.from,
        receipt: row.receipt.id(),
        fault: row.fault,
    };
    BalanceView {
        coordinators: accounts.into_iter().map(of_coordinator).collect(),
        disputes: disputes.into_iter().map(disputed).collect(),
    }
}

impl OwnerView {
    fn of(holding: &Holding, now: Timestamp) -> Self {
        let alive = |lot: &&Lot| lot.expires.is_none_or(|expires| expires > now);
        let spendable = |lot: &Lot| lot.since.is_some_and(|since| since <= now);
        let sum = |wanted: bool| {
            let lots = holding.lots.iter().filter(alive);
            let lots = lots.filter(|lot| spendable(lot) == wanted);
            let sum = lots.map(|lot| lot.points.as_micro());
            Points::from_micro(sum.fold(0, u64::saturating_add))
        };
        let later = holding.lots.iter().filter_map(|lot| lot.since);
        Self {
            owner: holding.owner,
            spendable: sum(true),
            escrowed: sum(false),
            next_release: later.filter(|since| *since > now).min(),
            lots: holding.lots.clone(),
        }
    }
}

impl BalanceView {
    fn text(&self) -> String {
        if self.coordinators.is_empty() && self.disputes.is_empty() {
            return "nothing was earned yet".to_owned();
        }
        let mut rows = Vec::new();
        for coordinator in &self.coordinators {
            for owner in &coordinator.owners {
                rows.push(vec![
                    format!("..{}", coordinator.coordinator.short()),
                    format!("..{}", owner.owner.short()),
                    owner.spendable.to_string(),
                    owner.escrowed.to_string(),
                    owner.next_release.map(day).unwrap_or_default(),
                ]);
            }
        }
        let head = [
            "coordinator",
            "owner",
            "spendable",
            "in escrow",
            "next release",
        ];
        let mut text = if rows.is_empty() {
            String::new()
        } else {
            table(&head, &rows)
        };
        for coordinator in &self.coordinators {
            coordinator.add_text(&mut text);
        }
        for dispute in &self.disputes {
            let (at, from) = (day(dispute.at), dispute.from.short());
            let id = dispute.receipt.short();
            text += &format!(
                "{at}: receipt {id} of ..{from} was not taken: {}\n",
                dispute.fault
            );
        }
        text
    }
}

impl CoordinatorView {
    fn add_text(&self, text: &mut String) {
        let name = self.coordinator.short();
        if self.waiting_results > 0 {
            let (results, seconds) = (grouped(self.waiting_results), self.waiting_seconds);
            *text += &format!("..{name}: {results} results ({seconds:.1} s) wait for a receipt\n");
        }
        let unpaid: u64 = self.unpaid.values().sum();
        if unpaid > 0 {
            let reasons: Vec<String> = self
                .unpaid
                .iter()
                .map(|(reason, count)| format!("{} {}", grouped(*count), why(*reason)))
                .collect();
            let (unpaid, reasons) = (grouped(unpaid), reasons.join(", "));
            *text += &format!("..{name}: {unpaid} results are not paid: {reasons}\n");
        }
        if self.owing {
            let limit = self.limit_seconds;
            *text += &format!(
                "..{name} OWES for more than {limit:.0} s of work: until it pays, no more is\n  \
                 done for it than a unit on trial now and then\n"
            );
        }
    }
}

const fn why(reason: UnpaidReason) -> &'static str {
    match reason {
        UnpaidReason::Outvoted => "outvoted",
        UnpaidReason::NoQuorum => "without a quorum",
        UnpaidReason::TaskEnded => "after the end of the task",
        UnpaidReason::Settled => "settled, without a receipt so far",
    }
}

async fn receipts(
    common: &Common,
    source: &Source,
    (from, limit): (u64, usize),
) -> Result<(), Failure> {
    let mut page = source.page(common, (from, limit)).await?;
    while let Some(next) = page.next.filter(|_| page.receipts.len() < limit) {
        let left = limit - page.receipts.len();
        let mut more = source.page(common, (next, left)).await?;
        page.receipts.append(&mut more.receipts);
        page.next = more.next;
    }
    common.output().result(&page, || {
        let rows: Vec<Vec<String>> = page.receipts.iter().map(row).collect();
        if rows.is_empty() {
            return "no receipts are there".to_owned();
        }
        let head = [
            "number",
            "receipt",
            "coordinator",
            "done",
            "units",
            "points",
            "checked",
        ];
        let mut text = table(&head, &rows);
        if let Some(next) = page.next {
            text += &format!("there are more: --from {next}\n");
        }
        text
    })
}

fn row(view: &ReceiptView) -> Vec<String> {
    let checked = match (view.standing, view.proven) {
        (Standing::Checked, true) => "yes, in the log",
        (Standing::Checked, false) => "yes",
        (Standing::Unchecked, true) => "no, in the log",
        (Standing::Unchecked, false) => "no",
    };
    vec![
        view.number.to_string(),
        view.id.short(),
        format!("..{}", view.coordinator.short()),
        day(view.receipt.done_at),
        view.receipt.units.to_string(),
        view.receipt.points.to_string(),
        checked.to_owned(),
    ]
}

async fn show(common: &Common, source: &Source, id: &str) -> Result<(), Failure> {
    let dossier = source.dossier(common, id).await?;
    let id = dossier.receipt.id();
    let receipt = dossier.receipt.clone().verify(&dossier.network)?;
    let leaves: usize = dossier
        .batches
        .iter()
        .map(|batch| batch.results.len())
        .sum();
    let value = serde_json::json!({
        "id": id, "coordinator": receipt.signer(), "receipt": receipt.value(),
        "batches": dossier.batches.len(), "leaves": leaves, "grants": dossier.grants.len(),
        "card": dossier.card.is_some(), "proof": dossier.proof.is_some(),
    });
    common.output().result(&value, || {
        let validation = match receipt.validation {
            Validation::Quorum(count) => format!("{count} devices reported the same"),
            Validation::KnownAnswer => "the answer was known before".to_owned(),
        };
        let here = format!(
            "{} of {} batches, {} grants{}{}",
            dossier.batches.len(),
            receipt.shares.len(),
            dossier.grants.len(),
            if dossier.card.is_some() {
                ", rate card"
            } else {
                ""
            },
            if dossier.proof.is_some() {
                ", proof"
            } else {
                ""
            },
        );
        let lines = [
            ("receipt", id.to_string()),
            ("by", receipt.signer().to_string()),
            ("owner", receipt.holder.owner.to_string()),
            ("device", receipt.holder.device.to_string()),
            ("task", receipt.task.to_string()),
            ("number", receipt.sequence.to_string()),
            ("units", grouped(u64::from(receipt.units))),
            ("fuel", grouped(receipt.fuel)),
            ("bytes", grouped(receipt.bytes)),
            ("pixels", grouped(receipt.pixels)),
            ("points", receipt.points.to_string()),
            ("rate card", receipt.rate_card.to_string()),
            ("profile", receipt.profile.to_string()),
            ("because", validation),
            ("leased", receipt.leased_at.to_string()),
            ("done", receipt.done_at.to_string()),
            ("here", here),
        ];
        let lines = lines.map(|(name, value)| format!("{name:9}  {value}\n"));
        lines.concat()
    })
}

async fn export(
    common: &Common,
    source: &Source,
    (target, prefixes): (&Path, Vec<String>),
) -> Result<(), Failure> {
    std::fs::create_dir_all(target)?;
    let ids = if prefixes.is_empty() {
        let mut ids = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let page = source.page(common, (from, RECEIPTS_PAGE_MAX)).await?;
            ids.extend(page.receipts.iter().map(|view| view.id.to_string()));
            next = page.next;
        }
        ids
    } else {
        prefixes
    };
    let bar = common.output().bar(BarUnit::Entries);
    bar.set_message("exporting");
    bar.set_length(ids.len() as u64);
    let mut files = Vec::new();
    for id in ids {
        let mut dossier = source.dossier(common, &id).await?;
        // Whoever gets the file is not to read programs and inputs with this computer's rights.
        for grant in &mut dossier.grants {
            grant.read = None;
        }
        let path = target.join(format!("{}.json", dossier.receipt.id()));
        folder::write_whole(&path, &serde_json::to_vec_pretty(&dossier)?)?;
        files.push(path);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let value = serde_json::json!({"folder": target, "files": files});
    common.output().result(&value, || {
        format!("{} receipts are in {}", files.len(), target.display())
    })
}

/// Returns the day of a moment: `2026-01-31`.
fn day(at: Timestamp) -> String {
    let text = at.to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
